//! Pages of deliveries: all of an event, of an endpoint or of the organization, the newest event
//! first. A page reads a bounded number of rows, however deep it lies.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::journal::Position;
use crate::model::delivery::DeliveryStatus;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::change::block_of;
use crate::store::queries::delivery::{Delivery, Target, find};
use crate::store::queries::event_page::{Received, ids_ahead_ms};
use crate::store::rows::schema::EndedRow;
use crate::store::rows::state::State;
use crate::store::{StateError, Store};

/// Number of delivery rows that are read at once.
const ROWS_AT_ONCE: usize = 128;
/// Number of block rows that are read at once.
const BLOCKS_AT_ONCE: usize = 16;
/// Number of endpoints that are read at once.
const ENDPOINTS_AT_ONCE: usize = 64;
/// Number of deleted endpoints that are read at once.
const ENDED_AT_ONCE: usize = 512;
/// If more endpoints were deleted since an event came, the search goes through all endpoints that
/// ever existed, page by page.
const ENDED_MAX: usize = 8_192;
/// Maximum cost of a page: a lookup of one delivery costs 1, a chunk of an endpoint's deliveries
/// [`CHUNK_COST`]. A page that reaches the maximum continues at its cursor.
const PAGE_COST_MAX: u32 = 1_024;
const CHUNK_COST: u32 = 8;
/// The end of all event ids.
const NEWEST: EventId = EventId(u128::MAX);

/// A place in a list of deliveries: the endpoint's number and the event. Lists are sorted by the
/// endpoints' numbers, then the newest event comes first.
pub type DeliveryPlace = (u32, EventId);

/// The filters and the bounds of a page.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryQuery {
    /// Only deliveries with this status.
    pub status: Option<DeliveryStatus>,
    /// Only deliveries to this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Only deliveries of this event.
    pub event: Option<EventId>,
    /// Only events received at or after this time.
    pub since: Option<Timestamp>,
    /// Only events received before this time.
    pub until: Option<Timestamp>,
    /// Only deliveries after this place.
    pub after: Option<DeliveryPlace>,
    /// Maximum number of deliveries in the page.
    pub limit: usize,
}

/// A page of deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryPage {
    /// The deliveries, in the order of the list.
    pub items: Vec<Delivery>,
    /// The place after which the next page begins. Absent at the end of the list.
    pub next: Option<DeliveryPlace>,
}

impl Store {
    /// Returns a page of the organization's deliveries. Reads a bounded number of rows, however
    /// deep the page lies, so a page may be short.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn deliveries(
        &self,
        org: OrgNo,
        query: &DeliveryQuery,
    ) -> Result<DeliveryPage, StateError> {
        let mut search = Search::new(self, org, query)?;
        match query.endpoint {
            Some(endpoint) => {
                let target = Target::of(&self.read(), org, endpoint)?;
                if let Some(target) = target {
                    search.endpoint(target, query.after.map_or(NEWEST, |(_, before)| before))?;
                }
            }
            None => {
                match query.event.map(|event| self.candidates(org, event)).transpose()?.flatten() {
                    Some(candidates) => search.these(candidates)?,
                    None => search.all_endpoints(org)?,
                }
            }
        }
        Ok(search.page)
    }
}

/// The state of filling a page.
struct Search<'a> {
    store: &'a Store,
    query: &'a DeliveryQuery,
    page: DeliveryPage,
    cost_left: u32,
    org: OrgNo,
    /// The filter on the time of receipt.
    received: Received,
    /// The maximum by which the times in ids are ahead of the times of receipt.
    ids_ahead_ms: u64,
    /// The first id that can match the filter, and the end of these ids.
    ids: (EventId, EventId),
}

