//! A file of the data directory that only a start reads, compared with its content at the start of
//! this process. The look-out calls this module once a second.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::PathBuf;

use super::loss::{Loss, What};

/// The file as it was, and whether it is lost now.
pub(super) struct KeptFile {
    what: What,
    path: PathBuf,
    /// Held open, so that its new name can be found after a rename, and its content after a
    /// removal.
    held: File,
    content: Vec<u8>,
    is_lost: bool,
}

impl KeptFile {
    /// Opens the file and remembers its content.
    ///
    /// # Errors
    /// The I/O error if the file cannot be read.
    pub(super) fn of((what, path): (What, PathBuf)) -> io::Result<Self> {
        let mut held = File::open(&path)?;
        let mut content = Vec::new();
        held.read_to_end(&mut content)?;
        Ok(Self { what, path, held, content, is_lost: false })
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Compares the file with its former content. Logs a loss once, and its end.
    pub(super) fn look(&mut self) {
        let loss = self.loss();
        match (&loss, self.is_lost) {
            (Some(loss), false) => tracing::error!(lost = loss.path(), "{loss}"),
            (None, true) => {
                // Another file may be in the place of the lost one.
                if let Ok(file) = File::open(&self.path) {
                    self.held = file;
                }
                tracing::info!(path = %self.path.display(), "the file is as it was again");
            }
            (Some(_), true) | (None, false) => {}
        }
        self.is_lost = loss.is_some();
    }

    /// Returns a loss if the file is gone, or has another content. Another file with the same
    /// content is as good. An error that proves nothing is no loss.
    fn loss(&self) -> Option<Loss> {
        match fs::read(&self.path) {
            Ok(content) if content == self.content => None,
            Ok(_) => Some(Loss::content(self.what, self.path.clone(), &self.held)),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    Some(Loss::of(self.what, self.path.clone(), &self.held))
                }
                io::ErrorKind::PermissionDenied => {
                    Some(Loss::denied(self.what, self.path.clone(), error))
                }
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_lost_until_its_content_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets.key");
        fs::write(&path, "key").unwrap();
        let mut file = KeptFile::of((What::SecretsKey, path.clone())).unwrap();
        let mut lost = || {
            file.look();
            (file.is_lost(), file.loss().map(|loss| loss.to_string()).unwrap_or_default())
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
        let text = file.loss().unwrap().to_string();
        assert!(text.contains("was overwritten") && !text.contains("/proc/"), "{text}");
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        let text = file.loss().unwrap().to_string();
        assert!(text.contains("elsewhere now") && text.contains("rename it back"), "{text}");
    }
}
