//! The archive of events that the server of a data directory has used, so that another directory
//! under the same path is noticed. A backup does not have this file.

use std::io;
use std::path::{Path, PathBuf};

use super::error::{DataDirError, io_at};
use super::names::ARCHIVE_FILE;
use super::whole::write_whole;
use crate::base::regular;

/// Returns true if the server has used the archive of this path.
///
/// # Errors
/// The file cannot be read.
pub fn has_used_archive(data_dir: &Path, archive: &Path) -> Result<bool, DataDirError> {
    let path = data_dir.join(ARCHIVE_FILE);
    match regular::read(&path) {
        Ok(content) => Ok(content == text_of(archive).map_err(io_at(archive))?.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_at(&path)(error)),
    }
}

/// Notes that the server uses the archive of this path.
///
/// # Errors
/// The file cannot be written.
pub fn note_used_archive(data_dir: &Path, archive: &Path) -> Result<(), DataDirError> {
    let text = text_of(archive).map_err(io_at(archive))?;
    write_whole(data_dir, ARCHIVE_FILE, |_| text.clone())
}

fn text_of(archive: &Path) -> io::Result<String> {
    let absolute: PathBuf = std::path::absolute(archive)?;
    Ok(format!("{}\n", absolute.display()))
}
