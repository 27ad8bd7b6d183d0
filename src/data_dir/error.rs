//! The reasons why a data directory cannot be used.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::format::FORMAT_VERSION;
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::io_words;
use crate::base::ownership;

/// The reason why a data directory cannot be used.
#[derive(Debug)]
pub enum DataDirError {
    /// Another process uses this directory.
    InUse(PathBuf),
    /// Another version wrote the directory, or it is not a data directory.
    Format {
        /// The path of the `FORMAT` file.
        file: PathBuf,
        /// The content of the `FORMAT` file.
        found: String,
    },
    /// Other users can read a secret, or the file does not hold a valid secret.
    Secret {
        /// The file with the secret.
        path: PathBuf,
        /// The fault, and how to repair it.
        what: String,
        /// The exit code for this fault.
        code: ExitCode,
    },
    /// The directory does not exist, and the command creates none.
    Missing(PathBuf),
    /// The path exists but is not a directory.
    NoDirectory(PathBuf),
    /// The directory is not empty, and its files are not triggerd's.
    Foreign {
        /// The directory with the foreign files.
        path: PathBuf,
        /// The first of the foreign names.
        found: Vec<String>,
        /// Number of further foreign names.
        more: usize,
    },
    /// The operating system returned an error.
    Io {
        /// The file or directory with the error.
        path: PathBuf,
        /// The error of the operating system.
        cause: io::Error,
    },
}

impl DataDirError {
    /// The exit code for this error. `otherwise` is the code of an error that a restart may repair.
    pub fn exit_code(&self, otherwise: ExitCode) -> ExitCode {
        match self {
            Self::InUse(_) => ExitCode::InUse,
            Self::Format { .. } => ExitCode::Damaged,
            Self::Secret { code, .. } => *code,
            Self::Missing(_) | Self::NoDirectory(_) | Self::Foreign { .. } => ExitCode::Usage,
            Self::Io { cause, .. } => ExitCode::of_io(cause, otherwise),
        }
    }
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => {
                write!(
                    f,
                    "the data directory {} is in use by another triggerd; stop that process first",
                    path.display()
                )
            }
            Self::Missing(path) => write!(
                f,
                "there is no data directory {}; check [storage] data_dir, or name another \
                 configuration \
                 with --config",
                path.display()
            ),
            Self::NoDirectory(path) => {
                write!(
                    f,
                    "{} is not a directory; [storage] data_dir must name a directory",
                    path.display()
                )
            }
            Self::Foreign { path, found, more } => foreign(f, path, found, *more),
            Self::Format { file, found } => other_format(f, file, found),
            Self::Secret { path, what, .. } => write!(f, "{}: {what}", path.display()),
            Self::Io { path, cause } => {
                let (shown, words) = (path.display(), io_words(cause));
                write!(f, "{shown}: {words}{}", ownership::denied(path, cause))
            }
        }
    }
}

fn foreign(f: &mut fmt::Formatter<'_>, path: &Path, found: &[String], more: usize) -> fmt::Result {
    let (path, found) = (path.display(), found.join(", "));
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    write!(
        f,
        "{path} is not a data directory of triggerd, and it is not empty: it holds \
             {found}{more}. Nothing was changed in \
             it; [storage] data_dir must name a directory that is empty, or that does not \
             exist yet"
    )
}

fn other_format(f: &mut fmt::Formatter<'_>, file: &Path, found: &str) -> fmt::Result {
    let format = found.split_whitespace().next().unwrap_or_default();
    let writer = match format.parse::<u32>() {
        Ok(older) if older < FORMAT_VERSION => "an earlier triggerd",
        Ok(_) => "a newer triggerd",
        Err(_) => "something else",
    };
    write!(
        f,
        "the data directory was written by {writer}, in format {format}; this version \
             reads format \
             {FORMAT_VERSION} only, so run the version that wrote it, or name another \
             [storage] data_dir ({} says {found:?})",
        file.display()
    )
}

impl std::error::Error for DataDirError {}

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
