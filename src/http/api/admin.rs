//! `/api/admin`: backups of the running server and drills, for the operator. A backup is made in a
//! directory on the server's machine or in a bucket, as a job, or sent as a stream.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::ACCEPT;
use actix_web::web::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc::Receiver;
use utoipa::ToSchema;

use crate::backup::{Busy, Job, JobKind, JobState};
use crate::config::S3Url;
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call, json};
use crate::http::error::{Code, Faults, Problem};
use crate::http::input::body::optional_json;
use crate::http::input::declare::{Body, Described, body};
use crate::http::input::fields::Fields;
use crate::http::input::kinds::parsed;
use crate::http::input::presence::optional;
use crate::http::openapi::operation::{Content, Operation, Reply, Tag, any_text};
use crate::http::openapi::schemas::{Schemas, schema_of};
use crate::model::id::JobId;
use crate::model::time::Timestamp;

const BODY_BYTES_MAX: usize = 16 << 10;
/// The content type of a backup as a stream (RFC 8878, 7.1).
const ARCHIVE: &str = "application/zstd";
/// Seconds after which another backup may be possible.
const RETRY_AFTER_S: u64 = 10;

body! {
    /// The place of a backup.
    struct BackupOrder {
        /// A directory of backups on the server's machine by an absolute path, or a place in a
        /// bucket, `s3://BUCKET/PREFIX`. Without this member it is `[backup] directory`. It must be
        /// left out with `Accept: application/zstd`.
        directory: Option<Place> = optional("directory", parsed());
    }
}

/// A directory of backups, or a place in a bucket.
#[derive(ToSchema)]
#[schema(value_type = String)]
struct Place(PathBuf);

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = PathBuf::from(text);
        let is_place = S3Url::of(&path).map_or(path.is_absolute(), |url| url.is_ok());
        let rule = "must be an absolute path on the server's machine, or s3://BUCKET/PREFIX";
        is_place.then_some(Self(path)).ok_or(rule)
    }
}

/// The body of a drill, which has no members.
struct DrillOrder;

impl Body<'_> for DrillOrder {
    const NAME: &'static str = "DrillOrder";
    const WORDS: &'static str = "A drill, which has no settings.";

    fn take(_: &mut Fields<'_>, _: &mut Faults) -> Self {
        Self
    }

    fn members(_: &mut Schemas) -> Vec<Described> {
        Vec::new()
    }
}

