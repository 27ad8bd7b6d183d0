//! Keys whose end has come.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::id::{KeyId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::{Change, Unapplied};

/// Ends keys whose end has come, for good: they stay ended also when the clock is set back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireKeys {
    /// The keys, a bounded number at a time; nothing happens to one whose end has not come.
    pub keys: Vec<KeyId>,
    /// The time that they are judged by.
    pub at: Timestamp,
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
