//! The keys about backups.

use std::path::PathBuf;
use std::time::Duration;

use super::declare::section;
use super::kinds::{count, optional_directory, seconds};

const DAY_SECONDS: u64 = 24 * 3_600;

section! {
    /// [Backups](operations.md#backup-and-restore) that the server makes by itself. `triggerd
    /// backup` and `POST /api/admin/backup` make further ones.
    pub struct Backup {
        /// Directory of backups, preferably on another disk. Empty means that the server makes none
        /// by itself.
        directory: Option<PathBuf> = optional_directory("directory");

        /// Seconds between two backups; 0 means none.
        every: Duration =
            seconds("every_seconds", 0, 0..=400 * DAY_SECONDS).needs("directory");

        /// Number of backups of this server that are kept in `directory`. After each backup the
        /// oldest are deleted. They also go, except for the newest, when the filesystem of the data
        /// is short of space and they are [on it](operations.md#backups-on-the-disk-of-the-data).
        keep: usize = count("keep", 7, 1..=10_000).needs("directory");

        /// Seconds between two [drills](operations.md#drills): the newest backup of this server in
        /// `directory` is restored beside it, verified and deleted again. 0 means none.
        drill_every: Duration =
            seconds("drill_every_seconds", 7 * DAY_SECONDS, 0..=400 * DAY_SECONDS)
                .needs("directory");
    }
}
