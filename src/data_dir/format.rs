//! The file `FORMAT`: one line with the format version, the creation time, the instance's id, and
//! the device and inode of this very file. In a copy, device and inode differ, and this stays so
//! until the copy delivers. So an operator can start a copy for a look without making it an
//! original.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::error::{DataDirError, io_at};
use super::names::{FORMAT_FILE, FORMAT_VERSION};
use super::whole::{hex, write_whole};
use crate::base::random;
use crate::model::time::Timestamp;

/// The content of the file, and whether the file is an original.
#[derive(Clone, Debug)]
pub(super) struct Format {
    /// The creation time and the instance's id, as written in the file.
    identity: String,
    /// True if this very file was written here, so that the directory is no copy.
    pub(super) is_home: bool,
}

impl Format {
    /// The format of an instance created now.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { identity: format!("{now} {}", hex(&random::bytes::<16>())), is_home: true }
    }

    /// The same identity, as an original or as a copy.
    pub(super) fn with_home(&self, is_home: bool) -> Self {
        Self { is_home, ..self.clone() }
    }

    /// Reads the file; none if there is no such file yet.
    ///
    /// # Errors
    /// If the file cannot be read, or has another version.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, DataDirError> {
        let file = dir.join(FORMAT_FILE);
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io_at(&file))?,
        };
        let words: Vec<_> = text.split_whitespace().collect();
        let [version, identity @ ..] = words.as_slice() else {
            return Err(DataDirError::Format { file, found: text });
        };
        if *version != FORMAT_VERSION.to_string() {
            return Err(DataDirError::Format { file, found: text.trim().to_owned() });
        }
        let here = fs::metadata(&file).map(|facts| home(&facts)).map_err(io_at(&file))?;
        let (identity, home) = identity.split_at(identity.len().min(2));
        Ok(Some(Self { identity: identity.join(" "), is_home: home.join(" ") == here }))
    }

    /// Writes the file into the directory, with its device and inode if the directory is an
    /// original.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn write(&self, dir: &Path) -> Result<(), DataDirError> {
        let Self { identity, is_home } = self;
        let text = |facts: &Metadata| match is_home {
            true => format!("{FORMAT_VERSION} {identity} {}\n", home(facts)),
            false => format!("{FORMAT_VERSION} {identity}\n"),
        };
        write_whole(dir, FORMAT_FILE, text)
    }
}

fn home(facts: &Metadata) -> String {
    format!("{} {}", facts.dev(), facts.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_another_format_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        for (text, shown) in [
            ("99 later\n", "99 later"),
            ("", "FORMAT"),
            ("\n", "FORMAT"),
            ("1 2026-11-01T00:00:00Z 00\n", "an earlier triggerd"),
        ] {
            fs::write(root.path().join("FORMAT"), text).unwrap();
            let refused = Format::read(root.path()).unwrap_err().to_string();
            assert!(refused.contains("FORMAT") && refused.contains(shown), "{refused}");
        }
    }

    #[test]
    fn a_copy_is_not_at_home_before_it_says_so() {
        let root = tempfile::tempdir().unwrap();
        let (original, copy) = (root.path().join("original"), root.path().join("copy"));
        fs::create_dir(&original).unwrap();
        fs::create_dir(&copy).unwrap();
        assert!(Format::read(&original).unwrap().is_none());
        Format::new(Timestamp(1)).write(&original).unwrap();
        assert!(Format::read(&original).unwrap().unwrap().is_home);
        fs::copy(original.join("FORMAT"), copy.join("FORMAT")).unwrap();
        let format = Format::read(&copy).unwrap().unwrap();
        assert!(!format.is_home);
        format.write(&copy).unwrap();
        assert!(!Format::read(&copy).unwrap().unwrap().is_home, "it was written, and stays a copy");
        format.with_home(true).write(&copy).unwrap();
        let settled = Format::read(&copy).unwrap().unwrap();
        assert!(
            settled.is_home
                && settled.identity == Format::read(&original).unwrap().unwrap().identity
        );
        let moved = root.path().join("moved");
        fs::rename(&original, &moved).unwrap();
        assert!(
            Format::read(&moved).unwrap().unwrap().is_home,
            "a renamed directory is the same one"
        );
    }
}
