//! Logs: each event is one line of JSON or text on standard output, and in files of bounded size if
//! the configuration names a directory.
//!
//! Called once by long-running commands, and at each reload. Each module decides what it logs; none
//! may log keys, tokens, secrets or payloads. Times are RFC 3339 in UTC. Repeated lines appear once
//! a second with their count (`damping`). For systemd's journal, each line begins with its priority
//! (`lines`).

mod damping;
mod files;
mod lines;

use std::io::{self, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use tracing::Subscriber;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, reload};

use crate::base::exit_code::ExitCode;
use crate::base::ownership;
use crate::config::{Log, LogFormat, is_level, journal_stream};

pub use damping::{AUDIT, FLOODS, LeftOut, tick};

use damping::Damping;
use files::Files;
use lines::Lines;

/// Maximum number of lines waiting for a slow disk. Further lines are dropped and counted by the
/// writer. Log files never delay an event; standard output does if its reader stops reading.
const WAITING_LINES_MAX: usize = 64 << 10;

/// The prefix of the targets of triggerd's own lines.
const OWN_TARGETS: &str = "triggerd";

/// The handle to change the level of the running process.
static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// The reason why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The log directory cannot be created or written.
    #[error("log directory {path}: {cause}{}", ownership::denied(path, cause))]
    Directory {
        /// The directory or a file in the directory.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        cause: io::Error,
    },
    /// Logging was started before in this process.
    #[error("logging was already started")]
    AlreadyStarted,
}

impl LoggingError {
    /// The exit code for this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Directory { cause, .. } => ExitCode::of_io(cause, ExitCode::Usage),
            Self::AlreadyStarted => ExitCode::Usage,
        }
    }
}

/// Keeps the log file open. Dropping the guard writes the remaining lines to the log file, so keep
/// it until the process ends.
#[derive(Debug)]
#[must_use = "dropping the guard ends the log file"]
pub struct LoggingGuard(Option<WorkerGuard>);

impl LoggingGuard {
    /// True if log files are written beside standard output.
    pub fn writes_files(&self) -> bool {
        self.0.is_some()
    }
}

/// Starts logging for the whole process.
///
/// # Errors
/// If the log directory cannot be used, or logging was started before.
pub fn start(log: &Log) -> Result<LoggingGuard, LoggingError> {
    let (files, guard) = match files(log)? {
        Some((writer, guard)) => {
            (Some(layer(form_of(log.format, false), false, writer)), Some(guard))
        }
        None => (None, None),
    };
    let (filter, level) = reload::Layer::new(filter(&log.level));
    let form = form_of(log.format, io::stdout().is_terminal());
    tracing_subscriber::registry()
        .with(filter)
        .with(Damping::of_process())
        .with(layer(form, is_read_by_journal(&io::stdout()), io::stdout))
        .with(files)
        .try_init()
        .map_err(|_error| LoggingError::AlreadyStarted)?;
    if LEVEL.set(level).is_err() {
        return Err(LoggingError::AlreadyStarted);
    }
    Ok(LoggingGuard(guard))
}

/// Changes the log level of the running process. `level` comes from a checked configuration.
pub fn set_level(level: &str) {
    if let Some(Err(error)) = LEVEL.get().map(|handle| handle.reload(filter(level))) {
        tracing::error!(%error, "the log level could not be changed");
    }
}

/// True if systemd's journal reads this stream; systemd.exec(5), `JOURNAL_STREAM`.
pub fn is_read_by_journal(stream: &impl std::os::fd::AsFd) -> bool {
    let Some(expected) = journal_stream() else { return false };
    let file = stream.as_fd().try_clone_to_owned().map(std::fs::File::from);
    let facts = file.and_then(|file| file.metadata());
    facts.is_ok_and(|facts| expected == format!("{}:{}", facts.dev(), facts.ino()))
}

/// The filter of a checked level. The level without a name is that of triggerd's own modules.
/// Libraries log from warn on at the finest, because their lines are of no use to an operator
/// unless something goes wrong. A directive that names a module or a library wins over both.
fn filter(level: &str) -> EnvFilter {
    let given = || level.split(',').map(str::trim);
    let own = given().find(|directive| is_level(directive)).unwrap_or("info");
    let is_coarse = ["off", "error"].iter().any(|coarse| own.eq_ignore_ascii_case(coarse));
    let libraries = if is_coarse { own } else { "warn" };
    let defaults = [libraries.to_owned(), format!("{OWN_TARGETS}={own}")];
    let named = given().filter(|directive| !is_level(directive)).map(str::to_owned);
    let directives: Vec<String> = defaults.into_iter().chain(named).collect();
    EnvFilter::builder().parse(directives.join(",")).unwrap_or_else(|_| EnvFilter::new("info"))
}

