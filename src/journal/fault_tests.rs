//! Tests that fail every single file operation, and that cut the power.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::faults::{Fault, FaultyFiles, Unsynced};
use super::tests::{Written, all, append, body, open_faulty, open_small, segment_files};
use super::writer::ROOM_MIN;
use super::{AppendError, Files as _, Group, JournalError, Log as _, ReadLog as _, open};

const APPENDS: usize = 30;

/// Opens, appends, opens again and scans, until an operation fails for good. Returns the
/// acknowledged frames.
fn workload(dir: &Path, files: &Arc<FaultyFiles>) -> Vec<Written> {
    let mut acknowledged = Vec::new();
    for round in 0..2 {
        let Ok((mut writer, reader, _)) = open_faulty(dir, files) else { continue };
        let spares = writer.spares();
        for n in 0..APPENDS / 2 {
            let n = round * APPENDS + n;
            match append(&mut writer, &[body(n, 250), body(n + 500, n)]) {
                Ok(frames) => acknowledged.extend(frames),
                Err(AppendError::NoSpace(_)) => {}
                Err(AppendError::Fatal(_)) => {
                    assert_stays_failed(&mut writer, files);
                    break;
                }
            }
            spares.make_asked();
        }
        // Every acknowledged frame can be read, also from a journal that failed.
        match all(&reader) {
            Ok(frames) => assert!(acknowledged.iter().all(|frame| frames.contains(frame))),
            Err(error) => assert!(!files.is_armed(), "{error}"),
        }
    }
    acknowledged
}

/// Copies the segments, if the journal exists.
fn copy_segments(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).into_iter().flatten() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn assert_stays_failed(writer: &mut super::Writer, files: &FaultyFiles) {
    let before = files.operations();
    assert!(matches!(append(writer, &[body(1, 1)]), Err(AppendError::Fatal(_))));
    assert!(matches!(writer.append(&mut Group::new()), Err(AppendError::Fatal(_))));
    assert_eq!(files.operations(), before, "a failed writer touched a file");
}

#[test]
fn any_single_failed_operation_loses_nothing_that_was_acknowledged() {
    for fault in [Fault::Io, Fault::NoSpace, Fault::ShortWrite] {
        let mut n = 0;
        loop {
            n += 1;
            let dir = tempfile::tempdir().unwrap();
            let files = Arc::new(FaultyFiles::new());
            files.fail_at(n, fault);
            let acknowledged = workload(&dir.path().join("journal"), &files);
            if files.is_armed() {
                assert_eq!(acknowledged.len(), 2 * APPENDS);
                break;
            }
            // A copy of this moment holds everything too.
            let copy = tempfile::tempdir().unwrap();
            copy_segments(&dir.path().join("journal"), copy.path());
            for dir in [copy.path(), &dir.path().join("journal")] {
                let (_, reader, _) = open_small(dir).unwrap();
                let frames = all(&reader).unwrap();
                assert!(
                    acknowledged.iter().all(|frame| frames.contains(frame)),
                    "{fault:?} at operation {n}"
                );
            }
        }
        assert!(n > 100, "{n} operations");
    }
}

/// Runs the workload, with a fault at operation `n` if there is any, and cuts the power. Returns
/// the number of acknowledged frames that are missing, and true if the workload ran to its end.
fn lost_by_power_cut(n: u64, unsynced: Unsynced, skip_syncs: bool) -> (usize, bool) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("journal");
    let files = Arc::new(FaultyFiles::new());
    files.skip_syncs(skip_syncs);
    // The fault is the moment of the cut. Nothing is written after it.
    files.fail_at(n, Fault::ShortWrite);
    let mut acknowledged = Vec::new();
    if let Ok((mut writer, _, _)) = open_faulty(&dir, &files) {
        let spares = writer.spares();
        for n in 0..APPENDS {
            match append(&mut writer, &[body(n, 250), body(n + 500, 600)]) {
                Ok(frames) => acknowledged.extend(frames),
                Err(_) => break,
            }
            // Only for every other `n`, so that some segments come from spares and some do not.
            if n % 2 == 0 {
                spares.make_asked();
            }
        }
        drop(writer);
    }
    files.cut_power(unsynced).unwrap();
    let frames = match open_small(&dir) {
        Ok((_, reader, _)) => all(&reader).unwrap_or_default(),
        Err(error) => {
            assert!(skip_syncs, "{unsynced:?} at operation {n}: {error}");
            Vec::new()
        }
    };
    let lost = acknowledged.iter().filter(|frame| !frames.contains(frame)).count();
    (lost, files.is_armed())
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_that_was_acknowledged() {
    for unsynced in
        [Unsynced::Lost, Unsynced::SomePages(1), Unsynced::SomePages(2), Unsynced::SomePages(3)]
    {
        let mut n = 0;
        loop {
            n += 1;
            let (lost, whole_run) = lost_by_power_cut(n, unsynced, false);
            assert_eq!(lost, 0, "{unsynced:?} at operation {n}");
            if whole_run {
                break;
            }
        }
        assert!(n > 60, "{n} operations");
    }
}

