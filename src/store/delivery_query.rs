//! Deliveries as their owner sees them: one, those of an event, of an endpoint or of the whole organization, the newest
//! event first. A page costs a bounded number of rows, however deep it lies.

use std::sync::Arc;

use super::change::block_of;
use super::event_page::{Received, ids_ahead_ms};
use super::schema::{DeliveredEntry, DeliveryRow, DeliveryState, EndedRow};
use super::table::State;
use super::{StateError, Store};
use crate::model::delivery::{DeadReason, DeliveryStatus};
use crate::model::endpoint::Endpoint;
use crate::model::event::EventType;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;

/// Rows of single deliveries looked at in one go,
const ROWS_AT_ONCE: usize = 128;
/// blocks of them,
const BLOCKS_AT_ONCE: usize = 16;
/// endpoints,
const ENDPOINTS_AT_ONCE: usize = 64;
/// and endpoints that ended, by when they did.
const ENDED_AT_ONCE: usize = 512;
/// When more endpoints than that ended since an event came, its deliveries are looked for at all that ever were, page by
/// page.
const ENDED_MAX: usize = 8_192;
/// What a page may cost: a look at one delivery is 1, at a portion of an endpoint's [`PORTION_COST`]. A page whose search
/// ends with that goes on at its cursor.
const PAGE_COST_MAX: u32 = 1_024;
const PORTION_COST: u32 = 8;
/// Behind every event.
const NEWEST: EventId = EventId(u128::MAX);

/// Where a delivery stands, and since or until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStanding {
    /// Not tried yet (or not since its schedule began anew, if there was nothing before); due at this time.
    Pending(Timestamp),
    /// Tried and failed; due again at this time.
    Retrying(Timestamp),
    /// Accepted.
    Delivered,
    /// Given up, why and when.
    Dead(DeadReason, Timestamp),
    /// Not to be tried any more: its endpoint was deleted, or its owner dropped it.
    Canceled,
}

impl DeliveryStanding {
    /// Without the time.
    pub fn status(self) -> DeliveryStatus {
        match self {
            Self::Pending(_) => DeliveryStatus::Pending,
            Self::Retrying(_) => DeliveryStatus::Retrying,
            Self::Delivered => DeliveryStatus::Delivered,
            Self::Dead(..) => DeliveryStatus::Dead,
            Self::Canceled => DeliveryStatus::Canceled,
        }
    }

    /// When it is tried next, if it waits.
    pub fn next_attempt_at(self) -> Option<Timestamp> {
        match self {
            Self::Pending(at) | Self::Retrying(at) => Some(at),
            Self::Delivered | Self::Dead(..) | Self::Canceled => None,
        }
    }
}

/// A delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Which event.
    pub event: EventId,
    /// Where to.
    pub endpoint: EndpointId,
    /// The endpoint's number in its organization.
    pub endpoint_number: u32,
    /// Where it stands.
    pub standing: DeliveryStanding,
    /// Attempts made so far.
    pub attempts: u32,
    /// Journal position of the last one.
    pub last_attempt: Option<u64>,
}

/// A delivery and its endpoint.
#[derive(Clone, Debug)]
pub struct DeliveryDetails {
    /// The delivery.
    pub delivery: Delivery,
    /// The endpoint as it is now; none if it was deleted.
    pub endpoint: Option<Arc<Endpoint>>,
}

/// A place in a list of deliveries, which are sorted by their endpoints' numbers, then the newest event first: behind this
/// event of this endpoint.
pub type DeliveryPlace = (u32, EventId);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryQuery {
    /// Only in this state.
    pub status: Option<DeliveryStatus>,
    /// Only to this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Only of this event.
    pub event: Option<EventId>,
    /// Only of events received at this time or later,
    pub since: Option<Timestamp>,
    /// and before this one.
    pub until: Option<Timestamp>,
    /// Only behind this place.
    pub after: Option<DeliveryPlace>,
    /// At most so many.
    pub limit: usize,
}

/// A page of deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryPage {
    /// The deliveries.
    pub items: Vec<Delivery>,
    /// Where the next page begins, if there may be more.
    pub next: Option<DeliveryPlace>,
}

