//! `GET /api/inbox` and `POST /api/ack/{event_id}`: consuming by pull.

use std::io::Write as _;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web;
use serde::Serialize;
use tokio::time::Instant;

use super::Api;
use super::call::{Answer, Call, json, json_bytes, unexpected};
use super::cursor;
use super::error::Problem;
use super::query::Query;
use crate::journal::Position;
use crate::model::command::{AckEvent, Command, SubmitEvent};
use crate::model::event::EventStatus;
use crate::model::id::{EventId, OrgNo};
use crate::model::journal_codec;
use crate::model::time::Timestamp;
use crate::store::{InboxItem, InboxQuery, Outcome};

/// Longest `wait` a caller can ask for, in seconds.
const WAIT_S_MAX: u64 = 30;
/// A page ends early when its payloads have so many bytes.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// What an item needs besides its payload, most of the time.
const ITEM_BYTES: usize = 320;

/// What a caller asks for.
struct Wanted {
    query: InboxQuery,
    wait: Duration,
}

impl Wanted {
    fn read(text: &str, wait_max: Duration) -> Result<Self, Problem> {
        let mut query = Query::read(text);
        let limit = query.limit();
        let wait = Duration::from_secs(query.number("wait", 0..=WAIT_S_MAX, 0)).min(wait_max);
        let after = query.cursor();
        let (event_type, since) = (query.take("type"), query.take("since"));
        query.finish()?;
        Ok(Self { query: InboxQuery { after, limit, event_type, since }, wait })
    }
}

/// `GET /api/inbox`: events that nobody has confirmed, oldest first. `wait` holds the request until there is one, or
/// the server stops. `lease_count` is 0 as long as there is no route that hands out leases.
pub(super) async fn list(call: &mut Call) -> Answer {
    let org = call.org()?;
    let api = web::Data::clone(&call.api);
    let Wanted { query, wait } = Wanted::read(call.request.query_string(), api.config.inbox.wait_max)?;
    if wait.is_zero() {
        return look(&api, org, &query).await.map(Page::answer);
    }
    let deadline = Instant::now() + wait;
    // Listening comes first, so that what comes while looking is heard.
    let mut listener = api.bell.listen(org);
    loop {
        let page = look(&api, org, &query).await?;
        if !page.is_empty() || api.stop.is_set() || Instant::now() >= deadline {
            return Ok(page.answer());
        }
        tokio::select! {
            () = listener.rung() => {}
            () = api.stop.stopped() => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}

/// A page as it is written.
#[derive(Debug, Default)]
struct Page {
    /// The items, with commas between them.
    items: Vec<u8>,
    next: Option<EventId>,
}

impl Page {
    fn is_empty(&self) -> bool {
        self.items.is_empty() && self.next.is_none()
    }

    fn answer(self) -> actix_web::HttpResponse {
        let mut body = Vec::with_capacity(self.items.len() + 96);
        body.extend_from_slice(b"{\"data\":[");
        body.extend_from_slice(&self.items);
        body.extend_from_slice(match self.next {
            Some(_) => b"],\"has_more\":true,\"next_cursor\":\"",
            None => b"],\"has_more\":false,\"next_cursor\":",
        });
        match self.next {
            Some(next) => {
                body.extend_from_slice(cursor::encode(next).as_bytes());
                body.extend_from_slice(b"\"}");
            }
            None => body.extend_from_slice(b"null}"),
        }
        json_bytes(StatusCode::OK, body)
    }
}

/// One look into the inbox. An empty one is known without reading anything; else a thread that may block reads.
async fn look(api: &web::Data<Api>, org: OrgNo, query: &InboxQuery) -> Result<Page, Problem> {
    if api.store.org_summary(org)?.is_none_or(|summary| summary.open == 0) {
        return Ok(Page::default());
    }
    let (api, query) = (web::Data::clone(api), query.clone());
    web::block(move || read_page(&api, org, &query)).await.map_err(|error| Problem::internal(&error))?
}

fn read_page(api: &Api, org: OrgNo, query: &InboxQuery) -> Result<Page, Problem> {
    let found = api.store.inbox(org, query)?;
    let mut page = Page { items: Vec::new(), next: found.next };
    let mut last: Option<EventId> = None;
    let mut payload_bytes = 0usize;
    for item in &found.items {
        payload_bytes = payload_bytes.saturating_add(item.payload_len as usize);
        if let (Some(last), true) = (last, payload_bytes > PAGE_BYTES_MAX) {
            page.next = Some(last);
            break;
        }
        let event = match stored(api, item) {
            Ok(event) => event,
            // What comes before it is handed out first.
            Err(_unreadable) if last.is_some() => {
                page.next = last;
                break;
            }
            Err(problem) => return Err(problem),
        };
        if last.is_some() {
            page.items.push(b',');
        }
        page.items.reserve(ITEM_BYTES + event.event.payload.len());
        write_item(item.status, &event, &mut page.items).map_err(|error| Problem::internal(&error))?;
        last = Some(item.id);
    }
    Ok(page)
}

/// The event as its frame in the journal has it.
fn stored(api: &Api, item: &InboxItem) -> Result<SubmitEvent, Problem> {
    let frame = api.journal.read(Position(item.position)).map_err(|error| Problem::unreadable(item.id, &error))?;
    let command = journal_codec::read_body(frame.kind, frame.version, &frame.body);
    match command.map_err(|error| Problem::internal(&error))? {
        Command::SubmitEvent(event) if event.id == item.id => Ok(*event),
        other => Err(Problem::internal(&format_args!(
            "the frame at {} is not that of {} but a {:?}",
            item.position,
            item.id,
            journal_codec::kind(&other)
        ))),
    }
}

/// The members around a payload, which is written as it came.
#[derive(Serialize)]
struct Head<'a> {
    id: EventId,
    r#type: &'a str,
}

#[derive(Serialize)]
struct Tail<'a> {
    dedup_id: Option<&'a str>,
    #[serde(serialize_with = "as_map")]
    labels: &'a [(String, String)],
    received_at: Timestamp,
    occurred_at: Option<Timestamp>,
    status: &'static str,
    lease_count: u32,
}

