//! `GET /api/inbox` and `POST /api/ack/{event_id}`: consumers pull events and acknowledge them.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::base::failpoint::{self, Switch};
use crate::commands::{AckEvent, AckOutcome};
use crate::commit::InboxListener;
use crate::http::api::stored_event::{Page, absent, event_page, has_expired, read_page};
use crate::http::edge::call::{Answer, Call, json};
use crate::http::error::Problem;
use crate::http::input::cursor::List;
use crate::http::input::declare::{Parameters as _, query};
use crate::http::input::kinds::{number, parsed};
use crate::http::input::lists::{Page as Wish, paging};
use crate::http::input::presence::optional;
use crate::http::openapi::operation::{Operation, Reply, Tag};
use crate::http::openapi::schemas::schema_of;
use crate::http::shared::Api;
use crate::model::event::{EventStatus, EventType};
use crate::model::id::{EventId, OrgNo};
use crate::model::moment::Moment;
use crate::model::time::Timestamp;
use crate::rules::type_filter::TypeFilter;
use crate::store::{EventPage, InboxQuery};

/// Maximum `wait` that a caller can ask for, in seconds.
const WAIT_S_MAX: u64 = 30;

/// Maximum number of terms in a remembered filter: longer filters take much memory.
const REMEMBERED_TERMS_MAX: usize = 4;

query! {
    /// The wanted events of the inbox.
    struct InboxParameters {
        /// The page.
        page: Wish<EventId> = paging(List::Inbox).by();
        /// Seconds to wait for an event with a matching `type` behind the cursor.
        wait_s: u64 = optional("wait", number(0..=WAIT_S_MAX)).or(0);
        /// Only events of these types.
        types: Option<TypeFilter> = optional("type", parsed());
        /// Only events received from this time on.
        since: Option<Moment> = optional("since", parsed());
    }
}

pub(in crate::http) static LIST: Operation = Operation::new(
    "listInbox",
    Tag::Inbox,
    "List the events that nobody has acknowledged",
    &[Reply::json(200, "A page of events, the oldest first.", event_page)],
)
.query::<InboxParameters>();

pub(in crate::http) static ACKNOWLEDGE: Operation = Operation::new(
    "acknowledgeEvent",
    Tag::Inbox,
    "Take an event out of the inbox",
    &[Reply::json(200, "The event is acknowledged.", schema_of::<Confirmation>)],
)
.about("A repeated request gets the same answer.");

/// The parameters of `GET /api/inbox`.
struct Wanted {
    query: InboxQuery,
    wait: Duration,
}

impl Wanted {
    fn read(text: &str, wait_max: Duration, now: Timestamp) -> Result<Self, Problem> {
        let InboxParameters { page: Wish { limit, after }, wait_s, types, since } =
            InboxParameters::read(text)?;
        let wait = Duration::from_secs(wait_s).min(wait_max);
        let (types, since) = (types.unwrap_or_default(), since.map(|since| since.from(now)));
        Ok(Self { query: InboxQuery { after, limit, types, since }, wait })
    }
}

/// `GET /api/inbox`: returns the events not acknowledged yet, oldest first. `wait` holds the
/// request until there is an event, the server stops, or the caller has left. `lease_count` is 0,
/// because no route hands out leases yet.
pub(in crate::http) async fn list(call: &mut Call) -> Answer {
    let org = call.org()?;
    let wait_max = call.api.config.inbox.wait_max;
    let Wanted { mut query, wait } = Wanted::read(call.request.query_string(), wait_max, call.now)?;
    let begins = query.after.unwrap_or_default();
    if wait.is_zero() {
        return look(call, org, &query).await?.answer(List::Inbox, begins);
    }
    let deadline = Instant::now() + wait;
    // Listening begins before the first look, so that no event between the two is missed.
    let mut listener = listen(call, org, &query)?;
    call.waits();
    loop {
        let page = look(call, org, &query).await?;
        if page.has_items() || call.api.engine.stop.is_set() || Instant::now() >= deadline {
            return page.answer(List::Inbox, begins);
        }
        // The next look begins where this look ended.
        if !failpoint::is_on(Switch::WaitersWokenByAll) {
            query.after = Some(query.after.map_or(page.seen, |after| after.max(page.seen)));
        }
        if page.next.is_some() {
            continue;
        }
        let waiting = async {
            tokio::select! {
                () = listener.notified() => false,
                () = call.api.engine.stop.stopped() => false,
                () = call.left() => true,
                () = tokio::time::sleep_until(deadline) => false,
            }
        };
        if call.while_allowed(waiting).await? {
            return page.answer(List::Inbox, begins);
        }
    }
}

