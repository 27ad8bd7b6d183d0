//! Tests that an unreadable row is an error and breaks the state, whichever query reads it.

use crate::commands::Command;
use crate::journal::Position;
use crate::model::id::{EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::type_filter::TypeFilter;
use crate::store::rows::row::Row;
use crate::store::rows::schema::{DedupBlock, EventBlock, OpenBits};
use crate::store::{InboxQuery, Store};

use super::*;

/// Creates a state with rows in every table, all in sled; see `apply_tests`.
fn filled(dir: &std::path::Path) -> Store {
    let store = Store::open(dir, 8 << 20, Position::MAX).unwrap();
    crate::commands::tests::fill(&store);
    store.write_back().unwrap();
    store
}

/// Reads every inbox. Returns the number of events.
fn inboxes(store: &Store) -> Result<usize, StateError> {
    let query = InboxQuery { after: None, limit: 500, types: TypeFilter::default(), since: None };
    let orgs = store.org_numbers()?;
    let pages: Result<Vec<_>, _> = orgs.into_values().map(|org| store.inbox(org, &query)).collect();
    Ok(pages?.iter().map(|page| page.items.len()).sum())
}

#[test]
fn every_row_that_cannot_be_read_is_an_error_and_breaks_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let rows: Vec<_> = store.db().iter().map(Result::unwrap).collect();
    let in_inboxes = inboxes(&store).unwrap();
    let whole = store.dump().unwrap();
    assert!(!store.is_broken() && in_inboxes > 0);
    let mut found = std::collections::BTreeSet::new();
    for (key, value) in &rows {
        for garbage in [
            b"".as_slice(),
            b"\x09another version",
            &value[..value.len() - 1],
            b"\x01\xff\xff\xff\xff\xff",
        ] {
            store.db().insert(key, garbage).unwrap();
            let read = store.dump();
            // Resident rows are in memory, where nothing was changed.
            assert_eq!(read.is_err(), store.is_broken(), "{key:?}");
            assert!(
                read.is_err() || read.unwrap() == whole,
                "{key:?} with {garbage:?} reads as something else"
            );
            if store.broken.swap(false, Ordering::SeqCst) {
                found.insert(key[0]);
            }
            if [EventBlock::PREFIX, OpenBits::PREFIX].contains(&key[0]) && value.len() > 1 {
                assert_eq!(inboxes(&store).is_err(), store.is_broken());
                store.broken.store(false, Ordering::SeqCst);
            }
        }
        store.db().insert(key, value).unwrap();
    }
    assert!(found.len() > 5, "{found:?}");
    assert_eq!((inboxes(&store).unwrap(), store.dump().unwrap() == whole), (in_inboxes, true));
    assert!(!store.is_broken());
}

#[test]
fn a_removed_row_is_the_nearest_one_until_it_is_written_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 8 << 20, Position::MAX).unwrap();
    let key = |number| (OrgNo(1), EventId(number));
    let bytes = write_row(&OpenBits::default()).unwrap();
    for number in [10, 20, 30] {
        store.db().insert(tree_key::<OpenBits>(key(number)), bytes.as_slice()).unwrap();
    }
    let other = (OrgNo(2), EventId(5));
    store.db().insert(tree_key::<OpenBits>(other), bytes.as_slice()).unwrap();
    let mut table = Table::<OpenBits>::open(&store.db(), &Arc::default()).unwrap();
    table.remove(key(20));
    table.insert_new(key(27), OpenBits::default());
    let near = |number| {
        let found = table.at_or_before(key(0), key(number)).unwrap();
        found.map(|((_, EventId(found)), _)| found)
    };
    let expected = [(9, None), (10, Some(10)), (19, Some(10)), (20, None), (26, None)];
    for (number, expected) in expected.into_iter().chain([(27, Some(27)), (29, Some(27))]) {
        assert_eq!(near(number), expected, "{number}");
    }
    assert_eq!((near(30), near(u128::MAX)), (Some(30), Some(30)));
    assert_eq!(table.last(key(0)..=key(26)).unwrap().unwrap().0, key(10));
}

#[test]
fn a_row_that_another_one_promises_is_never_missed_silently() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let events = store.db().scan_prefix([EventBlock::PREFIX]).keys().map(Result::unwrap);
    events.for_each(|key| drop(store.db().remove(key).unwrap()));
    assert!(inboxes(&store).unwrap_err().to_string().contains("is missing") && store.is_broken());
}

#[test]
fn a_dedup_id_whose_block_is_missing_is_no_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let entry = store.read().dedup.get(0).unwrap().unwrap().entries[0].clone();
    let Command::SubmitEvent(mut event) = crate::commands::tests::submit(9, 1, Some(("x", 1)))
    else {
        unreachable!()
    };
    let dedup = event.event.dedup.as_mut().unwrap();
    (dedup.digest, dedup.fingerprint, dedup.window_start) =
        (entry.digest, entry.fingerprint, Timestamp(0));
    let known = || store.known_duplicates([Some((None, &*dedup))].into_iter(), Timestamp(1));
    assert!(known().unwrap()[0].is_some());
    let blocks = store.db().scan_prefix([DedupBlock::PREFIX]).keys().map(Result::unwrap);
    blocks.for_each(|key| drop(store.db().remove(key).unwrap()));
    let missing = known().unwrap_err();
    assert!(missing.to_string().contains("is missing") && store.is_broken());
}

#[test]
fn a_read_that_panics_is_an_error_and_breaks_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let read: Result<(), _> = store.read().events.noted(|| panic!("as sled does"));
    assert!(read.unwrap_err().to_string().contains("events") && store.is_broken());
    assert!(store.event(OrgNo(0), EventId(1)).is_ok(), "others go on until the process ends");
}
