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

/// The kind of a hole: zeros in place of damaged bytes that were salvaged around. A hole keeps
/// every later position unchanged; readers skip it.
pub(super) const HOLE: u8 = 0;

/// The bit of the kind byte that marks the first frame of a group.
const GROUP_FIRST: u8 = 0x80;

/// A whole, checked frame, borrowed from a read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) position: Position,
    pub(super) kind: u8,
    pub(super) version: u8,
    /// Set if the frame is the first of its group.
    pub(super) group_first: bool,
    pub(super) body: &'a [u8],
}

impl Frame<'_> {
    /// Returns the position at which the next frame begins.
    pub(super) fn end(&self) -> Position {
        self.position.plus(self.total_bytes())
    }

    pub(super) fn total_bytes(&self) -> u64 {
        (FRAME_HEADER_BYTES + self.body.len()) as u64
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
        self.add(kind, version, write)
    }

    /// Adds a hole with a body of `body_bytes` zeros.
    pub(super) fn push_hole(&mut self, body_bytes: usize) -> Result<(), RecordRefused> {
        self.add(HOLE, 0, |buffer| {
            buffer.resize(buffer.len() + body_bytes, 0);
            Ok(())
        })
    }

    fn add<E: From<RecordRefused>>(
        &mut self,
        kind: u8,
        version: u8,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
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

/// Returns the CRC-32C of the whole frame without the four bytes of the checksum.
fn checksum(header: &[u8; FRAME_HEADER_BYTES], body: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&header[..4]);
    let crc = crc32c::crc32c_append(crc, &header[8..]);
    crc32c::crc32c_append(crc, body)
}

/// Returns the length that the first bytes of a frame claim, if they can begin a frame at
/// `position`. Otherwise returns the reason.
pub(super) fn claimed_bytes(bytes: &[u8], position: Position) -> Result<usize, &'static str> {
    let Some(header) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Err("the frame's header is cut short");
    };
    let [l0, l1, l2, l3, _, _, _, _, p @ .., _, _] = *header;
    if u64::from_be_bytes(p) != position.0 {
        return Err("there is no frame of this position");
    }
    let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if len > MAX_BODY_BYTES {
        return Err("the frame's length is above the limit");
    }
    Ok(FRAME_HEADER_BYTES + len)
}

/// Returns true if the first bytes of a frame claim to be a hole.
pub(super) fn claims_hole(bytes: &[u8]) -> bool {
    bytes
        .first_chunk::<FRAME_HEADER_BYTES>()
        .is_some_and(|header| header[16] & !GROUP_FIRST == HOLE)
}

/// Returns the whole frame at the start of `bytes`, or the reason why there is none.
pub(super) fn parse(bytes: &[u8], position: Position) -> Result<Frame<'_>, &'static str> {
    let total = claimed_bytes(bytes, position)?;
    let whole = bytes.get(..total).ok_or("the frame is cut short")?;
    let Some((header, body)) = whole.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Err("the frame's header is cut short");
    };
    let stored = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    if stored != checksum(header, body) && !failpoint::is_on(Switch::ChecksumOff) {
        return Err("the frame's checksum does not match");
    }
    let group_first = header[16] & GROUP_FIRST != 0;
    let kind = header[16] & !GROUP_FIRST;
    Ok(Frame { position, kind, version: header[17], group_first, body })
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
