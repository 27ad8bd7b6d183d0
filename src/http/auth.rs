//! Who is calling. The key id finds the record; a short check value refuses wrong secrets at once; what passes that is
//! compared with the argon2id hash once, and then a keyed digest of the text, in memory only, says that this text was the
//! right one. The record is looked up at every request, and again after every wait, so what was rotated, ended or moved to
//! another tier is seen by the next one.

use std::sync::{Arc, Mutex, PoisonError};

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use foldhash::HashMap;
use foldhash::fast::RandomState;
use hmac::{Hmac, KeyInit as _, Mac as _};
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::error::{Code, Problem};
use super::verify::{Hashed, NotJudged, Tag, Verifier, check_value};
use crate::base::metrics::{KeyVerification, Metrics};
use crate::base::random;
use crate::base::sabotage::{self, Switch};
use crate::commands::ExpireKeys;
use crate::commit::Intake;
use crate::config::Keys;
use crate::model::id::{KeyId, OrgNo};
use crate::model::key::{Key, KeyText, Scopes};
use crate::model::time::Timestamp;
use crate::store::{Authenticated, Store};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
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
    right: Cache<KeyId, Tag, RandomState>,
    used: Mutex<HashMap<KeyId, Timestamp>>,
    verifier: Verifier,
    /// Where it is written down that a key's time has come.
    intake: Intake,
    metrics: Arc<Metrics>,
}

/// A credential of ours, as a request shows it: a text that can be a key, or the admin token.
enum Credential {
    Admin,
    Key(KeyText),
}

