//! Tests of the removal of the journal's beginning, and of disks and segments with faults.

use super::*;

#[test]
fn segments_at_the_beginning_are_removed_after_their_end_is_witnessed() {
    let mut world = World::new(NOW);
    world.fill_unneeded(4);
    let event = world.event("\"kept\"");
    let kept = world.segments().last().unwrap().first;
    world.fill_unneeded(1);
    world.snapshot();
    // A crash between the witness and the removal.
    world.compactor.settings.grace = HOUR;
    world.compact();
    let witnessed = world.data_dir.format_file().first();
    assert_eq!(Position(witnessed), kept);
    let world = world.reopen(HOUR);
    assert_eq!(world.data_dir.format_file().first(), witnessed);
    let mut world = world.reopen(NOW);
    world.compactor.remove(&mut world.work);
    // The FORMAT of a copy may be younger than its state.
    assert_eq!(world.reader.first(), Position::FIRST, "a witness without a plan removes nothing");
    world.snapshot();
    world.compact();
    assert_eq!(world.reader.first(), kept);
    assert!(world.compactor.engine.metrics.compaction_segments_removed.get() >= 4);
    let before = world.shown(&[event]);
    let mut world = world.reopen(NOW);
    assert_eq!((world.shown(&[event]), world.reader.first()), (before, kept));
    let scan = JournalScan::open(&world.data_dir.journal()).unwrap();
    assert_eq!(scan.missing_beginning(kept), None);
    assert!(scan.missing_beginning(Position::FIRST).is_some());
    world.stop();
}

#[test]
fn a_journal_of_which_nothing_was_removed_needs_no_snapshot() {
    let mut world = World::new(NOW);
    for _ in 0..100 {
        world.event(&format!("\"{}\"", "x".repeat(2_000)));
    }
    assert!(world.segments().len() > 3);
    world.compact();
    assert!(!world.compactor.engine.snapshots.is_asked());
}

#[test]
fn a_disk_without_room_is_noted_once_until_it_has_room_again() {
    let mut work = Work::new(0);
    let noted = [true, false, false, true, false].map(|has_room| work.notes_no_room(has_room));
    assert_eq!(noted, [false, true, false, false, true]);
}

#[test]
fn a_damaged_segment_is_left_alone_and_the_others_are_compacted() {
    let mut world = World::new(NOW);
    filled(&world);
    let damaged = world.segments()[1];
    let name = format!("{:020}.seg", damaged.first.0);
    let path: PathBuf = world.data_dir.journal().join(name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[3_000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    world.snapshot();
    world.compact();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert!(world.reader.is_damaged());
    assert_eq!(world.found("canary-0003"), 0);
    assert!(world.compactor.engine.metrics.compaction_failures.get() > 0);
}

#[test]
fn a_clock_that_is_set_forward_does_not_end_the_grace() {
    let mut world = World::new(HOUR);
    world.fill_unneeded(3);
    filled(&world);
    world.snapshot();
    world.compact();
    let clock = world.compactor.engine.clock.clone();
    clock.set_ms(clock.now_ms() + 7_200_000);
    world.compact();
    assert_eq!((world.found("canary-0003"), world.compactor.journal.first()), (1, Position::FIRST));
    clock.advance_ms(3_600_000);
    world.compact();
    assert_eq!(world.found("canary-0003"), 0);
    assert!(world.compactor.journal.first() > Position::FIRST);
}

#[test]
fn a_full_disk_delays_the_compaction_of_a_segment_and_does_not_end_it() {
    let files = Arc::new(FaultyFiles::new());
    let mut world = World::on(HOUR, Arc::<FaultyFiles>::clone(&files));
    filled(&world);
    world.snapshot();
    world.compact();
    let clock = world.compactor.engine.clock.clone();
    clock.advance_ms(3_600_000);
    files.fail_at(1, Fault::NoSpace);
    let failures = |world: &World| world.compactor.engine.metrics.compaction_failures.get();
    let before = failures(&world);
    world.compact();
    assert_eq!((failures(&world) - before, world.found("canary-0003")), (1, 1), "no haste");
    clock.advance_ms(60_000);
    world.compact();
    assert_eq!((failures(&world) - before, world.found("canary-0003")), (1, 0));
}

#[test]
fn few_large_records_are_in_memory_at_once() {
    let mut world = World::new(NOW);
    for _ in 0..5 {
        world.event(&format!("\"{}\"", "x".repeat(400_000)));
    }
    let (store, mut most) = (&world.compactor.engine.store, 0);
    for segment in world.segments() {
        let mut reading = Reading::new(store, &segment);
        let mut add = |piece: Piece<'_>| {
            reading.add(piece).unwrap();
            most = most.max(reading.records.len());
            true
        };
        world.compactor.journal.read(segment.first, &mut add, &mut |_| true).unwrap();
    }
    assert!(most <= 4, "{most}");
    world.stop();
}
