//! The parts of a running server that its threads and requests share. The application assembles
//! them once. A part that only one thread uses belongs to that thread, not here.

use std::sync::Arc;

use super::activity_stream::ActivityStream;
use super::breakers::Breakers;
use super::disk_use::DiskUse;
use super::hints::Hints;
use super::intake::Intake;
use super::snapshots::Snapshots;
use super::space::Space;
use crate::base::clock::Clock;
use crate::base::metrics::Metrics;
use crate::base::threads::Stop;
use crate::base::vault::Vault;
use crate::commands::Records;
#[cfg(test)]
use crate::journal::Reader;
use crate::model::time::{Now, Timestamp};
use crate::store::Store;

/// The shared parts of a server.
pub struct Engine {
    /// The wall clock, and the steady clock of due times.
    pub clock: Clock,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The state. Only the committer changes it.
    pub store: Arc<Store>,
    /// The records of the log, for reading payloads and attempts.
    pub records: Records,
    /// The queue of changes in front of the committer.
    pub intake: Intake,
    /// Hints about work, from the committer to the other threads.
    pub hints: Arc<Hints>,
    /// Applied changes, for the watchers of `/api/tail`.
    pub activity_stream: ActivityStream,
    /// The free space of the data's disk.
    pub space: Arc<Space>,
    /// Seals and opens the secrets of endpoints.
    pub vault: Vault,
    /// The circuit breakers of endpoints, published by the scheduler.
    pub breakers: Breakers,
    /// The snapshots of the state.
    pub snapshots: Snapshots,
    /// The disk space of the data.
    pub disk_use: DiskUse,
    /// Tells all threads but the committer and the watchdog to stop.
    pub stop: Stop,
}

impl Engine {
    /// Returns the present moment.
    pub fn now(&self) -> Now {
        Now::new(Timestamp(self.clock.now_ms()), Timestamp(self.clock.steady_ms()))
    }

    /// Refuses what makes more while the rest of the disk is kept for what gives space back.
    pub fn look_at_rest(&self) {
        let is_rest = self.space.is_rest(self.intake.keeps_rest());
        self.intake.keep_rest(is_rest);
    }

    /// An engine for tests, with an empty journal and a disk that is never full.
    #[cfg(test)]
    pub(crate) fn of(
        store: &Arc<Store>,
        clock: &Clock,
        intake: Intake,
        hints: Arc<Hints>,
    ) -> Arc<Self> {
        let metrics = Metrics::new(&[]).expect("the metrics have different names");
        Arc::new(Self {
            clock: clock.clone(),
            metrics: Arc::new(metrics),
            store: Arc::clone(store),
            records: Records::new(Reader::empty()),
            intake,
            hints,
            activity_stream: ActivityStream::default(),
            space: Arc::default(),
            vault: Vault::new(&[0; 32]),
            breakers: Breakers::default(),
            snapshots: Snapshots::default(),
            disk_use: DiskUse::default(),
            stop: Stop::new(),
        })
    }
}
