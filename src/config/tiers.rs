//! The keys of the tiers: a section with the same keys for each.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Serialize;

use super::declare::{Group, Section, Values, section};
use super::kinds::{rate, rate_or_multiple, seconds_of_tier};
use crate::model::org::Tier;

/// Maximum age of events, in seconds: a hundred years.
pub(super) const RETENTION_SECONDS_MAX: u64 = 100 * 365 * 86_400;
/// Maximum rate and burst of a tier, in events.
const TIER_EVENTS_MAX: u64 = 100_000_000;
/// Maximum rate and burst of a tier, in other requests.
const TIER_REQUESTS_MAX: u64 = 1_000_000_000;
/// Number of other requests allowed for each event, unless the configuration sets a limit.
const TIER_REQUESTS_FOR_EVENT: u64 = 10;

section! {
    /// Rates and retention of the organizations of each tier. An organization has two budgets: one
    /// for the events that it posts, and one for all its other requests. Beyond a budget the answer
    /// is [429](api.md#rate-limits).
    pub struct TierLimit {
        /// Events that an organization may post each second, over time.
        events_per_second: NonZeroU32 =
            rate("events_per_second", [50, 500, 10_000], 1..=TIER_EVENTS_MAX).reloaded();

        /// Events that it may post at once after a quiet while.
        burst: NonZeroU32 = rate("burst", [100, 1_000, 20_000], 1..=TIER_EVENTS_MAX).reloaded();

        /// Other requests (reading, acknowledging, managing) each second, over time. 0 means ten
        /// times `events_per_second`, so that a consumer keeps up with its producers.
        requests_per_second: NonZeroU32 = rate_or_multiple(
            "requests_per_second",
            0..=TIER_REQUESTS_MAX,
            "events_per_second",
            TIER_REQUESTS_FOR_EVENT,
        )
        .reloaded();

        /// Other requests at once after a quiet while. 0 means ten times `burst`.
        request_burst: NonZeroU32 = rate_or_multiple(
            "request_burst",
            0..=TIER_REQUESTS_MAX,
            "burst",
            TIER_REQUESTS_FOR_EVENT,
        )
        .reloaded();

        /// Seconds after which a finished event expires. 0 means `[retention] finished_seconds`.
        retention_finished: Duration =
            seconds_of_tier("retention_finished_seconds", 0, 0..=RETENTION_SECONDS_MAX).reloaded();

        /// Seconds after which an unfinished event expires. 0 means `[retention] open_seconds`.
        retention_open: Duration =
            seconds_of_tier("retention_open_seconds", 0, 0..=RETENTION_SECONDS_MAX).reloaded();
    }
}

impl Copy for TierLimit {}

/// Rate limits and retention of each tier.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tiers {
    /// The limit for trying triggerd.
    pub free: TierLimit,
    /// The limit for ordinary use.
    pub pro: TierLimit,
    /// The limit for heavy use.
    pub enterprise: TierLimit,
}

impl Tiers {
    /// The limit of this tier.
    pub fn of(&self, tier: Tier) -> TierLimit {
        match tier {
            Tier::Free => self.free,
            Tier::Pro => self.pro,
            Tier::Enterprise => self.enterprise,
        }
    }
}

impl Section for Tiers {
    fn group(name: &str) -> Group {
        let sections = ["free", "pro", "enterprise"].map(|tier| format!("{name}.{tier}"));
        Group { sections: sections.into(), ..TierLimit::group(name) }
    }

    fn read(name: &str, values: &mut Values) -> Option<Self> {
        let mut limit = |tier: &str| TierLimit::read(&format!("{name}.{tier}"), values);
        let (free, pro, enterprise) = (limit("free"), limit("pro"), limit("enterprise"));
        Some(Self { free: free?, pro: pro?, enterprise: enterprise? })
    }

    fn reloaded(&self, new: &Self) -> Self {
        Self {
            free: self.free.reloaded(&new.free),
            pro: self.pro.reloaded(&new.pro),
            enterprise: self.enterprise.reloaded(&new.enterprise),
        }
    }
}
