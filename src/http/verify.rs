//! argon2id on a few threads of its own, behind a bounded queue: 19 MiB and some 20 ms for each key are not for the
//! threads that serve requests. Checks of the same text at the same time are done once.
//!
//! Called by `auth` for keys not seen lately and by `keys` for new ones. Knows no organization and no request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use crossbeam_channel::{Receiver, Sender, TrySendError};
use tokio::sync::{oneshot, watch};

use crate::base::random;
use crate::base::threads::{Thread, spawn_critical};
use crate::model::key::KeyText;

/// OWASP's minimum for argon2id: 19 MiB, two passes, one lane (Password Storage Cheat Sheet).
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
/// How long stopping waits for a check under way.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// What stands for a key's text in memory: a keyed digest.
pub(super) type Tag = [u8; 32];

/// Nothing was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotJudged {
    /// Too many wait.
    Overloaded,
    /// The caller's rule said no.
    TooOften {
        /// When it may say yes, in whole seconds.
        retry_after_s: u64,
    },
    /// The hash cannot be used: a mistake of ours.
    Failed,
}

enum Job {
    Verify { text: KeyText, tag: Tag, hash: String, verdict: watch::Sender<Option<bool>> },
    Hash { text: Arc<KeyText>, reply: oneshot::Sender<Option<String>> },
}

/// Checks under way, by the tag of what is checked.
type Flights = Mutex<HashMap<Tag, watch::Receiver<Option<bool>>>>;

/// The threads and their queue.
#[derive(Debug)]
pub(super) struct Verifier {
    queue: Option<Sender<Job>>,
    flights: Arc<Flights>,
    threads: Vec<Thread>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job(…)")
    }
}

impl Verifier {
    /// `threads` threads behind a queue of `queue` checks.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn start(threads: usize, queue: usize) -> std::io::Result<Self> {
        let (sender, receiver) = crossbeam_channel::bounded(queue);
        let flights = Arc::new(Flights::default());
        let start = |number| {
            let (receiver, flights) = (Receiver::clone(&receiver), Arc::clone(&flights));
            spawn_critical(&format!("keys-{number}"), move || work(&receiver, &flights))
        };
        let threads = (1..=threads).map(start).collect::<std::io::Result<_>>()?;
        Ok(Self { queue: Some(sender), flights, threads })
    }

    /// Whether the text is what was hashed. `admit` is asked before a check begins, not when one is under way.
    ///
    /// # Errors
    /// When it was not judged.
    pub(super) async fn verify(
        &self,
        (text, tag): (KeyText, Tag),
        hash: &str,
        admit: impl FnOnce() -> Result<(), NotJudged>,
    ) -> Result<bool, NotJudged> {
        let mut verdict = self.join_flight((text, tag), hash, admit)?;
        let judged = verdict.wait_for(Option::is_some).await.map_err(|_gone| NotJudged::Failed)?;
        (*judged).ok_or(NotJudged::Failed)
    }

    /// The verdict to come of a check of this very text: the one under way, or a new one.
    fn join_flight(
        &self,
        (text, tag): (KeyText, Tag),
        hash: &str,
        admit: impl FnOnce() -> Result<(), NotJudged>,
    ) -> Result<watch::Receiver<Option<bool>>, NotJudged> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = flights.get(&tag) {
            return Ok(verdict.clone());
        }
        admit()?;
        let (sender, verdict) = watch::channel(None);
        self.enqueue(Job::Verify { text, tag, hash: hash.to_owned(), verdict: sender })?;
        flights.insert(tag, verdict.clone());
        Ok(verdict)
    }

    /// The hash of a new key, as a PHC string.
    ///
    /// # Errors
    /// When it was not made.
    pub(super) async fn hash(&self, text: Arc<KeyText>) -> Result<String, NotJudged> {
        let (reply, hash) = oneshot::channel();
        self.enqueue(Job::Hash { text, reply })?;
        hash.await.ok().flatten().ok_or(NotJudged::Failed)
    }

    fn enqueue(&self, job: Job) -> Result<(), NotJudged> {
        let queue = self.queue.as_ref().ok_or(NotJudged::Overloaded)?;
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => NotJudged::Overloaded,
        })
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.queue = None; // the threads end when the queue is closed and empty
        let deadline = Instant::now() + STOP_DEADLINE;
        for thread in self.threads.drain(..) {
            if !thread.join_until(deadline) {
                tracing::warn!("a thread that checks keys did not end in time");
            }
        }
    }
}

fn work(queue: &Receiver<Job>, flights: &Flights) {
    while let Ok(job) = queue.recv() {
        match job {
            Job::Verify { text, tag, hash, verdict } => {
                let judged = matches(&text, &hash);
                // Those who wait have their verdict; who comes from here on begins a new check.
                flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&tag);
                if let Some(judged) = judged {
                    verdict.send_replace(Some(judged));
                }
            }
            Job::Hash { text, reply } => {
                if reply.send(hash(&text)).is_err() {
                    tracing::debug!("nobody waits for the new key any more");
                }
            }
        }
    }
}

fn argon2() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(text: &KeyText) -> Option<String> {
    let salt = random::bytes::<SALT_BYTES>();
    let hashed: PasswordHash = argon2()?.hash_password_with_salt(text.reveal().as_bytes(), &salt).ok()?;
    Some(hashed.to_string())
}

/// None: the hash is not one.
fn matches(text: &KeyText, hash: &str) -> Option<bool> {
    let parsed = PasswordHash::new(hash).ok()?;
    // The parameters are those of the hash, so keys of other times verify too.
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

    #[tokio::test]
    async fn a_key_verifies_against_its_own_hash_only() {
        let verifier = Verifier::start(1, 4).unwrap();
        let hash = verifier.hash(Arc::new(key(1))).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(verifier.verify((key(1), [1; 32]), &hash, || Ok(())).await, Ok(true));
        assert_eq!(verifier.verify((key(2), [2; 32]), &hash, || Ok(())).await, Ok(false));
        assert_eq!(verifier.verify((key(1), [1; 32]), "$", || Ok(())).await, Err(NotJudged::Failed));
        assert!(verifier.flights.lock().unwrap().is_empty());
    }

    #[test]
    fn many_first_uses_of_one_key_are_one_check_and_a_full_queue_refuses() {
        // Nobody works: what is taken stays in the queue.
        let (sender, _receiver) = crossbeam_channel::bounded(1);
        let verifier = Verifier { queue: Some(sender), flights: Arc::default(), threads: Vec::new() };
        let first = verifier.join_flight((key(1), [1; 32]), "$", || Ok(())).unwrap();
        for _ in 0..200 {
            let never = || Err(NotJudged::TooOften { retry_after_s: 1 });
            let same = verifier.join_flight((key(1), [1; 32]), "$", never).unwrap();
            assert!(same.same_channel(&first));
        }
        assert_eq!(verifier.join_flight((key(2), [2; 32]), "$", || Ok(())).unwrap_err(), NotJudged::Overloaded);
        assert_eq!(verifier.flights.lock().unwrap().len(), 1, "what was refused is not under way");
    }
}
