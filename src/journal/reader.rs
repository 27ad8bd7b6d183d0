//! Reading the journal: one record by its position, or many in order. A reader sees only synced
//! frames, also while the writer appends.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::error::{Damage, ReadError};
use super::files::Files;
use super::frame::{self, FRAME_HEADER_BYTES, Frame, HOLE, Hole};
use super::log::{Follow, RawRecord, ReadLog};
use super::position::Position;
#[cfg(test)]
use super::segment::SegmentInfo;
use super::segment::{SEGMENT_HEADER_BYTES, Segment, Window};

/// Number of bytes that a read by position fetches at first. Most frames are shorter.
const GUESS_BYTES: usize = 4096;

/// The state that the writer and all readers share.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) files: Arc<dyn Files>,
    /// The segments, in order and without gaps.
    segments: RwLock<Vec<Arc<Segment>>>,
    /// The end of the synced frames.
    end: AtomicU64,
    /// The position of the last group that was appended since the journal was opened. Zero if there
    /// was no group.
    last_group: AtomicU64,
    /// Set when a read found bytes that differ from the written bytes.
    damaged: AtomicBool,
    /// The first position of the segment that the writer is asked to seal. Zero if there is none.
    seal_asked: AtomicU64,
    /// Tells if a new segment may have so many bytes.
    room: OnceLock<RoomFor>,
}

/// Returns true if the disk has room for a new segment of so many bytes.
pub type RoomFor = Box<dyn Fn(u64) -> bool + Send + Sync>;

