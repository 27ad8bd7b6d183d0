//! The file `FORMAT`: one line with the format version, the creation time, the instance's id, the
//! position at which the journal begins at the latest, and the device and inode of this very file.
//! In a copy, device and inode differ, and this stays so until the copy delivers. So an operator
//! can start a copy for a look without making it an original.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::error::{DataDirError, FormatFault, io_at};
use super::names::{FORMAT_FILE, FORMAT_VERSION};
use super::whole::{hex, unhex, write_whole};
use crate::base::{random, regular};
use crate::model::time::Timestamp;

/// The first position of a journal from which nothing was removed.
pub(super) const FIRST: u64 = 1;
/// Prefix of the word with the position at which the journal begins at the latest.
const BEGINS: &str = "journal_from=";
/// Length of an instance's id.
const ID_BYTES: usize = 16;
/// Number of characters shown of a file that is not as a server wrote it.
const FOUND_CHARS: usize = 80;

/// The content of the file, and whether the file is an original.
#[derive(Clone, Debug)]
pub(super) struct Format {
    /// The creation time and the instance's id, as written in the file.
    identity: String,
    /// The journal may begin at this position, and not later: everything before it was removed on
    /// purpose.
    pub(super) first: u64,
    /// True if this very file was written here, so that the directory is no copy.
    pub(super) is_home: bool,
}

impl Format {
    /// The format of an instance created now.
    pub(super) fn new(now: Timestamp) -> Self {
        let identity = format!("{now} {}", hex(&random::bytes::<ID_BYTES>()));
        Self { identity, first: FIRST, is_home: true }
    }

    /// The id of the instance.
    pub(super) fn instance(&self) -> &str {
        self.identity.split(' ').next_back().unwrap_or_default()
    }

    /// The same identity, as an original or as a copy.
    pub(super) fn with_home(&self, is_home: bool) -> Self {
        Self { is_home, ..self.clone() }
    }

    /// The same file for a journal that may begin at `first`.
    pub(super) fn with_first(&self, first: u64) -> Self {
        Self { first, ..self.clone() }
    }

