//! The snapshot thread: takes a snapshot when one is due, and deletes those that nobody needs any
//! more. The committer's hint wakes it, and it looks by itself every few seconds.
//!
//! A snapshot is due when the journal has grown by `[storage] snapshot_bytes`, or by the size of
//! the last snapshot if this is more; at a clean stop after a quarter of that; and when the
//! compactor asks for one. The newest two whole snapshots are always kept, and both are read back
//! from the disk before an older one goes. Each older one is kept until `[retention] grace_seconds`
//! after a newer one became durable, because a copy of the directory that began before may still
//! use it. If the kept ones take much space, the next one comes later.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::snapshot_taking::{NotTaken, OUTRUN, take_snapshot};
use super::snapshots::KeptSnapshots;
use crate::base::exit_code::fatal;
use crate::base::failpoint::{self, Switch};
use crate::base::threads::Signal;
use crate::base::units::{gauge, millis};
use crate::commands::NoteKeysUsed;
use crate::journal::{
    Files, JournalError, Position, SnapshotFile, SnapshotSize, clear_snapshot_drafts, snapshots_in,
};
use crate::store::FreshHandling;

/// Interval at which the thread looks for due snapshots without a wakeup.
const NAP: Duration = Duration::from_secs(20);
/// Shortest pause between two looks.
const NAP_MIN: Duration = Duration::from_millis(50);
/// Pause after a snapshot that was not taken.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// The pause doubles with each snapshot that was outrun, at most this often.
const OUTRUN_MAX: u32 = 5;
/// A pause follows each chunk of rows, this many times as long as the chunk took: a snapshot takes
/// at most a quarter of a processor.
const PAUSE_FACTOR: u32 = 3;
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// Written bytes after which the free space of the disk is checked.
const DISK_LOOK_BYTES: u64 = 1 << 20;
/// Maximum memory in bytes for a copy of the fresh rows for a snapshot, when sled has no room for
/// the rows.
const COPIED_BYTES_MAX: usize = 64 << 20;
/// While the snapshots take too much space, the time between two is this part of the grace.
const PILED_UP_SHARE: u32 = 4;
/// Number of whole snapshots that are always kept.
pub const SNAPSHOTS_KEPT_MIN: usize = 2;
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
    /// When a snapshot is tried again after one that was not taken. The flag is set if one that is
    /// asked for waits, too.
    retry_at: Option<(Instant, bool)>,
    /// How often in succession a snapshot was outrun.
    outrun: u32,
}

/// When snapshots are taken and deleted.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotLimits {
    /// Bytes of the journal after which a snapshot is due.
    pub bytes: u64,
    /// Size of all snapshots together from which on the next one comes later.
    pub piled_up: u64,
    /// How long a snapshot is kept after a newer one became durable.
    pub grace: Duration,
    /// Maximum duration of the snapshot at a stop.
    pub stop: Duration,
}