pub(in crate::http) static BACKUP: Operation = Operation::new(
    "makeBackup",
    Tag::Administration,
    "Back up the running server",
    &[
        Reply::json(202, "The job that makes the backup.", schema_of::<Shown>),
        Reply::of(
            200,
            "With `Accept: application/zstd`, the backup itself: a tar compressed with zstd. An \
             answer that breaks off is no backup.",
            (ARCHIVE, any_text),
        ),
    ],
)
.optional_body(&[Content::json::<BackupOrder>(r#"{"directory": "/backup/triggerd"}"#)]);

pub(in crate::http) static DRILL: Operation = Operation::new(
    "startDrill",
    Tag::Administration,
    "Restore and verify the newest backup",
    &[Reply::json(202, "The job of the drill.", schema_of::<Shown>)],
)
.optional_body(&[Content::json::<DrillOrder>("{}")]);

pub(in crate::http) static JOBS: Operation = Operation::new(
    "listJobs",
    Tag::Administration,
    "List the last jobs",
    &[Reply::json(200, "The last 100 jobs since the start, the newest first.", schema_of::<List>)],
);

/// The state of a job.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = JobState)]
enum State {
    Running,
    Done,
    Failed,
}

/// A job of the server.
#[derive(Serialize, ToSchema)]
#[schema(as = Job)]
struct Shown {
    id: JobId,
    #[schema(value_type = JobKind)]
    kind: &'static str,
    state: State,
    #[schema(value_type = String)]
    directory: PathBuf,
    started_at: Timestamp,
    #[schema(required)]
    finished_at: Option<Timestamp>,
    bytes_read: u64,
    bytes: u64,
    /// The directory of the backup that was made, or that passed the drill.
    #[schema(required, value_type = Option<String>)]
    backup: Option<PathBuf>,
    /// The reason why the job failed.
    #[schema(required)]
    error: Option<String>,
}

impl Shown {
    fn of(job: Job) -> Self {
        let Job { id, kind, directory, started_at, finished_at, bytes_read, bytes, state } = job;
        let (state, backup, error) = match state {
            JobState::Running => (State::Running, None, None),
            JobState::Done(path) => (State::Done, Some(path), None),
            JobState::Failed(why) => (State::Failed, None, Some(why)),
        };
        Self {
            id,
            kind: kind.into(),
            state,
            directory,
            started_at,
            finished_at,
            bytes_read,
            bytes,
            backup,
            error,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = Jobs)]
struct List {
    data: Vec<Shown>,
}

/// `POST /api/admin/backup`: begins a backup in the directory of the body, or in that of the
/// configuration, and answers 202 with the job. With `Accept: application/zstd`, answers with the
/// backup itself.
pub(in crate::http) async fn backup(call: &mut Call) -> Answer {
    let body = call.body(BODY_BYTES_MAX).await?;
    let accept = call.request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    let is_stream = accept.is_some_and(|accept| accept.trim().eq_ignore_ascii_case(ARCHIVE));
    let directory = directory_of(optional_json(call.request.headers(), &body)?, is_stream)?;
    let backups = &call.api.backups;
    if is_stream {
        audit::backup(call, None).await?;
        let pieces = backups.stream().map_err(busy)?;
        return Ok(streamed(pieces));
    }
    let directory = directory.as_deref().or_else(|| backups.directory());
    let Some(directory) = directory else {
        let detail = "is required, because the configuration has no [backup] directory";
        return Err(Problem::fault(Code::ValidationFailed, "/directory", detail));
    };
    audit::backup(call, Some(directory)).await?;
    let job = backups.ask(directory).map_err(busy)?;
    json(StatusCode::ACCEPTED, &Shown::of(job))
}

/// `POST /api/admin/drill`: begins a drill, and answers 202 with the job.
pub(in crate::http) async fn drill(call: &mut Call) -> Answer {
    let body = call.body(BODY_BYTES_MAX).await?;
    DrillOrder::read(optional_json(call.request.headers(), &body)?)?;
    if call.api.backups.directory().is_some() {
        audit::drill(call).await?;
    }
    let Some(job) = call.api.backups.drills().ask().map_err(busy_drill)? else {
        let detail = "the configuration has no [backup] directory, whose newest backup a drill \
            restores";
        return Err(Problem::new(Code::ValidationFailed, detail));
    };
    json(StatusCode::ACCEPTED, &Shown::of(job))
}

/// `GET /api/admin/jobs`: the last jobs, the newest first.
pub(in crate::http) fn jobs(call: &Call) -> Answer {
    let data = call.api.backups.jobs().into_iter().map(Shown::of).collect();
    json(StatusCode::OK, &List { data })
}

/// Reads the body. A stream takes no directory.
fn directory_of(text: &str, is_stream: bool) -> Result<Option<PathBuf>, Problem> {
    let mut draft = BackupOrder::draft(text, &[])?;
    if is_stream && draft.body.directory.is_some() {
        draft.faults.add("/directory", "must be left out with Accept: application/zstd");
    }
    Ok(draft.finish()?.directory.map(|Place(path)| path))
}

fn busy(busy: Busy) -> Problem {
    overloaded("another backup is being made", busy)
}

fn busy_drill(busy: Busy) -> Problem {
    overloaded("another drill is under way", busy)
}

fn overloaded(what: &str, Busy(job): Busy) -> Problem {
    let which = job.map(|id| format!(" ({id})")).unwrap_or_default();
    let detail = format!("{what}{which}; try again when it is done");
    Problem::new(Code::Overloaded, detail).retry_after(RETRY_AFTER_S)
}

/// Answers with the pieces of a backup. An error breaks the answer off, so that no reader takes a
/// part for the whole.
fn streamed(pieces: Receiver<io::Result<Bytes>>) -> HttpResponse {
    HttpResponse::Ok().content_type(ARCHIVE).streaming(stream::unfold(
        pieces,
        |mut pieces| async move {
            let piece = pieces.recv().await?;
            Some((piece, pieces))
        },
    ))
}
