//! argon2id on a few threads of its own, behind bounded queues: 19 MiB and some 20 ms for each key
//! are too much for the threads that serve requests. Simultaneous checks of the same text are done
//! once.
//!
//! Wrong keys do not get this far: a short check value beside the stored hash refuses them for the
//! price of one SHA-256. The secret has 256 random bits, so 64 bits of its hash do not reveal the
//! secret, and guessing a check value takes 2^64 requests. So nearly every key that waits here is
//! right, and comes once.
//!
//! `auth` calls this module for keys not used lately, `keys` for new keys. The module knows no
//! request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, select};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::sync::{oneshot, watch};

use crate::base::metrics::Metrics;
use crate::base::random;
use crate::base::shares::{Share, Shares};
use crate::base::threads::{Thread, spawn_critical};
use crate::model::id::OrgNo;
use crate::model::key::KeyText;

/// OWASP's minimum for argon2id: 19 MiB, two passes, one lane (Password Storage Cheat Sheet).
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
/// Maximum number of new keys that wait for their hash, in all and for one organization. Checks go
/// before new keys.
const NEW_MAX: usize = 256;
const NEW_PER_ORG_MAX: u64 = 16;
/// Time for which stopping waits until the checks under way are done.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// A keyed digest, kept in memory in place of the key's text.
pub(in crate::http) type Tag = [u8; 32];

/// The reason why a key was not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum NotJudged {
    /// Too many keys wait in the queue.
    Overloaded,
    /// The hash cannot be made or used: a bug.
    Failed,
}

/// The stored values for the text of a new key.
#[derive(Debug)]
pub(in crate::http) struct Hashed {
    /// The argon2id hash as a PHC string.
    pub(in crate::http) hash: String,
    /// The result of [`check_value`] for the text.
    pub(in crate::http) check: [u8; 8],
}

/// Returns the first 64 bits of an HMAC of the text. The HMAC is keyed with the slow hash, which
/// has a random salt. So the check values of two keys have nothing in common, and the record alone
/// is enough to check a key, also in a copy of the data directory.
pub(in crate::http) fn check_value(text: &KeyText, hash: &str) -> Option<[u8; 8]> {
    let mac = Hmac::<Sha256>::new_from_slice(hash.as_bytes()).ok()?;
    mac.chain_update(text.reveal()).finalize().into_bytes().first_chunk().copied()
}

struct Check {
    text: KeyText,
    tag: Tag,
    hash: String,
    verdict: watch::Sender<Option<bool>>,
}

struct NewKey {
    text: Arc<KeyText>,
    reply: oneshot::Sender<Option<Hashed>>,
    _share: Share<Option<OrgNo>>,
}

/// Checks under way, by the tag of the text.
type Flights = Mutex<HashMap<Tag, watch::Receiver<Option<bool>>>>;
#[derive(Debug)]
struct Queues {
    checks: Sender<Check>,
    new: Sender<NewKey>,
}

/// The threads that hash keys, and their queues.
#[derive(Debug)]
pub(in crate::http) struct Verifier {
    queues: Option<Queues>,
    flights: Arc<Flights>,
    /// New keys that wait, by organization; `None` is the operator.
    waiting: Arc<Shares<Option<OrgNo>>>,
    threads: Vec<Thread>,
}

