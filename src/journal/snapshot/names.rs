//! The names of snapshots.

use std::path::{Path, PathBuf};

use crate::journal::new_file::path_of_draft;
use crate::journal::position::Position;

const SUFFIX: &str = ".snap";

/// A file with the name of a snapshot. Only reading shows if the snapshot is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// The position of the first record that the rows lack.
    pub position: Position,
    /// The path of the file.
    pub path: PathBuf,
}

/// Returns the path of the snapshot of a position.
pub(super) fn path_of(dir: &Path, position: Position) -> PathBuf {
    dir.join(format!("{position:020}{SUFFIX}", position = position.0))
}

/// Returns true if this is the path of a draft of a snapshot.
pub(super) fn is_draft(path: &Path) -> bool {
    path_of_draft(path).is_some_and(|path| position_of(&path).is_some())
}

/// Returns the position from a file's name. `None` if the name is not a snapshot's name.
pub fn position_of(path: &Path) -> Option<Position> {
    let digits = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|&position| position > 0).map(Position)
}
