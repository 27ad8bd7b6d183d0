//! The floor of the journal: the position of the oldest kept snapshot. Below it the journal is only
//! the place where payloads and attempts lie, so records that nobody reads can go. The thread that
//! makes snapshots sets the floor; the compactor asks for it, and for a newer snapshot.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::threads::Signal;
use crate::journal::Position;

/// The position of the oldest kept snapshot, and the wish for a newer one.
#[derive(Debug, Default)]
pub struct Floor {
    /// Zero if there is no snapshot.
    oldest: AtomicU64,
    /// Set when somebody waits for a newer snapshot. A hint: whoever waits asks again.
    pub asked: Signal,
}

impl Floor {
    /// Returns the position of the oldest kept snapshot. Every start finds this snapshot or a newer
    /// one, whole and on stable storage.
    pub fn oldest_snapshot(&self) -> Option<Position> {
        Some(self.oldest.load(Ordering::SeqCst)).filter(|oldest| *oldest > 0).map(Position)
    }

    /// Sets the position of the oldest kept snapshot. Called after the snapshot became durable, or
    /// after an older snapshot was removed.
    pub fn set(&self, oldest: Option<Position>) {
        self.oldest.store(oldest.map_or(0, |oldest| oldest.0), Ordering::SeqCst);
    }

    /// Asks for a newer snapshot.
    pub fn ask(&self) {
        self.asked.notify();
    }
}
