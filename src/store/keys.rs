//! Who is calling: organizations and keys, read at every request and therefore always in memory.

use std::sync::Arc;

use super::schema::{KeyRow, OrgRow};
use super::{StateError, Store};
use crate::model::id::{KeyId, OrgId, OrgNo};
use crate::model::key::Key;
use crate::model::org::Org;
use crate::model::time::Timestamp;

/// A key's record and its organization, as they are now.
#[derive(Clone, Debug)]
pub struct Authenticated {
    key: Arc<KeyRow>,
    org: Arc<OrgRow>,
}

impl Authenticated {
    /// The organization's number.
    pub fn org_no(&self) -> OrgNo {
        self.key.org
    }

    /// The organization.
    pub fn org(&self) -> &Org {
        &self.org.org
    }

    /// The key.
    pub fn key(&self) -> &Key {
        &self.key.key
    }

    /// When it was last used, as far as it was noted.
    pub fn last_used_at(&self) -> Option<Timestamp> {
        self.key.last_used_at
    }
}

impl Store {
    /// The number that the next organization gets.
    pub fn next_org(&self) -> OrgNo {
        OrgNo(self.read().meta.resident().next().map_or(0, |((), meta)| meta.next_org))
    }

    /// The record behind a key id; none if there is none.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn key(&self, id: KeyId) -> Result<Option<Authenticated>, StateError> {
        let state = self.read();
        let Some(key) = state.keys.get(id)? else { return Ok(None) };
        Ok(state.orgs.get(key.org)?.map(|org| Authenticated { key, org }))
    }

    /// Keys whose end has come by now and is not written down yet, among the next `limit` behind `after`; and where to go on,
    /// if there are more.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn keys_past_end(
        &self,
        now: Timestamp,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<(Vec<KeyId>, Option<KeyId>), StateError> {
        let first = after.map_or(KeyId(0), |KeyId(after)| KeyId(after.saturating_add(1)));
        let looked_at = self.read().keys.range(first..=KeyId(u128::MAX), limit)?;
        let is_due = |row: &KeyRow| !row.key.is_valid(now) && !row.key.has_ended();
        let due = looked_at.iter().filter(|(_, row)| is_due(row)).map(|(id, _)| *id).collect();
        Ok((due, looked_at.last().filter(|_| looked_at.len() == limit).map(|(id, _)| *id)))
    }

    /// The organization's keys, in the order they were made.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn keys_of(&self, org: OrgNo) -> Result<Vec<Authenticated>, StateError> {
        let state = self.read();
        let Some(row) = state.orgs.get(org)? else { return Ok(Vec::new()) };
        let keys = row.keys.iter().filter_map(|id| state.keys.get(*id).transpose());
        keys.map(|key| Ok(Authenticated { key: key?, org: Arc::clone(&row) })).collect()
    }

    /// The organization of this name.
    pub fn org_named(&self, name: &str) -> Option<OrgId> {
        self.read().org_names.get(name).copied()
    }

    /// The organization with this public id.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn org_id(&self, org: OrgNo) -> Result<Option<OrgId>, StateError> {
        Ok(self.read().orgs.get(org)?.map(|row| row.org.id))
    }

    /// An organization by its public id.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn org_by_id(&self, id: OrgId) -> Result<Option<(OrgNo, Org)>, StateError> {
        let state = self.read();
        Ok(state.orgs.resident().find(|(_, row)| row.org.id == id).map(|(number, row)| (number, row.org.clone())))
    }
}
