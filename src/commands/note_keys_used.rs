//! Command: notes when keys were last used.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::id::{KeyId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::{Change, Unapplied};

/// Notes when keys were last used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteKeysUsed {
    /// Keys, each with the time of its last use.
    pub used: Vec<(KeyId, Timestamp)>,
    /// The steady time of the command.
    pub at: Timestamp,
}

impl NoteKeysUsed {
    /// A command without an effect, for a journal that has to append something: a segment is sealed
    /// only before the next record.
    pub fn nothing() -> Self {
        Self { used: Vec::new(), at: Timestamp(0) }
    }
}

impl Kind for NoteKeysUsed {
    const NUMBER: u8 = 4;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ();

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        None
    }

    fn weight(&self) -> usize {
        self.used.len()
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<(), Unapplied> {
        change.note_steady(self.at)?;
        for (key, at) in &self.used {
            if let Some(row) = change.state.keys.edit(*key)? {
                row.last_used_at = row.last_used_at.max(Some(*at));
            }
        }
        Ok(())
    }
}
