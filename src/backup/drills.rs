//! The drills of a running server: on a thread of their own, the newest backup in the directory of
//! the schedule is restored and verified, by schedule or when somebody asks.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::copy::write_whole;
use super::directory::{Whole, newest_own};
use super::disk::{BLOCK_BYTES, is_shared};
use super::drill::{Scratch, drill};
use super::error::BackupError;
use super::jobs::{Busy, Job, JobKind, JobState, Jobs};
use super::manifest::{MANIFEST, Manifest};
use super::pace::Pace;
use crate::base::regular;
use crate::base::threads::{Signal, locked};
use crate::base::units::{gauge, millis};
use crate::commit::Engine;
use crate::config::S3Url;
use crate::data_dir::free_bytes;
use crate::model::time::Timestamp;
use crate::store::SEGMENT_BYTES;

/// Interval at which the thread looks for a due drill without a wakeup.
const NAP: Duration = Duration::from_secs(20);
/// Shortest pause between two looks.
const LEAST_NAP: Duration = Duration::from_millis(50);
/// Maximum size of the file with the last drill.
const STANDING_BYTES_MAX: u64 = 64 << 10;
/// Pause after a drill that did not pass. A shorter schedule is kept.
const RETRY_AFTER: Duration = Duration::from_hours(1);
/// The state that is computed takes at most this many times the state of the server on the disk.
const STATES: u64 = 2;

/// The drills that the configuration asks for.
#[derive(Clone, Debug)]
pub(super) struct DrillSchedule {
    /// The id of the instance, whose backups are restored.
    pub(super) instance: String,
    /// The directory of backups.
    pub(super) directory: Option<PathBuf>,
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

/// The last drill, as it is kept in the directory of backups over restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// Carries out the drills.
pub struct Drills {
    engine: Arc<Engine>,
    data_dir: PathBuf,
    schedule: DrillSchedule,
    jobs: Arc<Jobs>,
    asked: Mutex<Option<Job>>,
    wake: Signal,
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
        // The scratch directory would be beside the backups, and a bucket has no place for it.
        let is_file = |directory: &PathBuf| S3Url::of(directory).is_none();
        let directory = schedule.directory.filter(is_file);
        let schedule = DrillSchedule { directory, ..schedule };
        Self {
            engine,
            data_dir: data_dir.to_owned(),
            schedule,
            jobs,
            asked: Mutex::default(),
            wake: Signal::new(),
            standing: Mutex::default(),
        }
    }

    /// Asks for a drill. Returns none without a directory of backups.
    ///
    /// # Errors
    /// Another drill is under way.
    pub fn ask(&self) -> Result<Option<Job>, Busy> {
        let Some(directory) = &self.schedule.directory else { return Ok(None) };
        let job = self.jobs.begin(JobKind::Drill, directory, self.now())?;
        *locked(&self.asked) = Some(job.clone());
        self.wake.notify();
        Ok(Some(job))
    }

    /// The last drill.
    pub fn standing(&self) -> DrillStanding {
        *locked(&self.standing)
    }

