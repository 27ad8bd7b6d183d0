//! The keys about backups.

use std::path::PathBuf;
use std::time::Duration;

use super::declare::section;
use super::kinds::{count, optional_backups, optional_path, optional_text, optional_url, seconds};

const DAY_SECONDS: u64 = 24 * 3_600;

section! {
    /// [Backups](operations.md#backup-and-restore) that the server makes by itself. `triggerd
    /// backup` and `POST /api/admin/backup` make further ones.
    pub struct Backup {
        /// Directory of backups, preferably on another disk, or `s3://BUCKET/PREFIX` for [a bucket
        /// of an S3-compatible store](operations.md#backups-in-an-s3-compatible-store). Empty means
        /// that the server makes none by itself.
        directory: Option<PathBuf> = optional_backups("directory");

        /// Seconds between two backups; 0 means none.
        every: Duration =
            seconds("every_seconds", 0, 0..=400 * DAY_SECONDS).needs("directory");

        /// Number of backups of this server that are kept in `directory`, besides the one that
        /// passed a [drill](operations.md#drills) last. After each backup the oldest are deleted.
        /// They also go, except for the newest, when the filesystem of the data is short of space
        /// and they are [on it](operations.md#backups-on-the-disk-of-the-data).
        keep: usize = count("keep", 7, 1..=10_000).needs("directory");

        /// Seconds between two [drills](operations.md#drills): the newest backup of this server in
        /// `directory` is restored into a scratch directory and verified. A drill of a backup in a
        /// bucket downloads all of it. 0 means none.
        drill_every: Duration =
            seconds("drill_every_seconds", 7 * DAY_SECONDS, 0..=400 * DAY_SECONDS)
                .needs("directory");

        /// URL of the S3-compatible store, such as `"https://s3.example.com"`. Empty means Amazon
        /// S3. The environment variables `AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL` come first.
        s3_endpoint: Option<String> = optional_url("s3_endpoint");

        /// Region of the bucket. Empty means `us-east-1`, which most stores without regions take.
        /// The environment variables `AWS_REGION` and `AWS_DEFAULT_REGION` come first.
        s3_region: Option<String> = optional_text("s3_region");

        /// File with `aws_access_key_id` and `aws_secret_access_key`, in the form of
        /// `~/.aws/credentials`. It is read for each backup. Empty means the systemd credential
        /// `s3.credentials`. The environment variables `AWS_ACCESS_KEY_ID` and
        /// `AWS_SECRET_ACCESS_KEY` come first.
        s3_credentials: Option<PathBuf> = optional_path("s3_credentials");
    }
}
