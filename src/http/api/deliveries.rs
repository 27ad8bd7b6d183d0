//! `/api/deliveries`: events on their way to endpoints, with the result of each attempt.

use std::net::SocketAddr;

use actix_web::http::StatusCode;
use actix_web::web;
use serde::Serialize;
use serde_json::json;
use tracing::field::display;
use utoipa::ToSchema;

use crate::base::clock::Clock;
use crate::base::pairs::as_map;
use crate::commands::{RetryDelivery, RetryOutcome, SettleAttempt};
use crate::http::edge::call::{Answer, Call, json};
use crate::http::error::{Code, Problem};
use crate::http::input::cursor::{self, List as Lists};
use crate::http::input::declare::{Parameters as _, query};
use crate::http::input::kinds::parsed;
use crate::http::input::lists::{Page, Span, paging, since_until};
use crate::http::input::presence::optional;
use crate::http::openapi::operation::{Operation, Reply, Tag};
use crate::http::openapi::schemas::schema_of;
use crate::http::shared::Api;
use crate::journal::Position;
use crate::model::audit::{Action, Changed, Note, Subject};
use crate::model::delivery::{
    AttemptError, AttemptOutcome, DeadReason, DeliveryStatus, Timing, Trigger,
};
use crate::model::endpoint::DisabledReason;
use crate::model::id::{AttemptId, DeliveryId, EndpointId, EventId, OrgNo};
use crate::model::key::Scope;
use crate::model::time::Timestamp;
use crate::rules::breaker::BreakerView;
use crate::store::{Delivery, DeliveryDetails, DeliveryQuery, DeliverySituation};

/// Maximum number of attempts shown with a delivery: the newest.
const ATTEMPTS_MAX: usize = 100;
/// The `endpoint_disabled_reason` of an endpoint that does not exist any more.
const DELETED: &str = "deleted";

query! {
    /// The wanted deliveries.
    struct DeliveriesQuery {
        /// The page.
        page: Page<EventId> = paging(Lists::Deliveries).by();
        /// Only deliveries in this state.
        status: Option<DeliveryStatus> = optional("state", parsed());
        /// Only deliveries to this endpoint.
        endpoint: Option<EndpointId> = optional("endpoint_id", parsed());
        /// Only deliveries of this event.
        event: Option<EventId> = optional("event_id", parsed());
        /// The time at which the event was received.
        time: Span = since_until();
    }
}

pub(in crate::http) static LIST: Operation = Operation::new(
    "listDeliveries",
    Tag::Deliveries,
    "List deliveries",
    &[Reply::json(
        200,
        "A page of deliveries by endpoint, the newest event first.",
        schema_of::<List>,
    )],
)
.query::<DeliveriesQuery>();

pub(in crate::http) static SHOW: Operation = Operation::new(
    "showDelivery",
    Tag::Deliveries,
    "Show a delivery with its attempts",
    &[Reply::json(200, "The delivery.", schema_of::<Details>)],
);

pub(in crate::http) static RETRY: Operation = Operation::new(
    "retryDelivery",
    Tag::Deliveries,
    "Attempt a delivery now",
    &[Reply::json(
        202,
        "The delivery; with its attempts if the key has `deliveries:read`.",
        |schemas| json!({"anyOf": [schemas.of::<Details>(), schemas.of::<Shown>()]}),
    )],
)
.about("A finished delivery starts its schedule from the beginning.")
.refuses(&[Code::EventErased, Code::ValidationFailed]);

/// A delivery.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(in crate::http) struct Shown {
    pub(in crate::http) id: DeliveryId,
    event_id: EventId,
    endpoint_id: EndpointId,
    #[schema(value_type = DeliveryStatus)]
    state: &'static str,
    attempt_count: u32,
    #[schema(required)]
    next_attempt_at: Option<Timestamp>,
    /// When the delivery became a dead letter; `null` in any other state.
    #[schema(required)]
    dead_at: Option<Timestamp>,
    #[schema(required, value_type = Option<DeadReason>)]
    reason: Option<&'static str>,
}

