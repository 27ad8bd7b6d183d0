//! Deliveries: waiting for the first attempt, canceling, dropping, and the counts of endpoints and
//! events.

use super::{Change, Count as _};
use crate::model::delivery::Trigger;
use crate::model::event::EventStatus;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::store::StateError;
use crate::store::rows::schema::{DeliveryRow, DeliveryState, EventAddress, HealthRow};

impl Change<'_> {
    /// Changes an endpoint's health row. Does nothing if the endpoint was deleted. The counts begin
    /// with the row, so a delivery from before the row is not counted.
    pub(crate) fn edit_health(
        &mut self,
        endpoint: EndpointId,
        change: impl FnOnce(&mut HealthRow),
    ) -> Result<(), StateError> {
        if let Some(health) = self.state.health.edit(endpoint)? {
            change(health);
        }
        Ok(())
    }

    /// Ends the wait for a first attempt that is due at once. Returns false if there was none.
    pub(crate) fn take_pending(
        &mut self,
        endpoint: EndpointId,
        (first, index): EventAddress,
    ) -> Result<bool, StateError> {
        let key = (endpoint, first);
        let Some(row) = self.state.pending.load(key)? else { return Ok(false) };
        let (bit, left) = (row.bits & 1 << index, row.bits & !(1 << index));
        if bit == 0 {
            return Ok(false);
        }
        if left == 0 {
            self.state.pending.remove(key);
        } else {
            self.state.pending.edit_promised(key)?.bits = left;
        }
        Ok(true)
    }

    /// Cancels a waiting delivery. Returns false if the delivery does not wait.
    pub(crate) fn cancel(
        &mut self,
        org: OrgNo,
        endpoint: EndpointId,
        event: EventId,
    ) -> Result<bool, StateError> {
        let Some(at) = self.locate(org, event)? else { return Ok(false) };
        let (key, state) = ((endpoint, event), DeliveryState::Canceled);
        let trigger = Trigger::Schedule;
        let mut row = DeliveryRow { org, state, attempts: 0, base: 0, last_attempt: None, trigger };
        if !self.take_pending(endpoint, at)? {
            let Some(known) = self.state.deliveries.get(key)? else { return Ok(false) };
            let DeliveryState::Waiting(due_at) = known.state else { return Ok(false) };
            self.state.due.remove((endpoint, due_at, event));
            row = DeliveryRow { state, ..DeliveryRow::clone(&known) };
        }
        self.state.deliveries.put(key, row);
        self.meta()?.waiting.lower()?;
        self.edit_health(endpoint, |health| health.waiting = health.waiting.saturating_sub(1))?;
        self.edit_event(org, at, |entry| entry.waiting.lower())?;
        Ok(true)
    }

    /// Drops a dead letter: the delivery becomes canceled. Returns false if there is no dead
    /// letter.
    pub(crate) fn drop_dead(
        &mut self,
        org: OrgNo,
        endpoint: EndpointId,
        event: EventId,
    ) -> Result<bool, StateError> {
        let Some(at) = self.locate(org, event)? else { return Ok(false) };
        let Some(row) = self.state.deliveries.get((endpoint, event))? else { return Ok(false) };
        let DeliveryState::Dead(_, dead_at) = row.state else { return Ok(false) };
        self.state.dead.remove((org, dead_at, event, endpoint));
        self.state.deliveries.edit_promised((endpoint, event))?.state = DeliveryState::Canceled;
        self.count_dead_less(org, endpoint, at)?;
        Ok(true)
    }

    pub(crate) fn count_dead_less(
        &mut self,
        org: OrgNo,
        endpoint: EndpointId,
        at: EventAddress,
    ) -> Result<(), StateError> {
        self.meta()?.dead.lower()?;
        self.edit_health(endpoint, |health| health.dead = health.dead.saturating_sub(1))?;
        self.edit_event(org, at, |entry| {
            // An event whose routing was given up is dead too, but has no deliveries and never
            // comes here.
            entry.status = EventStatus::Accepted;
            entry.dead.lower()
        })
    }
}
