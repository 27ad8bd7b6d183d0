//! Keys: adding, ending, and judging the key that asks for a command.

use super::{Change, Refusal, Unapplied};
use crate::base::sabotage::{self, Switch};
use crate::model::authority::Authority;
use crate::model::id::{KeyId, OrgNo};
use crate::model::key::Key;
use crate::model::time::Timestamp;
use crate::store::StateError;
use crate::store::schema::KeyRow;

/// Maximum number of valid keys of an organization.
pub const KEYS_PER_ORG_MAX: usize = 100;

/// The outcome of adding a key to an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAdded {
    /// The organization has the new key.
    Added,
    /// The organization has [`KEYS_PER_ORG_MAX`] keys.
    LimitReached,
    /// The organization, or the key to be replaced, does not exist.
    NotFound,
}

impl Change<'_> {
    /// Refuses the change unless its key is valid, belongs to the organization and has the needed
    /// scopes. The key then becomes the asker of the change. A key found expired ends for good.
    pub(crate) fn judge(&mut self, authority: Authority, org: Option<OrgNo>) -> Result<(), Unapplied> {
        let Some(id) = authority.key.filter(|_| !sabotage::is_on(Switch::JudgedOnce)) else { return Ok(()) };
        let known = self.state.keys.get(id)?;
        if known.is_none() && self.is_lost(id)? {
            return Ok(()); // judged before the creation of the key was lost
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

    /// Returns true if the key's creation was lost to damage and this command was judged before the
    /// loss.
    pub(crate) fn is_lost(&mut self, id: KeyId) -> Result<bool, StateError> {
        let position = self.position;
        let meta = self.meta()?;
        Ok(position < meta.judged_before && meta.lost_keys.binary_search(&id).is_ok())
    }

    /// Updates the list of lost keys: `ended` leaves the list; `new`, a successor with unknown
    /// scopes, joins the list.
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

    /// Ends a key for good, whatever the clock says later.
    pub(crate) fn end_for_good(&mut self, id: KeyId) -> Result<(), StateError> {
        if self.state.keys.get(id)?.is_some_and(|row| !row.key.has_ended())
            && let Some(row) = self.state.keys.edit(id)?
        {
            row.key.ended_at = Some(Timestamp(0));
        }
        Ok(())
    }

    /// Adds a key to an organization. The organization can have [`KEYS_PER_ORG_MAX`] lasting keys
    /// and as many keys in their grace period. Beyond that, the grace key with the earliest end is
    /// removed, but not `replaces`.
    pub(crate) fn add_key(&mut self, org: OrgNo, key: &Key, replaces: Option<KeyId>) -> Result<KeyAdded, StateError> {
        let Some(row) = self.state.orgs.edit(org)? else { return Ok(KeyAdded::NotFound) };
        // Keys that ended before this key was created are removed first, so the limit counts living
        // keys.
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
