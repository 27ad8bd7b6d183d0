//! Begins attempts and takes in their reports. Each report counts once, however often it arrives.

use super::{Attempts, Scheduler, UnderWay};
use crate::delivery::completion::{Attempt, Completion, Ledger};
use crate::delivery::fair_queue::EndpointHealth;
use crate::model::delivery::Verdict;
use crate::model::id::EndpointId;
use crate::model::time::Timestamp;
use crate::rules::breaker::{Answer, BreakerView, Moment};
use crate::store::DueDelivery;

/// Milliseconds until an attempt that could not be settled is repeated.
const UNSETTLED_AGAIN_MS: u64 = 1_000;
/// Maximum number of ledgers read in one step of the scan.
const ASKED_AT_ONCE: usize = 512;

impl<A: Attempts> Scheduler<A> {
    /// Starts the attempt of a delivery; the endpoint queue has already counted it.
    pub(super) fn begin(&mut self, delivery: DueDelivery, health: EndpointHealth) {
        self.last_attempt += 1;
        let (org, endpoint, event) = (delivery.org, delivery.endpoint.id, delivery.event);
        let attempt = Attempt { number: self.last_attempt, org, endpoint, event, health };
        let ledger = Ledger::default();
        let completion = Completion::new(
            attempt,
            ledger.clone(),
            self.reports.0.clone(),
            self.ports.clock.clone(),
        );
        self.turns.began(org, health);
        self.under_way.insert(attempt.number, UnderWay { attempt, ledger, is_over: false });
        self.attempts.start(delivery, completion);
    }

    /// Takes in the news from the ledger of an attempt. A repeated report changes nothing.
    pub(super) fn take_in(&mut self, number: u64) {
        let Some(known) = self.under_way.get_mut(&number) else { return };
        let (attempt, progress) = (known.attempt, known.ledger.progress());
        if let Some((answer, at)) = progress.answer
            && !std::mem::replace(&mut known.is_over, true)
        {
            self.over(attempt, answer, at);
        }
        if progress.is_settled {
            self.under_way.remove(&number);
            self.settled(attempt, progress.verdict);
        }
    }

    /// Reads the ledgers of some attempts after this number, in case their reports were lost.
    /// Returns the last number read, or `None` at the end.
    pub(super) fn ask_attempts(&mut self, after: u64) -> Option<u64> {
        let some = self.under_way.range(after.saturating_add(1)..).take(ASKED_AT_ONCE);
        let some: Vec<u64> = some.map(|(number, _)| *number).collect();
        for number in &some {
            self.take_in(*number);
        }
        some.last().copied().filter(|_| some.len() == ASKED_AT_ONCE)
    }

    fn over(&mut self, attempt: Attempt, answer: Answer, at: Timestamp) {
        let Attempt { org, endpoint, event, .. } = attempt;
        self.turns.over(org, attempt.health);
        let (now, breaker, most) =
            (self.now(), self.limits.breaker, self.limits.in_flight_per_endpoint);
        let Some(queue) = self.queues.get_mut(&endpoint) else { return };
        let before = queue.view();
        let moment = Moment { now: at, jitter: (self.ports.jitter)() };
        queue.over(event, answer, (breaker, most), moment);
        if queue.is_stale() {
            self.queued -= queue.drop_queue();
        }
        let view = queue.view();
        if let (Some(turn), EndpointHealth::Healthy) = (queue.turn, queue.health()) {
            self.turns.works(org, turn);
        }
        if view != before {
            self.note_breaker(endpoint, view);
            let next = if let BreakerView::Open(until) = view { until } else { Timestamp(0) };
            if let Some(queue) = self.queues.get_mut(&endpoint) {
                // Ids of an endpoint in a pause would waste memory.
                self.queued -= if next > now { queue.drop_queue() } else { 0 };
            }
            self.looks.set(endpoint, next);
        }
        self.give_turn(endpoint);
    }

    /// Publishes a breaker. The scheduler's times are steady, and others see wall times.
    pub(super) fn note_breaker(&self, endpoint: EndpointId, view: BreakerView) {
        let view = match view {
            BreakerView::Open(until) => {
                BreakerView::Open(until.minus_ms(self.ports.clock.ahead_ms()))
            }
            BreakerView::Closed | BreakerView::HalfOpen => view,
        };
        let open = self.ports.breakers.set(endpoint, view);
        self.ports.metrics.breakers_open.set(i64::try_from(open).unwrap_or(i64::MAX));
        match view {
            BreakerView::Open(until) => {
                tracing::info!(%endpoint, %until, "the circuit breaker of the endpoint is open");
            }
            BreakerView::Closed => {
                tracing::info!(%endpoint, "the circuit breaker of the endpoint is closed");
            }
            BreakerView::HalfOpen => {}
        }
    }

    fn settled(&mut self, attempt: Attempt, verdict: Option<Verdict>) {
        let Attempt { org, endpoint, event, .. } = attempt;
        self.turns.settled(org);
        let now = self.now();
        let Some(queue) = self.queues.get_mut(&endpoint) else { return };
        let waits_again = queue.settled(event);
        let again_at = match verdict {
            Some(Verdict::RetryAt(at)) => Some(at),
            Some(Verdict::Dead(_) | Verdict::Delivered) => None,
            None => Some(now.plus_ms(UNSETTLED_AGAIN_MS)),
        };
        if let Some(at) = again_at {
            if queue.is_strict() {
                // Later events wait for the retry of this event.
                self.queued -= queue.drop_queue();
            }
            self.looks.set(endpoint, at);
        }
        let is_known = verdict.is_some();
        if waits_again || is_known && (queue.is_stale() || queue.waiting() == 0 && queue.more) {
            self.looks.set(endpoint, Timestamp(0));
        }
        self.give_turn(endpoint);
        self.forget_if_idle(endpoint);
    }
}
