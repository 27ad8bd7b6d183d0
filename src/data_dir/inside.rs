//! Tells if a path lies in a data directory, a known one or any.

use std::io;
use std::path::{Path, PathBuf};

use super::names::{BACKUP_MANIFEST, FORMAT_FILE, JOURNAL_DIR};

/// Returns true if a path lies in the data directory, also through symbolic links. Neither of them
/// has to exist.
///
/// # Errors
/// The working directory is unknown.
pub fn lies_within(path: &Path, data_dir: &Path) -> io::Result<bool> {
    Ok(real(path)?.starts_with(real(data_dir)?))
}

/// Returns the data directory that a path lies in, also through symbolic links. The path need not
/// exist. A backup is no data directory.
///
/// # Errors
/// The working directory is unknown.
pub fn data_dir_around(path: &Path) -> io::Result<Option<PathBuf>> {
    let is_data_dir = |dir: &&Path| {
        dir.join(FORMAT_FILE).exists()
            && dir.join(JOURNAL_DIR).exists()
            && !dir.join(BACKUP_MANIFEST).exists()
    };
    Ok(real(path)?.ancestors().find(is_data_dir).map(Path::to_owned))
}

/// Follows the symbolic links of the part that exists.
fn real(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let existing = absolute.ancestors().find_map(|part| {
        let rest = absolute.strip_prefix(part).ok()?;
        let real = part.canonicalize().ok()?;
        // Nothing to join would add a slash.
        Some(if rest.as_os_str().is_empty() { real } else { real.join(rest) })
    });
    Ok(existing.unwrap_or(absolute))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_is_inside_whatever_it_is_called_and_whether_it_exists_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| dir.path().join(name);
        let is_inside = |name: &str| lies_within(&of(name), &of("data")).unwrap();
        assert!(is_inside("data/archive") && is_inside("data"), "before the first start");
        fs::create_dir_all(of("data/sub")).unwrap();
        symlink(of("data"), of("link")).unwrap();
        symlink(of("data/sub"), of("to-sub")).unwrap();
        for inside in ["data", "data/sub", "data/absent/b", "link/absent", "to-sub", "to-sub/a"] {
            assert!(is_inside(inside), "{inside}");
        }
        fs::write(of("data/FORMAT"), "").unwrap();
        fs::create_dir(of("data/journal")).unwrap();
        let data = of("data").canonicalize().unwrap();
        for inside in ["data", "data/sub/new", "link", "to-sub/a/b"] {
            assert_eq!(data_dir_around(&of(inside)).unwrap().as_ref(), Some(&data), "{inside}");
        }
        for outside in ["data-2", ".", "data/../archive", "FORMAT"] {
            assert_eq!(data_dir_around(&of(outside)).unwrap(), None, "{outside}");
        }
        fs::write(of("data/manifest.json"), "").unwrap();
        assert_eq!(data_dir_around(&of("data/sub")).unwrap(), None, "a backup");
        for outside in ["data-2", "archive", ".", "data/../archive", "link/../data-3"] {
            assert!(!is_inside(outside), "{outside}");
        }
        assert!(lies_within(&of("data/sub"), &of("link")).unwrap(), "the data directory is a link");
    }
}
