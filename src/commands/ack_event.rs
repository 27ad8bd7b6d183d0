//! Command: a consumer acknowledges an event, which leaves the inbox.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::id::{EventId, OrgNo};
use crate::model::key::Scope;
use crate::model::time::Timestamp;
use crate::store::{Change, Unapplied};

/// Acknowledges an event. A second acknowledgement changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckEvent {
    /// The organization of the event.
    pub org: OrgNo,
    /// The event to be acknowledged.
    pub event: EventId,
    /// The time of the acknowledgement.
    pub at: Timestamp,
}

/// The outcome of [`AckEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckOutcome {
    /// The event is acknowledged.
    Acknowledged {
        /// The time of the first acknowledgement.
        at: Timestamp,
    },
    /// The organization has no such event.
    NotFound,
}

impl Kind for AckEvent {
    const NUMBER: u8 = 8;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Key(Scope::InboxWrite);

    type Outcome = AckOutcome;

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn event(&self) -> Option<EventId> {
        Some(self.event)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<AckOutcome, Unapplied> {
        let Some(address) = change.locate(self.org, self.event)? else {
            return Ok(AckOutcome::NotFound);
        };
        if let Some(since) = change.read_event(self.org, address, |entry| entry.acknowledged_at)? {
            return Ok(AckOutcome::Acknowledged { at: since });
        }
        change.edit_event(self.org, address, |entry| {
            entry.acknowledged_at = Some(self.at);
            Ok(())
        })?;
        Ok(AckOutcome::Acknowledged { at: self.at })
    }
}
