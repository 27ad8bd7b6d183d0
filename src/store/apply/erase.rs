//! Events whose payload is to be shown to nobody any more, and sent nowhere.

use super::{Change, Outcome, Place};
use crate::model::command::{DropDead, EraseEvent};
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::StateError;
use crate::store::schema::DeliveryState;

/// So many of the endpoints that were deleted last are looked at, beside those that live and those that the command names.
/// Whoever made the command may have looked a moment before they were deleted.
pub(in crate::store) const ENDED_LOOKED_AT: usize = 256;

impl Change<'_> {
    /// All of it or nothing, judged by the state as it is now: the endpoints that the command names are a hint.
    pub(super) fn erase_event(&mut self, command: &EraseEvent) -> Result<Outcome, StateError> {
        let EraseEvent { org, event, at: now, .. } = *command;
        let Some(at) = self.locate(org, event)? else { return Ok(Outcome::NotFound) };
        if let Some(since) = self.erased_at(org, at)? {
            return Ok(Outcome::Erased { at: since });
        }
        let Some(endpoints) = self.under_way_to((org, event), at, &command.endpoints)? else {
            return Ok(Outcome::Incomplete);
        };
        self.state.unrouted.remove((org, event));
        self.edit_event(org, at, |entry| entry.erased_at = Some(now))?;
        for endpoint in endpoints {
            if self.cancel(org, endpoint, event)? {
                // What it held back may go now.
                self.effects.endpoints_changed.push(endpoint);
            }
            self.drop_dead(&DropDead { org, endpoint, event })?;
        }
        Ok(Outcome::Erased { at: now })
    }

    /// When an event's payload was erased; none: it was not. For everything that would send it again.
    pub(super) fn erased_at(&self, org: OrgNo, (first, place): Place) -> Result<Option<Timestamp>, StateError> {
        let block = self.state.events.get((org, first))?;
        Ok(block.and_then(|block| block.events.get(place)?.erased_at))
    }

    /// The endpoints that a delivery of the event waits for or is dead for. None: some of them were not found where they
    /// are looked for, so the command comes from before too much that has happened since.
    fn under_way_to(
        &mut self,
        (org, event): (OrgNo, EventId),
        at: Place,
        hinted: &[EndpointId],
    ) -> Result<Option<Vec<EndpointId>>, StateError> {
        let (mut left, came) = {
            let block = self.state.events.get((org, at.0))?;
            let entry = block.as_ref().and_then(|block| block.events.get(at.1));
            entry.map_or((0, 0), |entry| (u32::from(entry.waiting) + u32::from(entry.dead), entry.position))
        };
        let living = self.state.orgs.get(org)?.map(|row| row.endpoints.clone()).unwrap_or_default();
        // A delivery is made for an endpoint that is there, so one that ended before the event came has none.
        let ended = (org, came, 0)..=(org, u64::MAX, u32::MAX);
        let ended = if left > 0 { self.state.ended.range_back(ended, ENDED_LOOKED_AT)? } else { Vec::new() };
        let ended = ended.into_iter().map(|(_, row)| row.0);
        let mut found = Vec::new();
        for endpoint in hinted.iter().copied().chain(living).chain(ended) {
            if left == 0 {
                break;
            }
            if !found.contains(&endpoint) && self.is_under_way((endpoint, event), at)? {
                found.push(endpoint);
                left -= 1;
            }
        }
        Ok((left == 0).then_some(found))
    }

    /// Whether the delivery waits or is dead.
    fn is_under_way(&mut self, (endpoint, event): (EndpointId, EventId), at: Place) -> Result<bool, StateError> {
        if self.is_pending(endpoint, at)? {
            return Ok(true);
        }
        let row = self.state.deliveries.get((endpoint, event))?;
        Ok(row.is_some_and(|row| match row.state {
            DeliveryState::Waiting(_) | DeliveryState::Dead(..) => true,
            DeliveryState::Canceled => false,
        }))
    }
}
