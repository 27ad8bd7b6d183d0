//! Organizations as the operator sees them.

use crate::model::id::{KeyId, OrgId, OrgNo};
use crate::model::org::{Org, OrgDeletion};
use crate::model::time::{Now, Timestamp};
use crate::store::rows::schema::OrgRow;
use crate::store::rows::state::State;
use crate::store::{StateError, Store};

/// Number of organizations that are looked at under one lock.
const LOOKED_AT_ONCE: usize = 256;

/// An organization with its counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrgOverview {
    /// The number of the organization.
    pub number: OrgNo,
    /// The organization with its settings.
    pub org: Org,
    /// The time since which the organization is suspended.
    pub suspended_at: Option<Timestamp>,
    /// The deletion, while it is under way.
    pub deletion: Option<OrgDeletion>,
    /// The number of stored events, including erased events.
    pub events: u64,
    /// The size of these events as they came, in bytes.
    pub bytes: u64,
    /// The number of events in the inbox.
    pub open: u64,
    /// The number of deliveries that wait for an attempt. Endpoints that were deleted do not count.
    pub waiting: u64,
    /// The number of dead letters. Endpoints that were deleted do not count.
    pub dead: u64,
    /// The number of endpoints.
    pub endpoints: usize,
    /// The number of valid keys.
    pub keys: usize,
}

impl OrgOverview {
    fn of(state: &State, number: OrgNo, row: &OrgRow, now: Now) -> Result<Self, StateError> {
        let inbox = state.inboxes.get(number)?.map_or_else(Default::default, |inbox| *inbox);
        let (mut waiting, mut dead, mut keys) = (0, 0, 0);
        for endpoint in &row.endpoints {
            let health = state.health.get(*endpoint)?;
            waiting += health.as_ref().map_or(0, |health| health.waiting);
            dead += health.map_or(0, |health| health.dead);
        }
        let is_valid = |id: &KeyId| {
            let key = state.keys.get(*id)?;
            Ok::<_, StateError>(key.is_some_and(|row| row.key.is_valid(now)))
        };
        for id in &row.keys {
            keys += usize::from(is_valid(id)?);
        }
        Ok(Self {
            number,
            org: row.org.clone(),
            suspended_at: row.suspended_at,
            deletion: row.deletion,
            events: inbox.events,
            bytes: inbox.bytes,
            open: inbox.open,
            waiting,
            dead,
            endpoints: row.endpoints.len(),
            keys,
        })
    }
}

/// The organizations that a list shows.
#[derive(Clone, Debug)]
pub struct OrgQuery {
    /// The number behind which the list begins.
    pub after: Option<OrgNo>,
    /// The name, if only one organization is wanted.
    pub name: Option<String>,
    /// The beginning of the names. The empty text is the beginning of all names.
    pub prefix: String,
    /// Maximum number of organizations.
    pub limit: usize,
}

impl OrgQuery {
    fn matches(&self, org: &Org) -> bool {
        self.name.as_ref().is_none_or(|name| *name == org.name)
            && org.name.starts_with(&self.prefix)
    }
}

impl Store {
    /// Returns true if the organization is suspended.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn is_suspended(&self, org: OrgNo) -> Result<bool, StateError> {
        self.read().is_suspended(org)
    }

    /// Returns the first organization that is being deleted.
    pub fn deleted_org(&self) -> Option<(OrgNo, OrgId)> {
        let state = self.read();
        let mut orgs = state.orgs.resident();
        let found = orgs.find(|(_, row)| row.deletion.is_some());
        found.map(|(number, row)| (number, row.org.id))
    }

    /// Returns the organizations in the order of their creation. A long search takes its locks one
    /// after the other, so it blocks nobody.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn orgs(&self, query: &OrgQuery, now: Now) -> Result<Vec<OrgOverview>, StateError> {
        let mut found = Vec::new();
        let mut from = query.after.map_or(0, |OrgNo(after)| after.saturating_add(1));
        while found.len() < query.limit {
            let state = self.read();
            let rows = state.orgs.range(OrgNo(from)..=OrgNo(u32::MAX), LOOKED_AT_ONCE)?;
            for (number, row) in rows.iter().filter(|(_, row)| query.matches(&row.org)) {
                if found.len() < query.limit {
                    found.push(OrgOverview::of(&state, *number, row, now)?);
                }
            }
            let Some((OrgNo(last), _)) = rows.last().filter(|_| rows.len() == LOOKED_AT_ONCE)
            else {
                break;
            };
            from = last.saturating_add(1);
        }
        Ok(found)
    }

    /// Returns the organization with this public id.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn org_overview(&self, id: OrgId, now: Now) -> Result<Option<OrgOverview>, StateError> {
        let state = self.read();
        let found = state.orgs.resident().find(|(_, row)| row.org.id == id);
        found.map(|(number, row)| OrgOverview::of(&state, number, row, now)).transpose()
    }
}
