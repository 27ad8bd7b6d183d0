//! A watch over the segments' files. A process with an open file does not notice a rename, a
//! replacement or a cut of the file before its next start. The watch is called a few times a second
//! by a thread that can end the server. It changes nothing.
//!
//! A file is right if its name leads to the open file, if its length is the length that the writer
//! gave it, and if the last group is still there. While the writer itself changes a file's length
//! or removes the file, the watch does not judge the file. Readers such as `cp` and `tar` do not
//! disturb the watch.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Access, access};

use super::frame::{self, FRAME_HEADER_BYTES};
use super::reader::{Reader, Shared};
use super::segment::Segment;

/// Number of older segments per call. The last two are always looked at.
const OLDER_AT_ONCE: usize = 256;

/// The watch over all segments, which looks at some in each call.
pub struct Watch {
    shared: Arc<Shared>,
    /// The index of the older segment that is next.
    next: usize,
}

/// A segment whose file has changed.
#[derive(Debug)]
pub struct Strayed {
    /// The name of the segment.
    pub path: PathBuf,
    /// The original file, which this process still has open.
    pub file: File,
    /// The change of the file.
    pub change: FileChange,
}

/// A change of a segment's file.
#[derive(Debug)]
pub enum FileChange {
    /// No file has the name.
    Gone,
    /// Another file has the name.
    Replaced,
    /// The file is shorter or longer, in bytes.
    Length {
        /// The length of the file now.
        is: u64,
        /// The length that the writer gave the file.
        was: u64,
    },
    /// The last written group is not there.
    Overwritten,
    /// This process may no longer open the file.
    Denied(io::Error),
}

impl Watch {
    /// Creates a watch over the segments of this reader.
    pub fn new(reader: &Reader) -> Self {
        Self { shared: reader.shared(), next: 0 }
    }

    /// Returns the first segment whose file has changed. A few calls cover all older segments.
    pub fn look(&mut self) -> Option<Strayed> {
        // The segment is judged twice, because the writer may have changed the file between two
        // calls of the system.
        let is_odd = |segment: &Arc<Segment>| judge(segment).is_some();
        let segment = self.some().into_iter().find(is_odd);
        if let Some((segment, change)) =
            segment.and_then(|segment| judge(&segment).map(|change| (segment, change)))
        {
            return strayed(&segment, change);
        }
        let segment = self.without_last_group()?;
        strayed(&segment, FileChange::Overwritten)
    }

    fn some(&mut self) -> Vec<Arc<Segment>> {
        let segments = self.shared.segments();
        let (older, last) = segments.split_at(segments.len().saturating_sub(2));
        let from = if self.next < older.len() { self.next } else { 0 };
        let chosen: Vec<_> =
            last.iter().chain(older.iter().skip(from).take(OLDER_AT_ONCE)).cloned().collect();
        self.next = from.saturating_add(OLDER_AT_ONCE);
        chosen
    }

    /// Returns the segment of the last group, if the group is not there. An unreadable group is
    /// reported by its readers.
    fn without_last_group(&self) -> Option<Arc<Segment>> {
        let position = self.shared.last_group()?;
        let segment =
            self.shared.segments().iter().rfind(|segment| segment.first <= position).cloned()?;
        let mut header = [0; FRAME_HEADER_BYTES];
        let read =
            self.shared.files.read_at(&segment.file, &mut header, segment.offset_of(position));
        let is_there = read.map_or(true, |_| frame::claim(&header, position).is_ok());
        (!is_there).then_some(segment)
    }
}

fn strayed(segment: &Segment, change: FileChange) -> Option<Strayed> {
    // Without a free descriptor nothing can be reported. The next look is soon.
    let file = segment.file.try_clone().ok()?;
    Some(Strayed { path: segment.path.clone(), file, change })
}

fn judge(segment: &Segment) -> Option<FileChange> {
    let was = segment.length()?;
    let held = segment.file.metadata().ok()?;
    let change = match fs::metadata(&segment.path) {
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Some(FileChange::Gone),
            io::ErrorKind::PermissionDenied => Some(FileChange::Denied(error)),
            _ => None,
        },
        Ok(named) if (named.dev(), named.ino()) != (held.dev(), held.ino()) => {
            Some(FileChange::Replaced)
        }
        Ok(named) if named.len() != was => Some(FileChange::Length { is: named.len(), was }),
        Ok(_) => match access(&segment.path, Access::READ_OK | Access::WRITE_OK)
            .map_err(io::Error::from)
        {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Some(FileChange::Denied(error))
            }
            _ => None,
        },
    };
    change.filter(|_| segment.length() == Some(was))
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
