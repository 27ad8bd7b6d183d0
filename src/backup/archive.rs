//! A backup as one stream: a tar of its files, compressed with zstd. The manifest is the last
//! entry, so an archive that was cut has none.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::copy::{To, copy, create_dir, sync_dir};
use super::error::BackupError;
use super::manifest::{Entry, MANIFEST, MANIFEST_BYTES_MAX, Manifest, hex, is_known};
use super::source::{Source, Step};
use crate::base::compression::encoder;
use crate::data_dir::JOURNAL;
use crate::model::time::Timestamp;

/// Largest window of zstd that is read, as a power of two: 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;

/// A written archive.
#[derive(Debug)]
pub struct Archived<W> {
    /// What the archive was written to.
    pub output: W,
    /// The content.
    pub manifest: Manifest,
}

/// Writes a backup as a stream.
///
/// # Errors
/// A file cannot be read, or the output cannot be written.
pub fn write_archive<W: Write>(
    source: &Source,
    output: W,
    at: Timestamp,
    step: &Step<'_>,
) -> io::Result<Archived<W>> {
    let mut tar = tar::Builder::new(encoder(output)?);
    let mut files = Vec::with_capacity(source.parts.len());
    for part in &source.parts {
        let mut reading = Summed::new(part.read(step));
        let mut header = header(part.bytes(), at);
        tar.append_data(&mut header, &part.name, &mut reading)?;
        files.push(part.entry(reading.sum()));
    }
    let manifest = Manifest::new(source.about(at), files);
    let text = manifest.encode();
    tar.append_data(&mut header(text.len() as u64, at), MANIFEST, text.as_slice())?;
    let output = tar.into_inner()?.finish()?;
    Ok(Archived { output, manifest })
}

/// A file whose bytes are summed as they are read.
struct Summed<R> {
    input: R,
    bytes: u64,
    sum: Sha256,
}

impl<R> Summed<R> {
    fn new(input: R) -> Self {
        Self { input, bytes: 0, sum: Sha256::new() }
    }

    /// Returns the length and the SHA-256 of what was read.
    fn sum(self) -> (u64, String) {
        (self.bytes, hex(&self.sum.finalize()))
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.sum.update(buffer.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }
}

fn header(bytes: u64, at: Timestamp) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(at.unix_seconds());
    header
}

/// Reads an archive and checks every file. Writes the files into the new directory `into`, or
/// nowhere.
///
/// # Errors
/// The archive is cut or damaged, or a file cannot be written. Then `into` holds a part.
pub fn read_archive(
    input: impl Read,
    name: &str,
    into: Option<&Path>,
) -> Result<Manifest, BackupError> {
    if let Some(dir) = into {
        create_dir(&dir.join(JOURNAL))?;
    }
    let mut tar = tar::Archive::new(decompressed(input).map_err(unreadable(name))?);
    let mut found = Found::default();
    // Raw: no name is long, and an extension with a long one would be read into memory.
    for entry in tar.entries().map_err(unreadable(name))?.raw(true) {
        found.take(entry.map_err(unreadable(name))?, name, into)?;
    }
    // The rest of the stream has the checksum of its content.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(unreadable(name))?;
    let Some(manifest) = found.manifest else {
        return Err(unreadable(name)(io::Error::other("it has no manifest at its end")));
    };
    let manifest = Manifest::decode(&manifest)
        .map_err(|fault| BackupError::Damaged(format!("{name}: the manifest {fault}")))?;
    compare(&manifest, &found.files, name)?;
    if let Some(dir) = into {
        sync_dir(&dir.join(JOURNAL))?;
        sync_dir(dir)?;
    }
    Ok(manifest)
}

/// Writes all of the input, compressed. Returns the length and the SHA-256 of the input.
pub(super) fn compressed(input: impl Read, output: &mut dyn Write) -> io::Result<(u64, String)> {
    let mut encoder = encoder(output)?;
    let mut reading = Summed::new(input);
    io::copy(&mut reading, &mut encoder)?;
    encoder.finish().map(|_| reading.sum())
}

/// Returns the content of a compressed input.
pub(super) fn decompressed<R: Read>(input: R) -> io::Result<impl Read> {
    let mut decoder = zstd::Decoder::new(input)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(decoder)
}

fn unreadable(name: &str) -> impl Fn(io::Error) -> BackupError {
    move |error| BackupError::Damaged(format!("the archive {name} is cut or damaged: {error}"))
}

/// The files found in an archive so far.
#[derive(Default)]
struct Found {
    /// The length and the SHA-256 of each file.
    files: BTreeMap<String, (u64, String)>,
    /// The text of the manifest, behind which nothing comes.
    manifest: Option<Vec<u8>>,
}

impl Found {
    fn take<R: Read>(
        &mut self,
        mut entry: tar::Entry<'_, R>,
        name: &str,
        into: Option<&Path>,
    ) -> Result<(), BackupError> {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let is_file = entry.header().entry_type() == tar::EntryType::Regular;
        let is_new = self.manifest.is_none() && !self.files.contains_key(&path);
        if path == MANIFEST && is_file && is_new {
            self.manifest = Some(read_manifest(&mut entry).map_err(unreadable(name))?);
            return Ok(());
        }
        if !is_file || !is_new || !is_known(&path) {
            let fault = format!("the archive {name} holds {path:?}, which is in no backup");
            return Err(BackupError::Damaged(fault));
        }
        let place = into.map(|dir| dir.join(&path));
        let to = place.as_deref().map_or(To::Nowhere, To::File);
        let copied = copy(&mut entry, &to)?.map_err(unreadable(name))?;
        self.files.insert(path, copied);
        Ok(())
    }
}

fn read_manifest(entry: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Compares the files that were found, each with its length and SHA-256, with the manifest.
pub(super) fn compare(
    manifest: &Manifest,
    found: &BTreeMap<String, (u64, String)>,
    name: &str,
) -> Result<(), BackupError> {
    let wrong = |entry: &Entry| match found.get(&entry.path) {
        None => Some(format!("{}: the file is missing", entry.path)),
        Some((bytes, _)) if *bytes != entry.bytes => {
            Some(format!("{}: the file has {bytes} bytes instead of {}", entry.path, entry.bytes))
        }
        Some((_, sum)) if *sum != entry.sha256 => {
            Some(format!("{}: the SHA-256 of the file differs", entry.path))
        }
        Some(_) => None,
    };
    let named = manifest.by_path();
    let extra = found.keys().filter(|path| !named.contains_key(path.as_str()));
    let extra = extra.map(|path| format!("{path}: the manifest does not name the file"));
    let faults: Vec<_> = manifest.files.iter().filter_map(wrong).chain(extra).collect();
    if faults.is_empty() { Ok(()) } else { Err(BackupError::faults(name, &faults)) }
}
