//! The snapshots in a journal's directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{SnapshotHeader, SnapshotSize};
use super::names::{SnapshotFile, is_draft, position_of};
use super::reader::SnapshotReader;
use crate::base::failpoint::{self, Switch};
use crate::journal::error::{Damage, JournalError};
use crate::journal::files::Files;
use crate::journal::position::Position;

impl SnapshotFile {
    /// Opens the snapshot and reads its header.
    ///
    /// # Errors
    /// The header is damaged or of another snapshot, or the file cannot be read.
    pub fn open(&self, files: &Arc<dyn Files>) -> Result<SnapshotReader, JournalError> {
        SnapshotReader::open(Arc::clone(files), self)
    }

    /// Reads the whole snapshot and checks every byte.
    ///
    /// # Errors
    /// The snapshot is torn or damaged, or the file cannot be read.
    pub fn check(&self, files: &Arc<dyn Files>) -> Result<SnapshotSize, JournalError> {
        let mut reader = self.open(files)?;
        while reader.next_rows()?.is_some() {}
        Ok(reader.size())
    }

    /// Like [`SnapshotFile::check`], but reads from the disk what the kernel may have in memory.
    ///
    /// # Errors
    /// As [`SnapshotFile::check`].
    pub fn check_on_disk(&self, files: &Arc<dyn Files>) -> Result<SnapshotSize, JournalError> {
        let file = files.open_to_read(&self.path).map_err(JournalError::io(&self.path))?;
        files.drop_cache(&file).map_err(JournalError::io(&self.path))?;
        self.check(files)
    }

    /// Reads the beginning and the end. Finds a torn snapshot, but no damage in the middle.
    ///
    /// # Errors
    /// As [`SnapshotFile::check`].
    pub fn ends(
        &self,
        files: &Arc<dyn Files>,
    ) -> Result<(SnapshotHeader, SnapshotSize), JournalError> {
        let reader = self.open(files)?;
        let torn = "the trailer is missing or wrong: the snapshot is torn";
        let believed = failpoint::is_on(Switch::TornSnapshotBelieved).then(SnapshotSize::default);
        let size = reader.claimed_size()?.or(believed);
        let size = size.ok_or_else(|| Damage::new(&self.path, reader.bytes(), torn));
        Ok((*reader.header(), size.map_err(JournalError::Damage)?))
    }
}

/// Returns the latest beginning of the journal that a snapshot in `dir` witnesses: everything
/// before it was removed on purpose. A torn snapshot witnesses nothing.
///
/// # Errors
/// The directory or a file cannot be read.
pub fn first_witnessed(dir: &Path, files: &Arc<dyn Files>) -> Result<Position, JournalError> {
    let mut first = Position::FIRST;
    for snapshot in snapshots_in(dir, files.as_ref())? {
        match snapshot.ends(files) {
            Ok((header, _)) => first = first.max(header.first),
            Err(JournalError::Damage(_)) => {}
            Err(error @ JournalError::Io { .. }) => return Err(error),
        }
    }
    Ok(first)
}

/// Removes the drafts of snapshots that a crash left in `dir`. No snapshot may be in the making.
///
/// # Errors
/// The directory cannot be read, or a file cannot be removed.
pub fn clear_snapshot_drafts(dir: &Path, files: &dyn Files) -> Result<(), JournalError> {
    let paths = files.list(dir).map_err(JournalError::io(dir))?;
    let mut drafts = paths.into_iter().filter(|path| is_draft(path));
    drafts.try_for_each(|path| files.remove(&path).map_err(JournalError::io(&path)))
}

/// Returns the files in `dir` with the name of a snapshot, the oldest position first.
///
/// # Errors
/// The directory cannot be read.
pub fn snapshots_in(dir: &Path, files: &dyn Files) -> Result<Vec<SnapshotFile>, JournalError> {
    let paths = match files.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(JournalError::io(dir))?,
    };
    // A directory, a link or a pipe of this name is none of ours.
    let snapshot = |path: PathBuf| {
        let is_file = fs::symlink_metadata(&path).is_ok_and(|facts| facts.is_file());
        let position = position_of(&path).filter(|_| is_file)?;
        Some(SnapshotFile { position, path })
    };
    let mut found: Vec<_> = paths.into_iter().filter_map(snapshot).collect();
    found.sort_unstable_by_key(|snapshot| snapshot.position);
    Ok(found)
}
