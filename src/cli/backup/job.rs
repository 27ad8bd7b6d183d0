//! A job that the running server does for a command.

use std::time::Duration;

use serde_json::Value;

use crate::base::exit_code::ExitCode;
use crate::base::threads::Signal;
use crate::cli::answer::text;
use crate::cli::client::{Client, Method};
use crate::cli::failure::Failure;

/// Interval at which the job is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Begins a job by a request to this path with this body, and waits for its end. Returns the job.
///
/// # Errors
/// The server refuses the job, or the job fails; `what` says what the server could not do.
pub(super) fn finished(
    client: &Client,
    (path, body): (&str, Option<String>),
    what: &str,
) -> Result<Value, Failure> {
    let begun = client.call(Method::POST, path, body, &["id", "state"])?;
    let id = text(&begun, "id").to_owned();
    loop {
        let answer = client.call(Method::GET, "/api/admin/jobs", None, &["data"])?;
        let jobs = answer.get("data").and_then(Value::as_array);
        let job = jobs.into_iter().flatten().find(|job| text(job, "id") == id);
        match job.map(|job| (job, text(job, "state"))) {
            Some((job, "done")) => return Ok(job.clone()),
            Some((_, "running")) => Signal::new().wait(LOOK_EVERY),
            Some((job, _)) => {
                let message = format!("the server could not {what}: {}", text(job, "error"));
                return Err(Failure::new(ExitCode::Failed, message));
            }
            None => {
                let message = format!(
                    "the server does not know the job {id} any more: a restart ends every job, so \
                     ask again"
                );
                return Err(Failure::new(ExitCode::Failed, message));
            }
        };
    }
}
