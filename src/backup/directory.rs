//! A directory of backups: makes the next backup beside the last one, finds backups, and deletes
//! old ones.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::copy::{To, copy, create_dir, sync_dir, write_whole};
use super::error::{BackupError, io_at};
use super::manifest::{Entry, MANIFEST, Manifest};
use super::source::{Part, Source, Step};
use crate::data_dir::JOURNAL;
use crate::model::time::Timestamp;

/// Length of a backup's name, such as `2026-01-31T10-00-00.000Z`.
const NAME_LEN: usize = 24;

/// A backup that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The directory of the backup.
    pub path: PathBuf,
    /// The content.
    pub manifest: Manifest,
    /// Bytes of the files that are hard links.
    pub linked_bytes: u64,
}

/// The last backup in the directory.
struct Last {
    path: PathBuf,
    manifest: Manifest,
}

/// Makes a backup in a directory of backups, which is created if it is missing. After a failure,
/// nothing of the backup remains.
///
/// # Errors
/// Another backup is being made here, the directory is no place for backups, or a file cannot be
/// read or written.
pub fn make(
    source: &Source,
    target: &Path,
    at: Timestamp,
    step: &Step<'_>,
) -> Result<Made, BackupError> {
    require_place(target)?;
    DirBuilder::new().recursive(true).mode(0o700).create(target).map_err(io_at(target))?;
    let _lock = lock(target)?;
    clear_unfinished(target)?;
    let last = whole_in(target)?.pop().map(|(path, manifest)| Last { path, manifest });
    let path = target.join(name_of(at));
    create_dir(&path)?;
    let made = fill(source, &path, (at, last.as_ref()), step);
    if made.is_err()
        && let Err(error) = fs::remove_dir_all(&path)
    {
        tracing::warn!(%error, path = %path.display(), "a backup that failed could not be removed");
    }
    let made = made?;
    sync_dir(target)?;
    Ok(made)
}

/// Refuses a directory that is a data directory or a single backup.
fn require_place(target: &Path) -> Result<(), BackupError> {
    let found = [("FORMAT", "a data directory"), (MANIFEST, "a backup")];
    match found.iter().find(|(name, _)| target.join(name).exists()) {
        Some((name, what)) => Err(BackupError::Refused(format!(
            "{} is {what}, because it holds {name}; name a directory for backups, which is created \
             if it is missing",
            target.display()
        ))),
        None => Ok(()),
    }
}

/// Locks the directory, so that no other process makes a backup in it or deletes one.
fn lock(target: &Path) -> Result<File, BackupError> {
    let directory = File::open(target).map_err(io_at(target))?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::WouldBlock) => Err(BackupError::Refused(format!(
            "another backup is being made in {}; try again when it is done",
            target.display()
        ))),
        Err(TryLockError::Error(error)) => {
            tracing::debug!(%error, "this filesystem cannot lock directories");
            Ok(directory)
        }
    }
}

fn fill(
    source: &Source,
    path: &Path,
    (at, last): (Timestamp, Option<&Last>),
    step: &Step<'_>,
) -> Result<Made, BackupError> {
    create_dir(&path.join(JOURNAL))?;
    let (mut files, mut linked_bytes) = (Vec::with_capacity(source.parts.len()), 0);
    for part in &source.parts {
        let (entry, is_linked) = put(part, path, last, step)?;
        linked_bytes += if is_linked { entry.bytes } else { 0 };
        files.push(entry);
    }
    sync_dir(&path.join(JOURNAL))?;
    let manifest = Manifest::new((source.data_format, at), source.positions(), files);
    write_whole(path, MANIFEST, &manifest.encode())?;
    Ok(Made { path: path.to_owned(), manifest, linked_bytes })
}

/// Puts a file into the backup. Returns its entry, and true if it is a hard link.
fn put(
    part: &Part,
    backup: &Path,
    last: Option<&Last>,
    step: &Step<'_>,
) -> Result<(Entry, bool), BackupError> {
    let to = backup.join(&part.name);
    let known = part.original().map(|(original, identity)| {
        let known = last.and_then(|last| Some((last, last.manifest.entry(&part.name)?)));
        let known = known.filter(|(_, entry)| {
            entry.source.as_ref() == Some(&identity) && entry.bytes == part.bytes()
        });
        (original, identity, known)
    });
    let Some((original, identity, known)) = known else { return copied(part, &to, step) };
    if link(original, &to, &identity) {
        let entry = match known {
            Some((_, entry)) => entry.clone(),
            None => summed(part, step)?,
        };
        return Ok((entry, true));
    }
    match known {
        Some((last, entry)) if fs::hard_link(last.path.join(&part.name), &to).is_ok() => {
            Ok((entry.clone(), true))
        }
        _ => copied(part, &to, step),
    }
}

