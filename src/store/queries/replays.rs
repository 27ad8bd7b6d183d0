//! Replays as users see them.

use std::collections::BTreeSet;

use crate::model::id::{EndpointId, EventId, OrgNo, ReplayId};
use crate::model::replay::{
    REPLAYS_REMEMBERED, ReplayCursor, ReplayEnd, ReplayRequest, ReplayWait,
};
use crate::model::time::Timestamp;
use crate::store::queries::replay_turns::{Next, Targets, next, targets};
use crate::store::rows::schema::ReplayRow;
use crate::store::rows::state::State;
use crate::store::{StateError, Store};

/// A replay as users see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// The id of the replay.
    pub id: ReplayId,
    /// The request that created the replay.
    pub request: ReplayRequest,
    /// The time at which the replay was created.
    pub created_at: Timestamp,
    /// The number of events, or dead letters, that were looked at, summed over all endpoints.
    pub examined: u64,
    /// The number of deliveries that the replay has made so far.
    pub queued: u64,
    /// The progress from 0 to 1, by the times of the events. 1 only when the replay is finished.
    pub progress: f64,
    /// The reason and the time of the end. Absent while the replay runs.
    pub ended: Option<(ReplayEnd, Timestamp)>,
    /// The reason why the replay makes no progress. Never the full disk, which the state does not
    /// know.
    pub waits_for: Option<ReplayWait>,
    /// The existing endpoints that a replay to all endpoints passed over, or will pass over,
    /// because they are disabled.
    pub skipped: Vec<EndpointId>,
}

impl Store {
    /// Returns the replays that run.
    pub fn running_replays(&self) -> Vec<(OrgNo, ReplayId)> {
        self.read().running.resident().map(|(key, _)| key).collect()
    }

    /// Returns the organization's replay at the steady time `at`, if it is remembered.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn replay(
        &self,
        org: OrgNo,
        id: ReplayId,
        at: Timestamp,
    ) -> Result<Option<Replay>, StateError> {
        let state = self.read();
        let row = state.replays.get((org, id))?;
        row.map(|row| seen(&state, (org, id), &row, at)).transpose()
    }

    /// Returns the organization's replays at the steady time `at`, the newest first.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn replays(&self, org: OrgNo, at: Timestamp) -> Result<Vec<Replay>, StateError> {
        let all = (org, ReplayId(0))..=(org, ReplayId(u128::MAX));
        let rows = self.read().replays.range_back(all, REPLAYS_REMEMBERED)?;
        // Each replay takes its own lock, so many replays to many endpoints block nobody.
        rows.iter().map(|(key, row)| seen(&self.read(), *key, row, at)).collect()
    }
}

fn seen(
    state: &State,
    (org, id): (OrgNo, ReplayId),
    row: &ReplayRow,
    at: Timestamp,
) -> Result<Replay, StateError> {
    let is_finished = row.ended.is_some_and(|(end, _)| end == ReplayEnd::Finished);
    let is_told = is_finished && row.skipped.is_empty();
    let targets = if is_told { Targets::default() } else { targets(state, org, row)? };
    let next = match row.ended {
        Some((end, _)) => Next::End(end),
        None => next(state, (org, &all_begun(row, &targets)), &targets, (at, &BTreeSet::new()))?,
    };
    let waits_for = match next {
        Next::Wait(wait) => Some(wait),
        Next::Gone(_) | Next::GoOn(..) | Next::Begin(..) | Next::End(_) => None,
    };
    let progress = match row.ended {
        Some((ReplayEnd::Finished, _)) => 1.0,
        Some((ReplayEnd::Requested | ReplayEnd::EndpointDeleted, _)) | None => {
            progress(row, &targets)
        }
    };
    let (request, created_at, ended) = (row.request.clone(), row.created_at, row.ended);
    let (examined, queued, skipped) = (row.examined, row.queued, skipped(row, &targets));
    Ok(Replay { id, request, created_at, examined, queued, progress, ended, waits_for, skipped })
}

/// Returns the endpoints that were passed over, and those that will be passed over at the next
/// step.
fn skipped(row: &ReplayRow, targets: &Targets) -> Vec<EndpointId> {
    let is_open = |number: u32| {
        number >= row.next || row.cursors.iter().any(|cursor| cursor.number == number)
    };
    let will_be =
        |number, endpoint| row.ended.is_none() && is_open(number) && row.passes_over(endpoint);
    let its = targets
        .iter()
        .filter(|(number, endpoint)| row.skipped.contains(number) || will_be(*number, endpoint));
    its.map(|(_, endpoint)| endpoint.id).collect()
}

/// Returns the row as it will be when all endpoints have begun.
fn all_begun(row: &ReplayRow, targets: &Targets) -> ReplayRow {
    let mut row = row.clone();
    let left = targets.iter().filter(|(number, _)| *number >= row.next);
    row.cursors.extend(left.map(|(number, _)| ReplayCursor { number: *number, from: row.first }));
    row.next = row.end;
    row
}

/// Returns the finished share of all endpoints together, in thousandths and always below 1. A
/// deleted endpoint counts as finished if it had begun, otherwise it does not count, so the
/// progress never goes back.
fn progress(row: &ReplayRow, targets: &Targets) -> f64 {
    const WHOLE: u64 = 1_000;
    let (first, end) = (row.first.unix_ms(), row.last.unix_ms().saturating_add(1));
    let share = |from: EventId| {
        let whole = end.saturating_sub(first).max(1);
        let done = from.unix_ms().saturating_sub(first).min(whole);
        u64::try_from(u128::from(done) * u128::from(WHOLE) / u128::from(whole)).unwrap_or(0)
    };
    let left = targets.iter().filter(|(number, _)| *number >= row.next).count();
    let all = u64::from(row.done) + (row.cursors.len() + left) as u64;
    let done = u64::from(row.done) * WHOLE
        + row.cursors.iter().map(|cursor| share(cursor.from)).sum::<u64>();
    let thousandths = u32::try_from((done / all.max(1)).min(WHOLE - 1)).unwrap_or(0);
    f64::from(thousandths) / 1_000.0
}
