//! Deliveries that somebody wants made again, and dead letters that nobody wants any more.

use super::{Change, Outcome, meta};
use crate::model::command::{DropDead, RetryDelivery};
use crate::model::delivery::Trigger;
use crate::model::event::EventStatus;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::StateError;
use crate::store::schema::{DeliveredEntry, DeliveryRow, DeliveryState, DueRow};

/// The key of an event's block, and its place there.
pub(super) type Place = (EventId, usize);

impl Change<'_> {
    pub(super) fn retry_delivery(&mut self, command: &RetryDelivery) -> Result<Outcome, StateError> {
        let RetryDelivery { org, endpoint, event, only_dead, .. } = *command;
        let lives = self.state.endpoints.get(endpoint)?.is_some_and(|row| row.org == org);
        let Some(at) = self.locate(org, event)?.filter(|_| lives) else { return Ok(Outcome::NotFound) };
        if let Some(row) = self.state.deliveries.get((endpoint, event))? {
            match row.state {
                DeliveryState::Waiting(_) | DeliveryState::Canceled if only_dead => return Ok(Outcome::NotFound),
                DeliveryState::Waiting(due_at) => self.hurry(command, due_at)?,
                DeliveryState::Dead(_, dead_at) => self.repeat_dead(command, at, &row, dead_at)?,
                DeliveryState::Canceled => self.wait_again(command, at, &row)?,
            }
        } else if only_dead {
            return Ok(Outcome::NotFound);
        } else if self.is_pending(endpoint, at)? {
            self.effects.due.push((endpoint, Timestamp(0), event));
        } else if !self.repeat_accepted(command, at)? {
            return Ok(Outcome::NotFound);
        }
        Ok(Outcome::Done)
    }

    /// A dead letter waits again. It does that before it is dead no more, or the event could be taken for one that every
    /// endpoint has accepted.
    pub(super) fn repeat_dead(
        &mut self,
        command: &RetryDelivery,
        at: Place,
        row: &DeliveryRow,
        dead_at: Timestamp,
    ) -> Result<(), StateError> {
        let RetryDelivery { org, endpoint, event, .. } = *command;
        self.wait_again(command, at, row)?;
        self.state.dead.remove((org, dead_at, event, endpoint));
        self.count_dead_less(org, endpoint, at)
    }

    /// An accepted delivery waits again; says whether there is one.
    pub(super) fn repeat_accepted(&mut self, command: &RetryDelivery, at: Place) -> Result<bool, StateError> {
        let RetryDelivery { org, endpoint, .. } = *command;
        let Some(accepted) = self.take_accepted(endpoint, at)? else { return Ok(false) };
        let state = DeliveryState::Canceled;
        let (attempts, last_attempt) = (accepted.attempts, Some(accepted.attempt));
        let trigger = Trigger::Schedule;
        self.wait_again(command, at, &DeliveryRow { org, state, attempts, base: 0, last_attempt, trigger })?;
        self.edit_event(org, at, |entry| entry.accepted = entry.accepted.saturating_sub(1))?;
        Ok(true)
    }

    /// What waits is due now at the latest. What was due by itself is not made because of the command.
    fn hurry(&mut self, command: &RetryDelivery, due_at: Timestamp) -> Result<(), StateError> {
        let RetryDelivery { endpoint, event, at: now, trigger, .. } = *command;
        if now < due_at {
            self.state.due.remove((endpoint, due_at, event));
            self.state.due.put((endpoint, now, event), DueRow);
            if let Some(row) = self.state.deliveries.edit((endpoint, event))? {
                (row.state, row.trigger) = (DeliveryState::Waiting(now), trigger);
            }
        }
        self.effects.due.push((endpoint, due_at.min(now), event));
        Ok(())
    }

    /// What was over waits again, due now, at the beginning of its schedule.
    pub(super) fn wait_again(
        &mut self,
        command: &RetryDelivery,
        at: Place,
        row: &DeliveryRow,
    ) -> Result<(), StateError> {
        let RetryDelivery { org, endpoint, event, at: now, trigger, .. } = *command;
        let row = DeliveryRow { state: DeliveryState::Waiting(now), base: row.attempts, trigger, ..row.clone() };
        self.state.deliveries.put((endpoint, event), row);
        self.state.due.put((endpoint, now, event), DueRow);
        self.effects.due.push((endpoint, now, event));
        meta(self.state)?.waiting += 1;
        self.edit_health(endpoint, |health| health.waiting += 1)?;
        self.edit_event(org, at, |entry| entry.waiting += 1)
    }

    pub(super) fn drop_dead(&mut self, command: &DropDead) -> Result<Outcome, StateError> {
        let DropDead { org, endpoint, event } = *command;
        let Some(at) = self.locate(org, event)? else { return Ok(Outcome::NotFound) };
        let Some(row) = self.state.deliveries.get((endpoint, event))? else { return Ok(Outcome::NotFound) };
        let DeliveryState::Dead(_, dead_at) = row.state else { return Ok(Outcome::NotFound) };
        self.state.dead.remove((org, dead_at, event, endpoint));
        if let Some(row) = self.state.deliveries.edit((endpoint, event))? {
            row.state = DeliveryState::Canceled;
        }
        self.count_dead_less(org, endpoint, at)?;
        Ok(Outcome::Done)
    }

    fn count_dead_less(&mut self, org: OrgNo, endpoint: EndpointId, at: Place) -> Result<(), StateError> {
        meta(self.state)?.dead -= 1;
        self.edit_health(endpoint, |health| health.dead = health.dead.saturating_sub(1))?;
        self.edit_event(org, at, |entry| {
            entry.dead = entry.dead.saturating_sub(1);
            // Dead for this reason alone: one that could not be routed has no deliveries.
            entry.status = EventStatus::Accepted;
        })
    }

    pub(super) fn is_pending(&mut self, endpoint: EndpointId, (first, place): Place) -> Result<bool, StateError> {
        Ok(self.state.pending.get((endpoint, first))?.is_some_and(|row| row.bits & 1 << place != 0))
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
