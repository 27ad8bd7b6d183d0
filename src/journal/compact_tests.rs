//! Tests of compaction: every kept record stays where it was, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::*;
use crate::journal::faults::{Fault, FaultyFiles, Unsynced};
use crate::journal::tests::{
    Written, append, body, open_faulty, open_quick, open_small, segment_files,
};
use crate::journal::{JournalScan, ReadError, ReadLog as _, Watch, open};

#[path = "compact_beside_tests.rs"]
mod beside;

/// The decision of the tests: of each four records the first stays, the second is cut to its first
/// bytes, and two go.
fn decision_of(number: usize, body: &[u8]) -> Decision {
    match number % 4 {
        0 => Decision::Keep,
        1 => Decision::Cut(body[..body.len() / 3].to_vec()),
        _ => Decision::Remove,
    }
}

/// Creates a journal of several segments. The bodies have every length around a frame's header.
fn written(dir: &Path, groups: usize) -> Vec<Written> {
    let (mut writer, _, _) = open_small(dir).unwrap();
    let bodies = |n: usize| [body(n, n % 61), body(n + 1_000, 40 + 7 * (n % 50))];
    (0..groups).flat_map(|n| append(&mut writer, &bodies(n)).unwrap()).collect()
}

fn numbers(written: &[Written]) -> BTreeMap<Position, usize> {
    written.iter().map(|(position, _)| *position).zip(0..).collect()
}

/// Punches a segment as [`decision_of`] decides.
fn punch(
    journal: &Compaction,
    first: Position,
    numbers: &BTreeMap<Position, usize>,
) -> Result<Option<Punched>, JournalError> {
    let mut judge =
        |record: &RawRecord<'_>| Ok(decision_of(numbers[&record.position], &record.body));
    journal.punch(first, &mut judge, &mut |_| true)
}

fn sealed(journal: &Compaction) -> Vec<SegmentSize> {
    let mut segments = journal.segments().unwrap();
    segments.pop();
    segments
}

/// Asserts that each record is as it was written, or as decided, and returns the number of
/// the latter. `is_punched` tells which segments must be.
fn assert_kept(reader: &Reader, written: &[Written], is_punched: &dyn Fn(Position) -> bool) {
    let first = reader.first();
    for (number, (position, body)) in written.iter().enumerate() {
        let read = reader.read(*position);
        if *position < first {
            assert!(matches!(read, Err(ReadError::Removed(_))), "{position}: {read:?}");
            continue;
        }
        let expected =
            if is_punched(*position) { decision_of(number, body) } else { Decision::Keep };
        match (expected, read) {
            (Decision::Keep, Ok(record)) => assert_eq!(*record.body, **body, "{position}"),
            (Decision::Cut(cut), Ok(record)) => assert_eq!(*record.body, *cut, "{position}"),
            (Decision::Remove, Err(ReadError::Removed(_))) => {}
            (expected, read) => panic!("{position}: {expected:?}, but {read:?}"),
        }
    }
}

/// Returns the segments that were written again.
fn new_segments(
    reader: &Reader,
    written: &[Written],
    segments: &[SegmentSize],
) -> Vec<SegmentSize> {
    let is_new = |segment: &&SegmentSize| {
        let mut records = written.iter().enumerate();
        let removed = records.find(|(number, (position, _))| {
            number % 4 == 2 && *position >= segment.first && *position < segment.end
        });
        let (_, (position, _)) = removed.unwrap();
        matches!(reader.read(*position), Err(ReadError::Removed(_)))
    };
    segments.iter().filter(is_new).copied().collect()
}

fn is_in(segments: &[SegmentSize], position: Position) -> bool {
    segments.iter().any(|segment| segment.first <= position && position < segment.end)
}

