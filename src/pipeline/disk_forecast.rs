//! Estimates in how many days the disk is full, from the space that was left in the last day. Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// Time between two samples, in milliseconds.
const SAMPLE_EVERY_MS: u64 = 600_000;
/// Number of kept samples: those of a day.
const SAMPLES_MAX: usize = 144;
/// Time that the samples must span before there is an estimate, in milliseconds.
const SPAN_MIN_MS: u64 = 3_600_000;
/// A disk that lasts longer than ten years at the present rate has no estimate.
const DAYS_MAX: f64 = 3_650.0;
const DAY_SECONDS: f64 = 86_400.0;

/// The samples: the uptime in milliseconds, and the bytes that were left.
#[derive(Debug, Default)]
pub(super) struct DiskForecast(VecDeque<(u64, u64)>);

impl DiskForecast {
    /// Notes the bytes that are left now. Returns the days until none is left, if bytes have become
    /// fewer since the oldest sample.
    pub(super) fn days(&mut self, now_ms: u64, left: u64) -> Option<f64> {
        let Self(samples) = self;
        if samples.back().is_none_or(|(at, _)| now_ms.saturating_sub(*at) >= SAMPLE_EVERY_MS) {
            if samples.len() >= SAMPLES_MAX {
                samples.pop_front();
            }
            samples.push_back((now_ms, left));
        }
        let (at_ms, before) = samples.front().copied()?;
        let span_ms = now_ms.saturating_sub(at_ms);
        let used = before.saturating_sub(left);
        if span_ms < SPAN_MIN_MS || used == 0 {
            return None;
        }
        let lasts_ms = u128::from(left) * u128::from(span_ms) / u128::from(used);
        let lasts = Duration::from_millis(u64::try_from(lasts_ms).ok()?);
        Some(lasts.as_secs_f64() / DAY_SECONDS).filter(|days| *days <= DAYS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn the_rate_of_the_last_day_counts_and_there_is_no_estimate_without_a_rate() {
        let mut forecast = DiskForecast::default();
        assert_eq!(forecast.days(0, 1_000), None);
        assert_eq!(forecast.days(HOUR_MS - 1, 990), None, "too short a time");
        assert_eq!(forecast.days(HOUR_MS, 1_000), None, "nothing is used");
        assert_eq!(forecast.days(HOUR_MS, 1_001), None, "space came back");
        // 10 of 1,000 bytes in an hour: the other 990 last 99 hours.
        assert_eq!(forecast.days(HOUR_MS, 990), Some(99.0 / 24.0));
        assert_eq!(forecast.days(2 * HOUR_MS, 0), Some(0.0));
        let mut slow = DiskForecast::default();
        slow.days(0, u64::MAX);
        assert_eq!(slow.days(HOUR_MS, u64::MAX - 1), None, "more than ten years");
    }

    #[test]
    fn a_day_later_the_former_rate_is_forgotten() {
        let mut forecast = DiskForecast::default();
        forecast.days(0, 1_000_000);
        let mut days = None;
        for sample in 1..=2 * SAMPLES_MAX as u64 {
            days = forecast.days(sample * SAMPLE_EVERY_MS, 500_000 - sample);
        }
        // One byte in ten minutes.
        let left = (500_000.0 - 288.0) / 144.0;
        assert!(days.is_some_and(|days| (days - left).abs() < 0.1), "{days:?} instead of {left}");
    }
}
