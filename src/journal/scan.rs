//! The scan of a whole journal without changing it. Every frame is checked, and every damage is
//! reported with its extent. Unreadable bytes are damage too. Called by verify and rebuild while no
//! server runs. Opens files for reading only.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Damage, JournalError};
use super::files::{Files, OsFiles};
use super::frame::{self, FRAME_HEADER_BYTES, Frame, HOLE, Hole};
use super::log::RawRecord;
use super::position::Position;
use super::reader::{Reader, Shared};
use super::recover::{BadEnd, CutTail, count_before_gap, judge_end};
use super::segment::{
    self, Header, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_LEN, Segment, UNKNOWN_FORMAT, Window,
};

/// A lost range: bytes that are damaged or missing, and the positions in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The place and the kind of the damage.
    pub damage: Damage,
    /// The number of damaged bytes in the file.
    pub bytes: u64,
    /// The first lost position.
    pub from: Position,
    /// The first position after the lost range. Equal to `from` if no record is lost.
    pub to: Position,
    /// Set if all records from `from` on are lost, and nobody knows how many there were.
    pub is_open: bool,
}

impl Lost {
    /// Cuts the range at a position inside of it.
    fn split_at(self, position: Position) -> [Self; 2] {
        let before = position.since(self.from);
        let mut behind = self.clone();
        (behind.from, behind.bytes) = (position, self.bytes.saturating_sub(before));
        behind.damage.offset += before;
        [Self { bytes: self.bytes.min(before), to: position, is_open: false, ..self }, behind]
    }

    /// Returns the maximum number of records in the lost range.
    pub fn records_max(&self) -> u64 {
        self.to.since(self.from) / FRAME_HEADER_BYTES as u64
    }
}

/// The findings about a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFound {
    /// The first position of the segment.
    pub first: Position,
    /// The end of the kept positions, which is the first position of the next segment.
    pub end: Position,
    /// The path of the segment's file.
    pub path: PathBuf,
    /// The length of the file, in bytes.
    pub bytes: u64,
    /// The number of whole records.
    pub records: u64,
    /// The ranges of positions that an earlier salvage gave up.
    pub holes: Vec<(Position, Position)>,
    /// The first position whose record compaction has removed or cut, and the position behind the
    /// last one.
    pub compacted: Option<(Position, Position)>,
    /// The number of bytes that compaction has removed.
    pub compacted_bytes: u64,
    /// The damaged ranges, in order.
    pub damages: Vec<Lost>,
    /// The end of the last segment that the next start cuts, because it was never acknowledged.
    pub tail: Option<CutTail>,
    /// Set if the segment has a format that this version does not know.
    pub unknown_format: bool,
}

impl SegmentFound {
    fn of(part: &Part) -> Self {
        Self {
            first: part.segment.first,
            end: part.next.unwrap_or(part.segment.first),
            path: part.segment.path.clone(),
            bytes: part.len,
            records: 0,
            holes: Vec::new(),
            compacted: None,
            compacted_bytes: 0,
            damages: Vec::new(),
            tail: None,
            unknown_format: part.header == Header::Foreign(UNKNOWN_FORMAT),
        }
    }

    /// Cuts the damaged range that reaches over this position, if there is one, so that a salvage
    /// leaves two holes, and a follower can begin at the position.
    pub fn split_damages_at(&mut self, position: Position) {
        let mut split = Vec::with_capacity(self.damages.len() + 1);
        for lost in self.damages.drain(..) {
            if lost.from < position && position < lost.to {
                split.extend(lost.split_at(position));
            } else {
                split.push(lost);
            }
        }
        self.damages = split;
    }

    /// Notes a hole or a cut record.
    fn note(&mut self, frame: &Frame<'_>) {
        if frame.is_hole(Hole::Removed) {
            self.compacted_bytes += frame.total_bytes;
        } else if frame.kind == HOLE {
            self.holes.push((frame.position, frame.end()));
        }
        if frame.is_compacted() {
            let from = self.compacted.map_or(frame.position, |(from, _)| from);
            self.compacted = Some((from, frame.end()));
        }
    }
}

/// The files of a journal, opened for reading.
pub struct JournalScan {
    dir: PathBuf,
    files: Arc<dyn Files>,
    parts: Vec<Part>,
}

