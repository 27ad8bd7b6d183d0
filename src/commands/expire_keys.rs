//! Command: ends keys that have expired.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::id::{KeyId, OrgNo};
use crate::model::time::Now;
use crate::store::{Change, Unapplied};

/// Ends expired keys for good, so that a clock set back does not revive them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireKeys {
    /// The keys, a bounded number per command. A key that is still valid is left alone.
    pub keys: Vec<KeyId>,
    /// The time by which the keys are judged.
    pub at: Now,
}

impl Kind for ExpireKeys {
    const NUMBER: u8 = 22;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ();

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        None
    }

    fn weight(&self) -> usize {
        self.keys.len()
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<(), Unapplied> {
        change.note_steady(self.at.steady)?;
        for id in &self.keys {
            if change.is_lost(*id)? {
                change.change_lost(Some(*id), None)?;
            }
            if change.state.keys.get(*id)?.is_some_and(|row| !row.key.is_valid(self.at)) {
                change.end_for_good(*id)?;
            }
        }
        Ok(())
    }
}
