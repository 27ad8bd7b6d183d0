//! Rows that nobody needs any more: those of deleted endpoints that no event can name, and replays
//! that ended long ago.

use crate::journal::Position;
use crate::model::id::{EndpointId, EventId, OrgNo, ReplayId};
use crate::model::replay::REPLAYS_REMEMBERED;
use crate::model::time::Timestamp;
use crate::store::rows::state::State;
use crate::store::{StateError, Store};

/// Maximum number of endpoints that are found at once.
const ENDPOINTS_MAX: usize = 256;

/// Rows that can go.
#[derive(Debug, Default)]
pub(crate) struct Forgettable {
    /// Deleted endpoints, each with the position of its deletion and its number.
    pub(crate) endpoints: Vec<(EndpointId, Position, u32)>,
    /// Ended replays.
    pub(crate) replays: Vec<ReplayId>,
}

impl Forgettable {
    /// Returns the first of the organization's rows that can go: endpoints deleted before its
    /// oldest event came and before this position, and replays that ended before this time.
    pub(crate) fn of(
        state: &State,
        org: OrgNo,
        (before, deleted_before): (Timestamp, Position),
    ) -> Result<Self, StateError> {
        let blocks = state.events.range((org, EventId(0))..=(org, EventId(u128::MAX)), 1)?;
        // Events come in the order of the journal, also those of the block that have expired.
        let oldest = blocks.first().and_then(|(_, block)| block.events.first());
        let end = oldest.map_or(Position::MAX, |entry| entry.position).min(deleted_before);
        let ended = (org, Position(0), 0)..=(org, Position(end.0.saturating_sub(1)), u32::MAX);
        let ended = state.ended.range(ended, ENDPOINTS_MAX)?;
        let endpoints = ended.iter().map(|((_, at, number), row)| (row.0, *at, *number)).collect();
        let all = (org, ReplayId(0))..=(org, ReplayId(u128::MAX));
        let replays = state.replays.range(all, REPLAYS_REMEMBERED)?.into_iter();
        let replays = replays.filter(|(_, row)| row.ended.is_some_and(|(_, at)| at < before));
        Ok(Self { endpoints, replays: replays.map(|((_, replay), _)| replay).collect() })
    }

    fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.replays.is_empty()
    }
}

impl Store {
    /// Returns true if the organization has endpoints, deleted before this position, that no event
    /// can name, or replays that ended before this time.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn has_forgettable(
        &self,
        org: OrgNo,
        before: (Timestamp, Position),
    ) -> Result<bool, StateError> {
        Ok(!Forgettable::of(&self.read(), org, before)?.is_empty())
    }
}
