//! The thread that decides what is sent when.
//!
//! Each endpoint has a lane: a short queue of deliveries that are due, and how many of them are on their way. Lanes take
//! turns, and each may have so many on their way. Memory holds a bounded number of ids per endpoint; the
//! rest waits in the state's due index, which also is all that a restart needs.
//!
//! It must not know how anything is sent or stored: it starts attempts and hears that they are settled.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::base::clock::Clock;
use crate::base::metrics::Metrics;
use crate::base::threads::Stop;
use crate::commit::{Hints, Intake, SchedulerHint};
use crate::model::command::{CancelDeliveries, Command};
use crate::model::delivery::Verdict;
use crate::model::id::{EndpointId, EventId};
use crate::model::time::Timestamp;
use crate::store::{DueDelivery, StateError, Store};

/// The longest sleep: then it looks whether it should stop.
const NAP: Duration = Duration::from_secs(1);
/// Hints and reports taken in one go.
const TAKEN_AT_ONCE: usize = 1_024;
/// Deliveries of a deleted endpoint that are canceled in one command.
const CANCELED_AT_ONCE: usize = 500;
/// For each attempt that may be on its way, so many may have been started and not be settled yet. After a crash they are
/// made again.
const UNSETTLED_PER_IN_FLIGHT: usize = 4;

/// Bounds of the scheduler.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerLimits {
    /// Attempts on their way, all together.
    pub in_flight: usize,
    /// Attempts on their way to one endpoint.
    pub in_flight_per_endpoint: usize,
    /// Deliveries of one endpoint kept in memory.
    pub queue_per_endpoint: usize,
}

impl SchedulerLimits {
    /// Attempts that are started and not settled, at most.
    fn unsettled(&self) -> usize {
        self.in_flight.saturating_mul(UNSETTLED_PER_IN_FLIGHT)
    }

    /// Reports that can wait for the scheduler: two for each attempt.
    pub fn reports(&self) -> usize {
        self.unsettled().saturating_mul(2)
    }
}

/// What the scheduler hears of an attempt: first the one, then the other.
#[derive(Clone, Copy, Debug)]
pub enum Report {
    /// The request to this endpoint is over, so another one may be made. What came of it is on its way to the journal.
    Over(EndpointId),
    /// It is settled.
    Settled(Settled),
}

/// An attempt is settled; `verdict` is none when it could not be, so that it is made again later.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// Where to.
    pub endpoint: EndpointId,
    /// Which.
    pub event: EventId,
    /// What became of it.
    pub verdict: Option<Verdict>,
}

/// Starts an attempt somewhere else; what becomes of it comes back as [`Report`]s.
pub trait Attempts: Send {
    /// Starts it.
    fn start(&self, delivery: DueDelivery);
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
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The scheduler.
pub struct Scheduler<A> {
    ports: SchedulerPorts,
    limits: SchedulerLimits,
    attempts: A,
    lanes: HashMap<EndpointId, Lane>,
    /// Lanes that have something to send and room to send it, each once.
    turns: VecDeque<EndpointId>,
    /// When to look at a lane again; one entry a lane.
    alarms: BTreeSet<(Timestamp, EndpointId)>,
    in_flight: usize,
    /// Started and not settled, whether on their way or not.
    unsettled: usize,
}

#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<EventId>,
    /// In the queue, on their way, or not settled.
    claimed: HashSet<EventId>,
    in_flight: usize,
    has_turn: bool,
    /// The state has more that is due than the queue holds.
    more: bool,
    alarm: Option<Timestamp>,
}