impl Shared {
    pub(super) fn new(
        dir: PathBuf,
        files: Arc<dyn Files>,
        segments: Vec<Arc<Segment>>,
        end: Position,
    ) -> Self {
        let (segments, end) = (RwLock::new(segments), AtomicU64::new(end.0));
        let (last_group, seal_asked) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            dir,
            files,
            segments,
            end,
            last_group,
            damaged: false.into(),
            seal_asked,
            room: OnceLock::new(),
        }
    }

    /// From now on a new segment is made only if `room` agrees.
    pub(super) fn ask_for_room(&self, room: RoomFor) {
        drop(self.room.set(room));
    }

    /// Returns the error of a full disk if a new segment may not have so many bytes.
    pub(super) fn require_room(&self, bytes: u64) -> io::Result<()> {
        let has_room = self.room.get().is_none_or(|room| room(bytes));
        if has_room { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    /// Asks the writer to seal the segment that begins at `first` before the next group.
    pub(super) fn ask_to_seal(&self, first: Position) {
        self.seal_asked.store(first.0, Ordering::SeqCst);
    }

    pub(super) fn is_seal_asked(&self, first: Position) -> bool {
        self.seal_asked.load(Ordering::SeqCst) == first.0
    }

    pub(super) fn end(&self) -> Position {
        Position(self.end.load(Ordering::Acquire))
    }

    /// Shows the readers the group from `from` to `end`, which must be synced.
    pub(super) fn publish(&self, from: Position, end: Position) {
        self.last_group.store(from.0, Ordering::Release);
        self.end.store(end.0, Ordering::Release);
    }

    pub(super) fn last_group(&self) -> Option<Position> {
        Some(self.last_group.load(Ordering::Acquire)).filter(|from| *from > 0).map(Position)
    }

    pub(super) fn segments(&self) -> RwLockReadGuard<'_, Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn segments_mut(&self) -> RwLockWriteGuard<'_, Vec<Arc<Segment>>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs damage that was found while the server runs, and remembers it.
    pub(super) fn note_damage(&self, damage: &Damage) {
        let advice = "stop the server and run `triggerd verify`; see docs/operations.md, exit code \
            3";
        tracing::error!(%damage, advice, "the journal is damaged");
        self.damaged.store(true, Ordering::SeqCst);
    }

    /// Logs an error of a read, and remembers that the journal is damaged.
    fn note(&self, error: &ReadError, position: Position) {
        match error {
            ReadError::NotWritten(_) | ReadError::Removed(_) => {}
            ReadError::Damage(_) | ReadError::Io { .. } => {
                let advice = "stop the server and run `triggerd verify`; see docs/operations.md, \
                    exit code 3";
                tracing::error!(%error, position = position.0, advice, "the journal cannot be \
                    read at this position");
                self.damaged.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Returns every segment with its end.
    pub(super) fn extents(&self) -> VecDeque<(Arc<Segment>, Position)> {
        // No segment is added while the list is locked, so the end, which is read later, lies in
        // the last segment.
        let segments = self.segments();
        let ends = segments.iter().skip(1).map(|next| next.first);
        segments.iter().cloned().zip(ends.chain([self.end()])).collect()
    }
}

/// The sizes of all segment files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The number of segments.
    pub segments: u64,
    /// The length of the files, in bytes.
    pub bytes: u64,
    /// The disk space of the files, in bytes. Holes take none.
    pub allocated: u64,
}

/// Reads records. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// A reader of a journal without frames.
    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        let files = Arc::new(super::files::OsFiles);
        Self::new(Arc::new(Shared::new(PathBuf::new(), files, Vec::new(), Position::FIRST)))
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn try_read(&self, position: Position) -> Result<RawRecord<'static>, ReadError> {
        let end = self.shared.end();
        if position >= end {
            return Err(ReadError::NotWritten(position));
        }
        let segment = self.segment_of(position).ok_or(ReadError::Removed(position))?;
        let offset = segment.offset_of(position);
        let left = usize::try_from(end.since(position)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; GUESS_BYTES.min(left)];
        let damage = |reason| {
            if self.is_removed(&segment, position) {
                return ReadError::Removed(position);
            }
            ReadError::Damage(Damage::new(&segment.path, offset, reason))
        };

        let got = self.fill(&segment, &mut bytes, offset)?;
        bytes.truncate(got);
        let checked = frame::claim(&bytes, position).map_err(damage)?.checked_bytes;
        if checked > got && got == GUESS_BYTES {
            bytes.resize(checked, 0);
            let rest = bytes.get_mut(got..).unwrap_or_default();
            let more = self.fill(&segment, rest, offset + got as u64)?;
            bytes.truncate(got + more);
        }
        let frame = frame::parse(&bytes, position).map_err(damage)?;
        if frame.kind == HOLE {
            return Err(ReadError::Removed(position));
        }
        let Frame { kind, version, .. } = frame;
        bytes.truncate(checked);
        bytes.drain(..FRAME_HEADER_BYTES);
        Ok(RawRecord { position, kind, version, body: Cow::Owned(bytes) })
    }

    /// Returns all segments, the oldest first.
    #[cfg(test)]
    pub(super) fn segments(&self) -> Vec<SegmentInfo> {
        let info = |(segment, end): (Arc<Segment>, Position)| SegmentInfo {
            first: segment.first,
            end,
            path: segment.path.clone(),
        };
        self.shared.extents().into_iter().map(info).collect()
    }

    /// Returns the sizes of all segment files, with preallocated space.
    pub fn sizes(&self) -> io::Result<Sizes> {
        let segments = self.shared.segments().clone();
        let mut sizes = Sizes { segments: segments.len() as u64, ..Sizes::default() };
        for segment in &segments {
            let facts = self.shared.files.metadata(&segment.file)?;
            sizes.bytes += facts.len;
            sizes.allocated += facts.allocated;
        }
        Ok(sizes)
    }

    fn segment_of(&self, position: Position) -> Option<Arc<Segment>> {
        let segments = self.shared.segments();
        let behind = segments.partition_point(|segment| segment.first <= position);
        segments.get(behind.checked_sub(1)?).cloned()
    }

    /// Returns true if a hole stands for the record at the position: one hole stands for many
    /// records. Reads the segment from its beginning, so only for a position without a record.
    fn is_removed(&self, segment: &Arc<Segment>, position: Position) -> bool {
        let limit = segment.offset_of(position.plus(1));
        let files = Arc::clone(&self.shared.files);
        let len = segment.length().unwrap_or(u64::MAX);
        let mut window = Window::new(files, Arc::clone(segment), len);
        let mut offset = SEGMENT_HEADER_BYTES;
        while offset < limit {
            let Ok(Ok(frame)) = window.frame_at(offset) else { return false };
            if frame.end() > position {
                return frame.kind == HOLE;
            }
            offset += frame.total_bytes;
        }
        false
    }

    fn fill(&self, segment: &Segment, target: &mut [u8], offset: u64) -> Result<usize, ReadError> {
        let files = &self.shared.files;
        files.read_at(&segment.file, target, offset).map_err(ReadError::io(&segment.path))
    }
}

impl ReadLog for Reader {
    fn first(&self) -> Position {
        self.shared.segments().first().map_or(Position::FIRST, |segment| segment.first)
    }

    fn end(&self) -> Position {
        self.shared.end()
    }

    fn read(&self, position: Position) -> Result<RawRecord<'static>, ReadError> {
        self.try_read(position).inspect_err(|error| self.shared.note(error, position))
    }

    fn follow(&self, from: Position) -> Result<Box<dyn Follow>, ReadError> {
        let mut follower = Follower {
            shared: self.shared(),
            segments: VecDeque::new(),
            window: None,
            next: from,
            end: from,
            failed: false,
        };
        follower.look_for_more()?;
        Ok(Box::new(follower))
    }

    fn is_damaged(&self) -> bool {
        self.shared.damaged.load(Ordering::SeqCst)
    }
}

