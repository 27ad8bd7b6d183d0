//! The server as a whole: starts its parts in order, stops them in reverse, each with a deadline and a line in the log.
//!
//! The order is the recovery: lock, journal, state, what the journal holds behind the state, then the threads, the
//! doors last. [`App::start`] is what `triggerd serve`, the demo and the tests call.

mod opening;
mod sending;
mod start_error;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::base::clock::Clock;
use crate::base::exit_code::ExitCode;
use crate::base::metrics::Metrics;
use crate::base::threads::{Signal, Stop, Thread, spawn_critical};
use crate::base::vault::Vault;
use crate::commit::{
    Committer, CommitterLimits, Feed, Flush, Flusher, Hints, InboxBell, Intake, Ports, Progress, SchedulerHint, Space,
    WRITE_BACK_AFTER, watch,
};
use crate::config::Config;
use crate::data_dir::{DataDir, free_bytes};
use crate::delivery::breakers::Breakers;
use crate::http;
use crate::journal::{self, Reader};
use crate::model::delivery::ErrorCode;
use crate::model::id::{EventId, OrgNo};
use crate::pipeline::{Replayer, Sweeper, SweeperSettings, Worker, WorkerPorts};
use crate::store::Store;

pub use start_error::StartError;

use opening::Opened;

/// What the committer, the last to stop, is given beyond the deadline of the others.
const COMMITTER_EXTRA: Duration = Duration::from_millis(500);
/// How long requests are still taken while `/health/ready` says 503 already.
const LINGER: Duration = Duration::from_millis(300);
/// Hints for the scheduler that may wait; more are found in the state.
const SCHEDULER_HINTS: usize = 10_000;

/// Connections that may wait to be accepted, as far as `net.core.somaxconn` allows. The standard library's 128 are used up
/// by a crowd that connects at once; whoever comes then is not heard and tries again a second later.
const BACKLOG: i32 = 4_096;

/// A running server.
pub struct App {
    config: Arc<Config>,
    address: SocketAddr,
    admin_token: String,
    health: Arc<http::Health>,
    store: Arc<Store>,
    intake: Intake,
    bell: InboxBell,
    /// Ends the inner threads.
    stop: Stop,
    http: HttpThread,
    scheduler: Thread,
    workers: Vec<Thread>,
    sweeper: Woken,
    replayer: Woken,
    committer: Thread,
    segments: Thread,
    flusher: (Flush, Thread),
    runtime: Runtime,
    space: Arc<Space>,
    watched: Watched,
    /// Last: its lock is let go when everything else has ended.
    _data_dir: DataDir,
}

/// A thread that sleeps until somebody wakes it.
struct Woken {
    thread: Thread,
    wake: Signal,
}

struct HttpThread {
    thread: Thread,
    handle: actix_web::dev::ServerHandle,
}

/// What the parts share.
struct Shared {
    config: Arc<Config>,
    clock: Clock,
    metrics: Arc<Metrics>,
    store: Arc<Store>,
    vault: Arc<Vault>,
    journal: Reader,
    intake: Intake,
    hints: Arc<Hints>,
    space: Arc<Space>,
    stop: Stop,
    breakers: Arc<Breakers>,
    feed: Feed,
}

