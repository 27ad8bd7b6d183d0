//! The directory of an archive. A file in it, the marker, tells it from the empty directory that
//! remains in its place while its filesystem is not mounted.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::failpoint::{self, Switch};
use crate::base::library_errors::io_words;
use crate::base::threads::{Signal, within};
use crate::data_dir::{has_used_archive, instance_id, lies_within, note_used_archive};

/// The name of the marker.
pub(super) const MARKER: &str = ".triggerd-archive";

/// A directory for archives, which may be on another machine and may not answer.
pub(super) struct Directory {
    path: PathBuf,
    data_dir: PathBuf,
}

/// The place of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is in the data directory, which holds nothing else.
    Inside,
    /// It is outside of the data directory.
    Outside,
    /// Its filesystem did not answer in time.
    Unknown,
}

/// Looks where a directory for archives is, for at most so long.
///
/// # Errors
/// No thread can be started, or the working directory is unknown.
pub fn place_of(directory: &Path, data_dir: &Path, at_most: Duration) -> io::Result<Place> {
    let (directory, data_dir) = (directory.to_owned(), data_dir.to_owned());
    let looked = within(at_most, "archive-place", move || is_inside(&directory, &data_dir))?;
    match looked.transpose()? {
        Some(true) => Ok(Place::Inside),
        Some(false) => Ok(Place::Outside),
        None => Ok(Place::Unknown),
    }
}

fn is_inside(directory: &Path, data_dir: &Path) -> io::Result<bool> {
    if failpoint::is_on(Switch::ArchiveHangs) {
        Signal::new().wait(Duration::MAX);
    }
    lies_within(directory, data_dir)
}

impl Directory {
    pub(super) fn new(path: PathBuf, data_dir: PathBuf) -> Self {
        Self { path, data_dir }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that this is the directory that the server used before. Makes the directory and its
    /// marker at the first use.
    ///
    /// # Errors
    /// The directory is another one, or it cannot be used. The reason is in words.
    pub(super) fn open(&self) -> Result<(), String> {
        if is_inside(&self.path, &self.data_dir).map_err(|error| io_words(&error))? {
            return Err("the directory is in the data directory".to_owned());
        }
        if has_used_archive(&self.data_dir, &self.path).map_err(|error| error.to_string())? {
            return self.require_marker();
        }
        let instance = instance_id(&self.data_dir).map_err(|error| error.to_string())?;
        self.mark(&instance).map_err(|error| io_words(&error))?;
        note_used_archive(&self.data_dir, &self.path).map_err(|error| error.to_string())
    }

    /// Checks that the marker is there.
    ///
    /// # Errors
    /// The marker is missing, or cannot be looked at. The reason is in words.
    pub(super) fn require_marker(&self) -> Result<(), String> {
        let path = self.path.display();
        match self.path.join(MARKER).symlink_metadata() {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
                "{path} lacks the file {MARKER}, which the server made there at the first use. If \
                 the filesystem of the archive is not mounted, mount it. If the archive begins \
                 anew in this directory, say so with: mkdir -p {path} && touch {path}/{MARKER}"
            )),
            Err(error) => Err(io_words(&error)),
        }
    }

    /// Makes the directory and its marker, if they are missing.
    fn mark(&self, instance: &str) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let mut options = File::options();
        let marker = options.write(true).create_new(true).mode(0o600).open(self.path.join(MARKER));
        let mut marker = match marker {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            marker => marker?,
        };
        let text = format!("archive of the triggerd instance {instance}\n");
        marker.write_all(text.as_bytes())?;
        marker.sync_all()?;
        File::open(&self.path)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::DataDir;
    use crate::model::time::Timestamp;

    #[test]
    fn a_directory_that_was_used_and_lacks_its_marker_is_refused_until_the_operator_makes_one() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        DataDir::open(&data).unwrap().complete(Timestamp(1)).unwrap();
        let path = dir.path().join("mounted/archive");
        let directory = Directory::new(path.clone(), data.clone());
        directory.open().unwrap();
        directory.open().unwrap();
        let text = fs::read_to_string(path.join(MARKER)).unwrap();
        assert!(text.contains(&instance_id(&data).unwrap()), "{text}");
        fs::rename(dir.path().join("mounted"), dir.path().join("away")).unwrap();
        for _ in 0..2 {
            let why = directory.open().unwrap_err();
            assert!(why.contains("mount it") && why.contains("touch "), "{why}");
            fs::create_dir_all(dir.path().join("mounted")).unwrap();
        }
        assert!(!path.exists(), "nothing is written beneath the mount point");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(MARKER), "").unwrap();
        directory.open().unwrap();
        let other = Directory::new(dir.path().join("other"), data);
        other.open().unwrap();
        assert!(dir.path().join("other").join(MARKER).exists(), "another path is a first use");
    }

    #[test]
    fn a_directory_in_the_data_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let place = |path: &Path| place_of(path, &data, Duration::from_mins(3)).unwrap();
        let inside = data.join("archive");
        assert_eq!((place(&inside), place(dir.path())), (Place::Inside, Place::Outside));
        assert!(Directory::new(inside.clone(), data).open().is_err() && !inside.exists());
    }
}
