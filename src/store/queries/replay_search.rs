//! Searches the events that a replay delivers next to one endpoint. A search reads a bounded number
//! of rows.

use std::sync::Arc;

use crate::model::endpoint::Endpoint;
use crate::model::event::EventType;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::replay::{ReplayCursor, ReplayOnly, ReplayRequest};
use crate::rules::filter;
use crate::store::change::block_of;
use crate::store::queries::event_page::Received;
use crate::store::rows::schema::{BLOCK_EVENTS, DeliveryState, EventBlock, ReplayRow};
use crate::store::rows::state::State;
use crate::store::{StateError, Store};

/// Maximum number of deliveries of one step.
const STEP_EVENTS_MAX: usize = 128;
/// Number of blocks of events that are read at once.
const BLOCKS_AT_ONCE: usize = 16;
/// Number of delivery rows that are read at once.
const ROWS_AT_ONCE: usize = 512;
/// Maximum number of chunks that are read for one step.
const CHUNKS_MAX: usize = 16;

/// The findings of a step.
pub(in crate::store::queries) struct Found {
    pub(in crate::store::queries) events: Vec<EventId>,
    pub(in crate::store::queries) examined: u32,
    pub(in crate::store::queries) reached: Option<EventId>,
}

impl Found {
    pub(in crate::store::queries) fn begin(cursor: ReplayCursor) -> Self {
        Self { events: Vec::new(), examined: 0, reached: Some(cursor.from) }
    }
}

impl Store {
    /// Returns the next events for an endpoint. `None` if the next event is not routed yet.
    pub(in crate::store::queries) fn replay_search(
        &self,
        org: OrgNo,
        row: &ReplayRow,
        cursor: ReplayCursor,
        endpoint: &Endpoint,
    ) -> Result<Option<Found>, StateError> {
        let mut found = Found::begin(cursor);
        for _ in 0..CHUNKS_MAX {
            let Some(from) = found.reached else { break };
            // Each chunk takes its own lock, so a long search blocks nobody.
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
            && let Some((block, index)) = received_then(state, org, *event, &row.request)?
        {
            found.examined += 1;
            let event_type = block.events.get(index).and_then(|entry| block.event_type(entry));
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

/// Returns the block of an event and its index there, if the event was received in the requested
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
    let index = found.map(|(index, _)| index);
    Ok(index.map(|index| (block, index)))
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
    let rows = state.unrouted.range((org, from)..=(org, row.last), 1)?;
    let unrouted = rows.first().map(|((_, event), _)| *event);
    // The block of an event begins before the event.
    let block = state.events.at_or_before((org, EventId(0)), (org, from))?;
    let start = block.map_or(from, |((_, first), _)| first);
    let blocks = state.events.range((org, start)..=(org, row.last), BLOCKS_AT_ONCE)?;
    for ((_, first), block) in &blocks {
        let had = Had::of(state, endpoint.id, *first, block)?;
        for (index, entry) in block.events.iter().enumerate().filter(|(_, entry)| entry.id >= from)
        {
            found.reached = Some(entry.id).filter(|id| *id <= row.last);
            if entry.id > row.last
                || found.events.len() == STEP_EVENTS_MAX
                || Some(entry.id) == unrouted
            {
                return Ok(false);
            }
            found.reached = Some(entry.id.next());
            if entry.is_expired || !received(&row.request).contains(entry.received_at) {
                continue;
            }
            found.examined += 1;
            let is_there = entry.erased_at.is_none() && had.lets(row.request.only, index);
            let event_type = block.event_type(entry);
            if is_there && event_type.is_some_and(|it| is_wanted(endpoint, &row.request, it)) {
                found.events.push(entry.id);
            }
        }
    }
    let all = blocks.len() < BLOCKS_AT_ONCE;
    found.reached = found.reached.filter(|_| !all);
    Ok(!all)
}

/// Returns true if the endpoint wants events of this type, and the replay asks for them.
fn is_wanted(endpoint: &Endpoint, request: &ReplayRequest, event_type: &EventType) -> bool {
    let asked = &request.event_types;
    filter::wants(&endpoint.settings.event_types, event_type)
        && (asked.is_empty() || filter::wants(asked, event_type))
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
            had.any |= accepted.entries.iter().fold(0, |bits, entry| bits | 1 << entry.index);
        }
        let last = block.events.last().map_or(first, |entry| entry.id);
        for ((_, event), row) in
            state.deliveries.range((endpoint, first)..=(endpoint, last), BLOCK_EVENTS)?
        {
            let Some((index, _)) = block.find(event) else { continue };
            had.any |= 1 << index;
            if matches!(row.state, DeliveryState::Waiting(_)) {
                had.waiting |= 1 << index;
            }
        }
        Ok(had)
    }

    /// Returns true if the existing deliveries allow a new delivery of the event at this index.
    fn lets(&self, only: ReplayOnly, index: usize) -> bool {
        let in_the_way = match only {
            ReplayOnly::Missing => self.any,
            ReplayOnly::All | ReplayOnly::Failed => self.waiting,
        };
        in_the_way & 1 << index == 0
    }
}
