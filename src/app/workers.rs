//! The threads that work on their own while the server runs: the workers, the notifier, the
//! sweeper, the archive, the replayer, the compactor and the directory watch.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use actix_web::web::Data;
use crossbeam_channel::Receiver;

use super::dir_watch::DirWatch;
use super::start_error::StartError;
use crate::archive::Archiver;
use crate::backup::{Backups, require_outside};
use crate::base::live::Live;
use crate::base::threads::{Signal, Thread, spawn_critical};
use crate::base::units::millis;
use crate::commit::{Compactor, Engine, watch};
use crate::config::Config;
use crate::http::{self, Api};
use crate::journal::Reader;
use crate::model::id::{EventId, OrgNo};
use crate::pipeline::{Ages, DiskLimits, Replayer, Sweeper, Worker};

pub(super) struct Workers {
    /// In the order in which they are awaited.
    threads: Vec<Thread>,
    sweep: Signal,
    /// The ages at which the sweeper lets events expire.
    ages: Arc<Live<Ages>>,
    /// The limits of the disk space of the data.
    limits: Arc<Live<DiskLimits>>,
    backups: Arc<Backups>,
}

impl Workers {
    pub(super) fn start(
        engine: &Arc<Engine>,
        (unrouted, journal): (&Receiver<(OrgNo, EventId)>, Reader),
        (config, api): (&Config, &Data<Api>),
        ((dir_watch, compactor, backups), lets_expire): ((DirWatch, Compactor, Arc<Backups>), bool),
    ) -> io::Result<Self> {
        let mut threads = Vec::new();
        for number in 1..=config.workers.threads {
            let worker = Worker::new(Arc::clone(engine), unrouted.clone());
            threads.push(spawn_critical(&format!("worker-{number}"), || worker.run())?);
        }
        let notified = Arc::clone(engine);
        threads.push(spawn_critical("notifier", move || {
            notified.hints.notifier.run(&notified.store, &notified.stop);
        })?);
        let replayer = Replayer { engine: Arc::clone(engine), wake: engine.hints.replays.clone() };
        threads.push(spawn_critical("replayer", || replayer.run())?);
        let (sweep, api, window) = (Signal::new(), Data::clone(api), config.dedup.window);
        let ages = Arc::new(Live::new(Ages::of(&config.retention, &config.tiers)));
        let limits = Arc::new(Live::new(DiskLimits::of(&config.retention)));
        let archiver = archiver((engine, &api), config, lets_expire, &mut threads)?;
        let sweeper = Sweeper {
            engine: Arc::clone(engine),
            journal,
            dedup_window_ms: millis(window),
            ages: Arc::clone(&ages),
            lets_expire,
            limits: Arc::clone(&limits),
            keys_used: Box::new(move || api.take_keys_used()),
            archiver,
        };
        let wake = sweep.clone();
        threads.push(spawn_critical("sweeper", move || sweeper.run(&wake))?);
        let maker = Arc::clone(&backups);
        threads.push(spawn_critical("backups", move || maker.run())?);
        let drilled = Arc::clone(&backups);
        threads.push(spawn_critical("drills", move || drilled.drills().run())?);
        threads.push(spawn_critical("compactor", || compactor.run())?);
        threads.push(watch_dir(engine, dir_watch)?);
        Ok(Self { threads, sweep, ages, limits, backups })
    }

    /// Replaces the settings that a reload can change.
    pub(super) fn reload(&self, config: &Config) {
        self.ages.set(Ages::of(&config.retention, &config.tiers));
        self.limits.set(DiskLimits::of(&config.retention));
    }

    /// Wakes the threads that sleep, so that they see the stop.
    pub(super) fn wake(&self, engine: &Engine) {
        engine.hints.notifier.stop();
        self.sweep.notify();
        engine.hints.replays.notify();
        engine.hints.unneeded.came.notify();
        self.backups.wake();
    }

    /// Waits for the threads. Returns true if all ended in time.
    pub(super) fn join(self, deadline: Instant) -> bool {
        let mut in_order = true;
        for thread in self.threads {
            in_order &= thread.join_until(deadline);
        }
        in_order
    }
}

/// Refuses a directory for archives in the data directory.
pub(super) fn require_archive_outside(config: &Config, data_dir: &Path) -> Result<(), StartError> {
    let Some(directory) = &config.retention.archive_directory else { return Ok(()) };
    let inside = |_| StartError::ArchiveInside(directory.clone());
    require_outside(directory, data_dir).map_err(inside)
}

/// Starts the directory watch, and the watchdog of its thread.
fn watch_dir(engine: &Engine, dir_watch: DirWatch) -> io::Result<Thread> {
    let (progress, stop) = ([("directory watch", dir_watch.progress())], engine.stop.clone());
    spawn_critical("dir-watchdog", move || watch(&progress, &stop, || {}))?;
    let stop = engine.stop.clone();
    spawn_critical("dir-watch", move || dir_watch.run(&stop))
}

/// Starts the thread that archives events before they expire, if there is a directory for it and
/// events expire.
fn archiver(
    (engine, api): (&Arc<Engine>, &Data<Api>),
    config: &Config,
    lets_expire: bool,
    threads: &mut Vec<Thread>,
) -> io::Result<Option<Archiver>> {
    let directory = config.retention.archive_directory.clone();
    let Some(directory) = directory.filter(|_| lets_expire) else { return Ok(None) };
    let (fails, shown) = (api.archive_fails(), Data::clone(api));
    let lines = Box::new(move |org, event| http::archive_line(&shown, org, event));
    let (archiver, service) = Archiver::new(engine, directory, lines, fails);
    threads.push(spawn_critical("archive", || service.run())?);
    Ok(Some(archiver))
}
