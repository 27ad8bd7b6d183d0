//! argon2id on threads of its own, behind a bounded queue: it is slow on purpose, and must cost nobody else anything.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use crossbeam_channel::{Receiver, Sender};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::error::{Code, Problem};
use crate::base::threads::spawn_critical;

/// OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

enum Job {
    Verify { secret: Zeroizing<String>, hash: String, answer: oneshot::Sender<bool> },
    Hash { secret: Zeroizing<String>, answer: oneshot::Sender<Option<String>> },
}

/// The threads. They end with the process.
pub(super) struct HashingPool(Sender<Job>);

impl HashingPool {
    pub(super) fn start(threads: usize, queue: usize) -> std::io::Result<Self> {
        let (sender, jobs) = crossbeam_channel::bounded(queue);
        for number in 1..=threads {
            let jobs: Receiver<Job> = jobs.clone();
            // Ends when the pool is dropped.
            spawn_critical(&format!("hashing-{number}"), move || jobs.iter().for_each(work))?;
        }
        Ok(Self(sender))
    }

    /// Whether the secret is the one behind the hash.
    pub(super) async fn verify(&self, secret: &str, hash: &str) -> Result<bool, Problem> {
        let (answer, verdict) = oneshot::channel();
        self.submit(Job::Verify { secret: Zeroizing::new(secret.to_owned()), hash: hash.to_owned(), answer })?;
        verdict.await.map_err(Problem::internal)
    }

    /// The hash to keep of a new secret.
    pub(super) async fn hash(&self, secret: &str) -> Result<String, Problem> {
        let (answer, hash) = oneshot::channel();
        self.submit(Job::Hash { secret: Zeroizing::new(secret.to_owned()), answer })?;
        hash.await.map_err(Problem::internal)?.ok_or_else(|| Problem::internal("argon2 refused to hash"))
    }

    fn submit(&self, job: Job) -> Result<(), Problem> {
        let full = |_full| Problem::new(Code::Overloaded, "too many keys wait to be checked");
        self.0.try_send(job).map_err(full)
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn work(job: Job) {
    match job {
        Job::Verify { secret, hash, answer } => {
            let matches =
                PasswordHash::new(&hash).is_ok_and(|hash| argon2().verify_password(secret.as_bytes(), &hash).is_ok());
            if answer.send(matches).is_err() {
                tracing::debug!("the caller left before their key was checked");
            }
        }
        Job::Hash { secret, answer } => {
            let hash = argon2().hash_password(secret.as_bytes()).map(|hash| hash.to_string());
            drop(answer.send(hash.ok()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_fits_its_secret_only() {
        let pool = HashingPool::start(1, 4).unwrap();
        let hash = pool.hash("right").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(pool.verify("right", &hash).await.unwrap());
        assert!(!pool.verify("wrong", &hash).await.unwrap());
        assert!(!pool.verify("right", "not a hash").await.unwrap());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (sender, jobs) = crossbeam_channel::bounded(1);
        let pool = HashingPool(sender);
        let (answer, _verdict) = oneshot::channel();
        pool.submit(Job::Verify { secret: Zeroizing::default(), hash: String::new(), answer }).unwrap();
        assert_eq!(pool.verify("a", "b").await.unwrap_err().code, Code::Overloaded);
        drop(jobs);
    }
}
