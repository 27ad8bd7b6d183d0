//! The backups of a running server: one thread makes those that were asked for and those of the
//! schedule, and a stream has a thread of its own. Both rest as long as they work, so that requests
//! have the disk and the processor, too.

use std::cell::Cell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::archive::write_archive;
use super::directory::{Made, delete_old, delete_oldest, make, whole_in};
use super::disk::{is_shared, only_in};
use super::error::BackupError;
use super::jobs::{Busy, Job, JobState, Jobs};
use super::manifest::Manifest;
use super::source::Source;
use crate::base::threads::{Signal, spawn_critical};
use crate::base::units::{gauge, millis};
use crate::commit::{BackupUse, Engine};
use crate::journal::Reader;
use crate::model::time::Timestamp;

/// Interval at which the thread looks for due backups without a wakeup.
const NAP: Duration = Duration::from_secs(20);
/// The same interval while a backup could be deleted for its disk space.
const SHORT_NAP: Duration = Duration::from_secs(1);
/// Pause after a scheduled backup that failed.
const RETRY_AFTER: Duration = Duration::from_mins(5);
/// Bytes after which a backup rests, and looks at the disk and for a stop.
const STEP_BYTES: u64 = 1 << 20;
/// Longest rest.
const REST_MAX: Duration = Duration::from_millis(20);
/// Size of a piece of a stream, and the number of pieces that wait for the reader.
const PIECE_BYTES: usize = 64 << 10;
const PIECES: usize = 8;

/// The backups that the configuration asks for.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The directory of backups.
    pub directory: Option<PathBuf>,
    /// The time between two backups; zero means none.
    pub every: Duration,
    /// Number of backups that are kept.
    pub keep: usize,
    /// Set if the server changes nothing by itself, because the directory is restored or a copy:
    /// the directory of backups may be the original's. Only backups that were asked for are made.
    pub is_held: bool,
}

/// Makes the backups of a running server.
pub struct Backups {
    engine: Arc<Engine>,
    data_dir: PathBuf,
    reader: Reader,
    schedule: Schedule,
    jobs: Jobs,
    /// The job that waits for the thread.
    asked: Mutex<Option<Job>>,
    wake: Signal,
    is_streaming: AtomicBool,
    /// When the newest backup was made, in Unix milliseconds; 0 without one.
    newest_ms: AtomicU64,
    /// The same of the newest backup in the directory of the schedule.
    scheduled_ms: AtomicU64,
    /// The next scheduled backup is not tried before this moment.
    retry_at: Mutex<Option<Instant>>,
    has_failed: AtomicBool,
    /// When the disk space of the backups was measured last.
    measured_at: Mutex<Option<Instant>>,
}

/// The backups of the schedule, for `/health`.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// When the newest backup was made.
    pub newest_at: Option<Timestamp>,
    /// True if the last backup failed.
    pub has_failed: bool,
}

impl Backups {
    /// Creates the maker of backups of this data directory.
    pub fn new(engine: Arc<Engine>, data_dir: &Path, reader: Reader, schedule: Schedule) -> Self {
        engine.metrics.backup_age_seconds.set(-1);
        // The thread measures, because the directory may not answer. Until then, no event expires for
        // the disk, because a backup may go first.
        let has_spare = schedule.directory.is_some() && !schedule.is_held;
        engine.disk_use.note_backups(BackupUse { only_theirs: 0, has_spare });
        Self {
            engine,
            data_dir: data_dir.to_owned(),
            reader,
            schedule,
            jobs: Jobs::default(),
            asked: Mutex::default(),
            wake: Signal::new(),
            is_streaming: AtomicBool::new(false),
            newest_ms: AtomicU64::new(0),
            scheduled_ms: AtomicU64::new(0),
            retry_at: Mutex::default(),
            has_failed: AtomicBool::new(false),
            measured_at: Mutex::default(),
        }
    }

    /// The directory of backups in the configuration.
    pub fn directory(&self) -> Option<&Path> {
        self.schedule.directory.as_deref()
    }

