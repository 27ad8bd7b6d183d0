//! The bytes of one frame, and the building of a group of frames. Used by the writer, the reader
//! and recovery. Knows no files.

use super::position::Position;
use crate::base::failpoint::{self, Switch};

/// Maximum length of a record's body, in bytes.
pub const MAX_BODY_BYTES: usize = 16 << 20;

/// Number of header bytes before a frame's body.
pub(super) const FRAME_HEADER_BYTES: usize = 18;

/// Maximum length of a frame with its header, in bytes.
pub(super) const FRAME_BYTES_MAX: u64 = (FRAME_HEADER_BYTES + MAX_BODY_BYTES) as u64;

/// The kind of a hole: a frame in place of records that are gone. A hole keeps every later position
/// unchanged. Its checksum covers its header alone, so nobody reads its body, which need not take
/// disk space.
pub(super) const HOLE: u8 = 0;

/// The bit of the kind byte that marks the first frame of a group.
const GROUP_FIRST: u8 = 0x80;

/// The bits of the first word of a header that hold the length of the body.
const LEN_BITS: u32 = 26;
/// The number of zeros behind a body that was cut, above the length. Fewer bytes than a header
/// cannot be a hole.
const PADDING_MAX: u32 = 17;
const _: () = assert!(PADDING_MAX as usize == FRAME_HEADER_BYTES - 1);
/// The bit of the first word that marks a cut body.
const CUT: u32 = 1 << 31;

/// A whole, checked frame, borrowed from a read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) position: Position,
    pub(super) kind: u8,
    pub(super) version: u8,
    /// Set if the frame is the first of its group.
    pub(super) group_first: bool,
    /// Set if compaction removed a part of the body.
    pub(super) is_cut: bool,
    /// Empty for a hole.
    pub(super) body: &'a [u8],
    /// The number of bytes up to the next frame.
    pub(super) total_bytes: u64,
}

impl Frame<'_> {
    /// Returns the position at which the next frame begins.
    pub(super) fn end(&self) -> Position {
        self.position.plus(self.total_bytes)
    }

    /// Returns true if the frame is a hole of this kind.
    pub(super) fn is_hole(&self, hole: Hole) -> bool {
        self.kind == HOLE && self.version == hole as u8
    }

    /// Returns true if compaction removed the record, or a part of it. Later records cannot be
    /// applied to a state that lacks the record.
    pub(super) fn is_compacted(&self) -> bool {
        self.is_cut || self.is_hole(Hole::Removed)
    }

    /// Returns the bytes of the frame with another body, which must not be longer, and the number
    /// of bytes that are left over behind them: none, or enough for a hole.
    pub(super) fn cut_to(&self, body: &[u8]) -> Option<(Vec<u8>, u64)> {
        let left = self.total_bytes.checked_sub((FRAME_HEADER_BYTES + body.len()) as u64)?;
        let padding = u32::try_from(left).ok().filter(|left| *left <= PADDING_MAX).unwrap_or(0);
        let word = u32::try_from(body.len()).ok()? | padding << LEN_BITS | CUT;
        let group_first = if self.group_first { GROUP_FIRST } else { 0 };
        let header = header(word, self.position, (self.kind | group_first, self.version));
        let mut bytes = [&header, body].concat();
        stamp_checksum(&mut bytes);
        bytes.resize(bytes.len() + padding as usize, 0);
        Some((bytes, left - u64::from(padding)))
    }
}

/// The cause of a hole. The number is the version of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hole {
    /// Damaged bytes that were salvaged around.
    Lost = 0,
    /// Compaction removed records that nothing needed any more.
    Removed = 1,
}

