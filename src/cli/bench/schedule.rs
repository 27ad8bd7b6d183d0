//! Open-loop load: the time at which each request is due, independent of earlier requests.

use std::io;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

const NANOS_PER_SECOND: u128 = 1_000_000_000;
/// Requests due within this time start together. tokio's own timers tick once a millisecond, which
/// would show in every latency.
const TICK: Duration = Duration::from_micros(250);

/// Requests at even intervals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) began: Instant,
    /// Requests a second; at least 1.
    pub(super) per_second: u64,
    /// Total number of requests.
    pub(super) total: u64,
}

impl Schedule {
    pub(super) fn new(began: Instant, per_second: u64, window: Duration) -> Self {
        let total = u128::from(per_second) * window.as_nanos() / NANOS_PER_SECOND;
        Self { began, per_second: per_second.max(1), total: narrow(total) }
    }

    /// The time at which the request of this number (from 0) is due.
    pub(super) fn due(&self, number: u64) -> Instant {
        let nanos = u128::from(number) * NANOS_PER_SECOND / u128::from(self.per_second);
        self.began + Duration::from_nanos(narrow(nanos))
    }

    /// Number of requests due by now.
    pub(super) fn due_by(&self, now: Instant) -> u64 {
        let Some(since) = now.checked_duration_since(self.began) else { return 0 };
        let passed = since.as_nanos() * u128::from(self.per_second) / NANOS_PER_SECOND;
        narrow(passed).saturating_add(1).min(self.total)
    }
}

fn narrow(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A timer of the kernel. Its file is read like a pipe, for which tokio has a type.
#[derive(Debug)]
pub(super) struct Ticker(pipe::Receiver);

impl Ticker {
    /// Starts a timer that ticks as often as requests are due, but at most every [`TICK`].
    pub(super) fn start(schedule: &Schedule) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let every = (Duration::from_secs(1)
            / u32::try_from(schedule.per_second).unwrap_or(u32::MAX))
        .max(TICK);
        let every = Timespec::try_from(every).map_err(io::Error::other)?;
        timerfd_settime(
            &timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: every, it_value: every },
        )?;
        Ok(Self(pipe::Receiver::from_owned_fd_unchecked(timer)?))
    }

    /// Waits for the next tick; missed ticks count as one.
    pub(super) async fn tick(&mut self) -> io::Result<()> {
        // The read returns the number of ticks since the last read; the clock is more precise.
        self.0.read_u64_le().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_even_distances_and_end() {
        let began = Instant::now();
        let schedule = Schedule::new(began, 400, Duration::from_millis(1_500));
        assert_eq!(schedule.total, 600);
        assert_eq!(schedule.due(0), began);
        assert_eq!(schedule.due(400), began + Duration::from_secs(1));
        assert_eq!(schedule.due_by(began), 1);
        for number in [0, 1, 7, 399, 599] {
            let due = schedule.due(number);
            assert_eq!(schedule.due_by(due), number + 1, "the one that is due now is due");
            assert_eq!(
                schedule.due_by(due + Duration::from_micros(2_499)),
                number + 1,
                "and the next is not"
            );
        }
        assert_eq!(schedule.due_by(began + Duration::from_mins(1)), 600);
        if let Some(before) = began.checked_sub(Duration::from_secs(1)) {
            assert_eq!(schedule.due_by(before), 0);
        }
    }

    #[test]
    fn the_ticker_does_not_wait_for_a_millisecond() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let schedule = Schedule::new(Instant::now(), 1_000_000, Duration::from_secs(1));
            let mut ticker = Ticker::start(&schedule).unwrap();
            let began = Instant::now();
            ticker.tick().await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(10));
        });
    }
}