/// An endpoint, also one that was deleted: its deliveries are still there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) org: OrgNo,
    pub(super) endpoint: EndpointId,
    pub(super) number: u32,
    /// Whether it is still there. What waits for one that is not is as good as canceled, though the scheduler has not said
    /// so yet.
    pub(super) lives: bool,
}

impl Target {
    /// The organization's endpoint of this id.
    pub(super) fn of(state: &State, org: OrgNo, endpoint: EndpointId) -> Result<Option<Self>, StateError> {
        let living = state.endpoints.get(endpoint)?;
        let lives = living.is_some();
        let number = match living {
            Some(row) => Some((row.org, row.number)),
            None => state.former.get(endpoint)?.map(|row| (row.org, row.number)),
        };
        Ok(number.filter(|(owner, _)| *owner == org).map(|(_, number)| Self { org, endpoint, number, lives }))
    }

    /// Waits for its first attempt, since the event came or until `due_at`.
    fn pending(&self, event: EventId, due_at: Timestamp) -> Delivery {
        self.delivery(event, if self.lives { DeliveryStanding::Pending(due_at) } else { DeliveryStanding::Canceled })
    }

    fn delivery(&self, event: EventId, standing: DeliveryStanding) -> Delivery {
        Delivery {
            event,
            endpoint: self.endpoint,
            endpoint_number: self.number,
            standing,
            attempts: 0,
            last_attempt: None,
        }
    }

    pub(super) fn of_row(&self, event: EventId, row: &DeliveryRow) -> Delivery {
        let standing = match row.state {
            DeliveryState::Waiting(_) if !self.lives => DeliveryStanding::Canceled,
            DeliveryState::Waiting(at) if row.attempts == 0 => DeliveryStanding::Pending(at),
            DeliveryState::Waiting(at) => DeliveryStanding::Retrying(at),
            DeliveryState::Dead(reason, at) => DeliveryStanding::Dead(reason, at),
            DeliveryState::Canceled => DeliveryStanding::Canceled,
        };
        let (attempts, last_attempt) = (row.attempts, row.last_attempt);
        Delivery { attempts, last_attempt, ..self.delivery(event, standing) }
    }

    fn accepted(&self, event: EventId, entry: &DeliveredEntry) -> Delivery {
        let (attempts, last_attempt) = (entry.attempts, Some(entry.attempt));
        Delivery { attempts, last_attempt, ..self.delivery(event, DeliveryStanding::Delivered) }
    }
}

impl Store {
    /// A page of the organization's deliveries. Costs a bounded number of rows, however deep it lies; it may be short and
    /// go on.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn deliveries(&self, org: OrgNo, query: &DeliveryQuery) -> Result<DeliveryPage, StateError> {
        let mut search = Search::new(self, org, query)?;
        match query.endpoint {
            Some(endpoint) => {
                let target = Target::of(&self.read(), org, endpoint)?;
                if let Some(target) = target {
                    search.endpoint(target, query.after.map_or(NEWEST, |(_, before)| before))?;
                }
            }
            None => match query.event.map(|event| self.candidates(org, event)).transpose()?.flatten() {
                Some(candidates) => search.these(candidates)?,
                None => search.all_endpoints(org)?,
            },
        }
        Ok(search.page)
    }

    /// One delivery, by its event and its endpoint's number; none if the
    /// organization has no such delivery.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn delivery(
        &self,
        org: OrgNo,
        event: EventId,
        endpoint_number: u32,
    ) -> Result<Option<DeliveryDetails>, StateError> {
        let state = self.read();
        let Some(row) = state.numbers.get((org, endpoint_number))? else { return Ok(None) };
        let endpoint = state.endpoints.get(row.0)?.map(|row| Arc::clone(&row.endpoint));
        let target = Target { org, endpoint: row.0, number: endpoint_number, lives: endpoint.is_some() };
        let Some(delivery) = find(&state, target, event)? else { return Ok(None) };
        Ok(Some(DeliveryDetails { delivery, endpoint }))
    }
}

/// What an attempt was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptTarget {
    /// The endpoint's number in its organization.
    pub endpoint_number: u32,
    /// Whether it is still there.
    pub endpoint_lives: bool,
    /// Of the event.
    pub event_type: EventType,
}

