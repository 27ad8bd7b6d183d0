//! Backups in a bucket of an S3-compatible store: makes the next one, finds backups, checks and
//! restores them, and deletes old ones.
//!
//! ```text
//! s3://BUCKET/PREFIX/
//!   backups/2026-01-31T10-00-00.000Z.json    the manifest of a backup, written last
//!   objects/<SHA-256>.zst                    the content of a file, compressed with zstd
//! ```
//!
//! An object is named by the SHA-256 of its content. So a file that any backup has is not uploaded
//! again, an interrupted backup goes on where it ended, and each backup is a whole one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{compressed, decompressed};
use super::copy::{To, copy, create_dir, sync_dir};
use super::directory::{Made, Whole, name_behind, time_of};
use super::error::BackupError;
use super::manifest::{Entry, MANIFEST_BYTES_MAX, Manifest};
use super::s3::{Listed, Store, Upload, of_io};
use super::source::{Part, Source, Step};
use crate::base::failpoint::{self, Switch};
use crate::base::threads::Stop;
use crate::config::{S3Settings, S3Url};
use crate::data_dir::JOURNAL;
use crate::model::time::Timestamp;

/// The folder of the manifests.
const BACKUPS: &str = "backups";
/// The folder of the files' contents.
const OBJECTS: &str = "objects";
/// Number of hexadecimal digits of a SHA-256.
const SUM_DIGITS: usize = 64;
/// Age in milliseconds of an object that no manifest names and that is deleted: one day. A younger
/// one may belong to a backup that is being made, such as one of a copy of the data directory.
const UNNAMED_MS_MAX: i64 = 24 * 60 * 60 * 1000;

/// A place for backups in a bucket.
pub struct Bucket(Arc<Store>);

impl Bucket {
    /// Returns the place in a bucket that this path names, or none if the path is of a file system.
    /// Sends no request. When `stop` is set, every request fails.
    ///
    /// # Errors
    /// The URL is wrong, or the access is not usable.
    pub fn at(path: &Path, s3: &S3Settings, stop: &Stop) -> Result<Option<Self>, BackupError> {
        let Some(url) = S3Url::of(path) else { return Ok(None) };
        let url = url.map_err(|fault| BackupError::Refused(format!("the place {fault}")))?;
        Self::of(&url, s3, stop).map(Some)
    }

    /// Returns the place in a bucket. Sends no request.
    ///
    /// # Errors
    /// The access is not usable.
    pub fn of(url: &S3Url, s3: &S3Settings, stop: &Stop) -> Result<Self, BackupError> {
        let access = s3.access().map_err(BackupError::Store)?;
        Ok(Self(Arc::new(Store::new(url, access, stop.clone())?)))
    }

    /// Makes a backup, and tidies the place. Uploads only files that no backup has.
    /// After a failure there is no backup, but what was uploaded is not uploaded again.
    ///
    /// # Errors
    /// A file cannot be read, the store refuses, or an object was deleted meanwhile.
    pub fn make(
        &self,
        source: &Source,
        (at, keep): (Timestamp, Option<usize>),
        step: &Step<'_>,
    ) -> Result<Made, BackupError> {
        let names = self.names()?;
        let last = self.newest(&names)?.map(|whole| whole.manifest);
        if last.as_ref().is_some_and(|last| last.instance != source.instance()) {
            return Err(BackupError::Refused(format!(
                "{} holds backups of another server; name a prefix that no other server uses",
                self.0.url
            )));
        }
        let mut there: BTreeSet<_> = self.objects()?.into_keys().collect();
        let last = last.into_iter().flat_map(|last| last.files);
        let last = last.map(|entry| (entry.path.clone(), entry)).collect();
        let (mut files, mut linked_bytes) = (Vec::with_capacity(source.parts.len()), 0);
        for part in &source.parts {
            let (entry, was_there) = self.put(part, (&last, &there), step)?;
            linked_bytes += if was_there { entry.bytes } else { 0 };
            there.insert(entry.sha256.clone());
            files.push(entry);
        }
        let manifest = Manifest::new(source.about(at), files);
        let newest = names.last().and_then(|name| time_of(Path::new(name)));
        let name = name_behind(newest, at);
        self.0.put(&manifest_name(&name), manifest.encode())?;
        self.require_objects(&manifest).or_else(|error| self.withdraw(&name, error))?;
        if let Err(error) = self.tidy(keep) {
            tracing::warn!(%error, "old backups and unused objects could not be deleted");
        }
        let path = PathBuf::from(self.0.url.join(&name).to_string());
        Ok(Made { path, manifest, linked_bytes })
    }

