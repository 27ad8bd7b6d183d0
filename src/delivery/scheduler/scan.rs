//! The look at everything: slow, bounded and always under way. Hints and reports make the scheduler quick; this makes it
//! right. Whatever it believes and whatever it was not told, anything overdue in the state is found within a minute, and so
//! is what an attempt has told and nobody has heard.
//!
//! A pass goes over the endpoints that something waits for, a step at a time, and begins every twenty seconds. With nothing
//! waiting it costs a look into an empty table; an endpoint that waits for a later time costs two.

use super::{Attempts, Scheduler};
use crate::base::sabotage::{self, Switch};
use crate::delivery::lane::Gate;
use crate::model::id::{EndpointId, EventId};
use crate::model::time::Timestamp;
use crate::rules::breaker::BreakerView;
use crate::store::{Lane as WaitingLane, StateError};

/// A pass begins so long after the one before, unless that is not over.
const PASS_MS: u64 = 20_000;
/// And is to be over after about so long, in steps,
const PASS_TAKES_MS: u64 = 15_000;
/// of which one is made every so often.
const STEP_MS: u64 = 250;
/// Endpoints in a step: so many at least, and at most, however many there are. With the most of them a pass over 250,000
/// endpoints takes half a minute.
const LANES_PER_STEP: usize = 64;
const LANES_PER_STEP_MAX: usize = 2_048;

/// How far it is.
#[derive(Debug)]
pub(super) struct Scan {
    /// When the next step is due.
    next_at: Timestamp,
    /// When this pass began.
    began_at: Timestamp,
    /// Whether there is one under way.
    is_under_way: bool,
    /// The endpoint that was looked at last.
    after: Option<EndpointId>,
    /// The attempt that was asked last; none: all were.
    asked: Option<u64>,
    /// Endpoints looked at in this pass,
    lanes: usize,
    /// and in each step of it.
    per_step: usize,
    /// The oldest delivery found in this pass that is overdue, in milliseconds.
    overdue_ms: u64,
    /// When the scheduler began.
    since: Timestamp,
    /// Whether it only looks: a promise that is broken on purpose.
    pub(super) is_off: bool,
}

impl Scan {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            next_at: now.plus_ms(STEP_MS),
            began_at: now,
            is_under_way: false,
            after: None,
            asked: None,
            lanes: 0,
            per_step: LANES_PER_STEP,
            overdue_ms: 0,
            since: now,
            is_off: sabotage::is_on(Switch::ScanOff),
        }
    }

    /// When the next step is due.
    pub(super) fn next_at(&self) -> Timestamp {
        self.next_at
    }

    fn begin_pass(&mut self, now: Timestamp) {
        (self.is_under_way, self.began_at) = (true, now);
        (self.after, self.asked) = (None, Some(0));
        (self.lanes, self.overdue_ms) = (0, 0);
    }

    fn end_pass(&mut self) {
        self.is_under_way = false;
        let steps = usize::try_from(PASS_TAKES_MS / STEP_MS).unwrap_or(usize::MAX);
        self.per_step = self.lanes.div_ceil(steps).clamp(LANES_PER_STEP, LANES_PER_STEP_MAX);
        self.next_at = self.next_at.max(self.began_at.plus_ms(PASS_MS));
    }
}

impl<A: Attempts> Scheduler<A> {
    /// A step, if one is due.
    pub(super) fn scan(&mut self) -> Result<(), StateError> {
        let now = self.now();
        if now < self.scan.next_at {
            return Ok(());
        }
        self.scan.next_at = now.plus_ms(STEP_MS);
        if !self.scan.is_under_way {
            self.scan.begin_pass(now);
        }
        if let Some(after) = self.scan.asked.filter(|_| !self.scan.is_off) {
            self.scan.asked = self.ask_attempts(after);
        }
        for _ in 0..self.scan.per_step {
            let Some(found) = self.ports.store.next_lane(self.scan.after)? else {
                self.scan.end_pass();
                self.show_overdue();
                break;
            };
            self.scan.after = Some(found.endpoint);
            self.scan.lanes += 1;
            self.scan_lane(found, now)?;
        }
        Ok(())
    }

    /// What is overdue there is looked at, and so is what waits for an endpoint that is no more.
    fn scan_lane(&mut self, WaitingLane { endpoint, next_due }: WaitingLane, now: Timestamp) -> Result<(), StateError> {
        let is_due = next_due <= now;
        if is_due && let Some(overdue_ms) = self.overdue_ms(endpoint, now)? {
            self.scan.overdue_ms = self.scan.overdue_ms.max(overdue_ms);
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

    /// For how long a delivery has been overdue that nothing keeps from being attempted: its endpoint is enabled and not in
    /// a pause, its rate and its order allow it, and there is room for it. From when it was due, or when something last
    /// kept it.
    fn overdue_ms(&mut self, endpoint: EndpointId, now: Timestamp) -> Result<Option<u64>, StateError> {
        let store = &self.ports.store;
        let Some((org, target)) = store.target(endpoint)?.filter(|(_, target)| target.is_enabled()) else {
            return Ok(None);
        };
        let changed_at = target.updated_at.plus_ms(self.ports.clock.ahead_ms()).max(self.scan.since);
        if self.looks.at(endpoint).is_some_and(|at| at <= now) {
            return Ok(None); // it is about to be looked at
        }
        let Some(lane) = self.lanes.get_mut(&endpoint).filter(|lane| lane.target().is_some()) else {
            let first = store.waiting_for(endpoint, now, 1)?;
            let since = first.first().map(|(due_at, _)| *due_at).filter(|due_at| *due_at <= now);
            return Ok(since.map(|since| now.0.saturating_sub(since.max(changed_at).0)));
        };
        let is_free = lane.gate_of_endpoint(now, self.limits.in_flight_per_endpoint) == Gate::Open;
        if !is_free || lane.turn.is_some() {
            return Ok(None);
        }
        let paused_until = if let BreakerView::Open(until) = lane.view() { until } else { Timestamp(0) };
        let held_at = lane.held_at.max(changed_at).max(paused_until);
        let first = if lane.is_strict() {
            let found = store.waiting_in_order((org, endpoint), lane.mark.unwrap_or(EventId(0)), now, 1)?;
            let found = found.events.first().map(|event| store.due_delivery(endpoint, *event)).transpose()?.flatten();
            found.map(|found| found.due_at.max(found.received_at))
        } else {
            let waiting = store.waiting_for(endpoint, now, lane.unsettled().saturating_add(1))?;
            waiting.into_iter().find(|(_, event)| !lane.is_under_way(*event)).map(|(due_at, _)| due_at)
        };
        let first = first.filter(|due_at| *due_at <= now);
        Ok(first.map(|due_at| now.0.saturating_sub(due_at.max(held_at).0)))
    }

    fn show_overdue(&self) {
        let seconds = std::time::Duration::from_millis(self.scan.overdue_ms).as_secs_f64();
        self.ports.metrics.delivery_overdue_seconds.set(seconds);
    }
}
