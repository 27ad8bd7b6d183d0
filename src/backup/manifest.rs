//! The manifest of a backup: every file with its length and its SHA-256. The manifest has a sum of
//! its own, so that a changed byte in it is not taken for a changed file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::base::library_errors::{json_fault, shortened};
use crate::data_dir::{JOURNAL, SMALL_FILES};
use crate::journal::{segment_first, snapshot_position};
use crate::model::time::Timestamp;

pub use crate::data_dir::BACKUP_MANIFEST as MANIFEST;

/// Maximum size of a manifest that is read, in bytes.
pub(super) const MANIFEST_BYTES_MAX: u64 = 256 << 20;
/// The version of the manifest's form.
const VERSION: u32 = 1;
/// Number of hexadecimal digits of a SHA-256.
const SUM_DIGITS: usize = 64;

/// The content of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this form.
    pub version: u32,
    /// The version of triggerd that made the backup.
    pub made_by: String,
    /// The id of the instance whose data directory was backed up. Several servers may have their
    /// backups in one directory.
    pub instance: String,
    /// The format of the data directory.
    pub data_format: u32,
    /// When the backup began.
    pub made_at: Timestamp,
    /// The first position of the journal.
    pub first: u64,
    /// The end of the journal: every event that was acknowledged before lies below.
    pub end: u64,
    /// The position of the snapshot, if there is one.
    pub snapshot: Option<u64>,
    /// What the state held at the end of the journal. Absent if no server was there to say so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub counts: Option<BackupCounts>,
    /// Number of segments.
    pub segments: u64,
    /// Bytes of all files, with the holes in them.
    pub bytes: u64,
    /// Every file but the manifest.
    pub files: Vec<Entry>,
}

/// The number of rows that a backup gives back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupCounts {
    /// The number of organizations.
    pub organizations: u64,
    /// The number of stored events.
    pub events: u64,
    /// The number of events in inboxes.
    pub open: u64,
    /// The number of deliveries that wait for an attempt.
    pub waiting: u64,
    /// The number of dead letters.
    pub dead: u64,
}

/// The facts of a backup beside its files.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    pub(super) instance: String,
    pub(super) data_format: u32,
    pub(super) made_at: Timestamp,
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) snapshot: Option<u64>,
    pub(super) counts: Option<BackupCounts>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The path in the backup, and in a data directory.
    pub path: String,
    /// The length of the file.
    pub bytes: u64,
    /// The SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
    /// Device, inode and last change of the original, if its bytes never change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
}

/// A manifest with the sum of its text.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    #[serde(borrow)]
    manifest: &'a RawValue,
    sha256: String,
}

impl Manifest {
    /// Makes the manifest of these files.
    pub(super) fn new(about: About, files: Vec<Entry>) -> Self {
        let About { instance, data_format, made_at, first, end, snapshot, counts } = about;
        let segments = files.iter().filter(|file| is_segment(&file.path)).count() as u64;
        let bytes = files.iter().map(|file| file.bytes).sum();
        let made_by = env!("CARGO_PKG_VERSION").to_owned();
        Self {
            version: VERSION,
            made_by,
            instance,
            data_format,
            made_at,
            first,
            end,
            snapshot,
            counts,
            segments,
            bytes,
            files,
        }
    }

    /// Returns the text of the manifest's file.
    pub(super) fn encode(&self) -> Vec<u8> {
        // The manifest has only texts and numbers, so writing cannot fail.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        let sha256 = hex(&Sha256::digest(text.as_bytes()));
        format!("{{\"manifest\": {text},\n\"sha256\": \"{sha256}\"}}\n").into_bytes()
    }

