//! The audit log: what a requested command changed, found by comparing the things that the command
//! names before and after it is applied.

use super::{Change, Unapplied};
use crate::model::audit::{Action, Actor, AuditEntry, Origin, Property, Subject, differences};
use crate::model::authority::Authority;
use crate::model::endpoint::Endpoint;
use crate::model::id::OrgNo;
use crate::model::key::Key;
use crate::store::StateError;
use crate::store::rows::schema::{AuditOfRow, AuditRow};

impl Change<'_> {
    /// Applies a command that a request asked for, and records the changes of the subjects.
    ///
    /// # Errors
    /// Fails like `apply`; then nothing is recorded.
    pub(crate) fn recorded<T>(
        &mut self,
        (org, subjects): (Option<OrgNo>, Vec<Subject>),
        (authority, origin): (Authority, &Origin),
        apply: impl FnOnce(&mut Self) -> Result<T, Unapplied>,
    ) -> Result<T, Unapplied> {
        let mut before = Vec::with_capacity(subjects.len());
        for subject in &subjects {
            before.push(self.described(org, *subject)?);
        }
        let applied = apply(self)?;
        for (number, (subject, before)) in (0..).zip(subjects.into_iter().zip(before)) {
            let after = self.described(org, subject)?;
            let changes = differences(before.as_deref(), after.as_deref());
            if changes.is_empty() {
                continue;
            }
            let organization = match (org, subject) {
                (_, Subject::Organization(id)) => Some(id),
                (Some(org), _) => self.state.orgs.get(org)?.map(|row| row.org.id),
                (None, _) => None,
            };
            let entry = AuditEntry {
                at: authority.at.wall,
                actor: authority.key.map_or(Actor::Operator, Actor::Key),
                origin: Some(origin.clone()),
                organization,
                action: action(subject, before.is_some(), after.as_deref()),
                subject,
                changes,
            };
            self.put_audit(org, number, entry);
        }
        Ok(applied)
    }

    /// Adds an entry to the audit log.
    pub(crate) fn put_audit(&mut self, org: Option<OrgNo>, number: u32, entry: AuditEntry) {
        let position = self.position;
        if let Some(org) = org {
            self.state.audit_of.put((org, position, number), AuditOfRow);
        }
        self.state.audit.put((position, number), AuditRow { org, entry });
    }

    /// Describes a thing of the organization, or returns `None` if it does not exist.
    fn described(
        &self,
        org: Option<OrgNo>,
        subject: Subject,
    ) -> Result<Option<Vec<Property>>, StateError> {
        let Some(org) = org else { return Ok(None) };
        Ok(match subject {
            Subject::Organization(_) => self.state.orgs.get(org)?.map(|row| {
                vec![
                    Property::new("name", &row.org.name),
                    Property::new("tier", row.org.tier),
                    Property::new("inbox_mode", row.org.inbox_mode.name()),
                ]
            }),
            Subject::Key(id) => {
                let row = self.state.keys.get(id)?.filter(|row| row.org == org);
                row.map(|row| key(&row.key))
            }
            Subject::Endpoint(id) => {
                let row = self.state.endpoints.get(id)?.filter(|row| row.org == org);
                row.map(|row| endpoint(&row.endpoint))
            }
            Subject::Event(id) => match self.locate(org, id)? {
                Some(at) => Some(vec![Property::new(
                    "payload",
                    if self.erased_at(org, at)?.is_some() { "erased" } else { "stored" },
                )]),
                None => None,
            },
            Subject::Replay(id) => self.state.replays.get((org, id))?.map(|row| {
                let endpoint = row.request.endpoint.map(|id| id.to_string());
                vec![
                    Property::new("endpoint_id", endpoint.unwrap_or_default()),
                    Property::new("only", row.request.only.name()),
                    Property::new("state", if row.ended.is_none() { "running" } else { "ended" }),
                ]
            }),
            Subject::Configuration | Subject::Administration => None,
        })
    }
}

/// The state of a key that was revoked or has expired.
const ENDED: &str = "ended";
/// The state of a key that was rotated.
const LEAVING: &str = "in its grace period";

fn key(key: &Key) -> Vec<Property> {
    let state = match () {
        () if key.has_ended() => ENDED,
        () if key.is_leaving() => LEAVING,
        () => "valid",
    };
    vec![
        Property::new("name", &key.name),
        Property::new("scopes", key.scopes.names().join(" ")),
        Property::new("expires_at", key.expires_at.map(|at| at.to_string()).unwrap_or_default()),
        Property::new("state", state),
    ]
}

fn endpoint(endpoint: &Endpoint) -> Vec<Property> {
    let settings = &endpoint.settings;
    let types: Vec<_> = settings.event_types.iter().map(|pattern| pattern.as_str()).collect();
    let headers: Vec<_> = settings.headers.iter().map(|(name, _)| name.as_str()).collect();
    let sealed: Vec<u8> =
        settings.headers.iter().flat_map(|(_, value)| value.bytes()).copied().collect();
    let waits = settings.retry_schedule_s.as_ref().map(|waits| format!("{waits:?}"));
    let metadata: Vec<_> =
        settings.metadata.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let query = settings.url.as_bytes().to_vec();
    let optional = |number: Option<u64>| number.map(|it| it.to_string()).unwrap_or_default();
    vec![
        Property::with_hidden("url", settings.url_without_query(), query),
        Property::new("description", &settings.description),
        Property::new("event_types", types.join(" ")),
        Property::with_hidden("headers", headers.join(" "), sealed),
        Property::new("body", settings.body.name()),
        Property::new("retry_schedule", waits.unwrap_or_default()),
        Property::new("timeout_ms", optional(settings.timeout_ms.map(u64::from))),
        Property::new("max_in_flight", optional(settings.max_in_flight.map(u64::from))),
        Property::new("rate_per_second", optional(settings.rate_per_second.map(u64::from))),
        Property::new("ordering", settings.ordering.name()),
        Property::new("metadata", metadata.join(" ")),
        Property::new("enabled", endpoint.is_enabled()),
        Property::with_hidden("secret", "(secret)", endpoint.secret.bytes().to_vec()),
    ]
}

/// Names the change of a thing that existed before or not, and is described so afterwards.
fn action(subject: Subject, existed: bool, after: Option<&[Property]>) -> Action {
    let is = |state| after.is_some_and(|all| all.contains(&Property::new("state", state)));
    match (subject, existed, after.is_some()) {
        (Subject::Organization(_), false, _) => Action::OrganizationCreated,
        (Subject::Organization(_), true, true) => Action::OrganizationChanged,
        (Subject::Organization(_), true, false) => Action::OrganizationDeleted,
        (Subject::Key(_), false, _) => Action::KeyCreated,
        (Subject::Key(_), true, false) => Action::KeyRevoked,
        (Subject::Key(_), true, true) if is(ENDED) => Action::KeyRevoked,
        (Subject::Key(_), true, true) if is(LEAVING) => Action::KeyRotated,
        (Subject::Key(_), true, true) => Action::KeyChanged,
        (Subject::Endpoint(_), false, _) => Action::EndpointCreated,
        (Subject::Endpoint(_), true, true) => Action::EndpointChanged,
        (Subject::Endpoint(_), true, false) => Action::EndpointDeleted,
        (Subject::Event(_), ..) => Action::EventErased,
        (Subject::Replay(_), false, _) => Action::ReplayStarted,
        (Subject::Replay(_), true, _) => Action::ReplayCanceled,
        (Subject::Configuration, ..) => Action::ConfigurationReloaded,
        (Subject::Administration, ..) => Action::AdministrationRefused,
    }
}
