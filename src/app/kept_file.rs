//! A file of the data directory that only a start reads, compared with its content at the start of
//! this process. The directory watch calls this module once a second.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::loss::{Loss, What};
use crate::base::regular;
use crate::data_dir::FormatFile;

/// The file as it was, and whether it is lost now.
pub(super) struct KeptFile {
    what: What,
    path: PathBuf,
    /// Held open, so that its new name can be found after a rename, and its content after a
    /// removal.
    held: File,
    content: Content,
    is_lost: bool,
}

/// The bytes that the file should have.
enum Content {
    Fixed(Vec<u8>),
    /// The server itself changes the file.
    Format(FormatFile),
}

impl Content {
    /// Reads the file. Returns true if it has these bytes.
    fn is_in(&self, path: &Path) -> io::Result<bool> {
        match self {
            Self::Fixed(content) => Ok(regular::read(path)? == *content),
            Self::Format(format) => format.compare(|content| Ok(regular::read(path)? == content)),
        }
    }
}

/// The result of a comparison.
enum Found {
    Unchanged,
    Lost(Loss),
    /// The file could not be read for a reason that proves nothing.
    Unknown,
}

impl KeptFile {
    /// Opens the file and remembers its content.
    ///
    /// # Errors
    /// The I/O error if the file cannot be read.
    pub(super) fn of((what, path): (What, PathBuf)) -> io::Result<Self> {
        let mut held = regular::open(&path)?;
        let mut content = Vec::new();
        held.read_to_end(&mut content)?;
        Ok(Self { what, path, held, content: Content::Fixed(content), is_lost: false })
    }

    /// Opens the file `FORMAT`.
    ///
    /// # Errors
    /// The I/O error if the file cannot be opened.
    pub(super) fn format(format: FormatFile) -> io::Result<Self> {
        let (what, path) = (What::Format, format.path());
        let held = regular::open(&path)?;
        Ok(Self { what, path, held, content: Content::Format(format), is_lost: false })
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Compares the file with its former content. Logs a loss once, and its end.
    pub(super) fn look(&mut self) {
        let found = self.found();
        if matches!(found, Found::Unchanged) {
            self.hold();
        }
        match (found, self.is_lost) {
            (Found::Lost(loss), false) => {
                tracing::error!(lost = loss.path(), "{loss}");
                self.is_lost = true;
            }
            (Found::Unchanged, true) => {
                tracing::info!(path = %self.path.display(), "the file is as it was again");
                self.is_lost = false;
            }
            (Found::Lost(_), true) | (Found::Unchanged, false) | (Found::Unknown, _) => {}
        }
    }

    /// Holds the file that has the path now: another file may be in the place of the former one.
    fn hold(&mut self) {
        let is_held = match (fs::metadata(&self.path), self.held.metadata()) {
            (Ok(named), Ok(held)) => (named.dev(), named.ino()) == (held.dev(), held.ino()),
            _ => true,
        };
        if !is_held && let Ok(file) = regular::open(&self.path) {
            self.held = file;
        }
    }

    /// Compares the file with its former content. The file is lost if it is gone, or has another
    /// content. Another file with the same content is as good.
    fn found(&self) -> Found {
        match self.content.is_in(&self.path) {
            Ok(true) => Found::Unchanged,
            Ok(false) => Found::Lost(Loss::content(self.what, self.path.clone(), &self.held)),
            Err(error) => Loss::of_error(self.what, &self.path, &self.held, error)
                .map_or(Found::Unknown, Found::Lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The loss in words; empty if there is none.
    fn words(file: &KeptFile) -> String {
        match file.found() {
            Found::Lost(loss) => loss.to_string(),
            Found::Unchanged | Found::Unknown => String::new(),
        }
    }

    #[test]
    fn a_file_is_lost_until_its_content_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets.key");
        fs::write(&path, "key").unwrap();
        let mut file = KeptFile::of((What::SecretsKey, path.clone())).unwrap();
        let mut lost = || {
            file.look();
            (file.is_lost(), words(&file))
        };
        assert_eq!(lost(), (false, String::new()));
        fs::remove_file(&path).unwrap();
        let (is_lost, text) = lost();
        assert!(is_lost && text.contains("was removed") && text.contains("/proc/"), "{text}");
        fs::write(&path, "kex").unwrap();
        let (is_lost, text) = lost();
        assert!(is_lost && text.contains("was replaced") && text.contains("/proc/"), "{text}");
        fs::write(&path, "key").unwrap();
        assert_eq!(lost(), (false, String::new()));
        let mut file = KeptFile::of((What::Format, path.clone())).unwrap();
        fs::write(&path, "kex").unwrap();
        file.look();
        let text = words(&file);
        assert!(text.contains("was overwritten") && !text.contains("/proc/"), "{text}");
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        let text = words(&file);
        assert!(text.contains("elsewhere now") && text.contains("rename it back"), "{text}");
    }

    #[test]
    fn an_error_that_proves_nothing_neither_loses_a_file_nor_finds_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("FORMAT");
        fs::write(&path, "4").unwrap();
        let mut file = KeptFile::of((What::Format, path.clone())).unwrap();
        // The system gives up on a link to itself, as on other errors that say nothing of the file.
        let unreadable = || std::os::unix::fs::symlink(&path, &path).unwrap();
        fs::rename(&path, dir.path().join("aside")).unwrap();
        unreadable();
        file.look();
        assert!(matches!(file.found(), Found::Unknown) && !file.is_lost());
        fs::remove_file(&path).unwrap();
        file.look();
        assert!(file.is_lost());
        unreadable();
        file.look();
        assert!(file.is_lost(), "nobody has seen the file again");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        file.look();
        assert!(file.is_lost() && words(&file).contains("replaced"), "{}", words(&file));
        fs::remove_dir(&path).unwrap();
        fs::rename(dir.path().join("aside"), &path).unwrap();
        file.look();
        assert!(!file.is_lost());
    }
}
