//! Whether an endpoint may be asked again, after what it answered. Called by the scheduler, for each endpoint; `now` and
//! jitter are handed in.
//!
//! After some failures in a row nothing is sent for a while (it is open); then one attempt probes, and its answer decides:
//! accepted closes it, anything else opens it again for twice as long. An endpoint that says how long it wants to be left
//! alone is left alone; one that only says that it is busy gets half as many attempts at a time.

use super::retry::{RETRY_AFTER_MS_MAX, jittered};
use crate::model::delivery::AttemptOutcome;
use crate::model::time::Timestamp;

/// Failures in a row after which nothing is sent.
pub const FAILURES_MAX: u32 = 5;
/// The first pause,
pub const FIRST_PAUSE_MS: u64 = 5_000;
/// and the longest; each is twice the one before.
pub const LONGEST_PAUSE_MS: u64 = 300_000;
/// Each pause is lengthened or shortened by up to this share.
pub const JITTER_SHARE: f64 = 0.2;

/// What an attempt says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It works.
    Accepted,
    /// It does not.
    Failed,
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
}

impl Breaker {
    /// As others see it.
    pub fn view(&self) -> BreakerView {
        self.view
    }

    /// Whether it is as a new one.
    pub fn is_at_rest(&self) -> bool {
        *self == Self::default()
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

    /// What an attempt brought. `most`: attempts the endpoint may have on their way.
    ///
    /// While it is open only the attempt that `probes` decides; those that began before can but ask for a longer pause.
    pub fn learn(&mut self, answer: Answer, probes: bool, most: usize, moment: Moment) {
        let now = moment.now;
        if !probes && self.view != BreakerView::Closed {
            if let (BreakerView::Open(until), Answer::Busy(Some(asked_ms))) = (self.view, answer) {
                self.view = BreakerView::Open(until.max(asked(asked_ms, now)));
            }
            return;
        }
        match answer {
            Answer::Accepted => {
                let limit = self.limit.map(|limit| limit.saturating_add(1)).filter(|limit| *limit < most);
                *self = Self { limit, ..Self::default() };
            }
            Answer::Failed => self.failed(moment),
            Answer::Busy(None) => {
                self.limit = Some((self.limit(most) / 2).max(1));
                self.failed(moment);
            }
            Answer::Busy(Some(asked_ms)) => {
                self.failed(moment);
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

    fn failed(&mut self, moment: Moment) {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES_MAX && self.view == BreakerView::Closed {
            return;
        }
        let doubled = FIRST_PAUSE_MS.saturating_mul(1_u64.checked_shl(self.pauses).unwrap_or(u64::MAX));
        self.pauses = self.pauses.saturating_add(1);
        let pause_ms = jittered(doubled.min(LONGEST_PAUSE_MS), JITTER_SHARE, moment.jitter);
        self.view = BreakerView::Open(moment.now.plus_ms(pause_ms));
    }
}

fn asked(asked_ms: u64, now: Timestamp) -> Timestamp {
    now.plus_ms(asked_ms.min(RETRY_AFTER_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::delivery::{AttemptError, ErrorCode};

    const MOST: usize = 16;
    /// No jitter: neither longer nor shorter.
    const MIDDLE: f64 = 0.5;

    fn at(ms: u64) -> Timestamp {
        Timestamp(1_000_000 + ms)
    }

    fn moment(now: Timestamp, jitter: f64) -> Moment {
        Moment { now, jitter }
    }

    fn open(breaker: &mut Breaker) {
        for _ in 0..FAILURES_MAX {
            breaker.learn(Answer::Failed, false, MOST, moment(at(0), MIDDLE));
        }
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_one_success_between_them_does_not() {
        let mut breaker = Breaker::default();
        for answer in [[Answer::Failed; 4].as_slice(), &[Answer::Accepted], &[Answer::Failed; 4]].concat() {
            breaker.learn(answer, false, MOST, moment(at(0), MIDDLE));
            assert_eq!(breaker.permit(at(0)), Permit::Free);
        }
        breaker.learn(Answer::Failed, false, MOST, moment(at(0), MIDDLE));
        assert_eq!(breaker.view(), BreakerView::Open(at(5_000)));
        assert_eq!(breaker.permit(at(4_999)), Permit::NotUntil(at(5_000)));
        assert_eq!(breaker.permit(at(5_000)), Permit::Probe);
    }

    #[test]
    fn one_attempt_probes_and_a_failure_doubles_the_pause_up_to_five_minutes() {
        let mut breaker = Breaker::default();
        open(&mut breaker);
        let mut now = at(0);
        for pause_s in [5, 10, 20, 40, 80, 160, 300, 300] {
            now = now.plus_ms(pause_s * 1_000);
            assert!(matches!(breaker.permit(Timestamp(now.0 - 1)), Permit::NotUntil(_)), "{pause_s}");
            assert!(breaker.begin(now));
            assert_eq!((breaker.view(), breaker.permit(now)), (BreakerView::HalfOpen, Permit::No));
            breaker.learn(Answer::Failed, true, MOST, moment(now, MIDDLE));
        }
        now = now.plus_ms(300_000);
        assert!(breaker.begin(now));
        breaker.learn(Answer::Accepted, true, MOST, moment(now, MIDDLE));
        assert!(breaker.is_at_rest());
        assert!(!breaker.begin(now), "an ordinary attempt");
    }

    #[test]
    fn pauses_are_jittered_by_a_fifth() {
        for (jitter, pause_ms) in [(0.0, 4_000), (0.25, 4_500), (1.0, 6_000)] {
            let mut breaker = Breaker::default();
            for _ in 0..FAILURES_MAX {
                breaker.learn(Answer::Failed, false, MOST, moment(at(0), jitter));
            }
            assert_eq!(breaker.view(), BreakerView::Open(at(pause_ms)));
        }
    }

    #[test]
    fn while_it_is_open_those_that_began_before_decide_nothing() {
        let mut breaker = Breaker::default();
        open(&mut breaker);
        for answer in [Answer::Failed, Answer::Accepted, Answer::Busy(None), Answer::Nothing, Answer::Busy(Some(1_000))]
        {
            breaker.learn(answer, false, MOST, moment(at(1), MIDDLE));
            assert_eq!(breaker.view(), BreakerView::Open(at(5_000)), "{answer:?}");
        }
        breaker.learn(Answer::Busy(Some(60_000)), false, MOST, moment(at(1), MIDDLE));
        assert_eq!(breaker.view(), BreakerView::Open(at(60_001)), "but for one that asks for more time");
        assert!(breaker.begin(at(60_001)));
        breaker.learn(Answer::Failed, false, MOST, moment(at(60_002), MIDDLE));
        assert_eq!(breaker.view(), BreakerView::HalfOpen);
        breaker.learn(Answer::Nothing, true, MOST, moment(at(60_003), MIDDLE));
        assert_eq!(breaker.permit(at(60_003)), Permit::Probe, "nothing was found out, so the next one probes");
    }

    #[test]
    fn a_busy_endpoint_gets_half_as_many_at_a_time_and_one_more_for_each_success() {
        let mut breaker = Breaker::default();
        for limit in [8, 4, 2, 1] {
            breaker.learn(Answer::Busy(None), false, MOST, moment(at(0), MIDDLE));
            assert_eq!(breaker.limit(MOST), limit);
        }
        assert_eq!((breaker.view(), breaker.limit(1)), (BreakerView::Closed, 1));
        for limit in 2..MOST {
            breaker.learn(Answer::Accepted, false, MOST, moment(at(0), MIDDLE));
            assert_eq!((breaker.limit(MOST), breaker.limit(3)), (limit, limit.min(3)));
            assert!(!breaker.is_at_rest());
        }
        breaker.learn(Answer::Accepted, false, MOST, moment(at(0), MIDDLE));
        assert!(breaker.is_at_rest());
    }

    #[test]
    fn retry_after_pauses_at_once_for_a_day_at_most_and_never_shortens() {
        let mut breaker = Breaker::default();
        breaker.learn(Answer::Busy(Some(7_000)), false, MOST, moment(at(0), MIDDLE));
        assert_eq!((breaker.view(), breaker.limit(MOST)), (BreakerView::Open(at(7_000)), MOST));
        let mut breaker = Breaker::default();
        breaker.learn(Answer::Busy(Some(u64::MAX)), false, MOST, moment(at(0), MIDDLE));
        assert_eq!(breaker.view(), BreakerView::Open(at(RETRY_AFTER_MS_MAX)));
        let mut breaker = Breaker::default();
        open(&mut breaker);
        assert!(breaker.begin(at(5_000)));
        breaker.learn(Answer::Busy(Some(1)), true, MOST, moment(at(5_000), MIDDLE));
        assert_eq!(breaker.view(), BreakerView::Open(at(15_000)));
    }

    #[test]
    fn what_an_outcome_says() {
        let outcome = |status: Option<u16>, retry_after_ms| AttemptOutcome {
            status,
            error: (status != Some(204)).then(|| AttemptError { code: ErrorCode::HttpStatus, detail: String::new() }),
            retry_after_ms,
            ..AttemptOutcome::new(at(0), 1)
        };
        for (status, retry_after_ms, answer) in [
            (Some(204), Some(9), Answer::Accepted),
            (Some(500), Some(9), Answer::Failed),
            (Some(404), None, Answer::Failed),
            (None, None, Answer::Failed),
            (Some(429), Some(9), Answer::Busy(Some(9))),
            (Some(502), None, Answer::Busy(None)),
            (Some(503), Some(0), Answer::Busy(None)),
            (Some(504), Some(1), Answer::Busy(Some(1))),
        ] {
            assert_eq!(Answer::of(&outcome(status, retry_after_ms)), answer, "{status:?}");
        }
    }
}