    /// Reads the file. The inner error is a fault of the file itself, which the caller judges.
    ///
    /// # Errors
    /// If the file cannot be read, or has another version.
    pub(super) fn read(dir: &Path) -> Result<Result<Self, FormatFault>, DataDirError> {
        let file = dir.join(FORMAT_FILE);
        let bytes = match regular::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Err(FormatFault::Missing));
            }
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                return Ok(Err(FormatFault::Directory));
            }
            Err(error) if regular::is_no_file(&error) => return Ok(Err(FormatFault::NoFile)),
            other => other.map_err(io_at(&file))?,
        };
        let text = String::from_utf8_lossy(&bytes);
        let found = text.trim();
        if found.is_empty() {
            return Ok(Err(FormatFault::Empty));
        }
        let garbled = || FormatFault::Garbled(found.chars().take(FOUND_CHARS).collect());
        // A file that was cut has lost the end of its line, whatever else it has kept.
        let line = text.strip_suffix('\n').unwrap_or_default();
        let mut words = line.split(' ');
        let Some(version) = words.next().and_then(|word| word.parse::<u32>().ok()) else {
            return Ok(Err(garbled()));
        };
        if version != FORMAT_VERSION {
            let found = found.to_owned();
            return Err(DataDirError::OtherVersion { file, version, found });
        }
        let here = fs::metadata(&file).map(|facts| home(&facts)).map_err(io_at(&file))?;
        Ok(Self::parse(&words.collect::<Vec<_>>(), &here).ok_or_else(garbled))
    }

    /// Parses the words behind the version. `here` are device and inode of the file itself.
    fn parse(words: &[&str], here: &str) -> Option<Self> {
        let (identity, rest) = words.split_at_checked(2)?;
        let [time, id] = identity else { return None };
        let (begins, home) = rest.split_first()?;
        let first = begins.strip_prefix(BEGINS)?.parse().ok()?;
        let is_identity = time.parse::<Timestamp>().is_ok() && unhex::<ID_BYTES>(id).is_some();
        let is_home_of_a_file =
            home.len() == 2 && home.iter().all(|number| number.parse::<u64>().is_ok());
        let is_whole = is_identity && (home.is_empty() || is_home_of_a_file);
        let (identity, is_home) = (identity.join(" "), home.join(" ") == here);
        is_whole.then_some(Self { identity, first, is_home })
    }

    /// Writes the file into the directory, with its device and inode if the directory is an
    /// original.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn write(&self, dir: &Path) -> Result<(), DataDirError> {
        let Self { identity, first, is_home } = self;
        let text = |facts: &Metadata| match is_home {
            true => format!("{FORMAT_VERSION} {identity} {BEGINS}{first} {}\n", home(facts)),
            false => format!("{FORMAT_VERSION} {identity} {BEGINS}{first}\n"),
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

    fn read(dir: &Path) -> Format {
        Format::read(dir).unwrap().unwrap()
    }

    #[test]
    fn a_directory_of_another_format_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        for (text, shown) in [
            ("99 later\n", "99 later"),
            ("99 later\n", "a newer triggerd"),
            ("1 2026-11-01T00:00:00Z 00\n", "an earlier triggerd"),
        ] {
            fs::write(root.path().join("FORMAT"), text).unwrap();
            let refused = Format::read(root.path()).unwrap_err().to_string();
            assert!(refused.contains("FORMAT") && refused.contains(shown), "{refused}");
        }
    }

    #[test]
    fn a_format_that_was_cut_or_overwritten_anywhere_is_told_from_a_whole_one() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("FORMAT");
        let fault = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            Format::read(root.path()).unwrap().unwrap_err()
        };
        for is_home in [true, false] {
            Format::new(Timestamp(1)).with_home(is_home).write(root.path()).unwrap();
            let whole = fs::read(&file).unwrap();
            for len in 1..whole.len() {
                let cut = fault(&whole[..len]);
                assert!(matches!(cut, FormatFault::Garbled(_)), "{len}: {cut:?}");
            }
            fs::write(&file, &whole).unwrap();
            read(root.path());
        }
        assert_eq!([fault(b""), fault(b"\n")], [FormatFault::Empty, FormatFault::Empty]);
        let time = "1970-01-01T00:00:00.001Z";
        for text in [
            "other\n".to_owned(),
            "\0\0\0\0".to_owned(),
            format!("{FORMAT_VERSION}\n"),
            format!("{FORMAT_VERSION} {time} 00\n"),
            format!("{FORMAT_VERSION} never {}\n", "00".repeat(16)),
            format!("{FORMAT_VERSION} {time} {} 1\n", "00".repeat(16)),
            format!("{FORMAT_VERSION} {time} {} a b\n", "00".repeat(16)),
        ] {
            assert!(matches!(fault(text.as_bytes()), FormatFault::Garbled(_)), "{text}");
        }
        assert!(matches!(fault(b"\xff\xfe\n"), FormatFault::Garbled(_)));
    }

    #[test]
    fn a_copy_is_not_at_home_before_it_says_so() {
        let root = tempfile::tempdir().unwrap();
        let (original, copy) = (root.path().join("original"), root.path().join("copy"));
        fs::create_dir(&original).unwrap();
        fs::create_dir(&copy).unwrap();
        assert_eq!(Format::read(&original).unwrap().unwrap_err(), FormatFault::Missing);
        Format::new(Timestamp(1)).write(&original).unwrap();
        assert!(read(&original).is_home);
        fs::copy(original.join("FORMAT"), copy.join("FORMAT")).unwrap();
        let format = read(&copy);
        assert!(!format.is_home);
        format.write(&copy).unwrap();
        assert!(!read(&copy).is_home, "it was written, and stays a copy");
        assert_eq!(format.first, FIRST);
        format.with_home(true).with_first(700).write(&copy).unwrap();
        let settled = read(&copy);
        assert_eq!(settled.first, 700);
        assert!(settled.is_home && settled.identity == read(&original).identity);
        let moved = root.path().join("moved");
        fs::rename(&original, &moved).unwrap();
        assert!(read(&moved).is_home, "a renamed directory is the same one");
    }
}
