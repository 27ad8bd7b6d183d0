//! What is due: the questions of the scheduler.

use std::sync::Arc;

use super::change::block_of;
use super::schema::DeliveryState;
use super::table::State;
use super::{StateError, Store};
use crate::model::delivery::Trigger;
use crate::model::endpoint::Endpoint;
use crate::model::event::EventType;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;

/// Rows of waiting events that are looked at in one go.
const PENDING_ROWS_AT_ONCE: usize = 16;

/// An endpoint that something waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Which.
    pub endpoint: EndpointId,
    /// When the first of its deliveries is due.
    pub next_due: Timestamp,
}

/// All that is needed to make the next attempt.
#[derive(Clone, Debug)]
pub struct DueDelivery {
    /// Whose.
    pub org: OrgNo,
    /// Where to, as it is now.
    pub endpoint: Arc<Endpoint>,
    /// The endpoint's number in its organization.
    pub endpoint_number: u32,
    /// Which.
    pub event: EventId,
    /// Its type.
    pub event_type: EventType,
    /// When it was taken in.
    pub received_at: Timestamp,
    /// When it is due.
    pub due_at: Timestamp,
    /// Journal position of the frame that holds it.
    pub position: u64,
    /// Since when attempts to the endpoint have done nothing but fail.
    pub failing_since: Option<Timestamp>,
    /// What that was when its organization was told that the endpoint fails; none if it was not, or of the recovery since.
    pub failing_told: Option<Timestamp>,
    /// Attempts made so far.
    pub attempts: u32,
    /// Those of them that were made before its schedule began anew.
    pub base: u32,
    /// Journal position of the last one.
    pub last_attempt: Option<u64>,
    /// Why the next one is made.
    pub trigger: Trigger,
}

/// Rows that are looked at in one go, in search of the next event in order.
const ORDERED_ROWS_AT_ONCE: usize = 1_024;
/// Deliveries due by now that are looked at in search of the first of them.
const DUE_ROWS_AT_ONCE: usize = 64;

/// The next deliveries of an endpoint that keeps the order of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InOrder {
    /// To be sent one after the other.
    pub events: Vec<EventId>,
    /// Why there are no more.
    pub then: Then,
    /// Nothing before this event has to be looked at next time.
    pub mark: EventId,
    /// When the first is due that waits for a time its producer asked for.
    pub later: Option<Timestamp>,
}

/// What is behind the deliveries that can be sent in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    End,
    /// More, perhaps.
    More,
    /// One that failed and is due at this time; those behind it wait.
    Retry(Timestamp),
    /// An event that was taken in before them and not routed yet, so that nobody knows whether it comes first.
    Unrouted,
}

impl Store {
    /// The first endpoint behind `after` that something waits for (`None`: from the beginning).
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn next_lane(&self, after: Option<EndpointId>) -> Result<Option<Lane>, StateError> {
        let state = self.read();
        let from = EndpointId(after.map_or(0, |id| id.0.saturating_add(1)));
        let pending = state.pending.range((from, EventId(0))..=(EndpointId(u128::MAX), EventId(u128::MAX)), 1)?;
        let due = state.due.range(
            (from, Timestamp(0), EventId(0))..=(EndpointId(u128::MAX), Timestamp(u64::MAX), EventId(u128::MAX)),
            1,
        )?;
        let pending = pending.first().map(|((endpoint, _), _)| (*endpoint, Timestamp(0)));
        let due = due.first().map(|((endpoint, next_due, _), _)| (*endpoint, *next_due));
        let first = pending.into_iter().chain(due).min();
        Ok(first.map(|(endpoint, next_due)| Lane { endpoint, next_due }))
    }

