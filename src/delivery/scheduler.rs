//! The thread that decides what is sent when.
//!
//! Each endpoint has a lane: a short queue of deliveries that are due, how many of them are on their way, and whether it may
//! get more now. Organizations take turns, and their lanes do. Memory holds a bounded number of ids; the rest waits in the
//! state's due index, which also is all that a restart needs.
//!
//! It must not know how anything is sent or stored: it starts attempts and hears that they are settled.

mod loading;
mod reports;
mod scan;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::alarms::Alarms;
use super::breakers::Breakers;
use super::completion::{Attempt, Completion, Ledger};
use super::lane::{Gate, Lane, Target};
use super::turns::{Room, Turns};
use crate::base::clock::Clock;
use crate::base::live::Live;
use crate::base::metrics::Metrics;
use crate::base::sabotage::{self, Switch};
use crate::base::threads::Stop;
use crate::commit::{Hints, Intake, SchedulerHint};
use crate::model::id::{EndpointId, EventId};
use crate::model::time::Timestamp;
use crate::rules::breaker::{BreakerPolicy, BreakerView};
use crate::store::{DueDelivery, StateError, Store};

use scan::Scan;

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;

/// The longest sleep: then it looks whether it should stop.
const NAP: Duration = Duration::from_secs(1);
/// How soon to look again at endpoints that keep the order of events while an earlier one is being routed.
const ROUTING_POLL: Duration = Duration::from_millis(5);
/// Hints and reports taken in one go.
const TAKEN_AT_ONCE: usize = 1_024;
/// For each attempt that may be on its way, so many may have been started and not be settled yet. After a crash they are
/// made again.
const UNSETTLED_PER_IN_FLIGHT: usize = 4;
/// The same within an organization, whose share is small beside what the journal takes in with one sync.
const UNSETTLED_PER_IN_FLIGHT_OF_ORG: usize = 16;
/// So many times the attempts on their way that were allowed at the start can be allowed while it runs: there is room for
/// what they report.
pub const RAISED_TIMES: usize = 4;
/// Lanes of endpoints that nothing is to be sent to are kept for what is known of the endpoint; not beyond so many lanes.
const LANES_REMEMBERED: usize = 20_000;

/// Bounds of the scheduler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SchedulerLimits {
    /// Attempts on their way, all together.
    pub in_flight: usize,
    /// Attempts on their way to the endpoints of one organization.
    pub in_flight_per_org: usize,
    /// Attempts on their way to one endpoint.
    pub in_flight_per_endpoint: usize,
    /// Deliveries of one endpoint kept in memory.
    pub queue_per_endpoint: usize,
    /// Deliveries kept in memory, all together. Beyond it a lane gets one when it has none.
    pub queued: usize,
    /// When an endpoint is left alone.
    pub breaker: BreakerPolicy,
}

impl SchedulerLimits {
    fn room(&self) -> Room {
        let unsettled = self.in_flight.saturating_mul(UNSETTLED_PER_IN_FLIGHT);
        Room { in_flight: self.in_flight, unsettled }
    }

    fn room_per_org(&self) -> Room {
        if sabotage::is_on(Switch::ShareOff) {
            return self.room();
        }
        let in_flight = self.in_flight_per_org;
        let unsettled = in_flight.saturating_mul(UNSETTLED_PER_IN_FLIGHT_OF_ORG).min(self.room().unsettled);
        Room { in_flight, unsettled }
    }

    /// Reports that can wait for the scheduler: two for each attempt, however far the limits are raised.
    fn reports(&self) -> usize {
        self.room().unsettled.saturating_mul(2 * RAISED_TIMES)
    }
}

/// Starts attempts somewhere else.
pub trait Attempts: Send {
    /// Starts one; `completion` tells the scheduler what becomes of it.
    fn start(&self, delivery: DueDelivery, completion: Completion);
}

