//! The endpoint queue: ready deliveries of one endpoint, attempts in flight, limits and circuit
//! breaker. Used by the collection of all endpoint queues.
//!
//! The queue is a window on the deliveries that the state holds. `more` says that the state may
//! hold due deliveries outside of the window; only filling the queue from the state clears it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::fair_queue::EndpointHealth;
use crate::model::delivery::Verdict;
use crate::model::endpoint::{Endpoint, Ordering};
use crate::model::id::{EventId, OrgNo};
use crate::model::time::{Look, Timestamp};
use crate::rules::breaker::{Answer, Breaker, BreakerPolicy, BreakerView, Moment, Permit, Terms};
use crate::rules::token_bucket::{Bucket, Rate};
use crate::store::{Destination, DueDelivery, InOrder, Then};

/// How long the health of an endpoint without deliveries is kept after the last answer or pause.
const REMEMBERED_MS: u64 = 600_000;
/// An endpoint's rate divided by this number is its burst: an endpoint may get a twentieth of a
/// second's worth at once, because threads do not wake more precisely.
const BURSTS_PER_SECOND: u64 = 20;
/// Milliseconds until an attempt that could not be settled is repeated.
const UNSETTLED_AGAIN_MS: u64 = 1_000;
/// Milliseconds until an endpoint in strict order is looked at again while an earlier event is
/// being routed.
const ROUTING_POLL_MS: u64 = 5;

/// Permission of an endpoint queue to begin an attempt, or to load deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Yes, now.
    Open,
    /// Not before this time.
    NotUntil(Timestamp),
    /// Not before a hint or a report arrives.
    Shut,
}

/// The state of an event in the endpoint queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// The event is in the queue.
    Queued,
    /// The attempt is unsettled. `again` is set by a later hint: the delivery may wait again after
    /// the settling.
    UnderWay { again: bool },
}

#[derive(Debug)]
pub(super) struct EndpointQueue {
    /// The endpoint as read at the last look.
    destination: Destination,
    ready: VecDeque<EventId>,
    /// Events in the queue, and events with an unsettled attempt.
    claimed: HashMap<EventId, Claim>,
    in_flight: usize,
    /// The event whose attempt probes.
    probe: Option<EventId>,
    breaker: Breaker,
    bucket: Bucket,
    answered_at: Timestamp,
    /// Events with the answer 410 and an unsettled attempt.
    gone: Vec<EventId>,
    /// Set by a 410 since the last look: nothing is sent before the endpoint is read again after
    /// the settling.
    stale: bool,
    /// True if the endpoint accepted the last answered request; `None` before any answer.
    accepted: Option<bool>,
    /// The number of the turn for which the endpoint waits.
    pub(super) turn: Option<u64>,
    /// Set if the state may have more due deliveries than the queue.
    more: bool,
    /// Every waiting event that must keep its order is at or after this event; `None` if unknown.
    mark: Option<EventId>,
}

impl EndpointQueue {
    /// Makes an empty queue for an endpoint.
    pub(super) fn new(destination: Destination) -> Self {
        Self {
            destination,
            ready: VecDeque::new(),
            claimed: HashMap::new(),
            in_flight: 0,
            probe: None,
            breaker: Breaker::default(),
            bucket: Bucket::default(),
            answered_at: Timestamp::default(),
            gone: Vec::new(),
            stale: false,
            accepted: None,
            turn: None,
            more: false,
            mark: None,
        }
    }

    /// The organization of the endpoint.
    pub(super) fn org(&self) -> OrgNo {
        self.destination.org
    }

    /// True if the queue knows this version of the endpoint.
    fn knows(&self, endpoint: &Arc<Endpoint>) -> bool {
        Arc::ptr_eq(&self.destination.endpoint, endpoint) || self.destination.endpoint == *endpoint
    }

    /// Takes over the endpoint as read now. A change resets breaker, rate and health.
    pub(super) fn aim(&mut self, destination: Destination) {
        if !self.knows(&destination.endpoint) {
            self.breaker = Breaker::default();
            (self.bucket, self.probe, self.accepted) = (Bucket::default(), None, None);
            self.mark = None;
        }
        self.stale = !self.gone.is_empty();
        self.destination = destination;
    }

