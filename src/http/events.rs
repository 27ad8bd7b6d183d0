//! `POST /api/events` and `/api/events/batch`: taking events in.

use actix_web::web::{Bytes, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::value::RawValue;

use super::auth::Admitted;
use super::error::{Code, Problem};
use super::wire::{self, DedupScope, Members};
use super::{Api, body, cloudevents, edge};
use crate::model::command::{Command, SubmitEvent};
use crate::model::event::NewEvent;
use crate::model::id::EventId;
use crate::model::time::Timestamp;
use crate::store::Outcome;

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// 202 with the new event's id, 200 with the first one's for a duplicate.
pub(super) async fn post_event(
    api: Data<Api>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let caller = api.admit(&request, 1).await?;
    let media_type = body::media_type(&request);
    let is_binary = cloudevents::is_binary(&request);
    if !is_binary && media_type != "application/json" && media_type != cloudevents::STRUCTURED {
        return Err(body::not_understood(&media_type, "application/json (or application/cloudevents+json)"));
    }
    let bytes = body::read(&api, &request, payload, api.parts.config.intake.event_bytes_max).await?;
    let scope = dedup_scope(&api, &caller);
    let event = if is_binary {
        cloudevents::binary(&request, &media_type, &bytes, scope)
    } else if media_type == cloudevents::STRUCTURED {
        cloudevents::structured(wire::members(&bytes)?, scope)
    } else {
        wire::event(wire::members(&bytes)?, idempotency_key(&request)?, scope)
    }?;
    let outcome = api.commit_one(submit(&caller, event)).await?;
    let result = Accepted::of(&api, &outcome)?;
    let status = if result.duplicate { "duplicate" } else { "accepted" };
    let Accepted { id, received_at, duplicate } = result;
    let mut answer = if duplicate { HttpResponse::Ok() } else { HttpResponse::Accepted() };
    Ok(answer
        .content_type("application/json")
        .body(format!(r#"{{"id":"{id}","status":"{status}","duplicate":{duplicate},"received_at":"{received_at}"}}"#)))
}

fn dedup_scope(api: &Api, caller: &Admitted) -> DedupScope {
    let window_ms = u64::try_from(api.parts.config.dedup.window.as_millis()).unwrap_or(u64::MAX);
    DedupScope { org: caller.org_no(), window_start: api.now().minus_ms(window_ms) }
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    let Some(value) = request.headers().get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = str::from_utf8(value.as_bytes());
    text.map(Some).map_err(|_not_text| Problem::new(Code::InvalidRequest, "the header Idempotency-Key must be UTF-8"))
}

/// The committer gives it its id and time.
fn submit(caller: &Admitted, event: NewEvent) -> Command {
    let (id, received_at) = (EventId(0), Timestamp(0));
    Command::SubmitEvent(Box::new(SubmitEvent { org: caller.org_no(), id, received_at, event }))
}

/// A stored event.
struct Accepted {
    id: EventId,
    received_at: Timestamp,
    duplicate: bool,
}

impl Accepted {
    /// What the committer says, counted.
    fn of(api: &Api, outcome: &Outcome) -> Result<Self, Problem> {
        let metrics = &api.parts.metrics;
        match *outcome {
            Outcome::Accepted { id, received_at } => {
                metrics.events_accepted.inc();
                Ok(Self { id, received_at, duplicate: false })
            }
            Outcome::Duplicate { id, received_at } => {
                metrics.events_duplicate.inc();
                Ok(Self { id, received_at, duplicate: true })
            }
            Outcome::Mismatch { id } => {
                let detail = format!("this dedup id was used for {id}, which has another type or payload");
                Err(Problem { event_id: Some(id), ..Problem::new(Code::DedupMismatch, detail) })
            }
            Outcome::NotFound => Err(Problem::not_found()),
            Outcome::Done | Outcome::OrgCreated(_) | Outcome::Acknowledged { .. } | Outcome::LimitReached => {
                Err(Problem::internal("an event came to nothing"))
            }
        }
    }
}

/// Up to a thousand events; each stands alone, and the answers come in their order.
pub(super) async fn post_batch(
    api: Data<Api>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let caller = api.auth.admit(&api, &request).await?;
    let media_type = body::media_type(&request);
    let is_cloud = media_type == cloudevents::BATCHED;
    if !is_cloud && media_type != "application/json" {
        return Err(body::not_understood(&media_type, "application/json (or application/cloudevents-batch+json)"));
    }
    let bytes = body::read(&api, &request, payload, api.parts.config.intake.batch_bytes_max).await?;
    let items = if is_cloud { cloud_items(&bytes)? } else { own_items(&bytes)? };
    let most = api.parts.config.intake.batch_events_max;
    if items.len() > most {
        let detail = format!("may have {most} events at most, and has {}", items.len());
        return Err(Problem::validation(vec![wire::fault(if is_cloud { "" } else { "/events" }, detail)]));
    }
    api.limits.charge(&api, &request, &caller, items.len().max(1) as u64)?;
    let scope = dedup_scope(&api, &caller);
    let parsed: Vec<_> = items.into_iter().map(|item| parse_item(&api, item, is_cloud, scope)).collect();
    let (mut commands, mut places) = (Vec::new(), Vec::with_capacity(parsed.len()));
    for item in parsed {
        places.push(item.map(|event| commands.push(submit(&caller, event))));
    }
    let outcomes = if commands.is_empty() { Vec::new() } else { api.commit(commands).await? };
    Ok(answer_batch(&api, places, outcomes))
}

fn own_items(bytes: &Bytes) -> Result<Vec<&RawValue>, Problem> {
    let mut reader = wire::Reader::new(wire::members(bytes)?);
    let events = reader.take("events");
    let events = reader.require("events", events);
    let items = events.and_then(|events| {
        let items: Result<Vec<&RawValue>, _> = serde_json::from_str(events.get());
        items.map_err(|_no_array| reader.faults.push(wire::fault("/events", "must be an array of events"))).ok()
    });
    reader.finish(items)
}

fn cloud_items(bytes: &Bytes) -> Result<Vec<&RawValue>, Problem> {
    let json: &RawValue = serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(Code::MalformedJson, format!("not JSON: {error}")))?;
    serde_json::from_str(json.get())
        .map_err(|_no_array| Problem::validation(vec![wire::fault("", "must be an array of CloudEvents")]))
}

fn parse_item(api: &Api, item: &RawValue, is_cloud: bool, scope: DedupScope) -> Result<NewEvent, Problem> {
    let bytes_max = api.parts.config.intake.event_bytes_max;
    if item.get().len() > bytes_max {
        return Err(Problem::new(Code::PayloadTooLarge, format!("an event may have {bytes_max} bytes at most")));
    }
    let members: Members<'_> = wire::members(item.get().as_bytes())?;
    if is_cloud { cloudevents::structured(members, scope) } else { wire::event(members, None, scope) }
}

fn answer_batch(api: &Api, places: Vec<Result<(), Problem>>, outcomes: Vec<Outcome>) -> HttpResponse {
    let mut outcomes = outcomes.into_iter();
    let results = places.into_iter().enumerate().map(|(index, place)| {
        let outcome = |()| Accepted::of(api, &outcomes.next().unwrap_or(Outcome::NotFound));
        match place.and_then(outcome) {
            Ok(Accepted { id, received_at, duplicate }) => {
                let status = if duplicate { "duplicate" } else { "accepted" };
                format!(r#"{{"index":{index},"status":"{status}","id":"{id}","received_at":"{received_at}"}}"#)
            }
            Err(problem) => {
                edge::count_rejection(&api.parts.metrics, problem.code);
                let id = problem.event_id.map(|id| format!(r#","id":"{id}""#)).unwrap_or_default();
                format!(r#"{{"index":{index},"status":"rejected"{id},"error":{}}}"#, problem.document(None))
            }
        }
    });
    let results = results.collect::<Vec<_>>().join(",");
    HttpResponse::Ok().content_type("application/json").body(format!(r#"{{"results":[{results}]}}"#))
}
