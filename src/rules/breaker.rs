//! The circuit breaker of an endpoint, which decides when the next attempt may begin. Called by the
//! scheduler for each endpoint; `now`, jitter and the policy are arguments.
//!
//! The breaker opens after some failures in a row, or when too large a share of the last answers
//! were failures. No attempt begins while the breaker is open. Then one attempt probes: if
//! accepted, the breaker closes; otherwise it opens for twice as long. A busy endpoint with
//! `Retry-After` gets a pause of at least this length; without `Retry-After`, half as many attempts
//! at a time.
//!
//! The share is computed over a count-based sliding window, as in Resilience4j. The window must be
//! full: with fewer answers only failures in a row count. A closing breaker starts a new window.

use super::retry::{GONE, RETRY_AFTER_MS_MAX, jittered};
use crate::model::delivery::AttemptOutcome;
use crate::model::time::Timestamp;

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;

/// Maximum jitter of a pause, as a share of the pause in both directions.
pub const JITTER_SHARE: f64 = 0.2;
/// Maximum number of answers in a window.
pub const WINDOW_MAX: u32 = u64::BITS;

/// When the breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// Number of failures in a row that opens the breaker.
    pub failures_in_a_row: u32,
    /// Number of last answers in the window, at most [`WINDOW_MAX`]; with 0, only failures in a row
    /// count.
    pub window: u32,
    /// Failure rate in the window that opens the breaker, above 0 and up to 1.
    pub failure_share: f64,
    /// The first pause, in milliseconds.
    pub pause_ms: u64,
    /// The longest pause, in milliseconds; each pause is twice the previous pause.
    pub pause_ms_max: u64,
}

/// The policy and the limit of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// When the breaker opens, and for how long.
    pub policy: BreakerPolicy,
    /// Maximum number of attempts in flight to the endpoint.
    pub in_flight_max: usize,
}

/// The outcome of an attempt, as the breaker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The receiver accepted the request.
    Accepted,
    /// The attempt failed in any other way.
    Failed,
    /// The receiver answered 410 Gone. Settling the attempt disables the endpoint.
    Gone,
    /// The receiver is busy (429, 502, 503, 504); holds its `Retry-After` in milliseconds, if
    /// present and above 0.
    Busy(Option<u64>),
    /// No request was made, so the attempt says nothing about the endpoint.
    Nothing,
}

impl Answer {
    /// Classifies the outcome of an attempt.
    pub fn of(outcome: &AttemptOutcome) -> Self {
        match outcome.status {
            _ if outcome.error.is_none() => Self::Accepted,
            Some(GONE) => Self::Gone,
            Some(429 | 502..=504) => Self::Busy(outcome.retry_after_ms.filter(|ms| *ms > 0)),
            _ => Self::Failed,
        }
    }
}

/// The time of an answer and the jitter for its pause.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// When the answer came, in steady time.
    pub now: Timestamp,
    /// Random number from 0 up to 1.
    pub jitter: f64,
}

/// The public state of a breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerView {
    /// Attempts begin when they are due.
    #[default]
    Closed,
    /// No attempt begins before this time; then one attempt probes.
    Open(Timestamp),
    /// The probe is in flight, and no other attempt begins.
    HalfOpen,
}

/// Permission of the breaker to begin an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// The attempt may begin.
    Free,
    /// The attempt may begin, and its outcome closes or opens the breaker.
    Probe,
    /// No attempt may begin before this time.
    NotUntil(Timestamp),
    /// No attempt may begin before the probe ends.
    No,
}

/// The circuit breaker of an endpoint. A new breaker is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    view: BreakerView,
    /// Failures since the last accepted attempt.
    failures: u32,
    /// Pauses since the last accepted attempt.
    pauses: u32,
    /// Maximum number of attempts in flight while the endpoint is busy.
    limit: Option<usize>,
    answers: Answers,
}

/// The last answers as bits, the newest in the lowest bit; a failure is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answers {
    bits: u64,
    known: u32,
}

impl Answers {
    fn note(&mut self, failed: bool, policy: &BreakerPolicy) {
        let kept = u64::MAX.checked_shl(policy.window).map_or(u64::MAX, |beyond| !beyond);
        self.bits = (self.bits << 1 | u64::from(failed)) & kept;
        self.known = (self.known + 1).min(policy.window);
    }

    fn too_many_failed(&self, policy: &BreakerPolicy) -> bool {
        let is_full = policy.window > 0 && self.known >= policy.window;
        is_full && f64::from(self.bits.count_ones()) / f64::from(self.known) >= policy.failure_share
    }
}

