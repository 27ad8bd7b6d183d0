//! `triggerd serve`: runs the server from its start until a signal stops it.

use std::path::Path;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::Failure;
use crate::app::{App, Reloaded, StartError, StartOptions, check_log_directory, systemd};
use crate::base::clock::Clock;
use crate::base::exit_code::ExitCode;
use crate::base::failpoint;
use crate::base::library_errors::os_words;
use crate::base::threads::spawn_critical;
use crate::config::{Change, Config, Source, failpoints_from_environment};
use crate::logging;

#[derive(Args)]
pub(super) struct Serve {
    /// Deliver nothing: for looking at a copy or a restored backup while the original runs. Tests
    /// of endpoints still send
    #[arg(long)]
    no_deliver: bool,
    /// Start although secrets.key, which encrypts the endpoints' secrets, is lost: an endpoint
    /// whose secret cannot be decrypted is disabled until its owner sets a new secret
    #[arg(long)]
    forget_secrets: bool,
}

/// The signals that the server handles.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// The request of a signal.
enum Heard {
    Stop,
    Reload,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| fatal("signals cannot be caught", &error));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.terminate.recv() => Heard::Stop,
            _ = self.interrupt.recv() => Heard::Stop,
            _ = self.hangup.recv() => Heard::Reload,
        }
    }

    /// Waits for a signal to stop. A SIGHUP during the start is handled after the start.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Serve {
    pub(super) fn run(
        &self,
        file: Option<&Path>,
        (config, source): (Config, Source),
    ) -> Result<ExitCode, Failure> {
        let refused = |error: StartError| Failure::new(error.exit_code(), error);
        check_log_directory(&config).map_err(refused)?;
        let guard =
            logging::start(&config.log).map_err(|error| Failure::new(error.exit_code(), error))?;
        tracing::info!(%source, "configuration loaded");
        if let Some(names) = failpoints_from_environment() {
            failpoint::arm(&names).map_err(|error| Failure::new(ExitCode::Usage, error))?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| fatal("the runtime cannot be created", &error))?;
        // Signals are caught before the start, so that a signal during the start is not lost.
        let _in_runtime = runtime.enter();
        let mut signals = Signals::listen()?;
        let options =
            StartOptions { deliver: !self.no_deliver, forget_secrets: self.forget_secrets };
        let mut starting = start(config, options)?;
        let Some(started) = runtime.block_on(until_ready(&mut starting, &mut signals)) else {
            return Ok(interrupt(starting));
        };
        let app = started.inspect_err(|failure| {
            tracing::error!(error = failure.message, "the server did not start");
        })?;
        let code = runtime.block_on(serve(app, file, &mut signals)).stop();
        drop(guard);
        Ok(code)
    }
}

/// Waits for the end of the start. None if a signal to stop comes first.
async fn until_ready(
    starting: &mut Starting,
    signals: &mut Signals,
) -> Option<Result<App, Failure>> {
    let started = tokio::select! {
        biased;
        started = starting => started,
        () = signals.stop() => return None,
    };
    Some(started.unwrap_or_else(|_gone| {
        Err(Failure::new(ExitCode::Fatal, "the start ended without a result"))
    }))
}

/// Ends a start. A server that became ready at the same moment is stopped in order. Otherwise the
/// process ends as in a crash, which loses nothing.
fn interrupt(mut starting: Starting) -> ExitCode {
    starting.close();
    tracing::info!(
        "the server was stopped before it was ready; the next start continues from here"
    );
    starting.try_recv().ok().and_then(Result::ok).map_or(ExitCode::Clean, App::stop)
}

/// Tells systemd that the server is ready, and handles signals until one of them stops the server.
async fn serve(mut app: App, file: Option<&Path>, signals: &mut Signals) -> App {
    let status = format!("listening on {}", app.address());
    systemd::ready(&status);
    while let Heard::Reload = signals.next().await {
        reload(&mut app, file, &status);
    }
    systemd::stopping();
    app
}

/// The result of a start under way.
type Starting = oneshot::Receiver<Result<App, Failure>>;

fn fatal(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(ExitCode::Fatal, format!("{what}: {}", os_words(error)))
}

/// Starts the server on a thread of its own: a start can take minutes, and a signal to stop must
/// not wait for it.
fn start(config: Config, options: StartOptions) -> Result<Starting, Failure> {
    let (sender, started) = oneshot::channel();
    let failed = |error: StartError| Failure::new(error.exit_code(), error);
    let start = move || App::start_with(config, Clock::system(), options).map_err(failed);
    let thread = spawn_critical("start", move || drop(sender.send(start())));
    thread.map_err(|error| fatal("threads cannot be started", &error))?;
    Ok(started)
}

/// Handles SIGHUP: loads the configuration again and logs the result.
fn reload(app: &mut App, file: Option<&Path>, status: &str) {
    systemd::reloading();
    let reloaded = Config::load(file).map_err(|error| error.to_string());
    let reloaded =
        reloaded.and_then(|(config, _)| app.reload(&config).map_err(|error| error.to_string()));
    match reloaded {
        Ok(Reloaded { changed, needs_restart }) => {
            if changed.is_empty() {
                tracing::info!("reload: no key has changed that a running server can take over");
            } else {
                tracing::info!(changed = listed(&changed), "reload: the configuration has changed");
            }
            if !needs_restart.is_empty() {
                tracing::warn!(
                    changed = listed(&needs_restart),
                    "reload: these changes need a restart"
                );
            }
            systemd::ready(status);
        }
        Err(error) => {
            tracing::error!(error, "reload refused: the configuration is unchanged");
            systemd::ready(&format!("{status}; the last reload was refused: {error}"));
        }
    }
}

fn listed(changes: &[Change]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
