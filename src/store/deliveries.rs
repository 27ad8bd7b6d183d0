//! What is due: the questions of the scheduler.

use super::apply::block_of;
use super::schema::DeliveryState;
use super::{StateError, Store};
use crate::model::endpoint::Endpoint;
use crate::model::event::EventType;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;

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
    pub endpoint: Endpoint,
    /// Which.
    pub event: EventId,
    /// Its type.
    pub event_type: EventType,
    /// When it was taken in.
    pub received_at: Timestamp,
    /// Journal position of the frame that holds it.
    pub position: u64,
    /// Attempts made so far.
    pub attempts: u32,
    /// Journal position of the last one.
    pub last_attempt: Option<u64>,
}

impl Store {
    /// The first endpoint behind `after` that something waits for (`None`: from the beginning).
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn next_lane(&self, after: Option<EndpointId>) -> Result<Option<Lane>, StateError> {
        let from = after.map_or(0, |id| id.0.saturating_add(1));
        let rows = self.read().due.range(
            (EndpointId(from), Timestamp(0), EventId(0))
                ..=(EndpointId(u128::MAX), Timestamp(u64::MAX), EventId(u128::MAX)),
            1,
        )?;
        Ok(rows.first().map(|((endpoint, next_due, _), _)| Lane { endpoint: *endpoint, next_due: *next_due }))
    }

    /// The endpoint's waiting deliveries, first due first, `limit` at most; also those that are not due yet.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn waiting_for(&self, endpoint: EndpointId, limit: usize) -> Result<Vec<(Timestamp, EventId)>, StateError> {
        let rows = self
            .read()
            .due
            .range((endpoint, Timestamp(0), EventId(0))..=(endpoint, Timestamp(u64::MAX), EventId(u128::MAX)), limit)?;
        Ok(rows.into_iter().map(|((_, due_at, event), _)| (due_at, event)).collect())
    }

    /// What the next attempt needs; none if the delivery does not wait any more, or its endpoint is gone.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn due_delivery(&self, endpoint: EndpointId, event: EventId) -> Result<Option<DueDelivery>, StateError> {
        let state = self.read();
        let Some(row) = state.deliveries.get((endpoint, event))? else { return Ok(None) };
        let DeliveryState::Waiting(_) = row.state else { return Ok(None) };
        let Some(target) = state.endpoints.get(endpoint)? else { return Ok(None) };
        let Some((_, block)) = block_of(&state, row.org, event)? else { return Ok(None) };
        let found = block.find(event).and_then(|(_, entry)| Some((entry, block.event_type(entry)?)));
        Ok(found.map(|(entry, event_type)| DueDelivery {
            org: row.org,
            endpoint: target.endpoint.clone(),
            event,
            event_type: event_type.clone(),
            received_at: entry.received_at,
            position: entry.position,
            attempts: row.attempts,
            last_attempt: row.last_attempt,
        }))
    }

    /// The endpoint as it is now.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>, StateError> {
        Ok(self.endpoint_row(id)?.map(|row| row.endpoint.clone()))
    }

    /// Whose deliveries to a deleted endpoint these are: the organization of one of them.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn delivery_org(&self, endpoint: EndpointId, event: EventId) -> Result<Option<OrgNo>, StateError> {
        Ok(self.read().deliveries.get((endpoint, event))?.map(|row| row.org))
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
            if !state.endpoints.get(lane.endpoint)?.is_some_and(|row| row.endpoint.enabled) {
                continue;
            }
            let (first, last) = ((lane.endpoint, EventId(0)), (lane.endpoint, EventId(u128::MAX)));
            let rows = state.deliveries.range(first..=last, ROWS_MAX)?;
            let overdue = rows.iter().find(|(_, row)| match row.state {
                DeliveryState::Waiting(at) => row.attempts > 0 || at <= now,
                DeliveryState::Dead(_) | DeliveryState::Canceled => false,
            });
            let event = overdue.map(|((_, event), _)| Timestamp(event.unix_ms()));
            oldest = [oldest, event].into_iter().flatten().min();
        }
        Ok(oldest)
    }
}
