//! The contradictions between the tables of one state. The checks know the rules between tables,
//! not how `apply` keeps them.

mod blocks;
mod log;

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::replay::{REPLAYS_REMEMBERED, REPLAYS_RUNNING_MAX};
use crate::store::change::block_of;
use crate::store::queries::replay_turns::CURSORS_MAX;
use crate::store::rows::schema::{
    BLOCK_EVENTS, DeliveryState, InboxRow, OrgRow, ReplayRow, TombstoneRow,
};
use crate::store::rows::state::State;
use crate::store::{StateError, Store};

impl Store {
    /// Returns the first `most` contradictions between rows. Reads everything.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn contradictions(&self, most: usize) -> Result<Vec<String>, StateError> {
        let state = self.read();
        let mut audit = Audit { state: &state, most, found: Vec::new() };
        audit.accounts()?;
        let events = audit.events()?;
        let deliveries = audit.deliveries()?;
        audit.replays()?;
        audit.audit_log()?;
        audit.totals(&events, &deliveries)?;
        Ok(audit.found)
    }
}

/// The search for contradictions.
struct Audit<'a> {
    state: &'a State,
    most: usize,
    found: Vec<String>,
}

#[derive(Default)]
struct EventSums {
    events: u64,
    open: u64,
    waiting: u64,
    accepted: u64,
    dead: u64,
}

#[derive(Default)]
struct DeliverySums {
    waiting: u64,
    /// The waiting deliveries without a row of their own.
    pending: u64,
    accepted: u64,
    dead: u64,
    due: u64,
    dead_letters: u64,
    /// For each endpoint, its waiting and its dead deliveries.
    of: BTreeMap<EndpointId, (u64, u64)>,
}

