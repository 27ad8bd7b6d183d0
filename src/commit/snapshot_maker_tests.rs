//! Tests of the snapshot thread, over a real journal and with a manual clock.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::base::clock::Clock;
use crate::base::threads::{Thread, spawn_critical};
use crate::commands::Records;
use crate::commit::system::{self, engine_with};
use crate::commit::{Restored, Space, recover, restore_newest};
use crate::journal::OsFiles;
use crate::journal::faults::{Fault, FaultyFiles};
use crate::store::Store;

const MIB: u64 = 1 << 20;
const GRACE: Duration = Duration::from_secs(100);

/// A running committer, and a maker of snapshots that the test runs by hand.
struct Fixture {
    dir: tempfile::TempDir,
    clock: Clock,
    /// The free bytes of a filesystem with a reserve of 16 MiB.
    free: Arc<AtomicU64>,
    maker: SnapshotMaker,
    committer: Option<Thread>,
}

impl Fixture {
    fn new(bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (writer, reader, _) =
            crate::journal::open(&dir.path().join("journal"), Arc::new(OsFiles), 1 << 20).unwrap();
        let store = Store::open(&dir.path().join("sled"), 8 << 20, Position::MAX).unwrap();
        let clock = Clock::manual(1_000_000);
        let log = (writer, Records::new(reader));
        let free = Arc::new(AtomicU64::new(u64::MAX));
        let of_disk = Arc::clone(&free);
        let free_bytes = Box::new(move || Some(of_disk.load(Ordering::SeqCst)));
        let parts = (system::hints(), Space::new(free_bytes, 16 * MIB));
        let (engine, committer) = engine_with(&Arc::new(store), clock.clone(), log, parts);
        let committer = Some(spawn_critical("committer", || committer.run()).unwrap());
        let (piled_up, stop) = (1 << 30, Duration::from_mins(1));
        let limits = SnapshotLimits { bytes, piled_up, grace: GRACE, stop };
        let (journal, files) = (dir.path().join("journal"), Arc::new(OsFiles));
        let maker = SnapshotMaker::new(engine, (journal, files), limits);
        let fixture = Self { dir, clock, free, maker, committer };
        fixture.submit(vec![system::create_org()]);
        fixture
    }

    fn submit(&self, commands: Vec<crate::commands::Command>) {
        let replies = self.maker.engine.intake.submit_all(commands).unwrap().wait().unwrap();
        assert!(replies.iter().all(Result::is_ok));
    }

    /// Makes the journal grow by this number of kibibytes.
    fn grow(&self, kib: usize) {
        (0..kib).for_each(|_| self.submit(vec![system::submit(0, None, vec![b'1'; 1_024])]));
    }

    fn on_disk(&self) -> Vec<SnapshotFile> {
        snapshots_in(&self.dir.path().join("journal"), &OsFiles).unwrap()
    }

    /// Looks once, and returns the number of snapshots on disk.
    fn look(&mut self) -> usize {
        self.maker.look();
        self.on_disk().len()
    }

    fn kept(&self) -> Option<(Position, Position)> {
        self.maker.engine.snapshots.kept().map(|kept| (kept.oldest, kept.newest))
    }

    /// Restores the state elsewhere, from the newest whole snapshot and the journal behind it.
    fn restored(&self) -> (Option<Restored>, String) {
        let elsewhere = tempfile::tempdir().unwrap();
        let mut store = Store::open(elsewhere.path(), 8 << 20, Position::MAX).unwrap();
        let files: Arc<dyn Files> = Arc::new(OsFiles);
        let (space, records) = (Space::default(), &self.maker.engine.records);
        let positions = records.first()..=records.end();
        let journal = self.dir.path().join("journal");
        let silent = |_done: u64, _all: u64| ();
        let restored =
            restore_newest(&mut store, (&journal, &files), &positions, (&space, &silent));
        let restored = restored.unwrap();
        recover(&store, records, &space).unwrap();
        (restored, store.dump().unwrap())
    }

