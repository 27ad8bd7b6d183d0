//! A backup that is open for reading: a directory, a bucket, an archive or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::encryption::opened;
use super::failures::{failure, unread};
use super::place::{bucket, url_of};
use crate::backup::{BucketBackup, find, is_backup_name};
use crate::cli::failure::Failure;
use crate::cli::reach::Settings;
use crate::config::S3Url;

/// Extensions of archives.
const ARCHIVES: [&str; 2] = [".zst", ".age"];

/// A backup that is open for reading.
pub(super) enum Input {
    /// The directory of a backup.
    Directory(PathBuf),
    /// A backup in a bucket.
    Bucket(BucketBackup),
    /// A compressed archive, and its name for errors.
    Archive(Box<dyn Read>, String),
}

impl Input {
    /// Opens a backup. In a directory of backups, the newest is taken.
    pub(super) fn open(
        from: &Path,
        identity: Option<&Path>,
        settings: &Settings,
    ) -> Result<Self, Failure> {
        if from == Path::new("-") {
            let name = "standard input";
            return Ok(Self::Archive(opened(io::stdin(), name, identity)?, name.to_owned()));
        }
        let name = from.display().to_string();
        if let Some(url) = url_of(from)? {
            return Self::in_bucket(&url, identity, settings);
        }
        if from.is_dir() {
            return find(from).map(Self::Directory).map_err(failure);
        }
        let file = File::open(from).map_err(|error| unread(&name, &error))?;
        Ok(Self::Archive(opened(file, &name, identity)?, name))
    }

    /// Opens an archive in a bucket, a backup that the URL names, or the newest one there.
    fn in_bucket(
        url: &S3Url,
        identity: Option<&Path>,
        settings: &Settings,
    ) -> Result<Self, Failure> {
        let is_archive = |name: &str| ARCHIVES.iter().any(|extension| name.ends_with(extension));
        let found = match url.split_last() {
            Some((parent, name)) if is_archive(name) => {
                let archive = bucket(&parent, settings)?.archive(name).map_err(failure)?;
                let name = url.to_string();
                return Ok(Self::Archive(opened(archive, &name, identity)?, name));
            }
            Some((parent, name)) if is_backup_name(name) => {
                bucket(&parent, settings)?.find(Some(name))
            }
            _ => bucket(url, settings)?.find(None),
        };
        found.map(Self::Bucket).map_err(failure)
    }
}
