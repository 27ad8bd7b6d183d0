//! Compaction: records that nothing needs any more leave the journal, and every other record keeps
//! its position. Called by the compactor while the server runs. Only sealed segments change, and
//! the caller decides when: this module knows neither records nor snapshots.
//!
//! A segment is written again into another file, which is synced and then takes the name in one
//! step. A range of removed records becomes a hole without disk space, and a record that loses a
//! part of its body becomes shorter and is followed by a hole. So a crash at any instant leaves the
//! former segment or the new one, whole, and so does a copy. Readers that still have the former
//! file go on with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Damage, JournalError};
use super::files::FileFacts;
use super::frame::{FRAME_HEADER_BYTES, Frame, HOLE, Hole, hole_headers};
use super::log::RawRecord;
use super::new_file;
use super::position::Position;
use super::punched_file::PunchedFile;
use super::reader::{Reader, Shared};
use super::segment::{self, SEGMENT_HEADER_BYTES, Segment, Window};

/// Number of bytes after which the pace is asked again.
const PACE_BYTES: u64 = 256 << 10;

/// The decision about a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The record stays as it is.
    Keep,
    /// Nothing needs the record.
    Remove,
    /// The record stays with this body, which is not longer than its own.
    Cut(Vec<u8>),
}

/// A segment, with its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSize {
    /// The first position of the segment.
    pub first: Position,
    /// The first position of the next segment.
    pub end: Position,
    /// The disk space of the file, in bytes.
    pub allocated: u64,
}

/// A part of a segment: a record, or a hole.
#[derive(Debug)]
pub struct Piece<'a> {
    /// The position of the part.
    pub from: Position,
    /// The position behind the part.
    pub to: Position,
    /// The record. Absent for a hole.
    pub record: Option<RawRecord<'a>>,
    /// Set if compaction has removed the record, or a part of it.
    pub is_compacted: bool,
}

/// The result of punching a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Punched {
    /// The disk space of the former file, in bytes.
    pub before: u64,
    /// The disk space of the new file, in bytes.
    pub after: u64,
}

/// Returns the decision about a record, or the reason why the record cannot be read.
pub type Judge<'a> = dyn FnMut(&RawRecord<'_>) -> Result<Decision, String> + 'a;
/// Called with a number of bytes that were read; waits as long as the pace asks. Returns false if
/// the work should be given up.
pub type Pace<'a> = dyn FnMut(u64) -> bool + 'a;

/// Compacts the sealed segments of an open journal.
pub struct Compaction {
    shared: Arc<Shared>,
}

impl Compaction {
    /// Creates the compaction of the journal of this reader.
    pub fn new(reader: &Reader) -> Self {
        Self { shared: reader.shared() }
    }

