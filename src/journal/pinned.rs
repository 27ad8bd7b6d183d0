//! The segments of a journal as of one moment, for a backup. Each is held open, so its bytes stay
//! readable although compaction replaces or removes the file meanwhile.

use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use super::error::JournalError;
use super::position::Position;
use super::reader::Reader;
use super::scan::JournalScan;
use super::segment::{SEGMENT_HEADER_BYTES, Segment};

/// Offset and length of the file's length in a segment header.
const LENGTH_AT: u64 = 32;
const LENGTH_BYTES: usize = 8;

/// A segment with its synced records, as they were when it was pinned.
#[derive(Debug)]
pub struct PinnedSegment {
    segment: Arc<Segment>,
    end: Position,
    is_sealed: bool,
    length: u64,
}

impl PinnedSegment {
    fn of(segment: Arc<Segment>, end: Position, is_sealed: bool) -> Result<Self, JournalError> {
        let mut bytes = [0; LENGTH_BYTES];
        let read = segment.file.read_exact_at(&mut bytes, LENGTH_AT);
        let facts = read.and_then(|()| segment.file.metadata());
        let facts = facts.map_err(JournalError::io(&segment.path))?;
        // A file that is shorter than its header says would be refused as cut.
        let length = facts.len().max(u64::from_be_bytes(bytes));
        Ok(Self { segment, end, is_sealed, length })
    }

    /// Returns the path of the segment. Another file may have the name by now.
    pub fn path(&self) -> &Path {
        &self.segment.path
    }

    /// Returns true if the bytes of the file never change.
    pub fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// Returns the first position of the segment.
    pub fn first(&self) -> Position {
        self.segment.first
    }

    /// Returns the position behind the last synced record.
    pub fn end(&self) -> Position {
        self.end
    }

    /// Returns the length of the file, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the device, the inode, and the time of the last change of the content, in
    /// nanoseconds. Together with the length they identify a file whose bytes never change.
    ///
    /// # Errors
    /// The facts of the file cannot be read.
    pub fn identity(&self) -> io::Result<(u64, u64, i128)> {
        let facts = self.segment.file.metadata()?;
        let changed = i128::from(facts.mtime()) * 1_000_000_000 + i128::from(facts.mtime_nsec());
        Ok((facts.dev(), facts.ino(), changed))
    }

    /// Reads the bytes at an offset: the header, the records up to the end, then zeros up to the
    /// length. Returns the number of bytes; 0 at the end of the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = left.min(buffer.len());
        let Some(target) = buffer.get_mut(..want).filter(|target| !target.is_empty()) else {
            return Ok(0);
        };
        let content = if self.is_sealed { self.length } else { self.segment.offset_of(self.end) };
        let written = usize::try_from(content.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (bytes, zeros) = target.split_at_mut(written.min(want));
        zeros.fill(0);
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.segment.file.read_at(rest, offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(want)
    }
}

impl Reader {
    /// Pins all segments, the oldest first. A last segment without records is left out if there
    /// are others.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn pin(&self) -> Result<Vec<PinnedSegment>, JournalError> {
        let extents = self.shared().extents();
        let count = extents.len();
        let pin = |(number, (segment, end)): (usize, (Arc<Segment>, Position))| {
            let is_sealed = number + 1 < count;
            let is_empty = !is_sealed && segment.first == end && count > 1;
            (!is_empty).then(|| PinnedSegment::of(segment, end, is_sealed))
        };
        extents.into_iter().enumerate().filter_map(pin).collect()
    }
}

/// Ends a journal that no server uses at an earlier position: removes the later segments, and the
/// later bytes of the last one, which keeps its length.
///
/// # Errors
/// A file operation failed.
pub fn end_at(scan: &JournalScan, end: Position) -> Result<(), JournalError> {
    let (dir, files) = scan.place();
    for (segment, len) in scan.segments() {
        let at = || JournalError::io(&segment.path);
        if segment.first >= end {
            files.remove(&segment.path).map_err(at())?;
            continue;
        }
        let offset = SEGMENT_HEADER_BYTES + end.since(segment.first);
        if offset < len {
            let file = files.open(&segment.path).map_err(at())?;
            files.erase(&file, offset, len).map_err(at())?;
            files.sync_all(&file).map_err(at())?;
        }
    }
    files.sync_dir(dir).map_err(JournalError::io(dir))
}

#[cfg(test)]
#[path = "pinned_tests.rs"]
mod tests;
