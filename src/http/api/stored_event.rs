//! Stored events as the API shows them: the members that the journal keeps, the payload byte for
//! byte, and the status. Every list of events uses this module.

use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::base::pairs::as_map;
use crate::base::splice::Splice;
use crate::http::edge::answers::Part;
use crate::http::edge::call::{Answer, PAGE_BYTES_MAX, json_bytes, page_body};
use crate::http::error::Problem;
use crate::http::input::cursor::List;
use crate::http::openapi::schemas::{Schemas, inlined, merged, page};
use crate::http::principal::Principal;
use crate::http::shared::Api;
use crate::journal::Position;
use crate::model::cloudevent::{Context, DataKind};
use crate::model::event::{EventStatus, StoredEvent};
use crate::model::id::{EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::{EventItem, EventPage, Store};

/// Bytes of most items without payload, labels and attributes.
const ITEM_BYTES: usize = 320;

/// A page of events, already written as JSON.
#[derive(Debug, Default)]
pub(in crate::http) struct Page {
    /// The items, with commas between them.
    pub(in crate::http) items: Vec<u8>,
    /// The event behind which the next page begins, if there may be a next page.
    pub(in crate::http) next: Option<EventId>,
    /// The last event of this page.
    pub(in crate::http) last: Option<EventId>,
    /// For a page of the inbox without items: no event up to this event passes the filter.
    pub(in crate::http) seen: EventId,
    /// The page's part of the memory for answers.
    pub(in crate::http) part: Option<Part>,
}

impl Page {
    pub(in crate::http) fn has_items(&self) -> bool {
        !self.items.is_empty()
    }

    /// Makes the answer for this list. The page begins behind the event `begins`.
    pub(in crate::http) fn answer(self, list: List, begins: EventId) -> Answer {
        let next = list.cursor(self.next.or(self.last).unwrap_or(begins));
        let body = page_body(&self.items, self.next.is_some(), &next)?;
        let bytes = body.len() as u64;
        let mut response = json_bytes(StatusCode::OK, body);
        if let Some(mut part) = self.part {
            part.shrink_to(bytes);
            response.extensions_mut().insert(part);
        }
        Ok(response)
    }
}

/// Creates the problem for an event that does not exist, or no longer exists.
pub(in crate::http) fn absent() -> Problem {
    Problem::not_found("this organization has no event with this id, or the event has expired")
}

/// Reads the events of a page from the journal. The page ends early when there is little room for
/// answers. An event whose record was removed is left out if `leaves_out` says so.
pub(in crate::http) fn read_page(
    api: &Api,
    principal: Principal,
    found: &EventPage,
    leaves_out: &dyn Fn(EventId) -> bool,
) -> Result<Page, Problem> {
    let mut page = Page { next: found.next, seen: found.seen, ..Page::default() };
    let Some(first) = found.items.first() else { return Ok(page) };
    let all: usize = found.items.iter().map(bytes_of).sum();
    let wanted = all.min(PAGE_BYTES_MAX).max(bytes_of(first));
    let part = api.bounds.answers.take(principal, wanted, bytes_of(first))?;
    let bytes_max = part.amount();
    page.part = Some(part);
    let mut last: Option<EventId> = None;
    for item in &found.items {
        // The bytes written so far count exactly, because characters that JSON escapes make an item
        // longer than expected.
        let is_too_much = (page.items.len() + bytes_of(item)) as u64 > bytes_max;
        if let (Some(last), true) = (last, is_too_much) {
            page.next = Some(last);
            break;
        }
        let event = match api.engine.records.event(item.id, item.position) {
            Ok(event) => event,
            Err(error) if error.is_removed() && leaves_out(item.id) => {
                page.seen = page.seen.max(item.id);
                continue;
            }
            // The events before an unreadable event are returned first.
            Err(_unreadable) if last.is_some() => {
                page.next = last;
                break;
            }
            Err(error) => return Err(Problem::unreadable(item.id, &error)),
        };
        push_item(&mut page.items, item, &event)?;
        last = Some(item.id);
    }
    Ok(Page { last, ..page })
}

/// Returns the expected length of an item in an answer.
fn bytes_of(item: &EventItem) -> usize {
    ITEM_BYTES + item.bytes as usize
}

/// Appends the event to the written items of a page.
fn push_item(items: &mut Vec<u8>, found: &EventItem, event: &StoredEvent) -> Result<(), Problem> {
    if !items.is_empty() {
        items.push(b',');
    }
    items.reserve(bytes_of(found));
    let shown = item((found.status, found.erased_at), event, Splice::new(items));
    shown.map_err(|error| Problem::internal(&error))?.end();
    Ok(())
}

/// Reads an event of the organization from the journal.
pub(in crate::http) fn stored(
    api: &Api,
    org: OrgNo,
    (id, position): (EventId, Position),
) -> Result<StoredEvent, Problem> {
    api.engine.records.event(id, position).map_err(|error| {
        if error.is_removed() && has_expired(&api.engine.store, org, id) {
            absent()
        } else {
            Problem::unreadable(id, &error)
        }
    })
}

/// Returns true if an event that a search has found has expired since.
pub(in crate::http) fn has_expired(store: &Store, org: OrgNo, event: EventId) -> bool {
    store.event(org, event).is_ok_and(|known| known.is_none())
}

/// The schema of an event, as lists and the inbox show it.
pub(in crate::http) fn event_page(schemas: &mut Schemas) -> Value {
    page("Event", |schemas| schemas.component("Event", inlined_event), schemas)
}

/// The schema of an event itself. Its payload is spliced, so no struct has all of its members.
pub(in crate::http) fn inlined_event(schemas: &mut Schemas) -> Value {
    let payload = json!({
        "properties": {"payload": {"description": "Any JSON; `null` after the event was erased."}},
        "required": ["payload"],
    });
    merged("A stored event.", [inlined::<Head>(schemas), payload, inlined::<Tail>(schemas)])
}

/// The members before the payload, which is written byte for byte.
#[derive(Serialize, ToSchema)]
struct Head<'a> {
    id: EventId,
    r#type: &'a str,
}