    fn dump(&self) -> String {
        self.maker.engine.store.dump().unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.maker.engine.intake.close();
        let committer = self.committer.take().unwrap();
        assert!(committer.join_until(Instant::now() + Duration::from_mins(1)));
    }
}

#[test]
fn a_snapshot_is_taken_when_the_journal_has_grown_and_a_lost_state_comes_back_from_it() {
    let mut fixture = Fixture::new(20 << 10);
    fixture.grow(10);
    assert_eq!((fixture.look(), fixture.kept()), (0, None), "not due yet");
    fixture.grow(10);
    assert_eq!(fixture.look(), 1);
    let position = fixture.on_disk()[0].position;
    assert_eq!(position, fixture.maker.engine.records.end());
    let nothing = Some((Position::FIRST, Position::FIRST));
    assert_eq!(fixture.kept(), nothing, "a single file is no reason to remove anything");
    assert_eq!(fixture.look(), 1, "once");
    fixture.grow(3);
    let (restored, dump) = fixture.restored();
    assert_eq!((restored.unwrap().position, dump), (position, fixture.dump()));
    assert!(fixture.maker.engine.metrics.snapshot_rows.get() > 0);
}

#[test]
fn the_committers_hint_wakes_the_thread() {
    let mut fixture = Fixture::new(20 << 10);
    fixture.maker.look();
    let woken = |fixture: &Fixture| fixture.maker.engine.snapshots.wait(Duration::ZERO);
    fixture.grow(5);
    assert!(!woken(&fixture));
    fixture.grow(20);
    assert!(woken(&fixture) && !woken(&fixture));
}

#[test]
fn an_older_snapshot_stays_until_the_grace_time_after_a_newer_one_and_two_stay_for_ever() {
    let mut fixture = Fixture::new(20 << 10);
    for count in 1..=3 {
        fixture.grow(30);
        assert_eq!(fixture.look(), count);
        fixture.clock.advance_ms(40_000);
    }
    let all = fixture.on_disk();
    // The second one is 80 seconds old, the third 40.
    assert_eq!(fixture.kept(), Some((all[0].position, all[1].position)));
    fixture.clock.advance_ms(20_000);
    assert_eq!((fixture.look(), fixture.on_disk()[0].position), (2, all[1].position));
    fixture.clock.advance_ms(1_000_000_000);
    assert_eq!((fixture.look(), &fixture.on_disk()[0]), (2, &all[1]));
    assert_eq!(fixture.kept(), Some((all[1].position, all[1].position)));
}

#[test]
fn a_request_is_answered_once_the_last_snapshot_is_older_than_the_grace_time() {
    let mut fixture = Fixture::new(1 << 30);
    fixture.grow(1);
    for count in 1..=2 {
        fixture.maker.engine.snapshots.ask();
        assert_eq!(fixture.look(), count, "one, and another that backs it");
    }
    let before = fixture.kept().unwrap();
    fixture.maker.engine.snapshots.ask();
    assert_eq!(fixture.look(), 2, "the last one is young");
    // The request is remembered, and the server is idle.
    fixture.clock.advance_ms(100_000);
    assert_eq!(fixture.look(), 2, "one comes, and one goes");
    assert!(fixture.kept().unwrap().0 > before.0);
}

