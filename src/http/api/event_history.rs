//! `GET /api/events`, `GET` and `DELETE /api/events/{event_id}`: lists events, acknowledged or not,
//! shows an event with its deliveries, and erases a payload.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use actix_web::web;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::clock::Clock;
use crate::base::failpoint::{self, Switch};
use crate::base::splice::Splice;
use crate::base::units::millis;
use crate::commands::{EraseEvent, EraseOutcome};
use crate::http::api::deliveries::Shown;
use crate::http::api::stored_event::{absent, event_page, inlined_event, item, read_page, stored};
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call, json, json_bytes};
use crate::http::error::{Code, Problem};
use crate::http::input::cursor::{self, List};
use crate::http::input::declare::{Parameters as _, query};
use crate::http::input::kinds::parsed;
use crate::http::input::lists::{Page, Span, paging, since_until};
use crate::http::input::presence::optional;
use crate::http::openapi::operation::{Operation, Reply, Tag};
use crate::http::openapi::schemas::{inlined, merged, schema_of};
use crate::http::shared::Api;
use crate::journal::Position;
use crate::model::event::EventStatus;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::key::Scope;
use crate::model::routing::{RouteReason, RoutingEnd};
use crate::model::time::Timestamp;
use crate::rules::breaker::BreakerView;
use crate::rules::type_filter::TypeFilter;
use crate::store::{
    Delivery, DeliveryQuery, DeliverySituation, EventQuery, EventSummary, NumberedEndpoint,
    Routing, Store,
};

/// Maximum number of batches in which an event's deliveries are searched. Each covers a thousand
/// of the endpoints existing since the event came or, if those are very many, of all endpoints
/// ever: then deliveries may be left out.
const BATCHES_MAX: usize = 64;
const BATCH: usize = 1_000;
/// Maximum number of searches for the deliveries of an event to erase.
const LOOKS_MAX: usize = 5;
/// Maximum number of deliveries shown with an event.
const DELIVERIES_MAX: usize = 5_000;

query! {
    /// The wanted events.
    struct EventsQuery {
        /// The page.
        page: Page<EventId> = paging(List::Events).by();
        /// Only events of these types.
        types: Option<TypeFilter> = optional("type", parsed());
        /// Only events with this status.
        status: Option<EventStatus> = optional("status", parsed());
        /// The time at which they were received.
        time: Span = since_until();
    }
}

pub(in crate::http) static LIST: Operation = Operation::new(
    "listEvents",
    Tag::Events,
    "List events",
    &[Reply::json(200, "A page of events, the newest first.", event_page)],
)
.query::<EventsQuery>();

pub(in crate::http) static SHOW: Operation = Operation::new(
    "showEvent",
    Tag::Events,
    "Show an event with its deliveries",
    &[Reply::json(200, "The event, and its state at each endpoint.", |schemas| {
        schemas.component("EventWithHistory", |schemas| {
            let (event, history) = (inlined_event(schemas), inlined::<History>(schemas));
            merged("An event, and its state at each endpoint.", [event, history])
        })
    })],
)
.about(
    "A key without `deliveries:read` does not see deliveries, and a key without `endpoints:read` \
     sees neither breakers nor the queries of URLs.",
);

pub(in crate::http) static ERASE: Operation = Operation::new(
    "eraseEvent",
    Tag::Events,
    "Erase the payload of an event",
    &[Reply::json(200, "The payload is shown nowhere any more.", schema_of::<Erasure>)],
);

/// `GET`: lists events, the newest first.
pub(in crate::http) async fn list(call: &mut Call) -> Answer {
    let org = call.org()?;
    let (wanted, mut query) = EventsQuery::draft(call.request.query_string());
    let (since, until) = wanted.time.of_query(call.now, &mut query);
    query.finish()?;
    let EventsQuery { page: Page { limit, after: before }, types, status, .. } = wanted;
    let types = types.unwrap_or_default();
    let wanted = EventQuery { before, limit, types, status, since, until };
    let (api, principal) = (web::Data::clone(&call.api), call.principal());
    // A lost payload does not stop the list.
    let read = move || {
        let found = api.engine.store.events(org, &wanted)?;
        read_page(&api, principal, &found, &|_removed| true)
    };
    let page = call.run_for_answer(read).await?;
    page.answer(List::Events, before.unwrap_or(cursor::NEWEST))
}

