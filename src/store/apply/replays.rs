//! Replays: begun, taken a step further, over.

use super::{Change, Outcome, Place};
use crate::model::command::{EndReplay, RetryDelivery, StartReplay, StepReplay};
use crate::model::delivery::Trigger;
use crate::model::id::{EndpointId, EventId, OrgNo, ReplayId};
use crate::model::replay::{REPLAYS_REMEMBERED, REPLAYS_RUNNING_MAX, ReplayOnly, ReplayRequest};
use crate::store::StateError;
use crate::store::event_page::{Received, ids_ahead_ms};
use crate::store::schema::{DeliveryRow, DeliveryState, ReplayRow, RunningRow};

impl Change<'_> {
    pub(super) fn start_replay(&mut self, command: &StartReplay) -> Result<Outcome, StateError> {
        let StartReplay { org, replay, request, at } = command;
        let Some(row) = self.state.orgs.get(*org)? else { return Ok(Outcome::NotFound) };
        let (next, end) = match request.endpoint {
            None => (1, row.next_endpoint),
            Some(endpoint) => match self.state.endpoints.get(endpoint)?.filter(|row| row.org == *org) {
                None => return Ok(Outcome::NotFound),
                Some(row) => (row.number, row.number.saturating_add(1)),
            },
        };
        let all = (*org, ReplayId(0))..=(*org, ReplayId(u128::MAX));
        if self.state.running.range(all.clone(), REPLAYS_RUNNING_MAX)?.len() >= REPLAYS_RUNNING_MAX {
            return Ok(Outcome::LimitReached);
        }
        let known = self.state.replays.range(all, REPLAYS_REMEMBERED)?;
        let oldest = known.iter().find(|(_, row)| row.ended.is_some()).filter(|_| known.len() >= REPLAYS_REMEMBERED);
        if let Some((oldest, _)) = oldest {
            self.state.replays.remove(*oldest);
        }
        let (first, last) = self.events_of(*org, request)?;
        let row = ReplayRow {
            request: request.clone(),
            created_at: *at,
            first,
            last,
            next,
            end,
            lanes: Vec::new(),
            done: 0,
            examined: 0,
            queued: 0,
            ended: None,
        };
        self.state.replays.insert_new((*org, *replay), row);
        self.state.running.insert_new((*org, *replay), RunningRow);
        self.effects.replays_began = true;
        self.note_id(replay.0)?;
        Ok(Outcome::Done)
    }

    /// The first and the last event that it can be about. What comes later than the replay is no part of it, so that it
    /// ends; the first one is there, so that it can be said how far it is.
    fn events_of(&self, org: OrgNo, request: &ReplayRequest) -> Result<(EventId, EventId), StateError> {
        let first = self.state.events.range((org, EventId(0))..=(org, EventId(u128::MAX)), 1)?;
        let first = first.first().map_or(EventId(1), |((_, first), _)| *first);
        let tail = self.state.inboxes.get(org)?.and_then(|row| row.tail);
        let tail = tail.map(|tail| self.state.events.promised((org, tail))).transpose()?;
        let last = tail.and_then(|block| block.events.last().map(|entry| entry.id)).unwrap_or(EventId(0));
        let (since, until) =
            Received { since: request.since, until: request.until }.ids(ids_ahead_ms(self.state, org)?);
        Ok((first.max(since), last.min(EventId(until.0.saturating_sub(1)))))
    }

    pub(super) fn step_replay(&mut self, command: &StepReplay) -> Result<Outcome, StateError> {
        let StepReplay { org, replay, lane, endpoint, at, .. } = *command;
        let Some(row) = self.state.replays.get((org, replay))?.filter(|row| row.is_at(lane)) else {
            return Ok(Outcome::NotFound);
        };
        let (mut queued, trigger) = (0, Trigger::Replay);
        // One that was deleted meanwhile gets nothing.
        if self.state.endpoints.get(endpoint)?.is_some_and(|row| row.org == org && row.number == lane.number) {
            for event in &command.events {
                let retry = RetryDelivery { org, endpoint, event: *event, at, only_dead: false, trigger };
                queued += u64::from(self.replay_one(&retry, row.request.only)?);
            }
        }
        if let Some(row) = self.state.replays.edit((org, replay))? {
            row.advance(lane.number, command.reached);
            row.examined += u64::from(command.examined);
            row.queued += queued;
        }
        self.effects.replayed += queued;
        Ok(Outcome::Done)
    }

    /// Has one delivery made again, if it is one that the replay is about as it stands now; says whether.
    fn replay_one(&mut self, retry: &RetryDelivery, only: ReplayOnly) -> Result<bool, StateError> {
        let RetryDelivery { org, endpoint, event, .. } = *retry;
        let Some(at) = self.locate(org, event)? else { return Ok(false) };
        // Where it goes is about to be found out; that would make the delivery a second time.
        if self.state.unrouted.get((org, event))?.is_some() || self.erased_at(org, at)?.is_some() {
            return Ok(false);
        }
        if let Some(row) = self.state.deliveries.get((endpoint, event))? {
            return self.replay_known(retry, only, at, &row);
        }
        if only == ReplayOnly::Failed || self.is_pending(endpoint, at)? {
            return Ok(false);
        }
        if !self.has_accepted(endpoint, at)? {
            let (state, last_attempt, trigger) = (DeliveryState::Canceled, None, retry.trigger);
            self.wait_again(retry, at, &DeliveryRow { org, state, attempts: 0, base: 0, last_attempt, trigger })?;
            return Ok(true);
        }
        Ok(only == ReplayOnly::All && self.repeat_accepted(retry, at)?)
    }

    fn replay_known(
        &mut self,
        retry: &RetryDelivery,
        only: ReplayOnly,
        at: Place,
        row: &DeliveryRow,
    ) -> Result<bool, StateError> {
        match (row.state, only) {
            (DeliveryState::Dead(_, dead_at), ReplayOnly::Failed | ReplayOnly::All) => {
                self.repeat_dead(retry, at, row, dead_at)?;
                Ok(true)
            }
            (DeliveryState::Canceled, ReplayOnly::All) => {
                self.wait_again(retry, at, row)?;
                Ok(true)
            }
            (DeliveryState::Waiting(_) | DeliveryState::Dead(..) | DeliveryState::Canceled, _) => Ok(false),
        }
    }

    fn has_accepted(&mut self, endpoint: EndpointId, (first, place): Place) -> Result<bool, StateError> {
        let block = self.state.delivered.get((endpoint, first))?;
        Ok(block.is_some_and(|block| block.entries.iter().any(|entry| usize::from(entry.place) == place)))
    }

    pub(super) fn end_replay(&mut self, command: &EndReplay) -> Result<Outcome, StateError> {
        let key = (command.org, command.replay);
        let Some(row) = self.state.replays.load(key)? else { return Ok(Outcome::NotFound) };
        // It stays as it ended.
        if row.ended.is_none()
            && let Some(row) = self.state.replays.edit(key)?
        {
            row.ended = Some((command.end, command.at));
            self.state.running.remove(key);
        }
        Ok(Outcome::Done)
    }
}
