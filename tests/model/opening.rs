//! Opens a data directory in the order of a server's start.

use std::path::Path;
use std::sync::Arc;

use triggerd::commands::Records;
use triggerd::commit::{Space, newest_whole, restore_newest};
use triggerd::data_dir::DataDir;
use triggerd::journal::{
    Files, JournalError, Position, SnapshotFile, first_witnessed, snapshots_in,
};
use triggerd::store::Store;

const CACHE_BYTES: u64 = 8 << 20;

/// Requires that the beginning of the journal, if it is gone, was removed on purpose.
pub(crate) fn require_witness((data_dir, files): (&DataDir, &Arc<dyn Files>), first: Position) {
    let format = data_dir.format_file();
    let of_snapshots = first_witnessed(&data_dir.journal(), files).unwrap();
    let witnessed = Position(format.first()).max(of_snapshots);
    assert!(first <= witnessed, "after: the journal begins at {first}, witnessed is {witnessed}");
    format.witness_first(first.0).unwrap();
}

/// Requires that no whole snapshot is ahead of the journal. In a copy, such snapshots are deleted.
fn judge_ahead((journal, is_copy): (&Path, bool), files: &Arc<dyn Files>, end: Position) {
    for snapshot in snapshots_in(journal, files.as_ref()).unwrap() {
        if snapshot.position <= end {
            continue;
        }
        if is_copy {
            files.remove(&snapshot.path).unwrap();
            continue;
        }
        let at = snapshot.position;
        assert!(snapshot.check(files).is_err(), "after: the journal ends at {end}, before {at}");
    }
}

/// Opens the state. A state that began empty, or lies behind the newest snapshot, is restored from
/// that.
pub(crate) fn open_state(
    (dir, is_copy): (&Path, bool),
    files: &Arc<dyn Files>,
    records: &Records,
) -> Store {
    let (journal, end) = (dir.join("journal"), records.end());
    judge_ahead((&journal, is_copy), files, end);
    let open = || Store::open(&dir.join("sled"), CACHE_BYTES, end).unwrap();
    let mut store = open();
    let later = store.applied().plus(1)..=end;
    let mut passed_over = |_: &SnapshotFile, _: &JournalError| ();
    let newer = newest_whole((&journal, files), &later, &mut passed_over).unwrap();
    if store.rebuild_reason().is_none() && newer.is_some() {
        store.invalidate();
        drop(store);
        store = open();
    }
    if store.rebuild_reason().is_some() {
        let silent = |_done: u64, _all: u64| ();
        let told: (&Space, &dyn Fn(u64, u64)) = (&Space::default(), &silent);
        restore_newest(&mut store, (&journal, files), &(records.first()..=end), told).unwrap();
    }
    let applied = store.applied();
    assert!(applied >= records.first(), "after: the state ends at {applied}, before the journal");
    store
}
