//! Restores a backup: everything is checked and written into a draft, whose files get their names
//! in the new data directory when they are whole.

use std::io::Read;
use std::path::Path;

use super::archive::read_archive;
use super::bucket_backup::BucketBackup;
use super::check::{Stepped, check_at_pace, open};
use super::copy::{To, copy, create_dir, sync_dir};
use super::directory::require_outside;
use super::error::{BackupError, io_at};
use super::manifest::Manifest;
use super::place::Place;
use super::source::Step;
use super::until::end_by;
use crate::data_dir::{JOURNAL, settle_restored};
use crate::model::time::Timestamp;

/// Where the backup is.
pub enum Origin<'a> {
    /// The directory of one backup.
    Directory(&'a Path),
    /// A backup in a bucket.
    Bucket(&'a BucketBackup),
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
/// The directory is in use or in a data directory, the backup is wrong, or a file cannot be written.
pub fn restore(
    from: Origin<'_>,
    to: &Path,
    until: Option<Timestamp>,
) -> Result<Restored, BackupError> {
    // A data directory itself is not empty, which is said below.
    let absolute = std::path::absolute(to).map_err(io_at(to))?;
    absolute.parent().map_or(Ok(()), require_outside)?;
    restore_at_pace(from, to, until, &|_| Ok(()))
}

/// Restores a backup as [`restore`] does. Calls `step` with the number of bytes that were read of a
/// directory or a bucket.
pub(super) fn restore_at_pace(
    from: Origin<'_>,
    to: &Path,
    until: Option<Timestamp>,
    step: &Step<'_>,
) -> Result<Restored, BackupError> {
    let place = Place::take(to)?;
    let filled = fill(from, place.draft(), until, step);
    let named = filled.and_then(|restored| place.finish().map(|()| restored));
    if named.is_err() {
        place.give_up();
    }
    named
}

fn fill(
    from: Origin<'_>,
    draft: &Path,
    until: Option<Timestamp>,
    step: &Step<'_>,
) -> Result<Restored, BackupError> {
    let manifest = match from {
        Origin::Directory(backup) => copy_checked(backup, draft, step)?,
        Origin::Bucket(backup) => backup.read_at_pace(Some(draft), step)?,
        Origin::Archive(input, name) => read_archive(input, name, Some(draft))?,
    };
    let end = until.map(|until| end_by(draft, until)).transpose()?;
    settle_restored(draft)?;
    sync_dir(draft)?;
    let end = end.map_or(manifest.end, |end| end.0);
    Ok(Restored { manifest, end })
}

/// Checks all sums, then copies all files, and compares the sums of what was copied. Every file is
/// read twice on purpose: `triggerd restore` promises to write nothing of a backup that is wrong,
/// and a disk can fail between the two readings.
fn copy_checked(backup: &Path, draft: &Path, step: &Step<'_>) -> Result<Manifest, BackupError> {
    let manifest = check_at_pace(backup, step)?;
    create_dir(&draft.join(JOURNAL))?;
    let mut faults = Vec::new();
    for entry in &manifest.files {
        let (from, to) = (backup.join(&entry.path), draft.join(&entry.path));
        let mut file = Stepped { input: open(&from).map_err(io_at(&from))?, step };
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
