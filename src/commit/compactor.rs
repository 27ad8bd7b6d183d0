//! The compactor: a thread that finds records that nobody needs any more, and removes them from the
//! journal. It reads the sealed segments in turn, and writes a segment again if this gives back
//! half of its disk space, or if the segment holds what nobody may see, such as an erased payload.
//! Segments at the journal's beginning of which nobody needs anything are deleted.
//!
//! ```text
//! found by a hint or a pass → plan → covered by the oldest kept snapshot → grace → written again
//!                                                                                or deleted
//! ```
//!
//! So nothing is removed before a snapshot holds what follows from it, and a copy that has begun
//! finds everything. The commands know which records are needed, and the state knows why: see
//! [`crate::commands::needs`]. The thread never delays the committer, because it reads and writes
//! at a bounded rate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::compaction_passes::{PassTimes, Passes};
use super::compaction_plans::{Plan, Plans};
use super::compaction_reading::{Reading, decide};
use super::disk_use::Look;
use super::engine::Engine;
use super::snapshots::KeptSnapshots;
use crate::base::failpoint::{self, Switch};
use crate::base::threads::Signal;
use crate::base::units::millis;
use crate::commands::NoteKeysUsed;
use crate::data_dir::FormatFile;
use crate::journal::{Compaction, JournalError, Position, Punched, RawRecord, SegmentSize};

/// Pause when there is nothing to do.
const TICK: Duration = Duration::from_secs(1);
/// Minimum rate of a pass, in bytes a second.
const PASS_RATE_MIN: u64 = 2 << 20;
/// Rate of reading and writing segments, in bytes a second.
const RATE: u64 = 16 << 20;
/// Longest time between the beginnings of two passes over all segments, if there was a hint.
const PASS_EVERY_MAX: Duration = Duration::from_mins(10);
/// Longest time that a pass may take, and longest time between the beginnings of two passes while
/// the state changes.
const PASS_MAX: Duration = Duration::from_hours(6);
/// Time for which no segment is written again after the disk was full.
const FULL_PAUSE: Duration = Duration::from_mins(1);
/// Longest sleep without a look at the request to stop.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// The limits of compaction.
#[derive(Clone, Copy, Debug)]
pub struct CompactionSettings {
    /// Time for which a copy of the data directory that has begun still finds every record.
    pub grace: Duration,
    /// Time between the beginnings of two passes over all segments, if there was a hint. A segment
    /// is not looked at more often because of hints, and segments are not sealed early more often.
    pub pass_every: Duration,
    /// Maximum time of a pass over all segments. Without a hint, this time is between the
    /// beginnings of two passes, and no pass begins while the state does not change.
    pub pass_max: Duration,
    /// Maximum rate of reading and writing, in bytes a second.
    pub bytes_per_second: u64,
}

impl CompactionSettings {
    /// The limits for this grace and this time within which an erased payload must be gone. A plan
    /// waits for a newer snapshot, then for another that backs it, when no copy may use an older
    /// one any more, then for its own grace: three times the grace. A payload that was erased after
    /// its segment was planned waits for two plans. A pass may begin after half of the rest, and
    /// take the other half.
    pub fn of(grace: Duration, erase: Duration) -> Self {
        Self {
            grace,
            pass_every: grace.clamp(TICK, PASS_EVERY_MAX),
            pass_max: (erase.saturating_sub(grace * 6) / 2).clamp(TICK, PASS_MAX),
            bytes_per_second: RATE,
        }
    }
}

/// The compactor thread.
pub struct Compactor {
    /// The shared parts of the server.
    pub engine: Arc<Engine>,
    /// The journal to be compacted.
    pub journal: Compaction,
    /// Witnesses the beginning of the journal.
    pub format: FormatFile,
    /// The limits.
    pub settings: CompactionSettings,
}

/// The progress of the thread, in memory only.
#[derive(Default)]
pub struct Work {
    pub(super) plans: Plans,
    /// The first positions of segments with records that nobody may see any more.
    hinted: BTreeSet<Position>,
    /// The time of the last look at a segment because of a hint, by its first position.
    looked_ms: BTreeMap<Position, u64>,
    passes: Passes,
    /// The segments as they were listed last, and the bounds of the journal at that time.
    segments: Vec<SegmentSize>,
    listed: Option<(Position, Position)>,
    /// The uptime of the last witness, in milliseconds; so are the next times.
    witnessed_ms: u64,
    /// The time from which a segment may be sealed early again.
    seal_at_ms: u64,
    /// The time before which no segment is written again, because the disk was full.
    punch_at_ms: u64,
    /// Set if compaction has removed or cut a record of the journal, so that a snapshot is needed.
    is_compacted: bool,
    /// Set while the disk has no room for a segment that would be written again.
    lacks_room: bool,
    /// Segments that could not be read or written. They are left alone until the next start.
    left_alone: BTreeSet<Position>,
}

