//! A directory of backups: makes the next backup beside the last one, finds backups, and deletes
//! old ones.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::copy::{NewDirectories, To, copy, create_dir, sync_dir, write_whole};
use super::error::{BackupError, io_at};
use super::lock::lock;
use super::manifest::{Entry, MANIFEST, MANIFEST_BYTES_MAX, Manifest};
use super::source::{Part, Source, Step};
use crate::base::exit_code::ExitCode;
use crate::base::failpoint::{self, Switch};
use crate::base::{ownership, regular};
use crate::data_dir::{JOURNAL, data_dir_around, instance_id};
use crate::model::time::Timestamp;

/// Length of a backup's name, such as `2026-01-31T10-00-00.000Z`.
const NAME_LEN: usize = 24;

/// A backup that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The directory of the backup, or its URL in a bucket.
    pub path: PathBuf,
    /// The content.
    pub manifest: Manifest,
    /// Bytes of the files that are hard links, or were in the bucket already.
    pub linked_bytes: u64,
}

/// A complete backup in a directory of backups.
pub(super) struct Whole {
    pub(super) path: PathBuf,
    pub(super) manifest: Manifest,
}

/// The last backup of the same instance in the directory.
struct Last {
    path: PathBuf,
    /// Its files, by their paths.
    files: BTreeMap<String, Entry>,
}

impl Last {
    fn of(Whole { path, manifest }: Whole) -> Self {
        let files = manifest.files.into_iter().map(|entry| (entry.path.clone(), entry)).collect();
        Self { path, files }
    }
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
    require_outside(target)?;
    require_place(target)?;
    let _made = NewDirectories::create(target)?;
    let _lock = lock(target, &busy(target))?;
    clear_unfinished(target)?;
    let last = own_in(target, source.instance())?.pop().map(Last::of);
    let path = target.join(next_name(target, at)?);
    create_dir(&path)?;
    let made = fill(source, &path, (at, last.as_ref()), step).and_then(|made| {
        ownership::give_tree_to_owner_of(target, &path).map_err(io_at(&path))?;
        sync_dir(target)?;
        Ok(made)
    });
    if made.is_err()
        && let Err(error) = fs::remove_dir_all(&path)
    {
        tracing::warn!(%error, path = %path.display(), "a backup that failed could not be removed");
    }
    made
}

/// Refuses a place in a data directory, which holds nothing but its own files.
///
/// # Errors
/// The place is in a data directory.
pub fn require_outside(target: &Path) -> Result<(), BackupError> {
    let Some(data_dir) = data_dir_around(target).map_err(io_at(target))? else { return Ok(()) };
    Err(BackupError::Refused(format!(
        "{} is in the data directory {}, which holds nothing else; name a place outside",
        target.display(),
        data_dir.display()
    )))
}

/// Refuses a directory that is a data directory or a single backup.
fn require_place(target: &Path) -> Result<(), BackupError> {
    // A backup holds FORMAT, too.
    let found = [(MANIFEST, "a backup"), ("FORMAT", "a data directory")];
    match found.iter().find(|(name, _)| target.join(name).exists()) {
        Some((name, what)) => Err(BackupError::Refused(format!(
            "{} is {what}, because it holds {name}; name another directory for backups, which is \
             created if it is missing",
            target.display()
        ))),
        None => Ok(()),
    }
}

fn busy(target: &Path) -> String {
    format!("another backup is being made in {}; try again when it is done", target.display())
}

