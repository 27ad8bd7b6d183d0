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
    /// The record behind a key id; none if there is none.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn key(&self, id: KeyId) -> Result<Option<Authenticated>, StateError> {
        let state = self.read();
        let Some(key) = state.keys.get(id)? else { return Ok(None) };
        Ok(state.orgs.get(key.org)?.map(|org| Authenticated { key, org }))
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
    pub fn org_by_id(&self, id: OrgId) -> Result<Option<(OrgNo, Org)>, StateError> {
        let state = self.read();
        Ok(state.orgs.resident().find(|(_, row)| row.org.id == id).map(|(number, row)| (number, row.org.clone())))
    }
}
