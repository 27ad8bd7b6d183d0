//! `triggerd serve`: the server, from start to signal to stop.

use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::app::App;
use crate::base::clock::Clock;
use crate::base::exit_code::ExitCode;
use crate::base::sabotage;
use crate::config::{Config, Source, sabotage_from_environment};
use crate::logging;

pub(super) fn run((config, source): (Config, Source)) -> Result<ExitCode, Failure> {
    let guard = logging::start(&config.log).map_err(|error| Failure::new(error.exit_code(), error))?;
    tracing::info!(%source, "configuration loaded");
    if let Some(names) = sabotage_from_environment() {
        sabotage::arm(&names).map_err(|error| Failure::new(ExitCode::Usage, error))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(ExitCode::Fatal, error))?;
    // Signals are caught before the start, so that one that comes meanwhile is not lost.
    let _in_runtime = runtime.enter();
    let listen = |kind| signal(kind).map_err(|error| Failure::new(ExitCode::Fatal, error));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut hangup = listen(SignalKind::hangup())?;
    let app = App::start(config, Clock::system()).map_err(|error| {
        tracing::error!(%error, "not started");
        Failure::new(error.exit_code(), error)
    })?;
    tell_systemd(sd_notify::NotifyState::Ready);
    runtime.block_on(async {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => tracing::info!("SIGHUP: nothing of the configuration can be changed while running; restart for a new one"),
            }
        }
    });
    tell_systemd(sd_notify::NotifyState::Stopping);
    let code = app.stop();
    drop(guard);
    Ok(code)
}

fn tell_systemd(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd was not told");
    }
}