/// The scopes of the key, beside `events:read`, on which the answer depends.
#[derive(Clone, Copy)]
struct May {
    read_endpoints: bool,
    read_deliveries: bool,
}

/// The history of an event, shown behind its own members.
#[derive(Serialize, ToSchema)]
#[schema(as = EventHistory)]
struct History {
    in_inbox: bool,
    /// Deliveries of a suspended organization wait until the operator ends the suspension.
    organization_suspended: bool,
    /// Deliveries of the event, also to deleted endpoints. Absent if the key may not read
    /// deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<Vec<Shown>>,
    /// False if deliveries may be left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries_complete: Option<bool>,
    /// All existing endpoints of the organization.
    endpoints: Vec<Match>,
}

#[derive(Serialize)]
pub(super) struct Deliveries {
    /// Deliveries of the event, including deliveries to deleted endpoints.
    deliveries: Vec<Shown>,
    /// False if deliveries may be left out.
    deliveries_complete: bool,
}

impl Deliveries {
    pub(super) fn of(clock: &Clock, (found, deliveries_complete): (&[Delivery], bool)) -> Self {
        let deliveries = found.iter().map(|found| Shown::of(found, clock)).collect();
        Self { deliveries, deliveries_complete }
    }
}

/// An endpoint, and the recorded result of matching the event.
#[derive(Serialize, ToSchema)]
#[schema(as = EndpointMatch)]
struct Match {
    endpoint_id: EndpointId,
    /// Without its query if the key may not read endpoints.
    url: String,
    matched: bool,
    /// The reason why the event matched or did not.
    #[schema(value_type = RouteReason)]
    reason: &'static str,
    /// The state of the circuit breaker. Absent if the key may not read endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<BreakerState>,
    /// When the next attempt may begin; `null` unless the breaker is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Timestamp>)]
    breaker_until: Option<BreakerUntil>,
    /// The delivery to this endpoint; absent if the event did not match, or if the key may not read
    /// deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<Shown>,
}

impl Match {
    fn of(
        api: &Api,
        numbered: &NumberedEndpoint,
        (reason, delivery): (RouteReason, Option<&Delivery>),
        may: May,
    ) -> Self {
        let endpoint = &numbered.endpoint;
        let reason = match delivery {
            Some(_) if !reason.is_match() => RouteReason::Replayed,
            Some(_) | None => reason,
        };
        let settings = &endpoint.settings;
        let url =
            if may.read_endpoints { settings.url.as_str() } else { settings.url_without_query() };
        let shown = delivery.filter(|_| may.read_deliveries);
        let breaker = may.read_endpoints.then(|| breaker(api, endpoint.id));
        let (breaker, breaker_until) = breaker.unzip();
        let breaker_until = breaker_until.map(BreakerUntil);
        Self {
            endpoint_id: endpoint.id,
            url: url.to_owned(),
            matched: reason.is_match(),
            reason: reason.name(),
            breaker,
            breaker_until,
            delivery: shown.map(|found| Shown::of(found, &api.engine.clock)),
        }
    }
}

/// When the next attempt may begin, if the breaker is open.
#[derive(Serialize)]
struct BreakerUntil(Option<Timestamp>);

/// The state of a circuit breaker.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum BreakerState {
    Closed,
    Open,
    HalfOpen,
}

