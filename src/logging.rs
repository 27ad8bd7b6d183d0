//! Logs: one JSON object a line on standard output, or text for a terminal, and files by day if asked for.
//!
//! Called once, by `app` and by commands that run long. What is logged is up to each room; none may log keys, tokens,
//! secrets or payloads. Times are RFC 3339 in UTC.

use std::io;
use std::path::PathBuf;

use tracing::Subscriber;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Log, LogFormat};

/// Lines that may wait for a slow disk; more are dropped, and counted by the writer. Log files never hold up an event;
/// standard output does if its reader stands still.
const WAITING_LINES_MAX: usize = 64 << 10;

/// Why there are no logs.
#[derive(Debug)]
pub enum LoggingError {
    /// The log directory can't be made or written.
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        cause: InitError,
    },
    /// Logging was started before in this process.
    AlreadyStarted,
}

impl std::fmt::Display for LoggingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory { path, cause } => write!(f, "log directory {}: {cause}", path.display()),
            Self::AlreadyStarted => f.write_str("logging was started before"),
        }
    }
}

impl std::error::Error for LoggingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Directory { cause, .. } => Some(cause),
            Self::AlreadyStarted => None,
        }
    }
}

/// Keep it until the process ends: dropping it writes out the lines that still wait for the log file.
#[derive(Debug)]
#[must_use = "dropping the guard ends the log file"]
pub struct LoggingGuard(Option<WorkerGuard>);

impl LoggingGuard {
    /// Whether log files are written beside standard output.
    pub fn writes_files(&self) -> bool {
        self.0.is_some()
    }
}

/// Starts logging for the whole process.
///
/// # Errors
/// When the log directory can't be used, or logging was started before.
pub fn start(log: &Log) -> Result<LoggingGuard, LoggingError> {
    let (files, guard) = match files(log)? {
        Some((writer, guard)) => (Some(layer(log.format, writer)), Some(guard)),
        None => (None, None),
    };
    tracing_subscriber::registry()
        .with(filter(log))
        .with(layer(log.format, io::stdout))
        .with(files)
        .try_init()
        .map_err(|_error| LoggingError::AlreadyStarted)?;
    Ok(LoggingGuard(guard))
}

fn filter(log: &Log) -> EnvFilter {
    // `Config` has parsed it once.
    EnvFilter::builder().parse(&log.level).unwrap_or_else(|_| EnvFilter::new("info"))
}

fn layer<S, W>(format: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
        LogFormat::Text => lines.with_ansi(false).boxed(),
    }
}

type Files = (tracing_appender::non_blocking::NonBlocking, WorkerGuard);

fn files(log: &Log) -> Result<Option<Files>, LoggingError> {
    let Some(directory) = &log.directory else { return Ok(None) };
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("triggerd")
        .filename_suffix("log")
        .max_log_files(log.files_max)
        .build(directory)
        .map_err(|cause| LoggingError::Directory { path: directory.clone(), cause })?;
    let writer = NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES_MAX).thread_name("log-writer");
    Ok(Some(writer.finish(appender)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(format: LogFormat, directory: Option<PathBuf>) -> Log {
        Log { level: "info,quiet=error".to_owned(), format, directory, files_max: 3 }
    }

    fn written(format: LogFormat) -> String {
        let directory = tempfile::tempdir().unwrap();
        let log = log(format, Some(directory.path().to_owned()));
        let (writer, guard) = files(&log).unwrap().unwrap();
        let subscriber = tracing_subscriber::registry().with(filter(&log)).with(layer(log.format, writer));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(event = "evt_1", "accepted");
            tracing::debug!("too fine");
            tracing::warn!(target: "quiet", "not loud enough");
        });
        drop(guard);
        let files: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        std::fs::read_to_string(&files[0]).unwrap()
    }

    #[test]
    fn a_json_line_has_time_level_message_and_fields() {
        let text = written(LogFormat::Json);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 1, "the filter holds back the others: {text}");
        let line: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "accepted");
        assert_eq!(line["event"], "evt_1");
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'), "{time}");
    }

    #[test]
    fn a_text_line_has_no_escape_sequences() {
        let text = written(LogFormat::Text);
        assert!(text.contains("accepted") && text.contains("evt_1"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let inside = file.path().join("logs");
        let error = files(&log(LogFormat::Json, Some(inside.clone()))).unwrap_err().to_string();
        assert!(error.contains(&inside.display().to_string()), "{error}");
    }

    #[test]
    fn no_directory_means_no_files() {
        assert!(files(&log(LogFormat::Json, None)).unwrap().is_none());
    }
}
