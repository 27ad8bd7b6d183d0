//! The disk space of the data's filesystem that only backups take: hard links keep the bytes of
//! segments that compaction has replaced or removed, and of snapshots that were deleted.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::{BackupError, io_at};
use crate::data_dir::JOURNAL;

/// Unit of the disk space of a file (POSIX, `st_blocks`).
const BLOCK_BYTES: u64 = 512;

/// Returns the disk space that these backups take and the data does not. Files on another
/// filesystem do not count.
pub(super) fn only_in(backups: &[PathBuf], data_dir: &Path) -> Result<u64, BackupError> {
    let device = fs::metadata(data_dir).map_err(io_at(data_dir))?.dev();
    let mut bytes = BTreeMap::new();
    for backup in backups {
        for facts in files_in(&backup.join(JOURNAL))?.iter().filter(|facts| facts.dev() == device) {
            bytes.insert(facts.ino(), facts.blocks().saturating_mul(BLOCK_BYTES));
        }
    }
    for facts in files_in(&data_dir.join(JOURNAL))? {
        bytes.remove(&facts.ino());
    }
    Ok(bytes.into_values().sum())
}

/// Returns true if the directory, which may be missing, is on the filesystem of the data.
pub(super) fn is_shared(directory: &Path, data_dir: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|facts| facts.dev()).ok();
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
        let backups = ["a", "b"].map(|name| dir.path().join(name));
        let data = dir.path().join("data");
        assert_eq!(only_in(&backups, &data).unwrap(), 0);
        fs::remove_file(journal("data").join("1.seg")).unwrap();
        let only = only_in(&backups, &data).unwrap();
        assert!((100_000..150_000).contains(&only), "{only}");
        assert!(is_shared(&dir.path().join("not/there/yet"), &data));
    }
}