impl App {
    /// Starts everything; when it returns, requests are answered.
    ///
    /// # Errors
    /// See [`StartError`]. What was started is stopped again by the end of the process.
    pub fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let metrics = make_metrics()?;
        let space = Arc::new(disk_space(&config));
        let opened = opening::open(&config, &clock, &metrics, &space);
        let opened = opened.map_err(|cause| cause.on_disk(&config.storage.data_dir, space.free()))?;
        let Opened { data_dir, admin_token, vault, mut writer, journal, store } = opened;
        // Listening comes after recovery: an open port means a server that answers.
        let address = config.server.listen;
        let listener = listen(address).map_err(|cause| StartError::Listen { address, cause })?;
        let address = listener.local_addr().map_err(|cause| StartError::Listen { address, cause })?;
        let Queues { hints, unrouted, due } = Queues::new(&config);
        let (committing, flushing, health) = (Arc::<Progress>::default(), Arc::<Progress>::default(), Arc::default());
        let (stop, flush, feed, breakers) = (Stop::new(), Flush::default(), Feed::default(), Arc::default());
        let ports = Ports {
            store: Arc::clone(&store),
            clock: clock.clone(),
            hints: Arc::clone(&hints),
            metrics: Arc::clone(&metrics),
            flush: flush.clone(),
            progress: Arc::clone(&committing),
            space: Arc::clone(&space),
            feed: feed.clone(),
        };
        let spares = writer.spares();
        // Ends with the committer, which has the writer.
        let segments = spawn_critical("segments", move || spares.run()).map_err(StartError::Threads)?;
        let (committer, intake) = start_committer(&config, writer, ports)?;
        let flusher = Flusher {
            store: Arc::clone(&store),
            flush,
            after: WRITE_BACK_AFTER,
            intake: intake.clone(),
            space: Arc::clone(&space),
            metrics: Arc::clone(&metrics),
            progress: Arc::clone(&flushing),
        };
        let flusher = start_flusher(flusher, stop.clone()).map_err(StartError::Threads)?;

