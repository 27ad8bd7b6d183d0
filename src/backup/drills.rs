//! The drills of a running server: on a thread of their own, the newest backup in the directory or
//! the bucket of the schedule is restored and verified, by schedule or when somebody asks.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::bucket::Bucket;
use super::copy::write_whole;
use super::directory::newest_own;
use super::disk::is_shared;
use super::drill::{Scratch, drill};
use super::drilled::Drilled;
use super::error::BackupError;
use super::jobs::{Agenda, Busy, Job, JobKind, JobState, Jobs, left_of};
use super::manifest::Manifest;
use super::pace::Pace;
use super::room::Room;
use crate::base::library_errors::{is_no_space, shortened};
use crate::base::regular;
use crate::base::threads::locked;
use crate::base::units::{gauge, millis};
use crate::commit::Engine;
use crate::config::{S3Settings, S3Url};
use crate::model::time::Timestamp;

/// Interval at which the thread looks for a due drill without a wakeup.
const NAP: Duration = Duration::from_secs(20);
/// Shortest pause between two looks.
const LEAST_NAP: Duration = Duration::from_millis(50);
/// Maximum size of the file with the last drill.
const STANDING_BYTES_MAX: u64 = 64 << 10;
/// Pause after a drill that did not pass. A shorter schedule is kept.
const RETRY_AFTER: Duration = Duration::from_hours(1);

/// The drills that the configuration asks for.
#[derive(Clone, Debug)]
pub(super) struct DrillSchedule {
    /// The id of the instance, whose backups are restored.
    pub(super) instance: String,
    /// The directory of backups, or the URL of a place in a bucket.
    pub(super) directory: Option<PathBuf>,
    /// How the store of a bucket is reached.
    pub(super) s3: S3Settings,
    /// The time between two drills; zero means none.
    pub(super) every: Duration,
    /// Set if the server does nothing by itself; see [`super::Schedule`].
    pub(super) is_held: bool,
}

/// The result of a drill.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum DrillOutcome {
    /// The backup gives back what it held.
    Passed,
    /// The backup is wrong, or could not be restored.
    Failed,
    /// There was too little disk space, or no backup.
    Skipped,
}

/// The last drill, as it is kept over restarts in the directory of backups, or in the data directory
/// if the backups are in a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillStanding {
    /// When the last drill ended.
    pub ended_at: Option<Timestamp>,
    /// Its result.
    pub outcome: Option<DrillOutcome>,
    /// When the last drill ended that passed.
    pub passed_at: Option<Timestamp>,
    /// When the last drill began. If none ended since, it was interrupted.
    #[serde(default)]
    pub began_at: Option<Timestamp>,
    /// The name of the backup that passed last.
    #[serde(default)]
    pub passed_backup: Option<String>,
    /// Why the last drill was skipped, if it was.
    #[serde(default)]
    pub skipped_because: Option<String>,
}

/// Carries out the drills.
pub struct Drills {
    engine: Arc<Engine>,
    data_dir: PathBuf,
    schedule: DrillSchedule,
    agenda: Agenda,
    /// Set when there is a backup. A store is not asked again and again for the first one.
    has_backup: AtomicBool,
    standing: Mutex<DrillStanding>,
}

/// A drill that is over.
enum Ended {
    Passed(PathBuf, Manifest),
    Failed(BackupError),
    Skipped(String),
    /// The server stops.
    Stopped,
}

impl Drills {
    pub(super) fn new(
        engine: Arc<Engine>,
        data_dir: &Path,
        jobs: Arc<Jobs>,
        schedule: DrillSchedule,
    ) -> Self {
        engine.metrics.drill_age_seconds.set(-1);
        Self {
            engine,
            data_dir: data_dir.to_owned(),
            schedule,
            agenda: Agenda::new(jobs, JobKind::Drill),
            has_backup: AtomicBool::new(false),
            standing: Mutex::default(),
        }
    }

    /// Asks for a drill. Returns none without a directory of backups.
    ///
    /// # Errors
    /// Another drill is under way.
    pub fn ask(&self) -> Result<Option<Job>, Busy> {
        let Some(directory) = &self.schedule.directory else { return Ok(None) };
        self.agenda.ask(directory, self.now()).map(Some)
    }

    /// The last drill.
    pub fn standing(&self) -> DrillStanding {
        locked(&self.standing).clone()
    }

    /// Returns the name of the backup that passed last: the newest one that is known to be good.
    pub(super) fn passed_backup(&self) -> Option<String> {
        // The thread of the drills may not have read the file yet.
        let kept = self.schedule.directory.as_deref().map(|it| self.read_standing(it));
        kept.and_then(|kept| kept.passed_backup).or_else(|| self.standing().passed_backup)
    }

    /// Returns the time between two drills of the schedule; none without a schedule.
    pub fn every(&self) -> Option<Duration> {
        let DrillSchedule { directory, every, is_held, .. } = &self.schedule;
        (directory.is_some() && !every.is_zero() && !is_held).then_some(*every)
    }

