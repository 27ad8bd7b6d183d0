//! Command: settles an attempt, that is, records its outcome and the next state of its delivery.
//!
//! Operational events caused by an attempt are part of the command
//! ([`SettleAttempt::operational_events`]) and not commands of their own: a crash leaves both or
//! neither, and journal order decides whether they are true.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, Stamp, plain_body};
use crate::journal::Position;
use crate::model::activity::{Activity, Attempted};
use crate::model::delivery::{AttemptOutcome, DeadReason, Trigger, Verdict};
use crate::model::endpoint::DisabledReason;
use crate::model::event::{NewEvent, StoredEvent};
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::operational_event::{OperationalEvent, OperationalEventKind};
use crate::model::time::Timestamp;
use crate::store::change::{Arrival, Count as _};
use crate::store::rows::schema::{
    DeadRow, DeliveredBlock, DeliveredEntry, DeliveryRow, DeliveryState, DueRow, EventAddress,
};
use crate::store::{Change, StateError, Stored, Unapplied};

/// Settles an attempt: records its outcome and the next state of its delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettleAttempt {
    /// The organization of the delivery.
    pub org: OrgNo,
    /// The endpoint of the delivery.
    pub endpoint: EndpointId,
    /// The event of the delivery.
    pub event: EventId,
    /// Attempt number; the first attempt is 1.
    pub number: u32,
    /// The reason for making the attempt.
    pub trigger: Trigger,
    /// The outcome of the attempt.
    pub outcome: AttemptOutcome,
    /// The decision about the delivery.
    pub verdict: Verdict,
    /// The reason for disabling the endpoint, if the attempt disables it.
    pub disables: Option<DisabledReason>,
    /// Journal position of the previous attempt: the attempts of a delivery are a linked list
    /// through the journal.
    pub previous: Option<Position>,
    /// Operational events that the attempt causes.
    pub operational_events: Vec<OperationalEvent>,
}

/// The state of an endpoint before an attempt to it was settled.
#[derive(Clone, Copy, Debug)]
struct EndpointBefore {
    is_enabled: bool,
    failing_since: Option<Timestamp>,
}

impl EndpointBefore {
    fn of(change: &Change<'_>, endpoint: EndpointId) -> Result<Self, StateError> {
        let is_enabled =
            change.state.endpoints.get(endpoint)?.is_some_and(|row| row.endpoint.is_enabled());
        let failing_since =
            change.state.health.get(endpoint)?.and_then(|health| health.failing_since);
        Ok(Self { is_enabled, failing_since })
    }
}

/// The delivery of an attempt, before the attempt was settled.
enum DeliveryBefore {
    /// The delivery waited, and its rows are removed.
    Waiting {
        /// The number of attempts before its schedule began again.
        base: u32,
    },
    /// The delivery was canceled, and its row stays.
    Canceled,
    /// The delivery is over or never existed, or the attempt was settled before.
    Over,
}

/// The outcome of [`SettleAttempt`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettleOutcome {
    /// The attempt is settled, and these operational events were stored with it.
    Settled(Vec<Stored>),
    /// The delivery was canceled during the attempt, and stays canceled. The attempt counts for its
    /// endpoint, and these operational events were stored with it.
    Canceled(Vec<Stored>),
    /// Nothing was changed: the attempt was settled before, or its delivery is over or never
    /// existed.
    NoEffect,
}

impl SettleOutcome {
    /// Returns the operational events stored with the command.
    pub fn stored(&self) -> &[Stored] {
        match self {
            Self::Settled(stored) | Self::Canceled(stored) => stored,
            Self::NoEffect => &[],
        }
    }
}

impl Kind for SettleAttempt {
    const NUMBER: u8 = 11;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = SettleOutcome;

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn event(&self) -> Option<EventId> {
        Some(self.event)
    }

    fn at(&self) -> Option<Timestamp> {
        Some(self.ended_at())
    }

    fn stamp(&mut self, stamp: &mut impl Stamp) {
        for caused in &mut self.operational_events {
            (caused.id, caused.received_at) = (stamp.next_id(), stamp.now());
        }
    }

    fn stored_events(&self) -> Vec<EventId> {
        self.operational_events.iter().map(|caused| caused.id).collect()
    }

    fn forget_payload(&mut self, id: EventId) {
        for caused in self.operational_events.iter_mut().filter(|caused| caused.id == id) {
            caused.payload = Box::default();
        }
    }