impl Store {
    /// Returns the endpoints that can have a delivery of the event, sorted by number: the existing
    /// endpoints, and the endpoints deleted since the event came. `None` if too many were deleted.
    fn candidates(&self, org: OrgNo, event: EventId) -> Result<Option<Vec<Target>>, StateError> {
        let mut found = Vec::new();
        let came = {
            let state = self.read();
            let Some((_, block)) = block_of(&state, org, event)? else { return Ok(Some(found)) };
            let Some((_, entry)) = block.find(event) else { return Ok(Some(found)) };
            if let Some(row) = state.orgs.get(org)? {
                for endpoint in &row.endpoints {
                    found.extend(Target::of(&state, org, *endpoint)?);
                }
            }
            entry.position
        };
        // An endpoint that is deleted meanwhile is found twice, not missed.
        let living = found.len();
        let mut from = (org, came, u32::MAX);
        loop {
            // Each chunk takes its own lock, so a long search blocks nobody.
            let rows =
                self.read().ended.range(from..=(org, Position::MAX, u32::MAX), ENDED_AT_ONCE)?;
            let target = |((_, _, number), row): &((OrgNo, Position, u32), Arc<EndedRow>)| Target {
                org,
                endpoint: row.0,
                number: *number,
                lives: false,
            };
            found.extend(rows.iter().map(target));
            let Some((last, _)) = rows.last().filter(|_| rows.len() == ENDED_AT_ONCE) else {
                break;
            };
            from = (org, last.1, last.2.saturating_add(1));
            if found.len() - living > ENDED_MAX {
                return Ok(None);
            }
        }
        found.sort_by_key(|target| (target.number, target.lives));
        found.dedup_by_key(|target| target.number);
        Ok(Some(found))
    }
}

impl<'a> Search<'a> {
    fn new(store: &'a Store, org: OrgNo, query: &'a DeliveryQuery) -> Result<Self, StateError> {
        let received = Received { since: query.since, until: query.until };
        let ids_ahead_ms = ids_ahead_ms(&store.read(), org)?;
        let (page, cost_left, ids) =
            (DeliveryPage::default(), PAGE_COST_MAX, received.ids(ids_ahead_ms));
        Ok(Self { store, query, page, cost_left, org, received, ids_ahead_ms, ids })
    }