impl Verifier {
    /// Starts `threads` threads behind a queue of `queue` checks. `metrics` counts the hashes.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub(in crate::http) fn start(
        threads: usize,
        queue: usize,
        metrics: &Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (checks, checks_receiver) = crossbeam_channel::bounded(queue);
        let (new, new_receiver) = crossbeam_channel::bounded(NEW_MAX);
        let flights = Arc::new(Flights::default());
        let start = |number| {
            let work = Work {
                checks: Receiver::clone(&checks_receiver),
                new: Receiver::clone(&new_receiver),
                flights: Arc::clone(&flights),
                metrics: Arc::clone(metrics),
            };
            spawn_critical(&format!("keys-{number}"), move || work.run())
        };
        let threads = (1..=threads).map(start).collect::<std::io::Result<_>>()?;
        let waiting = Shares::new(NEW_MAX as u64, NEW_PER_ORG_MAX);
        Ok(Self { queues: Some(Queues { checks, new }), flights, waiting, threads })
    }

    /// True if `hash` is the hash of the text.
    ///
    /// # Errors
    /// If the text was not judged.
    pub(in crate::http) async fn verify(
        &self,
        (text, tag): (KeyText, Tag),
        hash: &str,
    ) -> Result<bool, NotJudged> {
        let mut verdict = self.join_flight((text, tag), hash)?;
        let judged = verdict.wait_for(Option::is_some).await.map_err(|_gone| NotJudged::Failed)?;
        (*judged).ok_or(NotJudged::Failed)
    }

    /// Returns the channel of the verdict on this text: from the check under way, or from a new
    /// check.
    fn join_flight(
        &self,
        (text, tag): (KeyText, Tag),
        hash: &str,
    ) -> Result<watch::Receiver<Option<bool>>, NotJudged> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = flights.get(&tag) {
            return Ok(verdict.clone());
        }
        let (sender, verdict) = watch::channel(None);
        enqueue(self.queues()?.checks.try_send(Check {
            text,
            tag,
            hash: hash.to_owned(),
            verdict: sender,
        }))?;
        flights.insert(tag, verdict.clone());
        Ok(verdict)
    }

    /// Hashes a new key of this organization; `None` is the operator.
    ///
    /// # Errors
    /// If the hash was not made.
    pub(in crate::http) async fn hash(
        &self,
        text: Arc<KeyText>,
        org: Option<OrgNo>,
    ) -> Result<Hashed, NotJudged> {
        let share = self.waiting.take(org, 1).map_err(|_exhausted| NotJudged::Overloaded)?;
        let (reply, hashed) = oneshot::channel();
        enqueue(self.queues()?.new.try_send(NewKey { text, reply, _share: share }))?;
        hashed.await.ok().flatten().ok_or(NotJudged::Failed)
    }

    fn queues(&self) -> Result<&Queues, NotJudged> {
        self.queues.as_ref().ok_or(NotJudged::Overloaded)
    }
}

fn enqueue<T>(sent: Result<(), TrySendError<T>>) -> Result<(), NotJudged> {
    sent.map_err(|error| match error {
        TrySendError::Full(_) | TrySendError::Disconnected(_) => NotJudged::Overloaded,
    })
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.queues = None; // the threads end when the queues are closed and empty
        let deadline = Instant::now() + STOP_DEADLINE;
        for thread in self.threads.drain(..) {
            if !thread.join_until(deadline) {
                tracing::warn!("a thread that checks keys did not end in time");
            }
        }
    }
}

/// The parts of the verifier that each thread uses.
struct Work {
    checks: Receiver<Check>,
    new: Receiver<NewKey>,
    flights: Arc<Flights>,
    metrics: Arc<Metrics>,
}

impl Work {
    /// Works until both queues are closed and empty; both are closed at the same time.
    fn run(self) {
        loop {
            // Checks come first: new keys must not delay the use of keys.
            match self.checks.try_recv() {
                Ok(check) => self.check(check),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => select! {
                    recv(self.checks) -> check => match check {
                        Ok(check) => self.check(check),
                        Err(_closed) => return self.new.try_iter().for_each(|new| self.make(new)),
                    },
                    recv(self.new) -> new => match new {
                        Ok(new) => self.make(new),
                        Err(_closed) => return self.checks.try_iter().for_each(|check|
                        self.check(check)),
                    },
                },
            }
        }
    }

    fn check(&self, check: Check) {
        let Check { text, tag, hash, verdict } = check;
        self.metrics.key_hashes.inc();
        let judged = matches(&text, &hash);
        // The requests that wait have their verdict; a later request begins a new check.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&tag);
        if let Some(judged) = judged {
            verdict.send_replace(Some(judged));
        }
    }

    fn make(&self, new: NewKey) {
        self.metrics.key_hashes.inc();
        if new.reply.send(hash(&new.text)).is_err() {
            tracing::debug!("no request waits for the new key any longer");
        }
    }
}

fn argon2() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(text: &KeyText) -> Option<Hashed> {
    let salt = random::bytes::<SALT_BYTES>();
    let hashed: PasswordHash =
        argon2()?.hash_password_with_salt(text.reveal().as_bytes(), &salt).ok()?;
    let hash = hashed.to_string();
    let check = check_value(text, &hash)?;
    Some(Hashed { hash, check })
}