impl Store {
    /// What an attempt was made of; none if nothing is known of the endpoint or the event any more.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn attempt_target(
        &self,
        org: OrgNo,
        endpoint: EndpointId,
        event: EventId,
    ) -> Result<Option<AttemptTarget>, StateError> {
        let state = self.read();
        let Some(target) = Target::of(&state, org, endpoint)? else { return Ok(None) };
        let Some((_, block)) = block_of(&state, org, event)? else { return Ok(None) };
        let event_type = block.find(event).and_then(|(_, entry)| block.event_type(entry)).cloned();
        let endpoint_lives = state.endpoints.get(endpoint)?.is_some();
        let endpoint_number = target.number;
        Ok(event_type.map(|event_type| AttemptTarget { endpoint_number, endpoint_lives, event_type }))
    }
}

/// A page being filled.
struct Search<'a> {
    store: &'a Store,
    query: &'a DeliveryQuery,
    page: DeliveryPage,
    cost_left: u32,
    org: OrgNo,
    /// When its events were received,
    received: Received,
    /// how far the times in their ids are ahead of that, at most,
    ids_ahead_ms: u64,
    /// and so the first id that one of them can have, and the first behind them.
    ids: (EventId, EventId),
}

impl Store {
    /// The endpoints that can have a delivery of the event, in the order of their numbers: those that are there, and those
    /// that ended since it came. None: too many ended since.
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
        // One that ends meanwhile is there twice rather than not at all.
        let living = found.len();
        let mut from = (org, came, u32::MAX);
        loop {
            // A lock for each portion: a long search holds up nobody.
            let rows = self.read().ended.range(from..=(org, u64::MAX, u32::MAX), ENDED_AT_ONCE)?;
            let target = |((_, _, number), row): &((OrgNo, u64, u32), Arc<EndedRow>)| Target {
                org,
                endpoint: row.0,
                number: *number,
                lives: false,
            };
            found.extend(rows.iter().map(target));
            let Some((last, _)) = rows.last().filter(|_| rows.len() == ENDED_AT_ONCE) else { break };
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
        let (page, cost_left, ids) = (DeliveryPage::default(), PAGE_COST_MAX, received.ids(ids_ahead_ms));
        Ok(Self { store, query, page, cost_left, org, received, ids_ahead_ms, ids })
    }

    /// These, in their order.
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

    /// In the order of their numbers.
    fn all_endpoints(&mut self, org: OrgNo) -> Result<(), StateError> {
        let (mut from, begin) = self.query.after.unwrap_or((0, NEWEST));
        let begins_with = from;
        loop {
            let numbers = self.store.read().numbers.range((org, from)..=(org, u32::MAX), ENDPOINTS_AT_ONCE)?;
            for ((_, number), row) in &numbers {
                let before = if *number == begins_with { begin } else { NEWEST };
                let lives = self.store.read().endpoints.get(row.0)?.is_some();
                if !self.endpoint(Target { org, endpoint: row.0, number: *number, lives }, before)? {
                    return Ok(());
                }
            }
            let Some(((_, last), _)) = numbers.last().filter(|_| numbers.len() == ENDPOINTS_AT_ONCE) else {
                return Ok(());
            };
            from = last.saturating_add(1);
        }
    }

