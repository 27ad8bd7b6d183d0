//! Backups of a data directory, and their restore.
//!
//! A backup holds the sealed segments, the last segment up to its synced end, the newest whole
//! snapshot, `FORMAT`, the secrets that lie in the directory, and a manifest with the length and
//! the SHA-256 of each file. The manifest comes last: what lacks it is no backup.
//!
//! ```text
//! backups/                            a directory of backups
//!   2026-01-31T10-00-00.000Z/         one backup, named by the time at which it began
//!     manifest.json                   written last, renamed and synced
//!     FORMAT  secrets.key  admin.token
//!     journal/00000000000000000001.seg
//!     journal/00000000000000123456.snap
//! ```
//!
//! Segments and snapshots never change under their inode, so a backup on the same filesystem holds
//! hard links to them. On another filesystem, a file that the last backup already has becomes a
//! hard link to the file there. A backup is also written as one stream, a tar of the same files
//! compressed with zstd, which can be encrypted with age. Backups in a bucket of an S3-compatible
//! store have objects in the place of files (`bucket`).
//!
//! A drill restores the newest backup into a scratch directory and verifies it there, on a thread of
//! its own and by a process of its own. The scratch directory is beside the backup, or in the data
//! directory if the backup is in a bucket.
//!
//! `POST /api/admin/backup`, the schedule in `[backup]` and `triggerd backup` make backups;
//! `triggerd restore` and `triggerd verify` read them. This module knows no HTTP.

mod archive;
mod bucket;
mod bucket_backup;
mod check;
mod copy;
mod directory;
mod disk;
mod drill;
mod drilled;
mod drills;
mod error;
mod jobs;
mod lock;
mod manifest;
mod pace;
mod place;
mod restore;
mod room;
mod s3;
mod s3_errors;
mod scheduled;
mod source;
mod stream;
mod until;

pub use archive::{Archived, read_archive, write_archive};
pub use bucket::{Bucket, Keep, NewArchive};
pub use bucket_backup::BucketBackup;
pub use check::check;
pub use directory::{Made, find, is_backup_name, make, require_outside};
pub use drills::{DrillOutcome, DrillStanding, Drills};
pub use error::BackupError;
pub use jobs::{Busy, Job, JobKind, JobState, Jobs};
pub use manifest::{BackupCounts, Entry, MANIFEST, Manifest};
pub use restore::{Origin, Restored, restore};
pub use scheduled::{Backups, Schedule, Standing};
pub use source::{Source, Step};
