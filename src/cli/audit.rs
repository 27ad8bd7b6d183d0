//! Common parts of `verify` and `rebuild`: reading the whole journal of a stopped server, a segment
//! per task, and computing its state in a temporary directory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde_json::{Value, json};

use super::Failure;
use super::output::{counted, eprint};
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::{io_words, system_words};
use crate::base::{ownership, random};
use crate::commands::{Command, Records, UnknownRecord};
use crate::commit::{Space, recover};
use crate::data_dir::{DataDirError, free_bytes, lost_journal};
use crate::journal::{
    Files, JournalError, JournalScan, Lost, OsFiles, Position, RawRecord, SegmentFound,
    first_witnessed,
};
use crate::model::id::KeyId;
use crate::store::{SEGMENT_BYTES, Store};

/// The content of a stopped server's journal.
pub(super) struct JournalAudit {
    pub(super) scan: JournalScan,
    pub(super) segments: Vec<SegmentFound>,
    pub(super) missing_beginning: Option<Lost>,
    /// Number of commands of each kind.
    pub(super) commands: BTreeMap<String, u64>,
    /// The lowest number above all organization numbers in commands.
    pub(super) next_org: u32,
    /// Keys that asked for commands but are created nowhere in the journal, in the order of first
    /// use.
    pub(super) unmade_keys: Vec<(Position, KeyId)>,
    /// The description of a record written by a newer version, if there is one.
    pub(super) newer: Option<String>,
}

#[derive(Default)]
struct Seen {
    commands: BTreeMap<String, u64>,
    next_org: u32,
    /// Keys of all commands that create keys, even if such a command had no effect.
    made: BTreeSet<KeyId>,
    /// Keys that asked for commands, with the position of the first such command.
    asked: BTreeMap<KeyId, Position>,
    newer: Option<String>,
}

impl Seen {
    fn judge(&mut self, record: &RawRecord<'_>) -> Result<(), String> {
        let command = Command::of_raw(record).map_err(|unknown| {
            if let UnknownRecord::Newer { .. } = unknown {
                self.newer = Some(format!("position {} holds {unknown}", record.position));
            }
            unknown.to_string()
        })?;
        *self.commands.entry(command.action().kind().name.to_owned()).or_default() += 1;
        let named = command.org().max(command.made_org());
        self.next_org = self.next_org.max(named.map_or(0, |org| org.0.saturating_add(1)));
        self.made.extend(command.made_key());
        if let Some(by) = command.requester() {
            self.asked.entry(by).or_insert(record.position);
        }
        Ok(())
    }

    /// Adds the findings of the next segment.
    fn add(&mut self, next: Self) {
        for (kind, count) in next.commands {
            *self.commands.entry(kind).or_default() += count;
        }
        self.next_org = self.next_org.max(next.next_org);
        self.made.extend(next.made);
        for (key, at) in next.asked {
            self.asked.entry(key).or_insert(at);
        }
        self.newer = self.newer.take().or(next.newer);
    }
}

