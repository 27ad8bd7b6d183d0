//! All endpoint queues. The collection counts the deliveries in the queues, gives the endpoints
//! their turns, and publishes the circuit breakers. Used by the scheduler.
//!
//! A queue changes only inside of [`EndpointQueues::change`], which counts and publishes, so that
//! no caller has to.

use std::collections::HashMap;
use std::sync::Arc;

use super::breakers;
use super::completion::Attempt;
use super::endpoint_queue::{EndpointQueue, Gate};
use super::fair_queue::{EndpointHealth, FairQueue};
use super::limits::SchedulerLimits;
use super::timer_queue::TimerQueue;
use crate::commit::Engine;
use crate::model::delivery::Verdict;
use crate::model::id::{EndpointId, EventId};
use crate::model::time::{Look, Timestamp};
use crate::rules::breaker::{Answer, BreakerView, Moment, Permit};
use crate::store::Destination;

/// Endpoint queues without deliveries are kept for the health of their endpoints, but only while
/// memory holds at most this many endpoint queues.
const QUEUES_REMEMBERED: usize = 20_000;

/// The endpoint queues by endpoint.
pub(super) struct EndpointQueues {
    queues: HashMap<EndpointId, EndpointQueue>,
    /// Number of deliveries in all queues.
    queued: usize,
    turns: FairQueue,
    /// When an endpoint with a filled queue may send again.
    wakes: TimerQueue,
    limits: SchedulerLimits,
    engine: Arc<Engine>,
}

impl EndpointQueues {
    pub(super) fn new(limits: SchedulerLimits, engine: Arc<Engine>) -> Self {
        Self {
            queues: HashMap::new(),
            queued: 0,
            turns: FairQueue::new(limits.room(), limits.room_per_org()),
            wakes: TimerQueue::default(),
            limits,
            engine,
        }
    }

    pub(super) fn set_limits(&mut self, limits: SchedulerLimits) {
        if limits != self.limits {
            self.limits = limits;
            self.turns.set_rooms(limits.room(), limits.room_per_org());
        }
    }

    /// The turns, which count the attempts.
    pub(super) fn turns(&self) -> &FairQueue {
        &self.turns
    }

    /// When the next endpoint may send again.
    pub(super) fn next_wake(&self) -> Option<Look> {
        self.wakes.first()
    }

    /// The queue of the endpoint, to read.
    pub(super) fn get(&self, endpoint: EndpointId) -> Option<&EndpointQueue> {
        self.queues.get(&endpoint)
    }

    /// Makes the queue of the endpoint, or tells the queue the endpoint as read now.
    pub(super) fn aim(&mut self, destination: Destination) {
        let id = destination.endpoint.id;
        self.queues.entry(id).or_insert_with(|| EndpointQueue::new(destination.clone()));
        self.change(id, |queue| queue.aim(destination));
    }

    /// Changes the queue of the endpoint, if there is one.
    pub(super) fn change<T>(
        &mut self,
        endpoint: EndpointId,
        change: impl FnOnce(&mut EndpointQueue) -> T,
    ) -> Option<T> {
        let queue = self.queues.get_mut(&endpoint)?;
        let (waiting, view) = (queue.waiting(), queue.view());
        let result = change(queue);
        self.queued = self.queued - waiting + queue.waiting();
        if queue.view() != view {
            breakers::publish(&self.engine, queue.org(), endpoint, queue.view());
        }
        Some(result)
    }

    /// Number of deliveries that the queue may take in. If memory is full, an empty queue gets one,
    /// so that no endpoint waits for the backlog of others. A probe also needs only one.
    pub(super) fn room(&self, endpoint: EndpointId, now: Timestamp) -> usize {
        let Some(queue) = self.queues.get(&endpoint) else { return 0 };
        let least = usize::from(queue.waiting() == 0);
        if queue.permit(now) != Permit::Free {
            return least;
        }
        let own = self.limits.queue_per_endpoint.saturating_sub(queue.waiting());
        own.min(self.limits.queued.saturating_sub(self.queued)).max(least)
    }

    /// Makes the endpoint wait for a turn if it may send, or for the time when it may.
    pub(super) fn ask_for_turn(&mut self, endpoint: EndpointId, now: Timestamp) {
        let Some(queue) = self.queues.get_mut(&endpoint) else { return };
        if queue.turn.is_some() {
            return;
        }
        match queue.gate(now, self.limits.in_flight_per_endpoint) {
            Gate::Open => {
                queue.turn = Some(self.turns.ask(queue.org(), endpoint, queue.health()));
            }
            Gate::NotUntil(at) => self.wakes.set(endpoint, Look::At(at)),
            Gate::Shut => {}
        }
    }

