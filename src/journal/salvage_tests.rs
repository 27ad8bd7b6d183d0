//! Tests of scanning and salvaging a damaged journal: every undamaged frame is found and keeps its
//! position.

use std::fs;
use std::path::Path;

use super::*;
use crate::journal::tests::{Written, all, append, body, open_small, segment_files};
use crate::journal::{CutCause, JournalScan, OsFiles, ReadLog as _};

const SHAPES: [usize; 7] = [300, 20, 1, 900, 64, 0, 2_000];

/// Creates a journal of several segments with groups of two frames.
fn written(dir: &Path, groups: usize) -> Vec<Written> {
    let (mut writer, _, _) = open_small(dir).unwrap();
    let bodies = |n: usize| [body(n, SHAPES[n % SHAPES.len()]), body(n + 1_000, 40)];
    (0..groups).flat_map(|n| append(&mut writer, &bodies(n)).unwrap()).collect()
}

fn look(dir: &Path) -> (Option<Lost>, Vec<SegmentFound>) {
    let scan = JournalScan::open(dir).unwrap();
    let found = (0..scan.len()).map(|number| scan.look(number, &mut |_| Ok(())).unwrap());
    (scan.missing_beginning(Position::FIRST), found.collect())
}

fn losses(dir: &Path) -> Vec<Lost> {
    let (beginning, found) = look(dir);
    beginning.into_iter().chain(found.into_iter().flat_map(|found| found.damages)).collect()
}

/// Salvages, and returns the frames that the journal shows afterwards.
fn salvage(dir: &Path, notes: &[RawRecord<'_>]) -> Vec<Written> {
    let (beginning, found) = look(dir);
    let aside = dir.join("aside");
    Salvage { dir, files: Arc::new(OsFiles), aside: &aside, notes }
        .run(beginning.as_ref(), &found)
        .unwrap();
    assert_eq!(losses(dir), [], "nothing is damaged any more");
    let (_, reader, report) = open_small(dir).unwrap();
    assert_eq!(report.first, Position::FIRST);
    all(&reader).unwrap()
}

fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in segment_files(dir) {
        fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    copy
}

/// Asserts that every frame outside the lost ranges is there, and no frame inside.
fn assert_kept(written: &[Written], kept: &[Written], lost: &[Lost]) {
    let is_lost =
        |position: Position| lost.iter().any(|lost| lost.from <= position && position < lost.to);
    let expected: Vec<_> =
        written.iter().filter(|(position, _)| !is_lost(*position)).cloned().collect();
    assert_eq!(kept, expected);
}

#[test]
fn every_changed_byte_of_a_sealed_segment_costs_one_frame_at_most_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 8);
    let original = &segment_files(dir.path())[0];
    let bytes = fs::read(original).unwrap();
    let mut seen = 0;
    for offset in (0..bytes.len()).step_by(7).filter(|offset| !(24..60).contains(offset)) {
        let copy = copy_of(dir.path());
        let file = copy.path().join(original.file_name().unwrap());
        let mut changed = bytes.clone();
        changed[offset] ^= 0x10;
        fs::write(&file, changed).unwrap();
        let lost = losses(copy.path());
        assert_eq!(lost.len(), 1, "offset {offset}: {lost:?}");
        let Lost { damage, bytes, .. } = &lost[0];
        let place = u64::try_from(offset).unwrap();
        assert!(
            damage.file == file && damage.offset <= place && place < damage.offset + bytes,
            "{offset}: {lost:?}"
        );
        let kept = salvage(copy.path(), &[]);
        assert!(written.len() - kept.len() <= 1, "offset {offset}: {lost:?}");
        assert_kept(&written, &kept, &lost);
        seen += 1;
    }
    assert!(seen > 400);
}

#[test]
fn damage_across_frames_costs_those_it_touches_and_the_old_file_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 12);
    let file = segment_files(dir.path())[0].clone();
    let mut bytes = fs::read(&file).unwrap();
    bytes[500..1_500].fill(0xa5);
    fs::write(&file, &bytes).unwrap();
    // The leftover of a killed salvage does no harm.
    fs::write(new_file::draft_of(&file), b"half").unwrap();
    let lost = losses(dir.path());
    assert_eq!(lost.len(), 1);
    assert!(lost[0].damage.offset <= 500 && lost[0].records_max() > 0);
    let kept = salvage(dir.path(), &[]);
    assert_kept(&written, &kept, &lost);
    assert!(kept.len() < written.len() && kept.len() > 12);
    assert_eq!(fs::read(dir.path().join("aside").join(file.file_name().unwrap())).unwrap(), bytes);
    let (_, found) = look(dir.path());
    assert_eq!(found[0].holes, [(lost[0].from, lost[0].to)], "told as given up before");
}