    /// Searches these endpoints, in their order.
    fn these(&mut self, targets: Vec<Target>) -> Result<(), StateError> {
        let (from, begin) = self.query.after.unwrap_or((0, NEWEST));
        for target in targets.into_iter().filter(|target| target.number >= from) {
            let before = if target.number == from { begin } else { NEWEST };
            if !self.endpoint(target, before)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Searches all endpoints, in the order of their numbers.
    fn all_endpoints(&mut self, org: OrgNo) -> Result<(), StateError> {
        let (mut from, begin) = self.query.after.unwrap_or((0, NEWEST));
        let begins_with = from;
        loop {
            let numbers = self
                .store
                .read()
                .numbers
                .range((org, from)..=(org, u32::MAX), ENDPOINTS_AT_ONCE)?;
            for ((_, number), row) in &numbers {
                let before = if *number == begins_with { begin } else { NEWEST };
                let lives = self.store.read().endpoints.get(row.0)?.is_some();
                if !self
                    .endpoint(Target { org, endpoint: row.0, number: *number, lives }, before)?
                {
                    return Ok(());
                }
            }
            let Some(((_, last), _)) =
                numbers.last().filter(|_| numbers.len() == ENDPOINTS_AT_ONCE)
            else {
                return Ok(());
            };
            from = last.saturating_add(1);
        }
    }

    /// Takes the endpoint's deliveries before an event. Returns false if the page is complete.
    fn endpoint(&mut self, target: Target, before: EventId) -> Result<bool, StateError> {
        let mut before = before.min(self.ids.1);
        if let Some(event) = self.query.event {
            if event >= before {
                return Ok(true);
            }
            if !self.pay(1, (target.number, before)) {
                return Ok(false);
            }
            let found = find(&self.store.read(), target, event)?;
            return found.map_or(Ok(true), |found| self.take(found));
        }
        loop {
            if !self.pay(CHUNK_COST, (target.number, before)) {
                return Ok(false);
            }
            // Each chunk takes its own lock, so a long search blocks nobody.
            let chunk = chunk(&self.store.read(), target, before, self.query.status)?;
            for delivery in chunk.deliveries {
                if !self.take(delivery)? {
                    return Ok(false);
                }
            }
            match chunk.down_to {
                Some(event) if event > self.ids.0 => before = event,
                Some(_) | None => return Ok(true),
            }
        }
    }

    /// Pays the cost and returns true. If too little is left, ends the page here and returns false.
    fn pay(&mut self, cost: u32, here: DeliveryPlace) -> bool {
        match self.cost_left.checked_sub(cost) {
            Some(left) => self.cost_left = left,
            None => self.page.next = Some(here),
        }
        self.page.next.is_none()
    }

    /// Takes a delivery if it matches. Returns false if the page is full.
    fn take(&mut self, delivery: Delivery) -> Result<bool, StateError> {
        if !self.wants(&delivery)? {
            return Ok(true);
        }
        if self.page.items.len() >= self.query.limit {
            self.page.next = self.page.items.last().map(|last| (last.endpoint_number, last.event));
            return Ok(false);
        }
        self.page.items.push(delivery);
        Ok(true)
    }

    fn wants(&self, delivery: &Delivery) -> Result<bool, StateError> {
        if self.query.status.is_some_and(|status| delivery.situation.status() != status) {
            return Ok(false);
        }
        if let Some(is_wanted) = self.received.of_id(delivery.event, self.ids_ahead_ms) {
            return Ok(is_wanted);
        }
        let block = block_of(&self.store.read(), self.org, delivery.event)?;
        let entry = block.as_ref().and_then(|(_, block)| block.find(delivery.event));
        Ok(entry.is_some_and(|(_, entry)| self.received.contains(entry.received_at)))
    }
}

/// A part of an endpoint's deliveries, the newest event first.
struct Chunk {
    deliveries: Vec<Delivery>,
    /// The chunk is complete down to this event. `None`: down to the oldest delivery.
    down_to: Option<EventId>,
}

/// Returns the newest of the endpoint's deliveries before an event. The three tables that can know
/// `status` are read together. A row below the reach of another table is left for the next chunk.
fn chunk(
    state: &State,
    target: Target,
    before: EventId,
    status: Option<DeliveryStatus>,
) -> Result<Chunk, StateError> {
    let mut chunk = Chunk { deliveries: Vec::new(), down_to: None };
    let Some(last) = before.0.checked_sub(1) else { return Ok(chunk) };
    let keys = || (target.endpoint, EventId(0))..=(target.endpoint, EventId(last));
    let waiting_is = if target.lives { DeliveryStatus::Pending } else { DeliveryStatus::Canceled };
    if status.is_none_or(|status| status == waiting_is) {
        chunk.add_pending(state, target, keys())?;
    }
    if matches!(status, None | Some(DeliveryStatus::Delivered)) {
        chunk.add_accepted(state, target, keys())?;
    }
    if status != Some(DeliveryStatus::Delivered) {
        let rows = state.deliveries.range_back(keys(), ROWS_AT_ONCE)?;
        chunk.reaches(&rows, ROWS_AT_ONCE);
        let found = rows.iter().map(|((_, event), row)| target.of_row(*event, row));
        chunk.deliveries.extend(found);
    }
    let known = chunk.down_to.unwrap_or(EventId(0))..before;
    chunk.deliveries.retain(|delivery| known.contains(&delivery.event));
    chunk.deliveries.sort_unstable_by_key(|delivery| std::cmp::Reverse(delivery.event));
    Ok(chunk)
}

/// The keys of an endpoint's deliveries, or of the blocks with its deliveries.
type Keys = RangeInclusive<(EndpointId, EventId)>;

impl Chunk {
    /// Notes the lowest row of a table, if the table may have rows below these.
    fn reaches<R>(&mut self, rows: &[((EndpointId, EventId), R)], at_once: usize) {
        let lowest = rows.last().filter(|_| rows.len() == at_once);
        self.down_to = self.down_to.max(lowest.map(|((_, event), _)| *event));
    }

    /// Adds the deliveries whose first attempt is due at once.
    fn add_pending(&mut self, state: &State, target: Target, keys: Keys) -> Result<(), StateError> {
        let rows = state.pending.range_back(keys, BLOCKS_AT_ONCE)?;
        self.reaches(&rows, BLOCKS_AT_ONCE);
        for ((_, first), row) in rows {
            let block = state.events.promised((target.org, first))?;
            let waits = block.marked(row.bits);
            let waits = waits.map(|entry| target.pending(entry.id, entry.received_at));
            self.deliveries.extend(waits);
        }
        Ok(())
    }

    /// Adds the deliveries that the endpoint accepted.
    fn add_accepted(
        &mut self,
        state: &State,
        target: Target,
        keys: Keys,
    ) -> Result<(), StateError> {
        let rows = state.delivered.range_back(keys, BLOCKS_AT_ONCE)?;
        self.reaches(&rows, BLOCKS_AT_ONCE);
        for ((_, first), row) in rows {
            let block = state.events.promised((target.org, first))?;
            for entry in &row.entries {
                let event = block.events.get(usize::from(entry.index));
                let event = event.ok_or(StateError::Invariant("an accepted event is stored"))?;
                self.deliveries.push(target.accepted(event.id, entry));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "delivery_pages_tests.rs"]
mod tests;
