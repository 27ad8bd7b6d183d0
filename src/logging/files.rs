//! Log files: a new file begins each day (UTC) and when a file is full, and the oldest file is
//! removed. So log files never use more disk than `[log] file_bytes_max` times `files_max`.
//!
//! `triggerd.2026-11-27.log` is the first file of a day, `triggerd.2026-11-27.1.log` the second.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::base::clock::Clock;
use crate::base::ownership;

const PREFIX: &str = "triggerd.";
const SUFFIX: &str = ".log";
/// Milliseconds after which a failed change of files is tried again.
const AGAIN_MS: u64 = 1_000;

/// Writes lines to files of bounded size and number.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    file_bytes_max: u64,
    kept_max: usize,
    clock: Clock,
    current: Current,
    /// The last change of files that failed: the steady time, and the cause as it was printed.
    failed: Option<(u64, String)>,
}

/// The file that lines are written to.
#[derive(Debug)]
struct Current {
    name: Name,
    file: File,
    bytes: u64,
}

/// The name of a file: its day, and its number within the day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    day: String,
    number: u32,
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let (day, number) = rest.split_once('.').map_or((rest, "0"), |(day, number)| (day, number));
        let is_day =
            day.len() == 10 && day.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        is_day.then_some(())?;
        Some(Self { day: day.to_owned(), number: number.parse().ok()? })
    }

    fn in_directory(&self, directory: &Path) -> PathBuf {
        let Self { day, number } = self;
        directory.join(match number {
            0 => format!("{PREFIX}{day}{SUFFIX}"),
            number => format!("{PREFIX}{day}.{number}{SUFFIX}"),
        })
    }
}

impl Files {
    /// Continues the last file of today, or begins the first.
    ///
    /// # Errors
    /// The path that cannot be used, and the cause.
    pub(super) fn open(
        directory: &Path,
        file_bytes_max: u64,
        files_max: usize,
    ) -> Result<Self, (PathBuf, io::Error)> {
        Self::open_at(directory, (file_bytes_max, files_max), Clock::system())
    }

    fn open_at(
        directory: &Path,
        (file_bytes_max, kept_max): (u64, usize),
        clock: Clock,
    ) -> Result<Self, (PathBuf, io::Error)> {
        fs::create_dir_all(directory).map_err(|cause| (directory.to_owned(), cause))?;
        let current = open_last(directory, today(&clock))?;
        let files = Self {
            directory: directory.to_owned(),
            file_bytes_max,
            kept_max,
            clock,
            current,
            failed: None,
        };
        files.remove_oldest();
        Ok(files)
    }

    /// Changes to another file on a new day, or if this number of bytes does not fit. The day may
    /// be an earlier day, because a clock can be set back. If the change fails, the lines go on in
    /// the current file, and a second later the next line tries again.
    fn make_room(&mut self, bytes: u64) {
        let day = today(&self.clock);
        if day == self.current.name.day && self.has_room(&self.current, bytes) {
            return;
        }
        let now_ms = self.clock.steady_ms();
        if self.failed.as_ref().is_some_and(|(at, _)| now_ms < at.saturating_add(AGAIN_MS)) {
            return;
        }
        match self.next(day, bytes) {
            Ok(next) => {
                self.current = next;
                self.failed = None;
                self.remove_oldest();
            }
            Err((path, cause)) => {
                let text = format!("{}: {cause}", path.display());
                let is_known = self.failed.as_ref().is_some_and(|(_, known)| *known == text);
                if !is_known {
                    self.report(&text);
                }
                self.failed = Some((now_ms, text));
            }
        }
    }

    /// Opens the file for this number of bytes on this day.
    fn next(&self, day: String, bytes: u64) -> Result<Current, (PathBuf, io::Error)> {
        let last = open_last(&self.directory, day)?;
        if self.has_room(&last, bytes) {
            return Ok(last);
        }
        let Name { day, number } = last.name;
        open(&self.directory, Name { day, number: number.saturating_add(1) })
    }

    /// Says on the standard error output that no other file can be opened: this code writes the
    /// log, so it cannot use it.
    fn report(&self, cause: &str) {
        let current = self.current.name.in_directory(&self.directory);
        let text = format!(
            "triggerd: the next log file cannot be opened ({cause}); lines go on in {}, which may \
             grow beyond file_bytes_max; this is tried again every second\n",
            current.display()
        );
        drop(io::stderr().write_all(text.as_bytes()));
    }

    /// True if the file can take this number of bytes. A line is never cut: a line longer than the
    /// maximum gets a file of its own.
    fn has_room(&self, file: &Current, bytes: u64) -> bool {
        file.bytes == 0 || file.bytes.saturating_add(bytes) <= self.file_bytes_max
    }

    /// Removes the oldest files beside the current file, whatever its day. If a file cannot be
    /// removed, the next change of files tries again.
    fn remove_oldest(&self) {
        let mut names = names(&self.directory).unwrap_or_default();
        names.retain(|name| *name != self.current.name);
        names.sort_unstable();
        let too_many = names.len().saturating_sub(self.kept_max.saturating_sub(1));
        for name in names.iter().take(too_many) {
            drop(fs::remove_file(name.in_directory(&self.directory)));
        }
    }
}

impl Write for Files {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.make_room(line.len() as u64);
        let written = self.current.file.write(line)?;
        self.current.bytes = self.current.bytes.saturating_add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.current.file.flush()
    }
}

