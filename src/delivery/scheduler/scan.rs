//! The scan: slow, bounded and always running. Hints and reports make the scheduler fast; the scan
//! makes it correct. It finds overdue deliveries in the state, and reports nobody received, within
//! a minute, whatever the scheduler's memory holds.
//!
//! A pass visits the endpoints with waiting deliveries, step by step, and begins every twenty
//! seconds. A pass without waiting deliveries costs one read of an empty table; an endpoint whose
//! deliveries are due later costs two reads.

use super::passes::{PASS_MS, STEP_MS};
use super::{Attempts, Scheduler};
use crate::delivery::endpoint_queue::EndpointQueue;
use crate::model::id::{EndpointId, EventId};
use crate::model::time::{Look, Timestamp};
use crate::store::{StateError, WaitingEndpoint};

impl<A: Attempts> Scheduler<A> {
    /// Takes a step of the scan, if due.
    pub(super) fn scan(&mut self) -> Result<(), StateError> {
        let now = self.now();
        if now < self.scan.next_at {
            return Ok(());
        }
        self.scan.next_at = now.plus_ms(STEP_MS);
        if self.scan.is_at_rest() {
            self.scan.begin_pass(now);
        }
        if let Some(after) = self.scan.asked {
            self.scan.asked = self.ask_attempts(after);
        }
        for _ in 0..self.scan.endpoints_in_step(now) {
            let Some(pass) = &mut self.scan.endpoints else { break };
            let Some(found) = pass.next(&self.engine.store)? else {
                self.scan.endpoints = None;
                break;
            };
            self.scan.visited += 1;
            self.scan_endpoint(found, now)?;
        }
        if self.scan.is_at_rest() {
            self.scan.end_pass();
            self.show_overdue(now);
        }
        Ok(())
    }

    /// Schedules a look at the endpoint if its deliveries are due, are due soon, or belong to a
    /// deleted endpoint.
    fn scan_endpoint(
        &mut self,
        WaitingEndpoint { endpoint, next_due }: WaitingEndpoint,
        now: Timestamp,
    ) -> Result<(), StateError> {
        let is_due = next_due.is_due(now);
        if is_due && let Some(event) = self.free_and_overdue(endpoint, now)? {
            self.scan.found_stuck(endpoint, event, now);
        }
        if self.scan.is_off {
            return Ok(());
        }
        if is_due || self.engine.store.destination(endpoint)?.is_none() {
            self.looks.set(endpoint, Look::Now);
        } else if next_due.is_due(now.plus_ms(2 * PASS_MS)) {
            self.looks.set(endpoint, next_due);
        }
        Ok(())
    }

    /// Returns the first overdue delivery that nothing holds back: the endpoint is enabled, its
    /// organization is not suspended, and its breaker, rate, order and limits allow an attempt.
    /// Such a delivery may exist for a moment without a fault.
    fn free_and_overdue(
        &mut self,
        endpoint: EndpointId,
        now: Timestamp,
    ) -> Result<Option<EventId>, StateError> {
        let store = &self.engine.store;
        let takes_attempts = store.destination(endpoint)?.is_some_and(|it| it.takes_attempts());
        let is_planned = self.looks.at(endpoint).is_some_and(|look| look.is_due(now));
        if !takes_attempts || is_planned || self.queues.is_held_back(endpoint, now) {
            return Ok(None);
        }
        let queue = self.queues.get(endpoint);
        if let Some(queue) = queue.filter(|queue| queue.is_strict()) {
            let owned = (queue.org(), endpoint);
            let found = store.waiting_in_order(owned, queue.mark(), now, 1)?;
            return Ok(found.events.first().copied());
        }
        let under_way = queue.map_or(0, EndpointQueue::unsettled);
        let waiting = store.waiting_for(endpoint, now, under_way.saturating_add(1))?;
        let is_under_way = |event| queue.is_some_and(|queue| queue.is_under_way(event));
        let first = waiting.into_iter().find(|(_, event)| !is_under_way(*event));
        Ok(first.filter(|(due_at, _)| *due_at <= now).map(|(_, event)| event))
    }

    /// Shows for how long passes have found the same delivery overdue; the longest counts.
    fn show_overdue(&self, now: Timestamp) {
        let oldest = self.scan.stuck.values().map(|(_, since)| *since).min();
        let overdue_ms = oldest.map_or(0, |since| now.0.saturating_sub(since.0));
        let seconds = std::time::Duration::from_millis(overdue_ms).as_secs_f64();
        self.engine.metrics.delivery_overdue_seconds.set(seconds);
    }
}
