//! A backup that is open for reading: a directory, an archive or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::encryption::opened;
use super::failures::{failure, unread};
use crate::backup::find;
use crate::cli::failure::Failure;

/// A backup that is open for reading.
pub(super) enum Input {
    /// The directory of a backup.
    Directory(PathBuf),
    /// A compressed archive, and its name for errors.
    Archive(Box<dyn Read>, String),
}

impl Input {
    /// Opens a backup. In a directory of backups, the newest is taken.
    pub(super) fn open(from: &Path, identity: Option<&Path>) -> Result<Self, Failure> {
        if from == Path::new("-") {
            let name = "standard input";
            return Ok(Self::Archive(opened(io::stdin(), name, identity)?, name.to_owned()));
        }
        let name = from.display().to_string();
        if from.is_dir() {
            return find(from).map(Self::Directory).map_err(failure);
        }
        let file = File::open(from).map_err(|error| unread(&name, &error))?;
        Ok(Self::Archive(opened(file, &name, identity)?, name))
    }
}
