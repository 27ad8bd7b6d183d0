//! Fills the endpoint queues from the state, with a bounded number of rows and ids at a time.

use std::time::Instant;

use super::{Attempts, ROUTING_POLL, Scheduler, Target};
use crate::base::failpoint::{self, Switch};
use crate::commands::CancelDeliveries;
use crate::model::id::{EndpointId, EventId};
use crate::model::time::Timestamp;
use crate::rules::breaker::Permit;
use crate::store::{StateError, Then};

/// Maximum number of endpoints looked at before attempts start and reports are read again.
const LOOKS_AT_ONCE: usize = 64;
/// Maximum number of endpoints visited in one step of the pass over all endpoints.
const SURVEYED_AT_ONCE: usize = 256;
/// Memory leaked for each endpoint by the failpoint, in bytes.
const HOARD_BYTES: usize = 2 << 20;
/// Maximum number of deliveries of a deleted endpoint in one cancellation.
const CANCELED_AT_ONCE: usize = 500;

impl<A: Attempts> Scheduler<A> {
    /// Takes a step of the pass over all endpoints with waiting deliveries. A pass runs at the
    /// start and after missed hints.
    pub(super) fn catch_up(&mut self) -> Result<(), StateError> {
        let Some(mut after) = self.catch_up.take() else { return Ok(()) };
        for _ in 0..SURVEYED_AT_ONCE {
            let Some(found) = self.ports.store.next_waiting_endpoint(Some(after))? else {
                return Ok(());
            };
            if failpoint::is_on(Switch::ScanHoards) {
                vec![1_u8; HOARD_BYTES].leak();
            }
            self.looks.set(found.endpoint, found.next_due);
            if let Some(queue) = self.queues.get_mut(&found.endpoint) {
                // The queue was filled without the missed deliveries, which may belong before or
                // after it.
                queue.more |= queue.waiting() > 0;
                queue.mark = None;
                queue.heard_of_all();
            }
            after = found.endpoint;
        }
        self.catch_up = Some(after);
        Ok(())
    }

    /// Looks in the state for deliveries of endpoints whose time has come, a bounded number of
    /// endpoints.
    pub(super) fn look_where_due(&mut self) -> Result<(), StateError> {
        if self.routing_polled.elapsed() >= ROUTING_POLL {
            self.routing_polled = Instant::now();
            for endpoint in std::mem::take(&mut self.behind_routing) {
                self.looks.set(endpoint, Timestamp(0));
            }
        }
        let now = self.now();
        for _ in 0..LOOKS_AT_ONCE {
            let Some(endpoint) = self.looks.take(now) else { break };
            self.look(endpoint)?;
        }
        Ok(())
    }

    fn look(&mut self, endpoint: EndpointId) -> Result<(), StateError> {
        let now = self.now();
        let Some((org, target)) = self.ports.store.target(endpoint)? else {
            return self.cancel_all(endpoint);
        };
        let is_enabled = target.is_enabled();
        let queue = self.queues.entry(endpoint).or_default();
        let before = queue.view();
        queue.aim(Target { org, endpoint: target });
        let view = queue.view();
        let permit = queue.permit(now);
        if !is_enabled {
            // The deliveries wait in the state; enabling the endpoint sends a hint.
            self.queued -= queue.drop_queue();
            queue.more = false;
        } else if queue.is_stale() {
            // The settling of the current attempt causes another look.
            queue.more = true;
        } else if let Permit::NotUntil(until) = permit {
            queue.more = true;
            self.looks.set(endpoint, until);
        } else if permit == Permit::No {
            queue.more = true;
        } else if queue.is_strict() {
            self.load_in_order(endpoint, now)?;
        } else {
            self.load(endpoint, now)?;
        }
        if view != before {
            self.note_breaker(endpoint, view);
        }
        self.give_turn(endpoint);
        self.forget_if_idle(endpoint);
        Ok(())
    }

