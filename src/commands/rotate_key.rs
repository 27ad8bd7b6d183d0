//! A new key for an old one.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::id::{KeyId, OrgNo};
use crate::model::key::{Key, Scope};
use crate::model::time::Timestamp;
use crate::store::{Change, KeyAdded, Unapplied};

/// Makes a new key for an old one, which ends after a grace time. The new key may what the old one may, and no longer: not
/// even when the old one is in its grace already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateKey {
    /// The organization.
    pub org: OrgNo,
    /// The key that ends.
    pub old: KeyId,
    /// The time at which it ends (or earlier, if it had an earlier end). 0, or a time that is over: at once, whatever the
    /// clock does.
    pub old_ends_at: Timestamp,
    /// The key that takes its place. Its scopes and its end are those that the old one has by then.
    pub new: Key,
}

impl Kind for RotateKey {
    const NUMBER: u8 = 3;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::OperatorOr(Scope::KeysWrite);

    type Outcome = KeyAdded;

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn made_key(&self) -> Option<KeyId> {
        Some(self.new.id)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<KeyAdded, Unapplied> {
        let at = self.new.created_at;
        let known = change.state.keys.get(self.old)?;
        if known.is_none() && change.is_lost(self.old)? {
            // Its scopes are not known, so there is no key that could be used from now on.
            change.change_lost((self.old_ends_at <= at).then_some(self.old), Some(self.new.id))?;
        }
        let Some(old) = known.filter(|row| row.org == self.org && row.key.is_valid(at)) else {
            return Ok(KeyAdded::NotFound);
        };
        let Key { scopes, expires_at, ended_at, .. } = old.key;
        let new = Key { scopes, expires_at, ended_at, ..self.new.clone() };
        if let Some(row) = change.state.keys.edit(self.old)? {
            let end = ended_at.map_or(self.old_ends_at, |end| end.min(self.old_ends_at));
            row.key.ended_at = Some(if end <= at { Timestamp(0) } else { end });
        }
        Ok(change.add_key(self.org, &new, Some(self.old))?)
    }
}