#[test]
fn a_power_cut_without_syncs_is_noticed() {
    let (lost, whole_run) = lost_by_power_cut(u64::MAX / 2, Unsynced::Lost, true);
    assert!(whole_run);
    assert_eq!(lost, 2 * APPENDS);
    let (lost, _) = lost_by_power_cut(u64::MAX / 2, Unsynced::SomePages(5), true);
    assert!(lost > 0);
}

#[test]
fn a_group_whose_sync_failed_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(FaultyFiles::new());
    let (mut writer, reader, _) = open_faulty(dir.path(), &files).unwrap();
    let written = append(&mut writer, &[body(1, 10)]).unwrap();
    files.fail_at(2, Fault::Io);
    assert!(matches!(append(&mut writer, &[body(2, 10)]), Err(AppendError::Fatal(_))));
    assert_eq!(all(&reader).unwrap(), written);
    assert_eq!(reader.end(), writer.end());
}

#[test]
fn a_half_made_segment_is_taken_away_when_there_is_no_space() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(FaultyFiles::new());
    // List, sync of the parent, sync of the directory, create, then the allocation.
    files.fail_at(5, Fault::NoSpace);
    let (_, _, report) = open_faulty(dir.path(), &files).unwrap();
    assert!(report.no_space, "{report:?}");
    assert!(segment_files(dir.path()).is_empty());
}

#[test]
fn a_disk_without_room_for_a_whole_segment_gets_smaller_ones() {
    const USUAL: u64 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(FaultyFiles::new());
    let (mut writer, reader, _) =
        open(dir.path(), Arc::<FaultyFiles>::clone(&files), USUAL).unwrap();
    let mut written = append(&mut writer, &[body(1, 900 << 10)]).unwrap();
    files.refuse_longer(Some(200 << 10));
    for n in 2..12 {
        written.extend(append(&mut writer, &[body(n, 60 << 10)]).unwrap());
    }
    // A group that is larger than the room that there is.
    let refused = append(&mut writer, &[body(12, 300 << 10)]);
    assert!(matches!(refused, Err(AppendError::NoSpace(_))), "{refused:?}");
    files.refuse_longer(Some(ROOM_MIN - 1));
    let refused = append(&mut writer, &[body(13, 200)]);
    assert!(matches!(refused, Err(AppendError::NoSpace(_))), "{refused:?}");
    files.refuse_longer(None);
    written.extend(append(&mut writer, &[body(14, 300 << 10)]).unwrap());
    assert_eq!(all(&reader).unwrap(), written);
    let paths = segment_files(dir.path());
    let sizes: Vec<_> = paths.iter().map(|path| fs::metadata(path).unwrap().len()).collect();
    assert!(sizes[1..sizes.len() - 1].iter().all(|size| *size <= 200 << 10), "{sizes:?}");
    assert!(sizes[0] > USUAL && sizes[sizes.len() - 1] > USUAL, "{sizes:?}");
    drop(writer);
    let (_, reader, _) = open_small(dir.path()).unwrap();
    assert_eq!(all(&reader).unwrap(), written);
}

