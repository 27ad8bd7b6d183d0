//! A segment file: its name, its header, and a window that reads its frames in large pieces. Used
//! by the reader, the writer and recovery.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::files::{FileFacts, Files, is_unreadable};
use super::frame::{self, FRAME_HEADER_BYTES, Frame};
use super::position::Position;

/// Number of bytes before the first frame of a segment file.
pub(super) const SEGMENT_HEADER_LEN: usize = 64;

/// [`SEGMENT_HEADER_LEN`] as `u64`, for sums with offsets.
pub(super) const SEGMENT_HEADER_BYTES: u64 = SEGMENT_HEADER_LEN as u64;

/// Number of bytes that a scan reads at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The unit in which a disk reads or fails to read, in bytes.
const PAGE_BYTES: u64 = 4096;

/// The substitute for unreadable bytes. No frame begins with this byte, and it is not zero, because
/// zeros mean unwritten space.
const UNREAD: u8 = 0xff;

const MAGIC: [u8; 4] = *b"TRGJ";
const FORMAT: u32 = 2;
const SUFFIX: &str = ".seg";

/// The reason for refusing a header of another format.
pub(super) const UNKNOWN_FORMAT: &str = "this version does not know the segment's format";

/// A description of a segment for tests.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentInfo {
    pub(super) first: Position,
    /// The end of the synced frames, which is the first position of the next segment.
    pub(super) end: Position,
    pub(super) path: PathBuf,
}

/// An open segment file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first: Position,
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// The length of the file as set by the writer, in bytes. Zero during a change.
    length: AtomicU64,
}

impl Segment {
    pub(super) fn new(first: Position, path: PathBuf, file: File) -> Self {
        Self { first, path, file, length: AtomicU64::new(0) }
    }

    /// Returns the length that the file must have. `None` while the writer changes the length.
    pub(super) fn length(&self) -> Option<u64> {
        Some(self.length.load(Ordering::SeqCst)).filter(|length| *length > 0)
    }

    /// Called before the writer changes the length of the file, or removes the file.
    pub(super) fn length_changes(&self) {
        self.length.store(0, Ordering::SeqCst);
    }

    /// Called after the writer changed the length of the file.
    pub(super) fn length_is(&self, bytes: u64) {
        self.length.store(bytes, Ordering::SeqCst);
    }

    /// Returns the file offset of a position, in bytes.
    pub(super) fn offset_of(&self, position: Position) -> u64 {
        SEGMENT_HEADER_BYTES + position.since(self.first)
    }

    /// Returns the position at a file offset behind the header.
    pub(super) fn position_at(&self, offset: u64) -> Position {
        self.first.plus(offset.saturating_sub(SEGMENT_HEADER_BYTES))
    }
}

/// Returns the path of the segment that begins at `first`.
pub(super) fn path_of(dir: &Path, first: Position) -> PathBuf {
    dir.join(format!("{first:020}{SUFFIX}", first = first.0))
}

/// Returns the first position from a file's name. `None` if the name is not a segment's name.
pub fn first_from_path(path: &Path) -> Option<Position> {
    let digits = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|&first| first > 0).map(Position)
}

/// Returns the header of a segment whose file has these facts. The file never becomes shorter than
/// their length.
pub(super) fn encode_header(first: Position, facts: FileFacts) -> [u8; SEGMENT_HEADER_LEN] {
    let mut header = [0; SEGMENT_HEADER_LEN];
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&FORMAT.to_be_bytes());
    header[8..16].copy_from_slice(&first.0.to_be_bytes());
    header[16..24].copy_from_slice(&facts.device.to_be_bytes());
    header[24..32].copy_from_slice(&facts.inode.to_be_bytes());
    header[32..40].copy_from_slice(&facts.len.to_be_bytes());
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_be_bytes());
    header
}