#[test]
fn what_is_kept_stays_where_it_was_and_the_rest_takes_no_space() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 150);
    let (mut writer, reader, _) = open_small(dir.path()).unwrap();
    let (journal, numbers) = (Compaction::new(&reader), numbers(&written));
    let segments = sealed(&journal);
    assert!(segments.len() > 6, "{segments:?}");
    // Again: what is a hole or cut already stays so.
    for _ in 0..2 {
        for segment in &segments {
            let mut judge = |record: &RawRecord<'_>| {
                let (_, body) = &written[numbers[&record.position]];
                Ok(decision_of(numbers[&record.position], body))
            };
            journal.punch(segment.first, &mut judge, &mut |_| true).unwrap().unwrap();
        }
        let is_sealed = |position| position < segments.last().unwrap().end;
        assert_kept(&reader, &written, &is_sealed);
    }
    append(&mut writer, &[body(1, 10)]).unwrap();
    drop(writer);
    let lens: Vec<_> =
        segment_files(dir.path()).iter().map(|file| fs::metadata(file).unwrap().len()).collect();
    assert!(lens.iter().all(|len| *len == 64 + 4096), "lengths stay: {lens:?}");
    let scan = JournalScan::open(dir.path()).unwrap();
    let found: Vec<_> =
        (0..scan.len()).map(|number| scan.look(number, &mut |_| Ok(())).unwrap()).collect();
    assert!(found.iter().all(|found| found.damages.is_empty() && found.holes.is_empty()));
    assert!(found[0].compacted.is_some() && found[0].compacted_bytes > 100);
    let (_, reader, report) = open_small(dir.path()).unwrap();
    assert!(!report.is_copy && report.cut.is_none(), "{report:?}");
    assert_kept(&reader, &written, &|position| position < segments.last().unwrap().end);
}

#[test]
fn a_follower_refuses_to_go_on_over_what_was_removed_or_cut() {
    for (decision, place) in [(Decision::Remove, 3), (Decision::Cut(Vec::new()), 4)] {
        let dir = tempfile::tempdir().unwrap();
        let written = written(dir.path(), 60);
        let (_, reader, _) = open_small(dir.path()).unwrap();
        let (journal, at) = (Compaction::new(&reader), written[place].0);
        let mut judge = |record: &RawRecord<'_>| {
            Ok(if record.position == at { decision.clone() } else { Decision::Keep })
        };
        journal.punch(Position::FIRST, &mut judge, &mut |_| true).unwrap().unwrap();
        let mut follower = reader.follow(Position::FIRST).unwrap();
        for (position, _) in &written[..place] {
            assert_eq!(follower.next().unwrap().unwrap().position, *position);
        }
        let refused = follower.next().unwrap().map(|record| record.position);
        assert!(matches!(refused, Err(ReadError::Removed(position)) if position == at));
        assert!(follower.next().is_none() && !reader.is_damaged());
        assert!(reader.follow(written[place + 1].0).unwrap().next().unwrap().is_ok());
    }
}

#[test]
fn a_segment_without_needed_records_takes_a_block() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, reader, _) =
        open(dir.path(), Arc::new(crate::journal::OsFiles), 40 << 20).unwrap();
    for n in 0..6 {
        append(&mut writer, &[body(n, 7 << 20)]).unwrap();
    }
    let journal = Compaction::new(&reader);
    let segment = sealed(&journal)[0];
    assert!(segment.allocated > 30 << 20);
    let punched = journal
        .punch(segment.first, &mut |_| Ok(Decision::Remove), &mut |_| true)
        .unwrap()
        .unwrap();
    // Three headers of holes, since the longest hole has 16 MiB.
    assert!(punched.after <= 64 << 10, "{punched:?}");
    assert_eq!(sealed(&journal)[0].allocated, punched.after);
    let mut pieces = Vec::new();
    let mut look = |piece: Piece<'_>| {
        pieces.push((piece.from, piece.to, piece.record.is_none()));
        true
    };
    assert!(journal.read(segment.first, &mut look, &mut |_| true).unwrap());
    assert!(pieces.len() == 3 && pieces.iter().all(|(_, _, is_hole)| *is_hole), "{pieces:?}");
    assert_eq!((pieces[0].0, pieces[2].1), (segment.first, segment.end));
}

