//! Questions about endpoints, events that wait for routing, and counters.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::change::block_of;
pub use super::schema::HealthRow as EndpointHealth;
use super::{StateError, Store};
use crate::model::endpoint::Endpoint;
use crate::model::event::{EventStatus, EventType};
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::filter;

/// Figures for health and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events stored.
    pub events: u64,
    /// Events in inboxes.
    pub open: u64,
    /// Deliveries that wait for an attempt.
    pub waiting: u64,
    /// Deliveries given up.
    pub dead: u64,
    /// The largest id handed out.
    pub last_id: u128,
}

/// An organization with its number and endpoints.
#[derive(Clone, Debug)]
pub struct OrgSummary {
    /// Its endpoints, in the order they were made.
    pub endpoints: Vec<EndpointId>,
    /// Events in its inbox.
    pub open: u64,
}

/// An event that waits for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrouted {
    /// Whose.
    pub org: OrgNo,
    /// Which.
    pub event: EventId,
    /// Its type.
    pub event_type: EventType,
    /// When it was taken in.
    pub received_at: Timestamp,
    /// Not pushed before this.
    pub deliver_after: Option<Timestamp>,
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSummary {
    /// Its state.
    pub status: EventStatus,
    /// Journal position of the frame that holds it.
    pub position: u64,
    /// When it was taken in.
    pub received_at: Timestamp,
    /// When it was confirmed.
    pub acknowledged_at: Option<Timestamp>,
    /// When its payload was erased.
    pub erased_at: Option<Timestamp>,
    /// Whether it is in the inbox; what has left it does not come back.
    pub in_inbox: bool,
}

impl Store {
    /// Figures as they are now.
    ///
    /// # Errors
    /// When rows cannot be read.
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

    /// An organization's endpoints and inbox depth.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn org_summary(&self, org: OrgNo) -> Result<Option<OrgSummary>, StateError> {
        let state = self.read();
        let Some(row) = state.orgs.get(org)? else { return Ok(None) };
        let open = state.inboxes.get(org)?.map_or(0, |inbox| inbox.open);
        Ok(Some(OrgSummary { endpoints: row.endpoints.clone(), open }))
    }

    /// The organization's endpoints as they are now, in the order they were made.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn endpoints_of(&self, org: OrgNo) -> Result<Vec<Arc<Endpoint>>, StateError> {
        let state = self.read();
        let Some(row) = state.orgs.get(org)? else { return Ok(Vec::new()) };
        let rows = row.endpoints.iter().filter_map(|id| state.endpoints.get(*id).transpose());
        rows.map(|row| Ok(Arc::clone(&row?.endpoint))).collect()
    }

    /// Every endpoint there is.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn all_endpoints(&self) -> Result<Vec<Arc<Endpoint>>, StateError> {
        Ok(self.read().endpoints.resident().map(|(_, row)| Arc::clone(&row.endpoint)).collect())
    }

    /// Organizations that have an enabled endpoint which wants this type, the oldest first, `limit` at most.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn orgs_asking_for(&self, event_type: &EventType, limit: usize) -> Result<Vec<OrgNo>, StateError> {
        let state = self.read();
        let asking = state.endpoints.resident().filter(|(_, row)| {
            row.endpoint.is_enabled() && filter::wants(&row.endpoint.settings.event_types, event_type)
        });
        let orgs: BTreeSet<OrgNo> = asking.map(|(_, row)| row.org).collect();
        Ok(orgs.into_iter().take(limit).collect())
    }

    /// The endpoint behind `/api/webhook/config`, if the organization has set one.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn default_endpoint(&self, org: OrgNo) -> Result<Option<Arc<Endpoint>>, StateError> {
        Ok(self.endpoints_of(org)?.into_iter().find(|endpoint| endpoint.is_default))
    }

    /// Where an event stands; none if the organization has no such event.
    ///
    /// # Errors
    /// When rows cannot be read.
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

    /// What a worker needs to route the event; none if it is routed, or there is no such event.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn unrouted(&self, org: OrgNo, event: EventId) -> Result<Option<Unrouted>, StateError> {
        let state = self.read();
        let Some(row) = state.unrouted.get((org, event))? else { return Ok(None) };
        let Some((_, block)) = block_of(&state, org, event)? else { return Ok(None) };
        let found = block.find(event).and_then(|(_, entry)| Some((entry, block.event_type(entry)?)));
        Ok(found.map(|(entry, event_type)| Unrouted {
            org,
            event,
            event_type: event_type.clone(),
            received_at: entry.received_at,
            deliver_after: row.deliver_after,
        }))
    }

    /// Events that wait for a worker, from behind `after` on, `limit` at most.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn unrouted_after(&self, after: (OrgNo, EventId), limit: usize) -> Result<Vec<(OrgNo, EventId)>, StateError> {
        let from = (after.0, EventId(after.1.0.saturating_add(1)));
        let rows = self.read().unrouted.range(from..=(OrgNo(u32::MAX), EventId(u128::MAX)), limit)?;
        Ok(rows.into_iter().map(|(key, _)| key).collect())
    }

    /// One endpoint of the organization, and how its deliveries go.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn endpoint_of(
        &self,
        org: OrgNo,
        id: EndpointId,
    ) -> Result<Option<(Arc<Endpoint>, EndpointHealth)>, StateError> {
        let state = self.read();
        let Some(row) = state.endpoints.get(id)?.filter(|row| row.org == org) else { return Ok(None) };
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
    use crate::model::notice::NoticeKind;
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
            put.endpoint.settings.event_types = patterns.iter().map(|text| text.parse().unwrap()).collect();
            put.endpoint.disabled = (!enabled).then_some(DisabledReason::ByOwner);
            state.apply(&Command::PutEndpoint(put));
        }
        let asking = |limit| state.store.orgs_asking_for(&NoticeKind::DiskLow.event_type(), limit).unwrap();
        assert_eq!(asking(10), [OrgNo(0), OrgNo(2)]);
        assert_eq!(asking(1), [OrgNo(0)]);
    }
}
