//! Tests of appending, rolling and reading, and helpers for the other tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::faults::{Fault, FaultyFiles};
use super::*;

/// The size of a small segment, in bytes: a few frames fill it.
pub(super) const SMALL: u64 = 4096;

/// A frame as a test writes and expects it.
pub(super) type Written = (Position, Vec<u8>);

pub(super) fn open_small(dir: &Path) -> Result<(Writer, Reader, OpenReport), JournalError> {
    open(dir, Arc::new(OsFiles), SMALL)
}

pub(super) fn open_faulty(
    dir: &Path,
    files: &Arc<FaultyFiles>,
) -> Result<(Writer, Reader, OpenReport), JournalError> {
    let files: Arc<dyn Files> = Arc::<FaultyFiles>::clone(files);
    open(dir, files, SMALL)
}

/// Opens a journal without real syncs, for tests that open a journal thousands of times.
pub(super) fn open_quick(dir: &Path) -> Result<(Writer, Reader, OpenReport), JournalError> {
    open_faulty(dir, &Arc::new(FaultyFiles::new()))
}

/// Returns the `n`-th body of a test: `len` bytes, none of them zero, different from all other
/// bodies.
pub(super) fn body(n: usize, len: usize) -> Vec<u8> {
    let mut state = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(state >> 56).unwrap() | 1
    };
    (0..len).map(|_| next()).collect()
}

pub(super) fn group_of(bodies: &[Vec<u8>]) -> Group {
    let mut group = Group::new();
    for body in bodies {
        group.push(5, 1, |buffer| buffer.extend_from_slice(body)).unwrap();
    }
    group
}

/// Appends one group. Returns its frames with their positions.
pub(super) fn append(writer: &mut Writer, bodies: &[Vec<u8>]) -> Result<Vec<Written>, AppendError> {
    let mut group = group_of(bodies);
    let positions = writer.append(&mut group)?.positions.to_vec();
    Ok(positions.into_iter().zip(bodies.iter().cloned()).collect())
}

/// Returns all records of the journal, or the first error.
pub(super) fn all(reader: &Reader) -> Result<Vec<Written>, ReadError> {
    let (found, error) = followed(reader, reader.first());
    error.map_or(Ok(found), Err)
}

/// Returns the records from a position on, and the error after them.
fn followed(reader: &Reader, from: Position) -> (Vec<Written>, Option<ReadError>) {
    let mut found = Vec::new();
    let mut follower = match reader.follow(from) {
        Ok(follower) => follower,
        Err(error) => return (found, Some(error)),
    };
    while let Some(record) = follower.next() {
        match record {
            Ok(record) => found.push((record.position, record.body.into_owned())),
            Err(error) => return (found, Some(error)),
        }
    }
    (found, None)
}

pub(super) fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn what_was_appended_is_read_again_in_order_and_by_position() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, reader, report) = open_small(dir.path()).unwrap();
    assert_eq!(
        (report.segments, report.end, report.cut, report.is_copy),
        (1, Position::FIRST, None, false)
    );
    let mut written = Vec::new();
    for n in 0..50 {
        let bodies = [body(n, n * 7), body(n + 100, 300)];
        written.extend(append(&mut writer, &bodies).unwrap());
    }
    assert_eq!(all(&reader).unwrap(), written);
    for (position, body) in &written {
        assert_eq!(&*reader.read(*position).unwrap().body, body);
    }
    drop(writer);
    let (_, reader, report) = open_small(dir.path()).unwrap();
    assert_eq!(report.cut, None);
    assert_eq!(all(&reader).unwrap(), written);
}

#[test]
fn appending_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut written = Vec::new();
    for n in 0..40 {
        let (mut writer, reader, report) = open_small(dir.path()).unwrap();
        assert_eq!((writer.end(), report.remade), (reader.end(), None));
        written.extend(append(&mut writer, &[body(n, 250), body(n + 50, 3)]).unwrap());
        assert_eq!(all(&reader).unwrap(), written);
    }
    // Reopening creates no further segments.
    assert_eq!(segment_files(dir.path()).len(), 3);
}

#[test]
fn segments_follow_each_other_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, reader, _) = open_small(dir.path()).unwrap();
    for n in 0..60 {
        append(&mut writer, &[body(n, 200), body(n, 150)]).unwrap();
    }
    let segments = reader.segments();
    assert!(segments.len() > 4);
    for pair in segments.windows(2) {
        assert_eq!(pair[0].end, pair[1].first);
        let bytes = fs::read(&pair[0].path).unwrap();
        assert_eq!(bytes.len(), 64 + 4096, "a sealed segment keeps its length");
        let used = usize::try_from(64 + pair[0].end.0 - pair[0].first.0).unwrap();
        assert!(bytes[used..].iter().all(|&byte| byte == 0));
    }
    let last = segments.last().unwrap();
    assert_eq!(fs::metadata(&last.path).unwrap().len(), 64 + 4096);
    let lens =
        segment_files(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>();
    assert_eq!(reader.sizes().unwrap().bytes, lens);
}

