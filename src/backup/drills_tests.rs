//! Tests of the schedule of drills.

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
    let schedule = DrillSchedule { instance, directory, every: EVERY, is_held };
    Drills::new(engine, dir, Arc::default(), schedule)
}

#[test]
fn a_drill_that_passed_counts_over_restarts_and_another_is_soon_tried_again() {
    let (dir, states) = (tempfile::tempdir().unwrap(), [(); 3].map(|()| tempfile::tempdir()));
    let [first, second, third] = states.map(Result::unwrap);
    let clock = Clock::manual(NOW_MS);
    let drills = drills_of(first.path(), &clock, false);
    assert_eq!(drills.until_due(), Some(Duration::ZERO));
    for (outcome, pause) in [
        (DrillOutcome::Failed, RETRY_AFTER),
        (DrillOutcome::Passed, EVERY),
        (DrillOutcome::Skipped, RETRY_AFTER),
        (DrillOutcome::Passed, EVERY),
    ] {
        // A crash may have left the draft of the file.
        fs::write(dir.path().join("drill-here.json.new"), "half").unwrap();
        drills.note(outcome, dir.path());
        assert_eq!(drills.until_due(), Some(pause), "{outcome:?}");
    }
    let again = drills_of(second.path(), &clock, false);
    *locked(&again.standing) = again.read_standing(dir.path());
    assert_eq!(again.standing(), drills.standing());
    assert_eq!(again.until_due(), Some(EVERY));
    again.publish();
    assert_eq!(again.engine.metrics.drill_age_seconds.get(), 0);
    clock.set_ms(NOW_MS - 1);
    assert_eq!(again.until_due(), Some(Duration::ZERO), "the clock was ahead");
    assert_eq!(drills_of(third.path(), &clock, true).until_due(), None, "a held server has none");
}
