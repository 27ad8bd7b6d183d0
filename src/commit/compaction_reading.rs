//! Reads a segment for the compactor and asks the state about each record, which gives the plan for
//! the segment; and decides about each record when the segment is written again.

use crate::commands::{Command, Need, Record, needs};
use crate::journal::{Compaction, Decision, Pace, Piece, Position, RawRecord, SegmentSize};
use crate::model::time::Timestamp;
use crate::store::{StateError, Store};

use super::compaction_plans::Plan;
use super::disk_use::Look;

/// Number of records about which the state is asked at once.
const RECORDS_AT_ONCE: usize = 256;
/// Number of bytes of records after which the state is asked: a payload has up to 8 MiB.
const BYTES_AT_ONCE: usize = 1 << 20;

/// The plan in the making, and records about which the state is not asked yet.
pub(super) struct Reading<'a> {
    store: &'a Store,
    plan: Plan,
    /// The disk space of the segment in bytes.
    allocated: u64,
    /// The earliest and the latest time of receipt of the events so far.
    received: Option<(Timestamp, Timestamp)>,
    pub(super) records: Vec<Record>,
    /// The position behind each of the records.
    ends: Vec<Position>,
    /// The number of bytes of the records.
    bytes: usize,
    /// Set if compaction has removed or cut a record before.
    is_compacted: bool,
}

/// The result of reading a segment.
pub(super) struct Found {
    pub(super) plan: Plan,
    pub(super) look: Look,
    /// Set if compaction has removed or cut a record of the segment before, so that the journal
    /// gives no state without a snapshot.
    pub(super) is_compacted: bool,
}

impl<'a> Reading<'a> {
    pub(super) fn new(store: &'a Store, segment: &SegmentSize) -> Self {
        Self {
            store,
            plan: Plan::new(segment.first, segment.end),
            allocated: segment.allocated,
            received: None,
            records: Vec::new(),
            ends: Vec::new(),
            bytes: 0,
            is_compacted: false,
        }
    }

    /// Reads the segment as far as the state contains it. `None` if `pace` gave up.
    pub(super) fn read(
        mut self,
        journal: &Compaction,
        pace: &mut Pace<'_>,
    ) -> Result<Option<Found>, String> {
        let (applied, first) = (self.store.applied(), self.plan.first);
        let mut failed = None;
        let mut visit = |piece: Piece<'_>| {
            if piece.to <= applied {
                failed = self.add(piece).err();
            }
            failed.is_none()
        };
        let read = journal.read(first, &mut visit, pace).map_err(|error| error.to_string())?;
        if let Some(error) = failed {
            return Err(error);
        }
        if !read {
            return Ok(None);
        }
        self.ask().map_err(|error| error.to_string())?;
        // The state went on meanwhile, so the plan holds for the state as it is now.
        self.plan.found_by = self.store.applied();
        let Self { plan, allocated, received, is_compacted, .. } = self;
        let look = Look { since: applied, freed: plan.freed(allocated), received };
        Ok(Some(Found { plan, look, is_compacted }))
    }

    pub(super) fn add(&mut self, piece: Piece<'_>) -> Result<(), String> {
        self.is_compacted |= piece.is_compacted;
        let Some(raw) = piece.record else { return Ok(()) };
        let command = Command::of_raw(&raw).map_err(|unknown| unknown.to_string())?;
        if let Some(at) = command.received_at() {
            let (first, last) = self.received.unwrap_or((at, at));
            self.received = Some((first.min(at), last.max(at)));
        }
        self.bytes += raw.body.len();
        self.records.push(Record { position: piece.from, command });
        self.ends.push(piece.to);
        if self.records.len() < RECORDS_AT_ONCE && self.bytes < BYTES_AT_ONCE {
            return Ok(());
        }
        self.ask().map_err(|error| error.to_string())
    }

    /// Asks the state about the waiting records.
    fn ask(&mut self) -> Result<(), StateError> {
        self.bytes = 0;
        let needs = needs(self.store, &self.records)?;
        for ((record, end), need) in self.records.drain(..).zip(self.ends.drain(..)).zip(needs) {
            self.plan.add((record.position, end), need);
        }
        Ok(())
    }
}

/// Decides about a record of a segment that is written again by this plan.
pub(super) fn decide(plan: &Plan, record: &RawRecord<'_>) -> Result<Decision, String> {
    let cuts = match plan.need(record.position) {
        Need::Whole => return Ok(Decision::Keep),
        Need::Nothing | Need::Forgotten => return Ok(Decision::Remove),
        Need::Without(cuts) => cuts,
    };
    let command = Command::of_raw(record).map_err(|unknown| unknown.to_string())?;
    let cut = command.without(cuts).to_raw(record.position).map_err(|error| error.to_string())?;
    Ok(Decision::Cut(cut.body.into_owned()))
}
