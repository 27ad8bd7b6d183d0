//! `/api/admin`: backups of the running server and drills, for the operator. A backup is made in a
//! directory on the server's machine or in a bucket, as a job, or sent as a stream.

use std::io;
use std::path::{Path, PathBuf};

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::ACCEPT;
use actix_web::web::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc::Receiver;

use crate::backup::{Busy, Job, JobState};
use crate::config::S3Url;
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call, json};
use crate::http::error::{Code, Faults, Problem};
use crate::http::input::body::Media;
use crate::http::input::fields::{Fields, text_of};
use crate::model::id::JobId;
use crate::model::time::Timestamp;

const BODY_BYTES_MAX: usize = 16 << 10;
/// The content type of a backup as a stream (RFC 8878, 7.1).
const ARCHIVE: &str = "application/zstd";
/// Seconds after which another backup may be possible.
const RETRY_AFTER_S: u64 = 10;

/// A job in an answer.
#[derive(Serialize)]
struct Shown {
    id: JobId,
    kind: &'static str,
    state: &'static str,
    directory: PathBuf,
    started_at: Timestamp,
    finished_at: Option<Timestamp>,
    bytes_read: u64,
    bytes: u64,
    /// The directory of the backup that was made, or that passed the drill.
    backup: Option<PathBuf>,
    error: Option<String>,
}

impl Shown {
    fn of(job: Job) -> Self {
        let Job { id, kind, directory, started_at, finished_at, bytes_read, bytes, state } = job;
        let (state, backup, error) = match state {
            JobState::Running => ("running", None, None),
            JobState::Done(path) => ("done", Some(path), None),
            JobState::Failed(why) => ("failed", None, Some(why)),
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

#[derive(Serialize)]
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
    let directory = if body.is_empty() {
        None
    } else {
        Media::require_json(call.request.headers())?;
        directory_of(text_of(&body)?, is_stream)?
    };
    let backups = &call.api.backups;
    if is_stream {
        let pieces = backups.stream().map_err(busy)?;
        audit::backup(call, None);
        return Ok(streamed(pieces));
    }
    let directory = directory.as_deref().or_else(|| backups.directory());
    let Some(directory) = directory else {
        let detail = "is required, because the configuration has no [backup] directory";
        return Err(Problem::fault(Code::ValidationFailed, "/directory", detail));
    };
    let job = backups.ask(directory).map_err(busy)?;
    audit::backup(call, Some(directory));
    json(StatusCode::ACCEPTED, &Shown::of(job))
}

/// `POST /api/admin/drill`: begins a drill, and answers 202 with the job.
pub(in crate::http) async fn drill(call: &mut Call) -> Answer {
    let body = call.body(BODY_BYTES_MAX).await?;
    if !body.is_empty() {
        Media::require_json(call.request.headers())?;
        let (fields, mut faults) = (Fields::read(text_of(&body)?)?, Faults::default());
        fields.finish(&mut faults);
        faults.into_result()?;
    }
    let Some(job) = call.api.backups.drills().ask().map_err(busy_drill)? else {
        let detail = "the configuration has no [backup] directory, whose newest backup a drill \
            restores";
        return Err(Problem::new(Code::ValidationFailed, detail));
    };
    audit::drill(call);
    json(StatusCode::ACCEPTED, &Shown::of(job))
}

/// `GET /api/admin/jobs`: the last jobs, the newest first.
pub(in crate::http) fn jobs(call: &Call) -> Answer {
    let data = call.api.backups.jobs().into_iter().map(Shown::of).collect();
    json(StatusCode::OK, &List { data })
}

fn is_place(path: &Path) -> bool {
    S3Url::of(path).map_or(path.is_absolute(), |url| url.is_ok())
}

/// Reads the body. A stream takes no directory.
fn directory_of(text: &str, is_stream: bool) -> Result<Option<PathBuf>, Problem> {
    let (mut fields, mut faults) = (Fields::read(text)?, Faults::default());
    let mut directory = None;
    if let Some(field) = fields.take("directory", &mut faults) {
        directory = field.text(&mut faults).map(|text| PathBuf::from(text.into_owned()));
        if is_stream {
            faults.add("/directory", "must be left out with Accept: application/zstd");
        } else if directory.as_deref().is_some_and(|path| !is_place(path)) {
            let fault = "must be an absolute path on the server's machine, or s3://BUCKET/PREFIX";
            faults.add("/directory", fault);
        }
    }
    fields.finish(&mut faults);
    faults.into_result()?;
    Ok(directory)
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
