//! Queries about endpoints, unrouted events, and counters.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::journal::Position;
use crate::model::endpoint::Endpoint;
use crate::model::event::{EventStatus, EventType};
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::filter;
use crate::store::change::block_of;
pub use crate::store::rows::schema::HealthRow as EndpointHealth;
use crate::store::{StateError, Store};

/// Counters for health and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The number of stored events.
    pub events: u64,
    /// The number of events in inboxes.
    pub open: u64,
    /// The number of deliveries that wait for an attempt.
    pub waiting: u64,
    /// The number of dead letters.
    pub dead: u64,
    /// The largest id that was generated.
    pub last_id: u128,
}

/// The endpoints and the inbox of an organization.
#[derive(Clone, Debug)]
pub struct OrgSummary {
    /// The endpoints, in the order of creation.
    pub endpoints: Vec<EndpointId>,
    /// The number of events in the inbox.
    pub open: u64,
}

/// An event that waits for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrouted {
    /// The organization of the event.
    pub org: OrgNo,
    /// The id of the event.
    pub event: EventId,
    /// The type of the event.
    pub event_type: EventType,
    /// The time at which the event was accepted.
    pub received_at: Timestamp,
    /// The time before which the event is not pushed.
    pub deliver_after: Option<Timestamp>,
}

/// The status and the times of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSummary {
    /// The status of the event.
    pub status: EventStatus,
    /// The journal position of the event.
    pub position: Position,
    /// The time at which the event was accepted.
    pub received_at: Timestamp,
    /// The time at which the event was acknowledged.
    pub acknowledged_at: Option<Timestamp>,
    /// The time at which the payload was erased.
    pub erased_at: Option<Timestamp>,
    /// Set if the event is in the inbox. An event that has left never comes back.
    pub in_inbox: bool,
}