    /// Removes files that an interrupted compaction left behind, and segments before the beginning
    /// of the journal, which only a copy has.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn clear_drafts(&self) -> Result<(), JournalError> {
        let Shared { dir, files, .. } = &*self.shared;
        let (first, last) = match self.shared.segments().as_slice() {
            [] => return Ok(()),
            [first, .., last] => (first.first, last.first),
            [only] => (only.first, only.first),
        };
        let drafts = files.list(dir).map_err(JournalError::io(dir))?;
        // The writer may be making a later segment.
        let is_left = |path: &PathBuf| {
            let draft_of = new_file::path_of_draft(path);
            draft_of.and_then(|path| segment::first_from_path(&path)).is_some_and(|at| at < last)
                || segment::first_from_path(path).is_some_and(|at| at < first)
        };
        let mut left = drafts.into_iter().filter(is_left);
        left.try_for_each(|path| files.remove(&path).map_err(JournalError::io(&path)))
    }

    /// Returns the oldest position of the journal.
    pub fn first(&self) -> Position {
        self.shared.segments().first().map_or(Position::FIRST, |segment| segment.first)
    }

    /// Returns the segments, the oldest first. The last one is not sealed, and ends at the end of
    /// the journal.
    ///
    /// # Errors
    /// The size of a file cannot be read.
    pub fn segments(&self) -> Result<Vec<SegmentSize>, JournalError> {
        let extents = self.shared.extents();
        let look = |(segment, end): (Arc<Segment>, Position)| {
            let facts = self.shared.files.metadata(&segment.file);
            let allocated = facts.map_err(JournalError::io(&segment.path))?.allocated;
            Ok(SegmentSize { first: segment.first, end, allocated })
        };
        extents.into_iter().map(look).collect()
    }

    /// Asks the writer to seal the segment that begins at `first`, if it is the last one, before it
    /// appends the next group.
    pub fn ask_to_seal(&self, first: Position) {
        self.shared.ask_to_seal(first);
    }

    /// Returns the first positions of the first and of the last segment. They change when a segment
    /// is added or removed.
    pub fn bounds(&self) -> (Position, Position) {
        let segments = self.shared.segments();
        let first_of = |segment: Option<&Arc<Segment>>| {
            segment.map_or(Position::FIRST, |segment| segment.first)
        };
        (first_of(segments.first()), first_of(segments.last()))
    }

    /// Shows `visit` every part of the segment that begins at `first`, until it returns false. Does
    /// nothing if there is no such segment. Returns false if `pace` gave up.
    ///
    /// # Errors
    /// The segment is damaged, or cannot be read.
    pub fn read(
        &self,
        first: Position,
        visit: &mut dyn FnMut(Piece<'_>) -> bool,
        pace: &mut Pace<'_>,
    ) -> Result<bool, JournalError> {
        let extents = self.shared.extents();
        let Some((segment, end)) = extents.into_iter().find(|(known, _)| known.first == first)
        else {
            return Ok(true);
        };
        let mut walk = Walk::new(&self.shared, &segment, end);
        let mut step = |frame: &Frame<'_>| {
            let record = (frame.kind != HOLE).then(|| (*frame).into());
            let read = if record.is_some() { frame.total_bytes } else { 0 };
            let (from, to, is_compacted) = (frame.position, frame.end(), frame.is_compacted());
            Ok((visit(Piece { from, to, record, is_compacted }), read))
        };
        let (mut unpaced, mut is_given_up) = (0, false);
        while let Some((goes_on, read)) = walk.next(&mut step)? {
            unpaced += read;
            is_given_up = unpaced >= PACE_BYTES && !pace(std::mem::take(&mut unpaced));
            if !goes_on || is_given_up {
                break;
            }
        }
        self.drop_cache(&segment);
        Ok(!is_given_up)
    }

    /// Writes the sealed segment that begins at `first` again, as `judge` decides about each
    /// record. Returns `None` if there is no such segment, or `pace` gave up.
    ///
    /// # Errors
    /// The segment is damaged, a record cannot be judged, or a file operation failed. The segment
    /// stays as it was, or is replaced as a whole.
    pub fn punch(
        &self,
        first: Position,
        judge: &mut Judge<'_>,
        pace: &mut Pace<'_>,
    ) -> Result<Option<Punched>, JournalError> {
        let Some((segment, end)) = self.find(first) else { return Ok(None) };
        let files = &self.shared.files;
        let facts = files.metadata(&segment.file).map_err(JournalError::io(&segment.path))?;
        let mut write = |file: &File, path: &Path| {
            let made = files.metadata(file).map_err(JournalError::io(path))?;
            let header = segment::encode_header(first, FileFacts { len: facts.len, ..made });
            let mut out = PunchedFile::new((files.as_ref(), file, path), first);
            out.begin(&header, facts.len)?;
            let walk = Walk::new(&self.shared, &segment, end);
            Ok(fill(walk, &mut out, judge, pace)? && out.finish(end).map(|()| true)?)
        };
        let draft = new_file::draft_of(&segment.path);
        let mut punch = || {
            let Some(file) = self.make(&draft, &mut write)? else { return Ok(None) };
            let after = files.metadata(&file).map_err(JournalError::io(&draft))?.allocated;
            self.replace(&segment, file, facts.len)?;
            Ok(Some(Punched { before: facts.allocated, after }))
        };
        let punched = punch();
        if punched.is_err() {
            // The disk may be full. A draft that is left is removed before the next try.
            drop(files.remove(&draft));
        }
        punched
    }

    /// Removes all segments that end at `first` or before. The caller must have witnessed that the
    /// journal may begin at `first`. Returns the number and the disk space of the removed files.
    ///
    /// # Errors
    /// A file operation failed. Later segments are not removed then.
    pub fn remove_before(&self, first: Position) -> Result<(u64, u64), JournalError> {
        let Shared { dir, files, .. } = &*self.shared;
        let mut removed = (0, 0);
        while let Some(segment) = self.oldest_before(first) {
            let facts = files.metadata(&segment.file).map_err(JournalError::io(&segment.path))?;
            segment.length_changes();
            if let Err(error) = files.remove(&segment.path) {
                segment.length_is(facts.len);
                return Err(JournalError::io(&segment.path)(error));
            }
            self.shared.segments_mut().retain(|kept| kept.first != segment.first);
            // Synced for each file, so that a power cut leaves no gap between the segments.
            files.sync_dir(dir).map_err(JournalError::io(dir))?;
            removed = (removed.0 + 1, removed.1 + facts.allocated);
        }
        Ok(removed)
    }

    fn oldest_before(&self, first: Position) -> Option<Arc<Segment>> {
        let segments = self.shared.segments();
        let next = segments.get(1)?.first;
        segments.first().filter(|_| next <= first).cloned()
    }

    /// Returns the sealed segment that begins at `first`, and its end.
    fn find(&self, first: Position) -> Option<(Arc<Segment>, Position)> {
        let segments = self.shared.segments();
        let at = segments.binary_search_by_key(&first, |segment| segment.first).ok()?;
        Some((Arc::clone(segments.get(at)?), segments.get(at + 1)?.first))
    }

    /// Makes a synced file with the name `draft`. `None` if `write` gave up. The file has no name
    /// while it is written, so that a copy does not meet it.
    fn make(&self, draft: &Path, write: &mut Write<'_>) -> Result<Option<File>, JournalError> {
        let Shared { dir, files, .. } = &*self.shared;
        let at_draft = || JournalError::io(draft);
        new_file::remove_left(files.as_ref(), draft).map_err(at_draft())?;
        let unnamed = new_file::create_unnamed(files.as_ref(), dir);
        if let Some(file) = unnamed.map_err(JournalError::io(dir))? {
            if !write(&file, draft)? {
                return Ok(None);
            }
            if new_file::give_name(files.as_ref(), &file, draft).map_err(at_draft())? {
                return new_file::open_named(files.as_ref(), draft).map(Some).map_err(at_draft());
            }
        }
        let file = new_file::create_draft(files.as_ref(), draft).map_err(at_draft())?;
        if write(&file, draft)? {
            return Ok(Some(file));
        }
        files.remove(draft).map(|()| None).map_err(at_draft())
    }

    /// Gives the name of a segment to its new file, and shows readers the new file.
    fn replace(&self, segment: &Segment, file: File, len: u64) -> Result<(), JournalError> {
        let Shared { dir, files, .. } = &*self.shared;
        let draft = new_file::draft_of(&segment.path);
        // The watch does not judge the former file any more.
        segment.length_changes();
        if let Err(error) = files.rename(&draft, &segment.path) {
            segment.length_is(len);
            return Err(JournalError::io(&segment.path)(error));
        }
        let new = Arc::new(Segment::new(segment.first, segment.path.clone(), file));
        new.length_is(len);
        for known in self.shared.segments_mut().iter_mut() {
            if known.first == new.first {
                *known = Arc::clone(&new);
            }
        }
        self.drop_cache(&new);
        files.sync_dir(dir).map_err(JournalError::io(dir))
    }

    /// Drops the segment from the page cache, unless it is one of the last two.
    fn drop_cache(&self, segment: &Segment) {
        let is_new =
            self.shared.segments().iter().rev().take(2).any(|new| new.first == segment.first);
        if !is_new && let Err(error) = self.shared.files.drop_cache(&segment.file) {
            tracing::debug!(%error, segment = %segment.path.display(), "the kernel keeps the \
                segment in memory");
        }
    }
}

