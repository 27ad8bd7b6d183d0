//! Tests of opening after a crash, after bit rot, and of a copy.

use std::collections::BTreeSet;
use std::fs;

use super::*;
use crate::journal::tests::{
    Written, all, append, body, group_of, open_quick, open_small, segment_files,
};
use crate::journal::{AppendError, OsFiles, ReadError, ReadLog as _};

/// Overwrites a file in place, so that the file stays an original.
fn overwrite(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

/// Replaces a file by a copy with the same content and another inode.
fn replace_by_copy(path: &Path, bytes: &[u8]) {
    let other = path.with_extension("copy");
    fs::write(&other, bytes).unwrap();
    fs::rename(&other, path).unwrap();
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 0x40;
    overwrite(path, &bytes);
}

/// Creates a journal of these groups. Each frame body is `len` bytes long.
fn journal_of(dir: &Path, groups: &[usize], len: usize) -> Vec<Vec<Written>> {
    let (mut writer, _, _) = open_small(dir).unwrap();
    let mut n = 0;
    let mut write = |&frames: &usize| {
        n += frames;
        let bodies: Vec<_> = (n - frames..n).map(|n| body(n, len)).collect();
        append(&mut writer, &bodies).unwrap()
    };
    groups.iter().map(&mut write).collect()
}

fn damage_of<T>(result: Result<T, JournalError>) -> Damage {
    match result {
        Err(JournalError::Damage(damage)) => damage,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("opened"),
    }
}

fn offset_in_first_segment(frame: &Written) -> u64 {
    SEGMENT_HEADER_BYTES + frame.0.0 - 1
}

/// Opens, appends one frame and opens again: the result of a recovery lasts.
fn assert_goes_on(dir: &Path, expected: &[Written]) {
    let (mut writer, reader, _) = open_small(dir).unwrap();
    assert_eq!(all(&reader).unwrap(), expected);
    let mut expected = expected.to_vec();
    expected.extend(append(&mut writer, &[body(777, 33), body(778, 1)]).unwrap());
    drop(writer);
    let (_, reader, report) = open_small(dir).unwrap();
    assert_eq!(report.cut, None);
    assert_eq!(all(&reader).unwrap(), expected);
}

#[test]
fn every_flipped_byte_gives_an_exact_prefix_or_damage_by_file_and_offset() {
    let groups = [3, 4, 3, 4, 3, 4];
    let origin = tempfile::tempdir().unwrap();
    let written = journal_of(origin.path(), &groups, 230).concat();
    let files = segment_files(origin.path());
    assert_eq!((files.len(), written.len()), (2, 21));
    let (mut prefixes, mut damages) = (0, 0);
    for file in &files {
        let whole = fs::read(file).unwrap();
        for offset in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[offset] ^= 0x10;
            // Opening may cut the file, so each round restores the content. The inode stays.
            overwrite(file, &bytes);
            match open_quick(origin.path()).map(|(_, reader, _)| all(&reader)) {
                Ok(Ok(frames)) => {
                    assert!(written.starts_with(&frames), "{} {offset}", file.display());
                    prefixes += 1;
                }
                Err(JournalError::Damage(damage)) | Ok(Err(ReadError::Damage(damage))) => {
                    assert_eq!(&damage.file, file);
                    assert!(damage.offset <= offset as u64, "{damage}");
                    damages += 1;
                }
                Err(other) => panic!("{other}"),
                Ok(Err(other)) => panic!("{other}"),
            }
            overwrite(file, &whole);
        }
    }
    assert!(prefixes > 500 && damages > 3000, "{prefixes} {damages}");
}

