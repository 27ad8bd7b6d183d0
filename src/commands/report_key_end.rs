//! Command: tells an organization that one of its keys ends soon.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, Stamp, plain_body};
use crate::model::event::StoredEvent;
use crate::model::id::{EventId, KeyId, OrgNo};
use crate::model::operational_event::OperationalEvent;
use crate::model::time::Timestamp;
use crate::store::change::Arrival;
use crate::store::{Change, Stored, Unapplied};

/// Stores an operational event about the end of a key, unless this end was reported before, or the
/// key has another end by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportKeyEnd {
    /// The organization of the key.
    pub org: OrgNo,
    /// The key that ends.
    pub key: KeyId,
    /// The end that is reported.
    pub expires_at: Timestamp,
    /// The operational event.
    pub report: OperationalEvent,
}

impl Kind for ReportKeyEnd {
    const NUMBER: u8 = 30;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    /// The operational event, if it was stored.
    type Outcome = Option<Stored>;

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn stamp(&mut self, stamp: &mut impl Stamp) {
        (self.report.id, self.report.received_at) = (stamp.next_id(), stamp.now());
    }

    fn stored_events(&self) -> Vec<EventId> {
        vec![self.report.id]
    }

    fn forget_payload(&mut self, id: EventId) {
        if self.report.id == id {
            self.report.payload = Box::default();
        }
    }

    fn into_event(self, id: EventId) -> Option<StoredEvent> {
        (self.report.id == id).then(|| self.report.stored_event())
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<Option<Stored>, Unapplied> {
        let Self { org, key, expires_at, ref report } = *self;
        change.note_id(report.id.0)?;
        let known = change.state.keys.get(key)?.filter(|row| row.org == org);
        let is_due = known.is_some_and(|row| {
            row.key.expires_at == Some(expires_at)
                && row.end_told != Some(expires_at)
                && !row.key.is_leaving()
        });
        if !is_due {
            return Ok(None);
        }
        change.state.keys.edit_promised(key)?.end_told = Some(expires_at);
        let StoredEvent { id, received_at, event } = report.stored_event();
        change.take_in(Arrival { org, id, received_at, event: &event })?;
        Ok(Some(Stored { kind: report.kind, id, received_at }))
    }
}
