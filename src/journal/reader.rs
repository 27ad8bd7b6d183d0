//! Reading the journal: one frame by its position, or many in order. Used to show payloads, and by
//! rebuild and verify. A reader sees only synced frames, also while the writer appends.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::error::{Damage, ReadError};
use super::files::Files;
use super::frame::{self, FRAME_HEADER_BYTES, Frame, HOLE, OwnedFrame};
use super::position::Position;
use super::segment::{Segment, SegmentInfo, Window};

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
}

impl Shared {
    pub(super) fn new(
        dir: PathBuf,
        files: Arc<dyn Files>,
        segments: Vec<Arc<Segment>>,
        end: Position,
    ) -> Self {
        let (segments, end) = (RwLock::new(segments), AtomicU64::new(end.0));
        Self { dir, files, segments, end, last_group: AtomicU64::new(0), damaged: false.into() }
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

    /// Returns every segment with its end.
    pub(super) fn extents(&self) -> VecDeque<(Arc<Segment>, Position)> {
        // No segment is added while the list is locked, so the end, which is read later, lies in
        // the last segment.
        let segments = self.segments();
        let ends = segments.iter().skip(1).map(|next| next.first);
        segments.iter().cloned().zip(ends.chain([self.end()])).collect()
    }
}

/// Reads frames. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Returns the end of the synced frames, which is the position of the next group.
    pub fn end(&self) -> Position {
        self.shared.end()
    }

    /// Reads the frame at a position that [`Writer::append`](super::Writer::append) or a scan
    /// returned. The position and the checksum are checked.
    pub fn read(&self, position: Position) -> Result<OwnedFrame, ReadError> {
        let read = self.try_read(position);
        match &read {
            Ok(_) | Err(ReadError::NotWritten(_) | ReadError::Removed(_)) => {}
            Err(error @ (ReadError::Damage(_) | ReadError::Io { .. })) => {
                let advice = "stop the server and run `triggerd verify`; see docs/operations.md, \
                    exit code 3";
                tracing::error!(%error, position = position.0, advice, "the journal cannot be \
                    read at this position");
                self.shared.damaged.store(true, Ordering::SeqCst);
            }
        }
        read
    }

    /// Returns true if a damaged frame was found. The result stays true until the journal is opened
    /// again.
    pub fn is_damaged(&self) -> bool {
        self.shared.damaged.load(Ordering::SeqCst)
    }

    fn try_read(&self, position: Position) -> Result<OwnedFrame, ReadError> {
        let end = self.shared.end();
        if position >= end {
            return Err(ReadError::NotWritten(position));
        }
        let segment = self.segment_of(position).ok_or(ReadError::Removed(position))?;
        let offset = segment.offset_of(position);
        let left = usize::try_from(end.since(position)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; GUESS_BYTES.min(left)];
        let damage = |reason| ReadError::Damage(Damage::new(&segment.path, offset, reason));

        let got = self.fill(&segment, &mut bytes, offset)?;
        bytes.truncate(got);
        let total = frame::claimed_bytes(&bytes, position).map_err(damage)?;
        if total > got && got == GUESS_BYTES {
            bytes.resize(total, 0);
            let rest = bytes.get_mut(got..).unwrap_or_default();
            let more = self.fill(&segment, rest, offset + got as u64)?;
            bytes.truncate(got + more);
        }
        let frame = frame::parse(&bytes, position).map_err(damage)?;
        if frame.kind == HOLE {
            return Err(ReadError::Removed(position));
        }
        let Frame { kind, version, group_first, .. } = frame;
        bytes.truncate(total);
        bytes.drain(..FRAME_HEADER_BYTES);
        Ok(OwnedFrame { position, kind, version, group_first, body: bytes })
    }

    /// Returns the frames from `from`, which must be the beginning of a frame, up to `to` or to the
    /// current end of the synced frames.
    pub fn scan(&self, from: Position, to: Option<Position>) -> Result<Scan, ReadError> {
        let mut segments = self.shared.extents();
        let end = segments.back().map_or(Position::FIRST, |&(_, end)| end);
        if segments.front().is_some_and(|(segment, _)| from < segment.first) {
            return Err(ReadError::Removed(from));
        }
        if from > end {
            return Err(ReadError::NotWritten(from));
        }
        let to = to.map_or(end, |to| to.min(end));
        while segments.front().is_some_and(|&(_, end)| end <= from) {
            segments.pop_front();
        }
        let files = Arc::clone(&self.shared.files);
        Ok(Scan { files, segments, window: None, next: from, to, failed: false })
    }