/// What the scheduler works with.
pub struct SchedulerPorts {
    /// The state.
    pub store: Arc<Store>,
    /// Where cancellations go.
    pub intake: Intake,
    /// Whether hints were missed.
    pub hints: Arc<Hints>,
    /// New deliveries and changed endpoints.
    pub queue: Receiver<SchedulerHint>,
    /// The time.
    pub clock: Clock,
    /// Chance, from 0 up to 1.
    pub jitter: fn() -> f64,
    /// Where others see which endpoints are left alone.
    pub breakers: Arc<Breakers>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The scheduler.
pub struct Scheduler<A> {
    ports: SchedulerPorts,
    limits: SchedulerLimits,
    /// Where the limits are replaced while it runs.
    live_limits: Option<Arc<Live<SchedulerLimits>>>,
    attempts: A,
    /// Attempts, by number, in whose ledger there is something new. Holds [`SchedulerLimits::reports`], so telling never waits.
    reports: (Sender<u64>, Receiver<u64>),
    /// Attempts that are not settled, by number, and where it is told what becomes of them.
    under_way: BTreeMap<u64, UnderWay>,
    /// The number of the last attempt.
    last_attempt: u64,
    lanes: HashMap<EndpointId, Lane>,
    turns: Turns,
    /// When to look into the state for a lane.
    looks: Alarms,
    /// When a lane that has something to send may send it.
    wakes: Alarms,
    /// Ids in the queues of all lanes.
    queued: usize,
    /// How far the look at all lanes has come that is made after hints were missed, while there is one.
    survey: Option<EndpointId>,
    /// The look at everything that goes on all the time.
    scan: Scan,
    /// Lanes that keep the order of events and wait until an earlier one is routed.
    behind_routing: HashSet<EndpointId>,
    /// When they were last looked at.
    routing_polled: Instant,
}

/// An attempt that is not settled.
#[derive(Debug)]
struct UnderWay {
    attempt: Attempt,
    ledger: Ledger,
    /// Whether the scheduler knows that its request is over.
    is_over: bool,
}

impl<A: Attempts> Scheduler<A> {
    /// A scheduler that knows nothing yet; running it begins with a look into the state.
    pub fn new(ports: SchedulerPorts, limits: SchedulerLimits, attempts: A) -> Self {
        let scan = Scan::new(Timestamp(ports.clock.steady_ms()));
        Self {
            ports,
            limits,
            live_limits: None,
            attempts,
            reports: crossbeam_channel::bounded(limits.reports()),
            under_way: BTreeMap::new(),
            last_attempt: 0,
            scan,
            lanes: HashMap::new(),
            turns: Turns::new(limits.room(), limits.room_per_org()),
            looks: Alarms::default(),
            wakes: Alarms::default(),
            queued: 0,
            survey: None,
            behind_routing: HashSet::new(),
            routing_polled: Instant::now(),
        }
    }

    /// The same, whose limits are at every turn what they are there.
    #[must_use]
    pub fn with_live_limits(mut self, limits: Arc<Live<SchedulerLimits>>) -> Self {
        self.live_limits = Some(limits);
        self
    }

    /// Works until it is asked to stop, then waits until what is on its way is settled, at most so long. What is not
    /// settled then is made again at the next start.
    pub fn run(mut self, stop: &Stop, drain: Duration) {
        self.ports.hints.scheduler_missed.store(true, Ordering::SeqCst);
        while !stop.is_set() {
            if let Err(error) = self.turn() {
                tracing::error!(%error, "scheduling failed; it is retried");
                self.wait(NAP);
                self.ports.hints.scheduler_missed.store(true, Ordering::SeqCst);
            }
            self.wait(self.sleep());
        }
        let deadline = Instant::now() + drain;
        while self.turns.unsettled() > 0 && Instant::now() < deadline {
            if let Ok(report) = self.reports.1.recv_deadline(deadline) {
                self.take_in(report);
            }
        }
        if self.turns.unsettled() > 0 {
            tracing::info!(
                attempts = self.turns.unsettled(),
                "attempts did not finish in time; they are repeated after the next start"
            );
        }
    }

