//! A backup as a stream, on a thread of its own. The stream waits for its reader.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use super::archive::write_archive;
use super::jobs::Busy;
use super::manifest::Manifest;
use super::pace::Pace;
use super::scheduled::Backups;
use super::source::Source;
use crate::base::pieces::{Pieces, Received};
use crate::model::time::Timestamp;

impl Backups {
    /// Begins a backup as a stream. The pieces end with an error if the backup fails.
    ///
    /// # Errors
    /// Another stream is open, or the thread cannot be started.
    pub fn stream(self: &Arc<Self>) -> Result<Received, Busy> {
        let (pieces, received) = Pieces::new();
        let backups = Arc::clone(self);
        let started = self.streaming.start("backup-stream", move |place| {
            let pieces = backups.write_stream(pieces);
            // The reader sees the end after the place is free.
            drop((place, pieces));
        });
        let started = started.inspect_err(|error| {
            tracing::error!(%error, "the thread of a backup cannot be started");
        });
        if started.unwrap_or(false) { Ok(received) } else { Err(Busy(None)) }
    }

    /// Waits for the stream, which ends when its reader has left. Returns true if it ended in time.
    pub fn join_stream(&self, deadline: Instant) -> bool {
        self.streaming.join_until(deadline)
    }

    fn write_pieces(
        &self,
        pieces: &mut Pieces,
        began: Timestamp,
        pace: &Pace<'_>,
    ) -> io::Result<Manifest> {
        let step = |bytes| pace.step(bytes, &|_| ());
        let source = Source::of(self.source(), &step).map_err(io::Error::other)?;
        let manifest = write_archive(&source, &mut *pieces, began, &step)?.manifest;
        pieces.flush()?;
        Ok(manifest)
    }

    /// Sends a backup, and returns the open end of the stream.
    fn write_stream(&self, mut pieces: Pieces) -> Pieces {
        let began = self.now();
        let pace = Pace::new(&self.engine, false);
        let written = self.write_pieces(&mut pieces, began, &pace);
        match written {
            Ok(manifest) => {
                let (end, bytes) = (manifest.end, manifest.bytes);
                tracing::info!(end, bytes, "a backup was sent as a stream");
            }
            Err(error) => {
                self.engine.metrics.backup_failures.inc();
                tracing::error!(%error, "a backup that was sent as a stream failed");
                pieces.break_off(error);
            }
        }
        pieces
    }
}
