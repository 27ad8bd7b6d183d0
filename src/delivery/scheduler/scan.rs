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
use crate::delivery::endpoint_queue::Gate;
use crate::model::id::{EndpointId, EventId};
use crate::model::time::Timestamp;
use crate::store::{StateError, WaitingEndpoint};

/// Milliseconds from the beginning of a pass to the next, unless the pass takes longer.
const PASS_MS: u64 = 20_000;
/// Planned duration of a pass, in milliseconds.
const PASS_TAKES_MS: u64 = 15_000;
/// Milliseconds between two steps of a pass.
const STEP_MS: u64 = 250;
/// Minimum and maximum number of endpoints in a step. The pace of a pass comes from the size of the
/// previous pass; a pass over its planned duration goes on at full pace. So the first pass over
/// 250,000 endpoints also takes less than a minute.
const LANES_PER_STEP: usize = 64;
const LANES_PER_STEP_MAX: usize = 2_048;

/// Progress of the current pass, and findings.
#[derive(Debug)]
pub(super) struct Scan {
    /// When the next step is due.
    next_at: Timestamp,
    /// When the current or last pass began.
    began_at: Timestamp,
    /// Set while a pass is running.
    is_under_way: bool,
    /// The endpoint visited last; `None` at the beginning.
    after: Option<EndpointId>,
    /// Set when all endpoints were visited.
    cursors_are_over: bool,
    /// The attempt whose ledger was read last; `None` when all ledgers were read.
    asked: Option<u64>,
    /// Number of endpoints visited in this pass.
    queues: usize,
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
            is_under_way: false,
            after: None,
            cursors_are_over: false,
            asked: None,
            queues: 0,
            per_step: LANES_PER_STEP,
            stuck: HashMap::new(),
            stuck_before: HashMap::new(),
            is_off: failpoint::is_on(Switch::ScanOff),
        }
    }

    /// Returns when the next step is due.
    pub(super) fn next_at(&self) -> Timestamp {
        self.next_at
    }

    fn begin_pass(&mut self, now: Timestamp) {
        (self.is_under_way, self.began_at) = (true, now);
        (self.after, self.cursors_are_over, self.queues) = (None, false, 0);
        self.asked = (!self.is_off).then_some(0);
        self.stuck_before = std::mem::take(&mut self.stuck);
    }

    /// Maximum number of endpoints in this step.
    fn queues_in_step(&self, now: Timestamp) -> usize {
        if now >= self.began_at.plus_ms(PASS_TAKES_MS) { LANES_PER_STEP_MAX } else { self.per_step }
    }

    /// Records an overdue delivery; the next pass checks if its attempt has begun.
    fn found_stuck(&mut self, endpoint: EndpointId, event: EventId, now: Timestamp) {
        let before = self.stuck_before.get(&endpoint).filter(|(known, _)| *known == event);
        self.stuck.insert(endpoint, before.copied().unwrap_or((event, now)));
    }

    fn end_pass(&mut self) {
        self.is_under_way = false;
        let steps = usize::try_from(PASS_TAKES_MS / STEP_MS).unwrap_or(usize::MAX);
        self.per_step = self.queues.div_ceil(steps).clamp(LANES_PER_STEP, LANES_PER_STEP_MAX);
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
        if !self.scan.is_under_way {
            self.scan.begin_pass(now);
        }
        if let Some(after) = self.scan.asked {
            self.scan.asked = self.ask_attempts(after);
        }
        for _ in 0..self.scan.queues_in_step(now) {
            if self.scan.cursors_are_over {
                break;
            }
            match self.ports.store.next_waiting_endpoint(self.scan.after)? {
                Some(found) => {
                    self.scan.after = Some(found.endpoint);
                    self.scan.queues += 1;
                    self.scan_endpoint(found, now)?;
                }
                None => self.scan.cursors_are_over = true,
            }
        }
        if self.scan.cursors_are_over && self.scan.asked.is_none() {
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
        let is_due = next_due <= now;
        if is_due && let Some(event) = self.free_and_overdue(endpoint, now)? {
            self.scan.found_stuck(endpoint, event, now);
        }
        if self.scan.is_off {
            return Ok(());
        }
        if is_due || self.ports.store.target(endpoint)?.is_none() {
            self.looks.set(endpoint, Timestamp(0));
        } else if next_due <= now.plus_ms(2 * PASS_MS) {
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
        let store = &self.ports.store;
        let Some((org, _)) = store.target(endpoint)?.filter(|(_, target)| target.is_enabled())
        else {
            return Ok(None);
        };
        if self.looks.at(endpoint).is_some_and(|at| at <= now) {
            return Ok(None); // The look is already due.
        }
        let first_due = |under_way: usize,
                         is_under_way: &dyn Fn(EventId) -> bool|
         -> Result<Option<EventId>, StateError> {
            let waiting = store.waiting_for(endpoint, now, under_way.saturating_add(1))?;
            let first = waiting.into_iter().find(|(_, event)| !is_under_way(*event));
            Ok(first.filter(|(due_at, _)| *due_at <= now).map(|(_, event)| event))
        };
        let Some(queue) = self.queues.get_mut(&endpoint).filter(|queue| queue.target().is_some())
        else {
            return first_due(0, &|_| false);
        };
        let is_free = queue.gate_of_endpoint(now, self.limits.in_flight_per_endpoint) == Gate::Open;
        if !is_free || queue.turn.is_some() {
            return Ok(None);
        }
        if queue.is_strict() {
            let found = store.waiting_in_order(
                (org, endpoint),
                queue.mark.unwrap_or(EventId(0)),
                now,
                1,
            )?;
            return Ok(found.events.first().copied());
        }
        first_due(queue.unsettled(), &|event| queue.is_under_way(event))
    }

    /// Shows for how long passes have found the same delivery overdue; the longest counts.
    fn show_overdue(&self, now: Timestamp) {
        let oldest = self.scan.stuck.values().map(|(_, since)| *since).min();
        let overdue_ms = oldest.map_or(0, |since| now.0.saturating_sub(since.0));
        let seconds = std::time::Duration::from_millis(overdue_ms).as_secs_f64();
        self.ports.metrics.delivery_overdue_seconds.set(seconds);
    }
}
