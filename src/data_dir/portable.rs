//! A data directory on its way into a backup and back: its small files, and the mark that holds the
//! deliveries of a restored directory back until an operator lets them go.

use std::fs;
use std::io;
use std::path::Path;

use super::error::{DataDirError, FormatFault, io_at};
use super::format::Format;
use super::names::{FORMAT_FILE, HELD_FILE, JOURNAL_DIR, SMALL_FILES};
use super::whole::write_whole;
use crate::base::regular;

/// The name of the journal's directory in a data directory, and in a backup.
pub const JOURNAL: &str = JOURNAL_DIR;

/// The text in the file that holds deliveries back.
const HELD_TEXT: &str = "this directory was restored from a backup; `triggerd deliver on` removes \
    this file, and the next start delivers\n";

/// A small file of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallFile {
    /// The name of the file.
    pub name: &'static str,
    /// Its content.
    pub content: Vec<u8>,
}

/// Returns the small files of a data directory that belong into a backup, as a copy of the whole
/// directory has them: `FORMAT`, and the secrets that lie in the directory.
///
/// # Errors
/// A file cannot be read, or `FORMAT` is not as a server wrote it.
pub fn small_files(dir: &Path) -> Result<Vec<SmallFile>, DataDirError> {
    Format::read(dir)?.map_err(|fault| of_format(dir, fault))?;
    let mut found = Vec::new();
    for name in SMALL_FILES {
        let path = dir.join(name);
        match regular::read(&path) {
            Ok(content) => found.push(SmallFile { name, content }),
            Err(error) if error.kind() == io::ErrorKind::NotFound && name != FORMAT_FILE => {}
            Err(error) => return Err(io_at(&path)(error)),
        }
    }
    Ok(found)
}

/// Returns the id of the instance that a data directory or a backup of it belongs to. A copy has
/// the id of its original.
///
/// # Errors
/// `FORMAT` is missing, damaged or of another version.
pub fn instance_id(dir: &Path) -> Result<String, DataDirError> {
    let format = Format::read(dir)?.map_err(|fault| of_format(dir, fault))?;
    Ok(format.instance().to_owned())
}

/// Makes a restored directory a copy of its original, whose deliveries are held.
///
/// # Errors
/// `FORMAT` is missing, damaged or of another version, or a file cannot be written.
pub fn settle_restored(dir: &Path) -> Result<(), DataDirError> {
    let format = Format::read(dir)?.map_err(|fault| of_format(dir, fault))?;
    format.with_home(false).write(dir)?;
    write_whole(dir, HELD_FILE, |_| HELD_TEXT.to_owned())
}

/// Returns true if the deliveries of the directory are held since its restore. A mark that cannot
/// be looked at holds them, too.
pub fn is_held(dir: &Path) -> bool {
    let mark = fs::symlink_metadata(dir.join(HELD_FILE));
    !mark.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Lets the next start deliver. Returns false if no deliveries were held.
///
/// # Errors
/// The mark cannot be removed.
pub fn let_deliver(dir: &Path) -> Result<bool, DataDirError> {
    let path = dir.join(HELD_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => {
            let synced = removed.and_then(|()| fs::File::open(dir)?.sync_all());
            synced.map(|()| true).map_err(io_at(&path))
        }
    }
}

fn of_format(dir: &Path, fault: FormatFault) -> DataDirError {
    DataDirError::Format { file: dir.join(FORMAT_FILE), fault }
}