#[test]
fn work_that_is_given_up_or_refused_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 100);
    let (_, reader, _) = open(dir.path(), Arc::new(crate::journal::OsFiles), 4096).unwrap();
    let journal = Compaction::new(&reader);
    let files = segment_files(dir.path());
    let before: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let first = Position::FIRST;
    let longer = |record: &RawRecord<'_>| Ok(Decision::Cut(vec![7; record.body.len() + 1]));
    assert!(journal.punch(first, &mut { longer }, &mut |_| true).is_err());
    assert!(journal.punch(first, &mut |_| Err("unknown".to_owned()), &mut |_| true).is_err());
    assert!(reader.is_damaged());
    // Neither a position within a segment nor the last segment can be punched.
    for none in [Position(2), journal.segments().unwrap().last().unwrap().first] {
        let nothing = journal.punch(none, &mut |_| Ok(Decision::Remove), &mut |_| true);
        assert_eq!(nothing.unwrap(), None);
    }
    assert_eq!(segment_files(dir.path()), files, "no draft is left");
    assert!(files.iter().zip(before).all(|(file, before)| fs::read(file).unwrap() == before));
    assert_kept(&reader, &written, &|_| false);
}

/// Compacts everything, with a fault at operation `n`. Returns true if the fault has not occurred.
fn compact_with_fault(dir: &Path, n: u64, fault: Fault, written: &[Written]) -> bool {
    let files = Arc::new(FaultyFiles::new());
    let (_writer, reader, _) = open_faulty(dir, &files).unwrap();
    let journal = Compaction::new(&reader);
    let segments = sealed(&journal);
    files.fail_at(n, fault);
    let compacted = compact(&journal, &segments, written);
    let is_armed = files.is_armed();
    files.fail_at(u64::MAX / 2, fault);
    if !is_armed {
        assert!(compacted.is_err(), "{fault:?} at operation {n} was not told");
        let is_draft = |path: &PathBuf| path.extension().is_some_and(|end| end == "new");
        assert!(!segment_files(dir).iter().any(is_draft), "{fault:?} at operation {n}");
    }
    let punched = new_segments(&reader, written, &segments);
    let is_punched = |position| is_in(&punched, position);
    assert_kept(&reader, written, &is_punched);
    is_armed
}

/// Removes the first two segments, and punches the others.
fn compact(
    journal: &Compaction,
    segments: &[SegmentSize],
    written: &[Written],
) -> Result<(), JournalError> {
    journal.clear_drafts()?;
    let numbers = numbers(written);
    for segment in &segments[2..] {
        punch(journal, segment.first, &numbers)?;
    }
    journal.remove_before(segments[1].end).map(drop)
}

/// Opens the journal after an accident. Every kept record must be there, and compaction goes on.
fn assert_goes_on(dir: &Path, written: &[Written], said: &str) {
    let (_, reader, report) = open_quick(dir).unwrap_or_else(|error| panic!("{said}: {error}"));
    let journal = Compaction::new(&reader);
    let segments = sealed(&journal);
    let third = written_segments(written)[2];
    assert!(report.first <= third, "{said}: {report:?}");
    let punched = new_segments(&reader, written, &segments);
    let is_punched = |position| is_in(&punched, position);
    assert_kept(&reader, written, &is_punched);
    journal.clear_drafts().unwrap();
    let named = segment_files(dir);
    assert_eq!(named.len(), segments.len() + 1, "{said}: {named:?}");
    for segment in &segments {
        let mut judge = |record: &RawRecord<'_>| Ok(fate_again(written, record));
        journal.punch(segment.first, &mut judge, &mut |_| true).unwrap();
    }
    journal.remove_before(third).unwrap();
    assert_eq!(reader.first(), third, "{said}");
    assert_kept(&reader, written, &|position| position < segments.last().unwrap().end);
}

fn fate_again(written: &[Written], record: &RawRecord<'_>) -> Decision {
    let number = written.iter().position(|(position, _)| *position == record.position).unwrap();
    decision_of(number, &written[number].1)
}

/// Returns the first positions of the segments.
fn written_segments(written: &[Written]) -> Vec<Position> {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, reader, _) = open_quick(dir.path()).unwrap();
    for pair in written.chunks(2) {
        let bodies: Vec<_> = pair.iter().map(|(_, body)| body.clone()).collect();
        append(&mut writer, &bodies).unwrap();
    }
    reader.segments().into_iter().map(|segment| segment.first).collect()
}

fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in segment_files(dir) {
        fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    copy
}

