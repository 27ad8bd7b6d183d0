//! The disk space of the data's filesystem that only backups take: hard links keep the bytes of
//! segments that compaction has replaced or removed, and of snapshots that were deleted.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::{BackupError, io_at};
use crate::config::S3Url;
use crate::data_dir::JOURNAL;

/// Unit of the disk space of a file (POSIX, `st_blocks`).
pub(super) const BLOCK_BYTES: u64 = 512;

/// Disk space on the filesystem of the data, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// What only the backups take, and the data does not.
    pub(super) only_theirs: u64,
    /// The part of it that comes back when the old backups are deleted.
    pub(super) spare: u64,
}

impl Held {
    /// Measures the old backups, which can go, and those that are kept. Files on another filesystem
    /// do not count.
    pub(super) fn by(
        old: &[PathBuf],
        kept: &[PathBuf],
        data_dir: &Path,
    ) -> Result<Self, BackupError> {
        let device = fs::metadata(data_dir).map_err(io_at(data_dir))?.dev();
        let (mut old, mut kept) = (files_of(old, device)?, files_of(kept, device)?);
        for facts in files_in(&data_dir.join(JOURNAL))? {
            old.remove(&facts.ino());
            kept.remove(&facts.ino());
        }
        old.retain(|file, _| !kept.contains_key(file));
        let spare = old.into_values().sum();
        Ok(Self { only_theirs: kept.into_values().sum::<u64>() + spare, spare })
    }
}

/// Returns the disk space of the files of these backups on the device, by their inodes.
fn files_of(backups: &[PathBuf], device: u64) -> Result<BTreeMap<u64, u64>, BackupError> {
    let mut bytes = BTreeMap::new();
    for backup in backups {
        let files = files_in(&backup.join(JOURNAL))?;
        for facts in files.iter().filter(|facts| facts.dev() == device) {
            bytes.insert(facts.ino(), facts.blocks().saturating_mul(BLOCK_BYTES));
        }
    }
    Ok(bytes)
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

fn files_in(directory: &Path) -> Result<Vec<Metadata>, BackupError> {
    let entries = fs::read_dir(directory).map_err(io_at(directory))?;
    // A file that is gone meanwhile takes no space.
    let facts = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    Ok(facts.filter(Metadata::is_file).collect())
}

#[cfg(test)]
mod tests {
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
        let [a, b, data] = ["a", "b", "data"].map(|name| dir.path().join(name));
        let held = |old: &[&PathBuf], kept: &[&PathBuf]| {
            let owned = |of: &[&PathBuf]| of.iter().copied().cloned().collect::<Vec<_>>();
            Held::by(&owned(old), &owned(kept), &data).unwrap()
        };
        assert_eq!(held(&[&a], &[&b]), Held::default());
        fs::remove_file(journal("data").join("1.seg")).unwrap();
        let Held { only_theirs, spare } = held(&[&a], &[&b]);
        assert!((100_000..150_000).contains(&only_theirs) && spare == 0, "{only_theirs} {spare}");
        fs::remove_file(journal("b").join("1.seg")).unwrap();
        assert_eq!(held(&[&a], &[&b]), Held { only_theirs, spare: only_theirs });
        assert_eq!(held(&[&b], &[&a]), Held { only_theirs, spare: 0 });
        assert!(is_shared(&dir.path().join("not/there/yet"), &data));
    }
}
