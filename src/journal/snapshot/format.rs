//! The bytes of a snapshot: header, blocks and trailer. Knows no files.

use crate::journal::position::Position;

const MAGIC: [u8; 4] = *b"TRGS";
const FORMAT: u32 = 1;

/// Number of bytes before the first block.
pub(super) const HEADER_LEN: usize = 40;
/// Number of bytes after the last block.
pub(super) const TRAILER_LEN: usize = 36;
/// Number of bytes before the rows of a block.
pub(super) const BLOCK_HEADER_LEN: usize = 8;
/// Number of bytes of rows at which a block ends.
pub(super) const BLOCK_BYTES: usize = 64 << 10;
/// Maximum number of bytes of rows in a block, which may hold a single large row.
pub(super) const BLOCK_BYTES_MAX: usize = 32 << 20;

/// The beginning of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The format of all rows together, which the caller defines.
    pub rows_format: u32,
    /// The position of the first record that the rows lack.
    pub position: Position,
    /// The first position of the journal when the snapshot was taken.
    pub first: Position,
    /// The time at which the snapshot was taken, in Unix milliseconds.
    pub taken_at_ms: u64,
}

/// The extent of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotSize {
    /// The number of blocks.
    pub blocks: u64,
    /// The number of rows.
    pub rows: u64,
    /// The number of bytes of all blocks, with their headers.
    pub bytes: u64,
}

/// The end of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) size: SnapshotSize,
    /// The checksum of the last block, or of the header if there is no block.
    pub(super) chain: u32,
}

/// Returns the bytes of the header, and the checksum with which the chain begins.
pub(super) fn encode_header(header: &SnapshotHeader) -> ([u8; HEADER_LEN], u32) {
    let mut bytes = [0; HEADER_LEN];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&FORMAT.to_be_bytes());
    bytes[8..12].copy_from_slice(&header.rows_format.to_be_bytes());
    bytes[12..20].copy_from_slice(&header.position.0.to_be_bytes());
    bytes[20..28].copy_from_slice(&header.first.0.to_be_bytes());
    bytes[28..36].copy_from_slice(&header.taken_at_ms.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[..36]);
    bytes[36..].copy_from_slice(&crc.to_be_bytes());
    (bytes, crc)
}

/// Reads a header. Returns it with the checksum with which the chain begins, or the reason why it
/// is none.
pub(super) fn decode_header(bytes: &[u8]) -> Result<(SnapshotHeader, u32), &'static str> {
    let header = bytes.first_chunk::<HEADER_LEN>().ok_or("the file is shorter than a header")?;
    let crc = u32::from_be_bytes([header[36], header[37], header[38], header[39]]);
    if header[..4] != MAGIC || crc != crc32c::crc32c(&header[..36]) {
        return Err("the header is damaged");
    }
    if header[4..8] != FORMAT.to_be_bytes() {
        return Err("this version does not know the snapshot's format");
    }
    let mut rest = &header[8..];
    let rows_format = number(&mut rest, 4);
    let header = SnapshotHeader {
        rows_format: u32::try_from(rows_format).unwrap_or_default(),
        position: Position(number(&mut rest, 8)),
        first: Position(number(&mut rest, 8)),
        taken_at_ms: number(&mut rest, 8),
    };
    Ok((header, crc))
}

/// Returns the checksum of a block, which continues the checksum before it.
pub(super) fn chained(before: u32, rows: &[u8]) -> u32 {
    let len = u32::try_from(rows.len()).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c_append(before, &len.to_be_bytes()), rows)
}

/// Returns the header of a block, from the length of its rows and its checksum.
pub(super) fn encode_block_header(len: u32, crc: u32) -> [u8; BLOCK_HEADER_LEN] {
    let mut bytes = [0; BLOCK_HEADER_LEN];
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    bytes[4..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Reads the length and the checksum from the header of a block.
pub(super) fn decode_block_header(bytes: [u8; BLOCK_HEADER_LEN]) -> (u32, u32) {
    let [l0, l1, l2, l3, c0, c1, c2, c3] = bytes;
    (u32::from_be_bytes([l0, l1, l2, l3]), u32::from_be_bytes([c0, c1, c2, c3]))
}

pub(super) fn encode_trailer(trailer: &Trailer) -> [u8; TRAILER_LEN] {
    let mut bytes = [0; TRAILER_LEN];
    bytes[4..12].copy_from_slice(&trailer.size.blocks.to_be_bytes());
    bytes[12..20].copy_from_slice(&trailer.size.rows.to_be_bytes());
    bytes[20..28].copy_from_slice(&trailer.size.bytes.to_be_bytes());
    bytes[28..32].copy_from_slice(&trailer.chain.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[..32]);
    bytes[32..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Reads a trailer. `None` if the bytes are none.
pub(super) fn decode_trailer(bytes: [u8; TRAILER_LEN]) -> Option<Trailer> {
    let crc = u32::from_be_bytes([bytes[32], bytes[33], bytes[34], bytes[35]]);
    if bytes[..4] != [0; 4] || crc != crc32c::crc32c(&bytes[..32]) {
        return None;
    }
    let mut rest = &bytes[4..];
    let (blocks, rows, bytes) = (number(&mut rest, 8), number(&mut rest, 8), number(&mut rest, 8));
    let chain = u32::try_from(number(&mut rest, 4)).unwrap_or_default();
    Some(Trailer { size: SnapshotSize { blocks, rows, bytes }, chain })
}

/// Appends a row to a block.
pub(super) fn push_row(block: &mut Vec<u8>, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    let key_len = u16::try_from(key.len()).map_err(|_too_long| "a key is too long")?;
    let value_len = u32::try_from(value.len()).map_err(|_too_long| "a value is too long")?;
    if value.len() + key.len() > BLOCK_BYTES_MAX / 2 {
        return Err("a row is too long");
    }
    block.extend_from_slice(&key_len.to_be_bytes());
    block.extend_from_slice(key);
    block.extend_from_slice(&value_len.to_be_bytes());
    block.extend_from_slice(value);
    Ok(())
}

/// Takes the next row from the front of a block's rows.
pub(super) fn take_row<'a>(rows: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (len, rest) = rows.split_first_chunk::<2>()?;
    let (key, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let (value, rest) = rest.split_at_checked(len)?;
    *rows = rest;
    Some((key, value))
}

/// Takes a number of `len` bytes from the front.
fn number(bytes: &mut &[u8], len: usize) -> u64 {
    let (number, rest) = bytes.split_at_checked(len).unwrap_or_default();
    *bytes = rest;
    number.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