    /// Wakes the thread, so that it sees a stop.
    pub fn wake(&self) {
        self.agenda.wake();
    }

    /// Wakes the thread, because there is a backup.
    pub(super) fn note_backup(&self) {
        self.has_backup.store(true, Ordering::SeqCst);
        self.agenda.wake();
    }

    /// Carries out drills until the server stops.
    pub fn run(&self) {
        let Some(directory) = &self.schedule.directory else { return };
        *locked(&self.standing) = self.read_standing(directory);
        if !self.schedule.is_held
            && let Err(error) = Scratch::clear(&self.scratch(directory))
        {
            tracing::warn!(%error, "what an interrupted drill left cannot be removed");
        }
        while !self.engine.stop.is_set() {
            if let Some(job) = self.agenda.asked().or_else(|| self.due(directory)) {
                self.work(&job, directory);
            }
            self.publish();
            // A drill that is still due waits for the first backup, which wakes the thread.
            let due = self.until_due().filter(|due| !due.is_zero());
            self.agenda.wait(due.map_or(NAP, |due| due.clamp(LEAST_NAP, NAP)));
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.engine.clock.now_ms())
    }

    /// The directory of what a drill writes: beside the backups, or in the data directory if they
    /// are in a bucket.
    fn home<'a>(&'a self, directory: &'a Path) -> &'a Path {
        if S3Url::of(directory).is_some() { &self.data_dir } else { directory }
    }

    fn scratch(&self, directory: &Path) -> PathBuf {
        self.home(directory).join(format!(".drill-{}", self.schedule.instance))
    }

    fn file_name(&self) -> String {
        format!("drill-{}.json", self.schedule.instance)
    }