impl JournalAudit {
    /// Reads and decodes every record of the journal in `dir`. The journal begins at `begins` at
    /// the latest, or where a snapshot witnesses it.
    pub(super) fn read(dir: &Path, begins: Position) -> Result<Self, Failure> {
        let files: Arc<dyn Files> = Arc::new(OsFiles);
        let witnessed = first_witnessed(dir, &files).map_err(|error| journal_failure(&error))?;
        let begins = begins.max(witnessed);
        let mut scan = JournalScan::open(dir).map_err(|error| journal_failure(&error))?;
        scan.begin_behind_gap(begins);
        let pool = rayon::ThreadPoolBuilder::new().thread_name(|n| format!("verify-{n}")).build();
        let pool = pool.map_err(|error| {
            let words = error.to_string();
            let message = format!("threads cannot be started: {}", system_words(&words));
            Failure::new(ExitCode::Failed, message)
        })?;
        let bar = ProgressBar::new(scan.bytes()).with_message("reading the journal");
        if let Ok(style) =
            ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}")
        {
            bar.set_style(style);
        }
        let look = |number| {
            let mut seen = Seen::default();
            let found = scan.look(number, &mut |record| seen.judge(record))?;
            bar.inc(found.bytes);
            Ok((found, seen))
        };
        let looked: Result<Vec<_>, JournalError> =
            pool.install(|| (0..scan.len()).into_par_iter().map(look).collect());
        bar.finish_and_clear();
        let (segments, seen): (Vec<_>, Vec<_>) =
            looked.map_err(|error| journal_failure(&error))?.into_iter().unzip();
        let mut all = Seen::default();
        for segment in seen {
            all.add(segment);
        }
        let Seen { commands, next_org, made, asked, newer } = all;
        let unmade =
            asked.into_iter().filter(|(key, _)| !made.contains(key)).map(|(key, at)| (at, key));
        let mut unmade_keys: Vec<_> = unmade.collect();
        unmade_keys.sort_unstable();
        let missing_beginning = scan.missing_beginning(begins);
        Ok(Self { scan, segments, missing_beginning, commands, next_org, unmade_keys, newer })
    }

    /// Returns all damage, in the order of the journal.
    pub(super) fn damages(&self) -> impl Iterator<Item = &Lost> {
        self.missing_beginning.iter().chain(self.segments.iter().flat_map(|found| &found.damages))
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damages().next().is_some()
    }

    /// Returns the first position of the journal.
    pub(super) fn first(&self) -> Position {
        self.segments.first().map_or(Position::FIRST, |found| found.first)
    }

    /// Returns the first position whose record compaction has removed or cut, and the position
    /// behind the last one. Before that position, the journal alone does not give the state.
    pub(super) fn compacted(&self) -> Option<(Position, Position)> {
        let first = self.scan.first().filter(|first| *first > Position::FIRST);
        let is_missing = self.missing_beginning.is_some();
        let removed = first.filter(|_| !is_missing).map(|first| (Position::FIRST, first));
        let all = removed.into_iter().chain(self.segments.iter().filter_map(|it| it.compacted));
        all.reduce(|(from, _), (_, to)| (from, to))
    }

    /// Returns true if a state of this position and the journal behind it give the present state.
    pub(super) fn can_go_on_from(&self, position: Position) -> bool {
        self.compacted().is_none_or(|(_, to)| position >= to)
    }

    /// Returns the number of bytes in the place of records that compaction has removed.
    pub(super) fn compacted_bytes(&self) -> u64 {
        self.segments.iter().map(|found| found.compacted_bytes).sum()
    }

    /// Returns the position of the next commit group.
    pub(super) fn end(&self) -> Position {
        self.segments.last().map_or(Position::FIRST, |found| found.end)
    }

    pub(super) fn records(&self) -> u64 {
        self.segments.iter().map(|found| found.records).sum()
    }

    /// Returns the commands of a journal without damage.
    pub(super) fn log(&self) -> Records {
        self.log_up_to(self.end())
    }

    /// Returns the commands before a position.
    pub(super) fn log_up_to(&self, end: Position) -> Records {
        Records::new(self.scan.reader(end))
    }

    /// Returns true if an earlier rebuild gave up any of these positions.
    pub(super) fn has_hole(&self, positions: Range<Position>) -> bool {
        let mut holes = self.segments.iter().flat_map(|found| &found.holes);
        holes.any(|(from, to)| *from < positions.end && positions.start < *to)
    }
}

pub(super) fn journal_failure(error: &JournalError) -> Failure {
    let code = match error {
        JournalError::Damage(_) => ExitCode::Damaged,
        JournalError::Io { source, .. } => ExitCode::of_io(source, ExitCode::Failed),
    };
    Failure::new(code, error)
}

/// Refuses a data directory that has lost its journal.
pub(super) fn require_journal(data_dir: &Path) -> Result<(), Failure> {
    let refused = |lost| Failure::new(ExitCode::Damaged, format!("the journal is lost: {lost}"));
    lost_journal(data_dir).map_or(Ok(()), |lost| Err(refused(lost)))
}

