//! The disk space of the data's filesystem that only backups take: hard links keep the bytes of
//! segments that compaction has replaced or removed, and of snapshots that were deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::directory::{named_in, read_manifest};
use super::error::{BackupError, io_at};
use super::manifest::MANIFEST;
use crate::config::S3Url;
use crate::data_dir::JOURNAL;

/// Unit of the disk space of a file (POSIX, `st_blocks`).
pub(super) const BLOCK_BYTES: u64 = 512;

/// The disk space of files in bytes, by their inodes.
type Files = BTreeMap<u64, u64>;

/// Disk space on the filesystem of the data, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// What only the backups take, and the data does not.
    pub(super) only_theirs: u64,
    /// The part of it that comes back when the old backups are deleted.
    pub(super) spare: u64,
}

impl Held {
    /// Compares the files of the backups that can go and of those that are kept with the inodes of
    /// the data.
    fn by(mut old: Files, mut kept: Files, data: &BTreeSet<u64>) -> Self {
        old.retain(|file, _| !data.contains(file) && !kept.contains_key(file));
        kept.retain(|file, _| !data.contains(file));
        let spare = old.into_values().sum();
        Self { only_theirs: kept.into_values().sum::<u64>() + spare, spare }
    }
}

/// The disk space of the backups in a directory. What was read of a backup is kept, and is read
/// again only if the backup has changed.
#[derive(Debug, Default)]
pub(super) struct Sizes(BTreeMap<PathBuf, Size>);

#[derive(Debug)]
struct Size {
    /// The state in which the backup was read.
    stamps: [Stamp; 2],
    /// The instance; none if the manifest cannot be read.
    instance: Option<String>,
    files: Files,
}

/// Inode, time of modification and length of a file or a directory.
type Stamp = (u64, i64, i64, u64);

impl Sizes {
    /// Measures the backups in a directory. Those of this instance can go, except for the newest.
    /// Files on another filesystem than that of the data do not count.
    ///
    /// # Errors
    /// The directory, the data or a backup cannot be read.
    pub(super) fn held(
        &mut self,
        directory: &Path,
        data_dir: &Path,
        instance: &str,
    ) -> Result<Held, BackupError> {
        let named = named_in(directory)?;
        self.0.retain(|path, _| named.binary_search(path).is_ok());
        let device = fs::metadata(data_dir).map_err(io_at(data_dir))?.dev();
        named.iter().try_for_each(|path| self.look(path, device))?;
        let (mut old, mut kept, mut is_newest) = (Files::new(), Files::new(), true);
        for size in self.0.values().rev() {
            let Some(of) = &size.instance else { continue };
            let is_kept = of != instance || std::mem::take(&mut is_newest);
            let files = if is_kept { &mut kept } else { &mut old };
            files.extend(&size.files);
        }
        let data = entries_of(&data_dir.join(JOURNAL))?;
        Ok(Held::by(old, kept, &data.iter().map(DirEntry::ino).collect()))
    }

    /// Reads a backup, unless it is known.
    fn look(&mut self, backup: &Path, device: u64) -> Result<(), BackupError> {
        let [Ok(manifest), Ok(journal)] = [MANIFEST, JOURNAL].map(|name| stamp(&backup.join(name)))
        else {
            // Without a manifest, the directory is no backup yet.
            self.0.remove(backup);
            return Ok(());
        };
        let stamps = [manifest, journal];
        if self.0.get(backup).is_some_and(|size| size.stamps == stamps) {
            return Ok(());
        }
        let read = read_manifest(backup).inspect_err(|error| {
            tracing::warn!(%error, "a backup whose manifest cannot be read is not measured");
        });
        let instance = read.ok().map(|manifest| manifest.instance);
        let files = files_of(backup, device)?;
        self.0.insert(backup.to_owned(), Size { stamps, instance, files });
        Ok(())
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let facts = fs::symlink_metadata(path)?;
    Ok((facts.ino(), facts.mtime(), facts.mtime_nsec(), facts.len()))
}

/// Returns the disk space of the files of this backup on the device.
fn files_of(backup: &Path, device: u64) -> Result<Files, BackupError> {
    let entries = entries_of(&backup.join(JOURNAL))?;
    // A file that is gone meanwhile takes no space.
    let facts = entries.iter().filter_map(|entry| entry.metadata().ok()).filter(Metadata::is_file);
    let here = facts.filter(|facts| facts.dev() == device);
    Ok(here.map(|facts| (facts.ino(), facts.blocks().saturating_mul(BLOCK_BYTES))).collect())
}

fn entries_of(directory: &Path) -> Result<Vec<DirEntry>, BackupError> {
    let entries = fs::read_dir(directory).map_err(io_at(directory))?;
    Ok(entries.filter_map(Result::ok).collect())
}

/// Returns true if the directory, which may be missing, is on the filesystem of the data. A bucket
/// is not.
pub(super) fn is_shared(directory: &Path, data_dir: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|facts| facts.dev()).ok();
    if S3Url::of(directory).is_some() {
        return false;
    }
    let there = directory.ancestors().find_map(device);
    there.is_some() && there == device(data_dir)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{About, Manifest};
    use super::*;

