//! The sled directory of the state, and the check of its validity. Knows no rows.
//!
//! `sled/<generation>/` holds a `db` file and a mark: `RUNNING` while a process has the directory
//! open, `CLEAN` after a stop in good order. Both marks name the boot, and the device and inode of
//! the `db` file. A directory is valid only if a process stopped cleanly on this very file, or
//! crashed on it in this very boot: the page cache outlives a process but not a power cut, and a
//! directory is not copied at one instant. While a running server copies its rows to the next
//! generation, that directory has the mark `COPYING` and counts as absent. An invalid directory is
//! removed before the next generation is created (the disk may not have room for both), and the
//! state is computed from the journal. Only a state that is ahead of the journal stays: it proves
//! that the journal has lost something.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::base::{ownership, regular};
use crate::journal::Position;
use crate::store::error::StateError;
use crate::store::rows::schema::FORMAT;

pub(super) const RUNNING: &str = "RUNNING";
pub(super) const CLEAN: &str = "CLEAN";
pub(super) const DATABASE: &str = "db";
/// Marks a generation to which the rows of the one before are being copied.
pub(super) const COPYING: &str = "COPYING";
/// Holds the position of the journal at which a copied generation began.
const SINCE: &str = "SINCE";
/// Large segments and few writes keep sled 0.34.7 away from its deadlock (a hot row rewritten at
/// full speed). They are not larger because sled holds three segments in memory while it writes.
pub const SEGMENT_BYTES: usize = 8 << 20;

/// An opened sled directory.
#[derive(Debug)]
pub struct Generation {
    pub(super) db: sled::Db,
    pub(super) dir: PathBuf,
    /// The maximum size of sled's page cache.
    pub(super) cache_bytes: u64,
    /// The files hold no byte of a row that was removed before this position.
    pub(super) since: Position,
}

/// The next generation while it gets the rows.
#[derive(Debug)]
pub(in crate::store) struct Renewal {
    pub(super) next: Generation,
    /// The last copied key. Empty at the beginning.
    pub(super) reached: Vec<u8>,
}

/// The reason why the state is computed anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no state yet.
    Missing,
    /// The machine was restarted without a clean stop of the server.
    OtherBoot,
    /// The directory is a copy.
    Copied,
    /// The mark or the rows have another format, or cannot be read.
    Unusable(String),
    /// The state is ahead of the journal: the journal has lost something. The directory stays as it
    /// is.
    AheadOfJournal {
        /// The journal position of the first command that is not applied.
        applied: Position,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no state yet"),
            Self::OtherBoot => {
                f.write_str("the machine was restarted without a clean stop of the server")
            }
            Self::Copied => f.write_str("the data directory is a copy"),
            Self::Unusable(why) => write!(f, "the state cannot be used: {why}"),
            Self::AheadOfJournal { applied } => {
                write!(f, "the state is ahead of the journal, at {applied}")
            }
        }
    }
}

/// Checks the mark of a generation's directory. Returns the reason if the directory is not valid.
/// Opens nothing.
pub(in crate::store) fn judge_mark(dir: &Path) -> Result<(), Reason> {
    let unusable = |error: &dyn fmt::Display| Reason::Unusable(error.to_string());
    if let Some(path) = regular::stranger_below(dir) {
        // sled would wait for the other end of a pipe.
        return Err(unusable(&format!("{} is no file", path.display())));
    }
    let running = fs::read_to_string(dir.join(RUNNING));
    let clean = running.is_err();
    let mark = running.or_else(|_gone| fs::read_to_string(dir.join(CLEAN)));
    let mark = mark.map_err(|error| unusable(&format!("its marker file is missing ({error})")))?;
    let found = Mark::parse(&mark).ok_or_else(|| unusable(&"its marker file cannot be read"))?;
    let now = Mark::of(dir).map_err(|error| unusable(&error))?;
    if found.format != now.format {
        return Err(unusable(&format!(
            "its format is {}, this version uses {}",
            found.format, now.format
        )));
    }
    if (found.device, found.inode) != (now.device, now.inode) {
        return Err(Reason::Copied);
    }
    if !clean && found.boot != now.boot {
        return Err(Reason::OtherBoot);
    }
    Ok(())
}

/// Removes the marks of the last generation under `dir`, so that the next start computes the state
/// from the journal.
///
/// # Errors
/// A mark cannot be removed.
pub fn invalidate_last(dir: &Path) -> Result<(), StateError> {
    let Some(last) = last_generation(dir)? else { return Ok(()) };
    remove_mark(&last, RUNNING)?;
    remove_mark(&last, CLEAN)
}

/// Removes every generation under `dir`.
///
/// # Errors
/// A generation cannot be removed.
pub fn remove_all(dir: &Path) -> Result<(), StateError> {
    remove_generations_before(dir, u64::MAX)
}

/// Returns the directory of the last generation under `dir`.
pub(in crate::store) fn last_generation(dir: &Path) -> Result<Option<PathBuf>, StateError> {
    let last = generations(dir)?.into_iter().max();
    Ok(last.map(|number| dir.join(number.to_string())))
}

