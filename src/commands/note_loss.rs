//! A part of the journal was lost to damage.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::id::{KeyId, OrgNo};
use crate::store::{Change, Unapplied};

/// Notes that a part of the journal was lost. Written only when a damaged journal is salvaged, in the place of lost frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteLoss {
    /// Numbers of organizations below this one are not given any more: commands that are still there name some of them, and
    /// the creation of those organizations may be lost.
    pub next_org: u32,
    /// The end of the journal at that time: commands up to there were judged before the loss.
    pub judged_before: u64,
    /// Keys that some of those commands stand on and whose creation was lost: they are believed, as they were then. Any
    /// other key that is not there had ended, or never was.
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
