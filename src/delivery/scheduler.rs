//! The thread that decides what is sent when.
//!
//! Each endpoint has an endpoint queue (`EndpointQueue`): deliveries that are due, the number in
//! flight, and the permission to send more. Organizations take turns, and within an organization
//! its endpoint queues do. Memory holds a bounded number of ids; all others wait in the due index
//! of the state, which is also all a restart needs.
//!
//! The scheduler does not know how a webhook is sent or stored: it starts attempts, and their
//! reports say when they are settled.

mod loading;
mod reports;
mod scan;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::breakers::Breakers;
use super::completion::{Attempt, Completion, Ledger};
use super::endpoint_queue::{EndpointQueue, Gate, Target};
use super::fair_queue::{FairQueue, Room};
use super::timer_queue::TimerQueue;
use crate::base::clock::Clock;
use crate::base::failpoint::{self, Switch};
use crate::base::live::Live;
use crate::base::metrics::Metrics;
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

/// The longest sleep, after which the stop flag is checked.
const NAP: Duration = Duration::from_secs(1);
/// How soon endpoints in strict order are looked at again while an earlier event is being routed.
const ROUTING_POLL: Duration = Duration::from_millis(5);
/// Maximum number of hints, and of reports, taken in together.
const TAKEN_AT_ONCE: usize = 1_024;
/// Maximum number of unsettled attempts for each attempt that may be in flight. After a crash the
/// unsettled attempts are repeated.
const UNSETTLED_PER_IN_FLIGHT: usize = 4;
/// The same factor within an organization. It is larger because an organization's share is small
/// beside the attempts that one sync of the journal settles.
const UNSETTLED_PER_IN_FLIGHT_OF_ORG: usize = 16;
/// The limit in flight can be raised at runtime to at most this multiple of its start value: the
/// channel of reports has room for it.
pub const RAISED_TIMES: usize = 4;
/// Endpoint queues without deliveries are kept for the health of their endpoints, but only while
/// memory holds at most this many endpoint queues.
const LANES_REMEMBERED: usize = 20_000;

/// Limits of the scheduler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SchedulerLimits {
    /// Maximum number of attempts in flight.
    pub in_flight: usize,
    /// Maximum number of attempts in flight to the endpoints of one organization.
    pub in_flight_per_org: usize,
    /// Maximum number of attempts in flight to one endpoint.
    pub in_flight_per_endpoint: usize,
    /// Maximum number of deliveries in memory for one endpoint.
    pub queue_per_endpoint: usize,
    /// Maximum number of deliveries in memory. Beyond the limit, only an empty endpoint queue gets
    /// a delivery.
    pub queued: usize,
    /// When the circuit breaker of an endpoint opens.
    pub breaker: BreakerPolicy,
}

impl SchedulerLimits {
    fn room(&self) -> Room {
        let unsettled = self.in_flight.saturating_mul(UNSETTLED_PER_IN_FLIGHT);
        Room { in_flight: self.in_flight, unsettled }
    }

    fn room_per_org(&self) -> Room {
        if failpoint::is_on(Switch::ShareOff) {
            return self.room();
        }
        let in_flight = self.in_flight_per_org;
        let unsettled =
            in_flight.saturating_mul(UNSETTLED_PER_IN_FLIGHT_OF_ORG).min(self.room().unsettled);
        Room { in_flight, unsettled }
    }

    /// Capacity of the channel of reports: two for each attempt, with the limits raised as far as
    /// possible.
    fn reports(&self) -> usize {
        self.room().unsettled.saturating_mul(2 * RAISED_TIMES)
    }
}

/// Starts attempts outside of the scheduler's thread.
pub trait Attempts: Send {
    /// Starts an attempt; `completion` reports its end to the scheduler.
    fn start(&self, delivery: DueDelivery, completion: Completion);
}

/// The connections of the scheduler to the rest of the process.
pub struct SchedulerPorts {
    /// The state, which holds due deliveries and endpoints.
    pub store: Arc<Store>,
    /// Where cancellations go as commands.
    pub intake: Intake,
    /// Says if hints were missed.
    pub hints: Arc<Hints>,
    /// Hints about new deliveries and changed endpoints.
    pub queue: Receiver<SchedulerHint>,
    /// The steady clock of due times and pauses.
    pub clock: Clock,
    /// Returns a random number from 0 up to 1, for the pauses of breakers.
    pub jitter: fn() -> f64,
    /// Where the scheduler publishes the circuit breakers.
    pub breakers: Arc<Breakers>,
    /// Holds the gauges of attempts and breakers.
    pub metrics: Arc<Metrics>,
}

