//! Command: removes events that have expired.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, Stamp, plain_body};
use crate::journal::Position;
use crate::model::event::StoredEvent;
use crate::model::id::{EventId, OrgNo};
use crate::model::operational_event::OperationalEvent;
use crate::model::retention::{Cutoffs, Expired, ExpiringBlock};
use crate::store::change::Arrival;
use crate::store::rows::schema::BLOCK_EVENTS;
use crate::store::{Change, StateError, Stored, Unapplied};

/// Removes the events of the named blocks that have expired, with all their rows. When the
/// command is applied, the state decides about each event. The command applies as a whole or not at all: it
/// has no effect if a block has changed since the state was looked at, because its endpoints and
/// the counts of its report may be wrong then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireEvents {
    /// The organization of the events.
    pub org: OrgNo,
    /// The blocks, a bounded number in the order of their events.
    pub blocks: Vec<ExpiringBlock>,
    /// The times before which events expire.
    pub cutoffs: Cutoffs,
    /// The position at which the state was looked at: every earlier command had been applied.
    pub looked_at: Position,
    /// The operational event about events that nobody confirmed, if there are any.
    pub report: Option<OperationalEvent>,
}

/// The outcome of [`ExpireEvents`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpireOutcome {
    /// The events are removed.
    Expired {
        /// The numbers of removed events.
        expired: Expired,
        /// The operational event, if there is one.
        stored: Option<Stored>,
    },
    /// Nothing was changed: a block has changed since, or does not exist. A new search finds what
    /// there is.
    Incomplete,
}

impl Kind for ExpireEvents {
    const NUMBER: u8 = 25;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ExpireOutcome;

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn weight(&self) -> usize {
        self.blocks.iter().map(|block| BLOCK_EVENTS + block.endpoints.len()).sum()
    }

    fn stamp(&mut self, stamp: &mut impl Stamp) {
        if let Some(report) = &mut self.report {
            (report.id, report.received_at) = (stamp.next_id(), stamp.now());
        }
    }

    fn stored_events(&self) -> Vec<EventId> {
        self.report.iter().map(|report| report.id).collect()
    }

    fn forget_payload(&mut self, id: EventId) {
        if let Some(report) = self.report.as_mut().filter(|report| report.id == id) {
            report.payload = Box::default();
        }
    }

    fn into_event(self, id: EventId) -> Option<StoredEvent> {
        let report = self.report.filter(|report| report.id == id)?;
        Some(report.stored_event())
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<ExpireOutcome, Unapplied> {
        let Self { org, cutoffs, looked_at, .. } = *self;
        let in_order = self.blocks.is_sorted_by(|block, next| block.first < next.first);
        let mut all = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let leaving = change.leaving(org, block, (cutoffs, looked_at))?;
            let Some(leaving) = leaving.filter(|_| in_order) else {
                return Ok(ExpireOutcome::Incomplete);
            };
            all.push(leaving);
        }
        let mut expired = Expired::default();
        for leaving in &all {
            expired += change.expire(org, leaving)?;
        }
        let stored = self.store_report(change, expired)?;
        Ok(ExpireOutcome::Expired { expired, stored })
    }
}

impl ExpireEvents {
    /// Stores the operational event, unless every event was confirmed.
    fn store_report(
        &self,
        change: &mut Change<'_>,
        expired: Expired,
    ) -> Result<Option<Stored>, StateError> {
        let unconfirmed = expired.dead + expired.open;
        let Some(report) = self.report.as_ref().filter(|_| unconfirmed > 0) else {
            return Ok(None);
        };
        let StoredEvent { id, received_at, event } = report.stored_event();
        change.note_id(id.0)?;
        change.take_in(Arrival { org: self.org, id, received_at, event: &event })?;
        Ok(Some(Stored { kind: report.kind, id, received_at }))
    }
}
