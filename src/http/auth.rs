//! Who is calling. The key's record is read from the state at every request, so a rotated, ended or re-tiered key is seen
//! by the very next one; only the slow comparison of its secret is remembered, as a keyed digest, for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use actix_web::http::header::AUTHORIZATION;
use actix_web::{HttpMessage as _, HttpRequest};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Api;
use super::error::{Code, Problem};
use super::hashing::HashingPool;
use super::routes::Access;
use crate::base::metrics::KeyVerification;
use crate::base::random;
use crate::config::Keys;
use crate::model::id::{KeyId, OrgNo};
use crate::model::key::KeyText;
use crate::model::org::Org;
use crate::model::time::Timestamp;
use crate::rules::token_bucket::{Bucket, Rate};
use crate::store::Authenticated;

/// Slow comparisons for one key: guessing a secret must not take the threads from others.
const SLOW_CHECKS: Rate = Rate { per_second: 5, burst: 20 };
/// Keys whose slow comparisons are counted at a time.
const CHECKED_KEYS_MAX: usize = 10_000;
/// Keys whose last use is remembered until it is noted.
const USED_KEYS_MAX: usize = 100_000;

type Digest = [u8; 32];

/// Judges keys.
pub(super) struct Authenticator {
    hashing: HashingPool,
    /// Key id to keyed digest of a key text that was compared with its hash.
    verified: moka::sync::Cache<KeyId, Digest>,
    /// Of this process only.
    digest_key: [u8; 32],
    admin: Digest,
    slow_checks: Mutex<HashMap<KeyId, Bucket>>,
    used: Mutex<HashMap<KeyId, Timestamp>>,
    began: Instant,
}

/// A caller with a valid key.
#[derive(Clone, Debug)]
pub(super) struct Admitted(Authenticated);

impl Admitted {
    pub(super) fn org_no(&self) -> OrgNo {
        self.0.org_no()
    }

    pub(super) fn org(&self) -> &Org {
        self.0.org()
    }

    pub(super) fn key(&self) -> &crate::model::key::Key {
        self.0.key()
    }
}

impl Authenticator {
    pub(super) fn new(settings: &Keys, hashing: HashingPool, admin_token: &str) -> Self {
        let verified =
            moka::sync::Cache::builder().max_capacity(settings.cache_entries).time_to_live(settings.cache).build();
        Self {
            hashing,
            verified,
            digest_key: random::bytes(),
            admin: Sha256::digest(admin_token.as_bytes()).into(),
            slow_checks: Mutex::default(),
            used: Mutex::default(),
            began: Instant::now(),
        }
    }

    /// What a new key's record keeps of its text.
    pub(super) async fn hash(&self, key: &KeyText) -> Result<String, Problem> {
        self.hashing.hash(key.reveal()).await
    }

    /// Whether the request carries the admin token.
    pub(super) fn is_admin(&self, request: &HttpRequest) -> Result<bool, Problem> {
        let given: Digest = Sha256::digest(given_key(request)?.unwrap_or_default().as_bytes()).into();
        Ok(given.ct_eq(&self.admin).into())
    }

    /// The caller, if their key is valid and the route is open to it.
    pub(super) async fn admit(&self, api: &Api, request: &HttpRequest) -> Result<Admitted, Problem> {
        let access = request.extensions().get::<Access>().copied();
        let caller = self.authenticate(api, request).await?;
        match access {
            Some(Access::Key(scope) | Access::AdminOrKey(scope)) if !caller.key().scopes.allows(scope) => {
                let detail = format!("this needs the scope {}, which the key does not have", scope.name());
                Err(Problem::new(Code::Forbidden, detail))
            }
            Some(Access::Key(_) | Access::AdminOrKey(_) | Access::AnyKey) => Ok(caller),
            Some(Access::Public) | None => Err(Problem::internal("a route asks for a key and is not in the table")),
        }
    }

    async fn authenticate(&self, api: &Api, request: &HttpRequest) -> Result<Admitted, Problem> {
        let verifications = &api.parts.metrics.key_verifications;
        let refused = || {
            verifications.of(KeyVerification::Refused).inc();
            // The same words for every cause: which it was is nobody's business but the owner's.
            Problem::new(Code::Unauthorized, "send a valid API key in X-API-Key or as Authorization: Bearer")
        };
        let text = given_key(request)?.ok_or_else(refused)?;
        let key: KeyText = text.parse().map_err(|_not_a_key| refused())?;
        let now = api.now();
        let record = api.parts.store.key(key.id())?.filter(|record| record.key().is_valid(now)).ok_or_else(refused)?;
        let digest = self.digest(key.reveal());
        let known = self.verified.get(&key.id()).is_some_and(|known| known.ct_eq(&digest).into());
        if known {
            verifications.of(KeyVerification::Cached).inc();
        } else {
            self.may_check(key.id()).inspect_err(|_| verifications.of(KeyVerification::Overloaded).inc())?;
            let matches = self.hashing.verify(key.reveal(), &record.key().hash).await;
            let matches = matches.inspect_err(|_| verifications.of(KeyVerification::Overloaded).inc())?;
            if !matches {
                return Err(refused());
            }
            verifications.of(KeyVerification::Verified).inc();
            self.verified.insert(key.id(), digest);
        }
        self.note_used(key.id(), now);
        Ok(Admitted(record))
    }

    fn digest(&self, text: &str) -> Digest {
        // HMAC takes keys of any length, so this cannot fail.
        let mac = Hmac::<Sha256>::new_from_slice(&self.digest_key);
        mac.map_or([0; 32], |mac| mac.chain_update(text.as_bytes()).finalize().into_bytes().into())
    }

    fn may_check(&self, key: KeyId) -> Result<(), Problem> {
        let now_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut checks = self.slow_checks.lock().unwrap_or_else(PoisonError::into_inner);
        if checks.len() >= CHECKED_KEYS_MAX {
            checks.retain(|_, bucket| bucket.admit(SLOW_CHECKS, 0, now_us).reset_s > 0);
        }
        if checks.entry(key).or_default().admit(SLOW_CHECKS, 1, now_us).is_admitted() {
            return Ok(());
        }
        Err(Problem::new(Code::Overloaded, "this key was checked too often just now"))
    }

    fn note_used(&self, key: KeyId, now: Timestamp) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() < USED_KEYS_MAX {
            used.insert(key, now);
        }
    }

    /// Keys used since the last call.
    pub(super) fn take_used(&self) -> Vec<(KeyId, Timestamp)> {
        let mut used: Vec<_> = self.used.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
        used.sort_unstable();
        used
    }
}

/// The key or token of the request, from either header.
fn given_key(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    let headers = request.headers();
    let own = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match (own, bearer) {
        (Some(own), Some(bearer)) if own != bearer => {
            Err(Problem::new(Code::InvalidRequest, "X-API-Key and Authorization give different keys; send one"))
        }
        (own, bearer) => Ok(own.or(bearer)),
    }
}
