//! Replays as users see them, and the next step of each replay. A step reads a bounded number of
//! rows, and the deliveries that wait because of a replay are bounded too, so new events never wait
//! behind a whole history.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::endpoint::Endpoint;
use crate::model::event::EventType;
use crate::model::id::{EndpointId, EventId, OrgNo, ReplayId};
use crate::model::replay::{
    REPLAYS_REMEMBERED, ReplayCursor, ReplayEnd, ReplayOnly, ReplayRequest, ReplayWait,
};
use crate::model::time::Timestamp;
use crate::rules::filter;
use crate::store::change::block_of;
use crate::store::queries::event_page::Received;
use crate::store::rows::schema::{BLOCK_EVENTS, DeliveryState, EventBlock, ReplayRow};
use crate::store::rows::state::State;
use crate::store::{StateError, Store};

/// A replay adds deliveries for an endpoint only while fewer than this number are due. Retries at a
/// later time do not count: otherwise an endpoint that has recovered, with a long past of failures,
/// could get nothing for hours.
pub const REPLAY_WAITING_MAX: usize = 200;
/// Maximum number of deliveries of one step.
const STEP_EVENTS_MAX: usize = 128;
/// Maximum number of endpoints that a replay works on at the same time, which keeps its row small.
/// The next endpoint begins when another is finished.
pub(in crate::store) const LANES_MAX: usize = 256;
/// Number of blocks of events that are read at once.
const BLOCKS_AT_ONCE: usize = 16;
/// Number of delivery rows that are read at once.
const ROWS_AT_ONCE: usize = 512;
/// Maximum number of portions that are read for one step.
const PORTIONS_MAX: usize = 16;

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
enum Next {
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
type Targets = Vec<(u32, Arc<Endpoint>)>;

/// The findings of a step.
struct Found {
    events: Vec<EventId>,
    examined: u32,
    reached: Option<EventId>,
}

impl Found {
    fn begin(cursor: ReplayCursor) -> Self {
        Self { events: Vec::new(), examined: 0, reached: Some(cursor.from) }
    }
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
            Next::GoOn(cursor, endpoint) => match self.look(org, &row, cursor, &endpoint)? {
                Some(found) => step(cursor, endpoint.id, found),
                None => ReplayTurn::Wait(ReplayWait::Routing),
            },
            Next::Wait(wait) => ReplayTurn::Wait(wait),
            Next::End(end) => ReplayTurn::End(end),
        })
    }

    /// Returns the next events for an endpoint. `None` if the next event is not routed yet.
    fn look(
        &self,
        org: OrgNo,
        row: &ReplayRow,
        cursor: ReplayCursor,
        endpoint: &Endpoint,
    ) -> Result<Option<Found>, StateError> {
        let mut found = Found::begin(cursor);
        for _ in 0..PORTIONS_MAX {
            let Some(from) = found.reached else { break };
            // Each portion takes its own lock, so a long search blocks nobody.
            let state = self.read();
            let goes_on = if from > row.last {
                found.reached = None;
                false
            } else if row.request.only == ReplayOnly::Failed {
                dead_letters(&state, (org, endpoint.id), row, &mut found)?
            } else {
                history(&state, (org, endpoint), row, &mut found)?
            };
            if !goes_on {
                break;
            }
        }
        Ok(Some(found).filter(|found| found.reached != Some(cursor.from)))
    }
}

/// Looks for dead letters in the endpoint's next deliveries. Returns true if there is more to look
/// at now.
fn dead_letters(
    state: &State,
    (org, endpoint): (OrgNo, EndpointId),
    row: &ReplayRow,
    found: &mut Found,
) -> Result<bool, StateError> {
    let Some(from) = found.reached else { return Ok(false) };
    let rows = state.deliveries.range((endpoint, from)..=(endpoint, row.last), ROWS_AT_ONCE)?;
    for ((_, event), delivery) in &rows {
        found.reached = Some(*event);
        if found.events.len() == STEP_EVENTS_MAX {
            return Ok(false);
        }
        if matches!(delivery.state, DeliveryState::Dead(..))
            && let Some((block, place)) = received_then(state, org, *event, &row.request)?
        {
            found.examined += 1;
            let event_type = block.events.get(place).and_then(|entry| block.event_type(entry));
            let types = &row.request.event_types;
            if types.is_empty()
                || event_type.is_some_and(|event_type| filter::wants(types, event_type))
            {
                found.events.push(*event);
            }
        }
        found.reached = Some(event.next());
    }
    let all = rows.len() < ROWS_AT_ONCE;
    found.reached = found.reached.filter(|_| !all);
    Ok(!all)
}