    /// The endpoint's waiting deliveries and when they are due, first due first, `limit` at most; also those that are due
    /// after `now`. Those that were to be sent at once have been due since their events were taken in, as a steady time,
    /// which is what ids are made of: due times are steady times, and the wall clock may have been set back.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn waiting_for(
        &self,
        endpoint: EndpointId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Timestamp, EventId)>, StateError> {
        let state = self.read();
        let due = state
            .due
            .range((endpoint, Timestamp(0), EventId(0))..=(endpoint, Timestamp(u64::MAX), EventId(u128::MAX)), limit)?;
        let mut waiting: Vec<_> = due.into_iter().map(|((_, due_at, event), _)| (due_at, event)).collect();
        let pending = pending(&state, endpoint, limit)?.into_iter();
        waiting.extend(pending.map(|event| (Timestamp(event.unix_ms()).min(now), event)));
        waiting.sort_unstable();
        waiting.truncate(limit);
        Ok(waiting)
    }

    /// The endpoint's deliveries in the order their events were taken in, from `mark` on, `limit` at most: those that are
    /// due, up to one that failed before and is due later. One whose producer asked for a later time has its place when
    /// that has come. Looks at a bounded number of rows.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn waiting_in_order(
        &self,
        (org, endpoint): (OrgNo, EndpointId),
        mark: EventId,
        now: Timestamp,
        limit: usize,
    ) -> Result<InOrder, StateError> {
        let state = self.read();
        let unrouted = state.unrouted.range((org, EventId(0))..=(org, EventId(u128::MAX)), 1)?;
        let unrouted = unrouted.first().map_or(EventId(u128::MAX), |((_, event), _)| *event);
        let (mark, later) = look_at_due(&state, endpoint, mark, now)?;
        // Also what nobody was told of comes in its place.
        let mark = pending_first(&state, endpoint)?.map_or(mark, |first| first.min(mark));
        let first = pending_from(&state, endpoint, mark, limit)?;
        let tried = state.deliveries.range((endpoint, mark)..=(endpoint, EventId(u128::MAX)), ORDERED_ROWS_AT_ONCE)?;
        // What lies behind the last that was looked at is not known.
        let seen = |all: bool, last: Option<EventId>| last.filter(|_| !all).unwrap_or(EventId(u128::MAX));
        let last = seen(first.len() < limit, first.last().copied())
            .min(seen(tried.len() < ORDERED_ROWS_AT_ONCE, tried.last().map(|((_, event), _)| *event)));
        let tried = tried.iter().filter_map(|((_, event), row)| match row.state {
            DeliveryState::Waiting(at) if at <= now => Some((*event, None)),
            DeliveryState::Waiting(at) if row.attempts > 0 => Some((*event, Some(at))),
            DeliveryState::Waiting(_) | DeliveryState::Dead(..) | DeliveryState::Canceled => None,
        });
        let mut waiting: Vec<_> = first.into_iter().map(|event| (event, None)).chain(tried).collect();
        waiting.sort_unstable();
        let mut found = InOrder { events: Vec::new(), then: Then::End, mark: last, later };
        if last < EventId(u128::MAX) {
            found.then = Then::More;
        }
        for (event, due_at) in waiting.into_iter().take_while(|(event, _)| *event <= last) {
            let then = match due_at {
                _ if event > unrouted => Then::Unrouted,
                Some(due_at) => Then::Retry(due_at),
                None if found.events.len() == limit => Then::More,
                None => {
                    found.events.push(event);
                    continue;
                }
            };
            (found.then, found.mark) = (then, event);
            break;
        }
        found.mark = found.events.first().copied().unwrap_or(found.mark).min(unrouted);
        Ok(found)
    }

    /// What the next attempt needs; none if the delivery does not wait any more, or its endpoint is gone.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn due_delivery(&self, endpoint: EndpointId, event: EventId) -> Result<Option<DueDelivery>, StateError> {
        let state = self.read();
        let Some(target) = state.endpoints.get(endpoint)? else { return Ok(None) };
        let Some((first, block)) = block_of(&state, target.org, event)? else { return Ok(None) };
        let Some((place, entry)) = block.find(event) else { return Ok(None) };
        let Some(event_type) = block.event_type(entry) else { return Ok(None) };
        let is_pending = state.pending.get((endpoint, first))?.is_some_and(|row| row.bits & 1 << place != 0);
        // A first attempt has no row: sled is not asked for one.
        let row = if is_pending { None } else { state.deliveries.get((endpoint, event))? };
        let (due_at, attempts, base, last_attempt, trigger) = match row {
            None if is_pending => (Timestamp(0), 0, 0, None, Trigger::Schedule),
            Some(row) => match row.state {
                DeliveryState::Waiting(due_at) => (due_at, row.attempts, row.base, row.last_attempt, row.trigger),
                DeliveryState::Dead(..) | DeliveryState::Canceled => return Ok(None),
            },
            None => return Ok(None),
        };
        let health = state.health.get(endpoint)?;
        Ok(Some(DueDelivery {
            org: target.org,
            endpoint: Arc::clone(&target.endpoint),
            endpoint_number: target.number,
            event,
            event_type: event_type.clone(),
            received_at: entry.received_at,
            due_at,
            position: entry.position,
            failing_since: health.as_ref().and_then(|health| health.failing_since),
            failing_told: health.and_then(|health| health.failing_told),
            attempts,
            base,
            last_attempt,
            trigger,
        }))
    }

    /// The endpoint as it is now, and whose it is.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn target(&self, id: EndpointId) -> Result<Option<(OrgNo, Arc<Endpoint>)>, StateError> {
        Ok(self.read().endpoints.get(id)?.map(|row| (row.org, Arc::clone(&row.endpoint))))
    }

    /// Whose deliveries to a deleted endpoint these are: the organization of one of them.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn delivery_org(&self, endpoint: EndpointId, event: EventId) -> Result<Option<OrgNo>, StateError> {
        let state = self.read();
        if let Some(row) = state.deliveries.get((endpoint, event))? {
            return Ok(Some(row.org));
        }
        Ok(state.pending.last((endpoint, EventId(0))..=(endpoint, event))?.map(|(_, row)| row.org))
    }

    /// When the oldest event was taken in that an enabled endpoint should have got by now, as a steady time, which is what
    /// ids are made of (a clock that was set back makes nothing older or younger); none if there is none. Looks at
    /// a bounded number of endpoints and rows, so with very many dead letters on an endpoint it can say a later time.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn oldest_waiting(&self, now: Timestamp) -> Result<Option<Timestamp>, StateError> {
        const LANES_MAX: usize = 256;
        const ROWS_MAX: usize = 64;
        let (mut oldest, mut after) = (None, None);
        for _ in 0..LANES_MAX {
            let Some(lane) = self.next_lane(after)? else { break };
            after = Some(lane.endpoint);
            let state = self.read();
            if !state.endpoints.get(lane.endpoint)?.is_some_and(|row| row.endpoint.is_enabled()) {
                continue;
            }
            let (first, last) = ((lane.endpoint, EventId(0)), (lane.endpoint, EventId(u128::MAX)));
            let rows = state.deliveries.range(first..=last, ROWS_MAX)?;
            let overdue = rows.iter().find(|(_, row)| match row.state {
                DeliveryState::Waiting(at) => row.attempts > 0 || at <= now,
                DeliveryState::Dead(..) | DeliveryState::Canceled => false,
            });
            let overdue = overdue.map(|((_, event), _)| Timestamp(event.unix_ms()));
            let pending = pending(&state, lane.endpoint, 1)?.first().map(|event| Timestamp(event.unix_ms()));
            oldest = [oldest, overdue, pending].into_iter().flatten().min();
        }
        Ok(oldest)
    }
}

