//! Command: creates the deliveries of an event.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::delivery::Trigger;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::routing::{RouteReasons, RoutingEnd};
use crate::model::time::{Look, Timestamp};
use crate::store::change::UNROUTED_IS_STORED;
use crate::store::rows::schema::{DeliveryRow, DeliveryState, DueRow, EventAddress, PendingBits};
use crate::store::{Change, StateError, Unapplied};

/// Creates the deliveries of an event, to the endpoints that a worker has found.
///
/// The body of its record takes 44 bytes, 16 bytes for each chosen endpoint, and the reasons: 1 or
/// 2 bytes for most organizations, 1,000 bytes for 1,000 endpoints at worst (see [`RouteReasons`]).
/// So 10,000 events/s in such an organization add 10 MB/s to the journal at worst, less than the
/// ids of the chosen endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteEvent {
    /// The organization of the event.
    pub org: OrgNo,
    /// The event to be delivered.
    pub event: EventId,
    /// The endpoints that receive the event.
    pub endpoints: Vec<EndpointId>,
    /// The earliest time of the first attempts.
    pub due_at: Timestamp,
    /// The reason of each endpoint that existed, also of those that do not receive the event.
    pub reasons: RouteReasons,
}

impl Kind for RouteEvent {
    const NUMBER: u8 = 9;
    const VERSION: u8 = 2;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ();

    plain_body!();

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
        Some(RoutingEnd::Routed(self.reasons))
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<(), Unapplied> {
        let Self { org, event, endpoints, due_at, .. } = self;
        if change.state.unrouted.get((*org, *event))?.is_none() {
            return Ok(()); // routed before
        }
        change.state.unrouted.remove((*org, *event));
        let at = change.locate(*org, *event)?.ok_or(UNROUTED_IS_STORED)?;
        let at_once = *due_at <= change.read_event(*org, at, |entry| entry.received_at)?;
        let mut made = 0u16;
        for endpoint in endpoints {
            // An endpoint deleted since the worker looked receives nothing.
            if change.state.endpoints.get(*endpoint)?.is_none() {
                continue;
            }
            if at_once {
                self.deliver_now(change, *endpoint, at)?;
            } else {
                self.deliver_later(change, *endpoint);
            }
            change.edit_health(*endpoint, |health| health.waiting += 1)?;
            made += 1;
        }
        change.meta()?.waiting += u64::from(made);
        let position = change.position;
        change.edit_event(*org, at, |entry| {
            entry.routed = Some(position);
            entry.waiting += made;
            Ok(())
        })?;
        Ok(())
    }
}

impl RouteEvent {
    /// Creates a delivery whose first attempt is due at once.
    fn deliver_now(
        &self,
        change: &mut Change<'_>,
        endpoint: EndpointId,
        (first, index): EventAddress,
    ) -> Result<(), StateError> {
        let none = || PendingBits { org: self.org, bits: 0 };
        let known = change.state.events.may_be_in_tree((self.org, first));
        let pending = change.state.pending.edit_or_insert_beside(known, (endpoint, first), none)?;
        pending.bits |= 1 << index;
        change.effects.due.push((endpoint, Look::Now, self.event));
        Ok(())
    }

    /// Creates a delivery whose first attempt is due later.
    fn deliver_later(&self, change: &mut Change<'_>, endpoint: EndpointId) {
        let Self { org, event, due_at, .. } = *self;
        let (state, trigger) = (DeliveryState::Waiting(due_at), Trigger::Schedule);
        let row = DeliveryRow { org, state, attempts: 0, base: 0, last_attempt: None, trigger };
        change.state.deliveries.insert_new((endpoint, event), row);
        change.state.due.insert_new((endpoint, due_at, event), DueRow);
        change.effects.due.push((endpoint, Look::At(due_at), event));
    }
}
