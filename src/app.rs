//! The server as a whole: starts its parts in order and stops them in reverse. Each has a deadline.
//!
//! The order is the recovery: the lock, the journal, the state, the rest of the journal, then the
//! threads, and the HTTP server last. `triggerd serve`, the demo and the tests call [`App::start`].

mod dir_watch;
mod limits;
mod listening;
mod loss;
mod lost_secrets;
mod opening;
mod reload;
mod sending;
mod start_error;
pub mod systemd;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::base::clock::Clock;
use crate::base::descriptors;
use crate::base::exit_code::ExitCode;
use crate::base::metrics::Metrics;
use crate::base::threads::{Signal, Stop, Thread, spawn_critical};
use crate::base::vault::Vault;
use crate::commands::Records;
use crate::commit::{
    ActivityStream, Committer, CommitterLimits, Flush, Flusher, Hints, InboxNotifier, Intake,
    Ports, Progress, SchedulerHint, Space, WRITE_BACK_AFTER, watch,
};
use crate::config::Config;
use crate::data_dir::{DataDir, free_bytes, free_files};
use crate::delivery::breakers::Breakers;
use crate::http;
use crate::journal::{self, Reader};
use crate::model::delivery::ErrorCode;
use crate::model::id::{EventId, OrgNo};
use crate::pipeline::{Replayer, Sweeper, SweeperSettings, Worker, WorkerPorts};
use crate::store::Store;

pub use reload::Reloaded;
pub use start_error::StartError;

use dir_watch::DirWatch;
use opening::Opened;

/// Time that the committer, which stops last, has beyond the deadline of the other threads.
const COMMITTER_EXTRA: Duration = Duration::from_millis(500);
/// Time during which requests are still accepted while `/health/ready` already answers 503.
const LINGER: Duration = Duration::from_millis(300);
/// Maximum number of hints that wait for the scheduler. The scheduler finds further work in the
/// state.
const SCHEDULER_HINTS: usize = 10_000;

/// Options of a start, beside the configuration.
#[derive(Clone, Copy, Debug)]
pub struct StartOptions {
    /// If false, deliveries wait, and everything else runs.
    pub deliver: bool,
    /// If true, endpoints whose secrets cannot be opened are disabled; if false, they prevent the
    /// start.
    pub forget_secrets: bool,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self { deliver: true, forget_secrets: false }
    }
}

/// A running server and its threads.
pub struct App {
    /// The configuration as given, or as the last reload changed it.
    config: Arc<Config>,
    descriptors: Option<descriptors::Limit>,
    address: SocketAddr,
    admin_token: String,
    health: Arc<http::Health>,
    store: Arc<Store>,
    intake: Intake,
    notifier: InboxNotifier,
    /// Tells the inner threads to stop.
    stop: Stop,
    http: HttpThread,
    api: actix_web::web::Data<http::Api>,
    /// Absent if the server was started without deliveries.
    scheduler: Option<Thread>,
    /// Settings of deliveries, replaced by a reload.
    sending: sending::LiveSending,
    workers: Vec<Thread>,
    sweeper: Woken,
    replayer: Woken,
    dir_watch: Thread,
    writing: Writing,
    runtime: Runtime,
    space: Arc<Space>,
    /// Last, because the lock is released after everything else.
    _data_dir: DataDir,
}

/// The threads that make changes durable, and the watchdog over them.
struct Writing {
    committer: Thread,
    segments: Thread,
    flusher: (Flush, Thread),
    watched: Watched,
}

/// A sleeping thread and its wakeup.
struct Woken {
    thread: Thread,
    wake: Signal,
}

struct HttpThread {
    thread: Thread,
    handle: actix_web::dev::ServerHandle,
}

/// Handles of several parts, for the functions below.
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
    activity_stream: ActivityStream,
}

