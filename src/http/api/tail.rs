//! `GET /api/tail`: the activity stream of an organization, as server-sent events (the HTML
//! standard, 9.2). Proxies know not to hold server-sent events back, unlike lines of JSON, and a
//! comment keeps the connection alive.
//!
//! The items are `start`, `event`, `attempt`, `missed` and `end`. No item contains a payload or a
//! receiver's answer.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::HeaderName;
use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use futures_util::stream;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::base::shares::Exhausted;
use crate::commit::{ActivityListener, Heard};
use crate::http::edge::call::{Answer, Call};
use crate::http::edge::handle::Handle;
use crate::http::error::{Code, Problem};
use crate::http::input::declare::{Parameters as _, query};
use crate::http::input::kinds::parsed;
use crate::http::input::presence::optional;
use crate::http::openapi::operation::{Operation, Reply, Tag};
use crate::http::shared::Api;
use crate::model::activity::{Activity, Attempted};
use crate::model::delivery::{AttemptError, DeadReason, DeliveryStatus, Verdict};
use crate::model::endpoint::DisabledReason;
use crate::model::event::EventType;
use crate::model::id::{DeliveryId, EndpointId, EventId, KeyId, OrgNo};
use crate::model::key::{Scope, Scopes};
use crate::model::time::Timestamp;
use crate::rules::type_filter::TypeFilter;

/// Interval at which the key is checked again: the stream ends within a second after its key.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time without an item after which a comment is written, so no proxy takes the connection for
/// dead.
const COMMENT_AFTER: Duration = Duration::from_secs(15);
/// Maximum number of items written at once, and the pause until the next items. This bounds the
/// cost of a stream; a slow watcher misses items.
const ITEMS_AT_ONCE: usize = 256;
const PAUSE: Duration = Duration::from_millis(100);
/// Seconds after which a stream may be available again.
const RETRY_AFTER_S: u64 = 30;
/// The header that keeps nginx from holding the stream back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

query! {
    /// The wanted activity.
    struct TailQuery {
        /// Only activity of events of these types.
        types: Option<TypeFilter> = optional("type", parsed());
        /// Only the attempts to this endpoint, for which the key needs `deliveries:read`.
        endpoint: Option<EndpointId> = optional("endpoint_id", parsed());
    }
}

pub(in crate::http) static TAIL: Operation = Operation::new(
    "watchActivity",
    Tag::Events,
    "Watch new events and attempts",
    &[Reply::of(
        200,
        "A stream of server-sent events: `start`, `event`, `attempt`, `missed` and `end`, each \
         with an object as its data. `x-stream-items` has the schema of each.",
        ("text/event-stream", |schemas| {
            let items = [
                ("start", schemas.of::<Start>()),
                ("event", schemas.of::<Event>()),
                ("attempt", schemas.of::<Attempt>()),
                ("missed", schemas.of::<Missed>()),
                ("end", schemas.of::<End>()),
            ];
            json!({"type": "string", "x-stream-items": serde_json::Map::from_iter(
                items.map(|(name, schema)| (name.to_owned(), schema)),
            )})
        }),
    )],
)
.query::<TailQuery>()
.refuses(&[Code::NotFound]);

/// The activity that a watcher wants to see and may see.
struct Wanted {
    types: TypeFilter,
    /// If set, only attempts to this endpoint are shown.
    endpoint: Option<EndpointId>,
    /// True if the key may see attempts.
    attempts: bool,
}

impl Wanted {
    /// Returns the scopes that the key needs as long as the stream is open.
    fn needs(&self) -> Scopes {
        let attempts = self.attempts.then_some(Scope::DeliveriesRead);
        attempts.into_iter().chain([Scope::EventsRead]).collect()
    }
}

/// `GET`: streams events with the scope `events:read`, and attempts only if the key has
/// `deliveries:read` too.
pub(in crate::http) fn tail(call: &mut Call) -> Answer {
    let key = call.key()?;
    let (org, id, attempts) =
        (key.org_no(), key.key().id, key.key().scopes.allows(Scope::DeliveriesRead));
    let TailQuery { types, endpoint } = TailQuery::read(call.request.query_string())?;
    let wanted = Wanted { types: types.unwrap_or_default(), endpoint, attempts };
    if let Some(endpoint) = wanted.endpoint {
        may_watch(call, endpoint)?;
    }
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream").insert_header((ACCEL_BUFFERING, "no"));
    if call.request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    let listener = call.api.engine.activity_stream.listen(org).map_err(too_many)?;
    call.waits();
    let tail = Tail::new(call, listener, (org, id), wanted);
    Ok(response.streaming(stream::unfold(tail, |mut tail| async move {
        let written = tail.next().await?;
        Some((Ok::<_, Infallible>(written), tail))
    })))
}

