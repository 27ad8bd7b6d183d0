//! The phase of the server, set by the code that starts and stops the server, and read by probes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

const STARTING: u8 = 0;
const READY: u8 = 1;
const STOPPING: u8 = 2;

/// If a server makes deliveries, and if not, the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivering {
    /// Deliveries are made.
    #[default]
    Yes,
    /// The server was started without deliveries.
    Off,
    /// The data directory was restored, and its deliveries are held.
    Held,
}

/// The phase of the server, and the loss of its data directory.
#[derive(Debug, Default)]
pub struct Health {
    pub(in crate::http) delivering: Delivering,
    phase: AtomicU8,
    /// Set while expiring events cannot be archived, so that they do not expire.
    archive_fails: Arc<AtomicBool>,
    data_lost: AtomicBool,
    incomplete: AtomicBool,
}

/// A phase of the server. Phases only move forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(in crate::http) enum Phase {
    Starting,
    Ready,
    Stopping,
}

impl Phase {
    pub(in crate::http) fn name(self) -> &'static str {
        self.into()
    }
}

impl Health {
    /// Makes the health of a server that starts.
    pub fn new(delivering: Delivering) -> Self {
        Self { delivering, ..Self::default() }
    }

    /// Enters the ready phase, unless the server is stopping already.
    pub fn set_ready(&self) {
        let was_starting = self
            .phase
            .compare_exchange(STARTING, READY, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        if !was_starting {
            tracing::debug!("ready comes after a stop, which stays");
        }
    }

    /// Enters the stopping phase: requests should go to other servers.
    pub fn set_stopping(&self) {
        self.phase.store(STOPPING, Ordering::SeqCst);
    }

    /// Returns the flag that is set while expiring events cannot be archived.
    pub fn archive_fails(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.archive_fails)
    }

    /// Records that the data directory is no longer in its place, and enters the stopping phase.
    pub fn set_data_lost(&self) {
        self.data_lost.store(true, Ordering::SeqCst);
        self.set_stopping();
    }

    /// Records if a file is lost that only the next start needs.
    pub fn set_incomplete(&self, is_incomplete: bool) {
        self.incomplete.store(is_incomplete, Ordering::SeqCst);
    }

    /// A word about the data directory; `ok` means that all of it is there.
    pub(in crate::http) fn data_dir(&self) -> &'static str {
        match (self.is_data_lost(), self.incomplete.load(Ordering::SeqCst)) {
            (true, _) => "lost",
            (false, true) => "incomplete",
            (false, false) => "ok",
        }
    }

    fn is_data_lost(&self) -> bool {
        self.data_lost.load(Ordering::SeqCst)
    }

    pub(in crate::http) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            STARTING => Phase::Starting,
            READY => Phase::Ready,
            _ => Phase::Stopping,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_stops_does_not_become_ready_again() {
        let health = Health::default();
        assert_eq!(health.phase(), Phase::Starting);
        health.set_ready();
        assert_eq!(health.phase(), Phase::Ready);
        health.set_stopping();
        health.set_ready();
        assert_eq!(health.phase(), Phase::Stopping);
    }
}