    /// Returns the frames of the segment that begins at `first`, so that segments can be read in
    /// parallel.
    pub fn scan_segment(&self, first: Position) -> Result<Scan, ReadError> {
        let segments = self.shared.extents();
        let found = segments.iter().find(|(segment, _)| segment.first == first);
        let (_, end) = found.ok_or(ReadError::Removed(first))?;
        self.scan(first, Some(*end))
    }

    /// Returns the next position after `from` at which a whole frame begins, whatever lies between.
    /// Used to continue after damage. Looks at every byte up to the frame.
    pub fn find_frame_behind(&self, from: Position) -> Result<Option<Position>, ReadError> {
        for (segment, end) in self.shared.extents() {
            if end <= from {
                continue;
            }
            let (path, start) = (segment.path.clone(), segment.offset_of(from.plus(1)));
            let limit = segment.offset_of(end);
            let mut window = Window::new(Arc::clone(&self.shared.files), segment, limit);
            let found = window.find_frame(start, true).map_err(ReadError::io(&path))?;
            if let Some(offset) = found {
                return Ok(Some(window.segment().position_at(offset)));
            }
        }
        Ok(None)
    }

    /// Returns all segments, the oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let info = |(segment, end): (Arc<Segment>, Position)| SegmentInfo {
            first: segment.first,
            end,
            path: segment.path.clone(),
            sealed: segment.is_sealed(),
        };
        self.shared.extents().into_iter().map(info).collect()
    }

    /// Returns the length of all segment files, in bytes, with preallocated space.
    pub fn bytes_on_disk(&self) -> io::Result<u64> {
        let segments = self.shared.segments().clone();
        segments
            .iter()
            .try_fold(0, |sum, segment| Ok(sum + self.shared.files.metadata(&segment.file)?.len))
    }

    fn segment_of(&self, position: Position) -> Option<Arc<Segment>> {
        let segments = self.shared.segments();
        let behind = segments.partition_point(|segment| segment.first <= position);
        segments.get(behind.checked_sub(1)?).cloned()
    }

    fn fill(&self, segment: &Segment, target: &mut [u8], offset: u64) -> Result<usize, ReadError> {
        let files = &self.shared.files;
        files.read_at(&segment.file, target, offset).map_err(ReadError::io(&segment.path))
    }
}

/// Frames in order. The scan ends after the first error; [`Reader::find_frame_behind`] finds the
/// position to continue from.
pub struct Scan {
    files: Arc<dyn Files>,
    /// The segment of `next` and all later segments, with their ends.
    segments: VecDeque<(Arc<Segment>, Position)>,
    window: Option<Window>,
    next: Position,
    to: Position,
    failed: bool,
}

impl Scan {
    /// Returns the position at which the next frame is expected, or at which reading failed.
    pub fn position(&self) -> Position {
        self.next
    }

    /// Returns the next frame, without copying its body.
    pub fn next_frame(&mut self) -> Option<Result<Frame<'_>, ReadError>> {
        while !self.failed && self.next < self.to && self.pass_hole() {}
        if self.failed || self.next >= self.to {
            return None;
        }
        self.enter_segment();
        let (segment, _) = self.segments.front()?;
        let window = self.window.as_mut()?;
        let offset = segment.offset_of(self.next);
        let error = match window.frame_at(offset) {
            Ok(Ok(frame)) => {
                self.next = frame.end();
                return Some(Ok(frame));
            }
            Ok(Err(reason)) => ReadError::Damage(Damage::new(&segment.path, offset, reason)),
            Err(source) => ReadError::Io { path: segment.path.clone(), source },
        };
        self.failed = true;
        Some(Err(error))
    }

    /// Skips the next frame if it is a whole hole. A broken hole is reported by the read that
    /// follows.
    fn pass_hole(&mut self) -> bool {
        self.enter_segment();
        let Some(window) = &mut self.window else { return false };
        let offset = window.segment().offset_of(self.next);
        if !window.view(offset, FRAME_HEADER_BYTES).is_ok_and(frame::claims_hole) {
            return false;
        }
        let Ok(Ok(hole)) = window.frame_at(offset) else { return false };
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
                Arc::clone(&self.files),
                Arc::clone(segment),
                segment.offset_of(*end),
            ));
        }
    }
}

impl Iterator for Scan {
    type Item = Result<OwnedFrame, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_frame().map(|frame| frame.map(OwnedFrame::from))
    }
}
