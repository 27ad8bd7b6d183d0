//! Expired events: they leave with all their rows.

use super::{Change, Count as _};
use crate::base::failpoint::{self, Switch};
use crate::journal::Position;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::retention::{Cutoffs, Expired, ExpiringBlock};
use crate::model::time::Timestamp;
use crate::store::StateError;
use crate::store::queries::expiring::Judged;
use crate::store::queries::forgettable::Forgettable;
use crate::store::rows::schema::{BLOCK_EVENTS, DeliveryState, EventBlock};

/// The events of a block that expire, and their deliveries.
#[derive(Debug)]
pub(crate) struct Leaving {
    first: EventId,
    judged: Judged,
    /// The deliveries of each endpoint that has some.
    of_endpoints: Vec<OfEndpoint>,
}

/// The deliveries of expiring events of one block to one endpoint.
#[derive(Debug)]
struct OfEndpoint {
    endpoint: EndpointId,
    /// The events whose first attempt is due at once, one bit for each index.
    pending: u64,
    /// The accepted events, one bit for each index.
    accepted: u64,
    /// The deliveries with a row of their own.
    rows: Vec<(EventId, DeliveryState)>,
}

/// The numbers of deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Deliveries {
    waiting: u64,
    accepted: u64,
    dead: u64,
}

impl Deliveries {
    fn plus(self, more: Self) -> Self {
        Self {
            waiting: self.waiting + more.waiting,
            accepted: self.accepted + more.accepted,
            dead: self.dead + more.dead,
        }
    }
}

impl OfEndpoint {
    fn count(&self) -> Deliveries {
        let in_state = |wanted: fn(&DeliveryState) -> bool| {
            self.rows.iter().filter(|(_, state)| wanted(state)).count() as u64
        };
        let waits = |state: &DeliveryState| matches!(state, DeliveryState::Waiting(_));
        let is_dead = |state: &DeliveryState| matches!(state, DeliveryState::Dead(..));
        Deliveries {
            waiting: u64::from(self.pending.count_ones()) + in_state(waits),
            accepted: u64::from(self.accepted.count_ones()),
            dead: in_state(is_dead),
        }
    }
}

