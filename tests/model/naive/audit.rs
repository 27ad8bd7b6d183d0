//! The audit log of the model: the things that a requested command names, before and after it.

use triggerd::commands::{Command, Requested};
use triggerd::model::id::{EndpointId, EventId, KeyId, OrgNo};
use triggerd::model::time::Timestamp;
use triggerd::store::{AuditPlace, AuditQuery, Store};

use super::{Deletion, Naive};
use crate::checks::{failed, same};

/// Maximum number of entries that a command removes.
const EXPIRED_AT_ONCE: usize = 256;

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NaiveEntry {
    /// The organization that sees the entry. Absent if only the operator does.
    org: Option<OrgNo>,
    steady: Timestamp,
    request_id: String,
    action: &'static str,
}

#[derive(Clone, Copy)]
enum Thing {
    Org,
    Key(KeyId),
    Rotated(KeyId),
    Endpoint(EndpointId),
    Event(EventId),
}

/// Returns what a command names.
fn things(command: &Command) -> Vec<Thing> {
    match command {
        Command::ChangeOrg(_) | Command::DeleteOrg(_) => vec![Thing::Org],
        Command::CreateKey(make) => vec![Thing::Key(make.key.id)],
        Command::EndKey(end) => vec![Thing::Key(end.key)],
        Command::RotateKey(rotate) => vec![Thing::Rotated(rotate.old), Thing::Key(rotate.new.id)],
        Command::PutEndpoint(put) => vec![Thing::Endpoint(put.endpoint.id)],
        Command::DeleteEndpoint(gone) => vec![Thing::Endpoint(gone.endpoint)],
        Command::EraseEvent(erase) => vec![Thing::Event(erase.event)],
        _ => Vec::new(),
    }
}

fn action(thing: Thing, existed: bool, exists: bool) -> &'static str {
    match (thing, existed, exists) {
        (Thing::Org, true, false) => "organization.deleted",
        (Thing::Org, ..) => "organization.changed",
        (Thing::Key(_), false, _) => "key.created",
        (Thing::Key(_), true, _) => "key.revoked",
        (Thing::Rotated(_), ..) => "key.rotated",
        (Thing::Endpoint(_), false, _) => "endpoint.created",
        (Thing::Endpoint(_), true, true) => "endpoint.changed",
        (Thing::Endpoint(_), true, false) => "endpoint.deleted",
        (Thing::Event(_), ..) => "event.erased",
    }
}

impl Naive {
    /// Returns the present state of each thing that a requested command names, as text.
    pub(super) fn named(&self, command: &Command) -> Vec<Option<String>> {
        let Some(org) = command.org() else { return Vec::new() };
        things(command.action()).into_iter().map(|thing| self.described(org, thing)).collect()
    }

    fn described(&self, org: OrgNo, thing: Thing) -> Option<String> {
        let org = self.org(org)?;
        match thing {
            Thing::Org if org.deletion != Deletion::NotAsked => None,
            Thing::Org => Some(format!("{:?} {}", org.org, org.is_suspended)),
            Thing::Key(id) | Thing::Rotated(id) => {
                let key = org.keys.iter().find(|key| key.id == id)?;
                let ended = key.ended_at.map(|at| at == Timestamp(0));
                Some(format!("{} {:?} {:?} {ended:?}", key.name, key.scopes, key.expires_at))
            }
            Thing::Endpoint(id) => {
                let endpoint = org.endpoint(id)?;
                let (settings, secret) = (&endpoint.settings, &endpoint.secret);
                Some(format!("{settings:?} {secret:?} {:?}", endpoint.disabled))
            }
            Thing::Event(id) => {
                let event = org.events.get(&id)?;
                Some(format!("{}", event.erased_at.is_some()))
            }
        }
    }

    /// Adds an entry for each thing that has changed.
    pub(super) fn record(&mut self, command: &Command, before: &[Option<String>]) {
        let Command::Requested(requested) = command else { return };
        let Requested { authority, origin: Some(origin), .. } = &**requested else { return };
        let Some(org) = command.org() else { return };
        for ((thing, before), after) in
            things(command.action()).into_iter().zip(before).zip(self.named(command))
        {
            if *before != after {
                let action = action(thing, before.is_some(), after.is_some());
                self.audit.push(NaiveEntry {
                    org: Some(org).filter(|_| action != "organization.deleted"),
                    steady: authority.at.steady,
                    request_id: origin.request_id.clone(),
                    action,
                });
            }
        }
    }

    /// Removes the oldest entries of before this time.
    pub(super) fn expire_audit(&mut self, before: Timestamp) {
        let old = self.audit.iter().take(EXPIRED_AT_ONCE);
        let old = old.take_while(|entry| entry.steady < before).count();
        self.audit.drain(..old);
    }

    pub(super) fn forget_audit_of(&mut self, org: OrgNo) {
        self.audit.retain(|entry| entry.org != Some(org));
    }

    /// Compares the entries of all organizations, or of one, in a random order.
    pub(crate) fn check_audit(
        &self,
        org: Option<OrgNo>,
        store: &Store,
        (limit, oldest_first): (usize, bool),
    ) -> Result<(), String> {
        let (mut found, mut after): (Vec<_>, Option<AuditPlace>) = (Vec::new(), None);
        loop {
            let query = AuditQuery { org, after, limit, oldest_first, ..AuditQuery::default() };
            let page = store.audit(&query).map_err(|error| failed(&error))?;
            found.extend(page.entries.into_iter().map(|(_, entry)| {
                let request_id = entry.origin.map(|origin| origin.request_id);
                (request_id.unwrap_or_default(), entry.note.action.name())
            }));
            after = page.next;
            if !page.has_more {
                break;
            }
        }
        let own = self.audit.iter().filter(|entry| org.is_none() || entry.org == org);
        let mut expected: Vec<_> =
            own.map(|entry| (entry.request_id.clone(), entry.action)).collect();
        if !oldest_first {
            expected.reverse();
        }
        same("audit log", &found, &expected)
    }
}