    /// Wakes the thread, so that it sees a stop, or the first backup.
    pub fn wake(&self) {
        self.wake.notify();
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
            let asked = locked(&self.asked).take();
            if let Some(job) = asked.or_else(|| self.due(directory)) {
                self.work(&job, directory);
            }
            self.publish();
            // A drill that is still due waits for the first backup, which wakes the thread.
            let due = self.until_due().filter(|due| !due.is_zero());
            self.wake.wait(due.map_or(NAP, |due| due.clamp(LEAST_NAP, NAP)));
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.engine.clock.now_ms())
    }

    fn scratch(&self, directory: &Path) -> PathBuf {
        directory.join(format!(".drill-{}", self.schedule.instance))
    }

    fn file_name(&self) -> String {
        format!("drill-{}.json", self.schedule.instance)
    }

    fn read_standing(&self, directory: &Path) -> DrillStanding {
        let opened = regular::open(&directory.join(self.file_name()));
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
        let is_due = self.until_due()?.is_zero() && has_backup(directory, &self.schedule.instance);
        if !is_due {
            return None;
        }
        self.jobs.begin(JobKind::Drill, directory, self.now()).ok()
    }

    /// Returns the time until the next drill of the schedule; none without a schedule.
    fn until_due(&self) -> Option<Duration> {
        let every = Some(self.schedule.every);
        let every = every.filter(|every| !every.is_zero() && !self.schedule.is_held)?;
        let standing = self.standing();
        let is_interrupted = standing.began_at > standing.ended_at;
        let pause = match standing.outcome {
            Some(DrillOutcome::Passed) if !is_interrupted => every,
            _ => every.min(RETRY_AFTER),
        };
        // A drill of the future was carried out while the clock was ahead.
        let last = standing.ended_at.max(standing.began_at);
        let age = last.and_then(|last| self.now().0.checked_sub(last.0));
        let left = |age| pause.saturating_sub(Duration::from_millis(age));
        Some(age.map_or(Duration::ZERO, left))
    }

    fn work(&self, job: &Job, directory: &Path) {
        let began = Instant::now();
        let ended = self.drill(job, directory);
        let took = began.elapsed();
        let (state, outcome) = match ended {
            Ended::Stopped => (JobState::Failed("the server stops".to_owned()), None),
            Ended::Passed(path, manifest) => {
                tell(&path, &manifest, took);
                (JobState::Done(path), Some(DrillOutcome::Passed))
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
                (JobState::Failed(error.to_string()), Some(DrillOutcome::Failed))
            }
            Ended::Skipped(why) => {
                let directory = directory.display();
                tracing::warn!(why, %directory, "a drill was skipped");
                (JobState::Failed(why), Some(DrillOutcome::Skipped))
            }
        };
        if let Some(outcome) = outcome {
            self.engine.metrics.drill_seconds.set(took.as_secs_f64());
            self.note(outcome, directory);
        }
        let finished_at = Some(self.now());
        self.jobs.change(job.id, |job| (job.state, job.finished_at) = (state, finished_at));
    }

    fn note(&self, outcome: DrillOutcome, directory: &Path) {
        self.keep(directory, |standing| {
            let ended_at = Some(self.now());
            (standing.outcome, standing.ended_at) = (Some(outcome), ended_at);
            if outcome == DrillOutcome::Passed {
                standing.passed_at = ended_at;
            }
        });
    }

    /// Changes the standing, and keeps it over restarts.
    fn keep(&self, directory: &Path, change: impl FnOnce(&mut DrillStanding)) {
        let standing = {
            let mut standing = locked(&self.standing);
            change(&mut standing);
            *standing
        };
        let name = self.file_name();
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
        let newest = match newest_own(directory, &self.schedule.instance) {
            Err(error) => return Ended::Failed(error),
            Ok(None) => {
                let directory = directory.display();
                return Ended::Skipped(format!("{directory} holds no backup of this server"));
            }
            Ok(Some(newest)) => newest,
        };
        let room = Room::of(&self.engine, directory, is_shared(directory, &self.data_dir));
        if let Err(why) = room.require(&newest) {
            return Ended::Skipped(why);
        }
        // Kept first: a drill with which the server ended is not repeated at once by each start.
        self.keep(directory, |standing| standing.began_at = Some(self.now()));
        let bytes = newest.manifest.bytes;
        self.jobs.change(job.id, |job| job.bytes = bytes);
        let drilled = self.drill_in(job, &newest, directory, &room);
        match drilled {
            Ok(manifest) => {
                self.jobs.change(job.id, |job| job.bytes_read = job.bytes);
                Ended::Passed(newest.path, manifest)
            }
            Err(_) if self.engine.stop.is_set() => Ended::Stopped,
            Err(error @ BackupError::Damaged(_)) => Ended::Failed(error),
            Err(error) if room.is_short() || is_full(&error) => Ended::Skipped(error.to_string()),
            Err(_) if !newest.path.join(MANIFEST).exists() => {
                Ended::Skipped("the backup was deleted meanwhile".to_owned())
            }
            Err(error) => Ended::Failed(error),
        }
    }

    fn drill_in(
        &self,
        job: &Job,
        newest: &Whole,
        directory: &Path,
        room: &Room<'_>,
    ) -> Result<Manifest, BackupError> {
        let scratch = Scratch::make(&self.scratch(directory))?;
        let pace = Pace::new(&self.engine, false);
        let note = |bytes| {
            // The sums are checked first, so every byte is read twice.
            self.jobs.change(job.id, |job| job.bytes_read += bytes / 2);
        };
        let step = |bytes| {
            if self.engine.stop.is_set() {
                return Err(io::Error::other("the server stops"));
            }
            room.look()?;
            pace.step(bytes, &note)
        };
        drill(newest, &scratch, &step)
    }

    fn publish(&self) {
        let passed = self.standing().passed_at;
        let age = passed.map(|passed| self.now().0.saturating_sub(passed.0) / 1_000);
        self.engine.metrics.drill_age_seconds.set(age.map_or(-1, gauge));
    }
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

fn has_backup(directory: &Path, instance: &str) -> bool {
    // A backup that is damaged is found by the drill.
    !matches!(newest_own(directory, instance), Ok(None)) && directory.is_dir()
}

/// Returns true if the disk was full, although there seemed to be room.
fn is_full(error: &BackupError) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    matches!(error, BackupError::Io { cause, .. } if full.contains(&cause.kind()))
}

/// The disk space beside the backups, of which a drill leaves a part.
struct Room<'a> {
    engine: &'a Engine,
    directory: &'a Path,
    /// Bytes that stay free.
    kept: u64,
}

impl<'a> Room<'a> {
    fn of(engine: &'a Engine, directory: &'a Path, is_shared: bool) -> Self {
        // Less free space than this makes events expire on the filesystem of the data.
        let keep_free = if is_shared { engine.disk_use.measured().keep_free } else { 0 };
        let kept = engine.space.reserve_bytes().max(keep_free);
        Self { engine, directory, kept }
    }

    /// Refuses a drill that would need the space that is to stay free.
    fn require(&self, backup: &Whole) -> Result<(), String> {
        let state = self.engine.space.state_bytes().unwrap_or_default();
        let own = 2 * SEGMENT_BYTES as u64;
        let needed = allocated(backup).saturating_add(STATES.saturating_mul(state)) + own;
        let (free, kept) = (free_bytes(self.directory), self.kept);
        match free.filter(|free| *free < needed.saturating_add(kept)) {
            None => Ok(()),
            Some(free) => Err(format!(
                "the drill needs about {needed} bytes in {}, where {free} are free and {kept} have \
                 to stay free",
                self.directory.display()
            )),
        }
    }

    fn is_short(&self) -> bool {
        free_bytes(self.directory).is_some_and(|free| free < self.kept)
    }

    fn look(&self) -> io::Result<()> {
        if self.is_short() {
            let message = "the disk beside the backups is short of space";
            return Err(io::Error::other(message));
        }
        Ok(())
    }
}

/// The disk space of a backup's files, without their holes.
fn allocated(backup: &Whole) -> u64 {
    let blocks = |path: PathBuf| fs::metadata(path).map_or(0, |facts| facts.blocks());
    let of = |file: &super::manifest::Entry| blocks(backup.path.join(&file.path)) * BLOCK_BYTES;
    backup.manifest.files.iter().map(of).sum()
}

#[cfg(test)]
#[path = "drills_tests.rs"]
mod tests;
