//! Decides the next step of each replay. The deliveries that wait because of a replay are bounded,
//! so new events never wait behind a whole history.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::endpoint::Endpoint;
use crate::model::id::{EndpointId, EventId, OrgNo, ReplayId};
use crate::model::replay::{ReplayCursor, ReplayEnd, ReplayOnly, ReplayWait};
use crate::model::time::Timestamp;
use crate::store::queries::replay_search::Found;
use crate::store::rows::schema::ReplayRow;
use crate::store::rows::state::State;
use crate::store::{StateError, Store};

/// A replay adds deliveries for an endpoint only while fewer than this number are due. Retries at a
/// later time do not count: otherwise an endpoint that has recovered, with a long past of failures,
/// could get nothing for hours.
pub const REPLAY_WAITING_MAX: usize = 200;
/// Maximum number of endpoints that a replay works on at the same time, which keeps its row small.
/// The next endpoint begins when another is finished.
pub(in crate::store) const CURSORS_MAX: usize = 256;

/// The next action for a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayTurn {
    /// Apply this step, and then ask again.
    Step(ReplayStep),
    /// End the replay for this reason.
    End(ReplayEnd),
    /// Wait, for this reason.
    Wait(ReplayWait),
    /// The replay has ended.
    Over,
}

/// A step of a replay for one of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayStep {
    /// The progress of the endpoint before the step.
    pub cursor: ReplayCursor,
    /// The id of the endpoint.
    pub endpoint: EndpointId,
    /// The events to deliver again.
    pub events: Vec<EventId>,
    /// The number of events that were looked at.
    pub examined: u32,
    /// The first event that was not looked at. Absent when the endpoint is finished.
    pub reached: Option<EventId>,
}

/// The next action for a running replay.
pub(in crate::store::queries) enum Next {
    /// An endpoint in progress was deleted.
    Gone(ReplayCursor),
    /// The replay continues with this endpoint.
    GoOn(ReplayCursor, Arc<Endpoint>),
    /// The replay begins with this endpoint, even if the endpoint must wait then. If the endpoint
    /// is disabled, a replay to all endpoints passes over it.
    Begin(ReplayCursor, EndpointId),
    Wait(ReplayWait),
    End(ReplayEnd),
}

/// The existing endpoints of a replay, by number.
pub(in crate::store::queries) type Targets = Vec<(u32, Arc<Endpoint>)>;

impl Store {
    /// Returns the next action for a replay: a bounded step for the first endpoint that can
    /// continue. Skips the endpoints in `taken`, which get deliveries from a step that is not
    /// stored yet. `at` is a steady time, like due times.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn replay_turn(
        &self,
        (org, replay): (OrgNo, ReplayId),
        at: Timestamp,
        taken: &BTreeSet<EndpointId>,
    ) -> Result<ReplayTurn, StateError> {
        let (row, next) = {
            let state = self.read();
            let Some(row) = state.replays.get((org, replay))?.filter(|row| row.ended.is_none())
            else {
                return Ok(ReplayTurn::Over);
            };
            let targets = targets(&state, org, &row)?;
            let next = next(&state, (org, &row), &targets, (at, taken))?;
            (row, next)
        };
        let step = |cursor, endpoint, Found { events, examined, reached }| {
            ReplayTurn::Step(ReplayStep { cursor, endpoint, events, examined, reached })
        };
        Ok(match next {
            Next::Gone(cursor) => {
                step(cursor, EndpointId(0), Found { reached: None, ..Found::begin(cursor) })
            }
            Next::Begin(cursor, endpoint) => step(cursor, endpoint, Found::begin(cursor)),
            Next::GoOn(cursor, endpoint) => {
                match self.replay_search(org, &row, cursor, &endpoint)? {
                    Some(found) => step(cursor, endpoint.id, found),
                    None => ReplayTurn::Wait(ReplayWait::Routing),
                }
            }
            Next::Wait(wait) => ReplayTurn::Wait(wait),
            Next::End(end) => ReplayTurn::End(end),
        })
    }
}