#[test]
fn torn_tail_is_cut_at_every_length() {
    let dir = tempfile::tempdir().unwrap();
    let groups = journal_of(dir.path(), &[2, 1, 3], 70);
    let file = &segment_files(dir.path())[0];
    let whole = fs::read(file).unwrap();
    let kept = groups[..2].concat();
    let start = usize::try_from(offset_in_first_segment(&groups[2][0])).unwrap();
    let end = start + 3 * 88;
    for cut in start..end {
        let mut bytes = whole[..cut].to_vec();
        bytes.resize(whole.len(), 0);
        overwrite(file, &bytes);
        let (_, reader, report) = open_quick(dir.path()).unwrap();
        let whole_frames = (cut - start) / 88;
        let expected = [kept.clone(), groups[2][..whole_frames].to_vec()].concat();
        assert_eq!(all(&reader).unwrap(), expected);
        let is_torn = bytes[start + whole_frames * 88..].iter().any(|&b| b != 0);
        let cause = report.cut.as_ref().map(|cut| cut.cause);
        assert_eq!(cause, is_torn.then_some(CutCause::TornGroup), "{cut}");
        if let Some(cut) = report.cut {
            assert_eq!(
                (cut.file.as_path(), cut.offset),
                (file.as_path(), (start + whole_frames * 88) as u64)
            );
            // The bytes after the cut are zeros again, up to the full length.
            let now = fs::read(file).unwrap();
            assert_eq!(now.len(), bytes.len());
            assert!(now[start + whole_frames * 88..].iter().all(|&b| b == 0));
        }
    }
    // The last round left two whole frames of the group.
    assert_goes_on(dir.path(), &[kept.clone(), groups[2][..2].to_vec()].concat());
}

#[test]
fn a_segment_that_is_cut_at_any_length_is_damage() {
    let origin = tempfile::tempdir().unwrap();
    journal_of(origin.path(), &[1; 20], 300);
    let files = segment_files(origin.path());
    assert_eq!(files.len(), 2);
    for file in &files {
        let whole = fs::read(file).unwrap();
        for len in 0..whole.len() {
            // Both the original and a copy.
            if len % 2 == 0 {
                overwrite(file, &whole[..len]);
            } else {
                replace_by_copy(file, &whole[..len]);
            }
            let damage = damage_of(open_quick(origin.path()));
            assert_eq!(&damage.file, file, "{len}");
            assert_eq!(fs::metadata(file).unwrap().len(), len as u64, "nothing is changed");
        }
        overwrite(file, &whole);
    }
    assert!(open_quick(origin.path()).is_ok());
}

#[test]
fn a_last_group_with_its_first_pages_missing_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let groups = journal_of(dir.path(), &[2, 20], 100);
    let file = &segment_files(dir.path())[0];
    let whole = fs::read(file).unwrap();
    for missing in 0..4 {
        let mut bytes = whole.clone();
        bytes[missing * 512 + 320..(missing + 1) * 512 + 320].fill(0);
        overwrite(file, &bytes);
        let (_, reader, report) = open_small(dir.path()).unwrap();
        assert_eq!(report.cut.unwrap().cause, CutCause::TornGroup);
        let frames = all(&reader).unwrap();
        assert!(groups.concat().starts_with(&frames) && frames.len() >= 2);
    }
}

#[test]
fn a_bad_frame_with_a_later_group_is_damage_and_nothing_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let groups = journal_of(dir.path(), &[2, 3, 1], 70);
    let file = &segment_files(dir.path())[0];
    let whole = fs::read(file).unwrap();
    for frame in groups[..2].concat() {
        let offset = offset_in_first_segment(&frame);
        for bytes_in in [0, 5, 12, 16, 17, 60] {
            flip(file, usize::try_from(offset).unwrap() + bytes_in);
            let damaged = fs::read(file).unwrap();
            let damage = damage_of(open_small(dir.path()));
            assert_eq!((&damage.file, damage.offset), (file, offset));
            assert!(damage.to_string().contains("a later group begins"), "{damage}");
            assert_eq!(fs::read(file).unwrap(), damaged);
            overwrite(file, &whole);
        }
        // A zeroed frame in an original does not count as the hole of a copy either.
        let mut bytes = whole.clone();
        bytes[usize::try_from(offset).unwrap()..][..88].fill(0);
        overwrite(file, &bytes);
        assert_eq!(damage_of(open_small(dir.path())).offset, offset);
        overwrite(file, &whole);
    }
    assert_goes_on(dir.path(), &groups.concat());
}

#[test]
fn stale_frames_behind_a_cut_never_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let groups = journal_of(dir.path(), &[1, 5], 70);
    let file = &segment_files(dir.path())[0];
    // The group's first frame is torn. The frames 2 to 5 lie whole behind it.
    flip(file, usize::try_from(offset_in_first_segment(&groups[1][0])).unwrap() + 40);
    let (mut writer, reader, report) = open_small(dir.path()).unwrap();
    assert_eq!(report.cut.unwrap().bytes, 5 * 88);
    // A frame of the same length ends exactly where a stale frame would begin.
    let new = append(&mut writer, &[body(99, 70)]).unwrap();
    assert_eq!(new[0].0, groups[1][0].0);
    let expected = [groups[0].clone(), new].concat();
    assert_eq!(all(&reader).unwrap(), expected);
    assert_goes_on(dir.path(), &expected);
}

