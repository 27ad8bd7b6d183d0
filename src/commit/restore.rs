//! Restores a state that began empty from a snapshot. Recovery then applies the journal behind the
//! snapshot.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::recovery::RecoveryError;
use super::space::Space;
use crate::base::failpoint::{self, Switch};
use crate::journal::{Files, JournalError, Position, SnapshotFile, snapshots_in};
use crate::store::{FreshSize, StateError, Store};

/// The result of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The position of the snapshot.
    pub position: Position,
    /// Number of loaded rows.
    pub rows: u64,
    /// Duration of the restore.
    pub took: Duration,
}

/// Returns the newest whole snapshot with a position in this range. Each damaged snapshot is passed
/// to `damaged` and passed over.
///
/// # Errors
/// The directory or a file cannot be read.
pub fn newest_whole(
    (dir, files): (&Path, &Arc<dyn Files>),
    positions: &RangeInclusive<Position>,
    damaged: &mut dyn FnMut(&SnapshotFile, &JournalError),
) -> Result<Option<SnapshotFile>, JournalError> {
    for snapshot in snapshots_in(dir, files.as_ref())?.into_iter().rev() {
        if !positions.contains(&snapshot.position) {
            continue;
        }
        match snapshot.check(files) {
            Ok(_) => return Ok(Some(snapshot)),
            Err(error @ JournalError::Damage(_)) => damaged(&snapshot, &error),
            Err(error @ JournalError::Io { .. }) => return Err(error),
        }
    }
    Ok(None)
}

/// Loads the newest whole snapshot with a position in this range into a state that began empty, and
/// calls `tell` with the read and the total number of bytes. `None` if there is no such snapshot.
///
/// # Errors
/// As [`restore`]; also if the directory cannot be read.
pub fn restore_newest(
    store: &mut Store,
    (dir, files): (&Path, &Arc<dyn Files>),
    positions: &RangeInclusive<Position>,
    (space, tell): (&Space, &dyn Fn(u64, u64)),
) -> Result<Option<Restored>, RecoveryError> {
    if failpoint::is_on(Switch::RebuildOff) {
        return Ok(None);
    }
    let mut damaged = |_: &SnapshotFile, error: &JournalError| {
        tracing::error!(
            %error,
            "a snapshot is damaged and passed over: the state is computed from an older one, or \
             from the beginning of the journal"
        );
    };
    let newest = newest_whole((dir, files), positions, &mut damaged);
    let newest = newest.map_err(RecoveryError::Snapshot)?;
    newest.map(|snapshot| restore(store, &snapshot, files, (space, tell))).transpose()
}

/// Loads a snapshot into a state that began empty.
///
/// # Errors
/// The snapshot cannot be read, or the state cannot be written, for example because the disk has no
/// room. Then the state must not be used any more.
pub fn restore(
    store: &mut Store,
    snapshot: &SnapshotFile,
    files: &Arc<dyn Files>,
    (space, tell): (&Space, &dyn Fn(u64, u64)),
) -> Result<Restored, RecoveryError> {
    let began = Instant::now();
    let mut reader = snapshot.open(files).map_err(RecoveryError::Snapshot)?;
    let bytes = reader.bytes();
    // Rows in the order of their keys fill whole pages, so only their bytes count. After an
    // overrun, sled is not tried again.
    let all = FreshSize { rows: 0, bytes: usize::try_from(bytes).unwrap_or(usize::MAX) };
    let in_memory = space.is_overrun() || space.is_short_for(all);
    let mut load = store.begin_load(in_memory)?;
    while let Some(rows) = reader.next_rows().map_err(RecoveryError::Snapshot)? {
        for (key, value) in rows {
            load.add(key, value)?;
        }
        if load.is_full() {
            if space.is_short_for(FreshSize { rows: 0, ..load.size() }) {
                let full = io::Error::from(io::ErrorKind::StorageFull);
                return Err(StateError::NoSpace(full).into());
            }
            load.flush()?;
            tell(reader.bytes_read(), bytes);
        }
    }
    load.finish(snapshot.position)?;
    let rows = reader.size().rows;
    Ok(Restored { position: snapshot.position, rows, took: began.elapsed() })
}