    /// True if the endpoint keeps the order of events.
    pub(super) fn is_strict(&self) -> bool {
        self.destination.endpoint.settings.ordering == Ordering::Strict
    }

    /// Maximum number of attempts in flight: the owner's limit, at most `most`.
    fn in_flight_max(&self, most: usize) -> usize {
        self.destination
            .endpoint
            .settings
            .max_in_flight
            .map_or(most, |wanted| usize::from(wanted).min(most))
    }

    fn rate(&self) -> Option<Rate> {
        let per_second = u64::from(self.destination.endpoint.settings.rate_per_second?);
        Some(Rate { per_second, burst: per_second.div_ceil(BURSTS_PER_SECOND) })
    }

    /// Number of events in the queue.
    pub(super) fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Number of events in the queue or with an unsettled attempt.
    pub(super) fn claimed(&self) -> usize {
        self.claimed.len()
    }

    /// Number of attempts begun and not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.claimed.len().saturating_sub(self.ready.len())
    }

    /// True if the queue is empty although the state may have more due deliveries.
    pub(super) fn is_drained(&self) -> bool {
        self.more && self.ready.is_empty()
    }

    /// The event from which on the state is searched for deliveries in order.
    pub(super) fn mark(&self) -> EventId {
        self.mark.unwrap_or(EventId(0))
    }

    /// True if the event has an unsettled attempt.
    pub(super) fn is_under_way(&self, event: EventId) -> bool {
        matches!(self.claimed.get(&event), Some(Claim::UnderWay { .. }))
    }

    /// Adds an event to the queue, unless it is already claimed; returns true if it was added.
    fn push(&mut self, event: EventId) -> bool {
        let is_new = !self.claimed.contains_key(&event);
        if is_new {
            self.claimed.insert(event, Claim::Queued);
            self.ready.push_back(event);
        }
        is_new
    }

    /// Takes in a hint about a delivery that is due. The delivery joins the queue, or stays in the
    /// state for a later look. Returns when to look, if nothing else causes the look.
    ///
    /// If the event's attempt is unsettled, the hint is kept until the settling, because the state
    /// may already hold a retry and no other hint follows.
    pub(super) fn hear(&mut self, event: EventId, has_room: bool) -> Option<Look> {
        if !self.destination.takes_attempts() {
            return Some(Look::Now);
        }
        if let Some(Claim::UnderWay { again }) = self.claimed.get_mut(&event) {
            *again = true;
            self.mark = self.mark.min(Some(event));
            return None;
        }
        let look = match self.breaker.view() {
            _ if self.stale => None,
            _ if self.is_strict() => self.hear_in_order(event),
            BreakerView::Open(until) => Some(Look::At(until)),
            BreakerView::Closed if has_room && !self.more => {
                self.push(event);
                return None;
            }
            BreakerView::Closed | BreakerView::HalfOpen => None,
        };
        self.more = true;
        look
    }

    /// An event that belongs before events of the queue makes the queue wrong.
    fn hear_in_order(&mut self, event: EventId) -> Option<Look> {
        self.mark = self.mark.min(Some(event));
        if self.ready.back().is_some_and(|back| event < *back) {
            self.leave();
        }
        self.claimed.is_empty().then_some(Look::Now)
    }

    /// Hints were missed. The missed deliveries may belong before or after the queue, and events
    /// with an unsettled attempt are looked for again after their settling.
    pub(super) fn missed_hints(&mut self) {
        self.more |= !self.ready.is_empty();
        self.mark = None;
        for claim in self.claimed.values_mut() {
            if let Claim::UnderWay { again } = claim {
                *again = true;
            }
        }
    }

    /// Ends the turn; takes the next event out of the queue if an attempt may begin.
    pub(super) fn take(&mut self, now: Timestamp, in_flight_most: usize) -> Option<EventId> {
        self.turn = None;
        if self.gate(now, in_flight_most) != Gate::Open {
            return None;
        }
        let event = self.ready.pop_front()?;
        self.claimed.remove(&event);
        Some(event)
    }

    /// Takes in the delivery of a taken event as read from the state. Returns when to look again if
    /// its attempt must not begin.
    pub(super) fn refuse(&mut self, delivery: &DueDelivery, now: Timestamp) -> Option<Look> {
        if delivery.is_suspended != self.destination.is_suspended || !self.knows(&delivery.endpoint)
        {
            // The owner's change of the endpoint, or a suspension, applies from now on.
            self.leave();
            self.more = true;
            return Some(Look::Now);
        }
        if delivery.due.is_due(now) {
            return None;
        }
        // The hint was late, or the clock was set back.
        if self.is_strict() {
            self.leave();
        }
        Some(delivery.due)
    }

    /// Empties the queue; the deliveries stay in the state.
    fn leave(&mut self) {
        self.more |= !self.ready.is_empty();
        for event in self.ready.drain(..) {
            self.claimed.remove(&event);
        }
    }

    /// Empties the queue until a hint or a report causes a look.
    pub(super) fn close(&mut self) {
        self.leave();
        self.more = false;
    }

    /// A due delivery stays in the state.
    pub(super) fn expect_more(&mut self) {
        self.more = true;
    }

    /// Decides if the queue may be filled from the state now. The queue of an endpoint in strict
    /// order is emptied, to be filled anew.
    pub(super) fn loading(&mut self, now: Timestamp) -> Gate {
        if !self.destination.takes_attempts() {
            // The deliveries wait in the state; enabling the endpoint, or the end of a suspension,
            // sends a hint.
            self.close();
            return Gate::Shut;
        }
        if self.is_strict() {
            self.leave();
        }
        let gate = self.gate_of_health(now);
        self.more |= gate != Gate::Open;
        gate
    }

    /// Fills the queue with due deliveries, at most `room`. `waiting` begins with the first due
    /// delivery and holds at least one more than the claimed ones and `room`, if there are so many.
    /// Returns when to look again.
    pub(super) fn fill(
        &mut self,
        waiting: Vec<(Timestamp, EventId)>,
        room: usize,
        now: Timestamp,
    ) -> Option<Look> {
        self.more = false;
        let mut taken = 0;
        for (due_at, event) in waiting {
            if due_at > now {
                return Some(Look::At(due_at));
            }
            if taken == room {
                // This delivery may already be claimed; then the next look finds nothing.
                self.more = true;
                break;
            }
            taken += usize::from(self.push(event));
        }
        None
    }

    /// Fills the queue of an endpoint in strict order. Returns when to look again.
    pub(super) fn fill_in_order(&mut self, found: &InOrder, now: Timestamp) -> Option<Look> {
        for event in &found.events {
            self.push(*event);
        }
        let is_empty = found.events.is_empty();
        self.mark = Some(found.mark);
        self.more = found.then == Then::More || (found.then == Then::Unrouted && !is_empty);
        let next = match found.then {
            Then::Retry(at) => Some(Look::At(at)),
            Then::More if is_empty => Some(Look::Now),
            Then::Unrouted if is_empty => Some(Look::At(now.plus_ms(ROUTING_POLL_MS))),
            Then::More | Then::Unrouted | Then::End => None,
        };
        next.into_iter().chain(found.later.map(Look::At)).min()
    }

    /// Decides if an attempt may begin now.
    pub(super) fn gate(&mut self, now: Timestamp, in_flight_most: usize) -> Gate {
        if self.ready.is_empty() { Gate::Shut } else { self.gate_of_endpoint(now, in_flight_most) }
    }

    /// Decides if an attempt may begin now, regardless of queued events.
    pub(super) fn gate_of_endpoint(&mut self, now: Timestamp, in_flight_most: usize) -> Gate {
        let most = self.breaker.limit(self.in_flight_max(in_flight_most));
        if self.in_flight >= most {
            return Gate::Shut;
        }
        match self.gate_of_health(now) {
            Gate::Open => self.token(now),
            gate => gate,
        }
    }

    /// Decides by health and order alone. In strict order, an unsettled attempt may have to be
    /// repeated first.
    fn gate_of_health(&self, now: Timestamp) -> Gate {
        let must_wait = self.is_strict() && self.unsettled() > 0;
        match self.breaker.permit(now) {
            _ if !self.destination.takes_attempts() || self.stale => Gate::Shut,
            Permit::NotUntil(at) => Gate::NotUntil(at),
            Permit::Free | Permit::Probe if !must_wait => Gate::Open,
            Permit::Free | Permit::Probe | Permit::No => Gate::Shut,
        }
    }

    fn token(&mut self, now: Timestamp) -> Gate {
        let Some(rate) = self.rate() else { return Gate::Open };
        let now_us = now.0.saturating_mul(1_000);
        if self.bucket.admit(rate, 0, now_us).is_admitted() {
            return Gate::Open;
        }
        Gate::NotUntil(Timestamp(self.bucket.next_token_us(rate).div_ceil(1_000)))
    }

    /// Permission of the breaker alone.
    pub(super) fn permit(&self, now: Timestamp) -> Permit {
        self.breaker.permit(now)
    }

    /// Public state of the breaker.
    pub(super) fn view(&self) -> BreakerView {
        self.breaker.view()
    }

    /// Records the beginning of an attempt.
    pub(super) fn begin(&mut self, event: EventId, now: Timestamp) {
        self.claimed.insert(event, Claim::UnderWay { again: false });
        self.in_flight += 1;
        if self.breaker.begin(now) {
            self.probe = Some(event);
        }
        if let Some(rate) = self.rate() {
            self.bucket.admit(rate, 1, now.0.saturating_mul(1_000));
        }
    }

    /// Records the end of a request. `most` and `policy` come from the configuration. Returns when
    /// to look, if the breaker changed.
    pub(super) fn over(
        &mut self,
        event: EventId,
        answer: Answer,
        (policy, most): (BreakerPolicy, usize),
        moment: Moment,
    ) -> Option<Look> {
        let before = self.view();
        self.in_flight = self.in_flight.saturating_sub(1);
        let probes = self.probe == Some(event);
        if probes {
            self.probe = None;
        }
        let terms = Terms { policy, in_flight_max: self.in_flight_max(most) };
        self.breaker.learn(answer, probes, terms, moment);
        if answer == Answer::Gone {
            self.gone.push(event);
            self.stale = true;
        }
        self.answered_at = moment.now;
        if answer != Answer::Nothing {
            self.accepted = Some(answer == Answer::Accepted);
        }
        let look = match self.view() {
            view if view == before => None,
            BreakerView::Open(until) => Some(Look::At(until)),
            BreakerView::Closed | BreakerView::HalfOpen => Some(Look::Now),
        };
        if self.stale || matches!(look, Some(Look::At(_))) {
            // Deliveries of an endpoint in a pause would waste memory.
            self.leave();
        }
        look
    }

    /// The health of the endpoint, for its turns.
    pub(super) fn health(&self) -> EndpointHealth {
        if self.accepted.unwrap_or(self.in_flight == 0) {
            EndpointHealth::Healthy
        } else {
            EndpointHealth::Degraded
        }
    }

    /// Records the settling of an attempt; `None` if it could not be settled. Returns when to look.
    pub(super) fn settled(
        &mut self,
        event: EventId,
        verdict: Option<Verdict>,
        now: Timestamp,
    ) -> Option<Look> {
        self.gone.retain(|gone| *gone != event);
        let has_heard = self.claimed.remove(&event) == Some(Claim::UnderWay { again: true });
        let again_at = match verdict {
            Some(Verdict::RetryAt(at)) => Some(at),
            Some(Verdict::Dead(_) | Verdict::Delivered) => None,
            None => Some(now.plus_ms(UNSETTLED_AGAIN_MS)),
        };
        if again_at.is_some() && self.is_strict() {
            // Later events wait for the retry of this event.
            self.leave();
        }
        let is_settled = verdict.is_some();
        if has_heard || (is_settled && (self.stale || self.is_drained())) {
            return Some(Look::Now);
        }
        again_at.map(Look::At)
    }

    /// Returns the time until which the breaker and the rate matter, if nothing is to be sent.
    pub(super) fn matters_until(&self) -> Option<Timestamp> {
        let answered = match self.breaker.view() {
            _ if self.breaker.is_at_rest() => None,
            BreakerView::Open(until) => Some(until.max(self.answered_at)),
            BreakerView::Closed | BreakerView::HalfOpen => Some(self.answered_at),
        };
        let answered = answered.map(|at| at.plus_ms(REMEMBERED_MS));
        let full_us = self.rate().map(|rate| self.bucket.full_us(rate));
        answered.max(full_us.map(|us| Timestamp(us.div_ceil(1_000))))
    }
}
