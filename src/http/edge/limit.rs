//! Rate limits. Each organization has two token buckets, sized by its tier: one for posted events,
//! another for all other requests. Buckets are kept in memory only; a restart begins with full
//! buckets.

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use actix_web::http::header::HeaderValue;
use foldhash::HashMap;

use crate::config::{TierLimit, Tiers};
use crate::http::principal::Principal;
use crate::model::id::OrgNo;
use crate::model::org::Tier;
use crate::rules::token_bucket::{Admission, Bucket, Rate};

/// Number of locks, so that workers seldom wait for each other.
const SHARDS: usize = 16;
/// Number of buckets in a shard from which full buckets are dropped before a bucket is added. A
/// full bucket holds no information.
const SHARD_SWEEP_FROM: usize = 1_024;
/// The operator's rate: enough for any script, and a bound for a script that runs wild.
const ADMIN_RATE: Rate = Rate { per_second: 1_000, burst: 2_000 };

/// Room for the value of a header `RateLimit`, which then is written without another allocation.
const SITUATION_BYTES: usize = 64;

/// The budget that a request is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::http) enum Budget {
    /// Each posted event takes one token.
    Events,
    /// Each other request takes one token.
    Requests,
}

/// The rate of a principal, and the headers that announce the rate.
#[derive(Clone, Debug)]
pub(in crate::http) struct Plan {
    name: String,
    rate: Rate,
    /// Value of the header `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    pub(in crate::http) policy: HeaderValue,
}

impl Plan {
    fn new(name: String, rate: Rate) -> Self {
        let window_s = rate.burst.div_ceil(rate.per_second.max(1)).max(1);
        let policy = format!("\"{name}\";q={};w={window_s}", rate.burst);
        Self {
            name,
            rate,
            policy: HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("")),
        }
    }

    /// Returns the value of the header `RateLimit` (same draft): tokens left, and seconds until the
    /// bucket is full.
    pub(in crate::http) fn situation(&self, admission: &Admission) -> Option<HeaderValue> {
        let mut text = String::with_capacity(SITUATION_BYTES);
        let Admission { remaining, reset_s, .. } = admission;
        write!(text, "\"{}\";r={remaining};t={reset_s}", self.name).ok()?;
        HeaderValue::try_from(text).ok()
    }
}

/// A bucket and the rate of its last use.
#[derive(Debug)]
struct Account {
    bucket: Bucket,
    rate: Rate,
}

/// The rates of a tier, by budget.
#[derive(Debug)]
struct Plans {
    events: Plan,
    requests: Plan,
}

impl Plans {
    fn new(tier: Tier, limit: TierLimit) -> Self {
        let plan = |of: &str, per_second: NonZeroU32, burst: NonZeroU32| {
            let rate = Rate { per_second: per_second.get().into(), burst: burst.get().into() };
            Plan::new(format!("{}-{of}", tier.name()), rate)
        };
        Self {
            events: plan("events", limit.events_per_second, limit.burst),
            requests: plan("requests", limit.requests_per_second, limit.request_burst),
        }
    }

    fn of(&self, budget: Budget) -> &Plan {
        match budget {
            Budget::Events => &self.events,
            Budget::Requests => &self.requests,
        }
    }
}

/// The rates of all tiers, and the buckets of all payers.
#[derive(Debug)]
pub(in crate::http) struct RateLimits {
    admin: Plan,
    free: Plans,
    pro: Plans,
    enterprise: Plans,
    buckets: Arc<Buckets>,
}

/// The buckets of all payers, in shards.
#[derive(Debug)]
struct Buckets {
    began: Instant,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    accounts: HashMap<(Principal, Budget), Account>,
    /// Number of buckets at which the next sweep drops full buckets.
    sweep_at: usize,
}

impl RateLimits {
    pub(in crate::http) fn new(tiers: &Tiers) -> Self {
        Self::of(tiers, Arc::new(Buckets { began: Instant::now(), shards: Default::default() }))
    }

    /// Returns the rates of other tiers over the same buckets. Used tokens stay used.
    pub(in crate::http) fn with(&self, tiers: &Tiers) -> Self {
        Self::of(tiers, Arc::clone(&self.buckets))
    }

    fn of(tiers: &Tiers, buckets: Arc<Buckets>) -> Self {
        let plans = |tier: Tier| Plans::new(tier, tiers.of(tier));
        Self {
            admin: Plan::new("admin".to_owned(), ADMIN_RATE),
            free: plans(Tier::Free),
            pro: plans(Tier::Pro),
            enterprise: plans(Tier::Enterprise),
            buckets,
        }
    }

    /// Returns the plan of a tier; `None` is the operator's plan.
    pub(in crate::http) fn plan(&self, tier: Option<Tier>, budget: Budget) -> &Plan {
        match tier {
            None => &self.admin,
            Some(Tier::Free) => self.free.of(budget),
            Some(Tier::Pro) => self.pro.of(budget),
            Some(Tier::Enterprise) => self.enterprise.of(budget),
        }
    }

