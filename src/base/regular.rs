//! Opens files that must be regular ones. Opening a pipe waits until somebody opens its other end,
//! and a device may have no end: a file of that kind in the place of a file of triggerd is refused
//! at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// The fault of a name that belongs to a pipe, a socket or a device.
#[derive(Debug, thiserror::Error)]
#[error("it is a pipe, a socket or a device, but a file is needed")]
struct NoFile;

/// Flags with which an open never waits.
pub(super) const WITHOUT_WAITING: OFlags = OFlags::NONBLOCK;

/// Opens a regular file for reading. Follows symbolic links.
///
/// # Errors
/// The file cannot be opened, or is not regular; see [`is_no_file`].
pub fn open(path: &Path) -> io::Result<File> {
    let flags = WITHOUT_WAITING.bits().cast_signed();
    checked(OpenOptions::new().read(true).custom_flags(flags).open(path))
}

/// Reads a regular file.
///
/// # Errors
/// As [`open`], or the file cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a regular file of UTF-8 text.
///
/// # Errors
/// As [`open`], or the file cannot be read as text.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Passes on an open file if it is regular. It must have been opened without waiting.
///
/// # Errors
/// The file could not be opened, or is not regular.
pub fn checked(opened: io::Result<File>) -> io::Result<File> {
    let file = match opened {
        // So the system refuses sockets, and pipes that nobody reads.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => return Err(no_file()),
        other => other?,
    };
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(Errno::ISDIR.into());
    }
    if kind.is_file() { Ok(file) } else { Err(no_file()) }
}

/// True if the error says that the name belongs to a pipe, a socket or a device.
pub fn is_no_file(error: &io::Error) -> bool {
    let Some(cause) = error.get_ref() else { return false };
    cause.is::<NoFile>()
}

/// Returns a name at or below `dir` that belongs neither to a directory nor to a regular file, for
/// files that a library opens.
pub fn stranger_below(dir: &Path) -> Option<PathBuf> {
    let mut waiting = vec![dir.to_owned()];
    while let Some(path) = waiting.pop() {
        let Ok(facts) = fs::metadata(&path) else { continue };
        if facts.is_dir() {
            // A directory that cannot be read is reported by the reader of its files.
            let names = fs::read_dir(&path).into_iter().flatten();
            waiting.extend(names.filter_map(|entry| Some(entry.ok()?.path())));
        } else if !facts.is_file() {
            return Some(path);
        }
    }
    None
}

fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, NoFile)
}
