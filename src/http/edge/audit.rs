//! Lines of the log about changes and about refused requests. A line names things by their public
//! ids, the actor (`admin`, or the id of a key), and the client's address. An operator can rely on
//! the lines about changes, which make the audit log; the others are damped.

use std::net::SocketAddr;
use std::path::Path;

use tracing::field::display;

use crate::commands::{ChangeOrg, NoteAudit};
use crate::commit::CommitError;
use crate::http::edge::auth::{Caller, Who, shown};
use crate::http::edge::call::Call;
use crate::http::edge::refused_admin::Refused;
use crate::http::error::{Code, Problem};
use crate::logging::{AUDIT, FLOODS};
use crate::model::audit::{Action, Actor, AuditEntry, Changed, Note, Subject};
use crate::model::endpoint::Endpoint;
use crate::model::id::{EndpointId, EventId, KeyId, OrgId, ReplayId};
use crate::model::key::KeyText;
use crate::model::org::InboxMode;
use crate::model::time::Timestamp;

/// The target of lines about refused requests, unless the refusal depends on the load (`FLOODS`).
const REFUSED: &str = "triggerd::http::refused";
/// Maximum length of a path in a line, in characters.
const PATH_CHARS_MAX: usize = 200;
/// The beginnings of keys, of the admin token, and of endpoints' secrets.
const SECRET_PREFIXES: [&str; 3] = ["trg_", ADMIN_TOKEN_PREFIX, "whsec_"];
const ADMIN_TOKEN_PREFIX: &str = "trgadm_";

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

/// Records a change to an organization, with its new settings.
pub(in crate::http) fn organization_changed(call: &Call, organization: OrgId, new: &ChangeOrg) {
    let (by, address) = (by(call), address(call));
    let ChangeOrg { name, tier, inbox_mode, suspended, .. } = new;
    let (tier, inbox_mode) = (tier.map(display), inbox_mode.map(InboxMode::name));
    tracing::info!(target: AUDIT, %organization, name, tier, inbox_mode, suspended, by, address,
        "an organization was changed");
}

/// Records that the deletion of an organization begins.
pub(in crate::http) fn organization_deleted(call: &Call, organization: OrgId) {
    let (by, address) = (by(call), address(call));
    tracing::info!(target: AUDIT, %organization, by, address, "the deletion of an organization has \
        begun");
}

/// Records a change to a key; `what` is a past participle, such as `revoked`.
pub(in crate::http) fn key(call: &Call, organization: OrgId, key: KeyId, what: &'static str) {
    let (by, address) = (by(call), address(call));
    tracing::info!(target: AUDIT, %organization, %key, by, address, "a key was {what}");
}

/// Records a change to an endpoint. The URL is logged without its query, which may hold a token.
pub(in crate::http) fn endpoint(call: &Call, endpoint: &Endpoint, what: &'static str) {
    let (by, address, organization) = (by(call), address(call), organization(call));
    let url = endpoint.settings.url_without_query();
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

/// Records that the operator asks for a backup, in a directory or as a stream. The entry is stored
/// before the backup begins.
pub(in crate::http) async fn backup(call: &Call, directory: Option<&Path>) -> Result<(), Problem> {
    let (by, address) = (by(call), address(call));
    let directory = directory.map(|directory| directory.display().to_string());
    let changes = directory.iter().map(|directory| Changed::new("directory", directory)).collect();
    let note = Note { action: Action::BackupRequested, subject: Subject::Backup, changes };
    store(call, note).await?;
    tracing::info!(target: AUDIT, directory, by, address, "a backup was asked for");
    Ok(())
}

/// Records that the operator asks for the events of all organizations, before they are read.
pub(in crate::http) async fn archive(
    call: &Call,
    (since, until): (Option<Timestamp>, Option<Timestamp>),
) -> Result<(), Problem> {
    let (by, address) = (by(call), address(call));
    let time = [("since", since), ("until", until)];
    let changes =
        time.iter().filter_map(|(name, at)| Some(Changed::new(name, at.as_ref()?))).collect();
    let note = Note { action: Action::ArchiveRequested, subject: Subject::Archive, changes };
    store(call, note).await?;
    tracing::info!(target: AUDIT, by, address, "an archive of events was asked for");
    Ok(())
}

/// Records that the operator asks for a drill, before it begins.
pub(in crate::http) async fn drill(call: &Call) -> Result<(), Problem> {
    let (by, address) = (by(call), address(call));
    let note = Note { action: Action::DrillRequested, subject: Subject::Backup, changes: vec![] };
    store(call, note).await?;
    tracing::info!(target: AUDIT, by, address, "a drill was asked for");
    Ok(())
}

/// Makes an entry about the server as a whole. The committer sets the time.
fn entry(call: &Call, actor: Actor, note: Note) -> NoteAudit {
    let origin = Some(call.origin());
    NoteAudit::new(AuditEntry { at: Timestamp(0), actor, origin, organization: None, note })
}

/// Stores an entry about what the operator asks for.
async fn store(call: &Call, note: Note) -> Result<(), Problem> {
    let pending = call.api.engine.intake.submit(entry(call, Actor::Operator, note))?;
    match pending.outcome().await {
        Ok(()) => Ok(()),
        Err(CommitError::Refused(refused)) => Err(refused.into()),
        Err(CommitError::NotAllowed(_)) => Err(Problem::internal(&"an entry was not allowed")),
    }
}

/// Adds a request that tried to pass for the operator to the audit log; see [`RefusedAdmin`]. While
/// the disk is short, such requests are only counted.
///
/// [`RefusedAdmin`]: super::refused_admin::RefusedAdmin
pub(in crate::http) fn refused_admin(call: &Call, problem: &Problem) {
    let is_refused = matches!(problem.code(), Code::Unauthorized | Code::Forbidden);
    let has_token =
        || shown(call.request.headers()).any(|(_, text)| text.starts_with(ADMIN_TOKEN_PREFIX));
    let intake = &call.api.engine.intake;
    if !is_refused || (call.who != Who::Admin && !has_token()) || intake.is_disk_low() {
        return;
    }
    let uptime_ms = call.api.engine.clock.uptime_ms();
    let refused = call.api.refused_admin.count(call.client_address(), uptime_ms);
    let Some(note) = refused.map(Refused::note) else { return };
    let actor = call.key().map_or(Actor::Unknown, |key| Actor::Key(key.key().id));
    if let Err(refused) = intake.submit(entry(call, actor, note)) {
        tracing::debug!(%refused, "a refused request is missing in the audit log");
    }
}

/// A refused request, as its line shows it.
pub(in crate::http) struct RefusedRequest<'a> {
    pub(in crate::http) request_id: &'a str,
    pub(in crate::http) traceparent: Option<&'a str>,
    /// The path in the table of routes.
    pub(in crate::http) route: &'a str,
    pub(in crate::http) problem: &'a Problem,
}

