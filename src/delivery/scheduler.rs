//! The thread that decides what is sent when.
//!
//! Each endpoint has a lane: a short queue of deliveries that are due, how many of them are on their way, and whether it may
//! get more now. Organizations take turns, and their lanes do. Memory holds a bounded number of ids; the rest waits in the
//! state's due index, which also is all that a restart needs.
//!
//! It must not know how anything is sent or stored: it starts attempts and hears that they are settled.

mod loading;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::alarms::Alarms;
use super::breakers::Breakers;
use super::lane::{Gate, Lane, Target};
use super::turns::{Room, Standing, Turns};
use crate::base::clock::Clock;
use crate::base::metrics::Metrics;
use crate::base::sabotage::{self, Switch};
use crate::base::threads::Stop;
use crate::commit::{Hints, Intake, SchedulerHint};
use crate::model::delivery::Verdict;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::breaker::{Answer, BreakerPolicy, BreakerView, Moment};
use crate::store::{DueDelivery, StateError, Store};

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
/// Lanes of endpoints that nothing is to be sent to are kept for what is known of the endpoint; not beyond so many lanes.
const LANES_REMEMBERED: usize = 20_000;

/// Bounds of the scheduler.
#[derive(Clone, Copy, Debug)]
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

    /// Reports that can wait for the scheduler: two for each attempt.
    pub fn reports(&self) -> usize {
        self.room().unsettled.saturating_mul(2)
    }
}

/// What the scheduler hears of an attempt: first the one, then the other.
#[derive(Clone, Copy, Debug)]
pub enum Report {
    /// The request is over and brought this then, so another one may be made. It is on its way to the journal. When it was
    /// over says nothing of when this is heard: a pause begins with the answer, however late the scheduler is.
    Over(Attempt, Answer, Timestamp),
    /// It is settled, and this became of it; none when it could not be, so that it is made again later.
    Settled(Attempt, Option<Verdict>),
}

/// Which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Whose.
    pub org: OrgNo,
    /// Where to.
    pub endpoint: EndpointId,
    /// Of which event.
    pub event: EventId,
    /// Whether the endpoint was in doubt when it began.
    pub in_doubt: bool,
}

impl Attempt {
    fn standing(self) -> Standing {
        if self.in_doubt { Standing::InDoubt } else { Standing::Works }
    }
}

/// Starts an attempt somewhere else; what becomes of it comes back as [`Report`]s.
pub trait Attempts: Send {
    /// Starts it; reports name it as it is named here.
    fn start(&self, delivery: DueDelivery, attempt: Attempt);
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
    /// What became of attempts. Holds [`SchedulerLimits::reports`], so telling never waits.
    pub reports: Receiver<Report>,
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
    attempts: A,
    lanes: HashMap<EndpointId, Lane>,
    turns: Turns,
    /// When to look into the state for a lane.
    looks: Alarms,
    /// When a lane that has something to send may send it.
    wakes: Alarms,
    /// Ids in the queues of all lanes.
    queued: usize,
    /// How far the look at all lanes has come, while there is one.
    survey: Option<EndpointId>,
    /// Lanes that keep the order of events and wait until an earlier one is routed.
    behind_routing: HashSet<EndpointId>,
    /// When they were last looked at.
    routing_polled: Instant,
}

