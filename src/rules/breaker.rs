//! Whether an endpoint may be asked again, after what it answered. Called by the scheduler, for each endpoint; `now`, jitter
//! and the figures are handed in.
//!
//! After some failures in a row, or when too large a share of the last answers were failures, nothing is sent for a while
//! (it is open); then one attempt probes, and its answer decides: accepted closes it, anything else opens it again for
//! twice as long. An endpoint that says how long it wants to be left alone is left alone; one that only says that it is
//! busy gets half as many attempts at a time.
//!
//! The share is that of a count-based sliding window, as Resilience4j has it, with as many calls at least as the window
//! holds: of fewer answers nothing is concluded but by failures in a row. Closing it begins a new window.

use super::retry::{GONE, RETRY_AFTER_MS_MAX, jittered};
use crate::model::delivery::AttemptOutcome;
use crate::model::time::Timestamp;

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;

/// Each pause is lengthened or shortened by up to this share.
pub const JITTER_SHARE: f64 = 0.2;
/// Answers that a window can hold.
pub const WINDOW_MAX: u32 = u64::BITS;

/// When an endpoint is left alone, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// Failures in a row after which nothing is sent.
    pub failures_in_a_row: u32,
    /// The last answers that are looked at, [`WINDOW_MAX`] at most; 0: only failures in a row count.
    pub window: u32,
    /// Share of failures among them, above 0 and up to 1, from which on nothing is sent.
    pub failure_share: f64,
    /// The first pause, in milliseconds.
    pub pause_ms: u64,
    /// The longest; each is twice the one before.
    pub pause_ms_max: u64,
}

impl Default for BreakerPolicy {
    /// Five in a row, or half of the last forty; 5 s to 5 minutes.
    fn default() -> Self {
        Self { failures_in_a_row: 5, window: 40, failure_share: 0.5, pause_ms: 5_000, pause_ms_max: 300_000 }
    }
}

/// What an endpoint is judged by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// When it is left alone.
    pub policy: BreakerPolicy,
    /// Attempts that it may have on their way.
    pub in_flight_max: usize,
}

/// What an attempt says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It works.
    Accepted,
    /// It does not.
    Failed,
    /// It never will again (410): the attempt's settling disables it.
    Gone,
    /// It has too much to do (429, 502, 503, 504); when it wants to be asked again, in milliseconds, if it says so.
    Busy(Option<u64>),
    /// Nothing: no request was made.
    Nothing,
}

impl Answer {
    /// What this outcome says.
    pub fn of(outcome: &AttemptOutcome) -> Self {
        match outcome.status {
            _ if outcome.error.is_none() => Self::Accepted,
            Some(GONE) => Self::Gone,
            Some(429 | 502..=504) => Self::Busy(outcome.retry_after_ms.filter(|ms| *ms > 0)),
            _ => Self::Failed,
        }
    }
}

/// When something happened, and chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// The time.
    pub now: Timestamp,
    /// From 0 up to 1.
    pub jitter: f64,
}

/// The breaker as others see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerView {
    /// Attempts begin when they are due.
    #[default]
    Closed,
    /// None begins before this time; then one is made to see whether the endpoint works again.
    Open(Timestamp),
    /// That one is on its way.
    HalfOpen,
}

/// Whether an attempt may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// It may.
    Free,
    /// It may, and decides what comes after it.
    Probe,
    /// Not before this time.
    NotUntil(Timestamp),
    /// Not before the one that probes is over.
    No,
}

/// What is known of one endpoint. A new one is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    view: BreakerView,
    /// Since it last accepted something.
    failures: u32,
    /// Pauses since then.
    pauses: u32,
    /// Attempts at a time, while it is slowed down.
    limit: Option<usize>,
    answers: Answers,
}

/// The last answers, the newest in the lowest bit: 1 is a failure.
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
    /// As others see it.
    pub fn view(&self) -> BreakerView {
        self.view
    }

    /// Whether it may as well be forgotten: it remembers nothing but what was accepted.
    pub fn is_at_rest(&self) -> bool {
        let answers = Answers { bits: 0, ..self.answers };
        *self == Self { answers, ..Self::default() }
    }

    /// Attempts on their way at a time, `most` at most.
    pub fn limit(&self, most: usize) -> usize {
        self.limit.map_or(most, |limit| limit.min(most)).max(1)
    }

    /// Whether an attempt may begin.
    pub fn permit(&self, now: Timestamp) -> Permit {
        match self.view {
            BreakerView::Closed => Permit::Free,
            BreakerView::Open(until) if until > now => Permit::NotUntil(until),
            BreakerView::Open(_) => Permit::Probe,
            BreakerView::HalfOpen => Permit::No,
        }
    }

    /// An attempt begins; says whether it is the one that probes.
    pub fn begin(&mut self, now: Timestamp) -> bool {
        let probes = self.permit(now) == Permit::Probe;
        if probes {
            self.view = BreakerView::HalfOpen;
        }
        probes
    }

    /// What an attempt brought.
    ///
    /// While it is open only the attempt that `probes` decides; those that began before can but ask for a longer pause.
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
            // The probe found nothing out: the next attempt is one.
            Answer::Nothing if probes => self.view = BreakerView::Open(now),
            Answer::Nothing => {}
        }
    }

    /// One success ends what failures in a row began; it does not end what the share of failures says, because one that
    /// fails every second time would never be left alone.
    fn accepted(&mut self, probes: bool, terms: Terms, moment: Moment) {
        let limit = self.limit.map(|limit| limit.saturating_add(1)).filter(|limit| *limit < terms.in_flight_max);
        if probes {
            *self = Self { limit, ..Self::default() };
            return;
        }
        (self.limit, self.failures, self.pauses) = (limit, 0, 0);
        self.answers.note(false, &terms.policy);
        // A window that becomes full may do so with a success.
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
        let doubled = policy.pause_ms.saturating_mul(1_u64.checked_shl(self.pauses).unwrap_or(u64::MAX));
        self.pauses = self.pauses.saturating_add(1);
        let pause_ms = jittered(doubled.min(policy.pause_ms_max), JITTER_SHARE, moment.jitter);
        self.view = BreakerView::Open(moment.now.plus_ms(pause_ms));
    }
}

fn asked(asked_ms: u64, now: Timestamp) -> Timestamp {
    now.plus_ms(asked_ms.min(RETRY_AFTER_MS_MAX))
}
