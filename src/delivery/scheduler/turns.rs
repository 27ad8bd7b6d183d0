//! Gives endpoints their turns, and holds failing endpoints back while the disk is almost full.

use std::time::Duration;

use super::{Attempts, Scheduler};
use crate::base::units::{gauge, millis};
use crate::commit::FailingPace;
use crate::model::id::{EndpointId, EventId};
use crate::store::StateError;

/// Maximum number of failing endpoints that are asked until one of them begins an attempt.
const ASKED_AT_ONCE: usize = 64;

impl<A: Attempts> Scheduler<A> {
    /// Begins the attempts of the endpoints whose turn it is.
    pub(super) fn give_turns(&mut self) -> Result<(), StateError> {
        let failing = self.pace_failing();
        while let Some((endpoint, event)) = self.queues.next(self.now()) {
            self.give_turn(endpoint, event)?;
        }
        let begun = self.last_attempt;
        for _ in 0..if failing { ASKED_AT_ONCE } else { 0 } {
            let Some((endpoint, event)) = self.queues.next_failing(self.now()) else { break };
            self.give_turn(endpoint, event)?;
            if self.last_attempt != begun {
                break;
            }
        }
        Ok(())
    }

    fn give_turn(
        &mut self,
        endpoint: EndpointId,
        event: Option<EventId>,
    ) -> Result<(), StateError> {
        let look = event.map_or(Ok(None), |event| self.start(endpoint, event))?;
        self.follow_up(endpoint, look);
        Ok(())
    }

    /// Holds failing endpoints back, or lets them go on, as the disk demands. Returns true if one of
    /// those that are held back may be asked now.
    fn pace_failing(&mut self) -> bool {
        let engine = &self.engine;
        let pace = match engine.space.pace_of_failing(self.failing_at.is_some()) {
            FailingPace::Free => None,
            FailingPace::OneIn(time) => Some(time),
        };
        let now = self.now();
        if pace.is_some() != self.failing_at.is_some() {
            self.tell_pace(pace);
            self.queues.hold_failing(pace.is_some());
        }
        let Some(pace) = pace else {
            self.failing_at = None;
            return false;
        };
        let next = now.plus_ms(millis(pace));
        // A pace that became faster counts from now on.
        let at = self.failing_at.map_or(next, |at| at.min(next));
        let is_now = at <= now;
        self.failing_at = Some(if is_now { next } else { at });
        if is_now {
            self.show_held();
        }
        is_now
    }

    fn tell_pace(&self, pace: Option<Duration>) {
        let free_bytes = self.engine.space.free();
        if pace.is_some() {
            let what = "the disk is almost full: endpoints that did not accept the last request are \
                        asked one at a time, at most once a second, and their answers are not \
                        kept, so that room stays for what gives space back";
            tracing::warn!(free_bytes, "{what}");
        } else {
            self.engine.metrics.endpoints_held.set(0);
            let what = "there is disk space again: failing endpoints are asked as usual";
            tracing::info!(free_bytes, "{what}");
        }
    }

    fn show_held(&self) {
        let held = self.queues.turns().degraded() as u64;
        self.engine.metrics.endpoints_held.set(gauge(held));
    }
}