    /// Number of ids the endpoint queue may take in. If memory is full, an empty queue gets one id,
    /// so that no endpoint waits for the backlog of others. A probe also needs only one id.
    fn room(&self, endpoint: EndpointId, now: Timestamp) -> usize {
        let Some(queue) = self.queues.get(&endpoint) else { return 0 };
        let least = usize::from(queue.waiting() == 0);
        if queue.permit(now) != Permit::Free {
            return least;
        }
        let own = self.limits.queue_per_endpoint.saturating_sub(queue.waiting());
        own.min(self.limits.queued.saturating_sub(self.queued)).max(least)
    }

    /// Fills the queue from the state with due deliveries.
    fn load(&mut self, endpoint: EndpointId, now: Timestamp) -> Result<(), StateError> {
        let room = self.room(endpoint, now);
        let Some(queue) = self.queues.get_mut(&endpoint) else { return Ok(()) };
        if room == 0 {
            queue.more = true;
            return Ok(());
        }
        let waiting = self.ports.store.waiting_for(endpoint, now, room + queue.claimed() + 1)?;
        queue.more = false;
        let mut taken = 0;
        for (due_at, event) in waiting {
            if due_at > now {
                self.looks.set(endpoint, due_at);
                break;
            }
            if taken == room {
                // This delivery may already be claimed; then the next look finds nothing.
                queue.more = true;
                break;
            }
            taken += usize::from(queue.push(event));
        }
        self.queued += taken;
        Ok(())
    }

    /// Fills the queue of an endpoint in strict order. The queue stays empty while an attempt is
    /// unsettled, because the attempt may have to be repeated first.
    fn load_in_order(&mut self, endpoint: EndpointId, now: Timestamp) -> Result<(), StateError> {
        if let Some(queue) = self.queues.get_mut(&endpoint) {
            self.queued -= queue.drop_queue();
        }
        let room = self.room(endpoint, now);
        let Some(queue) = self.queues.get_mut(&endpoint) else { return Ok(()) };
        let Some(org) = queue.target().map(|target| target.org) else { return Ok(()) };
        if queue.unsettled() > 0 {
            queue.more = true;
            return Ok(());
        }
        let mark = queue.mark.unwrap_or(EventId(0));
        let found = self.ports.store.waiting_in_order((org, endpoint), mark, now, room)?;
        queue.mark = Some(found.mark);
        queue.more = found.then == Then::More;
        for event in &found.events {
            self.queued += usize::from(queue.push(*event));
        }
        match found.then {
            Then::Retry(at) => self.looks.set(endpoint, at),
            Then::Unrouted if found.events.is_empty() => {
                self.behind_routing.insert(endpoint);
            }
            Then::Unrouted => queue.more = true,
            Then::More if found.events.is_empty() => self.looks.set(endpoint, Timestamp(0)),
            Then::More | Then::End => {}
        }
        if let Some(at) = found.later {
            self.looks.set(endpoint, at);
        }
        Ok(())
    }

    /// Cancels the deliveries of a deleted endpoint, a bounded number at a time.
    fn cancel_all(&mut self, endpoint: EndpointId) -> Result<(), StateError> {
        if let Some(queue) = self.queues.get_mut(&endpoint) {
            self.queued -= queue.drop_queue();
            queue.more = false;
        }
        let waiting = self.ports.store.waiting_for(endpoint, self.now(), CANCELED_AT_ONCE)?;
        let events: Vec<EventId> = waiting.into_iter().map(|(_, event)| event).collect();
        let Some(first) = events.first() else {
            self.remove(endpoint);
            return Ok(());
        };
        if let Some(org) = self.ports.store.delivery_org(endpoint, *first)? {
            self.ports.intake.push([CancelDeliveries { org, endpoint, events }]);
        }
        let soon = self.now().plus_ms(100);
        self.looks.set(endpoint, soon);
        Ok(())
    }
}
