//! What can go wrong in the journal. Each error names the file, so that an
//! operator can look at it; none knows how the server answers to it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::files::is_unreadable;
use super::frame::Position;
use crate::base::ownership;

/// Bytes that are not what was once written and synced there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment file.
    pub file: PathBuf,
    /// Where in the file the damage begins, in bytes.
    pub offset: u64,
    /// What is wrong there, for a person.
    pub reason: String,
}

impl Damage {
    pub(super) fn new(file: &Path, offset: u64, reason: impl Into<String>) -> Self {
        let file = file.to_path_buf();
        Self { file, offset, reason: reason.into() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, reason } = self;
        write!(f, "{} is damaged at offset {offset}: {reason}", file.display())
    }
}

impl Error for Damage {}

/// Why a journal could not be opened.
#[derive(Debug)]
pub enum JournalError {
    /// It holds something that no crash and no copy explains.
    Damage(Damage),
    /// The operating system refused.
    Io {
        /// The file or directory it was about.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl JournalError {
    /// For `map_err`: an I/O error with the path it was about.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }

    /// The same for reading: what the disk cannot give is damage. Not so for writing and syncing, which a restart may mend.
    pub(super) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if is_unreadable(&source) {
                let reason = format!("the disk cannot read the file at or after this offset ({source})");
                return Self::Damage(Damage::new(path, 0, reason));
            }
            Self::Io { path: path.to_path_buf(), source }
        }
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damage(damage) => damage.fmt(f),
            Self::Io { path, source } => {
                write!(f, "{}: {source}{}", path.display(), ownership::denied(path, source))
            }
        }
    }
}

impl Error for JournalError {}

/// Why a group was not appended.
#[derive(Debug)]
pub enum AppendError {
    /// There was no space for the next segment: the disk is full, or the user's
    /// quota used up. Nothing was written, and the same group can be appended
    /// when there is.
    NoSpace(io::ErrorKind),
    /// A write or a sync failed, so it is unknown what is on disk. The writer
    /// accepts nothing any more; the process should end and open it again.
    Fatal(io::Error),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace(kind) => write!(f, "no space for the next journal segment ({kind})"),
            Self::Fatal(source) => write!(f, "the journal cannot be written: {source}"),
        }
    }
}

impl Error for AppendError {}

/// Why a frame could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// The position is at or behind the end of what was synced.
    NotWritten(Position),
    /// The position lies before the oldest segment that is kept, or in a part that
    /// was damaged and salvaged around.
    Removed(Position),
    /// There is no whole frame at the position.
    Damage(Damage),
    /// The operating system refused.
    Io {
        /// The segment file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl ReadError {
    /// For `map_err`: an I/O error with the path it was about.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWritten(position) => write!(f, "position {position} is not written yet"),
            Self::Removed(position) => write!(f, "position {position} was removed"),
            Self::Damage(damage) => damage.fmt(f),
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

impl Error for ReadError {}