/// From which event on to look for the first in order, since one before `mark` may have become due; and when the next one
/// that its producer wants later is due.
fn look_at_due(
    state: &State,
    endpoint: EndpointId,
    mark: EventId,
    now: Timestamp,
) -> Result<(EventId, Option<Timestamp>), StateError> {
    let (first, last) = ((endpoint, Timestamp(0), EventId(0)), (endpoint, now, EventId(u128::MAX)));
    let due = state.due.range(first..=last, DUE_ROWS_AT_ONCE)?;
    let mark = match due.iter().map(|((.., event), _)| *event).min() {
        Some(_) if due.len() == DUE_ROWS_AT_ONCE => EventId(0),
        Some(event) => event.min(mark),
        None => mark,
    };
    let (first, last) = ((endpoint, now.plus_ms(1), EventId(0)), (endpoint, Timestamp(u64::MAX), EventId(u128::MAX)));
    let later = state.due.range(first..=last, 1)?;
    Ok((mark, later.first().map(|((_, at, _), _)| *at)))
}

/// The first event that waits for its first attempt.
fn pending_first(state: &State, endpoint: EndpointId) -> Result<Option<EventId>, StateError> {
    let rows = state.pending.range((endpoint, EventId(0))..=(endpoint, EventId(u128::MAX)), 1)?;
    let Some(((_, first), row)) = rows.first() else { return Ok(None) };
    let block = state.events.promised((row.org, *first))?;
    let mut waits = block.events.iter().enumerate().filter(|(place, _)| row.bits & 1 << place != 0);
    Ok(waits.next().map(|(_, entry)| entry.id))
}

/// Events that wait for their first attempt, in order; at least `limit` if there are so many.
fn pending(state: &State, endpoint: EndpointId, limit: usize) -> Result<Vec<EventId>, StateError> {
    pending_from(state, endpoint, EventId(0), limit)
}

/// The same, from this event on.
fn pending_from(state: &State, endpoint: EndpointId, mark: EventId, limit: usize) -> Result<Vec<EventId>, StateError> {
    let mut events = Vec::new();
    // Its block begins before it.
    let block = state.pending.last((endpoint, EventId(0))..=(endpoint, mark))?;
    let mut from = block.map_or(mark, |((_, first), _)| first);
    while events.len() < limit {
        let rows = state.pending.range((endpoint, from)..=(endpoint, EventId(u128::MAX)), PENDING_ROWS_AT_ONCE)?;
        for ((_, first), row) in &rows {
            let block = state.events.promised((row.org, *first))?;
            let waits = block.events.iter().enumerate().filter(|(place, _)| row.bits & 1 << place != 0);
            events.extend(waits.map(|(_, entry)| entry.id).filter(|event| *event >= mark));
        }
        let Some(((_, last), _)) = rows.last().filter(|_| rows.len() == PENDING_ROWS_AT_ONCE) else { break };
        from = EventId(last.0.saturating_add(1));
    }
    Ok(events)
}
