//! Tests of the schedule of drills.

use super::super::manifest::About;
use super::*;
use crate::base::clock::Clock;
use crate::commit::{Hints, Intake};
use crate::journal::Position;
use crate::store::Store;

const NOW_MS: u64 = 1_800_000_000_000;
const EVERY: Duration = Duration::from_hours(24);

fn drills_of(dir: &Path, clock: &Clock, is_held: bool) -> Drills {
    let store = Arc::new(Store::open(&dir.join("sled"), 8 << 20, Position::MAX).unwrap());
    let hints = Hints::new(crossbeam_channel::bounded(1).0, crossbeam_channel::bounded(1).0);
    let engine = Engine::of(&store, clock, Intake::unheard(), Arc::new(hints));
    let (instance, directory) = ("here".to_owned(), Some(dir.to_owned()));
    let s3 = S3Settings::default();
    let schedule = DrillSchedule { instance, directory, s3, every: EVERY, is_held };
    Drills::new(engine, dir, Arc::default(), schedule)
}

#[test]
fn a_drill_that_passed_counts_over_restarts_and_another_is_soon_tried_again() {
    let (dir, states) = (tempfile::tempdir().unwrap(), [(); 3].map(|()| tempfile::tempdir()));
    let [first, second, third] = states.map(Result::unwrap);
    let clock = Clock::manual(NOW_MS);
    let drills = drills_of(first.path(), &clock, false);
    assert_eq!(drills.until_due(), Some(Duration::ZERO));
    let backup = dir.path().join("2026-01-31T10-00-00.000Z");
    let passed = || Ended::Passed(backup.clone(), Manifest::new(About::default(), vec![]));
    let failed = || Ended::Failed(BackupError::Damaged("torn".to_owned()));
    for (ended, pause) in [
        (failed(), RETRY_AFTER),
        (passed(), EVERY),
        (Ended::Skipped("the disk is full".to_owned()), RETRY_AFTER),
        (failed(), RETRY_AFTER),
        (passed(), EVERY),
    ] {
        // A crash may have left the draft of the file.
        fs::write(dir.path().join("drill-here.json.new"), "half").unwrap();
        drills.note(&ended, dir.path());
        assert_eq!(drills.until_due(), Some(pause), "{:?}", drills.standing());
        let is_skipped = drills.standing().skipped_because.is_some();
        assert_eq!(is_skipped, drills.standing().outcome == Some(DrillOutcome::Skipped));
    }
    let again = drills_of(second.path(), &clock, false);
    assert_eq!(again.passed_backup(), None);
    *locked(&again.standing) = again.read_standing(dir.path());
    assert_eq!(again.standing(), drills.standing());
    assert_eq!(again.until_due(), Some(EVERY));
    assert_eq!(again.passed_backup().as_deref(), Some("2026-01-31T10-00-00.000Z"));
    again.publish();
    assert_eq!(again.engine.metrics.drill_age_seconds.get(), 0);
    clock.set_ms(NOW_MS - 1);
    assert_eq!(again.until_due(), Some(Duration::ZERO), "the clock was ahead");
    assert_eq!(drills_of(third.path(), &clock, true).until_due(), None, "a held server has none");
}
