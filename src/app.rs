//! The server as a whole: starts its parts in order and stops them in reverse. Each has a deadline.
//!
//! The order is the recovery: the lock, the journal, the state, the rest of the journal, then the
//! threads, and the HTTP server last. `triggerd serve`, the demo and the tests call [`App::start`].

mod archiving;
mod assembly;
mod dir_watch;
mod directories;
mod kept_file;
mod limits;
mod listening;
mod loss;
mod lost_secrets;
mod opening;
mod reload;
mod sending;
mod serving;
mod snapshots;
mod start_error;
pub mod systemd;
mod workers;
mod writing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web::Data;
use crossbeam_channel::Receiver;

use crate::backup::{Backups, Schedule};
use crate::base::clock::Clock;
use crate::base::descriptors;
use crate::base::exit_code::ExitCode;
use crate::base::threads::Signal;
use crate::commit::{CompactionSettings, Compactor, Engine, SchedulerHint};
use crate::config::{self, Config};
use crate::data_dir::{DataDir, DataDirError, instance_id};
use crate::delivery::sender::Sender;
use crate::http;
use crate::journal::{Compaction, Reader};
use crate::model::id::{EventId, OrgNo};
use crate::store::Store;

pub use directories::{check_directories, check_log_directory};
pub use lost_secrets::check_secrets;
pub use reload::Reloaded;
pub use start_error::StartError;

use dir_watch::DirWatch;
use opening::Opened;
use sending::Sending;
use serving::Serving;
use workers::Workers;
use writing::Writing;