    fn into_event(self, id: EventId) -> Option<StoredEvent> {
        let caused = self.operational_events.iter().find(|caused| caused.id == id)?;
        let event = self.new_event(caused);
        Some(StoredEvent { id, received_at: caused.received_at, event })
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<SettleOutcome, Unapplied> {
        let Self { org, endpoint, event, .. } = *self;
        let Some(at) = change.locate(org, event)? else { return Ok(SettleOutcome::NoEffect) };
        let before = if self.operational_events.is_empty() {
            None
        } else {
            Some(EndpointBefore::of(change, endpoint)?)
        };
        let base = match self.take_waiting(change, at)? {
            DeliveryBefore::Waiting { base } => base,
            DeliveryBefore::Canceled => return Ok(self.settle_canceled(change, before)?),
            DeliveryBefore::Over => return Ok(SettleOutcome::NoEffect),
        };
        match self.verdict {
            Verdict::Delivered => self.delivered(change, at),
            Verdict::RetryAt(due_at) => {
                self.keep(change, DeliveryState::Waiting(due_at), base);
                change.state.due.insert_new((endpoint, due_at, event), DueRow);
                Ok(())
            }
            Verdict::Dead(reason) => {
                self.keep(change, DeliveryState::Dead(reason, self.ended_at()), base);
                self.given_up(change, reason, at)
            }
        }?;
        self.note_attempt(change, Some(self.verdict))?;
        self.note_verdict(change)?;
        Ok(SettleOutcome::Settled(self.store_caused(change, before, false)?))
    }
}

impl SettleAttempt {
    /// Returns the end of the attempt.
    fn ended_at(&self) -> Timestamp {
        self.outcome.started_at.plus_ms(u64::from(self.outcome.duration_ms))
    }

    /// Returns an operational event as a storable event.
    fn new_event(&self, caused: &OperationalEvent) -> NewEvent {
        NewEvent {
            event_type: caused.kind.event_type(),
            dedup: None,
            labels: Vec::new(),
            occurred_at: Some(self.ended_at()),
            deliver_after: None,
            payload: caused.payload.clone(),
            cloudevent: None,
        }
    }

    /// Returns the attempt as watchers see it, without the receiver's own words.
    fn attempted(&self, verdict: Option<Verdict>) -> Attempted {
        let AttemptOutcome { started_at, duration_ms, status, ref error, .. } = self.outcome;
        Attempted {
            event: self.event,
            endpoint: self.endpoint,
            number: self.number,
            started_at,
            duration_ms,
            status,
            error: error.clone().map(|error| error.without_receivers_words(status)),
            verdict,
            disables: self.disables,
        }
    }

    /// Takes the waiting delivery out of the state, because the attempt decides how it goes on.
    fn take_waiting(
        &self,
        change: &mut Change<'_>,
        at: EventAddress,
    ) -> Result<DeliveryBefore, StateError> {
        let key = (self.endpoint, self.event);
        if change.take_pending(self.endpoint, at)? {
            return Ok(DeliveryBefore::Waiting { base: 0 });
        }
        let Some(row) = change.state.deliveries.get(key)? else { return Ok(DeliveryBefore::Over) };
        if row.attempts >= self.number {
            return Ok(DeliveryBefore::Over); // settled before
        }
        let due_at = match row.state {
            DeliveryState::Waiting(due_at) => due_at,
            DeliveryState::Canceled => return Ok(DeliveryBefore::Canceled),
            DeliveryState::Dead(..) => return Ok(DeliveryBefore::Over),
        };
        change.state.due.remove((self.endpoint, due_at, self.event));
        change.state.deliveries.remove(key);
        Ok(DeliveryBefore::Waiting { base: row.base })
    }

    /// Records an attempt of a delivery that was canceled meanwhile. The attempt is shown all the
    /// same, and counts for its endpoint.
    fn settle_canceled(
        &self,
        change: &mut Change<'_>,
        before: Option<EndpointBefore>,
    ) -> Result<SettleOutcome, StateError> {
        let row = change.state.deliveries.edit_promised((self.endpoint, self.event))?;
        (row.attempts, row.last_attempt) = (self.number, Some(change.position));
        self.note_attempt(change, None)?;
        Ok(SettleOutcome::Canceled(self.store_caused(change, before, true)?))
    }

    /// Tells watchers about the attempt, counts it for its endpoint, and disables the endpoint if
    /// the attempt says so. `verdict` is absent if the delivery was canceled meanwhile.
    fn note_attempt(
        &self,
        change: &mut Change<'_>,
        verdict: Option<Verdict>,
    ) -> Result<(), StateError> {
        let at = self.ended_at();
        change.note_steady(self.outcome.started_steady)?;
        change.effects.add_activity(self.org, || Activity::Attempted(self.attempted(verdict)));
        change.edit_health(self.endpoint, |health| {
            if self.outcome.error.is_none() {
                health.accepted += 1;
                health.accepted_at = Some(at);
                (health.failing_since, health.failing_from) = (None, None);
            } else {
                health.failed += 1;
                health.failed_at = Some(at);
                health.failing_since.get_or_insert(self.outcome.started_at);
                health.failing_from.get_or_insert(self.outcome.started_steady);
            }
        })?;
        self.disables.map_or(Ok(()), |reason| disable(change, self.endpoint, reason, at))
    }

