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

#[test]
fn only_backups_of_the_schedule_count_for_it_and_none_of_the_future() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW_MS);
    let state = dir.path().join("sled");
    let store = Arc::new(Store::open(&state, 8 << 20, Position::MAX).unwrap());
    let hints = Hints::new(crossbeam_channel::bounded(1).0, crossbeam_channel::bounded(1).0);
    let engine = Engine::of(&store, &clock, Intake::unheard(), Arc::new(hints));
    let directory = Some(dir.path().join("backups"));
    let schedule = Schedule { directory, every: EVERY, keep: 3 };
    let backups = Backups::new(engine, dir.path(), Reader::empty(), schedule);
    assert_eq!(backups.until_due(), Some(Duration::ZERO));
    backups.note(&made(NOW_MS), Duration::ZERO, false);
    assert_eq!(backups.standing().newest_at, Some(Timestamp(NOW_MS)));
    assert_eq!(backups.until_due(), Some(Duration::ZERO), "one elsewhere is not of the schedule");
    backups.note(&made(NOW_MS), Duration::ZERO, true);
    assert_eq!(backups.until_due(), Some(EVERY));
    clock.set_ms(NOW_MS - 1);
    assert_eq!(backups.until_due(), Some(Duration::ZERO), "the clock was ahead");
}
