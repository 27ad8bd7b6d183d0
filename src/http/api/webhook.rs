//! `/api/webhook/config`: the organization's default endpoint, the short way for one URL.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;

use crate::commands::{DeleteEndpoint, DeleteEndpointOutcome};
use crate::http::api::endpoint_settings::{Reading, enabled, patterns};
use crate::http::api::endpoints::{BODY_BYTES_MAX, Shown, blank, changed, changed_schema, put};
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call, json};
use crate::http::error::{Code, Problem};
use crate::http::input::body::Media;
use crate::http::input::declare::{Body as _, body};
use crate::http::input::fields::text_of;
use crate::http::input::kinds::url;
use crate::http::input::presence::required;
use crate::http::openapi::operation::{Content, Operation, Reply, Tag};
use crate::http::openapi::schemas::schema_of;
use crate::model::endpoint::{Endpoint, TypePattern, URL_BYTES_MAX};

body! {
    /// The default endpoint. Members that are left out get their defaults.
    struct DefaultEndpoint {
        /// `http` or `https`, without user and password. It must lead to a public address.
        url: Option<String> = required("url", url(URL_BYTES_MAX));
        /// The types that are pushed; the empty list means everything that producers post.
        event_types: Option<Vec<TypePattern>> = patterns();
        /// False if nothing is pushed.
        enabled: Option<bool> = enabled();
    }
}

pub(in crate::http) static SHOW: Operation = Operation::new(
    "showDefaultEndpoint",
    Tag::Endpoints,
    "Show the default endpoint",
    &[Reply::json(200, "The endpoint.", schema_of::<Shown<'static>>)],
)
.refuses(&[Code::NotFound]);

pub(in crate::http) static SET: Operation = Operation::new(
    "setDefaultEndpoint",
    Tag::Endpoints,
    "Set the default endpoint, the short way for one URL",
    &[
        Reply::json(201, "The new endpoint with its secret.", schema_of::<Shown<'static>>),
        Reply::json(200, "The endpoint that there was, changed.", changed_schema),
    ],
)
.body(&[Content::json::<DefaultEndpoint>(r#"{"url": "https://example.com/hook"}"#)])
.refuses(&[Code::EgressBlocked, Code::LimitReached, Code::NotFound]);

pub(in crate::http) static DELETE: Operation = Operation::new(
    "deleteDefaultEndpoint",
    Tag::Endpoints,
    "Delete the default endpoint",
    &[Reply::empty(204, "The endpoint is deleted.")],
)
.refuses(&[Code::NotFound]);

fn absent() -> Problem {
    Problem::not_found("the organization has no default endpoint; POST its URL to this path first")
}

/// `GET`: shows the default endpoint.
pub(in crate::http) fn show(call: &Call) -> Answer {
    let endpoint = call.api.engine.store.default_endpoint(call.org()?)?.ok_or_else(absent)?;
    json(StatusCode::OK, &Shown::of(&endpoint, None))
}

/// `POST`: sets the default endpoint. The answer is 201 with the secret if there was no endpoint,
/// else 200. Members that are left out get their defaults: all types, enabled. Settings of
/// `/api/endpoints` stay, except for the values of headers when the URL moves to another origin.
pub(in crate::http) async fn set(call: &mut Call) -> Answer {
    let org = call.org()?;
    Media::require_json(call.request.headers())?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let _apart = call.settings_lock(org).await?;
    let before = call.api.engine.store.default_endpoint(org)?;
    let (mut endpoint, secret) = match &before {
        Some(before) => (Endpoint::clone(before), None),
        None => blank(call).map(|(endpoint, secret)| (endpoint, Some(secret)))?,
    };
    (endpoint.is_default, endpoint.disabled) = (true, None);
    endpoint.settings.event_types.clear();
    let live = call.api.settings.get();
    let (mut reading, body) =
        Reading::of(DefaultEndpoint::draft(text_of(&body)?, &[])?, &live.egress);
    reading.url("url", body.url, &mut endpoint.settings);
    reading.basics((body.event_types, body.enabled), &mut endpoint);
    if let Some(before) = &before {
        reading.unchanged(&Shown::of(before, None))?;
    }
    let headers_dropped = reading.finish(&endpoint.settings)?.headers_dropped;
    if before.is_none_or(|before| *before != endpoint) {
        endpoint.updated_at = call.now;
        put(call, org, &endpoint, true).await?;
        audit::endpoint(call, &endpoint, if secret.is_some() { "created" } else { "changed" });
    }
    let is_new = secret.is_some();
    let shown = Shown::of(&endpoint, secret).without(headers_dropped);
    if is_new { json(StatusCode::CREATED, &shown) } else { changed(call, &shown) }
}

/// `DELETE`: deletes the default endpoint.
pub(in crate::http) async fn delete(call: &mut Call) -> Answer {
    let org = call.org()?;
    let _apart = call.settings_lock(org).await?;
    let endpoint = call.api.engine.store.default_endpoint(org)?.ok_or_else(absent)?.id;
    match call.commit(DeleteEndpoint { org, endpoint }).await? {
        DeleteEndpointOutcome::Deleted => {
            audit::endpoint_deleted(call, endpoint);
            Ok(HttpResponse::NoContent().finish())
        }
        DeleteEndpointOutcome::NotFound => Err(absent()),
    }
}