/// Returns the headers of the holes that fill the positions from `from` to `to`, at least as many
/// bytes as a header. The bodies of the holes are zeros.
pub(super) fn hole_headers(
    from: Position,
    to: Position,
    hole: Hole,
) -> impl Iterator<Item = (Position, [u8; FRAME_HEADER_BYTES])> {
    let mut at = from;
    std::iter::from_fn(move || {
        let left = to.since(at);
        // The remaining bytes must have room for a header.
        let take = if left <= FRAME_BYTES_MAX {
            left
        } else {
            FRAME_BYTES_MAX - FRAME_HEADER_BYTES as u64
        };
        let body = u32::try_from(take.checked_sub(FRAME_HEADER_BYTES as u64)?).ok()?;
        let mut header = header(body, at, (HOLE | GROUP_FIRST, hole as u8));
        stamp_checksum(&mut header);
        let begins = at;
        at = at.plus(take);
        Some((begins, header))
    })
}

/// Returns a header without its checksum.
fn header(word: u32, position: Position, (kind, version): (u8, u8)) -> [u8; FRAME_HEADER_BYTES] {
    let mut header = [0; FRAME_HEADER_BYTES];
    header[..4].copy_from_slice(&word.to_be_bytes());
    header[8..16].copy_from_slice(&position.0.to_be_bytes());
    header[16] = kind;
    header[17] = version;
    header
}

/// Writes the checksum into a header, for a frame without further bytes than its body.
fn stamp_checksum(frame: &mut [u8]) {
    if let Some((header, body)) = frame.split_first_chunk_mut::<FRAME_HEADER_BYTES>() {
        let crc = checksum(header, body);
        header[4..8].copy_from_slice(&crc.to_be_bytes());
    }
}

/// The reason why a record cannot be added to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordRefused {
    /// The kind is 0 or above 127.
    #[error("a record's kind must be between 1 and 127")]
    Kind,
    /// The body is longer than [`MAX_BODY_BYTES`].
    #[error("a record's body must not be longer than 16 MiB")]
    TooLong,
    /// The body's writer removed bytes of the group. The group is empty now.
    #[error("a record's body must only be appended")]
    Shrunk,
}

/// Records to append together, as frames in a buffer that is reused.
#[derive(Debug, Default)]
pub struct Group {
    bytes: Vec<u8>,
    /// The length of each frame with its header, in bytes.
    lens: Vec<usize>,
}

impl Group {
    /// Creates an empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record. `write` appends the body to the given buffer.
    pub fn push(
        &mut self,
        kind: u8,
        version: u8,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), RecordRefused> {
        self.try_push(kind, version, |buffer| {
            write(buffer);
            Ok(())
        })
    }

    /// Like [`Group::push`], for a writer that can fail. On failure the group stays as before.
    pub fn try_push<E: From<RecordRefused>>(
        &mut self,
        kind: u8,
        version: u8,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        if kind == HOLE || kind >= GROUP_FIRST {
            return Err(RecordRefused::Kind.into());
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        let body_start = self.bytes.len();
        let written = write(&mut self.bytes);
        let Some(body_len) = self.bytes.len().checked_sub(body_start) else {
            self.clear();
            return Err(RecordRefused::Shrunk.into());
        };
        let len = match (written, u32::try_from(body_len)) {
            (Ok(()), Ok(len)) if body_len <= MAX_BODY_BYTES => len,
            (written, _) => {
                self.bytes.truncate(start);
                return written.and(Err(RecordRefused::TooLong.into()));
            }
        };
        let frame = self.bytes.get_mut(start..).unwrap_or_default();
        if let Some((header, _)) = frame.split_first_chunk_mut::<FRAME_HEADER_BYTES>() {
            header[..4].copy_from_slice(&len.to_be_bytes());
            header[16] = kind;
            header[17] = version;
        }
        self.lens.push(FRAME_HEADER_BYTES + body_len);
        Ok(())
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.lens.len()
    }

    /// Returns true if the group has no records.
    pub fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// Returns the size of the group in the log, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Removes all records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lens.clear();
    }

