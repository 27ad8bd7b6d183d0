//! Command: replaces a key by a new one.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::audit::Changing;
use crate::model::id::{KeyId, OrgNo};
use crate::model::key::Key;
use crate::model::time::Timestamp;
use crate::store::{Change, KeyAdded, Unapplied};

/// Replaces a key by a new one; the old key ends after a grace period. The new key has the scopes
/// and the end of the old one, even if the old key is in its grace period already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateKey {
    /// The organization of the keys.
    pub org: OrgNo,
    /// The key to be replaced.
    pub old: KeyId,
    /// The steady end of the old key's grace period, unless the key ends earlier anyway. With 0 or a past
    /// time the key ends at once, for good.
    pub old_ends_at: Timestamp,
    /// The new key. Its scopes and its end are taken from the old key when the command is applied.
    pub new: Key,
}

impl Kind for RotateKey {
    const NUMBER: u8 = 3;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::AnyKey;

    const IS_AUDITED: bool = true;

    type Outcome = KeyAdded;

    plain_body!();

    fn audited(&self) -> Vec<Changing> {
        vec![Changing::RotatedKey(self.old), Changing::Key(self.new.id)]
    }

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn made_key(&self) -> Option<KeyId> {
        Some(self.new.id)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<KeyAdded, Unapplied> {
        let at = self.new.made();
        let known = change.state.keys.get(self.old)?;
        if known.is_none() && change.is_lost(self.old)? {
            // The scopes of the old key are unknown, so the new key cannot be used either.
            change.change_lost(
                (self.old_ends_at <= at.steady).then_some(self.old),
                Some(self.new.id),
            )?;
        }
        let Some(old) = known.filter(|row| row.org == self.org && row.key.is_valid(at)) else {
            return Ok(KeyAdded::NotFound);
        };
        let Key { scopes, expires_at, ended_at, .. } = old.key;
        let new = Key { scopes, expires_at, ended_at, ..self.new.clone() };
        let end = ended_at.map_or(self.old_ends_at, |end| end.min(self.old_ends_at));
        change.state.keys.edit_promised(self.old)?.key.ended_at =
            Some(if end <= at.steady { Key::ENDED_FOR_GOOD } else { end });
        Ok(change.add_key(self.org, &new, Some(&old))?)
    }
}