impl<A: Attempts> Scheduler<A> {
    /// A scheduler that knows nothing yet; running it begins with a look into the state.
    pub fn new(ports: SchedulerPorts, limits: SchedulerLimits, attempts: A) -> Self {
        Self {
            ports,
            limits,
            attempts,
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            alarms: BTreeSet::new(),
            in_flight: 0,
            unsettled: 0,
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
        while self.unsettled > 0 && Instant::now() < deadline {
            if let Ok(report) = self.ports.reports.recv_deadline(deadline) {
                self.take_in(report);
            }
        }
        if self.unsettled > 0 {
            tracing::info!(
                attempts = self.unsettled,
                "attempts were not over in time; they are made again after the next start"
            );
        }
    }

    fn turn(&mut self) -> Result<(), StateError> {
        if self.ports.hints.scheduler_missed.swap(false, Ordering::SeqCst) {
            self.look_at_all()?;
        }
        let now = self.now();
        while let Some((at, endpoint)) = self.alarms.first().copied().filter(|(at, _)| *at <= now) {
            self.alarms.remove(&(at, endpoint));
            if let Some(lane) = self.lanes.get_mut(&endpoint) {
                lane.alarm = None;
            }
            self.refill(endpoint)?;
        }
        self.start_attempts()?;
        self.ports.metrics.deliveries_in_flight.set(i64::try_from(self.in_flight).unwrap_or(i64::MAX));
        Ok(())
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.ports.clock.now_ms())
    }

