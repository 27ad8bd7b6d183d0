//! Tests of valid and invalid directories.

use std::path::PathBuf;

use super::*;
use crate::store::lifecycle::generation::DATABASE;
use crate::store::rows::schema::FORMAT;

const CACHE: u64 = 8 << 20;

fn open(dir: &Path, journal_end: Position) -> Result<Store, StateError> {
    Store::open(dir, CACHE, journal_end)
}

/// Creates a directory as after a clean stop, with the journal applied up to 100.
fn closed(dir: &Path) {
    let store = open(dir, Position(100)).unwrap();
    assert_eq!(store.rebuild_reason(), Some(&Reason::Missing));
    store.begin(&mut Effects::default()).finish(Position(100)).unwrap();
    store.close().unwrap();
}

fn mark(dir: &Path) -> PathBuf {
    dir.join("1").join(CLEAN)
}

fn reason(dir: &Path, journal_end: Position) -> Option<Reason> {
    let store = open(dir, journal_end).unwrap();
    if store.rebuild_reason().is_some() {
        assert_eq!(store.applied(), Position::FIRST, "computed from the beginning of the journal");
        assert_eq!(generations(dir).unwrap(), [2], "the old one is gone");
    }
    store.rebuild_reason().cloned()
}

#[test]
fn a_cleanly_closed_state_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path());
    let store = open(dir.path(), Position(100)).unwrap();
    assert_eq!((store.rebuild_reason(), store.applied()), (None, Position(100)));
}

#[test]
fn a_state_of_a_crashed_process_is_gone_on_with_and_one_of_another_boot_is_not() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path());
    let text = fs::read_to_string(mark(dir.path())).unwrap();
    fs::rename(mark(dir.path()), dir.path().join("1").join(RUNNING)).unwrap();
    assert_eq!(reason(dir.path(), Position(100)), None);

    let dir = tempfile::tempdir().unwrap();
    closed(dir.path());
    let boot = text.split_whitespace().nth(1).unwrap();
    let own = fs::read_to_string(mark(dir.path())).unwrap();
    fs::remove_file(mark(dir.path())).unwrap();
    fs::write(dir.path().join("1").join(RUNNING), own.replace(boot, "another-boot")).unwrap();
    assert_eq!(reason(dir.path(), Position(100)), Some(Reason::OtherBoot));
}

#[test]
fn a_copy_is_not_valid_even_if_its_original_was_closed() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    closed(dir.path());
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(dir.path().join("1"))
        .arg(copy.path())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(reason(copy.path(), Position(100)), Some(Reason::Copied));
}

#[test]
fn a_state_ahead_of_the_journal_is_kept_and_one_of_another_format_or_invalidated_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path());
    let store = open(dir.path(), Position(99)).unwrap();
    assert_eq!(store.rebuild_reason(), Some(&Reason::AheadOfJournal { applied: Position(100) }));
    assert_eq!(
        generations(dir.path()).unwrap(),
        [1],
        "it may be the only witness of what the journal lost"
    );

    let dir = tempfile::tempdir().unwrap();
    closed(dir.path());
    let text = fs::read_to_string(mark(dir.path())).unwrap();
    fs::write(mark(dir.path()), text.replacen(&FORMAT.to_string(), "999", 1)).unwrap();
    assert!(matches!(reason(dir.path(), Position(100)),
        Some(Reason::Unusable(why)) if why.contains("999")));

    let dir = tempfile::tempdir().unwrap();
    closed(dir.path());
    open(dir.path(), Position(100)).unwrap().invalidate();
    assert!(matches!(reason(dir.path(), Position(100)), Some(Reason::Unusable(_))));
}

#[test]
fn a_garbled_or_truncated_database_is_computed_again_or_found_broken() {
    for damage in [|bytes: &mut Vec<u8>| bytes.truncate(10), |bytes: &mut Vec<u8>| bytes.fill(0xa5)]
    {
        let dir = tempfile::tempdir().unwrap();
        closed(dir.path());
        let path = dir.path().join("1").join(DATABASE);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let store = open(dir.path(), Position(100)).unwrap();
        // sled may find nothing in the directory and begin anew by itself. The applied position
        // shows this.
        assert!(
            store.rebuild_reason().is_some() || store.applied() == Position::FIRST,
            "{:?}",
            store.rebuild_reason()
        );
    }
}

#[test]
fn a_state_that_somebody_else_lets_go_a_moment_later_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path());
    let before = fs::File::options()
        .read(true)
        .write(true)
        .open(dir.path().join("1").join(DATABASE))
        .unwrap();
    before.lock().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            Signal::new().wait(Duration::from_millis(100));
            drop(before);
        });
        assert_eq!(reason(dir.path(), Position(100)), None);
    });
}
