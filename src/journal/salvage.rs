//! Making a damaged journal whole again: everything that is not damaged stays
//! at its position, and what is lost becomes a hole, a frame of its own kind that
//! readers pass over. Called by rebuild while no server runs, with what
//! [`Survey`](super::Survey) found.
//!
//! A segment is written anew beside the damaged file, synced, and takes its place
//! in one step; the damaged file goes into a directory of its own before that. So
//! a crash at any instant leaves a journal that can be salvaged again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::error::{Damage, JournalError};
use super::files::{Files, OsFiles};
use super::frame::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, Group, Position};
use super::segment::{self, SEGMENT_HEADER_BYTES};
use super::survey::{Lost, SegmentFound};

/// How much is copied at a time, in bytes.
const PORTION_BYTES: usize = 1 << 20;

/// A frame that takes the place of lost ones: what is to be known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where the lost range begins, at the front of which it goes.
    pub at: Position,
    /// Its kind.
    pub kind: u8,
    /// Version of the body's encoding.
    pub version: u8,
    /// The content.
    pub body: Vec<u8>,
}

/// What is to be made of a journal.
pub struct Salvage<'a> {
    /// The journal's directory.
    pub dir: &'a Path,
    /// Where the damaged files go. It must not exist yet, on the same filesystem.
    pub aside: &'a Path,
    /// What takes the place of what.
    pub notes: &'a [Note],
}

impl Salvage<'_> {
    /// Writes anew what is damaged or has a torn end, and the beginning if that is missing. Returns the files that were
    /// set aside.
    pub fn run(&self, beginning: Option<&Lost>, segments: &[SegmentFound]) -> Result<Vec<PathBuf>, JournalError> {
        let damaged = segments.iter().filter(|found| !found.damages.is_empty() || found.tail.is_some());
        let damaged: Vec<&SegmentFound> = damaged.collect();
        if let Some(newer) = damaged.iter().find(|found| found.unknown_format) {
            return Err(JournalError::Damage(Damage::new(&newer.path, 0, segment::UNKNOWN_FORMAT)));
        }
        for lost in damaged.iter().flat_map(|found| &found.damages).chain(beginning) {
            self.hole_bytes(lost)?;
        }
        OsFiles.create_dir(self.aside).map_err(JournalError::io(self.aside))?;
        let parent = self.aside.parent().unwrap_or(Path::new("."));
        OsFiles.sync_dir(parent).map_err(JournalError::io(parent))?;
        if let Some(lost) = beginning {
            self.write_beginning(lost)?;
        }
        damaged.into_iter().map(|found| self.rewrite(found)).collect()
    }

    fn write_beginning(&self, lost: &Lost) -> Result<(), JournalError> {
        let path = segment::path_of(self.dir, lost.from);
        let draft = draft_of(&path);
        let file = begin(&draft, lost.from)?;
        self.write_hole(&file, &draft, lost, lost.from)?;
        self.put_in_place(&file, &draft, &path)
    }

    fn rewrite(&self, found: &SegmentFound) -> Result<PathBuf, JournalError> {
        let draft = draft_of(&found.path);
        let damaged = File::open(&found.path).map_err(JournalError::io(&found.path))?;
        let file = begin(&draft, found.first)?;
        let mut kept_from = found.first;
        for lost in &found.damages {
            copy(&damaged, &file, found.first, kept_from..lost.from).map_err(JournalError::io(&draft))?;
            self.write_hole(&file, &draft, lost, found.first)?;
            kept_from = lost.to;
        }
        copy(&damaged, &file, found.first, kept_from..found.end).map_err(JournalError::io(&draft))?;
        let aside = self.aside.join(found.path.file_name().unwrap_or_default());
        // A filesystem without hard links gets a copy.
        let kept = fs::hard_link(&found.path, &aside).or_else(|_no_links| {
            fs::copy(&found.path, &aside)?;
            File::open(&aside)?.sync_all()
        });
        kept.and_then(|()| OsFiles.sync_dir(self.aside)).map_err(JournalError::io(&aside))?;
        self.put_in_place(&file, &draft, &found.path)?;
        Ok(aside)
    }

    fn put_in_place(&self, file: &File, draft: &Path, path: &Path) -> Result<(), JournalError> {
        let put = OsFiles.sync_all(file).and_then(|()| fs::rename(draft, path));
        put.and_then(|()| OsFiles.sync_dir(self.dir)).map_err(JournalError::io(path))
    }

    fn note_at(&self, position: Position) -> Option<&Note> {
        self.notes.iter().find(|note| note.at == position)
    }

    /// How many bytes a hole must bridge, behind the note if there is one.
    fn hole_bytes(&self, lost: &Lost) -> Result<u64, JournalError> {
        let note = self.note_at(lost.from).filter(|_| lost.to > lost.from);
        let note = note.map_or(0, |note| (FRAME_HEADER_BYTES + note.body.len()) as u64);
        let all = lost.to.since(lost.from);
        match all.checked_sub(note) {
            Some(bytes) if bytes == 0 || bytes >= FRAME_HEADER_BYTES as u64 => Ok(bytes),
            _ => {
                let reason = format!("{all} bytes are lost there, too few to be bridged; {}", lost.damage.reason);
                Err(JournalError::Damage(Damage { reason, ..lost.damage.clone() }))
            }
        }
    }

    fn write_hole(&self, file: &File, path: &Path, lost: &Lost, first: Position) -> Result<(), JournalError> {
        let mut left = self.hole_bytes(lost)?;
        let mut group = Group::new();
        let mut at = lost.from;
        if let Some(note) = self.note_at(at).filter(|_| lost.to > lost.from) {
            let pushed = group.push(note.kind, note.version, |body| body.extend_from_slice(&note.body));
            pushed.map_err(|refused| JournalError::io(path)(io::Error::other(refused)))?;
        }
        while left > 0 || !group.is_empty() {
            // What remains must have room for a header.
            let take = if left <= FRAME_BYTES_MAX { left } else { FRAME_BYTES_MAX - FRAME_HEADER_BYTES as u64 };
            if let Some(body) = usize::try_from(take).ok().and_then(|take| take.checked_sub(FRAME_HEADER_BYTES)) {
                group.push_hole(body).map_err(|refused| JournalError::io(path)(io::Error::other(refused)))?;
            }
            left -= take;
            let bytes = group.stamp(at, &mut Vec::new());
            let offset = SEGMENT_HEADER_BYTES + at.since(first);
            OsFiles.write_all_at(file, bytes, offset).map_err(JournalError::io(path))?;
            at = at.plus(bytes.len() as u64);
            group.clear();
        }
        Ok(())
    }
}

