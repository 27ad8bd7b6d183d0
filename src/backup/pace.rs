//! The pace of work beside requests: it rests as long as it works.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use crate::base::threads::Signal;
use crate::commit::Engine;

/// Bytes after which the work rests, and looks at the disk and for a stop.
const STEP_BYTES: u64 = 1 << 20;
/// Longest rest.
const REST_MAX: Duration = Duration::from_millis(20);

/// Rests as long as it worked, and gives up when the server stops or its disk is full.
pub(super) struct Pace<'a> {
    engine: &'a Engine,
    shares_disk: bool,
    unrested: Cell<u64>,
    since: Cell<Instant>,
}

impl<'a> Pace<'a> {
    pub(super) fn new(engine: &'a Engine, shares_disk: bool) -> Self {
        Self { engine, shares_disk, unrested: Cell::new(0), since: Cell::new(Instant::now()) }
    }

    /// Notes that bytes were read. `note` gets their number at each rest.
    pub(super) fn step(&self, bytes: u64, note: &dyn Fn(u64)) -> io::Result<()> {
        let unrested = self.unrested.get() + bytes;
        self.unrested.set(unrested);
        if unrested < STEP_BYTES {
            return Ok(());
        }
        note(self.unrested.take());
        if self.engine.stop.is_set() {
            return Err(io::Error::other("the server stops"));
        }
        if self.shares_disk && self.engine.space.shortage().is_some() {
            let message = "the disk of the data directory, which also holds the backup, is short \
                of space";
            return Err(io::Error::other(message));
        }
        Signal::new().wait(self.since.get().elapsed().min(REST_MAX));
        self.since.set(Instant::now());
        Ok(())
    }
}
