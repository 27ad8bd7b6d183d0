//! Decides what becomes of a delivery after an attempt. Called when an attempt ends; `now` and
//! `jitter` are arguments, so a schedule of days is tested exactly.

use std::time::Duration;

use crate::model::delivery::{AttemptOutcome, DeadReason, Verdict};
use crate::model::endpoint::DisabledReason;
use crate::model::time::Timestamp;

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;

/// The longest `Retry-After` that is honored: 24 h.
pub const RETRY_AFTER_MS_MAX: u64 = 24 * HOUR_MS;

const HOUR_MS: u64 = 60 * MINUTE_MS;
const MINUTE_MS: u64 = 60_000;
const TOO_MANY_REQUESTS: u16 = 429;
const SERVICE_UNAVAILABLE: u16 = 503;
pub(super) const GONE: u16 = 410;

/// The retry schedule of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The waits before the second attempt, the third and so on, in milliseconds. There is one
    /// attempt more than waits.
    pub schedule_ms: Vec<u64>,
    /// Maximum jitter of a wait, as a share of the wait in both directions: 0.2 is ±20 %. Values
    /// are clamped to 0 to 1.
    pub jitter_share: f64,
}

impl RetryPolicy {
    /// Maximum number of attempts, the first included.
    pub fn attempts(&self) -> usize {
        self.schedule_ms.len().saturating_add(1)
    }
}

/// Decides what follows from this attempt. The first attempt has number 1; `jitter` is from 0 up to
/// 1.
///
/// An accepted attempt is delivered. After 410 the delivery is dead: the receiver is permanently
/// gone (RFC 9110, 15.5.11). Any other failure is retried until the schedule is used up.
/// `Retry-After` counts with 429 and 503 only, and only lengthens the wait.
pub fn verdict(
    policy: &RetryPolicy,
    attempt_number: u32,
    outcome: &AttemptOutcome,
    now: Timestamp,
    jitter: f64,
) -> Verdict {
    if outcome.error.is_none() {
        return Verdict::Delivered;
    }
    if outcome.status == Some(GONE) {
        return Verdict::Dead(DeadReason::Gone);
    }
    let retries_made = usize::try_from(attempt_number.saturating_sub(1)).unwrap_or(usize::MAX);
    match policy.schedule_ms.get(retries_made) {
        None => Verdict::Dead(DeadReason::AttemptsExhausted),
        Some(wait_ms) => {
            let wait_ms =
                jittered(*wait_ms, policy.jitter_share, jitter).max(asked_wait_ms(outcome));
            Verdict::RetryAt(now.plus_ms(wait_ms))
        }
    }
}

/// Returns why the attempt disables its endpoint, if it does: the receiver answered 410, or all
/// attempts since the steady time `failing_from` failed for `disable_after_ms` or longer. With 0,
/// failures never disable.
pub fn disables(
    disable_after_ms: u64,
    failing_from: Option<Timestamp>,
    outcome: &AttemptOutcome,
    steady: Timestamp,
) -> Option<DisabledReason> {
    outcome.error.as_ref()?;
    if outcome.status == Some(GONE) {
        return Some(DisabledReason::Gone);
    }
    let failing = failing_from.is_some_and(|since| since.plus_ms(disable_after_ms) <= steady);
    (failing && disable_after_ms > 0).then_some(DisabledReason::Failing)
}

/// Returns the `Retry-After` of the outcome, if honored, in milliseconds; otherwise 0.
fn asked_wait_ms(outcome: &AttemptOutcome) -> u64 {
    match (outcome.status, outcome.retry_after_ms) {
        (Some(TOO_MANY_REQUESTS | SERVICE_UNAVAILABLE), Some(asked_ms)) => {
            asked_ms.min(RETRY_AFTER_MS_MAX)
        }
        _ => 0,
    }
}

/// Lengthens or shortens the wait by up to `share` of itself; `jitter` is from 0 up to 1.
pub(super) fn jittered(wait_ms: u64, share: f64, jitter: f64) -> u64 {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.5 };
    // The factor is between 0 and 2, so `mul_f64` stays within the range of a Duration.
    let factor = 1.0 + share * (2.0 * jitter - 1.0);
    u64::try_from(Duration::from_millis(wait_ms).mul_f64(factor).as_millis()).unwrap_or(u64::MAX)
}
