//! Judges if the wall clock can be believed, before events expire by it. A clock that is wrong by
//! months would let everything expire at once.
//!
//! A clock is doubtful if it jumps forward while the server runs, or if it is far ahead of the
//! newest event at the start. Expiry then waits until the clock has gone on without a jump for a
//! while: an operator, or the network's time, can correct it meanwhile.

/// A jump of the wall clock of more than this makes it doubtful, in milliseconds.
const JUMP_MS: u64 = 3_600_000;
/// At the start, a wall clock of this much after the newest event is doubtful, in milliseconds.
const GAP_MS: u64 = 86_400_000;
/// How long expiry waits after a doubt, in milliseconds of uptime.
const HOLD_MS: u64 = 3_600_000;

/// A wall-clock time and an uptime, in milliseconds.
pub(super) type Readings = (u64, u64);

/// The judgement about the wall clock, kept between calls.
#[derive(Debug)]
pub(super) struct ClockTrust {
    /// The last readings.
    seen: Readings,
    /// The uptime until which nothing expires.
    held_until_ms: Option<u64>,
}

impl ClockTrust {
    /// Begins with the first readings, and the time of the newest event; 0 without events.
    pub(super) fn new(now: Readings, newest_ms: u64) -> Self {
        let mut trust = Self { seen: now, held_until_ms: None };
        if newest_ms > 0 && now.0.saturating_sub(newest_ms) > GAP_MS {
            trust.hold(now, "the clock is more than a day ahead of the newest event");
        }
        trust
    }

    /// Takes in the present readings. Returns true while nothing may expire.
    pub(super) fn is_held(&mut self, now: Readings) -> bool {
        let (before, before_uptime) = std::mem::replace(&mut self.seen, now);
        let passed = now.1.saturating_sub(before_uptime);
        if now.0.saturating_sub(before) > passed.saturating_add(JUMP_MS) {
            self.hold(now, "the clock has jumped forward by more than an hour");
        }
        let is_held = self.held_until_ms.is_some_and(|until| now.1 < until);
        if !is_held && self.held_until_ms.take().is_some() {
            tracing::info!("events expire again");
        }
        is_held
    }

    fn hold(&mut self, (wall_ms, uptime_ms): Readings, why: &'static str) {
        self.held_until_ms = Some(uptime_ms.saturating_add(HOLD_MS));
        tracing::warn!(
            why,
            wall_ms,
            "the clock may be wrong: for an hour no event expires; correct the clock in this time \
             if it is wrong"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * HOUR;
    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_clock_that_jumps_forward_is_doubted_for_an_hour_of_steady_time() {
        let mut trust = ClockTrust::new((40 * DAY, 7), 40 * DAY - 1);
        assert!(!trust.is_held((40 * DAY + 1_000, 1_007)));
        assert!(!trust.is_held((41 * DAY, 1_007 + DAY)), "a day has passed");
        let up = 1_007 + DAY;
        assert!(!trust.is_held((30 * DAY, up)), "set back");
        assert!(trust.is_held((70 * DAY, up)));
        assert!(trust.is_held((30 * DAY, up + HOUR - 1)), "corrected");
        assert!(!trust.is_held((30 * DAY, up + HOUR)));
        assert!(!trust.is_held((30 * DAY + HOUR, up + HOUR)), "an hour ahead");
        assert!(trust.is_held((90 * DAY, up + HOUR)));
        assert!(trust.is_held((120 * DAY, up + 2 * HOUR - 1)), "it jumps again");
        assert!(trust.is_held((120 * DAY, up + 3 * HOUR - 2)));
        assert!(!trust.is_held((120 * DAY, up + 3 * HOUR - 1)));
    }

    #[test]
    fn a_clock_far_ahead_of_the_newest_event_is_doubted_at_the_start() {
        assert!(!ClockTrust::new((40 * DAY, 7), 0).is_held((40 * DAY, 7)), "no events");
        assert!(!ClockTrust::new((40 * DAY, 7), 39 * DAY).is_held((40 * DAY, 7)));
        assert!(!ClockTrust::new((40 * DAY, 7), 50 * DAY).is_held((40 * DAY, 7)));
        let mut trust = ClockTrust::new((40 * DAY, 7), 39 * DAY - 1);
        assert!(trust.is_held((40 * DAY, 7)) && !trust.is_held((40 * DAY, 7 + HOUR)));
    }
}
