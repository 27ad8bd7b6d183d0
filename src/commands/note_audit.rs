//! Command: adds an entry to the audit log that no other command makes.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, Stamp, plain_body};
use crate::model::audit::AuditEntry;
use crate::model::id::OrgNo;
use crate::model::time::{Now, Timestamp};
use crate::store::{Change, Unapplied};

/// Records what changes no row: a reload of the configuration, or a request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteAudit {
    /// The entry.
    pub entry: AuditEntry,
    /// The time of the commit.
    pub at: Now,
}

impl NoteAudit {
    /// Makes a command whose times are set by the committer.
    pub fn new(entry: AuditEntry) -> Self {
        Self { entry, at: Now::new(Timestamp(0), Timestamp(0)) }
    }
}

impl Kind for NoteAudit {
    const NUMBER: u8 = 32;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ();

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        None
    }

    fn at(&self) -> Option<Timestamp> {
        Some(self.at.wall)
    }

    fn stamp(&mut self, stamp: &mut impl Stamp) {
        self.at = Now::new(stamp.now(), stamp.steady());
        self.entry.at = self.at.wall;
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<(), Unapplied> {
        change.note_steady(self.at.steady)?;
        change.put_audit(self.at.steady, self.entry.clone());
        Ok(())
    }
}
