//! Writes a snapshot: block by block into a file without a name, which gets its name when it is
//! whole and synced.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{
    BLOCK_BYTES, SnapshotHeader, SnapshotSize, Trailer, chained, encode_block_header,
    encode_header, encode_trailer, push_row,
};
use super::names::{SnapshotFile, draft_of, path_of};
use crate::base::failpoint::{self, Switch};
use crate::journal::error::JournalError;
use crate::journal::files::Files;
use crate::journal::position::Position;
use crate::journal::spare::is_unsupported;

/// Number of written bytes after which the file is synced, because unsynced bytes delay the syncs
/// of commit groups.
const BYTES_PER_SYNC: u64 = 4 << 20;

/// A snapshot in the making.
pub struct SnapshotWriter {
    files: Arc<dyn Files>,
    dir: PathBuf,
    path: PathBuf,
    file: File,
    /// The name until the file is complete, on filesystems where a file needs one.
    draft: Option<PathBuf>,
    /// The end of the written bytes.
    at: u64,
    unsynced: u64,
    block: Vec<u8>,
    chain: u32,
    size: SnapshotSize,
    position: Position,
}

impl SnapshotWriter {
    /// Begins a snapshot in the journal's directory.
    pub fn create(
        files: Arc<dyn Files>,
        dir: &Path,
        header: SnapshotHeader,
    ) -> Result<Self, JournalError> {
        let path = path_of(dir, header.position);
        let (file, draft) = match files.create_unnamed(dir) {
            Err(error) if is_unsupported(&error) => {
                let draft = draft_of(&path);
                (create_draft(files.as_ref(), &draft)?, Some(draft))
            }
            other => (other.map_err(JournalError::io(dir))?, None),
        };
        let (bytes, chain) = encode_header(&header);
        let mut writer = Self {
            files,
            dir: dir.to_owned(),
            path,
            file,
            draft,
            at: 0,
            unsynced: 0,
            block: Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 4),
            chain,
            size: SnapshotSize::default(),
            position: header.position,
        };
        writer.write(&bytes)?;
        Ok(writer)
    }

    /// Adds the next row, whose key is above all keys before it.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), JournalError> {
        let pushed = push_row(&mut self.block, key, value);
        pushed.map_err(|reason| JournalError::io(&self.path)(io::Error::other(reason)))?;
        self.size.rows += 1;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    /// Returns the extent of the complete blocks.
    pub fn size(&self) -> SnapshotSize {
        self.size
    }

    /// Completes the snapshot and gives it its name. When this function returns, the snapshot is
    /// durable.
    pub fn finish(mut self) -> Result<(SnapshotFile, SnapshotSize), JournalError> {
        self.end_block()?;
        let trailer = encode_trailer(&Trailer { size: self.size, chain: self.chain });
        self.write(&trailer)?;
        if !failpoint::is_on(Switch::SnapshotUnsynced) {
            self.files.sync_all(&self.file).map_err(JournalError::io(&self.path))?;
        }
        self.name().map_err(JournalError::io(&self.path))?;
        self.draft = None;
        // Only a start without a state reads the file.
        drop(self.files.drop_cache(&self.file));
        let (position, path) = (self.position, self.path.clone());
        Ok((SnapshotFile { position, path }, self.size))
    }

    /// Gives the synced file its name, and brings the name to stable storage.
    fn name(&self) -> io::Result<()> {
        match &self.draft {
            Some(draft) => self.files.rename(draft, &self.path)?,
            None => self.files.name(&self.file, &self.path)?,
        }
        // btrfs does not log a file without a name, so it is synced again.
        let is_unnamed = self.draft.is_none() && !failpoint::is_on(Switch::SnapshotUnsynced);
        let synced = if is_unnamed { self.files.sync_all(&self.file) } else { Ok(()) };
        let synced = synced.and_then(|()| self.files.sync_dir(&self.dir));
        synced.inspect_err(|_| {
            // Nobody may take the file for durable.
            if let Err(error) = self.files.remove(&self.path) {
                tracing::warn!(%error, "a snapshot that is not synced could not be removed");
            }
        })
    }

    fn end_block(&mut self) -> Result<(), JournalError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let mut block = std::mem::take(&mut self.block);
        self.chain = chained(self.chain, &block);
        let header =
            encode_block_header(u32::try_from(block.len()).unwrap_or_default(), self.chain);
        self.write(&header)?;
        self.write(&block)?;
        self.size.blocks += 1;
        self.size.bytes += (header.len() + block.len()) as u64;
        block.clear();
        self.block = block;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        self.files
            .write_all_at(&self.file, bytes, self.at)
            .map_err(JournalError::io(&self.path))?;
        self.at += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= BYTES_PER_SYNC && !failpoint::is_on(Switch::SnapshotUnsynced) {
            self.unsynced = 0;
            self.files.sync_data(&self.file).map_err(JournalError::io(&self.path))?;
        }
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    /// Removes what was given up.
    fn drop(&mut self) {
        if let Some(draft) = &self.draft
            && let Err(error) = self.files.remove(draft)
        {
            tracing::debug!(%error, "a snapshot that was given up could not be removed");
        }
    }
}

/// Creates the file under the name of a draft. A crash may have left the draft behind.
fn create_draft(files: &dyn Files, draft: &Path) -> Result<File, JournalError> {
    let made = match files.remove(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => files.create_new(draft),
    };
    made.map_err(JournalError::io(draft))
}
