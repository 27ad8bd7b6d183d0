//! The next segment's file, made before the writer needs it, by a thread that has the time.
//!
//! It is full of zeros that were written and synced: a sync of frames that are written over them has nothing but the
//! frames to bring to the disk, where space that was only reserved needs the filesystem's own journal each time (half
//! the time of a sync on ext4). Making a spare takes long, so it is asked for when the active segment is mostly full;
//! a writer that does not get one in time goes on without.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::files::Files;

/// Its name until it is a segment.
const NAME: &str = "spare";
/// How much is written at once, in bytes.
const PIECE_BYTES: usize = 1 << 20;
/// Written bytes between syncs: what waits to be written delays the syncs of frames.
const PIECES_PER_SYNC: usize = 4;

/// Where the spare lies.
pub(super) fn path_in(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// The writer's side.
pub(super) struct Spares {
    requests: Sender<u64>,
    ready: Receiver<(u64, File)>,
    asked: bool,
}

/// Makes spares: for a thread of its own.
pub struct SpareMaker {
    dir: PathBuf,
    files: Arc<dyn Files>,
    requests: Receiver<u64>,
    ready: Sender<(u64, File)>,
}

/// Both sides.
pub(super) fn pair(dir: PathBuf, files: Arc<dyn Files>) -> (Spares, SpareMaker) {
    let (requests, asked) = bounded(1);
    let (made, ready) = bounded(1);
    (Spares { requests, ready, asked: false }, SpareMaker { dir, files, requests: asked, ready: made })
}

impl Spares {
    /// Asks for a file of so many bytes, once.
    pub(super) fn ask(&mut self, len: u64) {
        if !self.asked {
            self.asked = self.requests.try_send(len).is_ok();
        }
    }

    /// The file that was asked for, if it is ready and of this length.
    pub(super) fn take(&mut self, len: u64) -> Option<File> {
        let (made_len, file) = self.ready.try_recv().ok()?;
        self.asked = false;
        (made_len == len).then_some(file)
    }
}

impl SpareMaker {
    /// Makes what is asked for until the writer is gone.
    pub fn run(self) {
        while let Ok(len) = self.requests.recv() {
            self.make(len);
        }
    }

    /// Makes what is asked for now.
    #[cfg(test)]
    pub(super) fn make_asked(&self) {
        self.requests.try_iter().for_each(|len| self.make(len));
    }

    fn make(&self, len: u64) {
        match self.try_make(len) {
            // There is room for the answer to the one request that may be open, unless the writer is gone.
            Ok(file) => drop(self.ready.try_send((len, file))),
            Err(error) => {
                tracing::warn!(%error, "no file could be made ready for the journal's next segment");
                drop(self.files.remove(&path_in(&self.dir)));
            }
        }
    }

    fn try_make(&self, len: u64) -> io::Result<File> {
        let path = path_in(&self.dir);
        match self.files.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.files.create_new(&path)?;
        fill(self.files.as_ref(), &file, len)?;
        Ok(file)
    }
}

/// Reserves the file's first `len` bytes, writes zeros over them and syncs them.
pub(super) fn fill(files: &dyn Files, file: &File, len: u64) -> io::Result<()> {
    files.allocate(file, len)?;
    let zeros = vec![0; PIECE_BYTES];
    let (mut at, mut pieces) = (0, 0);
    while at < len {
        let size = usize::try_from(len - at).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        files.write_all_at(file, zeros.get(..size).unwrap_or_default(), at)?;
        at += size as u64;
        pieces += 1;
        if pieces % PIECES_PER_SYNC == 0 {
            files.sync_data(file)?;
        }
    }
    files.sync_all(file)
}
