//! The names of snapshots.

use std::path::{Path, PathBuf};

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

/// Returns the name under which a snapshot is written where a file needs a name.
pub(super) fn draft_of(path: &Path) -> PathBuf {
    path.with_extension("snap.new")
}

/// Returns the position from a file's name. `None` if the name is not a snapshot's name.
pub(super) fn position_of(path: &Path) -> Option<Position> {
    let digits = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|&position| position > 0).map(Position)
}
