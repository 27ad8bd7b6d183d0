//! The lock of a directory in which backups are made or restored.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::error::{BackupError, io_at};

/// Locks the directory against other processes. Refuses with this message if one has the lock.
pub(super) fn lock(directory: &Path, busy: &str) -> Result<File, BackupError> {
    let file = File::open(directory).map_err(io_at(directory))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BackupError::Refused(busy.to_owned())),
        Err(TryLockError::Error(error)) => {
            tracing::debug!(%error, "this filesystem cannot lock directories");
            Ok(file)
        }
    }
}
