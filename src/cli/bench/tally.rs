//! The results of the requests of one run: counts, latencies and errors.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::{CreationError, Histogram};

use super::connection::Answer;

/// Maximum latency that is recorded exactly, in microseconds: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Significant digits of a recorded latency.
const DIGITS: u8 = 3;

/// Counts and latencies of one run.
#[derive(Debug)]
pub(super) struct Tally {
    /// Start and end of the time in which throughput is counted.
    pub(super) began: Instant,
    pub(super) ends: Instant,
    /// Number of requests sent.
    pub(super) sent: u64,
    /// Number of requests without a complete answer.
    pub(super) broken: u64,
    /// Number of requests that were due and never sent, because every connection was waiting for an
    /// answer.
    pub(super) unsent: u64,
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Number of 2xx answers before the end.
    pub(super) good_in_time: u64,
    /// Latencies of 2xx answers since the request was due, in microseconds.
    pub(super) good: Histogram<u64>,
    /// Latencies of 2xx answers since the request was sent, in microseconds.
    pub(super) good_since_sent: Histogram<u64>,
    /// Latencies of all other answers since the request was sent, in microseconds.
    pub(super) refused: Histogram<u64>,
    /// Number of answers 429 and 503 without `Retry-After`.
    pub(super) without_retry_after: u64,
}

/// The times at which a request was due, sent and answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) due: Instant,
    pub(super) sent: Instant,
    pub(super) answered: Instant,
}

impl Tally {
    pub(super) fn new(began: Instant, window: Duration) -> Result<Self, CreationError> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS);
        Ok(Self {
            began,
            ends: began + window,
            sent: 0,
            broken: 0,
            unsent: 0,
            statuses: BTreeMap::new(),
            good_in_time: 0,
            good: histogram()?,
            good_since_sent: histogram()?,
            refused: histogram()?,
            without_retry_after: 0,
        })
    }

    /// Counts an answer. The delay of a late request counts as latency.
    pub(super) fn answered(&mut self, answer: Answer, times: Times) {
        *self.statuses.entry(answer.status).or_default() += 1;
        let since_sent = micros(times.answered.saturating_duration_since(times.sent));
        if (200..300).contains(&answer.status) {
            self.good_in_time += u64::from(times.answered <= self.ends);
            self.good
                .saturating_record(micros(times.answered.saturating_duration_since(times.due)));
            self.good_since_sent.saturating_record(since_sent);
            return;
        }
        self.refused.saturating_record(since_sent);
        if is_refusal(answer.status) && !answer.retry_after {
            self.without_retry_after += 1;
        }
    }

    /// Number of answers whose status is neither success nor a refusal.
    pub(super) fn wrong(&self) -> u64 {
        let wrong = |status: u16| !(200..300).contains(&status) && !is_refusal(status);
        self.statuses.iter().filter(|(status, _)| wrong(**status)).map(|(_, count)| count).sum()
    }

    /// Number of refusals: 429 and 503.
    pub(super) fn refusals(&self) -> u64 {
        self.statuses
            .iter()
            .filter(|(status, _)| is_refusal(**status))
            .map(|(_, count)| count)
            .sum()
    }

    /// Rate of 2xx answers before the end, per second.
    pub(super) fn good_per_second(&self) -> f64 {
        float(self.good_in_time) / (self.ends - self.began).as_secs_f64()
    }
}

fn is_refusal(status: u16) -> bool {
    status == 429 || status == 503
}

/// The latency at a quantile, in milliseconds; `quantile` is a share, such as 0.99.
pub(super) fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    float(histogram.value_at_quantile(quantile)) / 1e3
}

pub(super) fn max_ms(histogram: &Histogram<u64>) -> f64 {
    float(histogram.max()) / 1e3
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The median, which is the lower of two middle figures; 0 if there are none.
pub(super) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// Converts a count, for division and output.
#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

/// The whole part of a rate.
pub(super) fn whole(rate: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is small and not negative"
    )]
    let whole = rate as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Answer = Answer { status: 202, retry_after: false, closes: false };

    /// The tally of a server that answers in 1 ms and once takes a second, asked by one client
    /// every 10 ms for 10 seconds.
    fn with_a_stall(sent_when_due: bool) -> Tally {
        let began = Instant::now();
        let ms = Duration::from_millis;
        let mut tally = Tally::new(began, ms(10_000)).unwrap();
        let mut free = began;
        for number in 0..1_000 {
            let due = began + ms(10 * number);
            let sent = due.max(free);
            let takes = if number == 300 { ms(1_000) } else { ms(1) };
            free = sent + takes;
            let due = if sent_when_due { due } else { sent };
            tally.answered(GOOD, Times { due, sent, answered: free });
        }
        tally
    }

    #[test]
    fn a_stall_shows_in_the_percentiles_of_what_was_due_meanwhile() {
        // 100 of 1,000 requests were due during the stall, so the 95th percentile is about half the
        // stall.
        let open = with_a_stall(true);
        let p95 = quantile_ms(&open.good, 0.95);
        assert!((400.0..600.0).contains(&p95), "{p95}");
        assert!(quantile_ms(&open.good, 0.99) > 850.0);
        // Negative control: measured from the sending, the same stall is a single request of a
        // thousand.
        let closed = with_a_stall(false);
        assert!(quantile_ms(&closed.good, 0.99) < 2.0, "{}", quantile_ms(&closed.good, 0.99));
        assert!(max_ms(&closed.good) > 990.0);
    }

    #[test]
    fn percentiles_are_those_of_the_numbers() {
        let mut histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).unwrap();
        (1..=1_000_u64).for_each(|ms| histogram.saturating_record(ms * 1_000));
        for (quantile, ms) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0)] {
            let found = quantile_ms(&histogram, quantile);
            assert!((found / ms - 1.0_f64).abs() < 0.002, "{quantile}: {found}");
        }
    }

    #[test]
    fn refusals_are_timed_from_the_sending_and_must_say_when_to_come_again() {
        let began = Instant::now();
        let ms = Duration::from_millis;
        let mut tally = Tally::new(began, ms(100)).unwrap();
        let times = Times { due: began, sent: began + ms(80), answered: began + ms(90) };
        tally.answered(Answer { status: 503, retry_after: true, closes: false }, times);
        tally.answered(Answer { status: 429, retry_after: false, closes: false }, times);
        tally.answered(Answer { status: 500, retry_after: false, closes: true }, times);
        tally.answered(GOOD, Times { answered: began + ms(101), ..times });
        assert_eq!((tally.refusals(), tally.wrong(), tally.without_retry_after), (2, 1, 1));
        assert!((max_ms(&tally.refused) - 10.0).abs() < 0.1, "{}", max_ms(&tally.refused));
        assert_eq!(tally.good_in_time, 0, "it came after the end");
        assert_eq!(tally.good.len(), 1, "but its latency counts");
    }
}
