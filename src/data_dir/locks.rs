//! The locks of a data directory: on the file `LOCK`, and on the directory itself, because a file
//! can be removed under the process that locked it, and the next process would make another file of
//! that name. Where a directory cannot be locked (NFS), the file alone is locked.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::error::{DataDirError, io_at};
use super::names::LOCK_FILE;
use crate::base::{ownership, regular};

/// The locks, released on drop.
#[derive(Debug)]
pub(super) struct Locks {
    directory: Option<File>,
    /// Absent if no server has run on this directory.
    _file: Option<File>,
}

impl Locks {
    /// Takes both locks exclusively.
    pub(super) fn alone(dir: &Path) -> Result<Self, DataDirError> {
        let directory = of_directory(dir, File::try_lock)?;
        let path = dir.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let file = ownership::open_unfollowed(&mut options, &path).map_err(io_at(&path))?;
        ownership::give_to_owner_of(dir, &file).map_err(io_at(&path))?;
        of_file(dir, path, file.try_lock())?;
        Ok(Self { directory, _file: Some(file) })
    }

    /// Takes both locks shared, so that no server starts. Creates no file.
    pub(super) fn beside_others(dir: &Path) -> Result<Self, DataDirError> {
        let directory = of_directory(dir, File::try_lock_shared)?;
        let path = dir.join(LOCK_FILE);
        let file = match regular::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other.map_err(io_at(&path))?),
        };
        of_file(dir, path, file.as_ref().map_or(Ok(()), File::try_lock_shared))?;
        Ok(Self { directory, _file: file })
    }

    /// True if the directory itself is locked, so that the file `LOCK` may be removed without
    /// letting another process in.
    pub(super) fn holds_directory(&self) -> bool {
        self.directory.is_some()
    }
}

/// Locks the directory; none if this filesystem cannot lock directories.
fn of_directory(
    dir: &Path,
    lock: fn(&File) -> Result<(), TryLockError>,
) -> Result<Option<File>, DataDirError> {
    let directory = File::open(dir).map_err(io_at(dir))?;
    match lock(&directory) {
        Ok(()) => Ok(Some(directory)),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => {
            tracing::debug!(%error, "this filesystem cannot lock directories; the file LOCK alone \
                protects the data directory");
            Ok(None)
        }
    }
}

fn of_file(
    dir: &Path,
    path: PathBuf,
    locked: Result<(), TryLockError>,
) -> Result<(), DataDirError> {
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(dir.to_owned())),
        Err(TryLockError::Error(cause)) => Err(DataDirError::Io { path, cause }),
    }
}
