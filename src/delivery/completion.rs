//! What becomes of an attempt, told whatever happens to it. Made by the scheduler, held by whoever makes the attempt.
//!
//! What becomes of it stands in a ledger that the scheduler and the attempt share. The attempt's number in the scheduler's
//! channel is a hint like all others: there is something new in the ledger. The scheduler's scan looks there as well, so
//! a report that is lost, late or told twice costs time, and never a slot.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;

use super::turns::Standing;
use crate::base::clock::Clock;
use crate::model::delivery::Verdict;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::breaker::Answer;

/// Which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// No other attempt of this process has it.
    pub number: u64,
    /// Whose.
    pub org: OrgNo,
    /// Where to.
    pub endpoint: EndpointId,
    /// Of which event.
    pub event: EventId,
    /// What was known of the endpoint when it began.
    pub(super) standing: Standing,
}

/// What was told of an attempt so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// What its request brought and when, when that is over: another one may be made, while this one is on its way to the
    /// journal. A pause begins with the answer, however late the scheduler hears of it.
    pub(super) answer: Option<(Answer, Timestamp)>,
    /// Whether it is settled, or could not be. Its request is over then.
    pub(super) is_settled: bool,
    /// What became of it; none when it could not be settled, so that it is made again later.
    pub(super) verdict: Option<Verdict>,
}

/// Where it is told: shared by the attempt and the scheduler.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<Mutex<Told>>);

impl Ledger {
    /// What was told so far.
    pub(super) fn told(&self) -> Told {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Tells the scheduler what becomes of an attempt, whatever does: one that panicked, or whose runtime went away, counts as
/// not settled, and is made again.
#[derive(Debug)]
pub struct Completion {
    reports: Sender<u64>,
    ledger: Ledger,
    clock: Clock,
    attempt: Attempt,
    answer: Answer,
    answered_at: Option<Timestamp>,
    verdict: Option<Verdict>,
    is_over: bool,
}

impl Completion {
    pub(super) fn new(attempt: Attempt, ledger: Ledger, reports: Sender<u64>, clock: Clock) -> Self {
        let (answer, answered_at, verdict) = (Answer::Nothing, None, None);
        Self { reports, ledger, clock, attempt, answer, answered_at, verdict, is_over: false }
    }

    /// The request brought this at this steady time. Say so before [`Completion::over`].
    pub fn answered(&mut self, answer: Answer, at: Timestamp) {
        (self.answer, self.answered_at) = (answer, Some(at));
    }

    /// The attempt that it is about.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// The request is over.
    pub fn over(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            let at = self.answered_at.unwrap_or_else(|| Timestamp(self.clock.steady_ms()));
            self.ledger.tell(|told| told.answer = Some((self.answer, at)));
            self.report();
        }
    }

    /// It is settled, and this became of it; none: it could not be.
    pub fn end(mut self, verdict: Option<Verdict>) {
        self.verdict = verdict;
    }

    fn report(&self) {
        // The channel holds two for each attempt there can be, so it is full for nobody but a scheduler that is gone.
        if self.reports.try_send(self.attempt.number).is_err() {
            tracing::debug!("the queue of reports is full; the scheduler's scan finds the delivery");
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.over();
        self.ledger.tell(|told| (told.is_settled, told.verdict) = (true, self.verdict));
        self.report();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion() -> (Completion, Ledger, crossbeam_channel::Receiver<u64>) {
        let (reports, heard) = crossbeam_channel::bounded(2);
        let (org, endpoint, event) = (OrgNo(1), EndpointId(2), EventId(3));
        let (attempt, ledger) =
            (Attempt { number: 7, org, endpoint, event, standing: Standing::Works }, Ledger::default());
        (Completion::new(attempt, ledger.clone(), reports, Clock::manual(9)), ledger, heard)
    }

    #[test]
    fn an_attempt_that_panics_is_told_to_be_over_and_not_settled() {
        let (completion, ledger, heard) = completion();
        let attempt = std::panic::AssertUnwindSafe(move || {
            let _held = completion;
            panic!("as an attempt may");
        });
        assert!(std::panic::catch_unwind(attempt).is_err());
        let told = ledger.told();
        assert!(
            matches!(told, Told { answer: Some((Answer::Nothing, Timestamp(9))), is_settled: true, verdict: None }),
            "{told:?}"
        );
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [7, 7], "one report for each");
    }

    #[test]
    fn what_is_told_stands_in_the_ledger_also_when_nobody_hears_it() {
        let (mut completion, ledger, heard) = completion();
        drop(heard);
        completion.answered(Answer::Accepted, Timestamp(5));
        completion.over();
        assert!(matches!(
            ledger.told(),
            Told { answer: Some((Answer::Accepted, Timestamp(5))), is_settled: false, .. }
        ));
        completion.end(Some(Verdict::Delivered));
        assert!(matches!(ledger.told(), Told { is_settled: true, verdict: Some(Verdict::Delivered), .. }));
    }
}