/// Time during which requests are still accepted while `/health/ready` already answers 503.
const LINGER: Duration = Duration::from_millis(300);
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
    engine: Arc<Engine>,
    writing: Writing,
    sending: Sending,
    workers: Workers,
    health: Arc<http::Health>,
    api: Data<http::Api>,
    serving: Serving,
    /// Last, because the lock is released after everything else.
    _data_dir: DataDir,
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
    pub fn start_with(
        given: Config,
        clock: Clock,
        options: StartOptions,
    ) -> Result<Self, StartError> {
        let archive_answers = check_directories(&given)?;
        let descriptors = limits::enough(&given, descriptors::raise())?;
        let config = Arc::new(limits::fitted(&given, descriptors));
        let opened = opening::open(&config, &clock, options.forget_secrets)?;
        let Opened { mut data_dir, admin_token, writer, journal, lost, on_disk } = opened;
        // Listening comes after recovery: an open port means a server ready to answer.
        let (listener, address) = listening::open(&config.server)?;
        let (engine, ends) = assembly::assemble(&config, clock, on_disk);
        let writing =
            Writing::start(&engine, (ends.submissions, writer), (&config, data_dir.journal()))?;
        lost_secrets::forget(&engine, &lost)?;
        let may_deliver = (ends.scheduler, options.deliver);
        let parts = start_sending(&engine, &config, may_deliver, &mut data_dir)?;
        let DeliveryParts { sending, tester, health, delivers, lets_expire } = parts;
        archiving::tell(archive_answers || !lets_expire, &health);
        let opened = (&data_dir, journal, admin_token.as_str());
        let (workers, api) = start_workers(
            (&engine, &config),
            (&ends.unrouted, tester),
            opened,
            (&health, lets_expire),
        )?;
        let serving = Serving::start(Data::clone(&api), listener).map_err(StartError::Threads)?;
        tell_proxies(&config);
        set_ready(&health, address, (&data_dir, delivers));
        Ok(Self {
            config: Arc::new(given),
            descriptors,
            address,
            admin_token,
            engine,
            writing,
            sending,
            workers,
            health,
            api,
            serving,
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
        &self.engine.store
    }

    /// Stops in reverse order. Acknowledged events are stored, and the next start makes the
    /// remaining deliveries.
    pub fn stop(mut self) -> ExitCode {
        let deadline = Instant::now() + self.config.server.shutdown;
        tracing::info!("stopping: no new connections are accepted, requests under way finish");
        self.health.set_stopping();
        self.engine.stop.set();
        self.engine.snapshots.wake();
        // The port stays open for a moment, so that probes and load balancers see the server leave.
        Signal::new().wait(LINGER);
        let mut in_order = self.serving.stop(&self.sending.runtime, deadline);
        self.workers.wake(&self.engine);
        tracing::info!("stopping: attempts under way finish");
        in_order &= self.sending.join(deadline);
        in_order &= self.workers.join(deadline);
        in_order &= self.api.join_streams(deadline);
        self.engine.intake.close();
        let written = self.writing.stop(&self.engine, deadline);
        self.sending.runtime.shutdown_background();
        let Some(written) = written else { return ExitCode::Fatal };
        in_order &= written;
        if in_order {
            tracing::info!("stopped; everything under way was finished");
        } else {
            tracing::warn!(
                "stopped; some requests or attempts did not finish in time, and the next start \
                 makes the attempts again"
            );
        }
        ExitCode::Clean
    }
}

fn delivering(delivers: bool, is_held: bool) -> http::Delivering {
    match (delivers, is_held) {
        (true, _) => http::Delivering::Yes,
        (false, true) => http::Delivering::Held,
        (false, false) => http::Delivering::Off,
    }
}

/// The parts of a server that follow from whether it delivers.
struct DeliveryParts {
    sending: Sending,
    tester: Sender,
    health: Arc<http::Health>,
    delivers: bool,
    lets_expire: bool,
}

/// Starts everything that sends, and makes the sender of tests.
fn start_sending(
    engine: &Arc<Engine>,
    config: &Arc<Config>,
    (hints, may_deliver): (Receiver<SchedulerHint>, bool),
    data_dir: &mut DataDir,
) -> Result<DeliveryParts, StartError> {
    let is_held = opening::holds(data_dir);
    let delivers = may_deliver && !is_held;
    opening::tell_copy(data_dir, &engine.store, delivers);
    let sending = Sending::start(engine, config, (hints, delivers))?;
    opening::settle(data_dir, delivers);
    let tester = sending::tester(config, &sending.lookups).map_err(StartError::Sender)?;
    let health = Arc::new(http::Health::new(delivering(delivers, is_held)));
    let lets_expire = delivers || !(is_held || data_dir.is_copy());
    Ok(DeliveryParts { sending, tester, health, delivers, lets_expire })
}

/// Makes the API, and starts the threads that work on their own.
fn start_workers(
    (engine, config): (&Arc<Engine>, &Arc<Config>),
    (unrouted, tester): (&Receiver<(OrgNo, EventId)>, Sender),
    (data_dir, journal, admin_token): (&DataDir, Reader, &str),
    (health, lets_expire): (&Arc<http::Health>, bool),
) -> Result<(Workers, Data<http::Api>), StartError> {
    let backups = backups(engine, &journal, (config, data_dir), !lets_expire);
    let backups = Arc::new(backups.map_err(StartError::DataDir)?);
    let api = make_api(engine, config, (admin_token, tester), (health, &backups))?;
    let (dir_watch, compactor) = watching(engine, &journal, (config, data_dir, health))?;
    let watching = ((dir_watch, compactor, backups), lets_expire);
    let workers = Workers::start(engine, (unrouted, journal), (config, &api), watching)
        .map_err(StartError::Threads)?;
    Ok((workers, api))
}

fn set_ready(health: &http::Health, address: SocketAddr, (data_dir, delivers): (&DataDir, bool)) {
    health.set_ready();
    let version = env!("CARGO_PKG_VERSION");
    let data_dir = data_dir.path().display();
    tracing::info!(%address, %data_dir, version, delivers, "triggerd is ready");
}

/// Makes the threads that watch the data directory and that compact the journal.
fn watching(
    engine: &Arc<Engine>,
    journal: &Reader,
    (config, data_dir, health): (&Config, &DataDir, &Arc<http::Health>),
) -> Result<(DirWatch, Compactor), StartError> {
    let dir_watch = DirWatch::new(data_dir, journal, engine, health);
    let compactor = compactor(engine, journal, (config, data_dir));
    Ok((dir_watch.map_err(StartError::Threads)?, compactor))
}

fn compactor(
    engine: &Arc<Engine>,
    journal: &Reader,
    (config, data_dir): (&Config, &DataDir),
) -> Compactor {
    let retention = &config.retention;
    Compactor {
        engine: Arc::clone(engine),
        journal: Compaction::new(journal),
        format: data_dir.format_file(),
        settings: CompactionSettings::of(retention.grace, retention.erase),
    }
}

/// Warns if every client counts as a trusted proxy.
fn tell_proxies(config: &Config) {
    for network in config.server.trusted_proxies.iter().filter(|net| net.prefix_len() == 0) {
        tracing::warn!(
            %network,
            "[server] trusted_proxies names every address, so every client can choose the address \
             that is logged for it; name only the networks of your proxies"
        );
    }
}

fn backups(
    engine: &Arc<Engine>,
    journal: &Reader,
    (config, data_dir): (&Config, &DataDir),
    is_held: bool,
) -> Result<Backups, DataDirError> {
    let config::Backup { directory, every, keep, drill_every, .. } = config.backup.clone();
    let (instance, s3) = (instance_id(data_dir.path())?, config::S3Settings::from(&config.backup));
    let schedule = Schedule { instance, directory, s3, every, keep, drill_every, is_held };
    Ok(Backups::new(Arc::clone(engine), data_dir.path(), journal.clone(), schedule))
}

fn make_api(
    engine: &Arc<Engine>,
    config: &Arc<Config>,
    (admin_token, sender): (&str, Sender),
    (health, backups): (&Arc<http::Health>, &Arc<Backups>),
) -> Result<Data<http::Api>, StartError> {
    let (engine, config) = (Arc::clone(engine), Arc::clone(config));
    let parts = (Arc::clone(health), Arc::clone(backups));
    let api = http::api(engine, config, admin_token, parts, sender);
    api.map(Data::new).map_err(StartError::Threads)
}