/// The verdict on the first bytes of a segment file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// A whole header of this segment, in its original file or in a copy.
    Whole {
        /// Set if the device or the inode differs from the file's own.
        copy: bool,
        /// The minimum length of the file, in bytes.
        length: u64,
    },
    /// Cut off, or zeros. A file has its header before it has a segment's name, so this file was
    /// cut, or copied only in part.
    Absent,
    /// The header is torn, because a crash came while it was replaced, or it rotted.
    Unreadable,
    /// A whole header, but of another segment or another format.
    Foreign(&'static str),
}

/// Reads the header of the segment that begins at `first` from the start of its file.
pub(super) fn decode_header(bytes: &[u8], first: Position, facts: FileFacts) -> Header {
    let Some(header) = bytes.first_chunk::<SEGMENT_HEADER_LEN>() else {
        return Header::Absent;
    };
    if header.iter().all(|&byte| byte == 0) {
        return Header::Absent;
    }
    let stored = u32::from_be_bytes([header[60], header[61], header[62], header[63]]);
    if stored != crc32c::crc32c(&header[..60]) || header[..4] != MAGIC {
        return Header::Unreadable;
    }
    if header[4..8] != FORMAT.to_be_bytes() {
        return Header::Foreign(UNKNOWN_FORMAT);
    }
    if header[8..16] != first.0.to_be_bytes() {
        return Header::Foreign("the segment's header and name disagree on its first position");
    }
    let original =
        header[16..24] == facts.device.to_be_bytes() && header[24..32] == facts.inode.to_be_bytes();
    let length = header[32..40].iter().fold(0, |length, &byte| length << 8 | u64::from(byte));
    Header::Whole { copy: !original, length }
}

/// The reason for refusing a file of `is` bytes that had `was` bytes.
pub(super) fn cut_off(is: u64, was: u64) -> String {
    format!(
        "the file is {is} bytes long, but was made {was} bytes long: it was cut, or copied only in \
         part"
    )
}

/// The reason for refusing a segment without a header.
pub(super) const NO_HEADER: &str =
    "the file has no segment header: it was cut, or copied only in part";

/// Reads a segment file in large pieces, from anywhere.
pub(super) struct Window {
    files: Arc<dyn Files>,
    segment: Arc<Segment>,
    /// The offset at which the window ends, in bytes.
    limit: u64,
    buffer: Vec<u8>,
    /// The file offset of the buffer's first byte.
    start: u64,
    filled: usize,
    /// The offsets of unreadable pages. `None` if an unreadable page is an error.
    unreadable: Option<BTreeSet<u64>>,
}

impl Window {
    /// Creates a window on the first `limit` bytes of the file.
    pub(super) fn new(files: Arc<dyn Files>, segment: Arc<Segment>, limit: u64) -> Self {
        Self { files, segment, limit, buffer: Vec::new(), start: 0, filled: 0, unreadable: None }
    }

    /// Creates a window that continues after unreadable pages and fills them with [`UNREAD`].
    pub(super) fn patient(files: Arc<dyn Files>, segment: Arc<Segment>, limit: u64) -> Self {
        Self { unreadable: Some(BTreeSet::new()), ..Self::new(files, segment, limit) }
    }

    /// Returns the offset of the first page with these bytes that was found unreadable.
    pub(super) fn unreadable_in(&self, bytes: Range<u64>) -> Option<u64> {
        let first = bytes.start - bytes.start % PAGE_BYTES;
        self.unreadable.as_ref()?.range(first..bytes.end.max(first)).next().copied()
    }

    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns the bytes from `offset` on: at least `want` bytes, fewer only if the file or the
    /// window ends.
    pub(super) fn view(&mut self, offset: u64, want: usize) -> io::Result<&[u8]> {
        let held = offset.checked_sub(self.start).and_then(|n| usize::try_from(n).ok());
        let skip = match held {
            Some(skip) if skip.saturating_add(want) <= self.filled => skip,
            _ => {
                self.fill(offset, want)?;
                0
            }
        };
        Ok(self.buffer.get(skip..self.filled).unwrap_or_default())
    }