/// Links the original, if its name still belongs to the pinned file. On another filesystem there is
/// no link.
fn link(original: &Path, to: &Path, identity: &str) -> bool {
    if fs::hard_link(original, to).is_err() {
        return false;
    }
    let is_it = fs::metadata(to)
        .is_ok_and(|facts| identity.starts_with(&format!("{} {} ", facts.dev(), facts.ino())));
    if !is_it && let Err(error) = fs::remove_file(to) {
        tracing::debug!(%error, "a link to a replaced segment could not be removed");
    }
    is_it
}

fn copied(part: &Part, to: &Path, step: &Step<'_>) -> Result<(Entry, bool), BackupError> {
    let mut reading = part.read(step);
    copy(&mut reading, &To::File(to))?.map_err(io_at(to))?;
    Ok((reading.entry(), false))
}

fn summed(part: &Part, step: &Step<'_>) -> Result<Entry, BackupError> {
    let mut reading = part.read(step);
    copy(&mut reading, &To::Nowhere)?.map_err(io_at(Path::new(&part.name)))?;
    Ok(reading.entry())
}

fn name_of(at: Timestamp) -> String {
    at.to_string().replace(':', "-")
}

/// Returns true if a directory of this name is a backup, whole or not.
fn is_name(name: &str) -> bool {
    let Some((date, time)) = name.split_once('T') else { return false };
    let time = time.replace('-', ":");
    name.len() == NAME_LEN && format!("{date}T{time}").parse::<Timestamp>().is_ok()
}

/// Returns the directories with the name of a backup, the oldest first.
fn named_in(target: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(target).map_err(io_at(target))? {
        let path = entry.map_err(io_at(target))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if is_name(name) && path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the complete backups in a directory of backups, the oldest first.
///
/// # Errors
/// The directory cannot be read.
pub fn whole_in(target: &Path) -> Result<Vec<(PathBuf, Manifest)>, BackupError> {
    let mut found = Vec::new();
    for path in named_in(target)? {
        match read_manifest(&path) {
            Ok(manifest) => found.push((path, manifest)),
            Err(BackupError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, "a backup whose manifest cannot be read is passed over");
            }
        }
    }
    Ok(found)
}

/// Reads the manifest of a backup.
pub(super) fn read_manifest(backup: &Path) -> Result<Manifest, BackupError> {
    let path = backup.join(MANIFEST);
    let bytes = fs::read(&path).map_err(io_at(&path))?;
    let damaged = |fault| BackupError::Damaged(format!("{} {fault}", path.display()));
    Manifest::decode(&bytes).map_err(damaged)
}

/// Returns the backup at this path: the directory itself, or the newest in a directory of backups.
///
/// # Errors
/// There is no complete backup.
pub fn find(path: &Path) -> Result<PathBuf, BackupError> {
    if path.join(MANIFEST).exists() {
        return Ok(path.to_owned());
    }
    let newest = whole_in(path)?.pop().map(|(newest, _)| newest);
    newest.ok_or_else(|| {
        BackupError::Refused(format!(
            "{} holds no complete backup: there is no {MANIFEST} in it or in a directory below",
            path.display()
        ))
    })
}

/// Deletes all but the newest `keep` complete backups. Returns the number of deleted ones.
pub(super) fn delete_old(target: &Path, keep: usize) -> Result<usize, BackupError> {
    let _lock = lock(target)?;
    let whole = whole_in(target)?;
    let old = whole.len().saturating_sub(keep);
    for (path, _) in whole.iter().take(old) {
        // Without its manifest, a backup that is deleted only in part does not count.
        let manifest = path.join(MANIFEST);
        fs::remove_file(&manifest).map_err(io_at(&manifest))?;
        fs::remove_dir_all(path).map_err(io_at(path))?;
    }
    Ok(old)
}

/// Removes what an interrupted backup left behind.
fn clear_unfinished(target: &Path) -> Result<(), BackupError> {
    for path in named_in(target)?.into_iter().filter(|path| !path.join(MANIFEST).exists()) {
        tracing::info!(path = %path.display(), "a backup that was interrupted is removed");
        fs::remove_dir_all(&path).map_err(io_at(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_a_backup_is_one() {
        let name = name_of(Timestamp(1_800_000_000_123));
        assert!(is_name(&name) && name.len() == NAME_LEN, "{name}");
        for other in ["", "data", "2026-01-31", "2026-01-31T10-00-00.000Z.new", "T", &name[1..]] {
            assert!(!is_name(other), "{other}");
        }
    }
}