struct Part {
    segment: Arc<Segment>,
    header: Header,
    len: u64,
    /// The first position of the next segment. Absent for the last segment.
    next: Option<Position>,
}

impl JournalScan {
    /// Opens all segment files of `dir` for reading. A missing `dir` is a journal without segments.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        Self::open_with(dir, Arc::new(OsFiles))
    }

    /// Opens the journal through the given file operations.
    pub fn open_with(dir: &Path, files: Arc<dyn Files>) -> Result<Self, JournalError> {
        let paths = match files.list(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(JournalError::io(dir))?,
        };
        let named =
            paths.into_iter().filter_map(|path| Some((segment::first_from_path(&path)?, path)));
        let mut named: Vec<_> = named.collect();
        named.sort();
        let nexts: Vec<_> =
            named.iter().skip(1).map(|(first, _)| Some(*first)).chain([None]).collect();
        let open = |((first, path), next): ((Position, PathBuf), Option<Position>)| {
            let file = files.open_to_read(&path).map_err(JournalError::io(&path))?;
            let segment = Arc::new(Segment::new(first, path, file));
            let (header, len) =
                look_at_header(&files, &segment).map_err(JournalError::io(&segment.path))?;
            Ok(Part { segment, header, len, next })
        };
        let parts = named.into_iter().zip(nexts).map(open).collect::<Result<_, _>>()?;
        Ok(Self { dir: dir.to_path_buf(), files, parts })
    }

    /// Leaves out the segments before a gap, as opening does if the journal may begin at `begins`.
    pub fn begin_behind_gap(&mut self, begins: Position) {
        let segments: Vec<_> = self.parts.iter().map(|part| Arc::clone(&part.segment)).collect();
        self.parts.drain(..count_before_gap(&self.files, &segments, begins));
    }

    /// Returns the number of segments.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Returns true if there are no segments.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the length of all files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len).sum()
    }

    /// Returns the oldest position of the journal. `None` without segments.
    pub fn first(&self) -> Option<Position> {
        Some(self.parts.first()?.segment.first)
    }

    /// Returns the range that is missing before the first segment, if the journal once began at
    /// `begins` at the latest.
    pub fn missing_beginning(&self, begins: Position) -> Option<Lost> {
        let first = self.first()?;
        let reason = format!("the positions {begins} to {} are missing", first.0.saturating_sub(1));
        let damage = Damage::new(&segment::path_of(&self.dir, begins), 0, reason);
        let lost = lost_range(damage, first.since(begins), begins..first);
        (first > begins).then_some(lost)
    }

    /// Reads a whole segment; segments are numbered from 0. `judge` sees every whole record, and
    /// may report a record as damaged with a reason.
    pub fn look(
        &self,
        number: usize,
        judge: &mut dyn FnMut(&RawRecord<'_>) -> Result<(), String>,
    ) -> Result<SegmentFound, JournalError> {
        let part = self.parts.get(number).ok_or_else(|| no_such_segment(&self.dir))?;
        let segment = &part.segment;
        let length = match part.header {
            Header::Whole { length, .. } => length,
            Header::Absent | Header::Unreadable | Header::Foreign(_) => 0,
        };
        let limit = part.next.map_or(part.len.max(length), |next| segment.offset_of(next));
        let mut walk = Walk {
            part,
            cut_off: (part.len < length).then(|| segment::cut_off(part.len, length)),
            window: Window::patient(Arc::clone(&self.files), Arc::clone(segment), limit),
            limit,
            found: SegmentFound::of(part),
        };
        let walked =
            walk.header().and_then(|()| walk.frames(judge)).and_then(|()| walk.behind(&self.files));
        walk.length();
        walked.map_err(JournalError::io(&segment.path))?;
        Ok(walk.found)
    }

    /// Returns true if the journal is a copy that no server has continued yet.
    pub fn is_copy(&self) -> bool {
        let mut copies = self.parts.iter().rev().filter_map(|part| match part.header {
            Header::Whole { copy, .. } => Some(copy),
            Header::Absent | Header::Unreadable | Header::Foreign(_) => None,
        });
        copies.next().unwrap_or(false)
    }

    /// Returns the directory and the file operations.
    pub(super) fn place(&self) -> (&Path, &dyn Files) {
        (&self.dir, self.files.as_ref())
    }

    /// Returns each segment with the length of its file.
    pub(super) fn segments(&self) -> impl Iterator<Item = (&Segment, u64)> {
        self.parts.iter().map(|part| (part.segment.as_ref(), part.len))
    }

    /// Returns a reader of the records up to `end`, for a journal without damage.
    pub fn reader(&self, end: Position) -> Reader {
        let segments = self.parts.iter().map(|part| Arc::clone(&part.segment)).collect();
        Reader::new(Arc::new(Shared::new(self.dir.clone(), Arc::clone(&self.files), segments, end)))
    }
}

