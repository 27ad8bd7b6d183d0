//! The data directory: made, locked and identified before anything in it is opened.
//!
//! ```text
//! data/
//!   FORMAT        one line: format version, when it was made, the instance's id, where it is at home
//!   LOCK          locked while a server runs, as is the directory
//!   admin.token   the admin token, mode 0600
//!   secrets.key   what seals endpoints' secrets, mode 0600
//!   journal/      the truth
//!   sled/         the state computed from it
//! ```

mod contents;
mod format;
mod locks;

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::base::exit_code::ExitCode;
use crate::base::{ownership, random};
use crate::model::time::Timestamp;

use format::{FORMAT_VERSION, Format};
use locks::Locks;

const FORMAT_FILE: &str = "FORMAT";
/// The admin token's file: in the data directory, and among systemd's credentials.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";
const LOCK_FILE: &str = "LOCK";
const JOURNAL_DIR: &str = "journal";
const STATE_DIR: &str = "sled";
/// The key that seals endpoints' secrets.
const SECRETS_KEY_FILE: &str = "secrets.key";
/// What is set aside of a damaged journal begins with this.
pub const DAMAGED_PREFIX: &str = "journal-damaged";
/// Everything else here that is ours.
const OWN_FILES: [&str; 6] = [FORMAT_FILE, LOCK_FILE, ADMIN_TOKEN_FILE, SECRETS_KEY_FILE, JOURNAL_DIR, STATE_DIR];
/// What a file's name ends in until it is whole.
const DRAFT_SUFFIX: &str = ".new";
const ADMIN_TOKEN_PREFIX: &str = "trgadm_";
/// Fewer characters can be guessed.
const ADMIN_TOKEN_CHARS_MIN: usize = 16;
/// Mode bits by which others than the owner can read or write a file.
const OTHERS_MODE: u32 = 0o077;

/// A data directory that this process has locked.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// None: nothing was ever stored here.
    format: Option<Format>,
    locks: Locks,
}

/// A data directory that is looked at and not changed. No server starts on it meanwhile.
#[derive(Debug)]
pub struct LookedAt {
    is_new: bool,
    _locks: Locks,
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
    /// It was written by another version, or is not a data directory.
    Format {
        /// The file that says so.
        file: PathBuf,
        /// What it says.
        found: String,
    },
    /// A secret that others can read, or one that is none.
    Secret {
        /// The file it is in.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
        /// The exit code that tells it.
        code: ExitCode,
    },
    /// It is not there, and nothing is to be made in its place.
    Missing(PathBuf),
    /// Something else is in its place.
    NoDirectory(PathBuf),
    /// Somebody else uses it.
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The first names in it that are not ours.
        found: Vec<String>,
        /// How many more there are.
        more: usize,
    },
    /// The operating system refused.
    Io {
        /// The file or directory it was about.
        path: PathBuf,
        /// What it said.
        cause: io::Error,
    },
}

impl DataDirError {
    /// The exit code that tells it; `otherwise` for what a restart may mend.
    pub fn exit_code(&self, otherwise: ExitCode) -> ExitCode {
        match self {
            Self::InUse(_) => ExitCode::InUse,
            Self::Format { .. } => ExitCode::Damaged,
            Self::Secret { code, .. } => *code,
            Self::Missing(_) | Self::NoDirectory(_) | Self::Foreign { .. } => ExitCode::Usage,
            Self::Io { cause, .. } => ExitCode::of_io(cause, otherwise),
        }
    }
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => {
                write!(
                    f,
                    "the data directory {} is in use by another triggerd; stop that process first",
                    path.display()
                )
            }
            Self::Missing(path) => write!(
                f,
                "there is no data directory {}; check [storage] data_dir, or name another configuration \
                 with --config",
                path.display()
            ),
            Self::NoDirectory(path) => {
                write!(f, "{} is not a directory; [storage] data_dir must name a directory", path.display())
            }
            Self::Foreign { path, found, more } => {
                let (path, found) = (path.display(), found.join(", "));
                let more = if *more > 0 { format!(" and {more} more") } else { String::new() };
                write!(
                    f,
                    "{path} is not a data directory of triggerd, and it is not empty: it holds {found}{more}. Nothing was changed in \
                     it; [storage] data_dir must name a directory that is empty, or that does not exist yet"
                )
            }
            Self::Format { file, found } => {
                let format = found.split_whitespace().next().unwrap_or_default();
                let writer = match format.parse::<u32>() {
                    Ok(older) if older < FORMAT_VERSION => "an earlier triggerd",
                    Ok(_) => "a newer triggerd",
                    Err(_) => "something else",
                };
                write!(
                    f,
                    "the data directory was written by {writer}, in format {format}; this version reads format \
                     {FORMAT_VERSION} only, so run the version that wrote it, or name another [storage] data_dir ({} says {found:?})",
                    file.display()
                )
            }
            Self::Secret { path, what, .. } => write!(f, "{}: {what}", path.display()),
            Self::Io { path, cause } => {
                write!(f, "{}: {cause}{}", path.display(), ownership::denied(path, cause))
            }
        }
    }
}