/// The records of the journal in order.
struct Follower {
    shared: Arc<Shared>,
    /// The segment of `next` and all later segments, with their ends.
    segments: VecDeque<(Arc<Segment>, Position)>,
    window: Option<Window>,
    next: Position,
    /// The end of the synced frames, as far as this follower has looked.
    end: Position,
    failed: bool,
}

impl Follow for Follower {
    fn next(&mut self) -> Option<Result<RawRecord<'_>, ReadError>> {
        if self.failed {
            return None;
        }
        loop {
            if self.next >= self.end {
                if self.next >= self.shared.end() {
                    return None;
                }
                if let Err(error) = self.look_for_more() {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
            if !self.pass_hole() {
                break;
            }
        }
        self.enter_segment();
        let (segment, _) = self.segments.front()?;
        let window = self.window.as_mut()?;
        let offset = segment.offset_of(self.next);
        let error = match window.frame_at(offset) {
            Ok(Ok(frame)) if frame.is_compacted() => ReadError::Removed(frame.position),
            Ok(Ok(frame)) => {
                self.next = frame.end();
                return Some(Ok(frame.into()));
            }
            Ok(Err(reason)) => ReadError::Damage(Damage::new(&segment.path, offset, reason)),
            Err(source) => ReadError::Io { path: segment.path.clone(), source },
        };
        self.failed = true;
        Some(Err(error))
    }

    fn position(&self) -> Position {
        self.next
    }
}

impl Follower {
    /// Takes in the segments and the end of the journal as they are now.
    fn look_for_more(&mut self) -> Result<(), ReadError> {
        let mut segments = self.shared.extents();
        let end = segments.back().map_or(Position::FIRST, |&(_, end)| end);
        if segments.front().is_some_and(|(segment, _)| self.next < segment.first) {
            return Err(ReadError::Removed(self.next));
        }
        if self.next > end {
            return Err(ReadError::NotWritten(self.next));
        }
        while segments.front().is_some_and(|&(_, end)| end <= self.next) {
            segments.pop_front();
        }
        (self.segments, self.window, self.end) = (segments, None, end);
        Ok(())
    }

    /// Skips the next frame if it stands for lost records. Everything else is left to the read that
    /// follows: a broken hole is damage, and compaction leaves holes only where no follower goes on
    /// from, because later records cannot be applied without the removed ones.
    fn pass_hole(&mut self) -> bool {
        self.enter_segment();
        let Some(window) = &mut self.window else { return false };
        let offset = window.segment().offset_of(self.next);
        if !window.view(offset, FRAME_HEADER_BYTES).is_ok_and(frame::claims_hole) {
            return false;
        }
        let Ok(Ok(hole)) = window.frame_at(offset) else { return false };
        if hole.is_hole(Hole::Removed) {
            return false;
        }
        self.next = hole.end();
        true
    }

    /// Moves the window to the segment of the next frame.
    fn enter_segment(&mut self) {
        while self.segments.front().is_some_and(|&(_, end)| end <= self.next) {
            self.segments.pop_front();
            self.window = None;
        }
        if let (None, Some((segment, end))) = (&self.window, self.segments.front()) {
            self.window = Some(Window::new(
                Arc::clone(&self.shared.files),
                Arc::clone(segment),
                segment.offset_of(*end),
            ));
        }
    }
}