impl Work {
    /// Begins now, and so does the grace of the last witness: nobody knows when it was written.
    pub fn new(now_ms: u64) -> Self {
        Self { witnessed_ms: now_ms, ..Self::default() }
    }

    fn is_free(&self, segment: &SegmentSize) -> bool {
        !self.plans.has(segment.first) && !self.left_alone.contains(&segment.first)
    }

    /// Notes the segments of these records.
    fn add_hints(&mut self, positions: &[Position]) {
        for position in positions {
            let behind = self.segments.partition_point(|segment| segment.first <= *position);
            let segment = behind.checked_sub(1).and_then(|at| self.segments.get(at));
            self.hinted.extend(segment.map(|segment| segment.first));
            self.passes.hint();
        }
    }

    /// Notes if the disk has room to write a segment again. Returns true when it has none any more.
    fn notes_no_room(&mut self, has_room: bool) -> bool {
        !std::mem::replace(&mut self.lacks_room, !has_room) && !has_room
    }

    /// Notes the segments at which the retention wants a look. It asks for one look after each of
    /// its passes, so how often does not matter.
    fn add_asked(&mut self, asked: BTreeSet<Position>) {
        self.looked_ms.retain(|first, _| !asked.contains(first));
        self.hinted.extend(asked);
    }

    /// Takes a hint about a segment that can be looked at now. Returns the segment.
    fn take_hint(&mut self, (now_ms, every): (u64, Duration), seals: bool) -> Option<SegmentSize> {
        let segments = &self.segments;
        self.looked_ms.retain(|_, at| now_ms < at.saturating_add(millis(every)));
        // A segment that is gone or left alone needs no hint.
        let known: BTreeSet<_> = segments.iter().map(|segment| segment.first).collect();
        self.hinted.retain(|first| known.contains(first) && !self.left_alone.contains(first));
        let last = segments.last()?.first;
        let can_be_looked_at = |segment: &&SegmentSize| {
            let first = segment.first;
            self.hinted.contains(&first)
                && self.is_free(segment)
                && !self.looked_ms.contains_key(&first)
                && (seals || first < last)
        };
        let found = segments.iter().find(can_be_looked_at).copied()?;
        self.hinted.remove(&found.first);
        self.looked_ms.insert(found.first, now_ms);
        Some(found)
    }

    /// Returns the next segment of the pass, if a pass is under way.
    fn of_pass(&mut self) -> Option<SegmentSize> {
        let Self { plans, left_alone, .. } = self;
        let is_free = |segment: &&SegmentSize| {
            !plans.has(segment.first) && !left_alone.contains(&segment.first)
        };
        let free = self.segments.iter().filter(is_free);
        self.passes.go_on(free.map(|segment| (segment.first, *segment)))
    }
}

impl Compactor {
    /// Works until the engine stops.
    pub fn run(self) {
        if let Err(error) = self.journal.clear_drafts() {
            tracing::warn!(%error, "a file of an interrupted compaction could not be removed");
        }
        let mut work = Work::new(self.now_ms());
        while !self.engine.stop.is_set() {
            if !self.step(&mut work) {
                self.engine.hints.unneeded.came.wait(TICK);
            }
        }
    }

    /// Does one thing. Returns true if there may be more to do at once. Tests call this in place of
    /// [`Compactor::run`], to choose the instants.
    pub fn step(&self, work: &mut Work) -> bool {
        if let Err(error) = self.list(work) {
            tracing::warn!(%error, "the journal cannot be compacted now");
            return false;
        }
        work.add_hints(&self.engine.hints.unneeded.take());
        self.engine.disk_use.keep(&work.segments);
        work.add_asked(self.engine.disk_use.take_asked());
        self.cover(work);
        self.remove(work);
        self.punch(work) || self.look(work)
    }

    /// Lists the segments again if the journal has others, or if one was written again.
    fn list(&self, work: &mut Work) -> Result<(), JournalError> {
        let bounds = Some(self.journal.bounds());
        if work.listed != bounds {
            work.segments = self.journal.segments()?;
            work.listed = bounds;
        }
        Ok(())
    }

    fn grace_ms(&self) -> u64 {
        if failpoint::is_on(Switch::GraceOff) { 0 } else { millis(self.settings.grace) }
    }

    fn now_ms(&self) -> u64 {
        self.engine.clock.uptime_ms()
    }

