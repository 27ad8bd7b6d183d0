//! The disk space that a drill may take, and what it has to leave.

use std::io;
use std::path::Path;

use crate::commit::Engine;
use crate::data_dir::free_bytes;
use crate::store::SEGMENT_BYTES;

/// The state that is computed takes at most this many times the state of the server on the disk.
const STATES: u64 = 2;

/// The disk space in a directory, of which a drill leaves a part.
pub(super) struct Room<'a> {
    engine: &'a Engine,
    directory: &'a Path,
    /// Bytes that stay free.
    kept: u64,
}

impl<'a> Room<'a> {
    pub(super) fn of(engine: &'a Engine, directory: &'a Path, is_shared: bool) -> Self {
        // Less free space than this makes events expire on the filesystem of the data.
        let keep_free = if is_shared { engine.disk_use.measured().keep_free } else { 0 };
        let kept = engine.space.reserve_bytes().max(keep_free);
        Self { engine, directory, kept }
    }

    /// Refuses a drill of a backup with this disk space, if the drill would need the space that is
    /// to stay free.
    pub(super) fn require(&self, backup: u64) -> Result<(), String> {
        let state = self.engine.space.state_bytes().unwrap_or_default();
        let own = 2 * SEGMENT_BYTES as u64;
        let needed = backup.saturating_add(STATES.saturating_mul(state)).saturating_add(own);
        let (free, kept) = (free_bytes(self.directory), self.kept);
        match free.filter(|free| *free < needed.saturating_add(kept)) {
            None => Ok(()),
            Some(free) => Err(format!(
                "the drill needs about {needed} bytes in {}, where {free} are free and {kept} have \
                 to stay free",
                self.directory.display()
            )),
        }
    }

    pub(super) fn is_short(&self) -> bool {
        free_bytes(self.directory).is_some_and(|free| free < self.kept)
    }

    pub(super) fn look(&self) -> io::Result<()> {
        if self.is_short() {
            let directory = self.directory.display();
            let message = format!("{directory}, in which the drill restores, is short of space");
            return Err(io::Error::other(message));
        }
        Ok(())
    }
}
