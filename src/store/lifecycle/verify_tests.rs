//! Tests that each contradiction and each difference is found: a whole state in which one row is
//! changed directly.

use super::*;
use crate::base::codec;
use crate::journal::Position;
use crate::model::id::{EndpointId, ReplayId};
use crate::model::replay::{ReplayCursor, ReplayOnly, ReplayRequest};
use crate::model::time::Timestamp;
use crate::store::lifecycle::differences::Differences;
use crate::store::rows::row::Row;
use crate::store::rows::row_key::RowKey;
use crate::store::rows::schema::{
    DeadRow, DueRow, EventBlock, HealthRow, Meta, OpenBits, ReplayRow, RunningRow, TombstoneRow,
};

const CACHE: u64 = 8 << 20;

fn put<R: Row>(store: &Store, key: R::Key, row: Option<&R>) {
    let key = [&[R::PREFIX], key.bytes().as_ref()].concat();
    match row {
        None => drop(store.db().remove(key).unwrap()),
        Some(row) => {
            let mut value = vec![R::VERSION];
            codec::encode_into(row, &mut value).unwrap();
            drop(store.db().insert(key, value).unwrap());
        }
    }
}

/// Creates a closed state with rows in every table; see `apply_tests`.
fn filled(dir: &Path) {
    let store = Store::open(dir, CACHE, Position::MAX).unwrap();
    crate::commands::tests::fill(&store);
    assert_eq!(store.contradictions(9).unwrap(), Vec::<String>::new());
    store.close().unwrap();
}

fn last(dir: &Path) -> PathBuf {
    last_generation(dir).unwrap().unwrap()
}

#[test]
fn a_copy_equals_its_original_and_each_changed_row_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (original, scratch) = (dir.path().join("sled"), dir.path().join("scratch"));
    filled(&original);
    assert_eq!(StateValidity::of(&original).unwrap(), StateValidity::Valid(last(&original)));
    let open = |name: &str| Store::open_copy(&last(&original), &scratch.join(name), CACHE).unwrap();
    let (one, two) = (open("1"), open("2"));
    assert_eq!(one.differences(&two, 9).unwrap(), Differences::default());
    let meta = Meta {
        applied: Position(1_000_000),
        ..(*two.read().meta.get(()).unwrap().unwrap()).clone()
    };
    put(&two, (), Some(&meta));
    let due = (EndpointId(77), crate::model::time::Timestamp(1), EventId(9));
    put(&two, due, Some(&DueRow));
    let bits = *one.read().open.all().next().unwrap().unwrap().1;
    let key = one.read().open.all().next().unwrap().unwrap().0;
    put::<OpenBits>(&two, key, None);
    let found = one.differences(&two, 2).unwrap();
    assert_eq!(found.rows.values().sum::<u64>(), 3, "{found:?}");
    assert_eq!(found.first.len(), 2);
    assert!(
        found.first[0].row.starts_with("meta")
            && found.first[0].other.as_ref().unwrap().contains("1000000")
    );
    assert_eq!((found.first[1].other.clone(), bits.0 != 0), (None, true), "{found:?}");
    drop((one, two));
    assert_eq!(
        StateValidity::of(&original).unwrap(),
        StateValidity::Valid(last(&original)),
        "nothing was touched"
    );
}

type Change = fn(&Store);

fn change_meta(store: &Store, change: impl Fn(&mut Meta)) {
    let mut meta = (*store.read().meta.get(()).unwrap().unwrap()).clone();
    change(&mut meta);
    put(store, (), Some(&meta));
}

/// Inserts a running replay with the given change.
fn replay(store: &Store, (org, id): (u32, u128), change: impl Fn(&mut ReplayRow)) {
    let (endpoint, since, until, event_types) = (None, None, None, Vec::new());
    let mut row = ReplayRow {
        request: ReplayRequest { endpoint, since, until, event_types, only: ReplayOnly::All },
        created_at: Timestamp(1),
        first: EventId(1),
        last: EventId(100),
        next: 3,
        end: 3,
        cursors: [1, 2].map(|number| ReplayCursor { number, from: EventId(1) }).to_vec(),
        done: 0,
        skipped: Vec::new(),
        examined: 0,
        queued: 0,
        ended: None,
    };
    change(&mut row);
    put(store, (OrgNo(org), ReplayId(id)), Some(&row));
    put(store, (OrgNo(org), ReplayId(id)), Some(&RunningRow));
}

#[test]
fn a_replay_like_those_of_the_next_test_contradicts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let store = Store::open_copy(&last(dir.path()), &dir.path().join("copy"), CACHE).unwrap();
    (1..=10).for_each(|id| replay(&store, (0, id), |_| ()));
    store.db().flush().unwrap();
    drop(store);
    let again =
        Store::open_copy(&dir.path().join("copy"), &dir.path().join("again"), CACHE).unwrap();
    assert_eq!(again.contradictions(9).unwrap(), Vec::<String>::new());
}