#[derive(Serialize, ToSchema)]
struct Tail<'a> {
    /// The deduplication id that the producer gave.
    #[schema(required)]
    dedup_id: Option<&'a str>,
    #[serde(serialize_with = "as_map")]
    #[schema(value_type = HashMap<String, String>)]
    labels: &'a [(String, String)],
    received_at: Timestamp,
    #[schema(required)]
    occurred_at: Option<Timestamp>,
    #[schema(value_type = EventStatus)]
    status: &'static str,
    /// Always 0.
    lease_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    erased_at: Option<Timestamp>,
    /// The part of the CloudEvent's data that the payload holds; absent for other events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DataKind>)]
    payload_kind: Option<&'static str>,
    /// The attributes of the CloudEvent, unchanged; absent for other events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    cloudevent: Option<Context<'a>>,
}

/// Adds the members of the event to a JSON object. The payload of an erased event is `null`.
pub(in crate::http) fn item<'a>(
    (status, erased_at): (EventStatus, Option<Timestamp>),
    event: &StoredEvent,
    object: Splice<'a>,
) -> Result<Splice<'a>, serde_json::Error> {
    let StoredEvent { id, received_at, event, .. } = event;
    let tail = Tail {
        dedup_id: event.dedup.as_ref().map(|dedup| dedup.id.as_str()),
        labels: &event.labels,
        received_at: *received_at,
        occurred_at: event.occurred_at,
        status: status.name(),
        lease_count: 0,
        erased_at,
        payload_kind: event.cloudevent.as_ref().map(|cloud| DataKind::name(cloud.data)),
        cloudevent: event
            .cloudevent
            .as_deref()
            .map(|cloud| Context { event_type: event.event_type.as_str(), event: cloud }),
    };
    let head = Head { id: *id, r#type: event.event_type.as_str() };
    let payload = if erased_at.is_some() { b"null" } else { &*event.payload };
    object.members(&head)?.value("payload", payload).members(&tail)
}