#[test]
fn a_huge_group_gets_a_segment_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _, _) = open_small(dir.path()).unwrap();
    // The first goes into a segment without frames, the second behind a segment with frames.
    let mut written = append(&mut writer, &[body(1, 9000), body(2, 9000)]).unwrap();
    written.extend(append(&mut writer, &[body(3, 10)]).unwrap());
    written.extend(append(&mut writer, &[body(4, 30_000)]).unwrap());
    written.extend(append(&mut writer, &[body(5, 10)]).unwrap());
    assert_eq!(segment_files(dir.path()).len(), 4);
    let (_, reader, _) = open_small(dir.path()).unwrap();
    assert_eq!(all(&reader).unwrap(), written);
    assert_eq!(*reader.read(written[3].0).unwrap().body, *written[3].1);
}

#[test]
fn a_group_that_just_fits_does_not_roll() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _, _) = open_small(dir.path()).unwrap();
    let mut written = append(&mut writer, &[body(1, 4096 - 18)]).unwrap();
    assert_eq!(segment_files(dir.path()).len(), 1);
    drop(writer);
    let (mut writer, reader, report) = open_small(dir.path()).unwrap();
    assert_eq!((report.segments, report.end), (2, Position(4097)));
    written.extend(append(&mut writer, &[body(2, 1)]).unwrap());
    assert_eq!(all(&reader).unwrap(), written);
}

#[test]
fn a_wrong_position_is_an_error_and_never_a_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, reader, _) = open_small(dir.path()).unwrap();
    let written = append(&mut writer, &[body(1, 100), body(2, 100)]).unwrap();
    for position in (1..writer.end().0).map(Position) {
        let is_frame = written.iter().any(|&(start, _)| start == position);
        assert_eq!(reader.read(position).is_ok(), is_frame, "{position}");
    }
    assert!(matches!(reader.read(writer.end()), Err(ReadError::NotWritten(_))));
    assert!(matches!(reader.read(Position(0)), Err(ReadError::Removed(_))));
    assert!(matches!(reader.follow(Position(999)), Err(ReadError::NotWritten(_))));
    assert!(matches!(reader.follow(Position(0)), Err(ReadError::Removed(_))));
    for (from, count) in [(writer.end(), 0), (written[1].0, 1), (Position::FIRST, 2)] {
        assert_eq!(followed(&reader, from).0.len(), count);
    }
}

#[test]
fn an_empty_group_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(FaultyFiles::new());
    let (mut writer, _, _) = open_faulty(dir.path(), &files).unwrap();
    let before = files.operations();
    assert!(writer.append(&mut Group::new()).unwrap().positions.is_empty());
    assert_eq!(files.operations(), before);
    // A full group costs a write and a sync.
    append(&mut writer, &[body(1, 10), body(2, 10)]).unwrap();
    assert_eq!(files.operations(), before + 2);
}

#[test]
fn readers_see_whole_synced_frames_while_the_writer_appends() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, reader, _) = open_small(dir.path()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scanner = scope.spawn(|| {
            let mut seen = 0;
            loop {
                let last_round = done.load(Ordering::Acquire);
                let frames = all(&reader).unwrap();
                assert!(frames.len() >= seen);
                seen = frames.len();
                for (n, (position, content)) in frames.iter().enumerate() {
                    assert_eq!(content, &body(n, 90));
                    assert_eq!(&*reader.read(*position).unwrap().body, content);
                }
                assert!(reader.segments().iter().all(|segment| segment.first <= segment.end));
                if last_round {
                    return seen;
                }
            }
        });
        for n in (0..600).step_by(3) {
            append(&mut writer, &[body(n, 90), body(n + 1, 90), body(n + 2, 90)]).unwrap();
        }
        done.store(true, Ordering::Release);
        assert_eq!(scanner.join().unwrap(), 600);
    });
}

#[test]
fn no_start_makes_a_segment_without_room() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _, _) = open_small(dir.path()).unwrap();
    let written = append(&mut writer, &[body(1, 3000), body(2, 1060)]).unwrap();
    drop(writer);
    let open_with = |has_room| {
        let (files, room) = (Arc::new(OsFiles), Box::new(move |_| has_room));
        open_from(dir.path(), files, SMALL, Position::FIRST, room).unwrap()
    };
    for _ in 0..10 {
        let (mut writer, reader, report) = open_with(false);
        assert!(report.no_space, "{report:?}");
        let refused = append(&mut writer, &[body(3, 100)]);
        assert!(matches!(refused, Err(AppendError::NoSpace(_))), "{refused:?}");
        assert_eq!(all(&reader).unwrap(), written);
    }
    assert_eq!(segment_files(dir.path()).len(), 1);
    append(&mut open_with(true).0, &[body(3, 100)]).unwrap();
    assert_eq!(segment_files(dir.path()).len(), 2);
}

