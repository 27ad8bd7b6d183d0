//! `/api/webhook/config`: the organization's default endpoint, the short way for one URL.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;

use super::Api;
use super::body::Media;
use super::call::{Answer, Call, json, unexpected};
use super::error::{Code, Faults, Problem};
use super::fields::{Field, Fields, text_of};
use crate::base::random;
use crate::model::command::{Command, DeleteEndpoint, PutEndpoint};
use crate::model::endpoint::{Endpoint, PATTERNS_MAX, Secret, TypePattern, URL_BYTES_MAX};
use crate::model::id::EndpointId;
use crate::model::time::Timestamp;
use crate::rules::egress::EgressError;
use crate::store::Outcome;

/// A URL and a hundred patterns need no more.
const BODY_BYTES_MAX: usize = 64 << 10;

/// An endpoint as it is shown; the secret only when it is new.
#[derive(Serialize)]
struct Shown<'a> {
    id: EndpointId,
    url: &'a str,
    event_types: Vec<&'a str>,
    enabled: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

fn show_endpoint(status: StatusCode, endpoint: &Endpoint, secret: Option<String>) -> Answer {
    let shown = Shown {
        id: endpoint.id,
        url: &endpoint.url,
        event_types: endpoint.event_types.iter().map(TypePattern::as_str).collect(),
        enabled: endpoint.enabled,
        created_at: endpoint.created_at,
        updated_at: endpoint.updated_at,
        secret,
    };
    json(status, &shown)
}

fn absent() -> Problem {
    Problem::not_found("no URL is set")
}

/// `GET`: the endpoint.
pub(super) fn show(call: &Call) -> Answer {
    let endpoint = call.api.store.default_endpoint(call.org()?)?.ok_or_else(absent)?;
    show_endpoint(StatusCode::OK, &endpoint, None)
}

/// What is to be set.
struct Settings {
    url: String,
    event_types: Vec<TypePattern>,
    enabled: bool,
}

/// `POST`: sets the endpoint: 201 with its secret when there was none, else 200. What is left out gets its default: all
/// types, enabled.
pub(super) async fn set(call: &mut Call) -> Answer {
    let org = call.org()?;
    Media::require_json(call.request.headers())?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let settings = read(&call.api, text_of(&body)?)?;
    let Settings { url, event_types, enabled } = settings;
    let _apart = call.api.settings_lock(org).await;
    let before = call.api.store.default_endpoint(org)?;
    let is_new = before.is_none();
    let (id, secret, created_at) = match before {
        Some(before) => (before.id, before.secret.clone(), before.created_at),
        None => (EndpointId(call.api.new_id()), Secret::new(random::bytes()), call.now),
    };
    let endpoint =
        Endpoint { id, url, event_types, enabled, is_default: true, secret, created_at, updated_at: call.now };
    let command = Command::PutEndpoint(PutEndpoint { org, endpoint: endpoint.clone() });
    match call.commit(command).await? {
        Outcome::Done => {
            let (status, secret) =
                if is_new { (StatusCode::CREATED, Some(endpoint.secret.reveal())) } else { (StatusCode::OK, None) };
            show_endpoint(status, &endpoint, secret)
        }
        Outcome::LimitReached => {
            Err(Problem::new(Code::LimitReached, "the organization has as many endpoints as it may have"))
        }
        other => Err(unexpected(&other)),
    }
}

fn read(api: &Api, text: &str) -> Result<Settings, Problem> {
    let mut fields = Fields::read(text)?;
    let mut faults = Faults::default();
    let url = fields.require("url", &mut faults).and_then(|field| url_text(&field, &mut faults));
    let event_types = fields.take("event_types", &mut faults).and_then(|field| field.list(PATTERNS_MAX, &mut faults));
    let enabled = fields.take("enabled", &mut faults).and_then(|field| field.flag(&mut faults));
    fields.finish(&mut faults);
    let refused = url.as_ref().and_then(|url| api.egress.judge_text(url).err());
    if let Some(error @ (EgressError::NotAUrl(_) | EgressError::NoHost)) = &refused {
        faults.add("/url", error.to_string());
    }
    faults.into_result()?;
    if let Some(error) = refused {
        return Err(Problem::fault(Code::EgressBlocked, "/url", error.to_string()));
    }
    let (event_types, enabled) = (event_types.unwrap_or_default(), enabled.unwrap_or(true));
    Ok(Settings { url: url.unwrap_or_default(), event_types, enabled })
}

/// The text of a URL. The parser forgives spaces and control characters; what is stored has none.
fn url_text(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let text = field.text(faults)?;
    if text.len() > URL_BYTES_MAX {
        faults.add(field.pointer(), format!("must be at most {URL_BYTES_MAX} bytes"));
        return None;
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        faults.add(field.pointer(), "must not have spaces or control characters");
        return None;
    }
    Some(text.into_owned())
}

/// `DELETE`: nothing is pushed any more.
pub(super) async fn delete(call: &mut Call) -> Answer {
    let org = call.org()?;
    let _apart = call.api.settings_lock(org).await;
    let endpoint = call.api.store.default_endpoint(org)?.ok_or_else(absent)?.id;
    match call.commit(Command::DeleteEndpoint(DeleteEndpoint { org, endpoint })).await? {
        Outcome::Done => Ok(HttpResponse::NoContent().finish()),
        Outcome::NotFound => Err(absent()),
        other => Err(unexpected(&other)),
    }
}
