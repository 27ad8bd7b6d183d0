//! The snapshots as other threads see them: when the next is due, and which are kept. Shared by the
//! committer, which hints, by the compactor, which asks, and by the snapshot thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::threads::Signal;
use crate::journal::Position;

/// The snapshots of a running server. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Snapshots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    wake: Signal,
    asked: AtomicBool,
    /// The position of the journal at which the next snapshot is due.
    due_at: AtomicU64,
    kept: Mutex<Option<KeptSnapshots>>,
    /// The size of the snapshots that are always kept, in bytes.
    kept_bytes: AtomicU64,
    /// The size of all snapshots in bytes.
    all_bytes: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            wake: Signal::new(),
            asked: AtomicBool::new(false),
            due_at: AtomicU64::new(u64::MAX),
            kept: Mutex::default(),
            kept_bytes: AtomicU64::new(0),
            all_bytes: AtomicU64::new(0),
        }
    }
}

/// The positions of the kept snapshots. The newest two were read to their ends. Nothing is removed
/// because of a single file: the newest snapshot only backs the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptSnapshots {
    /// The oldest snapshot that a copy of the directory may still use.
    pub oldest: Position,
    /// The newest snapshot that a newer one backs.
    pub newest: Position,
}

impl Snapshots {
    /// Asks for a snapshot as soon as the last one is older than `[retention] grace_seconds`.
    pub fn ask(&self) {
        if !self.0.asked.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Returns the kept snapshots. `None` while no snapshot is known to be whole: then every part
    /// of the journal is needed.
    pub fn kept(&self) -> Option<KeptSnapshots> {
        *self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the size of the snapshots that are always kept, and of all snapshots, in bytes.
    pub fn sizes(&self) -> (u64, u64) {
        let Shared { kept_bytes, all_bytes, .. } = &*self.0;
        (kept_bytes.load(Ordering::Relaxed), all_bytes.load(Ordering::Relaxed))
    }

    /// Wakes the snapshot thread, for example to see a request to stop.
    pub fn wake(&self) {
        self.0.wake.notify();
    }

    /// Notes the end of the journal, and wakes the snapshot thread if a snapshot is due.
    pub(super) fn appended(&self, end: Position) {
        if end.0 >= self.0.due_at.load(Ordering::Relaxed) {
            self.due_at(Position::MAX);
            self.wake();
        }
    }

    /// Sets the position at which [`Snapshots::appended`] wakes the thread.
    pub(super) fn due_at(&self, position: Position) {
        self.0.due_at.store(position.0, Ordering::Relaxed);
    }

    pub(super) fn wait(&self, at_most: Duration) -> bool {
        self.0.wake.wait(at_most)
    }

    pub(super) fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// Returns true if a snapshot was asked for, and forgets the question.
    pub(super) fn take_asked(&self) -> bool {
        self.0.asked.swap(false, Ordering::SeqCst)
    }

    /// Notes the sizes that [`Snapshots::sizes`] returns.
    pub(super) fn note_sizes(&self, (kept, all): (u64, u64)) {
        self.0.kept_bytes.store(kept, Ordering::Relaxed);
        self.0.all_bytes.store(all, Ordering::Relaxed);
    }

    pub(super) fn publish(&self, kept: Option<KeptSnapshots>) {
        *self.0.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }
}
