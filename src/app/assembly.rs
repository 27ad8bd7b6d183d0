//! Assembles the engine from the parts that the start has opened.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::opening::OnDisk;
use crate::base::clock::Clock;
use crate::base::threads::Stop;
use crate::commit::{
    ActivityStream, Breakers, DiskUse, Engine, Hints, Intake, IntakeLimits, SchedulerHint,
    Snapshots, Submissions,
};
use crate::config::Config;
use crate::model::id::{EventId, OrgNo};

/// Maximum number of hints that wait for the scheduler. The scheduler finds further work in the
/// state.
const SCHEDULER_HINTS: usize = 10_000;

/// The ends of the engine's queues, each for the threads of one kind.
pub(super) struct Ends {
    pub(super) submissions: Submissions,
    pub(super) unrouted: Receiver<(OrgNo, EventId)>,
    pub(super) scheduler: Receiver<SchedulerHint>,
}

/// Makes the engine and the ends of its queues.
pub(super) fn assemble(config: &Config, clock: Clock, on_disk: OnDisk) -> (Arc<Engine>, Ends) {
    let (intake, submissions) = Intake::new(IntakeLimits {
        queue: config.intake.queue,
        wait_max: config.intake.wait_max,
        bytes_max: config.intake.queue_bytes,
    });
    let (unrouted_sender, unrouted) = crossbeam_channel::bounded(config.workers.queue);
    let (scheduler_sender, scheduler) = crossbeam_channel::bounded(SCHEDULER_HINTS);
    let OnDisk { metrics, space, store, records, vault } = on_disk;
    let engine = Engine {
        clock,
        metrics,
        store,
        records,
        intake,
        hints: Arc::new(Hints::new(unrouted_sender, scheduler_sender)),
        activity_stream: ActivityStream::default(),
        space,
        vault,
        breakers: Breakers::default(),
        snapshots: Snapshots::default(),
        disk_use: DiskUse::default(),
        stop: Stop::new(),
    };
    (Arc::new(engine), Ends { submissions, unrouted, scheduler })
}
