//! The snapshot thread: takes a snapshot when one is due, and deletes those that nobody needs any
//! more. The committer's hint wakes it, and it looks by itself every few seconds.
//!
//! A snapshot is due when the journal has grown by `[storage] snapshot_bytes`, or by the size of
//! the last snapshot if this is more; at a clean stop after a quarter of that; and when the
//! compactor asks for one. The newest whole snapshot is always kept. Each older one is kept until
//! `[retention] grace_seconds` after a newer one became durable, because a copy of the directory
//! that began before may still use it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::snapshot_taking::{NotTaken, take_snapshot};
use super::snapshots::KeptSnapshots;
use crate::base::exit_code::fatal;
use crate::base::failpoint::{self, Switch};
use crate::base::threads::Signal;
use crate::journal::{Files, JournalError, Position, SnapshotFile, SnapshotSize, snapshots_in};

/// Interval at which the thread looks for due snapshots without a wakeup.
const NAP: Duration = Duration::from_secs(20);
/// Shortest pause between two looks.
const NAP_MIN: Duration = Duration::from_millis(50);
/// Pause after a snapshot that was not taken.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// A pause follows each chunk of rows, this many times as long as the chunk took: a snapshot takes
/// at most a quarter of a processor.
const PAUSE_FACTOR: u32 = 3;
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// Written bytes after which the free space of the disk is checked.
const DISK_LOOK_BYTES: u64 = 1 << 20;
/// A stop takes a snapshot if the journal has grown by this part of what makes one due.
const STOP_SHARE: u64 = 4;

const DISK_IS_FULL: &str = "the disk has too little free space";
const STOPS: &str = "the server stops";

/// The snapshot thread.
pub struct SnapshotMaker {
    engine: Arc<Engine>,
    dir: PathBuf,
    files: Arc<dyn Files>,
    limits: SnapshotLimits,
    /// The known files, the oldest first.
    known: Vec<Known>,
    retry_at: Option<Instant>,
}

/// When snapshots are taken and deleted.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotLimits {
    /// Bytes of the journal after which a snapshot is due.
    pub bytes: u64,
    /// How long a snapshot is kept after a newer one became durable.
    pub grace: Duration,
    /// Maximum duration of the snapshot at a stop.
    pub stop: Duration,
}

/// A file with the name of a snapshot.
struct Known {
    file: SnapshotFile,
    size: SnapshotSize,
    /// The steady time at which the snapshot became durable, in milliseconds.
    since_ms: u64,
    condition: Condition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// Written by this process, or read to its end.
    Whole,
    /// Its beginning and its end fit.
    Unread,
    /// Torn or damaged.
    Damaged,
}

impl SnapshotMaker {
    /// A maker of snapshots in the journal's directory `dir`.
    pub fn new(
        engine: Arc<Engine>,
        (dir, files): (PathBuf, Arc<dyn Files>),
        limits: SnapshotLimits,
    ) -> Self {
        Self { engine, dir, files, limits, known: Vec::new(), retry_at: None }
    }

    /// Works until the engine stops. Then takes a last snapshot if the newest one is old.
    pub fn run(mut self) {
        let engine = Arc::clone(&self.engine);
        let _on_panic = engine.store.invalidate_on_panic();
        while !engine.stop.is_set() {
            self.look();
            engine.snapshots.wait(self.nap());
        }
        if self.grown() >= self.due_bytes() / STOP_SHARE {
            let deadline = Instant::now() + self.limits.stop;
            self.take(&|| if Instant::now() < deadline { Ok(()) } else { Err(STOPS) });
        }
    }

    /// Does everything that is due. Tests call this in place of [`SnapshotMaker::run`], to choose
    /// the instants.
    pub fn look(&mut self) {
        if let Err(error) = self.list() {
            tracing::warn!(%error, "the snapshots cannot be listed");
            return;
        }
        self.read_newest();
        self.retry_at = self.retry_at.filter(|at| Instant::now() < *at);
        if self.retry_at.is_none() && self.is_due() {
            let engine = Arc::clone(&self.engine);
            self.take(&|| if engine.stop.is_set() { Err(STOPS) } else { Ok(()) });
        }
        self.delete_unneeded();
        self.publish();
    }

    /// Takes in the files of the directory.
    fn list(&mut self) -> Result<(), JournalError> {
        let listed = snapshots_in(&self.dir, self.files.as_ref())?;
        self.known.retain(|known| {
            let is_there = listed.contains(&known.file);
            if !is_there {
                let path = known.file.path.display().to_string();
                tracing::warn!(path, "a snapshot was removed under the running server");
            }
            is_there
        });
        for file in listed {
            if !self.known.iter().any(|known| known.file == file) {
                self.known.push(self.found(file));
            }
        }
        self.known.sort_by_key(|known| known.file.position);
        Ok(())
    }

