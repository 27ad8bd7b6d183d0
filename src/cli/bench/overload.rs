//! Judges a server under more load than it can accept. The server should accept as much as before,
//! refuse the rest quickly with a `Retry-After`, use no more memory, and recover as soon as the
//! load ends.
//!
//! The comparison is fair in three respects. If there are two processors, the load has one for
//! itself, so that more load takes nothing from the server. The peak is the rate of a closed loop
//! with as many connections as the overload. A crowd costs more for each request than a few clients
//! do, however slowly the crowd asks; this is no overload, and `share_of_best` shows the cost. Peak
//! and overload take turns, so that a change of the machine's speed affects both. The share of each
//! round is relative to the mean of the peaks before and after, because a server slows down as its
//! data grows. The verdict uses the median of the rounds.

use serde::Serialize;

use super::subject::Moment;
use super::tally::{self, Tally, float, max_ms, quantile_ms, whole};

/// Loads, as multiples of the peak.
pub(super) const MULTIPLES: [u32; 3] = [1, 3, 10];
/// Minimum share of the peak accepted under overload.
const GOODPUT_SHARE: f64 = 0.9;
/// Maximum latency of 99 of 100 refusals, in milliseconds. With one processor, the load shares it.
const REFUSED_WITHIN_MS: f64 = 50.0;
/// Maximum growth of the server's memory, in bytes.
const RSS_GROWTH_BYTES: u64 = 128 << 20;
/// Minimum share of requests accepted right after the overload.
const RECOVERED_SHARE: f64 = 0.98;

/// The figures at one multiple of the peak, over all rounds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) multiple: u32,
    pub(super) rounds: usize,
    /// Requests a second due by the schedule.
    pub(super) due_per_second: u64,
    /// Requests a second sent; a connection sends nothing while waiting for an answer.
    pub(super) sent_per_second: f64,
    /// Requests a second answered with 2xx.
    pub(super) good_per_second: f64,
    /// Requests a second refused with 429 or 503.
    pub(super) refused_per_second: f64,
    /// Share of the peak of closed loops with as many connections, measured before and after.
    pub(super) share_of_peak: f64,
    /// Share of the best peak, with any number of connections.
    pub(super) share_of_best: f64,
    /// Latency of a refusal, from the sending of the request.
    pub(super) refused_p50_ms: f64,
    pub(super) refused_p99_ms: f64,
    pub(super) refused_max_ms: f64,
    /// Latency of a 2xx answer, from the sending of the request. The time since the request was due
    /// would say nothing: more requests are due than there are connections.
    pub(super) good_p99_ms: f64,
    /// Processor time of the server for each accepted request, including the cost of refusals; none
    /// if the server ran already.
    pub(super) cpu_us_per_request: Option<f64>,
    /// Answers that are neither 2xx nor a refusal, and requests without an answer.
    pub(super) wrong: u64,
    pub(super) refused_without_retry_after: u64,
    pub(super) rss_grown_bytes: Option<u64>,
    /// Share of requests accepted right after the overload, at half the peak.
    pub(super) recovered_share: f64,
    /// Broken promises, each in words.
    pub(super) broken_promises: Vec<String>,
}

/// Rates of closed loops, in requests a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peak {
    /// The rate with as many connections as under overload.
    pub(super) same: f64,
    /// The best rate with any number of connections.
    pub(super) best: f64,
}

impl Peak {
    /// The mean of two peaks, as the measure for the load between them: a server slows down as its
    /// data grows.
    pub(super) fn mean(self, other: Self) -> Self {
        Self { same: self.same.midpoint(other.same), best: self.best.midpoint(other.best) }
    }
}

/// The measurements at one multiple, in one round.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) due_per_second: u64,
    pub(super) peak: Peak,
    pub(super) tally: Tally,
    /// The run right after the overload, at half the peak.
    pub(super) after: Tally,
    /// Processor time of the server for each accepted request, in microseconds.
    pub(super) cpu_us: Option<f64>,
    pub(super) rss_grown_bytes: Option<u64>,
}

