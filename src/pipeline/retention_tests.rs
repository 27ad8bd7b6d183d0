use std::sync::Arc;

use super::*;
use crate::base::clock::Clock;
use crate::commit::{Hints, Intake};
use crate::config::Config;
use crate::store::Store;

fn ages(toml: &str) -> Ages {
    let config = Config::from_toml(toml).unwrap();
    Ages::of(&config.retention, &config.tiers)
}

#[test]
fn a_tier_has_its_own_ages_or_the_general_ones_and_zero_is_never() {
    let ages = ages(
        "[retention]\nfinished_seconds = 0\nopen_seconds = 9\n\
        [tiers.pro]\nretention_finished_seconds = 5",
    );
    let (now, never) = (Timestamp(100_000), Timestamp(0));
    let of = |tier| ages.cutoffs(tier, (now, Duration::ZERO));
    let (open, erased) = (Timestamp(91_000), never);
    assert_eq!(of(Tier::Free), Cutoffs { finished: never, dead: open, open, erased, now });
    let finished = Timestamp(95_000);
    assert_eq!(of(Tier::Pro), Cutoffs { finished, dead: open, open, erased, now });
    assert_eq!(of(Tier::Enterprise), of(Tier::Free));
}

#[test]
fn an_erased_event_stays_until_a_server_that_ran_for_long_enough_has_removed_its_bytes() {
    let ages = ages(
        "[retention]\nfinished_seconds = 1\nerase_seconds = 60\n\
        grace_seconds = 7",
    );
    let erased = |up| {
        let up = Duration::from_secs(up);
        ages.cutoffs(Tier::Free, (Timestamp(100_000), up)).erased
    };
    assert_eq!((erased(59), erased(60)), (Timestamp(0), Timestamp(40_000)));
}

#[test]
fn passes_follow_the_shortest_age_within_bounds() {
    let every = |toml| ages(toml).pass_every().as_secs();
    assert_eq!(every(""), 3_600);
    assert_eq!(every("[tiers.free]\nretention_open_seconds = 3200"), 100);
    assert_eq!(every("[retention]\nfinished_seconds = 1"), 1);
    assert_eq!(every("[retention]\nfinished_seconds = 0\nopen_seconds = 0"), 3_600);
}

/// A pass that has just begun, of a server without events.
fn begun(engine: &Engine) -> (Retention, Pass) {
    let mut retention = Retention::new(&Reader::empty(), engine, None);
    let pass = retention.begin(engine, &ages("")).unwrap();
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
    let ages = ages("[retention]\nfinished_seconds = 10");
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
    assert!(retention.begin(&engine, &ages("")).is_none(), "the next pass is in an hour");
    (pass.org, pass.spent) = (OrgNo(4), DELETED_MAX);
    let (cutoffs, _) = pass.judge(&engine, &ages(""), Tier::Free);
    let found = pass.search(&engine, OrgNo(4), cutoffs).unwrap();
    assert_eq!(found, Some(Expiring::default()));
    pass.end_org(&engine, OrgNo(4), cutoffs).unwrap();
    assert_eq!((pass.org, pass.spent), (OrgNo(5), Duration::ZERO));
    retention.pass = Some(pass);
    let limits = DiskLimits::of(&Config::from_toml("").unwrap().retention);
    assert!(!retention.call(&engine, (&ages(""), &limits)).unwrap());
    assert!(retention.begin(&engine, &ages("")).is_some(), "what was left comes soon");
}
