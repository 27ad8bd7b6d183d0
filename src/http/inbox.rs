//! `GET /api/inbox` and `POST /api/ack/{event_id}`: pulling and confirming.

use std::fmt::Write as _;
use std::time::Duration;

use actix_web::web::{Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::Api;
use super::api::off_worker;
use super::error::{Code, Problem};
use super::wire::fault;
use crate::journal::{Position, ReadError};
use crate::model::command::{AckEvent, Command, SubmitEvent};
use crate::model::id::{EventId, OrgNo};
use crate::model::journal_codec::read_body;
use crate::store::{InboxItem, InboxPage, InboxQuery, Outcome};

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 500;
/// A page ends early when its payloads come to this, so that 500 large events do not make one large answer.
const PAGE_BYTES_MAX: u64 = 8 << 20;
const CURSOR_VERSION: u8 = 1;

/// The page asked for; if it is empty, the one that comes within `wait` seconds.
pub(super) async fn get_inbox(
    api: Data<Api>,
    request: HttpRequest,
    query: Query<Vec<(String, String)>>,
) -> Result<HttpResponse, Problem> {
    let caller = api.admit(&request, 1).await?;
    let (query, wait) = parse(&query, api.parts.config.inbox.wait_max)?;
    let org = caller.org_no();
    let deadline = tokio::time::Instant::now() + wait;
    // Listen before looking, so that what comes in between is heard.
    let mut listener = (!wait.is_zero()).then(|| api.parts.bell.listen(org));
    loop {
        let page = {
            let (api, query) = (api.clone(), query.clone());
            off_worker(move || render_page(&api, org, &query)).await?
        };
        let Some(listener) = listener.as_mut().filter(|_| page.is_none()) else {
            let empty = || r#"{"data":[],"has_more":false,"next_cursor":null}"#.to_owned();
            return Ok(HttpResponse::Ok().content_type("application/json").body(page.unwrap_or_else(empty)));
        };
        let rung = tokio::select! {
            () = listener.rung() => true,
            () = api.parts.stop.stopped() => false,
            () = tokio::time::sleep_until(deadline) => false,
        };
        if !rung {
            let empty = r#"{"data":[],"has_more":false,"next_cursor":null}"#;
            return Ok(HttpResponse::Ok().content_type("application/json").body(empty));
        }
    }
}

/// The page as JSON; none if it is empty and has nothing behind it.
fn render_page(api: &Api, org: OrgNo, query: &InboxQuery) -> Result<Option<String>, Problem> {
    let InboxPage { items, mut next } = api.parts.store.inbox(org, query)?;
    if items.is_empty() && next.is_none() {
        return Ok(None);
    }
    let mut body = String::from(r#"{"data":["#);
    let mut bytes = 0;
    for (place, item) in items.iter().enumerate() {
        bytes += u64::from(item.payload_len);
        if place > 0 {
            if bytes > PAGE_BYTES_MAX {
                next = items.get(place - 1).map(|last| last.id);
                break;
            }
            body.push(',');
        }
        render_item(api, item, &mut body)?;
    }
    let cursor = next.map_or_else(|| "null".to_owned(), |after| format!("\"{}\"", cursor(after)));
    Ok(Some(format!(r#"{body}],"has_more":{},"next_cursor":{cursor}}}"#, next.is_some())))
}

fn render_item(api: &Api, item: &InboxItem, body: &mut String) -> Result<(), Problem> {
    let SubmitEvent { id, received_at, event, .. } = read_event(api, item)?;
    let payload = str::from_utf8(&event.payload).map_err(Problem::internal)?;
    let dedup_id = event.dedup.map(|dedup| dedup.id);
    let labels: serde_json::Map<_, _> = event.labels.into_iter().map(|(name, value)| (name, value.into())).collect();
    // No event is leased: a lease is the only thing that would count.
    write!(
        body,
        r#"{{"id":"{id}","type":"{}","payload":{payload},"dedup_id":{},"labels":{},"received_at":"{received_at}","occurred_at":{},"status":"{}","lease_count":0}}"#,
        event.event_type,
        json!(dedup_id),
        json!(labels),
        json!(event.occurred_at),
        item.status.name(),
    )
    .map_err(Problem::internal)
}

fn read_event(api: &Api, item: &InboxItem) -> Result<SubmitEvent, Problem> {
    let frame = api.parts.journal.read(Position(item.position)).map_err(|error: ReadError| Problem::internal(error))?;
    match read_body(frame.kind, frame.version, &frame.body).map_err(Problem::internal)? {
        Command::SubmitEvent(submit) if submit.id == item.id => Ok(*submit),
        _ => Err(Problem::internal(format!("the journal holds something else at {}", item.position))),
    }
}

fn parse(given: &[(String, String)], wait_max: Duration) -> Result<(InboxQuery, Duration), Problem> {
    let mut query = InboxQuery { after: None, limit: LIMIT_DEFAULT, event_type: None, since: None };
    let (mut wait, mut faults) = (Duration::ZERO, Vec::new());
    for (name, text) in given {
        let parsed = match name.as_str() {
            "limit" => whole(text, 1, LIMIT_MAX as u64).map(|limit| query.limit = usize::try_from(limit).unwrap_or(1)),
            "cursor" => after(text).map(|event| query.after = Some(event)).ok_or("is not a cursor of ours".to_owned()),
            "type" => text.parse().map(|wanted| query.event_type = Some(wanted)).map_err(str::to_owned),
            "since" => text.parse().map(|since| query.since = Some(since)).map_err(|error| format!("{error}")),
            "wait" => whole(text, 0, wait_max.as_secs()).map(|seconds| wait = Duration::from_secs(seconds)),
            _ => Err("is not a known parameter".to_owned()),
        };
        if let Err(detail) = parsed {
            faults.push(fault(format!("?{name}"), detail));
        }
    }
    if faults.is_empty() {
        return Ok((query, wait));
    }
    let detail =
        faults.iter().map(|fault| format!("{} {}", fault.pointer, fault.detail)).collect::<Vec<_>>().join("; ");
    Err(Problem { errors: faults, ..Problem::new(Code::InvalidRequest, detail) })
}

fn whole(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("must be a whole number from {least} to {most}"))
}

fn cursor(after: EventId) -> String {
    let mut bytes = vec![CURSOR_VERSION];
    bytes.extend_from_slice(&after.to_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn after(cursor: &str) -> Option<EventId> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (version, id) = bytes.split_first()?;
    (*version == CURSOR_VERSION).then_some(EventId::from_bytes(id.try_into().ok()?))
}

/// Confirms an event; once more gives the same answer.
pub(super) async fn post_ack(api: Data<Api>, request: HttpRequest, id: Path<String>) -> Result<HttpResponse, Problem> {
    let caller = api.admit(&request, 1).await?;
    let org = caller.org_no();
    let event: EventId = id.parse().map_err(|_no_id| Problem::not_found())?;
    let known = {
        let api = api.clone();
        off_worker(move || Ok(api.parts.store.event(org, event)?)).await?
    };
    let at = match known.ok_or_else(Problem::not_found)?.acknowledged_at {
        Some(at) => at,
        None => match api.commit_one(Command::AckEvent(AckEvent { org, event, at: api.now() })).await? {
            Outcome::Acknowledged { at } => at,
            Outcome::NotFound => return Err(Problem::not_found()),
            other => return Err(Problem::internal(format!("an acknowledgement came to {other:?}"))),
        },
    };
    Ok(HttpResponse::Ok().json(json!({ "id": event, "status": "acknowledged", "acknowledged_at": at })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        let id = EventId(0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881);
        assert_eq!(after(&cursor(id)), Some(id));
        for wrong in ["", "AA", "!!", &cursor(id)[1..], &format!("{}A", cursor(id)), &URL_SAFE_NO_PAD.encode([2; 17])] {
            assert_eq!(after(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let given = [("limit", "0"), ("cursor", "x"), ("type", "a b"), ("since", "now"), ("wait", "31"), ("page", "2")];
        let given: Vec<_> = given.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let problem = parse(&given, Duration::from_secs(30)).unwrap_err();
        assert_eq!((problem.code, problem.errors.len()), (Code::InvalidRequest, 6));
    }
}