#[test]
fn a_torn_snapshot_is_never_used_and_never_a_reason_to_delete_a_whole_one() {
    let mut fixture = Fixture::new(20 << 10);
    for count in 1..=2 {
        fixture.grow(30);
        assert_eq!(fixture.look(), count);
    }
    let all = fixture.on_disk();
    let bytes = std::fs::read(&all[1].path).unwrap();
    let tear = |file: &SnapshotFile, bytes: &[u8]| std::fs::write(&file.path, bytes).unwrap();
    // Torn at its end, and with a wrong byte in the middle.
    let mut rotten = bytes.clone();
    rotten[bytes.len() / 2] ^= 1;
    for damaged in [&bytes[..bytes.len() - 9], rotten.as_slice()] {
        tear(&all[1], damaged);
        fixture.clock.advance_ms(1_000_000);
        // As after a restart: nothing is known of the files.
        fixture.maker.known.clear();
        fixture.maker.limits.bytes = 1 << 30;
        assert_eq!(fixture.look(), 2);
        assert_eq!(fixture.kept(), Some((Position::FIRST, Position::FIRST)));
        let (restored, dump) = fixture.restored();
        assert_eq!((restored.unwrap().position, dump), (all[0].position, fixture.dump()));
    }
    // A new one takes its place as soon as the journal has moved.
    fixture.grow(1);
    assert_eq!(fixture.look(), 3);
    fixture.clock.advance_ms(1_000_000);
    assert_eq!(fixture.look(), 3, "a single whole one is no reason to delete an older one");
    fixture.maker.engine.snapshots.ask();
    assert_eq!(fixture.look(), 2, "the torn one goes with the old one");
    let (restored, dump) = fixture.restored();
    assert_eq!((restored.unwrap().position, dump), (fixture.on_disk()[1].position, fixture.dump()));
}

#[test]
fn a_damaged_file_ahead_of_the_state_is_deleted_and_keeps_no_snapshot_from_being_taken() {
    let mut fixture = Fixture::new(20 << 10);
    fixture.grow(30);
    let journal = fixture.dir.path().join("journal");
    let ahead = journal.join("00001000000000000000.snap");
    std::fs::write(&ahead, [7; 700]).unwrap();
    assert_eq!(fixture.look(), 1);
    assert!(!ahead.exists() && fixture.maker.engine.metrics.snapshot_failures.get() == 1);
    assert_eq!(fixture.restored().1, fixture.dump());
}

#[test]
fn without_room_in_sled_a_snapshot_that_is_asked_for_is_taken_and_one_of_growth_waits() {
    let mut fixture = Fixture::new(20 << 10);
    fixture.maker.engine.store.write_back().unwrap();
    fixture.grow(30);
    let fresh = fixture.maker.engine.store.fresh_rows();
    fixture.free.store(8 * MIB + 1, Ordering::SeqCst);
    assert!(fixture.maker.engine.space.is_short_for(fixture.maker.engine.store.fresh()));
    assert_eq!(fixture.look(), 0, "the disk is short, and nothing waits for a snapshot");
    fixture.maker.engine.snapshots.ask();
    assert_eq!(fixture.look(), 1, "the pause of the other one does not count");
    let (restored, dump) = fixture.restored();
    assert_eq!((restored.is_some(), dump), (true, fixture.dump()));
    assert_eq!(fixture.maker.engine.store.fresh_rows(), fresh, "nothing is written to sled");
    // A snapshot needs room for itself.
    fixture.clock.advance_ms(100_000);
    fixture.maker.engine.snapshots.ask();
    assert_eq!(fixture.look(), 1);
}

#[test]
fn a_snapshot_that_somebody_removed_is_taken_again() {
    let mut fixture = Fixture::new(20 << 10);
    fixture.grow(30);
    assert_eq!(fixture.look(), 1);
    std::fs::remove_file(&fixture.on_disk()[0].path).unwrap();
    assert_eq!(fixture.look(), 1);
}

#[test]
fn a_snapshot_that_finds_no_space_leaves_no_file_behind_and_is_taken_later() {
    let mut fixture = Fixture::new(20 << 10);
    fixture.grow(30);
    let journal = fixture.dir.path().join("journal");
    let files = || std::fs::read_dir(&journal).unwrap().count();
    let (before, broken) = (files(), Arc::new(FaultyFiles::new()));
    fixture.maker.files = Arc::<FaultyFiles>::clone(&broken);
    let mut tries = 0;
    for n in 1.. {
        broken.fail_at(n, Fault::NoSpace);
        if fixture.look() == 1 {
            break;
        }
        assert_eq!(files(), before, "operation {n}");
        if fixture.maker.retry_at.is_some() {
            tries += 1;
            assert_eq!(fixture.look(), 0, "the next try comes later");
            // As if the pause were over.
            fixture.maker.retry_at = None;
        }
    }
    assert!(tries > 3, "{tries}");
    assert_eq!(fixture.maker.engine.metrics.snapshot_failures.get(), tries);
    let (restored, dump) = fixture.restored();
    assert_eq!((restored.is_some(), dump), (true, fixture.dump()));
}