    /// Writes positions and checksums into the frames, for a group that begins at `start`. Adds the
    /// positions to the list and returns the bytes to write.
    pub(super) fn stamp(&mut self, start: Position, positions: &mut Vec<Position>) -> &[u8] {
        let mut rest = self.bytes.as_mut_slice();
        let mut position = start;
        let mut flag = GROUP_FIRST;
        for &len in &self.lens {
            let Some((frame, behind)) = rest.split_at_mut_checked(len) else { break };
            stamp_frame(frame, position, flag);
            positions.push(position);
            position = position.plus(len as u64);
            flag = 0;
            rest = behind;
        }
        &self.bytes
    }
}

fn stamp_frame(frame: &mut [u8], position: Position, flag: u8) {
    if let Some((header, body)) = frame.split_first_chunk_mut::<FRAME_HEADER_BYTES>() {
        header[8..16].copy_from_slice(&position.0.to_be_bytes());
        header[16] = (header[16] & !GROUP_FIRST) | flag;
        let crc = checksum(header, body);
        header[4..8].copy_from_slice(&crc.to_be_bytes());
    }
}

/// The claims of the first bytes of a frame. The checksum has not proved them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    /// The number of bytes that the checksum covers: the header, and the body of a record.
    pub(super) checked_bytes: usize,
    /// The number of bytes up to the next frame.
    pub(super) total_bytes: u64,
}

/// Returns the CRC-32C of the whole frame without the four bytes of the checksum.
fn checksum(header: &[u8; FRAME_HEADER_BYTES], body: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&header[..4]);
    let crc = crc32c::crc32c_append(crc, &header[8..]);
    crc32c::crc32c_append(crc, body)
}

/// Returns the lengths that the first bytes of a frame claim, if they can begin a frame at
/// `position`. Otherwise returns the reason.
pub(super) fn claim(bytes: &[u8], position: Position) -> Result<Claim, &'static str> {
    let Some(header) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Err("the frame's header is cut short");
    };
    let [l0, l1, l2, l3, _, _, _, _, p @ .., kind, _] = *header;
    if u64::from_be_bytes(p) != position.0 {
        return Err("there is no frame of this position");
    }
    let word = u32::from_be_bytes([l0, l1, l2, l3]);
    let len = (word & ((1 << LEN_BITS) - 1)) as usize;
    let padding = (word & !CUT) >> LEN_BITS;
    if len > MAX_BODY_BYTES || padding > PADDING_MAX {
        return Err("the frame's length is above the limit");
    }
    let is_hole = kind & !GROUP_FIRST == HOLE;
    let checked_bytes = FRAME_HEADER_BYTES + if is_hole { 0 } else { len };
    Ok(Claim { checked_bytes, total_bytes: (FRAME_HEADER_BYTES + len) as u64 + u64::from(padding) })
}

/// Returns true if the first bytes of a frame claim to be a hole.
pub(super) fn claims_hole(bytes: &[u8]) -> bool {
    bytes
        .first_chunk::<FRAME_HEADER_BYTES>()
        .is_some_and(|header| header[16] & !GROUP_FIRST == HOLE)
}

/// Returns the whole frame at the start of `bytes`, or the reason why there is none.
pub(super) fn parse(bytes: &[u8], position: Position) -> Result<Frame<'_>, &'static str> {
    let Claim { checked_bytes, total_bytes } = claim(bytes, position)?;
    let whole = bytes.get(..checked_bytes).ok_or("the frame is cut short")?;
    let Some((header, body)) = whole.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Err("the frame's header is cut short");
    };
    let stored = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    if stored != checksum(header, body) && !failpoint::is_on(Switch::ChecksumOff) {
        return Err("the frame's checksum does not match");
    }
    let (group_first, kind) = (header[16] & GROUP_FIRST != 0, header[16] & !GROUP_FIRST);
    let (version, is_cut) = (header[17], header[0] & CUT.to_be_bytes()[0] != 0);
    Ok(Frame { position, kind, version, group_first, is_cut, body, total_bytes })
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