impl Seen {
    /// Adds the processor time and the memory that the server used between these moments.
    pub(super) fn used(mut self, before: &Moment, overloaded: &Moment, later: &Moment) -> Self {
        let cpu = before
            .usage
            .zip(overloaded.usage)
            .map(|(before, after)| after.cpu.saturating_sub(before.cpu));
        let good = float(self.tally.good.len()).max(1.0);
        self.cpu_us = cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / good);
        let rss = before.usage.zip(later.usage);
        self.rss_grown_bytes =
            rss.map(|(before, later)| later.rss_bytes.saturating_sub(before.rss_bytes));
        self
    }

    fn share_of(&self, per_second: f64) -> f64 {
        self.tally.good_per_second() / per_second.max(1.0)
    }
}

impl Verdict {
    /// Judges the rounds of one multiple; `rounds` has at least one. Rates, processor time and
    /// latencies of accepted requests are the medians; for refusals and memory the worst round
    /// counts; wrong answers are added up.
    pub(super) fn of(multiple: u32, rounds: &[Seen]) -> Self {
        let median =
            |figure: &dyn Fn(&Seen) -> f64| tally::median(rounds.iter().map(figure).collect());
        let sum = |figure: &dyn Fn(&Seen) -> u64| rounds.iter().map(figure).sum::<u64>();
        let seconds = |it: &Seen| (it.tally.ends - it.tally.began).as_secs_f64();
        let worst = |figure: &dyn Fn(&Seen) -> f64| rounds.iter().map(figure).fold(0.0, f64::max);
        let due_after =
            |it: &Tally| it.good.len() + it.refusals() + it.wrong() + it.broken + it.unsent;
        let cpu_us: Option<Vec<f64>> = rounds.iter().map(|it| it.cpu_us).collect();
        let mut verdict = Self {
            multiple,
            rounds: rounds.len(),
            due_per_second: whole(median(&|it| float(it.due_per_second))),
            sent_per_second: median(&|it| float(it.tally.sent) / seconds(it)),
            good_per_second: median(&|it| it.tally.good_per_second()),
            refused_per_second: median(&|it| float(it.tally.refusals()) / seconds(it)),
            share_of_peak: median(&|it| it.share_of(it.peak.same)),
            share_of_best: median(&|it| it.share_of(it.peak.best)),
            refused_p50_ms: median(&|it| quantile_ms(&it.tally.refused, 0.5)),
            refused_p99_ms: worst(&|it| quantile_ms(&it.tally.refused, 0.99)),
            refused_max_ms: worst(&|it| max_ms(&it.tally.refused)),
            good_p99_ms: median(&|it| quantile_ms(&it.tally.good_since_sent, 0.99)),
            cpu_us_per_request: cpu_us.map(tally::median),
            wrong: sum(&|it| it.tally.wrong() + it.tally.broken),
            refused_without_retry_after: sum(&|it| it.tally.without_retry_after),
            rss_grown_bytes: rounds.iter().filter_map(|it| it.rss_grown_bytes).max(),
            recovered_share: float(sum(&|it| it.after.good.len()))
                / float(sum(&|it| due_after(&it.after)).max(1)),
            broken_promises: Vec::new(),
        };
        verdict.broken_promises = verdict.judge();
        verdict
    }

