//! The time. Only this module reads the machine's clocks; every other module gets a [`Clock`] or a
//! `now`.
//!
//! There are two readings. The wall clock ([`Clock::now_ms`]) is for people: the time of an event,
//! the end of a key, the time in a signature. The wall clock can be set back. The steady time
//! ([`Clock::steady_ms`]) is for waiting. It follows the wall clock forward. When the wall clock is
//! set back, the steady time continues by the monotonic clock until the wall clock has caught up.
//! So a clock that is set back by hours delays no retry, rate or pause. The steady time follows the
//! wall clock forward because a machine that slept, or started with a wrong time, has no other way
//! to learn how late the time is; an attempt that comes too early does less harm than an attempt
//! that never comes.
//!
//! Due times of deliveries, and the ends of grace periods, overlaps and deduplication windows, are
//! steady times. They are stored, and a restart must not fall behind them. So the steady time begins
//! no earlier than the latest steady time that a command recorded ([`Clock::not_before`]); ids
//! contain steady times too.
//!
//! Neither reading measures how long something has lasted: both follow a wall clock that is set
//! forward. [`Clock::uptime_ms`] does, for the grace of copies and for judging the wall clock.
//!
//! A manual clock stands still until a test moves it, so tests check schedules of days exactly, in
//! milliseconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMs = u64;

/// The source of the time. Clones share the same state.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    manual: Option<Arc<Manual>>,
    anchor: Arc<Mutex<Option<Anchor>>>,
}

/// The readings of a manual clock.
#[derive(Debug)]
struct Manual {
    wall_ms: AtomicU64,
    monotonic_ms: AtomicU64,
}

/// The steady time at one reading of the monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    steady_ms: UnixMs,
    at: Monotonic,
}

/// A reading of the monotonic clock.
#[derive(Clone, Copy, Debug)]
enum Monotonic {
    Machine(Instant),
    Manual(u64),
}

impl Monotonic {
    fn since_ms(self, earlier: Self) -> u64 {
        match (self, earlier) {
            (Self::Machine(now), Self::Machine(then)) => {
                u64::try_from(now.saturating_duration_since(then).as_millis()).unwrap_or(u64::MAX)
            }
            (Self::Manual(now), Self::Manual(then)) => now.saturating_sub(then),
            (Self::Machine(_), Self::Manual(_)) | (Self::Manual(_), Self::Machine(_)) => 0,
        }
    }
}

/// The first uptime, so that any duration can be subtracted.
const UPTIME_FIRST_MS: u64 = 1 << 50;

/// The interval at which sleepers look at a manual clock.
const MANUAL_POLL: Duration = Duration::from_millis(5);

impl Clock {
    /// Returns the machine's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// Returns a clock that stands at `start_ms` until [`Clock::set_ms`] or [`Clock::advance_ms`].
    pub fn manual(start_ms: UnixMs) -> Self {
        let manual = Manual { wall_ms: start_ms.into(), monotonic_ms: 0.into() };
        Self { manual: Some(Arc::new(manual)), anchor: Arc::default() }
    }

