//! Begins attempts and takes in their reports. Each report counts once, however often it arrives.

use super::{Attempts, Scheduler, UnderWay};
use crate::delivery::completion::{Attempt, Completion, Ledger};
use crate::delivery::subject::Subject;
use crate::model::time::Timestamp;
use crate::rules::breaker::Moment;
use crate::store::DueDelivery;

/// Maximum number of ledgers read in one step of the scan.
const ASKED_AT_ONCE: usize = 512;

impl<A: Attempts> Scheduler<A> {
    /// Begins the attempt of a delivery.
    pub(super) fn begin(&mut self, delivery: DueDelivery, now: Timestamp) {
        let (org, endpoint, event) = (delivery.org, delivery.endpoint.id, delivery.event);
        let Some(health) = self.queues.began(endpoint, event, now) else { return };
        self.last_attempt += 1;
        let attempt = Attempt { number: self.last_attempt, org, endpoint, event, health };
        let ledger = Ledger::default();
        let completion = Completion::new(
            (attempt, Subject::of(&delivery)),
            ledger.clone(),
            self.reports.0.clone(),
            self.engine.clock.clone(),
        );
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
            let moment = Moment { now: at, jitter: (self.jitter)() };
            let look = self.queues.over(attempt, answer, moment);
            self.follow_up(attempt.endpoint, look);
        }
        if progress.is_settled {
            self.under_way.remove(&number);
            let look = self.queues.settled(attempt, progress.verdict, self.now());
            self.follow_up(attempt.endpoint, look);
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
}