impl App {
    /// Starts everything, until requests are answered.
    ///
    /// # Errors
    /// See [`StartError`]. The end of the process stops the parts already started.
    pub fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        Self::start_with(config, clock, StartOptions::default())
    }

    /// Starts everything with these options.
    ///
    /// # Errors
    /// The same as [`App::start`].
    #[expect(clippy::too_many_lines, reason = "starts the parts one after the other")]
    pub fn start_with(
        given: Config,
        clock: Clock,
        options: StartOptions,
    ) -> Result<Self, StartError> {
        let descriptors = limits::enough(&given, descriptors::raise())?;
        let config = Arc::new(limits::fitted(&given, descriptors));
        let metrics = make_metrics()?;
        let space = Arc::new(disk_space(&config));
        let opened = opening::open(&config, &clock, (&metrics, &space), options.forget_secrets);
        let opened =
            opened.map_err(|cause| cause.on_disk(&config.storage.data_dir, space.free()))?;
        let Opened { mut data_dir, admin_token, vault, writer, journal, store, lost } = opened;
        // Listening comes after recovery: an open port means a server ready to answer.
        let address = config.server.listen;
        let listener = listening::listen(address, config.server.bind)?;
        let address =
            listener.local_addr().map_err(|cause| StartError::Listen { address, cause })?;
        let Queues { hints, unrouted, due } = Queues::new(&config);
        let (stop, activity_stream, breakers) =
            (Stop::new(), ActivityStream::default(), Arc::default());
        let ports = Ports {
            store: Arc::clone(&store),
            clock: clock.clone(),
            hints: Arc::clone(&hints),
            metrics: Arc::clone(&metrics),
            flush: Flush::default(),
            progress: Arc::default(),
            space: Arc::clone(&space),
            activity_stream: activity_stream.clone(),
        };
        let (writing, intake) = start_writing(&config, writer, ports, stop.clone())?;
        let runtime = sending::runtime().map_err(StartError::Threads)?;
        let shared = Shared {
            config,
            clock,
            metrics,
            store,
            vault,
            journal,
            intake,
            hints,
            space,
            stop,
            breakers,
            activity_stream,
        };
        lost_secrets::forget(&shared, &lost)?;
        opening::tell_copy(&data_dir, &shared.store, options.deliver);
        let workers = start_workers(&shared, &unrouted).map_err(StartError::Threads)?;
        let (scheduler, sending) =
            sending::start_scheduler(&shared, &runtime, (due, options.deliver))?;
        opening::settle(&mut data_dir, options.deliver);
        let health = Arc::new(http::Health::default());
        let api = make_api(&shared, &admin_token, &health)?;
        let sweeper = start_sweeper(&shared, &api).map_err(StartError::Threads)?;
        let replayer = start_replayer(&shared).map_err(StartError::Threads)?;
        let dir_watch =
            start_dir_watch(&shared, &data_dir, &health).map_err(StartError::Threads)?;
        let http =
            start_http(actix_web::web::Data::clone(&api), listener).map_err(StartError::Threads)?;
        health.set_ready();
        let (version, delivers) = (env!("CARGO_PKG_VERSION"), options.deliver);
        tracing::info!(%address, data_dir = %data_dir.path().display(), version, delivers,
        "triggerd is ready");
        let Shared { store, intake, space, stop, hints, .. } = shared;
        Ok(Self {
            config: Arc::new(given),
            descriptors,
            address,
            admin_token,
            health,
            store,
            intake,
            notifier: hints.notifier.clone(),
            stop,
            http,
            api,
            scheduler,
            sending,
            workers,
            sweeper,
            replayer,
            dir_watch,
            writing,
            runtime,
            space,
            _data_dir: data_dir,
        })
    }

    /// The address on which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The admin token in effect.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The state, for reading.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Stops in reverse order. Acknowledged events are stored, and the next start makes the
    /// remaining deliveries.
    pub fn stop(self) -> ExitCode {
        let deadline = Instant::now() + self.config.server.shutdown;
        tracing::info!("stopping: no new connections are accepted, requests under way finish");
        self.health.set_stopping();
        self.stop.set();
        // The port stays open for a moment, so that probes and load balancers see the server leave.
        Signal::new().wait(LINGER);
        let HttpThread { thread, handle } = self.http;
        self.runtime.spawn(handle.stop(true));
        let mut in_order = thread.join_until(deadline);
        self.notifier.stop();
        self.sweeper.wake.notify();
        self.replayer.wake.notify();
        tracing::info!("stopping: attempts under way finish");
        if let Some(scheduler) = self.scheduler {
            in_order &= scheduler.join_until(deadline);
        }
        for worker in self.workers {
            in_order &= worker.join_until(deadline);
        }
        in_order &= self.replayer.thread.join_until(deadline);
        in_order &= self.sweeper.thread.join_until(deadline);
        in_order &= self.dir_watch.join_until(deadline);
        self.intake.close();
        let Writing { committer, segments, flusher, watched } = self.writing;
        let committed = committer.join_until(deadline + COMMITTER_EXTRA);
        in_order &= segments.join_until(deadline + COMMITTER_EXTRA);
        let (flush, flusher) = flusher;
        flush.wake();
        let written_back = flusher.join_until(deadline + COMMITTER_EXTRA);
        self.runtime.shutdown_background();
        if !committed || !written_back {
            tracing::error!(
                "the writer threads did not stop in time; the next start recovers from the journal"
            );
            return ExitCode::Fatal;
        }
        watched.state.busy();
        if self.store.is_broken() {
            self.store.invalidate();
            tracing::error!(
                "a row of the state could not be read; the next start computes the state from the \
                 journal"
            );
        } else if self.space.is_short_for(self.store.fresh()) {
            tracing::warn!(
                "the disk is full: the state is left as after a crash; the next start applies the \
                 rest \
                 of the journal"
            );
        } else if let Err(error) = self.store.close() {
            self.store.invalidate();
            tracing::error!(%error, "the state could not be closed; the next start computes it \
                from the journal");
        }
        watched.state.idle();
        watched.stop.set();
        tracing::info!(in_order, "stopped");
        ExitCode::Clean
    }
}

fn make_metrics() -> Result<Arc<Metrics>, StartError> {
    let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
    Metrics::new(&codes).map(Arc::new).map_err(StartError::Metrics)
}

/// Both ends of the channels through which the committer sends hints.
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
            notifier: InboxNotifier::default(),
            replays: Signal::new(),
        });
        Self { hints, unrouted, due }
    }
}

