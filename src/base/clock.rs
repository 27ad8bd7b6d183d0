//! The wall clock. The only place that reads it; everything else is handed a [`Clock`] or a `now`.
//!
//! A manual clock stands still until a test moves it, so schedules of days are tested in milliseconds and exactly.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::threads::Signal;

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMs = u64;

/// Where the time comes from.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<ManualClock>>);

#[derive(Debug, Default)]
struct ManualClock {
    now_ms: AtomicU64,
    sleepers: Mutex<Vec<Signal>>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `start_ms` until [`Clock::advance`] moves it.
    pub fn manual(start_ms: UnixMs) -> Self {
        Self(Some(Arc::new(ManualClock { now_ms: AtomicU64::new(start_ms), sleepers: Mutex::default() })))
    }

    /// Milliseconds since 1970. A machine clock before 1970 reads as 0.
    pub fn now_ms(&self) -> UnixMs {
        if let Some(manual) = &self.0 {
            return manual.now_ms.load(Ordering::SeqCst);
        }
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        let now = SystemTime::now();
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }

    /// How long a thread may sleep until `due_ms`. With a manual clock: until the clock is moved (the signal registered
    /// with [`Clock::wakes`] tells).
    pub fn until(&self, due_ms: UnixMs) -> Duration {
        let wait = Duration::from_millis(due_ms.saturating_sub(self.now_ms()));
        if self.0.is_some() && !wait.is_zero() { Duration::MAX } else { wait }
    }

    /// Registers a sleeper that is to be notified when a manual clock moves. Nothing on the machine's clock.
    pub fn wakes(&self, sleeper: &Signal) {
        if let Some(manual) = &self.0 {
            manual.sleepers.lock().unwrap_or_else(PoisonError::into_inner).push(sleeper.clone());
        }
    }

    /// Moves a manual clock forward and wakes its sleepers. Nothing on the machine's clock.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.0 {
            let by_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            manual.now_ms.fetch_add(by_ms, Ordering::SeqCst);
            for sleeper in manual.sleepers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                sleeper.notify();
            }
        }
    }
}
