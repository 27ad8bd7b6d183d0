//! The audit log: lines about changes and refused logins, on which an operator can rely. A line
//! names things by their public ids, the actor (`admin`, or the id of a key), and the client's
//! address.

use crate::http::edge::auth::{Caller, shown};
use crate::http::edge::call::Call;
use crate::logging::AUDIT;
use crate::model::endpoint::Endpoint;
use crate::model::id::{EndpointId, EventId, KeyId, OrgId, ReplayId};
use crate::model::key::KeyText;

/// Returns the actor as text: `admin`, `anyone`, or the id of a key.
fn by(call: &Call) -> String {
    match &call.caller {
        Caller::Admin => "admin".to_owned(),
        Caller::Key(key) => key.key().id.to_string(),
        Caller::Anyone => "anyone".to_owned(),
    }
}

/// Returns the client's address as text, or `None` if the address is unknown.
fn address(call: &Call) -> Option<String> {
    call.client_address().map(|address| address.to_string())
}

/// Returns the id of the calling key's organization, or `None` without a key.
fn organization(call: &Call) -> Option<String> {
    call.key().ok().map(|key| key.org().id.to_string())
}

/// Records the creation of an organization.
pub(in crate::http) fn organization_made(call: &Call, organization: OrgId, name: &str) {
    let (by, address) = (by(call), address(call));
    tracing::info!(target: AUDIT, %organization, name, by, address, "an organization was created");
}

/// Records a change to a key; `what` is a past participle, such as `revoked`.
pub(in crate::http) fn key(call: &Call, organization: OrgId, key: KeyId, what: &'static str) {
    let (by, address) = (by(call), address(call));
    tracing::info!(target: AUDIT, %organization, %key, by, address, "a key was {what}");
}

/// Records a change to an endpoint. The URL is logged without its query, which may hold a token.
pub(in crate::http) fn endpoint(call: &Call, endpoint: &Endpoint, what: &'static str) {
    let (by, address, organization) = (by(call), address(call), organization(call));
    let url = endpoint.settings.url.split(['?', '#']).next().unwrap_or_default();
    tracing::info!(target: AUDIT, organization, endpoint = %endpoint.id, url, by, address, "an \
        endpoint was {what}");
}

/// Records the deletion of an endpoint.
pub(in crate::http) fn endpoint_deleted(call: &Call, endpoint: EndpointId) {
    let (by, address, organization) = (by(call), address(call), organization(call));
    tracing::info!(target: AUDIT, organization, %endpoint, by, address, "an endpoint was deleted");
}

/// Records the erasing of an event's payload.
pub(in crate::http) fn event_erased(call: &Call, event: EventId) {
    let (by, address, organization) = (by(call), address(call), organization(call));
    tracing::info!(target: AUDIT, organization, %event, by, address, "an event's payload was \
        erased");
}

/// Records a change to a replay; `what` is a past participle, such as `started`.
pub(in crate::http) fn replay(call: &Call, replay: ReplayId, what: &'static str) {
    let (by, address, organization) = (by(call), address(call), organization(call));
    tracing::info!(target: AUDIT, organization, %replay, by, address, "a replay was {what}");
}

/// Records a request without a valid key. If the request shows a well-formed key, the line has the
/// key's public id.
pub(in crate::http) fn not_authenticated(call: &Call, route: &str, request_id: &str) {
    let headers = call.request.headers();
    let has_key = shown(headers).next().is_some();
    let key = shown(headers)
        .find_map(|text| text.parse::<KeyText>().ok())
        .map(|text| text.id().to_string());
    let address = address(call);
    let method = call.request.method().as_str();
    tracing::warn!(key, has_key, address, method, route, request_id, "authentication failed");
}