/// The content of a mark.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    format: u32,
    boot: String,
    device: u64,
    inode: u64,
}

impl Mark {
    fn of(dir: &Path) -> Result<Self, StateError> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let file = fs::metadata(dir.join(DATABASE))?;
        Ok(Self {
            format: FORMAT,
            boot: boot.trim().to_owned(),
            device: file.dev(),
            inode: file.ino(),
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [format, boot, device, inode] = words.as_slice() else { return None };
        Some(Self {
            format: format.parse().ok()?,
            boot: (*boot).to_owned(),
            device: device.parse().ok()?,
            inode: inode.parse().ok()?,
        })
    }
}

pub(super) fn write_mark(dir: &Path, name: &str) -> Result<(), StateError> {
    let Mark { format, boot, device, inode } = Mark::of(dir)?;
    write_file(dir, name, &format!("{format} {boot} {device} {inode}"))
}

/// Writes a file with this line, durably.
pub(super) fn write_file(dir: &Path, name: &str, line: &str) -> Result<(), StateError> {
    let write = |path: &Path| {
        let mut options = OpenOptions::new();
        let mut file =
            ownership::open_unfollowed(options.create(true).truncate(true).write(true), path)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    write(&dir.join(name)).map_err(StateError::from)
}

pub(super) fn remove_mark(dir: &Path, name: &str) -> Result<(), StateError> {
    match fs::remove_file(dir.join(name)) {
        // A file in the place of the directory holds no marks.
        Err(error)
            if ![io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) =>
        {
            Err(error.into())
        }
        Ok(()) => File::open(dir).and_then(|dir| dir.sync_all()).map_err(StateError::from),
        Err(_not_there) => Ok(()),
    }
}

/// Removes a file in the place of the directory of all generations, which can be computed again.
///
/// # Errors
/// The file cannot be removed.
pub(super) fn make_way(dir: &Path) -> Result<(), StateError> {
    if dir.is_dir() || fs::symlink_metadata(dir).is_err() {
        return Ok(());
    }
    tracing::warn!(path = %dir.display(), "the state is no directory: it is removed and computed \
        from the journal");
    fs::remove_file(dir).map_err(StateError::from)
}

pub(in crate::store) fn make_dir(dir: &Path) -> Result<(), StateError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StateError::from)
}

/// Returns the numbers of the generations under `dir`; none if `dir` is no directory. A generation
/// in the making does not count.
pub(super) fn generations(dir: &Path) -> Result<Vec<u64>, StateError> {
    let mut all = numbered(dir)?;
    all.retain(|number| !is_in_the_making(&dir.join(number.to_string())));
    Ok(all)
}

fn is_in_the_making(generation: &Path) -> bool {
    generation.join(COPYING).exists()
}

fn numbered(dir: &Path) -> Result<Vec<u64>, StateError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(dir)?;
    Ok(entries.filter_map(|entry| number_of(&entry.ok()?.path())).collect())
}

/// Removes the generations under `dir` that were in the making when a server ended.
pub(super) fn remove_unfinished(dir: &Path) -> Result<(), StateError> {
    for number in numbered(dir)? {
        let generation = dir.join(number.to_string());
        if is_in_the_making(&generation) {
            remove_generation(&generation)?;
        }
    }
    Ok(())
}

/// Removes the directory of a generation.
pub(super) fn remove_generation(dir: &Path) -> Result<(), StateError> {
    // A directory that is removed in part must not pass for a valid one.
    remove_mark(dir, RUNNING)?;
    remove_mark(dir, CLEAN)?;
    fs::remove_dir_all(dir).map_err(StateError::from)
}

/// Returns the directory of the generation that follows this one.
pub(super) fn following(dir: &Path) -> PathBuf {
    dir.with_file_name(number_of(dir).unwrap_or(0).saturating_add(1).to_string())
}

/// Records the position at which a copied generation began.
pub(super) fn write_since(dir: &Path, since: Position) -> Result<(), StateError> {
    write_file(dir, SINCE, &since.0.to_string())
}

/// Returns the recorded position. A generation that was not copied may hold bytes of any time.
pub(super) fn read_since(dir: &Path) -> Position {
    let text = fs::read_to_string(dir.join(SINCE)).unwrap_or_default();
    text.trim().parse().map_or(Position::FIRST, Position)
}

/// Removes the generations before this number, which are never valid again.
pub(super) fn remove_generations_before(dir: &Path, number: u64) -> Result<(), StateError> {
    for older in numbered(dir)?.into_iter().filter(|older| *older < number) {
        let older = dir.join(older.to_string());
        let removed =
            if older.is_dir() { fs::remove_dir_all(&older) } else { fs::remove_file(&older) };
        removed?;
    }
    if !dir.is_dir() {
        return Ok(());
    }
    // Some filesystems free the space only after a sync.
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StateError::from)
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.parse().ok()
}
