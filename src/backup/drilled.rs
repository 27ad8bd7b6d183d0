//! The backup that a drill restores, in a directory or in a bucket.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::bucket_backup::BucketBackup;
use super::directory::Whole;
use super::disk::BLOCK_BYTES;
use super::manifest::{Entry, MANIFEST, Manifest};
use super::restore::Origin;

pub(super) enum Drilled {
    Directory(Whole),
    Bucket(BucketBackup),
}

impl Drilled {
    /// Returns the directory or the URL of the backup.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Directory(whole) => whole.path.clone(),
            Self::Bucket(backup) => PathBuf::from(backup.url()),
        }
    }

    pub(super) fn manifest(&self) -> &Manifest {
        match self {
            Self::Directory(whole) => &whole.manifest,
            Self::Bucket(backup) => backup.manifest(),
        }
    }

    pub(super) fn origin(&self) -> Origin<'_> {
        match self {
            Self::Directory(whole) => Origin::Directory(&whole.path),
            Self::Bucket(backup) => Origin::Bucket(backup),
        }
    }

    /// Returns the number of times that each byte is read: the sums of a directory are checked
    /// before anything is copied.
    pub(super) fn readings(&self) -> u64 {
        match self {
            Self::Directory(_) => 2,
            Self::Bucket(_) => 1,
        }
    }

    /// Returns the disk space of the restored files; of a directory, without their holes.
    pub(super) fn allocated(&self) -> u64 {
        let Self::Directory(Whole { path, manifest }) = self else { return self.manifest().bytes };
        let blocks = |path: PathBuf| fs::metadata(path).map_or(0, |facts| facts.blocks());
        let of = |file: &Entry| blocks(path.join(&file.path)) * BLOCK_BYTES;
        manifest.files.iter().map(of).sum()
    }

    /// Returns true if the backup was deleted meanwhile.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Directory(whole) => !whole.path.join(MANIFEST).exists(),
            Self::Bucket(backup) => backup.is_gone(),
        }
    }
}