#[test]
fn any_single_failed_operation_leaves_each_segment_as_it_was_or_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 60);
    for fault in [Fault::Io, Fault::NoSpace, Fault::ShortWrite] {
        for n in 1.. {
            let copy = copy_of(dir.path());
            // A copy has no original headers; the next start makes it an original again.
            let is_armed = compact_with_fault(copy.path(), n, fault, &written);
            let said = format!("{fault:?} at operation {n}");
            // A copy of this moment goes on too.
            assert_goes_on(copy_of(copy.path()).path(), &written, &said);
            assert_goes_on(copy.path(), &written, &said);
            if is_armed {
                assert!(n > 30, "{n} operations");
                break;
            }
        }
    }
}

/// Cuts the power at operation `n`. Returns true if the operations came to their end before.
fn cut_power_at(
    dir: &Path,
    n: u64,
    unsynced: Unsynced,
    skip_syncs: bool,
    written: &[Written],
) -> bool {
    let files = Arc::new(FaultyFiles::new());
    let (writer, reader, _) = open_faulty(dir, &files).unwrap();
    let journal = Compaction::new(&reader);
    let segments = sealed(&journal);
    files.skip_syncs(skip_syncs);
    files.fail_at(n, Fault::ShortWrite);
    drop(compact(&journal, &segments, written));
    drop((writer, reader));
    files.cut_power(unsynced).unwrap();
    files.is_armed()
}

#[test]
fn a_power_cut_at_any_operation_leaves_each_segment_as_it_was_or_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 60);
    for unsynced in [Unsynced::Lost, Unsynced::SomePages(1), Unsynced::SomePages(2)] {
        for n in 1.. {
            let copy = copy_of(dir.path());
            let is_over = cut_power_at(copy.path(), n, unsynced, false, &written);
            assert_goes_on(copy.path(), &written, &format!("{unsynced:?} at operation {n}"));
            if is_over {
                break;
            }
        }
    }
}

#[test]
fn a_segment_that_takes_its_name_before_it_is_synced_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 60);
    let copy = copy_of(dir.path());
    assert!(cut_power_at(copy.path(), u64::MAX / 2, Unsynced::SomePages(3), true, &written));
    let opened = open_small(copy.path());
    let is_whole = opened.is_ok_and(|(_, reader, _)| {
        let (mut kept, first) = (written.iter().zip(0..), reader.first());
        kept.all(|((position, _), n)| {
            n % 4 != 0 || *position < first || reader.read(*position).is_ok()
        })
    });
    assert!(!is_whole, "the control: without syncs something is lost");
}

#[test]
fn each_changed_byte_of_a_compacted_segment_is_damage_or_in_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 40);
    let (_, reader, _) = open_small(dir.path()).unwrap();
    let segment = sealed(&Compaction::new(&reader))[0];
    punch(&Compaction::new(&reader), segment.first, &numbers(&written)).unwrap();
    drop(reader);
    let file = &segment_files(dir.path())[0];
    let whole = fs::read(file).unwrap();
    let (mut damages, mut harmless) = (0, 0);
    // Headers begin anywhere, so these are all their bytes.
    for at in (64..usize::try_from(64 + segment.end.since(segment.first)).unwrap()).step_by(31) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(file, &bytes).unwrap();
        let scan = JournalScan::open(dir.path()).unwrap();
        let found = scan.look(0, &mut |_| Ok(())).unwrap();
        if found.damages.is_empty() {
            harmless += 1;
            assert_kept(&scan.reader(segment.end), &of(&written, &segment), &|_| true);
        } else {
            damages += 1;
        }
    }
    assert!(damages > 35 && harmless > 18, "{damages} damages, {harmless} harmless");
}

fn of(written: &[Written], segment: &SegmentSize) -> Vec<Written> {
    written.iter().filter(|(position, _)| *position < segment.end).cloned().collect()
}

#[test]
fn a_damaged_segment_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 60);
    let file = segment_files(dir.path())[1].clone();
    let mut bytes = fs::read(&file).unwrap();
    bytes[700] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let (_, reader, _) = open_small(dir.path()).unwrap();
    let journal = Compaction::new(&reader);
    let segment = sealed(&journal)[1];
    let read = journal.read(segment.first, &mut |_| true, &mut |_| true);
    assert!(matches!(read, Err(JournalError::Damage(_))) && reader.is_damaged());
    let punched = punch(&journal, segment.first, &numbers(&written));
    assert!(matches!(punched, Err(JournalError::Damage(_))));
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

/// Sets the flag when it is dropped, also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}