#[test]
fn a_missing_segment_a_short_one_and_a_lost_header_are_bridged() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 24);
    let files = segment_files(dir.path());
    assert!(files.len() > 3, "{files:?}");
    for case in 0..5 {
        let copy = copy_of(dir.path());
        let file = |n: usize| copy.path().join(files[n].file_name().unwrap());
        match case {
            0 => fs::remove_file(file(0)).unwrap(),
            1 => fs::remove_file(file(1)).unwrap(),
            2 => fs::write(file(1), &fs::read(file(1)).unwrap()[..700]).unwrap(),
            3 => {
                fs::write(file(1), [&[0; 64], &fs::read(file(1)).unwrap()[64..]].concat()).unwrap();
            }
            _ => fs::write(file(1), [&fs::read(file(1)).unwrap(), b"more".as_slice()].concat())
                .unwrap(),
        }
        let lost = losses(copy.path());
        assert_eq!(lost.len(), 1, "case {case}: {lost:?}");
        assert!(open_small(copy.path()).is_err() || case == 0, "the server does not start on it");
        assert_kept(&written, &salvage(copy.path(), &[]), &lost);
        assert_eq!(lost[0].to > lost[0].from, case < 3);
    }
}

#[test]
fn the_last_segment_is_judged_as_at_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 13);
    let file = segment_files(dir.path()).pop().unwrap();
    let first = segment::first_from_path(&file).unwrap();
    let whole = fs::read(&file).unwrap();
    let inside = |n: usize| usize::try_from(written[n].0.since(first)).unwrap() + 64 + 19;
    // No group follows the last frame's group: it is torn and cut, and not damaged.
    let mut bytes = whole.clone();
    bytes[inside(written.len() - 1)] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let (_, found) = look(dir.path());
    let torn = found.last().unwrap();
    assert_eq!(torn.tail.as_ref().map(|tail| tail.cause), Some(CutCause::TornGroup));
    assert_eq!((torn.damages.as_slice(), torn.end), ([].as_slice(), written[written.len() - 1].0));
    // A frame with a later group behind it was whole once: it is damaged.
    bytes = whole;
    bytes[inside(written.len() - 3)] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let lost = losses(dir.path());
    assert_eq!(lost.len(), 1);
    let kept = salvage(dir.path(), &[]);
    assert_kept(&written, &kept, &lost);
    // Appending after the hole works.
    let (mut writer, reader, _) = open_small(dir.path()).unwrap();
    let more = append(&mut writer, &[body(7, 70)]).unwrap();
    assert_eq!(all(&reader).unwrap(), [kept, more].concat());
    assert!(matches!(reader.read(lost[0].from), Err(crate::journal::ReadError::Removed(_))));
}

#[test]
fn a_last_segment_that_is_cut_off_keeps_its_whole_frames() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 13);
    let file = segment_files(dir.path()).pop().unwrap();
    let first = segment::first_from_path(&file).unwrap();
    let whole = fs::read(&file).unwrap();
    let lengths = [0, 63].into_iter().chain((64..whole.len()).step_by(37)).chain([whole.len() - 1]);
    for len in lengths {
        let copy = copy_of(dir.path());
        let short = copy.path().join(file.file_name().unwrap());
        fs::write(&short, &whole[..len]).unwrap();
        let lost = losses(copy.path());
        let Lost { damage, from, to, is_open, .. } = &lost[0];
        assert_eq!((lost.len(), &damage.file, *is_open), (1, &short, len < 64), "{len}: {lost:?}");
        // The lost range reaches to the end of the original file, or is unknown.
        let end = first.plus(whole.len() as u64 - 64);
        assert!(*is_open || *to == end || to == from && end.since(*to) < 18, "{len}: {lost:?}");
        let kept = salvage(copy.path(), &[]);
        let has_all = |frame: &Written| {
            let end = frame.0.since(first) + (64 + 18 + frame.1.len()) as u64;
            frame.0 < first || end <= len as u64
        };
        let expected: Vec<_> = written.iter().filter(|frame| has_all(frame)).cloned().collect();
        assert_eq!(kept, expected, "{len}");
    }
}

