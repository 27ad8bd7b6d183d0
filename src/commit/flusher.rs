//! Flusher thread: writes fresh rows to sled, so that the committer waits for sled only when too
//! many rows wait. The journal has made the changes durable already.
//!
//! The committer wakes this thread. This module must not know the meaning of the rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::space::Shortage;
use super::watchdog::Progress;
use crate::base::exit_code::fatal;
use crate::base::failpoint::{self, Switch};
use crate::base::metrics::Metrics;
use crate::base::threads::Signal;
use crate::store::Store;

/// Delay after which a server writes changed rows to sled, at the latest.
pub const WRITE_BACK_AFTER: Duration = Duration::from_millis(300);
/// Number of fresh rows at which a write-back starts at once.
const ROWS: usize = 4_096;
/// Interval at which the thread looks for fresh rows without a wakeup.
const NAP: Duration = Duration::from_secs(20);
/// Number of fresh rows at which the committer writes to sled itself.
const ROWS_MAX: usize = 4 * ROWS;

/// Shared by the committer and the flusher. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Flush {
    wake: Signal,
    asked: Arc<AtomicBool>,
}

impl Flush {
    /// Asks for a write-back: soon, or at once if there are many rows. Returns true if there are
    /// too many rows: then the caller must write them itself, unless the disk is full.
    pub(super) fn ask(&self, rows: usize) -> bool {
        if !self.asked.swap(true, Ordering::SeqCst) || rows >= ROWS {
            self.wake.notify();
        }
        rows >= ROWS_MAX
    }

    /// Wakes the thread, for example to see a request to stop.
    pub fn wake(&self) {
        self.wake.notify();
    }
}

/// The flusher thread.
pub struct Flusher {
    /// The shared parts of the server.
    pub engine: Arc<Engine>,
    /// Shared with the committer, which asks for write-backs.
    pub flush: Flush,
    /// Delay between the first changed row and its write-back.
    pub after: Duration,
    /// Progress for the watchdog.
    pub progress: Arc<Progress>,
}

impl Flusher {
    /// Works until the engine stops. The rows that are fresh by then are left to
    /// [`Store::close`].
    pub fn run(self) {
        let stop = &self.engine.stop;
        let _on_panic = self.engine.store.invalidate_on_panic();
        let nap = if failpoint::is_on(Switch::ScanOff) { Duration::MAX } else { NAP };
        loop {
            if !self.flush.wake.wait(nap) && self.engine.store.fresh_rows() == 0 && !stop.is_set() {
                continue;
            }
            let deadline = Instant::now() + self.after;
            while !stop.is_set() && self.engine.store.fresh_rows() < ROWS {
                let left = deadline.saturating_duration_since(Instant::now());
                if !self.flush.wake.wait(left) {
                    break;
                }
            }
            if stop.is_set() {
                return;
            }
            if self.is_held() {
                Signal::new().wait(WRITE_BACK_AFTER);
                self.flush.wake.notify();
                continue;
            }
            self.progress.busy();
            self.flush.asked.store(false, Ordering::SeqCst);
            write_back(&self.engine.store, &self.engine.metrics);
            self.progress.idle();
        }
    }

    /// Returns true if the disk has no room for the fresh rows. Events are refused then; other
    /// commands get only the space that the journal has left.
    fn is_held(&self) -> bool {
        let held = self.engine.space.is_short_for(self.engine.store.fresh());
        if held {
            self.engine.intake.set_shortage(Some(Shortage::Bytes), self.engine.space.free());
        }
        held
    }
}

/// Writes fresh rows to sled. A failure ends the process: the state is broken but the journal is
/// not, so the next start computes the state anew.
pub(super) fn write_back(store: &Store, metrics: &Metrics) {
    let began = Instant::now();
    if failpoint::is_on(Switch::WriteBackHangs) {
        Signal::new().wait(Duration::MAX);
    }
    match store.write_back() {
        Ok(rows) => {
            metrics.write_back_rows.inc_by(rows as u64);
            metrics.write_back_seconds.observe(began.elapsed().as_secs_f64());
        }
        Err(error) => {
            store.invalidate();
            fatal(&error.to_string());
        }
    }
}
