//! The scan: slow, bounded and always running. Hints and reports make the scheduler fast; the scan
//! makes it correct. It finds overdue deliveries in the state, and reports nobody received, within
//! a minute, whatever the scheduler's memory holds.
//!
//! A pass visits the endpoints with waiting deliveries, step by step, and begins every twenty
//! seconds. A pass without waiting deliveries costs one read of an empty table; an endpoint whose
//! deliveries are due later costs two reads.

use std::collections::HashMap;

use super::{Attempts, Scheduler};
use crate::base::failpoint::{self, Switch};
use crate::delivery::endpoint_queue::EndpointQueue;
use crate::model::id::{EndpointId, EventId};
use crate::model::time::{Look, Timestamp};
use crate::store::{StateError, Store, WaitingEndpoint};

/// Milliseconds from the beginning of a pass to the next, unless the pass takes longer.
const PASS_MS: u64 = 20_000;
/// Planned duration of a pass, in milliseconds.
const PASS_TAKES_MS: u64 = 15_000;
/// Milliseconds between two steps of a pass.
const STEP_MS: u64 = 250;
/// Minimum and maximum number of endpoints in a step. The pace of a pass comes from the size of the
/// previous pass; a pass over its planned duration goes on at full pace. So the first pass over
/// 250,000 endpoints also takes less than a minute.
const ENDPOINTS_PER_STEP: usize = 64;
const ENDPOINTS_PER_STEP_MAX: usize = 2_048;

/// A pass over the endpoints with waiting deliveries.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// The endpoint visited last; `None` at the beginning.
    after: Option<EndpointId>,
}

impl Pass {
    /// Returns the next endpoint, or `None` at the end.
    pub(super) fn next(&mut self, store: &Store) -> Result<Option<WaitingEndpoint>, StateError> {
        let found = store.next_waiting_endpoint(self.after)?;
        self.after = found.map(|found| found.endpoint).or(self.after);
        Ok(found)
    }
}

/// Progress of the current pass, and findings.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// When the next step is due.
    next_at: Timestamp,
    /// When the current or last pass began.
    began_at: Timestamp,
    /// The pass over the endpoints; `None` when all endpoints were visited.
    endpoints: Option<Pass>,
    /// The attempt whose ledger was read last; `None` when all ledgers were read.
    asked: Option<u64>,
    /// Number of endpoints visited in this pass.
    visited: usize,
    /// Number of endpoints visited in each step of this pass.
    per_step: usize,
    /// Overdue deliveries found in this pass although nothing holds them back: the first of each
    /// endpoint, and the time at which passes began to find the same delivery.
    stuck: HashMap<EndpointId, (EventId, Timestamp)>,
    /// The overdue deliveries found in the previous pass.
    stuck_before: HashMap<EndpointId, (EventId, Timestamp)>,
    /// A failpoint: the scan finds overdue deliveries but does not act.
    pub(super) is_off: bool,
}

impl Scan {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            next_at: now.plus_ms(STEP_MS),
            began_at: now,
            per_step: ENDPOINTS_PER_STEP,
            is_off: failpoint::is_on(Switch::ScanOff),
            ..Self::default()
        }
    }

    /// Returns when the next step is due.
    pub(super) fn next_at(&self) -> Timestamp {
        self.next_at
    }

    /// True between two passes.
    fn is_at_rest(&self) -> bool {
        self.endpoints.is_none() && self.asked.is_none()
    }

    fn begin_pass(&mut self, now: Timestamp) {
        (self.began_at, self.endpoints, self.visited) = (now, Some(Pass::default()), 0);
        self.asked = (!self.is_off).then_some(0);
        self.stuck_before = std::mem::take(&mut self.stuck);
    }

    /// Maximum number of endpoints in this step.
    fn endpoints_in_step(&self, now: Timestamp) -> usize {
        let is_late = now >= self.began_at.plus_ms(PASS_TAKES_MS);
        if is_late { ENDPOINTS_PER_STEP_MAX } else { self.per_step }
    }

    /// Records an overdue delivery; the next pass checks if its attempt has begun.
    fn found_stuck(&mut self, endpoint: EndpointId, event: EventId, now: Timestamp) {
        let before = self.stuck_before.get(&endpoint).filter(|(known, _)| *known == event);
        self.stuck.insert(endpoint, before.copied().unwrap_or((event, now)));
    }

    fn end_pass(&mut self) {
        let steps = usize::try_from(PASS_TAKES_MS / STEP_MS).unwrap_or(usize::MAX);
        self.per_step =
            self.visited.div_ceil(steps).clamp(ENDPOINTS_PER_STEP, ENDPOINTS_PER_STEP_MAX);
        self.next_at = self.next_at.max(self.began_at.plus_ms(PASS_MS));
    }
}

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
        if is_due || self.engine.store.target(endpoint)?.is_none() {
            self.looks.set(endpoint, Look::Now);
        } else if next_due.is_due(now.plus_ms(2 * PASS_MS)) {
            self.looks.set(endpoint, next_due);
        }
        Ok(())
    }

    /// Returns the first overdue delivery that nothing holds back: the endpoint is enabled, and its
    /// breaker, rate, order and limits allow an attempt. Such a delivery may exist for a moment
    /// without a fault.
    fn free_and_overdue(
        &mut self,
        endpoint: EndpointId,
        now: Timestamp,
    ) -> Result<Option<EventId>, StateError> {
        let store = &self.engine.store;
        let is_enabled = store.target(endpoint)?.is_some_and(|(_, target)| target.is_enabled());
        let is_planned = self.looks.at(endpoint).is_some_and(|look| look.is_due(now));
        if !is_enabled || is_planned || self.queues.is_held_back(endpoint, now) {
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