/// Begins to listen for events that pass the filter of the query.
fn listen(call: &Call, org: OrgNo, query: &InboxQuery) -> Result<InboxListener, Problem> {
    let wanted = query.types.clone();
    let wants = move |event_type: &EventType| wanted.matches(event_type);
    Ok(call.api.engine.hints.notifier.listen(
        org,
        call.api.engine.store.newest_event(org)?,
        Box::new(wants),
    ))
}

/// Reads one page of the inbox. The state knows without a search that an inbox is empty; otherwise
/// the page is read on the blocking pool.
async fn look(call: &Call, org: OrgNo, query: &InboxQuery) -> Result<Page, Problem> {
    if call.api.engine.store.org_summary(org)?.is_none_or(|summary| summary.open == 0) {
        return Ok(Page { seen: query.after.unwrap_or_default(), ..Page::default() });
    }
    let (api, query, principal) = (web::Data::clone(&call.api), query.clone(), call.principal());
    // A lost payload is an error: the consumer acknowledges the event to go on.
    let read = move || {
        let found = search(&api, org, query.clone())?;
        read_page(&api, principal, &found, &|event| has_expired(&api.engine.store, org, event))
    };
    call.run_for_answer(read).await
}

/// Searches one page of the inbox. Events enter an inbox only at its end, and no event comes back,
/// so the part without matching events is not searched again.
fn search(api: &Api, org: OrgNo, mut query: InboxQuery) -> Result<EventPage, Problem> {
    let is_remembered =
        query.since.is_none() && (1..=REMEMBERED_TERMS_MAX).contains(&query.types.terms());
    if !is_remembered || failpoint::is_on(Switch::WaitersWokenByAll) {
        return Ok(api.engine.store.inbox(org, &query)?);
    }
    let key = (org, query.types.clone());
    let barren = api.barren.get(&key).unwrap_or_default();
    let begins = query.after.unwrap_or_default();
    query.after = Some(begins.max(barren));
    let page = api.engine.store.inbox(org, &query)?;
    if begins <= barren {
        let nothing_before =
            page.items.first().map_or(page.seen, |first| EventId(first.id.0.saturating_sub(1)));
        api.barren.insert(key, nothing_before.max(barren));
    }
    Ok(page)
}

/// An acknowledged event.
#[derive(Serialize, ToSchema)]
#[schema(as = Acknowledgement)]
struct Confirmation {
    id: EventId,
    #[schema(value_type = EventStatus)]
    status: &'static str,
    acknowledged_at: Timestamp,
}

/// `POST /api/ack/{event_id}`: acknowledges an event. A repeated request gets the same answer.
pub(in crate::http) async fn acknowledge(call: &mut Call) -> Answer {
    let org = call.org()?;
    let event: EventId = call.path("event_id").parse().map_err(|_malformed| absent())?;
    let known = call.api.engine.store.event(org, event)?.ok_or_else(absent)?;
    let at = match known.acknowledged_at {
        Some(at) => at,
        None => match call.commit(AckEvent { org, event, at: call.now }).await? {
            AckOutcome::Acknowledged { at } => at,
            AckOutcome::NotFound => return Err(absent()),
        },
    };
    json(
        StatusCode::OK,
        &Confirmation { id: event, status: EventStatus::Acknowledged.name(), acknowledged_at: at },
    )
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