/// A file with a segment's header. One that an earlier salvage left is made anew.
fn begin(draft: &Path, first: Position) -> Result<File, JournalError> {
    let made = match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => OsFiles.create_new(draft),
    };
    let made = made.and_then(|file| {
        let header = segment::encode_header(first, OsFiles.metadata(&file)?);
        OsFiles.write_all_at(&file, &header, 0)?;
        Ok(file)
    });
    made.map_err(JournalError::io(draft))
}

/// The name under which a segment is written: not one of a segment.
fn draft_of(path: &Path) -> PathBuf {
    path.with_extension("seg.new")
}

/// Copies the bytes of these positions of the segment that begins at `first`.
fn copy(from: &File, to: &File, first: Position, positions: std::ops::Range<Position>) -> io::Result<()> {
    let mut portion = vec![0; PORTION_BYTES];
    let mut at = positions.start;
    while at < positions.end {
        let want = usize::try_from(positions.end.since(at)).map_or(PORTION_BYTES, |left| left.min(PORTION_BYTES));
        let offset = SEGMENT_HEADER_BYTES + at.since(first);
        let bytes = portion.get_mut(..want).unwrap_or_default();
        if OsFiles.read_at(from, bytes, offset)? < want {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        OsFiles.write_all_at(to, bytes, offset)?;
        at = at.plus(want as u64);
    }
    Ok(())
}

#[cfg(test)]
#[path = "salvage_tests.rs"]
mod tests;
