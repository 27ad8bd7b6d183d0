//! Events on their way to endpoints: routed, attempted, settled.

use super::{Change, Outcome, meta};
use crate::model::command::{CancelDeliveries, NoteRouteCrash, RouteEvent, SettleAttempt};
use crate::model::delivery::{DeadReason, Verdict};
use crate::model::event::EventStatus;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::StateError;
use crate::store::schema::{DeadRow, DeliveredBlock, DeliveredEntry, DeliveryRow, DeliveryState, DueRow};

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
        let mut made = 0u16;
        for endpoint in endpoints {
            // One that was deleted since the worker looked gets nothing.
            if self.state.endpoints.get(*endpoint)?.is_none() {
                continue;
            }
            let row =
                DeliveryRow { org: *org, state: DeliveryState::Waiting(*due_at), attempts: 0, last_attempt: None };
            self.state.deliveries.insert_new((*endpoint, *event), row);
            self.state.due.insert_new((*endpoint, *due_at, *event), DueRow);
            self.effects.due.push((*endpoint, *due_at, *event));
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
        let SettleAttempt { endpoint, event, .. } = *command;
        let Some(row) = self.state.deliveries.get((endpoint, event))? else { return Ok(Outcome::Done) };
        let DeliveryState::Waiting(due_at) = row.state else { return Ok(Outcome::Done) };
        if row.attempts >= command.number {
            return Ok(Outcome::Done); // settled before
        }
        self.state.due.remove((endpoint, due_at, event));
        match command.verdict {
            Verdict::Delivered => self.delivered(command),
            Verdict::RetryAt(at) => self.retry_at(command, at),
            Verdict::Dead(reason) => self.given_up(command, reason),
        }?;
        if let Verdict::Dead(DeadReason::Gone) = command.verdict {
            self.disable(endpoint, command.outcome.started_at)?;
        }
        if !matches!(command.verdict, Verdict::RetryAt(_)) {
            meta(self.state)?.waiting -= 1;
        }
        Ok(Outcome::Done)
    }

    fn delivered(&mut self, command: &SettleAttempt) -> Result<(), StateError> {
        self.state.deliveries.remove((command.endpoint, command.event));
        let Some(at) = self.locate(command.org, command.event)? else { return Ok(()) };
        let (first, place) = at;
        let entry = DeliveredEntry {
            place: u8::try_from(place).unwrap_or(u8::MAX),
            attempts: command.number,
            status: command.outcome.status.unwrap_or(0),
            duration_ms: command.outcome.duration_ms,
            attempt: self.position,
        };
        let accepted = self.state.delivered.edit_or_insert((command.endpoint, first), DeliveredBlock::default)?;
        if let Err(place) = accepted.entries.binary_search_by_key(&entry.place, |entry| entry.place) {
            accepted.entries.insert(place, entry);
        }
        self.edit_event(command.org, at, |entry| {
            entry.waiting = entry.waiting.saturating_sub(1);
            entry.accepted += 1;
        })
    }

    fn retry_at(&mut self, command: &SettleAttempt, at: Timestamp) -> Result<(), StateError> {
        let key = (command.endpoint, command.event);
        if let Some(row) = self.state.deliveries.edit(key)? {
            row.state = DeliveryState::Waiting(at);
            row.attempts = command.number;
            row.last_attempt = Some(self.position);
        }
        self.state.due.insert_new((command.endpoint, at, command.event), DueRow);
        Ok(())
    }

    fn given_up(&mut self, command: &SettleAttempt, reason: DeadReason) -> Result<(), StateError> {
        let SettleAttempt { org, endpoint, event, number, .. } = *command;
        if let Some(row) = self.state.deliveries.edit((endpoint, event))? {
            row.state = DeliveryState::Dead(reason);
            row.attempts = number;
            row.last_attempt = Some(self.position);
        }
        let dead_at = command.outcome.started_at.plus_ms(u64::from(command.outcome.duration_ms));
        self.state.dead.insert_new((org, dead_at, event, endpoint), DeadRow(reason));
        meta(self.state)?.dead += 1;
        self.end_of(org, event, |entry| entry.dead += 1)
    }

    /// One of the event's deliveries waits no more.
    fn end_of(
        &mut self,
        org: OrgNo,
        event: EventId,
        change: impl FnOnce(&mut crate::store::schema::EventEntry),
    ) -> Result<(), StateError> {
        let Some(at) = self.locate(org, event)? else { return Ok(()) };
        self.edit_event(org, at, |entry| {
            entry.waiting = entry.waiting.saturating_sub(1);
            change(entry);
        })
    }

    /// The receiver said that it is gone: nothing new goes there.
    fn disable(&mut self, endpoint: EndpointId, at: Timestamp) -> Result<(), StateError> {
        if let Some(row) = self.state.endpoints.edit(endpoint)? {
            row.endpoint.enabled = false;
            row.endpoint.updated_at = at;
        }
        self.effects.endpoints_changed.push(endpoint);
        Ok(())
    }

    pub(super) fn cancel_deliveries(&mut self, command: &CancelDeliveries) -> Result<Outcome, StateError> {
        for event in &command.events {
            let Some(row) = self.state.deliveries.edit((command.endpoint, *event))? else { continue };
            let DeliveryState::Waiting(due_at) = row.state else { continue };
            row.state = DeliveryState::Canceled;
            self.state.due.remove((command.endpoint, due_at, *event));
            meta(self.state)?.waiting -= 1;
            self.end_of(command.org, *event, |_canceled| ())?;
        }
        Ok(Outcome::Done)
    }
}