    /// Counts the end of the delivery, if the verdict ends it.
    fn note_verdict(&self, change: &mut Change<'_>) -> Result<(), StateError> {
        let is_dead = match self.verdict {
            Verdict::RetryAt(_) => return Ok(()),
            Verdict::Delivered => false,
            Verdict::Dead(_) => true,
        };
        change.meta()?.waiting.lower()?;
        change.edit_health(self.endpoint, |health| {
            health.waiting = health.waiting.saturating_sub(1);
            health.dead += u64::from(is_dead);
        })
    }

    /// Stores the row of a delivery that waits for a retry or is dead.
    fn keep(&self, change: &mut Change<'_>, state: DeliveryState, base: u32) {
        let (org, attempts, last_attempt) = (self.org, self.number, Some(change.position));
        let row =
            DeliveryRow { org, state, attempts, base, last_attempt, trigger: Trigger::Schedule };
        change.state.deliveries.insert_new((self.endpoint, self.event), row);
    }

    fn delivered(&self, change: &mut Change<'_>, at: EventAddress) -> Result<(), StateError> {
        let (first, index) = at;
        let entry = DeliveredEntry {
            index: u8::try_from(index)
                .map_err(|_too_many| StateError::Invariant("a block has 64 events at most"))?,
            attempts: self.number,
            attempt: change.position,
        };
        let known = change.state.events.may_be_in_tree((self.org, first));
        let key = (self.endpoint, first);
        let accepted =
            change.state.delivered.edit_or_insert_beside(known, key, DeliveredBlock::default)?;
        if let Err(index) = accepted.entries.binary_search_by_key(&entry.index, |entry| entry.index)
        {
            accepted.entries.insert(index, entry);
        }
        change.edit_event(self.org, at, |entry| {
            entry.accepted += 1;
            entry.waiting.lower()
        })
    }

    fn given_up(
        &self,
        change: &mut Change<'_>,
        reason: DeadReason,
        at: EventAddress,
    ) -> Result<(), StateError> {
        let Self { org, endpoint, event, .. } = *self;
        change.state.dead.insert_new((org, self.ended_at(), event, endpoint), DeadRow(reason));
        change.meta()?.dead += 1;
        change.edit_event(org, at, |entry| {
            entry.dead += 1;
            entry.waiting.lower()
        })
    }

    /// Stores the operational events that are true. The attempt was judged by an earlier state, and
    /// others may have been judged at the same time, so only changes made by this command are
    /// reported. A canceled delivery is not reported as dead.
    fn store_caused(
        &self,
        change: &mut Change<'_>,
        before: Option<EndpointBefore>,
        was_canceled: bool,
    ) -> Result<Vec<Stored>, StateError> {
        let mut stored = Vec::new();
        let Some(before) = before else { return Ok(stored) };
        for caused in &self.operational_events {
            let OperationalEvent { id, kind, received_at, .. } = *caused;
            change.note_id(id.0)?;
            let is_possible = !(was_canceled && kind == OperationalEventKind::DeliveryDead);
            if is_possible && self.is_true(change, caused, before)? {
                let event = &self.new_event(caused);
                change.take_in(Arrival { org: self.org, id, received_at, event })?;
                stored.push(Stored { kind, id, received_at });
            }
        }
        Ok(stored)
    }

    fn is_true(
        &self,
        change: &mut Change<'_>,
        caused: &OperationalEvent,
        before: EndpointBefore,
    ) -> Result<bool, StateError> {
        match caused.kind {
            OperationalEventKind::DeliveryDead => Ok(matches!(self.verdict, Verdict::Dead(_))),
            OperationalEventKind::EndpointDisabled => {
                Ok(before.is_enabled && self.disables.is_some())
            }
            OperationalEventKind::EndpointFailing => {
                let since = caused.failing_since;
                let fails = self.outcome.error.is_some();
                let goes_on = fails && since.is_some() && since == before.failing_since;
                let Some(health) = change.state.health.edit(self.endpoint)?.filter(|_| goes_on)
                else {
                    return Ok(false);
                };
                Ok(std::mem::replace(&mut health.failing_told, since) != since)
            }
            OperationalEventKind::EndpointRecovered => {
                let accepted = self.outcome.error.is_none();
                let health = change.state.health.edit(self.endpoint)?.filter(|_| accepted);
                Ok(health.is_some_and(|health| health.failing_told.take().is_some()))
            }
            // No attempt causes these events.
            OperationalEventKind::DiskLow
            | OperationalEventKind::InboxExpired
            | OperationalEventKind::KeyExpiring => Ok(false),
        }
    }
}

/// Disables the endpoint: nothing is sent there until its owner enables it again.
fn disable(
    change: &mut Change<'_>,
    endpoint: EndpointId,
    reason: DisabledReason,
    at: Timestamp,
) -> Result<(), StateError> {
    if let Some(row) = change.state.endpoints.edit(endpoint)? {
        let endpoint = Arc::make_mut(&mut row.endpoint);
        endpoint.disabled.get_or_insert(reason);
        endpoint.updated_at = at;
    }
    change.effects.endpoints_changed.push(endpoint);
    Ok(())
}
