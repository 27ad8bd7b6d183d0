//! Snapshots at the start: those that do not belong to the journal, and the restore of a lost state
//! from the newest whole one.

use std::path::Path;
use std::sync::Arc;

use super::StartError;
use super::systemd::Progress;
use crate::base::units::millis;
use crate::commands::RecordError;
use crate::commit::{self, RecoveryError, SNAPSHOTS_KEPT_MIN, Space, newest_whole, restore_newest};
use crate::data_dir::DataDir;
use crate::journal::{
    Files, JournalError, OsFiles, Position, ReadError, ReadLog as _, Reader, SnapshotFile,
    snapshots_in,
};
use crate::store::Store;

/// Returns the size of the snapshots that are always kept, in bytes. One that cannot be read counts
/// nothing.
pub(super) fn kept_bytes(dir: &Path, files: &Arc<dyn Files>) -> Result<u64, JournalError> {
    let all = snapshots_in(dir, files.as_ref())?;
    let sizes = all.iter().rev().filter_map(|snapshot| snapshot.ends(files).ok());
    Ok(sizes.take(SNAPSHOTS_KEPT_MIN).map(|(_, size)| size.bytes).sum())
}

/// Judges the snapshots that are ahead of the journal. In an original, a whole one proves that the
/// journal has lost its end. A copy may have read the segments before the snapshot.
pub(super) fn judge_ahead(
    (dir, files): (&Path, &Arc<dyn Files>),
    end: Position,
    is_copy: bool,
) -> Result<(), StartError> {
    if is_copy {
        return Ok(());
    }
    for snapshot in ahead(dir, files, end)? {
        let (path, position) = (snapshot.path.display(), snapshot.position.0);
        match snapshot.check(files) {
            Ok(_) => {
                return Err(StartError::Missing(format!(
                    "it ends at position {end}, but the snapshot {path} goes to {position}"
                )));
            }
            Err(error @ JournalError::Io { .. }) => return Err(StartError::Journal(error)),
            Err(error @ JournalError::Damage(_)) => {
                let what = "a snapshot ahead of the journal is damaged and passed over";
                tracing::warn!(%error, "{what}");
            }
        }
    }
    Ok(())
}

/// Deletes the snapshots that are ahead of the journal of a copy, because its journal goes on in
/// another way. Called when the state is there: a copy that is not complete yet may get the rest of
/// its journal.
pub(super) fn delete_ahead(data_dir: &DataDir, end: Position) -> Result<(), StartError> {
    if !data_dir.is_copy() {
        return Ok(());
    }
    let (dir, files): (_, Arc<dyn Files>) = (data_dir.journal(), Arc::new(OsFiles));
    for snapshot in ahead(&dir, &files, end)? {
        let (path, position) = (snapshot.path.display().to_string(), snapshot.position.0);
        let what = "a snapshot of the copy is ahead of its journal and is deleted";
        tracing::info!(path, position, end = end.0, "{what}");
        files.remove(&snapshot.path).map_err(io_at(&snapshot.path))?;
    }
    files.sync_dir(&dir).map_err(io_at(&dir))
}

fn ahead(
    dir: &Path,
    files: &Arc<dyn Files>,
    end: Position,
) -> Result<Vec<SnapshotFile>, StartError> {
    let mut all = snapshots_in(dir, files.as_ref()).map_err(StartError::Journal)?;
    all.retain(|snapshot| snapshot.position > end);
    Ok(all)
}

/// Returns the newest whole snapshot of a later position.
pub(super) fn newer(
    journal: (&Path, &Arc<dyn Files>),
    applied: Position,
    end: Position,
) -> Result<Option<SnapshotFile>, StartError> {
    let mut damaged = |_: &SnapshotFile, _: &JournalError| ();
    newest_whole(journal, &(applied.plus(1)..=end), &mut damaged).map_err(StartError::Journal)
}

/// Restores a state that began empty from the newest whole snapshot, if there is one. `known` is
/// this snapshot, if it is known already.
pub(super) fn restore(
    store: &mut Store,
    (dir, files): (&Path, &Arc<dyn Files>),
    (journal, known): (&Reader, Option<&SnapshotFile>),
    space: &Space,
) -> Result<(), StartError> {
    let progress = Progress::of("loading the snapshot");
    let tell = |done, all| progress.tell(done, all);
    let positions = journal.first()..=journal.end();
    let restored = match known {
        Some(known) => commit::restore(store, known, files, (space, &tell)).map(Some),
        None => restore_newest(store, (dir, files), &positions, (space, &tell)),
    };
    if let Err(RecoveryError::State(_)) = &restored {
        store.invalidate();
    }
    let Some(restored) = restored.map_err(StartError::Recovery)? else { return Ok(()) };
    let took_ms = millis(restored.took);
    let (position, rows) = (restored.position.0, restored.rows);
    tracing::info!(position, rows, took_ms, "the snapshot is loaded");
    Ok(())
}

/// Requires the state to reach the beginning of the journal.
pub(super) fn require_beginning(store: &Store, first: Position) -> Result<(), StartError> {
    if store.applied() >= first {
        return Ok(());
    }
    Err(StartError::NoSnapshot(format!(
        "the journal begins at position {first}, and there is no whole snapshot of that position \
         or a later one"
    )))
}

/// Names the snapshot that is missing, if the journal was compacted before it. A part of a state is
/// given up then: the next start may find the snapshot.
pub(super) fn judge_recovery(store: &Store, error: RecoveryError) -> StartError {
    let RecoveryError::Records(RecordError::Log(ReadError::Removed(at))) = error else {
        return StartError::Recovery(error);
    };
    if store.rebuild_reason().is_some() {
        store.invalidate();
    }
    StartError::NoSnapshot(format!(
        "compaction removed records from position {at} on, and there is no whole snapshot of a \
         position behind them"
    ))
}

fn io_at(path: &Path) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::Journal(JournalError::Io { path: path.to_owned(), source })
}
