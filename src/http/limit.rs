//! The rate of each organization, by its tier. Headers: the IETF draft `RateLimit` fields (draft-ietf-httpapi-ratelimit-headers)
//! and the `X-RateLimit-*` ones that clients know.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest};

use super::Api;
use super::auth::Admitted;
use super::error::{Code, Problem};
use crate::model::id::OrgNo;
use crate::model::org::Tier;
use crate::rules::token_bucket::{Admission, Bucket, Decision, Rate};

/// Buckets kept; beyond it, those of idle organizations are forgotten, which changes nothing for them.
const BUCKETS_MAX: usize = 20_000;

/// A bucket for each organization that called lately.
pub(super) struct RateLimits {
    buckets: Mutex<HashMap<OrgNo, Bucket>>,
    began: Instant,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { buckets: Mutex::default(), began: Instant::now() }
    }
}

/// Where the organization stands, for the answer's headers.
pub(super) struct RateState {
    tier: Tier,
    rate: Rate,
    admission: Admission,
}

impl RateLimits {
    /// Takes `cost` from the organization's bucket, and leaves its state for the headers.
    pub(super) fn charge(&self, api: &Api, request: &HttpRequest, caller: &Admitted, cost: u64) -> Result<(), Problem> {
        let tier = caller.org().tier;
        let limit = api.parts.config.tiers.of(tier);
        let rate = Rate { per_second: limit.events_per_second.get().into(), burst: limit.burst.get().into() };
        let now_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let admission = {
            let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
            if buckets.len() >= BUCKETS_MAX {
                // A cost of 0 asks without taking; a full bucket is as good as a new one.
                buckets.retain(|_, bucket| bucket.admit(rate, 0, now_us).reset_s > 0);
            }
            buckets.entry(caller.org_no()).or_default().admit(rate, cost, now_us)
        };
        request.extensions_mut().insert(RateState { tier, rate, admission });
        match admission.decision {
            Decision::Admitted => Ok(()),
            Decision::Refused { retry_after_s } => {
                let detail = format!("the tier {tier} allows {} events a second; nothing was stored", rate.per_second);
                let seconds = u32::try_from(retry_after_s.max(1)).unwrap_or(u32::MAX);
                Err(Problem { retry_after_s: Some(seconds), ..Problem::new(Code::RateLimited, detail) })
            }
        }
    }
}

impl RateState {
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        let Self { tier, rate, admission } = self;
        let window_s = rate.burst.div_ceil(rate.per_second.max(1));
        let mut insert = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        insert("ratelimit-policy", format!("\"{tier}\";q={};w={window_s}", admission.limit));
        insert("ratelimit", format!("\"{tier}\";r={};t={}", admission.remaining, admission.reset_s));
        insert("x-ratelimit-limit", admission.limit.to_string());
        insert("x-ratelimit-remaining", admission.remaining.to_string());
        insert("x-ratelimit-reset", admission.reset_s.to_string());
    }
}
