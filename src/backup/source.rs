//! The files that go into a backup, held open as of one moment, from a running server or from a
//! stopped data directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::copy::{To, copy};
use super::error::{BackupError, io_at};
use super::manifest::{About, BackupCounts, Entry};
use crate::base::threads::Signal;
use crate::data_dir::{JOURNAL, LookedAt, SmallFile, instance_id, small_files};
use crate::journal::{
    Files, JournalError, JournalScan, OsFiles, PinnedSegment, Position, ReadLog as _, Reader,
    SnapshotFile, snapshots_in,
};
use crate::model::time::Timestamp;
use crate::store::Store;

/// How often the snapshot may be deleted while the segments are pinned, before a backup gives up.
const TRIES: usize = 10;
/// How often the segments are pinned to meet a moment at which the state is up to their end.
const PINS: usize = 20;
/// Number of looks at the state, a millisecond each, until it has applied the pinned segments.
const LOOKS: usize = 50;

/// Called with a number of bytes that were read. An error gives the backup up.
pub type Step<'a> = dyn Fn(u64) -> io::Result<()> + 'a;

/// The files of a backup, as of one moment.
pub struct Source {
    pub(super) parts: Vec<Part>,
    about: About,
}

/// A data directory that a backup is made of.
#[derive(Clone, Copy)]
pub(super) struct From<'a> {
    pub(super) data_dir: &'a Path,
    /// The reader of its journal.
    pub(super) reader: &'a Reader,
    /// The state, if a server has it open.
    pub(super) store: Option<&'a Store>,
}

/// The segments as of one moment, and what the state held then.
struct Pinned {
    segments: Vec<PinnedSegment>,
    counts: Option<BackupCounts>,
}

/// One file of a backup.
pub(super) struct Part {
    /// The path in the backup.
    pub(super) name: String,
    content: Content,
}

enum Content {
    Segment(PinnedSegment),
    Snapshot { path: PathBuf, file: File, bytes: u64 },
    Small(Vec<u8>),
}

impl Source {
    /// Takes the files of a data directory. Calls `step` with the number of bytes that were read.
    ///
    /// # Errors
    /// A file cannot be read, or the snapshots change too fast.
    pub(super) fn of(from: From<'_>, step: &Step<'_>) -> Result<Self, BackupError> {
        let (mut tries, mut damaged) = (0, BTreeSet::new());
        while tries < TRIES {
            let known = damaged.len();
            if let Some(source) = Self::try_of(from, &mut damaged, step)? {
                return Ok(source);
            }
            // A damaged snapshot is passed over in the next turn, and costs no try.
            tries += usize::from(damaged.len() == known);
        }
        let message = "the snapshots were deleted faster than they could be read; raise \
            [retention] grace_seconds";
        Err(BackupError::Refused(message.to_owned()))
    }

    /// Takes the files of a stopped data directory, which stays locked meanwhile.
    ///
    /// # Errors
    /// The journal is damaged, or a file cannot be read.
    pub fn of_stopped(looked_at: &LookedAt) -> Result<Self, BackupError> {
        let scan = JournalScan::open(&looked_at.journal())?;
        let Some(last) = scan.len().checked_sub(1) else {
            let path = looked_at.path().display();
            return Err(BackupError::Refused(format!("{path} has no journal to back up")));
        };
        let found = scan.look(last, &mut |_| Ok(()))?;
        if let Some(lost) = found.damages.into_iter().next() {
            return Err(JournalError::Damage(lost.damage).into());
        }
        let reader = scan.reader(found.end);
        let from = From { data_dir: looked_at.path(), reader: &reader, store: None };
        Self::of(from, &|_| Ok(()))
    }

    /// Returns none if the snapshot was deleted before the segments were pinned, or is damaged. As
    /// long as its file exists, compaction removes nothing that the snapshot needs.
    fn try_of(
        from: From<'_>,
        damaged: &mut BTreeSet<Position>,
        step: &Step<'_>,
    ) -> Result<Option<Self>, BackupError> {
        let newest = match newest_snapshot(from, damaged)? {
            None => None,
            Some(newest) => match open(newest)? {
                None => return Ok(None),
                opened => opened,
            },
        };
        let Pinned { segments, counts } = pin(from)?;
        if let Some((newest, _)) = &newest
            && !is_whole(newest, damaged, step)?
        {
            return Ok(None);
        }
        let first = segments.first().map_or(Position::FIRST, PinnedSegment::first);
        let end = segments.last().map_or(Position::FIRST, PinnedSegment::end);
        require_beginning(first, newest.is_some())?;
        // FORMAT comes last: it never says that the journal begins before the pinned segments.
        let small = small_files(from.data_dir)?;
        let about = About {
            instance: instance_id(from.data_dir)?,
            data_format: small.iter().find_map(data_format).unwrap_or_default(),
            first: first.0,
            end: end.0,
            snapshot: newest.as_ref().map(|(newest, _)| newest.position.0),
            counts,
            ..About::default()
        };
        Ok(Some(Self { parts: Part::all(small, newest, segments)?, about }))
    }