impl Shown {
    /// Builds the item for a list. Due times are steady times, shown by the wall clock.
    pub(in crate::http) fn of(delivery: &Delivery, clock: &Clock) -> Self {
        let next_attempt_at = delivery.situation.next_attempt_at();
        let dead = match delivery.situation {
            DeliverySituation::Dead(reason, at) => Some((reason, at)),
            DeliverySituation::Pending(_)
            | DeliverySituation::Retrying(_)
            | DeliverySituation::Delivered
            | DeliverySituation::Canceled => None,
        };
        Self {
            id: DeliveryId::of(delivery.event, delivery.endpoint_number),
            event_id: delivery.event,
            endpoint_id: delivery.endpoint,
            state: delivery.situation.status().name(),
            attempt_count: delivery.attempts,
            next_attempt_at: next_attempt_at.map(|at| Timestamp(clock.wall_ms_of(at.0))),
            dead_at: dead.map(|(_, at)| at),
            reason: dead.map(|(reason, _)| DeadReason::name(reason)),
        }
    }
}

/// A page of a list of deliveries.
#[derive(Serialize, ToSchema)]
#[schema(as = DeliveryPage)]
pub(in crate::http) struct List {
    pub(in crate::http) data: Vec<Shown>,
    pub(in crate::http) has_more: bool,
    pub(in crate::http) next_cursor: String,
}

/// `GET`: lists deliveries by endpoint, in the order of the endpoints' creation, the newest event
/// first.
pub(in crate::http) async fn list(call: &mut Call) -> Answer {
    let org = call.org()?;
    let wanted = wanted(call.request.query_string(), call.now)?;
    let (api, begins) = (web::Data::clone(&call.api), wanted.after);
    let page = call.run(move || Ok(api.engine.store.deliveries(org, &wanted)?)).await?;
    let last = page.items.last().map(|last| (last.endpoint_number, last.event));
    let (number, event) = page.next.or(last).or(begins).unwrap_or((0, cursor::NEWEST));
    let next_cursor = Lists::Deliveries.cursor(EventId(DeliveryId::of(event, number).0));
    let data = page.items.iter().map(|found| Shown::of(found, &call.api.engine.clock)).collect();
    json(StatusCode::OK, &List { data, has_more: page.next.is_some(), next_cursor })
}

fn wanted(text: &str, now: Timestamp) -> Result<DeliveryQuery, Problem> {
    let (wanted, mut query) = DeliveriesQuery::draft(text);
    let (since, until) = wanted.time.of_query(now, &mut query);
    query.finish()?;
    let DeliveriesQuery { page: Page { limit, after }, status, endpoint, event, .. } = wanted;
    let after = after.map(|EventId(after)| DeliveryId(after));
    let after = after.map(|after| (after.endpoint_number(), after.event()));
    Ok(DeliveryQuery { status, endpoint, event, since, until, after, limit })
}

pub(in crate::http) fn absent() -> Problem {
    Problem::not_found("this organization has no delivery with this id, or its event has expired")
}

/// Returns the delivery named in the path.
fn named(call: &Call) -> Result<(OrgNo, DeliveryDetails), Problem> {
    let org = call.org()?;
    let id: DeliveryId = call.path("delivery_id").parse().map_err(|_malformed| absent())?;
    let found = call.api.engine.store.delivery(org, id.event(), id.endpoint_number())?;
    found.map(|found| (org, found)).ok_or_else(absent)
}

/// The reason why a delivery waits although its time has come.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeliveryWait)]
enum Wait {
    OrganizationSuspended,
    EndpointDisabled,
    CircuitBreaker,
    DiskFull,
}

/// A delivery with its attempts.
#[derive(Serialize, ToSchema)]
#[schema(as = DeliveryWithAttempts)]
struct Details {
    #[serde(flatten)]
    delivery: Shown,
    /// A delivery to a disabled endpoint waits until the endpoint is enabled.
    endpoint_enabled: bool,
    /// `deleted` if the endpoint does not exist any more.
    #[schema(required)]
    endpoint_disabled_reason: Option<&'static str>,
    /// The reason why the delivery waits although its time has come.
    #[schema(required)]
    waits_for: Option<Wait>,
    /// A delivery of a suspended organization waits until the operator ends the suspension.
    organization_suspended: bool,
    /// The newest 100 attempts, the newest first.
    attempts: Vec<Attempt>,
}

