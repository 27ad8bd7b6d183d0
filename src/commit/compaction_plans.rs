//! Plans of the compactor: what is to be removed from which segment, and when it may be. Pure, and
//! in memory only: a plan that is lost is found again by the next reading of its segment.
//!
//! A plan was found by a state at some position of the journal. It waits until the oldest kept
//! snapshot is at that position or later, and then for the grace: a copy of the data directory that
//! began before may have an older snapshot, or none, and still needs the records.

use std::collections::BTreeMap;

use super::snapshots::KeptSnapshots;
use crate::commands::{Cuts, Need};
use crate::journal::Position;

/// Maximum number of ranges and cuts in all plans. One takes 16 bytes.
const PLANNED_MAX: usize = 262_144;
/// The unit in which filesystems give disk space back, in bytes.
const BLOCK_BYTES: u64 = 4_096;

/// What is to be removed from a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The first position of the segment.
    pub(super) first: Position,
    /// The position behind the segment.
    pub(super) end: Position,
    /// The position of the state by which the plan was found.
    pub(super) found_by: Position,
    /// The uptime at which a snapshot was there, in milliseconds.
    covered_ms: Option<u64>,
    /// The records to be removed, as ranges of positions, sorted.
    removed: Vec<(Position, Position)>,
    /// Set if nobody may see some of these records any more.
    forgets: bool,
    /// The records to be cut, sorted.
    cut: Vec<(Position, Cuts)>,
    /// The number of blocks on which needed records lie.
    kept_blocks: u64,
    /// The last of these blocks.
    last_block: Option<u64>,
}

impl Plan {
    pub(super) fn new(first: Position, end: Position) -> Self {
        Self {
            first,
            end,
            found_by: Position::MAX,
            covered_ms: None,
            removed: Vec::new(),
            forgets: false,
            cut: Vec::new(),
            kept_blocks: 0,
            last_block: None,
        }
    }

    /// Adds the next record of the segment.
    pub(super) fn add(&mut self, (from, to): (Position, Position), need: Need) {
        match need {
            Need::Nothing => self.remove(from, to),
            Need::Forgotten => {
                self.forgets = true;
                self.remove(from, to);
            }
            Need::Without(cuts) => {
                self.cut.push((from, cuts));
                self.keep(from, to);
            }
            Need::Whole => self.keep(from, to),
        }
    }

    fn remove(&mut self, from: Position, to: Position) {
        match self.removed.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => self.removed.push((from, to)),
        }
    }

    fn keep(&mut self, from: Position, to: Position) {
        let from = from.since(self.first) / BLOCK_BYTES;
        let last = to.since(self.first).saturating_sub(1) / BLOCK_BYTES;
        // The first block may be the last block of the record before.
        let from = self.last_block.map_or(from, |known| from.max(known + 1));
        self.kept_blocks += (last + 1).saturating_sub(from);
        self.last_block = Some(last);
    }

    /// Returns the need for the record at this position.
    pub(super) fn need(&self, position: Position) -> Need {
        let behind = self.removed.partition_point(|(from, _)| *from <= position);
        let range = behind.checked_sub(1).and_then(|at| self.removed.get(at));
        if range.is_some_and(|(_, to)| position < *to) {
            return Need::Nothing;
        }
        let found = self.cut.binary_search_by_key(&position, |(at, _)| *at);
        let cut = found.ok().and_then(|at| self.cut.get(at));
        cut.map_or(Need::Whole, |(_, cuts)| Need::Without(*cuts))
    }

    /// True if some record holds what nobody may see.
    pub(super) fn must_be_written(&self) -> bool {
        self.forgets || !self.cut.is_empty()
    }

    /// True if a snapshot of this position holds what follows from the segment, as it was found.
    fn is_covered_by(&self, snapshot: Position) -> bool {
        self.found_by.max(self.end) <= snapshot
    }

    /// True if nobody needs anything of the segment.
    pub(super) fn is_all(&self) -> bool {
        self.last_block.is_none()
    }

    /// True if writing the segment again removes something.
    fn changes(&self) -> bool {
        !self.removed.is_empty() || self.must_be_written()
    }

    /// True if the plan is worth its work for a file that takes this disk space: half of it comes
    /// free, or something in it must go.
    pub(super) fn is_worth(&self, allocated: u64) -> bool {
        let freed = self.freed_of(allocated);
        self.must_be_written() || self.is_all() || (freed > 0 && freed >= allocated / 2)
    }

    /// Returns the disk space that comes free, for a file that takes this disk space.
    pub(super) fn freed(&self, allocated: u64) -> u64 {
        match (self.is_all(), self.is_worth(allocated)) {
            (true, _) => allocated,
            (false, true) => self.freed_of(allocated),
            (false, false) => 0,
        }
    }

    fn freed_of(&self, allocated: u64) -> u64 {
        let removed: u64 = self.removed.iter().map(|(from, to)| to.since(*from)).sum();
        allocated.saturating_sub((self.kept_blocks + 1) * BLOCK_BYTES).min(removed)
    }

    fn len(&self) -> usize {
        self.removed.len() + self.cut.len()
    }
}

