use super::*;
use crate::config::Config;

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
