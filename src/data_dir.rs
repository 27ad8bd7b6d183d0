//! The data directory: created, locked and identified before anything inside is opened.
//!
//! ```text
//! data/
//!   FORMAT        one line: format version, creation time, instance id, the beginning of the
//!                 journal, its own device and inode
//!   LOCK          locked while a server runs, like the directory itself
//!   admin.token   admin token, mode 0600
//!   secrets.key   key that seals endpoints' secrets, mode 0600
//!   deliveries.held   in a restored directory, until `triggerd deliver on`
//!   archive.used  path of the archive of events that the server has used
//!   journal/      the truth
//!   sled/         the state computed from the journal
//! ```

mod contents;
mod error;
mod format;
mod format_file;
mod inside;
mod locks;
mod names;
mod portable;
mod used_archive;
mod whole;

use std::fs::{self, DirBuilder};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::base::exit_code::ExitCode;
use crate::base::{ownership, random, regular};
use crate::model::time::Timestamp;

pub use contents::lost_journal;
pub use error::{DataDirError, FormatFault};
pub use format_file::FormatFile;
pub use inside::{data_dir_around, lies_within};
pub use names::{ADMIN_TOKEN_FILE, BACKUP_MANIFEST, DAMAGED_PREFIX, RESTORED_FILES, SMALL_FILES};
pub use portable::{
    JOURNAL, SmallFile, instance_id, is_held, let_deliver, settle_restored, small_files,
};
pub use used_archive::{has_used_archive, note_used_archive};

use error::{io_at, of_directory};
use format::Format;
use locks::Locks;
use names::{FORMAT_FILE, JOURNAL_DIR, LOCK_FILE, OWN_FILES, SECRETS_KEY_FILE, STATE_DIR};
use whole::{hex, unhex, write_whole};

const ADMIN_TOKEN_PREFIX: &str = "trgadm_";
/// Minimum length of an admin token; a shorter token could be guessed.
const ADMIN_TOKEN_CHARS_MIN: usize = 16;
/// Mode bits with which other users can read or write a file.
const OTHERS_MODE: u32 = 0o077;

/// A data directory locked by this process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    format: FormatFile,
    locks: Locks,
}

/// A data directory open for reading only. No server starts on it meanwhile.
#[derive(Debug)]
pub struct LookedAt {
    path: PathBuf,
    format: Result<Format, FormatFault>,
    _locks: Locks,
}

impl LookedAt {
    /// The fault of the file `FORMAT`, if it has one. A file that is missing is a fault only if the
    /// journal holds records, because the first start creates the journal before the file.
    pub fn format_fault(&self, holds_records: bool) -> Option<DataDirError> {
        let fault = self.format.as_ref().err()?;
        let is_fault = holds_records || *fault != FormatFault::Missing;
        is_fault.then(|| of_format(&self.path, fault.clone()))
    }

    /// True if the directory is a copy of another one and has never delivered.
    pub fn is_copy(&self) -> bool {
        self.format.as_ref().is_ok_and(|format| !format.is_home)
    }

    /// The data directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The position at which the journal begins at the latest.
    pub fn journal_first(&self) -> u64 {
        self.format.as_ref().map_or(format::FIRST, |format| format.first)
    }

    /// The directory of the journal.
    pub fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL_DIR)
    }

    /// The directory of the state.
    pub fn state(&self) -> PathBuf {
        self.path.join(STATE_DIR)
    }
}