/// Decides which attempts begin, and starts them with `A`.
pub struct Scheduler<A> {
    ports: SchedulerPorts,
    limits: SchedulerLimits,
    /// Replaces `limits` at runtime, if present.
    live_limits: Option<Arc<Live<SchedulerLimits>>>,
    attempts: A,
    /// Numbers of attempts with news in their ledgers. Has a capacity of
    /// [`SchedulerLimits::reports`], so reporting never blocks.
    reports: (Sender<u64>, Receiver<u64>),
    /// Unsettled attempts with their ledgers, by attempt number.
    under_way: BTreeMap<u64, UnderWay>,
    /// The number of the last attempt begun.
    last_attempt: u64,
    queues: HashMap<EndpointId, EndpointQueue>,
    turns: FairQueue,
    /// When to look in the state for deliveries of an endpoint.
    looks: TimerQueue,
    /// When an endpoint with queued ids may send again.
    wakes: TimerQueue,
    /// Number of queued ids in all endpoint queues.
    queued: usize,
    /// The last endpoint seen by the pass over all endpoints after missed hints; `None` without a
    /// pass.
    catch_up: Option<EndpointId>,
    /// The slow scan of everything, always running.
    scan: Scan,
    /// Endpoints in strict order that wait until an earlier event is routed.
    behind_routing: HashSet<EndpointId>,
    /// When the endpoints behind routing were last looked at.
    routing_polled: Instant,
}

/// An attempt from its start until it is settled.
#[derive(Debug)]
struct UnderWay {
    attempt: Attempt,
    ledger: Ledger,
    /// Set when the scheduler has processed the end of the request.
    is_over: bool,
}

