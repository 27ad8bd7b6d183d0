//! What becomes of a server that is asked for more than it can: it goes on taking in what it can, refuses the rest quickly
//! and says when to come again, needs no more memory, and is well as soon as the load is gone.

use serde::Serialize;

use super::subject::Moment;
use super::tally::{Tally, float, max_ms, quantile_ms};

/// Load, as multiples of what a closed loop gave.
pub(super) const MULTIPLES: [u32; 3] = [1, 3, 10];
/// Of the peak, what is still taken in.
const GOODPUT_SHARE: f64 = 0.9;
/// How quickly a refusal comes: all but one in a hundred, because the machine is shared with the load.
const REFUSED_WITHIN_MS: f64 = 50.0;
/// How much more memory it may take, in bytes.
const RSS_GROWTH_BYTES: u64 = 128 << 20;
/// Of what is due when it is over, what is taken in at once.
const RECOVERED_SHARE: f64 = 0.98;

/// What was seen at one multiple.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) multiple: u32,
    /// Requests a second that were due,
    pub(super) due_per_second: u64,
    /// that could be sent: a connection sends nothing while it waits for an answer,
    pub(super) sent_per_second: f64,
    /// that were answered with 2xx,
    pub(super) good_per_second: f64,
    /// and that were refused with 429 or 503.
    pub(super) refused_per_second: f64,
    pub(super) share_of_peak: f64,
    /// From when it was sent.
    pub(super) refused_p50_ms: f64,
    pub(super) refused_p99_ms: f64,
    pub(super) refused_max_ms: f64,
    /// From when it was sent; what was due is more than there are connections for.
    pub(super) good_p99_ms: f64,
    /// Answers that are neither 2xx nor a refusal, and requests without an answer.
    pub(super) wrong: u64,
    pub(super) refused_without_retry_after: u64,
    pub(super) rss_grown_bytes: Option<u64>,
    /// Of half the capacity, what was taken in right after.
    pub(super) recovered_share: f64,
    /// What was not kept, in words.
    pub(super) broken_promises: Vec<String>,
}

/// What is known about the load at one multiple.
pub(super) struct Seen<'a> {
    pub(super) multiple: u32,
    pub(super) due_per_second: u64,
    /// What a closed loop gave.
    pub(super) peak_per_second: f64,
    pub(super) tally: &'a Tally,
    /// The run right after, at half the capacity.
    pub(super) after: &'a Tally,
    pub(super) moments: (&'a Moment, &'a Moment),
}

impl Verdict {
    pub(super) fn of(seen: &Seen<'_>) -> Self {
        let Seen { multiple, due_per_second, peak_per_second, tally, after, moments: (before, later) } = *seen;
        let seconds = (tally.ends - tally.began).as_secs_f64();
        let rss_grown = |(before, later): (u64, u64)| later.saturating_sub(before);
        let rss = before.usage.map(|usage| usage.rss_bytes).zip(later.usage.map(|usage| usage.rss_bytes));
        let due_after = after.good.len() + after.refusals() + after.wrong() + after.broken + after.unsent;
        let mut verdict = Self {
            multiple,
            due_per_second,
            sent_per_second: float(tally.sent) / seconds,
            good_per_second: tally.good_per_second(),
            refused_per_second: float(tally.refusals()) / seconds,
            share_of_peak: tally.good_per_second() / peak_per_second,
            refused_p50_ms: quantile_ms(&tally.refused, 0.5),
            refused_p99_ms: quantile_ms(&tally.refused, 0.99),
            refused_max_ms: max_ms(&tally.refused),
            good_p99_ms: quantile_ms(&tally.good_since_sent, 0.99),
            wrong: tally.wrong() + tally.broken,
            refused_without_retry_after: tally.without_retry_after,
            rss_grown_bytes: rss.map(rss_grown),
            recovered_share: float(after.good.len()) / float(due_after.max(1)),
            broken_promises: Vec::new(),
        };
        verdict.broken_promises = verdict.judge();
        verdict
    }

    fn judge(&self) -> Vec<String> {
        let mut broken = Vec::new();
        // At capacity exactly there is no peak to fall from: what is due is what can be taken in.
        if self.share_of_peak < GOODPUT_SHARE {
            broken.push(format!("took in {:.0} % of the peak", self.share_of_peak * 100.0));
        }
        if self.refused_p99_ms > REFUSED_WITHIN_MS {
            broken.push(format!("refused after {:.0} ms", self.refused_p99_ms));
        }
        if self.wrong > 0 {
            broken.push(format!("{} wrong or missing answers", self.wrong));
        }
        if self.refused_without_retry_after > 0 {
            broken.push(format!("{} refusals without Retry-After", self.refused_without_retry_after));
        }
        if let Some(grown) = self.rss_grown_bytes.filter(|grown| *grown > RSS_GROWTH_BYTES) {
            broken.push(format!("{} MiB more memory", grown >> 20));
        }
        if self.recovered_share < RECOVERED_SHARE {
            broken.push(format!("took in {:.1} % right after", self.recovered_share * 100.0));
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::connection::Answer;
    use super::super::scrape::Scrape;
    use super::super::tally::Times;
    use super::*;

    /// A second of so many good and refused answers, the refusals after so many milliseconds.
    fn tally(good: u32, refused: u32, after_ms: u64) -> Tally {
        let began = Instant::now();
        let mut tally = Tally::new(began, Duration::from_secs(1)).unwrap();
        let times = |ms| Times { due: began, sent: began, answered: began + Duration::from_millis(ms) };
        for _ in 0..good {
            tally.answered(Answer { status: 202, retry_after: false, closes: false }, times(20));
        }
        for _ in 0..refused {
            tally.answered(Answer { status: 503, retry_after: true, closes: false }, times(after_ms));
        }
        tally.sent = u64::from(good + refused);
        tally
    }

    fn verdict(tally: &Tally, after: &Tally) -> Verdict {
        let moment = Moment { scrape: Scrape::default(), usage: None, own_cpu: None };
        let moments = (&moment, &moment);
        Verdict::of(&Seen { multiple: 3, due_per_second: 300, peak_per_second: 100.0, tally, after, moments })
    }

    #[test]
    fn a_server_that_goes_on_and_refuses_quickly_keeps_its_promises() {
        let kept = verdict(&tally(95, 205, 30), &tally(50, 0, 0));
        assert_eq!(kept.broken_promises, Vec::<String>::new());
        assert!((kept.share_of_peak - 0.95).abs() < 1e-9 && (kept.recovered_share - 1.0).abs() < 1e-9, "{kept:?}");
    }

    #[test]
    fn each_promise_that_is_not_kept_is_named() {
        let fine = || tally(50, 0, 0);
        let broken = |it: &Tally, after: &Tally| verdict(it, after).broken_promises.join("; ");
        assert_eq!(broken(&tally(80, 0, 0), &fine()), "took in 80 % of the peak");
        assert!(broken(&tally(95, 100, 400), &fine()).starts_with("refused after 40"));
        let mut silent = tally(95, 100, 10);
        silent.without_retry_after = 7;
        assert_eq!(broken(&silent, &fine()), "7 refusals without Retry-After");
        let mut cut = tally(95, 100, 10);
        cut.broken = 3;
        assert_eq!(broken(&cut, &fine()), "3 wrong or missing answers");
        assert_eq!(broken(&tally(95, 0, 0), &tally(40, 10, 1)), "took in 80.0 % right after");
    }
}