    fn read_standing(&self, directory: &Path) -> DrillStanding {
        let opened = regular::open(&self.home(directory).join(self.file_name()));
        let mut text = Vec::new();
        // What is no such file says nothing; then a drill is due.
        let read = opened.and_then(|file| file.take(STANDING_BYTES_MAX).read_to_end(&mut text));
        if read.is_err() {
            return DrillStanding::default();
        }
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Returns the job of the schedule, if it is due and there is a backup.
    fn due(&self, directory: &Path) -> Option<Job> {
        let is_due = self.until_due()?.is_zero() && self.has_backup(directory);
        if is_due { self.agenda.begin(directory, self.now()) } else { None }
    }

    fn has_backup(&self, directory: &Path) -> bool {
        if S3Url::of(directory).is_some() {
            return self.has_backup.load(Ordering::SeqCst);
        }
        // A backup that is damaged is found by the drill.
        !matches!(newest_own(directory, &self.schedule.instance), Ok(None)) && directory.is_dir()
    }

    /// Finds the backup for a drill.
    fn newest(&self, directory: &Path) -> Result<Option<Drilled>, BackupError> {
        let DrillSchedule { instance, s3, .. } = &self.schedule;
        match Bucket::at(directory, s3, &self.engine.stop)? {
            Some(bucket) => Ok(bucket.newest_to_drill(instance)?.map(Drilled::Bucket)),
            None => Ok(newest_own(directory, instance)?.map(Drilled::Directory)),
        }
    }

    /// Returns the time until the next drill of the schedule; none without a schedule.
    fn until_due(&self) -> Option<Duration> {
        let every = self.every()?;
        let standing = self.standing();
        let is_interrupted = standing.began_at > standing.ended_at;
        let pause = match standing.outcome {
            Some(DrillOutcome::Passed) if !is_interrupted => every,
            _ => every.min(RETRY_AFTER),
        };
        Some(left_of(pause, standing.ended_at.max(standing.began_at), self.now()))
    }

    fn work(&self, job: &Job, directory: &Path) {
        let began = Instant::now();
        let ended = self.drill(job, directory);
        let took = began.elapsed();
        if !matches!(ended, Ended::Stopped) {
            self.engine.metrics.drill_seconds.set(took.as_secs_f64());
            self.note(&ended, directory);
        }
        let state = match ended {
            Ended::Stopped => JobState::Failed("the server stops".to_owned()),
            Ended::Passed(path, manifest) => {
                tell(&path, &manifest, took);
                JobState::Done(path)
            }
            Ended::Failed(error) => {
                self.engine.metrics.drill_failures.inc();
                let directory = directory.display();
                tracing::error!(
                    %error,
                    %directory,
                    "a drill failed: the newest backup cannot be relied on; make another one, and \
                     keep the older ones"
                );
                JobState::Failed(error.to_string())
            }
            Ended::Skipped(why) => {
                self.engine.metrics.drill_skips.inc();
                let directory = directory.display();
                tracing::warn!(why, %directory, "a drill was skipped");
                JobState::Failed(why)
            }
        };
        let finished_at = Some(self.now());
        self.agenda.change(job, |job| (job.state, job.finished_at) = (state, finished_at));
    }

    fn note(&self, ended: &Ended, directory: &Path) {
        self.keep(directory, |standing| {
            standing.ended_at = Some(self.now());
            standing.skipped_because = None;
            let outcome = match ended {
                Ended::Passed(backup, _) => {
                    standing.passed_at = standing.ended_at;
                    standing.passed_backup = name_of(backup);
                    DrillOutcome::Passed
                }
                Ended::Failed(_) | Ended::Stopped => DrillOutcome::Failed,
                Ended::Skipped(why) => {
                    standing.skipped_because = Some(shortened(why));
                    DrillOutcome::Skipped
                }
            };
            standing.outcome = Some(outcome);
        });
    }

    /// Changes the standing, and keeps it over restarts.
    fn keep(&self, directory: &Path, change: impl FnOnce(&mut DrillStanding)) {
        let standing = {
            let mut standing = locked(&self.standing);
            change(&mut standing);
            standing.clone()
        };
        let (name, directory) = (self.file_name(), self.home(directory));
        let left = directory.join(format!("{name}.new"));
        let removed = match fs::remove_file(&left) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        let text = serde_json::to_vec(&standing).unwrap_or_default();
        let written = removed.map_err(super::error::io_at(&left));
        if let Err(error) = written.and_then(|()| write_whole(directory, &name, &text)) {
            tracing::warn!(%error, "a drill's result cannot be kept; the next start repeats it");
        }
    }

    fn drill(&self, job: &Job, directory: &Path) -> Ended {
        let newest = match self.newest(directory) {
            Err(_) if self.engine.stop.is_set() => return Ended::Stopped,
            Err(error @ BackupError::Store(_)) => return Ended::Skipped(error.to_string()),
            Err(error) => return Ended::Failed(error),
            Ok(None) => {
                let directory = directory.display();
                return Ended::Skipped(format!("{directory} holds no backup of this server"));
            }
            Ok(Some(newest)) => newest,
        };
        let home = self.home(directory);
        let room = Room::of(&self.engine, home, is_shared(home, &self.data_dir));
        if let Err(why) = room.require(newest.allocated()) {
            return Ended::Skipped(why);
        }
        // Kept first: a drill with which the server ended is not repeated at once by each start.
        self.keep(directory, |standing| standing.began_at = Some(self.now()));
        let scratch = match Scratch::make(&self.scratch(directory)) {
            Ok(scratch) => scratch,
            Err(error) => return Ended::Skipped(format!("{error}; the backup was not looked at")),
        };
        self.drill_in(job, &newest, &scratch, &room)
    }

    fn drill_in(&self, job: &Job, newest: &Drilled, scratch: &Scratch, room: &Room<'_>) -> Ended {
        let pace = Pace::new(&self.engine, false);
        let note = |bytes| {
            self.agenda.change(job, |job| job.bytes_read += bytes / newest.readings());
        };
        let step = |bytes| {
            if self.engine.stop.is_set() {
                return Err(io::Error::other("the server stops"));
            }
            room.look()?;
            pace.step(bytes, &note)
        };
        let bytes = newest.manifest().bytes;
        self.agenda.change(job, |job| job.bytes = bytes);
        match drill(newest.origin(), scratch, &step) {
            Ok(manifest) => {
                self.agenda.change(job, |job| job.bytes_read = job.bytes);
                Ended::Passed(newest.path(), manifest)
            }
            Err(_) if self.engine.stop.is_set() => Ended::Stopped,
            // What the schedule deletes meanwhile looks like damage.
            Err(_) if newest.is_gone() => {
                Ended::Skipped("the backup was deleted meanwhile".to_owned())
            }
            Err(error @ BackupError::Damaged(_)) => Ended::Failed(error),
            Err(error @ BackupError::Store(_)) => Ended::Skipped(error.to_string()),
            Err(error) if room.is_short() || is_full(&error) => Ended::Skipped(error.to_string()),
            Err(error) => Ended::Failed(error),
        }
    }

    fn publish(&self) {
        let passed = self.standing().passed_at;
        let age = passed.map(|passed| self.now().0.saturating_sub(passed.0) / 1_000);
        self.engine.metrics.drill_age_seconds.set(age.map_or(-1, gauge));
    }
}

fn name_of(backup: &Path) -> Option<String> {
    backup.file_name().map(|name| name.to_string_lossy().into_owned())
}

fn tell(path: &Path, manifest: &Manifest, took: Duration) {
    let (backup, took_ms) = (path.display(), millis(took));
    let (end, counts) = (manifest.end, manifest.counts.unwrap_or_default());
    let (organizations, events) = (counts.organizations, counts.events);
    let deliveries = counts.waiting + counts.dead;
    let are_compared = manifest.counts.is_some();
    tracing::info!(
        %backup, end, organizations, events, deliveries, are_compared, took_ms,
        "a drill passed: the newest backup was restored and verified"
    );
}

/// Returns true if the disk was full, although there seemed to be room.
fn is_full(error: &BackupError) -> bool {
    matches!(error, BackupError::Io { cause, .. } if is_no_space(cause))
}

#[cfg(test)]
#[path = "drills_tests.rs"]
mod tests;