/// Returns `None` if `hash` is not a PHC string.
fn matches(text: &KeyText, hash: &str) -> Option<bool> {
    let parsed = PasswordHash::new(hash).ok()?;
    // The parameters come from the hash, so keys with older parameters verify too.
    Some(argon2()?.verify_password(text.reveal().as_bytes(), &parsed).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::KeyId;

    fn key(seed: u8) -> KeyText {
        let mut next = seed;
        KeyText::generate(KeyId(1), || {
            next = next.wrapping_add(37);
            next
        })
    }

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::new(&[]).unwrap())
    }

    #[tokio::test]
    async fn a_key_verifies_against_its_own_hash_only() {
        let metrics = metrics();
        let verifier = Verifier::start(1, 4, &metrics).unwrap();
        let Hashed { hash, check } = verifier.hash(Arc::new(key(1)), None).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(
            check_value(&key(1), &hash),
            Some(check),
            "the same one, whenever it is computed"
        );
        assert_ne!(check_value(&key(2), &hash), Some(check));
        assert_ne!(
            check_value(&key(1), &verifier.hash(Arc::new(key(1)), None).await.unwrap().hash),
            Some(check)
        );
        assert_eq!(verifier.verify((key(1), [1; 32]), &hash).await, Ok(true));
        assert_eq!(verifier.verify((key(2), [2; 32]), &hash).await, Ok(false));
        assert_eq!(verifier.verify((key(1), [1; 32]), "$").await, Err(NotJudged::Failed));
        assert!(verifier.flights.lock().unwrap().is_empty() && verifier.waiting.held() == 0);
        assert_eq!(metrics.key_hashes.get(), 5);
    }

    /// Returns a verifier without threads: jobs stay in the queues.
    fn idle(queue: usize) -> (Verifier, (Receiver<Check>, Receiver<NewKey>)) {
        let (checks, checks_receiver) = crossbeam_channel::bounded(queue);
        let (new, new_receiver) = crossbeam_channel::bounded(NEW_MAX);
        let waiting = Shares::new(NEW_MAX as u64, NEW_PER_ORG_MAX);
        let (queues, flights) = (Some(Queues { checks, new }), Arc::default());
        (
            Verifier { queues, flights, waiting, threads: Vec::new() },
            (checks_receiver, new_receiver),
        )
    }

    #[test]
    fn many_first_uses_of_one_key_are_one_check_and_a_full_queue_refuses() {
        let (verifier, _receivers) = idle(1);
        let first = verifier.join_flight((key(1), [1; 32]), "$").unwrap();
        for _ in 0..200 {
            assert!(verifier.join_flight((key(1), [1; 32]), "$").unwrap().same_channel(&first));
        }
        assert_eq!(
            verifier.join_flight((key(2), [2; 32]), "$").unwrap_err(),
            NotJudged::Overloaded
        );
        assert_eq!(verifier.flights.lock().unwrap().len(), 1, "what was refused is not under way");
    }

    #[test]
    fn an_organization_that_makes_keys_leaves_room_for_the_others() {
        let (verifier, (_, new)) = idle(1);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut made = Vec::new();
        let mut ask = |org| {
            let mut hashing = Box::pin(verifier.hash(Arc::new(key(1)), org));
            let waits = hashing.as_mut().poll(&mut context).is_pending();
            made.push(hashing);
            waits
        };
        let taken = (0..100).filter(|_| ask(Some(OrgNo(1)))).count();
        assert_eq!(taken as u64, NEW_PER_ORG_MAX);
        assert!(ask(Some(OrgNo(2))) && ask(None));
        drop(new.try_recv().unwrap());
        assert!(ask(Some(OrgNo(1))), "its place is free again");
        // However many organizations make keys, an organization without waiting keys gets its turn.
        let crowd: usize =
            (10..27).map(|org| (0..100).take_while(|_| ask(Some(OrgNo(org)))).count()).sum();
        assert!(crowd < NEW_MAX - 1, "{crowd}");
        assert!(ask(Some(OrgNo(1_000))));
    }
}
