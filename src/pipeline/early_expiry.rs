//! Decides which events expire before their time, because the disk is short: those of the oldest
//! segments of the journal. Pure.
//!
//! The bytes that count are those that somebody still needs. The compactor gives disk space back
//! only after a newer snapshot and several graces, an hour each. If retention counted the files as
//! they are, it would expire more and more events while it waits. So it counts as given:
//!
//! - what the compactor's last look at a segment found unneeded, if compaction is worth its work;
//! - all of a segment whose events have just expired, until a look that began later tells how much
//!   it really is;
//! - all of a segment that was there at the start, until its first look: it may be what an earlier
//!   run has already let expire. A segment that is newer counts as needed until its first look.
//!
//! So each decision takes as much as is missing and no more, and the next one knows what the last
//! one gave. A server that starts again decides as before, and expires nothing twice.

use std::collections::BTreeMap;

use crate::commit::Look;
use crate::journal::{Position, SegmentSize};
use crate::model::time::Timestamp;

/// A decision covers at most this part of the journal. The next one comes after a pass.
const STEPS: u64 = 32;
/// Maximum number of segments at which the compactor is asked to look.
const ASKED_MAX: usize = 64;

/// The kinds of events in the order in which they leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leaving {
    Finished,
    Dead,
    Open,
}

/// The journal as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Journal<'a> {
    /// The segments, the oldest first. The last one is not sealed and never counts as given.
    pub(super) segments: &'a [SegmentSize],
    pub(super) looks: &'a BTreeMap<Position, Look>,
    /// The end of the journal at the start of the server.
    pub(super) began: Position,
    pub(super) now: Timestamp,
}

/// The missing bytes, before anything is counted as given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    /// Bytes by which the data exceeds its limit.
    pub(super) of_limit: u64,
    /// Bytes that the filesystem has too few.
    pub(super) of_free: u64,
}

impl Missing {
    fn most(self) -> u64 {
        self.of_limit.max(self.of_free)
    }
}

/// The result of a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// The kind of events that leaves from more segments now. A pass has to follow.
    pub(super) widened: Option<Leaving>,
    /// True if the free space of the filesystem demands it.
    pub(super) is_for_disk: bool,
    /// True if bytes are missing and nothing more can leave at present.
    pub(super) is_exhausted: bool,
    /// The first positions of segments at which the compactor should look soon.
    pub(super) asked: Vec<Position>,
}

/// The segments from which events leave before their time.
#[derive(Debug, Default)]
pub(super) struct EarlyExpiry {
    covered: BTreeMap<Position, Covered>,
    /// The times before which events leave, by kind.
    until: [Timestamp; 3],
}

#[derive(Clone, Copy, Debug)]
struct Covered {
    deepest: Leaving,
    /// The position of the state after the pass. Absent until then.
    passed: Option<Position>,
}

impl EarlyExpiry {
    /// Returns the times before which events expire, by kind.
    pub(super) fn until(&self) -> [Timestamp; 3] {
        self.until
    }

    /// Notes that a pass with the present times is over, with the state at this position.
    pub(super) fn passed(&mut self, applied: Position) {
        for covered in self.covered.values_mut() {
            covered.passed.get_or_insert(applied);
        }
    }

    /// True if a pass with the present times has not ended.
    pub(super) fn has_to_pass(&self) -> bool {
        self.covered.values().any(|covered| covered.passed.is_none())
    }

    /// Returns the bytes of the journal that count as given.
    pub(super) fn given(&self, journal: Journal<'_>) -> u64 {
        sealed(journal).iter().map(|segment| self.given_of(journal, segment)).sum()
    }

    /// Returns the bytes of the journal that count as given, without segments of which nothing is
    /// known.
    pub(super) fn known_given(&self, journal: Journal<'_>) -> u64 {
        let is_known = |segment: &&SegmentSize| {
            let first = &segment.first;
            journal.looks.contains_key(first) || self.covered.contains_key(first)
        };
        let known = sealed(journal).iter().filter(is_known);
        known.map(|segment| self.given_of(journal, segment)).sum()
    }

    fn given_of(&self, journal: Journal<'_>, segment: &SegmentSize) -> u64 {
        let look = journal.looks.get(&segment.first);
        let freed = |look: &Look| look.freed.min(segment.allocated);
        match (self.covered.get(&segment.first), look) {
            (Some(covered), Some(look)) if covered.is_known_to(look) => freed(look),
            (Some(_), _) => segment.allocated,
            (None, Some(look)) => freed(look),
            (None, None) if segment.first < journal.began => segment.allocated,
            (None, None) => 0,
        }
    }