impl DataDir {
    /// Creates the directory if it is missing, locks it and checks its format.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let locks = Self::enter(path)?;
        let format = match Format::read(path)? {
            Ok(format) => Some(format),
            Err(FormatFault::Missing) => None,
            Err(fault) => return Err(of_format(path, fault)),
        };
        Ok(Self { path: path.to_owned(), format: FormatFile::of(path, format)?, locks })
    }

    /// Opens a directory like [`DataDir::open`], even if its file `FORMAT` is damaged. Then the
    /// directory counts as new until [`DataDir::repair_format`]. A directory in place of the file
    /// stays an error, because it may hold something.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open_to_repair(path: &Path) -> Result<Self, DataDirError> {
        let locks = Self::enter(path)?;
        let format = match Format::read(path)? {
            Err(fault @ FormatFault::Directory) => return Err(of_format(path, fault)),
            other => other.ok(),
        };
        Ok(Self { path: path.to_owned(), format: FormatFile::of(path, format)?, locks })
    }

    /// Creates the directory if it is missing, locks it and checks the access to its files.
    fn enter(path: &Path) -> Result<Locks, DataDirError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(of_directory(path))?;
        refuse_backup(path)?;
        if let Some((found, more)) = contents::foreign(path) {
            return Err(DataDirError::Foreign { path: path.to_owned(), found, more });
        }
        accessible(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?;
        let locks = Locks::alone(path)?;
        // The check needs the lock: files come and go under a running server.
        check_access(path, Access::READ_OK | Access::WRITE_OK)?;
        Ok(locks)
    }

    /// Locks an existing directory against servers, and checks its version. Several processes may
    /// look at the same time.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn look(path: &Path) -> Result<LookedAt, DataDirError> {
        fs::read_dir(path).map_err(of_directory(path))?;
        refuse_backup(path)?;
        let locks = Locks::beside_others(path)?;
        check_access(path, Access::READ_OK)?;
        Ok(LookedAt { path: path.to_owned(), format: Format::read(path)?, _locks: locks })
    }

    /// True if nothing was ever stored here.
    pub fn is_new(&self) -> bool {
        self.format.format().is_none()
    }

    /// True if the directory is a copy of another one and has never delivered.
    pub fn is_copy(&self) -> bool {
        self.format.format().is_some_and(|format| !format.is_home)
    }

    /// Records that the journal exists. From then on, a missing journal is damage.
    ///
    /// # Errors
    /// If `FORMAT` cannot be written.
    pub fn complete(&mut self, now: Timestamp) -> Result<(), DataDirError> {
        if self.format.format().is_some() {
            return Ok(());
        }
        self.format.write(Format::new(now))
    }

    /// Writes a new `FORMAT` if there is none that can be read. The journal may begin at `first`
    /// then, and not later. The directory counts as a copy,
    /// because the file that proved an original is lost. Call this only if this version has read
    /// every record of the journal.
    ///
    /// # Errors
    /// If `FORMAT` cannot be written.
    pub fn repair_format(&mut self, now: Timestamp, first: u64) -> Result<(), DataDirError> {
        if self.format.format().is_some() {
            return Ok(());
        }
        self.format.write(Format::new(now).with_home(false).with_first(first))
    }

    /// The error for a directory that has a journal with records, but no `FORMAT`.
    pub fn lacks_format(&self) -> DataDirError {
        of_format(&self.path, FormatFault::Missing)
    }

    /// Records in `FORMAT` if the directory is a copy, unless `FORMAT` already says so.
    ///
    /// # Errors
    /// If `FORMAT` cannot be written.
    pub fn note_copy(&mut self, is_copy: bool) -> Result<(), DataDirError> {
        match self.format.format() {
            Some(format) if format.is_home == is_copy => {
                self.format.write(format.with_home(!is_copy))
            }
            _ => Ok(()),
        }
    }

    /// The lock file, which must stay in place while a server runs; none if the directory itself is
    /// locked.
    pub fn lock_file(&self) -> Option<PathBuf> {
        Some(self.path.join(LOCK_FILE)).filter(|_| !self.locks.holds_directory())
    }

    /// The file with the format, which the next start reads.
    pub fn format_file(&self) -> FormatFile {
        self.format.clone()
    }

    /// The file with the key that seals endpoints' secrets, if the key comes from this file.
    pub fn secrets_key_file(&self, credentials: Option<&Path>) -> Option<PathBuf> {
        let is_elsewhere = credentials.is_some_and(|dir| dir.join(SECRETS_KEY_FILE).exists());
        Some(self.path.join(SECRETS_KEY_FILE)).filter(|path| !is_elsewhere && path.exists())
    }

    /// Gives files created by root to the owner of the directory, so that a service of this user
    /// can continue.
    ///
    /// # Errors
    /// If the owner of a file cannot be changed.
    pub fn give_to_owner(&self) -> Result<(), DataDirError> {
        let entries = fs::read_dir(&self.path).map_err(io_at(&self.path))?;
        for made in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = made.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if OWN_FILES.contains(&name) || name.starts_with(DAMAGED_PREFIX) {
                ownership::give_tree_to_owner_of(&self.path, &made).map_err(io_at(&made))?;
            }
        }
        Ok(())
    }

    /// The directory of the journal.
    pub fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL_DIR)
    }

    /// The directory of the state.
    pub fn state(&self) -> PathBuf {
        self.path.join(STATE_DIR)
    }

    /// The data directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The admin token of the file. The first start creates the token.
    ///
    /// # Errors
    /// If the file cannot be read or written, or holds no valid token.
    pub fn admin_token(&self) -> Result<String, DataDirError> {
        if let Some(token) = read_admin_token(&self.path)? {
            return Ok(token);
        }
        let token = format!("{ADMIN_TOKEN_PREFIX}{}", hex(&random::bytes::<32>()));
        write_whole(&self.path, ADMIN_TOKEN_FILE, |_| format!("{token}\n"))?;
        Ok(token)
    }

    /// Creates the key that seals endpoints' secrets. Call this only where there is none.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn make_secrets_key(&self) -> Result<[u8; 32], DataDirError> {
        let key = random::bytes();
        write_whole(&self.path, SECRETS_KEY_FILE, |_| format!("{}\n", hex(&key)))?;
        Ok(key)
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if let Err(error) = self.give_to_owner() {
            tracing::warn!(%error, "files that root created could not be given to the owner of \
                the data directory");
        }
    }
}

