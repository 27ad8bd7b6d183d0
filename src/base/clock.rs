//! The wall clock. The only place that reads it; everything else is handed a [`Clock`] or a `now`.
//!
//! A manual clock stands still until a test moves it, so schedules of days are tested in milliseconds and exactly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMs = u64;

/// Where the time comes from.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

/// How often those who sleep look at a manual clock.
const MANUAL_POLL: Duration = Duration::from_millis(5);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `start_ms` until [`Clock::set_ms`] moves it.
    pub fn manual(start_ms: UnixMs) -> Self {
        Self(Some(Arc::new(AtomicU64::new(start_ms))))
    }

    /// Milliseconds since 1970. A machine clock before 1970 reads as 0.
    pub fn now_ms(&self) -> UnixMs {
        if let Some(manual) = &self.0 {
            return manual.load(Ordering::SeqCst);
        }
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        let now = SystemTime::now();
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }

    /// How long a thread may sleep until `due_ms`. With a manual clock a few milliseconds at most, since nobody knows
    /// when it will be moved.
    pub fn until(&self, due_ms: UnixMs) -> Duration {
        let wait = Duration::from_millis(due_ms.saturating_sub(self.now_ms()));
        if self.0.is_some() { wait.min(MANUAL_POLL) } else { wait }
    }

    /// Moves a manual clock, forwards or backwards. Nothing on the machine's clock.
    pub fn set_ms(&self, now_ms: UnixMs) {
        if let Some(manual) = &self.0 {
            manual.store(now_ms, Ordering::SeqCst);
        }
    }
}