pub(in crate::store::queries) fn targets(
    state: &State,
    org: OrgNo,
    row: &ReplayRow,
) -> Result<Targets, StateError> {
    let mut targets = Targets::new();
    let listed = match row.request.endpoint {
        Some(endpoint) => vec![endpoint],
        None => state.orgs.get(org)?.map_or(Vec::new(), |org| org.endpoints.clone()),
    };
    for id in listed {
        let known =
            state.endpoints.get(id)?.filter(|known| known.org == org && known.number < row.end);
        targets.extend(known.map(|known| (known.number, Arc::clone(&known.endpoint))));
    }
    targets.sort_unstable_by_key(|(number, _)| *number);
    Ok(targets)
}

/// Decides how a replay continues, both for the next step and for users who look.
pub(in crate::store::queries) fn next(
    state: &State,
    (org, row): (OrgNo, &ReplayRow),
    targets: &Targets,
    (at, taken): (Timestamp, &BTreeSet<EndpointId>),
) -> Result<Next, StateError> {
    if row.request.endpoint.is_some() && targets.is_empty() {
        return Ok(Next::End(ReplayEnd::EndpointDeleted));
    }
    let mut waits_for = None;
    for cursor in row.cursors.iter().copied() {
        let Some((_, endpoint)) = targets.iter().find(|(number, _)| *number == cursor.number)
        else {
            return Ok(Next::Gone(cursor));
        };
        if row.passes_over(endpoint) {
            return Ok(Next::Begin(cursor, endpoint.id));
        }
        let wait = if taken.contains(&endpoint.id) {
            Some(ReplayWait::EndpointBusy)
        } else {
            wait_of(state, (org, row), (cursor, endpoint), at)?
        };
        if wait.is_none() {
            return Ok(Next::GoOn(cursor, Arc::clone(endpoint)));
        }
        waits_for = waits_for.or(wait);
    }
    let begins = targets
        .iter()
        .find(|(number, _)| *number >= row.next)
        .filter(|_| row.cursors.len() < CURSORS_MAX);
    Ok(match (begins, waits_for) {
        (Some((number, endpoint)), _) => {
            Next::Begin(ReplayCursor { number: *number, from: row.first }, endpoint.id)
        }
        (None, Some(wait)) => Next::Wait(wait),
        (None, None) => Next::End(ReplayEnd::Finished),
    })
}

/// Returns the reason why nothing may be added for the endpoint, or why the next event is unknown.
fn wait_of(
    state: &State,
    (org, row): (OrgNo, &ReplayRow),
    (cursor, endpoint): (ReplayCursor, &Endpoint),
    at: Timestamp,
) -> Result<Option<ReplayWait>, StateError> {
    if !endpoint.is_enabled() {
        return Ok(Some(ReplayWait::EndpointDisabled));
    }
    if is_busy(state, endpoint.id, at)? {
        return Ok(Some(ReplayWait::EndpointBusy));
    }
    let looks = row.request.only != ReplayOnly::Failed && cursor.from <= row.last;
    Ok((looks && state.unrouted.get((org, cursor.from))?.is_some()).then_some(ReplayWait::Routing))
}

/// Returns true if enough deliveries are due to the endpoint.
fn is_busy(state: &State, endpoint: EndpointId, at: Timestamp) -> Result<bool, StateError> {
    let waiting = state.health.get(endpoint)?.map_or(0, |health| health.waiting);
    if waiting < REPLAY_WAITING_MAX as u64 {
        return Ok(false);
    }
    let (none, any) = (EventId(0), EventId(u128::MAX));
    let blocks = state.pending.range((endpoint, none)..=(endpoint, any), REPLAY_WAITING_MAX)?;
    let at_once: usize = blocks.iter().map(|(_, row)| row.bits.count_ones() as usize).sum();
    let left = REPLAY_WAITING_MAX.saturating_sub(at_once);
    let due = (endpoint, Timestamp(0), none)..=(endpoint, at, any);
    Ok(left == 0 || state.due.range(due, left)?.len() == left)
}