    /// Makes the endpoints that may send again wait for a turn.
    pub(super) fn wake(&mut self, now: Timestamp) {
        while let Some(endpoint) = self.wakes.take(now) {
            self.ask_for_turn(endpoint, now);
        }
    }

    /// Returns the endpoint whose turn it is, with its next event. Without an event, the endpoint
    /// may not send any more.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<(EndpointId, Option<EventId>)> {
        let endpoint = self.turns.next()?;
        Some((endpoint, self.taken(endpoint, now)))
    }

    /// Returns the failing endpoint that has waited longest, with its next event, while failing
    /// endpoints are held back.
    pub(super) fn next_failing(&mut self, now: Timestamp) -> Option<(EndpointId, Option<EventId>)> {
        let endpoint = self.turns.next_degraded()?;
        Some((endpoint, self.taken(endpoint, now)))
    }

    fn taken(&mut self, endpoint: EndpointId, now: Timestamp) -> Option<EventId> {
        let most = self.limits.in_flight_per_endpoint;
        self.change(endpoint, |queue| queue.take(now, most)).flatten()
    }

    /// Holds back the turns of endpoints that did not accept the last request, or ends this.
    pub(super) fn hold_failing(&mut self, holds: bool) {
        self.turns.hold_degraded(holds);
    }

    /// Records the beginning of an attempt; returns the health of the endpoint before it.
    pub(super) fn began(
        &mut self,
        endpoint: EndpointId,
        event: EventId,
        now: Timestamp,
    ) -> Option<EndpointHealth> {
        let queue = self.queues.get(&endpoint)?;
        let (org, health) = (queue.org(), queue.health());
        self.change(endpoint, |queue| queue.begin(event, now));
        self.turns.began(org, health);
        Some(health)
    }

    /// Records the end of a request. Returns when to look for deliveries of the endpoint.
    pub(super) fn over(
        &mut self,
        attempt: Attempt,
        answer: Answer,
        moment: Moment,
    ) -> Option<Look> {
        let Attempt { org, endpoint, event, .. } = attempt;
        self.turns.over(org, attempt.health);
        let terms = (self.limits.breaker, self.limits.in_flight_per_endpoint);
        let look = self.change(endpoint, |queue| queue.over(event, answer, terms, moment))?;
        let queue = self.queues.get(&endpoint)?;
        if let (Some(turn), EndpointHealth::Healthy) = (queue.turn, queue.health()) {
            self.turns.recovered(org, turn);
        }
        look
    }

    /// Records the settling of an attempt. Returns when to look for deliveries of the endpoint.
    pub(super) fn settled(
        &mut self,
        attempt: Attempt,
        verdict: Option<Verdict>,
        now: Timestamp,
    ) -> Option<Look> {
        self.turns.settled(attempt.org);
        self.change(attempt.endpoint, |queue| queue.settled(attempt.event, verdict, now))?
    }

    /// True if the endpoint waits for its turn, or may not begin an attempt now. An endpoint whose
    /// organization has no attempt in flight never waits long for its turn, so nothing holds it back.
    pub(super) fn is_held_back(&mut self, endpoint: EndpointId, now: Timestamp) -> bool {
        let most = self.limits.in_flight_per_endpoint;
        let turns = &self.turns;
        self.queues.get_mut(&endpoint).is_some_and(|queue| {
            let shares_its_turns = turns.is_holding() || turns.has_attempts(queue.org());
            queue.turn.is_some() && shares_its_turns
                || queue.gate_of_endpoint(now, most) != Gate::Open
        })
    }

    /// Frees the memory of an endpoint without work. Or keeps its health for a while if there is
    /// room, and returns when to try again.
    pub(super) fn forget_if_idle(&mut self, endpoint: EndpointId, now: Timestamp) -> Option<Look> {
        let queue = self.queues.get(&endpoint)?;
        if queue.claimed() > 0 || queue.turn.is_some() {
            return None;
        }
        let until = queue.matters_until().filter(|until| *until > now);
        if until.is_none() || self.queues.len() > QUEUES_REMEMBERED {
            self.remove(endpoint);
            return None;
        }
        until.map(Look::At)
    }

    /// Removes the queue of the endpoint.
    pub(super) fn remove(&mut self, endpoint: EndpointId) {
        let Some(queue) = self.queues.remove(&endpoint) else { return };
        self.queued -= queue.waiting();
        if queue.view() != BreakerView::Closed {
            breakers::publish(&self.engine, queue.org(), endpoint, BreakerView::Closed);
        }
    }
}

#[cfg(test)]
impl EndpointQueues {
    /// Number of deliveries in all queues, as counted.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    pub(super) fn len(&self) -> usize {
        self.queues.len()
    }

    /// Number of deliveries in each queue.
    pub(super) fn waiting(&self) -> Vec<usize> {
        self.queues.values().map(EndpointQueue::waiting).collect()
    }
}
