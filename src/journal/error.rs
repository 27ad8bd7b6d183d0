//! The errors of the journal. Each error names the file, so that an operator can inspect it. The
//! server decides elsewhere how to respond.

use std::io;
use std::path::{Path, PathBuf};

use super::files::is_unreadable;
use super::position::Position;
use crate::base::library_errors::is_no_space;
use crate::base::library_errors::{io_words, os_words};
use crate::base::ownership;

/// Damaged bytes, which differ from the written and synced bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} is damaged at offset {offset}: {reason}")]
pub struct Damage {
    /// The path of the segment file.
    pub file: PathBuf,
    /// The offset in the file at which the damage begins, in bytes.
    pub offset: u64,
    /// The reason, in words for an operator.
    pub reason: String,
}

impl Damage {
    pub(super) fn new(file: &Path, offset: u64, reason: impl Into<String>) -> Self {
        let file = file.to_path_buf();
        Self { file, offset, reason: reason.into() }
    }
}

/// The reason why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The journal is damaged: neither a crash nor a copy explains its content.
    #[error(transparent)]
    Damage(Damage),
    /// The operating system refused an operation.
    #[error("{path}: {}{}", io_words(source), ownership::denied(path, source))]
    Io {
        /// The file or directory of the operation.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl JournalError {
    /// Returns the kind of the error if the disk or the quota is full.
    pub fn no_space(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => {
                Some(source).filter(|it| is_no_space(it)).map(io::Error::kind)
            }
            Self::Damage(_) => None,
        }
    }

    /// Returns a function for `map_err` that adds the path to an I/O error.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }

    /// Returns a function for `map_err` after reads: bytes that the disk cannot read are damage.
    /// For writes and syncs use [`Self::io`], because a restart may repair them.
    pub(super) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if is_unreadable(&source) {
                let reason = format!(
                    "the disk cannot read the file at or after this offset ({})",
                    os_words(&source)
                );
                return Self::Damage(Damage::new(path, 0, reason));
            }
            Self::Io { path: path.to_path_buf(), source }
        }
    }
}

/// The reason why a group was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no space for the next segment: the disk is full, or the user's quota is used up.
    /// Nothing was written, and the same group can be appended when there is space.
    #[error("no space for the next journal segment ({0})")]
    NoSpace(io::ErrorKind),
    /// A write or a sync failed, so the content of the disk is unknown. The writer refuses all
    /// further groups; the process should end and open the journal again.
    #[error("the journal cannot be written: {}", os_words(.0))]
    Fatal(io::Error),
}

/// The reason why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The position is at or after the end of the synced frames.
    #[error("position {0} is not written yet")]
    NotWritten(Position),
    /// The position lies before the oldest segment, or in a damaged part that was salvaged around.
    #[error("position {0} was removed")]
    Removed(Position),
    /// There is no whole frame at the position.
    #[error(transparent)]
    Damage(Damage),
    /// The operating system refused the read.
    #[error("{path}: {}{}", io_words(source), ownership::denied(path, source))]
    Io {
        /// The path of the segment file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl ReadError {
    /// Returns a function for `map_err` that adds the path to an I/O error.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }
}
