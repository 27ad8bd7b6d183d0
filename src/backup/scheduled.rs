//! The backups of a running server: one thread makes those that were asked for and those of the
//! schedule. It rests as long as it works, so that requests have the disk and the processor, too.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::bucket::{Bucket, Known};
use super::directory::{Made, Whole, delete_old, delete_oldest, make, own_in};
use super::disk::{Held, Sizes, is_shared};
use super::drills::{DrillSchedule, Drills};
use super::error::BackupError;
use super::jobs::{Agenda, Busy, Job, JobKind, JobState, Jobs, left_of};
use super::manifest::MANIFEST;
use super::pace::Pace;
use super::source::{From, Source};
use crate::base::threads::{SingleThread, locked};
use crate::base::units::{gauge, millis};
use crate::commit::{BackupUse, Engine};
use crate::config::{S3Settings, S3Url};
use crate::journal::Reader;
use crate::model::time::Timestamp;

/// Interval at which the thread looks for due backups without a wakeup.
const NAP: Duration = Duration::from_secs(20);
/// The same interval while a backup could be deleted for its disk space.
const SHORT_NAP: Duration = Duration::from_secs(1);
/// Pause after a scheduled backup that failed.
const RETRY_AFTER: Duration = Duration::from_mins(5);
/// Old backups are deleted for a short disk only if they give back this part of what is missing, or
/// of what the data takes.
const WORTH: u64 = 8;

/// The backups that the configuration asks for.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The id of the instance. Only its own backups are counted and deleted.
    pub instance: String,
    /// The directory of backups, or the URL of a place in a bucket.
    pub directory: Option<PathBuf>,
    /// How the store of a bucket is reached.
    pub s3: S3Settings,
    /// The time between two backups; zero means none.
    pub every: Duration,
    /// Number of backups that are kept.
    pub keep: usize,
    /// The time between two drills; zero means none.
    pub drill_every: Duration,
    /// Set if the server changes nothing by itself, because the directory is restored or a copy:
    /// the directory of backups may be the original's. Only backups that were asked for are made.
    pub is_held: bool,
}

/// Makes the backups of a running server.
pub struct Backups {
    pub(super) engine: Arc<Engine>,
    data_dir: PathBuf,
    reader: Reader,
    schedule: Schedule,
    jobs: Arc<Jobs>,
    agenda: Agenda,
    drills: Drills,
    pub(super) streaming: SingleThread,
    newest: Mutex<Option<Newest>>,
    /// The next scheduled backup is not tried before this moment.
    retry_at: Mutex<Option<Instant>>,
    has_failed: AtomicBool,
    /// When the disk space of the backups was measured last, and what is known of it.
    measured_at: Mutex<Option<Instant>>,
    sizes: Mutex<Sizes>,
    /// What is known of the manifests in the bucket of the schedule.
    manifests: Known,
}

/// The newest backup of this instance in the directory of the schedule; without such a directory,
/// the newest that the server has made in any.
#[derive(Clone, Debug)]
struct Newest {
    path: PathBuf,
    made_at: Timestamp,
}

/// The backups of this instance, for `/health`.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// When the newest backup was made.
    pub newest_at: Option<Timestamp>,
    /// True if the last backup failed.
    pub has_failed: bool,
    /// The time between two backups of the schedule; none without a schedule.
    pub every: Option<Duration>,
}

impl Backups {
    /// Creates the maker of backups of this data directory.
    pub fn new(engine: Arc<Engine>, data_dir: &Path, reader: Reader, schedule: Schedule) -> Self {
        engine.metrics.backup_age_seconds.set(-1);
        // The thread measures, because the directory may not answer. Until then, no event expires
        // for the disk, because a backup may go first.
        let is_file = |directory: &Path| S3Url::of(directory).is_none();
        let has_spare = schedule.directory.as_deref().is_some_and(is_file) && !schedule.is_held;
        engine.disk_use.note_backups(BackupUse { only_theirs: 0, has_spare });
        let jobs = Arc::<Jobs>::default();
        let Schedule { instance, directory, s3, drill_every, is_held, .. } = schedule.clone();
        let drilled = DrillSchedule { instance, directory, s3, every: drill_every, is_held };
        let drills = Drills::new(Arc::clone(&engine), data_dir, Arc::clone(&jobs), drilled);
        Self {
            engine,
            data_dir: data_dir.to_owned(),
            reader,
            schedule,
            agenda: Agenda::new(Arc::clone(&jobs), JobKind::Backup),
            jobs,
            drills,
            streaming: SingleThread::default(),
            newest: Mutex::default(),
            retry_at: Mutex::default(),
            has_failed: AtomicBool::new(false),
            measured_at: Mutex::default(),
            sizes: Mutex::default(),
            manifests: Known::default(),
        }
    }

    /// The directory of backups in the configuration.
    pub fn directory(&self) -> Option<&Path> {
        self.schedule.directory.as_deref()
    }

    /// The drills of the backups in this directory.
    pub fn drills(&self) -> &Drills {
        &self.drills
    }