/// An attempt, in a delivery or as the result of testing an endpoint.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Attempt {
    id: AttemptId,
    number: u32,
    #[schema(value_type = Trigger)]
    trigger: &'static str,
    started_at: Timestamp,
    duration_ms: u32,
    timing: Timing,
    /// The address that the attempt reached, or tried to reach.
    #[schema(required, value_type = Option<String>)]
    address: Option<SocketAddr>,
    /// The HTTP status of the answer.
    #[schema(required)]
    status: Option<u16>,
    /// `null` if the endpoint accepted.
    #[schema(required)]
    error: Option<AttemptError>,
    /// The wait demanded by the receiver, in milliseconds.
    #[schema(required)]
    retry_after_ms: Option<u64>,
    #[serde(serialize_with = "as_map")]
    #[schema(value_type = HashMap<String, String>)]
    response_headers: Vec<(String, String)>,
    /// The beginning of a refusal's body, unless the event is erased.
    #[schema(required)]
    response_body: Option<String>,
}

impl Attempt {
    pub(in crate::http) fn new(
        id: AttemptId,
        (number, trigger): (u32, Trigger),
        outcome: AttemptOutcome,
    ) -> Self {
        let body = String::from_utf8_lossy(&outcome.body).into_owned();
        Self {
            id,
            number,
            trigger: trigger.name(),
            started_at: outcome.started_at,
            duration_ms: outcome.duration_ms,
            timing: outcome.timing,
            address: outcome.address,
            status: outcome.status,
            error: outcome.error,
            retry_after_ms: outcome.retry_after_ms,
            response_headers: outcome.headers,
            response_body: Some(body).filter(|body| !body.is_empty()),
        }
    }

    /// Builds a stored attempt for the answer. An erased event hides the receiver's words, as they
    /// may repeat the payload.
    fn stored(position: Position, settled: SettleAttempt, is_erased: bool) -> Self {
        let SettleAttempt { number, trigger, outcome, .. } = settled;
        let outcome = if is_erased { outcome.without_receivers_words() } else { outcome };
        Self::new(AttemptId::of(outcome.started_at, position), (number, trigger), outcome)
    }
}

/// `GET /{id}`: returns a delivery with its attempts.
pub(in crate::http) async fn show(call: &mut Call) -> Answer {
    let (org, found) = named(call)?;
    let api = web::Data::clone(&call.api);
    let details = call.run(move || details(&api, org, &found)).await?;
    json(StatusCode::OK, &details)
}

fn details(api: &Api, org: OrgNo, found: &DeliveryDetails) -> Result<Details, Problem> {
    let (endpoint_enabled, endpoint_disabled_reason) = match &found.endpoint {
        Some(endpoint) => (endpoint.is_enabled(), endpoint.disabled.map(DisabledReason::name)),
        None => (false, Some(DELETED)),
    };
    let is_erased = api
        .engine
        .store
        .event(org, found.delivery.event)?
        .is_some_and(|event| event.erased_at.is_some());
    let attempts = attempts(api, org, &found.delivery, is_erased)?;
    let delivery = Shown::of(&found.delivery, &api.engine.clock);
    let waits_for = waits_for(api, org, found)?;
    Ok(Details {
        delivery,
        endpoint_enabled,
        endpoint_disabled_reason,
        organization_suspended: found.is_suspended,
        waits_for,
        attempts,
    })
}