impl std::error::Error for DataDirError {}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    move |cause| DataDirError::Io { path: path.to_owned(), cause }
}

/// What is wrong with the directory itself.
fn of_directory(path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    move |cause| match cause.kind() {
        io::ErrorKind::NotFound => DataDirError::Missing(path.to_owned()),
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => DataDirError::NoDirectory(path.to_owned()),
        _ => DataDirError::Io { path: path.to_owned(), cause },
    }
}

impl DataDir {
    /// Makes the directory if it is missing, locks it, checks its format.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        Self::open_beside(path, &[])
    }

    /// The same, where these paths of ours may lie in it.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open_beside(path: &Path, beside: &[PathBuf]) -> Result<Self, DataDirError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(of_directory(path))?;
        if let Some((found, more)) = contents::foreign(path, beside) {
            return Err(DataDirError::Foreign { path: path.to_owned(), found, more });
        }
        accessible(path, true)?;
        let locks = Locks::alone(path)?;
        // Not before: files come and go under a server that runs.
        check_access(path)?;
        Ok(Self { path: path.to_owned(), format: Format::read(path)?, locks })
    }

    /// Keeps servers away from a directory that exists, and checks its format. Several may look at the same time.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn look(path: &Path) -> Result<LookedAt, DataDirError> {
        fs::read_dir(path).map_err(of_directory(path))?;
        let locks = Locks::beside_others(path)?;
        Ok(LookedAt { is_new: Format::read(path)?.is_none(), _locks: locks })
    }

    /// Whether nothing was ever stored here.
    pub fn is_new(&self) -> bool {
        self.format.is_none()
    }

    /// Whether it is a copy of another one, and nothing was ever delivered from here.
    pub fn is_copy(&self) -> bool {
        self.format.as_ref().is_some_and(|format| !format.is_home)
    }

    /// Says that there is a journal now. From then on its absence is damage.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn complete(&mut self, now: Timestamp) -> Result<(), DataDirError> {
        if self.format.is_some() {
            return Ok(());
        }
        self.write(Format::new(now))
    }

    /// Says whether it is a copy, if it says something else.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_copy(&mut self, is_copy: bool) -> Result<(), DataDirError> {
        match &self.format {
            Some(format) if format.is_home == is_copy => self.write(format.with_home(!is_copy)),
            _ => Ok(()),
        }
    }

    fn write(&mut self, format: Format) -> Result<(), DataDirError> {
        format.write(&self.path)?;
        self.format = Some(format);
        Ok(())
    }

    /// The file that must stay where it is while a server runs; none if the directory itself is locked.
    pub fn lock_file(&self) -> Option<PathBuf> {
        Some(self.path.join(LOCK_FILE)).filter(|_| !self.locks.holds_directory())
    }

    /// Gives what root has made in it to its owner: a service that runs as that one goes on with it.
    ///
    /// # Errors
    /// When something cannot be given away.
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

    /// Where the journal is.
    pub fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL_DIR)
    }

    /// Where the state is.
    pub fn state(&self) -> PathBuf {
        self.path.join(STATE_DIR)
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
        write_whole(&self.path, ADMIN_TOKEN_FILE, |_| format!("{token}\n"))?;
        Ok(token)
    }

    /// The key that seals endpoints' secrets, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn secrets_key(&self) -> Result<Option<[u8; 32]>, DataDirError> {
        read_secrets_key(&self.path, Place::DataDir)
    }

    /// Makes a key that seals endpoints' secrets, where there was none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn make_secrets_key(&self) -> Result<[u8; 32], DataDirError> {
        let key = random::bytes();
        write_whole(&self.path, SECRETS_KEY_FILE, |_| format!("{}\n", hex(&key)))?;
        Ok(key)
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if let Err(error) = self.give_to_owner() {
            tracing::warn!(%error, "files that root created could not be given to the owner of the data directory");
        }
    }
}

