//! Messages to systemd, sent only if systemd asked for them; sd_notify(3). The server runs the same
//! when nobody receives them.

use std::cell::Cell;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Time that systemd waits for the next message during a long start, in microseconds.
const EXTENSION_US: u32 = 120_000_000;
/// Time between two messages to systemd on the progress of a start.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Time between two lines in the log on the same progress.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Tells systemd: the server is ready.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// Tells systemd: the server reloads its configuration.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "systemd could not be notified of the reload"),
    }
}

/// Tells systemd: the server stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Tells systemd's watchdog: the server is alive.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Asks systemd for more time while a start takes long.
pub(super) fn extend(status: &str) {
    tell(&[NotifyState::ExtendTimeoutUsec(EXTENSION_US), NotifyState::Status(&one_line(status))]);
}

/// Returns a status as one line, because a line break would end it.
fn one_line(status: &str) -> String {
    status.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be notified");
    }
}

/// Reports how far a long step of the start has come, at most once a second.
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

    /// Reports progress: `done` of `all`, in any unit.
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
