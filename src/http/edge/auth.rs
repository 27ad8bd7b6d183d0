//! Authentication: finds the caller of a request by the key in its headers.
//!
//! The key's id finds the record. A short check value rejects wrong secrets at once. A text with
//! the right check value is compared with the argon2id hash once; afterwards a keyed digest, in
//! memory only, recognizes the text. The record is read on every request, and again after every
//! wait, so a rotation, a revocation or a change of tier counts from the next request.

use std::sync::{Arc, Mutex, PoisonError};

use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use foldhash::HashMap;
use foldhash::fast::RandomState;
use hmac::{Hmac, KeyInit as _, Mac as _};
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::base::failpoint::{self, Switch};
use crate::base::metrics::{KeyVerification, Metrics};
use crate::base::random;
use crate::commands::ExpireKeys;
use crate::commit::Intake;
use crate::config::Keys;
use crate::http::edge::verify::{Hashed, NotJudged, Tag, Verifier, check_value};
use crate::http::error::{Code, Problem};
use crate::model::id::{KeyId, OrgNo};
use crate::model::key::{Key, KeyText, Scope, Scopes};
use crate::model::time::{Now, Timestamp};
use crate::store::{Authenticated, Store};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Maximum number of keys whose last use waits to be recorded. The use of any other key is recorded
/// next time.
const USED_MAX: usize = 100_000;

/// The caller of a request.
#[derive(Clone, Debug)]
pub(in crate::http) enum Caller {
    /// No caller is known: the route is public, or no valid key was found.
    Anyone,
    /// The operator, by the admin token.
    Admin,
    /// An organization, by a key of its own.
    Key(Authenticated),
}

/// The callers with access to a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Anyone; the server reads no key.
    Public,
    /// Every key of an organization.
    AnyKey,
    /// The operator, or every key of an organization.
    AdminOrAnyKey,
    /// A key with this scope.
    Scope(Scope),
    /// The operator, or a key with this scope.
    AdminOr(Scope),
    /// The operator alone.
    Admin,
}

impl Who {
    /// Returns the scopes that the caller's key needs.
    pub(in crate::http) fn needs(self) -> Scopes {
        match self {
            Self::Scope(scope) | Self::AdminOr(scope) => scope.into(),
            Self::AnyKey | Self::AdminOrAnyKey | Self::Public | Self::Admin => Scopes::none(),
        }
    }
}

/// Finds the callers of requests, and judges their keys.
#[derive(Debug)]
pub(in crate::http) struct Authenticator {
    admin_digest: [u8; 32],
    /// Computes the digests in `right`. Its key exists in this process only, so a digest is of no
    /// use elsewhere.
    mac: Hmac<Sha256>,
    /// Digests of texts that matched the hash, by key id.
    right: Cache<KeyId, Tag, RandomState>,
    used: Mutex<HashMap<KeyId, Timestamp>>,
    verifier: Verifier,
    /// Takes the commands by which expired keys are recorded.
    intake: Intake,
    metrics: Arc<Metrics>,
}

/// A credential of triggerd as a request shows it: a well-formed key, or the admin token.
enum Credential {
    Admin,
    Key(KeyText),
}