/// Whether all there is of ours can be read and written, so that what cannot is named before anything has begun.
fn check_access(dir: &Path) -> Result<(), DataDirError> {
    let mut paths: Vec<PathBuf> = OWN_FILES.iter().map(|name| dir.join(name)).collect();
    while let Some(path) = paths.pop() {
        let Ok(facts) = fs::metadata(&path) else { continue };
        accessible(&path, facts.is_dir())?;
        if facts.is_dir() {
            let entries = fs::read_dir(&path).map_err(io_at(&path))?;
            paths.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        }
    }
    Ok(())
}

fn accessible(path: &Path, is_dir: bool) -> Result<(), DataDirError> {
    let wanted = Access::READ_OK | Access::WRITE_OK | if is_dir { Access::EXEC_OK } else { Access::empty() };
    access(path, wanted).map_err(|errno| io_at(path)(errno.into()))
}

/// The text of a file with a secret; none if there is no such file.
///
/// # Errors
/// When it cannot be read, or others can read it as well. What systemd keeps is guarded by systemd, whatever its mode.
fn secret_text(path: &Path, place: Place) -> Result<Option<String>, DataDirError> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_at(path))?,
    };
    let mode = file.metadata().map_err(io_at(path))?.mode();
    if place == Place::DataDir && mode & OTHERS_MODE != 0 {
        let mode = mode & 0o7777;
        let what =
            format!("other users can read this file (mode {mode:04o}); make it private with chmod 600, or replace it");
        return Err(DataDirError::Secret { path: path.to_owned(), what, code: ExitCode::Usage });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(io_at(path))?;
    Ok(Some(text.trim().to_owned()))
}

/// Where a secret is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the data directory.
    DataDir,
    /// Where systemd puts a service's credentials.
    Credentials,
}

/// The key in this directory that seals endpoints' secrets; none if there is none.
///
/// # Errors
/// When it cannot be read, others can read it, or it is no key.
pub fn read_secrets_key(dir: &Path, place: Place) -> Result<Option<[u8; 32]>, DataDirError> {
    let path = dir.join(SECRETS_KEY_FILE);
    let Some(text) = secret_text(&path, place)? else { return Ok(None) };
    let what = "the file holds no key of 64 hexadecimal digits; take the key from a backup";
    unhex(&text).map(Some).ok_or_else(|| DataDirError::Secret { path, what: what.to_owned(), code: ExitCode::Damaged })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    bytes.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())?.try_into().ok()
}

/// The admin token in a directory, also in a data directory that a running server has locked; none before the first start.
///
/// # Errors
/// When there is a file that cannot be read, that others can read, or that holds no token.
pub fn read_admin_token(dir: &Path) -> Result<Option<String>, DataDirError> {
    admin_token_in(dir, Place::DataDir)
}

/// The same of the directory where systemd keeps a service's credentials.
///
/// # Errors
/// As [`read_admin_token`]; also when the credential is empty.
pub fn credential_admin_token(dir: &Path) -> Result<Option<String>, DataDirError> {
    admin_token_in(dir, Place::Credentials)
}

fn admin_token_in(dir: &Path, place: Place) -> Result<Option<String>, DataDirError> {
    let path = dir.join(ADMIN_TOKEN_FILE);
    let text = secret_text(&path, place)?.filter(|text| place == Place::Credentials || !text.is_empty());
    let Some(token) = text else { return Ok(None) };
    let is_token = token.len() >= ADMIN_TOKEN_CHARS_MIN && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token {
        return Ok(Some(token));
    }
    let what = format!(
        "the file holds no admin token of at least {ADMIN_TOKEN_CHARS_MIN} visible ASCII characters; \
         remove the file, and the next start creates a token"
    );
    Err(DataDirError::Secret { path, what, code: ExitCode::Usage })
}