#[test]
fn a_stop_takes_a_snapshot_only_after_a_quarter_of_what_makes_one_due() {
    for (kib, snapshots) in [(2, 0), (30, 1)] {
        let mut fixture = Fixture::new(100 << 10);
        fixture.grow(kib);
        assert_eq!(fixture.look(), 0);
        fixture.maker.engine.stop.set();
        let (engine, limits) = (Arc::clone(&fixture.maker.engine), fixture.maker.limits);
        let (journal, files) = (fixture.dir.path().join("journal"), Arc::new(OsFiles));
        SnapshotMaker::new(engine, (journal, files), limits).run();
        assert_eq!(fixture.on_disk().len(), snapshots, "{kib}");
    }
}

#[test]
fn a_clock_that_is_set_neither_ends_nor_prolongs_the_grace() {
    let mut fixture = Fixture::new(20 << 10);
    for count in 1..=2 {
        fixture.grow(30);
        assert_eq!(fixture.look(), count);
    }
    let (clock, hour) = (fixture.clock.clone(), 3_600_000);
    clock.set_ms(clock.now_ms() + hour);
    assert_eq!(fixture.look(), 2, "no time has passed");
    clock.set_ms(clock.now_ms() - hour);
    // As after a restart, with snapshots of the future.
    fixture.maker.known.clear();
    clock.set_ms(clock.now_ms() - 900_000);
    assert_eq!(fixture.look(), 2);
    clock.advance_ms(100_000);
    fixture.grow(1);
    fixture.maker.engine.snapshots.ask();
    assert_eq!(fixture.look(), 2, "one is taken, and one goes");
    assert_eq!(fixture.on_disk()[1].position, fixture.maker.engine.records.end());
}

#[test]
fn a_snapshot_is_read_back_before_it_is_a_reason_to_remove_anything() {
    let mut fixture = Fixture::new(20 << 10);
    fixture.grow(30);
    assert_eq!(fixture.look(), 1);
    fixture.grow(30);
    // The disk does not keep what was written.
    let rot = |fixture: &Fixture| {
        let file = fixture.on_disk().pop().unwrap();
        let mut bytes = std::fs::read(&file.path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file.path, bytes).unwrap();
    };
    let engine = Arc::clone(&fixture.maker.engine);
    fixture.maker.take(&|| if engine.stop.is_set() { Err(STOPS) } else { Ok(()) });
    rot(&fixture);
    fixture.clock.advance_ms(1_000_000);
    assert_eq!(fixture.look(), 2, "the older one stays");
    assert_eq!(fixture.kept(), Some((Position::FIRST, Position::FIRST)));
    fixture.grow(1);
    assert_eq!(fixture.look(), 3, "another is taken in its place");
    assert_eq!(fixture.kept().unwrap().0, fixture.on_disk()[0].position);
}

#[test]
fn snapshots_that_take_much_space_come_a_quarter_of_the_grace_apart() {
    let mut fixture = Fixture::new(20 << 10);
    fixture.maker.limits.piled_up = 1;
    fixture.grow(30);
    assert_eq!(fixture.look(), 1);
    fixture.grow(30);
    assert_eq!(fixture.look(), 1, "too soon");
    fixture.clock.advance_ms(24_999);
    assert_eq!(fixture.look(), 1);
    fixture.clock.advance_ms(1);
    assert_eq!(fixture.look(), 2);
}