/// Returns the state of the endpoint's breaker, and when the next attempt may begin if it is open.
fn breaker(api: &Api, endpoint: EndpointId) -> (BreakerState, Option<Timestamp>) {
    match api.engine.breakers.of(endpoint) {
        BreakerView::Closed => (BreakerState::Closed, None),
        BreakerView::Open(until) => (BreakerState::Open, Some(until)),
        BreakerView::HalfOpen => (BreakerState::HalfOpen, None),
    }
}

/// `GET /{id}`: returns the event as in lists, its deliveries, and for each endpoint the reason why
/// the event matched or did not. Parts that need another scope than `events:read` are left out if
/// the key lacks it.
pub(in crate::http) async fn show(call: &mut Call) -> Answer {
    let org = call.org()?;
    let event: EventId = call.path("event_id").parse().map_err(|_malformed| absent())?;
    let known = call.api.engine.store.event(org, event)?.ok_or_else(absent)?;
    let api = web::Data::clone(&call.api);
    let may = May {
        read_endpoints: call.may(Scope::EndpointsRead),
        read_deliveries: call.may(Scope::DeliveriesRead),
    };
    let body = call.run(move || write(&api, (org, event), known, may)).await?;
    Ok(json_bytes(StatusCode::OK, body))
}

/// The routing of an event, as the journal has it.
enum Recorded {
    Waits,
    NoEndpoint,
    /// The routing ended in this way with the command at this position.
    Ended(RoutingEnd, Position),
}

impl Recorded {
    /// Reads the routing. Called after the deliveries are read: whoever sees a delivery sees the
    /// command that made it.
    fn read(api: &Api, org: OrgNo, event: EventId) -> Result<Self, Problem> {
        let position = match api.engine.store.routing(org, event)? {
            Some(Routing::Waits) => return Ok(Self::Waits),
            Some(Routing::NoEndpoint) | None => return Ok(Self::NoEndpoint),
            Some(Routing::Ended(position)) => position,
        };
        let end = api.engine.records.routing_end(event, position);
        let end = end.map_err(|error| Problem::unreadable(event, &error))?;
        Ok(Self::Ended(end, position))
    }

    /// Returns the reason for an endpoint that exists now.
    fn reason(&self, endpoint: &NumberedEndpoint) -> RouteReason {
        match self {
            Self::Waits => RouteReason::NotRoutedYet,
            Self::Ended(end, position) if endpoint.made < *position => end.reason(endpoint.number),
            Self::NoEndpoint | Self::Ended(..) => RouteReason::MadeLater,
        }
    }
}

fn write(
    api: &Api,
    (org, id): (OrgNo, EventId),
    known: EventSummary,
    may: May,
) -> Result<Vec<u8>, Problem> {
    let event = stored(api, org, (id, known.position))?;
    let (deliveries, deliveries_complete) = deliveries(&api.engine.store, org, id)?;
    let by_endpoint: HashMap<EndpointId, &Delivery> =
        deliveries.iter().map(|found| (found.endpoint, found)).collect();
    let routing = Recorded::read(api, org, id)?;
    let show = |endpoint: NumberedEndpoint| {
        let delivery = by_endpoint.get(&endpoint.endpoint.id).copied();
        Match::of(api, &endpoint, (routing.reason(&endpoint), delivery), may)
    };
    let endpoints = api.engine.store.numbered_endpoints(org)?.into_iter().map(show).collect();
    let shown = may.read_deliveries;
    let shown =
        shown.then(|| Deliveries::of(&api.engine.clock, (&deliveries, deliveries_complete)));
    let (deliveries, deliveries_complete) =
        shown.map(|shown| (shown.deliveries, shown.deliveries_complete)).unzip();
    let organization_suspended = api.engine.store.is_suspended(org)?;
    let in_inbox = known.in_inbox;
    let history =
        History { in_inbox, organization_suspended, deliveries, deliveries_complete, endpoints };
    let mut out = Vec::new();
    item((known.status, known.erased_at), &event, Splice::new(&mut out))
        .and_then(|object| object.members(&history))
        .map_err(|error| Problem::internal(&error))?
        .end();
    Ok(out)
}