impl Audit<'_> {
    fn require(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds && self.found.len() < self.most {
            self.found.push(otherwise());
        }
    }

    fn accounts(&mut self) -> Result<(), StateError> {
        let next_org = self.state.meta.get(())?.map_or(0, |meta| meta.next_org);
        for row in self.state.orgs.all() {
            let (org, row) = row?;
            self.known(row.org.id, row.org.id.0)?;
            self.require(org.0 < next_org, || {
                format!(
                    "{} has the number {}, which is not below the next number, {next_org}",
                    row.org.id, org.0
                )
            });
            self.keys_of(org, &row)?;
            self.endpoints_of(org, &row)?;
        }
        self.deleted_endpoints()?;
        self.owners()
    }

    /// Requires the keys that the organization lists to be its own.
    fn keys_of(&mut self, org: OrgNo, row: &OrgRow) -> Result<(), StateError> {
        let state = self.state;
        let of = || org_text(state, org);
        for key in &row.keys {
            let own = state.keys.get(*key)?.is_some_and(|row| row.org == org);
            self.require(own, || {
                format!("{key} of {} does not exist or is of another organization", of())
            });
        }
        Ok(())
    }

    /// Requires the endpoints that the organization lists to be its own, with the right numbers.
    fn endpoints_of(&mut self, org: OrgNo, row: &OrgRow) -> Result<(), StateError> {
        let state = self.state;
        let of = || org_text(state, org);
        for endpoint in &row.endpoints {
            let own = state.endpoints.get(*endpoint)?.filter(|row| row.org == org);
            self.require(own.is_some(), || {
                format!("{endpoint} of {} does not exist or is of another organization", of())
            });
            let number = own.map_or(0, |row| row.number);
            let named = number != 0
                && state.numbers.get((org, number))?.is_some_and(|row| row.0 == *endpoint);
            let given = named && number < row.next_endpoint;
            self.require(given, || {
                format!("{endpoint} of {} is listed with a wrong number, {number}", of())
            });
        }
        Ok(())
    }

    /// Requires the two tables of deleted endpoints to agree.
    fn deleted_endpoints(&mut self) -> Result<(), StateError> {
        let state = self.state;
        for row in state.ended.all() {
            let ((org, position, number), row) = row?;
            let of = || org_text(state, org);
            let tombstone = state.tombstones.get(row.0)?;
            let is_tombstone = tombstone
                .is_some_and(|it| (it.org, it.ended, it.number) == (org, position, number));
            self.require(is_tombstone, || {
                format!("{} of {} is not listed as deleted at {position}", row.0, of())
            });
        }
        for row in state.tombstones.all() {
            let (endpoint, TombstoneRow { org, number, ended }) =
                row.map(|(endpoint, row)| (endpoint, *row))?;
            let of = || org_text(state, org);
            let listed =
                state.ended.get((org, ended, number))?.is_some_and(|row| row.0 == endpoint);
            self.require(listed, || {
                format!("{endpoint} of {} was deleted at {ended} and is not listed there", of())
            });
        }
        Ok(())
    }

    /// Requires each key and each endpoint to be listed by its organization.
    fn owners(&mut self) -> Result<(), StateError> {
        let state = self.state;
        for row in state.keys.all() {
            let (key, row) = row?;
            self.known(key, key.0)?;
            let listed = state.orgs.get(row.org)?.is_some_and(|org| org.keys.contains(&key));
            self.require(listed, || format!("{key} is not listed by {}", org_text(state, row.org)));
        }
        for row in state.endpoints.all() {
            let (endpoint, row) = row?;
            self.known(endpoint, endpoint.0)?;
            let listed =
                state.orgs.get(row.org)?.is_some_and(|org| org.endpoints.contains(&endpoint));
            self.require(listed, || {
                format!("{endpoint} is not listed by {}", org_text(state, row.org))
            });
        }
        Ok(())
    }

    /// Requires an id to be at most the last id, because the next start generates larger ids.
    fn known(&mut self, id: impl Display, number: u128) -> Result<(), StateError> {
        let last = self.state.meta.get(())?.map_or(0, |meta| meta.last_id);
        self.require(number <= last, || format!("{id} is above the last id that was given"));
        Ok(())
    }

    fn events(&mut self) -> Result<EventSums, StateError> {
        let state = self.state;
        let mut sums = EventSums::default();
        let mut inbox_of: BTreeMap<OrgNo, InboxRow> = BTreeMap::new();
        for row in state.events.all() {
            let ((org, first), block) = row?;
            let open = state.open.get((org, first))?.map_or(0, |bits| bits.0);
            self.block((org, first), &block, open)?;
            if let Some(last) = block.events.last() {
                self.known(last.id, last.id.0)?;
            }
            sums.events += block.existing().count() as u64;
            sums.open += u64::from(open.count_ones());
            let inbox = inbox_of.entry(org).or_default();
            inbox.open += u64::from(open.count_ones());
            inbox.count(&block);
            for entry in &block.events {
                sums.waiting += u64::from(entry.waiting);
                sums.accepted += u64::from(entry.accepted);
                sums.dead += u64::from(entry.dead);
            }
        }
        self.inboxes(&inbox_of)?;
        self.unrouted()?;
        Ok(sums)
    }

    /// Requires the open events to be stored, and each inbox to count its own.
    fn inboxes(&mut self, inbox_of: &BTreeMap<OrgNo, InboxRow>) -> Result<(), StateError> {
        let state = self.state;
        for row in state.open.all() {
            let ((org, first), bits) = row?;
            let of = || org_text(state, org);
            let blocked = bits.0 != 0 && state.events.get((org, first))?.is_some();
            self.require(blocked, || {
                format!("the open events of {} from {first} on have no bits or no block", of())
            });
        }
        for row in state.inboxes.all() {
            let (org, row) = row?;
            let of = || org_text(state, org);
            let InboxRow { open, events, bytes, .. } =
                inbox_of.get(&org).copied().unwrap_or_default();
            self.require(row.open == open, || {
                format!("{} counts {} open events, there are {open}", of(), row.open)
            });
            self.require((row.events, row.bytes) == (events, bytes), || {
                format!(
                    "{} counts {} events of {} bytes, there are {events} of {bytes} bytes",
                    of(),
                    row.events,
                    row.bytes
                )
            });
            let last = state.events.last((org, EventId(0))..=(org, EventId(u128::MAX)))?;
            let is_last = row.tail.is_none_or(|tail| last.is_some_and(|((_, it), _)| it == tail));
            self.require(is_last, || {
                format!("{} would add events to a block that is not the last", of())
            });
        }
        Ok(())
    }

    fn unrouted(&mut self) -> Result<(), StateError> {
        let state = self.state;
        for row in state.unrouted.all() {
            let ((org, event), _) = row?;
            let of = || org_text(state, org);
            self.require(self.entry(org, event)?.is_some(), || {
                format!("unrouted {event} of {} does not exist", of())
            });
        }
        Ok(())
    }

    /// Returns the number of the event's waiting deliveries, if the event exists.
    fn entry(&self, org: OrgNo, event: EventId) -> Result<Option<u16>, StateError> {
        let block = block_of(self.state, org, event)?;
        Ok(block.as_ref().and_then(|(_, block)| block.find(event)).map(|(_, entry)| entry.waiting))
    }

    fn deliveries(&mut self) -> Result<DeliverySums, StateError> {
        let state = self.state;
        let mut sums = DeliverySums::default();
        self.delivery_rows(&mut sums)?;
        self.first_attempts(&mut sums)?;
        for row in state.delivered.all() {
            let ((endpoint, first), block) = row?;
            sums.accepted += block.entries.len() as u64;
            let sorted = block.entries.is_sorted_by(|a, b| a.index < b.index);
            self.require(sorted, || {
                format!("deliveries to {endpoint} in the block {first} are not in order")
            });
        }
        for row in state.health.all() {
            let (endpoint, health) = row?;
            let there = sums.of.get(&endpoint).copied().unwrap_or_default();
            let counted = (health.waiting, health.dead);
            self.require(counted == there, || {
                format!(
                    "{endpoint} counts {} waiting and {} dead deliveries, there are {} and {}",
                    counted.0, counted.1, there.0, there.1
                )
            });
        }
        sums.due = count(state.due.all())?;
        sums.dead_letters = count(state.dead.all())?;
        Ok(sums)
    }

    /// Checks and counts the deliveries with a row of their own.
    fn delivery_rows(&mut self, sums: &mut DeliverySums) -> Result<(), StateError> {
        let state = self.state;
        for row in state.deliveries.all() {
            let ((endpoint, event), row) = row?;
            let known = self.entry(row.org, event)?;
            self.require(known.is_some(), || {
                format!("a delivery of {event}, which does not exist")
            });
            match row.state {
                DeliveryState::Waiting(at) => {
                    sums.waiting += 1;
                    sums.of.entry(endpoint).or_default().0 += 1;
                    self.waiting(
                        endpoint,
                        event,
                        state.due.get((endpoint, at, event))?.is_some(),
                        known,
                    );
                }
                DeliveryState::Dead(_, at) => {
                    sums.dead += 1;
                    sums.of.entry(endpoint).or_default().1 += 1;
                    let listed = state.dead.get((row.org, at, event, endpoint))?.is_some();
                    self.require(listed, || {
                        format!("{event} is dead for {endpoint} and has no dead letter")
                    });
                }
                DeliveryState::Canceled => {}
            }
        }
        Ok(())
    }

    /// Checks and counts the first attempts that are due at once.
    fn first_attempts(&mut self, sums: &mut DeliverySums) -> Result<(), StateError> {
        let state = self.state;
        for row in state.pending.all() {
            let ((endpoint, first), row) = row?;
            let block = state.events.get((row.org, first))?.map_or(0, |block| block.events.len());
            let within = row.bits != 0 && (block >= BLOCK_EVENTS || row.bits >> block == 0);
            self.require(within, || {
                format!(
                    "the waiting deliveries to {endpoint} exceed the block {first}, or are none"
                )
            });
            sums.waiting += u64::from(row.bits.count_ones());
            sums.pending += u64::from(row.bits.count_ones());
            sums.of.entry(endpoint).or_default().0 += u64::from(row.bits.count_ones());
        }
        Ok(())
    }

    fn replays(&mut self) -> Result<(), StateError> {
        let state = self.state;
        let mut of: BTreeMap<OrgNo, (usize, usize)> = BTreeMap::new();
        for row in state.replays.all() {
            let (key, row) = row?;
            let runs = state.running.get(key)?.is_some();
            let is_over = row.ended.is_some();
            self.require(runs != is_over, || format!("{} is over: {is_over}, runs: {runs}", key.1));
            self.known(key.1, key.1.0)?;
            let has_org = state.orgs.get(key.0)?.is_some();
            self.require(has_org, || format!("{} is a replay of no organization", key.1));
            self.require(is_shaped(&row), || format!("{} has impossible positions", key.1));
            let (known, running) = of.entry(key.0).or_default();
            (*known, *running) = (*known + 1, *running + usize::from(runs));
        }
        for (org, (known, running)) in of {
            let of = || org_text(state, org);
            let bounded = known <= REPLAYS_REMEMBERED && running <= REPLAYS_RUNNING_MAX;
            self.require(bounded, || {
                format!("{} has {known} replays, {running} that run: too many", of())
            });
        }
        for row in state.running.all() {
            let (key, _) = row?;
            self.require(state.replays.get(key)?.is_some(), || {
                format!("the replay {} runs and does not exist", key.1)
            });
        }
        Ok(())
    }

    fn waiting(
        &mut self,
        endpoint: EndpointId,
        event: EventId,
        is_due: bool,
        waiting: Option<u16>,
    ) {
        self.require(is_due, || {
            format!("the delivery of {event} to {endpoint} waits and is never due")
        });
        self.require(waiting != Some(0), || {
            format!("{event} does not list its waiting delivery to {endpoint}")
        });
    }

    fn totals(&mut self, events: &EventSums, deliveries: &DeliverySums) -> Result<(), StateError> {
        let meta = self.state.meta.get(())?.map(|meta| (*meta).clone()).unwrap_or_default();
        for (what, counted, there) in [
            ("events", meta.events, events.events),
            ("open events", meta.open, events.open),
            ("waiting deliveries", meta.waiting, deliveries.waiting),
            ("waiting deliveries, by their events", events.waiting, deliveries.waiting),
            ("due times", deliveries.due + deliveries.pending, deliveries.waiting),
            ("accepted deliveries", events.accepted, deliveries.accepted),
            ("dead deliveries", meta.dead, deliveries.dead),
            ("dead deliveries, by their events", events.dead, deliveries.dead),
            ("dead letters", deliveries.dead_letters, deliveries.dead),
        ] {
            self.require(counted == there, || {
                format!("{what}: {counted} are counted, there are {there}")
            });
        }
        Ok(())
    }
}

/// Returns the organization's name for users.
fn org_text(state: &State, org: OrgNo) -> String {
    let known = state.orgs.get(org).ok().flatten();
    known.map_or_else(
        || format!("an unknown organization (number {})", org.0),
        |row| row.org.id.to_string(),
    )
}

/// Returns true if steps can lead to these lanes. The position of each lane is not checked.
fn is_shaped(row: &ReplayRow) -> bool {
    let sorted = row.cursors.is_sorted_by(|a, b| a.number < b.number)
        && row.skipped.len() <= row.done as usize;
    let begun = row
        .cursors
        .iter()
        .map(|cursor| &cursor.number)
        .chain(&row.skipped)
        .all(|number| *number < row.next);
    sorted && begun && row.cursors.len() <= CURSORS_MAX && row.next <= row.end
}

fn count<T>(rows: impl Iterator<Item = Result<T, StateError>>) -> Result<u64, StateError> {
    rows.map(|row| row.map(|_| 1)).sum()
}