/// Writes and syncs a whole file. Returns false if the work was given up.
type Write<'a> = dyn FnMut(&File, &Path) -> Result<bool, JournalError> + 'a;

/// Writes every record as `judge` decides. Returns false if `pace` gave up.
fn fill(
    mut walk: Walk<'_>,
    out: &mut PunchedFile<'_>,
    judge: &mut Judge<'_>,
    pace: &mut Pace<'_>,
) -> Result<bool, JournalError> {
    let mut unpaced = 0;
    loop {
        let step = walk.next(&mut |frame| decide(frame, judge))?;
        let Some(step) = step else { return Ok(true) };
        match step {
            Step::Copy => {
                let (position, bytes) = walk.last_bytes()?;
                out.put(position, bytes)?;
            }
            Step::Put(position, bytes, hole) => {
                out.put(position, &bytes)?;
                if let Some(from) = hole {
                    out.remove_from(from);
                }
            }
            Step::Remove(from) => out.remove_from(from),
        }
        unpaced += walk.last;
        if unpaced >= PACE_BYTES && !pace(std::mem::take(&mut unpaced)) {
            return Ok(false);
        }
    }
}

/// A step of writing a segment again.
enum Step {
    /// The bytes of the part stay as they are.
    Copy,
    /// These bytes stand at the position. If the second position is given, a hole begins there.
    Put(Position, Vec<u8>, Option<Position>),
    /// A hole begins at the position, or goes on there.
    Remove(Position),
}