#[test]
fn a_frame_that_its_reader_refuses_is_lost_like_a_damaged_one_and_a_note_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 6);
    let refused = written[6].0;
    let scan = JournalScan::open(dir.path()).unwrap();
    let mut judge = |frame: &RawRecord<'_>| {
        if frame.position == refused { Err("not a command".to_owned()) } else { Ok(()) }
    };
    let found: Vec<_> =
        (0..scan.len()).map(|number| scan.look(number, &mut judge).unwrap()).collect();
    let note = RawRecord { position: refused, kind: 9, version: 1, body: b"two".into() };
    let aside = dir.path().join("aside");
    Salvage {
        dir: dir.path(),
        files: Arc::new(OsFiles),
        aside: &aside,
        notes: std::slice::from_ref(&note),
    }
    .run(None, &found)
    .unwrap();
    let (_, reader, _) = open_small(dir.path()).unwrap();
    let mut expected = written.clone();
    expected[6].1 = note.body.to_vec();
    assert_eq!(all(&reader).unwrap(), expected);
    assert_eq!(reader.read(refused).unwrap().kind, 9);
    // A note that does not fit is refused before anything is written.
    let note = RawRecord { body: vec![1; 890].into(), ..note };
    let again = Salvage {
        dir: dir.path(),
        files: Arc::new(OsFiles),
        aside: &dir.path().join("again"),
        notes: &[note],
    };
    assert!(again.run(None, &found).is_err() && !dir.path().join("again").exists());
}

#[test]
fn a_hole_longer_than_a_frame_can_be_is_several_and_looking_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 3);
    // The journal continues after a gap of 40 MiB.
    let far = Position(written.last().unwrap().0.0 + (40 << 20));
    let path = segment::path_of(dir.path(), far);
    let file = OsFiles.create_new(&path).unwrap();
    let header = segment::encode_header(far, OsFiles.metadata(&file).unwrap());
    OsFiles.write_all_at(&file, &header, 0).unwrap();
    let before: Vec<_> =
        segment_files(dir.path()).iter().map(|file| fs::read(file).unwrap()).collect();
    let lost = losses(dir.path());
    let after: Vec<_> =
        segment_files(dir.path()).iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(before == after, "looking changed a file");
    assert_eq!(lost.len(), 1);
    assert_eq!(salvage(dir.path(), &[]), written);
    let (_, found) = look(dir.path());
    assert_eq!(found.iter().map(|found| found.holes.len()).sum::<usize>(), 3);
}

#[path = "salvage_fault_tests.rs"]
mod faults;

#[test]
fn a_follower_begins_at_a_position_within_damage_that_was_split_there() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 12);
    let file = segment_files(dir.path())[0].clone();
    let mut bytes = fs::read(&file).unwrap();
    bytes[500..1_500].fill(0xa5);
    fs::write(&file, &bytes).unwrap();
    let (_, mut found) = look(dir.path());
    let whole = found[0].damages[0].clone();
    let inside = |(position, _): &&Written| whole.from < *position && *position < whole.to;
    let at = written.iter().find(inside).unwrap().0;
    for found in &mut found {
        found.split_damages_at(at);
    }
    let [before, behind] = found[0].damages.as_slice() else { panic!("{found:?}") };
    let positions = (before.from, before.to, behind.from, behind.to);
    assert_eq!(positions, (whole.from, at, at, whole.to));
    assert_eq!(behind.damage.offset, whole.damage.offset + before.bytes);
    assert_eq!(before.bytes + behind.bytes, whole.bytes);
    let (aside, files) = (dir.path().join("aside"), Arc::new(OsFiles));
    Salvage { dir: dir.path(), files, aside: &aside, notes: &[] }.run(None, &found).unwrap();
    let (_, reader, _) = open_small(dir.path()).unwrap();
    let next = reader.follow(at).unwrap().next().unwrap().unwrap().position;
    assert_eq!(next, whole.to);
}
