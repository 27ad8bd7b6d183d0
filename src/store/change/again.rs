//! Deliveries that are made again, because a request or a replay asks for it.

use super::{Change, Place};
use crate::model::delivery::Trigger;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::StateError;
use crate::store::schema::{DeliveredEntry, DeliveryRow, DeliveryState, DueRow};

/// A delivery that is to be made again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Again {
    pub(crate) org: OrgNo,
    pub(crate) endpoint: EndpointId,
    pub(crate) event: EventId,
    /// The time from which it is due.
    pub(crate) at: Timestamp,
    /// The reason of its next attempt.
    pub(crate) trigger: Trigger,
}

impl Change<'_> {
    /// A dead letter waits again. It does that before it is dead no more, or the event could be taken for one that every
    /// endpoint has accepted.
    pub(crate) fn repeat_dead(
        &mut self,
        again: Again,
        at: Place,
        row: &DeliveryRow,
        dead_at: Timestamp,
    ) -> Result<(), StateError> {
        let Again { org, endpoint, event, .. } = again;
        self.wait_again(again, at, row)?;
        self.state.dead.remove((org, dead_at, event, endpoint));
        self.count_dead_less(org, endpoint, at)
    }

    /// An accepted delivery waits again; says whether there is one.
    pub(crate) fn repeat_accepted(&mut self, again: Again, at: Place) -> Result<bool, StateError> {
        let Again { org, endpoint, .. } = again;
        let Some(accepted) = self.take_accepted(endpoint, at)? else { return Ok(false) };
        let state = DeliveryState::Canceled;
        let (attempts, last_attempt) = (accepted.attempts, Some(accepted.attempt));
        let trigger = Trigger::Schedule;
        self.wait_again(again, at, &DeliveryRow { org, state, attempts, base: 0, last_attempt, trigger })?;
        self.edit_event(org, at, |entry| entry.accepted = entry.accepted.saturating_sub(1))?;
        Ok(true)
    }

    /// What was over waits again, due now, at the beginning of its schedule.
    pub(crate) fn wait_again(&mut self, again: Again, at: Place, row: &DeliveryRow) -> Result<(), StateError> {
        let Again { org, endpoint, event, at: now, trigger, .. } = again;
        let row = DeliveryRow { state: DeliveryState::Waiting(now), base: row.attempts, trigger, ..row.clone() };
        self.state.deliveries.put((endpoint, event), row);
        self.state.due.put((endpoint, now, event), DueRow);
        self.effects.due.push((endpoint, now, event));
        self.meta()?.waiting += 1;
        self.edit_health(endpoint, |health| health.waiting += 1)?;
        self.edit_event(org, at, |entry| entry.waiting += 1)
    }

    /// Takes an accepted delivery out of its block.
    fn take_accepted(
        &mut self,
        endpoint: EndpointId,
        (first, place): Place,
    ) -> Result<Option<DeliveredEntry>, StateError> {
        let key = (endpoint, first);
        let Some(block) = self.state.delivered.load(key)? else { return Ok(None) };
        let Some(at) = block.entries.iter().position(|entry| usize::from(entry.place) == place) else {
            return Ok(None);
        };
        if block.entries.len() == 1 {
            let only = block.entries.first().cloned();
            self.state.delivered.remove(key);
            return Ok(only);
        }
        Ok(self.state.delivered.edit(key)?.map(|block| block.entries.remove(at)))
    }
}