/// Writes a file that is there whole or not at all, also after a power cut. What it says may name the file itself.
fn write_whole(dir: &Path, name: &str, text: impl Fn(&Metadata) -> String) -> Result<(), DataDirError> {
    let (path, draft) = (dir.join(name), dir.join(format!("{name}{DRAFT_SUFFIX}")));
    let write = || {
        // One is left if the last attempt broke off; what is there may also be a link to somewhere else.
        if let Err(error) = fs::remove_file(&draft)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft)?;
        ownership::give_to_owner_of(dir, &file)?;
        file.write_all(text(&file.metadata()?).as_bytes())?;
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

/// How many files a journal consists of; none: there is none that can be read.
pub fn journal_files(data_dir: &Path) -> usize {
    fs::read_dir(data_dir.join(JOURNAL_DIR)).map_or(0, Iterator::count)
}

/// Free bytes of the filesystem, as an unprivileged process may use them.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let facts = rustix::fs::statvfs(path).ok()?;
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// Files that can still be made on the filesystem; none if it has no fixed number of them, or it cannot be said.
pub fn free_files(path: &Path) -> Option<u64> {
    let facts = rustix::fs::statvfs(path).ok()?;
    (facts.f_files > 0).then_some(facts.f_favail)
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
    fn a_secret_that_others_can_read_or_that_is_none_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("admin.token");
        let read = |place| admin_token_in(root.path(), place).map_err(|error| error.to_string());
        let write = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        assert_eq!(read(Place::DataDir), Ok(None));
        for (text, mode, what) in [
            ("0123456789abcdef", 0o644, "mode 0644"),
            ("0123456789abcdef", 0o640, "chmod 600"),
            ("x", 0o600, "no admin token"),
            ("0123456789 bcdef", 0o600, "no admin token"),
        ] {
            write(text, mode);
            let refused = read(Place::DataDir).unwrap_err();
            assert!(refused.contains(what) && refused.contains("admin.token"), "{refused}");
        }
        write("0123456789abcdef\n", 0o600);
        assert_eq!(read(Place::DataDir), Ok(Some("0123456789abcdef".to_owned())));
        write("0123456789abcdef\n", 0o440);
        assert!(read(Place::Credentials).is_ok(), "systemd guards it");
        write("", 0o400);
        assert!(read(Place::Credentials).is_err(), "an empty credential is a mistake");
        fs::write(root.path().join("secrets.key"), "00".repeat(32)).unwrap();
        fs::set_permissions(root.path().join("secrets.key"), fs::Permissions::from_mode(0o604)).unwrap();
        assert!(read_secrets_key(root.path(), Place::DataDir).is_err());
    }

    #[test]
    fn names_that_lead_elsewhere_are_not_written_to_and_nothing_of_roots_is_given_away() {
        let root = tempfile::tempdir().unwrap();
        let (path, other) = (root.path().join("data"), root.path().join("other"));
        fs::create_dir(&path).unwrap();
        fs::write(&other, "another file").unwrap();
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(&path, Some(4_711), Some(4_711)).unwrap();
        }
        let before = fs::metadata(&other).unwrap().uid();
        std::os::unix::fs::symlink(&other, path.join("LOCK")).unwrap();
        let refused = DataDir::open(&path).unwrap_err().to_string();
        assert!(refused.contains("LOCK") && refused.contains("symbolic link"), "{refused}");
        fs::remove_file(path.join("LOCK")).unwrap();
        for name in ["FORMAT.new", "admin.token.new", "secrets.key.new"] {
            std::os::unix::fs::symlink(&other, path.join(name)).unwrap();
        }
        let mut dir = DataDir::open(&path).unwrap();
        dir.complete(Timestamp(0)).unwrap();
        dir.admin_token().unwrap();
        dir.make_secrets_key().unwrap();
        drop(dir);
        let after = fs::metadata(&other).unwrap();
        assert_eq!((after.uid(), fs::read_to_string(&other).unwrap()), (before, "another file".to_owned()));
        let owner = |name: &str| fs::metadata(path.join(name)).unwrap().uid();
        let expected = if is_root { 4_711 } else { before };
        assert_eq!([owner("LOCK"), owner("FORMAT"), owner("secrets.key")], [expected; 3]);
    }
}
