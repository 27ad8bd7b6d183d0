//! Tests of the schedule of backups.

use super::*;
use crate::base::clock::Clock;
use crate::commit::{Hints, Intake};
use crate::journal::Position;
use crate::store::Store;

const NOW_MS: u64 = 1_800_000_000_000;
const EVERY: Duration = Duration::from_hours(1);

fn made(at: u64) -> Made {
    let manifest = Manifest::new((5, Timestamp(at)), (1, 9, None), vec![]);
    Made { path: PathBuf::from("/backups/one"), manifest, linked_bytes: 0 }
}

fn backups_of(dir: &Path, clock: &Clock, is_held: bool) -> Backups {
    let store = Arc::new(Store::open(&dir.join("sled"), 8 << 20, Position::MAX).unwrap());
    let hints = Hints::new(crossbeam_channel::bounded(1).0, crossbeam_channel::bounded(1).0);
    let engine = Engine::of(&store, clock, Intake::unheard(), Arc::new(hints));
    let directory = Some(dir.join("backups"));
    let schedule = Schedule { directory, every: EVERY, keep: 3, is_held };
    Backups::new(engine, dir, Reader::empty(), schedule)
}

/// Two backups, as far as the deletion of the oldest needs them.
fn two_backups(dir: &Path) -> Vec<PathBuf> {
    let names = ["2026-01-31T10-00-00.000Z", "2026-01-31T11-00-00.000Z"];
    let paths = names.map(|name| dir.join("backups").join(name));
    for path in &paths {
        std::fs::create_dir_all(path.join(crate::data_dir::JOURNAL)).unwrap();
        let manifest = Manifest::new((5, Timestamp(NOW_MS)), (1, 9, None), vec![]);
        std::fs::write(path.join("manifest.json"), manifest.encode()).unwrap();
    }
    std::fs::create_dir_all(dir.join(crate::data_dir::JOURNAL)).unwrap();
    paths.to_vec()
}

#[test]
fn a_held_server_makes_no_backup_by_itself_and_deletes_none() {
    for is_held in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let paths = two_backups(dir.path());
        let backups = backups_of(dir.path(), &Clock::manual(NOW_MS), is_held);
        assert_eq!(backups.until_due().is_none(), is_held);
        backups.engine.disk_use.want_backup(true);
        backups.give_space();
        assert_eq!(paths[0].exists(), is_held, "the oldest goes, but not while it is held");
        assert!(paths[1].exists());
        backups.engine.disk_use.want_backup(true);
        backups.give_space();
        assert!(paths[1].exists(), "the newest stays");
    }
}

#[test]
fn only_backups_of_the_schedule_count_for_it_and_none_of_the_future() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW_MS);
    let backups = backups_of(dir.path(), &clock, false);
    assert_eq!(backups.until_due(), Some(Duration::ZERO));
    backups.note(&made(NOW_MS), Duration::ZERO, false);
    assert_eq!(backups.standing().newest_at, Some(Timestamp(NOW_MS)));
    assert_eq!(backups.until_due(), Some(Duration::ZERO), "one elsewhere is not of the schedule");
    backups.note(&made(NOW_MS), Duration::ZERO, true);
    assert_eq!(backups.until_due(), Some(EVERY));
    clock.set_ms(NOW_MS - 1);
    assert_eq!(backups.until_due(), Some(Duration::ZERO), "the clock was ahead");
}