    /// Reads the text of a manifest's file.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let fault = |error: serde_json::Error| format!("is not valid: {}", json_fault(&error));
        let sealed: Sealed<'_> = serde_json::from_slice(bytes).map_err(fault)?;
        let text = sealed.manifest.get();
        if hex(&Sha256::digest(text.as_bytes())) != sealed.sha256 {
            return Err("does not match its own SHA-256".to_owned());
        }
        let manifest: Self = serde_json::from_str(text).map_err(fault)?;
        if manifest.version != VERSION {
            let version = manifest.version;
            return Err(format!("has version {version}, which this triggerd does not know"));
        }
        let mut seen = BTreeSet::new();
        let wrong = manifest.files.iter().find(|file| {
            !is_known(&file.path) || !seen.insert(&file.path) || !is_sum(&file.sha256)
        });
        let Some(wrong) = wrong else { return Ok(manifest) };
        let path = shortened(&wrong.path);
        Err(format!("names {path:?} with a path or a SHA-256 that cannot be in a backup"))
    }

    /// Returns every file by its path.
    pub(super) fn by_path(&self) -> BTreeMap<&str, &Entry> {
        self.files.iter().map(|file| (file.path.as_str(), file)).collect()
    }
}

/// Returns true if a backup can have a file of this name. No other name is ever written.
pub(super) fn is_known(path: &str) -> bool {
    let Some(name) = path.strip_prefix(JOURNAL).and_then(|rest| rest.strip_prefix('/')) else {
        return SMALL_FILES.contains(&path);
    };
    let file = Path::new(name);
    // The journal judges the last part of a path, so the name must be nothing else.
    file.file_name() == Some(name.as_ref())
        && (segment_first(file).is_some() || snapshot_position(file).is_some())
}

fn is_segment(path: &str) -> bool {
    segment_first(Path::new(path)).is_some()
}

/// Returns true for the hexadecimal digits of a SHA-256.
pub(super) fn is_sum(text: &str) -> bool {
    text.len() == SUM_DIGITS && text.bytes().all(|digit| b"0123456789abcdef".contains(&digit))
}

/// Returns bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(path: &str) -> Manifest {
        let file = Entry {
            path: path.to_owned(),
            bytes: 3,
            sha256: "00".repeat(32),
            source: Some("1 2 3".to_owned()),
        };
        let counts = Some(BackupCounts { events: 3, ..BackupCounts::default() });
        let about = About { data_format: 5, made_at: Timestamp(7), counts, ..About::default() };
        Manifest::new(About { instance: "ab".to_owned(), first: 1, end: 90, ..about }, vec![file])
    }

    #[test]
    fn a_changed_byte_in_a_manifest_is_noticed_wherever_it_is() {
        let made = manifest("journal/00000000000000000001.seg");
        let bytes = made.encode();
        assert_eq!(Manifest::decode(&bytes).unwrap(), made);
        let mut unnoticed = 0;
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            unnoticed += usize::from(Manifest::decode(&changed).is_ok_and(|read| read != made));
            assert!(Manifest::decode(&bytes[..at]).is_err() || at + 1 == bytes.len(), "{at}");
        }
        assert_eq!(unnoticed, 0);
    }

    #[test]
    fn a_sum_that_is_none_is_refused_and_a_long_name_is_not_quoted_whole() {
        let mut made = manifest("FORMAT");
        made.files[0].sha256 = "../".repeat(1_000);
        let fault = Manifest::decode(&made.encode()).unwrap_err();
        assert!(fault.contains("names \"FORMAT\" with"), "{fault}");
        let fault = Manifest::decode(&manifest(&"x".repeat(100_000)).encode()).unwrap_err();
        assert!(fault.len() < 500 && fault.contains('…'), "{fault}");
    }

    #[test]
    fn no_other_name_is_in_a_backup() {
        for path in ["FORMAT", "secrets.key", "journal/00000000000000000007.snap"] {
            assert!(Manifest::decode(&manifest(path).encode()).is_ok(), "{path}");
        }
        for path in [
            "",
            "/etc/passwd",
            "../FORMAT",
            "journal/../FORMAT",
            "journal/1.seg",
            "journal//00000000000000000001.seg",
            "journal/x/00000000000000000001.seg",
            "journal/00000000000000000001.seg/",
            "journal/./00000000000000000001.seg",
            "journal/00000000000000000001.seg/x",
            "journal/0000000000000000000a.seg",
            "LOCK",
            "sled/db",
        ] {
            assert!(Manifest::decode(&manifest(path).encode()).is_err(), "{path}");
        }
    }
}