    /// Takes what the endpoint has before an event; false when the page ends with that.
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
            if !self.pay(PORTION_COST, (target.number, before)) {
                return Ok(false);
            }
            // A lock for each portion: a long search holds up nobody.
            let portion = portion(&self.store.read(), target, before, self.query.status)?;
            for delivery in portion.deliveries {
                if !self.take(delivery)? {
                    return Ok(false);
                }
            }
            match portion.down_to {
                Some(event) if event > self.ids.0 => before = event,
                Some(_) | None => return Ok(true),
            }
        }
    }

    /// Whether there is so much left to spend; else the page ends and the next one begins here.
    fn pay(&mut self, cost: u32, here: DeliveryPlace) -> bool {
        match self.cost_left.checked_sub(cost) {
            Some(left) => self.cost_left = left,
            None => self.page.next = Some(here),
        }
        self.page.next.is_none()
    }

    /// Takes a delivery if it is wanted; false when there is no room for it.
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
        if self.query.status.is_some_and(|status| delivery.standing.status() != status) {
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

/// A part of an endpoint's deliveries, newest event first.
struct Portion {
    deliveries: Vec<Delivery>,
    /// All of this event and later are among them; none: that was all there is.
    down_to: Option<EventId>,
}

/// The newest of the endpoint's deliveries before an event. The three tables that know them are looked at together, each
/// as far as it can say anything about `status`; what lies deeper in one than the others were looked at is left for the
/// next portion.
fn portion(
    state: &State,
    target: Target,
    before: EventId,
    status: Option<DeliveryStatus>,
) -> Result<Portion, StateError> {
    let mut portion = Portion { deliveries: Vec::new(), down_to: None };
    let Some(last) = before.0.checked_sub(1) else { return Ok(portion) };
    let keys = || (target.endpoint, EventId(0))..=(target.endpoint, EventId(last));
    let mut reached = |lowest: Option<EventId>| portion.down_to = portion.down_to.max(lowest);
    let mut found = Vec::new();
    let waiting_is = if target.lives { DeliveryStatus::Pending } else { DeliveryStatus::Canceled };
    if status.is_none_or(|status| status == waiting_is) {
        let rows = state.pending.range_back(keys(), BLOCKS_AT_ONCE)?;
        reached(rows.last().filter(|_| rows.len() == BLOCKS_AT_ONCE).map(|((_, first), _)| *first));
        for ((_, first), row) in rows {
            let block = state.events.promised((target.org, first))?;
            let waits = block.events.iter().enumerate().filter(|(place, _)| row.bits & 1 << place != 0);
            found.extend(waits.map(|(_, entry)| target.pending(entry.id, entry.received_at)));
        }
    }
    if matches!(status, None | Some(DeliveryStatus::Delivered)) {
        let rows = state.delivered.range_back(keys(), BLOCKS_AT_ONCE)?;
        reached(rows.last().filter(|_| rows.len() == BLOCKS_AT_ONCE).map(|((_, first), _)| *first));
        for ((_, first), row) in rows {
            let block = state.events.promised((target.org, first))?;
            let event = |place: u8| block.events.get(usize::from(place)).map(|entry| entry.id);
            found.extend(row.entries.iter().filter_map(|entry| Some(target.accepted(event(entry.place)?, entry))));
        }
    }
    if status != Some(DeliveryStatus::Delivered) {
        let rows = state.deliveries.range_back(keys(), ROWS_AT_ONCE)?;
        reached(rows.last().filter(|_| rows.len() == ROWS_AT_ONCE).map(|((_, event), _)| *event));
        found.extend(rows.iter().map(|((_, event), row)| target.of_row(*event, row)));
    }
    let known = portion.down_to.unwrap_or(EventId(0))..before;
    found.retain(|delivery| known.contains(&delivery.event));
    found.sort_unstable_by_key(|delivery| std::cmp::Reverse(delivery.event));
    portion.deliveries = found;
    Ok(portion)
}

/// The delivery of this event to the endpoint.
pub(super) fn find(state: &State, target: Target, event: EventId) -> Result<Option<Delivery>, StateError> {
    let Target { org, endpoint, .. } = target;
    let Some((first, block)) = block_of(state, org, event)? else { return Ok(None) };
    let Some((place, entry)) = block.find(event) else { return Ok(None) };
    if state.pending.get((endpoint, first))?.is_some_and(|row| row.bits & 1 << place != 0) {
        return Ok(Some(target.pending(event, entry.received_at)));
    }
    if let Some(row) = state.deliveries.get((endpoint, event))? {
        return Ok(Some(target.of_row(event, &row)));
    }
    let Some(delivered) = state.delivered.get((endpoint, first))? else { return Ok(None) };
    let accepted = delivered.entries.iter().find(|entry| usize::from(entry.place) == place);
    Ok(accepted.map(|entry| target.accepted(event, entry)))
}

#[cfg(test)]
#[path = "delivery_query_tests.rs"]
mod tests;
