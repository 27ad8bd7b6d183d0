use std::sync::Arc;

use super::*;
use crate::base::clock::Clock;
use crate::commit::{Hints, Intake};
use crate::config::Config;
use crate::store::Store;

/// A pass that has just begun, of a server without events.
fn begun(engine: &Engine) -> (Retention, Pass) {
    let mut retention = Retention::new(&Reader::empty(), engine, None);
    let pass = retention.begin(engine, &Ages::of_toml("")).unwrap();
    (retention, pass)
}

fn engine(dir: &tempfile::TempDir, clock: &Clock) -> Arc<Engine> {
    let store = Arc::new(Store::open(&dir.path().join("sled"), 8 << 20, Position::MAX).unwrap());
    let (hints, _) = crossbeam_channel::bounded(1);
    let (scheduler, _) = crossbeam_channel::bounded(1);
    Engine::of(&store, clock, Intake::unheard(), Arc::new(Hints::new(hints, scheduler)))
}

#[test]
fn events_that_were_found_before_the_clock_was_set_back_are_searched_again() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1_000_000));
    let engine = engine(&dir, &clock);
    let ages = Ages::of_toml("[retention]\nfinished_seconds = 10");
    let (_, mut pass) = begun(&engine);
    let before = pass.judge(&engine, &ages, Tier::Free);
    (pass.found, pass.archiving) = (Some(Expiring::default()), Some(7));
    clock.advance_ms(5_000);
    assert_eq!(pass.judge(&engine, &ages, Tier::Free), before, "the whole pass judges by a time");
    assert_eq!(pass.archiving, Some(7));
    clock.set_ms(900_000);
    let (cutoffs, _) = pass.judge(&engine, &ages, Tier::Free);
    assert_eq!(cutoffs.finished, Timestamp(890_000));
    assert_eq!((pass.found, pass.archiving), (None, None));
}

#[test]
fn an_organization_with_very_many_deleted_endpoints_gives_way_to_the_next_one() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1_000_000));
    let engine = engine(&dir, &clock);
    let (mut retention, mut pass) = begun(&engine);
    assert!(retention.begin(&engine, &Ages::of_toml("")).is_none(), "the next pass is in an hour");
    (pass.org, pass.spent) = (OrgNo(4), DELETED_MAX);
    let (cutoffs, _) = pass.judge(&engine, &Ages::of_toml(""), Tier::Free);
    let found = pass.search(&engine, OrgNo(4), cutoffs).unwrap();
    assert_eq!(found, Some(Expiring::default()));
    pass.end_org(&engine, OrgNo(4), cutoffs).unwrap();
    assert_eq!((pass.org, pass.spent), (OrgNo(5), Duration::ZERO));
    retention.pass = Some(pass);
    let limits = DiskLimits::of(&Config::from_toml("").unwrap().retention);
    assert!(!retention.call(&engine, (&Ages::of_toml(""), &limits)).unwrap());
    assert!(retention.begin(&engine, &Ages::of_toml("")).is_some(), "what was left comes soon");
}
