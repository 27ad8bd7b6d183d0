//! The intake: a bounded queue in front of the committer. A full queue refuses at once, so that
//! clients notice overload within milliseconds.
//!
//! Three limits apply:
//!
//! - The number of submissions is bounded by the queue.
//! - Bytes bound the memory, since a submission may have megabytes.
//! - The age of the oldest submission bounds how long a client waits, however slow the disk is.
//!   Beyond the limit, new events are refused; waiting events are still stored, and other commands
//!   (acknowledgements, keys, outcomes of attempts) are still accepted.
//!
//! A lack of processor time has no limit of its own, on purpose. A refusal costs a third of the
//! processor time of an accepted event, and refused clients ask again. Refusing by the delay of the
//! HTTP workers was tried with 8,000 connections on one core: at 50 ms it left 1 to 25 % of the
//! peak rate; at 250 ms its only effect was that refusals came after 0.3 s. Without such a limit
//! each connection waits its turn, and the number of connections bounds the wait.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use tokio::sync::oneshot;

use super::reply::{CommitError, Pending, Refused, Reply};
use super::space::Shortage;
use crate::base::failpoint::{self, Switch};
use crate::base::units::millis;
use crate::commands::{Applying, Draft, Drafted, Kind, Requester};

/// Approximate memory of a command beside its payload, in bytes.
const COMMAND_BYTES: usize = 256;
/// Minimum time between two log lines about refused events.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Commands on their way to the committer, and the channel for their outcomes.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) drafts: Vec<Draft>,
    pub(super) reply: Option<oneshot::Sender<Result<Vec<Applying>, Refused>>>,
    /// Ends when the submission is dropped, however it ended.
    under_way: UnderWayGuard,
}

/// The end of the queue at which the committer takes submissions.
#[derive(Debug)]
pub struct Submissions(pub(super) Receiver<Submission>);

/// Limits of the queue.
#[derive(Clone, Copy, Debug)]
pub struct IntakeLimits {
    /// Maximum number of waiting submissions.
    pub queue: usize,
    /// Age of the oldest submission at which events are refused.
    pub wait_max: Duration,
    /// Bytes of unfinished submissions at which events are refused.
    pub bytes_max: usize,
}

/// Accepts commands for the committer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake {
    queue: Sender<Submission>,
    state: Arc<IntakeState>,
}

#[derive(Debug)]
struct IntakeState {
    closed: AtomicBool,
    /// The code of the [`Shortage`]; 0 if there is none.
    shortage: AtomicU8,
    /// Set while the rest of the disk is kept for what gives space back.
    is_rest_kept: AtomicBool,
    limits: IntakeLimits,
    began: Instant,
    /// Number of submissions waiting or being stored.
    under_way: AtomicUsize,
    /// Bytes of the submissions under way.
    bytes: AtomicUsize,
    /// Arrival of the oldest submission under way, in microseconds since `began`.
    oldest_us: AtomicU64,
    refusals: Mutex<Refusals>,
}

/// Refusals not reported in the log yet.
#[derive(Debug, Default)]
struct Refusals {
    unreported: u64,
    reported_at: Option<Instant>,
}

/// Counts a submission among those under way, until it is dropped.
#[derive(Debug)]
struct UnderWayGuard {
    state: Arc<IntakeState>,
    bytes: usize,
    since_us: u64,
}

impl Drop for UnderWayGuard {
    fn drop(&mut self) {
        self.state.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.state.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Submission {
    /// Notes that the committer takes this submission. Later submissions are younger.
    pub(super) fn is_oldest(&self) {
        self.under_way.state.oldest_us.store(self.under_way.since_us, Ordering::SeqCst);
    }
}

impl IntakeState {
    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Counts a submission as under way.
    fn begin(self: &Arc<Self>, drafts: &[Draft], now_us: u64) -> UnderWayGuard {
        let bytes = bytes(drafts);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // The time is stored before the count, so that no reader combines a submission under way
        // with the time of a finished one.
        if self.under_way.load(Ordering::SeqCst) == 0 {
            self.oldest_us.store(now_us, Ordering::SeqCst);
        }
        self.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWayGuard { state: Arc::clone(self), bytes, since_us: now_us }
    }

    /// Refuses events while the intake is overloaded, and counts the refusal for the log.
    fn welcomes_events(&self, bytes: usize, now_us: u64) -> Result<(), Refused> {
        let under_way = self.under_way.load(Ordering::SeqCst);
        if under_way == 0 {
            return Ok(()); // a submission alone may be larger than the limit
        }
        let waited =
            Duration::from_micros(now_us.saturating_sub(self.oldest_us.load(Ordering::SeqCst)));
        let all_bytes = self.bytes.load(Ordering::Relaxed);
        if waited <= self.limits.wait_max
            && all_bytes.saturating_add(bytes) <= self.limits.bytes_max
        {
            return Ok(());
        }
        let unreported =
            self.refusals.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now());
        if let Some(refused) = unreported {
            let waited_ms = millis(waited);
            tracing::warn!(
                refused,
                under_way,
                bytes = all_bytes,
                waited_ms,
                "overload: new events are refused"
            );
        }
        Err(Refused::Overloaded)
    }
}

impl Refusals {
    /// Counts a refusal. Returns the number of refusals since the last report when a report is due.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.unreported += 1;
        if self.reported_at.is_some_and(|at| now.saturating_duration_since(at) < REPORT_EVERY) {
            return None;
        }
        self.reported_at = Some(now);
        Some(std::mem::take(&mut self.unreported))
    }
}

