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
use std::sync::{Arc, Mutex};

use super::archive::compressed;
use super::bucket_backup::{BACKUPS, BucketBackup, OBJECTS, manifest_name, object_name};
use super::directory::{Made, Whole, name_behind, time_of};
use super::error::BackupError;
use super::manifest::{Entry, MANIFEST_BYTES_MAX, Manifest, is_sum};
use super::s3::{Listed, Store, Upload};
use super::source::{Part, Source, Step};
use crate::base::failpoint::{self, Switch};
use crate::base::threads::{Stop, locked};
use crate::config::{S3Settings, S3Url};
use crate::model::time::Timestamp;

/// Age in milliseconds of an object that no manifest names and that is deleted: one day. A younger
/// one may belong to a backup that is being made, such as one of a copy of the data directory.
const UNNAMED_MS_MAX: i64 = 24 * 60 * 60 * 1000;

/// A place for backups in a bucket.
pub struct Bucket(Arc<Store>, Known);

/// Number of backups that are kept, if the others are deleted, and the name of one that stays.
pub type Keep<'a> = (Option<usize>, Option<&'a str>);

/// What the manifests in a place name, by the names of the backups. A manifest whose object did not
/// change is not read again.
pub(super) type Known = Arc<Mutex<BTreeMap<String, Needs>>>;

