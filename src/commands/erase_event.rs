//! Command: erases the payload of an event.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::journal::Position;
use crate::model::audit::Changing;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::key::Scope;
use crate::model::routing::RoutingEnd;
use crate::model::time::Timestamp;
use crate::store::rows::schema::{DeliveryState, EventAddress};
use crate::store::{Change, StateError, Unapplied};

/// Erases an event's payload, which is then neither shown nor sent. Compaction cuts it out of the
/// journal later. The command applies as a whole or not at all, judged by the state when it is
/// applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EraseEvent {
    /// The organization of the event.
    pub org: OrgNo,
    /// The event to be erased.
    pub event: EventId,
    /// Endpoints with a waiting or dead delivery of the event, deleted endpoints included. This is
    /// a hint: the living and the last deleted endpoints are examined anyway.
    pub endpoints: Vec<EndpointId>,
    /// The time of the erasure.
    pub at: Timestamp,
}

/// Number of recently deleted endpoints that are examined besides the living and the named ones.
/// They may have been deleted just after the request looked.
pub(super) const ENDED_LOOKED_AT: usize = 256;

/// The outcome of [`EraseEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EraseOutcome {
    /// The event's payload is erased.
    Erased {
        /// The time of the first erasure.
        at: Timestamp,
    },
    /// The organization has no such event.
    NotFound,
    /// Nothing was changed, because the command did not name all endpoints. A new attempt finds
    /// them.
    Incomplete,
}

impl Kind for EraseEvent {
    const NUMBER: u8 = 21;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Key(Scope::EventsWrite);

    const IS_AUDITED: bool = true;

    type Outcome = EraseOutcome;

    plain_body!();

    fn audited(&self) -> Vec<Changing> {
        vec![Changing::Event(self.event)]
    }

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn event(&self) -> Option<EventId> {
        Some(self.event)
    }

    fn weight(&self) -> usize {
        self.endpoints.len()
    }

    fn into_routing_end(self) -> Option<RoutingEnd> {
        Some(RoutingEnd::Erased)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<EraseOutcome, Unapplied> {
        let Self { org, event, at: now, .. } = *self;
        let Some(at) = change.locate(org, event)? else { return Ok(EraseOutcome::NotFound) };
        if let Some(since) = change.erased_at(org, at)? {
            return Ok(EraseOutcome::Erased { at: since });
        }
        let Some(endpoints) = self.under_way_to(change, at)? else {
            return Ok(EraseOutcome::Incomplete);
        };
        // An event that waits for routing is routed nowhere: this command ends its routing.
        let position = change.read_event(org, at, |entry| entry.position)?;
        change.effects.unneeded.push(position);
        let ends_routing = change.state.unrouted.get((org, event))?.map(|_| change.position);
        change.state.unrouted.remove((org, event));
        change.edit_event(org, at, |entry| {
            (entry.erased_at, entry.routed) = (Some(now), entry.routed.or(ends_routing));
            Ok(())
        })?;
        for endpoint in endpoints {
            if change.cancel(org, endpoint, event)? {
                // The canceled delivery may have held back others.
                change.effects.endpoints_changed.push(endpoint);
            }
            change.drop_dead(org, endpoint, event)?;
        }
        Ok(EraseOutcome::Erased { at: now })
    }
}

impl EraseEvent {
    /// Returns the endpoints with a waiting or dead delivery of the event. Returns `None` if some
    /// of them were not found: too many endpoints were deleted since the command was made.
    fn under_way_to(
        &self,
        change: &mut Change<'_>,
        at: EventAddress,
    ) -> Result<Option<Vec<EndpointId>>, StateError> {
        let Self { org, event, .. } = *self;
        let (mut left, came) = change.read_event(org, at, |entry| {
            (u32::from(entry.waiting) + u32::from(entry.dead), entry.position)
        })?;
        let living = change.state.orgs.promised(org)?.endpoints.clone();
        // An endpoint that was deleted before the event came has no delivery of it.
        let ended = (org, came, 0)..=(org, Position::MAX, u32::MAX);
        let ended = if left > 0 {
            change.state.ended.range_back(ended, ENDED_LOOKED_AT)?
        } else {
            Vec::new()
        };
        let ended = ended.into_iter().map(|(_, row)| row.0);
        let mut found = Vec::new();
        for endpoint in self.endpoints.iter().copied().chain(living).chain(ended) {
            if left == 0 {
                break;
            }
            if !found.contains(&endpoint) && is_under_way(change, (endpoint, event), at)? {
                found.push(endpoint);
                left -= 1;
            }
        }
        Ok((left == 0).then_some(found))
    }
}

/// Returns true if the delivery waits or is dead.
fn is_under_way(
    change: &mut Change<'_>,
    (endpoint, event): (EndpointId, EventId),
    at: EventAddress,
) -> Result<bool, StateError> {
    if change.state.is_pending(endpoint, at)? {
        return Ok(true);
    }
    let row = change.state.deliveries.get((endpoint, event))?;
    Ok(row.is_some_and(|row| match row.state {
        DeliveryState::Waiting(_) | DeliveryState::Dead(..) => true,
        DeliveryState::Canceled => false,
    }))
}