/// All plans, by the first position of their segment.
#[derive(Debug, Default)]
pub(super) struct Plans {
    plans: BTreeMap<Position, Plan>,
}

impl Plans {
    /// Adds a plan. Returns false if there are too many: it is found again later.
    pub(super) fn add(&mut self, plan: Plan) -> bool {
        let planned: usize = self.plans.values().map(Plan::len).sum();
        let has_room = planned.saturating_add(plan.len()) <= PLANNED_MAX;
        if has_room {
            self.plans.insert(plan.first, plan);
        }
        has_room
    }

    pub(super) fn has(&self, first: Position) -> bool {
        self.plans.contains_key(&first)
    }

    /// Notes which plans the oldest of the kept snapshots covers now. Returns true if some plan
    /// needs a newer snapshot than the newest.
    pub(super) fn cover(&mut self, kept: Option<KeptSnapshots>, now_ms: u64) -> bool {
        let mut is_newer_needed = false;
        for plan in self.plans.values_mut() {
            if !kept.is_some_and(|kept| plan.is_covered_by(kept.oldest)) {
                plan.covered_ms = None;
            } else if plan.covered_ms.is_none() {
                plan.covered_ms = Some(now_ms);
            }
            is_newer_needed |= !kept.is_some_and(|kept| plan.is_covered_by(kept.newest));
        }
        is_newer_needed
    }

    /// Returns the position at which the journal can begin, if it begins at `first` now: behind the
    /// first segments of which nobody needs anything, as far as a snapshot covers them at least
    /// since `since_ms`.
    pub(super) fn new_first(&self, first: Position, since_ms: u64) -> Position {
        let is_covered = |plan: &Plan| plan.covered_ms.is_some_and(|at| at <= since_ms);
        let is_over = |plan: &Plan| plan.is_all() && is_covered(plan);
        let mut at = first;
        while let Some(plan) = self.plans.get(&at).filter(|plan| is_over(plan)) {
            at = plan.end;
        }
        at
    }

    /// Takes a plan for a segment from `first` on whose grace is over.
    pub(super) fn take_due(&mut self, first: Position, now_ms: u64, grace_ms: u64) -> Option<Plan> {
        let is_due = |plan: &Plan| {
            let over = plan.covered_ms.is_some_and(|at| now_ms >= at.saturating_add(grace_ms));
            over && plan.changes()
        };
        let due = self.plans.range(first..).find(|(_, plan)| is_due(plan)).map(|(at, _)| *at)?;
        self.plans.remove(&due)
    }

    /// Forgets the plans of segments before `first`, which are gone.
    pub(super) fn forget_before(&mut self, first: Position) {
        self.plans = self.plans.split_off(&first);
    }
}

#[cfg(test)]
#[path = "compaction_plans_tests.rs"]
mod tests;