    /// Returns the bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(Part::bytes).sum()
    }

    /// Returns the facts of a backup that began at this time.
    pub(super) fn about(&self, at: Timestamp) -> About {
        About { made_at: at, ..self.about.clone() }
    }

    /// Returns the id of the instance.
    pub(super) fn instance(&self) -> &str {
        &self.about.instance
    }
}

/// Pins the segments. A state that is open is met at a moment at which it has applied all of them,
/// so that its counters are those of the backup; under much load that may not succeed.
fn pin(from: From<'_>) -> Result<Pinned, BackupError> {
    let mut segments = from.reader.pin()?;
    let Some(store) = from.store else { return Ok(Pinned { segments, counts: None }) };
    for _ in 0..PINS {
        let end = segments.last().map_or(Position::FIRST, PinnedSegment::end);
        if let Some(counts) = counts_at(store, end) {
            return Ok(Pinned { segments, counts: Some(counts) });
        }
        segments = from.reader.pin()?;
    }
    Ok(Pinned { segments, counts: None })
}

/// Returns the counters of the state once it is of this position, or none if it was missed.
fn counts_at(store: &Store, end: Position) -> Option<BackupCounts> {
    for _ in 0..LOOKS {
        // A state that cannot be read is no matter of the backup, which the journal suffices for.
        let counts = store.counts_at(end).ok().flatten();
        if let Some((counts, organizations)) = counts {
            return Some(BackupCounts {
                organizations: organizations as u64,
                events: counts.events,
                open: counts.open,
                waiting: counts.waiting,
                dead: counts.dead,
            });
        }
        if store.applied() > end {
            break;
        }
        Signal::new().wait(Duration::from_millis(1));
    }
    None
}

/// Returns the newest snapshot within the journal that is not known to be damaged.
fn newest_snapshot(
    from: From<'_>,
    damaged: &BTreeSet<Position>,
) -> Result<Option<SnapshotFile>, BackupError> {
    let positions = from.reader.first()..=from.reader.end();
    let mut found = snapshots_in(&from.data_dir.join(JOURNAL), &OsFiles)?;
    found.retain(|it| positions.contains(&it.position) && !damaged.contains(&it.position));
    Ok(found.pop())
}

/// Opens a snapshot. Returns none if it was deleted.
fn open(snapshot: SnapshotFile) -> Result<Option<(SnapshotFile, File)>, BackupError> {
    match File::open(&snapshot.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_at(&snapshot.path)(error)),
        Ok(file) => Ok(Some((snapshot, file))),
    }
}

/// Reads a snapshot to its end. Returns false if it was deleted or is damaged; a damaged one is
/// added to `damaged`.
fn is_whole(
    snapshot: &SnapshotFile,
    damaged: &mut BTreeSet<Position>,
    step: &Step<'_>,
) -> Result<bool, BackupError> {
    let files: Arc<dyn Files> = Arc::new(OsFiles);
    match read_whole(snapshot, &files, step)? {
        Ok(()) => Ok(true),
        Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(false)
        }
        Err(error @ JournalError::Damage(_)) => {
            let path = snapshot.path.display();
            tracing::error!(%error, %path, "a damaged snapshot is left out of the backup");
            damaged.insert(snapshot.position);
            Ok(false)
        }
        Err(error @ JournalError::Io { .. }) => Err(error.into()),
    }
}

/// Reads a snapshot to its end, at the pace of `step`. The inner error is the snapshot's.
fn read_whole(
    snapshot: &SnapshotFile,
    files: &Arc<dyn Files>,
    step: &Step<'_>,
) -> Result<Result<(), JournalError>, BackupError> {
    let mut reader = match snapshot.open(files) {
        Err(error) => return Ok(Err(error)),
        Ok(reader) => reader,
    };
    let mut read = 0;
    loop {
        match reader.next_rows() {
            Err(error) => return Ok(Err(error)),
            Ok(None) => return Ok(Ok(())),
            Ok(Some(_)) => {}
        }
        let now = reader.bytes_read();
        step(now.saturating_sub(read)).map_err(io_at(&snapshot.path))?;
        read = now;
    }
}

