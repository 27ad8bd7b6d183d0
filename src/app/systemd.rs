//! What systemd is told, where it is asked for; sd_notify(3). Nothing depends on its being heard.

use std::cell::Cell;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// How long systemd is to wait for the next word while something takes longer than it should.
const EXTENSION_US: u32 = 120_000_000;
/// How often it is told that something goes on.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often the log is.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// It serves.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// It takes another configuration.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "systemd could not be notified of the reload"),
    }
}

/// It stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// It gets on.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// The start takes longer: not to be given up.
pub(super) fn extend(status: &str) {
    tell(&[NotifyState::ExtendTimeoutUsec(EXTENSION_US), NotifyState::Status(status)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be notified");
    }
}

/// Tells how far a long step of the start has come, now and then.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    told: Cell<Option<Instant>>,
    logged: Cell<Instant>,
}

impl Progress {
    pub(super) fn of(what: &'static str) -> Self {
        Self { what, told: Cell::new(None), logged: Cell::new(Instant::now()) }
    }

    /// So much of all is done.
    pub(super) fn tell(&self, done: u64, all: u64) {
        let now = Instant::now();
        let is_over = |since: Instant, every| now.saturating_duration_since(since) >= every;
        let percent = done.saturating_mul(100).checked_div(all).unwrap_or(100).min(100);
        if self.told.get().is_none_or(|told| is_over(told, TELL_EVERY)) {
            self.told.set(Some(now));
            extend(&format!("{}: {percent} %", self.what));
        }
        if is_over(self.logged.get(), LOG_EVERY) {
            self.logged.set(now);
            tracing::info!(percent, "{}", self.what);
        }
    }
}