    /// Notes which plans a snapshot covers, and asks for a newer one if some plan waits for it.
    /// Also asks if a compacted journal has no snapshot at all, because only the state could
    /// replace what was removed.
    fn cover(&self, work: &mut Work) {
        let kept = if failpoint::is_on(Switch::CompactUnproved) {
            let applied = self.engine.store.applied();
            Some(KeptSnapshots { oldest: applied, newest: applied })
        } else {
            self.engine.snapshots.kept()
        };
        let is_missing = kept.is_none() && work.is_compacted;
        if work.plans.cover(kept, self.now_ms()) || is_missing {
            self.engine.snapshots.ask();
        }
    }

    /// Removes segments from the beginning of the journal. That the journal begins later is
    /// witnessed first, and the grace begins then: a copy may have the former witness.
    fn remove(&self, work: &mut Work) {
        let (first, now_ms) = (self.journal.first(), self.now_ms());
        if first >= Position(self.format.first()) {
            // During a pass more plans come.
            if work.passes.is_under_way() {
                return;
            }
            self.witness(work, first);
        }
        // The FORMAT of a copy may be younger than its state, so a plan must agree.
        let since_ms = now_ms.saturating_sub(self.grace_ms());
        let upto = Position(self.format.first()).min(work.plans.new_first(first, since_ms));
        if first < upto && since_ms >= work.witnessed_ms {
            self.remove_before(work, upto);
            work.plans.forget_before(upto);
        }
    }

    /// Witnesses where the journal can begin. It begins at `first` now.
    fn witness(&self, work: &mut Work, first: Position) {
        let now_ms = self.now_ms();
        let wanted = work.plans.new_first(first, now_ms);
        if wanted > Position(self.format.first())
            && let Err(error) = self.format.witness_first(wanted.0)
        {
            tracing::error!(%error, "the new beginning of the journal cannot be recorded");
        }
        work.witnessed_ms = now_ms;
    }

    /// Removes the segments that end at `upto` or before.
    fn remove_before(&self, work: &mut Work, upto: Position) {
        let metrics = &self.engine.metrics;
        match self.journal.remove_before(upto) {
            Ok((segments, bytes)) => {
                metrics.compaction_segments_removed.inc_by(segments);
                metrics.compaction_bytes_freed.inc_by(bytes);
                let what = "the beginning of the journal, which nobody needs any more, is removed";
                tracing::info!(segments, bytes, begins = upto.0, "{what}");
            }
            Err(error) => {
                // Tried again after another grace.
                work.witnessed_ms = self.now_ms();
                metrics.compaction_failures.inc();
                tracing::error!(%error, "the beginning of the journal could not be removed");
            }
        }
    }

    /// Writes one segment again whose plan is due. Returns false if there is none.
    fn punch(&self, work: &mut Work) -> bool {
        // What will be removed is not written again before.
        let now_ms = self.now_ms();
        if now_ms < work.punch_at_ms {
            return false;
        }
        let first = work.plans.new_first(self.journal.first(), now_ms);
        let Some(plan) = work.plans.take_due(first, now_ms, self.grace_ms()) else {
            return false;
        };
        if !self.has_room(work, &plan) {
            work.plans.add(plan);
            return false;
        }
        let mut judge = |record: &RawRecord<'_>| decide(&plan, record);
        let mut pace = |bytes| self.pace(bytes, self.settings.bytes_per_second);
        match self.journal.punch(plan.first, &mut judge, &mut pace) {
            Ok(Some(punched)) => self.note_punched(&plan, punched),
            Ok(None) => {}
            Err(error) => {
                self.not_punched(work, plan, &error);
            }
        }
        work.listed = None;
        true
    }

    /// Notes that a segment could not be written again. On a full disk it is tried again later.
    fn not_punched(&self, work: &mut Work, plan: Plan, error: &JournalError) {
        let Some(kind) = error.no_space() else {
            let what = "a segment of the journal cannot be compacted; it is left as it is until \
                        the next start";
            return self.leave_alone(work, plan.first, (what, &error.to_string()));
        };
        self.engine.metrics.compaction_failures.inc();
        self.engine.space.explain(kind);
        work.punch_at_ms = self.now_ms().saturating_add(millis(FULL_PAUSE));
        let what = "there is no space to compact a segment of the journal; the next try is in a \
                    minute";
        tracing::warn!(%error, segment = plan.first.0, "{what}");
        work.plans.add(plan);
    }

    /// Returns true if the disk has room to write the segment again. The new file may use the
    /// reserve, because it gives space back.
    fn has_room(&self, work: &mut Work, plan: &Plan) -> bool {
        let (space, bytes) = (&self.engine.space, plan.end.since(plan.first));
        let has_room = space.has_room_to_free(bytes);
        if work.notes_no_room(has_room) {
            let what = "no room to compact the journal: a segment cannot be written again until \
                        this much space is free";
            let free = space.free();
            tracing::warn!(
                segment = plan.first.0,
                wanted = space.wanted_to_free(bytes),
                free,
                "{what}"
            );
        }
        has_room
    }

