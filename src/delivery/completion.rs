//! The completion guard: reports the end of an attempt, whatever happens to it. Made by the
//! scheduler, held by the attempt.
//!
//! The scheduler and the attempt share a ledger with the outcome. The attempt's number in the
//! scheduler's channel is only a hint for news in the ledger. The scheduler's scan also reads the
//! ledger, so a lost, late or repeated report costs time, but never a slot.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;

use super::fair_queue::EndpointHealth;
use super::subject::{Subject, log_about};
use crate::base::clock::Clock;
use crate::model::delivery::Verdict;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::breaker::Answer;

/// Identifies an attempt and its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Unique among the attempts of this process.
    pub number: u64,
    /// The organization of the event.
    pub org: OrgNo,
    /// The endpoint that receives the request.
    pub endpoint: EndpointId,
    /// The event to deliver.
    pub event: EventId,
    /// The health of the endpoint at the beginning of the attempt.
    pub(super) health: EndpointHealth,
}

/// The reported progress of an attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// The answer and its time, once the request is over: from then on another attempt may begin
    /// while this outcome goes to the journal. A pause begins with the answer, however late the
    /// report arrives.
    pub(super) answer: Option<(Answer, Timestamp)>,
    /// Set when the attempt is settled or cannot be settled. The request is over then.
    pub(super) is_settled: bool,
    /// The verdict; `None` if the attempt could not be settled and is repeated later.
    pub(super) verdict: Option<Verdict>,
}

/// The progress of an attempt, shared by attempt and scheduler.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<Mutex<Progress>>);

impl Ledger {
    /// Returns the progress reported so far.
    pub(super) fn progress(&self) -> Progress {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Reports an attempt to the scheduler. A panic or the end of the runtime drops the guard: the
/// attempt counts as not settled and is repeated.
#[derive(Debug)]
pub struct Completion {
    reports: Sender<u64>,
    ledger: Ledger,
    clock: Clock,
    attempt: Attempt,
    subject: Subject,
    answer: Answer,
    answered_at: Option<Timestamp>,
    verdict: Option<Verdict>,
    is_over: bool,
}

impl Completion {
    pub(super) fn new(
        (attempt, subject): (Attempt, Subject),
        ledger: Ledger,
        reports: Sender<u64>,
        clock: Clock,
    ) -> Self {
        let (answer, answered_at, verdict) = (Answer::Nothing, None, None);
        Self {
            reports,
            ledger,
            clock,
            attempt,
            subject,
            answer,
            answered_at,
            verdict,
            is_over: false,
        }
    }

    /// Sets the answer and its steady time. Must be called before [`Completion::over`].
    pub fn answered(&mut self, answer: Answer, at: Timestamp) {
        (self.answer, self.answered_at) = (answer, Some(at));
    }

    /// The attempt of this guard.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// Reports the end of the request, once.
    pub fn over(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            let at = self.answered_at.unwrap_or_else(|| Timestamp(self.clock.steady_ms()));
            self.ledger.tell(|progress| progress.answer = Some((self.answer, at)));
            self.report();
        }
    }

    /// Reports the settling with its verdict; `None` if the attempt could not be settled.
    pub fn end(mut self, verdict: Option<Verdict>) {
        self.verdict = verdict;
    }

    fn report(&self) {
        // The channel has room for two reports of each attempt, so only a stopped scheduler leaves
        // it full.
        if self.reports.try_send(self.attempt.number).is_err() {
            let message = "the queue of reports is full; the scheduler's scan finds the outcome";
            log_about!(debug, self.subject, "{message}");
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.over();
        self.ledger.tell(|progress| (progress.is_settled, progress.verdict) = (true, self.verdict));
        self.report();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion() -> (Completion, Ledger, crossbeam_channel::Receiver<u64>) {
        let (reports, heard) = crossbeam_channel::bounded(2);
        let (org, endpoint, event) = (OrgNo(1), EndpointId(2), EventId(3));
        let (attempt, ledger) = (
            Attempt { number: 7, org, endpoint, event, health: EndpointHealth::Healthy },
            Ledger::default(),
        );
        let parts = (attempt, Subject::of_test(None, endpoint, event));
        (Completion::new(parts, ledger.clone(), reports, Clock::manual(9)), ledger, heard)
    }

    #[test]
    fn an_attempt_that_panics_is_told_to_be_over_and_not_settled() {
        let (completion, ledger, heard) = completion();
        let attempt = std::panic::AssertUnwindSafe(move || {
            let _held = completion;
            panic!("as an attempt may");
        });
        assert!(std::panic::catch_unwind(attempt).is_err());
        let progress = ledger.progress();
        assert!(
            matches!(
                progress,
                Progress {
                    answer: Some((Answer::Nothing, Timestamp(9))),
                    is_settled: true,
                    verdict: None
                }
            ),
            "{progress:?}"
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
            ledger.progress(),
            Progress { answer: Some((Answer::Accepted, Timestamp(5))), is_settled: false, .. }
        ));
        completion.end(Some(Verdict::Delivered));
        assert!(matches!(
            ledger.progress(),
            Progress { is_settled: true, verdict: Some(Verdict::Delivered), .. }
        ));
    }
}
