//! Tests of the file of a snapshot.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::journal::error::JournalError;
use crate::journal::faults::{Fault, FaultyFiles, Unsynced};
use crate::journal::files::{Files, OsFiles};
use crate::journal::position::Position;

type Row = (Vec<u8>, Vec<u8>);

fn files() -> Arc<dyn Files> {
    Arc::new(OsFiles)
}

fn header(position: u64) -> SnapshotHeader {
    let (position, first) = (Position(position), Position::FIRST);
    SnapshotHeader { rows_format: 15, position, first, taken_at_ms: 7 }
}

/// Rows whose values have this many bytes.
fn rows(count: u16, bytes: usize) -> Vec<Row> {
    (0..count).map(|n| (vec![1, n.to_be_bytes()[0], n.to_be_bytes()[1]], vec![9; bytes])).collect()
}

fn write(
    files: &Arc<dyn Files>,
    dir: &Path,
    position: u64,
    rows: &[Row],
) -> Result<SnapshotFile, JournalError> {
    let mut writer = SnapshotWriter::create(Arc::clone(files), dir, header(position))?;
    for (key, value) in rows {
        writer.add(key, value)?;
    }
    writer.finish().map(|(file, _)| file)
}

fn read(file: &SnapshotFile) -> Result<Vec<Row>, JournalError> {
    let (mut reader, mut all) = (file.open(&files())?, Vec::new());
    while let Some(rows) = reader.next_rows()? {
        all.extend(rows.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
    }
    Ok(all)
}

fn is_damage<T>(result: &Result<T, JournalError>) -> bool {
    matches!(result, Err(JournalError::Damage(_)))
}

#[test]
fn only_a_file_with_the_name_of_a_snapshot_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(&files(), dir.path(), 10, &rows(1, 10)).unwrap();
    let named = |position: u64| dir.path().join(format!("{position:020}.snap"));
    fs::create_dir(named(20)).unwrap();
    std::os::unix::fs::symlink(&file.path, named(30)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        named(40),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert_eq!(snapshots_in(dir.path(), &OsFiles).unwrap(), [file]);
    assert!(first_witnessed(dir.path(), &files()).is_ok());
}

#[test]
fn what_was_written_is_read_back_block_by_block() {
    let dir = tempfile::tempdir().unwrap();
    for (position, rows) in [(10, vec![]), (20, rows(1, 200_000)), (30, rows(3_000, 100))] {
        let file = write(&files(), dir.path(), position, &rows).unwrap();
        assert_eq!(read(&file).unwrap(), rows);
        let size = file.check(&files()).unwrap();
        assert_eq!(size.rows, rows.len() as u64);
        assert_eq!(file.ends(&files()).unwrap(), (header(position), size));
    }
    let listed = snapshots_in(dir.path(), &OsFiles).unwrap();
    assert_eq!(listed.iter().map(|file| file.position.0).collect::<Vec<_>>(), [10, 20, 30]);
    assert_eq!(listed[2].check(&files()).unwrap().blocks, 5);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "no other file is left");
    assert!(snapshots_in(&dir.path().join("none"), &OsFiles).unwrap().is_empty());
}

/// Arms the failpoints of the controls below.
fn arm() {
    let names = crate::config::failpoints_from_environment().unwrap_or_default();
    crate::base::failpoint::arm(&names).unwrap();
}

#[test]
fn a_cut_at_each_byte_and_a_flip_of_each_byte_are_found() {
    arm();
    let dir = tempfile::tempdir().unwrap();
    let file = write(&files(), dir.path(), 10, &rows(3, 20)).unwrap();
    let whole = fs::read(&file.path).unwrap();
    for length in 0..whole.len() {
        fs::write(&file.path, &whole[..length]).unwrap();
        assert!(is_damage(&file.check(&files())), "cut at {length}");
        assert!(is_damage(&file.ends(&files())), "cut at {length}");
    }
    for place in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[place] ^= 1;
        fs::write(&file.path, &flipped).unwrap();
        assert!(is_damage(&file.check(&files())), "flipped at {place}");
    }
    fs::write(&file.path, [whole.as_slice(), &[0]].concat()).unwrap();
    assert!(is_damage(&file.check(&files())), "longer");
    fs::write(&file.path, vec![0; whole.len()]).unwrap();
    assert!(is_damage(&file.check(&files())), "zeros");
    fs::write(&file.path, &whole).unwrap();
    assert!(file.check(&files()).is_ok());
}

#[test]
fn a_block_of_another_snapshot_or_in_another_place_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let many = rows(2_000, 100);
    let [one, other] =
        [10, 20].map(|position| write(&files(), dir.path(), position, &many).unwrap());
    let bytes = [&one, &other].map(|file| fs::read(&file.path).unwrap());
    let mut mixed = bytes[0].clone();
    mixed[40..70_000].copy_from_slice(&bytes[1][40..70_000]);
    fs::write(&one.path, mixed).unwrap();
    assert!(is_damage(&one.check(&files())));
    fs::write(&one.path, &bytes[1]).unwrap();
    let error = one.check(&files()).unwrap_err().to_string();
    assert!(error.contains("disagree on its position"), "{error}");
}

