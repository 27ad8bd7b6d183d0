//! The locks of a data directory: on the file `LOCK`, and on the directory itself, because a file can be removed under the
//! process that has locked it, and the next one would make another of that name. Where a directory cannot be locked (NFS),
//! the file has to do.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{DataDirError, LOCK_FILE, io_at};
use crate::base::ownership;

/// Held as long as this lives.
#[derive(Debug)]
pub(super) struct Locks {
    directory: Option<File>,
    /// None where no server ever was.
    _file: Option<File>,
}

impl Locks {
    /// Keeps everybody else away.
    pub(super) fn alone(dir: &Path) -> Result<Self, DataDirError> {
        let directory = of_directory(dir, File::try_lock)?;
        let path = dir.join(LOCK_FILE);
        let mut options = OpenOptions::new();
        ownership::unfollowed(options.create(true).truncate(false).write(true).mode(0o600));
        let file = options.open(&path).map_err(io_at(&path))?;
        ownership::give_to_owner_of(dir, &file).map_err(io_at(&path))?;
        of_file(dir, path, file.try_lock())?;
        Ok(Self { directory, _file: Some(file) })
    }

    /// Keeps servers away, and makes nothing.
    pub(super) fn beside_others(dir: &Path) -> Result<Self, DataDirError> {
        let directory = of_directory(dir, File::try_lock_shared)?;
        let path = dir.join(LOCK_FILE);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other.map_err(io_at(&path))?),
        };
        of_file(dir, path, file.as_ref().map_or(Ok(()), File::try_lock_shared))?;
        Ok(Self { directory, _file: file })
    }

    /// Whether the file may go without anybody else getting in.
    pub(super) fn holds_directory(&self) -> bool {
        self.directory.is_some()
    }
}

/// None if this filesystem locks no directories.
fn of_directory(dir: &Path, lock: fn(&File) -> Result<(), TryLockError>) -> Result<Option<File>, DataDirError> {
    let directory = File::open(dir).map_err(io_at(dir))?;
    match lock(&directory) {
        Ok(()) => Ok(Some(directory)),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => {
            tracing::debug!(%error, "this filesystem cannot lock directories; the file LOCK alone protects the data directory");
            Ok(None)
        }
    }
}

fn of_file(dir: &Path, path: PathBuf, locked: Result<(), TryLockError>) -> Result<(), DataDirError> {
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(dir.to_owned())),
        Err(TryLockError::Error(cause)) => Err(DataDirError::Io { path, cause }),
    }
}
