//! `/api/webhook/config`: the organization's default endpoint, the short way for one URL.

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::error::{Code, Problem};
use super::wire::{Reader, fault, members};
use super::{Api, body};
use crate::base::random;
use crate::model::command::{Command, DeleteEndpoint, PutEndpoint};
use crate::model::endpoint::{Endpoint, PATTERNS_MAX, Secret, TypePattern, URL_BYTES_MAX};
use crate::model::id::EndpointId;
use crate::store::Outcome;

const BODY_BYTES_MAX: usize = 64 << 10;

/// What is to be set.
struct Wanted {
    url: String,
    event_types: Vec<TypePattern>,
    enabled: bool,
}

/// Sets the endpoint; 201 with its secret when it is new, else 200 without.
pub(super) async fn post_config(
    api: Data<Api>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let caller = api.admit(&request, 1).await?;
    let bytes = body::json(&api, &request, payload, BODY_BYTES_MAX).await?;
    let wanted = read(&api, &bytes)?;
    let org = caller.org_no();
    let known = api.parts.store.default_endpoint(org)?;
    let is_new = known.is_none();
    let now = api.now();
    let base = known.unwrap_or_else(|| Endpoint {
        id: EndpointId(api.next_id()),
        url: String::new(),
        event_types: Vec::new(),
        enabled: true,
        is_default: true,
        secret: Secret::new(random::bytes()),
        created_at: now,
        updated_at: now,
    });
    let Wanted { url, event_types, enabled } = wanted;
    let endpoint = Endpoint { url, event_types, enabled, updated_at: now, ..base };
    match api.commit_one(Command::PutEndpoint(PutEndpoint { org, endpoint: endpoint.clone() })).await? {
        Outcome::Done => {}
        Outcome::LimitReached => {
            return Err(Problem::new(Code::LimitReached, "the organization has as many endpoints as it may have"));
        }
        other => return Err(Problem::internal(format!("setting an endpoint came to {other:?}"))),
    }
    let mut document = document(&endpoint);
    if let Some(members) = document.as_object_mut().filter(|_| is_new) {
        members.insert("secret".into(), json!(endpoint.secret.reveal()));
    }
    let mut answer = if is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(answer.json(document))
}

fn read(api: &Api, bytes: &[u8]) -> Result<Wanted, Problem> {
    let mut reader = Reader::new(members(bytes)?);
    let url = reader.parse("url", |text| {
        if text.len() <= URL_BYTES_MAX {
            Ok(text.to_owned())
        } else {
            Err(format!("may have {URL_BYTES_MAX} bytes at most"))
        }
    });
    let url = reader.require("url", url);
    let patterns: Vec<String> = reader.decode("event_types", "must be an array of texts").unwrap_or_default();
    if patterns.len() > PATTERNS_MAX {
        reader.faults.push(fault("/event_types", format!("may have {PATTERNS_MAX} patterns at most")));
    }
    let mut event_types = Vec::with_capacity(patterns.len());
    for (place, text) in patterns.iter().enumerate() {
        match text.parse() {
            Ok(pattern) => event_types.push(pattern),
            Err(detail) => reader.faults.push(fault(format!("/event_types/{place}"), detail)),
        }
    }
    let enabled = reader.decode("enabled", "must be true or false").unwrap_or(true);
    let wanted = reader.finish(url.map(|url| Wanted { url, event_types, enabled }))?;
    api.egress.judge_text(&wanted.url).map_err(|error| {
        let faults = vec![fault("/url", error.to_string())];
        Problem { errors: faults, ..Problem::new(Code::EgressBlocked, error.to_string()) }
    })?;
    Ok(wanted)
}

fn document(endpoint: &Endpoint) -> Value {
    let event_types: Vec<_> = endpoint.event_types.iter().map(TypePattern::as_str).collect();
    json!({
        "id": endpoint.id,
        "url": endpoint.url,
        "event_types": event_types,
        "enabled": endpoint.enabled,
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
    })
}

/// The endpoint, without its secret.
pub(super) async fn get_config(api: Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let caller = api.admit(&request, 1).await?;
    let endpoint = api.parts.store.default_endpoint(caller.org_no())?.ok_or_else(none_set)?;
    Ok(HttpResponse::Ok().json(document(&endpoint)))
}

/// Ends the endpoint; what waits for it is canceled.
pub(super) async fn delete_config(api: Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let caller = api.admit(&request, 1).await?;
    let org = caller.org_no();
    let endpoint = api.parts.store.default_endpoint(org)?.ok_or_else(none_set)?.id;
    match api.commit_one(Command::DeleteEndpoint(DeleteEndpoint { org, endpoint })).await? {
        Outcome::Done => Ok(HttpResponse::NoContent().finish()),
        _ => Err(none_set()),
    }
}

fn none_set() -> Problem {
    Problem::new(Code::NotFound, "no webhook is set; POST {\"url\": …} here sets one")
}