    /// Judges a file that this process did not write.
    fn found(&self, file: SnapshotFile) -> Known {
        let (size, since_ms, condition) = match file.ends(&self.files) {
            Ok((header, size)) => (size, header.taken_at_ms, Condition::Unread),
            Err(error) => {
                tracing::error!(%error, "a snapshot is damaged; it is not used");
                let now_ms = self.engine.clock.steady_ms();
                (SnapshotSize::default(), now_ms, Condition::Damaged)
            }
        };
        Known { file, size, since_ms, condition }
    }

    /// Reads the newest snapshot to its end, before older ones are deleted or the journal's
    /// beginning is given up because of it.
    fn read_newest(&mut self) {
        while let Some(newest) = self.known.iter_mut().rfind(|known| known.is_usable())
            && newest.condition == Condition::Unread
        {
            // A crash may have come between the naming and its sync.
            let synced = self.files.sync_dir(&self.dir);
            let synced =
                synced.map_err(|source| JournalError::Io { path: self.dir.clone(), source });
            match synced.and_then(|()| newest.file.check(&self.files)) {
                Ok(_) => newest.condition = Condition::Whole,
                Err(error @ JournalError::Io { .. }) => {
                    tracing::warn!(%error, "a snapshot cannot be read");
                    return;
                }
                Err(error @ JournalError::Damage(_)) => {
                    tracing::error!(%error, "a snapshot is damaged; it is not used");
                    newest.condition = Condition::Damaged;
                }
            }
        }
    }

    fn grace(&self) -> Duration {
        if failpoint::is_on(Switch::GraceOff) { Duration::ZERO } else { self.limits.grace }
    }

    fn newest(&self) -> Option<&Known> {
        self.known.iter().rfind(|known| known.is_usable())
    }

    /// Bytes of the journal since the newest snapshot.
    fn grown(&self) -> u64 {
        let records = &self.engine.records;
        let from = self.newest().map_or(records.first(), |newest| newest.file.position);
        records.end().since(from)
    }

    /// Bytes of the journal after which a snapshot is due.
    fn due_bytes(&self) -> u64 {
        self.limits.bytes.max(self.newest().map_or(0, |newest| newest.size.bytes))
    }

    fn is_due(&self) -> bool {
        let applied = self.engine.store.applied();
        let last = self.known.last();
        // A second file of the same position is not possible.
        if last.is_some_and(|last| last.file.position >= applied) {
            return false;
        }
        let is_damaged = last.is_some_and(|last| last.condition == Condition::Damaged);
        let now_ms = self.engine.clock.steady_ms();
        let is_old = self.newest().is_none_or(|newest| newest.age(now_ms) >= self.grace());
        let is_asked = self.engine.snapshots.is_asked() && is_old;
        // Without a snapshot, a journal without its beginning gives no state.
        let is_needed = self.newest().is_none() && self.engine.records.first() > Position::FIRST;
        is_damaged || is_needed || is_asked || self.grown() >= self.due_bytes()
    }

    /// Takes a snapshot, unless the disk is short of space. `may_go_on` returns a reason to give
    /// up.
    fn take(&mut self, may_go_on: &dyn Fn() -> Result<(), &'static str>) {
        let was_asked = self.engine.snapshots.take_asked();
        match self.try_to_take(was_asked, may_go_on) {
            Ok(known) => self.known.push(known),
            Err(NotTaken::State(error)) => {
                self.engine.store.invalidate();
                fatal(&error.to_string());
            }
            Err(NotTaken::GivenUp(STOPS)) => {
                tracing::info!("a snapshot was given up, because the server stops");
            }
            Err(reason @ (NotTaken::GivenUp(_) | NotTaken::File(_))) => {
                self.retry_at = Some(Instant::now() + RETRY_AFTER);
                self.engine.metrics.snapshot_failures.inc();
                if was_asked {
                    self.engine.snapshots.ask();
                }
                tracing::warn!(%reason, "a snapshot was not taken; the next try comes soon");
            }
        }
    }

