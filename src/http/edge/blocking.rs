//! Jobs that may block (reading the journal, searching rows, reading large bodies) run on actix's
//! blocking threads. Each organization has a share of these threads, so an organization with many
//! jobs waits for its own turn and delays no others.

use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::Duration;

use actix_web::web;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::keyed::Keyed;
use crate::http::error::{Code, Problem};
use crate::http::principal::Principal;

/// Blocking threads of each worker, for reading the journal and large bodies.
pub(in crate::http) const BLOCKING_THREADS_PER_WORKER: usize = 8;
/// Maximum number of a worker's threads that a principal can use at a time: a quarter.
const EACH: usize = BLOCKING_THREADS_PER_WORKER / 4;
/// Maximum number of tries for an answer without room.
const TRIES: usize = 4;
/// The wait between two tries.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The turns on the blocking threads. Each worker has its own threads, so turns are counted for
/// each worker, identified by its thread.
#[derive(Debug, Default)]
pub(in crate::http) struct Blocking {
    turns: Keyed<(ThreadId, Principal), Semaphore>,
}

impl Blocking {
    /// Runs a job that may block, as soon as the principal has a turn.
    pub(in crate::http) async fn run<T: Send + 'static>(
        &self,
        principal: Principal,
        job: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = self.turn(principal).await;
        let job = move || {
            // The turn lasts as long as the job, even if the request has ended.
            let done = job();
            drop(turn);
            done
        };
        web::block(job).await.map_err(|error| Problem::internal(&error))?
    }

    /// Runs a job that builds a large answer. Without room for the answer, the job is tried again
    /// for a moment.
    pub(in crate::http) async fn answer<T: Send + 'static>(
        &self,
        principal: Principal,
        job: impl Fn() -> Result<T, Problem> + Send + Sync + 'static,
    ) -> Result<T, Problem> {
        let job = Arc::new(job);
        for _ in 1..TRIES {
            let again = Arc::clone(&job);
            match self.run(principal, move || again()).await {
                Err(problem) if problem.code() == Code::Overloaded => {
                    tokio::time::sleep(TRY_AGAIN_AFTER).await;
                }
                done => return done,
            }
        }
        self.run(principal, move || job()).await
    }

    async fn turn(&self, principal: Principal) -> Option<OwnedSemaphorePermit> {
        let worker = thread::current().id();
        self.turns.of((worker, principal), || Semaphore::new(EACH)).acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(blocking: &Blocking, principal: Principal) -> Option<OwnedSemaphorePermit> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match Box::pin(blocking.turn(principal)).as_mut().poll(&mut context) {
            std::task::Poll::Ready(turn) => turn,
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn each_principal_has_a_quarter_of_the_threads_of_each_worker() {
        let blocking = Blocking::default();
        let taken = || std::iter::from_fn(|| turn(&blocking, Principal::Admin)).collect::<Vec<_>>();
        let own = taken();
        assert_eq!(own.len(), BLOCKING_THREADS_PER_WORKER / 4);
        assert!(turn(&blocking, Principal::Anyone).is_some());
        // Another worker has other threads, for any number of workers.
        for _ in 0..8 {
            let there = thread::scope(|scope| {
                let worker = thread::Builder::new().spawn_scoped(scope, || taken().len()).unwrap();
                worker.join().unwrap()
            });
            assert_eq!(there, BLOCKING_THREADS_PER_WORKER / 4);
        }
        assert!(turn(&blocking, Principal::Admin).is_none());
        drop(own);
        assert!(turn(&blocking, Principal::Admin).is_some());
    }
}
