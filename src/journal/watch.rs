//! Whether the segments' files are still what the writer made of them. A process that has a file open goes on with it
//! whatever is done to its name, and with what is left of it whatever is cut off; it finds out at its next start. Called a
//! few times a second by whoever can end the server; looks, and changes nothing.
//!
//! What counts: the name leads to the open file, the file has the length that it was given, and the last group lies where it
//! was written. While the writer itself changes a file's length or removes it, the file is not judged. Reading (`cp`, `tar`)
//! changes nothing of this.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Access, access};

use super::frame::{self, FRAME_HEADER_BYTES};
use super::reader::{Reader, Shared};
use super::segment::Segment;

/// Older segments that are looked at in one go. The last two always are.
const OLDER_AT_ONCE: usize = 256;

/// Looks at all segments, some at a time.
pub struct Watch {
    shared: Arc<Shared>,
    /// Which of the older ones is next.
    next: usize,
}

/// A segment that is not what it was.
#[derive(Debug)]
pub struct Strayed {
    /// Its name.
    pub path: PathBuf,
    /// The file that had it, as long as this process has it open.
    pub file: File,
    /// What happened to it.
    pub change: Change,
}

/// What happened to a segment's file.
#[derive(Debug)]
pub enum Change {
    /// Nothing has its name.
    Gone,
    /// Another file has its name.
    Replaced,
    /// It is shorter or longer, in bytes.
    Length {
        /// Now.
        is: u64,
        /// As it was made.
        was: u64,
    },
    /// What was written last is not there.
    Overwritten,
    /// This process may not open it any more.
    Denied(io::Error),
}

impl Watch {
    /// Of the segments that this reader reads.
    pub fn new(reader: &Reader) -> Self {
        Self { shared: reader.shared(), next: 0 }
    }

    /// The first that is not what it was. All of the older ones are looked at within a few calls.
    pub fn look(&mut self) -> Option<Strayed> {
        // Looked at twice: the writer may have been at it between two questions.
        let is_odd = |segment: &Arc<Segment>| judge(segment).is_some();
        let segment = self.some().into_iter().find(is_odd);
        if let Some((segment, change)) = segment.and_then(|segment| judge(&segment).map(|change| (segment, change))) {
            return strayed(&segment, change);
        }
        let segment = self.without_last_group()?;
        strayed(&segment, Change::Overwritten)
    }

    fn some(&mut self) -> Vec<Arc<Segment>> {
        let segments = self.shared.segments();
        let (older, last) = segments.split_at(segments.len().saturating_sub(2));
        let from = if self.next < older.len() { self.next } else { 0 };
        let chosen: Vec<_> = last.iter().chain(older.iter().skip(from).take(OLDER_AT_ONCE)).cloned().collect();
        self.next = from.saturating_add(OLDER_AT_ONCE);
        chosen
    }

    /// The segment of the last group, if the group is not there. What cannot be read is told by whoever reads it.
    fn without_last_group(&self) -> Option<Arc<Segment>> {
        let position = self.shared.last_group()?;
        let segment = self.shared.segments().iter().rfind(|segment| segment.first <= position).cloned()?;
        let mut header = [0; FRAME_HEADER_BYTES];
        let read = self.shared.files.read_at(&segment.file, &mut header, segment.offset_of(position));
        let is_there = read.map_or(true, |_| frame::claimed_bytes(&header, position).is_ok());
        (!is_there).then_some(segment)
    }
}

fn strayed(segment: &Segment, change: Change) -> Option<Strayed> {
    // Without a descriptor to spare there is nothing to tell it by; the next look is soon.
    let file = segment.file.try_clone().ok()?;
    Some(Strayed { path: segment.path.clone(), file, change })
}

fn judge(segment: &Segment) -> Option<Change> {
    let was = segment.length()?;
    let held = segment.file.metadata().ok()?;
    let change = match fs::metadata(&segment.path) {
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Some(Change::Gone),
            io::ErrorKind::PermissionDenied => Some(Change::Denied(error)),
            _ => None,
        },
        Ok(named) if (named.dev(), named.ino()) != (held.dev(), held.ino()) => Some(Change::Replaced),
        Ok(named) if named.len() != was => Some(Change::Length { is: named.len(), was }),
        Ok(_) => match access(&segment.path, Access::READ_OK | Access::WRITE_OK).map_err(io::Error::from) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(Change::Denied(error)),
            _ => None,
        },
    };
    change.filter(|_| segment.length() == Some(was))
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
