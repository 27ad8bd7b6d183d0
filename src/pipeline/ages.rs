//! The ages at which events expire, and the times that follow from them. Pure.

use std::time::Duration;

use crate::config;
use crate::model::org::Tier;
use crate::model::retention::Cutoffs;
use crate::model::time::Timestamp;

/// A pass begins after this part of the shortest age.
const PASSES_PER_AGE: u32 = 32;
/// Minimum and maximum time between the beginnings of two passes.
const PASS_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));

/// The ages at which events and entries of the audit log expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// The ages of finished and of open events of each tier; zero stands for never.
    tiers: [(Duration, Duration); 3],
    /// The time within which compaction removes an erased payload from a running server.
    pub(super) erase: Duration,
    /// The age of entries of the audit log; zero stands for never.
    audit: Duration,
}

impl Ages {
    /// Takes the ages from the configuration: those of the tier, or else the general ages.
    pub fn of(retention: &config::Retention, tiers: &config::Tiers) -> Self {
        let or = |own: Duration, general| if own.is_zero() { general } else { own };
        let tiers = [Tier::Free, Tier::Pro, Tier::Enterprise].map(|tier| {
            let own = tiers.of(tier);
            let finished = or(own.retention_finished, retention.finished);
            (finished, or(own.retention_open, retention.open))
        });
        Self { tiers, erase: retention.erase, audit: retention.audit }
    }

    /// Takes the ages from a text of the configuration.
    #[cfg(test)]
    pub(super) fn of_toml(toml: &str) -> Self {
        let config = config::Config::from_toml(toml).unwrap();
        Self::of(&config.retention, &config.tiers)
    }

    /// Returns the ages of finished and of open events.
    pub(super) fn of_tier(&self, tier: Tier) -> (Duration, Duration) {
        let [free, pro, enterprise] = self.tiers;
        match tier {
            Tier::Free => free,
            Tier::Pro => pro,
            Tier::Enterprise => enterprise,
        }
    }

    /// Returns the times before which events of this tier expire. `up` is the time since the start:
    /// compaction needs it to find what was erased before, so until then no erased event expires.
    pub(super) fn cutoffs(&self, tier: Tier, (now, up): (Timestamp, Duration)) -> Cutoffs {
        let (finished, open) = self.of_tier(tier);
        let erased = if up < self.erase { Timestamp(0) } else { now.before_age(self.erase) };
        let [finished, open] = [finished, open].map(|age| now.before_age(age));
        Cutoffs { finished, dead: open, open, erased, now }
    }

    /// Returns the steady time before which entries of the audit log expire.
    pub(super) fn audit_before(&self, now: Timestamp) -> Timestamp {
        now.before_age(self.audit)
    }

    /// Returns the time from the beginning of a pass to the beginning of the next pass.
    pub(super) fn pass_every(&self) -> Duration {
        let ages = self.tiers.iter().flat_map(|(finished, open)| [*finished, *open]);
        let shortest = ages.filter(|age| !age.is_zero()).min();
        let (min, max) = PASS_EVERY;
        shortest.map_or(max, |age| (age / PASSES_PER_AGE).clamp(min, max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_has_its_own_ages_or_the_general_ones_and_zero_is_never() {
        let ages = Ages::of_toml(
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
        let ages = Ages::of_toml(
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
        let every = |toml| Ages::of_toml(toml).pass_every().as_secs();
        assert_eq!(every(""), 3_600);
        assert_eq!(every("[tiers.free]\nretention_open_seconds = 3200"), 100);
        assert_eq!(every("[retention]\nfinished_seconds = 1"), 1);
        assert_eq!(every("[retention]\nfinished_seconds = 0\nopen_seconds = 0"), 3_600);
    }
}