/// Refuses a journal without segments, or with records of a newer version.
pub(super) fn require_records(audit: &JournalAudit, data_dir: &Path) -> Result<(), Failure> {
    let message = match &audit.newer {
        Some(newer) => newer.clone(),
        None if audit.scan.is_empty() => {
            format!("{} has no journal: no event was ever stored here", data_dir.display())
        }
        None => return Ok(()),
    };
    Err(Failure::new(ExitCode::Damaged, message))
}

pub(super) fn dir_failure(error: &DataDirError) -> Failure {
    Failure::new(error.exit_code(ExitCode::Failed), error)
}

/// Describes a damage in words.
pub(super) fn told(lost: &Lost) -> String {
    let Lost { damage, bytes, from, to, is_open } = lost;
    let what = if *is_open {
        format!(
            "every record from position {from} on is lost, and nobody knows how many there were"
        )
    } else if to > from {
        let (to, at_most) = (to.0.saturating_sub(1), counted(lost.records_max(), "record"));
        format!("positions {from} to {to} are lost, {at_most} at most")
    } else {
        "no record is lost".to_owned()
    };
    let (file, bytes) = (damage.file.display(), counted(*bytes, "byte"));
    format!("{file} offset {}, {bytes}: {}; {what}", damage.offset, damage.reason)
}

/// Describes a damage as JSON, for programs.
pub(super) fn as_json(lost: &Lost) -> Value {
    let Lost { damage, bytes, from, to, is_open } = lost;
    json!({
        "file": damage.file.display().to_string(), "offset": damage.offset, "bytes": bytes,
        "reason": damage.reason,
        "from_position": from, "to_position": to, "records_max": lost.records_max(),
        "to_end": is_open,
    })
}

/// A directory for temporary states, deleted when this value is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Creates the directory in `given`. Without `given`, creates it beside the data directory, on
    /// the same filesystem, or else in the system's temporary directory.
    pub(super) fn make(given: Option<&Path>, data_dir: &Path) -> Result<Self, Failure> {
        let name = format!("triggerd-scratch-{:08x}", u32::from_be_bytes(random::bytes()));
        let beside = std::fs::canonicalize(data_dir)
            .ok()
            .and_then(|dir| dir.parent().map(Path::to_path_buf));
        let places = match given {
            Some(given) => vec![given.to_path_buf()],
            None => beside.into_iter().chain([std::env::temp_dir()]).collect(),
        };
        let mut refused = String::from("there is no directory for the temporary state");
        let mut code = ExitCode::Failed;
        for place in places {
            let dir = place.join(&name);
            match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => return Ok(Self(dir)),
                Err(error) => {
                    let (place, words) = (place.display(), io_words(&error));
                    let owner = ownership::denied(&dir, &error);
                    code = ExitCode::of_io(&error, ExitCode::Failed);
                    refused =
                        format!("no temporary directory can be made in {place}: {words}{owner}");
                }
            }
        }
        Err(Failure::new(code, format!("{refused}. Name another directory with --scratch")))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns true if the filesystem has so little space that a failure may be due to this.
    pub(super) fn is_short(&self) -> bool {
        free_bytes(&self.0).is_some_and(|free| free < 2 * SEGMENT_BYTES as u64)
    }

    pub(super) fn too_small(&self, error: &str) -> Failure {
        let (dir, free) = (self.0.display(), free_bytes(&self.0).unwrap_or_default());
        let message = format!(
            "{error}. Only {free} bytes are free for the temporary state in {dir}; free some \
             space, or name another directory with --scratch"
        );
        Failure::new(ExitCode::Failed, message)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            let (dir, words) = (self.0.display(), io_words(&error));
            eprint(&format!("triggerd: the temporary state {dir} could not be deleted: {words}"));
        }
    }
}

/// Applies the journal to a state. Returns an error, or a panic of sled, as text.
pub(super) fn bring_up(store: &Store, records: &Records) -> Result<u64, String> {
    let bar = ProgressBar::new_spinner().with_message("applying the journal");
    bar.tick();
    let recovered = catch_unwind(AssertUnwindSafe(|| recover(store, records, &Space::default())));
    bar.finish_and_clear();
    let recovered = recovered
        .map_err(|_panic| "the state's store panicked while the journal was applied".to_owned())?;
    recovered.map(|recovered| recovered.commands).map_err(|error| error.to_string())
}
