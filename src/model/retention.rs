//! Retention: the times before which events expire, and the blocks that a command names.

use serde::{Deserialize, Serialize};

use super::id::{EndpointId, EventId};
use super::time::Timestamp;

/// The times before which events expire. An event counts from its receipt, from the time before
/// which it is not pushed, or from the time in its id, whichever is latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cutoffs {
    /// For finished events: out of the inbox, and without a waiting delivery or a dead letter.
    pub finished: Timestamp,
    /// For events of which only dead letters are left.
    pub dead: Timestamp,
    /// For events in an inbox, with a waiting delivery, or not routed yet.
    pub open: Timestamp,
    /// For erased events, which also expire by their other time: compaction finds by the event what
    /// has to leave the journal.
    pub erased: Timestamp,
    /// The present. The time in an id counts only if it is not later: the clock may have been ahead
    /// once, and ids never go back.
    pub now: Timestamp,
}

impl Cutoffs {
    /// The times by which every event expires, because its organization is deleted.
    pub const ALL: Self = Self {
        finished: Timestamp(u64::MAX),
        dead: Timestamp(u64::MAX),
        open: Timestamp(u64::MAX),
        erased: Timestamp(u64::MAX),
        now: Timestamp(u64::MAX),
    };

    /// Returns the latest of the times: no event that is received then or later expires.
    pub fn latest(self) -> Timestamp {
        self.finished.max(self.dead).max(self.open)
    }
}

/// A block of events that may expire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiringBlock {
    /// The first event of the block, whether it expired before or not.
    pub first: EventId,
    /// Every endpoint with a delivery of an event of the block, deleted endpoints included.
    pub endpoints: Vec<EndpointId>,
}

/// The numbers of expired or expiring events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Finished events.
    pub finished: u64,
    /// Events that had dead letters and nothing else to wait for.
    pub dead: u64,
    /// Events that were in an inbox, waited for a delivery, or were not routed yet.
    pub open: u64,
}

impl Expired {
    /// Returns the number of all these events.
    pub fn all(self) -> u64 {
        self.finished + self.dead + self.open
    }
}

impl std::ops::AddAssign for Expired {
    fn add_assign(&mut self, more: Self) {
        self.finished += more.finished;
        self.dead += more.dead;
        self.open += more.open;
    }
}
