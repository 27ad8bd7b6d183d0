//! Writes small files completely or not at all.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::error::{DataDirError, io_at};
use super::names::DRAFT_SUFFIX;
use crate::base::ownership;

/// Writes a file completely or not at all, also through a power cut. The text may depend on the
/// metadata of the file itself.
pub(super) fn write_whole(
    dir: &Path,
    name: &str,
    text: impl Fn(&Metadata) -> String,
) -> Result<(), DataDirError> {
    let (path, draft) = (dir.join(name), dir.join(format!("{name}{DRAFT_SUFFIX}")));
    let write = || {
        // An interrupted write left this file, or somebody placed a link to another file here.
        if let Err(error) = fs::remove_file(&draft)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft)?;
        ownership::give_to_owner_of(dir, &file)?;
        file.write_all(text(&file.metadata()?).as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(io_at(&path))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    bytes.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())?.try_into().ok()
}
