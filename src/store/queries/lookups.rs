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
use crate::store::rows::schema::{EndpointRow, Meta};
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
    /// The latest steady time that a command recorded. Due times and ends can lie after it.
    pub steady: Timestamp,
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

/// An endpoint with its place among the endpoints of its organization.
#[derive(Clone, Debug)]
pub struct NumberedEndpoint {
    /// The number in the organization.
    pub number: u32,
    /// The journal position of the command that created the endpoint.
    pub made: Position,
    /// The endpoint with its current settings.
    pub endpoint: Arc<Endpoint>,
}

/// The state of an event's routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// The event waits for a worker.
    Waits,
    /// The command at this journal position routed the event, or ended its routing.
    Ended(Position),
    /// The event was never to be routed: the organization had no endpoint when the event came.
    NoEndpoint,
}

fn counts_in(meta: &Meta) -> Counts {
    Counts {
        events: meta.events,
        open: meta.open,
        waiting: meta.waiting,
        dead: meta.dead,
        last_id: meta.last_id,
        steady: meta.steady.max(Timestamp(EventId(meta.last_id).unix_ms())),
    }
}

impl Store {
    /// Returns the current counters.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn counts(&self) -> Result<Counts, StateError> {
        let meta = self.read().meta.get(())?;
        Ok(meta.map_or_else(Counts::default, |meta| counts_in(&meta)))
    }

    /// Returns the counters and the number of organizations, if the state is of this position.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn counts_at(&self, position: Position) -> Result<Option<(Counts, usize)>, StateError> {
        let state = self.read();
        let meta = state.meta.get(())?.filter(|meta| meta.applied == position);
        Ok(meta.map(|meta| (counts_in(&meta), state.org_names.len())))
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
        self.endpoint_rows(org, |row| Arc::clone(&row.endpoint))
    }

    /// Like [`Store::endpoints_of`], with the number of each endpoint.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn numbered_endpoints(&self, org: OrgNo) -> Result<Vec<NumberedEndpoint>, StateError> {
        self.endpoint_rows(org, |row| NumberedEndpoint {
            number: row.number,
            made: row.made,
            endpoint: Arc::clone(&row.endpoint),
        })
    }

    fn endpoint_rows<T>(
        &self,
        org: OrgNo,
        part: impl Fn(&EndpointRow) -> T,
    ) -> Result<Vec<T>, StateError> {
        let state = self.read();
        let Some(row) = state.orgs.get(org)? else { return Ok(Vec::new()) };
        row.endpoints.iter().map(|id| Ok(part(&*state.endpoints.promised(*id)?))).collect()
    }

    /// Returns the endpoints, among the next `limit` after `after`, with a rotated secret whose
    /// overlap is over at this steady time. Also returns the endpoint after which to continue, if
    /// there may be more.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn overlaps_past_end(
        &self,
        now: Timestamp,
        after: Option<EndpointId>,
        limit: usize,
    ) -> Result<(Vec<EndpointId>, Option<EndpointId>), StateError> {
        let first =
            after.map_or(EndpointId(0), |EndpointId(after)| EndpointId(after.saturating_add(1)));
        let looked_at = self.read().endpoints.range(first..=EndpointId(u128::MAX), limit)?;
        let due = looked_at.iter().filter(|(_, row)| row.endpoint.has_ended_overlap(now));
        let due = due.map(|(id, _)| *id).collect();
        Ok((due, looked_at.last().filter(|_| looked_at.len() == limit).map(|(id, _)| *id)))
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
        Ok(block.find(event).map(|(index, entry)| EventSummary {
            in_inbox: open & 1 << index != 0,
            status: entry.status,
            position: entry.position,
            received_at: entry.received_at,
            acknowledged_at: entry.acknowledged_at,
            erased_at: entry.erased_at,
        }))
    }

    /// Returns the state of the event's routing. `None` if the organization has no such event.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn routing(&self, org: OrgNo, event: EventId) -> Result<Option<Routing>, StateError> {
        let state = self.read();
        let Some((_, block)) = block_of(&state, org, event)? else { return Ok(None) };
        let Some((_, entry)) = block.find(event) else { return Ok(None) };
        Ok(Some(match entry.routed {
            Some(position) => Routing::Ended(position),
            None if state.unrouted.get((org, event))?.is_some() => Routing::Waits,
            None => Routing::NoEndpoint,
        }))
    }

    /// Returns the data for routing the event. `None` if the event is routed, or does not exist.
    ///
    /// # Errors
    /// Rows cannot be read, or contradict each other.
    pub fn unrouted(&self, org: OrgNo, event: EventId) -> Result<Option<Unrouted>, StateError> {
        let state = self.read();
        let Some(row) = state.unrouted.get((org, event))? else { return Ok(None) };
        let block = block_of(&state, org, event)?;
        let found = block.as_ref().and_then(|(_, block)| {
            let (_, entry) = block.find(event)?;
            Some((entry, block.event_type(entry)?))
        });
        let (entry, event_type) =
            found.ok_or(StateError::Invariant("an unrouted event is stored, with its type"))?;
        Ok(Some(Unrouted {
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
    use crate::commands::tests::{
        AT_ONCE, Fixture, ORG, create_org, erase, put_endpoint, route, submit,
    };
    use crate::commands::{Command, NoteRouteCrash};
    use crate::model::endpoint::DisabledReason;
    use crate::model::operational_event::OperationalEventKind;
    use crate::model::org::InboxMode;

    #[test]
    fn a_routing_ends_once_with_the_command_that_a_reader_finds_at_its_position() {
        let mut state = Fixture::new();
        state.apply(&create_org(InboxMode::Auto, 1_000_000));
        state.apply(&submit(1, 1, None));
        state.apply(&put_endpoint(50));
        for event in 2..=4 {
            state.apply(&submit(event, 1, None));
        }
        let routing = |state: &Fixture, event| state.store.routing(ORG, EventId(event)).unwrap();
        let all = |state: &Fixture| [1, 2, 3, 4, 9].map(|event| routing(state, event));
        let (none, waits) = (Some(Routing::NoEndpoint), Some(Routing::Waits));
        assert_eq!(all(&state), [none, waits, waits, waits, None]);
        let crash = Command::NoteRouteCrash(NoteRouteCrash { org: ORG, event: EventId(3) });
        // Only the first command of each line ends the routing of its event.
        let routed = state.position;
        state.apply(&route(2, &[50], AT_ONCE));
        state.apply(&route(2, &[], AT_ONCE));
        state.apply(&erase(2, &[]));
        state.apply(&crash);
        state.apply(&crash);
        assert_eq!(routing(&state, 3), waits);
        let failed = state.position;
        state.apply(&crash);
        state.apply(&route(3, &[50], AT_ONCE));
        let erased = state.position;
        state.apply(&erase(4, &[]));
        state.apply(&route(4, &[50], AT_ONCE));
        state.apply(&erase(1, &[]));
        state.apply(&put_endpoint(50));
        let ended = |position| Some(Routing::Ended(position));
        let expected = [none, ended(routed), ended(failed), ended(erased), None];
        assert_eq!(all(&state), expected);
        state.reopen();
        assert_eq!(all(&state), expected);
        assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
        let numbered = state.store.numbered_endpoints(ORG).unwrap();
        let made: Vec<_> = numbered.iter().map(|known| (known.number, known.made)).collect();
        assert_eq!(made, [(1, Position(201))], "changed later, it stays made then");
    }

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
