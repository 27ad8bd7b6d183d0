//! The thread that brings fresh rows to sled, so that nobody who waits for an answer waits for that, unless there are too
//! many. The journal has made them durable already; sled only has to keep up.
//!
//! Woken by the committer. Must not know what the rows are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::intake::Intake;
use super::space::{Shortage, Space};
use super::watchdog::Progress;
use crate::base::exit_code::fatal;
use crate::base::metrics::Metrics;
use crate::base::sabotage::{self, Switch};
use crate::base::threads::{Signal, Stop};
use crate::store::Store;

/// Changed rows of a server reach sled at the latest after this long,
pub const WRITE_BACK_AFTER: Duration = Duration::from_millis(300);
/// or when there are so many.
const ROWS: usize = 4_096;
/// Rows are looked for this often, also when nobody says that there are some.
const NAP: Duration = Duration::from_secs(20);
/// With so many rows in memory the committer waits until they are in sled.
const ROWS_MAX: usize = 4 * ROWS;

/// What the committer and the thread share.
#[derive(Clone, Debug, Default)]
pub struct Flush {
    wake: Signal,
    asked: Arc<AtomicBool>,
}

impl Flush {
    /// Asks for a write-back soon, or at once if there are many rows. Says whether there are too many: then whoever
    /// makes them has to wait, unless the disk is full.
    pub(super) fn ask(&self, rows: usize) -> bool {
        if !self.asked.swap(true, Ordering::SeqCst) || rows >= ROWS {
            self.wake.notify();
        }
        rows >= ROWS_MAX
    }

    /// Wakes the thread, so that it sees that it should stop.
    pub fn wake(&self) {
        self.wake.notify();
    }
}

/// The thread's work.
pub struct Flusher {
    /// The state.
    pub store: Arc<Store>,
    /// Who asks.
    pub flush: Flush,
    /// How long changed rows may wait.
    pub after: Duration,
    /// The door for events, which is closed while the disk is full.
    pub intake: Intake,
    /// The disk that the rows go to.
    pub space: Arc<Space>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What the watchdog looks at.
    pub progress: Arc<Progress>,
}

impl Flusher {
    /// Works until it is asked to stop. What is fresh then is left to [`Store::close`].
    pub fn run(self, stop: &Stop) {
        let _on_panic = self.store.condemn_on_panic();
        let nap = if sabotage::is_on(Switch::ScanOff) { Duration::MAX } else { NAP };
        loop {
            if !self.flush.wake.wait(nap) && self.store.fresh_rows() == 0 && !stop.is_set() {
                continue;
            }
            let deadline = Instant::now() + self.after;
            while !stop.is_set() && self.store.fresh_rows() < ROWS {
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
            write_back(&self.store, &self.metrics);
            self.progress.idle();
        }
    }

    /// Whether there is no space to write. No events are taken then, and what else comes has no
    /// more than what is left of the journal's space.
    fn is_held(&self) -> bool {
        let held = self.space.is_short_for(self.store.fresh());
        if held {
            self.intake.set_shortage(Some(Shortage::Bytes), self.space.free());
        }
        held
    }
}

/// Brings fresh rows to sled. The state is broken if that fails, the journal is not: the next start makes the state anew.
pub(super) fn write_back(store: &Store, metrics: &Metrics) {
    let began = Instant::now();
    if sabotage::is_on(Switch::WriteBackHangs) {
        Signal::new().wait(Duration::MAX);
    }
    match store.write_back() {
        Ok(rows) => {
            metrics.write_back_rows.inc_by(rows as u64);
            metrics.write_back_seconds.observe(began.elapsed().as_secs_f64());
        }
        Err(error) => {
            store.condemn();
            fatal(&error.to_string());
        }
    }
}
