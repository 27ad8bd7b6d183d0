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

    /// Returns the record of the key.
    pub fn key(&self) -> &Key {
        &self.key.key
    }

    /// Returns the time of the last use, as far as it was recorded.
    pub fn last_used_at(&self) -> Option<Timestamp> {
        self.key.last_used_at
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

    /// Returns the keys, among the next `limit` after `after`, whose end has come and is not
    /// recorded yet. Also returns the key after which to continue, if there may be more.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn keys_past_end(
        &self,
        now: impl Into<Now>,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<(Vec<KeyId>, Option<KeyId>), StateError> {
        let now = now.into();
        let first = after.map_or(KeyId(0), |KeyId(after)| KeyId(after.saturating_add(1)));
        let looked_at = self.read().keys.range(first..=KeyId(u128::MAX), limit)?;
        let is_due = |row: &KeyRow| !row.key.is_valid(now) && !row.key.has_ended();
        let due = looked_at.iter().filter(|(_, row)| is_due(row)).map(|(id, _)| *id).collect();
        Ok((due, looked_at.last().filter(|_| looked_at.len() == limit).map(|(id, _)| *id)))
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
