//! What is due: the questions of the scheduler.

use std::sync::Arc;

use super::apply::block_of;
use super::schema::DeliveryState;
use super::table::State;
use super::{StateError, Store};
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
    /// Which.
    pub event: EventId,
    /// Its type.
    pub event_type: EventType,
    /// When it was taken in.
    pub received_at: Timestamp,
    /// Journal position of the frame that holds it.
    pub position: u64,
    /// Since when attempts to the endpoint have done nothing but fail.
    pub failing_since: Option<Timestamp>,
    /// Attempts made so far.
    pub attempts: u32,
    /// Those of them that were made before its schedule began anew.
    pub base: u32,
    /// Journal position of the last one.
    pub last_attempt: Option<u64>,
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
    /// after `now`. Those that were to be sent at once are due whatever the clock says.
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
        waiting.extend(pending(&state, endpoint, limit)?.into_iter().map(|(at, event)| (at.min(now), event)));
        waiting.sort_unstable();
        waiting.truncate(limit);
        Ok(waiting)
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
        let (attempts, base, last_attempt) = match row {
            None if is_pending => (0, 0, None),
            Some(row) if matches!(row.state, DeliveryState::Waiting(_)) => (row.attempts, row.base, row.last_attempt),
            _ => return Ok(None),
        };
        Ok(Some(DueDelivery {
            org: target.org,
            endpoint: Arc::clone(&target.endpoint),
            event,
            event_type: event_type.clone(),
            received_at: entry.received_at,
            position: entry.position,
            failing_since: state.health.get(endpoint)?.and_then(|health| health.failing_since),
            attempts,
            base,
            last_attempt,
        }))
    }

    /// The endpoint as it is now.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn endpoint(&self, id: EndpointId) -> Result<Option<Arc<Endpoint>>, StateError> {
        Ok(self.read().endpoints.get(id)?.map(|row| Arc::clone(&row.endpoint)))
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

    /// When the oldest event was taken in that an enabled endpoint should have got by now; none if there is none. Looks at
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
            let pending = pending(&state, lane.endpoint, 1)?.first().map(|(received_at, _)| *received_at);
            oldest = [oldest, overdue, pending].into_iter().flatten().min();
        }
        Ok(oldest)
    }
}

/// Events that wait for their first attempt, in order, with when they were taken in; at least `limit` if there are so
/// many.
fn pending(state: &State, endpoint: EndpointId, limit: usize) -> Result<Vec<(Timestamp, EventId)>, StateError> {
    let mut events = Vec::new();
    let mut from = EventId(0);
    while events.len() < limit {
        let rows = state.pending.range((endpoint, from)..=(endpoint, EventId(u128::MAX)), PENDING_ROWS_AT_ONCE)?;
        for ((_, first), row) in &rows {
            let block = state.events.promised((row.org, *first))?;
            let waits = block.events.iter().enumerate().filter(|(place, _)| row.bits & 1 << place != 0);
            events.extend(waits.map(|(_, entry)| (entry.received_at, entry.id)));
        }
        let Some(((_, last), _)) = rows.last().filter(|_| rows.len() == PENDING_ROWS_AT_ONCE) else { break };
        from = EventId(last.0.saturating_add(1));
    }
    Ok(events)
}