impl Breaker {
    /// Returns the public state of the breaker.
    pub fn view(&self) -> BreakerView {
        self.view
    }

    /// True if the breaker may be forgotten: all answers in memory were accepted.
    pub fn is_at_rest(&self) -> bool {
        let answers = Answers { bits: 0, ..self.answers };
        *self == Self { answers, ..Self::default() }
    }

    /// Maximum number of attempts in flight: `most`, or fewer while the endpoint is busy; at least
    /// 1.
    pub fn limit(&self, most: usize) -> usize {
        self.limit.map_or(most, |limit| limit.min(most)).max(1)
    }

    /// Decides if an attempt may begin at `now`.
    pub fn permit(&self, now: Timestamp) -> Permit {
        match self.view {
            BreakerView::Closed => Permit::Free,
            BreakerView::Open(until) if until > now => Permit::NotUntil(until),
            BreakerView::Open(_) => Permit::Probe,
            BreakerView::HalfOpen => Permit::No,
        }
    }

    /// Records the beginning of an attempt; returns true if the attempt is the probe.
    pub fn begin(&mut self, now: Timestamp) -> bool {
        let probes = self.permit(now) == Permit::Probe;
        if probes {
            self.view = BreakerView::HalfOpen;
        }
        probes
    }

    /// Records the outcome of an attempt.
    ///
    /// While the breaker is not closed, only the probe decides; earlier attempts can only lengthen
    /// the pause by their `Retry-After`.
    pub fn learn(&mut self, answer: Answer, probes: bool, terms: Terms, moment: Moment) {
        let (now, most) = (moment.now, terms.in_flight_max);
        if !probes && self.view != BreakerView::Closed {
            if let (BreakerView::Open(until), Answer::Busy(Some(asked_ms))) = (self.view, answer) {
                self.view = BreakerView::Open(until.max(asked(asked_ms, now)));
            }
            return;
        }
        match answer {
            Answer::Accepted => self.accepted(probes, terms, moment),
            Answer::Failed | Answer::Gone => self.failed(terms.policy, moment),
            Answer::Busy(None) => {
                self.limit = Some((self.limit(most) / 2).max(1));
                self.failed(terms.policy, moment);
            }
            Answer::Busy(Some(asked_ms)) => {
                self.failed(terms.policy, moment);
                let until = asked(asked_ms, now);
                self.view = match self.view {
                    BreakerView::Open(pause) => BreakerView::Open(pause.max(until)),
                    BreakerView::Closed | BreakerView::HalfOpen => BreakerView::Open(until),
                };
            }
            // The probe had no outcome, so the next attempt probes.
            Answer::Nothing if probes => self.view = BreakerView::Open(now),
            Answer::Nothing => {}
        }
    }

    /// A success ends failures in a row, but not the failure rate: otherwise an endpoint that fails
    /// every second time would never have a pause.
    fn accepted(&mut self, probes: bool, terms: Terms, moment: Moment) {
        let limit = self
            .limit
            .map(|limit| limit.saturating_add(1))
            .filter(|limit| *limit < terms.in_flight_max);
        if probes {
            *self = Self { limit, ..Self::default() };
            return;
        }
        (self.limit, self.failures, self.pauses) = (limit, 0, 0);
        self.answers.note(false, &terms.policy);
        // A success can fill the window, so the failure rate is checked here too.
        if self.answers.too_many_failed(&terms.policy) {
            self.open(terms.policy, moment);
        }
    }

    fn failed(&mut self, policy: BreakerPolicy, moment: Moment) {
        self.failures = self.failures.saturating_add(1);
        self.answers.note(true, &policy);
        let in_a_row = self.failures >= policy.failures_in_a_row;
        if in_a_row || self.answers.too_many_failed(&policy) || self.view != BreakerView::Closed {
            self.open(policy, moment);
        }
    }

    fn open(&mut self, policy: BreakerPolicy, moment: Moment) {
        let doubled =
            policy.pause_ms.saturating_mul(1_u64.checked_shl(self.pauses).unwrap_or(u64::MAX));
        self.pauses = self.pauses.saturating_add(1);
        let pause_ms = jittered(doubled.min(policy.pause_ms_max), JITTER_SHARE, moment.jitter);
        self.view = BreakerView::Open(moment.now.plus_ms(pause_ms));
    }
}

fn asked(asked_ms: u64, now: Timestamp) -> Timestamp {
    now.plus_ms(asked_ms.min(RETRY_AFTER_MS_MAX))
}
