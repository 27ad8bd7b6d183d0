//! The data directory: made, locked and identified before anything in it is opened.
//!
//! ```text
//! data/
//!   FORMAT        one line: format version, when it was made, the instance's id
//!   LOCK          locked while a server runs
//!   admin.token   the admin token, mode 0600
//!   secrets.key   what seals endpoints' secrets, mode 0600
//!   journal/      the truth
//!   sled/         the state computed from it
//! ```

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::random;
use crate::model::time::Timestamp;

const FORMAT_VERSION: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
/// The admin token's file: in the data directory, and among systemd's credentials.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";
/// The key that seals endpoints' secrets.
const SECRETS_KEY_FILE: &str = "secrets.key";
const ADMIN_TOKEN_PREFIX: &str = "trgadm_";

/// A data directory that this process has locked.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    is_new: bool,
    /// Held for its lock.
    _lock: File,
}

/// A data directory that is looked at and not changed. No server starts on it meanwhile.
#[derive(Debug)]
pub struct LookedAt {
    is_new: bool,
    /// Held for its lock; none where no server ever was.
    _lock: Option<File>,
}

impl LookedAt {
    /// Whether nothing was ever stored here.
    pub fn is_new(&self) -> bool {
        self.is_new
    }
}

/// Why it cannot be used.
#[derive(Debug)]
pub enum DataDirError {
    /// Another process uses it.
    InUse(PathBuf),
    /// It was written by a newer version, or is not a data directory.
    Format {
        /// The file that says so.
        file: PathBuf,
        /// What it says.
        found: String,
    },
    /// The operating system refused.
    Io {
        /// The file or directory it was about.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => write!(f, "the data directory {} is in use by another triggerd", path.display()),
            Self::Format { file, found } => write!(
                f,
                "{} says {found:?}; this version reads data directories of format {FORMAT_VERSION} only",
                file.display()
            ),
            Self::Io { path, cause } => write!(f, "{}: {cause}", path.display()),
        }
    }
}

impl std::error::Error for DataDirError {}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    move |cause| DataDirError::Io { path: path.to_owned(), cause }
}

impl DataDir {
    /// Makes the directory if it is missing, locks it, checks its format.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_at(path))?;
        let lock_path = path.join("LOCK");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(io_at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(cause)) => return Err(DataDirError::Io { path: lock_path, cause }),
        }
        let is_new = is_new(path)?;
        Ok(Self { path: path.to_owned(), is_new, _lock: lock })
    }

    /// Keeps servers away from a directory that exists, and checks its format. Several may look at the same time.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn look(path: &Path) -> Result<LookedAt, DataDirError> {
        fs::read_dir(path).map_err(io_at(path))?;
        let lock_path = path.join("LOCK");
        let lock = match File::open(&lock_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other.map_err(io_at(&lock_path))?),
        };
        match lock.as_ref().map_or(Ok(()), File::try_lock_shared) {
            Ok(()) => Ok(LookedAt { is_new: is_new(path)?, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(cause)) => Err(DataDirError::Io { path: lock_path, cause }),
        }
    }

    /// Whether nothing was ever stored here.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Says that there is a journal now. From then on its absence is damage.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn complete(&self, now: Timestamp) -> Result<(), DataDirError> {
        if !self.is_new {
            return Ok(());
        }
        let instance = hex(&random::bytes::<16>());
        write_whole(&self.path, FORMAT_FILE, &format!("{FORMAT_VERSION} {now} {instance}\n"))
    }

    /// Where the journal is.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Where the state is.
    pub fn state(&self) -> PathBuf {
        self.path.join("sled")
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The admin token of the file; made at the first start.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn admin_token(&self) -> Result<String, DataDirError> {
        if let Some(token) = read_admin_token(&self.path)? {
            return Ok(token);
        }
        let token = format!("{ADMIN_TOKEN_PREFIX}{}", hex(&random::bytes::<32>()));
        write_whole(&self.path, ADMIN_TOKEN_FILE, &format!("{token}\n"))?;
        Ok(token)
    }

    /// The key that seals endpoints' secrets, made at the first start.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn secrets_key(&self) -> Result<[u8; 32], DataDirError> {
        if let Some(key) = read_secrets_key(&self.path)? {
            return Ok(key);
        }
        let key = random::bytes();
        write_whole(&self.path, SECRETS_KEY_FILE, &format!("{}\n", hex(&key)))?;
        Ok(key)
    }
}

/// The key in this directory that seals endpoints' secrets; none if there is none.
///
/// # Errors
/// When it cannot be read, or is no key.
pub fn read_secrets_key(dir: &Path) -> Result<Option<[u8; 32]>, DataDirError> {
    let path = dir.join(SECRETS_KEY_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => unhex(text.trim()).map(Some).ok_or_else(|| {
            let what = "this is no key, which is 64 hexadecimal digits";
            io_at(&path)(io::Error::new(io::ErrorKind::InvalidData, what))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_at(&path)(error)),
    }
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    bytes.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())?.try_into().ok()
}

/// Whether there is no format yet; one of another version is refused.
fn is_new(dir: &Path) -> Result<bool, DataDirError> {
    let file = dir.join(FORMAT_FILE);
    match fs::read_to_string(&file) {
        Ok(found) if found.split_whitespace().next() == Some(&FORMAT_VERSION.to_string()) => Ok(false),
        Ok(found) => Err(DataDirError::Format { file, found: found.trim().to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io_at(&file)(error)),
    }
}

/// The admin token of a data directory, also of one that a running server has locked; none before the first start.
///
/// # Errors
/// When there is a file that cannot be read.
pub fn read_admin_token(data_dir: &Path) -> Result<Option<String>, DataDirError> {
    let path = data_dir.join(ADMIN_TOKEN_FILE);
    match fs::read_to_string(&path) {
        Ok(token) if token.trim().is_empty() => Ok(None),
        Ok(token) => Ok(Some(token.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_at(&path)(error)),
    }
}

/// Writes a file that is there whole or not at all, also after a power cut.
fn write_whole(dir: &Path, name: &str, text: &str) -> Result<(), DataDirError> {
    let (path, draft) = (dir.join(name), dir.join(format!("{name}.new")));
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(io_at(&path))
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// Free bytes of the filesystem, as an unprivileged process may use them.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let facts = rustix::fs::statvfs(path).ok()?;
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// The size of the filesystem, in bytes.
pub fn filesystem_bytes(path: &Path) -> Option<u64> {
    let facts = rustix::fs::statvfs(path).ok()?;
    Some(facts.f_blocks.saturating_mul(facts.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_is_made_private_locked_and_keeps_its_token() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let dir = DataDir::open(&path).unwrap();
        let token = dir.admin_token().unwrap();
        let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("admin.token"))), (0o700, 0o600));
        assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse(_))));
        drop(dir);
        assert_eq!(DataDir::open(&path).unwrap().admin_token().unwrap(), token);
        assert!(token.len() > 64 && token.starts_with("trgadm_"));
    }

    #[test]
    fn a_directory_of_another_format_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("FORMAT"), "99 later\n").unwrap();
        let refused = DataDir::open(root.path()).unwrap_err().to_string();
        assert!(refused.contains("FORMAT") && refused.contains("99 later"), "{refused}");
    }
}