fn as_map<S: serde::Serializer>(labels: &&[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter().map(|(name, value)| (name, value)))
}

fn write_item(status: EventStatus, event: &SubmitEvent, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let SubmitEvent { id, received_at, event, .. } = event;
    serde_json::to_writer(&mut *out, &Head { id: *id, r#type: event.event_type.as_str() })?;
    // The head's closing brace makes room for the payload, the tail's opening one for a comma.
    out.pop();
    out.extend_from_slice(b",\"payload\":");
    out.write_all(&event.payload).map_err(serde_json::Error::io)?;
    let tail_at = out.len();
    let tail = Tail {
        dedup_id: event.dedup.as_ref().map(|dedup| dedup.id.as_str()),
        labels: &event.labels,
        received_at: *received_at,
        occurred_at: event.occurred_at,
        status: status.name(),
        lease_count: 0,
    };
    serde_json::to_writer(&mut *out, &tail)?;
    if let Some(brace) = out.get_mut(tail_at) {
        *brace = b',';
    }
    Ok(())
}

#[derive(Serialize)]
struct Confirmation {
    id: EventId,
    status: &'static str,
    acknowledged_at: Timestamp,
}

/// `POST /api/ack/{event_id}`: confirms an event, once; again gives the same answer.
pub(super) async fn acknowledge(call: &mut Call) -> Answer {
    let org = call.org()?;
    let absent = || Problem::not_found("there is no such event");
    let event: EventId = call.path("event_id").parse().map_err(|_malformed| absent())?;
    let known = call.api.store.event(org, event)?.ok_or_else(absent)?;
    let at = match known.acknowledged_at {
        Some(at) => at,
        None => match call.commit(Command::AckEvent(AckEvent { org, event, at: call.now })).await? {
            Outcome::Acknowledged { at } => at,
            Outcome::NotFound => return Err(absent()),
            other => return Err(unexpected(&other)),
        },
    };
    json(StatusCode::OK, &Confirmation { id: event, status: EventStatus::Acknowledged.name(), acknowledged_at: at })
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