    /// The jobs, the newest first.
    pub fn jobs(&self) -> Vec<Job> {
        self.jobs.list()
    }

    /// The newest backup, and if the last one failed.
    pub fn standing(&self) -> Standing {
        let has_failed = self.has_failed.load(Ordering::SeqCst);
        Standing { newest_at: self.newest_at(), has_failed, every: self.every() }
    }

    /// Asks for a backup in this directory.
    ///
    /// # Errors
    /// Another backup is under way.
    pub fn ask(&self, directory: &Path) -> Result<Job, Busy> {
        self.agenda.ask(directory, self.now())
    }

    /// Wakes the threads, so that they see the stop.
    pub fn wake(&self) {
        self.agenda.wake();
        self.drills.wake();
    }

    /// Makes backups until the server stops.
    pub fn run(&self) {
        self.look_for_newest();
        while !self.engine.stop.is_set() {
            if let Some(job) = self.agenda.asked().or_else(|| self.due()) {
                self.work(&job);
                self.measure();
            }
            self.give_space();
            self.publish();
            self.agenda.wait(self.nap());
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.engine.clock.now_ms())
    }

    /// The data directory of this server, for a backup.
    pub(super) fn source(&self) -> From<'_> {
        From { data_dir: &self.data_dir, reader: &self.reader, store: Some(&self.engine.store) }
    }

    fn newest_at(&self) -> Option<Timestamp> {
        locked(&self.newest).as_ref().map(|newest| newest.made_at)
    }

    fn look_for_newest(&self) {
        let Some(directory) = &self.schedule.directory else { return };
        let instance = &self.schedule.instance;
        let newest = self.bucket(directory).and_then(|bucket| match bucket {
            Some(bucket) => bucket.newest_of(instance),
            None => Ok(own_in(directory, instance)?.pop()),
        });
        match newest {
            Ok(newest) => {
                if newest.is_some() {
                    self.drills.note_backup();
                }
                *locked(&self.newest) = newest.map(Newest::of);
            }
            Err(error) => tracing::debug!(%error, "the directory of backups cannot be read yet"),
        }
    }

    /// Returns the bucket, if the directory of backups is in one.
    fn bucket(&self, directory: &Path) -> Result<Option<Bucket>, BackupError> {
        let bucket = Bucket::at(directory, &self.schedule.s3, &self.engine.stop)?;
        // What is known is of the place of the schedule.
        let is_known = self.schedule.directory.as_deref() == Some(directory);
        Ok(bucket.map(|bucket| if is_known { bucket.knowing(&self.manifests) } else { bucket }))
    }

    /// Returns true if a backup in this directory is one of those that the schedule is about.
    fn counts(&self, directory: &Path) -> bool {
        self.schedule.directory.as_deref().is_none_or(|of| is_same(of, directory))
    }

    /// Returns the job of the schedule, if it is due.
    fn due(&self) -> Option<Job> {
        let directory = self.schedule.directory.as_deref()?;
        let is_retried = self.retry_at().is_some_and(|at| Instant::now() < at);
        if is_retried || !self.until_due()?.is_zero() {
            return None;
        }
        self.agenda.begin(directory, self.now())
    }

    /// Returns the time until the next backup of the schedule; none without a schedule.
    fn until_due(&self) -> Option<Duration> {
        Some(left_of(self.every()?, self.newest_at(), self.now()))
    }

    /// Returns the time between two backups of the schedule; none without a schedule.
    fn every(&self) -> Option<Duration> {
        let Schedule { directory, every, is_held, .. } = &self.schedule;
        (directory.is_some() && !every.is_zero() && !is_held).then_some(*every)
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
        *locked(&self.retry_at)
    }

    /// Makes the backup of a job.
    fn work(&self, job: &Job) {
        let began = Instant::now();
        // Nobody deletes backups meanwhile, so the disk does not wait for it.
        let disk_use = &self.engine.disk_use;
        disk_use.note_backups(BackupUse { has_spare: false, ..disk_use.backups() });
        let made = self.make(job);
        let finished_at = Some(self.now());
        // A backup in another place says nothing about those of the schedule.
        if self.counts(&job.directory) {
            let retry_at = made.is_err().then(|| Instant::now() + RETRY_AFTER);
            *locked(&self.retry_at) = retry_at;
            self.has_failed.store(made.is_err(), Ordering::SeqCst);
        }
        let state = match made {
            Ok(made) => {
                self.note(&made, began.elapsed(), &job.directory);
                JobState::Done(made.path)
            }
            Err(error) => {
                self.engine.metrics.backup_failures.inc();
                let directory = job.directory.display();
                tracing::error!(%error, %directory, "a backup failed");
                JobState::Failed(error.to_string())
            }
        };
        self.agenda.change(job, |job| {
            if let JobState::Done(_) = state {
                job.bytes_read = job.bytes;
            }
            (job.state, job.finished_at) = (state, finished_at);
        });
    }

    fn make(&self, job: &Job) -> Result<Made, BackupError> {
        let pace = Pace::new(&self.engine, is_shared(&job.directory, &self.data_dir));
        let source = Source::of(self.source(), &|bytes| pace.step(bytes, &|_| ()))?;
        self.agenda.change(job, |job| job.bytes = source.bytes());
        let note = |bytes| self.agenda.change(job, |job| job.bytes_read += bytes);
        let step = |bytes| pace.step(bytes, &note);
        let Some(bucket) = self.bucket(&job.directory)? else {
            return make(&source, &job.directory, job.started_at, &step);
        };
        let Schedule { directory, keep, .. } = &self.schedule;
        let keep = directory.as_ref().filter(|_| self.counts(&job.directory)).map(|_| *keep);
        let spared = self.drills.passed_backup();
        bucket.make(&source, (job.started_at, (keep, spared.as_deref())), &step)
    }

    fn note(&self, made: &Made, took: Duration, directory: &Path) {
        tracing::info!(
            path = %made.path.display(),
            end = made.manifest.end,
            bytes = made.manifest.bytes,
            linked_bytes = made.linked_bytes,
            took_ms = millis(took),
            "a backup was made"
        );
        if !self.counts(directory) {
            return;
        }
        let metrics = &self.engine.metrics;
        metrics.backup_seconds.set(took.as_secs_f64());
        metrics.backup_bytes.set(gauge(made.manifest.bytes));
        let (path, made_at) = (made.path.clone(), made.manifest.made_at);
        *locked(&self.newest) = Some(Newest { path, made_at });
        self.drills.note_backup();
        let Schedule { instance, keep, directory: of_schedule, .. } = &self.schedule;
        // A bucket is tidied by the backup itself.
        if of_schedule.is_some() && S3Url::of(directory).is_none() {
            // No newer one is known to be good.
            let spared = self.drills.passed_backup();
            if let Err(error) = delete_old(directory, (instance, spared.as_deref()), *keep) {
                tracing::warn!(%error, "old backups could not be deleted");
            }
        }
    }

    /// Deletes the oldest backup of the schedule if the disk of the data is short. Measures the
    /// disk space of the backups now and then.
    fn give_space(&self) {
        let measured_at = *locked(&self.measured_at);
        if measured_at.is_none_or(|at| at.elapsed() >= NAP) {
            self.measure();
        }
        let disk_use = &self.engine.disk_use;
        let Some(directory) = self.schedule.directory.as_deref() else { return };
        if !disk_use.takes_backup() || !disk_use.backups().has_spare {
            return;
        }
        // The disk may have become short since the last measurement, which then found enough.
        self.measure();
        if disk_use.backups().has_spare {
            self.delete_oldest(directory);
        }
    }

    fn delete_oldest(&self, directory: &Path) {
        let (disk_use, free) = (&self.engine.disk_use, self.engine.space.free());
        match delete_oldest(directory, &self.schedule.instance) {
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

    /// Measures the disk space that only the backups in the directory of the schedule take on the
    /// filesystem of the data, and decides if old ones are worth deleting.
    fn measure(&self) {
        let directory = self.schedule.directory.as_deref();
        let shared = directory.filter(|directory| is_shared(directory, &self.data_dir));
        let held = shared.map(|directory| self.held(directory)).unwrap_or_default();
        let has_spare = !self.schedule.is_held && self.is_worth(held.spare);
        let only_theirs = held.only_theirs;
        self.engine.disk_use.note_backups(BackupUse { only_theirs, has_spare });
        *locked(&self.measured_at) = Some(Instant::now());
    }

    fn held(&self, directory: &Path) -> Held {
        let held = locked(&self.sizes).held(directory, &self.data_dir, &self.schedule.instance);
        held.unwrap_or_default()
    }

    /// Returns true if this disk space is a good part of what the disk lacks, or of what the data
    /// takes. Hard links to files of the data give back nothing, so old backups may be worth less
    /// than the events that would go next.
    fn is_worth(&self, spare: u64) -> bool {
        let measured = self.engine.disk_use.measured();
        let data = measured.journal + measured.snapshots + measured.state;
        let missing_of = |free| measured.keep_free.saturating_sub(free);
        let missing = self.engine.space.free().map_or(u64::MAX, missing_of);
        spare > 0 && spare >= missing.min(data) / WORTH
    }

    fn publish(&self) {
        // Somebody may have deleted it. A store is not asked every time.
        let is_gone = |newest: &Newest| {
            S3Url::of(&newest.path).is_none() && !newest.path.join(MANIFEST).exists()
        };
        if locked(&self.newest).as_ref().is_some_and(is_gone) {
            *locked(&self.newest) = None;
            self.look_for_newest();
        }
        let age = self.newest_at().map(|newest| self.now().0.saturating_sub(newest.0) / 1_000);
        let age = age.map_or(-1, gauge);
        self.engine.metrics.backup_age_seconds.set(age);
    }
}

impl Newest {
    fn of(Whole { path, manifest }: Whole) -> Self {
        Self { path, made_at: manifest.made_at }
    }
}

/// Returns true if both paths name the same directory.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    one == other || real(one).is_some_and(|one| Some(one) == real(other))
}

#[cfg(test)]
#[path = "scheduled_tests.rs"]
mod tests;