/// Returns the reason why a delivery waits although its time has come, if there is one. Without a
/// reason, its attempt is under way or comes in its turn.
fn waits_for(api: &Api, org: OrgNo, found: &DeliveryDetails) -> Result<Option<Wait>, Problem> {
    let due_at = found.delivery.situation.next_attempt_at();
    if due_at.is_none_or(|at| at > api.steady()) {
        return Ok(None);
    }
    let known = api.engine.store.endpoint_of(org, found.delivery.endpoint)?;
    Ok(known.and_then(|(endpoint, health)| match api.engine.breakers.of(endpoint.id) {
        _ if found.is_suspended => Some(Wait::OrganizationSuspended),
        _ if !endpoint.is_enabled() => Some(Wait::EndpointDisabled),
        BreakerView::Open(_) | BreakerView::HalfOpen => Some(Wait::CircuitBreaker),
        BreakerView::Closed if api.engine.intake.keeps_rest() && health.failing_since.is_some() => {
            Some(Wait::DiskFull)
        }
        BreakerView::Closed => None,
    }))
}

/// Reads the attempts from the journal, the newest first. An attempt lost to damage ends the list,
/// which `attempt_count` shows. If the newest is lost, the request fails.
fn attempts(
    api: &Api,
    org: OrgNo,
    delivery: &Delivery,
    is_erased: bool,
) -> Result<Vec<Attempt>, Problem> {
    let mut attempts = Vec::new();
    let mut next = delivery.last_attempt;
    while let Some(position) = next
        && attempts.len() < ATTEMPTS_MAX
    {
        let settled = match api
            .engine
            .records
            .attempt((delivery.event, delivery.endpoint), position)
        {
            Ok(settled) => settled,
            // The attempts that a salvage has lost do not hide the delivery.
            Err(error) if attempts.is_empty() && !error.is_removed() => {
                return Err(Problem::internal(&error));
            }
            Err(error) => {
                let organization = api.engine.store.org_id(org).ok().flatten().map(display);
                let id = DeliveryId::of(delivery.event, delivery.endpoint_number);
                let state = delivery.situation.status().name();
                tracing::warn!(organization, endpoint = %delivery.endpoint, event = %delivery.event,
                    delivery = %id, state, %error, "an attempt cannot be read from the journal");
                break;
            }
        };
        // Only earlier positions are read, so a damaged chain cannot loop.
        next = settled.previous.filter(|previous| *previous < position);
        attempts.push(Attempt::stored(position, settled, is_erased));
    }
    Ok(attempts)
}

/// `POST /{id}/retry`: makes a waiting delivery due now. A finished delivery starts again now, with
/// its schedule from the beginning. The answer is 202 with the delivery, and with its attempts
/// if the key may read deliveries; `waits_for` says why the delivery waits, if it does.
pub(in crate::http) async fn retry(call: &mut Call) -> Answer {
    let (org, found) = named(call)?;
    if found.endpoint.is_none() {
        return Err(Problem::new(
            Code::ValidationFailed,
            "the endpoint of this delivery was deleted, so the delivery cannot be retried",
        ));
    }
    let Delivery { endpoint, event, .. } = found.delivery;
    // It is judged again when the command is applied.
    if let Some(at) = call.api.engine.store.event(org, event)?.and_then(|known| known.erased_at) {
        return Err(erased(at));
    }
    let id = DeliveryId::of(event, found.delivery.endpoint_number);
    let note = Note {
        action: Action::DeliveryRetried,
        subject: Subject::Delivery(id),
        changes: vec![Changed::new("endpoint_id", &endpoint)],
    };
    let (at, trigger) = (call.api.steady(), Trigger::Retry);
    let retry = RetryDelivery { org, endpoint, event, at, only_dead: false, trigger };
    match call.commit_noted(retry, note).await? {
        RetryOutcome::Queued => {}
        RetryOutcome::Erased { at } => return Err(erased(at)),
        RetryOutcome::NotFound => return Err(absent()),
    }
    let (_, found) = named(call)?;
    if !call.may(Scope::DeliveriesRead) {
        return json(StatusCode::ACCEPTED, &Shown::of(&found.delivery, &call.api.engine.clock));
    }
    let api = web::Data::clone(&call.api);
    let details = call.run(move || details(&api, org, &found)).await?;
    json(StatusCode::ACCEPTED, &details)
}

fn erased(at: Timestamp) -> Problem {
    let detail = format!(
        "the payload of this delivery's event was erased at {at}, so the delivery cannot be retried"
    );
    Problem::new(Code::EventErased, detail)
}