    fn turn(&mut self) -> Result<(), StateError> {
        if let Some(limits) = self.live_limits.as_ref().map(|live| *live.get()).filter(|limits| *limits != self.limits)
        {
            self.limits = limits;
            self.turns.set_rooms(limits.room(), limits.room_per_org());
        }
        // One that is under way goes on to its end first, so that it has one however often hints are missed.
        if self.survey.is_none() && self.ports.hints.scheduler_missed.swap(false, Ordering::SeqCst) {
            self.survey = Some(EndpointId(0));
        }
        self.survey()?;
        self.scan()?;
        self.look_where_due()?;
        let now = self.now();
        while let Some(endpoint) = self.wakes.take(now) {
            self.give_turn(endpoint);
        }
        while let Some(endpoint) = self.turns.next() {
            self.start_next(endpoint)?;
        }
        self.ports.metrics.deliveries_in_flight.set(i64::try_from(self.turns.in_flight()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// The steady time: nothing here waits for a clock that was set back.
    fn now(&self) -> Timestamp {
        Timestamp(self.ports.clock.steady_ms())
    }

    fn sleep(&self) -> Duration {
        if self.survey.is_some() || self.ports.hints.scheduler_missed.load(Ordering::SeqCst) {
            return Duration::ZERO;
        }
        let alarm = [self.looks.first(), self.wakes.first(), Some(self.scan.next_at())].into_iter().flatten().min();
        let longest = if self.behind_routing.is_empty() { NAP } else { ROUTING_POLL };
        alarm.map_or(longest, |at| self.ports.clock.until(at.0).min(longest))
    }

    /// Sleeps until something is heard, then takes in what there is.
    fn wait(&mut self, at_most: Duration) {
        let (hints, reports) = (self.ports.queue.clone(), self.reports.1.clone());
        crossbeam_channel::select! {
            recv(hints) -> hint => if let Ok(hint) = hint { self.hear(hint) },
            recv(reports) -> report => if let Ok(report) = report { self.take_in(report) },
            default(at_most) => {}
        }
        hints.try_iter().take(TAKEN_AT_ONCE).for_each(|hint| self.hear(hint));
        reports.try_iter().take(TAKEN_AT_ONCE).for_each(|report| self.take_in(report));
    }

    fn hear(&mut self, hint: SchedulerHint) {
        match hint {
            SchedulerHint::Due(endpoint, at, event) if at <= self.now() => self.offer(endpoint, event),
            SchedulerHint::Due(endpoint, at, _) => self.looks.set(endpoint, at),
            SchedulerHint::Changed(endpoint) => self.looks.set(endpoint, Timestamp(0)),
        }
    }

    /// A delivery that is due now.
    fn offer(&mut self, endpoint: EndpointId, event: EventId) {
        let lane = self.lanes.entry(endpoint).or_default();
        if lane.target().is_none() {
            let Ok(Some((org, endpoint))) = self.ports.store.target(endpoint) else {
                self.looks.set(endpoint, Timestamp(0));
                return;
            };
            lane.aim(Target { org, endpoint });
        }
        if !lane.is_enabled() {
            self.looks.set(endpoint, Timestamp(0));
            return;
        }
        if lane.heard_of(event) {
            // Its settling brings another look.
            lane.mark = lane.mark.min(Some(event));
            return;
        }
        if lane.is_stale() {
            lane.more = true;
            return;
        }
        if lane.is_strict() {
            lane.more = true;
            lane.mark = lane.mark.min(Some(event));
            if lane.back().is_some_and(|back| event < back) {
                self.queued -= lane.drop_queue();
            }
            if lane.claimed() == 0 {
                self.looks.set(endpoint, Timestamp(0));
            }
            return;
        }
        match lane.view() {
            BreakerView::Open(until) => {
                lane.more = true;
                self.looks.set(endpoint, until);
            }
            BreakerView::HalfOpen => lane.more = true,
            BreakerView::Closed => {
                let is_full = lane.waiting() >= self.limits.queue_per_endpoint
                    || (lane.waiting() > 0 && self.queued >= self.limits.queued);
                if lane.more || is_full {
                    lane.more = true;
                } else if lane.push(event) {
                    self.queued += 1;
                }
                self.give_turn(endpoint);
            }
        }
    }

    fn give_turn(&mut self, endpoint: EndpointId) {
        let now = self.now();
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        if lane.turn.is_some() {
            return;
        }
        match (lane.gate(now, self.limits.in_flight_per_endpoint), lane.target()) {
            (Gate::Open, Some(target)) => {
                let org = target.org;
                let standing = lane.standing();
                lane.turn = Some(self.turns.ask(org, endpoint, standing));
            }
            (Gate::NotUntil(at), _) => self.wakes.set(endpoint, at),
            (Gate::Open | Gate::Shut, _) => {}
        }
    }

    /// A lane has its turn: begins its next attempt, if it still may.
    fn start_next(&mut self, endpoint: EndpointId) -> Result<(), StateError> {
        let now = self.now();
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return Ok(()) };
        lane.turn = None;
        if lane.gate(now, self.limits.in_flight_per_endpoint) == Gate::Open
            && let Some(event) = lane.pop()
        {
            self.queued -= 1;
            match self.ports.store.due_delivery(endpoint, event)? {
                Some(delivery) if !lane.knows(&delivery.endpoint) => {
                    // What its owner has changed counts from now on.
                    self.queued -= lane.drop_queue();
                    lane.more = true;
                    self.looks.set(endpoint, Timestamp(0));
                }
                Some(delivery) if delivery.due_at > now => {
                    // The hint was late, or the clock was set back.
                    if lane.is_strict() {
                        self.queued -= lane.drop_queue();
                    }
                    self.looks.set(endpoint, delivery.due_at);
                }
                Some(delivery) => {
                    let (before, standing) = (lane.view(), lane.standing());
                    lane.begin(event, now);
                    let view = lane.view();
                    self.begin(delivery, standing);
                    if view != before {
                        self.note_breaker(endpoint, view);
                    }
                }
                None => {}
            }
            if self.lanes.get(&endpoint).is_some_and(|lane| lane.more && lane.waiting() == 0) {
                self.looks.set(endpoint, Timestamp(0));
            }
        }
        self.give_turn(endpoint);
        self.forget_if_idle(endpoint);
        Ok(())
    }

    fn forget_if_idle(&mut self, endpoint: EndpointId) {
        let is_idle = self.lanes.get(&endpoint).is_some_and(|lane| lane.claimed() == 0 && lane.turn.is_none());
        if is_idle && !self.looks.has(endpoint) && !self.behind_routing.contains(&endpoint) {
            self.forget(endpoint);
        }
    }

    /// Memory is for endpoints that have something to do; and, for a while, for what is known of the others.
    fn forget(&mut self, endpoint: EndpointId) {
        let Some(lane) = self.lanes.get(&endpoint) else { return };
        let until = lane.matters_until();
        if until > self.now() && self.lanes.len() <= LANES_REMEMBERED {
            self.looks.set(endpoint, until);
            return;
        }
        self.remove(endpoint);
    }

    fn remove(&mut self, endpoint: EndpointId) {
        let Some(lane) = self.lanes.remove(&endpoint) else { return };
        self.queued -= lane.waiting();
        if lane.view() != BreakerView::Closed {
            self.note_breaker(endpoint, BreakerView::Closed);
        }
    }
}
