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
use super::names::{SnapshotFile, path_of};
use crate::base::failpoint::{self, Switch};
use crate::journal::error::JournalError;
use crate::journal::files::Files;
use crate::journal::new_file::{create_draft, create_unnamed, draft_of, give_name, open_named};
use crate::journal::position::Position;

/// Number of written bytes after which the file is synced, because unsynced bytes delay the syncs
/// of commit groups.
const BYTES_PER_SYNC: u64 = 4 << 20;
/// Number of bytes that are copied at once.
const PIECE_BYTES: usize = 64 << 10;

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
        let unnamed = create_unnamed(files.as_ref(), dir).map_err(JournalError::io(dir))?;
        let (file, draft) = if let Some(file) = unnamed {
            (file, None)
        } else {
            let draft = draft_of(&path);
            let file = create_draft(files.as_ref(), &draft);
            (file.map_err(JournalError::io(&draft))?, Some(draft))
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
        let named = self.name();
        named.map_err(JournalError::io(&self.path))?;
        // Only a start without a state reads the file.
        drop(self.files.drop_cache(&self.file));
        let (position, path) = (self.position, self.path.clone());
        Ok((SnapshotFile { position, path }, self.size))
    }

    /// Gives the synced file its name, and brings the name to stable storage.
    fn name(&mut self) -> io::Result<()> {
        let files = Arc::clone(&self.files);
        if self.draft.is_none() && !give_name(files.as_ref(), &self.file, &self.path)? {
            self.copy_to_draft()?;
        }
        let synced = match self.draft.take() {
            Some(draft) => {
                files.rename(&draft, &self.path).inspect_err(|_| self.draft = Some(draft))
            }
            None if failpoint::is_on(Switch::SnapshotUnsynced) => Ok(()),
            None => open_named(files.as_ref(), &self.path).map(drop),
        };
        let synced = synced.and_then(|()| files.sync_dir(&self.dir));
        synced.inspect_err(|_| {
            // Nobody may take the file for durable.
            if self.draft.is_none()
                && let Err(error) = files.remove(&self.path)
            {
                tracing::warn!(%error, "a snapshot that is not synced could not be removed");
            }
        })
    }

    /// Copies the file, which cannot get a name, to a synced draft.
    fn copy_to_draft(&mut self) -> io::Result<()> {
        let files = Arc::clone(&self.files);
        let draft = draft_of(&self.path);
        let copy = create_draft(files.as_ref(), &draft)?;
        self.draft = Some(draft);
        let mut piece = vec![0; PIECE_BYTES];
        let (mut at, mut unsynced) = (0, 0);
        while at < self.at {
            let got = files.read_at(&self.file, &mut piece, at)?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            files.write_all_at(&copy, piece.get(..got).unwrap_or_default(), at)?;
            at += got as u64;
            unsynced += got as u64;
            if unsynced >= BYTES_PER_SYNC {
                unsynced = 0;
                files.sync_data(&copy)?;
            }
        }
        files.sync_all(&copy)?;
        self.file = copy;
        Ok(())
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
