//! The file `FORMAT` of an open data directory. Several threads use it: compaction changes it, and
//! the directory watch compares it with what was written last.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{DataDirError, io_at};
use super::format::{FIRST, Format};
use super::names::FORMAT_FILE;
use crate::base::regular;

/// The file `FORMAT`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FormatFile {
    dir: PathBuf,
    written: Arc<Mutex<Written>>,
}

#[derive(Debug)]
struct Written {
    /// Absent if nothing was ever stored in the directory.
    format: Option<Format>,
    /// The bytes of the file.
    content: Vec<u8>,
}

impl FormatFile {
    /// The file in this directory, with this format.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn of(dir: &Path, format: Option<Format>) -> Result<Self, DataDirError> {
        let content = content_in(dir)?;
        let written = Arc::new(Mutex::new(Written { format, content }));
        Ok(Self { dir: dir.to_owned(), written })
    }

    /// The path of the file.
    pub fn path(&self) -> PathBuf {
        self.dir.join(FORMAT_FILE)
    }

    /// The position at which the journal begins at the latest.
    pub fn first(&self) -> u64 {
        self.format().map_or(FIRST, |format| format.first)
    }

    /// Witnesses that the journal may begin at this position from now on. After this call the
    /// segments before it may be removed.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn witness_first(&self, first: u64) -> Result<(), DataDirError> {
        match self.format() {
            Some(format) if format.first < first => self.write(format.with_first(first)),
            _ => Ok(()),
        }
    }

    /// Passes the bytes of the file to `compare`. They do not change meanwhile.
    pub fn compare<T>(&self, compare: impl FnOnce(&[u8]) -> T) -> T {
        compare(&self.lock().content)
    }

    pub(super) fn format(&self) -> Option<Format> {
        self.lock().format.clone()
    }

    pub(super) fn write(&self, format: Format) -> Result<(), DataDirError> {
        let mut written = self.lock();
        format.write(&self.dir)?;
        *written = Written { format: Some(format), content: content_in(&self.dir)? };
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn content_in(dir: &Path) -> Result<Vec<u8>, DataDirError> {
    let path = dir.join(FORMAT_FILE);
    match regular::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        // A rebuild removes the pipe.
        Err(error) if regular::is_no_file(&error) => Ok(Vec::new()),
        other => other.map_err(io_at(&path)),
    }
}