    fn try_to_take(
        &self,
        is_asked: bool,
        may_go_on: &dyn Fn() -> Result<(), &'static str>,
    ) -> Result<Known, NotTaken> {
        let Engine { store, records, clock, space, .. } = &*self.engine;
        let began = Instant::now();
        if space.is_short_for(store.fresh()) || !self.has_room(0, is_asked) {
            return Err(NotTaken::GivenUp(DISK_IS_FULL));
        }
        let (mut looked_at, mut resumed) = (0, Instant::now());
        let mut step = |size: SnapshotSize| {
            may_go_on()?;
            if size.bytes >= looked_at + DISK_LOOK_BYTES {
                looked_at = size.bytes;
                if !self.has_room(size.bytes, is_asked) {
                    return Err(DISK_IS_FULL);
                }
            }
            if !self.engine.stop.is_set() {
                Signal::new().wait((resumed.elapsed() * PAUSE_FACTOR).min(PAUSE_MAX));
            }
            resumed = Instant::now();
            Ok(())
        };
        let witness = (records.first(), clock.now_ms());
        let taken = take_snapshot(store, (&self.dir, &self.files), witness, &mut step);
        let (file, size) = taken?;
        self.tell(&file, size, began.elapsed());
        let since_ms = clock.steady_ms();
        Ok(Known { file, size, since_ms, condition: Condition::Whole })
    }

    /// Returns true if the disk has room for the rest of a snapshot as large as the last one. A
    /// snapshot that compaction asked for may use the reserve: without it, no space comes free.
    fn has_room(&self, written: u64, is_asked: bool) -> bool {
        let space = &self.engine.space;
        let rest = self.newest().map_or(0, |newest| newest.size.bytes).saturating_sub(written);
        if is_asked {
            return space.has_room_to_free(rest);
        }
        let wanted = space.reserve_bytes().saturating_add(rest);
        space.shortage().is_none() && space.free().is_none_or(|free| free >= wanted)
    }

    fn tell(&self, file: &SnapshotFile, size: SnapshotSize, took: Duration) {
        self.engine.metrics.snapshot_seconds.set(took.as_secs_f64());
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            position = file.position.0,
            rows = size.rows,
            bytes = size.bytes,
            took_ms,
            "a snapshot was taken"
        );
    }

    /// Deletes the snapshots that no copy needs any more. The newest whole one stays.
    fn delete_unneeded(&mut self) {
        let now_ms = self.engine.clock.steady_ms();
        let Some(newest) = self.newest().filter(|known| known.condition == Condition::Whole) else {
            return;
        };
        let whole_at = newest.file.position;
        let over: Vec<_> = self.known.iter().filter(|known| known.is_usable()).collect();
        // The newest snapshot behind which the grace time is over; all before it may go.
        let over = over.iter().rfind(|known| known.age(now_ms) >= self.grace());
        let Some(below) = over.map(|known| known.file.position.min(whole_at)) else { return };
        self.known.retain(|known| {
            if known.file.position >= below {
                return true;
            }
            let removed = self.files.remove(&known.file.path);
            if let Err(error) = &removed {
                tracing::warn!(%error, "an old snapshot could not be deleted");
            }
            removed.is_err()
        });
    }

    fn publish(&self) {
        let Engine { snapshots, metrics, clock, records, .. } = &*self.engine;
        let newest = self.newest();
        let age = newest.map_or(-1, |newest| gauge(newest.age(clock.steady_ms()).as_secs()));
        metrics.snapshot_age_seconds.set(age);
        let size = newest.map(|newest| newest.size).unwrap_or_default();
        metrics.snapshot_bytes.set(gauge(size.bytes));
        metrics.snapshot_rows.set(gauge(size.rows));
        let whole = newest.filter(|newest| newest.condition == Condition::Whole);
        let oldest = self.known.iter().find(|known| known.is_usable());
        snapshots.publish(whole.zip(oldest).map(|(newest, oldest)| KeptSnapshots {
            oldest: oldest.file.position,
            newest: newest.file.position,
        }));
        let from = newest.map_or(records.first(), |newest| newest.file.position);
        let is_retried = self.retry_at.is_some();
        let due_at = if is_retried { Position::MAX } else { from.plus(self.due_bytes()) };
        snapshots.due_at(due_at);
    }

    /// Returns the time until the next look without a wakeup.
    fn nap(&self) -> Duration {
        let now_ms = self.engine.clock.steady_ms();
        let grace = self.known.iter().filter(|known| known.is_usable()).skip(1);
        // A snapshot that was asked for is due when the newest one is old enough.
        let asked = self.newest().filter(|_| self.engine.snapshots.is_asked());
        let left = |known: &Known| self.grace().saturating_sub(known.age(now_ms));
        let grace = grace.chain(asked).map(left).filter(|left| !left.is_zero()).min();
        let retry = self.retry_at.map(|at| at.saturating_duration_since(Instant::now()));
        grace.into_iter().chain(retry).fold(NAP, Duration::min).max(NAP_MIN)
    }
}

impl Known {
    fn is_usable(&self) -> bool {
        self.condition != Condition::Damaged
    }

    fn age(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.since_ms))
    }
}

fn gauge(figure: u64) -> i64 {
    i64::try_from(figure).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "snapshot_maker_tests.rs"]
mod tests;
