//! What becomes of an attempt, told whatever happens to it. Made by the scheduler, held by whoever makes the attempt.
//!
//! A [`Report`] in the scheduler's channel is a hint like all others. What it says stands in a place that the scheduler and
//! the attempt share, and the scheduler's scan looks there: so a report that is lost, late or told twice costs time, and
//! never a slot.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;

use super::turns::Standing;
use crate::base::clock::Clock;
use crate::model::delivery::Verdict;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::breaker::Answer;

/// What the scheduler hears of an attempt: first the one, then the other.
#[derive(Clone, Copy, Debug)]
pub enum Report {
    /// The request is over and brought this then, so another one may be made. It is on its way to the journal. When it was
    /// over says nothing of when this is heard: a pause begins with the answer, however late the scheduler is.
    Over(Attempt, Answer, Timestamp),
    /// It is settled, and this became of it; none when it could not be, so that it is made again later.
    Settled(Attempt, Option<Verdict>),
}

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
    /// Whether the endpoint was in doubt when it began.
    pub in_doubt: bool,
}

impl Attempt {
    pub(super) fn standing(self) -> Standing {
        if self.in_doubt { Standing::InDoubt } else { Standing::Works }
    }
}

/// What was told of an attempt so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// What its request brought and when, when that is over.
    pub(super) answer: Option<(Answer, Timestamp)>,
    /// Whether it is settled, or could not be,
    pub(super) is_settled: bool,
    /// and what became of it then.
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
    reports: Sender<Report>,
    ledger: Ledger,
    clock: Clock,
    attempt: Attempt,
    answer: Answer,
    answered_at: Option<Timestamp>,
    verdict: Option<Verdict>,
    is_over: bool,
}

impl Completion {
    pub(super) fn new(attempt: Attempt, ledger: Ledger, reports: Sender<Report>, clock: Clock) -> Self {
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
            self.report(Report::Over(self.attempt, self.answer, at));
        }
    }

    /// It is settled, and this became of it; none: it could not be.
    pub fn end(mut self, verdict: Option<Verdict>) {
        self.verdict = verdict;
    }

    fn report(&self, report: Report) {
        // The channel holds two for each attempt there can be, so it is full for nobody but a scheduler that is gone.
        if self.reports.try_send(report).is_err() {
            tracing::debug!("a report found no room; the scheduler's scan finds what it says");
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.over();
        self.ledger.tell(|told| (told.is_settled, told.verdict) = (true, self.verdict));
        self.report(Report::Settled(self.attempt, self.verdict));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion() -> (Completion, Ledger, crossbeam_channel::Receiver<Report>) {
        let (reports, heard) = crossbeam_channel::bounded(2);
        let (org, endpoint, event) = (OrgNo(1), EndpointId(2), EventId(3));
        let (attempt, ledger) = (Attempt { number: 7, org, endpoint, event, in_doubt: false }, Ledger::default());
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
        let reports: Vec<_> = heard.try_iter().collect();
        assert!(matches!(reports[..], [Report::Over(..), Report::Settled(_, None)]), "{reports:?}");
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
