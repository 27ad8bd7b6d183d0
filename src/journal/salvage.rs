//! Repairing a damaged journal. Whole frames keep their positions, and a lost range becomes a hole,
//! a frame of its own kind that readers skip. Called by rebuild while no server runs, with the
//! findings of [`JournalScan`](super::JournalScan).
//!
//! A segment is rewritten beside the damaged file, synced, and takes its place in one step. Before
//! this step the damaged file goes into a directory for damaged files. So a crash at any instant
//! leaves a journal that can be salvaged again.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Damage, JournalError};
use super::files::{FileFacts, Files};
use super::frame::{FRAME_HEADER_BYTES, Group, Hole, hole_headers};
use super::log::RawRecord;
use super::new_file;
use super::position::Position;
use super::scan::{Lost, SegmentFound};
use super::segment::{self, SEGMENT_HEADER_BYTES, Segment, Window};

/// Number of bytes that are copied at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The plan for salvaging a journal.
pub struct Salvage<'a> {
    /// The directory of the journal.
    pub dir: &'a Path,
    /// The file operations for reading and writing.
    pub files: Arc<dyn Files>,
    /// The directory for damaged files. It must not exist yet and must be on the same filesystem.
    pub aside: &'a Path,
    /// Records that describe lost ranges, each for the beginning of a range.
    pub notes: &'a [RawRecord<'a>],
}

