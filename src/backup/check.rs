//! Checks a backup in a directory: every file against the manifest.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use super::archive::compare;
use super::copy::{To, copy};
use super::directory::read_manifest;
use super::error::{BackupError, io_at};
use super::manifest::{Manifest, is_known};
use super::source::Step;
use crate::base::ownership;
use crate::data_dir::JOURNAL;
use crate::journal::is_unreadable;

/// Checks the length and the SHA-256 of every file of a backup.
///
/// # Errors
/// Files are wrong, each of which the error names, or a file cannot be read.
pub fn check(backup: &Path) -> Result<Manifest, BackupError> {
    check_at_pace(backup, &|_| Ok(()))
}

/// Checks a backup as [`check`] does. Calls `step` with the number of bytes that were read.
pub(super) fn check_at_pace(backup: &Path, step: &Step<'_>) -> Result<Manifest, BackupError> {
    let manifest = read_manifest(backup)?;
    let mut found = BTreeMap::new();
    for entry in &manifest.files {
        let path = backup.join(&entry.path);
        let summed = open_from_disk(&path).and_then(|input| sum(&mut Stepped { input, step }));
        match summed {
            Ok(facts) => drop(found.insert(entry.path.clone(), facts)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // The disk cannot read a part of the file, which is damage like any other.
            Err(error) if is_unreadable(&error) => {
                drop(found.insert(entry.path.clone(), (entry.bytes, "unreadable".to_owned())));
            }
            Err(error) => return Err(io_at(&path)(error)),
        }
    }
    add_extra(backup, &manifest, &mut found)?;
    compare(&manifest, &found, &backup.display().to_string())?;
    Ok(manifest)
}

/// Adds the files that a backup could have and this one has not, such as a segment of another
/// backup. Files of other names are not triggerd's, and nobody reads them.
fn add_extra(
    backup: &Path,
    manifest: &Manifest,
    found: &mut BTreeMap<String, (u64, String)>,
) -> Result<(), BackupError> {
    let named = manifest.by_path();
    for (dir, prefix) in [(backup.to_owned(), ""), (backup.join(JOURNAL), "journal/")] {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(io_at(&dir))?,
        };
        for entry in entries {
            let name = entry.map_err(io_at(&dir))?.file_name();
            let path = format!("{prefix}{}", name.to_string_lossy());
            if is_known(&path) && !named.contains_key(path.as_str()) {
                found.insert(path, (0, String::new()));
            }
        }
    }
    Ok(())
}

/// Opens a file of a backup for reading.
pub(super) fn open(path: &Path) -> io::Result<File> {
    ownership::open_unfollowed(File::options().read(true), path)
}

/// Opens a file so that it is read from the disk: of a backup that was just made, the memory still
/// has what the disk may have lost.
fn open_from_disk(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    if let Err(error) = fadvise(&file, 0, None, Advice::DontNeed) {
        tracing::debug!(%error, "a file of a backup may be read from memory");
    }
    Ok(file)
}

/// A file that is read at the pace of `step`.
pub(super) struct Stepped<'a, R = File> {
    pub(super) input: R,
    pub(super) step: &'a Step<'a>,
}

impl<R: Read> Read for Stepped<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        (self.step)(count as u64)?;
        Ok(count)
    }
}

fn sum(input: &mut dyn Read) -> io::Result<(u64, String)> {
    copy(input, &To::Nowhere).unwrap_or_else(|error| Err(io::Error::other(error)))
}