fn decide(frame: &Frame<'_>, judge: &mut Judge<'_>) -> Result<Step, String> {
    if frame.is_hole(Hole::Removed) {
        return Ok(Step::Remove(frame.position));
    }
    if let Some((position, header)) = lost_header(frame) {
        return Ok(Step::Put(position, header.to_vec(), None));
    }
    Ok(match judge(&(*frame).into())? {
        Decision::Keep => Step::Copy,
        Decision::Remove => Step::Remove(frame.position),
        Decision::Cut(body) => {
            let (bytes, left) = frame.cut_to(&body).ok_or("a cut record became longer")?;
            let hole = (left > 0).then(|| frame.position.plus(bytes.len() as u64));
            Step::Put(frame.position, bytes, hole)
        }
    })
}

/// Returns the header of the frame if it stands for lost records.
fn lost_header(frame: &Frame<'_>) -> Option<(Position, [u8; FRAME_HEADER_BYTES])> {
    let is_lost = frame.is_hole(Hole::Lost);
    hole_headers(frame.position, frame.end(), Hole::Lost).next().filter(|_| is_lost)
}

/// The frames of a sealed segment in order.
struct Walk<'a> {
    shared: &'a Shared,
    window: Window,
    offset: u64,
    /// The number of bytes of the last frame.
    last: u64,
}

impl<'a> Walk<'a> {
    fn new(shared: &'a Shared, segment: &Arc<Segment>, end: Position) -> Self {
        let limit = segment.offset_of(end);
        let window = Window::new(Arc::clone(&shared.files), Arc::clone(segment), limit);
        Self { shared, window, offset: SEGMENT_HEADER_BYTES, last: 0 }
    }

    /// Passes the next frame to `step`. `None` at the end of the segment.
    fn next<T>(
        &mut self,
        step: &mut dyn FnMut(&Frame<'_>) -> Result<T, String>,
    ) -> Result<Option<T>, JournalError> {
        let offset = self.offset;
        if offset >= self.window.limit() {
            return Ok(None);
        }
        let path = self.window.segment().path.clone();
        let read = self.window.frame_at(offset).map_err(JournalError::reading(&path));
        let stepped = read.and_then(|frame| {
            let frame = frame.map_err(str::to_owned);
            let stepped = frame.and_then(|frame| Ok((frame.total_bytes, step(&frame)?)));
            stepped.map_err(|why| JournalError::Damage(Damage::new(&path, offset, why)))
        });
        if let Err(JournalError::Damage(damage)) = &stepped {
            self.shared.note_damage(damage);
        }
        let (bytes, stepped) = stepped?;
        (self.offset, self.last) = (offset + bytes, bytes);
        Ok(Some(stepped))
    }

    /// Returns the position and the bytes of the last frame.
    fn last_bytes(&mut self) -> Result<(Position, &[u8]), JournalError> {
        let (from, path) = (self.offset - self.last, self.window.segment().path.clone());
        let position = self.window.segment().position_at(from);
        let want = usize::try_from(self.last).unwrap_or(usize::MAX);
        let bytes = self.window.view(from, want).map_err(JournalError::reading(&path))?;
        Ok((position, bytes.get(..want).unwrap_or_default()))
    }
}

#[cfg(test)]
#[path = "compact_tests.rs"]
mod tests;