/// Changes of single rows, each with a part of the message that names the contradiction.
const CHANGES: [(&str, Change); 15] = [
    ("is not listed there", |store| {
        let tombstones = TombstoneRow { org: OrgNo(0), number: 2, ended: Position(5) };
        put(store, EndpointId(49), Some(&tombstones));
    }),
    ("is erased, and parts of it remain:", |store| {
        // The event has a waiting delivery.
        let rows: Vec<_> = store.read().events.all().map(Result::unwrap).collect();
        let (key, block) =
            rows.iter().find(|(_, block)| block.events.iter().any(|it| it.waiting > 0)).unwrap();
        let mut block = EventBlock::clone(block);
        block.events.iter_mut().find(|it| it.waiting > 0).unwrap().erased_at = Some(Timestamp(1));
        put(store, *key, Some(&block));
    }),
    ("above the last id", |store| change_meta(store, |meta| meta.last_id = 99)),
    ("a replay of no organization", |store| replay(store, (9, 1), |_| ())),
    ("impossible positions", |store| {
        let cursor = |number| ReplayCursor { number, from: EventId(1) };
        replay(store, (0, 1), |row| row.cursors = vec![cursor(2), cursor(1)]);
    }),
    ("impossible positions", |store| replay(store, (0, 1), |row| row.skipped = vec![1])),
    ("impossible positions", |store| {
        replay(store, (0, 1), |row| (row.skipped, row.done) = (vec![3], 1));
    }),
    ("too many", |store| (1..=11).for_each(|id| replay(store, (0, id), |_| ()))),
    ("runs: false", |store| {
        replay(store, (0, 1), |_| ());
        put::<RunningRow>(store, (OrgNo(0), ReplayId(1)), None);
    }),
    ("are counted", |store| change_meta(store, |meta| meta.events = 9_999)),
    ("open", |store| {
        let (key, _) = store.read().open.all().next().unwrap().unwrap();
        put::<OpenBits>(store, key, None);
    }),
    ("never due", |store| {
        let (key, _) = store.read().due.all().next().unwrap().unwrap();
        put::<DueRow>(store, key, None);
    }),
    ("dead deliveries, there are", |store| {
        let (key, row) = store.read().health.all().next().unwrap().unwrap();
        put(store, key, Some(&HealthRow { waiting: row.waiting + 1, ..*row }));
    }),
    ("no dead letter", |store| {
        let (key, _) = store.read().dead.all().next().unwrap().unwrap();
        put::<DeadRow>(store, key, None);
    }),
    ("below the next number", |store| change_meta(store, |meta| meta.next_org = 0)),
];

#[test]
fn rows_that_contradict_each_other_are_found() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    for (number, (expected, change)) in CHANGES.into_iter().enumerate() {
        let copy = dir.path().join(format!("changed-{number}"));
        let victim = Store::open_copy(&last(dir.path()), &copy, CACHE).unwrap();
        change(&victim);
        victim.db().flush().unwrap();
        drop(victim);
        let again = dir.path().join(format!("again-{number}"));
        let found = Store::open_copy(&copy, &again, CACHE).unwrap().contradictions(9).unwrap();
        assert!(found.iter().any(|found| found.contains(expected)), "{expected}: {found:?}");
        let internal = |found: &&String| {
            ["OrgNo", "Id(", "None", "Some"].iter().any(|word| found.contains(word))
        };
        assert_eq!(found.iter().find(internal), None, "ids are those that users know");
    }
}

#[test]
fn events_that_have_expired_are_not_among_those_whose_payload_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let store = Store::open_copy(&last(dir.path()), &dir.path().join("copy"), CACHE).unwrap();
    let everywhere = [Position::FIRST..Position::MAX];
    let before = store.events_within(&everywhere).unwrap();
    let rows: Vec<_> = store.read().events.all().map(Result::unwrap).collect();
    let is_found = |entry: &EventEntry| before.iter().any(|(_, event)| *event == entry.id);
    let (key, block) = rows.iter().find(|(_, block)| block.events.iter().any(is_found)).unwrap();
    let mut block = EventBlock::clone(block);
    let entry = block.events.iter_mut().find(|entry| is_found(entry)).unwrap();
    entry.is_expired = true;
    let (expired, mut expected) = (entry.id, before.clone());
    expected.retain(|(_, event)| *event != expired);
    put(&store, *key, Some(&block));
    store.db().flush().unwrap();
    drop(store);
    let again = dir.path().join("again");
    let store = Store::open_copy(&dir.path().join("copy"), &again, CACHE).unwrap();
    assert_eq!(store.events_within(&everywhere).unwrap(), expected);
    assert_eq!(expected.len() + 1, before.len());
}

#[test]
fn a_state_that_is_not_valid_says_why() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(StateValidity::of(&dir.path().join("none")).unwrap(), StateValidity::Absent);
    filled(dir.path());
    crate::store::invalidate_last(dir.path()).unwrap();
    assert!(matches!(
        StateValidity::of(dir.path()).unwrap(),
        StateValidity::Invalid(Reason::Unusable(_), _)
    ));
}
