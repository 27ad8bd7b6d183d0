//! Command: adds a key to an organization.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::audit::Changing;
use crate::model::id::{KeyId, OrgNo};
use crate::model::key::{Key, Scope};
use crate::store::{Change, KeyAdded, Refusal, Unapplied};

/// Creates a key for an organization. A key cannot create a key with more scopes, and the new key
/// ends no later than its creator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateKey {
    /// The organization of the key.
    pub org: OrgNo,
    /// The key to be added.
    pub key: Key,
}

impl Kind for CreateKey {
    const NUMBER: u8 = 2;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::OperatorOr(Scope::KeysWrite);

    const IS_AUDITED: bool = true;

    type Outcome = KeyAdded;

    plain_body!();

    fn audited(&self) -> Vec<Changing> {
        vec![Changing::Key(self.key.id)]
    }

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn made_key(&self) -> Option<KeyId> {
        Some(self.key.id)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<KeyAdded, Unapplied> {
        let mut key = self.key.clone();
        if let Some(requester) = &change.requester {
            if !requester.key.scopes.covers(key.scopes) {
                return Err(Refusal::Forbidden.into());
            }
            let by = &requester.key;
            key.expires_at = [key.expires_at, by.expires_at].into_iter().flatten().min();
            key.ended_at = by.ended_at;
        }
        Ok(change.add_key(self.org, &key, None)?)
    }
}