/// Checks that the key may see the attempts to this endpoint.
fn may_watch(call: &Call, endpoint: EndpointId) -> Result<(), Problem> {
    if !call.may(Scope::DeliveriesRead) {
        let scope = Scope::DeliveriesRead.name();
        let detail = format!(
            "the key lacks the scope {scope}, which endpoint_id needs; leave the parameter out, or \
             use a key with this scope"
        );
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let found = call.api.engine.store.endpoint_of(call.org()?, endpoint)?;
    let absent = || Problem::not_found("this organization has no endpoint with this id");
    found.map(drop).ok_or_else(absent)
}

fn too_many(why: Exhausted) -> Problem {
    let of_one = "the organization has too many open streams; close a stream first";
    Problem::exhausted(why, of_one, "too many streams are open on this server; try again later")
        .retry_after(RETRY_AFTER_S)
}

/// An open stream of one watcher.
struct Tail {
    api: web::Data<Api>,
    listener: ActivityListener,
    org: OrgNo,
    key: KeyId,
    wanted: Wanted,
    state: State,
    connection: Handle,
    look_at: Instant,
    comment_at: Instant,
    /// No item is written before this time.
    pause_until: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Running,
    Ended,
}

impl Tail {
    fn new(
        call: &Call,
        listener: ActivityListener,
        (org, key): (OrgNo, KeyId),
        wanted: Wanted,
    ) -> Self {
        let (api, connection, now) =
            (web::Data::clone(&call.api), call.connection.clone(), Instant::now());
        let (look_at, comment_at, pause_until) = (now + LOOK_EVERY, now + COMMENT_AFTER, now);
        Self {
            api,
            listener,
            org,
            key,
            wanted,
            state: State::New,
            connection,
            look_at,
            comment_at,
            pause_until,
        }
    }

    /// Returns the bytes to write next, or `None` when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        if self.state == State::New {
            self.state = State::Running;
            return Some(self.written(&[&Item::Start(Start { attempts: self.wanted.attempts })]));
        }
        while self.state == State::Running {
            // The key is checked first: a reader that was away for long gets nothing that its key
            // no longer opens.
            if let Some(reason) = self.end() {
                self.state = State::Ended;
                return Some(self.written(&[&Item::End(End { reason })]));
            }
            let pauses = Instant::now() < self.pause_until;
            tokio::select! {
                heard = self.listener.next(), if !pauses => {
                    let items = self.items(heard);
                    // The key may have ended while nothing happened.
                    if !items.is_empty() && self.end().is_none() {
                        return Some(self.written(&items.iter().collect::<Vec<_>>()));
                    }
                }
                () = tokio::time::sleep_until(self.pause_until), if pauses => {}
                () = self.api.engine.stop.stopped() => {}
                // A client that has finished sending does not watch any more.
                () = self.connection.left() => if !self.connection.makes_room() { return None },
                () = tokio::time::sleep_until(self.look_at) => {
                    self.look_at = Instant::now() + LOOK_EVERY;
                    if Instant::now() >= self.comment_at {
                        return Some(self.written(&[]));
                    }
                }
            }
        }
        None
    }

    /// Returns the reason for the end of the stream, or `None` if the stream goes on.
    fn end(&self) -> Option<&'static str> {
        if self.api.engine.stop.is_set() {
            return Some("shutting_down");
        }
        if self.connection.makes_room() {
            return Some("too_many_connections");
        }
        let judged = self.api.auth.judge(
            self.key,
            self.wanted.needs(),
            &self.api.engine.store,
            self.api.engine.now(),
        );
        match judged.map_err(|problem| problem.code()) {
            Ok(()) => None,
            Err(Code::Unauthorized | Code::Forbidden) => Some("key_ended"),
            Err(_unreadable) => Some("internal"),
        }
    }

    /// Makes items of `first` and of all waiting activity that passes the filter.
    fn items(&mut self, first: Heard) -> Vec<Item> {
        self.pause_until = Instant::now() + PAUSE;
        let mut heard = vec![first];
        while heard.len() < ITEMS_AT_ONCE
            && let Some(next) = self.listener.try_next()
        {
            heard.push(next);
        }
        let item = |heard| match heard {
            Heard::Activity(activity) => self.item(&activity),
            Heard::Missed(count) => Some(Item::Missed(Missed { count })),
        };
        heard.into_iter().filter_map(item).collect()
    }

    fn item(&self, activity: &Activity) -> Option<Item> {
        let is_wanted = |event_type: &EventType| self.wanted.types.matches(event_type);
        match activity {
            Activity::Accepted { event, event_type, received_at } => {
                let event =
                    Event { id: *event, r#type: event_type.clone(), received_at: *received_at };
                (self.wanted.endpoint.is_none() && is_wanted(event_type))
                    .then_some(Item::Event(event))
            }
            Activity::Attempted(attempted) => {
                let is_shown = self.wanted.attempts
                    && self.wanted.endpoint.is_none_or(|endpoint| endpoint == attempted.endpoint);
                if !is_shown {
                    return None;
                }
                let found = self.api.engine.store.attempt_target(
                    self.org,
                    attempted.endpoint,
                    attempted.event,
                );
                let target = found.ok().flatten().filter(|target| is_wanted(&target.event_type))?;
                let delivery = DeliveryId::of(attempted.event, target.endpoint_number);
                let mut shown =
                    Attempt::of(attempted, delivery, target.event_type, target.endpoint_lives);
                // The due time is a steady time, and is shown as a wall-clock time.
                shown.next_attempt_at = shown
                    .next_attempt_at
                    .map(|at| Timestamp(self.api.engine.clock.wall_ms_of(at.0)));
                Some(Item::Attempt(shown))
            }
        }
    }

    /// Returns the bytes of the items, or a comment if there are none.
    fn written(&mut self, items: &[&Item]) -> Bytes {
        self.comment_at = Instant::now() + COMMENT_AFTER;
        if items.is_empty() {
            return Bytes::from_static(b": nothing new\n\n");
        }
        let mut out = Vec::new();
        for item in items {
            let (name, data) = item.parts();
            // Ids, words and numbers: serializing cannot fail.
            let data = data.unwrap_or_default();
            out.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
        }
        out.into()
    }
}

