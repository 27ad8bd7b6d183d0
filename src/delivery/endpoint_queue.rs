//! The endpoint queue: ready deliveries of one endpoint, attempts in flight, limits and circuit
//! breaker. Used by the scheduler.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::fair_queue::EndpointHealth;
use crate::model::endpoint::{Endpoint, Ordering};
use crate::model::id::{EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::breaker::{Answer, Breaker, BreakerPolicy, BreakerView, Moment, Permit, Terms};
use crate::rules::token_bucket::{Bucket, Rate};

/// How long the health of an endpoint without deliveries is kept after the last answer or pause.
const REMEMBERED_MS: u64 = 600_000;
/// An endpoint's rate divided by this number is its burst: an endpoint may get a twentieth of a
/// second's worth at once, because threads do not wake more precisely.
const BURSTS_PER_SECOND: u64 = 20;

/// Permission of an endpoint queue to begin an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// An attempt may begin.
    Open,
    /// No attempt may begin before this time.
    NotUntil(Timestamp),
    /// No attempt may begin before a hint or a report arrives.
    Shut,
}

/// The endpoint of a queue, as read at the last look.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) org: OrgNo,
    pub(super) endpoint: Arc<Endpoint>,
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

/// An endpoint queue. A new queue has no target and sends nothing.
#[derive(Debug, Default)]
pub(super) struct EndpointQueue {
    target: Option<Target>,
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
    pub(super) more: bool,
    /// Every waiting event that must keep its order is at or after this event; `None` if unknown.
    pub(super) mark: Option<EventId>,
}

impl EndpointQueue {
    /// The endpoint and its organization; `None` before the first look.
    pub(super) fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// True if the queue knows this version of the endpoint.
    pub(super) fn knows(&self, endpoint: &Arc<Endpoint>) -> bool {
        let known = self.target.as_ref().map(|target| &target.endpoint);
        known.is_some_and(|known| Arc::ptr_eq(known, endpoint) || known == endpoint)
    }

    /// Sets the endpoint as read now. A change resets breaker, rate and health.
    pub(super) fn aim(&mut self, target: Target) {
        if self.target.is_some() && !self.knows(&target.endpoint) {
            self.breaker = Breaker::default();
            (self.bucket, self.probe, self.accepted) = (Bucket::default(), None, None);
            self.mark = None;
        }
        self.stale = !self.gone.is_empty();
        self.target = Some(target);
    }

    /// True if the endpoint is known and enabled.
    pub(super) fn is_enabled(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.endpoint.is_enabled())
    }

    /// True if nothing is sent until the endpoint is read again.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// True if the endpoint keeps the order of events.
    pub(super) fn is_strict(&self) -> bool {
        self.target
            .as_ref()
            .is_some_and(|target| target.endpoint.settings.ordering == Ordering::Strict)
    }

    /// Maximum number of attempts in flight: the owner's limit, at most `most`.
    fn in_flight_max(&self, most: usize) -> usize {
        let wanted = self.target.as_ref().and_then(|target| target.endpoint.settings.max_in_flight);
        wanted.map_or(most, |wanted| usize::from(wanted).min(most))
    }

    fn rate(&self) -> Option<Rate> {
        let per_second = u64::from(self.target.as_ref()?.endpoint.settings.rate_per_second?);
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

    /// The last event in the queue.
    pub(super) fn back(&self) -> Option<EventId> {
        self.ready.back().copied()
    }

    /// Adds an event to the queue; returns false if the event is already claimed.
    pub(super) fn push(&mut self, event: EventId) -> bool {
        if self.claimed.contains_key(&event) {
            return false;
        }
        self.claimed.insert(event, Claim::Queued);
        self.ready.push_back(event);
        true
    }

    /// True if the event has an unsettled attempt.
    pub(super) fn is_under_way(&self, event: EventId) -> bool {
        matches!(self.claimed.get(&event), Some(Claim::UnderWay { .. }))
    }

    /// Records a hint about an event. If its attempt is unsettled, the hint is kept until the
    /// settling, because the state may already hold a retry and no other hint follows. Returns true
    /// in this case.
    pub(super) fn heard_of(&mut self, event: EventId) -> bool {
        let Some(Claim::UnderWay { again }) = self.claimed.get_mut(&event) else { return false };
        *again = true;
        true
    }

    /// Hints were missed: all events with unsettled attempts are looked for again after their
    /// settling.
    pub(super) fn heard_of_all(&mut self) {
        for claim in self.claimed.values_mut() {
            if let Claim::UnderWay { again } = claim {
                *again = true;
            }
        }
    }

    /// Takes the next event out of the queue.
    pub(super) fn pop(&mut self) -> Option<EventId> {
        let event = self.ready.pop_front()?;
        self.claimed.remove(&event);
        Some(event)
    }

    /// Empties the queue, whose events stay in the state; returns their number.
    pub(super) fn drop_queue(&mut self) -> usize {
        let dropped = self.ready.len();
        for event in self.ready.drain(..) {
            self.claimed.remove(&event);
        }
        self.more |= dropped > 0;
        dropped
    }

    /// Decides if an attempt may begin now.
    pub(super) fn gate(&mut self, now: Timestamp, in_flight_most: usize) -> Gate {
        if self.ready.is_empty() { Gate::Shut } else { self.gate_of_endpoint(now, in_flight_most) }
    }

    /// Decides if an attempt may begin now, regardless of queued events.
    pub(super) fn gate_of_endpoint(&mut self, now: Timestamp, in_flight_most: usize) -> Gate {
        let most = self.breaker.limit(self.in_flight_max(in_flight_most));
        if !self.is_enabled()
            || self.stale
            || self.in_flight >= most
            || (self.is_strict() && self.unsettled() > 0)
        {
            return Gate::Shut;
        }
        match self.breaker.permit(now) {
            Permit::Free | Permit::Probe => self.token(now),
            Permit::NotUntil(at) => Gate::NotUntil(at),
            Permit::No => Gate::Shut,
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

    /// Records the end of a request. `most` and `policy` come from the configuration.
    pub(super) fn over(
        &mut self,
        event: EventId,
        answer: Answer,
        (policy, most): (BreakerPolicy, usize),
        moment: Moment,
    ) {
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
    }

    /// The health of the endpoint, for its turns.
    pub(super) fn health(&self) -> EndpointHealth {
        if self.accepted.unwrap_or(self.in_flight == 0) {
            EndpointHealth::Healthy
        } else {
            EndpointHealth::Degraded
        }
    }

    /// Records the settling of an attempt; returns true if a hint arrived since its beginning.
    pub(super) fn settled(&mut self, event: EventId) -> bool {
        self.gone.retain(|gone| *gone != event);
        self.claimed.remove(&event) == Some(Claim::UnderWay { again: true })
    }

    /// Returns the time until which the breaker and the rate matter, if nothing is to be sent.
    pub(super) fn matters_until(&self) -> Timestamp {
        let answered = match self.breaker.view() {
            _ if self.breaker.is_at_rest() => Timestamp(0),
            BreakerView::Open(until) => until.max(self.answered_at).plus_ms(REMEMBERED_MS),
            BreakerView::Closed | BreakerView::HalfOpen => self.answered_at.plus_ms(REMEMBERED_MS),
        };
        let full_us = self.rate().map_or(0, |rate| self.bucket.full_us(rate));
        answered.max(Timestamp(full_us.div_ceil(1_000)))
    }
}
