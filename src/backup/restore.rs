//! Restores a backup: everything is checked and written beside the new data directory, which gets
//! its name when it is whole.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::archive::read_archive;
use super::check::{check, open};
use super::copy::{To, copy, create_dir, sync_dir};
use super::error::{BackupError, io_at};
use super::manifest::Manifest;
use super::until::end_by;
use crate::data_dir::{JOURNAL, settle_restored};
use crate::model::time::Timestamp;

/// Where the backup is.
pub enum Origin<'a> {
    /// The directory of one backup.
    Directory(&'a Path),
    /// A stream, with a name for errors.
    Archive(Box<dyn Read + 'a>, &'a str),
}

/// A restored data directory.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The content of the backup.
    pub manifest: Manifest,
    /// The end of the restored journal.
    pub end: u64,
}

/// Restores a backup into a directory that does not exist or is empty. Deliveries are held there.
/// After a failure, nothing is left behind.
///
/// # Errors
/// The directory is in use, the backup is wrong, or a file cannot be written.
pub fn restore(
    from: Origin<'_>,
    to: &Path,
    until: Option<Timestamp>,
) -> Result<Restored, BackupError> {
    require_free(to)?;
    let (parent, draft) = beside(to)?;
    remove_draft(&draft)?;
    create_dir(&draft)?;
    let filled = fill(from, &draft, until);
    let named = filled.and_then(|restored| {
        fs::rename(&draft, to).map_err(io_at(to))?;
        sync_dir(&parent)?;
        Ok(restored)
    });
    if named.is_err()
        && let Err(error) = remove_draft(&draft)
    {
        tracing::warn!(%error, "what a failed restore wrote could not be removed");
    }
    named
}

/// Refuses a directory that holds anything.
fn require_free(to: &Path) -> Result<(), BackupError> {
    let is_free = match fs::read_dir(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        read => read.map_err(io_at(to))?.next().is_none(),
    };
    if is_free {
        return Ok(());
    }
    let to = to.display();
    let message = format!("{to} is not empty; restore into a directory that does not exist yet");
    Err(BackupError::Refused(message))
}

/// Returns the parent of the new directory, and the name under which it is written.
fn beside(to: &Path) -> Result<(PathBuf, PathBuf), BackupError> {
    let to = std::path::absolute(to).map_err(io_at(to))?;
    let (Some(parent), Some(name)) = (to.parent(), to.file_name()) else {
        let message = format!("{} cannot be the name of a data directory", to.display());
        return Err(BackupError::Refused(message));
    };
    let mut draft = OsString::from(name);
    draft.push(".restoring");
    Ok((parent.to_owned(), parent.join(draft)))
}

fn remove_draft(draft: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(draft)(error)),
        _ => Ok(()),
    }
}

fn fill(from: Origin<'_>, draft: &Path, until: Option<Timestamp>) -> Result<Restored, BackupError> {
    let manifest = match from {
        Origin::Directory(backup) => copy_checked(backup, draft)?,
        Origin::Archive(input, name) => read_archive(input, name, Some(draft))?,
    };
    let end = until.map(|until| end_by(draft, until)).transpose()?;
    settle_restored(draft)?;
    sync_dir(draft)?;
    let end = end.map_or(manifest.end, |end| end.0);
    Ok(Restored { manifest, end })
}

/// Checks all sums, then copies all files, and compares the sums of what was copied.
fn copy_checked(backup: &Path, draft: &Path) -> Result<Manifest, BackupError> {
    let manifest = check(backup)?;
    create_dir(&draft.join(JOURNAL))?;
    let mut faults = Vec::new();
    for entry in &manifest.files {
        let (from, to) = (backup.join(&entry.path), draft.join(&entry.path));
        let mut file = open(&from).map_err(io_at(&from))?;
        let copied = copy(&mut file, &To::File(&to))?.map_err(io_at(&from))?;
        if copied != (entry.bytes, entry.sha256.clone()) {
            faults.push(format!("{}: the file changed while it was copied", entry.path));
        }
    }
    if !faults.is_empty() {
        return Err(BackupError::faults(&backup.display().to_string(), &faults));
    }
    sync_dir(&draft.join(JOURNAL))?;
    Ok(manifest)
}
