//! Events on their way to endpoints: routed, attempted, settled.

use std::sync::Arc;

use super::notices::Before;
use super::{Change, Outcome, meta};
use crate::model::command::{CancelDeliveries, NoteRouteCrash, RouteEvent, SettleAttempt};
use crate::model::delivery::{DeadReason, Trigger, Verdict};
use crate::model::endpoint::DisabledReason;
use crate::model::event::EventStatus;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::StateError;
use crate::store::schema::{
    DeadRow, DeliveredBlock, DeliveredEntry, DeliveryRow, DeliveryState, DueRow, HealthRow, PendingBits,
};
use crate::store::table::State;

/// An event whose routing crashed so often is not tried again.
const CRASHES_MAX: u8 = 3;

impl Change<'_> {
    pub(super) fn route_event(&mut self, command: &RouteEvent) -> Result<Outcome, StateError> {
        let RouteEvent { org, event, endpoints, due_at } = command;
        if self.state.unrouted.get((*org, *event))?.is_none() {
            return Ok(Outcome::Done); // routed before
        }
        self.state.unrouted.remove((*org, *event));
        let Some(at) = self.locate(*org, *event)? else { return Ok(Outcome::NotFound) };
        let at_once = received_at(self.state, *org, at)?.is_some_and(|received_at| *due_at <= received_at);
        let mut made = 0u16;
        for endpoint in endpoints {
            // One that was deleted since the worker looked gets nothing.
            if self.state.endpoints.get(*endpoint)?.is_none() {
                continue;
            }
            if at_once {
                let none = || PendingBits { org: *org, bits: 0 };
                let known = self.state.events.may_be_in_tree((*org, at.0));
                self.state.pending.edit_or_insert_beside(known, (*endpoint, at.0), none)?.bits |= 1 << at.1;
                self.effects.due.push((*endpoint, Timestamp(0), *event));
            } else {
                let state = DeliveryState::Waiting(*due_at);
                let trigger = Trigger::Schedule;
                let row = DeliveryRow { org: *org, state, attempts: 0, base: 0, last_attempt: None, trigger };
                self.state.deliveries.insert_new((*endpoint, *event), row);
                self.state.due.insert_new((*endpoint, *due_at, *event), DueRow);
                self.effects.due.push((*endpoint, *due_at, *event));
            }
            self.edit_health(*endpoint, |health| health.waiting += 1)?;
            made += 1;
        }
        meta(self.state)?.waiting += u64::from(made);
        if made > 0 {
            self.edit_event(*org, at, |entry| entry.waiting += made)?;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn note_route_crash(&mut self, command: &NoteRouteCrash) -> Result<Outcome, StateError> {
        let key = (command.org, command.event);
        let Some(row) = self.state.unrouted.edit(key)? else { return Ok(Outcome::Done) };
        row.crashes += 1;
        if row.crashes < CRASHES_MAX {
            return Ok(Outcome::Done);
        }
        self.state.unrouted.remove(key);
        if let Some(at) = self.locate(command.org, command.event)? {
            self.edit_event(command.org, at, |entry| entry.status = EventStatus::Dead)?;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn settle_attempt(&mut self, command: &SettleAttempt) -> Result<Outcome, StateError> {
        let SettleAttempt { org, endpoint, event, .. } = *command;
        let Some(at) = self.locate(org, event)? else { return Ok(Outcome::Moot) };
        let before = if command.notices.is_empty() { None } else { Some(self.before(endpoint)?) };
        let mut base = 0;
        if !self.take_pending(endpoint, at)? {
            let Some(row) = self.state.deliveries.get((endpoint, event))? else { return Ok(Outcome::Moot) };
            base = row.base;
            if row.attempts >= command.number {
                return Ok(Outcome::Moot); // settled before
            }
            let due_at = match row.state {
                DeliveryState::Waiting(due_at) => due_at,
                DeliveryState::Canceled => return self.settle_canceled(command, before),
                DeliveryState::Dead(..) => return Ok(Outcome::Moot),
            };
            self.state.due.remove((endpoint, due_at, event));
            self.state.deliveries.remove((endpoint, event));
        }
        match command.verdict {
            Verdict::Delivered => self.delivered(command, at),
            Verdict::RetryAt(due_at) => {
                self.keep(command, DeliveryState::Waiting(due_at), base);
                self.state.due.insert_new((endpoint, due_at, event), DueRow);
                Ok(())
            }
            Verdict::Dead(reason) => {
                self.keep(command, DeliveryState::Dead(reason, ended_at(command)), base);
                self.given_up(command, reason, at)
            }
        }?;
        self.note_attempt(command)?;
        self.note_verdict(command)?;
        let told = self.tell(command, before, false)?;
        Ok(if told.is_empty() { Outcome::Done } else { Outcome::Told(told) })
    }

    /// Whoever canceled it came too late for this attempt: what was sent is to be seen, and how its receiver is stays true.
    fn settle_canceled(&mut self, command: &SettleAttempt, before: Option<Before>) -> Result<Outcome, StateError> {
        if let Some(row) = self.state.deliveries.edit((command.endpoint, command.event))? {
            (row.attempts, row.last_attempt) = (command.number, Some(self.position));
        }
        self.note_attempt(command)?;
        Ok(Outcome::Canceled(self.tell(command, before, true)?))
    }

    /// Nothing happens if the endpoint is gone.
    pub(super) fn edit_health(
        &mut self,
        endpoint: EndpointId,
        change: impl FnOnce(&mut HealthRow),
    ) -> Result<(), StateError> {
        if let Some(health) = self.state.health.edit(endpoint)? {
            change(health);
        }
        Ok(())
    }

    /// What the attempt says about its endpoint, and what follows for that.
    fn note_attempt(&mut self, command: &SettleAttempt) -> Result<(), StateError> {
        let at = ended_at(command);
        self.edit_health(command.endpoint, |health| {
            if command.outcome.error.is_none() {
                health.accepted += 1;
                health.accepted_at = Some(at);
                health.failing_since = None;
            } else {
                health.failed += 1;
                health.failed_at = Some(at);
                health.failing_since.get_or_insert(command.outcome.started_at);
            }
        })?;
        command.disables.map_or(Ok(()), |reason| self.disable(command.endpoint, reason, at))
    }

    /// What was decided about the delivery.
    fn note_verdict(&mut self, command: &SettleAttempt) -> Result<(), StateError> {
        let is_dead = match command.verdict {
            Verdict::RetryAt(_) => return Ok(()),
            Verdict::Delivered => false,
            Verdict::Dead(_) => true,
        };
        meta(self.state)?.waiting -= 1;
        self.edit_health(command.endpoint, |health| {
            health.waiting = health.waiting.saturating_sub(1);
            health.dead += u64::from(is_dead);
        })
    }

    /// Whether the event waited for its first attempt at once; it does no more.
    fn take_pending(&mut self, endpoint: EndpointId, (first, place): (EventId, usize)) -> Result<bool, StateError> {
        let key = (endpoint, first);
        let Some(row) = self.state.pending.load(key)? else { return Ok(false) };
        let (bit, left) = (row.bits & 1 << place, row.bits & !(1 << place));
        if bit == 0 {
            return Ok(false);
        }
        if left == 0 {
            self.state.pending.remove(key);
        } else if let Some(row) = self.state.pending.edit(key)? {
            row.bits = left;
        }
        Ok(true)
    }

    /// A row for a delivery that was attempted and goes on to be one.
    fn keep(&mut self, command: &SettleAttempt, state: DeliveryState, base: u32) {
        let (org, attempts, last_attempt) = (command.org, command.number, Some(self.position));
        let row = DeliveryRow { org, state, attempts, base, last_attempt, trigger: Trigger::Schedule };
        self.state.deliveries.insert_new((command.endpoint, command.event), row);
    }

    fn delivered(&mut self, command: &SettleAttempt, at: (EventId, usize)) -> Result<(), StateError> {
        let (first, place) = at;
        let entry = DeliveredEntry {
            place: u8::try_from(place).unwrap_or(u8::MAX),
            attempts: command.number,
            status: command.outcome.status.unwrap_or(0),
            duration_ms: command.outcome.duration_ms,
            attempt: self.position,
        };
        let known = self.state.events.may_be_in_tree((command.org, first));
        let key = (command.endpoint, first);
        let accepted = self.state.delivered.edit_or_insert_beside(known, key, DeliveredBlock::default)?;
        if let Err(place) = accepted.entries.binary_search_by_key(&entry.place, |entry| entry.place) {
            accepted.entries.insert(place, entry);
        }
        self.edit_event(command.org, at, |entry| {
            entry.waiting = entry.waiting.saturating_sub(1);
            entry.accepted += 1;
        })
    }

    fn given_up(
        &mut self,
        command: &SettleAttempt,
        reason: DeadReason,
        at: (EventId, usize),
    ) -> Result<(), StateError> {
        let SettleAttempt { org, endpoint, event, .. } = *command;
        self.state.dead.insert_new((org, ended_at(command), event, endpoint), DeadRow(reason));
        meta(self.state)?.dead += 1;
        self.edit_event(org, at, |entry| {
            entry.waiting = entry.waiting.saturating_sub(1);
            entry.dead += 1;
        })
    }

    /// Nothing more goes there, until its owner enables it again.
    fn disable(&mut self, endpoint: EndpointId, reason: DisabledReason, at: Timestamp) -> Result<(), StateError> {
        if let Some(row) = self.state.endpoints.edit(endpoint)? {
            let endpoint = Arc::make_mut(&mut row.endpoint);
            endpoint.disabled.get_or_insert(reason);
            endpoint.updated_at = at;
        }
        self.effects.endpoints_changed.push(endpoint);
        Ok(())
    }

    pub(super) fn cancel_deliveries(&mut self, command: &CancelDeliveries) -> Result<Outcome, StateError> {
        for event in &command.events {
            self.cancel(command.org, command.endpoint, *event)?;
        }
        Ok(Outcome::Done)
    }

    /// A delivery that waits does so no more. Says whether it did.
    pub(super) fn cancel(&mut self, org: OrgNo, endpoint: EndpointId, event: EventId) -> Result<bool, StateError> {
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
        meta(self.state)?.waiting -= 1;
        self.edit_health(endpoint, |health| health.waiting = health.waiting.saturating_sub(1))?;
        self.edit_event(org, at, |entry| entry.waiting = entry.waiting.saturating_sub(1))?;
        Ok(true)
    }
}

/// When the attempt was over.
fn ended_at(command: &SettleAttempt) -> Timestamp {
    command.outcome.started_at.plus_ms(u64::from(command.outcome.duration_ms))
}

fn received_at(state: &State, org: OrgNo, (first, place): (EventId, usize)) -> Result<Option<Timestamp>, StateError> {
    Ok(state.events.get((org, first))?.and_then(|block| Some(block.events.get(place)?.received_at)))
}
