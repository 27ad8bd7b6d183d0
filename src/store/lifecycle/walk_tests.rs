//! Tests of walks over all rows. A property test of commands meanwhile is with the commands.

use super::*;
use crate::store::Effects;

fn filled(dir: &std::path::Path) -> Store {
    let store = Store::open(dir, 8 << 20, Position::MAX).unwrap();
    crate::commands::tests::fill(&store);
    store
}

/// Every row as sled holds it.
fn in_sled(store: &Store) -> Vec<RowBytes> {
    let pair = |pair: sled::Result<(sled::IVec, sled::IVec)>| {
        let (key, value) = pair.unwrap();
        (key.to_vec(), value.to_vec())
    };
    store.db().iter().map(pair).collect()
}

fn rest(rows: &mut SnapshotRows<'_>) -> Vec<RowBytes> {
    let mut all = Vec::new();
    loop {
        match rows.next_rows().unwrap() {
            Walked::Rows(rows) => all.extend(rows),
            Walked::End => return all,
            Walked::Outrun => panic!("too many rows changed"),
        }
    }
}

#[test]
fn a_walk_gives_every_row_once_with_the_position_of_their_moment() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let mut rows = store.begin_snapshot(1 << 20, FreshHandling::WriteBack).unwrap();
    assert_eq!(rows.position(), store.applied());
    let read = rest(&mut rows);
    assert!(read.len() > 100 && read == in_sled(&store), "{}", read.len());
}

#[test]
fn without_room_in_sled_a_walk_gives_the_same_rows_and_a_write_back_meanwhile_changes_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.begin(&mut Effects::default()).finish(Position(200_000)).unwrap();
    let (fresh, before) = (store.fresh_rows(), in_sled(&store));
    let mut rows = store.begin_snapshot(1, FreshHandling::Copy).unwrap();
    assert!(fresh > 0 && store.fresh_rows() == fresh && in_sled(&store) == before);
    assert_eq!(rows.position(), Position(200_000));
    let Ok(Walked::Rows(mut read)) = rows.next_rows() else { panic!("no rows") };
    assert!(!store.may_outrun_snapshot());
    store.write_back().unwrap();
    read.extend(rest(&mut rows));
    assert!(read == in_sled(&store) && read != before, "{}", read.len());
}

#[test]
fn one_walk_at_a_time_and_the_next_after_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let rows = store.begin_snapshot(1 << 20, FreshHandling::WriteBack).unwrap();
    assert!(matches!(
        store.begin_snapshot(1 << 20, FreshHandling::WriteBack),
        Err(StateError::Invariant(_))
    ));
    drop(rows);
    assert!(
        !rest(&mut store.begin_snapshot(1 << 20, FreshHandling::WriteBack).unwrap()).is_empty()
    );
}

#[test]
fn a_walk_that_too_many_changes_outrun_ends_and_the_state_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    assert!(!store.may_outrun_snapshot());
    let mut rows = store.begin_snapshot(10, FreshHandling::WriteBack).unwrap();
    assert!(!store.may_outrun_snapshot());
    store.begin(&mut Effects::default()).finish(Position(200_000)).unwrap();
    store.write_back().unwrap();
    assert!(store.may_outrun_snapshot());
    assert!(matches!(rows.next_rows(), Ok(Walked::Outrun)));
    drop(rows);
    assert!(!store.may_outrun_snapshot());
    assert!(!store.is_broken() && store.begin_snapshot(10, FreshHandling::WriteBack).is_ok());
}