    fn judge(&self) -> Vec<String> {
        let mut broken = Vec::new();
        // At exactly the peak there is no fall to measure: all due requests can be accepted.
        if self.share_of_peak < GOODPUT_SHARE {
            broken.push(format!("accepted {:.0} % of the peak", self.share_of_peak * 100.0));
        }
        if self.refused_p99_ms > REFUSED_WITHIN_MS {
            broken.push(format!("refused after {:.0} ms", self.refused_p99_ms));
        }
        if self.wrong > 0 {
            broken.push(format!("{} wrong or missing answers", self.wrong));
        }
        if self.refused_without_retry_after > 0 {
            broken
                .push(format!("{} refusals without Retry-After", self.refused_without_retry_after));
        }
        if let Some(grown) = self.rss_grown_bytes.filter(|grown| *grown > RSS_GROWTH_BYTES) {
            broken.push(format!("{} MiB more memory", grown >> 20));
        }
        if self.recovered_share < RECOVERED_SHARE {
            broken.push(format!("accepted {:.1} % right after", self.recovered_share * 100.0));
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::connection::Answer;
    use super::super::tally::Times;
    use super::*;

    /// A second with this many accepted and refused requests; the refusals take `after_ms`.
    fn tally(good: u32, refused: u32, after_ms: u64) -> Tally {
        let began = Instant::now();
        let mut tally = Tally::new(began, Duration::from_secs(1)).unwrap();
        let times =
            |ms| Times { due: began, sent: began, answered: began + Duration::from_millis(ms) };
        for _ in 0..good {
            tally.answered(Answer { status: 202, retry_after: false, closes: false }, times(20));
        }
        for _ in 0..refused {
            tally.answered(
                Answer { status: 503, retry_after: true, closes: false },
                times(after_ms),
            );
        }
        tally.sent = u64::from(good + refused);
        tally
    }

    fn seen(tally: Tally, after: Tally) -> Seen {
        Seen {
            due_per_second: 300,
            peak: Peak { same: 100.0, best: 190.0 },
            tally,
            after,
            cpu_us: None,
            rss_grown_bytes: None,
        }
    }

    fn verdict(tally: Tally, after: Tally) -> Verdict {
        Verdict::of(3, &[seen(tally, after)])
    }

    #[test]
    fn a_server_that_goes_on_and_refuses_quickly_keeps_its_promises() {
        let kept = verdict(tally(95, 205, 30), tally(50, 0, 0));
        assert_eq!(kept.broken_promises, Vec::<String>::new());
        assert!(
            (kept.share_of_peak - 0.95).abs() < 1e-9 && (kept.recovered_share - 1.0).abs() < 1e-9,
            "{kept:?}"
        );
    }

    #[test]
    fn each_promise_that_is_not_kept_is_named() {
        let fine = || tally(50, 0, 0);
        let broken = |it: Tally, after: Tally| verdict(it, after).broken_promises.join("; ");
        assert_eq!(broken(tally(80, 0, 0), fine()), "accepted 80 % of the peak");
        assert!(broken(tally(95, 100, 400), fine()).starts_with("refused after 40"));
        let mut silent = tally(95, 100, 10);
        silent.without_retry_after = 7;
        assert_eq!(broken(silent, fine()), "7 refusals without Retry-After");
        let mut cut = tally(95, 100, 10);
        cut.broken = 3;
        assert_eq!(broken(cut, fine()), "3 wrong or missing answers");
        assert_eq!(broken(tally(95, 0, 0), tally(40, 10, 1)), "accepted 80.0 % right after");
    }

    #[test]
    fn one_slow_round_in_three_is_not_the_servers_but_one_wrong_answer_is() {
        let round = |good| seen(tally(good, 0, 0), tally(50, 0, 0));
        let once_slow = Verdict::of(3, &[round(96), round(40), round(94)]);
        assert_eq!((once_slow.broken_promises.len(), once_slow.rounds), (0, 3), "{once_slow:?}");
        assert!((once_slow.share_of_peak - 0.94).abs() < 1e-9);
        let twice_slow = Verdict::of(3, &[round(96), round(40), round(41)]);
        assert_eq!(twice_slow.broken_promises, ["accepted 41 % of the peak"]);
        let mut cut = round(96);
        cut.tally.broken = 1;
        assert_eq!(
            Verdict::of(3, &[round(96), cut, round(96)]).broken_promises,
            ["1 wrong or missing answers"]
        );
    }
}
