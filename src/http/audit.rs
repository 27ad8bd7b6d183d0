//! Who changed what, and who was refused: lines in the log that an operator can rely on. They name things by the ids that
//! users know, who did it (`admin`, or the id of a key), and the address that it came from.

use super::auth::{Caller, shown};
use super::call::Call;
use crate::logging::AUDIT;
use crate::model::endpoint::Endpoint;
use crate::model::id::{EndpointId, EventId, KeyId, OrgId, ReplayId};
use crate::model::key::KeyText;

/// Who asks.
fn by(call: &Call) -> String {
    match &call.caller {
        Caller::Admin => "admin".to_owned(),
        Caller::Key(key) => key.key().id.to_string(),
        Caller::Anyone => "anyone".to_owned(),
    }
}

/// From where, as text; none if that is not known.
fn address(call: &Call) -> Option<String> {
    call.client_address().map(|address| address.to_string())
}

/// Whose, if a key asks.
fn organization(call: &Call) -> Option<String> {
    call.key().ok().map(|key| key.org().id.to_string())
}

/// An organization was made.
pub(super) fn organization_made(call: &Call, organization: OrgId, name: &str) {
    let (by, address) = (by(call), address(call));
    tracing::info!(target: AUDIT, %organization, name, by, address, "an organization was created");
}

/// What was done to a key.
pub(super) fn key(call: &Call, organization: OrgId, key: KeyId, what: &'static str) {
    let (by, address) = (by(call), address(call));
    tracing::info!(target: AUDIT, %organization, %key, by, address, "a key was {what}");
}

/// What was done to an endpoint. Its URL is told without its query, which may hold a token.
pub(super) fn endpoint(call: &Call, endpoint: &Endpoint, what: &'static str) {
    let (by, address, organization) = (by(call), address(call), organization(call));
    let url = endpoint.settings.url.split(['?', '#']).next().unwrap_or_default();
    tracing::info!(target: AUDIT, organization, endpoint = %endpoint.id, url, by, address, "an endpoint was {what}");
}

/// An endpoint was deleted.
pub(super) fn endpoint_deleted(call: &Call, endpoint: EndpointId) {
    let (by, address, organization) = (by(call), address(call), organization(call));
    tracing::info!(target: AUDIT, organization, %endpoint, by, address, "an endpoint was deleted");
}

/// An event's payload was erased.
pub(super) fn event_erased(call: &Call, event: EventId) {
    let (by, address, organization) = (by(call), address(call), organization(call));
    tracing::info!(target: AUDIT, organization, %event, by, address, "an event's payload was erased");
}

/// What was done to a replay.
pub(super) fn replay(call: &Call, replay: ReplayId, what: &'static str) {
    let (by, address, organization) = (by(call), address(call), organization(call));
    tracing::info!(target: AUDIT, organization, %replay, by, address, "a replay was {what}");
}

/// No valid key. Which one was shown is told by its public id, if it is one of ours at all.
pub(super) fn not_authenticated(call: &Call, route: &str, request_id: &str) {
    let headers = call.request.headers();
    let has_key = shown(headers).next().is_some();
    let key = shown(headers).find_map(|text| text.parse::<KeyText>().ok()).map(|text| text.id().to_string());
    let address = address(call);
    let method = call.request.method().as_str();
    tracing::warn!(key, has_key, address, method, route, request_id, "authentication failed");
}
