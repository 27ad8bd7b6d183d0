//! One backup in a bucket: checks and restores its files.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::decompressed;
use super::check::Stepped;
use super::copy::{To, copy, create_dir, sync_dir};
use super::error::BackupError;
use super::manifest::{Entry, Manifest};
use super::s3::{Store, of_io};
use super::source::Step;
use crate::data_dir::JOURNAL;

/// The folder of the manifests.
pub(super) const BACKUPS: &str = "backups";
/// The folder of the files' contents.
pub(super) const OBJECTS: &str = "objects";

/// A complete backup in a bucket.
pub struct BucketBackup {
    store: Arc<Store>,
    name: String,
    manifest: Manifest,
}

impl BucketBackup {
    pub(super) fn new(store: Arc<Store>, name: String, manifest: Manifest) -> Self {
        Self { store, name, manifest }
    }

    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns true if the backup was deleted meanwhile, as far as the store says so.
    pub(super) fn is_gone(&self) -> bool {
        self.store.exists(&manifest_name(&self.name)).is_ok_and(|is_there| !is_there)
    }

    /// Returns the URL of the backup.
    pub fn url(&self) -> String {
        self.store.url.join(&self.name).to_string()
    }

    /// Reads every file and checks its length and its SHA-256. Writes the files into the new
    /// directory `into`, or nowhere.
    ///
    /// # Errors
    /// Files are wrong, each of which the error names, or the store refuses. Then `into` holds a
    /// part.
    pub fn read(&self, into: Option<&Path>) -> Result<Manifest, BackupError> {
        self.read_at_pace(into, &|_| Ok(()))
    }

    /// Reads every file as [`BucketBackup::read`] does. Calls `step` with the number of bytes of
    /// the files that were read.
    pub(super) fn read_at_pace(
        &self,
        into: Option<&Path>,
        step: &Step<'_>,
    ) -> Result<Manifest, BackupError> {
        if let Some(dir) = into {
            create_dir(&dir.join(JOURNAL))?;
        }
        let mut faults = Vec::new();
        for entry in &self.manifest.files {
            let place = into.map(|dir| dir.join(&entry.path));
            let to = place.as_deref().map_or(To::Nowhere, To::File);
            // An error of the pace is no fault of the object.
            let given_up = |cause| BackupError::Io { path: PathBuf::from(&entry.path), cause };
            let step = |bytes| step(bytes).map_err(|cause| std::io::Error::other(given_up(cause)));
            faults.extend(self.read_file(entry, &to, &step)?);
        }
        if !faults.is_empty() {
            return Err(BackupError::faults(&self.url(), &faults));
        }
        if let Some(dir) = into {
            sync_dir(&dir.join(JOURNAL))?;
            sync_dir(dir)?;
        }
        Ok(self.manifest.clone())
    }

    /// Reads a file. Returns its fault, if it has one.
    fn read_file(
        &self,
        entry: &Entry,
        to: &To<'_>,
        step: &Step<'_>,
    ) -> Result<Option<String>, BackupError> {
        let object = object_name(&entry.sha256);
        let Some(download) = self.store.open(&object)? else {
            return Ok(Some(format!("{}: the object {object} is missing", entry.path)));
        };
        let damaged = |why: &str| {
            format!(
                "{}: the object {object} {why}; delete the object, so that the next backup uploads \
                 it again",
                entry.path
            )
        };
        let copied = match decompressed(download) {
            // A wrong object must not fill the disk.
            Ok(content) => {
                let input = content.take(entry.bytes.saturating_add(1));
                copy(&mut Stepped { input, step }, to)?
            }
            Err(error) => Err(error),
        };
        match copied.map_err(of_io) {
            Ok(copied) if copied == (entry.bytes, entry.sha256.clone()) => Ok(None),
            Ok((bytes, _)) if bytes > entry.bytes => {
                Ok(Some(damaged(&format!("holds more than the {} bytes of the file", entry.bytes))))
            }
            Ok(_) => Ok(Some(damaged("does not have the content of its name"))),
            Err(BackupError::Damaged(why)) => Ok(Some(damaged(&format!("is damaged ({why})")))),
            Err(error) => Err(error),
        }
    }
}

pub(super) fn manifest_name(name: &str) -> String {
    format!("{BACKUPS}/{name}.json")
}

pub(super) fn object_name(sum: &str) -> String {
    format!("{OBJECTS}/{sum}.zst")
}