    /// Returns the wall clock in milliseconds since 1970. A machine clock before 1970 reads as 0.
    pub fn now_ms(&self) -> UnixMs {
        if let Some(manual) = &self.manual {
            return manual.wall_ms.load(Ordering::SeqCst);
        }
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        let now = SystemTime::now();
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the time for waiting. It never goes back and is never behind the wall clock.
    pub fn steady_ms(&self) -> UnixMs {
        self.read_steady(0)
    }

    /// Returns the milliseconds by which the steady time is ahead: 0 unless the wall clock was set
    /// back.
    pub fn ahead_ms(&self) -> u64 {
        self.steady_ms().saturating_sub(self.now_ms())
    }

    /// Returns the time since some moment before this process, in milliseconds: nobody can set it,
    /// and it stands still while the machine sleeps. Only differences mean something.
    pub fn uptime_ms(&self) -> u64 {
        static BEGAN: OnceLock<Instant> = OnceLock::new();
        let ms = match self.monotonic() {
            Monotonic::Manual(ms) => ms,
            now @ Monotonic::Machine(at) => {
                now.since_ms(Monotonic::Machine(*BEGAN.get_or_init(|| at)))
            }
        };
        UPTIME_FIRST_MS.saturating_add(ms)
    }

    /// Returns the wall-clock time of a due steady time, to show to people. An overdue time becomes
    /// now or an earlier time.
    pub fn wall_ms_of(&self, due_ms: UnixMs) -> UnixMs {
        let (steady_ms, now_ms) = (self.steady_ms(), self.now_ms());
        if due_ms <= now_ms {
            due_ms
        } else {
            now_ms.saturating_add(due_ms.saturating_sub(steady_ms))
        }
    }

    /// Raises the steady time to at least this value.
    pub fn not_before(&self, at_least_ms: UnixMs) {
        self.read_steady(at_least_ms);
    }

    fn read_steady(&self, at_least_ms: UnixMs) -> UnixMs {
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let (wall_ms, at) = (self.now_ms().max(at_least_ms), self.monotonic());
        let expected_ms =
            anchor.map_or(0, |known| known.steady_ms.saturating_add(at.since_ms(known.at)));
        // The anchor moves only when the wall clock is ahead, so no fraction of a millisecond is
        // lost or counted twice.
        if wall_ms > expected_ms || anchor.is_none() {
            *anchor = Some(Anchor { steady_ms: wall_ms, at });
        }
        wall_ms.max(expected_ms)
    }

    fn monotonic(&self) -> Monotonic {
        match &self.manual {
            Some(manual) => Monotonic::Manual(manual.monotonic_ms.load(Ordering::SeqCst)),
            None => Monotonic::Machine(Instant::now()),
        }
    }

    /// Returns how long a thread may sleep until `due_ms`, a steady time. With a manual clock this
    /// is at most a few milliseconds, because a test may move the clock at any time.
    pub fn until(&self, due_ms: UnixMs) -> Duration {
        let wait = Duration::from_millis(due_ms.saturating_sub(self.steady_ms()));
        if self.manual.is_some() { wait.min(MANUAL_POLL) } else { wait }
    }

    /// Sets a manual wall clock, forward or back, as an operator does: no time passes. No effect on
    /// the machine's clock.
    pub fn set_ms(&self, now_ms: UnixMs) {
        if let Some(manual) = &self.manual {
            // The time before counts too, even if nobody has read the clock since.
            self.steady_ms();
            manual.wall_ms.store(now_ms, Ordering::SeqCst);
        }
    }

    /// Lets time pass on a manual clock. No effect on the machine's clock.
    pub fn advance_ms(&self, by_ms: u64) {
        if let Some(manual) = &self.manual {
            self.steady_ms();
            manual.monotonic_ms.fetch_add(by_ms, Ordering::SeqCst);
            manual.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_clock_that_is_set_back_goes_on_where_it_was_until_the_wall_clock_has_caught_up() {
        let clock = Clock::manual(10_000);
        assert_eq!((clock.now_ms(), clock.steady_ms(), clock.ahead_ms()), (10_000, 10_000, 0));
        clock.set_ms(4_000);
        assert_eq!((clock.now_ms(), clock.steady_ms(), clock.ahead_ms()), (4_000, 10_000, 6_000));
        clock.advance_ms(1_000);
        assert_eq!((clock.now_ms(), clock.steady_ms()), (5_000, 11_000), "time passes");
        assert_eq!(
            [500, 5_001, 11_000, 11_007].map(|due| clock.wall_ms_of(due)),
            [500, 5_000, 5_000, 5_007]
        );
        clock.set_ms(9_000);
        assert_eq!(
            (clock.steady_ms(), clock.ahead_ms()),
            (11_000, 2_000),
            "set forward, but not far enough"
        );
        clock.set_ms(20_000);
        assert_eq!((clock.steady_ms(), clock.ahead_ms()), (20_000, 0));
        let uptime = clock.uptime_ms();
        clock.set_ms(20_000);
        assert_eq!(clock.uptime_ms(), uptime, "no time has passed");
        clock.advance_ms(5);
        assert_eq!((clock.now_ms(), clock.steady_ms()), (20_005, 20_005));
        assert_eq!(clock.uptime_ms(), uptime + 5);
    }

    #[test]
    fn clones_share_the_steady_time_and_a_restart_begins_no_earlier_than_it_is_told() {
        let clock = Clock::manual(10_000);
        let other = clock.clone();
        clock.set_ms(1_000);
        assert_eq!(other.steady_ms(), 10_000);
        let restarted = Clock::manual(1_000);
        restarted.not_before(10_500);
        restarted.advance_ms(1);
        assert_eq!((restarted.now_ms(), restarted.steady_ms()), (1_001, 10_501));
        restarted.not_before(3);
        assert_eq!(restarted.steady_ms(), 10_501);
    }

    #[test]
    fn the_machines_steady_time_is_its_wall_clock() {
        let clock = Clock::system();
        let (before, steady, after) = (clock.now_ms(), clock.steady_ms(), clock.now_ms());
        // This holds unless somebody sets the machine's clock at this moment.
        assert!(before <= steady && steady <= after.max(before), "{before} {steady} {after}");
    }

    proptest! {
        #[test]
        fn steady_time_never_goes_back_and_passes_at_least_as_fast_as_time_does(
            steps in proptest::collection::vec((any::<bool>(), 0u64..100_000), 1..60)
        ) {
            let clock = Clock::manual(50_000);
            let mut last = clock.steady_ms();
            for (is_set, ms) in steps {
                if is_set { clock.set_ms(ms) } else { clock.advance_ms(ms) }
                let now = clock.steady_ms();
                let least = if is_set { last } else { last + ms };
                prop_assert!(now >= least);
                prop_assert!(now >= clock.now_ms());
                last = now;
            }
        }
    }
}
