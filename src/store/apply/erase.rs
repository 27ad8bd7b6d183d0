//! Events whose payload is to be shown to nobody any more, and sent nowhere.

use super::{Change, Outcome, Place};
use crate::model::command::{DropDead, EraseEvent};
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::StateError;

impl Change<'_> {
    pub(super) fn erase_event(&mut self, command: &EraseEvent) -> Result<Outcome, StateError> {
        let EraseEvent { org, event, at: now, .. } = *command;
        let Some(at) = self.locate(org, event)? else { return Ok(Outcome::NotFound) };
        if let Some(since) = self.erased_at(org, at)? {
            return Ok(Outcome::Erased { at: since });
        }
        self.state.unrouted.remove((org, event));
        self.edit_event(org, at, |entry| entry.erased_at = Some(now))?;
        self.call_off(command.endpoints.iter().copied(), (org, event), at)?;
        // One that ended since they were looked up got nothing new; one that lives may have.
        let living = self.state.orgs.get(org)?.map(|row| row.endpoints.clone()).unwrap_or_default();
        self.call_off(living, (org, event), at)?;
        Ok(Outcome::Erased { at: now })
    }

    /// When an event's payload was erased; none: it was not. For everything that would send it again.
    pub(super) fn erased_at(&self, org: OrgNo, (first, place): Place) -> Result<Option<Timestamp>, StateError> {
        let block = self.state.events.get((org, first))?;
        Ok(block.and_then(|block| block.events.get(place)?.erased_at))
    }

    /// What waits for the endpoints, or was given up, is canceled, as long as there is something.
    fn call_off(
        &mut self,
        endpoints: impl IntoIterator<Item = EndpointId>,
        (org, event): (OrgNo, EventId),
        at: Place,
    ) -> Result<(), StateError> {
        for endpoint in endpoints {
            if !self.is_under_way(org, at)? {
                break;
            }
            if self.cancel(org, endpoint, event)? {
                // What it held back may go now.
                self.effects.endpoints_changed.push(endpoint);
            }
            self.drop_dead(&DropDead { org, endpoint, event })?;
        }
        Ok(())
    }

    /// Whether a delivery of the event waits or is dead.
    fn is_under_way(&self, org: OrgNo, (first, place): Place) -> Result<bool, StateError> {
        let block = self.state.events.get((org, first))?;
        let entry = block.as_ref().and_then(|block| block.events.get(place));
        Ok(entry.is_some_and(|entry| entry.waiting > 0 || entry.dead > 0))
    }
}