impl Store {
    /// Returns the current counters.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn counts(&self) -> Result<Counts, StateError> {
        let meta = self.read().meta.get(())?;
        Ok(meta.map_or_else(Counts::default, |meta| Counts {
            events: meta.events,
            open: meta.open,
            waiting: meta.waiting,
            dead: meta.dead,
            last_id: meta.last_id,
        }))
    }

    /// Returns an organization's endpoints and the number of events in its inbox.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn org_summary(&self, org: OrgNo) -> Result<Option<OrgSummary>, StateError> {
        let state = self.read();
        let Some(row) = state.orgs.get(org)? else { return Ok(None) };
        let open = state.inboxes.get(org)?.map_or(0, |inbox| inbox.open);
        Ok(Some(OrgSummary { endpoints: row.endpoints.clone(), open }))
    }

    /// Returns the organization's endpoints with their current settings, in the order of creation.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn endpoints_of(&self, org: OrgNo) -> Result<Vec<Arc<Endpoint>>, StateError> {
        let state = self.read();
        let Some(row) = state.orgs.get(org)? else { return Ok(Vec::new()) };
        let rows = row.endpoints.iter().filter_map(|id| state.endpoints.get(*id).transpose());
        rows.map(|row| Ok(Arc::clone(&row?.endpoint))).collect()
    }

    /// Returns every endpoint of every organization.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn all_endpoints(&self) -> Result<Vec<Arc<Endpoint>>, StateError> {
        Ok(self.read().endpoints.resident().map(|(_, row)| Arc::clone(&row.endpoint)).collect())
    }

    /// Returns at most `limit` organizations with an enabled endpoint for this type, the oldest
    /// first.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn orgs_asking_for(
        &self,
        event_type: &EventType,
        limit: usize,
    ) -> Result<Vec<OrgNo>, StateError> {
        let state = self.read();
        let asking = state.endpoints.resident().filter(|(_, row)| {
            row.endpoint.is_enabled()
                && filter::wants(&row.endpoint.settings.event_types, event_type)
        });
        let orgs: BTreeSet<OrgNo> = asking.map(|(_, row)| row.org).collect();
        Ok(orgs.into_iter().take(limit).collect())
    }

    /// Returns the endpoint behind `/api/webhook/config`, if the organization has set an endpoint
    /// there.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn default_endpoint(&self, org: OrgNo) -> Result<Option<Arc<Endpoint>>, StateError> {
        Ok(self.endpoints_of(org)?.into_iter().find(|endpoint| endpoint.is_default))
    }

    /// Returns the status of an event. `None` if the organization has no such event.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn event(&self, org: OrgNo, event: EventId) -> Result<Option<EventSummary>, StateError> {
        let state = self.read();
        let Some((first, block)) = block_of(&state, org, event)? else { return Ok(None) };
        let open = state.open.get((org, first))?.map_or(0, |open| open.0);
        Ok(block.find(event).map(|(place, entry)| EventSummary {
            in_inbox: open & 1 << place != 0,
            status: entry.status,
            position: entry.position,
            received_at: entry.received_at,
            acknowledged_at: entry.acknowledged_at,
            erased_at: entry.erased_at,
        }))
    }

    /// Returns the data for routing the event. `None` if the event is routed, or does not exist.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn unrouted(&self, org: OrgNo, event: EventId) -> Result<Option<Unrouted>, StateError> {
        let state = self.read();
        let Some(row) = state.unrouted.get((org, event))? else { return Ok(None) };
        let Some((_, block)) = block_of(&state, org, event)? else { return Ok(None) };
        let found =
            block.find(event).and_then(|(_, entry)| Some((entry, block.event_type(entry)?)));
        Ok(found.map(|(entry, event_type)| Unrouted {
            org,
            event,
            event_type: event_type.clone(),
            received_at: entry.received_at,
            deliver_after: row.deliver_after,
        }))
    }

    /// Returns at most `limit` unrouted events after `after`.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn unrouted_after(
        &self,
        after: (OrgNo, EventId),
        limit: usize,
    ) -> Result<Vec<(OrgNo, EventId)>, StateError> {
        let from = (after.0, EventId(after.1.0.saturating_add(1)));
        let rows =
            self.read().unrouted.range(from..=(OrgNo(u32::MAX), EventId(u128::MAX)), limit)?;
        Ok(rows.into_iter().map(|(key, _)| key).collect())
    }

    /// Returns an endpoint of the organization and its health.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn endpoint_of(
        &self,
        org: OrgNo,
        id: EndpointId,
    ) -> Result<Option<(Arc<Endpoint>, EndpointHealth)>, StateError> {
        let state = self.read();
        let Some(row) = state.endpoints.get(id)?.filter(|row| row.org == org) else {
            return Ok(None);
        };
        let health = state.health.get(id)?.map_or_else(EndpointHealth::default, |health| *health);
        Ok(Some((Arc::clone(&row.endpoint), health)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::Command;
    use crate::commands::tests::{Fixture, create_org, put_endpoint};
    use crate::model::endpoint::DisabledReason;
    use crate::model::operational_event::OperationalEventKind;
    use crate::model::org::InboxMode;

    #[test]
    fn organizations_ask_for_a_type_by_a_pattern_of_an_enabled_endpoint() {
        let mut state = Fixture::new();
        let endpoints: [(u32, &[&str], bool); 5] = [
            (0, &["triggerd.*"], true),
            (1, &[], true),
            (2, &["triggerd.disk.low", "a"], true),
            (2, &["triggerd.disk.*"], true),
            (3, &["triggerd.*"], false),
        ];
        for org in 0..4 {
            state.apply(&create_org(InboxMode::Auto, 1_000 + org * 10));
        }
        for (id, (org, patterns, enabled)) in (50..).zip(endpoints) {
            let Command::PutEndpoint(mut put) = put_endpoint(id) else { unreachable!() };
            put.org = OrgNo(org);
            put.endpoint.settings.event_types =
                patterns.iter().map(|text| text.parse().unwrap()).collect();
            put.endpoint.disabled = (!enabled).then_some(DisabledReason::ByOwner);
            state.apply(&Command::PutEndpoint(put));
        }
        let asking = |limit| {
            state.store.orgs_asking_for(&OperationalEventKind::DiskLow.event_type(), limit).unwrap()
        };
        assert_eq!(asking(10), [OrgNo(0), OrgNo(2)]);
        assert_eq!(asking(1), [OrgNo(0)]);
    }
}
