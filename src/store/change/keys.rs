//! Keys: added to an organization, ended; and whether the one that a command stands on is valid.

use super::{Change, Refusal, Unapplied};
use crate::base::sabotage::{self, Switch};
use crate::model::authority::Authority;
use crate::model::id::{KeyId, OrgNo};
use crate::model::key::Key;
use crate::model::time::Timestamp;
use crate::store::StateError;
use crate::store::schema::KeyRow;

/// Most valid keys of an organization.
pub const KEYS_PER_ORG_MAX: usize = 100;

/// The outcome of adding a key to an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAdded {
    /// The organization has the key.
    Added,
    /// The organization has [`KEYS_PER_ORG_MAX`] keys.
    LimitReached,
    /// There is no such organization, or no such key to replace.
    NotFound,
}

impl Change<'_> {
    /// Refuses the change unless the key that it stands on is valid, of this organization and may do it: then that key is the
    /// asker from here on. A key whose end has come has ended for good.
    pub(crate) fn judge(&mut self, authority: Authority, org: Option<OrgNo>) -> Result<(), Unapplied> {
        let Some(id) = authority.key.filter(|_| !sabotage::is_on(Switch::JudgedOnce)) else { return Ok(()) };
        let known = self.state.keys.get(id)?;
        if known.is_none() && self.is_lost(id)? {
            return Ok(()); // what it asked for was judged before its making was lost
        }
        let Some(row) = known.filter(|row| Some(row.org) == org) else {
            return Err(Refusal::NotAuthorized.into());
        };
        if !row.key.is_valid(authority.at) {
            self.end_for_good(id)?;
            return Err(Refusal::NotAuthorized.into());
        }
        if !row.key.scopes.covers(authority.needs) {
            return Err(Refusal::Forbidden.into());
        }
        self.asker = Some(row);
        Ok(())
    }

    /// Whether the making of this key was lost to damage, and this command was judged before that.
    pub(crate) fn is_lost(&mut self, id: KeyId) -> Result<bool, StateError> {
        let position = self.position;
        let meta = self.meta()?;
        Ok(position < meta.judged_before && meta.lost_keys.binary_search(&id).is_ok())
    }

    /// A key whose making was lost has ended, or is followed by another one that nothing more is known of.
    pub(crate) fn change_lost(&mut self, ended: Option<KeyId>, new: Option<KeyId>) -> Result<(), StateError> {
        let meta = self.meta()?;
        meta.lost_keys.retain(|id| Some(*id) != ended);
        if let Some(new) = new
            && let Err(place) = meta.lost_keys.binary_search(&new)
        {
            meta.lost_keys.insert(place, new);
        }
        Ok(())
    }

    /// Ends a key, if it has not ended: whatever the clock does, it stays so.
    pub(crate) fn end_for_good(&mut self, id: KeyId) -> Result<(), StateError> {
        if self.state.keys.get(id)?.is_some_and(|row| !row.key.has_ended())
            && let Some(row) = self.state.keys.edit(id)?
        {
            row.key.ended_at = Some(Timestamp(0));
        }
        Ok(())
    }

    /// Adds a key to an organization. Of the keys that stay there are [`KEYS_PER_ORG_MAX`] at most, and as many of those that
    /// work only until their grace is over; of these the one that would end first makes room. `replaces` is not asked to.
    pub(crate) fn add_key(&mut self, org: OrgNo, key: &Key, replaces: Option<KeyId>) -> Result<KeyAdded, StateError> {
        let Some(row) = self.state.orgs.edit(org)? else { return Ok(KeyAdded::NotFound) };
        // Keys that had ended when this one was made are dropped first, so the limit is one of living keys.
        let mut living = Vec::with_capacity(row.keys.len() + 1);
        let mut leaving = Vec::new();
        for id in std::mem::take(&mut row.keys) {
            match self.state.keys.get(id)?.filter(|other| other.key.is_valid(key.created_at)) {
                Some(other) => {
                    living.push(id);
                    leaving.extend(other.key.ended_at.map(|end| (end, id)));
                }
                None => self.state.keys.remove(id),
            }
        }
        let full = !key.is_leaving() && living.len() - leaving.len() >= KEYS_PER_ORG_MAX;
        if !full {
            if leaving.len() + usize::from(key.is_leaving()) > KEYS_PER_ORG_MAX
                && let Some((_, first)) = leaving.iter().filter(|(_, id)| Some(*id) != replaces).min()
            {
                self.state.keys.remove(*first);
                living.retain(|id| id != first);
            }
            living.push(key.id);
            self.state.keys.put(key.id, KeyRow { org, key: key.clone(), last_used_at: None });
        }
        if let Some(row) = self.state.orgs.edit(org)? {
            row.keys = living;
        }
        self.note_id(key.id.0)?;
        Ok(if full { KeyAdded::LimitReached } else { KeyAdded::Added })
    }
}