fn fill(
    source: &Source,
    path: &Path,
    (at, last): (Timestamp, Option<&Last>),
    step: &Step<'_>,
) -> Result<Made, BackupError> {
    create_dir(&path.join(JOURNAL))?;
    if failpoint::is_on(Switch::ManifestFirst) {
        write_whole(path, MANIFEST, &Manifest::new(source.about(at), vec![]).encode())?;
    }
    let (mut files, mut linked_bytes) = (Vec::with_capacity(source.parts.len()), 0);
    for part in &source.parts {
        let (entry, is_linked) = put(part, path, last, step)?;
        linked_bytes += if is_linked { entry.bytes } else { 0 };
        files.push(entry);
    }
    sync_dir(&path.join(JOURNAL))?;
    let manifest = Manifest::new(source.about(at), files);
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
    let Some((original, identity)) = part.original() else { return copied(part, &to, step) };
    let known = last.and_then(|last| Some((last, part.known(&last.files)?)));
    if link(original, &to, &identity) {
        let entry = match known {
            Some((_, entry)) => entry.clone(),
            None => part.summed(step)?,
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
    let sum = copy(&mut reading, &To::File(to))?.map_err(io_at(to))?;
    Ok((part.entry(sum), false))
}

/// Returns the name of the next backup: its time, but behind every backup that is there. So the
/// names are in the order of the backups, also if the clock was set back.
fn next_name(target: &Path, at: Timestamp) -> Result<String, BackupError> {
    let newest = named_in(target)?.pop().and_then(|path| time_of(&path));
    Ok(name_behind(newest, at))
}

/// Returns the name of a backup of this time, or of the time behind the newest one.
pub(super) fn name_behind(newest: Option<Timestamp>, at: Timestamp) -> String {
    name_of(newest.map_or(at, |newest| at.max(Timestamp(newest.0.saturating_add(1)))))
}

fn name_of(at: Timestamp) -> String {
    at.to_string().replace(':', "-")
}

/// Returns the time in the name of a backup, whole or not. None if the name is not one.
pub(super) fn time_of(path: &Path) -> Option<Timestamp> {
    let name = path.file_name()?.to_str().filter(|name| name.len() == NAME_LEN)?;
    let (date, time) = name.split_once('T')?;
    format!("{date}T{}", time.replace('-', ":")).parse().ok()
}

/// Returns the directories with the name of a backup, the oldest first.
pub(super) fn named_in(target: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(target).map_err(io_at(target))? {
        let path = entry.map_err(io_at(target))?.path();
        if time_of(&path).is_some() && is_directory(&path)? {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Returns false for a path that is no directory or is gone.
fn is_directory(path: &Path) -> Result<bool, BackupError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        facts => facts.map(|facts| facts.is_dir()).map_err(io_at(path)),
    }
}

/// Returns the complete backups of this instance, the oldest first. Another server may have its
/// backups in the same directory.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn own_in(target: &Path, instance: &str) -> Result<Vec<Whole>, BackupError> {
    let mut found = Vec::new();
    for path in named_in(target)? {
        match read_manifest(&path) {
            Ok(manifest) if manifest.instance == instance => found.push(Whole { path, manifest }),
            Ok(_) => {}
            Err(BackupError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, "a backup whose manifest cannot be read is passed over");
            }
        }
    }
    Ok(found)
}

/// Returns the newest complete backup of this instance.
///
/// # Errors
/// The directory cannot be read, or a newer backup of this instance has a damaged manifest.
pub(super) fn newest_own(target: &Path, instance: &str) -> Result<Option<Whole>, BackupError> {
    let named = match named_in(target) {
        Err(BackupError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => Vec::new(),
        named => named?,
    };
    for path in named.into_iter().rev() {
        match read_manifest(&path) {
            Ok(manifest) if manifest.instance == instance => {
                return Ok(Some(Whole { path, manifest }));
            }
            Ok(_) => {}
            Err(BackupError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {}
            // FORMAT also says whose backup it is.
            Err(error) if instance_id(&path).is_ok_and(|of| of == instance) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "a backup that may be another server's is passed over");
            }
        }
    }
    Ok(None)
}

/// Reads the manifest of a backup.
pub(super) fn read_manifest(backup: &Path) -> Result<Manifest, BackupError> {
    let path = backup.join(MANIFEST);
    let (mut bytes, opened) = (Vec::new(), regular::open(&path));
    let read = opened.and_then(|file| file.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(io_at(&path))?;
    let damaged = |fault| BackupError::Damaged(format!("{} {fault}", path.display()));
    Manifest::decode(&bytes).map_err(damaged)
}

/// Returns the backup at this path: the directory itself, or the newest in a directory of backups.
/// Interrupted backups do not count.
///
/// # Errors
/// There is no complete backup; or the newest one has a damaged manifest, or the backups are of
/// several servers: one has to be named.
pub fn find(path: &Path) -> Result<PathBuf, BackupError> {
    let manifest = path.join(MANIFEST);
    match manifest.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found.map(|_| path.to_owned()).map_err(io_at(&manifest)),
    }
    let (mut newest, mut others) = (None::<Whole>, Vec::new());
    for backup in named_in(path)?.into_iter().rev() {
        match (read_manifest(&backup), &newest) {
            (Ok(manifest), None) => newest = Some(Whole { path: backup, manifest }),
            (Ok(manifest), Some(newest)) if manifest.instance != newest.manifest.instance => {
                others.push(backup);
            }
            (Err(BackupError::Io { cause, .. }), _) if cause.kind() == io::ErrorKind::NotFound => {}
            (Err(error), None) if error.exit_code() == ExitCode::NotPermitted => return Err(error),
            (Err(error), None) => {
                let message = format!("{error}; to take an older backup, name its directory");
                return Err(BackupError::Damaged(message));
            }
            // The newest one is asked for, and an older one that cannot be read is no matter of it.
            (_, Some(_)) => {}
        }
    }
    match (newest, others.first()) {
        (Some(newest), None) => Ok(newest.path),
        (Some(newest), Some(other)) => Err(BackupError::Refused(format!(
            "{} holds backups of several servers, such as {} and {}; name the directory of the \
             backup that you mean",
            path.display(),
            newest.path.display(),
            other.display()
        ))),
        (None, _) => Err(no_backup(path)),
    }
}

fn no_backup(path: &Path) -> BackupError {
    let advice = if path.join("FORMAT").exists() {
        "; if it is a data directory, `triggerd backup` makes a backup of it, and `triggerd \
         verify` without BACKUP verifies the one that [storage] data_dir names"
    } else {
        ""
    };
    BackupError::Refused(format!(
        "{} holds no complete backup: there is no {MANIFEST} in it or in a directory below{advice}",
        path.display()
    ))
}

/// Returns true for the name of a backup.
pub fn is_backup_name(name: &str) -> bool {
    time_of(Path::new(name)).is_some()
}

/// Deletes all but the newest `keep` complete backups of this instance, and the one of the name
/// `spared`.
pub(super) fn delete_old(
    target: &Path,
    (instance, spared): (&str, Option<&str>),
    keep: usize,
) -> Result<(), BackupError> {
    let _lock = lock(target, &busy(target))?;
    let own = own_in(target, instance)?;
    let old = own.iter().take(own.len().saturating_sub(keep));
    let is_spared = |backup: &Path| spared.is_some_and(|name| backup.ends_with(name));
    let mut old = old.filter(|whole| !is_spared(&whole.path));
    old.try_for_each(|whole| delete(&whole.path))
}

/// Deletes the oldest complete backup of this instance, unless it is the only one. Returns its
/// path.
pub(super) fn delete_oldest(target: &Path, instance: &str) -> Result<Option<PathBuf>, BackupError> {
    let _lock = lock(target, &busy(target))?;
    let own = own_in(target, instance)?;
    let [oldest, _, ..] = own.as_slice() else { return Ok(None) };
    delete(&oldest.path).map(|()| Some(oldest.path.clone()))
}

fn delete(backup: &Path) -> Result<(), BackupError> {
    // Without its manifest, a backup that is deleted only in part does not count.
    let manifest = backup.join(MANIFEST);
    fs::remove_file(&manifest).map_err(io_at(&manifest))?;
    fs::remove_dir_all(backup).map_err(io_at(backup))
}

/// Removes what an interrupted backup left behind. A data directory can have the name of a backup.
fn clear_unfinished(target: &Path) -> Result<(), BackupError> {
    let is_left_behind =
        |path: &PathBuf| !["LOCK", MANIFEST].iter().any(|name| path.join(name).exists());
    for path in named_in(target)?.into_iter().filter(is_left_behind) {
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
        let at = Timestamp(1_800_000_000_123);
        let name = name_of(at);
        assert!(time_of(Path::new(&name)) == Some(at) && name.len() == NAME_LEN, "{name}");
        for other in ["", "data", "2026-01-31", "2026-01-31T10-00-00.000Z.new", "T", &name[1..]] {
            assert_eq!(time_of(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn only_what_a_backup_left_behind_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let [left, whole, data] = [1, 2, 3].map(|at| dir.path().join(name_of(Timestamp(at))));
        for (path, file) in [(&left, "FORMAT"), (&whole, MANIFEST), (&data, "LOCK")] {
            fs::create_dir(path).unwrap();
            fs::write(path.join(file), "").unwrap();
        }
        clear_unfinished(dir.path()).unwrap();
        assert_eq!([left, whole, data].map(|path| path.exists()), [false, true, true]);
    }

    #[test]
    fn names_are_in_the_order_of_the_backups_whatever_the_clock_says() {
        let dir = tempfile::tempdir().unwrap();
        let next = |at| next_name(dir.path(), Timestamp(at)).unwrap();
        let first = next(5_000);
        assert_eq!(first, name_of(Timestamp(5_000)));
        fs::create_dir(dir.path().join(first)).unwrap();
        assert_eq!(next(5_000), name_of(Timestamp(5_001)));
        assert_eq!(next(9), name_of(Timestamp(5_001)));
        assert_eq!(next(6_000), name_of(Timestamp(6_000)));
    }
}
