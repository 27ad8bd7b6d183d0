//! `GET /api/inbox` and `POST /api/ack/{event_id}`: consuming by pull.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web;
use serde::Serialize;
use tokio::time::Instant;

use super::Api;
use super::call::{Answer, Call, json, unexpected};
use super::error::Problem;
use super::query::Query;
use super::stored_event::{Page, read_page};
use crate::model::command::{AckEvent, Command};
use crate::model::event::EventStatus;
use crate::model::id::{EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::{InboxQuery, Outcome};

/// Longest `wait` a caller can ask for, in seconds.
const WAIT_S_MAX: u64 = 30;

/// What a caller asks for.
struct Wanted {
    query: InboxQuery,
    wait: Duration,
}

impl Wanted {
    fn read(text: &str, wait_max: Duration, now: Timestamp) -> Result<Self, Problem> {
        let mut query = Query::read(text);
        let limit = query.limit();
        let wait = Duration::from_secs(query.number("wait", 0..=WAIT_S_MAX, 0)).min(wait_max);
        let after = query.cursor();
        let (types, since) = (query.take("type").unwrap_or_default(), query.moment("since", now));
        query.finish()?;
        Ok(Self { query: InboxQuery { after, limit, types, since }, wait })
    }
}

/// `GET /api/inbox`: events that nobody has confirmed, oldest first. `wait` holds the request until there is one, or
/// the server stops. `lease_count` is 0 as long as there is no route that hands out leases.
pub(super) async fn list(call: &mut Call) -> Answer {
    let org = call.org()?;
    let api = web::Data::clone(&call.api);
    let Wanted { query, wait } = Wanted::read(call.request.query_string(), api.config.inbox.wait_max, call.now)?;
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
        let waiting = async {
            tokio::select! {
                () = listener.rung() => {}
                () = api.stop.stopped() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        };
        call.while_allowed(waiting).await?;
    }
}

/// One look into the inbox. An empty one is known without reading anything; else a thread that may block reads.
async fn look(api: &web::Data<Api>, org: OrgNo, query: &InboxQuery) -> Result<Page, Problem> {
    if api.store.org_summary(org)?.is_none_or(|summary| summary.open == 0) {
        return Ok(Page::default());
    }
    let (api, query) = (web::Data::clone(api), query.clone());
    let read = move || read_page(&api, &api.store.inbox(org, &query)?);
    web::block(read).await.map_err(|error| Problem::internal(&error))?
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