#[test]
fn no_space_for_a_segment_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(FaultyFiles::new());
    let (mut writer, reader, _) = open_faulty(dir.path(), &files).unwrap();
    let mut written = append(&mut writer, &[body(1, 3000)]).unwrap();
    // Sealing takes two operations. Then come create, allocate, metadata and header.
    for n in [3, 2, 4] {
        files.fail_at(n, Fault::NoSpace);
        assert!(
            matches!(append(&mut writer, &[body(2, 3000)]), Err(AppendError::NoSpace(_))),
            "operation {n}"
        );
        assert_eq!(segment_files(dir.path()).len(), 1);
        assert_eq!(all(&reader).unwrap(), written);
    }
    // A start without space can read, and appends when there is space.
    drop(writer);
    written.extend(append(&mut open_small(dir.path()).unwrap().0, &[body(3, 1060)]).unwrap());
    let mut refused = 0;
    for n in 1.. {
        files.fail_at(n, Fault::NoSpace);
        let opened = open_faulty(dir.path(), &files);
        if files.is_armed() {
            break;
        }
        refused += usize::from(opened.is_ok_and(|(_, _, report)| report.no_space));
    }
    // The start needs a segment, because the last one is full: create, allocate, header and name.
    assert_eq!(refused, 4);
    let (mut writer, reader, report) = open_small(dir.path()).unwrap();
    assert!(!report.no_space);
    written.extend(append(&mut writer, &[body(2, 3000)]).unwrap());
    assert_eq!(all(&reader).unwrap(), written);
}

#[test]
fn a_start_without_space_for_the_rest_of_a_segment_takes_another_segment() {
    let mut segments = Vec::new();
    for n in 1.. {
        let dir = tempfile::tempdir().unwrap();
        let files = Arc::new(FaultyFiles::new());
        let (mut writer, _, _) = open_faulty(dir.path(), &files).unwrap();
        let mut written = append(&mut writer, &[body(1, 3000)]).unwrap();
        drop(writer);
        files.fail_at(n, Fault::NoSpace);
        let opened = open_faulty(dir.path(), &files);
        if files.is_armed() {
            break;
        }
        let Ok((mut writer, reader, _)) = opened else { continue };
        written.extend(append(&mut writer, &[body(2, 1)]).unwrap());
        segments.push(segment_files(dir.path()).len());
        assert_eq!(all(&reader).unwrap(), written);
    }
    assert_eq!(segments, [2], "one operation was the reservation");
}

#[test]
fn no_space_to_enlarge_a_segment_without_frames_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(FaultyFiles::new());
    let (mut writer, _, _) = open_faulty(dir.path(), &files).unwrap();
    files.fail_at(2, Fault::NoSpace);
    assert!(matches!(append(&mut writer, &[body(1, 5000)]), Err(AppendError::NoSpace(_))));
    // Either the same writer continues, or the next start.
    let written = append(&mut writer, &[body(1, 5000)]).unwrap();
    let (_, reader, _) = open_small(dir.path()).unwrap();
    assert_eq!(all(&reader).unwrap(), written);
}

#[test]
fn a_follower_goes_on_with_what_is_appended_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, reader, _) = open_small(dir.path()).unwrap();
    let mut follower = reader.follow(Position::FIRST).unwrap();
    assert!(follower.next().is_none());
    // Within a segment, and over several of them.
    for count in [1, 3, 40] {
        let written: Vec<_> = (0..count)
            .flat_map(|n| append(&mut writer, &[body(n, 200), body(n, 30)]).unwrap())
            .collect();
        for (position, body) in &written {
            let record = follower.next().unwrap().unwrap();
            assert_eq!((&record.position, &*record.body), (position, body.as_slice()));
        }
        assert!(follower.next().is_none());
        assert_eq!(follower.position(), reader.end());
    }
    assert!(segment_files(dir.path()).len() >= 3);
}

#[test]
fn files_are_for_their_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("journal");
    open_small(&dir).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&segment_files(&dir)[0]), 0o600);
}

#[test]
fn a_follower_ends_at_damage_and_another_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, reader, _) = open_small(dir.path()).unwrap();
    let written: Vec<_> =
        (0..30).flat_map(|n| append(&mut writer, &[body(n, 300)]).unwrap()).collect();
    let path = &segment_files(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[64 + 318 * 2 + 30] ^= 1;
    fs::write(path, bytes).unwrap();
    let mut follower = reader.follow(Position::FIRST).unwrap();
    for (position, _) in &written[..2] {
        assert_eq!(follower.next().unwrap().unwrap().position, *position);
    }
    assert!(matches!(follower.next(), Some(Err(ReadError::Damage(_)))));
    append(&mut writer, &[body(30, 300)]).unwrap();
    assert!(follower.next().is_none());
    assert_eq!(follower.position(), written[2].0);
    assert_eq!(followed(&reader, written[3].0).0.len(), 28);
}
