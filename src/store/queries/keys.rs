//! Organizations and keys. They are read at every request, so all rows are always in memory.

use std::sync::Arc;

use crate::model::id::{KeyId, OrgId, OrgNo};
use crate::model::key::Key;
use crate::model::org::Org;
use crate::model::time::{Now, Timestamp};
use crate::store::rows::schema::{KeyRow, OrgRow};
use crate::store::{StateError, Store};

/// A key and its organization, with their current rows.
#[derive(Clone, Debug)]
pub struct Authenticated {
    key: Arc<KeyRow>,
    org: Arc<OrgRow>,
}

impl Authenticated {
    /// Returns the number of the organization.
    pub fn org_no(&self) -> OrgNo {
        self.key.org
    }

    /// Returns the key's organization.
    pub fn org(&self) -> &Org {
        &self.org.org
    }

    /// Returns true if the key's organization is suspended.
    pub fn is_suspended(&self) -> bool {
        self.org.suspended_at.is_some()
    }

    /// Returns the record of the key.
    pub fn key(&self) -> &Key {
        &self.key.key
    }

    /// Returns the time of the last use, as far as it was recorded.
    pub fn last_used_at(&self) -> Option<Timestamp> {
        self.key.last_used_at
    }
}

/// Keys that end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndingKeys {
    /// The keys whose end has come and is not recorded yet.
    pub past_end: Vec<KeyId>,
    /// The keys that end soon, which their organization does not know.
    pub soon: Vec<KeyEnd>,
    /// The key after which to continue, if there may be more.
    pub next: Option<KeyId>,
}

/// The end of a key, of which its organization was not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEnd {
    /// The organization of the key.
    pub org: OrgNo,
    /// The key that ends.
    pub key: KeyId,
    /// The name of the key.
    pub name: String,
    /// The time at which the key was created.
    pub created_at: Timestamp,
    /// The time at which the key ends.
    pub expires_at: Timestamp,
}

impl KeyEnd {
    /// Returns the end of the key. `None` if it has none, if its organization was told, or if a
    /// rotation has given it a successor.
    fn of(row: &KeyRow) -> Option<Self> {
        let Key { id: key, ref name, created_at, expires_at, .. } = row.key;
        let is_told = row.end_told == expires_at || row.key.is_leaving();
        let expires_at = expires_at.filter(|_| !is_told)?;
        Some(Self { org: row.org, key, name: name.clone(), created_at, expires_at })
    }
}

impl Store {
    /// Returns the number for the next organization.
    pub fn next_org(&self) -> OrgNo {
        OrgNo(self.read().meta.resident().next().map_or(0, |((), meta)| meta.next_org))
    }

    /// Returns the record with this key id. `None` if there is no such key.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn key(&self, id: KeyId) -> Result<Option<Authenticated>, StateError> {
        let state = self.read();
        let Some(key) = state.keys.get(id)? else { return Ok(None) };
        Ok(state.orgs.get(key.org)?.map(|org| Authenticated { key, org }))
    }

    /// Looks at the next `limit` keys after `after`. Returns those whose end has come and is not
    /// recorded yet, and those that end before `soon` without their organization having been told.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn ending_keys(
        &self,
        (now, soon): (impl Into<Now>, Timestamp),
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<EndingKeys, StateError> {
        let now = now.into();
        let first = after.map_or(KeyId(0), |KeyId(after)| KeyId(after.saturating_add(1)));
        let looked_at = self.read().keys.range(first..=KeyId(u128::MAX), limit)?;
        let next = looked_at.last().filter(|_| looked_at.len() == limit).map(|(id, _)| *id);
        let mut found = EndingKeys { past_end: Vec::new(), soon: Vec::new(), next };
        for (id, row) in looked_at {
            if row.key.is_valid(now) {
                found.soon.extend(KeyEnd::of(&row).filter(|end| end.expires_at < soon));
            } else if !row.key.has_ended() {
                found.past_end.push(id);
            }
        }
        Ok(found)
    }

    /// Returns the organization's keys, in the order of creation.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn keys_of(&self, org: OrgNo) -> Result<Vec<Authenticated>, StateError> {
        let state = self.read();
        let Some(row) = state.orgs.get(org)? else { return Ok(Vec::new()) };
        let keys = row.keys.iter().filter_map(|id| state.keys.get(*id).transpose());
        keys.map(|key| Ok(Authenticated { key: key?, org: Arc::clone(&row) })).collect()
    }

    /// Returns the organization with this name.
    pub fn org_named(&self, name: &str) -> Option<OrgId> {
        self.read().org_names.get(name).copied()
    }

    /// Returns the public id of the organization with this number.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn org_id(&self, org: OrgNo) -> Result<Option<OrgId>, StateError> {
        Ok(self.read().orgs.get(org)?.map(|row| row.org.id))
    }

    /// Returns the organization with this public id, and its number.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn org_by_id(&self, id: OrgId) -> Result<Option<(OrgNo, Org)>, StateError> {
        let state = self.read();
        Ok(state
            .orgs
            .resident()
            .find(|(_, row)| row.org.id == id)
            .map(|(number, row)| (number, row.org.clone())))
    }
}
