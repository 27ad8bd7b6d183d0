//! The threads that make changes durable: the committer, the maker of segments, the flusher and the
//! snapshot thread, and the watchdog over them. They start first and stop last.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::opening::within_share;
use super::{StartError, systemd};
use crate::base::threads::{Stop, Thread, spawn_critical};
use crate::commit::{
    Committer, Engine, Flush, Flusher, GroupLimits, Progress, SnapshotLimits, SnapshotMaker,
    Submissions, WRITE_BACK_AFTER, watch,
};
use crate::config::Config;
use crate::journal::{OsFiles, Writer};

/// Time that these threads have beyond the deadline of the other threads.
const EXTRA: Duration = Duration::from_millis(500);
/// Size of all snapshots together from which on the next one comes later.
const PILED_UP_BYTES: u64 = 1 << 30;
/// Time that a stop keeps free after its snapshot, for the last syncs.
const AFTER_SNAPSHOT: Duration = Duration::from_secs(1);

pub(super) struct Writing {
    committer: Thread,
    segments: Thread,
    flush: Flush,
    flusher: Thread,
    snapshots: Thread,
    /// Shows the watchdog the closing of the state.
    closing: Arc<Progress>,
    unwatched: Stop,
}

impl Writing {
    pub(super) fn start(
        engine: &Arc<Engine>,
        (submissions, mut writer): (Submissions, Writer),
        (config, journal): (&Config, PathBuf),
    ) -> Result<Self, StartError> {
        let spares = writer.spares();
        let group = GroupLimits {
            commands: config.intake.group_commands,
            bytes: config.intake.group_bytes,
        };
        let committer = Committer::new(Arc::clone(engine), submissions, writer, group)
            .map_err(StartError::State)?;
        engine.intake.set_shortage(engine.space.shortage(), engine.space.free());
        engine.look_at_rest();
        let (flush, committing) = (committer.flush(), committer.progress());
        let flusher = Flusher {
            engine: Arc::clone(engine),
            flush: flush.clone(),
            after: WRITE_BACK_AFTER,
            progress: Arc::default(),
        };
        let closing = Arc::clone(&flusher.progress);
        let limits = SnapshotLimits {
            bytes: within_share(config.storage.snapshot_bytes, engine.space.size()),
            piled_up: PILED_UP_BYTES,
            grace: config.retention.grace,
            stop: config.server.shutdown.saturating_sub(AFTER_SNAPSHOT),
        };
        let snapshots =
            SnapshotMaker::new(Arc::clone(engine), (journal, Arc::new(OsFiles)), limits);
        // A start on a full disk left rows in memory, so the flusher begins at once.
        flush.wake();
        Self::spawn(spares, committer, (flusher, snapshots), (flush, committing, closing))
            .map_err(StartError::Threads)
    }

    fn spawn(
        spares: crate::journal::SpareMaker,
        committer: Committer<Writer>,
        (flusher, snapshots): (Flusher, SnapshotMaker),
        (flush, committing, closing): (Flush, Arc<Progress>, Arc<Progress>),
    ) -> std::io::Result<Self> {
        // This thread ends when the committer, which owns the writer, ends.
        let segments = spawn_critical("segments", move || spares.run())?;
        let committer = spawn_critical("committer", || committer.run())?;
        let flusher = spawn_critical("flusher", || flusher.run())?;
        let snapshots = spawn_critical("snapshots", || snapshots.run())?;
        let unwatched = Stop::new();
        let watched = [("committer", committing), ("flusher", Arc::clone(&closing))];
        let stop = unwatched.clone();
        // A thread of its own, which no hanging disk can stop.
        spawn_critical("watchdog", move || watch(&watched, &stop, systemd::alive))?;
        Ok(Self { committer, segments, flush, flusher, snapshots, closing, unwatched })
    }

    /// Waits until everything submitted is stored, then closes the state. The intake must be closed
    /// and the engine stopped. Returns true if the threads ended in order, or `None` if the state
    /// cannot be closed because a thread still writes.
    pub(super) fn stop(self, engine: &Engine, deadline: Instant) -> Option<bool> {
        let deadline = deadline + EXTRA;
        let committed = self.committer.join_until(deadline);
        let mut in_order = self.segments.join_until(deadline);
        self.flush.wake();
        let written_back = self.flusher.join_until(deadline);
        if !committed || !written_back {
            tracing::error!(
                "the writer threads did not stop in time; the next start recovers from the journal"
            );
            return None;
        }
        in_order &= self.snapshots.join_until(deadline);
        self.closing.busy();
        close_state(engine);
        self.closing.idle();
        self.unwatched.set();
        Some(in_order)
    }
}

fn close_state(Engine { store, space, .. }: &Engine) {
    if store.is_broken() {
        store.invalidate();
        tracing::error!(
            "a row of the state could not be read; the next start computes the state from the \
             journal"
        );
    } else if space.is_short_for(store.fresh()) {
        tracing::warn!(
            "the disk is full: the state is left as after a crash; the next start applies the rest \
             of the journal"
        );
    } else if let Err(error) = store.close() {
        store.invalidate();
        tracing::error!(%error, "the state could not be closed; the next start computes it from \
            the journal");
    }
}
