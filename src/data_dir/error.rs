//! The reasons why a data directory cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use super::contents;
use super::names::{self, FORMAT_VERSION};
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::io_words;
use crate::base::ownership;

/// The reason why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process uses this directory.
    #[error("the data directory {0} is in use by another triggerd; stop that process first")]
    InUse(PathBuf),
    /// Another version wrote the directory.
    #[error(
        "the data directory was written by {writer}, in format {version}; this version reads \
         format {FORMAT_VERSION} only, so run the version that wrote it, or name another [storage] \
         data_dir ({file} says {found:?})",
        writer = names::writer_of(*version)
    )]
    OtherVersion {
        /// The path of the `FORMAT` file.
        file: PathBuf,
        /// The version in the file.
        version: u32,
        /// The content of the file.
        found: String,
    },
    /// The file `FORMAT` is not as a server wrote it.
    #[error(
        "{file} {fault}: a file of the data directory is lost or damaged, or the directory is a \
         copy that is not complete. Copy FORMAT from the original or from another copy. If there \
         is none, `triggerd rebuild` reads every record of the journal and writes a new FORMAT"
    )]
    Format {
        /// The path of the `FORMAT` file.
        file: PathBuf,
        /// The fault of the file.
        fault: FormatFault,
    },
    /// Other users can read a secret, or the file does not hold a valid secret.
    #[error("{path}: {what}")]
    Secret {
        /// The file with the secret.
        path: PathBuf,
        /// The fault, and how to repair it.
        what: String,
        /// The exit code for this fault.
        code: ExitCode,
    },
    /// The directory does not exist, and the command creates none.
    #[error(
        "there is no data directory {0}; check [storage] data_dir, or name another configuration \
         with --config"
    )]
    Missing(PathBuf),
    /// The path exists but is not a directory.
    #[error("{0} is not a directory; [storage] data_dir must name a directory")]
    NoDirectory(PathBuf),
    /// The directory is a backup.
    #[error(
        "{0} is a backup and no data directory; `triggerd restore {0} TO` makes a data directory \
         from it, and `triggerd verify {0}` checks it"
    )]
    Backup(PathBuf),
    /// The directory is not empty, and its files are not triggerd's.
    #[error(
        "{path} is not a data directory of triggerd, and it is not empty: it holds {}. Nothing was \
         changed in it; [storage] data_dir must name a directory that is empty, or that does not \
         exist yet",
        contents::listed(found, *more)
    )]
    Foreign {
        /// The directory with the foreign files.
        path: PathBuf,
        /// The first of the foreign names.
        found: Vec<String>,
        /// Number of further foreign names.
        more: usize,
    },
    /// The operating system returned an error.
    #[error("{path}: {}{}", io_words(cause), ownership::denied(path, cause))]
    Io {
        /// The file or directory with the error.
        path: PathBuf,
        /// The error of the operating system.
        cause: io::Error,
    },
}

/// The fault of a file `FORMAT` that says nothing about the version of the directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatFault {
    /// There is no such file.
    #[error("is missing")]
    Missing,
    /// The name belongs to a directory.
    #[error("is a directory, not a file (move it away first)")]
    Directory,
    /// The name belongs to a pipe, a socket or a device.
    #[error("is a pipe, a socket or a device, not a file")]
    NoFile,
    /// The file has no text.
    #[error("is empty")]
    Empty,
    /// The text is not a whole line of the right form.
    #[error("is cut short or overwritten (it holds {0:?})")]
    Garbled(String),
}

impl DataDirError {
    /// The exit code for this error. `otherwise` is the code of an error that a restart may repair.
    pub fn exit_code(&self, otherwise: ExitCode) -> ExitCode {
        match self {
            Self::InUse(_) => ExitCode::InUse,
            Self::OtherVersion { .. } | Self::Format { .. } => ExitCode::Damaged,
            Self::Secret { code, .. } => *code,
            Self::Missing(_) | Self::NoDirectory(_) | Self::Foreign { .. } | Self::Backup(_) => {
                ExitCode::Usage
            }
            Self::Io { cause, .. } => ExitCode::of_io(cause, otherwise),
        }
    }
}

pub(super) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    move |cause| DataDirError::Io { path: path.to_owned(), cause }
}

/// Maps an I/O error of the data directory itself.
pub(super) fn of_directory(path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    move |cause| match cause.kind() {
        io::ErrorKind::NotFound => DataDirError::Missing(path.to_owned()),
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            DataDirError::NoDirectory(path.to_owned())
        }
        _ => DataDirError::Io { path: path.to_owned(), cause },
    }
}
