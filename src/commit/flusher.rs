//! The thread that brings fresh rows to sled, so that nobody who waits for an answer waits for that. The journal has made
//! them durable already; sled only has to keep up.
//!
//! Woken by the committer. Must not know what the rows are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::intake::Intake;
use super::watchdog::Progress;
use crate::base::exit_code::fatal;
use crate::base::metrics::Metrics;
use crate::base::threads::{Signal, Stop};
use crate::store::Store;

/// Changed rows reach sled at the latest after this long,
const AFTER: Duration = Duration::from_millis(300);
/// or when there are so many.
const ROWS: usize = 4_096;
/// With so many rows in memory the committer waits until they are in sled.
const ROWS_MAX: usize = 16 * ROWS;
/// sled does not survive a write for which there is no space: with less free disk than this share of the reserve it gets
/// nothing to write.
const RESERVE_SHARE: u64 = 4;

/// What the committer and the thread share.
#[derive(Clone, Debug, Default)]
pub struct Flush {
    wake: Signal,
    asked: Arc<AtomicBool>,
    /// The disk is full: rows stay in memory.
    held: Arc<AtomicBool>,
}

impl Flush {
    /// Asks for a write-back soon, or at once if there are many rows. Says whether there are too many: then whoever
    /// makes them has to wait.
    pub(super) fn ask(&self, rows: usize) -> bool {
        if !self.asked.swap(true, Ordering::SeqCst) || rows >= ROWS {
            self.wake.notify();
        }
        rows >= ROWS_MAX && !self.held.load(Ordering::SeqCst)
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
    /// The door for events, which is closed while the disk is full.
    pub intake: Intake,
    /// Free bytes of the filesystem that holds the data.
    pub disk_free: Box<dyn Fn() -> Option<u64> + Send>,
    /// What is to stay free, in bytes.
    pub reserve_bytes: u64,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What the watchdog looks at.
    pub progress: Arc<Progress>,
}

impl Flusher {
    /// Works until it is asked to stop. What is fresh then is left to [`Store::close`].
    pub fn run(self, stop: &Stop) {
        let _on_panic = self.store.condemn_on_panic();
        loop {
            self.flush.wake.wait(Duration::MAX);
            let deadline = Instant::now() + AFTER;
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
                Signal::new().wait(AFTER);
                self.flush.wake.notify();
                continue;
            }
            self.progress.busy();
            self.flush.asked.store(false, Ordering::SeqCst);
            write_back(&self.store, &self.metrics);
            self.progress.idle();
        }
    }

    /// Whether there is no space to write. No events are taken then, so the rows in memory stay few.
    fn is_held(&self) -> bool {
        let held = (self.disk_free)().is_some_and(|free| free < self.reserve_bytes / RESERVE_SHARE);
        self.flush.held.store(held, Ordering::SeqCst);
        if held {
            self.intake.set_disk_low(true);
        }
        held
    }
}

/// Brings fresh rows to sled. The state is broken if that fails, the journal is not: the next start makes the state anew.
pub(super) fn write_back(store: &Store, metrics: &Metrics) {
    let began = Instant::now();
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