/// Refuses a journal without its beginning, unless a snapshot holds the state before.
fn require_beginning(first: Position, has_snapshot: bool) -> Result<(), BackupError> {
    if has_snapshot || first == Position::FIRST {
        return Ok(());
    }
    Err(BackupError::Damaged(format!(
        "the journal begins at position {first}, and no whole snapshot holds the state before; a \
         backup without it could not be restored"
    )))
}

/// Returns the version of the data directory's format, if this is the file that has it.
fn data_format(file: &SmallFile) -> Option<u32> {
    let text = str::from_utf8(&file.content).ok()?;
    text.split(' ').next()?.parse().ok().filter(|_| file.name == "FORMAT")
}

fn in_journal(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    format!("{JOURNAL}/{name}")
}

impl Part {
    /// The files of a backup, in their order.
    fn all(
        small: Vec<SmallFile>,
        snapshot: Option<(SnapshotFile, File)>,
        segments: Vec<PinnedSegment>,
    ) -> Result<Vec<Self>, BackupError> {
        let small = small
            .into_iter()
            .map(|file| Self { name: file.name.to_owned(), content: Content::Small(file.content) });
        let snapshot = snapshot.map(|(snapshot, file)| Self::of_snapshot(snapshot, file));
        let segments = segments.into_iter().map(|segment| Self {
            name: in_journal(segment.path()),
            content: Content::Segment(segment),
        });
        Ok(small.chain(snapshot.transpose()?).chain(segments).collect())
    }

    fn of_snapshot(snapshot: SnapshotFile, file: File) -> Result<Self, BackupError> {
        let path = snapshot.path;
        let bytes = file.metadata().map_err(io_at(&path))?.len();
        Ok(Self { name: in_journal(&path), content: Content::Snapshot { path, file, bytes } })
    }

    /// Returns the length of the file.
    pub(super) fn bytes(&self) -> u64 {
        match &self.content {
            Content::Segment(segment) => segment.length(),
            Content::Snapshot { bytes, .. } => *bytes,
            Content::Small(content) => content.len() as u64,
        }
    }

    /// Returns the path of the original and a text that identifies its content, if its bytes never
    /// change under its inode.
    pub(super) fn original(&self) -> Option<(&Path, String)> {
        let (path, identity) = match &self.content {
            Content::Segment(segment) if segment.is_sealed() => {
                (segment.path(), segment.identity().ok()?)
            }
            Content::Snapshot { path, file, .. } => {
                let facts = file.metadata().ok()?;
                let changed =
                    i128::from(facts.mtime()) * 1_000_000_000 + i128::from(facts.mtime_nsec());
                (path.as_path(), (facts.dev(), facts.ino(), changed))
            }
            Content::Segment(_) | Content::Small(_) => return None,
        };
        let (device, inode, changed) = identity;
        Some((path, format!("{device} {inode} {changed}")))
    }

    /// Returns the entry of the file in the last backup, if the file is the same.
    pub(super) fn known<'a>(&self, last: &'a BTreeMap<String, Entry>) -> Option<&'a Entry> {
        let (_, identity) = self.original()?;
        let entry = last.get(&self.name)?;
        let is_same = entry.source.as_ref() == Some(&identity) && entry.bytes == self.bytes();
        is_same.then_some(entry)
    }

    /// Reads the file. Returns its entry.
    pub(super) fn summed(&self, step: &Step<'_>) -> Result<Entry, BackupError> {
        let sum = copy(&mut self.read(step), &To::Nowhere)?;
        sum.map(|sum| self.entry(sum)).map_err(io_at(Path::new(&self.name)))
    }

    /// Returns the entry of the file, with the length and the SHA-256 of what was read of it.
    pub(super) fn entry(&self, (bytes, sha256): (u64, String)) -> Entry {
        let source = self.original().map(|(_, identity)| identity);
        Entry { path: self.name.clone(), bytes, sha256, source }
    }

    /// Reads the file.
    pub(super) fn read<'a>(&'a self, step: &'a Step<'a>) -> Reading<'a> {
        Reading { part: self, at: 0, step }
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        match &self.content {
            Content::Segment(segment) => segment.read_at(buffer, at),
            Content::Snapshot { file, .. } => file.read_at(buffer, at),
            Content::Small(content) => {
                let from = usize::try_from(at).unwrap_or(usize::MAX);
                content.get(from..).unwrap_or_default().read(buffer)
            }
        }
    }
}

/// Reads a file of a backup in order.
pub(super) struct Reading<'a> {
    part: &'a Part,
    at: u64,
    step: &'a Step<'a>,
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.part.read_at(buffer, self.at)?;
        self.at += count as u64;
        (self.step)(count as u64)?;
        Ok(count)
    }
}