/// Returns the values in which a key can appear, each with the name of its header: `X-API-Key`, and
/// `Authorization: Bearer` (RFC 6750, 2.1). Other schemes are for others, such as the proxy in
/// front.
pub(in crate::http) fn shown(headers: &HeaderMap) -> impl Iterator<Item = (&'static str, &str)> {
    let bearer = headers.get_all(AUTHORIZATION).filter_map(|value| {
        let (scheme, key) = value.to_str().ok()?.trim().split_once([' ', '\t'])?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let plain = headers.get_all(API_KEY).filter_map(|value| Some(value.to_str().ok()?.trim()));
    plain.map(|key| ("X-API-Key", key)).chain(bearer.map(|key| ("Authorization", key)))
}

fn unauthorized() -> Problem {
    let detail = "the request has no valid API key; send one in the header X-API-Key, or as \
        Authorization: Bearer";
    Problem::new(Code::Unauthorized, detail)
}

/// The problem for two different credentials in these headers, which can have the same name.
fn two_keys(first: &str, second: &str) -> Problem {
    let place = if first == second {
        format!("several headers {first} of the request")
    } else {
        format!("the headers {first} and {second}")
    };
    let detail = format!("{place} have different keys of triggerd; send only one key");
    Problem::new(Code::InvalidRequest, detail)
}

/// Checks the caller's permission to use a route.
pub(in crate::http) fn permit(who: Who, caller: &Caller) -> Result<(), Problem> {
    let forbidden = |detail: String| Err(Problem::new(Code::Forbidden, detail));
    match (who, caller) {
        (Who::Public, _)
        | (Who::AnyKey | Who::AdminOrAnyKey, Caller::Key(_))
        | (Who::AdminOr(_) | Who::AdminOrAnyKey | Who::Admin, Caller::Admin) => Ok(()),
        (Who::Scope(scope) | Who::AdminOr(scope), Caller::Key(key)) => {
            if key.key().scopes.allows(scope) {
                return Ok(());
            }
            forbidden(format!(
                "the key lacks the scope {}, which this route needs; use a key with this scope",
                scope.name()
            ))
        }
        (Who::Scope(_) | Who::AnyKey, Caller::Admin) => forbidden(
            "this route needs the API key of an organization, not the admin token; \
                 POST /api/keys/generate makes one"
                .to_owned(),
        ),
        (Who::Admin, Caller::Key(_) | Caller::Anyone) => {
            forbidden("this route needs the admin token".to_owned())
        }
        (Who::Scope(_) | Who::AnyKey | Who::AdminOr(_) | Who::AdminOrAnyKey, Caller::Anyone) => {
            forbidden("this route needs an API key".to_owned())
        }
    }
}

/// Refuses a change by a key whose organization is suspended. Reads go on.
pub(in crate::http) fn permit_change(method: &Method, caller: &Caller) -> Result<(), Problem> {
    match caller {
        Caller::Key(key) if key.is_suspended() && !method.is_safe() => Err(suspended()),
        Caller::Key(_) | Caller::Admin | Caller::Anyone => Ok(()),
    }
}

impl Authenticator {
    /// Creates the authenticator and starts the threads of its verifier.
    ///
    /// # Errors
    /// Fails when the system cannot start a thread.
    pub(in crate::http) fn new(
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

    /// Returns the credential in a request, or `None` without a credential. Values of any other
    /// form are ignored.
    ///
    /// # Errors
    /// Fails when the headers contain two different credentials.
    fn credential(&self, headers: &HeaderMap) -> Result<Option<Credential>, Problem> {
        let mut found: Option<((&str, &str), Credential)> = None;
        for (header, text) in shown(headers) {
            let credential = match text.parse::<KeyText>() {
                Ok(key) => Credential::Key(key),
                Err(_not_a_key) if self.is_admin(text) => Credential::Admin,
                Err(_not_a_key) => continue,
            };
            if let Some(((first, other), _)) = found
                && other != text
            {
                return Err(two_keys(first, header));
            }
            found = Some(((header, text), credential));
        }
        Ok(found.map(|(_, credential)| credential))
    }

    /// Returns the sender of these headers. `time` is asked again after each wait.
    ///
    /// # Errors
    /// Fails when no credential in the headers is valid now. The problem does not say why.
    pub(in crate::http) async fn caller(
        &self,
        headers: &HeaderMap,
        store: &Store,
        time: impl Fn() -> Now,
    ) -> Result<Caller, Problem> {
        let text = match self.credential(headers)? {
            Some(Credential::Key(text)) => text,
            Some(Credential::Admin) => return Ok(Caller::Admin),
            None => return Err(self.refused()),
        };
        let (id, tag) = (text.id(), self.tag(&text));
        let found = store.key(id)?.ok_or_else(|| self.refused())?;
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
            self.note_used(id, now.wall);
            return Ok(Caller::Key(found));
        }
        self.verify((text, tag), &found.key().hash).await?;
        // The hash took a while: the key may have ended meanwhile.
        let now = time();
        let found = store
            .key(id)?
            .filter(|found| found.key().is_valid(now))
            .ok_or_else(|| self.refused())?;
        self.note_used(id, now.wall);
        Ok(Caller::Key(found))
    }

    /// Compares a text with the argon2id hash, and remembers the text if it is right.
    ///
    /// # Errors
    /// Fails when the text is wrong, or when too many keys wait to be compared.
    async fn verify(&self, (text, tag): (KeyText, Tag), hash: &str) -> Result<(), Problem> {
        let id = text.id();
        let right = self.verifier.verify((text, tag), hash).await;
        if !right.map_err(|error| self.not_judged(error))? {
            return Err(self.refused());
        }
        self.metrics.key_verifications.of(KeyVerification::Verified).inc();
        self.right.insert(id, tag);
        Ok(())
    }

    /// Requires the key to be valid now and to have the scopes `needs`.
    ///
    /// # Errors
    /// Fails when the key has ended or lacks a scope.
    pub(in crate::http) fn judge(
        &self,
        key: KeyId,
        needs: Scopes,
        store: &Store,
        now: Now,
    ) -> Result<(), Problem> {
        if failpoint::is_on(Switch::JudgedOnce) {
            return Ok(());
        }
        let found = store.key(key)?.filter(|found| found.key().is_valid(now));
        let found = found.ok_or_else(|| self.refused())?;
        if found.key().scopes.covers(needs) { Ok(()) } else { Err(forbidden()) }
    }

    /// Records the expiry of a key before refusing the request, so the key stays ended even if the
    /// clock is set back. A waiting request is refused at once, and the sweeper records the expiry
    /// a moment later.
    async fn note_end(&self, key: &Key, now: Now) {
        if key.has_ended() {
            return;
        }
        match self.intake.submit(ExpireKeys { keys: vec![key.id], at: now }) {
            Ok(pending) => drop(pending.outcome().await),
            Err(refused) => {
                tracing::debug!(%refused, key = %key.id, "the expiry of the key will be stored \
                    later");
            }
        }
    }

    fn is_admin(&self, text: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(text).into();
        digest.ct_eq(&self.admin_digest).into()
    }

    /// Counts a refusal and returns its problem, which is the same for every reason.
    pub(in crate::http) fn refused(&self) -> Problem {
        self.metrics.key_verifications.of(KeyVerification::Refused).inc();
        unauthorized()
    }

    fn tag(&self, text: &KeyText) -> Tag {
        self.mac.clone().chain_update(text.reveal()).finalize().into_bytes().into()
    }

    fn not_judged(&self, error: NotJudged) -> Problem {
        self.metrics.key_verifications.of(KeyVerification::Overloaded).inc();
        match error {
            NotJudged::Overloaded => {
                let detail = "too many API keys wait to be checked; nothing was done; send the \
                    request again";
                Problem::new(Code::Overloaded, detail)
            }
            NotJudged::Failed => Problem::internal(&"a key could not be hashed or checked"),
        }
    }

    /// Hashes the text of a new key. `org` is the organization of the request, or `None` for the
    /// operator.
    ///
    /// # Errors
    /// Fails when too many keys wait in the queue, or when hashing fails.
    pub(in crate::http) async fn hash(
        &self,
        text: &Arc<KeyText>,
        org: Option<OrgNo>,
    ) -> Result<Hashed, Problem> {
        self.verifier.hash(Arc::clone(text), org).await.map_err(|error| self.not_judged(error))
    }

    /// Remembers the text of a new key as correct, so its first use needs no hash.
    pub(in crate::http) fn remember(&self, text: &KeyText) {
        self.right.insert(text.id(), self.tag(text));
    }

    fn note_used(&self, id: KeyId, now: Timestamp) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() < USED_MAX || used.contains_key(&id) {
            used.insert(id, now);
        }
    }

    /// Takes the keys used since the last call, each with the time of its last use.
    pub(in crate::http) fn take_used(&self) -> Vec<(KeyId, Timestamp)> {
        let mut used =
            std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner));
        used.drain().collect()
    }
}

/// True if the check values match: the text is then almost certainly right, and otherwise certainly
/// wrong.
fn passes(text: &KeyText, key: &Key) -> bool {
    check_value(text, &key.hash).is_some_and(|value| value.ct_eq(&key.check).into())
}

/// The problem for a key that no longer has the required scope.
pub(in crate::http) fn forbidden() -> Problem {
    let detail = "the key lost the scope that this request needs while the request was under way; \
        nothing was changed";
    Problem::new(Code::Forbidden, detail)
}

/// The problem for a change that a suspended organization asks for.
pub(in crate::http) fn suspended() -> Problem {
    let detail = "the organization is suspended: its keys read as before and change nothing until \
        the operator ends the suspension; nothing was changed";
    Problem::new(Code::OrganizationSuspended, detail)
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
