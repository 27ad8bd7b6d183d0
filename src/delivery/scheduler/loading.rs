//! Fills the endpoint queues from the state, with a bounded number of rows and ids at a time.

use super::{Attempts, Scheduler};
use crate::base::failpoint::{self, Switch};
use crate::commands::CancelDeliveries;
use crate::delivery::endpoint_queue::{EndpointQueue, Gate};
use crate::model::id::{EndpointId, EventId};
use crate::model::time::{Look, Timestamp};
use crate::store::StateError;

/// Maximum number of endpoints looked at before attempts start and reports are read again.
const LOOKS_AT_ONCE: usize = 64;
/// Maximum number of endpoints visited in one step of the pass over all endpoints.
const VISITED_AT_ONCE: usize = 256;
/// Memory leaked for each endpoint by the failpoint, in bytes.
const HOARD_BYTES: usize = 2 << 20;
/// Maximum number of deliveries of a deleted endpoint in one cancellation.
const CANCELED_AT_ONCE: usize = 500;
/// Milliseconds until the deliveries of a deleted endpoint are looked for again.
const CANCELED_AGAIN_MS: u64 = 100;

impl<A: Attempts> Scheduler<A> {
    /// Takes a step of the pass over all endpoints with waiting deliveries. A pass runs at the
    /// start and after missed hints.
    pub(super) fn catch_up(&mut self) -> Result<(), StateError> {
        let Some(mut pass) = self.catch_up.take() else { return Ok(()) };
        for _ in 0..VISITED_AT_ONCE {
            let Some(found) = pass.next(&self.engine.store)? else { return Ok(()) };
            if failpoint::is_on(Switch::ScanHoards) {
                vec![1_u8; HOARD_BYTES].leak();
            }
            self.looks.set(found.endpoint, found.next_due);
            self.queues.change(found.endpoint, EndpointQueue::missed_hints);
        }
        self.catch_up = Some(pass);
        Ok(())
    }

    /// Looks in the state for deliveries of endpoints whose time has come, a bounded number of
    /// endpoints.
    pub(super) fn look_where_due(&mut self) -> Result<(), StateError> {
        let now = self.now();
        for _ in 0..LOOKS_AT_ONCE {
            let Some(endpoint) = self.looks.take(now) else { break };
            self.look(endpoint)?;
        }
        Ok(())
    }

    fn look(&mut self, endpoint: EndpointId) -> Result<(), StateError> {
        let now = self.now();
        let Some(destination) = self.engine.store.destination(endpoint)? else {
            return self.cancel_all(endpoint, now);
        };
        self.queues.aim(destination);
        let look = match self.queues.change(endpoint, |queue| queue.loading(now)) {
            Some(Gate::Open) => self.load(endpoint, now)?,
            Some(Gate::NotUntil(at)) => Some(Look::At(at)),
            Some(Gate::Shut) | None => None,
        };
        self.follow_up(endpoint, look);
        Ok(())
    }

    /// Fills the queue from the state with due deliveries. Returns when to look again.
    fn load(&mut self, endpoint: EndpointId, now: Timestamp) -> Result<Option<Look>, StateError> {
        let (store, room) = (&self.engine.store, self.queues.room(endpoint, now));
        let Some(queue) = self.queues.get(endpoint) else { return Ok(None) };
        if queue.is_strict() {
            let owned = (queue.org(), endpoint);
            let found = store.waiting_in_order(owned, queue.mark(), now, room)?;
            let look = self.queues.change(endpoint, |queue| queue.fill_in_order(&found, now));
            return Ok(look.flatten());
        }
        if room == 0 {
            self.queues.change(endpoint, EndpointQueue::expect_more);
            return Ok(None);
        }
        let waiting = store.waiting_for(endpoint, now, room + queue.claimed() + 1)?;
        Ok(self.queues.change(endpoint, |queue| queue.fill(waiting, room, now)).flatten())
    }

    /// Cancels the deliveries of a deleted endpoint, a bounded number at a time.
    fn cancel_all(&mut self, endpoint: EndpointId, now: Timestamp) -> Result<(), StateError> {
        self.queues.change(endpoint, EndpointQueue::close);
        let waiting = self.engine.store.waiting_for(endpoint, now, CANCELED_AT_ONCE)?;
        let events: Vec<EventId> = waiting.into_iter().map(|(_, event)| event).collect();
        let Some(first) = events.first() else {
            self.queues.remove(endpoint);
            return Ok(());
        };
        if let Some(org) = self.engine.store.delivery_org(endpoint, *first)? {
            self.engine.intake.push([CancelDeliveries { org, endpoint, events }]);
        }
        self.looks.set(endpoint, Look::At(now.plus_ms(CANCELED_AGAIN_MS)));
        Ok(())
    }
}
