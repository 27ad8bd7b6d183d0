//! Events that expire, the oldest first. The sweeper asks, and makes a command of the answer.
//!
//! A search reads a bounded number of rows. It names every endpoint with a delivery of the events,
//! so the command needs no search of its own; the position of the search tells the command if the
//! events have changed since.

use std::collections::BTreeMap;

use crate::base::failpoint::{self, Switch};
use crate::journal::Position;
use crate::model::event::EventType;
use crate::model::id::{EndpointId, EventId, OrgId, OrgNo};
use crate::model::org::Tier;
use crate::model::retention::{Cutoffs, Expired, ExpiringBlock};
use crate::model::time::Timestamp;
use crate::store::queries::event_page::{Received, ids_ahead_ms};
use crate::store::rows::schema::{BLOCK_EVENTS, EventBlock};
use crate::store::rows::state::State;
use crate::store::{StateError, Store};

/// Number of blocks of events that are read at once.
const BLOCKS_AT_ONCE: usize = 16;
/// Maximum number of blocks that are read for one search.
const BLOCKS_READ_MAX: usize = 256;
/// Maximum number of blocks with expiring events that a search returns.
const BLOCKS_FOUND_MAX: usize = 8;
/// Number of rows at which a search ends: one for each expiring event, and
/// [`ROWS_PER_ENDPOINT`] for each endpoint and block.
const ROWS_MAX: usize = 1_024;
/// Number of tables with rows of an endpoint and a block.
const ROWS_PER_ENDPOINT: usize = 3;
/// Number of endpoints whose rows are looked up at once, for all found blocks.
const ENDPOINTS_AT_ONCE: usize = 16;
/// Number of deleted endpoints that are read at once.
const ENDED_AT_ONCE: usize = 512;

/// The next events of an organization that expire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expiring {
    /// The blocks of the events.
    pub blocks: Vec<ExpiringBlock>,
    /// The journal position of the search: every earlier command was applied.
    pub looked_at: Position,
    /// The number of expiring events.
    pub expired: Expired,
    /// The number of expiring events that nobody confirmed, by type; without operational events.
    pub unconfirmed: BTreeMap<EventType, u64>,
    /// The first and the last time of receipt of the events that nobody confirmed.
    pub received: Option<(Timestamp, Timestamp)>,
    /// The number of blocks that were read.
    pub read: usize,
    /// The event at which the next search begins. Absent if no later event expires.
    pub next: Option<EventId>,
    /// The rest of the search. Absent when every endpoint is named.
    pub(crate) naming: Option<Naming>,
}

/// A search that has found blocks, and still has to name their endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Naming {
    candidates: Vec<Candidate>,
    /// The next deleted endpoint.
    from: (OrgNo, Position, u32),
}

/// An organization as the retention sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainedOrg {
    /// The number of the organization.
    pub number: OrgNo,
    /// The public id of the organization.
    pub id: OrgId,
    /// The tier, which can have its own retention.
    pub tier: Tier,
    /// The time of receipt of the oldest event. Absent if there is no event.
    pub oldest: Option<Timestamp>,
}

/// The expiring events of a block, one bit for each index.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store) struct Judged {
    pub(in crate::store) finished: u64,
    pub(in crate::store) dead: u64,
    pub(in crate::store) open: u64,
    /// The expiring events in the inbox, which are among the open events.
    pub(in crate::store) in_inbox: u64,
    /// The expiring events that are not routed yet, which are among the open events.
    pub(in crate::store) unrouted: u64,
}

impl Judged {
    /// Returns the events of the block that expire by the present state.
    pub(in crate::store) fn of(
        state: &State,
        (org, first): (OrgNo, EventId),
        block: &EventBlock,
        cutoffs: Cutoffs,
    ) -> Result<Self, StateError> {
        let mut judged = Self::default();
        let in_inbox = state.open.get((org, first))?.map_or(0, |open| open.0);
        let unrouted = unrouted(state, (org, first), block)?;
        for (index, entry) in block.existing() {
            let bit = 1 << index;
            let is_open = (in_inbox | unrouted) & bit != 0 || entry.waiting > 0;
            let (bits, cutoff) = match (is_open, entry.dead > 0) {
                (true, _) if failpoint::is_on(Switch::ExpiryTooEarly) => {
                    (&mut judged.open, cutoffs.finished)
                }
                (true, _) => (&mut judged.open, cutoffs.open),
                (false, true) => (&mut judged.dead, cutoffs.dead),
                (false, false) => (&mut judged.finished, cutoffs.finished),
            };
            let is_kept = entry.erased_at.is_some_and(|erased| erased >= cutoffs.erased);
            if entry.aged_from(cutoffs.now) < cutoff && !is_kept {
                *bits |= bit;
            }
        }
        (judged.in_inbox, judged.unrouted) = (in_inbox & judged.open, unrouted & judged.open);
        Ok(judged)
    }

    /// Returns all expiring events.
    pub(in crate::store) fn all(self) -> u64 {
        self.finished | self.dead | self.open
    }

