//! The files that go into a backup, held open as of one moment, from a running server or from a
//! stopped data directory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::error::{BackupError, io_at};
use super::manifest::{Entry, hex};
use crate::commit::newest_whole;
use crate::data_dir::{JOURNAL, LookedAt, SmallFile, small_files};
use crate::journal::{
    Files, JournalError, JournalScan, OsFiles, PinnedSegment, Position, ReadLog as _, Reader,
    SnapshotFile,
};

/// How often the snapshot may be deleted while the segments are pinned, before a backup gives up.
const TRIES: usize = 10;

/// Called with a number of bytes that were read. An error gives the backup up.
pub type Step<'a> = dyn Fn(u64) -> io::Result<()> + 'a;

/// The files of a backup, as of one moment.
pub struct Source {
    /// The data directory.
    pub(super) data_dir: PathBuf,
    pub(super) parts: Vec<Part>,
    pub(super) first: Position,
    pub(super) end: Position,
    pub(super) snapshot: Option<Position>,
    pub(super) data_format: u32,
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
    /// Takes the files of a running server, whose journal this reader reads.
    ///
    /// # Errors
    /// A file cannot be read, or the snapshots change too fast.
    pub fn of_running(data_dir: &Path, reader: &Reader) -> Result<Self, BackupError> {
        for _ in 0..TRIES {
            if let Some(source) = Self::try_of(data_dir, reader)? {
                return Ok(source);
            }
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
        Self::of_running(looked_at.path(), &scan.reader(found.end))
    }

    /// Returns none if the snapshot was deleted before the segments were pinned. As long as its
    /// file exists, compaction removes nothing that the snapshot needs.
    fn try_of(data_dir: &Path, reader: &Reader) -> Result<Option<Self>, BackupError> {
        let Some(newest) = newest_snapshot(&data_dir.join(JOURNAL), reader)? else {
            return Ok(None);
        };
        let segments = reader.pin()?;
        if newest.as_ref().is_some_and(|(newest, _)| !newest.path.exists()) {
            return Ok(None);
        }
        let first = segments.first().map_or(Position::FIRST, PinnedSegment::first);
        let end = segments.last().map_or(Position::FIRST, PinnedSegment::end);
        if newest.is_none() && first > Position::FIRST {
            let message = format!(
                "the journal begins at position {first}, and no whole snapshot holds the state \
                 before; a backup without it could not be restored"
            );
            return Err(BackupError::Damaged(message));
        }
        // FORMAT comes last: it never says that the journal begins before the pinned segments.
        let small = small_files(data_dir)?;
        let data_format = small.iter().find_map(data_format).unwrap_or_default();
        let small = small
            .into_iter()
            .map(|file| Part { name: file.name.to_owned(), content: Content::Small(file.content) });
        let snapshot = newest.as_ref().map(|(newest, _)| newest.position);
        let newest = newest.map(|(newest, file)| Part::of_snapshot(newest, file)).transpose()?;
        let segments = segments.into_iter().map(|segment| Part {
            name: in_journal(segment.path()),
            content: Content::Segment(segment),
        });
        let parts = small.chain(newest).chain(segments).collect();
        let data_dir = data_dir.to_owned();
        Ok(Some(Self { data_dir, parts, first, end, snapshot, data_format }))
    }

    /// Returns the bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(Part::bytes).sum()
    }

    /// Returns the positions: the first, the end, and the snapshot's.
    pub(super) fn positions(&self) -> (u64, u64, Option<u64>) {
        (self.first.0, self.end.0, self.snapshot.map(|position| position.0))
    }
}

/// Returns the newest whole snapshot, opened; the inner none if there is none, the outer if it was
/// deleted meanwhile.
#[expect(clippy::option_option, reason = "the two have different meanings")]
fn newest_snapshot(
    journal: &Path,
    reader: &Reader,
) -> Result<Option<Option<(SnapshotFile, File)>>, BackupError> {
    let files: Arc<dyn Files> = Arc::new(OsFiles);
    let mut damaged = |file: &SnapshotFile, error: &JournalError| {
        let path = file.path.display();
        tracing::error!(%error, %path, "a damaged snapshot is left out of the backup");
    };
    let positions = reader.first()..=reader.end();
    let newest = match newest_whole((journal, &files), &positions, &mut damaged) {
        Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        other => other?,
    };
    let Some(newest) = newest else { return Ok(Some(None)) };
    match File::open(&newest.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_at(&newest.path)(error)),
        Ok(file) => Ok(Some(Some((newest, file)))),
    }
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

    /// Reads the file, and sums what was read.
    pub(super) fn read<'a>(&'a self, step: &'a Step<'a>) -> Reading<'a> {
        Reading { part: self, at: 0, sum: Sha256::new(), step }
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
    sum: Sha256,
    step: &'a Step<'a>,
}

impl Reading<'_> {
    /// Returns the entry of the file, all of which was read.
    pub(super) fn entry(self) -> Entry {
        Entry {
            path: self.part.name.clone(),
            bytes: self.at,
            sha256: hex(&self.sum.finalize()),
            source: self.part.original().map(|(_, identity)| identity),
        }
    }
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.part.read_at(buffer, self.at)?;
        self.sum.update(buffer.get(..count).unwrap_or_default());
        self.at += count as u64;
        (self.step)(count as u64)?;
        Ok(count)
    }
}
