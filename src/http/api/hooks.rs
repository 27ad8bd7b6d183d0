//! `/api/hooks`: Zapier's REST hooks. A subscription is an ordinary endpoint, created and deleted
//! through the routes of Zapier's documentation: subscribing answers 201 with an id, unsubscribing
//! is `DELETE` on this id.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Serialize;

use crate::commands::{DeleteEndpoint, DeleteEndpointOutcome};
use crate::delivery::envelope::Body;
use crate::http::api::endpoint_settings::Reading;
use crate::http::api::endpoints::{BODY_BYTES_MAX, blank, put};
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call, PAGE_BYTES_MAX, json, json_bytes};
use crate::http::error::Problem;
use crate::http::input::body::Media;
use crate::http::input::fields::text_of;
use crate::http::input::query::Query;
use crate::http::shared::Api;
use crate::model::endpoint::{BodyForm, Endpoint, TypePattern};
use crate::model::event::StoredEvent;
use crate::model::id::{EndpointId, OrgNo};
use crate::rules::type_filter::TypeFilter;
use crate::store::EventQuery;

/// The member of the metadata that marks an endpoint as a subscription.
const MADE_BY: (&str, &str) = ("made_by", "rest_hook");
/// The names that subscribers use for the member with the URL.
const URL_NAMES: [&str; 2] = ["target_url", "hookUrl"];

/// Number of samples when the caller gives no `limit`.
const SAMPLES: u64 = 3;
/// Maximum number of pages that are searched for samples, because erased events are skipped.
const SAMPLE_PAGES_MAX: usize = 64;

#[derive(Serialize)]
struct Subscribed<'a> {
    id: EndpointId,
    target_url: &'a str,
    event: Option<&'a str>,
}

/// `POST`: subscribes a URL to an event type, or to all types below a prefix (`order.*`); without
/// `event` to all types.
pub(in crate::http) async fn subscribe(call: &mut Call) -> Answer {
    let org = call.org()?;
    Media::require_json(call.request.headers())?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let (mut endpoint, _secret) = blank(call)?;
    let live = call.api.settings.get();
    let mut reading = Reading::of(text_of(&body)?, &live.egress)?;
    let name = URL_NAMES.into_iter().find(|name| reading.fields.has(name)).unwrap_or(URL_NAMES[0]);
    reading.url(name, true, &mut endpoint.settings);
    for other in URL_NAMES {
        // A member that is `null` counts as absent.
        if reading.fields.take(other, &mut reading.faults).is_some() {
            let detail = format!("repeats `{name}`; send only one of them");
            reading.faults.add(format!("/{other}"), detail);
        }
    }
    if let Some(field) = reading.fields.take("event", &mut reading.faults)
        && let Some(pattern) = field.parse(&mut reading.faults)
    {
        endpoint.settings.event_types = vec![pattern];
    }
    reading.finish(&endpoint.settings)?;
    "REST hook".clone_into(&mut endpoint.settings.description);
    endpoint.settings.metadata = vec![(MADE_BY.0.to_owned(), MADE_BY.1.to_owned())];
    put(call, org, &endpoint, true).await?;
    audit::endpoint(call, &endpoint, "created");
    let event = endpoint.settings.event_types.first().map(TypePattern::as_str);
    json(
        StatusCode::CREATED,
        &Subscribed { id: endpoint.id, target_url: &endpoint.settings.url, event },
    )
}

/// `DELETE /{id}`: deletes the endpoint of a subscription.
pub(in crate::http) async fn unsubscribe(call: &mut Call) -> Answer {
    let absent = || Problem::not_found("this organization has no REST hook with this id");
    let org = call.org()?;
    let id: EndpointId = call.path("hook_id").parse().map_err(|_malformed| absent())?;
    let _apart = call.settings_lock(org).await?;
    let is_hook = |endpoint: &Endpoint| {
        endpoint
            .settings
            .metadata
            .iter()
            .any(|(name, value)| (name.as_str(), value.as_str()) == MADE_BY)
    };
    let found =
        call.api.engine.store.endpoint_of(org, id)?.filter(|(endpoint, _)| is_hook(endpoint));
    found.ok_or_else(absent)?;
    match call.commit(DeleteEndpoint { org, endpoint: id }).await? {
        DeleteEndpointOutcome::Deleted => {
            audit::endpoint_deleted(call, id);
            Ok(HttpResponse::NoContent().finish())
        }
        DeleteEndpointOutcome::NotFound => Err(absent()),
    }
}

/// `GET /samples`: returns the bodies that would be pushed for the newest events of the type,
/// newest first. The answer is an array even if there are no events.
pub(in crate::http) async fn samples(call: &mut Call) -> Answer {
    let org = call.org()?;
    let mut query = Query::read(call.request.query_string());
    let (event_type, limit) =
        (query.take::<TypePattern>("event"), query.number("limit", 1..=100, SAMPLES));
    query.finish()?;
    let limit = usize::try_from(limit).unwrap_or(1);
    // Operational events go only to callers that ask for their type.
    let takes_own = event_type.is_some();
    let types = event_type.map_or_else(TypeFilter::default, TypeFilter::from);
    let wanted = EventQuery { before: None, limit, types, status: None, since: None, until: None };
    let (api, principal) = (web::Data::clone(&call.api), call.principal());
    let read = move || {
        let part = api.bounds.answers.take(
            principal,
            PAGE_BYTES_MAX,
            api.config.intake.event_bytes_max.min(PAGE_BYTES_MAX),
        )?;
        Ok((read_samples(&api, org, wanted.clone(), (takes_own, part.amount()))?, part))
    };
    let (samples, mut part) = call.run_for_answer(read).await?;
    part.shrink_to(samples.len() as u64);
    let mut response = json_bytes(StatusCode::OK, samples);
    response.extensions_mut().insert(part);
    Ok(response)
}

/// Reads as many samples as the caller asked for, or fewer if more would exceed `bytes_max`. The
/// first sample is always included.
fn read_samples(
    api: &Api,
    org: OrgNo,
    mut wanted: EventQuery,
    (takes_own, bytes_max): (bool, u64),
) -> Result<Vec<u8>, Problem> {
    let mut bodies = Vec::new();
    let mut bytes = 0;
    for _ in 0..SAMPLE_PAGES_MAX {
        let page = api.engine.store.events(org, &wanted)?;
        let kept = page.items.iter().filter(|item| item.erased_at.is_none());
        for item in kept {
            let is_too_much = bytes + u64::from(item.bytes) > bytes_max && !bodies.is_empty();
            if is_too_much || bodies.len() >= wanted.limit {
                return Ok(as_list(&bodies));
            }
            let StoredEvent { id, received_at, event, .. } =
                match api.engine.records.event(item.id, item.position) {
                    Err(error) if error.is_removed() => continue,
                    other => other.map_err(|error| Problem::unreadable(item.id, &error))?,
                };
            if takes_own || !event.event_type.is_own() {
                let body = Body::of(BodyForm::Envelope, id, received_at, event)
                    .map_err(|error| Problem::internal(&error))?
                    .bytes;
                bytes += body.len() as u64;
                bodies.push(body);
            }
        }
        wanted.before = page.next;
        if bodies.len() >= wanted.limit || wanted.before.is_none() {
            break;
        }
    }
    Ok(as_list(&bodies))
}

fn as_list(bodies: &[Vec<u8>]) -> Vec<u8> {
    [b"[".to_vec(), bodies.join(&b','), b"]".to_vec()].concat()
}