#[test]
fn a_missing_segment_is_damage_that_names_the_positions() {
    let dir = tempfile::tempdir().unwrap();
    journal_of(dir.path(), &[1; 40], 300);
    let files = segment_files(dir.path());
    fs::remove_file(&files[1]).unwrap();
    let damage = damage_of(open_small(dir.path()));
    let gone = |file: &Path| segment::first_from_path(file).unwrap().0;
    assert_eq!(damage.file, files[0]);
    assert_eq!(
        damage.reason,
        format!("the positions {} to {} are missing", gone(&files[1]), gone(&files[2]) - 1)
    );
}

#[test]
fn a_sealed_segment_may_have_zeros_behind_it_but_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let written = journal_of(dir.path(), &[1; 20], 300).concat();
    let [file, next] = segment_files(dir.path()).try_into().unwrap();
    let (file, next) = (&file, segment::first_from_path(&next).unwrap());
    let (sealed, end) = (fs::read(file).unwrap(), SEGMENT_HEADER_BYTES + next.0 - 1);
    let mut bytes = sealed.clone();
    bytes.resize(sealed.len() + 500, 0);
    overwrite(file, &bytes);
    assert_eq!(all(&open_small(dir.path()).unwrap().1).unwrap(), written);
    for offset in [usize::try_from(end).unwrap(), sealed.len() + 400] {
        bytes[offset] = 1;
        overwrite(file, &bytes);
        assert_eq!(damage_of(open_small(dir.path())).offset, end);
        bytes[offset] = 0;
    }
    overwrite(file, &sealed[..sealed.len() - 1]);
    assert_eq!(damage_of(open_small(dir.path())).offset, sealed.len() as u64 - 1);
    overwrite(file, &[]);
    assert_eq!(damage_of(open_small(dir.path())).file, *file);
}

#[test]
fn a_torn_header_without_frames_behind_it_is_written_again() {
    let mut bytes = b"TRGJ\0\0\0\x01torn".to_vec();
    bytes.resize(64 + 4096, 0);
    // As the only segment, also of a log that begins later, and as the next segment.
    let dir = tempfile::tempdir().unwrap();
    let alone = segment::path_of(dir.path(), Position(5000));
    fs::write(&alone, &bytes).unwrap();
    let (_, reader, report) = open_small(dir.path()).unwrap();
    assert_eq!((report.end, report.remade), (Position(5000), Some(alone.clone())));
    assert_eq!(fs::metadata(&alone).unwrap().len(), 64 + 4096);
    drop(reader);
    assert_eq!(open_small(dir.path()).unwrap().2.remade, None);

    let dir = tempfile::tempdir().unwrap();
    let written = journal_of(dir.path(), &[1; 5], 300).concat();
    let next = segment::path_of(dir.path(), Position(1 + 5 * 318));
    fs::write(&next, &bytes).unwrap();
    assert_eq!(open_small(dir.path()).unwrap().2.remade, Some(next));
    assert_goes_on(dir.path(), &written);
}

#[test]
fn a_segment_without_a_header_is_damage() {
    let headers: [&[u8]; 4] = [&[], &[0; 40], &[0; 64 + 4096], b"TRGJ\0\0\0\x01torn"];
    for bytes in headers {
        let dir = tempfile::tempdir().unwrap();
        let written = journal_of(dir.path(), &[1; 5], 300).concat();
        let next = segment::path_of(dir.path(), Position(1 + 5 * 318));
        fs::write(&next, bytes).unwrap();
        let damage = damage_of(open_small(dir.path()));
        assert_eq!((&damage.file, damage.offset), (&next, 0));
        assert_eq!(fs::read(&next).unwrap(), bytes, "nothing is changed");
        fs::remove_file(&next).unwrap();
        assert_goes_on(dir.path(), &written);
    }
}