#[test]
fn rows_out_of_order_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let backwards: Vec<Row> = rows(3, 20).into_iter().rev().collect();
    let file = write(&files(), dir.path(), 10, &backwards).unwrap();
    assert!(is_damage(&file.check(&files())));
}

#[test]
fn whichever_operation_fails_a_named_file_is_whole() {
    let mut faults = 0;
    for n in 1.. {
        let dir = tempfile::tempdir().unwrap();
        let broken = Arc::new(FaultyFiles::new());
        let shared: Arc<dyn Files> = Arc::<FaultyFiles>::clone(&broken);
        let fault = [Fault::Io, Fault::NoSpace, Fault::ShortWrite][n % 3];
        broken.fail_at(n as u64, fault);
        let written = write(&shared, dir.path(), 10, &rows(2_000, 100));
        if broken.is_armed() {
            assert!(written.is_ok());
            break;
        }
        faults += 1;
        assert!(written.is_err(), "operation {n}");
        for file in snapshots_in(dir.path(), &OsFiles).unwrap() {
            assert!(file.check(&files()).is_ok(), "operation {n}");
        }
    }
    assert!(faults > 8, "{faults}");
}

#[test]
fn a_snapshot_is_made_where_no_file_without_a_name_can_get_one() {
    let mut faults = 0;
    for n in 1.. {
        let dir = tempfile::tempdir().unwrap();
        let closed = Arc::new(FaultyFiles::new());
        closed.refuse_names();
        let shared: Arc<dyn Files> = Arc::<FaultyFiles>::clone(&closed);
        closed.fail_at(n, Fault::Io);
        let many = rows(2_000, 100);
        let written = write(&shared, dir.path(), 10, &many);
        for file in snapshots_in(dir.path(), &OsFiles).unwrap() {
            assert!(file.check(&files()).is_ok(), "operation {n}");
        }
        if closed.is_armed() {
            assert_eq!(read(&written.unwrap()).unwrap(), many);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
            closed.cut_power(Unsynced::Lost).unwrap();
            let found = snapshots_in(dir.path(), &OsFiles).unwrap();
            assert!(found[0].check(&files()).is_ok());
            break;
        }
        faults += 1;
    }
    assert!(faults > 10, "{faults}");
}

#[test]
fn drafts_of_a_crash_are_removed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(&files(), dir.path(), 10, &rows(3, 20)).unwrap();
    let draft = |name: &str| dir.path().join(format!("{name}.new"));
    let number = "00000000000000000020";
    for name in [format!("{number}.snap"), format!("{number}.seg"), "other".to_owned()] {
        fs::write(draft(&name), b"half").unwrap();
    }
    clear_snapshot_drafts(dir.path(), &OsFiles).unwrap();
    assert!(file.check(&files()).is_ok() && !draft(&format!("{number}.snap")).exists());
    assert!(draft(&format!("{number}.seg")).exists() && draft("other").exists());
}

#[test]
fn a_power_cut_leaves_a_whole_snapshot_or_none() {
    arm();
    let cut = |count: u16, is_finished: bool| {
        let dir = tempfile::tempdir().unwrap();
        let broken = Arc::new(FaultyFiles::new());
        let shared: Arc<dyn Files> = Arc::<FaultyFiles>::clone(&broken);
        let mut writer = SnapshotWriter::create(shared, dir.path(), header(10)).unwrap();
        for (key, value) in rows(count, 100) {
            writer.add(&key, &value).unwrap();
        }
        if is_finished {
            writer.finish().unwrap();
        }
        broken.cut_power(Unsynced::SomePages(u64::from(count))).unwrap();
        let found = snapshots_in(dir.path(), &OsFiles).unwrap();
        found.iter().map(|file| file.check(&files()).is_ok()).collect::<Vec<_>>()
    };
    assert_eq!([cut(100, false), cut(2_000, false)], [[false; 0]; 2]);
    assert_eq!([cut(100, true), cut(2_000, true)], [[true]; 2]);
}

/// Runs in processes of their own, because an armed failpoint stays armed.
#[test]
#[cfg(debug_assertions)]
fn a_snapshot_named_before_its_sync_and_a_believed_torn_one_are_noticed() {
    let path = module_path!().split_once("::").unwrap().1;
    for (switch, test) in [
        ("snapshot_unsynced", "a_power_cut_leaves_a_whole_snapshot_or_none"),
        ("torn_snapshot_believed", "a_cut_at_each_byte_and_a_flip_of_each_byte_are_found"),
    ] {
        let ran = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{path}::{test}")])
            .env("TRIGGERD_FAILPOINTS", switch)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(said.contains("0 passed; 1 failed"), "{switch}: {said}");
    }
}
