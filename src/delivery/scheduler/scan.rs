//! The look at everything: slow, bounded and always under way. Hints and reports make the scheduler quick; this makes it
//! right. Whatever it believes and whatever it was not told, anything overdue in the state is found within a minute, and so
//! is what an attempt has told and nobody has heard.
//!
//! A pass goes over the endpoints that something waits for, a step at a time, and begins every twenty seconds. With nothing
//! waiting it costs a look into an empty table; an endpoint that waits for a later time costs two.

use std::collections::HashMap;

use super::{Attempts, Scheduler};
use crate::base::sabotage::{self, Switch};
use crate::delivery::lane::Gate;
use crate::model::id::{EndpointId, EventId};
use crate::model::time::Timestamp;
use crate::store::{Lane as WaitingLane, StateError};

/// A pass begins so long after the one before, unless that is not over.
const PASS_MS: u64 = 20_000;
/// And is to be over after about so long, in steps,
const PASS_TAKES_MS: u64 = 15_000;
/// of which one is made every so often.
const STEP_MS: u64 = 250;
/// Endpoints in a step: so many at least, and at most, however many there are. A pass goes at a pace that was right for the one
/// before; one that is not over in time goes on as fast as it may, so that also the first one over 250,000 endpoints takes
/// less than a minute.
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
    /// Whether all were.
    lanes_are_over: bool,
    /// The attempt that was asked last; none: all were.
    asked: Option<u64>,
    /// Endpoints looked at in this pass,
    lanes: usize,
    /// and in each step of it.
    per_step: usize,
    /// By endpoint the first delivery that this pass has found overdue although nothing keeps it from being attempted, and
    /// since when passes have found the same one there,
    stuck: HashMap<EndpointId, (EventId, Timestamp)>,
    /// and those of the pass before.
    stuck_before: HashMap<EndpointId, (EventId, Timestamp)>,
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
            lanes_are_over: false,
            asked: None,
            lanes: 0,
            per_step: LANES_PER_STEP,
            stuck: HashMap::new(),
            stuck_before: HashMap::new(),
            is_off: sabotage::is_on(Switch::ScanOff),
        }
    }

    /// When the next step is due.
    pub(super) fn next_at(&self) -> Timestamp {
        self.next_at
    }

    fn begin_pass(&mut self, now: Timestamp) {
        (self.is_under_way, self.began_at) = (true, now);
        (self.after, self.lanes_are_over, self.lanes) = (None, false, 0);
        self.asked = (!self.is_off).then_some(0);
        self.stuck_before = std::mem::take(&mut self.stuck);
    }

    /// Endpoints in this step.
    fn lanes_in_step(&self, now: Timestamp) -> usize {
        if now >= self.began_at.plus_ms(PASS_TAKES_MS) { LANES_PER_STEP_MAX } else { self.per_step }
    }

    /// It is one that should have been begun: the next pass looks whether it was.
    fn found_stuck(&mut self, endpoint: EndpointId, event: EventId, now: Timestamp) {
        let before = self.stuck_before.get(&endpoint).filter(|(known, _)| *known == event);
        self.stuck.insert(endpoint, before.copied().unwrap_or((event, now)));
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
        if let Some(after) = self.scan.asked {
            self.scan.asked = self.ask_attempts(after);
        }
        for _ in 0..self.scan.lanes_in_step(now) {
            if self.scan.lanes_are_over {
                break;
            }
            match self.ports.store.next_lane(self.scan.after)? {
                Some(found) => {
                    self.scan.after = Some(found.endpoint);
                    self.scan.lanes += 1;
                    self.scan_lane(found, now)?;
                }
                None => self.scan.lanes_are_over = true,
            }
        }
        if self.scan.lanes_are_over && self.scan.asked.is_none() {
            self.scan.end_pass();
            self.show_overdue(now);
        }
        Ok(())
    }

    /// What is overdue there is looked at, and so is what waits for an endpoint that is no more.
    fn scan_lane(&mut self, WaitingLane { endpoint, next_due }: WaitingLane, now: Timestamp) -> Result<(), StateError> {
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

    /// The first delivery that is overdue although nothing keeps it from being attempted: its endpoint is enabled and not in
    /// a pause, its rate and its order allow it, and there is room for it. That may be so for a moment.
    fn free_and_overdue(&mut self, endpoint: EndpointId, now: Timestamp) -> Result<Option<EventId>, StateError> {
        let store = &self.ports.store;
        let Some((org, _)) = store.target(endpoint)?.filter(|(_, target)| target.is_enabled()) else { return Ok(None) };
        if self.looks.at(endpoint).is_some_and(|at| at <= now) {
            return Ok(None); // it is about to be looked at
        }
        let first_due =
            |under_way: usize, is_under_way: &dyn Fn(EventId) -> bool| -> Result<Option<EventId>, StateError> {
                let waiting = store.waiting_for(endpoint, now, under_way.saturating_add(1))?;
                let first = waiting.into_iter().find(|(_, event)| !is_under_way(*event));
                Ok(first.filter(|(due_at, _)| *due_at <= now).map(|(_, event)| event))
            };
        let Some(lane) = self.lanes.get_mut(&endpoint).filter(|lane| lane.target().is_some()) else {
            return first_due(0, &|_| false);
        };
        let is_free = lane.gate_of_endpoint(now, self.limits.in_flight_per_endpoint) == Gate::Open;
        if !is_free || lane.turn.is_some() {
            return Ok(None);
        }
        if lane.is_strict() {
            let found = store.waiting_in_order((org, endpoint), lane.mark.unwrap_or(EventId(0)), now, 1)?;
            return Ok(found.events.first().copied());
        }
        first_due(lane.unsettled(), &|event| lane.is_under_way(event))
    }

    /// The longest that one has been found there again and again.
    fn show_overdue(&self, now: Timestamp) {
        let oldest = self.scan.stuck.values().map(|(_, since)| *since).min();
        let overdue_ms = oldest.map_or(0, |since| now.0.saturating_sub(since.0));
        let seconds = std::time::Duration::from_millis(overdue_ms).as_secs_f64();
        self.ports.metrics.delivery_overdue_seconds.set(seconds);
    }
}