/// Records a refused request, in one line with the reason's code. A busy server refuses any number
/// of requests a second, and every client can be refused any number of times, so these lines are
/// damped: refusals that depend on the load have at most one line a second.
pub(in crate::http) fn refused(call: &Call, refused: &RefusedRequest<'_>) {
    let RefusedRequest { request_id, traceparent, route, problem } = *refused;
    let (address, key, organization) = (address(call), key_id(call), organization(call));
    let (method, path) = (call.request.method().as_str(), shown_path(call.request.path()));
    let (status, code) = (problem.code().status(), problem.code().word());
    let headers = call.request.headers();
    match (problem.cause(), problem.code()) {
        (Some(cause), _) => tracing::error!(
            target: REFUSED, request_id, traceparent, address, method, path, route, status, code,
            key, organization, cause, "request failed"
        ),
        // The line has the public id of the key in the request, if that key is well-formed.
        (None, Code::Unauthorized) => {
            let has_key = shown(headers).next().is_some();
            let key = shown(headers).find_map(|(_, text)| text.parse::<KeyText>().ok());
            let key = key.map(|text| text.id().to_string());
            tracing::warn!(
                target: REFUSED, request_id, traceparent, address, method, path, route, status,
                code, key, has_key, "authentication failed"
            );
        }
        (None, Code::RateLimited | Code::Overloaded | Code::ShuttingDown | Code::DiskFull) => {
            tracing::info!(
                target: FLOODS, request_id, traceparent, address, method, path, route, status,
                code, key, organization, "request refused"
            );
        }
        (None, _) => tracing::info!(
            target: REFUSED, request_id, traceparent, address, method, path, route, status, code,
            key, organization, "request refused"
        ),
    }
}

/// Records a request that was refused before its head was read. Its client may be behind the peer,
/// because no header is known.
pub(in crate::http) fn refused_unread(request_id: &str, code: Code, peer: Option<SocketAddr>) {
    let address = peer.map(|peer| peer.ip().to_canonical().to_string());
    let (status, code) = (code.status(), code.word());
    tracing::info!(target: FLOODS, request_id, address, status, code, "request refused");
}

/// Returns the id of the calling key, or `admin` for the operator, or `None` without a key.
fn key_id(call: &Call) -> Option<String> {
    match &call.caller {
        Caller::Anyone => None,
        Caller::Admin | Caller::Key(_) => Some(by(call)),
    }
}

/// Returns a path for the log: a bounded number of visible ASCII characters, without the secrets
/// that a client may have put there.
fn shown_path(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        let secret = SECRET_PREFIXES.iter().filter_map(|prefix| segment.find(prefix)).min();
        match secret {
            Some(at) => format!("{}(secret)", segment.get(..at).unwrap_or_default()),
            None => segment.to_owned(),
        }
    });
    let path = segments.collect::<Vec<_>>().join("/");
    let visible = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    path.chars().take(PATH_CHARS_MAX).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_the_log_is_short_and_visible_and_holds_no_secret() {
        for (path, expected) in [
            ("/api/events/evt_1", "/api/events/evt_1"),
            ("/api/keys/trg_live_abc/x", "/api/keys/(secret)/x"),
            ("/x=trgadm_abc", "/x=(secret)"),
            ("/whsec_abc/trg_test_abc", "/(secret)/(secret)"),
            ("/a\u{202e}\u{7f}b", "/a??b"),
            ("", ""),
        ] {
            assert_eq!(shown_path(path), expected, "{path}");
        }
        assert_eq!(shown_path(&"/x".repeat(10_000)).len(), PATH_CHARS_MAX);
    }
}