impl Change<'_> {
    /// Returns the organization's deleted endpoints and ended replays that can be forgotten.
    pub(crate) fn forgettable(
        &self,
        org: OrgNo,
        before: (Timestamp, Position),
    ) -> Result<Forgettable, StateError> {
        Forgettable::of(self.state, org, before)
    }

    /// Returns the events of a block that expire. `None` if the block does not exist, if it has
    /// changed since the state was looked at, or if not all endpoints with a delivery are named.
    pub(crate) fn leaving(
        &self,
        org: OrgNo,
        named: &ExpiringBlock,
        (cutoffs, looked_at): (Cutoffs, Position),
    ) -> Result<Option<Leaving>, StateError> {
        let first = named.first;
        let block = self.state.events.get((org, first))?;
        let Some(block) = block.filter(|block| block.changed < looked_at) else { return Ok(None) };
        let judged = Judged::of(self.state, (org, first), &block, cutoffs)?;
        let mut of_endpoints = Vec::new();
        let mut found = Deliveries::default();
        for endpoint in &named.endpoints {
            let its = self.deliveries_of(*endpoint, (first, &block), judged.all())?;
            found = found.plus(its.count());
            of_endpoints.push(its);
        }
        let counted = counted(&block, judged.all());
        Ok((found == counted).then_some(Leaving { first, judged, of_endpoints }))
    }

    /// Returns the endpoint's deliveries of these events of a block.
    fn deliveries_of(
        &self,
        endpoint: EndpointId,
        (first, block): (EventId, &EventBlock),
        events: u64,
    ) -> Result<OfEndpoint, StateError> {
        let pending = self.state.pending.get((endpoint, first))?.map_or(0, |row| row.bits);
        let delivered = self.state.delivered.get((endpoint, first))?;
        let delivered = delivered.iter().flat_map(|row| &row.entries);
        let accepted = delivered.fold(0, |bits, entry| bits | 1 << entry.index);
        let last = block.events.last().map_or(first, |entry| entry.id);
        let known = (endpoint, first)..=(endpoint, last);
        let mut rows = Vec::new();
        for ((_, event), row) in self.state.deliveries.range(known, BLOCK_EVENTS)? {
            if block.find(event).is_some_and(|(index, _)| events & 1 << index != 0) {
                rows.push((event, row.state));
            }
        }
        Ok(OfEndpoint { endpoint, pending: pending & events, accepted: accepted & events, rows })
    }

    /// Removes expiring events with all their rows, and their block when it is empty then.
    pub(crate) fn expire(&mut self, org: OrgNo, leaving: &Leaving) -> Result<Expired, StateError> {
        let Leaving { first, judged, ref of_endpoints } = *leaving;
        for its in of_endpoints {
            self.remove_deliveries(org, first, its)?;
        }
        self.close_inbox(org, first, judged.in_inbox)?;
        let position = self.position;
        let block = self.state.events.edit_promised((org, first))?;
        let (mut unrouted, mut unneeded, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (index, entry) in block.events.iter_mut().enumerate() {
            if judged.all() & 1 << index == 0 {
                continue;
            }
            entry.is_expired = true;
            unneeded.push(entry.position);
            bytes += u64::from(entry.bytes);
            (entry.waiting, entry.accepted, entry.dead) = (0, 0, 0);
            if judged.unrouted & 1 << index != 0 {
                unrouted.push(entry.id);
            }
        }
        block.changed = position;
        let is_empty = block.existing().next().is_none();
        self.effects.unneeded.append(&mut unneeded);
        for event in unrouted {
            self.state.unrouted.remove((org, event));
        }
        if is_empty {
            self.remove_block(org, first)?;
        }
        let expired = judged.counts();
        self.meta()?.events.lower_by(expired.all())?;
        let inbox = self.state.inboxes.edit_promised(org)?;
        inbox.events.lower_by(expired.all())?;
        inbox.bytes.lower_by(bytes)?;
        Ok(expired)
    }

    /// Removes the deliveries, and no longer counts them.
    fn remove_deliveries(
        &mut self,
        org: OrgNo,
        first: EventId,
        its: &OfEndpoint,
    ) -> Result<(), StateError> {
        let OfEndpoint { endpoint, pending, accepted, ref rows } = *its;
        if pending != 0 {
            let row = self.state.pending.edit_promised((endpoint, first))?;
            row.bits &= !pending;
            if row.bits == 0 {
                self.state.pending.remove((endpoint, first));
            }
        }
        if accepted != 0 && !failpoint::is_on(Switch::ExpiryLeavesRows) {
            let row = self.state.delivered.edit_promised((endpoint, first))?;
            row.entries.retain(|entry| accepted & 1 << entry.index == 0);
            if row.entries.is_empty() {
                self.state.delivered.remove((endpoint, first));
            }
        }
        for (event, state) in rows {
            match *state {
                DeliveryState::Waiting(at) => self.state.due.remove((endpoint, at, *event)),
                DeliveryState::Dead(_, at) => self.state.dead.remove((org, at, *event, endpoint)),
                DeliveryState::Canceled => {}
            }
            self.state.deliveries.remove((endpoint, *event));
        }
        self.lower_counts(endpoint, its.count())
    }

    /// Lowers the counts of waiting and dead deliveries, of the endpoint and of the state.
    fn lower_counts(
        &mut self,
        endpoint: EndpointId,
        Deliveries { waiting, dead, .. }: Deliveries,
    ) -> Result<(), StateError> {
        let meta = self.meta()?;
        meta.waiting.lower_by(waiting)?;
        meta.dead.lower_by(dead)?;
        self.edit_health(endpoint, |health| {
            health.waiting = health.waiting.saturating_sub(waiting);
            health.dead = health.dead.saturating_sub(dead);
        })?;
        if waiting > 0 {
            // The deliveries may have held back others.
            self.effects.endpoints_changed.push(endpoint);
        }
        Ok(())
    }

    /// Takes these events of a block out of the inbox.
    fn close_inbox(&mut self, org: OrgNo, first: EventId, events: u64) -> Result<(), StateError> {
        if events == 0 {
            return Ok(());
        }
        let open = self.state.open.edit_promised((org, first))?;
        open.0 &= !events;
        if open.0 == 0 {
            self.state.open.remove((org, first));
        }
        let fewer = u64::from(events.count_ones());
        self.meta()?.open.lower_by(fewer)?;
        self.state.inboxes.edit_promised(org)?.open.lower_by(fewer)
    }

    /// Removes a block whose events have all expired. The next event begins a new block if it was
    /// the last.
    fn remove_block(&mut self, org: OrgNo, first: EventId) -> Result<(), StateError> {
        self.state.events.remove((org, first));
        let inbox = self.state.inboxes.edit_promised(org)?;
        if inbox.tail == Some(first) {
            inbox.tail = None;
        }
        Ok(())
    }
}

/// Returns the numbers of deliveries that these events of a block count.
fn counted(block: &EventBlock, events: u64) -> Deliveries {
    block.marked(events).fold(Deliveries::default(), |sum, entry| {
        let [waiting, accepted, dead] = [entry.waiting, entry.accepted, entry.dead].map(u64::from);
        sum.plus(Deliveries { waiting, accepted, dead })
    })
}
