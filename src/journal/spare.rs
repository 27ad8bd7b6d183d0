//! The next segment's file, made before the writer needs it, by a thread that has the time.
//!
//! It has no name until it is a segment: a crash leaves nothing of it, and whoever copies the directory meanwhile never
//! finds a name that is gone a moment later (`cp -a` fails then, although it copied everything that counts).
//!
//! It is full of zeros that were written and synced: a sync of frames that are written over them has nothing but the
//! frames to bring to the disk, where space that was only reserved needs the filesystem's own journal each time (half
//! the time of a sync on ext4). Making a spare takes long, so it is asked for when the active segment is mostly full;
//! a writer that does not get one in time goes on without.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::files::Files;

/// How much is written at once, in bytes.
const PIECE_BYTES: usize = 1 << 20;
/// Written bytes between syncs: what waits to be written delays the syncs of frames.
const PIECES_PER_SYNC: usize = 4;

/// The writer's side.
pub(super) struct Spares {
    requests: Sender<u64>,
    ready: Receiver<(u64, Option<File>)>,
    asked: bool,
}

/// Makes spares: for a thread of its own.
pub struct SpareMaker {
    dir: PathBuf,
    files: Arc<dyn Files>,
    requests: Receiver<u64>,
    /// Nothing, when it could not be made: then it may be asked for again.
    ready: Sender<(u64, Option<File>)>,
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
        file.filter(|_| made_len == len)
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

    /// Whether the writer waits for one.
    #[cfg(test)]
    pub(super) fn is_asked(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Whether one waits for the writer.
    #[cfg(test)]
    pub(super) fn is_ready(&self) -> bool {
        self.ready.is_full()
    }

    fn make(&self, len: u64) {
        let made = self.files.create_unnamed(&self.dir).and_then(|file| {
            fill(self.files.as_ref(), &file, len)?;
            Ok(file)
        });
        let made = made.inspect_err(|error| match error.kind() {
            // What open(2) says of O_TMPFILE on filesystems that do not have it: it will say so every time.
            io::ErrorKind::Unsupported | io::ErrorKind::IsADirectory => {
                tracing::debug!(%error, "this filesystem cannot prepare a spare segment");
            }
            _ => tracing::warn!(%error, "the spare segment could not be created"),
        });
        // There is room for the answer to the one request that may be open, unless the writer is gone.
        drop(self.ready.try_send((len, made.ok())));
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
