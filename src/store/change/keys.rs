//! Keys: adding, ending, and judging the key that asks for a command.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Change, Refusal, Unapplied};
use crate::base::failpoint::{self, Switch};
use crate::model::authority::Authority;
use crate::model::id::{KeyId, OrgNo};
use crate::model::key::Key;
use crate::store::StateError;
use crate::store::rows::schema::KeyRow;

/// Maximum number of lasting keys of an organization. Keys in their grace period are not counted.
pub const KEYS_PER_ORG_MAX: usize = 100;

/// Maximum number of families of an organization: a key, and the keys that come from it by
/// rotation. A family of which only keys in their grace period are left counts too.
const FAMILIES_PER_ORG_MAX: usize = 2 * KEYS_PER_ORG_MAX;

/// Maximum number of keys of a family in their grace period.
pub const GRACE_KEYS_PER_FAMILY: usize = 4;

/// The outcome of adding a key to an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAdded {
    /// The organization has the new key.
    Added,
    /// The organization has no room for another key.
    LimitReached,
    /// The organization, or the key to be replaced, does not exist.
    NotFound,
}

impl Change<'_> {
    /// Refuses the change unless its key is valid, belongs to the organization and has the needed
    /// scopes, and unless the organization is suspended. The key then becomes the requester of the change. A key found expired ends for good.
    pub(crate) fn judge(
        &mut self,
        authority: Authority,
        org: Option<OrgNo>,
    ) -> Result<(), Unapplied> {
        self.note_steady(authority.at.steady)?;
        let Some(id) = authority.key.filter(|_| !failpoint::is_on(Switch::JudgedOnce)) else {
            return Ok(());
        };
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
        if self.state.is_suspended(row.org)? {
            return Err(Refusal::Suspended.into());
        }
        self.requester = Some(row);
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
    pub(crate) fn change_lost(
        &mut self,
        ended: Option<KeyId>,
        new: Option<KeyId>,
    ) -> Result<(), StateError> {
        let meta = self.meta()?;
        meta.lost_keys.retain(|id| Some(*id) != ended);
        if let Some(new) = new
            && let Err(index) = meta.lost_keys.binary_search(&new)
        {
            meta.lost_keys.insert(index, new);
        }
        Ok(())
    }

    /// Revokes a key: it stays ended, whatever the clock says later.
    pub(crate) fn end_for_good(&mut self, id: KeyId) -> Result<(), StateError> {
        if self.state.keys.get(id)?.is_some_and(|row| !row.key.has_ended()) {
            self.state.keys.edit_promised(id)?.key.end_for_good();
        }
        Ok(())
    }

    /// Adds a key to an organization. A key that `replaces` another joins its family and is never
    /// refused: beyond [`GRACE_KEYS_PER_FAMILY`] keys of this family in their grace period, a key is
    /// removed: of those that the replaced key may end, the one that ends first, and if there is
    /// none, the replaced key itself. Keys of other families stay.
    ///
    /// A key that replaces none begins a family. It is refused if the organization has
    /// [`KEYS_PER_ORG_MAX`] lasting keys or [`FAMILIES_PER_ORG_MAX`] families.
    pub(crate) fn add_key(
        &mut self,
        org: OrgNo,
        key: &Key,
        replaces: Option<&KeyRow>,
    ) -> Result<KeyAdded, StateError> {
        if self.state.living_org(org)?.is_none() {
            return Ok(KeyAdded::NotFound);
        }
        let row = self.state.orgs.edit_promised(org)?;
        // Keys that ended before this key was created are removed first, so the limit counts living
        // keys.
        let mut living = Vec::with_capacity(row.keys.len() + 1);
        for id in std::mem::take(&mut row.keys) {
            match self.state.keys.get(id)?.filter(|other| other.key.is_valid(key.made())) {
                Some(other) => living.push(other),
                None => self.state.keys.remove(id),
            }
        }
        let is_full = replaces.is_none() && has_no_room(&living);
        if !is_full {
            let family = replaces.map_or(key.id, |old| old.family);
            for first in beyond_grace(&living, key, replaces) {
                self.state.keys.remove(first);
                living.retain(|other| other.key.id != first);
            }
            let added =
                KeyRow { org, key: key.clone(), family, last_used_at: None, end_told: None };
            living.push(Arc::new(added.clone()));
            self.state.keys.put(key.id, added);
        }
        self.state.orgs.edit_promised(org)?.keys =
            living.iter().map(|other| other.key.id).collect();
        self.note_id(key.id.0)?;
        Ok(if is_full { KeyAdded::LimitReached } else { KeyAdded::Added })
    }
}

/// Returns true if no family can begin beside these keys.
fn has_no_room(living: &[Arc<KeyRow>]) -> bool {
    let lasting = living.iter().filter(|row| !row.key.is_leaving()).count();
    let families: BTreeSet<KeyId> = living.iter().map(|row| row.family).collect();
    lasting >= KEYS_PER_ORG_MAX || families.len() >= FAMILIES_PER_ORG_MAX
}

/// Returns the keys of the replaced key's family that must end, so that the family has at most
/// [`GRACE_KEYS_PER_FAMILY`] keys in their grace period when `new` joins. `replaces` is the replaced
/// key as it was before. It ends no key that may more than it did, so the last to go is that key
/// itself.
fn beyond_grace(living: &[Arc<KeyRow>], new: &Key, replaces: Option<&KeyRow>) -> Vec<KeyId> {
    let Some(old) = replaces else { return Vec::new() };
    let of_family = living.iter().filter(|row| row.family == old.family);
    let leaving: Vec<_> = of_family.filter(|row| row.key.is_leaving()).collect();
    let excess =
        (leaving.len() + usize::from(new.is_leaving())).saturating_sub(GRACE_KEYS_PER_FAMILY);
    let others = leaving.iter().filter(|row| row.key.id != old.key.id);
    let may_end = others.filter(|row| old.key.why_not_end(&row.key).is_none());
    let mut ending: Vec<_> = may_end.map(|row| (row.key.ended_at, row.key.id)).collect();
    ending.sort_unstable();
    ending.into_iter().map(|(_, id)| id).chain([old.key.id]).take(excess).collect()
}