fn of_format(dir: &Path, fault: FormatFault) -> DataDirError {
    DataDirError::Format { file: dir.join(FORMAT_FILE), fault }
}

/// Refuses a backup: a server would change it, and deliver what its original delivers.
fn refuse_backup(dir: &Path) -> Result<(), DataDirError> {
    if dir.join(FORMAT_FILE).exists() && dir.join(BACKUP_MANIFEST).exists() {
        return Err(DataDirError::Backup(dir.to_owned()));
    }
    Ok(())
}

/// Checks that triggerd's files are accessible in these ways, so that a file without access is
/// named before anything has begun, and is not taken for a missing or damaged one.
fn check_access(dir: &Path, wanted: Access) -> Result<(), DataDirError> {
    let mut paths: Vec<PathBuf> = OWN_FILES.iter().map(|name| dir.join(name)).collect();
    while let Some(path) = paths.pop() {
        let facts = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            facts => facts.map_err(io_at(&path))?,
        };
        if !facts.is_dir() {
            accessible(&path, wanted)?;
            continue;
        }
        accessible(&path, wanted | Access::EXEC_OK)?;
        let entries = fs::read_dir(&path).map_err(io_at(&path))?;
        paths.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    Ok(())
}

fn accessible(path: &Path, wanted: Access) -> Result<(), DataDirError> {
    access(path, wanted).map_err(|errno| io_at(path)(errno.into()))
}

/// The text of a file with a secret; none if there is no such file.
///
/// # Errors
/// If the file cannot be read, or other users can read it as well. systemd guards its credentials
/// itself, whatever their mode.
fn secret_text(path: &Path, place: Place) -> Result<Option<String>, DataDirError> {
    let mut file = match regular::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_at(path))?,
    };
    let mode = file.metadata().map_err(io_at(path))?.mode();
    if place == Place::DataDir && mode & OTHERS_MODE != 0 {
        let mode = mode & 0o7777;
        let what = format!(
            "other users can read this file (mode {mode:04o}); make it private with chmod 600, or \
             replace it"
        );
        return Err(DataDirError::Secret { path: path.to_owned(), what, code: ExitCode::Usage });
    }
    // No secret holds the character that stands for other bytes than text, so such a file is
    // refused as one that was cut.
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io_at(path))?;
    Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
}

