//! Deliveries as users see them.

use std::sync::Arc;

use crate::journal::Position;
use crate::model::delivery::{DeadReason, DeliveryStatus};
use crate::model::endpoint::Endpoint;
use crate::model::event::EventType;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::change::block_of;
use crate::store::rows::schema::{DeliveredEntry, DeliveryRow, DeliveryState};
use crate::store::rows::state::State;
use crate::store::{StateError, Store};

/// The status of a delivery with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliverySituation {
    /// No attempt was made yet. The first attempt is due at this time.
    Pending(Timestamp),
    /// At least one attempt failed. The next attempt is due at this time.
    Retrying(Timestamp),
    /// The receiver accepted the event.
    Delivered,
    /// The delivery was given up for this reason at this time.
    Dead(DeadReason, Timestamp),
    /// No further attempt is made: the endpoint was deleted, or a user dropped the dead letter.
    Canceled,
}

impl DeliverySituation {
    /// Returns the status without the time.
    pub fn status(self) -> DeliveryStatus {
        match self {
            Self::Pending(_) => DeliveryStatus::Pending,
            Self::Retrying(_) => DeliveryStatus::Retrying,
            Self::Delivered => DeliveryStatus::Delivered,
            Self::Dead(..) => DeliveryStatus::Dead,
            Self::Canceled => DeliveryStatus::Canceled,
        }
    }

    /// Returns the due time of the next attempt, if the delivery waits.
    pub fn next_attempt_at(self) -> Option<Timestamp> {
        match self {
            Self::Pending(at) | Self::Retrying(at) => Some(at),
            Self::Delivered | Self::Dead(..) | Self::Canceled => None,
        }
    }
}

/// A delivery as the state knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The id of the event.
    pub event: EventId,
    /// The id of the endpoint.
    pub endpoint: EndpointId,
    /// The endpoint's number in its organization.
    pub endpoint_number: u32,
    /// The status of the delivery.
    pub situation: DeliverySituation,
    /// The number of attempts so far.
    pub attempts: u32,
    /// The journal position of the last attempt.
    pub last_attempt: Option<Position>,
}

/// A delivery and its endpoint.
#[derive(Clone, Debug)]
pub struct DeliveryDetails {
    /// The delivery of the event.
    pub delivery: Delivery,
    /// The endpoint with its current settings. Absent if it was deleted.
    pub endpoint: Option<Arc<Endpoint>>,
    /// True if the organization is suspended, so that its deliveries wait.
    pub is_suspended: bool,
}

/// An endpoint, deleted or not. The deliveries of a deleted endpoint still exist.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Target {
    pub(in crate::store) org: OrgNo,
    pub(in crate::store) endpoint: EndpointId,
    pub(in crate::store) number: u32,
    /// Set if the endpoint exists. If not, its waiting deliveries count as canceled, even before
    /// the scheduler has canceled them.
    pub(in crate::store) lives: bool,
}

impl Target {
    /// Returns the organization's endpoint with this id.
    pub(in crate::store) fn of(
        state: &State,
        org: OrgNo,
        endpoint: EndpointId,
    ) -> Result<Option<Self>, StateError> {
        let living = state.endpoints.get(endpoint)?;
        let lives = living.is_some();
        let number = match living {
            Some(row) => Some((row.org, row.number)),
            None => state.tombstones.get(endpoint)?.map(|row| (row.org, row.number)),
        };
        Ok(number.filter(|(owner, _)| *owner == org).map(|(_, number)| Self {
            org,
            endpoint,
            number,
            lives,
        }))
    }

    /// Returns a delivery that waits for its first attempt.
    pub(in crate::store::queries) fn pending(&self, event: EventId, due_at: Timestamp) -> Delivery {
        self.delivery(
            event,
            if self.lives {
                DeliverySituation::Pending(due_at)
            } else {
                DeliverySituation::Canceled
            },
        )
    }

    fn delivery(&self, event: EventId, situation: DeliverySituation) -> Delivery {
        Delivery {
            event,
            endpoint: self.endpoint,
            endpoint_number: self.number,
            situation,
            attempts: 0,
            last_attempt: None,
        }
    }

    pub(in crate::store) fn of_row(&self, event: EventId, row: &DeliveryRow) -> Delivery {
        let situation = match row.state {
            DeliveryState::Waiting(_) if !self.lives => DeliverySituation::Canceled,
            DeliveryState::Waiting(at) if row.attempts == 0 => DeliverySituation::Pending(at),
            DeliveryState::Waiting(at) => DeliverySituation::Retrying(at),
            DeliveryState::Dead(reason, at) => DeliverySituation::Dead(reason, at),
            DeliveryState::Canceled => DeliverySituation::Canceled,
        };
        let (attempts, last_attempt) = (row.attempts, row.last_attempt);
        Delivery { attempts, last_attempt, ..self.delivery(event, situation) }
    }

    pub(in crate::store::queries) fn accepted(
        &self,
        event: EventId,
        entry: &DeliveredEntry,
    ) -> Delivery {
        let (attempts, last_attempt) = (entry.attempts, Some(entry.attempt));
        Delivery { attempts, last_attempt, ..self.delivery(event, DeliverySituation::Delivered) }
    }
}

impl Store {
    /// Returns one delivery by its event and its endpoint's number. `None` if the organization has
    /// no such delivery.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn delivery(
        &self,
        org: OrgNo,
        event: EventId,
        endpoint_number: u32,
    ) -> Result<Option<DeliveryDetails>, StateError> {
        let state = self.read();
        let Some(row) = state.numbers.get((org, endpoint_number))? else { return Ok(None) };
        let endpoint = state.endpoints.get(row.0)?.map(|row| Arc::clone(&row.endpoint));
        let target =
            Target { org, endpoint: row.0, number: endpoint_number, lives: endpoint.is_some() };
        let Some(delivery) = find(&state, target, event)? else { return Ok(None) };
        let is_suspended = state.is_suspended(org)?;
        Ok(Some(DeliveryDetails { delivery, endpoint, is_suspended }))
    }
}

/// The endpoint and the event type of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptTarget {
    /// The endpoint's number in its organization.
    pub endpoint_number: u32,
    /// Set if the endpoint still exists.
    pub endpoint_lives: bool,
    /// The type of the event.
    pub event_type: EventType,
}

impl Store {
    /// Returns the endpoint and the event type of an attempt. `None` if the endpoint or the event
    /// is unknown.
    ///
    /// # Errors
    /// Rows cannot be read.
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
        Ok(event_type.map(|event_type| AttemptTarget {
            endpoint_number,
            endpoint_lives,
            event_type,
        }))
    }
}

/// Returns the delivery of this event to the endpoint.
pub(in crate::store) fn find(
    state: &State,
    target: Target,
    event: EventId,
) -> Result<Option<Delivery>, StateError> {
    let Target { org, endpoint, .. } = target;
    let Some((first, block)) = block_of(state, org, event)? else { return Ok(None) };
    let Some((index, entry)) = block.find(event) else { return Ok(None) };
    if state.is_pending(endpoint, (first, index))? {
        return Ok(Some(target.pending(event, entry.received_at)));
    }
    if let Some(row) = state.deliveries.get((endpoint, event))? {
        return Ok(Some(target.of_row(event, &row)));
    }
    let Some(delivered) = state.delivered.get((endpoint, first))? else { return Ok(None) };
    let accepted = delivered.entries.iter().find(|entry| usize::from(entry.index) == index);
    Ok(accepted.map(|entry| target.accepted(event, entry)))
}
