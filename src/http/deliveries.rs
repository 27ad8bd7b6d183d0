//! `/api/deliveries`: events on their way to endpoints, and what each attempt brought.

use std::net::SocketAddr;

use actix_web::http::StatusCode;
use actix_web::web;
use serde::{Serialize, Serializer};

use super::Api;
use super::call::{Answer, Call, json};
use super::cursor;
use super::error::{Code, Problem};
use super::query::Query;
use crate::base::clock::Clock;
use crate::commands::{Command, RetryDelivery, RetryOutcome, SettleAttempt};
use crate::journal::Position;
use crate::model::delivery::{AttemptError, AttemptOutcome, DeadReason, Timing, Trigger};
use crate::model::endpoint::DisabledReason;
use crate::model::id::{AttemptId, DeliveryId, EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::{Delivery, DeliveryDetails, DeliveryQuery, DeliveryStanding};

/// Attempts shown of a delivery, the newest.
const ATTEMPTS_MAX: usize = 100;
/// Why an endpoint gets nothing that is not there any more.
const DELETED: &str = "deleted";

/// A delivery as it is shown in lists.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) id: DeliveryId,
    event_id: EventId,
    endpoint_id: EndpointId,
    state: &'static str,
    attempt_count: u32,
    next_attempt_at: Option<Timestamp>,
    /// When and why it was given up.
    dead_at: Option<Timestamp>,
    reason: Option<&'static str>,
}

impl Shown {
    /// Due times are steady ones; what is shown is the wall clock's.
    pub(super) fn of(delivery: &Delivery, clock: &Clock) -> Self {
        let next_attempt_at = delivery.standing.next_attempt_at();
        let dead = match delivery.standing {
            DeliveryStanding::Dead(reason, at) => Some((reason, at)),
            DeliveryStanding::Pending(_)
            | DeliveryStanding::Retrying(_)
            | DeliveryStanding::Delivered
            | DeliveryStanding::Canceled => None,
        };
        Self {
            id: DeliveryId::of(delivery.event, delivery.endpoint_number),
            event_id: delivery.event,
            endpoint_id: delivery.endpoint,
            state: delivery.standing.status().name(),
            attempt_count: delivery.attempts,
            next_attempt_at: next_attempt_at.map(|at| Timestamp(clock.wall_ms_of(at.0))),
            dead_at: dead.map(|(_, at)| at),
            reason: dead.map(|(reason, _)| DeadReason::name(reason)),
        }
    }
}

/// A page of a list.
#[derive(Serialize)]
pub(super) struct List {
    pub(super) data: Vec<Shown>,
    pub(super) has_more: bool,
    pub(super) next_cursor: String,
}

/// `GET`: by endpoint in the order those were made, the newest event first.
pub(super) async fn list(call: &mut Call) -> Answer {
    let org = call.org()?;
    let wanted = wanted(call.request.query_string(), call.now)?;
    let (api, begins) = (web::Data::clone(&call.api), wanted.after);
    let page = call.api.blocking.run(call.payer(), move || Ok(api.store.deliveries(org, &wanted)?)).await?;
    let last = page.items.last().map(|last| (last.endpoint_number, last.event));
    let (number, event) = page.next.or(last).or(begins).unwrap_or((0, cursor::NEWEST));
    let next_cursor = cursor::encode(EventId(DeliveryId::of(event, number).0));
    let data = page.items.iter().map(|found| Shown::of(found, &call.api.clock)).collect();
    json(StatusCode::OK, &List { data, has_more: page.next.is_some(), next_cursor })
}

fn wanted(text: &str, now: Timestamp) -> Result<DeliveryQuery, Problem> {
    let mut query = Query::read(text);
    let limit = query.limit();
    let after = query.cursor().map(|EventId(after)| DeliveryId(after));
    let (status, endpoint, event) = (query.take("state"), query.take("endpoint_id"), query.take("event_id"));
    let (since, until) = query.times(now);
    query.finish()?;
    let after = after.map(|after| (after.endpoint_number(), after.event()));
    Ok(DeliveryQuery { status, endpoint, event, since, until, after, limit })
}

pub(super) fn absent() -> Problem {
    Problem::not_found("there is no such delivery")
}

/// The delivery that the path names.
fn named(call: &Call) -> Result<(OrgNo, DeliveryDetails), Problem> {
    let org = call.org()?;
    let id: DeliveryId = call.path("delivery_id").parse().map_err(|_malformed| absent())?;
    let found = call.api.store.delivery(org, id.event(), id.endpoint_number())?;
    found.map(|found| (org, found)).ok_or_else(absent)
}

/// A delivery with its attempts.
#[derive(Serialize)]
struct Details {
    #[serde(flatten)]
    delivery: Shown,
    /// What waits for an endpoint that is not enabled waits until it is.
    endpoint_enabled: bool,
    endpoint_disabled_reason: Option<&'static str>,
    /// The newest first.
    attempts: Vec<Attempt>,
}

#[derive(Serialize)]
struct Attempt {
    id: AttemptId,
    number: u32,
    #[serde(flatten)]
    told: Told,
    /// What the receiver asked for.
    retry_after_ms: Option<u64>,
    /// The beginning of a refusal's body, unless the event is erased.
    response_body: Option<String>,
}

