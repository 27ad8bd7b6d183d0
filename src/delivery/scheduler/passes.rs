//! Passes over the endpoints with waiting deliveries, and the progress of the scan.

use std::collections::HashMap;

use crate::base::failpoint::{self, Switch};
use crate::model::id::{EndpointId, EventId};
use crate::model::time::Timestamp;
use crate::store::{StateError, Store, WaitingEndpoint};

/// Milliseconds from the beginning of a pass to the next, unless the pass takes longer.
pub(super) const PASS_MS: u64 = 20_000;
/// Planned duration of a pass, in milliseconds.
const PASS_TAKES_MS: u64 = 15_000;
/// Milliseconds between two steps of a pass.
pub(super) const STEP_MS: u64 = 250;
/// Minimum and maximum number of endpoints in a step. The pace of a pass comes from the size of the
/// previous pass; a pass over its planned duration goes on at full pace. So the first pass over
/// 250,000 endpoints also takes less than a minute.
const ENDPOINTS_PER_STEP: usize = 64;
const ENDPOINTS_PER_STEP_MAX: usize = 2_048;

/// A pass over the endpoints with waiting deliveries.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// The endpoint visited last; `None` at the beginning.
    after: Option<EndpointId>,
}

impl Pass {
    /// Returns the next endpoint, or `None` at the end.
    pub(super) fn next(&mut self, store: &Store) -> Result<Option<WaitingEndpoint>, StateError> {
        let found = store.next_waiting_endpoint(self.after)?;
        self.after = found.map(|found| found.endpoint).or(self.after);
        Ok(found)
    }
}

/// Progress of the current pass, and findings.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// When the next step is due.
    pub(super) next_at: Timestamp,
    /// When the current or last pass began.
    pub(super) began_at: Timestamp,
    /// The pass over the endpoints; `None` when all endpoints were visited.
    pub(super) endpoints: Option<Pass>,
    /// The attempt whose ledger was read last; `None` when all ledgers were read.
    pub(super) asked: Option<u64>,
    /// Number of endpoints visited in this pass.
    pub(super) visited: usize,
    /// Number of endpoints visited in each step of this pass.
    per_step: usize,
    /// Overdue deliveries found in this pass although nothing holds them back: the first of each
    /// endpoint, and the time at which passes began to find the same delivery.
    pub(super) stuck: HashMap<EndpointId, (EventId, Timestamp)>,
    /// The overdue deliveries found in the previous pass.
    stuck_before: HashMap<EndpointId, (EventId, Timestamp)>,
    /// A failpoint: the scan finds overdue deliveries but does not act.
    pub(super) is_off: bool,
}

impl Scan {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            next_at: now.plus_ms(STEP_MS),
            began_at: now,
            per_step: ENDPOINTS_PER_STEP,
            is_off: failpoint::is_on(Switch::ScanOff),
            ..Self::default()
        }
    }

    /// True between two passes.
    pub(super) fn is_at_rest(&self) -> bool {
        self.endpoints.is_none() && self.asked.is_none()
    }

    pub(super) fn begin_pass(&mut self, now: Timestamp) {
        (self.began_at, self.endpoints, self.visited) = (now, Some(Pass::default()), 0);
        self.asked = (!self.is_off).then_some(0);
        self.stuck_before = std::mem::take(&mut self.stuck);
    }

    /// Maximum number of endpoints in this step.
    pub(super) fn endpoints_in_step(&self, now: Timestamp) -> usize {
        let is_late = now >= self.began_at.plus_ms(PASS_TAKES_MS);
        if is_late { ENDPOINTS_PER_STEP_MAX } else { self.per_step }
    }

    /// Records an overdue delivery; the next pass checks if its attempt has begun.
    pub(super) fn found_stuck(&mut self, endpoint: EndpointId, event: EventId, now: Timestamp) {
        let before = self.stuck_before.get(&endpoint).filter(|(known, _)| *known == event);
        self.stuck.insert(endpoint, before.copied().unwrap_or((event, now)));
    }

    pub(super) fn end_pass(&mut self) {
        let steps = usize::try_from(PASS_TAKES_MS / STEP_MS).unwrap_or(usize::MAX);
        self.per_step =
            self.visited.div_ceil(steps).clamp(ENDPOINTS_PER_STEP, ENDPOINTS_PER_STEP_MAX);
        self.next_at = self.next_at.max(self.began_at.plus_ms(PASS_MS));
    }
}
