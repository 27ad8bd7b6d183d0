//! `/api/replays`: past events are delivered again, in the background.

use std::collections::BTreeSet;

use actix_web::http::StatusCode;
use actix_web::web;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::commands::{EndReplay, EndReplayOutcome, StartReplay, StartReplayOutcome};
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call, json, page};
use crate::http::error::{Code, Problem};
use crate::http::input::body::Media;
use crate::http::input::cursor::{self, List};
use crate::http::input::declare::{Body as _, Parameters as _, body, query};
use crate::http::input::fields::{CHAR_BYTES_MAX, text_of};
use crate::http::input::kinds::{list_of, parsed};
use crate::http::input::lists::{Page, Span, paging, since_until};
use crate::http::input::presence::{optional, required};
use crate::http::openapi::operation::{Content, Operation, Reply, Tag};
use crate::http::openapi::schemas::{page_of, schema_of};
use crate::http::shared::Api;
use crate::model::endpoint::{PATTERN_CHARS_MAX, PATTERNS_MAX, TypePattern};
use crate::model::id::{EndpointId, EventId, OrgNo, ReplayId};
use crate::model::key::Scope;
use crate::model::replay::{REPLAYS_RUNNING_MAX, ReplayEnd, ReplayOnly, ReplayRequest, ReplayWait};
use crate::model::time::Timestamp;
use crate::store::{Replay, Store};

/// Maximum size of a body, in bytes: a hundred patterns with every character escaped, and some room
/// for the rest.
const BODY_BYTES_MAX: usize = CHAR_BYTES_MAX * PATTERNS_MAX * PATTERN_CHARS_MAX + (4 << 10);

body! {
    /// A replay to start.
    struct ReplayOrder {
        /// `failed`: dead letters. `missing`: events that the endpoint wants now but never had a
        /// delivery of. `all`: all events that the endpoint wants now.
        only: Option<ReplayOnly> = required("only", parsed());
        /// The endpoint. Every enabled endpoint of the organization without this member.
        endpoint: Option<EndpointId> = optional("endpoint_id", parsed());
        /// The time at which the events were received.
        time: Span = since_until();
        /// Only events of these types.
        event_types: Option<Vec<TypePattern>> = optional("event_types", list_of(0..=PATTERNS_MAX));
    }
}

query! {
    /// The wanted replays.
    struct ReplaysQuery {
        /// The page.
        page: Page<EventId> = paging(List::Replays).by();
    }
}