    /// The jobs, the newest first.
    pub fn jobs(&self) -> Vec<Job> {
        self.jobs.list()
    }

    /// The newest backup, and if the last one failed.
    pub fn standing(&self) -> Standing {
        let newest = self.newest_ms.load(Ordering::SeqCst);
        Standing {
            newest_at: (newest > 0).then_some(Timestamp(newest)),
            has_failed: self.has_failed.load(Ordering::SeqCst),
        }
    }

    /// Asks for a backup in this directory.
    ///
    /// # Errors
    /// Another backup is under way.
    pub fn ask(&self, directory: &Path) -> Result<Job, Busy> {
        let job = self.jobs.begin(directory, self.now())?;
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(job.clone());
        self.wake.notify();
        Ok(job)
    }

    /// Wakes the thread, so that it sees the stop.
    pub fn wake(&self) {
        self.wake.notify();
    }

    /// Makes backups until the server stops.
    pub fn run(&self) {
        self.look_for_newest();
        while !self.engine.stop.is_set() {
            let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(job) = asked.or_else(|| self.due()) {
                self.work(&job);
                self.measure();
            }
            self.give_space();
            self.publish();
            self.wake.wait(self.nap());
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.engine.clock.now_ms())
    }

    fn look_for_newest(&self) {
        let Some(directory) = &self.schedule.directory else { return };
        match whole_in(directory) {
            Ok(whole) => {
                if let Some((_, newest)) = whole.last() {
                    self.newest_ms.store(newest.made_at.0, Ordering::SeqCst);
                    self.scheduled_ms.store(newest.made_at.0, Ordering::SeqCst);
                }
            }
            Err(error) => tracing::debug!(%error, "the directory of backups cannot be read yet"),
        }
    }

    /// Returns the job of the schedule, if it is due.
    fn due(&self) -> Option<Job> {
        let directory = self.schedule.directory.as_deref()?;
        let is_retried = self.retry_at().is_some_and(|at| Instant::now() < at);
        if is_retried || !self.until_due()?.is_zero() {
            return None;
        }
        self.jobs.begin(directory, self.now()).ok()
    }

    /// Returns the time until the next backup of the schedule; none without a schedule.
    fn until_due(&self) -> Option<Duration> {
        let every = Some(self.schedule.every);
        let every = every.filter(|every| !every.is_zero() && !self.schedule.is_held)?;
        self.schedule.directory.as_ref()?;
        let (now, newest) = (self.now().0, self.scheduled_ms.load(Ordering::SeqCst));
        // A backup of the future was made while the clock was ahead; nobody knows how old it is.
        if newest == 0 || newest > now {
            return Some(Duration::ZERO);
        }
        let age = Duration::from_millis(now - newest);
        Some(every.saturating_sub(age))
    }

    fn nap(&self) -> Duration {
        let now = Instant::now();
        let retry = self.retry_at().map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let due = self.until_due().map(|due| due.max(retry));
        // While a backup may have to go, the sweeper's wish is looked at as often as the disk is.
        let nap = if self.engine.disk_use.backups().has_spare { SHORT_NAP } else { NAP };
        due.map_or(nap, |due| due.clamp(Duration::from_millis(50), nap))
    }

