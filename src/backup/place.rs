//! The place of a restored data directory. Its files are written into a draft, and get their names
//! in the new directory when they are whole: by one renaming, or one by one if the directory exists
//! already, because it may be the mount of a filesystem. `FORMAT` is the last one: without it, no
//! server takes the directory.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::copy::{NewDirectories, create_dir, sync_dir};
use super::error::{BackupError, io_at};
use super::lock::lock;
use crate::base::ownership;
use crate::data_dir::{JOURNAL, RESTORED_FILES};

/// The suffix of a draft's name.
const DRAFT: &str = ".restoring";
/// A name in an empty filesystem.
const LOST_AND_FOUND: &str = "lost+found";

/// The place of a restored data directory.
pub(super) struct Place {
    to: PathBuf,
    draft: PathBuf,
    parent: PathBuf,
    is_there: bool,
    _lock: File,
    /// Last, because they are removed if nothing is in them.
    _parents: NewDirectories,
}

impl Place {
    /// Creates the draft. The directory `to` must not exist, or be empty.
    pub(super) fn take(to: &Path) -> Result<Self, BackupError> {
        let is_there = require_free(to)?;
        let absolute = std::path::absolute(to).map_err(io_at(to))?;
        let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            let message = format!("{} cannot be the name of a data directory", to.display());
            return Err(BackupError::Refused(message));
        };
        let mut name = OsString::from(name);
        name.push(DRAFT);
        let draft = if is_there { absolute.join(DRAFT) } else { parent.join(name) };
        let parents = NewDirectories::create(parent)?;
        remove_former(&draft, to)?;
        create_dir(&draft)?;
        let lock = lock(&draft, &busy(to))?;
        let parent = parent.to_owned();
        Ok(Self { to: absolute, draft, parent, is_there, _lock: lock, _parents: parents })
    }

    /// The directory into which the files are written.
    pub(super) fn draft(&self) -> &Path {
        &self.draft
    }

    /// Gives the files their names.
    pub(super) fn finish(&self) -> Result<(), BackupError> {
        if !self.is_there {
            fs::rename(&self.draft, &self.to).map_err(io_at(&self.to))?;
            return sync_dir(&self.parent);
        }
        let given = ownership::give_tree_to_owner_of(&self.to, &self.draft);
        given.map_err(io_at(&self.draft))?;
        for name in RESTORED_FILES {
            // FORMAT comes last, and the names before it are durable then.
            sync_dir(&self.to)?;
            match fs::rename(self.draft.join(name), self.to.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => renamed.map_err(io_at(&self.to))?,
            }
        }
        fs::remove_dir(&self.draft).map_err(io_at(&self.draft))?;
        sync_dir(&self.to)
    }

    /// Removes the draft.
    pub(super) fn give_up(&self) {
        if let Err(error) = fs::remove_dir_all(&self.draft) {
            tracing::warn!(%error, "what a failed restore wrote could not be removed");
        }
    }
}

/// Returns true if the directory exists and is empty, and false if it does not exist. The draft of
/// a restore that was killed does not count.
fn require_free(to: &Path) -> Result<bool, BackupError> {
    let names = match fs::read_dir(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        names => names.map_err(io_at(to))?,
    };
    for entry in names {
        let name = entry.map_err(io_at(to))?.file_name();
        if name != DRAFT && name != LOST_AND_FOUND {
            let message = format!(
                "{} is not empty, because it holds {}; restore into a directory that does not \
                 exist yet",
                to.display(),
                name.display()
            );
            return Err(BackupError::Refused(message));
        }
    }
    Ok(true)
}

fn busy(to: &Path) -> String {
    format!("another restore into {} is under way", to.display())
}

/// Removes the draft of a restore that was killed, and nothing else.
fn remove_former(draft: &Path, to: &Path) -> Result<(), BackupError> {
    if draft.symlink_metadata().is_err() {
        return Ok(());
    }
    let foreign = || {
        let draft = draft.display();
        let message = format!("{draft} is in the way, and no restore wrote it; move it away");
        BackupError::Refused(message)
    };
    if !draft.symlink_metadata().is_ok_and(|facts| facts.is_dir()) {
        return Err(foreign());
    }
    let _lock = lock(draft, &busy(to))?;
    for entry in fs::read_dir(draft).map_err(io_at(draft))? {
        let name = entry.map_err(io_at(draft))?.file_name();
        let name = name.to_str().unwrap_or_default();
        let whole = name.strip_suffix(".new").unwrap_or(name);
        if whole != JOURNAL && !RESTORED_FILES.contains(&whole) {
            return Err(foreign());
        }
    }
    fs::remove_dir_all(draft).map_err(io_at(draft))
}