/// What stands where a key of ours can stand: in `X-API-Key`, or behind `Authorization: Bearer` (RFC 6750, 2.1). Other
/// schemes are for others, such as the proxy in front.
pub(super) fn shown(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let bearer = headers.get_all(AUTHORIZATION).filter_map(|value| {
        let (scheme, key) = value.to_str().ok()?.trim().split_once([' ', '\t'])?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let plain = headers.get_all(API_KEY).filter_map(|value| Some(value.to_str().ok()?.trim()));
    plain.chain(bearer)
}

fn unauthorized() -> Problem {
    Problem::new(Code::Unauthorized, "send a valid key in X-API-Key or as Authorization: Bearer")
}

impl Authenticator {
    /// # Errors
    /// When the system has no threads to give.
    pub(super) fn new(
        settings: &Keys,
        admin_token: &str,
        intake: Intake,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let mac = Hmac::new_from_slice(&random::bytes::<32>()).map_err(std::io::Error::other)?;
        Ok(Self {
            admin_digest: Sha256::digest(admin_token).into(),
            mac,
            right: Cache::builder()
                .max_capacity(settings.cache_entries)
                .time_to_idle(settings.cache)
                .build_with_hasher(RandomState::default()),
            used: Mutex::default(),
            verifier: Verifier::start(settings.verify_threads, settings.verify_queue, &metrics)?,
            intake,
            metrics,
        })
    }

    /// The credential of ours in a request; none if there is none. What is not ours counts for nothing.
    ///
    /// # Errors
    /// When there are two different ones.
    fn credential(&self, headers: &HeaderMap) -> Result<Option<Credential>, Problem> {
        let mut found: Option<(&str, Credential)> = None;
        for text in shown(headers) {
            let credential = match text.parse::<KeyText>() {
                Ok(key) => Credential::Key(key),
                Err(_not_a_key) if self.is_admin(text) => Credential::Admin,
                Err(_not_a_key) => continue,
            };
            if found.as_ref().is_some_and(|(other, _)| *other != text) {
                return Err(Problem::new(
                    Code::InvalidRequest,
                    "the headers contain two different keys; send only one key",
                ));
            }
            found = Some((text, credential));
        }
        Ok(found.map(|(_, credential)| credential))
    }

    /// Who sends these headers. The time is asked again after each wait.
    ///
    /// # Errors
    /// When there is no credential in them that opens anything now, without saying why.
    pub(super) async fn caller(
        &self,
        headers: &HeaderMap,
        store: &Store,
        time: impl Fn() -> Timestamp,
    ) -> Result<Caller, Problem> {
        let text = match self.credential(headers)? {
            Some(Credential::Key(text)) => text,
            Some(Credential::Admin) => return Ok(Caller::Admin),
            None => return Err(self.refused()),
        };
        let (id, tag) = (text.id(), self.tag(&text));
        let Some(found) = store.key(id)? else { return Err(self.refused()) };
        let is_known = self.right.get(&id).is_some_and(|right| right.ct_eq(&tag).into());
        if !is_known && !passes(&text, found.key()) {
            return Err(self.refused());
        }
        let now = time();
        if !found.key().is_valid(now) {
            self.note_end(found.key(), now).await;
            return Err(self.refused());
        }
        if is_known {
            self.metrics.key_verifications.of(KeyVerification::Cached).inc();
            self.note_used(id, now);
            return Ok(Caller::Key(found));
        }
        let right = self.verifier.verify((text, tag), &found.key().hash).await;
        if !right.map_err(|error| self.not_judged(error))? {
            return Err(self.refused());
        }
        self.metrics.key_verifications.of(KeyVerification::Verified).inc();
        self.right.insert(id, tag);
        // That took a while: it may have ended meanwhile.
        let now = time();
        let found = store.key(id)?.filter(|found| found.key().is_valid(now)).ok_or_else(|| self.refused())?;
        self.note_used(id, now);
        Ok(Caller::Key(found))
    }

    /// Whether the key is valid and may all this, now.
    ///
    /// # Errors
    /// When it has ended, or may not.
    pub(super) fn judge(&self, key: KeyId, needs: Scopes, store: &Store, now: Timestamp) -> Result<(), Problem> {
        if sabotage::is_on(Switch::JudgedOnce) {
            return Ok(());
        }
        let found = store.key(key)?.filter(|found| found.key().is_valid(now));
        let found = found.ok_or_else(|| self.refused())?;
        if found.key().scopes.covers(needs) { Ok(()) } else { Err(forbidden()) }
    }

    /// A key whose time has come stays ended whatever the clock does: that is written down before the request that found it is
    /// refused. Requests that find it while they wait are refused at once, and the sweeper writes it down a moment later.
    async fn note_end(&self, key: &Key, now: Timestamp) {
        if key.has_ended() {
            return;
        }
        match self.intake.submit(ExpireKeys { keys: vec![key.id], at: now }) {
            Ok(pending) => drop(pending.outcome().await),
            Err(refused) => tracing::debug!(%refused, key = %key.id, "the expiry of the key will be stored later"),
        }
    }

    fn is_admin(&self, text: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(text).into();
        digest.ct_eq(&self.admin_digest).into()
    }

    /// What one is told who has no key that opens anything.
    pub(super) fn refused(&self) -> Problem {
        self.metrics.key_verifications.of(KeyVerification::Refused).inc();
        unauthorized()
    }

    fn tag(&self, text: &KeyText) -> Tag {
        self.mac.clone().chain_update(text.reveal()).finalize().into_bytes().into()
    }

    fn not_judged(&self, error: NotJudged) -> Problem {
        self.metrics.key_verifications.of(KeyVerification::Overloaded).inc();
        match error {
            NotJudged::Overloaded => Problem::new(Code::Overloaded, "the queue for checking keys is full"),
            NotJudged::Failed => Problem::internal(&"a key could not be hashed or checked"),
        }
    }

    /// What is to be kept of a new key's text; `org`: who asks for it, if it is not the operator.
    ///
    /// # Errors
    /// When it was not made: too many wait.
    pub(super) async fn hash(&self, text: &Arc<KeyText>, org: Option<OrgNo>) -> Result<Hashed, Problem> {
        self.verifier.hash(Arc::clone(text), org).await.map_err(|error| self.not_judged(error))
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

/// Whether the text can be the key's: next to certain if it is so, and certain if it is not.
fn passes(text: &KeyText, key: &Key) -> bool {
    check_value(text, &key.hash).is_some_and(|value| value.ct_eq(&key.check).into())
}

/// What a key is told that does not have the scope any more.
pub(super) fn forbidden() -> Problem {
    Problem::new(Code::Forbidden, "the key no longer allows this request")
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
