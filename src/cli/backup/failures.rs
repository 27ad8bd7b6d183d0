//! The reasons why a backup or a restore failed, for the command line.

use std::io::{self, Write};
use std::path::Path;

use crate::backup::BackupError;
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::io_words;
use crate::base::ownership;
use crate::cli::failure::Failure;

/// Writes a whole archive.
pub(super) type Packing<'a> = dyn FnMut(&mut dyn Write) -> Result<(), Failure> + 'a;

/// The failure of an archive that cannot be written.
pub(super) fn unwritten(error: &io::Error) -> Failure {
    let message = format!("the backup cannot be written: {}", io_words(error));
    Failure::new(ExitCode::of_io(error, ExitCode::Failed), message)
}

/// The failure of an archive that cannot be read.
pub(super) fn unread(name: &str, error: &io::Error) -> Failure {
    let owner = ownership::denied(Path::new(name), error);
    let message = format!("{name}: {}{owner}", io_words(error));
    Failure::new(ExitCode::of_io(error, ExitCode::Failed), message)
}

/// The failure of an operation on a backup.
pub(super) fn failure(error: BackupError) -> Failure {
    Failure::new(error.exit_code(), error)
}
