//! Reads a snapshot block by block, and checks every byte.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::format::{
    BLOCK_BYTES_MAX, BLOCK_HEADER_LEN, HEADER_LEN, SnapshotHeader, SnapshotSize, TRAILER_LEN,
    Trailer, chained, decode_block_header, decode_header, decode_trailer, take_row,
};
use super::names::SnapshotFile;
use crate::base::failpoint::{self, Switch};
use crate::journal::error::{Damage, JournalError};
use crate::journal::files::Files;

/// The key and the value of a row.
type Row<'a> = (&'a [u8], &'a [u8]);

/// A snapshot that is being read.
pub struct SnapshotReader {
    files: Arc<dyn Files>,
    path: PathBuf,
    file: File,
    header: SnapshotHeader,
    /// The length of the file, in bytes.
    len: u64,
    /// The offset of the next block.
    at: u64,
    chain: u32,
    read: SnapshotSize,
    block: Vec<u8>,
    last_key: Vec<u8>,
    is_over: bool,
}

impl SnapshotReader {
    /// Opens a snapshot and reads its header.
    pub(super) fn open(
        files: Arc<dyn Files>,
        snapshot: &SnapshotFile,
    ) -> Result<Self, JournalError> {
        let path = snapshot.path.clone();
        let file = files.open_to_read(&path).map_err(JournalError::io(&path))?;
        let len = files.metadata(&file).map_err(JournalError::io(&path))?.len;
        let mut bytes = [0; HEADER_LEN];
        let got = files.read_at(&file, &mut bytes, 0).map_err(JournalError::reading(&path))?;
        let damage = |reason| JournalError::Damage(Damage::new(&path, 0, reason));
        let (header, chain) =
            decode_header(bytes.get(..got).unwrap_or_default()).map_err(damage)?;
        if header.position != snapshot.position {
            return Err(damage("the snapshot's header and name disagree on its position"));
        }
        Ok(Self {
            files,
            path,
            file,
            header,
            len,
            at: HEADER_LEN as u64,
            chain,
            read: SnapshotSize::default(),
            block: Vec::new(),
            last_key: Vec::new(),
            is_over: false,
        })
    }

    /// Returns the header.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// Returns the length of the file, in bytes.
    pub fn bytes(&self) -> u64 {
        self.len
    }

    /// Returns how many bytes of the file are read.
    pub fn bytes_read(&self) -> u64 {
        self.at
    }

    /// Returns the extent of the blocks that are read.
    pub fn size(&self) -> SnapshotSize {
        self.read
    }

    /// Returns the rows of the next block. `None` at the end of a whole snapshot.
    pub fn next_rows(&mut self) -> Result<Option<Vec<Row<'_>>>, JournalError> {
        if self.is_over {
            return Ok(None);
        }
        match self.next_block() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(JournalError::Damage(_)) if failpoint::is_on(Switch::TornSnapshotBelieved) => {
                self.is_over = true;
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let mut rest = self.block.as_slice();
        let rows: Vec<_> = std::iter::from_fn(|| take_row(&mut rest)).collect();
        let keys = std::iter::once(self.last_key.as_slice()).chain(rows.iter().map(|row| row.0));
        let is_ordered = keys.is_sorted_by(|before, key| before < key);
        if !rest.is_empty() || !is_ordered {
            let reason = "the rows of a block are malformed, or not in order";
            return Err(JournalError::Damage(Damage::new(&self.path, self.at, reason)));
        }
        self.read.rows += rows.len() as u64;
        self.last_key = rows.last().map(|(key, _)| key.to_vec()).unwrap_or_default();
        Ok(Some(rows))
    }

    /// Reads and checks the next block. Returns false after the last block of a whole snapshot.
    fn next_block(&mut self) -> Result<bool, JournalError> {
        let mut header = [0; BLOCK_HEADER_LEN];
        self.fill(&mut header, 0)?;
        let (len, crc) = decode_block_header(header);
        if len == 0 {
            self.end()?;
            return Ok(false);
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let left = self.len.saturating_sub(self.at + BLOCK_HEADER_LEN as u64);
        if len > BLOCK_BYTES_MAX || len as u64 > left {
            return Err(self.damage("a block exceeds the file: the snapshot is torn or damaged"));
        }
        let mut block = std::mem::take(&mut self.block);
        block.resize(len, 0);
        self.fill(&mut block, BLOCK_HEADER_LEN as u64)?;
        self.block = block;
        let chain = chained(self.chain, &self.block);
        if chain != crc {
            return Err(self.damage("the checksum of a block is wrong"));
        }
        self.chain = chain;
        let bytes = (BLOCK_HEADER_LEN + len) as u64;
        self.at += bytes;
        self.read.blocks += 1;
        self.read.bytes += bytes;
        Ok(true)
    }

    fn end(&mut self) -> Result<(), JournalError> {
        let trailer = self.trailer_at(self.at)?;
        let expected = Trailer { size: self.read, chain: self.chain };
        if trailer != Some(expected) || self.at + TRAILER_LEN as u64 != self.len {
            return Err(self.damage("the trailer is missing or wrong: the snapshot is torn"));
        }
        self.at = self.len;
        self.is_over = true;
        Ok(())
    }

    /// Returns the extent that the trailer names, if the file ends with a trailer that fits its
    /// length. Does not read the blocks.
    pub(super) fn claimed_size(&self) -> Result<Option<SnapshotSize>, JournalError> {
        let Some(at) = self.len.checked_sub(TRAILER_LEN as u64) else { return Ok(None) };
        let size = self.trailer_at(at)?.map(|trailer| trailer.size);
        Ok(size.filter(|size| HEADER_LEN as u64 + size.bytes == at))
    }

    fn trailer_at(&self, at: u64) -> Result<Option<Trailer>, JournalError> {
        let mut bytes = [0; TRAILER_LEN];
        let read = self.files.read_at(&self.file, &mut bytes, at);
        let got = read.map_err(JournalError::reading(&self.path))?;
        Ok((got == TRAILER_LEN).then(|| decode_trailer(bytes)).flatten())
    }

    /// Reads the bytes at `skipped` bytes after the beginning of the next block.
    fn fill(&self, target: &mut [u8], skipped: u64) -> Result<(), JournalError> {
        let read = self.files.read_at(&self.file, target, self.at + skipped);
        let got = read.map_err(JournalError::reading(&self.path))?;
        if got < target.len() {
            return Err(self.damage("the file ends in a block: the snapshot is torn"));
        }
        Ok(())
    }

    fn damage(&self, reason: &'static str) -> JournalError {
        JournalError::Damage(Damage::new(&self.path, self.at, reason))
    }
}