fn form_of(format: LogFormat, is_terminal: bool) -> LogFormat {
    match (format, is_terminal) {
        (LogFormat::Auto, true) => LogFormat::Text,
        (LogFormat::Auto, false) => LogFormat::Json,
        (LogFormat::Json | LogFormat::Text, _) => format,
    }
}

fn layer<S, W>(form: LogFormat, with_priority: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    match form {
        LogFormat::Json | LogFormat::Auto => {
            let format = tracing_subscriber::fmt::format()
                .json()
                .flatten_event(true)
                .with_current_span(false);
            let fields = tracing_subscriber::fmt::format::JsonFields::new();
            lines.event_format(Lines::new(format, with_priority)).fmt_fields(fields).boxed()
        }
        LogFormat::Text => {
            let format = tracing_subscriber::fmt::format().with_ansi(false);
            lines.event_format(Lines::new(format, with_priority)).boxed()
        }
    }
}

type Appender = (tracing_appender::non_blocking::NonBlocking, WorkerGuard);

fn files(log: &Log) -> Result<Option<Appender>, LoggingError> {
    let Some(directory) = &log.directory else { return Ok(None) };
    let files = Files::open(directory, log.file_bytes_max, log.files_max);
    let files = files.map_err(|(path, cause)| LoggingError::Directory { path, cause })?;
    let writer = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES_MAX)
        .thread_name("log-writer");
    Ok(Some(writer.finish(files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(format: LogFormat, directory: Option<PathBuf>) -> Log {
        Log {
            level: "info,triggerd::store=error".to_owned(),
            format,
            directory,
            file_bytes_max: 1 << 20,
            files_max: 3,
        }
    }

    fn written(format: LogFormat, with_priority: bool) -> String {
        let directory = tempfile::tempdir().unwrap();
        let log = log(format, Some(directory.path().to_owned()));
        let (writer, guard) = files(&log).unwrap().unwrap();
        let subscriber = tracing_subscriber::registry().with(filter(&log.level)).with(layer(
            log.format,
            with_priority,
            writer,
        ));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(event = "evt_1", "accepted");
            tracing::debug!("too fine");
            tracing::warn!(target: "triggerd::store", "not loud enough");
            tracing::info!(target: "actix_server::builder", "starting 2 workers");
        });
        drop(guard);
        let files: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
        std::fs::read_to_string(&files[0]).unwrap()
    }

    #[test]
    fn a_json_line_has_time_level_message_and_fields() {
        let text = written(LogFormat::Json, false);
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
        let text = written(LogFormat::Text, false);
        assert!(text.contains("accepted") && text.contains("evt_1"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn for_the_journal_each_line_begins_with_its_priority() {
        for format in [LogFormat::Json, LogFormat::Text] {
            let text = written(format, true);
            assert!(text.starts_with("<6>") && text.lines().count() == 1, "{text}");
        }
    }

    #[test]
    fn the_level_is_that_of_triggerd_and_a_named_target_wins() {
        let of = |level: &str| {
            let filter = filter(level).to_string();
            let mut directives: Vec<_> = filter.split(',').map(str::to_owned).collect();
            directives.sort_unstable();
            directives.join(",")
        };
        assert_eq!(of("info"), "triggerd=info,warn");
        assert_eq!(of("debug"), "triggerd=debug,warn");
        assert_eq!(of("TRACE"), "triggerd=trace,warn");
        assert_eq!(of("warn"), "triggerd=warn,warn");
        assert_eq!(of("error"), "error,triggerd=error");
        assert_eq!(of("off"), "off,triggerd=off");
        assert_eq!(of("info,actix_server=info"), "actix_server=info,triggerd=info,warn");
        assert_eq!(of("triggerd::http=debug"), "triggerd::http=debug,triggerd=info,warn");
        assert_eq!(of("triggerd=debug, error"), "error,triggerd=debug");
        assert_eq!(of("sled, DEBUG"), "sled=trace,triggerd=debug,warn");
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
