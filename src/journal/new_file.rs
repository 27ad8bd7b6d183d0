//! The making of a new file. The file has no name until it is whole and synced: a crash leaves no
//! trace of it, and a copy of the live directory never meets a name that disappears. Where the
//! filesystem has no files without a name, or /proc is missing or closed, the file has the name of
//! a draft until then. A crash may leave a draft behind.
//!
//! Used for segments, for compacted segments and for snapshots.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::files::Files;

/// What the name of a draft has at its end.
const DRAFT_SUFFIX: &str = ".new";

/// Creates a file without a name. `None` if the filesystem has no such files.
pub(super) fn create_unnamed(files: &dyn Files, dir: &Path) -> io::Result<Option<File>> {
    match files.create_unnamed(dir) {
        Err(error) if is_unsupported(&error) => Ok(None),
        created => created.map(Some),
    }
}

/// Gives this name to a file without a name. Returns false if /proc is missing or closed, because
/// the file cannot have a name then.
pub(super) fn give_name(files: &dyn Files, file: &File, path: &Path) -> io::Result<bool> {
    match files.name(file, path) {
        Err(error) if is_nameless(&error) => {
            let path = path.display().to_string();
            tracing::debug!(%error, path, "the new file cannot get its name from /proc");
            Ok(false)
        }
        named => named.map(|()| true),
    }
}

/// Opens a file that just got its name, because /proc shows a file without a name as deleted for
/// ever. The file is synced again, because btrfs does not log a file without a name.
pub(super) fn open_named(files: &dyn Files, path: &Path) -> io::Result<File> {
    let file = files.open(path)?;
    files.sync_all(&file)?;
    Ok(file)
}

/// Creates a file with the name of a draft.
pub(super) fn create_draft(files: &dyn Files, draft: &Path) -> io::Result<File> {
    remove_left(files, draft)?;
    files.create_new(draft)
}

/// Removes a draft that a crash left behind.
pub(super) fn remove_left(files: &dyn Files, draft: &Path) -> io::Result<()> {
    match files.remove(draft) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Returns the name that a file has until it is whole, where it needs one.
pub(super) fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(DRAFT_SUFFIX);
    name.into()
}

/// Returns the path that the draft gets when it is whole. `None` if the path is not of a draft.
pub(super) fn path_of_draft(draft: &Path) -> Option<PathBuf> {
    draft.to_str()?.strip_suffix(DRAFT_SUFFIX).map(PathBuf::from)
}

/// Returns true for the errors of open(2) for O_TMPFILE on filesystems without support. They come
/// every time.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::IsADirectory)
}

/// Returns true for the errors of a system without /proc, or where /proc is closed.
fn is_nameless(error: &io::Error) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied, Unsupported};
    matches!(error.kind(), NotFound | PermissionDenied | Unsupported)
}
