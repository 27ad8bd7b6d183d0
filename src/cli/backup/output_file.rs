//! A new file that appears only when it is complete.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::base::exit_code::ExitCode;
use crate::base::library_errors::{io_words, of_file};
use crate::base::ownership::open_unfollowed;
use crate::cli::failure::Failure;

/// A file in the making, which is removed unless it is finished.
pub(super) struct OutputFile {
    path: PathBuf,
    draft: PathBuf,
    file: File,
    is_finished: bool,
}

impl OutputFile {
    /// Creates the file under another name.
    ///
    /// # Errors
    /// A file of this name exists, or the directory cannot be written.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        if path.symlink_metadata().is_ok() {
            let message = format!("{} exists already; name a new file", path.display());
            return Err(Failure::new(ExitCode::Failed, message));
        }
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        let mut options = File::options();
        let options = options.create(true).truncate(false).write(true).mode(0o600);
        let file = open_unfollowed(options, &draft).map_err(failed_at(&draft))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let message = format!("another backup into {} is being made", path.display());
            return Err(Failure::new(ExitCode::Failed, message));
        }
        // A backup that was killed left its draft behind.
        file.set_len(0).map_err(failed_at(&draft))?;
        Ok(Self { path: path.to_owned(), draft, file, is_finished: false })
    }

    /// Syncs the file and gives it its name.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.file.sync_all().map_err(failed_at(&self.draft))?;
        fs::rename(&self.draft, &self.path).map_err(failed_at(&self.path))?;
        self.is_finished = true;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let synced = File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(failed_at(parent))
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| of_file(&self.draft, &error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| of_file(&self.draft, &error))
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.is_finished
            && let Err(error) = fs::remove_file(&self.draft)
        {
            tracing::debug!(%error, "a file that is not complete could not be removed");
        }
    }
}

fn failed_at(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |error| {
        let code = ExitCode::of_io(&error, ExitCode::Failed);
        Failure::new(code, format!("{}: {}", path.display(), io_words(&error)))
    }
}
