//! Hints for other threads about work that follows from commands. A hint may be lost: the table in
//! [`crate::commit`] says who finds the work then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::Sender;

use super::notifier::InboxNotifier;
use crate::base::threads::Signal;
use crate::journal::Position;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Look;
use crate::store::Effects;

/// The channels and signals of all hints. The state has the same facts, so a hint may be lost.
#[derive(Debug)]
pub struct Hints {
    /// Events for the workers to route.
    pub unrouted: Sender<(OrgNo, EventId)>,
    /// Set when `unrouted` was full: the sweeper must look into the state.
    pub unrouted_missed: AtomicBool,
    /// New deliveries and changed endpoints, for the scheduler.
    pub scheduler: Sender<SchedulerHint>,
    /// Set when `scheduler` was full: the scheduler must look into the state.
    pub scheduler_missed: AtomicBool,
    /// Wakes requests waiting for an event.
    pub notifier: InboxNotifier,
    /// Wakes the replayer: a replay began, or an endpoint changed.
    pub replays: Signal,
    /// Records that nobody may see any more, for the compactor.
    pub unneeded: Unneeded,
}

/// Maximum number of positions that wait for the compactor, which finds the others by itself.
const UNNEEDED_MAX: usize = 4_096;

/// Journal positions of records that nobody may see any more.
#[derive(Debug, Default)]
pub struct Unneeded {
    positions: Mutex<Vec<Position>>,
    /// Set when positions came.
    pub came: Signal,
}

impl Unneeded {
    fn add(&self, more: &[Position]) {
        if !more.is_empty() {
            let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
            let room = UNNEEDED_MAX.saturating_sub(positions.len());
            positions.extend(more.iter().take(room));
            self.came.notify();
        }
    }

    /// Takes the positions that came since the last call.
    pub fn take(&self) -> Vec<Position> {
        std::mem::take(&mut *self.positions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A hint for the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerHint {
    /// A delivery is due now or at this time.
    Due(EndpointId, Look, EventId),
    /// An endpoint was made, changed or deleted.
    Changed(EndpointId),
}

impl Hints {
    /// Makes the hints that are sent into these channels.
    pub fn new(unrouted: Sender<(OrgNo, EventId)>, scheduler: Sender<SchedulerHint>) -> Self {
        Self {
            unrouted,
            unrouted_missed: AtomicBool::new(false),
            scheduler,
            scheduler_missed: AtomicBool::new(false),
            notifier: InboxNotifier::default(),
            replays: Signal::new(),
            unneeded: Unneeded::default(),
        }
    }

    /// Gives a hint for each item of work that follows from applied commands. Never waits.
    pub(super) fn give(&self, effects: &Effects) {
        for event in &effects.unrouted {
            if self.unrouted.try_send(*event).is_err() {
                self.unrouted_missed.store(true, Ordering::SeqCst);
            }
        }
        let due = effects
            .due
            .iter()
            .map(|(endpoint, at, event)| SchedulerHint::Due(*endpoint, *at, *event));
        let changed =
            effects.endpoints_changed.iter().map(|endpoint| SchedulerHint::Changed(*endpoint));
        for hint in due.chain(changed) {
            if self.scheduler.try_send(hint).is_err() {
                self.scheduler_missed.store(true, Ordering::SeqCst);
            }
        }
        if effects.replays_began || !effects.endpoints_changed.is_empty() {
            self.replays.notify();
        }
        self.notifier.note(&effects.inbox_grew);
        self.unneeded.add(&effects.unneeded);
    }
}