/// Returns the approximate memory of drafts, in bytes.
fn bytes(drafts: &[Draft]) -> usize {
    drafts.iter().map(|draft| COMMAND_BYTES + draft.payload_bytes()).sum()
}

impl Intake {
    /// Makes an intake and the committer's end of its queue.
    pub fn new(limits: IntakeLimits) -> (Self, Submissions) {
        let (queue, submissions) = crossbeam_channel::bounded(limits.queue);
        let state = IntakeState {
            closed: false.into(),
            shortage: 0.into(),
            is_rest_kept: false.into(),
            limits,
            began: Instant::now(),
            under_way: 0.into(),
            bytes: 0.into(),
            oldest_us: 0.into(),
            refusals: Mutex::default(),
        };
        (Self { queue, state: Arc::new(state) }, Submissions(submissions))
    }

    /// Returns `Ok` if an event would be accepted now. Callers ask before costly work on an event.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] when the oldest submission has waited too long or too many bytes
    /// wait.
    pub fn welcomes_events(&self) -> Result<(), Refused> {
        self.state.welcomes_events(0, self.state.elapsed_us())
    }

    /// Hands over a command without waiting. The returned value gives its outcome once it is
    /// stored.
    ///
    /// # Errors
    /// See [`Intake::submit_all`].
    pub fn submit<D: Drafted>(&self, draft: D) -> Result<Pending<D::Kind>, Refused> {
        self.submit_drafts(vec![draft.into()]).map(Pending::new)
    }

    /// Hands over commands of one kind that a request asks for, without waiting. After a crash
    /// either all of them are stored or a first part of them. The first one has the requester's
    /// note.
    ///
    /// # Errors
    /// See [`Intake::submit_all`], and [`Draft::asked_by`].
    pub fn submit_requested<D: Drafted>(
        &self,
        drafts: impl IntoIterator<Item = D>,
        mut requester: Requester,
    ) -> Result<Pending<D::Kind>, CommitError> {
        let drafts = drafts.into_iter().map(|draft| {
            let note = requester.note.take();
            draft.into().asked_by(Requester { note, ..requester.clone() })
        });
        let drafts = drafts.collect::<Result<_, _>>().map_err(CommitError::NotAllowed)?;
        Ok(self.submit_drafts(drafts).map(Pending::new)?)
    }

    /// Hands over any commands, without waiting. After a crash either all of them are stored or a
    /// first part of them.
    ///
    /// # Errors
    /// - [`Refused::Overloaded`] when the queue is full; for events also when the oldest submission
    ///   has waited too long or too many bytes wait.
    /// - [`Refused::ShuttingDown`] after [`Intake::close`].
    /// - [`Refused::DiskFull`] for events while the disk is low.
    /// - [`Refused::RestKept`] for what makes more while the disk is almost full, see
    ///   [`Draft::asks_for_more`]. Other commands go on, because they make room.
    pub fn submit_all<D: Into<Draft>>(
        &self,
        drafts: impl IntoIterator<Item = D>,
    ) -> Result<Reply, Refused> {
        self.submit_drafts(drafts.into_iter().map(Into::into).collect())
    }

    fn submit_drafts(&self, drafts: Vec<Draft>) -> Result<Reply, Refused> {
        if self.is_closed() {
            return Err(Refused::ShuttingDown);
        }
        let now_us = self.state.elapsed_us();
        if drafts.iter().any(Draft::is_event) {
            if let Some(shortage) = self.shortage() {
                return Err(Refused::DiskFull(shortage));
            }
            self.state.welcomes_events(bytes(&drafts), now_us)?;
        }
        if self.keeps_rest() && drafts.iter().any(Draft::asks_for_more) {
            return Err(Refused::RestKept);
        }
        let (reply, results) = oneshot::channel();
        let under_way = self.state.begin(&drafts, now_us);
        match self.queue.try_send(Submission { drafts, reply: Some(reply), under_way }) {
            Ok(()) => Ok(Reply(results)),
            Err(TrySendError::Full(_)) => Err(Refused::Overloaded),
            Err(TrySendError::Disconnected(_)) => Err(Refused::ShuttingDown),
        }
    }

