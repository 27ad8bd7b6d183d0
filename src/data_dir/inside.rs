//! Tells if a path lies in a data directory.

use std::io;
use std::path::{Path, PathBuf};

/// Returns true if a path lies in the data directory, also through symbolic links. Neither of them
/// has to exist.
///
/// # Errors
/// The working directory is unknown.
pub fn lies_within(path: &Path, data_dir: &Path) -> io::Result<bool> {
    Ok(real(path)?.starts_with(real(data_dir)?))
}

/// Follows the symbolic links of the part that exists.
fn real(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let existing = absolute.ancestors().find_map(|part| {
        let rest = absolute.strip_prefix(part).ok()?;
        Some(part.canonicalize().ok()?.join(rest))
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
        for outside in ["data-2", "archive", ".", "data/../archive", "link/../data-3"] {
            assert!(!is_inside(outside), "{outside}");
        }
        assert!(lies_within(&of("data/sub"), &of("link")).unwrap(), "the data directory is a link");
    }
}
