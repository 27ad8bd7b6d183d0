//! Command: changes the name, the scopes or the end of a key.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::audit::Changing;
use crate::model::id::{KeyId, OrgNo};
use crate::model::key::{Scope, Scopes};
use crate::model::time::{Now, Timestamp};
use crate::store::{Change, Refusal, Unapplied};

/// Changes the named properties of a key; the others stay. A key can lose scopes and get none. A
/// key changes only keys that it could revoke, and sets only an earlier end; the operator can set a
/// later end too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeKey {
    /// The organization of the key.
    pub org: OrgNo,
    /// The key to be changed.
    pub key: KeyId,
    /// The new name.
    pub name: Option<String>,
    /// The new scopes.
    pub scopes: Option<Scopes>,
    /// The new end.
    pub expires_at: Option<Timestamp>,
    /// The time of the request, by which the key is judged.
    pub at: Now,
}

/// The outcome of [`ChangeKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKeyOutcome {
    /// The key has the new properties.
    Changed,
    /// The organization has no such key, or the key has ended.
    NotFound,
    /// Nothing was changed, because the key lacks one of the scopes.
    MoreScopes,
    /// Nothing was changed, because only the operator may set a later end.
    LaterEnd,
}

impl Kind for ChangeKey {
    const NUMBER: u8 = 29;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::OperatorOr(Scope::KeysWrite);

    const IS_AUDITED: bool = true;

    type Outcome = ChangeKeyOutcome;

    plain_body!();

    fn audited(&self) -> Vec<Changing> {
        vec![Changing::Key(self.key)]
    }

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<ChangeKeyOutcome, Unapplied> {
        let known = change.state.keys.get(self.key)?;
        let Some(row) = known.filter(|row| row.org == self.org && row.key.is_valid(self.at)) else {
            return Ok(ChangeKeyOutcome::NotFound);
        };
        let key = &row.key;
        if change.requester.as_ref().is_some_and(|by| by.key.why_not_end(key).is_some()) {
            return Err(Refusal::Forbidden.into());
        }
        if self.scopes.is_some_and(|scopes| !key.scopes.covers(scopes)) {
            return Ok(ChangeKeyOutcome::MoreScopes);
        }
        let is_later = self.expires_at.zip(key.expires_at).is_some_and(|(new, end)| new > end);
        if is_later && change.requester.is_some() {
            return Ok(ChangeKeyOutcome::LaterEnd);
        }
        let key = &mut change.state.keys.edit_promised(self.key)?.key;
        if let Some(name) = &self.name {
            key.name.clone_from(name);
        }
        key.scopes = self.scopes.unwrap_or(key.scopes);
        key.expires_at = self.expires_at.or(key.expires_at);
        Ok(ChangeKeyOutcome::Changed)
    }
}
