//! The care for the journal: snapshots and compaction, as the threads of a server do it. Here they
//! work when a step says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use triggerd::commit::{
    CompactionSettings, CompactionWork, Compactor, Engine, SnapshotLimits, SnapshotMaker,
};
use triggerd::data_dir::FormatFile;
use triggerd::journal::{Compaction, Files, Reader, SnapshotHeader, SnapshotWriter, snapshots_in};

/// The limits of the care.
pub(crate) struct CareLimits {
    /// Bytes of the journal after which a snapshot is due.
    pub(crate) snapshot_bytes: u64,
    /// The time for which a copy finds every file.
    pub(crate) grace: Duration,
    /// Time between two passes of compaction over the whole journal.
    pub(crate) pass_every: Duration,
    /// More steps than a pass over the journal takes.
    pub(crate) steps_max: usize,
}

/// The snapshot maker and the compactor of a system.
pub(crate) struct Care {
    maker: SnapshotMaker,
    compactor: Compactor,
    work: CompactionWork,
    steps_max: usize,
}

impl Care {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        (journal, files): (PathBuf, Arc<dyn Files>),
        (reader, format): (&Reader, FormatFile),
        CareLimits { snapshot_bytes, grace, pass_every, steps_max }: CareLimits,
    ) -> Self {
        let limits = SnapshotLimits {
            bytes: snapshot_bytes,
            grace,
            stop: Duration::ZERO,
            piled_up: u64::MAX,
        };
        let settings = CompactionSettings {
            grace,
            pass_every,
            pass_max: Duration::from_millis(1),
            bytes_per_second: u64::MAX,
        };
        let compactor = Compactor {
            engine: Arc::clone(engine),
            journal: Compaction::new(reader),
            format,
            settings,
        };
        let work = CompactionWork::new(engine.clock.steady_ms());
        let maker = SnapshotMaker::new(Arc::clone(engine), (journal, files), limits);
        Self { maker, compactor, work, steps_max }
    }

    /// Takes a snapshot if one is due, and deletes those that nobody needs.
    pub(crate) fn snapshots(&mut self) {
        self.maker.look();
    }

    /// Removes what is due, and plans what is to be removed later.
    pub(crate) fn compaction(&mut self) {
        for _ in 0..self.steps_max {
            if !self.compactor.step(&mut self.work) {
                return;
            }
        }
    }
}

/// Gives the newest snapshot the rows of the one before: a snapshot of a wrong position.
pub(crate) fn misplace(journal: &Path, files: &Arc<dyn Files>) {
    let found = snapshots_in(journal, files.as_ref()).unwrap();
    let [.., old, new] = found.as_slice() else { return };
    let mut reader = old.open(files).unwrap();
    let header = SnapshotHeader { position: new.position, ..*reader.header() };
    let mut writer = SnapshotWriter::create(Arc::clone(files), journal, header).unwrap();
    while let Some(rows) = reader.next_rows().unwrap() {
        for (key, value) in rows {
            writer.add(key, value).unwrap();
        }
    }
    files.remove(&new.path).unwrap();
    writer.finish().unwrap();
}
