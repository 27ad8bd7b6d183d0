//! Command: continues a replay by a step.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use super::{Command, EndReplay};
use crate::model::delivery::Trigger;
use crate::model::id::{EndpointId, EventId, OrgNo, ReplayId};
use crate::model::replay::{ReplayCursor, ReplayOnly};
use crate::model::time::Timestamp;
use crate::store::change::Again;
use crate::store::rows::schema::{DeliveryRow, DeliveryState, EventAddress};
use crate::store::{Change, StateError, Unapplied};
use crate::store::{ReplayStep, ReplayTurn};

/// Continues a replay by a step. Deliveries and progress are one change, so a crash neither
/// loses nor repeats a delivery. The step has no effect unless the replay is exactly where the step
/// begins. A replay to all endpoints is done with an endpoint that is disabled when the step is
/// applied, whatever the step says: otherwise the replay would wait for as long as the endpoint is
/// disabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReplay {
    /// The organization of the replay.
    pub org: OrgNo,
    /// The replay to be continued.
    pub replay: ReplayId,
    /// The progress at the endpoint before the step.
    pub cursor: ReplayCursor,
    /// The endpoint of the deliveries.
    pub endpoint: EndpointId,
    /// Candidates for delivery, a bounded number. The state decides about each when the
    /// step is applied.
    pub events: Vec<EventId>,
    /// The number of examined events.
    pub examined: u32,
    /// The first event that was not examined; `None` when the endpoint is done.
    pub reached: Option<EventId>,
    /// The steady time of the step, at which the deliveries become due.
    pub at: Timestamp,
}

/// Returns the command for this turn of a replay, or `None` if the replay waits or is over.
pub fn command_of_turn(
    (org, replay): (OrgNo, ReplayId),
    turn: ReplayTurn,
    at: Timestamp,
) -> Option<Command> {
    match turn {
        ReplayTurn::Step(ReplayStep { cursor, endpoint, events, examined, reached }) => {
            Some(StepReplay { org, replay, cursor, endpoint, events, examined, reached, at }.into())
        }
        ReplayTurn::End(end) => Some(EndReplay { org, replay, end, at }.into()),
        ReplayTurn::Wait(_) | ReplayTurn::Over => None,
    }
}

/// The outcome of [`StepReplay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepReplayOutcome {
    /// The replay has done this step.
    Stepped,
    /// Nothing was changed: the replay does not exist, or is not where the step begins.
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
        let Self { org, replay, cursor, endpoint, at, .. } = *self;
        let Some(row) = change.state.replays.get((org, replay))?.filter(|row| row.is_at(cursor))
        else {
            return Ok(StepReplayOutcome::NotFound);
        };
        let (mut queued, trigger) = (0, Trigger::Replay);
        // An endpoint deleted meanwhile receives nothing.
        let target = change.state.endpoints.get(endpoint)?;
        let target = target.filter(|target| target.org == org && target.number == cursor.number);
        if target.as_ref().is_some_and(|target| row.passes_over(&target.endpoint)) {
            let row = change.state.replays.edit_promised((org, replay))?;
            row.advance(cursor.number, None);
            row.skipped.push(cursor.number);
            return Ok(StepReplayOutcome::Stepped);
        }
        if target.is_some() {
            for event in &self.events {
                let again = Again { org, endpoint, event: *event, at, trigger };
                queued += u64::from(replay_one(change, again, row.request.only)?);
            }
        }
        let row = change.state.replays.edit_promised((org, replay))?;
        row.advance(cursor.number, self.reached);
        row.examined += u64::from(self.examined);
        row.queued += queued;
        change.effects.replayed += queued;
        Ok(StepReplayOutcome::Stepped)
    }
}

/// Repeats a delivery if the replay covers it in its current state. Returns true if it was queued.
fn replay_one(change: &mut Change<'_>, again: Again, only: ReplayOnly) -> Result<bool, StateError> {
    let Again { org, endpoint, event, .. } = again;
    let Some(at) = change.locate(org, event)? else { return Ok(false) };
    // An unrouted event will be routed soon, and a replay would deliver it twice. An erased event
    // is not sent.
    if change.state.unrouted.get((org, event))?.is_some() || change.erased_at(org, at)?.is_some() {
        return Ok(false);
    }
    if let Some(row) = change.state.deliveries.get((endpoint, event))? {
        return replay_known(change, again, only, at, &row);
    }
    if only == ReplayOnly::Failed || change.state.is_pending(endpoint, at)? {
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
    at: EventAddress,
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
        (DeliveryState::Waiting(_) | DeliveryState::Dead(..) | DeliveryState::Canceled, _) => {
            Ok(false)
        }
    }
}

fn has_accepted(
    change: &Change<'_>,
    endpoint: EndpointId,
    (first, index): EventAddress,
) -> Result<bool, StateError> {
    let block = change.state.delivered.get((endpoint, first))?;
    Ok(block
        .is_some_and(|block| block.entries.iter().any(|entry| usize::from(entry.index) == index)))
}