#[test]
fn a_damaged_header_with_frames_behind_it_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    journal_of(dir.path(), &[1; 20], 300);
    for file in segment_files(dir.path()) {
        let whole = fs::read(&file).unwrap();
        for offset in [0, 5, 20, 63] {
            flip(&file, offset);
            let damage = damage_of(open_small(dir.path()));
            assert_eq!((damage.file, damage.offset), (file.clone(), 0));
            overwrite(&file, &whole);
        }
    }
    assert!(open_small(dir.path()).is_ok());
}

#[test]
fn a_copy_at_rest_has_everything_and_goes_on_in_a_new_segment() {
    let dir = tempfile::tempdir().unwrap();
    let written = journal_of(dir.path(), &[1; 20], 300).concat();
    let before: Vec<_> =
        segment_files(dir.path()).iter().map(|file| fs::read(file).unwrap()).collect();
    for file in segment_files(dir.path()) {
        replace_by_copy(&file, &fs::read(&file).unwrap());
    }
    let (_, reader, report) = open_small(dir.path()).unwrap();
    assert!(report.is_copy && report.cut.is_none() && report.remade.is_none());
    assert_eq!(all(&reader).unwrap(), written);
    let files = segment_files(dir.path());
    assert_eq!(files.len(), before.len() + 1);
    for (file, before) in files.iter().zip(&before) {
        let now = fs::read(file).unwrap();
        assert_eq!(now, before[..now.len()]);
    }
    assert!(!open_small(dir.path()).unwrap().2.is_copy);
    assert_goes_on(dir.path(), &written);
}

#[test]
fn copies_of_copies_without_frames_do_not_pile_up() {
    let dir = tempfile::tempdir().unwrap();
    open_small(dir.path()).unwrap();
    for _ in 0..3 {
        let file = segment_files(dir.path())[0].clone();
        replace_by_copy(&file, &fs::read(&file).unwrap());
        let (_, _, report) = open_small(dir.path()).unwrap();
        assert_eq!((report.is_copy, report.segments, report.remade), (true, 1, Some(file)));
        assert!(!open_small(dir.path()).unwrap().2.is_copy);
    }
    assert_goes_on(dir.path(), &[]);
}

/// The size of a page in the kernel, in bytes.
const PAGE: usize = 4096;

/// Returns a copy that is read page by page while the file changes from the oldest to the newest
/// state. Each page comes from any of the states.
fn live_copy(states: &[Vec<u8>], page_state: impl Fn(usize) -> usize) -> Vec<u8> {
    let newest = states.last().unwrap();
    let pages = newest.len().div_ceil(PAGE);
    let page = |n: usize| {
        let state = &states[page_state(n)];
        state[n * PAGE..state.len().min((n + 1) * PAGE)].to_vec()
    };
    (0..pages).flat_map(page).collect()
}

/// Fills a segment with groups of `frames` frames of `len` bytes, and seals it. Returns the bytes
/// of the segment and the written frames after each group.
fn states_of_a_segment(
    origin: &Path,
    segment_bytes: u64,
    (frames, len): (usize, usize),
) -> (Vec<Vec<u8>>, Vec<Vec<Written>>) {
    let (mut writer, _, _) = open(origin, Arc::new(OsFiles), segment_bytes).unwrap();
    let file = segment_files(origin)[0].clone();
    let (mut states, mut written) = (vec![fs::read(&file).unwrap()], vec![Vec::new()]);
    loop {
        let n = states.len() * 10;
        let bodies: Vec<_> = (n..n + frames).map(|n| body(n, len)).collect();
        if group_of(&bodies).bytes() as u64 + writer.end().0 > segment_bytes {
            break;
        }
        let new = append(&mut writer, &bodies).unwrap();
        written.push([written.last().unwrap().clone(), new].concat());
        states.push(fs::read(&file).unwrap());
    }
    // The segment is sealed while the copy is made, and the copy lacks the next segment.
    append(&mut writer, &[body(0, usize::try_from(segment_bytes).unwrap())]).unwrap();
    written.push(written.last().unwrap().clone());
    states.push(fs::read(&file).unwrap());
    (states, written)
}

