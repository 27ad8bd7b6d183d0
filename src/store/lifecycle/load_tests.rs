//! Tests of loading the rows of a snapshot.

use super::*;
use crate::store::rows::schema::KeyRow;
use crate::store::{FreshHandling, Reason, RowBytes, Walked};

fn open(dir: &std::path::Path) -> Store {
    Store::open(dir, 8 << 20, Position::MAX).unwrap()
}

/// A state with some of everything, its rows, and their position.
fn filled(dir: &std::path::Path) -> (Store, Vec<RowBytes>, Position) {
    let store = open(dir);
    crate::commands::tests::fill(&store);
    let (mut rows, mut walk) =
        (Vec::new(), store.begin_snapshot(1 << 20, FreshHandling::WriteBack).unwrap());
    while let Walked::Rows(next) = walk.next_rows().unwrap() {
        rows.extend(next);
    }
    let position = walk.position();
    drop(walk);
    (store, rows, position)
}

fn load(store: &mut Store, in_memory: bool, rows: &[RowBytes]) -> Result<(), StateError> {
    let mut load = store.begin_load(in_memory)?;
    for (number, (key, value)) in rows.iter().enumerate() {
        load.add(key, value)?;
        if number % 50 == 0 {
            load.flush()?;
        }
    }
    load.finish(Position(100_000))
}

#[test]
fn a_loaded_state_is_the_state_of_the_snapshot_on_disk_and_in_memory() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let (original, rows, position) = filled(dirs[0].path());
    assert_eq!(position, Position(100_000));
    for (dir, in_memory) in dirs[1..].iter().zip([false, true]) {
        let mut store = open(dir.path());
        load(&mut store, in_memory, &rows).unwrap();
        assert_eq!(store.dump().unwrap(), original.dump().unwrap());
        assert_eq!((store.applied(), store.counts().unwrap().events), (position, 100));
        assert_eq!(store.fresh_rows() > 0, in_memory);
        assert!(store.contradictions(9).unwrap().is_empty());
        store.close().unwrap();
        drop(store);
        let again = open(dir.path());
        assert_eq!(again.rebuild_reason(), None, "in memory: {in_memory}");
        assert_eq!(again.dump().unwrap(), original.dump().unwrap());
    }
}

/// Makes the rows of orgs, keys and inboxes as version 1 had them.
fn as_of_version_1(rows: &[RowBytes]) -> Vec<RowBytes> {
    let mut former = rows.to_vec();
    for (key, value) in &mut former {
        let added = match key[0] {
            OrgRow::PREFIX => 3,
            KeyRow::PREFIX => 1,
            InboxRow::PREFIX => 16,
            _ => continue,
        };
        assert!(value[0] > 1);
        value[0] = 1;
        value.truncate(value.len() - added);
    }
    former
}

#[test]
fn a_snapshot_of_a_version_that_did_not_count_events_loads_with_their_number() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let (original, rows, _) = filled(dirs[0].path());
    let former = as_of_version_1(&rows);
    assert_ne!(former, rows);
    for (dir, in_memory) in dirs[1..].iter().zip([false, true]) {
        let mut store = open(dir.path());
        load(&mut store, in_memory, &former).unwrap();
        assert_eq!(store.dump().unwrap(), original.dump().unwrap(), "in memory: {in_memory}");
        assert!(store.contradictions(9).unwrap().is_empty());
    }
}

#[test]
fn a_crash_before_the_rows_are_all_in_sled_leaves_no_valid_state() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let (_original, rows, _) = filled(dirs[0].path());
    let mut half = open(dirs[1].path());
    let mut loading = half.begin_load(false).unwrap();
    rows.iter().take(99).for_each(|(key, value)| loading.add(key, value).unwrap());
    loading.flush().unwrap();
    drop(half);
    let mut in_memory = open(dirs[2].path());
    load(&mut in_memory, true, &rows).unwrap();
    drop(in_memory);
    for dir in &dirs[1..] {
        let next = open(dir.path());
        assert!(matches!(next.rebuild_reason(), Some(Reason::Unusable(_))));
        assert_eq!(next.applied(), Position::FIRST);
    }
}

#[test]
fn rows_of_no_table_of_an_unknown_version_or_of_another_position_are_refused() {
    let dirs = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let (_original, mut rows, _) = filled(dirs[0].path());
    let refused = |place: usize, rows: &[RowBytes], word: &str| {
        let error = load(&mut open(dirs[place].path()), false, rows).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let unknown = [rows.clone(), vec![(vec![200, 1], vec![1])]].concat();
    refused(1, &unknown, "unknown row");
    refused(2, &rows[1..], "of position 1");
    rows[5].1[0] = 99;
    refused(3, &rows, "is of version 99");
}
