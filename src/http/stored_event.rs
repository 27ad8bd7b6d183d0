//! Stored events as they are shown: the members that the journal keeps, the payload as it came, and where they stand. For
//! every list of events.

use std::io::Write as _;

use actix_web::http::StatusCode;
use serde::Serialize;

use super::Api;
use super::answers::Part;
use super::call::{PAGE_BYTES_MAX, json_bytes};
use super::cursor;
use super::error::Problem;
use super::limit::Payer;
use crate::commands::{Command, SubmitEvent};
use crate::journal::Position;
use crate::model::cloudevent::{Context, DataKind};
use crate::model::event::EventStatus;
use crate::model::id::EventId;
use crate::model::time::Timestamp;
use crate::store::{EventItem, EventPage};

/// What an item needs besides its payload, labels and attributes, most of the time.
const ITEM_BYTES: usize = 320;

/// A page as it is written.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The items, with commas between them.
    pub(super) items: Vec<u8>,
    /// Where the next page begins, if there may be more,
    pub(super) next: Option<EventId>,
    /// and the last item.
    pub(super) last: Option<EventId>,
    /// Of an inbox without items: nothing up to this event is asked for.
    pub(super) seen: EventId,
    /// Its part of what answers may take.
    pub(super) part: Option<Part>,
}

impl Page {
    pub(super) fn has_items(&self) -> bool {
        !self.items.is_empty()
    }

    /// `begins`: behind which event the page begins.
    pub(super) fn answer(self, begins: EventId) -> actix_web::HttpResponse {
        let mut body = Vec::with_capacity(self.items.len() + 96);
        body.extend_from_slice(b"{\"data\":[");
        body.extend_from_slice(&self.items);
        body.extend_from_slice(match self.next {
            Some(_) => b"],\"has_more\":true,\"next_cursor\":\"",
            None => b"],\"has_more\":false,\"next_cursor\":\"",
        });
        body.extend_from_slice(cursor::encode(self.next.or(self.last).unwrap_or(begins)).as_bytes());
        body.extend_from_slice(b"\"}");
        let bytes = body.len() as u64;
        let mut response = json_bytes(StatusCode::OK, body);
        if let Some(mut part) = self.part {
            part.shrink_to(bytes);
            response.extensions_mut().insert(part);
        }
        response
    }
}

/// The page with what the journal has of each event. It ends early when there is little room for answers.
pub(super) fn read_page(api: &Api, payer: Payer, found: &EventPage) -> Result<Page, Problem> {
    let mut page = Page { next: found.next, seen: found.seen, ..Page::default() };
    let bytes_of = |item: &EventItem| ITEM_BYTES + item.bytes as usize;
    let Some(first) = found.items.first() else { return Ok(page) };
    let wanted = found.items.iter().map(bytes_of).sum::<usize>().min(PAGE_BYTES_MAX).max(bytes_of(first));
    let part = api.answers.take(payer, wanted, bytes_of(first))?;
    let bytes_max = part.amount();
    page.part = Some(part);
    let mut last: Option<EventId> = None;
    for item in &found.items {
        // What is written counts as it is: characters that JSON escapes make it longer than was expected.
        let is_too_much = (page.items.len() + bytes_of(item)) as u64 > bytes_max;
        if let (Some(last), true) = (last, is_too_much) {
            page.next = Some(last);
            break;
        }
        let event = match stored(api, (item.id, item.position)) {
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
        page.items.reserve(bytes_of(item));
        write_item((item.status, item.erased_at), &event, &mut page.items)
            .map_err(|error| Problem::internal(&error))?;
        last = Some(item.id);
    }
    page.last = last;
    Ok(page)
}

/// The event as its frame in the journal has it.
pub(super) fn stored(api: &Api, (id, position): (EventId, u64)) -> Result<SubmitEvent, Problem> {
    let frame = api.journal.read(Position(position)).map_err(|error| Problem::unreadable(id, &error))?;
    let command = Command::read(frame.kind, frame.version, &frame.body);
    let command = command.map_err(|error| Problem::internal(&error))?;
    let kind = command.kind().name;
    let other = || Problem::internal(&format_args!("the frame at {position} does not hold {id} but a {kind}"));
    command.into_event(id).ok_or_else(other)
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
    #[serde(skip_serializing_if = "Option::is_none")]
    erased_at: Option<Timestamp>,
    /// Only of what came as a CloudEvent: what the payload is of its data,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_kind: Option<&'static str>,
    /// and everything else of it, as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    cloudevent: Option<Context<'a>>,
}

fn as_map<S: serde::Serializer>(labels: &&[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter().map(|(name, value)| (name, value)))
}

/// Writes the event's object. Of one that is erased its payload is not in it.
pub(super) fn write_item(
    (status, erased_at): (EventStatus, Option<Timestamp>),
    event: &SubmitEvent,
    out: &mut Vec<u8>,
) -> Result<(), serde_json::Error> {
    let SubmitEvent { id, received_at, event, .. } = event;
    serde_json::to_writer(&mut *out, &Head { id: *id, r#type: event.event_type.as_str() })?;
    // The head's closing brace makes room for the payload, the tail's opening one for a comma.
    out.pop();
    out.extend_from_slice(b",\"payload\":");
    let payload = if erased_at.is_some() { b"null" } else { &*event.payload };
    out.write_all(payload).map_err(serde_json::Error::io)?;
    let tail_at = out.len();
    let tail = Tail {
        dedup_id: event.dedup.as_ref().map(|dedup| dedup.id.as_str()),
        labels: &event.labels,
        received_at: *received_at,
        occurred_at: event.occurred_at,
        status: status.name(),
        lease_count: 0,
        erased_at,
        payload_kind: event.cloudevent.as_ref().map(|cloud| DataKind::name(cloud.data)),
        cloudevent: event.cloudevent.as_deref().map(|cloud| Context { event_type: &event.event_type, event: cloud }),
    };
    serde_json::to_writer(&mut *out, &tail)?;
    if let Some(brace) = out.get_mut(tail_at) {
        *brace = b',';
    }
    Ok(())
}
