//! Command: adds an entry to the audit log that no other command makes.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, Stamp, plain_body};
use crate::model::audit::AuditEntry;
use crate::model::id::OrgNo;
use crate::model::time::Timestamp;
use crate::store::{Change, Unapplied};

/// Records what changes no row: a reload of the configuration, or a request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteAudit {
    /// The entry. Its time is the time of the commit.
    pub entry: AuditEntry,
}

impl Kind for NoteAudit {
    const NUMBER: u8 = 29;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ();

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        None
    }

    fn at(&self) -> Option<Timestamp> {
        Some(self.entry.at)
    }

    fn stamp(&mut self, stamp: &mut impl Stamp) {
        self.entry.at = stamp.now();
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<(), Unapplied> {
        change.put_audit(None, 0, self.entry.clone());
        Ok(())
    }
}
