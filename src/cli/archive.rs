//! `triggerd archive`: writes the events of a time into files, one for each day, compressed with
//! zstd. A running server gives them, or the data directory of a stopped one.

mod stopped;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::Failure;
use super::admin::Admin;
use super::list::with_query;
use super::output::{counted, print};
use super::reach::{Server, Settings, Stopped};
use crate::archive::{ArchiveFile, Draft, EXTENSION};
use crate::backup::require_outside;
use crate::base::clock::Clock;
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::{io_words, of_file};
use crate::model::id::EventId;
use crate::model::moment::{BadMoment, Moment};
use crate::model::time::Timestamp;

/// The path of archives in the API, and the content type of the answer.
const PATH: &str = "/api/admin/archive";
const LINES: &str = "application/jsonl";
/// Number of characters of a date in RFC 3339.
const DATE: usize = 10;
/// Maximum number of bytes of a line: a longer one is no event.
const LINE_BYTES_MAX: usize = 16 << 20;

#[derive(Args)]
pub(super) struct Archive {
    /// When the events were received: from FROM until before TO. Two times or durations back from
    /// now, such as 2026-01-01T00:00:00Z..2026-02-01T00:00:00Z or 30d..7d. Each may be left out:
    /// 30d.. is from 30 days ago on, and .. is everything
    #[arg(value_name = "FROM..TO")]
    time: String,
    /// Directory for the files, one for each day; it is created if it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Existing directory with space for a temporary copy of the state of a stopped server, which is
    /// removed at the end [default: the directory that holds the data directory, else the system's
    /// directory for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    server: Server,
}

/// A time of which each end may be left out, with its text.
type Span<'a> = [Option<(&'a str, Moment)>; 2];

/// The members of a line that its place depends on.
#[derive(Deserialize)]
struct Placed {
    id: EventId,
    received_at: Timestamp,
    #[serde(default)]
    unreadable: bool,
}

impl Archive {
    pub(super) fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let span = self.span()?;
        let inside = require_outside(&self.directory);
        inside.map_err(|error| Failure::new(error.exit_code(), error))?;
        let mut days = Days::new(&self.directory);
        let is_running = self.admin.is_named()?;
        let stopped = if is_running { None } else { self.server.stopped(settings)? };
        let read = match stopped {
            Some(stopped) => self.read(&stopped, span, &mut days),
            None => self.download(settings, span, &mut days),
        };
        // Days that are complete stay when a later one is not.
        let finished = if read.is_ok() { days.end() } else { Ok(()) };
        self.tell(&days.files)?;
        read?;
        finished.map_err(|error| unwritten(&error))?;
        if days.files.is_empty() {
            let message = format!(
                "no event was received in the time {}, or all have expired; nothing was written",
                self.time
            );
            return Err(Failure::new(ExitCode::Failed, message));
        }
        days.unreadable.map_or(Ok(ExitCode::Clean), |(first, count)| Err(unread(&first, count)))
    }

    /// Reads the events from the running server, by a request with the time as the server reads it.
    fn download(
        &self,
        settings: &Settings,
        span: Span<'_>,
        days: &mut Days<'_>,
    ) -> Result<(), Failure> {
        let client = self.admin.client(&self.server, settings)?;
        let [since, until] = span.map(|end| end.map(|(text, _)| text));
        let path = with_query(PATH, [("since", since), ("until", until)]);
        client.download((&path, LINES), "the archive", days)
    }

    /// Reads the events from the data directory of a stopped server.
    fn read(&self, stopped: &Stopped, span: Span<'_>, days: &mut Days<'_>) -> Result<(), Failure> {
        let now = Timestamp(Clock::system().now_ms());
        let [since, until] = span.map(|end| end.map(|(_, moment)| moment.from(now)));
        // Without an end: events may have been received while the clock was ahead.
        let time = (since.unwrap_or(Timestamp(0)), until.unwrap_or(Timestamp(u64::MAX)));
        let mut failed = None;
        let read = stopped::read(stopped, self.scratch.as_deref(), time, &mut |line| {
            failed = days.add(line).err();
            failed.is_none()
        });
        failed.map_or(read, |error| Err(unwritten(&error)))
    }

    /// Returns the ends of the time.
    fn span(&self) -> Result<Span<'_>, Failure> {
        let usage = |why: &dyn std::fmt::Display| {
            let message = format!("FROM..TO: {:?}: {why}", self.time);
            Failure::new(ExitCode::Usage, message)
        };
        let (from, to) = self.time.split_once("..").ok_or_else(|| {
            usage(&"write two times with .. between them, such as 30d..7d; each may be left out")
        })?;
        let [since, until] = [from, to].map(|text| {
            let given = Some(text.trim()).filter(|text| !text.is_empty());
            given.map(|text| Ok((text, text.parse().map_err(|error: BadMoment| usage(&error))?)))
        });
        Ok([since.transpose()?, until.transpose()?])
    }

    fn tell(&self, files: &[(PathBuf, u64)]) -> Result<(), Failure> {
        let form = self.server.form;
        let line = |(path, events): &(PathBuf, u64)| {
            let path = path.display();
            if form.is_json() {
                json!({ "archive": path.to_string(), "events": events }).to_string()
            } else {
                format!("archive   {path}: {}", counted(*events, "event"))
            }
        };
        let lines: Vec<_> = files.iter().map(line).collect();
        let lines = if form.is_json() && !lines.is_empty() { form.of_items(&lines) } else { lines };
        lines.iter().try_for_each(|line| print(line))
    }
}