        let runtime = sending::runtime().map_err(StartError::Threads)?;
        let watched = start_watchdog(committing, flushing).map_err(StartError::Threads)?;
        let shared =
            Shared { config, clock, metrics, store, vault, journal, intake, hints, space, stop, breakers, feed };
        let workers = start_workers(&shared, &unrouted).map_err(StartError::Threads)?;
        let scheduler = sending::start_scheduler(&shared, &runtime, due)?;
        let api = make_api(&shared, &admin_token, &health)?;
        let sweeper = start_sweeper(&shared, &api).map_err(StartError::Threads)?;
        let replayer = start_replayer(&shared).map_err(StartError::Threads)?;
        let http = start_http(api, listener).map_err(StartError::Threads)?;
        health.set_ready();
        tracing::info!(%address, data_dir = %data_dir.path().display(), version = env!("CARGO_PKG_VERSION"), "triggerd is ready");
        let Shared { config, store, intake, space, stop, hints, .. } = shared;
        Ok(Self {
            config,
            address,
            admin_token,
            health,
            store,
            intake,
            bell: hints.bell.clone(),
            stop,
            http,
            scheduler,
            workers,
            sweeper,
            replayer,
            committer,
            segments,
            flusher,
            runtime,
            space,
            watched,
            _data_dir: data_dir,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The admin token in effect.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The state, to look at.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Stops in reverse order. What was acknowledged is stored, what is not delivered is delivered after the next start.
    pub fn stop(self) -> ExitCode {
        let deadline = Instant::now() + self.config.server.shutdown;
        tracing::info!("stopping: no new connections, requests in hand are finished");
        self.health.set_stopping();
        self.stop.set();
        // For a moment the door stays open, so that probes and balancers see that we leave.
        Signal::new().wait(LINGER);
        let HttpThread { thread, handle } = self.http;
        self.runtime.spawn(handle.stop(true));
        let mut in_order = thread.join_until(deadline);
        self.bell.stop();
        self.sweeper.wake.notify();
        self.replayer.wake.notify();
        tracing::info!("stopping: deliveries on their way");
        in_order &= self.scheduler.join_until(deadline);
        for worker in self.workers {
            in_order &= worker.join_until(deadline);
        }
        in_order &= self.replayer.thread.join_until(deadline);
        in_order &= self.sweeper.thread.join_until(deadline);
        self.intake.close();
        let committed = self.committer.join_until(deadline + COMMITTER_EXTRA);
        in_order &= self.segments.join_until(deadline + COMMITTER_EXTRA);
        let (flush, flusher) = self.flusher;
        flush.wake();
        let written_back = flusher.join_until(deadline + COMMITTER_EXTRA);
        self.runtime.shutdown_background();
        if !committed || !written_back {
            tracing::error!("what writes did not end in time; the next start recovers from the journal");
            return ExitCode::Fatal;
        }
        self.watched.state.busy();
        if self.store.is_broken() {
            self.store.condemn();
            tracing::error!("a row of the state could not be read; the next start makes it anew");
        } else if self.space.is_short_for(self.store.fresh()) {
            tracing::warn!("the disk is full: the state is left as a crash leaves it; the next start brings it up");
        } else if let Err(error) = self.store.close() {
            self.store.condemn();
            tracing::error!(%error, "the state was not closed; the next start makes it anew");
        }
        self.watched.state.idle();
        self.watched.stop.set();
        tracing::info!(in_order, "stopped");
        ExitCode::Clean
    }
}

fn make_metrics() -> Result<Arc<Metrics>, StartError> {
    let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
    Metrics::new(&codes).map(Arc::new).map_err(StartError::Metrics)
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // It listens already; again means with another length of the queue.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// The channels that the committer gives hints through.
struct Queues {
    hints: Arc<Hints>,
    unrouted: crossbeam_channel::Receiver<(OrgNo, EventId)>,
    due: crossbeam_channel::Receiver<SchedulerHint>,
}

impl Queues {
    fn new(config: &Config) -> Self {
        let (unrouted_sender, unrouted) = crossbeam_channel::bounded(config.workers.queue);
        let (due_sender, due) = crossbeam_channel::bounded(SCHEDULER_HINTS);
        let hints = Arc::new(Hints {
            unrouted: unrouted_sender,
            unrouted_missed: false.into(),
            scheduler: due_sender,
            scheduler_missed: false.into(),
            bell: InboxBell::default(),
            replays: Signal::new(),
        });
        Self { hints, unrouted, due }
    }
}

/// The filesystem that holds the data.
fn disk_space(config: &Config) -> Space {
    let data_dir = config.storage.data_dir.clone();
    Space::new(Box::new(move || free_bytes(&data_dir)), config.storage.reserve_bytes)
}

fn start_committer(config: &Config, writer: journal::Writer, ports: Ports) -> Result<(Thread, Intake), StartError> {
    let limits = CommitterLimits {
        queue: config.intake.queue,
        wait_max: config.intake.wait_max,
        queue_bytes: config.intake.queue_bytes,
        group_commands: config.intake.group_commands,
        group_bytes: config.intake.group_bytes,
    };
    let last_id = ports.store.counts().map_err(StartError::State)?.last_id;
    let (is_low, free) = (ports.space.is_low(), ports.space.free());
    let (committer, intake) = Committer::new(limits, writer, ports, last_id);
    intake.set_disk_low(is_low, free);
    let committer = spawn_critical("committer", || committer.run()).map_err(StartError::Threads)?;
    Ok((committer, intake))
}

fn make_api(
    shared: &Shared,
    admin_token: &str,
    health: &Arc<http::Health>,
) -> Result<actix_web::web::Data<http::Api>, StartError> {
    let api = http::Api::new(http::ApiParts {
        config: Arc::clone(&shared.config),
        clock: shared.clock.clone(),
        store: Arc::clone(&shared.store),
        journal: shared.journal.clone(),
        intake: shared.intake.clone(),
        bell: shared.hints.bell.clone(),
        feed: shared.feed.clone(),
        metrics: Arc::clone(&shared.metrics),
        stop: shared.stop.clone(),
        sender: sending::tester(shared)?,
        vault: Arc::clone(&shared.vault),
        breakers: Arc::clone(&shared.breakers),
        admin_token: admin_token.to_owned(),
        health: Arc::clone(health),
    });
    api.map(actix_web::web::Data::new).map_err(StartError::Threads)
}

fn start_flusher(flusher: Flusher, stop: Stop) -> std::io::Result<(Flush, Thread)> {
    let flush = flusher.flush.clone();
    // A start on a full disk left rows in memory.
    flush.wake();
    Ok((flush, spawn_critical("flusher", move || flusher.run(&stop))?))
}

/// What the watchdog looks at until the state is closed.
struct Watched {
    state: Arc<Progress>,
    stop: Stop,
}

/// On a thread of its own, which no hanging disk can stop.
fn start_watchdog(committing: Arc<Progress>, flushing: Arc<Progress>) -> std::io::Result<Watched> {
    let watched = Watched { state: Arc::clone(&flushing), stop: Stop::new() };
    let (threads, stop) = ([("committer", committing), ("flusher", flushing)], watched.stop.clone());
    spawn_critical("watchdog", move || watch(&threads, &stop, tell_systemd_alive))?;
    Ok(watched)
}

fn tell_systemd_alive() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]) {
        tracing::debug!(%error, "systemd was not told");
    }
}

