//! Deliveries made again, on request or by a replay.

use super::{Change, Count as _};
use crate::model::delivery::Trigger;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::{Look, Timestamp};
use crate::store::StateError;
use crate::store::rows::schema::{
    DeliveredEntry, DeliveryRow, DeliveryState, DueRow, EventAddress,
};

/// A delivery to be made again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Again {
    pub(crate) org: OrgNo,
    pub(crate) endpoint: EndpointId,
    pub(crate) event: EventId,
    /// The time at which the delivery becomes due.
    pub(crate) at: Timestamp,
    /// The trigger of the next attempt.
    pub(crate) trigger: Trigger,
}

impl Change<'_> {
    /// Makes a dead letter wait again. The delivery waits before the dead letter is removed;
    /// otherwise the event could count as accepted by all endpoints in between.
    pub(crate) fn repeat_dead(
        &mut self,
        again: Again,
        at: EventAddress,
        row: &DeliveryRow,
        dead_at: Timestamp,
    ) -> Result<(), StateError> {
        let Again { org, endpoint, event, .. } = again;
        self.wait_again(again, at, row)?;
        self.state.dead.remove((org, dead_at, event, endpoint));
        self.count_dead_less(org, endpoint, at)
    }

    /// Makes an accepted delivery wait again. Returns false if there is no accepted delivery.
    pub(crate) fn repeat_accepted(
        &mut self,
        again: Again,
        at: EventAddress,
    ) -> Result<bool, StateError> {
        let Again { org, endpoint, .. } = again;
        let Some(accepted) = self.take_accepted(endpoint, at)? else { return Ok(false) };
        let state = DeliveryState::Canceled;
        let (attempts, last_attempt) = (accepted.attempts, Some(accepted.attempt));
        let trigger = Trigger::Schedule;
        self.wait_again(
            again,
            at,
            &DeliveryRow { org, state, attempts, base: 0, last_attempt, trigger },
        )?;
        self.edit_event(org, at, |entry| entry.accepted.lower())?;
        Ok(true)
    }

    /// Makes a finished delivery wait again, due now, with a new retry schedule.
    pub(crate) fn wait_again(
        &mut self,
        again: Again,
        at: EventAddress,
        row: &DeliveryRow,
    ) -> Result<(), StateError> {
        let Again { org, endpoint, event, at: now, trigger, .. } = again;
        let row = DeliveryRow {
            state: DeliveryState::Waiting(now),
            base: row.attempts,
            trigger,
            ..row.clone()
        };
        self.state.deliveries.put((endpoint, event), row);
        self.state.due.put((endpoint, now, event), DueRow);
        self.effects.due.push((endpoint, Look::At(now), event));
        self.meta()?.waiting += 1;
        self.edit_health(endpoint, |health| health.waiting += 1)?;
        self.edit_event(org, at, |entry| {
            entry.waiting += 1;
            Ok(())
        })
    }

    /// Removes an accepted delivery from its block and returns its entry.
    fn take_accepted(
        &mut self,
        endpoint: EndpointId,
        (first, index): EventAddress,
    ) -> Result<Option<DeliveredEntry>, StateError> {
        let key = (endpoint, first);
        let Some(block) = self.state.delivered.load(key)? else { return Ok(None) };
        let Some(at) = block.entries.iter().position(|entry| usize::from(entry.index) == index)
        else {
            return Ok(None);
        };
        if let [only] = block.entries.as_slice() {
            let only = only.clone();
            self.state.delivered.remove(key);
            return Ok(Some(only));
        }
        Ok(Some(self.state.delivered.edit_promised(key)?.entries.remove(at)))
    }
}
