//! Figures in the units of metrics, log lines and commands.

use std::time::Duration;

/// Returns the duration in whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the figure as the value of a gauge.
pub fn gauge(figure: u64) -> i64 {
    i64::try_from(figure).unwrap_or(i64::MAX)
}