    fn sleep(&self) -> Duration {
        if self.ports.hints.scheduler_missed.load(Ordering::SeqCst) {
            return Duration::ZERO;
        }
        let alarm = self.alarms.first().map_or(NAP, |(at, _)| self.ports.clock.until(at.0));
        alarm.min(NAP)
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
            SchedulerHint::Due(endpoint, at, _) => self.set_alarm(endpoint, at),
            SchedulerHint::Changed(endpoint) => self.set_alarm(endpoint, Timestamp(0)),
        }
    }

    fn take_in(&mut self, report: Report) {
        match report {
            Report::Over(endpoint) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                if let Some(lane) = self.lanes.get_mut(&endpoint) {
                    lane.in_flight = lane.in_flight.saturating_sub(1);
                }
                self.give_turn(endpoint);
            }
            Report::Settled(settled) => self.settled(settled),
        }
    }

    fn settled(&mut self, settled: Settled) {
        let Settled { endpoint, event, verdict } = settled;
        self.unsettled = self.unsettled.saturating_sub(1);
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        lane.claimed.remove(&event);
        let (refill, idle) = (lane.queue.is_empty() && lane.more, lane.claimed.is_empty() && lane.alarm.is_none());
        match verdict {
            Some(Verdict::RetryAt(at)) => self.set_alarm(endpoint, at),
            Some(Verdict::Dead(_)) | None => self.set_alarm(endpoint, self.now().plus_ms(1_000)),
            Some(Verdict::Delivered) if refill => self.set_alarm(endpoint, Timestamp(0)),
            Some(Verdict::Delivered) if idle => {
                // Memory is for endpoints that have something to do.
                self.lanes.remove(&endpoint);
                return;
            }
            Some(Verdict::Delivered) => {}
        }
        self.give_turn(endpoint);
    }

    /// A delivery that is due now.
    fn offer(&mut self, endpoint: EndpointId, event: EventId) {
        let lane = self.lanes.entry(endpoint).or_default();
        if lane.more || lane.queue.len() >= self.limits.queue_per_endpoint {
            lane.more = true;
        } else if lane.claimed.insert(event) {
            lane.queue.push_back(event);
        }
        self.give_turn(endpoint);
    }

    fn give_turn(&mut self, endpoint: EndpointId) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        let can_send = !lane.queue.is_empty() && lane.in_flight < self.limits.in_flight_per_endpoint;
        if can_send && !lane.has_turn {
            lane.has_turn = true;
            self.turns.push_back(endpoint);
        }
    }

    /// Looks at the lane again at this time, or earlier if that was planned.
    fn set_alarm(&mut self, endpoint: EndpointId, at: Timestamp) {
        let lane = self.lanes.entry(endpoint).or_default();
        if lane.alarm.is_some_and(|planned| planned <= at) {
            return;
        }
        if let Some(planned) = lane.alarm.replace(at) {
            self.alarms.remove(&(planned, endpoint));
        }
        self.alarms.insert((at, endpoint));
    }

    /// Every endpoint that something waits for: at the start, and when hints were missed.
    fn look_at_all(&mut self) -> Result<(), StateError> {
        let mut after = None;
        while let Some(lane) = self.ports.store.next_lane(after)? {
            self.set_alarm(lane.endpoint, lane.next_due);
            // A queue that holds something does not see what came behind it.
            if let Some(lane) = self.lanes.get_mut(&lane.endpoint) {
                lane.more = !lane.queue.is_empty();
            }
            after = Some(lane.endpoint);
        }
        Ok(())
    }

    /// Fills the lane's queue from the state with what is due.
    fn refill(&mut self, endpoint: EndpointId) -> Result<(), StateError> {
        let now = self.now();
        let Some(target) = self.ports.store.endpoint(endpoint)? else { return self.cancel_all(endpoint) };
        let lane = self.lanes.entry(endpoint).or_default();
        if !target.is_enabled() {
            // What waits goes on waiting; enabling it is a change that is heard.
            for event in lane.queue.drain(..) {
                lane.claimed.remove(&event);
            }
            return Ok(());
        }
        let limit = self.limits.queue_per_endpoint + lane.claimed.len() + 1;
        let waiting = self.ports.store.waiting_for(endpoint, now, limit)?;
        lane.more = false;
        for (due_at, event) in waiting {
            if due_at > now {
                self.set_alarm(endpoint, due_at);
                break;
            }
            if lane.claimed.contains(&event) {
                continue;
            }
            if lane.queue.len() >= self.limits.queue_per_endpoint {
                lane.more = true;
                break;
            }
            lane.claimed.insert(event);
            lane.queue.push_back(event);
        }
        self.give_turn(endpoint);
        Ok(())
    }

    /// The endpoint is no more: what waits for it is canceled, a bounded number at a time.
    fn cancel_all(&mut self, endpoint: EndpointId) -> Result<(), StateError> {
        if let Some(lane) = self.lanes.get_mut(&endpoint) {
            lane.queue.clear();
            lane.more = false;
        }
        let waiting = self.ports.store.waiting_for(endpoint, self.now(), CANCELED_AT_ONCE)?;
        let events: Vec<EventId> = waiting.into_iter().map(|(_, event)| event).collect();
        let Some(first) = events.first() else {
            self.lanes.remove(&endpoint);
            return Ok(());
        };
        if let Some(org) = self.ports.store.delivery_org(endpoint, *first)? {
            let command = Command::CancelDeliveries(CancelDeliveries { org, endpoint, events });
            self.ports.intake.push(vec![command]);
        }
        let soon = self.now().plus_ms(100);
        self.set_alarm(endpoint, soon);
        Ok(())
    }

    /// Lanes take turns until nobody has something to send, or as much is on its way as may be.
    fn start_attempts(&mut self) -> Result<(), StateError> {
        while self.in_flight < self.limits.in_flight
            && self.unsettled < self.limits.unsettled()
            && let Some(endpoint) = self.turns.pop_front()
        {
            let Some(lane) = self.lanes.get_mut(&endpoint) else { continue };
            lane.has_turn = false;
            let Some(event) = lane.queue.pop_front() else { continue };
            let runs_dry = lane.queue.is_empty() && lane.more;
            lane.claimed.remove(&event); // so that an error leaves nothing claimed
            match self.ports.store.due_delivery(endpoint, event)? {
                Some(delivery) if delivery.endpoint.is_enabled() => {
                    lane.claimed.insert(event);
                    lane.in_flight += 1;
                    self.in_flight += 1;
                    self.unsettled += 1;
                    self.attempts.start(delivery);
                }
                Some(_) | None => {}
            }
            if runs_dry {
                self.set_alarm(endpoint, Timestamp(0));
            }
            self.give_turn(endpoint);
        }
        Ok(())
    }
}
