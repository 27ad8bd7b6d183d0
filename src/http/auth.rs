//! Who is calling. The key id finds the record, the secret is compared with its argon2id hash once; then a keyed digest
//! of the text, in memory only, says that this text was the right one. The record is looked up at every request, so what
//! was rotated, ended or moved to another tier is seen by the next one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use hmac::{Hmac, KeyInit as _, Mac as _};
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::error::{Code, Problem};
use super::verify::{NotJudged, Tag, Verifier};
use crate::base::metrics::{KeyVerification, Metrics};
use crate::base::random;
use crate::config::Keys;
use crate::model::id::KeyId;
use crate::model::key::{KeyText, NotAKey};
use crate::model::time::Timestamp;
use crate::rules::token_bucket::{Bucket, Decision, Rate};
use crate::store::{Authenticated, Store};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Checks of one key id from one address: whoever knows the id but not the secret must not take all the threads, nor
/// stand in the way of the one who knows both.
const CHECKS: Rate = Rate { per_second: 5, burst: 10 };
/// Key ids and addresses whose checks are counted.
const CHECKED_MAX: u64 = 10_000;
/// Keys whose last use waits to be noted; more are noted at their next use.
const USED_MAX: usize = 100_000;

/// Who is calling.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// Nobody was asked.
    Anyone,
    /// The operator.
    Admin,
    /// An organization, by one of its keys.
    Key(Authenticated),
}

/// Judges keys.
#[derive(Debug)]
pub(super) struct Authenticator {
    admin_digest: [u8; 32],
    /// Of this process only, so that what is in memory is of no use elsewhere.
    mac: Hmac<Sha256>,
    /// Texts that were right, by key id.
    right: Cache<KeyId, Tag>,
    checks: Cache<(KeyId, Option<IpAddr>), Arc<Mutex<Bucket>>>,
    began: Instant,
    used: Mutex<HashMap<KeyId, Timestamp>>,
    verifier: Verifier,
    metrics: Arc<Metrics>,
}

/// What a request shows, and where it comes from.
pub(super) struct Credential<'a> {
    text: &'a str,
    peer: Option<IpAddr>,
}

