//! The jobs of the server: the last backups and drills, asked for or by schedule, for `GET
//! /api/admin/jobs`. The list is in memory and starts anew with the server. A thread that does jobs
//! of one kind has an agenda.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::base::random;
use crate::base::threads::{Signal, locked};
use crate::model::id::{IdSource, JobId};
use crate::model::time::Timestamp;

/// Maximum number of jobs in the list.
const JOBS_MAX: usize = 100;

/// The state of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// The job waits or runs.
    Running,
    /// The job has made this backup, or found that it can be restored.
    Done(PathBuf),
    /// The job has failed for this reason.
    Failed(String),
}

/// The kind of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum JobKind {
    /// A backup is made in a directory.
    Backup,
    /// The newest backup in a directory is restored and verified.
    Drill,
}

/// A backup or a drill, under way or ended.
#[derive(Clone, Debug)]
pub struct Job {
    /// The id of the job.
    pub id: JobId,
    /// The kind of the job.
    pub kind: JobKind,
    /// The directory of backups.
    pub directory: PathBuf,
    /// When the job began.
    pub started_at: Timestamp,
    /// When the job ended.
    pub finished_at: Option<Timestamp>,
    /// Bytes read so far.
    pub bytes_read: u64,
    /// Bytes of all files of the backup; 0 until they are known.
    pub bytes: u64,
    /// The state of the job.
    pub state: JobState,
}

/// Another job of this kind is under way: its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy(pub Option<JobId>);

/// The list of jobs.
#[derive(Debug)]
pub struct Jobs(Mutex<List>);

#[derive(Debug)]
struct List {
    jobs: VecDeque<Job>,
    ids: IdSource,
}

impl Default for Jobs {
    fn default() -> Self {
        Self(Mutex::new(List { jobs: VecDeque::new(), ids: IdSource::after(0) }))
    }
}

impl Jobs {
    /// Returns all jobs, the newest first.
    pub fn list(&self) -> Vec<Job> {
        self.lock().jobs.iter().rev().cloned().collect()
    }

    /// Adds a job that begins now, unless another one of this kind is under way.
    pub(super) fn begin(
        &self,
        kind: JobKind,
        directory: &Path,
        now: Timestamp,
    ) -> Result<Job, Busy> {
        let mut list = self.lock();
        let is_running = |job: &&Job| job.state == JobState::Running;
        if let Some(same) = list.jobs.iter().filter(is_running).find(|job| job.kind == kind) {
            return Err(Busy(Some(same.id)));
        }
        let id = JobId(list.ids.next(now.0, random::bytes()));
        let job = Job {
            id,
            kind,
            directory: directory.to_owned(),
            started_at: now,
            finished_at: None,
            bytes_read: 0,
            bytes: 0,
            state: JobState::Running,
        };
        list.jobs.push_back(job.clone());
        // A drill may run while many backups are made.
        let ended = list.jobs.iter().position(|job| job.state != JobState::Running);
        if list.jobs.len() > JOBS_MAX
            && let Some(ended) = ended
        {
            list.jobs.remove(ended);
        }
        Ok(job)
    }

    /// Changes a job of the list.
    pub(super) fn change(&self, id: JobId, change: impl FnOnce(&mut Job)) {
        if let Some(job) = self.lock().jobs.iter_mut().find(|job| job.id == id) {
            change(job);
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        locked(&self.0)
    }
}

/// The jobs of one kind, for the thread that does them.
pub(super) struct Agenda {
    jobs: Arc<Jobs>,
    kind: JobKind,
    /// The job that waits for the thread.
    asked: Mutex<Option<Job>>,
    wake: Signal,
}

impl Agenda {
    pub(super) fn new(jobs: Arc<Jobs>, kind: JobKind) -> Self {
        Self { jobs, kind, asked: Mutex::default(), wake: Signal::new() }
    }

    /// Asks for a job, and wakes the thread.
    pub(super) fn ask(&self, directory: &Path, now: Timestamp) -> Result<Job, Busy> {
        let job = self.jobs.begin(self.kind, directory, now)?;
        *locked(&self.asked) = Some(job.clone());
        self.wake.notify();
        Ok(job)
    }

    /// Takes the job that somebody asked for.
    pub(super) fn asked(&self) -> Option<Job> {
        locked(&self.asked).take()
    }

    /// Begins a job by schedule, unless another one is under way.
    pub(super) fn begin(&self, directory: &Path, now: Timestamp) -> Option<Job> {
        self.jobs.begin(self.kind, directory, now).ok()
    }

    /// Changes a job of the list.
    pub(super) fn change(&self, job: &Job, change: impl FnOnce(&mut Job)) {
        self.jobs.change(job.id, change);
    }

    /// Wakes the thread, or lets its next wait end at once.
    pub(super) fn wake(&self) {
        self.wake.notify();
    }

    /// Waits until somebody wakes the thread, at most this long.
    pub(super) fn wait(&self, at_most: Duration) {
        self.wake.wait(at_most);
    }
}

/// Returns the time until a pause ends that began at a moment. A moment of the future was noted
/// while the clock was ahead: nobody knows how long ago it was, and the pause is over.
pub(super) fn left_of(pause: Duration, began: Option<Timestamp>, now: Timestamp) -> Duration {
    let age = began.and_then(|began| now.0.checked_sub(began.0));
    age.map_or(Duration::ZERO, |age| pause.saturating_sub(Duration::from_millis(age)))
}
