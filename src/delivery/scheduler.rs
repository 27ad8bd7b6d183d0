//! The thread that decides what is sent when.
//!
//! Each endpoint has an endpoint queue: deliveries that are due, the number in flight, and the
//! permission to send more. Organizations take turns, and within an organization its endpoint
//! queues do. Memory holds a bounded number of ids; all others wait in the due index of the state,
//! which is also all a restart needs.
//!
//! Everything that happens follows one pattern. A hint, a report, a turn or a look changes the
//! queue of one endpoint, and the change returns when to look in the state for more deliveries of
//! this endpoint (`Look`). Then `Scheduler::follow_up` plans the look and asks for a turn.
//!
//! The scheduler does not know how a webhook is sent or stored: it starts attempts, and their
//! reports say when they are settled.

mod loading;
mod passes;
mod reports;
mod scan;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::completion::{Attempt, Completion, Ledger};
use super::endpoint_queue::EndpointQueue;
use super::endpoint_queues::EndpointQueues;
use super::timer_queue::TimerQueue;
use crate::base::live::Live;
use crate::base::random;
use crate::base::threads::Stop;
use crate::commit::{Engine, SchedulerHint};
use crate::model::id::{EndpointId, EventId};
use crate::model::time::{Look, Timestamp};
use crate::store::{DueDelivery, StateError};

pub use super::limits::{RAISED_TIMES, SchedulerLimits};

use passes::{Pass, Scan};

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;

/// The longest sleep, after which the stop flag is checked.
const NAP: Duration = Duration::from_secs(1);
/// Maximum number of hints, and of reports, taken in together.
const TAKEN_AT_ONCE: usize = 1_024;
/// Starts attempts outside of the scheduler's thread.
pub trait Attempts: Send {
    /// Starts an attempt; `completion` reports its end to the scheduler.
    fn start(&self, delivery: DueDelivery, completion: Completion);
}