    #[test]
    fn only_files_that_the_data_does_not_have_count_and_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let journal = |name: &str| dir.path().join(name).join(JOURNAL);
        for name in ["data", "a", "b"] {
            fs::create_dir_all(journal(name)).unwrap();
        }
        for name in ["1.seg", "2.seg"] {
            fs::write(journal("data").join(name), vec![7; 100_000]).unwrap();
            for backup in ["a", "b"] {
                fs::hard_link(journal("data").join(name), journal(backup).join(name)).unwrap();
            }
        }
        let data = dir.path().join("data");
        let files = |name: &str| files_of(&dir.path().join(name), data.metadata().unwrap().dev());
        let held = |old: &str, kept: &str| {
            let inodes = files("data").unwrap().into_keys().collect();
            Held::by(files(old).unwrap(), files(kept).unwrap(), &inodes)
        };
        assert_eq!(held("a", "b"), Held::default());
        fs::remove_file(journal("data").join("1.seg")).unwrap();
        let Held { only_theirs, spare } = held("a", "b");
        assert!((100_000..150_000).contains(&only_theirs) && spare == 0, "{only_theirs} {spare}");
        fs::remove_file(journal("b").join("1.seg")).unwrap();
        assert_eq!(held("a", "b"), Held { only_theirs, spare: only_theirs });
        assert_eq!(held("b", "a"), Held { only_theirs, spare: 0 });
        assert!(is_shared(&dir.path().join("not/there/yet"), &data));
    }

    #[test]
    fn a_backup_is_read_again_only_if_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (data, backups) = (dir.path().join("data"), dir.path().join("backups"));
        let [old, new] = ["2026-01-31T10-00-00.000Z", "2026-01-31T11-00-00.000Z"];
        let about = About { instance: "here".to_owned(), ..About::default() };
        let manifest = Manifest::new(about, vec![]).encode();
        fs::create_dir_all(data.join(JOURNAL)).unwrap();
        for name in [old, new] {
            let journal = backups.join(name).join(JOURNAL);
            fs::create_dir_all(&journal).unwrap();
            fs::write(journal.join("1.seg"), vec![7; 100_000]).unwrap();
            fs::write(backups.join(name).join(MANIFEST), &manifest).unwrap();
        }
        let mut sizes = Sizes::default();
        let spare = sizes.held(&backups, &data, "here").unwrap().spare;
        assert!((100_000..150_000).contains(&spare), "{spare}");
        // What is known is believed as long as the times of modification are the same.
        let size = sizes.0.get_mut(&backups.join(old)).unwrap();
        size.files.values_mut().for_each(|bytes| *bytes = 7);
        let mut spare = || sizes.held(&backups, &data, "here").unwrap().spare;
        assert_eq!(spare(), 7);
        let journal = backups.join(old).join(JOURNAL);
        fs::write(journal.join("2.seg"), vec![7; 100_000]).unwrap();
        // The clock of a filesystem may be coarser than the steps of this test.
        fs::File::open(&journal).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(spare() >= 200_000, "{}", spare());
        fs::write(backups.join(old).join(MANIFEST), "{}").unwrap();
        assert_eq!(spare(), 0, "nobody knows whose it is");
        fs::remove_dir_all(backups.join(old)).unwrap();
        assert_eq!((spare(), sizes.0.len()), (0, 1));
    }
}
