//! The current name of an open file.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// Returns the current name of an open file or directory. `None` if the file was removed, or the
/// name is unknown.
pub fn name_now(file: &File) -> Option<PathBuf> {
    let held = file.metadata().ok()?;
    // proc(5): the link of a removed file is its old name with a suffix, a name that no file or
    // another file has.
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    let named = fs::metadata(&path).ok()?;
    ((named.dev(), named.ino()) == (held.dev(), held.ino())).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_file_is_found_and_a_removed_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for is_dir in [false, true] {
            let (path, other) = (root.join("a"), root.join("b"));
            if is_dir { fs::create_dir(&path) } else { fs::write(&path, "") }.unwrap();
            let file = File::open(&path).unwrap();
            assert_eq!(name_now(&file), Some(path.clone()));
            fs::rename(&path, &other).unwrap();
            fs::write(&path, "another").unwrap();
            assert_eq!(name_now(&file), Some(other.clone()));
            if is_dir { fs::remove_dir(&other) } else { fs::remove_file(&other) }.unwrap();
            assert_eq!(name_now(&file), None);
            fs::remove_file(&path).unwrap();
        }
    }
}