#[test]
fn segments_come_from_spares_when_they_are_ready() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(FaultyFiles::new());
    let (mut writer, reader, _) = open_faulty(dir.path(), &files).unwrap();
    let spares = writer.spares();
    let (mut written, mut from_spares) = (Vec::new(), 0);
    for n in 0..APPENDS {
        let (segments, ready) = (segment_files(dir.path()).len(), spares.is_ready());
        written.extend(append(&mut writer, &[body(n, 250), body(n + 500, 600)]).unwrap());
        from_spares += usize::from(ready && segment_files(dir.path()).len() > segments);
        spares.make_asked();
        let entries = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(entries, segment_files(dir.path()).len(), "nothing has a name but segments");
    }
    assert!(from_spares >= 3, "{from_spares} segments came from spares");
    assert_eq!(all(&reader).unwrap(), written);
    drop(writer);
    let (_, reader, _) = open_small(dir.path()).unwrap();
    assert_eq!(all(&reader).unwrap(), written);
}

#[test]
fn a_spare_that_could_not_be_made_is_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(FaultyFiles::new());
    let (mut writer, _, _) = open_faulty(dir.path(), &files).unwrap();
    let spares = writer.spares();
    let mut asked = 0;
    for n in 0..APPENDS {
        append(&mut writer, &[body(n, 250), body(n + 500, 600)]).unwrap();
        if spares.is_asked() {
            if asked == 0 {
                files.fail_at(1, Fault::NoSpace);
            }
            asked += 1;
            spares.make_asked();
            assert!(!files.is_armed(), "the fault has hit");
        }
    }
    assert!(asked >= 3, "asked for {asked} times");
}

#[test]
fn what_a_start_shows_survives_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(FaultyFiles::new());
    let (mut writer, _, _) = open_faulty(dir.path(), &files).unwrap();
    let mut written = append(&mut writer, &[body(1, 10)]).unwrap();
    // The group is written but not synced, as if the process was killed in between.
    files.fail_at(2, Fault::Io);
    assert!(append(&mut writer, &[body(2, 10)]).is_err());
    written.push((writer.end(), body(2, 10)));
    drop(writer);
    let (_, reader, _) = open_faulty(dir.path(), &files).unwrap();
    assert_eq!(all(&reader).unwrap(), written);
    files.cut_power(Unsynced::Lost).unwrap();
    let (_, reader, _) = open_small(dir.path()).unwrap();
    assert_eq!(all(&reader).unwrap(), written);
}

#[test]
fn a_sync_that_fails_at_the_start_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(FaultyFiles::new());
    let (mut writer, _, _) = open_faulty(dir.path(), &files).unwrap();
    append(&mut writer, &[body(1, 100)]).unwrap();
    drop(writer);
    let mut seen = Vec::new();
    for nth in 1.. {
        files.fail_at(nth, Fault::Io);
        let opened = open_faulty(dir.path(), &files);
        if files.is_armed() {
            break;
        }
        seen.push(matches!(opened, Err(JournalError::Damage(_))));
    }
    let damages = seen.iter().filter(|is_damage| **is_damage).count();
    assert!(
        0 < damages && damages < seen.len() / 2,
        "only what cannot be read is damage: {seen:?}"
    );
}

#[test]
fn a_copied_snapshot_survives_a_power_cut_after_the_first_start() {
    let dir = tempfile::tempdir().unwrap();
    append(&mut open_small(dir.path()).unwrap().0, &[body(1, 10)]).unwrap();
    let (files, snapshot) =
        (Arc::new(FaultyFiles::new()), dir.path().join(format!("{:020}.snap", 5)));
    let segment = &segment_files(dir.path())[0];
    let bytes = fs::read(segment).unwrap();
    let copied = dir.path().join("copied");
    fs::write(&copied, bytes).unwrap();
    fs::rename(&copied, segment).unwrap();
    // Copied, and not synced.
    let file = files.create_new(&snapshot).unwrap();
    files.write_all_at(&file, b"rows", 0).unwrap();
    drop(open_faulty(dir.path(), &files).unwrap());
    files.cut_power(Unsynced::Lost).unwrap();
    assert_eq!(fs::read(&snapshot).unwrap(), b"rows");
}