pub(in crate::http) static START: Operation = Operation::new(
    "startReplay",
    Tag::Replays,
    "Deliver past events again, in the background",
    &[Reply::json(202, "The replay, which goes on.", schema_of::<Shown<'static>>)],
)
.body(&[Content::json::<ReplayOrder>(r#"{"only": "failed", "since": "1d"}"#)])
.refuses(&[Code::LimitReached, Code::NotFound]);

pub(in crate::http) static LIST: Operation = Operation::new(
    "listReplays",
    Tag::Replays,
    "List replays",
    &[Reply::json(
        200,
        "A page of the last hundred replays, the newest first.",
        page_of::<Shown<'static>>,
    )],
)
.query::<ReplaysQuery>();

pub(in crate::http) static SHOW: Operation = Operation::new(
    "showReplay",
    Tag::Replays,
    "Show a replay",
    &[Reply::json(200, "The replay.", schema_of::<Shown<'static>>)],
);

pub(in crate::http) static CANCEL: Operation = Operation::new(
    "cancelReplay",
    Tag::Replays,
    "Cancel a replay",
    &[Reply::json(
        200,
        "The replay, or a part of it for a key without `deliveries:read`.",
        |schemas| json!({"anyOf": [schemas.of::<Shown<'static>>(), schemas.of::<Canceled>()]}),
    )],
)
.about("Queued deliveries stay queued.");

/// The state of a replay.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ReplayState)]
enum State {
    Running,
    Finished,
    Canceled,
}

/// A replay.
#[derive(Serialize, ToSchema)]
#[schema(as = Replay)]
struct Shown<'a> {
    id: ReplayId,
    state: State,
    #[schema(required)]
    endpoint_id: Option<EndpointId>,
    #[schema(required)]
    since: Option<Timestamp>,
    /// The requested end, or the time of creation if the request had none.
    until: Timestamp,
    #[schema(value_type = Vec<TypePattern>)]
    event_types: Vec<&'a str>,
    #[schema(value_type = ReplayOnly)]
    only: &'static str,
    examined: u64,
    queued: u64,
    progress: f64,
    #[schema(required, value_type = Option<ReplayWait>)]
    waits_for: Option<&'static str>,
    /// Disabled endpoints that a replay to all endpoints passes over.
    skipped_endpoint_ids: &'a [EndpointId],
    created_at: Timestamp,
    #[schema(required)]
    finished_at: Option<Timestamp>,
    /// The reason why the replay was canceled.
    #[schema(required)]
    reason: Option<&'static str>,
}

impl<'a> Shown<'a> {
    fn of(replay: &'a Replay, api: &Api) -> Self {
        let Replay { request, ended, .. } = replay;
        let is_held = ended.is_none() && api.engine.intake.is_disk_low();
        let waits_for = if is_held { Some(ReplayWait::DiskFull) } else { replay.waits_for };
        let reason = ended.and_then(|(end, _)| end.cancel_reason());
        let state = match (ended, reason) {
            (None, _) => State::Running,
            (Some(_), None) => State::Finished,
            (Some(_), Some(_)) => State::Canceled,
        };
        Self {
            id: replay.id,
            state,
            endpoint_id: request.endpoint,
            since: request.since,
            until: request.until.unwrap_or(replay.created_at),
            event_types: request.event_types.iter().map(TypePattern::as_str).collect(),
            only: request.only.name(),
            examined: replay.examined,
            queued: replay.queued,
            progress: replay.progress,
            waits_for: waits_for.map(ReplayWait::name),
            skipped_endpoint_ids: &replay.skipped,
            created_at: replay.created_at,
            finished_at: ended.map(|(_, at)| at),
            reason,
        }
    }
}

fn absent() -> Problem {
    Problem::not_found("this organization has no replay with this id; the last hundred are kept")
}

/// Returns the replay that the path names.
fn named(call: &Call) -> Result<(OrgNo, Replay), Problem> {
    let org = call.org()?;
    let id: ReplayId = call.path("replay_id").parse().map_err(|_malformed| absent())?;
    Ok((org, call.api.engine.store.replay(org, id, call.api.steady())?.ok_or_else(absent)?))
}

/// `GET /{id}`: shows a replay.
pub(in crate::http) fn show(call: &Call) -> Answer {
    let (_, replay) = named(call)?;
    json(StatusCode::OK, &Shown::of(&replay, &call.api))
}

/// `GET`: lists the remembered replays, newest first.
pub(in crate::http) async fn list(call: &mut Call) -> Answer {
    let org = call.org()?;
    let Page { limit, after } = ReplaysQuery::read(call.request.query_string())?.page;
    let before = after.unwrap_or(cursor::NEWEST);
    let (api, now) = (web::Data::clone(&call.api), call.api.steady());
    let replays = call.run(move || Ok(api.engine.store.replays(org, now)?)).await?;
    let behind = replays.iter().filter(|replay| replay.id.0 < before.0);
    page(
        (limit, List::Replays.cursor(before)),
        behind.map(|replay| {
            (List::Replays.cursor(EventId(replay.id.0)), Shown::of(replay, &call.api))
        }),
    )
}

fn read(body: &[u8], store: &Store, org: OrgNo, now: Timestamp) -> Result<ReplayRequest, Problem> {
    let mut draft = ReplayOrder::draft(text_of(body)?, &[])?;
    let (since, until) = draft.body.time.of_body(now, &mut draft.faults);
    if let Some(id) = draft.body.endpoint
        && store.endpoint_of(org, id)?.is_none()
    {
        draft.faults.add("/endpoint_id", NO_ENDPOINT);
    }
    let ReplayOrder { only, endpoint, event_types, .. } = draft.finish()?;
    let only =
        only.ok_or_else(|| Problem::internal(&"a replay without `only` passed the checks"))?;
    let mut seen = BTreeSet::new();
    let mut event_types = event_types.unwrap_or_default();
    event_types.retain(|pattern| seen.insert(pattern.as_str().to_owned()));
    Ok(ReplayRequest { endpoint, since, until, event_types, only })
}

const NO_ENDPOINT: &str = "this organization has no endpoint with this id";

/// `POST`: starts a replay. The answer is 202, and the replay goes on in the background.
pub(in crate::http) async fn start(call: &mut Call) -> Answer {
    let org = call.org()?;
    Media::require_json(call.request.headers())?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let request = read(&body, &call.api.engine.store, org, call.now)?;
    let replay = ReplayId(call.api.new_id());
    let start = StartReplay { org, replay, request, at: call.now };
    match call.commit(start).await? {
        StartReplayOutcome::Started => audit::replay(call, replay, "started"),
        // The endpoint was deleted in the meantime.
        StartReplayOutcome::NotFound => {
            return Err(Problem::fault(Code::ValidationFailed, "/endpoint_id", NO_ENDPOINT));
        }
        StartReplayOutcome::LimitReached => {
            let detail = format!(
                "an organization can have at most {REPLAYS_RUNNING_MAX} running replays; wait \
                 until a replay ends, or cancel a replay"
            );
            return Err(Problem::new(Code::LimitReached, detail));
        }
    }
    let started =
        call.api.engine.store.replay(org, replay, call.api.steady())?.ok_or_else(absent)?;
    json(StatusCode::ACCEPTED, &Shown::of(&started, &call.api))
}

/// `DELETE /{id}`: cancels a replay. Queued deliveries stay queued. An ended replay does not
/// change.
pub(in crate::http) async fn cancel(call: &mut Call) -> Answer {
    let (org, replay) = named(call)?;
    if replay.ended.is_none() {
        let end = EndReplay { org, replay: replay.id, end: ReplayEnd::Requested, at: call.now };
        match call.commit(end).await? {
            EndReplayOutcome::Ended => audit::replay(call, replay.id, "canceled"),
            EndReplayOutcome::NotFound => return Err(absent()),
        }
    }
    if call.may(Scope::DeliveriesRead) {
        return show(call);
    }
    let (_, replay) = named(call)?;
    let Shown { id, state, finished_at, reason, .. } = Shown::of(&replay, &call.api);
    json(StatusCode::OK, &Canceled { id, state, finished_at, reason })
}

/// The answer to a key that may not read replays.
#[derive(Serialize, ToSchema)]
#[schema(as = ReplayCanceled)]
struct Canceled {
    id: ReplayId,
    state: State,
    #[schema(required)]
    finished_at: Option<Timestamp>,
    #[schema(required)]
    reason: Option<&'static str>,
}
