//! Command: removes old entries of the audit log.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::journal::Position;
use crate::model::id::OrgNo;
use crate::model::time::Timestamp;
use crate::store::{Change, Unapplied};

/// Removes the oldest entries of the audit log, a bounded number per command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireAudit {
    /// Entries of before this steady time leave, up to the first younger one.
    pub before: Timestamp,
}

/// Maximum number of entries that one command removes.
const ENTRIES_MAX: usize = 256;

impl Kind for ExpireAudit {
    const NUMBER: u8 = 31;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ();

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        None
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<(), Unapplied> {
        let all = (Position(0), 0)..=(Position::MAX, u32::MAX);
        let oldest = change.state.audit.range(all, ENTRIES_MAX)?;
        let expired = oldest.into_iter().take_while(|(_, row)| row.steady < self.before);
        for (place, row) in expired {
            change.remove_audit(place, row.org);
        }
        Ok(())
    }
}
