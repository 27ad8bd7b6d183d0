//! Keys: added to an organization, ended; and whether the one that a command stands on is valid.

use super::{Change, Outcome};
use crate::base::sabotage::{self, Switch};
use crate::model::authority::Authority;
use crate::model::id::{KeyId, OrgNo};
use crate::model::key::Key;
use crate::model::time::Timestamp;
use crate::store::StateError;
use crate::store::schema::KeyRow;

/// Most valid keys of an organization.
pub const KEYS_PER_ORG_MAX: usize = 100;

impl Change<'_> {
    /// Whether the key that a change stands on is valid, of this organization and may do it: then it is who asks from here
    /// on. Else what becomes of the change. A key whose end has come has ended for good.
    pub(crate) fn judge(&mut self, authority: Authority, org: Option<OrgNo>) -> Result<Option<Outcome>, StateError> {
        let Some(id) = authority.key.filter(|_| !sabotage::is_on(Switch::JudgedOnce)) else { return Ok(None) };
        let known = self.state.keys.get(id)?;
        if known.is_none() && self.is_lost(id)? {
            return Ok(None); // what it asked for was judged before its making was lost
        }
        let Some(row) = known.filter(|row| Some(row.org) == org) else { return Ok(Some(Outcome::NotAuthorized)) };
        if !row.key.is_valid(authority.at) {
            self.end_for_good(id)?;
            return Ok(Some(Outcome::NotAuthorized));
        }
        if !row.key.scopes.covers(authority.needs) {
            return Ok(Some(Outcome::Forbidden));
        }
        self.asker = Some(row);
        Ok(None)
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
    pub(crate) fn add_key(&mut self, org: OrgNo, key: &Key, replaces: Option<KeyId>) -> Result<Outcome, StateError> {
        let Some(row) = self.state.orgs.edit(org)? else { return Ok(Outcome::NotFound) };
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
        Ok(if full { Outcome::LimitReached } else { Outcome::Done })
    }
}