/// Returns the header of a segment, and the length of its file in bytes.
fn look_at_header(files: &Arc<dyn Files>, segment: &Arc<Segment>) -> io::Result<(Header, u64)> {
    let facts = files.metadata(&segment.file)?;
    let mut window = Window::patient(Arc::clone(files), Arc::clone(segment), SEGMENT_HEADER_BYTES);
    let header = window.view(0, SEGMENT_HEADER_LEN)?;
    Ok((segment::decode_header(header, segment.first, facts), facts.len))
}

fn no_such_segment(dir: &Path) -> JournalError {
    JournalError::Io { path: dir.to_path_buf(), source: io::ErrorKind::NotFound.into() }
}

fn unreadable(page: u64) -> String {
    format!("the disk cannot read the file at offset {page}")
}

fn lost_range(damage: Damage, bytes: u64, positions: Range<Position>) -> Lost {
    Lost { damage, bytes, from: positions.start, to: positions.end, is_open: false }
}

/// The state of reading one segment.
struct Walk<'a> {
    part: &'a Part,
    /// The reason for a file that is too short, until it is reported.
    cut_off: Option<String>,
    window: Window,
    /// The offset at which the frames of this segment end.
    limit: u64,
    found: SegmentFound,
}

impl Walk<'_> {
    fn header(&mut self) -> io::Result<()> {
        let is_empty =
            self.is_last() && self.window.end_of_content(SEGMENT_HEADER_BYTES)?.is_none();
        let reason = match self.part.header {
            Header::Whole { .. } => return Ok(()),
            Header::Foreign(reason) => reason,
            Header::Absent => segment::NO_HEADER,
            // A crash came while the header was replaced. The next start writes the header again.
            Header::Unreadable if is_empty => return Ok(()),
            Header::Unreadable => "the segment's header is incomplete, or cannot be read",
        };
        let first = self.found.first;
        let damage = Damage::new(&self.found.path, 0, reason);
        let is_open = is_empty && self.part.header == Header::Absent;
        let lost = lost_range(damage, SEGMENT_HEADER_BYTES, first..first);
        self.found.damages.push(Lost { is_open, ..lost });
        Ok(())
    }

    /// Reports a file that is too short, if the report of a lost range has not said so.
    fn length(&mut self) {
        let Some(reason) = self.cut_off.take() else { return };
        let (path, end) = (self.found.path.clone(), self.found.end);
        let damage = Damage::new(&path, self.part.len, reason);
        self.found.damages.push(lost_range(damage, 0, end..end));
    }

    /// Returns true if unwritten space may follow the last frame.
    fn is_open_ended(&self) -> bool {
        self.is_last() && self.part.len >= self.limit
    }

    fn is_last(&self) -> bool {
        self.part.next.is_none()
    }

    fn frames(
        &mut self,
        judge: &mut dyn FnMut(&RawRecord<'_>) -> Result<(), String>,
    ) -> io::Result<()> {
        let mut offset = SEGMENT_HEADER_BYTES;
        while offset < self.limit {
            let (behind, bad) = match self.window.frame_at(offset)? {
                Ok(frame) => {
                    self.found.note(&frame);
                    let bytes = frame.total_bytes;
                    let judged = if frame.kind == HOLE { None } else { Some(judge(&frame.into())) };
                    self.found.records += u64::from(matches!(judged, Some(Ok(()))));
                    (offset + bytes, judged.and_then(Result::err))
                }
                Err(reason) => {
                    if self.is_open_ended() && self.ends_at(offset)? {
                        break;
                    }
                    // Too few bytes for a frame are cut off.
                    let is_cut_off = self.is_last() && !self.is_open_ended();
                    if is_cut_off && self.limit - offset < FRAME_HEADER_BYTES as u64 {
                        break;
                    }
                    let behind = self.next_whole(offset)?;
                    (behind, Some(self.reason(offset, behind, reason)?))
                }
            };
            if let Some(reason) = bad {
                self.lose(offset, behind, reason);
            }
            offset = behind;
        }
        if self.is_last() {
            self.found.end = self.part.segment.position_at(offset);
        }
        Ok(())
    }

    /// Returns true if the log ends at the bad frame at `offset`.
    fn ends_at(&mut self, offset: u64) -> io::Result<bool> {
        let copy = matches!(self.part.header, Header::Whole { copy: true, .. });
        Ok(match judge_end(&mut self.window, offset, copy)? {
            BadEnd::Unwritten => true,
            BadEnd::Damage(_) => false,
            // The unreadable bytes may have held a whole frame.
            BadEnd::Cut(_, content_end)
                if self.window.unreadable_in(offset..content_end).is_some() =>
            {
                false
            }
            BadEnd::Cut(cause, content_end) => {
                let file = self.found.path.clone();
                self.found.tail =
                    Some(CutTail { file, offset, bytes: content_end - offset, cause });
                true
            }
        })
    }

    /// Returns the offset of the next whole frame after the bad frame at `offset`. Without such a
    /// frame, returns the end of the segment, or of the written bytes in the last segment. The end
    /// that the bad frame claims is tried first, so that nothing inside a payload counts as a
    /// frame.
    fn next_whole(&mut self, offset: u64) -> io::Result<u64> {
        let position = self.part.segment.position_at(offset);
        let header = self.window.view(offset, FRAME_HEADER_BYTES)?;
        if let Ok(claim) = frame::claim(header, position) {
            let behind = offset + claim.total_bytes;
            if behind == self.limit || self.window.frame_at(behind)?.is_ok() {
                return Ok(behind);
            }
        }
        if let Some(behind) = self.window.find_frame(offset + 1, true)? {
            return Ok(behind);
        }
        if !self.is_open_ended() {
            return Ok(self.limit);
        }
        let content_end = self.window.end_of_content(offset)?.unwrap_or(self.limit);
        Ok(content_end.max(offset + FRAME_HEADER_BYTES as u64).min(self.limit))
    }

    fn reason(&mut self, offset: u64, behind: u64, reason: &str) -> io::Result<String> {
        if let Some(page) = self.window.unreadable_in(offset..behind) {
            return Ok(unreadable(page));
        }
        if behind > self.part.len
            && let Some(reason) = self.cut_off.take()
        {
            return Ok(reason);
        }
        // Unwritten space may lie before the missing positions.
        let is_missing = behind > self.part.len && self.window.end_of_content(offset)?.is_none();
        if !is_missing {
            return Ok(reason.to_owned());
        }
        let position = |offset| self.part.segment.position_at(offset).0;
        Ok(format!(
            "the positions {} to {} are missing",
            position(offset),
            position(self.limit).saturating_sub(1)
        ))
    }

    fn lose(&mut self, offset: u64, behind: u64, reason: String) {
        let position = |offset| self.part.segment.position_at(offset);
        let damage = Damage::new(&self.found.path, offset, reason);
        let positions = position(offset)..position(behind);
        self.found.damages.push(lost_range(damage, behind - offset, positions));
    }

    /// Reports bytes after the next segment's first position, where nothing should be.
    fn behind(&mut self, files: &Arc<dyn Files>) -> io::Result<()> {
        let Some(next) = self.part.next else { return Ok(()) };
        let mut rest =
            Window::patient(Arc::clone(files), Arc::clone(&self.part.segment), self.part.len);
        if let Some(content_end) = rest.end_of_content(self.limit)? {
            let reason = match rest.unreadable_in(self.limit..content_end) {
                Some(page) => unreadable(page),
                None => format!(
                    "the segment goes on after the first position of the next segment, {next}"
                ),
            };
            let damage = Damage::new(&self.found.path, self.limit, reason);
            self.found.damages.push(lost_range(damage, content_end - self.limit, next..next));
        }
        Ok(())
    }
}