    /// Uploads a file, unless an object has its content. Returns its entry, and true if an object
    /// has it.
    fn put(
        &self,
        part: &Part,
        (last, there): (&BTreeMap<String, Entry>, &BTreeSet<String>),
        step: &Step<'_>,
    ) -> Result<(Entry, bool), BackupError> {
        // A file that is uploaded is read twice, for its name and for its content.
        let half = |bytes: u64| step(bytes.div_ceil(2));
        let entry = known(part, last).cloned();
        let entry = entry.map_or_else(|| summed(part, &half), Ok)?;
        if there.contains(&entry.sha256) {
            return Ok((entry, true));
        }
        let mut upload = self.0.upload(&object_name(&entry.sha256), part.bytes());
        let read = compressed(part.read(&half), &mut upload).map_err(unread(&part.name))?;
        if read != (entry.bytes, entry.sha256.clone()) {
            let message = format!("{} changed while it was backed up; try again", part.name);
            return Err(BackupError::Refused(message));
        }
        upload.finish()?;
        Ok((entry, false))
    }

    /// Refuses a new backup of which an object is missing. Before the manifest named the object,
    /// another backup in this place may have deleted it.
    fn require_objects(&self, manifest: &Manifest) -> Result<(), BackupError> {
        let listed = self.objects()?;
        for entry in &manifest.files {
            let object = object_name(&entry.sha256);
            if listed.contains_key(&entry.sha256) || self.0.exists(&object)? {
                continue;
            }
            let place = self.0.url.join(&object);
            return Err(BackupError::Refused(format!(
                "{place} was deleted while the backup was made, so there is no backup; try again, \
                 and let nothing else delete objects there: another backup in the same place does, \
                 and a rule of the bucket may"
            )));
        }
        Ok(())
    }

    /// Deletes the manifest of a backup that failed. Returns the failure.
    fn withdraw(&self, name: &str, error: BackupError) -> Result<(), BackupError> {
        let manifest = manifest_name(name);
        let Err(why) = self.0.withdraw(&manifest) else { return Err(error) };
        let place = self.0.url.join(&manifest);
        Err(BackupError::Store(format!(
            "{error}; and the manifest {place} could not be deleted ({why}): delete it, unless \
             `triggerd verify` finds the backup whole"
        )))
    }