/// Decides which attempts begin, and starts them with `A`.
pub struct Scheduler<A> {
    engine: Arc<Engine>,
    /// Hints about new deliveries and changed endpoints.
    hints: Receiver<SchedulerHint>,
    /// Returns a random number from 0 up to 1, for the pauses of breakers.
    jitter: fn() -> f64,
    /// Replaces the limits at runtime, if present.
    live_limits: Option<Arc<Live<SchedulerLimits>>>,
    attempts: A,
    /// Numbers of attempts with news in their ledgers. Has a capacity of
    /// [`SchedulerLimits::reports`], so reporting never blocks.
    reports: (Sender<u64>, Receiver<u64>),
    /// Unsettled attempts with their ledgers, by attempt number.
    under_way: BTreeMap<u64, UnderWay>,
    /// The number of the last attempt begun.
    last_attempt: u64,
    queues: EndpointQueues,
    /// When to look in the state for deliveries of an endpoint.
    looks: TimerQueue,
    /// The pass over all endpoints after missed hints, while under way.
    catch_up: Option<Pass>,
    /// The slow scan of everything, always running.
    scan: Scan,
    /// When the next failing endpoint is asked, while the disk is almost full.
    failing_at: Option<Timestamp>,
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
    pub fn new(
        engine: Arc<Engine>,
        hints: Receiver<SchedulerHint>,
        limits: SchedulerLimits,
        attempts: A,
    ) -> Self {
        Self {
            scan: Scan::new(Timestamp(engine.clock.steady_ms())),
            queues: EndpointQueues::new(limits, Arc::clone(&engine)),
            engine,
            hints,
            jitter: random::unit,
            live_limits: None,
            attempts,
            reports: crossbeam_channel::bounded(limits.reports()),
            under_way: BTreeMap::new(),
            last_attempt: 0,
            looks: TimerQueue::default(),
            catch_up: None,
            failing_at: None,
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
        self.engine.hints.scheduler_missed.store(true, Ordering::SeqCst);
        while !stop.is_set() {
            if let Err(error) = self.turn() {
                tracing::error!(%error, "scheduling failed; it is retried");
                self.wait(NAP);
                self.engine.hints.scheduler_missed.store(true, Ordering::SeqCst);
            }
            self.wait(self.sleep());
        }
        let deadline = Instant::now() + drain;
        while self.queues.turns().unsettled() > 0 && Instant::now() < deadline {
            if let Ok(report) = self.reports.1.recv_deadline(deadline) {
                self.take_in(report);
            }
        }
        if self.queues.turns().unsettled() > 0 {
            tracing::info!(
                attempts = self.queues.turns().unsettled(),
                "attempts did not finish in time; they are repeated after the next start"
            );
        }
    }

    fn turn(&mut self) -> Result<(), StateError> {
        if let Some(limits) = &self.live_limits {
            self.queues.set_limits(*limits.get());
        }
        // A running pass ends before the next begins, so that each pass ends even if hints are
        // missed all the time.
        if self.catch_up.is_none()
            && self.engine.hints.scheduler_missed.swap(false, Ordering::SeqCst)
        {
            self.catch_up = Some(Pass::default());
        }
        self.catch_up()?;
        self.scan()?;
        self.look_where_due()?;
        self.queues.wake(self.now());
        self.give_turns()?;
        let in_flight = i64::try_from(self.queues.turns().in_flight()).unwrap_or(i64::MAX);
        self.engine.metrics.deliveries_in_flight.set(in_flight);
        Ok(())
    }

    /// The steady time, so that a clock set back delays nothing.
    fn now(&self) -> Timestamp {
        Timestamp(self.engine.clock.steady_ms())
    }

    /// When the first endpoint is due: to look in the state, or to send again.
    fn next_timer(&self) -> Option<Look> {
        self.looks.first().into_iter().chain(self.queues.next_wake()).min()
    }

    fn sleep(&self) -> Duration {
        if self.catch_up.is_some() || self.engine.hints.scheduler_missed.load(Ordering::SeqCst) {
            return Duration::ZERO;
        }
        let scan = Look::At(self.scan.next_at);
        match self.next_timer().map_or(scan, |timer| timer.min(scan)) {
            Look::Now => Duration::ZERO,
            Look::At(at) => self.engine.clock.until(at.0).min(NAP),
        }
    }

    /// Sleeps until a hint or a report arrives, then takes in a bounded number of both.
    fn wait(&mut self, at_most: Duration) {
        let (hints, reports) = (self.hints.clone(), self.reports.1.clone());
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
            SchedulerHint::Due(endpoint, look, event) if look.is_due(self.now()) => {
                self.offer(endpoint, event);
            }
            SchedulerHint::Due(endpoint, look, _) => self.looks.set(endpoint, look),
            SchedulerHint::Changed(endpoint) => self.looks.set(endpoint, Look::Now),
        }
    }

    /// Takes in a hint about a delivery that is due now.
    fn offer(&mut self, endpoint: EndpointId, event: EventId) {
        if self.queues.get(endpoint).is_none() {
            let Ok(Some(destination)) = self.engine.store.destination(endpoint) else {
                self.looks.set(endpoint, Look::Now);
                return;
            };
            self.queues.aim(destination);
        }
        let has_room = self.queues.room(endpoint, self.now()) > 0;
        let look = self.queues.change(endpoint, |queue| queue.hear(event, has_room)).flatten();
        self.follow_up(endpoint, look);
    }

    /// Starts the attempt for an event that was taken out of the queue, if the state agrees.
    /// Returns when to look for deliveries of the endpoint.
    fn start(&mut self, endpoint: EndpointId, event: EventId) -> Result<Option<Look>, StateError> {
        let (now, mut look) = (self.now(), None);
        if let Some(delivery) = self.engine.store.due_delivery(endpoint, event)? {
            look = self.queues.change(endpoint, |queue| queue.refuse(&delivery, now)).flatten();
            if look.is_none() {
                self.begin(delivery, now);
            }
        }
        let is_drained = self.queues.get(endpoint).is_some_and(EndpointQueue::is_drained);
        Ok(if is_drained { Some(Look::Now) } else { look })
    }

    /// Follows a change of an endpoint queue: plans the look that the change asks for, and asks for
    /// a turn. A queue without work is forgotten.
    fn follow_up(&mut self, endpoint: EndpointId, look: Option<Look>) {
        if let Some(look) = look {
            self.looks.set(endpoint, look);
        }
        let now = self.now();
        self.queues.ask_for_turn(endpoint, now);
        if !self.looks.has(endpoint)
            && let Some(look) = self.queues.forget_if_idle(endpoint, now)
        {
            self.looks.set(endpoint, look);
        }
    }
}
