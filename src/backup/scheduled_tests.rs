//! Tests of the schedule of backups.

use super::super::directory::find;
use super::super::manifest::{About, Manifest};
use super::*;
use crate::base::clock::Clock;
use crate::commit::{Hints, Intake, Measured};
use crate::data_dir::JOURNAL;
use crate::journal::Position;
use crate::store::Store;

const NOW_MS: u64 = 1_800_000_000_000;
const EVERY: Duration = Duration::from_hours(1);

/// A backup of this instance, as far as the schedule looks at it.
fn manifest_of(instance: &str, at: u64) -> Manifest {
    let instance = instance.to_owned();
    Manifest::new(About { instance, made_at: Timestamp(at), ..About::default() }, vec![])
}

fn made(directory: &Path, at: u64) -> Made {
    let path = directory.join("one");
    Made { path, manifest: manifest_of("here", at), linked_bytes: 0 }
}

fn backups_of(dir: &Path, clock: &Clock, is_held: bool) -> Backups {
    let store = Arc::new(Store::open(&dir.join("sled"), 8 << 20, Position::MAX).unwrap());
    let hints = Hints::new(crossbeam_channel::bounded(1).0, crossbeam_channel::bounded(1).0);
    let engine = Engine::of(&store, clock, Intake::unheard(), Arc::new(hints));
    let (instance, directory) = ("here".to_owned(), Some(dir.join("backups")));
    std::fs::create_dir_all(dir.join(JOURNAL)).unwrap();
    let (every, keep, drill_every) = (EVERY, 1, Duration::ZERO);
    let s3 = S3Settings::default();
    let schedule = Schedule { instance, directory, s3, every, keep, drill_every, is_held };
    Backups::new(engine, dir, Reader::empty(), schedule)
}

/// Backups of these instances, the oldest first, each with a file of this size of its own.
fn made_in(dir: &Path, instances: &[&str], bytes: usize) -> Vec<PathBuf> {
    let make = |(hour, instance): (usize, &&str)| {
        let path = dir.join("backups").join(format!("2026-01-31T{hour:02}-00-00.000Z"));
        std::fs::create_dir_all(path.join(JOURNAL)).unwrap();
        let segment = path.join(JOURNAL).join("00000000000000000001.seg");
        std::fs::write(segment, vec![7; bytes]).unwrap();
        std::fs::write(path.join(MANIFEST), manifest_of(instance, NOW_MS).encode()).unwrap();
        path
    };
    instances.iter().enumerate().map(make).collect()
}

fn are_there(paths: &[PathBuf]) -> Vec<bool> {
    paths.iter().map(|path| path.exists()).collect()
}

/// Asks for the space of a backup, as a short disk does.
fn want(backups: &Backups) {
    backups.engine.disk_use.want_backup(true);
    backups.give_space();
}

#[test]
fn a_held_server_makes_no_backup_by_itself_and_deletes_none() {
    for is_held in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let backups = backups_of(dir.path(), &Clock::manual(NOW_MS), is_held);
        let paths = made_in(dir.path(), &["here", "here"], 100_000);
        assert_eq!(backups.until_due().is_none(), is_held);
        want(&backups);
        assert_eq!(are_there(&paths), [is_held, true], "the oldest goes, but not while it is held");
        want(&backups);
        assert!(paths[1].exists(), "the newest stays");
    }
}

#[test]
fn only_own_backups_are_counted_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let backups = backups_of(dir.path(), &Clock::manual(NOW_MS), false);
    let directory = dir.path().join("backups");
    let paths = made_in(dir.path(), &["there", "here", "there", "here", "there"], 100_000);
    want(&backups);
    assert_eq!(are_there(&paths), [true, false, true, true, true], "one of its own goes");
    want(&backups);
    assert_eq!(are_there(&paths), [true, false, true, true, true], "its newest stays");
    let paths = made_in(dir.path(), &["there", "here", "here", "there", "here", "there"], 1);
    backups.note(&made(&directory, NOW_MS), Duration::ZERO, &directory);
    assert_eq!(are_there(&paths), [true, false, false, true, true, true], "one of its own is kept");
    let mixed = find(&directory).unwrap_err().to_string();
    assert!(mixed.contains("of several servers") && mixed.contains("T04-00-00.000Z"), "{mixed}");
}

#[test]
fn the_backup_that_passed_a_drill_stays_until_a_newer_one_passes() {
    let dir = tempfile::tempdir().unwrap();
    let backups = backups_of(dir.path(), &Clock::manual(NOW_MS), false);
    let directory = dir.path().join("backups");
    let paths = made_in(dir.path(), &["here", "here", "here", "here"], 1);
    let standing = |passed: &Path| {
        let name = passed.file_name().unwrap().to_str().unwrap();
        let text = format!(r#"{{"outcome": "failed", "passed_backup": "{name}"}}"#);
        std::fs::write(directory.join("drill-here.json"), text).unwrap();
    };
    standing(&paths[1]);
    backups.note(&made(&directory, NOW_MS), Duration::ZERO, &directory);
    assert_eq!(are_there(&paths), [false, true, false, true], "`keep` is 1");
    standing(&paths[3]);
    backups.note(&made(&directory, NOW_MS), Duration::ZERO, &directory);
    assert_eq!(are_there(&paths), [false, false, false, true]);
}

#[test]
fn backups_that_would_give_back_little_stay_on_a_short_disk() {
    for (bytes, goes) in [(100_000, true), (4_096, false)] {
        let dir = tempfile::tempdir().unwrap();
        let backups = backups_of(dir.path(), &Clock::manual(NOW_MS), false);
        let paths = made_in(dir.path(), &["here", "here"], bytes);
        // The disk lacks all that the data takes, of which an eighth is 50,000 bytes.
        backups.engine.disk_use.show(Measured { journal: 400_000, ..Measured::default() });
        want(&backups);
        assert_eq!(are_there(&paths), [!goes, true], "{bytes}");
        assert!(!backups.engine.disk_use.backups().has_spare, "events may go then");
    }
}

#[test]
fn only_backups_of_the_schedule_count_for_it_and_none_of_the_future() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW_MS);
    let backups = backups_of(dir.path(), &clock, false);
    let (directory, elsewhere) = (dir.path().join("backups"), dir.path().join("elsewhere"));
    assert_eq!(backups.until_due(), Some(Duration::ZERO));
    std::fs::create_dir_all(elsewhere.join("one")).unwrap();
    std::fs::write(elsewhere.join("one").join(MANIFEST), "there").unwrap();
    backups.note(&made(&elsewhere, NOW_MS), Duration::ZERO, &elsewhere);
    backups.publish();
    assert_eq!(backups.standing().newest_at, None, "one elsewhere is none of the schedule");
    assert_eq!(backups.engine.metrics.backup_age_seconds.get(), -1);
    assert_eq!(backups.until_due(), Some(Duration::ZERO));
    std::fs::create_dir_all(&directory).unwrap();
    let other_spelling = dir.path().join("elsewhere/../backups");
    backups.note(&made(&directory, NOW_MS), Duration::ZERO, &other_spelling);
    assert_eq!(backups.until_due(), Some(EVERY));
    clock.set_ms(NOW_MS - 1);
    assert_eq!(backups.until_due(), Some(Duration::ZERO), "the clock was ahead");
    backups.publish();
    assert_eq!(backups.standing().newest_at, None, "it was deleted by somebody");
}
