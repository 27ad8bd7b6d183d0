//! `/api/hooks`: Zapier's REST hooks. A subscription is an ordinary endpoint, created and deleted
//! through the routes of Zapier's documentation: subscribing answers 201 with an id, unsubscribing
//! is `DELETE` on this id.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::commands::{DeleteEndpoint, DeleteEndpointOutcome};
use crate::delivery::envelope::Body;
use crate::http::api::endpoint_settings::Reading;
use crate::http::api::endpoints::{BODY_BYTES_MAX, blank, put};
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call, PAGE_BYTES_MAX, json, json_bytes};
use crate::http::error::{Code, Problem};
use crate::http::input::body::Media;
use crate::http::input::declare::{Body as _, Parameters as _, body, query};
use crate::http::input::fields::{Fields, text_of};
use crate::http::input::kinds::{number, parsed, url};
use crate::http::input::presence::{optional, required};
use crate::http::openapi::operation::{Content, Operation, Reply, Tag};
use crate::http::openapi::schemas::schema_of;
use crate::http::openapi::webhooks::envelope;
use crate::http::shared::Api;
use crate::model::endpoint::{BodyForm, Endpoint, TypePattern, URL_BYTES_MAX};
use crate::model::event::StoredEvent;
use crate::model::id::{EndpointId, OrgNo};
use crate::rules::type_filter::TypeFilter;
use crate::store::EventQuery;

/// The member of the metadata that marks an endpoint as a subscription.
const MADE_BY: (&str, &str) = ("made_by", "rest_hook");

/// The names that subscribers use for the member with the URL.
const URL_NAME: &str = "target_url";
const URL_ALIAS: &str = "hookUrl";

/// Number of samples when the caller gives no `limit`.
const SAMPLES_DEFAULT: usize = 3;
/// Maximum number of pages that are searched for samples, because erased events are skipped.
const SAMPLE_PAGES_MAX: usize = 64;

body! {
    /// A subscription.
    struct Subscription {
        /// The URL that events are pushed to.
        url: Option<String> =
            required(URL_NAME, url(URL_BYTES_MAX)).or_named(URL_ALIAS);
        /// The event type, or all types below a prefix (`order.*`). Everything without this member.
        event: Option<TypePattern> = optional("event", parsed());
    }
}

query! {
    /// The wanted samples.
    struct SamplesQuery {
        /// Only events of this type, or below this prefix.
        event: Option<TypePattern> = optional("event", parsed());
        /// Maximum number of samples.
        limit: usize = optional("limit", number(1..=100)).or(SAMPLES_DEFAULT);
    }
}

pub(in crate::http) static SUBSCRIBE: Operation = Operation::new(
    "subscribeHook",
    Tag::RestHooks,
    "Subscribe a URL",
    &[Reply::json(201, "The subscription.", schema_of::<Subscribed<'static>>)],
)
.body(&[Content::json::<Subscription>(
    r#"{"target_url": "https://example.com/hook", "event": "order.created"}"#,
)])
.refuses(&[Code::EgressBlocked, Code::LimitReached, Code::NotFound]);

pub(in crate::http) static UNSUBSCRIBE: Operation = Operation::new(
    "unsubscribeHook",
    Tag::RestHooks,
    "End a subscription",
    &[Reply::empty(204, "The endpoint of the subscription is deleted.")],
);

pub(in crate::http) static SAMPLES: Operation = Operation::new(
    "listHookSamples",
    Tag::RestHooks,
    "Show bodies that would be pushed",
    &[Reply::json(
        200,
        "The bodies for the newest events, the newest first.",
        |schemas| json!({"type": "array", "items": envelope(schemas)}),
    )],
)
.query::<SamplesQuery>();

/// A new subscription.
#[derive(Serialize, ToSchema)]
struct Subscribed<'a> {
    id: EndpointId,
    target_url: &'a str,
    #[schema(required)]
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
    let fields = Fields::read(text_of(&body)?)?;
    let name = if fields.has(URL_ALIAS) { URL_ALIAS } else { URL_NAME };
    let (mut reading, body) = Reading::of(Subscription::draft_of(fields, &[]), &live.egress);
    reading.url(name, body.url, &mut endpoint.settings);
    endpoint.settings.event_types.extend(body.event);
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
    let SamplesQuery { event: event_type, limit } =
        SamplesQuery::read(call.request.query_string())?;
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
