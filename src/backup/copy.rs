//! Writes files of backups and of restored directories: in pieces, summed, with holes for zeros,
//! and synced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::error::{BackupError, io_at};
use super::manifest::hex;

/// Bytes that are read and written at a time.
const PIECE_BYTES: usize = 128 << 10;

/// Where the bytes of a file go.
pub(super) enum To<'a> {
    /// Into a new file of this path.
    File(&'a Path),
    /// Nowhere; only the sum is wanted.
    Nowhere,
}

/// Copies all bytes. A piece of zeros becomes a hole. Returns the length and the SHA-256. The file
/// is synced.
///
/// # Errors
/// The input cannot be read (then the outer error is the input's), or the file cannot be written.
pub(super) fn copy(
    input: &mut dyn Read,
    to: &To<'_>,
) -> Result<io::Result<(u64, String)>, BackupError> {
    let file = match to {
        To::File(path) => Some((create(path)?, *path)),
        To::Nowhere => None,
    };
    let (mut sum, mut at) = (Sha256::new(), 0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = match fill(input, &mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => return Ok(Err(error)),
        };
        let bytes = piece.get(..count).unwrap_or_default();
        sum.update(bytes);
        if let Some((file, path)) = &file
            && bytes.iter().any(|byte| *byte != 0)
        {
            file.write_all_at(bytes, at).map_err(io_at(path))?;
        }
        at += count as u64;
    }
    if let Some((file, path)) = &file {
        file.set_len(at).and_then(|()| file.sync_all()).map_err(io_at(path))?;
    }
    Ok(Ok((at, hex(&sum.finalize()))))
}

/// Reads until the piece is full or the input ends.
fn fill(input: &mut dyn Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = piece.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Creates a file that only its owner can use.
pub(super) fn create(path: &Path) -> Result<File, BackupError> {
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).mode(0o600).open(path).map_err(io_at(path))
}

/// Creates a directory that only its owner can use.
pub(super) fn create_dir(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new().mode(0o700).create(path).map_err(io_at(path))
}

/// Directories that were missing and are made for other files. On drop, those that are still empty
/// are removed again.
pub(super) struct NewDirectories(Vec<PathBuf>);

impl NewDirectories {
    /// Creates the directory and its missing parents, which only their owner can use.
    pub(super) fn create(path: &Path) -> Result<Self, BackupError> {
        let missing = path.ancestors().take_while(|path| path.symlink_metadata().is_err());
        let made = Self(missing.map(Path::to_owned).collect());
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_at(path))?;
        Ok(made)
    }
}

impl Drop for NewDirectories {
    fn drop(&mut self) {
        let removed = self.0.iter().try_for_each(fs::remove_dir);
        if let Err(error) = removed {
            tracing::trace!(%error, "a new directory is in use");
        }
    }
}

/// Writes a small file under another name, syncs it, and gives it its name.
pub(super) fn write_whole(dir: &Path, name: &str, content: &[u8]) -> Result<(), BackupError> {
    let (path, draft) = (dir.join(name), dir.join(format!("{name}.new")));
    let mut file = create(&draft)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(io_at(&draft))?;
    fs::rename(&draft, &path).map_err(io_at(&path))?;
    sync_dir(dir)
}

/// Syncs the names in a directory.
pub(super) fn sync_dir(dir: &Path) -> Result<(), BackupError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_at(dir))
}
