//! The audit log: what a requested command changed, found by comparing the things that the command
//! names before and after it is applied.

use super::{Change, Unapplied};
use crate::journal::Position;
use crate::model::audit::{
    Action, Actor, AuditEntry, Changed, Changing, Note, Origin, Property, differences,
};
use crate::model::authority::Authority;
use crate::model::endpoint::{Endpoint, TypePattern};
use crate::model::id::OrgNo;
use crate::model::key::Key;
use crate::model::time::Timestamp;
use crate::store::StateError;
use crate::store::rows::schema::{AuditOfRow, AuditRow, OrgRow, ReplayRow};

/// Maximum number of entries of an organization. The oldest entries leave first, so that the keys
/// of an organization cannot fill the disk with changes.
pub(crate) const ENTRIES_PER_ORG_MAX: u64 = if cfg!(test) { 20 } else { 50_000 };

/// The source of the entries of a command: who asked for it, and from where.
#[derive(Clone, Copy, Debug)]
pub struct AuditSource<'a> {
    /// The organization of the command.
    pub org: Option<OrgNo>,
    /// The authority by which the command was asked for.
    pub authority: Authority,
    /// The origin of the request.
    pub origin: &'a Origin,
}

impl Change<'_> {
    /// Applies a command that a request asked for, and records what it changed, and the note.
    ///
    /// # Errors
    /// Fails like `apply`; then nothing is recorded.
    pub(crate) fn recorded<T>(
        &mut self,
        source: AuditSource<'_>,
        (things, note): (&[Changing], Option<&Note>),
        apply: impl FnOnce(&mut Self) -> Result<T, Unapplied>,
    ) -> Result<T, Unapplied> {
        let mut before = Vec::with_capacity(things.len());
        for thing in things {
            before.push(self.described(source.org, *thing)?);
        }
        let applied = apply(self)?;
        let mut changed = Vec::new();
        for (thing, before) in things.iter().zip(before) {
            let after = self.described(source.org, *thing)?;
            let found = differences(before.as_deref(), after.as_deref());
            if !found.is_empty() {
                let action = action(*thing, before.is_some(), after.as_deref());
                changed.push((*thing, action, found));
            }
        }
        self.record(source, changed, note)?;
        Ok(applied)
    }

    /// Adds entries for changed things, and the note.
    fn record(
        &mut self,
        source: AuditSource<'_>,
        changed: Vec<(Changing, Action, Vec<Changed>)>,
        note: Option<&Note>,
    ) -> Result<(), StateError> {
        let AuditSource { org: Some(org), authority: Authority { key, at, .. }, origin } = source
        else {
            return Ok(());
        };
        let Some(id) = self.state.orgs.get(org)?.map(|row| row.org.id) else { return Ok(()) };
        let changed = changed.into_iter().map(|(thing, action, changes)| Note {
            action,
            subject: thing.subject_of(id),
            changes,
        });
        for (number, note) in (0..).zip(changed.chain(note.cloned())) {
            let mut entry = AuditEntry {
                at: at.wall,
                actor: key.map_or(Actor::Operator, Actor::Key),
                origin: Some(origin.clone()),
                organization: Some(id),
                note,
            };
            if entry.note.action == Action::OrganizationDeleted {
                // The entry outlives the organization, so it has nothing of it but the id.
                entry.note.changes = Vec::new();
                self.put_audit(at.steady, entry);
            } else {
                self.put_audit_of(org, (number, at.steady), entry)?;
            }
        }
        Ok(())
    }

    /// Adds an entry about the server as a whole.
    pub(crate) fn put_audit(&mut self, at: Timestamp, entry: AuditEntry) {
        let row = AuditRow { org: None, steady: at, entry };
        self.state.audit.put((self.position, 0), row);
    }

    /// Adds an entry of an organization. Removes the oldest entry if there are too many.
    fn put_audit_of(
        &mut self,
        org: OrgNo,
        (number, steady): (u32, Timestamp),
        entry: AuditEntry,
    ) -> Result<(), StateError> {
        let all = (org, Position(0), 0)..=(org, Position::MAX, u32::MAX);
        let last = self.state.audit_of.last(all.clone())?;
        let ordinal = last.map_or(0, |(_, row)| row.ordinal.saturating_add(1));
        // Each entry removes at most one, so there is never more than one too many.
        if let Some(((_, position, old), row)) = self.state.audit_of.range(all, 1)?.first()
            && ordinal.saturating_sub(row.ordinal) >= ENTRIES_PER_ORG_MAX
        {
            self.remove_audit((*position, *old), Some(org));
        }
        let position = self.position;
        self.state.audit_of.put((org, position, number), AuditOfRow { ordinal });
        self.state.audit.put((position, number), AuditRow { org: Some(org), steady, entry });
        Ok(())
    }

    /// Removes an entry.
    pub(crate) fn remove_audit(&mut self, (position, number): (Position, u32), org: Option<OrgNo>) {
        self.state.audit.remove((position, number));
        if let Some(org) = org {
            self.state.audit_of.remove((org, position, number));
        }
    }

    /// Describes a thing of the organization, or returns `None` if it does not exist.
    fn described(
        &self,
        org: Option<OrgNo>,
        thing: Changing,
    ) -> Result<Option<Vec<Property>>, StateError> {
        let Some(org) = org else { return Ok(None) };
        Ok(match thing {
            Changing::Organization => self.state.living_org(org)?.map(|row| organization(&row)),
            Changing::Key(id) | Changing::RotatedKey(id) => {
                let row = self.state.keys.get(id)?.filter(|row| row.org == org);
                row.map(|row| key(&row.key))
            }
            Changing::Endpoint(id) => {
                let row = self.state.endpoints.get(id)?.filter(|row| row.org == org);
                row.map(|row| endpoint(&row.endpoint))
            }
            Changing::Event(id) => match self.locate(org, id)? {
                Some(at) => {
                    let is_erased = self.erased_at(org, at)?.is_some();
                    Some(vec![Property::new(
                        "payload",
                        &if is_erased { "erased" } else { "stored" },
                    )])
                }
                None => None,
            },
            Changing::Replay(id) => self.state.replays.get((org, id))?.map(|row| replay(&row)),
        })
    }
}

