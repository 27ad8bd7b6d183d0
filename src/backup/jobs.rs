//! The jobs of the server: the last backups and drills, asked for or by schedule, for `GET
//! /api/admin/jobs`. The list is in memory and starts anew with the server.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::random;
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
