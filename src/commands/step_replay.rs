//! A part of a replay.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use super::{Command, EndReplay};
use crate::model::delivery::Trigger;
use crate::model::id::{EndpointId, EventId, OrgNo, ReplayId};
use crate::model::replay::{ReplayLane, ReplayOnly};
use crate::model::time::Timestamp;
use crate::store::change::{Again, Place};
use crate::store::schema::{DeliveryRow, DeliveryState};
use crate::store::{Change, StateError, Unapplied};
use crate::store::{ReplayStep, ReplayTurn};

/// Takes a replay a step further. Deliveries and progress are one change: a crash neither loses nor repeats any. Nothing
/// happens unless the replay is just where this step begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReplay {
    /// The organization.
    pub org: OrgNo,
    /// The replay.
    pub replay: ReplayId,
    /// The lane as it is before the step.
    pub lane: ReplayLane,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Events that are to be delivered again, a bounded number; whether each is depends on how it stands by then.
    pub events: Vec<EventId>,
    /// The number of events looked at.
    pub examined: u32,
    /// The first event that was not looked at; none when the endpoint is done.
    pub reached: Option<EventId>,
    /// The time of the step, as a steady time: from then on the deliveries are due.
    pub at: Timestamp,
}

/// The command that takes a replay further by this turn; none: it waits, or is over.
pub fn command_of_turn((org, replay): (OrgNo, ReplayId), turn: ReplayTurn, at: Timestamp) -> Option<Command> {
    match turn {
        ReplayTurn::Step(ReplayStep { lane, endpoint, events, examined, reached }) => {
            Some(StepReplay { org, replay, lane, endpoint, events, examined, reached, at }.into())
        }
        ReplayTurn::End(end) => Some(EndReplay { org, replay, end, at }.into()),
        ReplayTurn::Wait(_) | ReplayTurn::Over => None,
    }
}

/// The outcome of [`StepReplay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepReplayOutcome {
    /// The replay is a step further.
    Stepped,
    /// Nothing happened: there is no such replay, or it is not where the step begins.
    NotFound,
}

impl Kind for StepReplay {
    const NUMBER: u8 = 19;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = StepReplayOutcome;

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn weight(&self) -> usize {
        self.events.len()
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<StepReplayOutcome, Unapplied> {
        let Self { org, replay, lane, endpoint, at, .. } = *self;
        let Some(row) = change.state.replays.get((org, replay))?.filter(|row| row.is_at(lane)) else {
            return Ok(StepReplayOutcome::NotFound);
        };
        let (mut queued, trigger) = (0, Trigger::Replay);
        // An endpoint that was deleted meanwhile gets nothing.
        if change.state.endpoints.get(endpoint)?.is_some_and(|row| row.org == org && row.number == lane.number) {
            for event in &self.events {
                let again = Again { org, endpoint, event: *event, at, trigger };
                queued += u64::from(replay_one(change, again, row.request.only)?);
            }
        }
        if let Some(row) = change.state.replays.edit((org, replay))? {
            row.advance(lane.number, self.reached);
            row.examined += u64::from(self.examined);
            row.queued += queued;
        }
        change.effects.replayed += queued;
        Ok(StepReplayOutcome::Stepped)
    }
}

/// Has one delivery made again, if it is one that the replay is about as it stands now; says whether.
fn replay_one(change: &mut Change<'_>, again: Again, only: ReplayOnly) -> Result<bool, StateError> {
    let Again { org, endpoint, event, .. } = again;
    let Some(at) = change.locate(org, event)? else { return Ok(false) };
    // Where it goes is about to be found out; that would make the delivery a second time.
    if change.state.unrouted.get((org, event))?.is_some() || change.erased_at(org, at)?.is_some() {
        return Ok(false);
    }
    if let Some(row) = change.state.deliveries.get((endpoint, event))? {
        return replay_known(change, again, only, at, &row);
    }
    if only == ReplayOnly::Failed || change.is_pending(endpoint, at)? {
        return Ok(false);
    }
    if !has_accepted(change, endpoint, at)? {
        let (state, last_attempt, trigger) = (DeliveryState::Canceled, None, again.trigger);
        let row = DeliveryRow { org, state, attempts: 0, base: 0, last_attempt, trigger };
        change.wait_again(again, at, &row)?;
        return Ok(true);
    }
    Ok(only == ReplayOnly::All && change.repeat_accepted(again, at)?)
}

fn replay_known(
    change: &mut Change<'_>,
    again: Again,
    only: ReplayOnly,
    at: Place,
    row: &DeliveryRow,
) -> Result<bool, StateError> {
    match (row.state, only) {
        (DeliveryState::Dead(_, dead_at), ReplayOnly::Failed | ReplayOnly::All) => {
            change.repeat_dead(again, at, row, dead_at)?;
            Ok(true)
        }
        (DeliveryState::Canceled, ReplayOnly::All) => {
            change.wait_again(again, at, row)?;
            Ok(true)
        }
        (DeliveryState::Waiting(_) | DeliveryState::Dead(..) | DeliveryState::Canceled, _) => Ok(false),
    }
}

fn has_accepted(change: &Change<'_>, endpoint: EndpointId, (first, place): Place) -> Result<bool, StateError> {
    let block = change.state.delivered.get((endpoint, first))?;
    Ok(block.is_some_and(|block| block.entries.iter().any(|entry| usize::from(entry.place) == place)))
}
