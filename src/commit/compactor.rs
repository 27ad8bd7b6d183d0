//! The compactor: a thread that finds records that nobody needs any more, and removes them from the
//! journal. It reads the sealed segments in turn, asks the state about each record, and writes a
//! segment again if this gives back half of its disk space, or if the segment holds what nobody may
//! see, such as an erased payload. Segments at the journal's beginning of which nobody needs
//! anything are deleted.
//!
//! Nothing is removed before a snapshot holds what follows from it, and not before the grace: see
//! [`super::compaction_plans`]. The thread knows neither commands nor rows, and never delays the
//! committer: it reads and writes at a bounded rate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::compaction_plans::{Plan, Plans};
use super::engine::Engine;
use super::snapshots::KeptSnapshots;
use crate::base::failpoint::{self, Switch};
use crate::base::threads::Signal;
use crate::commands::{Command, Need, NoteKeysUsed, Record, needs};
use crate::data_dir::FormatFile;
use crate::journal::{Compaction, Fate, JournalError, Piece, Position, RawRecord, SegmentSize};
use crate::store::{StateError, Store};

/// Pause when there is nothing to do.
const TICK: Duration = Duration::from_secs(1);
/// Minimum rate of a pass, in bytes a second.
const PASS_RATE_MIN: u64 = 2 << 20;
/// Rate of reading and writing segments, in bytes a second.
const RATE: u64 = 16 << 20;
/// Longest time between the beginnings of two passes over all segments.
const PASS_EVERY_MAX: Duration = Duration::from_mins(10);
/// Longest time that a pass may take.
const PASS_MAX: Duration = Duration::from_hours(6);
/// Number of records about which the state is asked at once.
const RECORDS_AT_ONCE: usize = 256;
/// Longest sleep without a look at the request to stop.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// The limits of compaction.
#[derive(Clone, Copy, Debug)]
pub struct CompactionSettings {
    /// Time for which a copy of the data directory that has begun still finds every record.
    pub grace: Duration,
    /// Time between the beginnings of two passes over all segments. A segment is not looked at
    /// more often because of hints, and segments are not sealed early more often.
    pub pass_every: Duration,
    /// Maximum time of a pass over all segments.
    pub pass_max: Duration,
    /// Maximum rate of reading and writing, in bytes a second.
    pub bytes_per_second: u64,
}

impl CompactionSettings {
    /// The limits for this grace and this time within which an erased payload must be gone. A plan
    /// waits for a newer snapshot, then until no copy may use an older one, then for its own grace:
    /// three times the grace. A payload that was erased after its segment was planned waits for two
    /// plans. A pass may take half of the rest.
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
    /// The first position of the next segment of the pass. Absent between two passes.
    next: Option<Position>,
    /// The steady time at which the next pass begins, in milliseconds; so are the others.
    pass_at_ms: u64,
    /// The time of the last witness.
    witnessed_ms: u64,
    /// The time from which a segment may be sealed early again.
    seal_at_ms: u64,
    /// Set if there is a snapshot. Without one nothing can be removed, so no pass begins.
    has_snapshot: bool,
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
    fn add_hints(&mut self, positions: &[Position], segments: &[SegmentSize]) {
        for position in positions {
            let behind = segments.partition_point(|segment| segment.first <= *position);
            let segment = behind.checked_sub(1).and_then(|at| segments.get(at));
            self.hinted.extend(segment.map(|segment| segment.first));
        }
    }

