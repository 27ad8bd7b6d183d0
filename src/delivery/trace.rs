//! The trace of an attempt, which becomes a part of its outcome. Used by the sender.

use std::time::{Duration, Instant};

use super::connector::ConnectionTrace;
use super::lookups::NoLookup;
use crate::model::delivery::{AttemptError, AttemptOutcome, Timing};
use crate::model::time::Timestamp;

/// The connection of an attempt, for its outcome.
#[derive(Default)]
pub(super) struct AttemptTrace {
    pub(super) connection: ConnectionTrace,
    /// True if the connection came from the pool.
    pub(super) is_reused: bool,
    /// How long the attempt waited for the turn of its lookup.
    pub(super) waited: Duration,
}

impl AttemptTrace {
    /// The outcome of an attempt as far as its connection decides it.
    pub(super) fn outcome(&self, started_at: Timestamp, begun: Instant) -> AttemptOutcome {
        let duration = begun.elapsed().saturating_sub(self.waited);
        let mut outcome = AttemptOutcome {
            address: self.connection.address,
            ..AttemptOutcome::new(started_at, whole_ms(duration))
        };
        if !self.is_reused {
            outcome.timing = Timing {
                dns_ms: self.connection.dns.map(whole_ms),
                connect_ms: self.connection.connect.map(whole_ms),
                tls_ms: self.connection.tls.map(whole_ms),
                first_byte_ms: None,
            };
        }
        outcome
    }

    /// When the connection was ready for the request.
    pub(super) fn ready_at(&self, begun: Instant) -> Instant {
        self.connection.ready_at.filter(|_| !self.is_reused).unwrap_or(begun)
    }
}

/// Why there is no answer.
pub(super) enum Unanswered {
    Failed(AttemptError),
    /// Nothing was tried.
    NotBegun(NoLookup),
}

impl From<AttemptError> for Unanswered {
    fn from(error: AttemptError) -> Self {
        Self::Failed(error)
    }
}

impl From<NoLookup> for Unanswered {
    fn from(error: NoLookup) -> Self {
        Self::NotBegun(error)
    }
}

/// The time in whole milliseconds.
pub(super) fn whole_ms(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