/// Returns the failure of an archive with events that the server could not read.
fn unread(first: &str, count: u64) -> Failure {
    let message = format!(
        "{} could not be read, because the journal is damaged there; the first is {first}. Each \
         has a line with \"unreadable\": true and without a payload, and all other events are \
         written. `triggerd verify` shows what is damaged",
        counted(count, "event")
    );
    Failure::new(ExitCode::Failed, message)
}

fn unwritten(error: &io::Error) -> Failure {
    let message = format!("the archive cannot be written: {}", io_words(error));
    Failure::new(ExitCode::of_io(error, ExitCode::Failed), message)
}

/// Splits lines into the files of their days. A day that has begun is removed if it is not
/// finished.
struct Days<'a> {
    directory: &'a Path,
    /// The beginning of a line.
    rest: Vec<u8>,
    open: Option<Day>,
    /// The finished files, with their numbers of events.
    files: Vec<(PathBuf, u64)>,
    /// The first event that could not be read, and the number of such events.
    unreadable: Option<(String, u64)>,
}

struct Day {
    date: String,
    path: PathBuf,
    file: ArchiveFile,
    events: u64,
}

impl<'a> Days<'a> {
    fn new(directory: &'a Path) -> Self {
        Self { directory, rest: Vec::new(), open: None, files: Vec::new(), unreadable: None }
    }

    fn add(&mut self, line: &[u8]) -> io::Result<()> {
        let placed: Placed = serde_json::from_slice(line).map_err(|error| {
            io::Error::other(format!("a line of the answer is no event: {error}"))
        })?;
        let date: String = placed.received_at.to_string().chars().take(DATE).collect();
        if self.open.as_ref().is_none_or(|day| day.date != date) {
            self.finish()?;
            let name = format!("events-{date}-{}.{EXTENSION}", placed.id);
            let path = self.directory.join(name);
            let file = ArchiveFile::create(&path, Draft::Discarded);
            let file = file.map_err(|error| named(&path, &error))?;
            self.open = Some(Day { date, path, file, events: 0 });
        }
        if placed.unreadable {
            self.unreadable.get_or_insert((placed.id.to_string(), 0)).1 += 1;
        }
        let Some(day) = &mut self.open else { return Ok(()) };
        day.events += 1;
        day.file.add(line).map_err(|error| named(&day.path, &error))
    }

    /// Finishes the last day, after a whole line.
    fn end(&mut self) -> io::Result<()> {
        if self.rest.is_empty() {
            return self.finish();
        }
        Err(io::Error::other("the answer broke off within a line"))
    }

    /// Finishes the open day.
    fn finish(&mut self) -> io::Result<()> {
        let Some(Day { path, file, events, .. }) = self.open.take() else { return Ok(()) };
        let finished = file.finish().map_err(|error| named(&path, &error))?;
        self.files.extend(finished.map(|path| (path, events)));
        Ok(())
    }
}

/// Returns the error with the path in its words.
fn named(path: &Path, error: &io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::AlreadyExists => io::Error::other(format!(
            "{} exists already; name another directory, or a later FROM",
            path.display()
        )),
        _ => of_file(path, error),
    }
}

impl Write for Days<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pieces = bytes.split_inclusive(|byte| *byte == b'\n');
        pieces.try_for_each(|piece| {
            if self.rest.len() + piece.len() > LINE_BYTES_MAX {
                return Err(io::Error::other("a line of the answer is too long for an event"));
            }
            self.rest.extend_from_slice(piece);
            match self.rest.strip_suffix(b"\n").map(<[u8]>::to_vec) {
                None => Ok(()),
                Some(line) => {
                    self.rest.clear();
                    self.add(&line)
                }
            }
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