fn organization(row: &OrgRow) -> Vec<Property> {
    vec![
        Property::new("name", &row.org.name),
        Property::new("tier", &row.org.tier),
        Property::new("inbox_mode", row.org.inbox_mode.name()),
        Property::new("suspended", &row.suspended_at.is_some()),
    ]
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
        Property::new("scopes", &key.scopes.names().join(" ")),
        Property::new("expires_at", &shown(key.expires_at)),
        Property::new("state", state),
    ]
}

fn endpoint(endpoint: &Endpoint) -> Vec<Property> {
    let settings = &endpoint.settings;
    let types: Vec<_> = settings.event_types.iter().map(TypePattern::as_str).collect();
    let headers: Vec<_> = settings.headers.iter().map(|(name, _)| name.as_str()).collect();
    let values = settings.headers.iter().flat_map(|(_, value)| value.bytes()).copied();
    let waits = settings.retry_schedule_s.as_ref().map(|waits| format!("{waits:?}"));
    let metadata: Vec<_> =
        settings.metadata.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let state = endpoint.disabled.map_or("enabled", |reason| reason.name());
    vec![
        Property::with_hidden(
            "url",
            settings.url_without_query(),
            settings.url.as_bytes().to_vec(),
        ),
        Property::new("description", &settings.description),
        Property::new("event_types", &types.join(" ")),
        Property::with_hidden("headers", &headers.join(" "), values.collect()),
        Property::new("body", settings.body.name()),
        Property::new("retry_schedule", &shown(waits)),
        Property::new("timeout_ms", &shown(settings.timeout_ms)),
        Property::new("max_in_flight", &shown(settings.max_in_flight)),
        Property::new("rate_per_second", &shown(settings.rate_per_second)),
        Property::new("ordering", settings.ordering.name()),
        Property::new("metadata", &metadata.join(" ")),
        Property::new("state", state),
        Property::with_hidden("secret", "(secret)", endpoint.secret.bytes().to_vec()),
    ]
}

fn replay(row: &ReplayRow) -> Vec<Property> {
    vec![
        Property::new("endpoint_id", &shown(row.request.endpoint)),
        Property::new("since", &shown(row.request.since)),
        Property::new("until", &shown(row.request.until)),
        Property::new("only", row.request.only.name()),
        Property::new("state", if row.ended.is_none() { "running" } else { "ended" }),
    ]
}

/// Returns the text of a value; the empty text stands for its absence.
fn shown(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Names the change of a thing that existed before or not, and is described so afterwards.
fn action(thing: Changing, existed: bool, after: Option<&[Property]>) -> Action {
    let is = |state| after.is_some_and(|all| all.contains(&Property::new("state", state)));
    match (thing, existed, after.is_some()) {
        (Changing::Organization, false, _) => Action::OrganizationCreated,
        (Changing::Organization, true, true) => Action::OrganizationChanged,
        (Changing::Organization, true, false) => Action::OrganizationDeleted,
        (Changing::Key(_), false, _) => Action::KeyCreated,
        (Changing::Key(_), true, false) => Action::KeyRevoked,
        (Changing::Key(_), true, true) if is(ENDED) => Action::KeyRevoked,
        (Changing::Key(_), true, true) => Action::KeyChanged,
        (Changing::RotatedKey(_), ..) => Action::KeyRotated,
        (Changing::Endpoint(_), false, _) => Action::EndpointCreated,
        (Changing::Endpoint(_), true, true) => Action::EndpointChanged,
        (Changing::Endpoint(_), true, false) => Action::EndpointDeleted,
        (Changing::Event(_), ..) => Action::EventErased,
        (Changing::Replay(_), false, _) => Action::ReplayStarted,
        (Changing::Replay(_), true, _) => Action::ReplayCanceled,
    }
}