    /// Decides from which segments events leave now.
    pub(super) fn decide(
        &mut self,
        journal: Journal<'_>,
        missing: Missing,
        drop_open: bool,
    ) -> Decision {
        if let Some(oldest) = journal.segments.first() {
            self.covered = self.covered.split_off(&oldest.first);
        }
        let given = self.given(journal);
        let mut decision =
            Decision { asked: self.unknown(journal, missing), ..Decision::default() };
        for kind in [Leaving::Finished, Leaving::Dead, Leaving::Open] {
            let wanted = match kind {
                Leaving::Finished => missing.most(),
                Leaving::Dead | Leaving::Open => missing.of_free,
            };
            if kind == Leaving::Open && !drop_open {
                break;
            }
            let is_for_disk = missing.of_free > given;
            let covered = self.cover(journal, kind, wanted.saturating_sub(given));
            if covered.segments > 0 {
                (decision.widened, decision.is_for_disk) = (Some(kind), is_for_disk);
                return decision;
            }
            if covered.waits {
                return decision;
            }
        }
        decision.is_exhausted = missing.most() > given;
        decision.is_for_disk = missing.of_free > given;
        decision
    }

    /// Lets events of this kind leave from further segments, the oldest first, until this number of
    /// bytes is given or a step is done.
    fn cover(&mut self, journal: Journal<'_>, kind: Leaving, wanted: u64) -> Step {
        let all: u64 = sealed(journal).iter().map(|segment| segment.allocated).sum();
        let mut step = Step::default();
        for segment in sealed(journal) {
            if step.bytes >= wanted || step.bytes > all / STEPS {
                break;
            }
            let known = self.covered.get(&segment.first);
            if known.is_some_and(|covered| covered.deepest >= kind) {
                continue;
            }
            if !journal.looks.contains_key(&segment.first) {
                step.waits = true;
                break;
            }
            step.bytes += segment.allocated.saturating_sub(self.given_of(journal, segment));
            step.segments += 1;
            self.covered.insert(segment.first, Covered { deepest: kind, passed: None });
        }
        if step.segments > 0 {
            self.widen(journal, kind);
        }
        step
    }

    /// Sets the time before which events of this kind leave: behind every covered segment, but not
    /// behind the beginning of a later one. Times may not follow the order of the journal, if the
    /// clock was set.
    fn widen(&mut self, journal: Journal<'_>, kind: Leaving) {
        let mut until = Timestamp(0);
        let mut later = journal.now;
        for segment in sealed(journal) {
            let look = journal.looks.get(&segment.first);
            let Some((first, last)) = look.and_then(|look| look.received) else { continue };
            let covered = self.covered.get(&segment.first);
            if covered.is_some_and(|covered| covered.deepest >= kind) {
                until = until.max(Timestamp(last.0.saturating_add(1)));
            } else {
                later = later.min(first);
            }
        }
        let until = until.min(later);
        if let Some(known) = self.until.get_mut(kind as usize) {
            *known = (*known).max(until);
        }
    }

    /// Returns the oldest segments about which the compactor has to tell more, if bytes are missing
    /// by what is known.
    fn unknown(&self, journal: Journal<'_>, missing: Missing) -> Vec<Position> {
        let is_known = |segment: &SegmentSize| {
            let look = journal.looks.get(&segment.first);
            let covered = self.covered.get(&segment.first);
            look.is_some_and(|look| covered.is_none_or(|covered| covered.is_known_to(look)))
        };
        let (known, unknown): (Vec<_>, Vec<_>) =
            sealed(journal).iter().partition(|segment| is_known(segment));
        let given: u64 = known.iter().map(|segment| self.given_of(journal, segment)).sum();
        if missing.most() <= given {
            return Vec::new();
        }
        // A look before the end of the pass would have to be repeated.
        let is_over = |segment: &&SegmentSize| {
            self.covered.get(&segment.first).is_none_or(|covered| covered.passed.is_some())
        };
        unknown.iter().filter(is_over).map(|segment| segment.first).take(ASKED_MAX).collect()
    }
}

impl Covered {
    /// True if the look knows all that the pass has removed.
    fn is_known_to(self, look: &Look) -> bool {
        self.passed.is_some_and(|passed| look.since >= passed)
    }
}

/// Progress over segments.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    segments: usize,
    bytes: u64,
    /// True if the next segment has to be looked at first.
    waits: bool,
}

fn sealed(journal: Journal<'_>) -> &[SegmentSize] {
    journal.segments.split_last().map_or(&[], |(_, sealed)| sealed)
}

#[cfg(test)]
#[path = "early_expiry_tests.rs"]
mod tests;