/// What a manifest names.
#[derive(Clone)]
pub(super) struct Needs {
    /// The tag of the manifest's object.
    tag: Option<String>,
    instance: String,
    /// The sums of the objects that the backup needs.
    sums: Arc<Vec<String>>,
}

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
        Ok(Self(Arc::new(Store::new(url, access, stop.clone())?), Known::default()))
    }

    /// Returns the place with what is known of its manifests already.
    pub(super) fn knowing(self, known: &Known) -> Self {
        Self(self.0, Arc::clone(known))
    }

    /// Makes a backup, and tidies the place. Uploads only files that no backup has.
    /// After a failure there is no backup, but what was uploaded is not uploaded again.
    ///
    /// # Errors
    /// A file cannot be read, the store refuses, or an object was deleted meanwhile.
    pub fn make(
        &self,
        source: &Source,
        (at, keep): (Timestamp, Keep<'_>),
        step: &Step<'_>,
    ) -> Result<Made, BackupError> {
        let listed = self.listed()?;
        self.require_own(&listed, source.instance())?;
        let last = self.newest(&listed)?.map(|whole| whole.manifest);
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
        let newest = listed.last().and_then(|last| time_of(Path::new(&last.name)));
        let name = name_behind(newest, at);
        self.0.put(&manifest_name(&name), manifest.encode())?;
        self.require_objects(&manifest).or_else(|error| self.withdraw(&name, error))?;
        if let Err(error) = self.tidy(keep) {
            tracing::warn!(%error, "old backups and unused objects could not be deleted");
        }
        let path = PathBuf::from(self.0.url.join(&name).to_string());
        Ok(Made { path, manifest, linked_bytes })
    }

    /// Refuses a place in which any manifest that can be read is of another server.
    fn require_own(&self, listed: &[Listed], instance: &str) -> Result<(), BackupError> {
        for manifest in listed {
            match self.needs(manifest) {
                Ok(needs) if needs.instance != instance => {
                    return Err(BackupError::Refused(format!(
                        "{} holds backups of another server, such as {}; name a prefix that no \
                         other server uses",
                        self.0.url, manifest.name
                    )));
                }
                Ok(_) | Err(BackupError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
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
        let entry = part.known(last).cloned();
        let entry = entry.map_or_else(|| part.summed(&half), Ok)?;
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

    /// Deletes all but the newest `keep` backups and the spared one, if a number is given, and the
    /// objects that no backup needs and that have not changed for a day.
    ///
    /// # Errors
    /// The store refuses, or a manifest is damaged: then all objects are kept.
    fn tidy(&self, (keep, spared): Keep<'_>) -> Result<(), BackupError> {
        let (objects, listed) = (self.objects()?, self.listed()?);
        locked(&self.1).retain(|name, _| listed.iter().any(|manifest| manifest.name == *name));
        // The manifest of the backup that was just made has the time of the store.
        let now = listed.iter().map(|manifest| manifest.changed_ms).max().unwrap_or_default();
        let (mut needed, mut left, mut damaged) = (BTreeSet::new(), keep, None);
        for manifest in listed.iter().rev() {
            let is_spared = spared == Some(manifest.name.as_str());
            if left == Some(0) && !is_spared {
                self.0.delete(&manifest_name(&manifest.name))?;
                continue;
            }
            match self.needs(manifest) {
                Ok(needs) => {
                    needed.extend(needs.sums.iter().cloned());
                    left = left.map(|left| left.saturating_sub(1));
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

    /// Returns what a manifest names. Reads it only if it is new or has changed.
    fn needs(&self, Listed { name, tag, .. }: &Listed) -> Result<Needs, BackupError> {
        let known = locked(&self.1).get(name).cloned();
        if let Some(known) = known.filter(|known| tag.is_some() && known.tag == *tag) {
            return Ok(known);
        }
        let Manifest { instance, files, .. } = self.manifest(name)?;
        let sums = Arc::new(files.into_iter().map(|file| file.sha256).collect());
        let needs = Needs { tag: tag.clone(), instance, sums };
        locked(&self.1).insert(name.clone(), needs.clone());
        Ok(needs)
    }

    /// Returns the newest backup with its files, if it is of this instance.
    ///
    /// # Errors
    /// The store refuses, or the manifest is damaged: no other server has its backups here.
    pub(super) fn newest_to_drill(
        &self,
        instance: &str,
    ) -> Result<Option<BucketBackup>, BackupError> {
        let Some(Listed { name, .. }) = self.listed()?.pop() else { return Ok(None) };
        let manifest = self.manifest(&name)?;
        let backup = BucketBackup::new(Arc::clone(&self.0), name, manifest);
        Ok(Some(backup).filter(|backup| backup.manifest().instance == instance))
    }

    /// Returns the newest backup, if it is of this instance.
    ///
    /// # Errors
    /// The store refuses.
    pub(super) fn newest_of(&self, instance: &str) -> Result<Option<Whole>, BackupError> {
        let newest = self.newest(&self.listed()?)?;
        Ok(newest.filter(|whole| whole.manifest.instance == instance))
    }

    fn newest(&self, listed: &[Listed]) -> Result<Option<Whole>, BackupError> {
        for Listed { name, .. } in listed.iter().rev() {
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

    /// Returns the manifests by the names of their backups, the oldest first.
    fn listed(&self) -> Result<Vec<Listed>, BackupError> {
        self.0.list(BACKUPS).map(by_backup)
    }

    /// Returns the sums of all objects, each with the time of its last change.
    fn objects(&self) -> Result<BTreeMap<String, i64>, BackupError> {
        let listed = self.0.list(OBJECTS)?;
        let sum = |object: &Listed| object.name.strip_suffix(".zst").map(str::to_owned);
        let sums = listed.iter().filter_map(|object| Some((sum(object)?, object.changed_ms)));
        // An object of another name is not triggerd's.
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
        let listed = self.listed()?;
        let newest = listed.last().map(|newest| newest.name.as_str());
        let Some(name) = name.or(newest) else {
            let message = format!(
                "{url} holds no complete backup: there is no manifest below {}",
                url.join(BACKUPS)
            );
            return Err(BackupError::Refused(message));
        };
        if !listed.iter().any(|found| found.name == name) {
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
        Ok(BucketBackup::new(Arc::clone(&self.0), name.to_owned(), manifest))
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

/// Returns the manifests with the names of their backups, the oldest first.
fn by_backup(listed: Vec<Listed>) -> Vec<Listed> {
    let named = listed.into_iter().filter_map(|manifest| {
        let name = manifest.name.strip_suffix(".json")?.to_owned();
        time_of(Path::new(&name)).map(|_| Listed { name, ..manifest })
    });
    let mut named: Vec<_> = named.collect();
    named.sort_by(|one, other| one.name.cmp(&other.name));
    named
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

fn unread(name: &str) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = PathBuf::from(name);
    move |error| match error.downcast::<BackupError>() {
        Ok(error) => error,
        Err(cause) => BackupError::Io { path, cause },
    }
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