    /// Takes a hint about a segment that can be looked at now. Returns the segment.
    fn take_hint(
        &mut self,
        segments: &[SegmentSize],
        (now_ms, every): (u64, Duration),
        seals: bool,
    ) -> Option<SegmentSize> {
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

    /// Returns the next segment of the pass, if a pass is under way or due.
    fn of_pass(
        &mut self,
        segments: &[SegmentSize],
        (now_ms, every): (u64, Duration),
    ) -> Option<SegmentSize> {
        if self.next.is_none() && self.has_snapshot && now_ms >= self.pass_at_ms {
            self.next = Some(Position::FIRST);
            self.pass_at_ms = now_ms.saturating_add(millis(every));
        }
        let next = self.next?;
        let found = segments.iter().find(|segment| segment.first >= next && self.is_free(segment));
        self.next = found.map(|segment| segment.first.plus(1));
        found.copied()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
        let segments = match self.journal.segments() {
            Ok(segments) => segments,
            Err(error) => {
                tracing::warn!(%error, "the journal cannot be compacted now");
                return false;
            }
        };
        work.add_hints(&self.engine.hints.unneeded.take(), &segments);
        self.cover(work);
        self.remove(work);
        self.punch(work) || self.look(work, &segments)
    }

    fn grace_ms(&self) -> u64 {
        if failpoint::is_on(Switch::GraceOff) { 0 } else { millis(self.settings.grace) }
    }

    fn now_ms(&self) -> u64 {
        self.engine.clock.steady_ms()
    }

    /// Notes which plans a snapshot covers, and asks for a newer one if some plan waits for it.
    fn cover(&self, work: &mut Work) {
        let kept = if failpoint::is_on(Switch::CompactUnproved) {
            let applied = self.engine.store.applied();
            Some(KeptSnapshots { oldest: applied, newest: applied })
        } else {
            self.engine.snapshots.kept()
        };
        work.has_snapshot = kept.is_some();
        if work.plans.cover(kept, self.now_ms()) {
            self.engine.snapshots.ask();
        }
    }

    /// Removes segments from the beginning of the journal. That the journal begins later is
    /// witnessed first, and the grace begins then: a copy may have the former witness.
    fn remove(&self, work: &mut Work) {
        let (first, witnessed) = (self.journal.first(), Position(self.format.first()));
        let now_ms = self.now_ms();
        if first >= witnessed {
            // During a pass more plans come.
            if work.next.is_some() {
                return;
            }
            let wanted = work.plans.new_first(first, now_ms);
            if wanted > witnessed
                && let Err(error) = self.format.witness_first(wanted.0)
            {
                tracing::error!(%error, "the new beginning of the journal cannot be recorded");
            }
            work.witnessed_ms = now_ms;
        }
        // The FORMAT of a copy may be younger than its state, so a plan must agree.
        let since_ms = now_ms.saturating_sub(self.grace_ms());
        let upto = Position(self.format.first()).min(work.plans.new_first(first, since_ms));
        if first >= upto || since_ms < work.witnessed_ms {
            return;
        }
        let metrics = &self.engine.metrics;
        match self.journal.remove_before(upto) {
            Ok((segments, bytes)) => {
                metrics.compaction_segments_removed.inc_by(segments);
                metrics.compaction_bytes_freed.inc_by(bytes);
                tracing::info!(
                    segments,
                    bytes,
                    begins = upto.0,
                    "the beginning of the \
                    journal, which nobody needs any more, is removed"
                );
            }
            Err(error) => {
                // Tried again after another grace.
                work.witnessed_ms = now_ms;
                metrics.compaction_failures.inc();
                tracing::error!(%error, "the beginning of the journal could not be removed");
            }
        }
        work.plans.forget_before(upto);
    }

    /// Writes one segment again whose plan is due. Returns false if there is none.
    fn punch(&self, work: &mut Work) -> bool {
        // What will be removed is not written again before.
        let now_ms = self.now_ms();
        let first = work.plans.new_first(self.journal.first(), now_ms);
        let Some(plan) = work.plans.take_due(first, now_ms, self.grace_ms()) else {
            return false;
        };
        // The new file may use the reserve, because it gives space back.
        if !self.engine.space.has_room_to_free(plan.end.since(plan.first)) {
            work.plans.add(plan);
            return false;
        }
        let mut judge = |record: &RawRecord<'_>| fate(&plan, record);
        let mut pace = |bytes| self.pace(bytes, self.settings.bytes_per_second);
        let metrics = &self.engine.metrics;
        match self.journal.punch(plan.first, &mut judge, &mut pace) {
            Ok(Some(punched)) => {
                let bytes = punched.before.saturating_sub(punched.after);
                metrics.compaction_segments_punched.inc();
                metrics.compaction_bytes_freed.inc_by(bytes);
                tracing::info!(
                    segment = plan.first.0,
                    bytes,
                    "records that nobody needs any more \
                    are removed from a segment of the journal"
                );
            }
            Ok(None) => {}
            Err(error) => {
                work.left_alone.insert(plan.first);
                metrics.compaction_failures.inc();
                tracing::error!(%error, segment = plan.first.0, "a segment of the journal cannot \
                    be compacted; it is left as it is until the next start");
            }
        }
        true
    }

    /// Reads one segment for which there is a hint, or the next one of the pass. Returns false if
    /// there is none.
    fn look(&self, work: &mut Work, segments: &[SegmentSize]) -> bool {
        let now_ms = self.now_ms();
        let seals = now_ms >= work.seal_at_ms && self.engine.space.shortage().is_none();
        let all: u64 = segments.iter().map(|segment| segment.end.since(segment.first)).sum();
        let now = (now_ms, self.settings.pass_every);
        let (segment, rate) = match work.take_hint(segments, now, seals) {
            Some(segment) => (segment, self.settings.bytes_per_second),
            None => match work.of_pass(segments, now) {
                Some(segment) => (segment, self.pass_rate(all)),
                None => return false,
            },
        };
        let is_last = segments.last().is_some_and(|last| last.first == segment.first);
        match self.read(&segment, is_last, rate) {
            Ok(Some(plan)) if is_last => {
                if plan.has_cuts() && seals {
                    work.seal_at_ms = now_ms.saturating_add(millis(self.settings.pass_every));
                    // Looked at again as soon as it is sealed.
                    work.hinted.insert(segment.first);
                    work.looked_ms.remove(&segment.first);
                    self.seal(segment.first);
                }
            }
            Ok(Some(plan)) if plan.is_worth(segment.allocated) => work.plans.add(plan),
            Ok(_) => {}
            Err(error) => {
                work.left_alone.insert(segment.first);
                self.engine.metrics.compaction_failures.inc();
                tracing::error!(
                    error,
                    segment = segment.first.0,
                    "a segment of the journal \
                    cannot be read for compaction; it is left as it is until the next start"
                );
            }
        }
        true
    }

    fn pass_rate(&self, all_bytes: u64) -> u64 {
        let needed = all_bytes.saturating_mul(1_000) / millis(self.settings.pass_max).max(1);
        needed.max(PASS_RATE_MIN.min(self.settings.bytes_per_second))
    }

    /// Has the segment that is being written sealed. A command is needed for that: the writer seals
    /// before it appends.
    fn seal(&self, first: Position) {
        self.journal.ask_to_seal(first);
        self.engine.intake.push([NoteKeysUsed { used: Vec::new() }]);
    }

    /// Reads a segment and plans its compaction; of the last segment, as far as the state contains
    /// it. `None` if the server stops, or if the state does not contain the whole segment yet.
    fn read(
        &self,
        segment: &SegmentSize,
        is_last: bool,
        rate: u64,
    ) -> Result<Option<Plan>, String> {
        let store = &self.engine.store;
        let plan = Plan::new(segment.first, segment.end);
        let mut reading = Reading { store, plan, records: Vec::new(), ends: Vec::new() };
        let applied = store.applied();
        if segment.end > applied && !is_last {
            return Ok(None);
        }
        let (mut failed, mut unpaced, mut goes_on) = (None, 0, true);
        let read = self.journal.read(segment.first, &mut |piece| {
            unpaced += if piece.record.is_some() { piece.to.since(piece.from) } else { 0 };
            if piece.to <= applied
                && let Err(error) = reading.add(piece)
            {
                failed = Some(error);
            }
            if unpaced >= PACE_BYTES {
                goes_on = self.pace(std::mem::take(&mut unpaced), rate);
            }
            goes_on && failed.is_none()
        });
        read.map_err(|error: JournalError| error.to_string())?;
        if let Some(error) = failed {
            return Err(error);
        }
        let mut plan = reading.finish().map_err(|error| error.to_string())?;
        // The state went on meanwhile, so the plan holds for the state as it is now.
        plan.found_by = store.applied();
        Ok(goes_on.then_some(plan))
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

/// Number of bytes after which reading pauses.
const PACE_BYTES: u64 = 256 << 10;

/// The plan in the making, and records about which the state is not asked yet.
struct Reading<'a> {
    store: &'a Store,
    plan: Plan,
    records: Vec<Record>,
    /// The position behind each of the records.
    ends: Vec<Position>,
}

impl Reading<'_> {
    fn add(&mut self, piece: Piece<'_>) -> Result<(), String> {
        let Some(raw) = piece.record else { return Ok(()) };
        let command = Command::of_raw(&raw).map_err(|unknown| unknown.to_string())?;
        self.records.push(Record { position: piece.from, command });
        self.ends.push(piece.to);
        if self.records.len() < RECORDS_AT_ONCE {
            return Ok(());
        }
        self.ask().map_err(|error| error.to_string())
    }

    fn ask(&mut self) -> Result<(), StateError> {
        let needs = needs(self.store, &self.records)?;
        for ((record, end), need) in self.records.drain(..).zip(self.ends.drain(..)).zip(needs) {
            self.plan.add((record.position, end), need);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Plan, StateError> {
        self.ask()?;
        Ok(self.plan)
    }
}

fn fate(plan: &Plan, record: &RawRecord<'_>) -> Result<Fate, String> {
    let cuts = match plan.need(record.position) {
        Need::Whole => return Ok(Fate::Keep),
        Need::Nothing => return Ok(Fate::Remove),
        Need::Without(cuts) => cuts,
    };
    let command = Command::of_raw(record).map_err(|unknown| unknown.to_string())?;
    let cut = command.without(cuts).to_raw(record.position).map_err(|error| error.to_string())?;
    Ok(Fate::Cut(cut.body.into_owned()))
}

#[cfg(test)]
#[path = "compactor_tests.rs"]
mod tests;
