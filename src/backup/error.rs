//! The reason why a backup or a restore failed.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::exit_code::ExitCode;
use crate::base::library_errors::io_words;
use crate::base::ownership;
use crate::data_dir::DataDirError;
use crate::journal::JournalError;

/// The reason why a backup or a restore failed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The operating system returned an error.
    #[error("{path}: {}{}", io_words(cause), ownership::denied(path, cause))]
    Io {
        /// The file or directory with the error.
        path: PathBuf,
        /// The error of the operating system.
        cause: io::Error,
    },
    /// The request makes no sense here; the text says what to do.
    #[error("{0}")]
    Refused(String),
    /// The store of objects refuses or does not answer; the text says what to do.
    #[error("{0}")]
    Store(String),
    /// The backup is cut, damaged or not complete. The text names every wrong file.
    #[error("{0}")]
    Damaged(String),
    /// The command that verifies a backup said nothing about it; the text says how it ended.
    #[error("the backup was restored but could not be verified: triggerd verify ended with {0}")]
    Unverified(String),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The data directory cannot be read.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
}

impl BackupError {
    /// Returns the exit code for this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Io { cause, .. } | Self::Journal(JournalError::Io { source: cause, .. }) => {
                ExitCode::of_io(cause, ExitCode::Failed)
            }
            Self::Refused(_) | Self::Store(_) | Self::Unverified(_) => ExitCode::Failed,
            Self::Damaged(_) | Self::Journal(JournalError::Damage(_)) => ExitCode::Damaged,
            Self::DataDir(error) => error.exit_code(ExitCode::Failed),
        }
    }

    /// Returns the error for wrong files, each with its fault.
    pub(super) fn faults(backup: &str, faults: &[String]) -> Self {
        let count = faults.len();
        let files = if count == 1 { "1 file is" } else { &format!("{count} files are") };
        Self::Damaged(format!(
            "the backup {backup} is damaged; {files} wrong:\n  {}",
            faults.join("\n  ")
        ))
    }
}

/// Adds the path to an error of the operating system.
pub(super) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    move |cause| BackupError::Io { path: path.to_owned(), cause }
}