    fn fill(&mut self, offset: u64, want: usize) -> io::Result<()> {
        let left = usize::try_from(self.limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let size = want.max(CHUNK_BYTES).min(left);
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
        self.filled = 0;
        self.start = offset;
        let target = self.buffer.get_mut(..size).unwrap_or_default();
        self.filled = match self.files.read_at(&self.segment.file, target, offset) {
            Err(error) if self.unreadable.is_some() && is_unreadable(&error) => {
                self.fill_by_page(size, offset)?
            }
            other => other?,
        };
        Ok(())
    }

    /// Fills the buffer page by page, because the pages beside an unreadable page may be whole.
    fn fill_by_page(&mut self, size: usize, offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < size {
            let at = offset + filled as u64;
            let want = usize::try_from(PAGE_BYTES - at % PAGE_BYTES)
                .map_or(size, |rest| rest.min(size - filled));
            let page = self.buffer.get_mut(filled..filled + want).unwrap_or_default();
            match self.files.read_at(&self.segment.file, page, at) {
                Ok(got) if got < want => return Ok(filled + got),
                Err(error) if is_unreadable(&error) => {
                    page.fill(UNREAD);
                    if let Some(pages) = &mut self.unreadable {
                        pages.insert(at - at % PAGE_BYTES);
                    }
                }
                other => drop(other?),
            }
            filled += want;
        }
        Ok(filled)
    }

    /// Returns the frame at `offset`, or the reason why there is none.
    pub(super) fn frame_at(&mut self, offset: u64) -> io::Result<Result<Frame<'_>, &'static str>> {
        let position = self.segment.position_at(offset);
        let claim = match frame::claim(self.view(offset, FRAME_HEADER_BYTES)?, position) {
            Ok(claim) => claim,
            Err(reason) => return Ok(Err(reason)),
        };
        if claim.total_bytes > self.limit.saturating_sub(offset) {
            return Ok(Err("the frame is cut short"));
        }
        Ok(frame::parse(self.view(offset, claim.checked_bytes)?, position))
    }

    /// Returns the offset of the first whole frame at or after `from` that begins a group, or of
    /// any whole frame if `any` is set. Looks at every byte.
    pub(super) fn find_frame(&mut self, from: u64, any: bool) -> io::Result<Option<u64>> {
        let mut at = from;
        while let Some(offset) = self.find_claim(at)? {
            if self.frame_at(offset)?.is_ok_and(|frame| any || frame.group_first) {
                return Ok(Some(offset));
            }
            at = offset + 1;
        }
        Ok(None)
    }

    /// Returns the first offset at or after `from` whose bytes could be a frame header.
    fn find_claim(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        loop {
            let position = self.segment.position_at(at);
            let bytes = self.view(at, FRAME_HEADER_BYTES)?;
            let found = (0..)
                .zip(bytes.windows(FRAME_HEADER_BYTES))
                .find(|&(n, header)| frame::claim(header, position.plus(n)).is_ok());
            if let Some((n, _)) = found {
                return Ok(Some(at + n));
            }
            let looked_at = (bytes.len() + 1).saturating_sub(FRAME_HEADER_BYTES);
            if looked_at == 0 {
                return Ok(None);
            }
            at += looked_at as u64;
        }
    }

    /// Returns the offset after the last byte at or after `from` that is not zero.
    pub(super) fn end_of_content(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut found = None;
        let mut at = from;
        loop {
            let bytes = self.view(at, 1)?;
            if bytes.is_empty() {
                return Ok(found);
            }
            if let Some(last) = last_set_byte(bytes) {
                found = Some(at + last as u64 + 1);
            }
            at += bytes.len() as u64;
        }
    }
}

/// Returns the index of the last byte that is not zero. Compares whole pages first, because the
/// rest of a segment is megabytes of zeros at every start.
fn last_set_byte(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut pages = bytes.chunks(ZEROS.len()).enumerate();
    let (index, page) = pages.rfind(|(_, page)| Some(*page) != ZEROS.get(..page.len()))?;
    Some(index * ZEROS.len() + page.iter().rposition(|&b| b != 0)?)
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