    /// Deletes all but the newest `keep` backups, if a number is given, and the objects that no
    /// backup needs and that have not changed for a day.
    ///
    /// # Errors
    /// The store refuses, or a manifest is damaged: then all objects are kept.
    fn tidy(&self, keep: Option<usize>) -> Result<(), BackupError> {
        let objects = self.objects()?;
        let listed = self.0.list(BACKUPS)?;
        // The manifest of the backup that was just made has the time of the store.
        let now = listed.iter().map(|manifest| manifest.changed_ms).max().unwrap_or_default();
        let (mut needed, mut left, mut damaged) = (BTreeSet::new(), keep, None);
        for name in names_of(&listed).into_iter().rev() {
            if left == Some(0) {
                self.0.delete(&manifest_name(&name))?;
                continue;
            }
            match self.manifest(&name) {
                Ok(manifest) => {
                    needed.extend(manifest.files.into_iter().map(|file| file.sha256));
                    left = left.map(|left| left - 1);
                }
                Err(error @ BackupError::Damaged(_)) => damaged = Some(error),
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = damaged {
            return Err(error);
        }
        unneeded(&objects, &needed, now).try_for_each(|sum| self.0.delete(&object_name(sum)))
    }

    /// Returns the newest backup, if it is of this instance.
    ///
    /// # Errors
    /// The store refuses.
    pub(super) fn newest_of(&self, instance: &str) -> Result<Option<Whole>, BackupError> {
        let newest = self.newest(&self.names()?)?;
        Ok(newest.filter(|whole| whole.manifest.instance == instance))
    }

    fn newest(&self, names: &[String]) -> Result<Option<Whole>, BackupError> {
        for name in names.iter().rev() {
            let path = PathBuf::from(self.0.url.join(name).to_string());
            match self.manifest(name) {
                Ok(manifest) => return Ok(Some(Whole { path, manifest })),
                Err(error @ BackupError::Damaged(_)) => {
                    tracing::warn!(%error, "a backup whose manifest cannot be read is passed over");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Returns the names of the backups, the oldest first.
    fn names(&self) -> Result<Vec<String>, BackupError> {
        self.0.list(BACKUPS).map(|listed| names_of(&listed))
    }

    /// Returns the sums of all objects, each with the time of its last change.
    fn objects(&self) -> Result<BTreeMap<String, i64>, BackupError> {
        let listed = self.0.list(OBJECTS)?;
        let sum = |object: &Listed| object.name.strip_suffix(".zst").map(str::to_owned);
        let sums = listed.iter().filter_map(|object| Some((sum(object)?, object.changed_ms)));
        Ok(sums.filter(|(sum, _)| is_sum(sum)).collect())
    }

    fn manifest(&self, name: &str) -> Result<Manifest, BackupError> {
        let place = self.0.url.join(&manifest_name(name));
        let text = self.0.get(&manifest_name(name), MANIFEST_BYTES_MAX)?;
        let text = text.ok_or_else(|| BackupError::Damaged(format!("{place} is not there")))?;
        let damaged = |fault| BackupError::Damaged(format!("{place} {fault}"));
        Manifest::decode(&text).map_err(damaged)
    }

    /// Begins to write an archive, an object of its own, which must not exist yet.
    ///
    /// # Errors
    /// The object exists, or the store refuses.
    pub fn new_archive(&self, name: &str) -> Result<NewArchive, BackupError> {
        if self.0.exists(name)? {
            let place = self.0.url.join(name);
            let message = format!("{place} exists already; name a new object");
            return Err(BackupError::Refused(message));
        }
        Ok(NewArchive(self.0.upload(name, 0)))
    }

    /// Opens an archive for reading.
    ///
    /// # Errors
    /// There is none of this name, or the store refuses.
    pub fn archive(&self, name: &str) -> Result<impl Read + use<>, BackupError> {
        let place = self.0.url.join(name);
        let missing = || BackupError::Refused(format!("there is no object {place}"));
        self.0.open(name)?.ok_or_else(missing)
    }

    /// Finds the backup of this name, or the newest one.
    ///
    /// # Errors
    /// There is no complete backup, or its manifest is damaged: an older one has to be named.
    pub fn find(&self, name: Option<&str>) -> Result<BucketBackup, BackupError> {
        let url = &self.0.url;
        let names = self.names()?;
        let Some(name) = name.or_else(|| names.last().map(String::as_str)) else {
            let message = format!(
                "{url} holds no complete backup: there is no manifest below {}",
                url.join(BACKUPS)
            );
            return Err(BackupError::Refused(message));
        };
        if !names.iter().any(|found| found == name) {
            let message = format!("{url} holds no complete backup {name}");
            return Err(BackupError::Refused(message));
        }
        let manifest = self.manifest(name).map_err(|error| match error {
            BackupError::Damaged(text) => BackupError::Damaged(format!(
                "{text}; to take an older backup, name it: {}",
                url.join("NAME")
            )),
            other => other,
        })?;
        Ok(BucketBackup { store: Arc::clone(&self.0), name: name.to_owned(), manifest })
    }
}

/// An archive that is being written into a bucket. It appears when it is finished.
pub struct NewArchive(Upload);

impl NewArchive {
    /// Writes the rest, and lets the archive appear.
    ///
    /// # Errors
    /// The store refuses.
    pub fn finish(self) -> Result<(), BackupError> {
        self.0.finish()
    }
}

impl Write for NewArchive {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// A complete backup in a bucket.
pub struct BucketBackup {
    store: Arc<Store>,
    name: String,
    manifest: Manifest,
}

impl BucketBackup {
    /// Returns the URL of the backup.
    pub fn url(&self) -> String {
        self.store.url.join(&self.name).to_string()
    }

    /// Reads every file and checks its length and its SHA-256. Writes the files into the new
    /// directory `into`, or nowhere.
    ///
    /// # Errors
    /// Files are wrong, each of which the error names, or the store refuses. Then `into` holds a
    /// part.
    pub fn read(&self, into: Option<&Path>) -> Result<Manifest, BackupError> {
        if let Some(dir) = into {
            create_dir(&dir.join(JOURNAL))?;
        }
        let mut faults = Vec::new();
        for entry in &self.manifest.files {
            let place = into.map(|dir| dir.join(&entry.path));
            let to = place.as_deref().map_or(To::Nowhere, To::File);
            faults.extend(self.read_file(entry, &to)?);
        }
        if !faults.is_empty() {
            return Err(BackupError::faults(&self.url(), &faults));
        }
        if let Some(dir) = into {
            sync_dir(&dir.join(JOURNAL))?;
            sync_dir(dir)?;
        }
        Ok(self.manifest.clone())
    }

    /// Reads a file. Returns its fault, if it has one.
    fn read_file(&self, entry: &Entry, to: &To<'_>) -> Result<Option<String>, BackupError> {
        let object = object_name(&entry.sha256);
        let Some(download) = self.store.open(&object)? else {
            return Ok(Some(format!("{}: the object {object} is missing", entry.path)));
        };
        let damaged = |why: &str| {
            format!(
                "{}: the object {object} {why}; delete the object, so that the next backup uploads \
                 it again",
                entry.path
            )
        };
        let copied = match decompressed(download) {
            // A wrong object must not fill the disk.
            Ok(content) => copy(&mut content.take(entry.bytes.saturating_add(1)), to)?,
            Err(error) => Err(error),
        };
        match copied.map_err(of_io) {
            Ok(copied) if copied == (entry.bytes, entry.sha256.clone()) => Ok(None),
            Ok((bytes, _)) if bytes > entry.bytes => {
                Ok(Some(damaged(&format!("holds more than the {} bytes of the file", entry.bytes))))
            }
            Ok(_) => Ok(Some(damaged("does not have the content of its name"))),
            Err(BackupError::Damaged(why)) => Ok(Some(damaged(&format!("is damaged ({why})")))),
            Err(error) => Err(error),
        }
    }
}

/// Returns the entry of a file in the last backup, if the file is the same.
fn known<'a>(part: &Part, last: &'a BTreeMap<String, Entry>) -> Option<&'a Entry> {
    let (_, identity) = part.original()?;
    let entry = last.get(&part.name)?;
    let is_same = entry.source.as_ref() == Some(&identity) && entry.bytes == part.bytes();
    is_same.then_some(entry)
}

fn summed(part: &Part, step: &Step<'_>) -> Result<Entry, BackupError> {
    let mut reading = part.read(step);
    copy(&mut reading, &To::Nowhere)?.map_err(unread(&part.name)).map(|sum| part.entry(sum))
}

/// Returns the names of the backups of these manifests, the oldest first.
fn names_of(manifests: &[Listed]) -> Vec<String> {
    let names = manifests.iter().filter_map(|manifest| manifest.name.strip_suffix(".json"));
    let names = names.filter(|name| time_of(Path::new(name)).is_some());
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.sort();
    names
}

/// Returns the sums of the objects that can be deleted at this time of the store.
fn unneeded<'a>(
    objects: &'a BTreeMap<String, i64>,
    needed: &BTreeSet<String>,
    now: i64,
) -> impl Iterator<Item = &'a String> {
    let age_min = if failpoint::is_on(Switch::ObjectGraceOff) { 0 } else { UNNAMED_MS_MAX };
    let is_old = move |changed_ms: i64| now.saturating_sub(changed_ms) >= age_min;
    let old = objects.iter().filter(move |(_, changed_ms)| is_old(**changed_ms));
    old.map(|(sum, _)| sum).filter(|sum| !needed.contains(*sum))
}

/// Returns true for the SHA-256 in the name of an object. An object of another name is not
/// triggerd's.
fn is_sum(name: &str) -> bool {
    name.len() == SUM_DIGITS && name.bytes().all(|digit| b"0123456789abcdef".contains(&digit))
}

fn unread(name: &str) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = PathBuf::from(name);
    move |error| match error.downcast::<BackupError>() {
        Ok(error) => error,
        Err(cause) => BackupError::Io { path, cause },
    }
}

fn manifest_name(name: &str) -> String {
    format!("{BACKUPS}/{name}.json")
}

fn object_name(sum: &str) -> String {
    format!("{OBJECTS}/{sum}.zst")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_that_are_old_and_unnamed_are_deleted() {
        let hour = 60 * 60 * 1000;
        let now = 1_000 * hour;
        let objects = [("named", 900), ("old", 976), ("young", 977), ("newer", 1_001)];
        let objects = objects.map(|(sum, hours)| (sum.to_owned(), hours * hour)).into();
        let needed = ["named".to_owned()].into();
        let found: Vec<_> = unneeded(&objects, &needed, now).collect();
        assert_eq!(found, ["old"]);
    }
}
