//! Jobs that may block (reading the journal, searching rows, reading large bodies) run on actix's
//! blocking threads. Each organization has a share of these threads, so an organization with many
//! jobs waits for its own turn and delays no others. `Call::run` runs these jobs.

use std::thread::{self, ThreadId};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::keyed::Keyed;
use crate::http::principal::Principal;

/// Blocking threads of each worker, for reading the journal and large bodies.
pub(in crate::http) const BLOCKING_THREADS_PER_WORKER: usize = 8;
/// Maximum number of a worker's threads that a principal can use at a time: a quarter.
const EACH: usize = BLOCKING_THREADS_PER_WORKER / 4;

/// The turns on the blocking threads. Each worker has its own threads, so turns are counted for
/// each worker, identified by its thread.
#[derive(Debug, Default)]
pub(in crate::http) struct Blocking {
    turns: Keyed<(ThreadId, Principal), Semaphore>,
}

impl Blocking {
    /// Awaits a turn of the principal on a blocking thread of this worker.
    pub(in crate::http) async fn turn(&self, principal: Principal) -> Option<OwnedSemaphorePermit> {
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