impl<A: Attempts> Scheduler<A> {
    /// A scheduler that knows nothing yet; running it begins with a look into the state.
    pub fn new(ports: SchedulerPorts, limits: SchedulerLimits, attempts: A) -> Self {
        Self {
            ports,
            limits,
            attempts,
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

    /// Works until it is asked to stop, then waits until what is on its way is settled, at most so long. What is not
    /// settled then is made again at the next start.
    pub fn run(mut self, stop: &Stop, drain: Duration) {
        self.ports.hints.scheduler_missed.store(true, Ordering::SeqCst);
        while !stop.is_set() {
            if let Err(error) = self.turn() {
                tracing::error!(%error, "scheduling failed; it is tried again");
                self.wait(NAP);
                self.ports.hints.scheduler_missed.store(true, Ordering::SeqCst);
            }
            self.wait(self.sleep());
        }
        let deadline = Instant::now() + drain;
        while self.turns.unsettled() > 0 && Instant::now() < deadline {
            if let Ok(report) = self.ports.reports.recv_deadline(deadline) {
                self.take_in(report);
            }
        }
        if self.turns.unsettled() > 0 {
            tracing::info!(
                attempts = self.turns.unsettled(),
                "attempts were not over in time; they are made again after the next start"
            );
        }
    }

    fn turn(&mut self) -> Result<(), StateError> {
        // One that is under way goes on to its end first, so that it has one however often hints are missed.
        if self.survey.is_none() && self.ports.hints.scheduler_missed.swap(false, Ordering::SeqCst) {
            self.survey = Some(EndpointId(0));
        }
        self.survey()?;
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

    fn now(&self) -> Timestamp {
        Timestamp(self.ports.clock.now_ms())
    }

    fn sleep(&self) -> Duration {
        if self.survey.is_some() || self.ports.hints.scheduler_missed.load(Ordering::SeqCst) {
            return Duration::ZERO;
        }
        let alarm = self.looks.first().into_iter().chain(self.wakes.first()).min();
        let longest = if self.behind_routing.is_empty() { NAP } else { ROUTING_POLL };
        alarm.map_or(longest, |at| self.ports.clock.until(at.0).min(longest))
    }

    /// Sleeps until something is heard, then takes in what there is.
    fn wait(&mut self, at_most: Duration) {
        let (hints, reports) = (self.ports.queue.clone(), self.ports.reports.clone());
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

    fn take_in(&mut self, report: Report) {
        match report {
            Report::Over(attempt, answer, at) => self.over(attempt, answer, at),
            Report::Settled(attempt, verdict) => self.settled(attempt, verdict),
        }
    }

    fn over(&mut self, attempt: Attempt, answer: Answer, at: Timestamp) {
        let Attempt { org, endpoint, event, .. } = attempt;
        self.turns.over(org, attempt.standing());
        let (now, SchedulerLimits { breaker, in_flight_per_endpoint, .. }) = (self.now(), self.limits);
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        let before = lane.view();
        let moment = Moment { now: at, jitter: (self.ports.jitter)() };
        lane.over(event, answer, (breaker, in_flight_per_endpoint), moment);
        if lane.is_stale() {
            self.queued -= lane.drop_queue();
        }
        let view = lane.view();
        if let (Some(turn), Standing::Works) = (lane.turn, lane.standing()) {
            self.turns.works(org, turn);
        }
        if view != before {
            self.note_breaker(endpoint, view);
            let next = if let BreakerView::Open(until) = view { until } else { Timestamp(0) };
            if let Some(lane) = self.lanes.get_mut(&endpoint) {
                // Memory is for what can be sent.
                self.queued -= if next > now { lane.drop_queue() } else { 0 };
            }
            self.looks.set(endpoint, next);
        }
        self.give_turn(endpoint);
    }

    fn note_breaker(&self, endpoint: EndpointId, view: BreakerView) {
        let open = self.ports.breakers.set(endpoint, view);
        self.ports.metrics.breakers_open.set(i64::try_from(open).unwrap_or(i64::MAX));
        match view {
            BreakerView::Open(until) => tracing::info!(%endpoint, %until, "the endpoint is left alone for a while"),
            BreakerView::Closed => tracing::info!(%endpoint, "the endpoint is no longer left alone"),
            BreakerView::HalfOpen => {}
        }
    }

    fn settled(&mut self, attempt: Attempt, verdict: Option<Verdict>) {
        let Attempt { org, endpoint, event, .. } = attempt;
        self.turns.settled(org);
        let now = self.now();
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        lane.settled(event);
        let again_at = match verdict {
            Some(Verdict::RetryAt(at)) => Some(at),
            Some(Verdict::Dead(_) | Verdict::Delivered) => None,
            None => Some(now.plus_ms(1_000)),
        };
        if let Some(at) = again_at {
            if lane.is_strict() {
                // Those behind it wait for it.
                self.queued -= lane.drop_queue();
            }
            self.looks.set(endpoint, at);
        } else if lane.is_stale() || lane.waiting() == 0 && lane.more {
            self.looks.set(endpoint, Timestamp(0));
        }
        self.give_turn(endpoint);
        self.forget_if_idle(endpoint);
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
        if lane.is_stale() {
            lane.more = true;
            return;
        }
        if lane.is_strict() {
            lane.more = true;
            lane.mark = lane.mark.min(Some(event));
            if lane.front().is_some_and(|front| event < front) {
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
                    let org = delivery.org;
                    self.turns.began(org, standing);
                    let in_doubt = standing == Standing::InDoubt;
                    self.attempts.start(delivery, Attempt { org, endpoint, event, in_doubt });
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