    fn note_punched(&self, plan: &Plan, punched: Punched) {
        self.engine.disk_use.punched(plan.first);
        let bytes = punched.before.saturating_sub(punched.after);
        self.engine.metrics.compaction_segments_punched.inc();
        self.engine.metrics.compaction_bytes_freed.inc_by(bytes);
        let what = "records that nobody needs any more are removed from a segment of the journal";
        tracing::info!(segment = plan.first.0, bytes, "{what}");
    }

    fn leave_alone(&self, work: &mut Work, segment: Position, (what, error): (&str, &str)) {
        work.left_alone.insert(segment);
        // Nothing of it comes free.
        let look = Look { since: Position::MAX, ..Look::default() };
        self.engine.disk_use.note(segment, look);
        self.engine.metrics.compaction_failures.inc();
        tracing::error!(error, segment = segment.0, "{what}");
    }

    /// Reads one segment for which there is a hint, or the next one of the pass. Returns false if
    /// there is none.
    fn look(&self, work: &mut Work) -> bool {
        let now_ms = self.now_ms();
        let seals = now_ms >= work.seal_at_ms && self.has_room_to_seal(work);
        let Some((segment, rate)) = self.next_to_read(work, seals) else { return false };
        let is_last = work.segments.last().is_some_and(|last| last.first == segment.first);
        // A segment that the state does not contain yet is left to the next pass.
        if segment.end > self.engine.store.applied() && !is_last {
            work.passes.leave_out();
            return true;
        }
        let mut pace = |bytes| self.pace(bytes, rate);
        let found = match Reading::new(&self.engine.store, &segment).read(&self.journal, &mut pace)
        {
            Ok(Some(found)) => found,
            Ok(None) => return true,
            Err(error) => {
                let what = "a segment of the journal cannot be read for compaction; it is left as \
                            it is until the next start";
                self.leave_alone(work, segment.first, (what, &error));
                return true;
            }
        };
        work.is_compacted |= found.is_compacted;
        if !is_last {
            self.engine.disk_use.note(segment.first, found.look);
            if found.plan.is_worth(segment.allocated) && !work.plans.add(found.plan) {
                work.passes.leave_out();
            }
        } else if found.plan.must_be_written() && seals {
            work.seal_at_ms = now_ms.saturating_add(millis(self.settings.pass_every));
            // Looked at again as soon as it is sealed.
            work.hinted.insert(segment.first);
            work.looked_ms.remove(&segment.first);
            self.seal(segment.first);
        }
        true
    }

    /// Returns true if the disk has room for the segment behind the last one. It may use the
    /// reserve, because an erased payload has to go.
    fn has_room_to_seal(&self, work: &Work) -> bool {
        let space = &self.engine.space;
        let bytes = work.segments.last().map_or(0, |last| last.allocated);
        space.free_files() != Some(0) && space.has_room_to_free(bytes)
    }

    /// Takes the next segment to be read, and the rate in bytes a second.
    fn next_to_read(&self, work: &mut Work, seals: bool) -> Option<(SegmentSize, u64)> {
        let (now_ms, applied) = (self.now_ms(), self.engine.store.applied());
        let CompactionSettings { pass_every, pass_max, bytes_per_second, .. } = self.settings;
        if let Some(segment) = work.take_hint((now_ms, pass_every), seals) {
            return Some((segment, bytes_per_second));
        }
        let times = PassTimes { every_ms: millis(pass_every), max_ms: millis(pass_max) };
        if work.passes.is_due(applied, now_ms, times) {
            work.passes.begin(applied, now_ms);
        }
        let all: u64 = work.segments.iter().map(|segment| segment.end.since(segment.first)).sum();
        let needed = all.saturating_mul(1_000) / millis(pass_max).max(1);
        Some((work.of_pass()?, needed.max(PASS_RATE_MIN.min(bytes_per_second))))
    }

    /// Has the segment that is being written sealed: the writer seals before it appends. Waits for
    /// it, so that the next look finds the segment sealed.
    fn seal(&self, first: Position) {
        self.journal.ask_to_seal(first);
        self.engine.intake.push_and_wait([NoteKeysUsed::nothing()]);
    }

    /// Sleeps as long as reading or writing this number of bytes should take. Returns false if the
    /// server stops.
    fn pace(&self, bytes: u64, rate: u64) -> bool {
        let ms = bytes.saturating_mul(1_000) / rate.max(1);
        let until = Instant::now() + Duration::from_millis(ms);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.engine.stop.is_set() {
                return !self.engine.stop.is_set();
            }
            Signal::new().wait(left.min(SLEEP_MAX));
        }
    }
}

#[cfg(test)]
#[path = "compactor_tests.rs"]
mod tests;
