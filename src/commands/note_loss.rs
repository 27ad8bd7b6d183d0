//! Command: notes that a part of the journal was lost to damage.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::journal::Position;
use crate::model::id::{KeyId, OrgNo};
use crate::store::{Change, Unapplied};

/// Notes that a part of the journal was lost. `rebuild` writes this command in the place of lost
/// records when it salvages a damaged journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteLoss {
    /// New organizations get numbers from here on. Remaining commands name lower numbers, and the
    /// creation of those organizations may be lost.
    pub next_org: u32,
    /// The end of the journal at that time: commands before this position were judged before the
    /// loss.
    pub judged_before: Position,
    /// Keys that asked for remaining commands and whose creation was lost: their commands are
    /// applied without judging the key again. Any other unknown key had ended or never existed.
    pub lost_keys: Vec<KeyId>,
}

impl Kind for NoteLoss {
    const NUMBER: u8 = 24;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ();

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        None
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<(), Unapplied> {
        let meta = change.meta()?;
        meta.next_org = meta.next_org.max(self.next_org);
        meta.judged_before = meta.judged_before.max(self.judged_before);
        meta.lost_keys.extend(&self.lost_keys);
        meta.lost_keys.sort_unstable();
        meta.lost_keys.dedup();
        Ok(())
    }
}