#[test]
fn a_live_copy_holds_everything_up_to_its_begin() {
    let segment_bytes = 10 * PAGE as u64;
    let mut causes = BTreeSet::new();
    for (frames, len) in [(1, 37), (3, 200), (2, 1500), (1, 6000), (7, 600), (1, 101)] {
        let origin = tempfile::tempdir().unwrap();
        let (states, written) = states_of_a_segment(origin.path(), segment_bytes, (frames, len));
        let file = segment_files(origin.path())[0].clone();
        let last = states.len() - 1;
        for begin in (0..=last).step_by(last / 12 + 1) {
            for groups_per_page in [0, 1, 2, last / 5 + 1, last] {
                let bytes = live_copy(&states, |page| (begin + page * groups_per_page).min(last));
                let dir = tempfile::tempdir().unwrap();
                let copy = dir.path().join(file.file_name().unwrap());
                fs::write(&copy, &bytes).unwrap();
                let (_, reader, report) = open(dir.path(), Arc::new(OsFiles), segment_bytes)
                    .unwrap_or_else(|e| {
                        panic!("{len} bytes, {begin}, {groups_per_page} a page: {e}")
                    });
                let frames = all(&reader).unwrap();
                assert!(
                    frames.starts_with(&written[begin]),
                    "{len} bytes, {begin}, {groups_per_page} a page"
                );
                assert!(written[last].starts_with(&frames));
                causes.insert(format!("{:?}", report.cut.map(|cut| cut.cause)));
                drop(reader);
                let again = open(dir.path(), Arc::new(OsFiles), segment_bytes).unwrap();
                assert_eq!((all(&again.1).unwrap(), again.2.cut), (frames, None));
            }
        }
    }
    // The test met each of the causes.
    assert_eq!(causes.len(), 3, "{causes:?}");
}

#[test]
fn the_same_hole_in_an_original_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let segment_bytes = 10 * PAGE as u64;
    let (mut writer, _, _) = open(dir.path(), Arc::new(OsFiles), segment_bytes).unwrap();
    for n in 0..30 {
        append(&mut writer, &[body(n, 500)]).unwrap();
    }
    drop(writer);
    let file = segment_files(dir.path())[0].clone();
    let mut bytes = fs::read(&file).unwrap();
    bytes[PAGE + 700..2 * PAGE].fill(0);
    overwrite(&file, &bytes);
    damage_of(open(dir.path(), Arc::new(OsFiles), segment_bytes));
    replace_by_copy(&file, &bytes);
    let (_, _, report) = open(dir.path(), Arc::new(OsFiles), segment_bytes).unwrap();
    assert_eq!(report.cut.unwrap().cause, CutCause::CopyHole);
}

#[test]
fn a_flipped_byte_in_a_copy_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let groups = journal_of(dir.path(), &[2, 3, 2, 3], 330);
    let file = segment_files(dir.path())[0].clone();
    let whole = fs::read(&file).unwrap();
    let last = offset_in_first_segment(&groups[3][0]);
    for offset in (SEGMENT_HEADER_LEN..usize::try_from(last).unwrap()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[offset] ^= 0x40;
        replace_by_copy(&file, &bytes);
        let damage = damage_of(open_quick(dir.path()));
        assert!(damage.offset <= offset as u64 && damage.offset + 348 > offset as u64);
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
}

#[test]
fn other_files_in_the_directory_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let written = journal_of(dir.path(), &[3], 10).concat();
    fs::write(dir.path().join("lost+found"), b"x").unwrap();
    fs::write(dir.path().join("1.seg"), b"x").unwrap();
    assert_goes_on(dir.path(), &written);
    assert_eq!(segment_files(dir.path()).len(), 3);
}

#[test]
fn a_writer_after_recovery_refuses_nothing() {
    // A journal after a cut accepts groups up to the former size of the segment.
    let dir = tempfile::tempdir().unwrap();
    let groups = journal_of(dir.path(), &[1, 1], 70);
    flip(
        &segment_files(dir.path())[0],
        usize::try_from(offset_in_first_segment(&groups[1][0])).unwrap() + 30,
    );
    let (mut writer, _, _) = open_small(dir.path()).unwrap();
    let rest = usize::try_from(4096 + 1 - writer.end().0).unwrap() - FRAME_HEADER_BYTES;
    let result: Result<_, AppendError> = append(&mut writer, &[body(9, rest)]);
    assert!(result.is_ok());
    assert_eq!(segment_files(dir.path()).len(), 1);
}