/// A file with the name of a snapshot.
struct Known {
    file: SnapshotFile,
    size: SnapshotSize,
    /// The uptime at which the snapshot became durable, in milliseconds; of a file that this
    /// process did not write, the uptime at which it was found: a clock that was set does not
    /// shorten the grace.
    since_ms: u64,
    /// The wall-clock time at which the snapshot was taken, in milliseconds.
    taken_at_ms: u64,
    condition: Condition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// Read to its end.
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
        Self { engine, dir, files, limits, known: Vec::new(), retry_at: None, outrun: 0 }
    }

    /// Works until the engine stops. Then takes a last snapshot if the newest one is old.
    pub fn run(mut self) {
        if let Err(error) = clear_snapshot_drafts(&self.dir, self.files.as_ref()) {
            tracing::warn!(%error, "the draft of a snapshot could not be removed");
        }
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
        self.delete_damaged_ahead();
        self.retry_at = self.retry_at.filter(|(at, _)| Instant::now() < *at);
        self.move_on();
        if self.may_try() && self.is_due() {
            let engine = Arc::clone(&self.engine);
            self.take(&|| if engine.stop.is_set() { Err(STOPS) } else { Ok(()) });
            self.read_newest();
        }
        self.delete_unneeded();
        self.publish();
    }

    /// Returns true if no pause is under way. One that was not asked for, and for which the disk had
    /// no room, does not hold up one that compaction asks for.
    fn may_try(&self) -> bool {
        self.retry_at.is_none_or(|(_, for_all)| !for_all && self.is_wanted())
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
                self.known.extend(self.found(file));
            }
        }
        self.known.sort_by_key(|known| known.file.position);
        Ok(())
    }

    /// Judges a file that this process did not write. `None` if it cannot be read now.
    fn found(&self, file: SnapshotFile) -> Option<Known> {
        let (size, taken_at_ms, condition) = match file.ends(&self.files) {
            Ok((header, size)) => (size, header.taken_at_ms, Condition::Unread),
            Err(error @ JournalError::Io { .. }) => {
                tracing::warn!(%error, "a snapshot cannot be read");
                return None;
            }
            Err(error @ JournalError::Damage(_)) => {
                self.engine.metrics.snapshot_failures.inc();
                tracing::error!(%error, "a snapshot is damaged; it is not used");
                (SnapshotSize::default(), 0, Condition::Damaged)
            }
        };
        let since_ms = self.engine.clock.uptime_ms();
        Some(Known { file, size, since_ms, taken_at_ms, condition })
    }

    /// Reads the newest two snapshots to their ends, before older ones are deleted or records are
    /// removed because of them.
    fn read_newest(&mut self) {
        loop {
            let newest = self.known.iter_mut().rev().filter(|known| known.is_usable());
            let mut newest = newest.take(SNAPSHOTS_KEPT_MIN);
            let Some(unread) = newest.find(|known| known.condition == Condition::Unread) else {
                return;
            };
            // A crash may have come between the naming and its sync.
            let synced = self.files.sync_dir(&self.dir);
            let synced =
                synced.map_err(|source| JournalError::Io { path: self.dir.clone(), source });
            match synced.and_then(|()| unread.file.check_on_disk(&self.files)) {
                Ok(_) => unread.condition = Condition::Whole,
                Err(error @ JournalError::Io { .. }) => {
                    tracing::warn!(%error, "a snapshot cannot be read");
                    return;
                }
                Err(error @ JournalError::Damage(_)) => {
                    self.engine.metrics.snapshot_failures.inc();
                    tracing::error!(%error, "a snapshot is damaged; it is not used");
                    unread.condition = Condition::Damaged;
                }
            }
        }
    }

    /// Deletes damaged files with positions that the state has not reached yet. Such a file says
    /// nothing, but no snapshot would be taken before the state has passed it.
    fn delete_damaged_ahead(&mut self) {
        let (applied, files) = (self.engine.store.applied(), &self.files);
        self.known.retain(|known| {
            if known.is_usable() || known.file.position <= applied {
                return true;
            }
            let path = known.file.path.display().to_string();
            let removed = files.remove(&known.file.path);
            if let Err(error) = &removed {
                tracing::error!(%error, path, "a damaged snapshot cannot be deleted; no snapshot \
                    is taken before the state has passed its position");
            } else {
                tracing::error!(
                    path,
                    "a damaged snapshot is deleted: its position is ahead of the \
                    state, so that it would keep the next ones from being taken"
                );
            }
            removed.is_err()
        });
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
        // Without a snapshot, a journal without its beginning gives no state.
        let is_needed = self.newest().is_none() && self.engine.records.first() > Position::FIRST;
        let has_grown = self.grown() >= self.due_bytes() && !self.is_piled_up();
        is_damaged || is_needed || self.is_wanted() || has_grown
    }

    /// Returns true if somebody asked for a snapshot, and the last one is old or stands alone.
    fn is_wanted(&self) -> bool {
        let now_ms = self.engine.clock.uptime_ms();
        let is_old = self.newest().is_none_or(|newest| newest.age(now_ms) >= self.grace());
        let is_alone =
            self.known.iter().filter(|known| known.is_usable()).count() < SNAPSHOTS_KEPT_MIN;
        self.engine.snapshots.is_asked() && (is_old || is_alone)
    }

    /// Returns true if the snapshots take much space, and the newest one is still young.
    fn is_piled_up(&self) -> bool {
        let bytes: u64 = self.known.iter().map(|known| known.size.bytes).sum();
        let (now_ms, pause) = (self.engine.clock.uptime_ms(), self.limits.grace / PILED_UP_SHARE);
        let is_young = self.newest().is_some_and(|newest| newest.age(now_ms) < pause);
        is_young && bytes >= self.limits.piled_up
    }

    /// Has an idle server write a command, so that a wanted snapshot gets a position of its own.
    fn move_on(&self) {
        let applied = self.engine.store.applied();
        let is_taken = self.known.last().is_some_and(|last| last.file.position >= applied);
        if is_taken && self.is_wanted() {
            self.engine.intake.push_and_wait([NoteKeysUsed::nothing()]);
        }
    }

    /// Takes a snapshot, unless the disk is short of space. `may_go_on` returns a reason to give
    /// up.
    fn take(&mut self, may_go_on: &dyn Fn() -> Result<(), &'static str>) {
        let was_asked = self.engine.snapshots.take_asked();
        match self.try_to_take(was_asked, may_go_on) {
            Ok(known) => {
                self.outrun = 0;
                self.known.push(known);
            }
            Err(NotTaken::State(error)) => {
                self.engine.store.invalidate();
                fatal(&error.to_string());
            }
            Err(NotTaken::GivenUp(STOPS)) => {
                tracing::info!("a snapshot was given up, because the server stops");
            }
            Err(reason @ (NotTaken::GivenUp(_) | NotTaken::File(_))) => {
                let is_outrun = matches!(reason, NotTaken::GivenUp(OUTRUN));
                self.outrun = if is_outrun { self.outrun.saturating_add(1) } else { 0 };
                let pause = RETRY_AFTER * (1 << self.outrun.min(OUTRUN_MAX));
                self.retry_at = Some((Instant::now() + pause, was_asked || is_outrun));
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
        let Engine { store, records, clock, .. } = &*self.engine;
        let began = Instant::now();
        let fresh = self.handling(is_asked).filter(|_| self.has_room(0, is_asked));
        let fresh = fresh.ok_or(NotTaken::GivenUp(DISK_IS_FULL))?;
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
        let taken_at_ms = clock.now_ms();
        let witness = (records.first(), taken_at_ms, fresh);
        let taken = take_snapshot(store, (&self.dir, &self.files), witness, &mut step);
        let (file, size) = taken?;
        self.tell(&file, size, began.elapsed());
        let since_ms = clock.uptime_ms();
        Ok(Known { file, size, since_ms, taken_at_ms, condition: Condition::Unread })
    }

    /// Returns how a snapshot gets the rows that sled lacks; `None` if there is no way. If the disk
    /// has no room for sled's write, only a snapshot that compaction asked for goes on.
    fn handling(&self, is_asked: bool) -> Option<FreshHandling> {
        let fresh = self.engine.store.fresh();
        if !self.engine.space.is_short_for(fresh) {
            return Some(FreshHandling::WriteBack);
        }
        (is_asked && fresh.copied_bytes() <= COPIED_BYTES_MAX).then_some(FreshHandling::Copy)
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
        tracing::info!(
            position = file.position.0,
            rows = size.rows,
            bytes = size.bytes,
            took_ms = millis(took),
            "a snapshot was taken"
        );
    }

    /// Deletes the snapshots that no copy needs any more. The newest two stay, and nothing is
    /// deleted before both are known to be whole.
    fn delete_unneeded(&mut self) {
        let now_ms = self.engine.clock.uptime_ms();
        let usable: Vec<_> = self.known.iter().filter(|known| known.is_usable()).collect();
        let [.., second, newest] = usable.as_slice() else { return };
        if [second, newest].iter().any(|known| known.condition != Condition::Whole) {
            return;
        }
        // The newest snapshot behind which the grace time is over; all before it may go.
        let over = usable.iter().rfind(|known| known.age(now_ms) >= self.grace());
        let kept_at = second.file.position;
        let Some(below) = over.map(|known| known.file.position.min(kept_at)) else { return };
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
        let age_ms = |newest: &Known| clock.now_ms().saturating_sub(newest.taken_at_ms);
        let age = newest.map_or(-1, |newest| gauge(age_ms(newest) / 1_000));
        metrics.snapshot_age_seconds.set(age);
        let size = newest.map(|newest| newest.size).unwrap_or_default();
        metrics.snapshot_bytes.set(gauge(size.bytes));
        metrics.snapshot_rows.set(gauge(size.rows));
        let (kept, all) = self.kept_bytes();
        self.engine.space.note_snapshots(kept);
        snapshots.note_sizes((kept, all));
        snapshots.publish(self.kept());
        let from = newest.map_or(records.first(), |newest| newest.file.position);
        let is_later = self.retry_at.is_some() || self.is_piled_up();
        let due_at = if is_later { Position::MAX } else { from.plus(self.due_bytes()) };
        snapshots.due_at(due_at);
    }

    /// Returns the size of the snapshots that are always kept, and of all snapshots.
    fn kept_bytes(&self) -> (u64, u64) {
        let bytes = |known: &Known| known.size.bytes;
        let usable = self.known.iter().rev().filter(|known| known.is_usable());
        (usable.take(SNAPSHOTS_KEPT_MIN).map(bytes).sum(), self.known.iter().map(bytes).sum())
    }

    /// Returns the positions up to which records may be removed. `None` without a whole snapshot.
    fn kept(&self) -> Option<KeptSnapshots> {
        let usable: Vec<_> = self.known.iter().filter(|known| known.is_usable()).collect();
        let mut newest = usable.iter().rev().take(SNAPSHOTS_KEPT_MIN);
        let is_read = newest.all(|known| known.condition == Condition::Whole);
        let at = |known: &Known| known.file.position;
        let (oldest, newest) = match usable.as_slice() {
            [] => return None,
            // Nothing comes before the first position.
            [_] => (Position::FIRST, Position::FIRST),
            [oldest, _] => (at(oldest), at(oldest)),
            [oldest, .., newest, _] => (at(oldest), at(newest)),
        };
        is_read.then_some(KeptSnapshots { oldest, newest })
    }

    /// Returns the time until the next look without a wakeup.
    fn nap(&self) -> Duration {
        let now_ms = self.engine.clock.uptime_ms();
        let grace = self.known.iter().filter(|known| known.is_usable()).skip(1);
        // A snapshot that was asked for is due when the newest one is old enough.
        let asked = self.newest().filter(|_| self.engine.snapshots.is_asked());
        let left = |known: &Known| self.grace().saturating_sub(known.age(now_ms));
        let grace = grace.chain(asked).map(left).filter(|left| !left.is_zero()).min();
        let retry = self.retry_at.map(|(at, _)| at.saturating_duration_since(Instant::now()));
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

#[cfg(test)]
#[path = "snapshot_maker_tests.rs"]
mod tests;
