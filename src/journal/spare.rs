//! The next segment's file, created by its own thread before the writer needs it.
//!
//! The file has no name until it becomes a segment. A crash leaves no trace of it, and a copy of
//! the live directory never meets a name that disappears (`cp -a` fails then, although it copied
//! every needed file).
//!
//! The file is full of zeros that are written and synced. A sync of frames over written zeros
//! brings only the frames to the disk, while space that was only reserved needs the filesystem's
//! own journal each time (half the time of a sync on ext4). Making a spare takes long, so the
//! writer asks for a spare when the active segment is mostly full. A writer without a spare
//! continues without.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::files::Files;
use super::new_file::is_unsupported;
use super::reader::Shared;

/// Number of bytes that are written at once.
const PIECE_BYTES: usize = 1 << 20;
/// Number of written pieces between syncs. Unsynced pieces delay the syncs of frames.
const PIECES_PER_SYNC: usize = 4;

/// The writer's end of the exchange of spares.
pub(super) struct Spares {
    requests: Sender<u64>,
    ready: Receiver<(u64, Option<File>)>,
    asked: bool,
}

/// The maker of spares, for a thread of its own.
pub struct SpareMaker {
    shared: Arc<Shared>,
    requests: Receiver<u64>,
    /// The finished spares with their lengths. A spare is absent if it could not be made; the
    /// writer may ask again.
    ready: Sender<(u64, Option<File>)>,
}

/// Creates both ends of the exchange.
pub(super) fn pair(shared: Arc<Shared>) -> (Spares, SpareMaker) {
    let (requests, asked) = bounded(1);
    let (made, ready) = bounded(1);
    (Spares { requests, ready, asked: false }, SpareMaker { shared, requests: asked, ready: made })
}

impl Spares {
    /// Asks for a file of `len` bytes, unless a request is open.
    pub(super) fn ask(&mut self, len: u64) {
        if !self.asked {
            self.asked = self.requests.try_send(len).is_ok();
        }
    }

    /// Returns the requested file, if it is ready and has this length.
    pub(super) fn take(&mut self, len: u64) -> Option<File> {
        let (made_len, file) = self.ready.try_recv().ok()?;
        self.asked = false;
        file.filter(|_| made_len == len)
    }
}

impl SpareMaker {
    /// Makes the requested spares until the writer is gone.
    pub fn run(self) {
        while let Ok(len) = self.requests.recv() {
            self.make(len);
        }
    }

    /// Makes the spares that are requested now.
    #[cfg(test)]
    pub(super) fn make_asked(&self) {
        self.requests.try_iter().for_each(|len| self.make(len));
    }

    /// Returns true if a request waits.
    #[cfg(test)]
    pub(super) fn is_asked(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Returns true if a spare is ready.
    #[cfg(test)]
    pub(super) fn is_ready(&self) -> bool {
        self.ready.is_full()
    }

    fn make(&self, len: u64) {
        let Shared { dir, files, .. } = &*self.shared;
        let made = self.shared.require_room(len).and_then(|()| {
            let file = files.create_unnamed(dir)?;
            fill(files.as_ref(), &file, len)?;
            Ok(file)
        });
        let made = made.inspect_err(|error| {
            if is_unsupported(error) {
                tracing::debug!(%error, "this filesystem cannot prepare a spare segment");
            } else {
                tracing::warn!(%error, "the spare segment could not be created");
            }
        });
        // There is room for the answer to the only open request, unless the writer is gone.
        drop(self.ready.try_send((len, made.ok())));
    }
}

/// Reserves the file's first `len` bytes, overwrites them with zeros and syncs.
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
