//! What may block (reading the journal, searching rows, reading large bodies) on actix's blocking threads, of which each
//! organization has a share: whoever asks for much waits for their own turn, not others for theirs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use actix_web::web;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{Code, Problem};
use super::limit::Payer;

/// From so many payers on, those that have nothing under way are forgotten when one is added.
const SWEEP_FROM: usize = 1_024;
/// An answer for which there is no room is tried again so often,
const TRIES: usize = 4;
/// after this time.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The blocking threads.
#[derive(Debug)]
pub(super) struct Blocking {
    each: usize,
    turns: Mutex<HashMap<Payer, Weak<Semaphore>>>,
}

impl Blocking {
    /// So many of these threads that each payer may have a quarter of them.
    pub(super) fn new(threads: usize) -> Self {
        Self { each: (threads / 4).max(1), turns: Mutex::default() }
    }

    /// Runs something that may block.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        payer: Payer,
        job: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = self.turn(payer).await;
        let job = move || {
            // The turn lasts as long as the job, also when nobody waits for it any more.
            let done = job();
            drop(turn);
            done
        };
        web::block(job).await.map_err(|error| Problem::internal(&error))?
    }

    /// The same for what builds a large answer: if there is no room for it, it is tried again for a moment.
    pub(super) async fn answer<T: Send + 'static>(
        &self,
        payer: Payer,
        job: impl Fn() -> Result<T, Problem> + Send + Sync + 'static,
    ) -> Result<T, Problem> {
        let job = Arc::new(job);
        for _ in 1..TRIES {
            let again = Arc::clone(&job);
            match self.run(payer, move || again()).await {
                Err(problem) if problem.code() == Code::Overloaded => tokio::time::sleep(TRY_AGAIN_AFTER).await,
                done => return done,
            }
        }
        self.run(payer, move || job()).await
    }

    async fn turn(&self, payer: Payer) -> Option<OwnedSemaphorePermit> {
        let turns = self.of(payer);
        turns.acquire_owned().await.ok()
    }

    fn of(&self, payer: Payer) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = turns.get(&payer).and_then(Weak::upgrade) {
            return there;
        }
        if turns.len() >= SWEEP_FROM {
            turns.retain(|_, there| there.strong_count() > 0);
        }
        let new = Arc::new(Semaphore::new(self.each));
        turns.insert(payer, Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_payer_has_turns_of_its_own_and_none_is_kept() {
        let blocking = Blocking::new(8);
        let own = (blocking.turn(Payer::Admin).await, blocking.turn(Payer::Admin).await);
        let third = tokio::time::timeout(Duration::from_millis(20), blocking.turn(Payer::Admin)).await;
        assert!(third.is_err(), "a quarter of them is taken");
        assert!(blocking.turn(Payer::Anyone).await.is_some());
        drop(own);
        assert!(blocking.turn(Payer::Admin).await.is_some());
        let idle = blocking.turns.lock().unwrap().values().all(|turns| turns.strong_count() == 0);
        assert!(idle, "what nobody uses is not kept");
    }
}