impl<'a> Credential<'a> {
    /// The key in `X-API-Key` or behind `Authorization: Bearer` (RFC 6750, 2.1); none if there is none.
    ///
    /// # Errors
    /// When there are two different ones, or something that is no key at all.
    pub(super) fn of(headers: &'a HeaderMap, peer: Option<IpAddr>) -> Result<Option<Self>, Problem> {
        let mut found: Option<&'a str> = None;
        let bearer = headers.get_all(AUTHORIZATION).map(|value| {
            let (scheme, key) = value.to_str().ok()?.trim().split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
        let plain = headers.get_all(API_KEY).map(|value| value.to_str().ok().map(str::trim));
        for key in plain.chain(bearer) {
            let key = key.ok_or_else(unauthorized)?;
            if found.is_some_and(|other| other != key) {
                return Err(Problem::new(
                    Code::InvalidRequest,
                    "there are two different keys in the request's headers",
                ));
            }
            found = Some(key);
        }
        Ok(found.map(|text| Self { text, peer }))
    }
}

fn unauthorized() -> Problem {
    Problem::new(Code::Unauthorized, "a valid key is needed, in X-API-Key or as Authorization: Bearer")
}

impl Authenticator {
    /// # Errors
    /// When the system has no threads to give.
    pub(super) fn new(settings: &Keys, admin_token: &str, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let mac = Hmac::new_from_slice(&random::bytes::<32>()).map_err(std::io::Error::other)?;
        Ok(Self {
            admin_digest: Sha256::digest(admin_token).into(),
            mac,
            right: Cache::builder().max_capacity(settings.cache_entries).time_to_idle(settings.cache).build(),
            checks: Cache::new(CHECKED_MAX),
            began: Instant::now(),
            used: Mutex::default(),
            verifier: Verifier::start(settings.verify_threads, settings.verify_queue)?,
            metrics,
        })
    }

    /// Who shows this credential.
    ///
    /// # Errors
    /// When it opens nothing now, without saying why.
    pub(super) async fn caller(
        &self,
        credential: &Credential<'_>,
        store: &Store,
        now: Timestamp,
    ) -> Result<Caller, Problem> {
        let text = match credential.text.parse::<KeyText>() {
            Ok(text) => text,
            Err(NotAKey) if self.is_admin(credential.text) => return Ok(Caller::Admin),
            Err(NotAKey) => return Err(self.refused()),
        };
        let id = text.id();
        let known = store.key(id)?.filter(|found| found.key().is_valid(now));
        let Some(found) = known else { return Err(self.refused()) };
        if !self.is_right(text, &found.key().hash, credential.peer).await? {
            return Err(self.refused());
        }
        self.note_used(id, now);
        Ok(Caller::Key(found))
    }

    /// What a request without any key is told.
    ///
    /// # Errors
    /// Always.
    pub(super) fn nobody(&self) -> Result<Caller, Problem> {
        Err(self.refused())
    }

    fn is_admin(&self, text: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(text).into();
        digest.ct_eq(&self.admin_digest).into()
    }

    fn refused(&self) -> Problem {
        self.metrics.key_verifications.of(KeyVerification::Refused).inc();
        unauthorized()
    }

    async fn is_right(&self, text: KeyText, hash: &str, peer: Option<IpAddr>) -> Result<bool, Problem> {
        let (id, tag) = (text.id(), self.tag(&text));
        if self.right.get(&id).is_some_and(|right| right.ct_eq(&tag).into()) {
            self.metrics.key_verifications.of(KeyVerification::Cached).inc();
            return Ok(true);
        }
        let admit = || self.admit_check((id, peer));
        let right = self.verifier.verify((text, tag), hash, admit).await.map_err(|error| self.not_judged(error))?;
        if right {
            self.metrics.key_verifications.of(KeyVerification::Verified).inc();
            self.right.insert(id, tag);
        }
        Ok(right)
    }

    fn tag(&self, text: &KeyText) -> Tag {
        self.mac.clone().chain_update(text.reveal()).finalize().into_bytes().into()
    }

    fn not_judged(&self, error: NotJudged) -> Problem {
        self.metrics.key_verifications.of(KeyVerification::Overloaded).inc();
        match error {
            NotJudged::Overloaded => {
                Problem::new(Code::Overloaded, "more keys wait to be checked than the queue holds")
            }
            NotJudged::TooOften { retry_after_s } => {
                let detail = "this key is checked too often; it may be tried again shortly";
                Problem::new(Code::RateLimited, detail).retry_after(retry_after_s)
            }
            NotJudged::Failed => Problem::internal(&"a key could not be hashed or checked"),
        }
    }

    /// Bounds the checks of one key id from one address.
    fn admit_check(&self, whose: (KeyId, Option<IpAddr>)) -> Result<(), NotJudged> {
        let bucket = self.checks.get_with(whose, Arc::default);
        let now_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let admission = bucket.lock().unwrap_or_else(PoisonError::into_inner).admit(CHECKS, 1, now_us);
        match admission.decision {
            Decision::Admitted => Ok(()),
            Decision::Refused { retry_after_s } => Err(NotJudged::TooOften { retry_after_s }),
        }
    }

    /// The hash of a new key's text.
    ///
    /// # Errors
    /// When it was not made: too many wait.
    pub(super) async fn hash(&self, text: &Arc<KeyText>) -> Result<String, Problem> {
        self.verifier.hash(Arc::clone(text)).await.map_err(|error| self.not_judged(error))
    }

    /// Remembers the text of a key that was just made as right.
    pub(super) fn remember(&self, text: &KeyText) {
        self.right.insert(text.id(), self.tag(text));
    }

    fn note_used(&self, id: KeyId, now: Timestamp) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() < USED_MAX || used.contains_key(&id) {
            used.insert(id, now);
        }
    }

    /// Keys that were used since the last call, and when last.
    pub(super) fn take_used(&self) -> Vec<(KeyId, Timestamp)> {
        let mut used = std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner));
        used.drain().collect()
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
