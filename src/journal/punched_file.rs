//! The file of a segment that is written again without some of its records. Used by compaction.

use std::fs::File;
use std::path::Path;

use super::error::JournalError;
use super::files::Files;
use super::frame::{Hole, hole_headers};
use super::position::Position;
use super::segment::SEGMENT_HEADER_BYTES;

/// Number of bytes that are written at once.
const RUN_BYTES: usize = 1 << 20;
/// Length of zeros that are written instead of being left out, in bytes. A hole within a block of
/// the filesystem saves nothing.
const GAP_BYTES_MAX: usize = 4096;

/// A file in the making, from its beginning to its end.
pub(super) struct PunchedFile<'a> {
    files: &'a dyn Files,
    file: &'a File,
    path: &'a Path,
    /// The first position of the segment.
    first: Position,
    /// Bytes that are not written yet.
    run: Vec<u8>,
    /// The position of the first of these bytes.
    run_at: Position,
    /// The beginning of the hole that has not ended yet.
    hole: Option<Position>,
}

impl<'a> PunchedFile<'a> {
    pub(super) fn new(
        (files, file, path): (&'a dyn Files, &'a File, &'a Path),
        first: Position,
    ) -> Self {
        Self { files, file, path, first, run: Vec::new(), run_at: first, hole: None }
    }

    /// Writes the header, and gives the empty file its length.
    pub(super) fn begin(&mut self, header: &[u8], len: u64) -> Result<(), JournalError> {
        let written = self.files.write_all_at(self.file, header, 0);
        let begun = written.and_then(|()| self.files.lengthen(self.file, len));
        begun.map_err(JournalError::io(self.path))
    }

    /// Begins a hole at the position, unless the hole before goes on.
    pub(super) fn remove_from(&mut self, position: Position) {
        self.hole.get_or_insert(position);
    }

    /// Writes bytes at the position, and ends the hole before.
    pub(super) fn put(&mut self, position: Position, bytes: &[u8]) -> Result<(), JournalError> {
        self.end_hole(position)?;
        self.add(position, bytes)
    }

    /// Ends the file at the position behind the last record, and syncs it.
    pub(super) fn finish(&mut self, end: Position) -> Result<(), JournalError> {
        self.end_hole(end)?;
        self.flush()?;
        self.files.sync_all(self.file).map_err(JournalError::io(self.path))
    }

    fn end_hole(&mut self, end: Position) -> Result<(), JournalError> {
        let Some(from) = self.hole.take() else { return Ok(()) };
        hole_headers(from, end, Hole::Removed)
            .try_for_each(|(position, header)| self.add(position, &header))
    }

    fn add(&mut self, position: Position, bytes: &[u8]) -> Result<(), JournalError> {
        let gap = usize::try_from(position.since(self.run_at)).unwrap_or(usize::MAX);
        let gap = gap.saturating_sub(self.run.len());
        if gap > GAP_BYTES_MAX || self.run.len() >= RUN_BYTES {
            self.flush()?;
        }
        if self.run.is_empty() {
            self.run_at = position;
        } else {
            self.run.resize(self.run.len() + gap, 0);
        }
        self.run.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        let offset = SEGMENT_HEADER_BYTES + self.run_at.since(self.first);
        if !self.run.is_empty() {
            let written = self.files.write_all_at(self.file, &self.run, offset);
            written.map_err(JournalError::io(self.path))?;
            self.run.clear();
        }
        Ok(())
    }
}