    /// Hands over commands without a reply and waits for room in the queue. This is for the
    /// server's own threads, whose work must not be refused because producers are many. Returns
    /// false if the committer has ended.
    pub fn push<D: Into<Draft>>(&self, drafts: impl IntoIterator<Item = D>) -> bool {
        let drafts: Vec<Draft> = drafts.into_iter().map(Into::into).collect();
        let under_way = self.state.begin(&drafts, self.state.elapsed_us());
        drafts.is_empty() || self.queue.send(Submission { drafts, reply: None, under_way }).is_ok()
    }

    /// Like [`Intake::push`], but waits until the commands are stored. Returns false if they were
    /// not.
    pub fn push_and_wait<D: Into<Draft>>(&self, drafts: impl IntoIterator<Item = D>) -> bool {
        let drafts: Vec<Draft> = drafts.into_iter().map(Into::into).collect();
        drafts.is_empty() || self.push_for_reply(drafts).is_some_and(|reply| reply.wait().is_ok())
    }

    /// Like [`Intake::push_and_wait`], for commands of one kind. Returns the outcome of each
    /// command, or `None` if the commands were not stored.
    pub fn push_for_outcomes<D: Drafted>(
        &self,
        drafts: impl IntoIterator<Item = D>,
    ) -> Option<Vec<<D::Kind as Kind>::Outcome>> {
        let drafts: Vec<Draft> = drafts.into_iter().map(Into::into).collect();
        if drafts.is_empty() {
            return Some(Vec::new());
        }
        self.push_for_reply(drafts).and_then(|reply| Pending::<D::Kind>::new(reply).wait().ok())
    }

    fn push_for_reply(&self, drafts: Vec<Draft>) -> Option<Reply> {
        let (reply, results) = oneshot::channel();
        let under_way = self.state.begin(&drafts, self.state.elapsed_us());
        self.queue.send(Submission { drafts, reply: Some(reply), under_way }).ok()?;
        Some(Reply(results))
    }

    /// Refuses all further submissions. The committer ends after the waiting submissions.
    pub fn close(&self) {
        if !self.state.closed.swap(true, Ordering::SeqCst) {
            // An empty submission wakes a sleeping committer. If the queue is full, the
            // committer is awake.
            let under_way = self.state.begin(&[], self.state.elapsed_us());
            let woken =
                self.queue.try_send(Submission { drafts: Vec::new(), reply: None, under_way });
            tracing::debug!(woken = woken.is_ok(), "the intake is closed");
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.closed.load(Ordering::SeqCst)
    }

    /// Sets or clears the shortage of disk space that refuses events. A change is logged with the
    /// free bytes.
    pub fn set_shortage(&self, shortage: Option<Shortage>, free: Option<u64>) {
        let shortage = shortage.filter(|_| !failpoint::is_on(Switch::ReserveOff));
        let before = self
            .state
            .shortage
            .swap(shortage.map_or(0, |shortage| shortage as u8), Ordering::SeqCst);
        match (Shortage::of_code(before), shortage) {
            (before, Some(shortage)) if before != Some(shortage) => {
                let cause = shortage.explanation();
                tracing::error!(free, cause, "new events are refused with 507");
            }
            (Some(_), None) => {
                tracing::info!(free, "there is free disk space again: new events are accepted");
            }
            (None, None) | (_, Some(_)) => {}
        }
    }

    /// The shortage of disk space for which events are refused, if any.
    pub fn shortage(&self) -> Option<Shortage> {
        Shortage::of_code(self.state.shortage.load(Ordering::SeqCst))
    }

    /// Returns true while events are refused because the disk is low.
    pub fn is_disk_low(&self) -> bool {
        self.shortage().is_some()
    }

    /// Sets if the rest of the disk is kept for what gives space back. A change is logged.
    pub(super) fn keep_rest(&self, is_kept: bool) {
        let is_kept = is_kept && !failpoint::is_on(Switch::ReserveOff);
        match (self.state.is_rest_kept.swap(is_kept, Ordering::SeqCst), is_kept) {
            (false, true) => tracing::error!(
                "the disk is almost full: new organizations, keys, endpoints, replays and retries \
                 by hand are refused with 507, so that room stays for what gives space back"
            ),
            (true, false) => tracing::info!("organizations, keys and endpoints can be made again"),
            (false, false) | (true, true) => {}
        }
    }

    /// Returns true while the rest of the disk is kept for what gives space back.
    pub fn keeps_rest(&self) -> bool {
        self.state.is_rest_kept.load(Ordering::SeqCst)
    }

    /// An intake without a committer.
    #[cfg(test)]
    pub(crate) fn unheard() -> Self {
        Self::new(IntakeLimits { queue: 1, wait_max: Duration::ZERO, bytes_max: 0 }).0
    }

    /// Returns the number of submissions in the queue.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
