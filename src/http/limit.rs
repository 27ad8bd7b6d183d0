//! The rate of each organization: a token bucket by its tier. Kept in memory only; a restart begins with full buckets.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use actix_web::http::header::HeaderValue;

use crate::config::Tiers;
use crate::model::id::OrgNo;
use crate::model::org::Tier;
use crate::rules::token_bucket::{Admission, Bucket, Rate};

/// Locks, so that workers seldom wait for each other.
const SHARDS: usize = 16;
/// From so many buckets in a shard on, full ones (which say nothing) are dropped before one is added.
const SHARD_SWEEP_FROM: usize = 1_024;
/// What the operator may ask for: enough for any script, and an end for one that runs wild.
const ADMIN_RATE: Rate = Rate { per_second: 1_000, burst: 2_000 };

/// Who pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Payer {
    Anyone,
    Admin,
    Org(OrgNo),
}

/// What a payer may, and how the headers say it.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    name: &'static str,
    rate: Rate,
    /// `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    pub(super) policy: HeaderValue,
}

impl Plan {
    fn new(name: &'static str, rate: Rate) -> Self {
        let window_s = rate.burst.div_ceil(rate.per_second.max(1)).max(1);
        let policy = format!("\"{name}\";q={};w={window_s}", rate.burst);
        Self { name, rate, policy: HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("")) }
    }

    /// `RateLimit` of the same draft: what is left, and when all of it is there again.
    pub(super) fn standing(&self, admission: &Admission) -> Option<HeaderValue> {
        let text = format!("\"{}\";r={};t={}", self.name, admission.remaining, admission.reset_s);
        HeaderValue::try_from(text).ok()
    }
}

/// A bucket and the rate it was last used with.
#[derive(Debug)]
struct Account {
    bucket: Bucket,
    rate: Rate,
}

/// Everyone's buckets.
#[derive(Debug)]
pub(super) struct RateLimits {
    admin: Plan,
    free: Plan,
    pro: Plan,
    enterprise: Plan,
    began: Instant,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    accounts: HashMap<Payer, Account>,
    /// The number of buckets at which full ones are dropped next.
    sweep_at: usize,
}

impl RateLimits {
    pub(super) fn new(tiers: &Tiers) -> Self {
        let plan = |tier: Tier| {
            let limit = tiers.of(tier);
            let rate = Rate { per_second: limit.events_per_second.get().into(), burst: limit.burst.get().into() };
            Plan::new(tier.name(), rate)
        };
        Self {
            admin: Plan::new("admin", ADMIN_RATE),
            free: plan(Tier::Free),
            pro: plan(Tier::Pro),
            enterprise: plan(Tier::Enterprise),
            began: Instant::now(),
            shards: Default::default(),
        }
    }

    /// What an organization of the tier may; none: what the operator may.
    pub(super) fn plan(&self, tier: Option<Tier>) -> &Plan {
        match tier {
            None => &self.admin,
            Some(Tier::Free) => &self.free,
            Some(Tier::Pro) => &self.pro,
            Some(Tier::Enterprise) => &self.enterprise,
        }
    }

    /// Asks for `cost` tokens; 0 asks only whether there is one.
    pub(super) fn admit(&self, payer: Payer, plan: &Plan, cost: u64) -> Admission {
        self.with_bucket(payer, plan, |bucket, now_us| bucket.admit(plan.rate, cost, now_us))
    }

    /// Charges `cost` tokens more for something that was admitted before its whole cost was known.
    pub(super) fn owe(&self, payer: Payer, plan: &Plan, cost: u64) -> Admission {
        self.with_bucket(payer, plan, |bucket, now_us| bucket.owe(plan.rate, cost, now_us))
    }

    fn with_bucket(&self, payer: Payer, plan: &Plan, ask: impl FnOnce(&mut Bucket, u64) -> Admission) -> Admission {
        let now_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let place = match payer {
            Payer::Anyone | Payer::Admin => 0,
            Payer::Org(OrgNo(number)) => number as usize % SHARDS,
        };
        let Some(shard) = self.shards.get(place) else {
            return ask(&mut Bucket::default(), now_us);
        };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.sweep(now_us);
        let account =
            shard.accounts.entry(payer).or_insert_with(|| Account { bucket: Bucket::default(), rate: plan.rate });
        account.rate = plan.rate;
        ask(&mut account.bucket, now_us)
    }
}

impl Shard {
    /// Drops full buckets when there are many: a new one is full too.
    fn sweep(&mut self, now_us: u64) {
        if self.accounts.len() < self.sweep_at.max(SHARD_SWEEP_FROM) {
            return;
        }
        self.accounts.retain(|_, account| {
            let admission = account.bucket.admit(account.rate, 0, now_us);
            admission.remaining < admission.limit
        });
        self.sweep_at = self.accounts.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn limits() -> RateLimits {
        let text = "[tiers.free]\nevents_per_second = 1\nburst = 3\n[tiers.pro]\nevents_per_second = 10\nburst = 20\n";
        RateLimits::new(&Config::from_toml(text).unwrap().tiers)
    }

    #[test]
    fn each_organization_has_the_rate_of_its_tier_to_itself() {
        let limits = limits();
        let plan = limits.plan(Some(Tier::Free));
        assert_eq!(plan.policy, "\"free\";q=3;w=3");
        let one = Payer::Org(OrgNo(1));
        for left in [2, 1, 0] {
            let admission = limits.admit(one, plan, 1);
            assert!(admission.is_admitted());
            assert_eq!(admission.remaining, left);
        }
        let refused = limits.admit(one, plan, 1);
        assert!(!refused.is_admitted());
        assert_eq!(plan.standing(&refused).unwrap(), "\"free\";r=0;t=3");
        assert!(limits.admit(Payer::Org(OrgNo(17)), plan, 1).is_admitted(), "the same shard, another organization");
        assert!(limits.admit(Payer::Admin, limits.plan(None), 1).is_admitted());
    }

    #[test]
    fn full_buckets_do_not_stay_in_memory() {
        let limits = limits();
        let plan = limits.plan(Some(Tier::Free));
        limits.admit(Payer::Org(OrgNo(0)), plan, 3);
        for number in 1..=u32::try_from(4 * SHARD_SWEEP_FROM).unwrap() {
            limits.admit(Payer::Org(OrgNo(number * 16)), plan, 0);
        }
        let kept = limits.shards[0].lock().unwrap().accounts.len();
        assert!(kept <= SHARD_SWEEP_FROM, "{kept}");
        assert_eq!(limits.admit(Payer::Org(OrgNo(0)), plan, 0).remaining, 0, "what is used stays used");
    }
}