enum Item {
    Start(Start),
    Event(Event),
    Attempt(Attempt),
    Missed(Missed),
    End(End),
}

impl Item {
    /// Returns the name of the item and its JSON.
    fn parts(&self) -> (&'static str, serde_json::Result<String>) {
        match self {
            Self::Start(data) => ("start", serde_json::to_string(data)),
            Self::Event(data) => ("event", serde_json::to_string(data)),
            Self::Attempt(data) => ("attempt", serde_json::to_string(data)),
            Self::Missed(data) => ("missed", serde_json::to_string(data)),
            Self::End(data) => ("end", serde_json::to_string(data)),
        }
    }
}

/// The first item of each stream: all later activity is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = TailStart)]
struct Start {
    /// True if the stream shows attempts.
    attempts: bool,
}

/// An event that was accepted.
#[derive(Serialize, ToSchema)]
#[schema(as = TailEvent)]
struct Event {
    id: EventId,
    r#type: EventType,
    received_at: Timestamp,
}

/// An attempt that ended.
#[derive(Serialize, ToSchema)]
#[schema(as = TailAttempt)]
struct Attempt {
    delivery_id: DeliveryId,
    event_id: EventId,
    event_type: EventType,
    endpoint_id: EndpointId,
    number: u32,
    started_at: Timestamp,
    duration_ms: u32,
    #[schema(required)]
    status: Option<u16>,
    #[schema(required)]
    error: Option<AttemptError>,
    /// The state of the delivery after the attempt.
    #[schema(value_type = DeliveryStatus)]
    state: &'static str,
    #[schema(required)]
    next_attempt_at: Option<Timestamp>,
    /// The reason why the delivery was given up.
    #[schema(required, value_type = Option<DeadReason>)]
    reason: Option<&'static str>,
    /// The reason why the endpoint is disabled from now on.
    #[schema(required, value_type = Option<DisabledReason>)]
    endpoint_disabled_reason: Option<&'static str>,
}

impl Attempt {
    fn of(
        attempted: &Attempted,
        delivery_id: DeliveryId,
        event_type: EventType,
        endpoint_lives: bool,
    ) -> Self {
        let (state, next_attempt_at, reason) = match attempted.verdict {
            Some(Verdict::Delivered) => ("delivered", None, None),
            Some(Verdict::RetryAt(at)) if endpoint_lives => ("retrying", Some(at), None),
            Some(Verdict::RetryAt(_)) | None => ("canceled", None, None),
            Some(Verdict::Dead(reason)) => ("dead", None, Some(DeadReason::name(reason))),
        };
        Self {
            delivery_id,
            event_id: attempted.event,
            event_type,
            endpoint_id: attempted.endpoint,
            number: attempted.number,
            started_at: attempted.started_at,
            duration_ms: attempted.duration_ms,
            status: attempted.status,
            error: attempted.error.clone(),
            state,
            next_attempt_at,
            reason,
            endpoint_disabled_reason: attempted.disables.map(DisabledReason::name),
        }
    }
}

/// Items that a slow reader missed.
#[derive(Serialize, ToSchema)]
#[schema(as = TailMissed)]
struct Missed {
    count: u64,
}

/// The last item of a stream.
#[derive(Serialize, ToSchema)]
#[schema(as = TailEnd)]
struct End {
    reason: &'static str,
}