/// The free space and the free files of the filesystem that holds the data.
fn disk_space(config: &Config) -> Space {
    let (bytes_of, files_of) = (config.storage.data_dir.clone(), config.storage.data_dir.clone());
    let space = Space::new(Box::new(move || free_bytes(&bytes_of)), config.storage.reserve_bytes);
    space.with_files(Box::new(move || free_files(&files_of)), config.storage.reserve_files)
}

fn start_writing(
    config: &Config,
    mut writer: journal::Writer,
    ports: Ports,
    stop: Stop,
) -> Result<(Writing, Intake), StartError> {
    let (store, flush, space) =
        (Arc::clone(&ports.store), ports.flush.clone(), Arc::clone(&ports.space));
    let (metrics, committing, flushing) =
        (Arc::clone(&ports.metrics), Arc::clone(&ports.progress), Arc::default());
    let spares = writer.spares();
    // This thread ends when the committer, which owns the writer, ends.
    let segments = spawn_critical("segments", move || spares.run()).map_err(StartError::Threads)?;
    let (committer, intake) = start_committer(config, writer, ports)?;
    let progress = Arc::clone(&flushing);
    let flusher = Flusher {
        store,
        flush,
        after: WRITE_BACK_AFTER,
        intake: intake.clone(),
        space,
        metrics,
        progress,
    };
    let flusher = start_flusher(flusher, stop).map_err(StartError::Threads)?;
    let watched = start_watchdog(committing, flushing).map_err(StartError::Threads)?;
    Ok((Writing { committer, segments, flusher, watched }, intake))
}

fn start_committer(
    config: &Config,
    writer: journal::Writer,
    ports: Ports,
) -> Result<(Thread, Intake), StartError> {
    let limits = CommitterLimits {
        queue: config.intake.queue,
        wait_max: config.intake.wait_max,
        queue_bytes: config.intake.queue_bytes,
        group_commands: config.intake.group_commands,
        group_bytes: config.intake.group_bytes,
    };
    let last_id = ports.store.counts().map_err(StartError::State)?.last_id;
    let (shortage, free) = (ports.space.shortage(), ports.space.free());
    let (committer, intake) = Committer::new(limits, writer, ports, last_id);
    intake.set_shortage(shortage, free);
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
        records: Records::new(shared.journal.clone()),
        intake: shared.intake.clone(),
        notifier: shared.hints.notifier.clone(),
        activity_stream: shared.activity_stream.clone(),
        metrics: Arc::clone(&shared.metrics),
        stop: shared.stop.clone(),
        sender: sending::tester(&shared.config).map_err(StartError::Sender)?,
        vault: Arc::clone(&shared.vault),
        breakers: Arc::clone(&shared.breakers),
        admin_token: admin_token.to_owned(),
        health: Arc::clone(health),
    });
    api.map(actix_web::web::Data::new).map_err(StartError::Threads)
}

fn start_flusher(flusher: Flusher, stop: Stop) -> std::io::Result<(Flush, Thread)> {
    let flush = flusher.flush.clone();
    // A start on a full disk left rows in memory, so the flusher begins at once.
    flush.wake();
    Ok((flush, spawn_critical("flusher", move || flusher.run(&stop))?))
}

/// The watchdog's handle on the closing of the state.
struct Watched {
    state: Arc<Progress>,
    stop: Stop,
}

/// Starts the watchdog on a thread of its own, which no hanging disk can stop.
fn start_watchdog(committing: Arc<Progress>, flushing: Arc<Progress>) -> std::io::Result<Watched> {
    let watched = Watched { state: Arc::clone(&flushing), stop: Stop::new() };
    let (threads, stop) =
        ([("committer", committing), ("flusher", flushing)], watched.stop.clone());
    spawn_critical("watchdog", move || watch(&threads, &stop, systemd::alive))?;
    Ok(watched)
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

/// Starts the thread for the wakeups of long polls.
fn start_notifier(shared: &Shared) -> std::io::Result<Thread> {
    let (notifier, store, stop) =
        (shared.hints.notifier.clone(), Arc::clone(&shared.store), shared.stop.clone());
    spawn_critical("notifier", move || notifier.run(&store, &stop))
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

fn start_dir_watch(
    shared: &Shared,
    data_dir: &DataDir,
    health: &Arc<http::Health>,
) -> std::io::Result<Thread> {
    let told = (Arc::clone(health), Arc::clone(&shared.metrics));
    let dir_watch = DirWatch::new(data_dir, &shared.journal, shared.intake.clone(), told)?;
    let stop = shared.stop.clone();
    spawn_critical("look-out", move || dir_watch.run(&stop))
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

/// Runs actix on a thread of its own, so that the caller's thread stays free.
fn start_http(
    api: actix_web::web::Data<http::Api>,
    listener: TcpListener,
) -> std::io::Result<HttpThread> {
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
                tracing::error!(%error, "the HTTP server failed");
            }
        });
    })?;
    let handle = handle
        .recv()
        .map_err(|_gone| std::io::Error::other("the HTTP thread ended at its start"))??;
    Ok(HttpThread { thread, handle })
}