    /// Takes `cost` tokens. With 0, only checks that a token is left.
    pub(in crate::http) fn admit(
        &self,
        principal: (Principal, Budget),
        plan: &Plan,
        cost: u64,
    ) -> Admission {
        self.buckets.ask(principal, plan, |bucket, now_us| bucket.admit(plan.rate, cost, now_us))
    }

    /// Charges `cost` more tokens for a request that was admitted before its whole cost was known.
    pub(in crate::http) fn owe(
        &self,
        principal: (Principal, Budget),
        plan: &Plan,
        cost: u64,
    ) -> Admission {
        self.buckets.ask(principal, plan, |bucket, now_us| bucket.owe(plan.rate, cost, now_us))
    }
}

impl Buckets {
    fn ask(
        &self,
        (principal, budget): (Principal, Budget),
        plan: &Plan,
        ask: impl FnOnce(&mut Bucket, u64) -> Admission,
    ) -> Admission {
        let now_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let shard_no = match principal {
            Principal::Anyone | Principal::Admin => 0,
            Principal::Org(OrgNo(number)) => number as usize % SHARDS,
        };
        let Some(shard) = self.shards.get(shard_no) else {
            return ask(&mut Bucket::default(), now_us);
        };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.sweep(now_us);
        let account = shard.accounts.entry((principal, budget));
        let account =
            account.or_insert_with(|| Account { bucket: Bucket::default(), rate: plan.rate });
        account.rate = plan.rate;
        ask(&mut account.bucket, now_us)
    }
}

impl Shard {
    /// Drops full buckets when there are many, because a new bucket is full too.
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
        let text = "[tiers.free]\nevents_per_second = 1\nburst = \
            3\n[tiers.pro]\nevents_per_second = 10\nburst = 20\n";
        RateLimits::new(&Config::from_toml(text).unwrap().tiers)
    }

    #[test]
    fn each_organization_has_the_rate_of_its_tier_to_itself() {
        let limits = limits();
        let plan = limits.plan(Some(Tier::Free), Budget::Events);
        assert_eq!(plan.policy, "\"free-events\";q=3;w=3");
        let one = (Principal::Org(OrgNo(1)), Budget::Events);
        for left in [2, 1, 0] {
            let admission = limits.admit(one, plan, 1);
            assert!(admission.is_admitted());
            assert_eq!(admission.remaining, left);
        }
        let refused = limits.admit(one, plan, 1);
        assert!(!refused.is_admitted());
        assert_eq!(plan.situation(&refused).unwrap(), "\"free-events\";r=0;t=3");
        let other = (Principal::Org(OrgNo(17)), Budget::Events);
        assert!(limits.admit(other, plan, 1).is_admitted(), "the same shard, another organization");
        let admin = limits.plan(None, Budget::Requests);
        assert!(limits.admit((Principal::Admin, Budget::Requests), admin, 1).is_admitted());
    }

    #[test]
    fn what_is_posted_and_what_else_is_asked_for_have_budgets_of_their_own() {
        let limits = limits();
        let (events, requests) = (
            limits.plan(Some(Tier::Free), Budget::Events),
            limits.plan(Some(Tier::Free), Budget::Requests),
        );
        assert_eq!(requests.policy, "\"free-requests\";q=30;w=3");
        let org = Principal::Org(OrgNo(1));
        limits.admit((org, Budget::Events), events, 1_000);
        assert!(!limits.admit((org, Budget::Events), events, 1).is_admitted());
        for left in (0..30).rev() {
            let admission = limits.admit((org, Budget::Requests), requests, 1);
            assert_eq!((admission.is_admitted(), admission.remaining), (true, left));
        }
        assert!(!limits.admit((org, Budget::Requests), requests, 1).is_admitted());
    }

    #[test]
    fn other_tiers_fill_no_bucket() {
        let limits = limits();
        let org = (Principal::Org(OrgNo(1)), Budget::Events);
        limits.admit(org, limits.plan(Some(Tier::Pro), Budget::Events), 15);
        let text = "[tiers.free]\nburst = 7\n[tiers.pro]\nevents_per_second = 1\nburst = 18\n";
        let later = limits.with(&Config::from_toml(text).unwrap().tiers);
        let plan = later.plan(Some(Tier::Pro), Budget::Events);
        let admission = later.admit(org, plan, 0);
        assert_eq!(
            (admission.limit, admission.remaining),
            (18, 3),
            "the new rate, and what was used before"
        );
    }

    #[test]
    fn full_buckets_do_not_stay_in_memory() {
        let limits = limits();
        let plan = limits.plan(Some(Tier::Free), Budget::Events);
        let principal = |number| (Principal::Org(OrgNo(number)), Budget::Events);
        limits.admit(principal(0), plan, 3);
        for number in 1..=u32::try_from(4 * SHARD_SWEEP_FROM).unwrap() {
            limits.admit(principal(number * 16), plan, 0);
        }
        let kept = limits.buckets.shards[0].lock().unwrap().accounts.len();
        assert!(kept <= SHARD_SWEEP_FROM, "{kept}");
        assert_eq!(limits.admit(principal(0), plan, 0).remaining, 0, "what is used stays used");
    }
}
