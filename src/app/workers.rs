//! The threads that work on their own while the server runs: the workers, the notifier, the
//! sweeper, the replayer, the compactor and the directory watch.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use actix_web::web::Data;
use crossbeam_channel::Receiver;

use super::archiving;
use super::dir_watch::DirWatch;
use crate::backup::Backups;
use crate::base::live::Live;
use crate::base::threads::{Signal, Thread, spawn_critical};
use crate::base::units::millis;
use crate::commit::{Compactor, Engine, watch};
use crate::config::Config;
use crate::http::Api;
use crate::journal::Reader;
use crate::model::id::{EventId, OrgNo};
use crate::pipeline::{Ages, DiskLimits, Replayer, Sweeper, Worker};

pub(super) struct Workers {
    /// In the order in which they are awaited.
    threads: Vec<Thread>,
    /// The thread of the archive, which is awaited last.
    archive: Option<Thread>,
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
        let archive = if lets_expire { archiving::start(engine, (config, api))? } else { None };
        let (archiver, archive) = archive.unzip();
        let ages = Arc::new(Live::new(Ages::of(&config.retention, &config.tiers)));
        let limits = Arc::new(Live::new(DiskLimits::of(&config.retention)));
        let (sweep, used, refusing) = (Signal::new(), Data::clone(api), Data::clone(api));
        let sweeper = Sweeper {
            engine: Arc::clone(engine),
            journal,
            dedup_window_ms: millis(config.dedup.window),
            ages: Arc::clone(&ages),
            lets_expire,
            limits: Arc::clone(&limits),
            keys_used: Box::new(move || used.take_keys_used()),
            refused: Box::new(move |is_last| refusing.take_refused_admin(is_last)),
            archiver,
        };
        let mut threads = routing(engine, unrouted, config.workers.threads)?;
        let wake = sweep.clone();
        threads.push(spawn_critical("sweeper", move || sweeper.run(&wake))?);
        let maker = Arc::clone(&backups);
        threads.push(spawn_critical("backups", move || maker.run())?);
        let drilled = Arc::clone(&backups);
        threads.push(spawn_critical("drills", move || drilled.drills().run())?);
        threads.push(spawn_critical("compactor", || compactor.run())?);
        threads.push(watch_dir(engine, dir_watch)?);
        Ok(Self { threads, archive, sweep, ages, limits, backups })
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
        if let Some(archive) = self.archive {
            archiving::leave(archive, deadline);
        }
        in_order
    }
}

/// Starts the threads that route events, wake waiting requests and advance replays.
fn routing(
    engine: &Arc<Engine>,
    unrouted: &Receiver<(OrgNo, EventId)>,
    workers: usize,
) -> io::Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for number in 1..=workers {
        let worker = Worker::new(Arc::clone(engine), unrouted.clone());
        threads.push(spawn_critical(&format!("worker-{number}"), || worker.run())?);
    }
    let notified = Arc::clone(engine);
    threads.push(spawn_critical("notifier", move || {
        notified.hints.notifier.run(&notified.store, &notified.stop);
    })?);
    let replayer = Replayer { engine: Arc::clone(engine), wake: engine.hints.replays.clone() };
    threads.push(spawn_critical("replayer", || replayer.run())?);
    Ok(threads)
}

/// Starts the directory watch, and the watchdog of its thread.
fn watch_dir(engine: &Engine, dir_watch: DirWatch) -> io::Result<Thread> {
    let (progress, stop) = ([("directory watch", dir_watch.progress())], engine.stop.clone());
    spawn_critical("dir-watchdog", move || watch(&progress, &stop, || {}))?;
    let stop = engine.stop.clone();
    spawn_critical("dir-watch", move || dir_watch.run(&stop))
}