fn start_workers(
    shared: &Shared,
    queue: &crossbeam_channel::Receiver<(OrgNo, EventId)>,
) -> std::io::Result<Vec<Thread>> {
    let start = |number| {
        let worker = Worker::new(WorkerPorts {
            store: Arc::clone(&shared.store),
            intake: shared.intake.clone(),
            hints: Arc::clone(&shared.hints),
            clock: shared.clock.clone(),
            queue: queue.clone(),
        });
        let stop = shared.stop.clone();
        spawn_critical(&format!("worker-{number}"), move || worker.run(&stop))
    };
    let notifier = std::iter::once_with(|| start_notifier(shared));
    (1..=shared.config.workers.threads).map(start).chain(notifier).collect()
}

/// Wakes requests that wait for an event.
fn start_notifier(shared: &Shared) -> std::io::Result<Thread> {
    let (bell, store, stop) = (shared.hints.bell.clone(), Arc::clone(&shared.store), shared.stop.clone());
    spawn_critical("notifier", move || bell.run(&store, &stop))
}

fn start_sweeper(shared: &Shared, api: &actix_web::web::Data<http::Api>) -> std::io::Result<Woken> {
    let api = actix_web::web::Data::clone(api);
    let window = shared.config.dedup.window;
    let sweeper = Sweeper {
        store: Arc::clone(&shared.store),
        journal: shared.journal.clone(),
        intake: shared.intake.clone(),
        hints: Arc::clone(&shared.hints),
        clock: shared.clock.clone(),
        metrics: Arc::clone(&shared.metrics),
        settings: SweeperSettings {
            dedup_window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            space: Arc::clone(&shared.space),
            keys_used: Box::new(move || api.take_keys_used()),
        },
    };
    let stop = shared.stop.clone();
    let wake = Signal::new();
    let waits_for = wake.clone();
    let thread = spawn_critical("sweeper", move || sweeper.run(&stop, &waits_for))?;
    Ok(Woken { thread, wake })
}

fn start_replayer(shared: &Shared) -> std::io::Result<Woken> {
    let wake = shared.hints.replays.clone();
    let replayer = Replayer {
        store: Arc::clone(&shared.store),
        intake: shared.intake.clone(),
        clock: shared.clock.clone(),
        metrics: Arc::clone(&shared.metrics),
        wake: wake.clone(),
    };
    let stop = shared.stop.clone();
    let thread = spawn_critical("replayer", move || replayer.run(&stop))?;
    Ok(Woken { thread, wake })
}

/// actix runs on a thread of its own, so that the caller's is free.
fn start_http(api: actix_web::web::Data<http::Api>, listener: TcpListener) -> std::io::Result<HttpThread> {
    let (started, handle) = std::sync::mpsc::sync_channel(1);
    let thread = spawn_critical("http", move || {
        actix_web::rt::System::new().block_on(async move {
            let server = http::server(api, listener);
            let (server, handle) = match server {
                Ok(server) => {
                    let handle = server.handle();
                    (Some(server), Ok(handle))
                }
                Err(error) => (None, Err(error)),
            };
            if started.send(handle).is_err() {
                return;
            }
            if let Some(server) = server
                && let Err(error) = server.await
            {
                tracing::error!(%error, "the HTTP server ended");
            }
        });
    })?;
    let handle = handle.recv().map_err(|_gone| std::io::Error::other("the HTTP thread ended at its start"))??;
    Ok(HttpThread { thread, handle })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_connects_at_once_is_not_turned_away() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody accepts meanwhile: the kernel's queue holds them all.
        let connect = |_| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1));
        let crowd: Vec<_> = (0..400).map(connect).collect::<Result<_, _>>().unwrap();
        assert_eq!(crowd.len(), 400);
    }
}