/// The place where a secret is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The data directory of the server.
    DataDir,
    /// The directory of systemd's credentials for a service.
    Credentials,
}

/// The key in this directory that seals endpoints' secrets; none if there is no file.
///
/// # Errors
/// If the file cannot be read, other users can read it, or the text is no key.
pub fn read_secrets_key(dir: &Path, place: Place) -> Result<Option<[u8; 32]>, DataDirError> {
    let path = dir.join(SECRETS_KEY_FILE);
    let Some(text) = secret_text(&path, place)? else { return Ok(None) };
    let what = "the file holds no key of 64 hexadecimal digits; take the key from a backup";
    unhex(&text).map(Some).ok_or_else(|| DataDirError::Secret {
        path,
        what: what.to_owned(),
        code: ExitCode::Damaged,
    })
}

/// The admin token in a data directory, possibly locked by a running server; none before the first
/// start.
///
/// # Errors
/// If the file cannot be read, other users can read it, or the text is no token.
pub fn read_admin_token(dir: &Path) -> Result<Option<String>, DataDirError> {
    admin_token_in(dir, Place::DataDir)
}

/// The admin token in the directory of systemd's credentials for a service.
///
/// # Errors
/// As [`read_admin_token`].
pub fn credential_admin_token(dir: &Path) -> Result<Option<String>, DataDirError> {
    admin_token_in(dir, Place::Credentials)
}

fn admin_token_in(dir: &Path, place: Place) -> Result<Option<String>, DataDirError> {
    let path = dir.join(ADMIN_TOKEN_FILE);
    let Some(token) = secret_text(&path, place)? else { return Ok(None) };
    let is_token =
        token.len() >= ADMIN_TOKEN_CHARS_MIN && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token {
        return Ok(Some(token));
    }
    let what = format!(
        "the file holds no admin token of at least {ADMIN_TOKEN_CHARS_MIN} visible ASCII \
         characters; take the file from a backup, or remove it: then the next start creates a new \
         token"
    );
    Err(DataDirError::Secret { path, what, code: ExitCode::Usage })
}

/// Number of files of a journal; 0 if there is no readable journal.
pub fn journal_files(data_dir: &Path) -> usize {
    fs::read_dir(data_dir.join(JOURNAL_DIR)).map_or(0, Iterator::count)
}

/// Free bytes of the filesystem for an unprivileged process.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let facts = rustix::fs::statvfs(path).ok()?;
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// Number of files that can still be created on the filesystem; none if the filesystem has no fixed
/// number or does not report this number.
pub fn free_files(path: &Path) -> Option<u64> {
    let facts = rustix::fs::statvfs(path).ok()?;
    (facts.f_files > 0).then_some(facts.f_favail)
}

/// Disk space of the state in bytes. A file that goes meanwhile counts as gone.
pub fn state_bytes(data_dir: &Path) -> Option<u64> {
    const BLOCK_BYTES: u64 = 512;
    let (mut bytes, mut left) = (0, vec![data_dir.join(STATE_DIR)]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).ok()?.flatten() {
            match entry.metadata() {
                Ok(facts) if facts.is_dir() => left.push(entry.path()),
                Ok(facts) => bytes += facts.blocks() * BLOCK_BYTES,
                Err(_) => {}
            }
        }
    }
    Some(bytes)
}

/// The size of the filesystem in bytes.
pub fn filesystem_bytes(path: &Path) -> Option<u64> {
    let facts = rustix::fs::statvfs(path).ok()?;
    Some(facts.f_blocks.saturating_mul(facts.f_frsize))
}

#[cfg(test)]
#[path = "data_dir_tests.rs"]
mod tests;