    /// Returns the numbers of the expiring events.
    pub(in crate::store) fn counts(self) -> Expired {
        let count = |bits: u64| u64::from(bits.count_ones());
        Expired { finished: count(self.finished), dead: count(self.dead), open: count(self.open) }
    }
}

/// Returns the events of the block that are not routed yet, one bit for each index.
fn unrouted(
    state: &State,
    (org, first): (OrgNo, EventId),
    block: &EventBlock,
) -> Result<u64, StateError> {
    let last = block.events.last().map_or(first, |entry| entry.id);
    let rows = state.unrouted.range((org, first)..=(org, last), BLOCK_EVENTS)?;
    let indexes = rows.iter().filter_map(|((_, event), _)| block.find(*event));
    Ok(indexes.fold(0, |bits, (index, _)| bits | 1 << index))
}

/// A block with expiring events, before its endpoints are known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    block: ExpiringBlock,
    last: EventId,
    /// The journal position of the first event. An endpoint deleted earlier has no delivery here.
    came: Position,
}

impl Store {
    /// Returns the first organization from `number` on that is not being deleted.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn retained_org(&self, number: OrgNo) -> Result<Option<RetainedOrg>, StateError> {
        let state = self.read();
        let mut from = number;
        let (number, row) = loop {
            let found = state.orgs.range(from..=OrgNo(u32::MAX), 1)?.pop();
            let Some((number, row)) = found else { return Ok(None) };
            if row.deletion.is_none() {
                break (number, row);
            }
            from = OrgNo(number.0.saturating_add(1));
        };
        let all = (number, EventId(0))..=(number, EventId(u128::MAX));
        let blocks = state.events.range(all, 1)?;
        let oldest = blocks.first().and_then(|(_, block)| block.existing().next());
        let oldest = oldest.map(|(_, entry)| entry.received_at);
        Ok(Some(RetainedOrg { number, id: row.org.id, tier: row.org.tier, oldest }))
    }

    /// Returns the organization's next events from `from` on that expire.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn expiring(
        &self,
        org: OrgNo,
        from: EventId,
        cutoffs: Cutoffs,
    ) -> Result<Expiring, StateError> {
        let mut found = self.begin_expiring((org, from), cutoffs, false)?;
        while !found.is_named() {
            self.name_more(&mut found)?;
        }
        Ok(found)
    }

    /// Returns the events of these blocks that expire by the present state. A command that names
    /// the blocks removes exactly these events, unless a block changes before.
    ///
    /// # Errors
    /// As [`Store::expiring`].
    pub fn expiring_events(
        &self,
        org: OrgNo,
        blocks: &[EventId],
        cutoffs: Cutoffs,
    ) -> Result<Vec<EventId>, StateError> {
        let state = self.read();
        let mut events = Vec::new();
        for first in blocks {
            let Some(block) = state.events.get((org, *first))? else { continue };
            let judged = Judged::of(&state, (org, *first), &block, cutoffs)?;
            events.extend(block.marked(judged.all()).map(|entry| entry.id));
        }
        Ok(events)
    }

    /// Begins a search as [`Store::expiring`] does, for a single block if `is_single`. The caller
    /// calls [`Store::name_more`] until all endpoints are named: an organization may have deleted
    /// very many.
    ///
    /// # Errors
    /// As [`Store::expiring`].
    pub fn begin_expiring(
        &self,
        (org, from): (OrgNo, EventId),
        cutoffs: Cutoffs,
        is_single: bool,
    ) -> Result<Expiring, StateError> {
        let mut search = Search::new(&self.read(), org, cutoffs)?;
        search.blocks_max = if is_single { 1 } else { BLOCKS_FOUND_MAX };
        let mut next = Some(from);
        while let Some(from) = next.filter(|_| !search.is_full()) {
            // Each portion takes its own lock, so a long search blocks nobody.
            next = search.portion(&self.read(), from)?;
        }
        let Search { mut found, mut candidates, .. } = search;
        found.next = next;
        let Some(came) = candidates.first().map(|block| block.came) else { return Ok(found) };
        let living = self.read().orgs.get(org)?;
        let living = living.iter().flat_map(|row| &row.endpoints);
        let living: Vec<_> = living.map(|endpoint| (*endpoint, Position::MAX)).collect();
        self.name_owners(&living, &mut candidates)?;
        // An endpoint that is deleted meanwhile is found twice, not missed.
        found.naming = Some(Naming { candidates, from: (org, came, 0) });
        Ok(found)
    }

    /// Names the endpoints with deliveries of the events among the next deleted endpoints.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn name_more(&self, found: &mut Expiring) -> Result<(), StateError> {
        let Some(Naming { candidates, from }) = &mut found.naming else { return Ok(()) };
        let last = (from.0, Position::MAX, u32::MAX);
        let rows = self.read().ended.range(*from..=last, ENDED_AT_ONCE)?;
        let ended: Vec<_> = rows.iter().map(|((_, ended, _), row)| (row.0, *ended)).collect();
        self.name_owners(&ended, candidates)?;
        if let Some(((org, ended, number), _)) = rows.last()
            && rows.len() == ENDED_AT_ONCE
        {
            *from = (*org, *ended, number.saturating_add(1));
            return Ok(());
        }
        let named = found.naming.take().map(|naming| naming.candidates).unwrap_or_default();
        found.blocks = named.into_iter().map(|candidate| candidate.block).collect();
        for block in &mut found.blocks {
            block.endpoints.sort_unstable();
            block.endpoints.dedup();
        }
        Ok(())
    }

    /// Adds those of the endpoints, each with the position of its deletion, that have a row of a
    /// block.
    fn name_owners(
        &self,
        endpoints: &[(EndpointId, Position)],
        blocks: &mut [Candidate],
    ) -> Result<(), StateError> {
        for portion in endpoints.chunks(ENDPOINTS_AT_ONCE) {
            // Each portion takes its own lock, so a long search blocks nobody.
            let state = self.read();
            for candidate in &mut *blocks {
                for (endpoint, _) in portion.iter().filter(|(_, ended)| *ended >= candidate.came) {
                    if candidate.has_rows(&state, *endpoint)? {
                        candidate.block.endpoints.push(*endpoint);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The state of a search.
struct Search {
    org: OrgNo,
    cutoffs: Cutoffs,
    /// The last id that an expiring event can have.
    last: EventId,
    /// The number of the organization's endpoints.
    endpoints: usize,
    /// The approximate number of rows of the expiring events.
    rows: usize,
    /// The number of blocks with expiring events at which the search ends.
    blocks_max: usize,
    found: Expiring,
    candidates: Vec<Candidate>,
}

impl Search {
    fn new(state: &State, org: OrgNo, cutoffs: Cutoffs) -> Result<Self, StateError> {
        let looked_at = state.meta.get(())?.map_or(Position::FIRST, |meta| meta.applied);
        let received = Received { since: None, until: Some(cutoffs.latest()) };
        let (_, end) = received.ids(ids_ahead_ms(state, org)?);
        Ok(Self {
            org,
            cutoffs,
            last: EventId(end.0.saturating_sub(1)),
            endpoints: state.orgs.get(org)?.map_or(0, |row| row.endpoints.len()),
            rows: 0,
            blocks_max: 1,
            found: Expiring { looked_at, ..Expiring::default() },
            candidates: Vec::new(),
        })
    }

    fn is_full(&self) -> bool {
        self.found.read >= BLOCKS_READ_MAX
            || self.candidates.len() >= self.blocks_max
            || self.rows >= ROWS_MAX
    }

    /// Searches the next blocks. Returns the event at which the following portion begins, if there
    /// is one.
    fn portion(&mut self, state: &State, from: EventId) -> Result<Option<EventId>, StateError> {
        let org = self.org;
        let blocks = state.events.range((org, from)..=(org, self.last), BLOCKS_AT_ONCE)?;
        for ((_, first), block) in &blocks {
            self.found.read += 1;
            let judged = Judged::of(state, (org, *first), block, self.cutoffs)?;
            if judged.all() == 0 {
                continue;
            }
            self.found.add(block, judged);
            self.candidates.extend(Candidate::of(*first, block));
            self.rows += judged.all().count_ones() as usize + ROWS_PER_ENDPOINT * self.endpoints;
            if self.is_full() {
                return Ok(Some(first.next()));
            }
        }
        let last = blocks.last().filter(|_| blocks.len() == BLOCKS_AT_ONCE);
        Ok(last.map(|((_, first), _)| first.next()))
    }
}

impl Candidate {
    fn of(first: EventId, block: &EventBlock) -> Option<Self> {
        let (came, last) = (block.events.first()?.position, block.events.last()?.id);
        Some(Self { block: ExpiringBlock { first, endpoints: Vec::new() }, last, came })
    }

    /// Returns true if the endpoint has a delivery of an event of this block.
    fn has_rows(&self, state: &State, endpoint: EndpointId) -> Result<bool, StateError> {
        let first = self.block.first;
        let tried = (endpoint, first)..=(endpoint, self.last);
        Ok(state.delivered.get((endpoint, first))?.is_some()
            || state.pending.get((endpoint, first))?.is_some()
            || !state.deliveries.range(tried, 1)?.is_empty())
    }
}

impl Expiring {
    /// Returns true if every endpoint is named, so that the blocks are complete.
    pub fn is_named(&self) -> bool {
        self.naming.is_none()
    }

    /// Counts the expiring events of a block.
    fn add(&mut self, block: &EventBlock, judged: Judged) {
        self.expired += judged.counts();
        let unconfirmed = judged.dead | judged.open;
        for entry in block.marked(unconfirmed) {
            let Some(event_type) = block.event_type(entry).filter(|known| !known.is_own()) else {
                continue;
            };
            *self.unconfirmed.entry(event_type.clone()).or_default() += 1;
            let (first, last) = self.received.unwrap_or((entry.received_at, entry.received_at));
            self.received = Some((first.min(entry.received_at), last.max(entry.received_at)));
        }
    }
}
