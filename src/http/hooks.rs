//! `/api/hooks`: Zapier's REST hooks. A subscription is an endpoint like any other, made and ended by the other side's
//! words for it (Zapier's documentation: subscribe answers 201 with an id, unsubscribe is `DELETE` on it).

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;

use super::body::Media;
use super::call::{Answer, Call, json, unexpected};
use super::endpoint_settings::Reading;
use super::endpoints::{BODY_BYTES_MAX, blank, put};
use super::error::Problem;
use super::fields::text_of;
use crate::model::command::{Command, DeleteEndpoint};
use crate::model::endpoint::{Endpoint, TypePattern};
use crate::model::id::EndpointId;
use crate::store::Outcome;

/// What tells a subscription from endpoints that were made otherwise: a member of its metadata.
const MADE_BY: (&str, &str) = ("made_by", "rest_hook");
/// The URL's names, as subscribers write them.
const URL_NAMES: [&str; 2] = ["target_url", "hookUrl"];

#[derive(Serialize)]
struct Subscribed<'a> {
    id: EndpointId,
    target_url: &'a str,
    event: Option<&'a str>,
}

/// `POST`: subscribes a URL to a type, or to all below one (`order.*`); without `event` to everything.
pub(super) async fn subscribe(call: &mut Call) -> Answer {
    let org = call.org()?;
    Media::require_json(call.request.headers())?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let (mut endpoint, _secret) = blank(call)?;
    let mut reading = Reading::of(text_of(&body)?, &call.api.egress)?;
    let name = URL_NAMES.into_iter().find(|name| reading.fields.has(name)).unwrap_or(URL_NAMES[0]);
    reading.url(name, true, &mut endpoint.settings);
    if let Some(field) = reading.fields.take("event", &mut reading.faults)
        && let Some(pattern) = field.parse(&mut reading.faults)
    {
        endpoint.settings.event_types = vec![pattern];
    }
    reading.finish()?;
    "REST hook".clone_into(&mut endpoint.settings.description);
    endpoint.settings.metadata = vec![(MADE_BY.0.to_owned(), MADE_BY.1.to_owned())];
    put(call, org, &endpoint).await?;
    let event = endpoint.settings.event_types.first().map(TypePattern::as_str);
    json(StatusCode::CREATED, &Subscribed { id: endpoint.id, target_url: &endpoint.settings.url, event })
}

/// `DELETE /{id}`: ends a subscription.
pub(super) async fn unsubscribe(call: &mut Call) -> Answer {
    let absent = || Problem::not_found("there is no such subscription");
    let org = call.org()?;
    let id: EndpointId = call.path("hook_id").parse().map_err(|_malformed| absent())?;
    let is_hook = |endpoint: &Endpoint| {
        endpoint.settings.metadata.iter().any(|(name, value)| (name.as_str(), value.as_str()) == MADE_BY)
    };
    let found = call.api.store.endpoint_of(org, id)?.filter(|(endpoint, _)| is_hook(endpoint));
    found.ok_or_else(absent)?;
    match call.commit(Command::DeleteEndpoint(DeleteEndpoint { org, endpoint: id })).await? {
        Outcome::Done => Ok(HttpResponse::NoContent().finish()),
        Outcome::NotFound => Err(absent()),
        other => Err(unexpected(&other)),
    }
}