/// Opens the last file of this day, or the first if there is none.
fn open_last(directory: &Path, day: String) -> Result<Current, (PathBuf, io::Error)> {
    let names = names(directory).map_err(|cause| (directory.to_owned(), cause))?;
    let last = names.into_iter().filter(|name| name.day == day).max();
    open(directory, last.unwrap_or(Name { day, number: 0 }))
}

fn open(directory: &Path, name: Name) -> Result<Current, (PathBuf, io::Error)> {
    let path = name.in_directory(directory);
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o640);
    let file = ownership::open_unfollowed(&mut options, &path);
    let opened = file.and_then(|file| Ok((file.metadata()?.len(), file)));
    let (bytes, file) = opened.map_err(|cause| (path, cause))?;
    Ok(Current { name, file, bytes })
}

fn names(directory: &Path) -> io::Result<Vec<Name>> {
    let entries = fs::read_dir(directory)?;
    Ok(entries.filter_map(|entry| Name::parse(entry.ok()?.file_name().to_str()?)).collect())
}

fn today(clock: &Clock) -> String {
    let now = i64::try_from(clock.now_ms())
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    now.unwrap_or_default().strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_800_000_000_000;
    const DAY_MS: u64 = 86_400_000;

    fn there(directory: &Path) -> Vec<(String, u64)> {
        let mut there: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()).collect();
        there.sort_by_key(fs::DirEntry::file_name);
        let facts = |entry: &fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
        };
        there.iter().map(facts).collect()
    }

    #[test]
    fn files_are_bounded_in_size_and_number_over_days_and_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path().join("logs");
        let clock = Clock::manual(NOON);
        let open = || Files::open_at(&logs, (100, 3), clock.clone()).unwrap();
        let mut files = open();
        let line = [b'x'; 40];
        for _ in 0..5 {
            files.write_all(&line).unwrap();
        }
        let day = today(&clock);
        let expected =
            [(format!("triggerd.{day}.1.log"), 80), (format!("triggerd.{day}.2.log"), 40)];
        let found = there(&logs);
        assert!(expected.iter().all(|it| found.contains(it)) && found.len() == 3, "{found:?}");
        drop(files);
        let mut files = open();
        files.write_all(&line).unwrap();
        assert!(
            there(&logs).contains(&(format!("triggerd.{day}.2.log"), 80)),
            "it goes on where it was"
        );
        clock.set_ms(NOON + DAY_MS);
        for _ in 0..30 {
            files.write_all(&line).unwrap();
            let found = there(&logs);
            assert!(
                found.len() <= 3 && found.iter().map(|(_, bytes)| bytes).sum::<u64>() <= 300,
                "{found:?}"
            );
        }
        files.write_all(&[b'y'; 500]).unwrap();
        assert!(there(&logs).iter().any(|(_, bytes)| *bytes == 500), "a line is never cut");
        fs::write(logs.join("triggerd.other.log"), "not ours").unwrap();
        clock.set_ms(NOON + 2 * DAY_MS);
        files.write_all(&line).unwrap();
        assert!(logs.join("triggerd.other.log").exists());
    }

    #[test]
    fn lines_go_on_in_the_open_file_while_the_next_file_cannot_be_opened() {
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path();
        let clock = Clock::manual(NOON);
        let mut files = Files::open_at(logs, (100, 3), clock.clone()).unwrap();
        files.write_all(&[b'x'; 60]).unwrap();
        let first = there(logs)[0].0.clone();
        // A directory stands in the place of the next file, and of the first file of the next day.
        let day = today(&clock);
        let next = logs.join(format!("triggerd.{day}.1.log"));
        clock.set_ms(NOON + DAY_MS);
        let tomorrow = logs.join(format!("triggerd.{}.log", today(&clock)));
        clock.set_ms(NOON);
        fs::create_dir(&next).unwrap();
        fs::create_dir(&tomorrow).unwrap();
        let bytes = || fs::metadata(logs.join(&first)).unwrap().len();
        for day in 0..2 {
            clock.set_ms(NOON + day * DAY_MS);
            for line in 1..=3 {
                files.write_all(&[b'y'; 60]).unwrap();
                assert_eq!(bytes(), 60 + day * 180 + line * 60, "no line is lost");
            }
        }
        fs::remove_dir(&tomorrow).unwrap();
        clock.advance_ms(AGAIN_MS - 1);
        files.write_all(&[b'z'; 60]).unwrap();
        assert_eq!(bytes(), 480, "it is tried again only after a second");
        clock.advance_ms(1);
        files.write_all(&[b'z'; 60]).unwrap();
        assert_eq!((bytes(), fs::metadata(&tomorrow).unwrap().len()), (480, 60));
    }

    #[test]
    fn files_are_bounded_also_when_a_clock_is_set_back_over_midnight() {
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path();
        let clock = Clock::manual(NOON);
        let mut files = Files::open_at(logs, (100, 3), clock.clone()).unwrap();
        for turn in 0..40 {
            clock.set_ms(if turn % 8 < 4 { NOON } else { NOON + DAY_MS });
            files.write_all(&[b'x'; 60]).unwrap();
            let found = there(logs);
            assert!(
                found.len() <= 3 && found.iter().all(|(_, bytes)| *bytes <= 100),
                "{turn}: {found:?}"
            );
            if turn % 5 == 0 {
                files = Files::open_at(logs, (100, 3), clock.clone()).unwrap();
            }
        }
    }
}
