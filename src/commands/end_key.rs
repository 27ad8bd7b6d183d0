//! Command: revokes a key.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::audit::Changing;
use crate::model::id::{KeyId, OrgNo};
use crate::model::key::Scope;
use crate::model::time::Now;
use crate::store::{Change, Refusal, Unapplied};

/// Revokes a key for good. A key cannot revoke a key with more scopes or a later end than its own,
/// and in its grace period none but itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndKey {
    /// The organization of the key.
    pub org: OrgNo,
    /// The key to be revoked.
    pub key: KeyId,
    /// The time of the request, by which the key is judged.
    pub at: Now,
}

/// The outcome of [`EndKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKeyOutcome {
    /// The key was valid and is revoked.
    Ended,
    /// The organization has no such key, or the key had ended before.
    NotFound,
}

impl Kind for EndKey {
    const NUMBER: u8 = 14;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::OperatorOr(Scope::KeysWrite);

    const IS_AUDITED: bool = true;

    type Outcome = EndKeyOutcome;

    plain_body!();

    fn audited(&self) -> Vec<Changing> {
        vec![Changing::Key(self.key)]
    }

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<EndKeyOutcome, Unapplied> {
        let known = change.state.keys.get(self.key)?;
        if known.is_none() && change.is_lost(self.key)? {
            change.change_lost(Some(self.key), None)?;
        }
        let Some(row) = known.filter(|row| row.org == self.org) else {
            return Ok(EndKeyOutcome::NotFound);
        };
        let is_valid = row.key.is_valid(self.at);
        if is_valid
            && change.requester.as_ref().is_some_and(|by| by.key.why_not_end(&row.key).is_some())
        {
            return Err(Refusal::Forbidden.into());
        }
        change.end_for_good(self.key)?;
        Ok(if is_valid { EndKeyOutcome::Ended } else { EndKeyOutcome::NotFound })
    }
}
