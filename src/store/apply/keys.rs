//! Keys: made, rotated, ended; and whether the one that a command stands on still holds.

use super::{Change, Outcome, meta};
use crate::base::sabotage::{self, Switch};
use crate::model::authority::Authority;
use crate::model::command::{CreateKey, EndKey, ExpireKeys, NoteKeysUsed, Requested, RotateKey};
use crate::model::id::{KeyId, OrgNo};
use crate::model::key::Key;
use crate::model::time::Timestamp;
use crate::store::StateError;
use crate::store::schema::KeyRow;

/// Most valid keys of an organization.
pub const KEYS_PER_ORG_MAX: usize = 100;

impl Change<'_> {
    /// Applies what a request asks for if what it stands on holds.
    pub(super) fn requested(&mut self, requested: &Requested) -> Result<Outcome, StateError> {
        let Requested { authority, command } = requested;
        match self.judge(*authority, command.org())? {
            Some(refused) => Ok(refused),
            None => self.apply(command),
        }
    }

    /// Whether the key that a change stands on is valid, of this organization and may do it: then it is who asks from here
    /// on. Else what becomes of the change. A key whose end has come has ended for good.
    pub(super) fn judge(&mut self, authority: Authority, org: Option<OrgNo>) -> Result<Option<Outcome>, StateError> {
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
    fn is_lost(&mut self, id: KeyId) -> Result<bool, StateError> {
        let meta = meta(self.state)?;
        Ok(self.position < meta.judged_before && meta.lost_keys.binary_search(&id).is_ok())
    }

    /// One whose making was lost has ended, or is followed by another one that nothing more is known of.
    fn change_lost(&mut self, ended: Option<KeyId>, new: Option<KeyId>) -> Result<(), StateError> {
        let meta = meta(self.state)?;
        meta.lost_keys.retain(|id| Some(*id) != ended);
        if let Some(new) = new
            && let Err(place) = meta.lost_keys.binary_search(&new)
        {
            meta.lost_keys.insert(place, new);
        }
        Ok(())
    }

    fn end_for_good(&mut self, id: KeyId) -> Result<(), StateError> {
        if self.state.keys.get(id)?.is_some_and(|row| !row.key.has_ended())
            && let Some(row) = self.state.keys.edit(id)?
        {
            row.key.ended_at = Some(Timestamp(0));
        }
        Ok(())
    }

    /// A key makes none that may more, or for longer, than itself.
    pub(super) fn create_key(&mut self, command: &CreateKey) -> Result<Outcome, StateError> {
        let mut key = command.key.clone();
        if let Some(asker) = &self.asker {
            if !asker.key.scopes.covers(key.scopes) {
                return Ok(Outcome::Forbidden);
            }
            key.expires_at = [key.expires_at, asker.key.ends_at()].into_iter().flatten().min();
        }
        self.add_key(command.org, &key, None)
    }

    /// Adds a key to an organization. Of the keys that stay there are [`KEYS_PER_ORG_MAX`] at most, and as many of those that
    /// work only until their grace is over; of these the one that would end first makes room. `replaces` is not asked to.
    pub(super) fn add_key(&mut self, org: OrgNo, key: &Key, replaces: Option<KeyId>) -> Result<Outcome, StateError> {
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

    /// The new key may what the old one may, and no longer: not even when the old one is in its grace already.
    pub(super) fn rotate_key(&mut self, command: &RotateKey) -> Result<Outcome, StateError> {
        let at = command.new.created_at;
        let known = self.state.keys.get(command.old)?;
        if known.is_none() && self.is_lost(command.old)? {
            // Its scopes are not known, so there is no key that could be used from now on.
            self.change_lost((command.old_ends_at <= at).then_some(command.old), Some(command.new.id))?;
        }
        let Some(old) = known.filter(|row| row.org == command.org && row.key.is_valid(at)) else {
            return Ok(Outcome::NotFound);
        };
        let Key { scopes, expires_at, ended_at, .. } = old.key;
        let new = Key { scopes, expires_at, ended_at, ..command.new.clone() };
        if let Some(row) = self.state.keys.edit(command.old)? {
            let end = ended_at.map_or(command.old_ends_at, |end| end.min(command.old_ends_at));
            row.key.ended_at = Some(if end <= at { Timestamp(0) } else { end });
        }
        self.add_key(command.org, &new, Some(command.old))
    }

    /// Nobody ends a key that may more than they may.
    pub(super) fn end_key(&mut self, command: &EndKey) -> Result<Outcome, StateError> {
        let known = self.state.keys.get(command.key)?;
        if known.is_none() && self.is_lost(command.key)? {
            self.change_lost(Some(command.key), None)?;
        }
        let Some(row) = known.filter(|row| row.org == command.org) else { return Ok(Outcome::NotFound) };
        if row.key.is_valid(command.at) && self.asker.as_ref().is_some_and(|by| !by.key.scopes.covers(row.key.scopes)) {
            return Ok(Outcome::Forbidden);
        }
        self.end_for_good(command.key)?;
        Ok(if row.key.is_valid(command.at) { Outcome::Done } else { Outcome::NotFound })
    }

    pub(super) fn expire_keys(&mut self, command: &ExpireKeys) -> Result<Outcome, StateError> {
        for id in &command.keys {
            if self.is_lost(*id)? {
                self.change_lost(Some(*id), None)?;
            }
            if self.state.keys.get(*id)?.is_some_and(|row| !row.key.is_valid(command.at)) {
                self.end_for_good(*id)?;
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn note_keys_used(&mut self, command: &NoteKeysUsed) -> Result<Outcome, StateError> {
        for (key, at) in &command.used {
            if let Some(row) = self.state.keys.edit(*key)? {
                row.last_used_at = row.last_used_at.max(Some(*at));
            }
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
