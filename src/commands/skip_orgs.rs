//! Organizations whose making was lost to damage.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::id::{KeyId, OrgNo};
use crate::store::{Change, Unapplied};

/// Leaves out numbers of organizations. Written only when a damaged journal is salvaged: an organization's number is its
/// place among all that were made, so those behind a lost one would get the number, and with it the events, of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkipOrgs {
    /// So many numbers are not given to anybody.
    pub count: u32,
    /// The end of the journal at that time: commands up to there were judged before the loss.
    pub judged_before: u64,
    /// Keys that some of those commands stand on and whose making was lost: they are believed, as they were then. Any other
    /// key that is not there had ended, or never was.
    pub lost_keys: Vec<KeyId>,
}

impl Kind for SkipOrgs {
    const NUMBER: u8 = 15;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ();

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        None
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<(), Unapplied> {
        let meta = change.meta()?;
        meta.next_org = meta.next_org.saturating_add(self.count);
        meta.judged_before = meta.judged_before.max(self.judged_before);
        meta.lost_keys.extend(&self.lost_keys);
        meta.lost_keys.sort_unstable();
        meta.lost_keys.dedup();
        Ok(())
    }
}