impl Salvage<'_> {
    /// Rewrites every segment that is damaged or has a torn end, and writes the beginning if it is
    /// missing. Returns the files that were set aside.
    pub fn run(
        &self,
        beginning: Option<&Lost>,
        segments: &[SegmentFound],
    ) -> Result<Vec<PathBuf>, JournalError> {
        let damaged =
            segments.iter().filter(|found| !found.damages.is_empty() || found.tail.is_some());
        let damaged: Vec<&SegmentFound> = damaged.collect();
        if let Some(newer) = damaged.iter().find(|found| found.unknown_format) {
            return Err(JournalError::Damage(Damage::new(&newer.path, 0, segment::UNKNOWN_FORMAT)));
        }
        for lost in damaged.iter().flat_map(|found| &found.damages).chain(beginning) {
            self.hole_bytes(lost)?;
        }
        self.files.create_dir(self.aside).map_err(JournalError::io(self.aside))?;
        let parent = self.aside.parent().unwrap_or(Path::new("."));
        self.files.sync_dir(parent).map_err(JournalError::io(parent))?;
        if let Some(lost) = beginning {
            self.write_beginning(lost)?;
        }
        damaged.into_iter().map(|found| self.rewrite(found)).collect()
    }

    fn write_beginning(&self, lost: &Lost) -> Result<(), JournalError> {
        let path = segment::path_of(self.dir, lost.from);
        let draft = new_file::draft_of(&path);
        let file = self.begin(&draft, lost.from..lost.to)?;
        self.write_hole(&file, &draft, lost, lost.from)?;
        self.put_in_place(&file, &draft, &path)
    }

    fn rewrite(&self, found: &SegmentFound) -> Result<PathBuf, JournalError> {
        let draft = new_file::draft_of(&found.path);
        let damaged =
            self.files.open_to_read(&found.path).map_err(JournalError::io(&found.path))?;
        let file = self.begin(&draft, found.first..found.end)?;
        let mut kept_from = found.first;
        for lost in &found.damages {
            self.copy((&damaged, &found.path), (&file, &draft), found.first, kept_from..lost.from)?;
            self.write_hole(&file, &draft, lost, found.first)?;
            kept_from = lost.to;
        }
        self.copy((&damaged, &found.path), (&file, &draft), found.first, kept_from..found.end)?;
        let aside = self.aside.join(found.path.file_name().unwrap_or_default());
        // A filesystem without hard links gets a copy.
        let kept = self
            .files
            .link(&found.path, &aside)
            .or_else(|_no_links| self.copy_aside(found, damaged, &aside));
        kept.and_then(|()| self.files.sync_dir(self.aside)).map_err(JournalError::io(&aside))?;
        self.put_in_place(&file, &draft, &found.path)?;
        Ok(aside)
    }

    fn put_in_place(&self, file: &File, draft: &Path, path: &Path) -> Result<(), JournalError> {
        let put = self.files.sync_all(file).and_then(|()| self.files.rename(draft, path));
        put.and_then(|()| self.files.sync_dir(self.dir)).map_err(JournalError::io(path))
    }

    fn note_at(&self, position: Position) -> Option<&RawRecord<'_>> {
        self.notes.iter().find(|note| note.position == position)
    }

    /// Returns the number of bytes that a hole must bridge, after the note if there is one.
    fn hole_bytes(&self, lost: &Lost) -> Result<u64, JournalError> {
        let note = self.note_at(lost.from).filter(|_| lost.to > lost.from);
        let note = note.map_or(0, |note| (FRAME_HEADER_BYTES + note.body.len()) as u64);
        let all = lost.to.since(lost.from);
        match all.checked_sub(note) {
            Some(bytes) if bytes == 0 || bytes >= FRAME_HEADER_BYTES as u64 => Ok(bytes),
            _ => {
                let reason = format!(
                    "{all} bytes are lost there, too few for a frame in their place; {}",
                    lost.damage.reason
                );
                Err(JournalError::Damage(Damage { reason, ..lost.damage.clone() }))
            }
        }
    }

    fn write_hole(
        &self,
        file: &File,
        path: &Path,
        lost: &Lost,
        first: Position,
    ) -> Result<(), JournalError> {
        let write = |bytes: &[u8], at: Position| {
            let offset = SEGMENT_HEADER_BYTES + at.since(first);
            self.files.write_all_at(file, bytes, offset).map_err(JournalError::io(path))
        };
        let left = self.hole_bytes(lost)?;
        if let Some(note) = self.note_at(lost.from).filter(|_| lost.to > lost.from) {
            let mut group = Group::new();
            let pushed =
                group.push(note.kind, note.version, |body| body.extend_from_slice(&note.body));
            pushed.map_err(|refused| JournalError::io(path)(io::Error::other(refused)))?;
            write(group.stamp(lost.from, &mut Vec::new()), lost.from)?;
        }
        let from = Position(lost.to.0.saturating_sub(left));
        hole_headers(from, lost.to, Hole::Lost).try_for_each(|(at, header)| write(&header, at))
    }

    /// Creates a file with the header of a segment that will hold these positions. A leftover of an
    /// earlier salvage is replaced.
    fn begin(&self, draft: &Path, positions: Range<Position>) -> Result<File, JournalError> {
        let made = new_file::create_draft(self.files.as_ref(), draft);
        let made = made.and_then(|file| {
            let len = SEGMENT_HEADER_BYTES + positions.end.since(positions.start);
            let facts = FileFacts { len, ..self.files.metadata(&file)? };
            let header = segment::encode_header(positions.start, facts);
            self.files.write_all_at(&file, &header, 0)?;
            self.files.lengthen(&file, len)?;
            Ok(file)
        });
        made.map_err(JournalError::io(draft))
    }

    /// Copies these positions of the segment that begins at `first` to the same offsets. An error
    /// names the file that caused it.
    fn copy(
        &self,
        (from, from_path): (&File, &Path),
        (to, to_path): (&File, &Path),
        first: Position,
        positions: Range<Position>,
    ) -> Result<(), JournalError> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut at = positions.start;
        while at < positions.end {
            let want = usize::try_from(positions.end.since(at))
                .map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            let offset = SEGMENT_HEADER_BYTES + at.since(first);
            let bytes = chunk.get_mut(..want).unwrap_or_default();
            if self.files.read_at(from, bytes, offset).map_err(JournalError::io(from_path))? < want
            {
                return Err(JournalError::io(from_path)(io::ErrorKind::UnexpectedEof.into()));
            }
            // The new file has zeros already, without disk space.
            if bytes.iter().any(|byte| *byte != 0) {
                self.files.write_all_at(to, bytes, offset).map_err(JournalError::io(to_path))?;
            }
            at = at.plus(want as u64);
        }
        Ok(())
    }

    /// Copies the damaged file, except for bytes that the disk cannot read.
    fn copy_aside(&self, found: &SegmentFound, damaged: File, aside: &Path) -> io::Result<()> {
        let segment = Arc::new(Segment::new(found.first, found.path.clone(), damaged));
        let mut window = Window::patient(Arc::clone(&self.files), segment, found.bytes);
        let copy = self.files.create_new(aside)?;
        let mut at = 0;
        while at < found.bytes {
            let bytes = window.view(at, 1)?;
            if bytes.is_empty() {
                break;
            }
            self.files.write_all_at(&copy, bytes, at)?;
            at += bytes.len() as u64;
        }
        self.files.sync_all(&copy)
    }
}

#[cfg(test)]
#[path = "salvage_tests.rs"]
mod tests;