impl<A: Attempts> Scheduler<A> {
    /// Makes a scheduler with empty memory. [`Self::run`] begins with a pass over the state.
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
            queues: HashMap::new(),
            turns: FairQueue::new(limits.room(), limits.room_per_org()),
            looks: TimerQueue::default(),
            wakes: TimerQueue::default(),
            queued: 0,
            catch_up: None,
            behind_routing: HashSet::new(),
            routing_polled: Instant::now(),
        }
    }

    /// Makes the scheduler read its limits from `limits` at every turn.
    #[must_use]
    pub fn with_live_limits(mut self, limits: Arc<Live<SchedulerLimits>>) -> Self {
        self.live_limits = Some(limits);
        self
    }

    /// Works until `stop` is set, then waits up to `drain` until all attempts are settled. The next
    /// start repeats unsettled attempts.
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
        if let Some(limits) = self
            .live_limits
            .as_ref()
            .map(|live| *live.get())
            .filter(|limits| *limits != self.limits)
        {
            self.limits = limits;
            self.turns.set_rooms(limits.room(), limits.room_per_org());
        }
        // A running pass ends before the next begins, so that each pass ends even if hints are
        // missed all the time.
        if self.catch_up.is_none()
            && self.ports.hints.scheduler_missed.swap(false, Ordering::SeqCst)
        {
            self.catch_up = Some(EndpointId(0));
        }
        self.catch_up()?;
        self.scan()?;
        self.look_where_due()?;
        let now = self.now();
        while let Some(endpoint) = self.wakes.take(now) {
            self.give_turn(endpoint);
        }
        while let Some(endpoint) = self.turns.next() {
            self.start_next(endpoint)?;
        }
        self.ports
            .metrics
            .deliveries_in_flight
            .set(i64::try_from(self.turns.in_flight()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// The steady time, so that a clock set back delays nothing.
    fn now(&self) -> Timestamp {
        Timestamp(self.ports.clock.steady_ms())
    }

    fn sleep(&self) -> Duration {
        if self.catch_up.is_some() || self.ports.hints.scheduler_missed.load(Ordering::SeqCst) {
            return Duration::ZERO;
        }
        let timer = [self.looks.first(), self.wakes.first(), Some(self.scan.next_at())]
            .into_iter()
            .flatten()
            .min();
        let longest = if self.behind_routing.is_empty() { NAP } else { ROUTING_POLL };
        timer.map_or(longest, |at| self.ports.clock.until(at.0).min(longest))
    }

    /// Sleeps until a hint or a report arrives, then takes in a bounded number of both.
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
            SchedulerHint::Due(endpoint, at, event) if at <= self.now() => {
                self.offer(endpoint, event);
            }
            SchedulerHint::Due(endpoint, at, _) => self.looks.set(endpoint, at),
            SchedulerHint::Changed(endpoint) => self.looks.set(endpoint, Timestamp(0)),
        }
    }

    /// Takes in a hint about a delivery that is due now.
    fn offer(&mut self, endpoint: EndpointId, event: EventId) {
        let queue = self.queues.entry(endpoint).or_default();
        if queue.target().is_none() {
            let Ok(Some((org, endpoint))) = self.ports.store.target(endpoint) else {
                self.looks.set(endpoint, Timestamp(0));
                return;
            };
            queue.aim(Target { org, endpoint });
        }
        if !queue.is_enabled() {
            self.looks.set(endpoint, Timestamp(0));
            return;
        }
        if queue.heard_of(event) {
            // The settling of the current attempt causes another look.
            queue.mark = queue.mark.min(Some(event));
            return;
        }
        if queue.is_stale() {
            queue.more = true;
            return;
        }
        if queue.is_strict() {
            queue.more = true;
            queue.mark = queue.mark.min(Some(event));
            if queue.back().is_some_and(|back| event < back) {
                self.queued -= queue.drop_queue();
            }
            if queue.claimed() == 0 {
                self.looks.set(endpoint, Timestamp(0));
            }
            return;
        }
        match queue.view() {
            BreakerView::Open(until) => {
                queue.more = true;
                self.looks.set(endpoint, until);
            }
            BreakerView::HalfOpen => queue.more = true,
            BreakerView::Closed => {
                let is_full = queue.waiting() >= self.limits.queue_per_endpoint
                    || (queue.waiting() > 0 && self.queued >= self.limits.queued);
                if queue.more || is_full {
                    queue.more = true;
                } else if queue.push(event) {
                    self.queued += 1;
                }
                self.give_turn(endpoint);
            }
        }
    }

    fn give_turn(&mut self, endpoint: EndpointId) {
        let now = self.now();
        let Some(queue) = self.queues.get_mut(&endpoint) else { return };
        if queue.turn.is_some() {
            return;
        }
        match (queue.gate(now, self.limits.in_flight_per_endpoint), queue.target()) {
            (Gate::Open, Some(target)) => {
                let org = target.org;
                let health = queue.health();
                queue.turn = Some(self.turns.ask(org, endpoint, health));
            }
            (Gate::NotUntil(at), _) => self.wakes.set(endpoint, at),
            (Gate::Open | Gate::Shut, _) => {}
        }
    }

    /// Begins the next attempt of the endpoint, if the endpoint still may send.
    fn start_next(&mut self, endpoint: EndpointId) -> Result<(), StateError> {
        let now = self.now();
        let Some(queue) = self.queues.get_mut(&endpoint) else { return Ok(()) };
        queue.turn = None;
        if queue.gate(now, self.limits.in_flight_per_endpoint) == Gate::Open
            && let Some(event) = queue.pop()
        {
            self.queued -= 1;
            match self.ports.store.due_delivery(endpoint, event)? {
                Some(delivery) if !queue.knows(&delivery.endpoint) => {
                    // The owner's change of the endpoint applies from now on.
                    self.queued -= queue.drop_queue();
                    queue.more = true;
                    self.looks.set(endpoint, Timestamp(0));
                }
                Some(delivery) if delivery.due_at > now => {
                    // The hint was late, or the clock was set back.
                    if queue.is_strict() {
                        self.queued -= queue.drop_queue();
                    }
                    self.looks.set(endpoint, delivery.due_at);
                }
                Some(delivery) => {
                    let (before, health) = (queue.view(), queue.health());
                    queue.begin(event, now);
                    let view = queue.view();
                    self.begin(delivery, health);
                    if view != before {
                        self.note_breaker(endpoint, view);
                    }
                }
                None => {}
            }
            if self.queues.get(&endpoint).is_some_and(|queue| queue.more && queue.waiting() == 0) {
                self.looks.set(endpoint, Timestamp(0));
            }
        }
        self.give_turn(endpoint);
        self.forget_if_idle(endpoint);
        Ok(())
    }

    fn forget_if_idle(&mut self, endpoint: EndpointId) {
        let is_idle = self
            .queues
            .get(&endpoint)
            .is_some_and(|queue| queue.claimed() == 0 && queue.turn.is_none());
        if is_idle && !self.looks.has(endpoint) && !self.behind_routing.contains(&endpoint) {
            self.forget(endpoint);
        }
    }

    /// Frees the memory of an endpoint without work, or keeps its health for a while if there is
    /// room.
    fn forget(&mut self, endpoint: EndpointId) {
        let Some(queue) = self.queues.get(&endpoint) else { return };
        let until = queue.matters_until();
        if until > self.now() && self.queues.len() <= LANES_REMEMBERED {
            self.looks.set(endpoint, until);
            return;
        }
        self.remove(endpoint);
    }

    fn remove(&mut self, endpoint: EndpointId) {
        let Some(queue) = self.queues.remove(&endpoint) else { return };
        self.queued -= queue.waiting();
        if queue.view() != BreakerView::Closed {
            self.note_breaker(endpoint, BreakerView::Closed);
        }
    }
}