impl Attempt {
    /// A receiver's answer may repeat what it was sent, so it is hidden where that is.
    fn of(position: u64, settled: SettleAttempt, is_erased: bool) -> Self {
        let SettleAttempt { number, trigger, outcome, .. } = settled;
        let outcome = if is_erased { outcome.without_receivers_words() } else { outcome };
        let body = String::from_utf8_lossy(&outcome.body).into_owned();
        Self {
            id: AttemptId::of(outcome.started_at, position),
            number,
            retry_after_ms: outcome.retry_after_ms,
            response_body: Some(body).filter(|body| !body.is_empty()),
            told: Told::of(trigger, outcome),
        }
    }
}

/// What every attempt tells, also one that tries an endpoint out.
#[derive(Serialize)]
pub(super) struct Told {
    trigger: &'static str,
    started_at: Timestamp,
    duration_ms: u32,
    timing: Timing,
    /// Whom it reached, or tried to.
    address: Option<SocketAddr>,
    status: Option<u16>,
    error: Option<AttemptError>,
    #[serde(serialize_with = "as_object")]
    response_headers: Vec<(String, String)>,
}

impl Told {
    pub(super) fn of(trigger: Trigger, outcome: AttemptOutcome) -> Self {
        Self {
            trigger: trigger.name(),
            started_at: outcome.started_at,
            duration_ms: outcome.duration_ms,
            timing: outcome.timing,
            address: outcome.address,
            status: outcome.status,
            error: outcome.error,
            response_headers: outcome.headers,
        }
    }
}

fn as_object<S: Serializer>(headers: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|(name, value)| (name, value)))
}

/// `GET /{id}`.
pub(super) async fn show(call: &mut Call) -> Answer {
    let (org, found) = named(call)?;
    let api = web::Data::clone(&call.api);
    let details = call.api.blocking.run(call.payer(), move || details(&api, org, &found)).await?;
    json(StatusCode::OK, &details)
}

fn details(api: &Api, org: OrgNo, found: &DeliveryDetails) -> Result<Details, Problem> {
    let (endpoint_enabled, endpoint_disabled_reason) = match &found.endpoint {
        Some(endpoint) => (endpoint.is_enabled(), endpoint.disabled.map(DisabledReason::name)),
        None => (false, Some(DELETED)),
    };
    let is_erased = api.store.event(org, found.delivery.event)?.is_some_and(|event| event.erased_at.is_some());
    let attempts = attempts(api, &found.delivery, is_erased)?;
    let delivery = Shown::of(&found.delivery, &api.clock);
    Ok(Details { delivery, endpoint_enabled, endpoint_disabled_reason, attempts })
}

/// Back through the journal from the last one. One that was lost to damage ends the list; the count says that there was
/// more.
fn attempts(api: &Api, delivery: &Delivery, is_erased: bool) -> Result<Vec<Attempt>, Problem> {
    let mut attempts = Vec::new();
    let mut next = delivery.last_attempt;
    while let Some(position) = next
        && attempts.len() < ATTEMPTS_MAX
    {
        let settled = match settled(api, position, delivery) {
            Ok(settled) => settled,
            Err(error) if attempts.is_empty() => return Err(Problem::internal(&error)),
            Err(error) => {
                tracing::warn!(event = %delivery.event, error, "an attempt cannot be read from the journal");
                break;
            }
        };
        // Only ever back, whatever stands there.
        next = settled.previous.filter(|previous| *previous < position);
        attempts.push(Attempt::of(position, settled, is_erased));
    }
    Ok(attempts)
}

fn settled(api: &Api, position: u64, delivery: &Delivery) -> Result<SettleAttempt, String> {
    let frame = api.journal.read(Position(position)).map_err(|error| error.to_string())?;
    let command = Command::read(frame.kind, frame.version, &frame.body).map_err(|error| error.to_string())?;
    match command {
        Command::SettleAttempt(settled) if (settled.event, settled.endpoint) == (delivery.event, delivery.endpoint) => {
            Ok(*settled)
        }
        other => Err(format!("the frame at {position} is not an attempt of this delivery but a {}", other.kind().name)),
    }
}

/// `POST /{id}/retry`: what waits is due now; what was over waits again, due now, with its schedule from the beginning.
/// 202 with the delivery; for an endpoint that is disabled it waits until that is enabled.
pub(super) async fn retry(call: &mut Call) -> Answer {
    let (org, found) = named(call)?;
    if found.endpoint.is_none() {
        return Err(Problem::new(Code::ValidationFailed, "the endpoint of this delivery was deleted"));
    }
    let Delivery { endpoint, event, .. } = found.delivery;
    let (at, trigger) = (call.api.steady(), Trigger::Retry);
    let retry = RetryDelivery { org, endpoint, event, at, only_dead: false, trigger };
    match call.commit(retry).await? {
        RetryOutcome::Queued => {}
        RetryOutcome::Erased { at } => {
            return Err(Problem::new(
                Code::EventErased,
                format!("the payload of this delivery's event was erased at {at}"),
            ));
        }
        RetryOutcome::NotFound => return Err(absent()),
    }
    let (_, found) = named(call)?;
    let api = web::Data::clone(&call.api);
    let details = call.api.blocking.run(call.payer(), move || details(&api, org, &found)).await?;
    json(StatusCode::ACCEPTED, &details)
}