/// Returns the block of an event and its place there, if the event was received in the requested
/// time.
fn received_then(
    state: &State,
    org: OrgNo,
    event: EventId,
    request: &ReplayRequest,
) -> Result<Option<(Arc<EventBlock>, usize)>, StateError> {
    let Some((_, block)) = block_of(state, org, event)? else { return Ok(None) };
    let found =
        block.find(event).filter(|(_, entry)| received(request).contains(entry.received_at));
    let place = found.map(|(place, _)| place);
    Ok(place.map(|place| (block, place)))
}

/// Returns the replay's filter on the time of receipt.
fn received(request: &ReplayRequest) -> Received {
    Received { since: request.since, until: request.until }
}

/// Looks for events that the endpoint should get. Returns true if there is more to look at now.
fn history(
    state: &State,
    (org, endpoint): (OrgNo, &Endpoint),
    row: &ReplayRow,
    found: &mut Found,
) -> Result<bool, StateError> {
    let Some(from) = found.reached else { return Ok(false) };
    let unrouted = state
        .unrouted
        .range((org, from)..=(org, row.last), 1)?
        .first()
        .map(|((_, event), _)| *event);
    // The block of an event begins before the event.
    let block = state.events.last((org, EventId(0))..=(org, from))?;
    let start = block.map_or(from, |((_, first), _)| first);
    let blocks = state.events.range((org, start)..=(org, row.last), BLOCKS_AT_ONCE)?;
    let (its_types, asked) = (&endpoint.settings.event_types, &row.request.event_types);
    let wants = |event_type: &EventType| {
        filter::wants(its_types, event_type)
            && (asked.is_empty() || filter::wants(asked, event_type))
    };
    for ((_, first), block) in &blocks {
        let had = Had::of(state, endpoint.id, *first, block)?;
        for (place, entry) in block.events.iter().enumerate().filter(|(_, entry)| entry.id >= from)
        {
            found.reached = Some(entry.id).filter(|id| *id <= row.last);
            if entry.id > row.last
                || found.events.len() == STEP_EVENTS_MAX
                || Some(entry.id) == unrouted
            {
                return Ok(false);
            }
            found.reached = Some(entry.id.next());
            if !received(&row.request).contains(entry.received_at) {
                continue;
            }
            found.examined += 1;
            let is_there = entry.erased_at.is_none() && had.lets(row.request.only, place);
            if is_there && block.event_type(entry).is_some_and(wants) {
                found.events.push(entry.id);
            }
        }
    }
    let all = blocks.len() < BLOCKS_AT_ONCE;
    found.reached = found.reached.filter(|_| !all);
    Ok(!all)
}

/// The events of a block with a delivery to the endpoint, one bit for each.
struct Had {
    any: u64,
    waiting: u64,
}

impl Had {
    fn of(
        state: &State,
        endpoint: EndpointId,
        first: EventId,
        block: &EventBlock,
    ) -> Result<Self, StateError> {
        let waiting = state.pending.get((endpoint, first))?.map_or(0, |row| row.bits);
        let mut had = Self { any: waiting, waiting };
        if let Some(accepted) = state.delivered.get((endpoint, first))? {
            had.any |= accepted.entries.iter().fold(0, |bits, entry| bits | 1 << entry.place);
        }
        let last = block.events.last().map_or(first, |entry| entry.id);
        for ((_, event), row) in
            state.deliveries.range((endpoint, first)..=(endpoint, last), BLOCK_EVENTS)?
        {
            let Some((place, _)) = block.find(event) else { continue };
            had.any |= 1 << place;
            if matches!(row.state, DeliveryState::Waiting(_)) {
                had.waiting |= 1 << place;
            }
        }
        Ok(had)
    }

    /// Returns true if the existing deliveries allow a new delivery of the event at this place.
    fn lets(&self, only: ReplayOnly, place: usize) -> bool {
        let in_the_way = match only {
            ReplayOnly::Missing => self.any,
            ReplayOnly::All | ReplayOnly::Failed => self.waiting,
        };
        in_the_way & 1 << place == 0
    }
}

fn targets(state: &State, org: OrgNo, row: &ReplayRow) -> Result<Targets, StateError> {
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
fn next(
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
        if passes_over(row, endpoint) {
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
        .filter(|_| row.cursors.len() < LANES_MAX);
    Ok(match (begins, waits_for) {
        (Some((number, endpoint)), _) => {
            Next::Begin(ReplayCursor { number: *number, from: row.first }, endpoint.id)
        }
        (None, Some(wait)) => Next::Wait(wait),
        (None, None) => Next::End(ReplayEnd::Finished),
    })
}

/// Returns true if the replay delivers nothing more to the endpoint because it is disabled. A
/// replay to this endpoint alone waits instead.
fn passes_over(row: &ReplayRow, endpoint: &Endpoint) -> bool {
    row.request.endpoint.is_none() && !endpoint.is_enabled()
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
        |number, endpoint| row.ended.is_none() && is_open(number) && passes_over(row, endpoint);
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