    fn retry_at(&self) -> Option<Instant> {
        *self.retry_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the backup of a job.
    fn work(&self, job: &Job) {
        let began = Instant::now();
        // Nobody deletes backups meanwhile, so the disk does not wait for it.
        let disk_use = &self.engine.disk_use;
        disk_use.note_backups(BackupUse { has_spare: false, ..disk_use.backups() });
        let made = self.make(job);
        let is_scheduled = self.schedule.directory.as_ref() == Some(&job.directory);
        let finished_at = Some(self.now());
        if is_scheduled {
            let retry_at = made.is_err().then(|| Instant::now() + RETRY_AFTER);
            *self.retry_at.lock().unwrap_or_else(PoisonError::into_inner) = retry_at;
        }
        self.has_failed.store(made.is_err(), Ordering::SeqCst);
        let state = match made {
            Ok(made) => {
                self.note(&made, began.elapsed(), is_scheduled);
                JobState::Done(made.path)
            }
            Err(error) => {
                self.engine.metrics.backup_failures.inc();
                let directory = job.directory.display();
                tracing::error!(%error, %directory, "a backup failed");
                JobState::Failed(error.to_string())
            }
        };
        self.jobs.change(job.id, |job| {
            if let JobState::Done(_) = state {
                job.bytes_read = job.bytes;
            }
            (job.state, job.finished_at) = (state, finished_at);
        });
    }

    fn make(&self, job: &Job) -> Result<Made, BackupError> {
        let source = Source::of_running(&self.data_dir, &self.reader)?;
        self.jobs.change(job.id, |job| job.bytes = source.bytes());
        let note = |bytes| self.jobs.change(job.id, |job| job.bytes_read += bytes);
        let pace = Pace::new(&self.engine, is_shared(&job.directory, &self.data_dir));
        make(&source, &job.directory, job.started_at, &|bytes| pace.step(bytes, &note))
    }

    fn note(&self, made: &Made, took: Duration, is_scheduled: bool) {
        self.newest_ms.store(made.manifest.made_at.0, Ordering::SeqCst);
        let metrics = &self.engine.metrics;
        metrics.backup_seconds.set(took.as_secs_f64());
        metrics.backup_bytes.set(gauge(made.manifest.bytes));
        tracing::info!(
            path = %made.path.display(),
            end = made.manifest.end,
            bytes = made.manifest.bytes,
            linked_bytes = made.linked_bytes,
            took_ms = millis(took),
            "a backup was made"
        );
        let Some(directory) = self.schedule.directory.as_ref().filter(|_| is_scheduled) else {
            return;
        };
        self.scheduled_ms.store(made.manifest.made_at.0, Ordering::SeqCst);
        if let Err(error) = delete_old(directory, self.schedule.keep) {
            tracing::warn!(%error, "old backups could not be deleted");
        }
    }

    /// Deletes the oldest backup of the schedule if the disk of the data is short. Measures the disk
    /// space of the backups now and then.
    fn give_space(&self) {
        let measured_at = *self.measured_at.lock().unwrap_or_else(PoisonError::into_inner);
        if measured_at.is_none_or(|at| at.elapsed() >= NAP) {
            self.measure();
        }
        let disk_use = &self.engine.disk_use;
        let Some(directory) = self.schedule.directory.as_deref() else { return };
        if !disk_use.takes_backup() || !disk_use.backups().has_spare {
            return;
        }
        let free = self.engine.space.free();
        match delete_oldest(directory) {
            Ok(None) => self.measure(),
            Ok(Some(path)) => {
                self.measure();
                let path = path.display();
                tracing::warn!(
                    %path,
                    free,
                    "the oldest backup was deleted, because the disk has less free space than \
                     [retention] keep_free_share; put [backup] directory on another disk to keep \
                     more"
                );
            }
            Err(error) => {
                let backups = disk_use.backups();
                disk_use.note_backups(BackupUse { has_spare: false, ..backups });
                tracing::error!(%error, "a backup cannot be deleted for its disk space");
            }
        }
    }

    /// Measures the disk space that only backups of the schedule take on the filesystem of the data.
    fn measure(&self) {
        let shared = self.schedule.directory.as_deref();
        let shared = shared.filter(|directory| is_shared(directory, &self.data_dir));
        let named = shared.map(|directory| whole_in(directory).unwrap_or_default());
        let named: Vec<_> = named.into_iter().flatten().map(|(path, _)| path).collect();
        let only_theirs = only_in(&named, &self.data_dir).unwrap_or_default();
        let has_spare = named.len() > 1 && !self.schedule.is_held;
        self.engine.disk_use.note_backups(BackupUse { only_theirs, has_spare });
        let measured_at = Some(Instant::now());
        *self.measured_at.lock().unwrap_or_else(PoisonError::into_inner) = measured_at;
    }

    fn publish(&self) {
        let newest = self.newest_ms.load(Ordering::SeqCst);
        let age = (newest > 0).then(|| self.now().0.saturating_sub(newest) / 1_000);
        let age = age.map_or(-1, gauge);
        self.engine.metrics.backup_age_seconds.set(age);
    }

    /// Begins a backup as a stream. The pieces end with an error if the backup fails.
    ///
    /// # Errors
    /// Another stream is open, or the thread cannot be started.
    pub fn stream(self: &Arc<Self>) -> Result<mpsc::Receiver<io::Result<Bytes>>, Busy> {
        if self.is_streaming.swap(true, Ordering::SeqCst) {
            return Err(Busy(None));
        }
        let (sender, receiver) = mpsc::channel(PIECES);
        let backups = Arc::clone(self);
        let run = move || {
            backups.write_stream(sender);
            backups.is_streaming.store(false, Ordering::SeqCst);
        };
        if let Err(error) = spawn_critical("backup-stream", run) {
            tracing::error!(%error, "the thread of a backup cannot be started");
            self.is_streaming.store(false, Ordering::SeqCst);
            return Err(Busy(None));
        }
        Ok(receiver)
    }

    fn write_pieces(
        &self,
        pieces: &mut Pieces,
        began: Timestamp,
        pace: &Pace<'_>,
    ) -> io::Result<Manifest> {
        let source = Source::of_running(&self.data_dir, &self.reader).map_err(io::Error::other)?;
        let step = |bytes| pace.step(bytes, &|_| ());
        let manifest = write_archive(&source, &mut *pieces, began, &step)?.manifest;
        pieces.flush()?;
        Ok(manifest)
    }

    fn write_stream(&self, sender: mpsc::Sender<io::Result<Bytes>>) {
        let began = self.now();
        let mut pieces = Pieces { sender, piece: Vec::with_capacity(PIECE_BYTES) };
        let pace = Pace::new(&self.engine, false);
        let written = self.write_pieces(&mut pieces, began, &pace);
        match written {
            Ok(manifest) => {
                let (end, bytes) = (manifest.end, manifest.bytes);
                tracing::info!(end, bytes, "a backup was sent as a stream");
            }
            Err(error) => {
                self.engine.metrics.backup_failures.inc();
                tracing::error!(%error, "a backup that was sent as a stream failed");
                // The reader sees a stream that breaks off. It may have left before.
                drop(pieces.sender.blocking_send(Err(error)));
            }
        }
    }
}

/// Rests as long as it worked, and gives up when the server stops or its disk is full.
struct Pace<'a> {
    engine: &'a Engine,
    shares_disk: bool,
    unrested: Cell<u64>,
    since: Cell<Instant>,
}

impl<'a> Pace<'a> {
    fn new(engine: &'a Engine, shares_disk: bool) -> Self {
        Self { engine, shares_disk, unrested: Cell::new(0), since: Cell::new(Instant::now()) }
    }

    fn step(&self, bytes: u64, note: &dyn Fn(u64)) -> io::Result<()> {
        let unrested = self.unrested.get() + bytes;
        self.unrested.set(unrested);
        if unrested < STEP_BYTES {
            return Ok(());
        }
        note(self.unrested.take());
        if self.engine.stop.is_set() {
            return Err(io::Error::other("the server stops"));
        }
        if self.shares_disk && self.engine.space.shortage().is_some() {
            let message = "the disk of the data directory, which also holds the backup, is short \
                of space";
            return Err(io::Error::other(message));
        }
        Signal::new().wait(self.since.get().elapsed().min(REST_MAX));
        self.since.set(Instant::now());
        Ok(())
    }
}

/// Sends what is written in pieces, and waits for the reader.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let sent = self.sender.blocking_send(Ok(piece.into()));
        sent.map_err(|_gone| io::Error::other("the reader of the backup has left"))
    }
}

#[cfg(test)]
#[path = "scheduled_tests.rs"]
mod tests;