/// An erased event.
#[derive(Serialize, ToSchema)]
struct Erasure {
    id: EventId,
    erased_at: Timestamp,
    /// The time from which no file of a server that runs has the bytes.
    gone_by: Timestamp,
}

/// `DELETE /{id}`: erases the payload. After the answer the payload is shown nowhere, and no new
/// attempt sends it. A repeated request has the same answer.
pub(in crate::http) async fn erase(call: &mut Call) -> Answer {
    let org = call.org()?;
    let event: EventId = call.path("event_id").parse().map_err(|_malformed| absent())?;
    let erase = call.api.settings.get().retention.erase;
    let erase_ms = millis(erase);
    let answer = |erased_at: Timestamp| {
        let gone_by = erased_at.plus_ms(erase_ms);
        json(StatusCode::OK, &Erasure { id: event, erased_at, gone_by })
    };
    if let Some(at) = call.api.engine.store.event(org, event)?.ok_or_else(absent)?.erased_at {
        return answer(at);
    }
    // An organization erases a single event at a time, because each can have a thousand deliveries
    // to cancel.
    let _apart = call.settings_lock(org).await?;
    for look in 0..LOOKS_MAX {
        let api = web::Data::clone(&call.api);
        let endpoints = call.run(move || under_way(&api, org, event, look)).await?;
        match call.commit(EraseEvent { org, event, endpoints, at: call.now }).await? {
            EraseOutcome::Erased { at } => {
                call.api.engine.metrics.events_erased.inc();
                audit::event_erased(call, event);
                return answer(at);
            }
            EraseOutcome::NotFound => return Err(absent()),
            // Many endpoints were deleted since the search.
            EraseOutcome::Incomplete => {}
        }
    }
    let detail = "endpoints of the organization were deleted again and again while the event was \
        being erased; nothing was erased; send the request again";
    Err(Problem::new(Code::Overloaded, detail))
}

/// Returns the endpoints to which the event is under way, or for which its delivery is a dead
/// letter. There are few, however many endpoints existed, so the search has no limit.
fn under_way(
    api: &Api,
    org: OrgNo,
    event: EventId,
    look: usize,
) -> Result<Vec<EndpointId>, Problem> {
    let mut endpoints = Vec::new();
    if look == 0 && failpoint::is_on(Switch::EraseLooksTooEarly) {
        return Ok(endpoints);
    }
    each_batch(&api.engine.store, (org, event), usize::MAX, |batch| {
        // A waiting delivery to a deleted endpoint is shown as canceled before the scheduler
        // cancels it.
        let is_under_way = |found: &&Delivery| found.situation != DeliverySituation::Delivered;
        endpoints.extend(batch.iter().filter(is_under_way).map(|found| found.endpoint));
    })?;
    Ok(endpoints)
}

/// Returns the deliveries of the event, and true if they are complete.
pub(super) fn deliveries(
    store: &Store,
    org: OrgNo,
    event: EventId,
) -> Result<(Vec<Delivery>, bool), Problem> {
    let mut found = Vec::new();
    let is_all = each_batch(store, (org, event), BATCHES_MAX, |batch| found.extend(batch))?;
    let is_all = is_all && found.len() <= DELIVERIES_MAX;
    found.truncate(DELIVERIES_MAX);
    Ok((found, is_all))
}

/// Reads the event's deliveries in at most `batches_max` batches. Returns true if these were all.
fn each_batch(
    store: &Store,
    (org, event): (OrgNo, EventId),
    batches_max: usize,
    mut take: impl FnMut(Vec<Delivery>),
) -> Result<bool, Problem> {
    let mut query = DeliveryQuery {
        status: None,
        endpoint: None,
        event: Some(event),
        since: None,
        until: None,
        after: None,
        limit: BATCH,
    };
    for _ in 0..batches_max {
        let page = store.deliveries(org, &query)?;
        take(page.items);
        query.after = page.next;
        if query.after.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}
