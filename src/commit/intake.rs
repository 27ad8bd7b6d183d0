//! The door to the committer: a bounded queue that refuses when it is full, so that overload is felt in milliseconds.
//!
//! Full has three measures. A number of submissions is what the queue can hold at all. Bytes bound the memory, since a
//! submission may be an event or a batch of megabytes. And the time that the oldest has waited bounds how long anybody
//! waits, however fast the disk is: when it is over, new events are refused, while those that wait are still stored, and
//! everything that is no event (acknowledgements, keys, what becomes of deliveries) is still taken.
//!
//! There is no measure for a processor that is short, and none is missing. A refusal costs the processor a third of what
//! taking in does, and whoever was refused asks again. Refusing by how late the HTTP workers are was tried with 8,000
//! connections on one core: at 50 ms it left 1 to 25 % of the peak, at 250 ms it changed nothing but that refusals came after
//! 0.3 s. Without it each connection waits its turn, and their number bounds how long that takes.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};
use tokio::sync::oneshot;

use super::reply::{Pending, Reply};
use super::space::Shortage;
use crate::base::sabotage::{self, Switch};
use crate::commands::{Asker, Became, Draft, Drafted, Kind};

/// What a command takes in memory beside its payload, in bytes: nearly.
const COMMAND_BYTES: usize = 256;
/// How often the log says that events are refused, at most.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Why commands were not taken. Nothing of them is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue is full, or what waits in it waits too long.
    Overloaded,
    /// The disk has no more room than the reserve: of this.
    DiskFull(Shortage),
    /// The server is stopping.
    ShuttingDown,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overloaded => "too many changes wait to be stored",
            Self::DiskFull(shortage) => shortage.explanation(),
            Self::ShuttingDown => "the server is stopping",
        })
    }
}

impl std::error::Error for Refused {}

/// Commands on their way, and who waits for what becomes of them.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) drafts: Vec<Draft>,
    pub(super) reply: Option<oneshot::Sender<Result<Vec<Became>, Refused>>>,
    /// Given back when the submission is done with, whatever became of it.
    place: Place,
}

/// Takes commands. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake {
    queue: Sender<Submission>,
    state: Arc<IntakeState>,
}

#[derive(Debug)]
struct IntakeState {
    closed: AtomicBool,
    /// The code of the [`Shortage`], 0: there is none.
    shortage: AtomicU8,
    wait_max: Duration,
    bytes_max: usize,
    began: Instant,
    /// Submissions that wait or are being stored.
    under_way: AtomicUsize,
    /// Their bytes.
    bytes: AtomicUsize,
    /// When the oldest of them came, in microseconds since `began`.
    oldest_us: AtomicU64,
    refusals: Mutex<Refusals>,
}

/// What the log has still to be told.
#[derive(Debug, Default)]
struct Refusals {
    untold: u64,
    told: Option<Instant>,
}

/// A submission's share of what may be under way.
#[derive(Debug)]
struct Place {
    state: Arc<IntakeState>,
    bytes: usize,
    since_us: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.state.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.state.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Submission {
    /// The committer takes this one, and what comes behind it is younger.
    pub(super) fn is_oldest(&self) {
        self.place.state.oldest_us.store(self.place.since_us, Ordering::SeqCst);
    }
}

impl IntakeState {
    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn place(self: &Arc<Self>, drafts: &[Draft], now_us: u64) -> Place {
        let bytes = bytes(drafts);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // First the time: nobody must find one under way and the time of one that is long gone.
        if self.under_way.load(Ordering::SeqCst) == 0 {
            self.oldest_us.store(now_us, Ordering::SeqCst);
        }
        self.under_way.fetch_add(1, Ordering::SeqCst);
        Place { state: Arc::clone(self), bytes, since_us: now_us }
    }

    /// Counts a refusal if events are not welcome now.
    fn welcomes_events(&self, bytes: usize, now_us: u64) -> Result<(), Refused> {
        let under_way = self.under_way.load(Ordering::SeqCst);
        if under_way == 0 {
            return Ok(()); // what is too large for the rest of the room may be right for all of it
        }
        let waited = Duration::from_micros(now_us.saturating_sub(self.oldest_us.load(Ordering::SeqCst)));
        let all_bytes = self.bytes.load(Ordering::Relaxed);
        if waited <= self.wait_max && all_bytes.saturating_add(bytes) <= self.bytes_max {
            return Ok(());
        }
        let told = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).tell(Instant::now());
        if let Some(refused) = told {
            let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(refused, under_way, bytes = all_bytes, waited_ms, "overload: new events are refused");
        }
        Err(Refused::Overloaded)
    }
}

impl Refusals {
    /// One more. How many there were since the last time, when it is time to say so.
    fn tell(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < TELL_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// What drafts take in memory, nearly.
fn bytes(drafts: &[Draft]) -> usize {
    drafts.iter().map(|draft| COMMAND_BYTES + draft.payload_bytes()).sum()
}

impl Intake {
    /// `wait_max`: how long the oldest may have waited, `bytes_max`: how much may be under way, before events are refused.
    pub(super) fn new(queue: Sender<Submission>, wait_max: Duration, bytes_max: usize) -> Self {
        let state = IntakeState {
            closed: false.into(),
            shortage: 0.into(),
            wait_max,
            bytes_max,
            began: Instant::now(),
            under_way: 0.into(),
            bytes: 0.into(),
            oldest_us: 0.into(),
            refusals: Mutex::default(),
        };
        Self { queue, state: Arc::new(state) }
    }

    /// Whether an event would be taken now, for those who want to know before they work on it.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] when what waits has waited for too long, or is too much.
    pub fn welcomes_events(&self) -> Result<(), Refused> {
        self.state.welcomes_events(0, self.state.elapsed_us())
    }

    /// Hands over a command, never waiting, and gives its outcome once it is stored.
    ///
    /// # Errors
    /// See [`Intake::submit_all`].
    pub fn submit<D: Drafted>(&self, draft: D) -> Result<Pending<D::Kind>, Refused> {
        self.submit_drafts(vec![draft.into()]).map(Pending::new)
    }

    /// Hands over commands of one kind that a request asks for, never waiting. They are stored all together or, after a
    /// crash, a first part of them.
    ///
    /// # Errors
    /// See [`Intake::submit_all`].
    pub fn submit_requested<D: Drafted>(
        &self,
        drafts: impl IntoIterator<Item = D>,
        asker: Asker,
    ) -> Result<Pending<D::Kind>, Refused> {
        let drafts = drafts.into_iter().map(|draft| draft.into().asked_by(asker)).collect();
        self.submit_drafts(drafts).map(Pending::new)
    }

    /// Hands over any commands, never waiting. They are stored all together or, after a crash, a first part of them.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] when the queue is full, for events also when what waits has waited for too long or is too
    /// much; [`Refused::ShuttingDown`] after [`Intake::close`]; [`Refused::DiskFull`] for events while the disk is low
    /// (everything else goes on, since it makes room).
    pub fn submit_all<D: Into<Draft>>(&self, drafts: impl IntoIterator<Item = D>) -> Result<Reply, Refused> {
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
        let (reply, results) = oneshot::channel();
        let place = self.state.place(&drafts, now_us);
        match self.queue.try_send(Submission { drafts, reply: Some(reply), place }) {
            Ok(()) => Ok(Reply(results)),
            Err(TrySendError::Full(_)) => Err(Refused::Overloaded),
            Err(TrySendError::Disconnected(_)) => Err(Refused::ShuttingDown),
        }
    }

    /// Hands over commands nobody waits for, waiting for room in the queue: for our own threads, whose work must not be
    /// refused because producers are many. Says whether there is still a committer.
    pub fn push<D: Into<Draft>>(&self, drafts: impl IntoIterator<Item = D>) -> bool {
        let drafts: Vec<Draft> = drafts.into_iter().map(Into::into).collect();
        let place = self.state.place(&drafts, self.state.elapsed_us());
        drafts.is_empty() || self.queue.send(Submission { drafts, reply: None, place }).is_ok()
    }

    /// Like [`Intake::push`], and waits until the commands are stored. Says whether they were.
    pub fn push_and_wait<D: Into<Draft>>(&self, drafts: impl IntoIterator<Item = D>) -> bool {
        let drafts: Vec<Draft> = drafts.into_iter().map(Into::into).collect();
        drafts.is_empty() || self.push_for_reply(drafts).is_some_and(|reply| reply.wait().is_ok())
    }

    /// Like [`Intake::push_and_wait`], for commands of one kind: the outcome of each; none if they were not stored.
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
        let place = self.state.place(&drafts, self.state.elapsed_us());
        self.queue.send(Submission { drafts, reply: Some(reply), place }).ok()?;
        Some(Reply(results))
    }

    /// From now on nothing more is taken; the committer ends when it has done what waits.
    pub fn close(&self) {
        if !self.state.closed.swap(true, Ordering::SeqCst) {
            // Wakes the committer if it sleeps; if the queue is full it does not.
            let place = self.state.place(&[], self.state.elapsed_us());
            let woken = self.queue.try_send(Submission { drafts: Vec::new(), reply: None, place });
            tracing::debug!(woken = woken.is_ok(), "the intake is closed");
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.closed.load(Ordering::SeqCst)
    }

    /// Says whether there is too little disk space for events, and of what; the log hears of a change, with the free bytes.
    pub fn set_shortage(&self, shortage: Option<Shortage>, free: Option<u64>) {
        let shortage = shortage.filter(|_| !sabotage::is_on(Switch::ReserveOff));
        let before = self.state.shortage.swap(shortage.map_or(0, |shortage| shortage as u8), Ordering::SeqCst);
        match (Shortage::of_code(before), shortage) {
            (before, Some(shortage)) if before != Some(shortage) => {
                let cause = shortage.explanation();
                tracing::error!(free, cause, "new events are refused with 507");
            }
            (Some(_), None) => tracing::info!(free, "there is free disk space again: new events are accepted"),
            (None, None) | (_, Some(_)) => {}
        }
    }

    /// What there is too little of on the disk, so that events are refused.
    pub fn shortage(&self) -> Option<Shortage> {
        Shortage::of_code(self.state.shortage.load(Ordering::SeqCst))
    }

    /// Whether events are refused because the disk is low.
    pub fn is_disk_low(&self) -> bool {
        self.shortage().is_some()
    }

    /// One that nobody takes anything from.
    #[cfg(test)]
    pub(crate) fn unheard() -> Self {
        Self::new(crossbeam_channel::bounded(1).0, Duration::ZERO, 0)
    }

    /// How many submissions wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::Receiver;

    use super::*;
    use crate::commands::{EventDraft, NoteRouteCrash};
    use crate::model::event::NewEvent;
    use crate::model::id::{EventId, OrgNo};

    const WAIT_MAX: Duration = Duration::from_millis(500);
    const BYTES_MAX: usize = 10_000;

    fn door(queue: usize) -> (Intake, Receiver<Submission>) {
        let (sender, receiver) = crossbeam_channel::bounded(queue);
        (Intake::new(sender, WAIT_MAX, BYTES_MAX), receiver)
    }

    fn event(payload_bytes: usize) -> Vec<Draft> {
        let event = NewEvent {
            event_type: "a.b".parse().unwrap(),
            dedup: None,
            labels: vec![],
            occurred_at: None,
            deliver_after: None,
            payload: vec![b'1'; payload_bytes].into(),
            cloudevent: None,
        };
        vec![EventDraft::new(OrgNo(1), event).into()]
    }

    fn no_event() -> Vec<Draft> {
        vec![NoteRouteCrash { org: OrgNo(1), event: EventId(1) }.into()]
    }

    #[test]
    fn events_are_refused_while_the_oldest_has_waited_for_too_long_and_welcome_as_soon_as_it_is_gone() {
        let (intake, _queue) = door(100);
        let at = |ms: u64| intake.state.welcomes_events(0, ms * 1_000);
        assert_eq!(at(100_000), Ok(()), "nobody waits");
        let placed = |ms: u64| intake.state.place(&[], ms * 1_000);
        let (first, second, third) = (placed(1_000), placed(1_001), placed(1_450));
        assert_eq!(at(1_500), Ok(()));
        assert_eq!(at(1_501), Err(Refused::Overloaded));
        // It is the time that what is left has waited that counts, not that of what is done.
        drop((first, second));
        let submission = Submission { drafts: vec![], reply: None, place: third };
        submission.is_oldest();
        assert_eq!(at(1_950), Ok(()));
        assert_eq!(at(1_951), Err(Refused::Overloaded));
        drop(submission);
        assert_eq!(at(100_000), Ok(()), "nobody waits");
        let _late = placed(200_000);
        assert_eq!(at(200_500), Ok(()), "the time of those that are gone is forgotten");
    }

    #[test]
    fn what_is_no_event_is_taken_while_events_are_refused() {
        let (sender, _queue) = crossbeam_channel::bounded(100);
        let intake = Intake::new(sender, Duration::ZERO, BYTES_MAX);
        let _waiting = intake.submit_all(event(1)).unwrap();
        let began = intake.state.elapsed_us();
        while intake.state.elapsed_us() == began {
            std::hint::spin_loop();
        }
        assert_eq!(intake.welcomes_events(), Err(Refused::Overloaded));
        assert_eq!(intake.submit_all(event(1)).unwrap_err(), Refused::Overloaded);
        assert!(intake.submit_all(no_event()).is_ok());
    }

    #[test]
    fn bytes_are_bounded_until_they_are_stored_and_one_submission_always_fits() {
        let (intake, queue) = door(100);
        let _large = intake.submit_all(event(BYTES_MAX * 3)).unwrap();
        assert_eq!(intake.submit_all(event(1)).unwrap_err(), Refused::Overloaded);
        let taken = queue.recv().unwrap();
        assert_eq!(intake.submit_all(event(1)).unwrap_err(), Refused::Overloaded, "taken is not stored");
        drop(taken);
        let half = BYTES_MAX / 2 - COMMAND_BYTES;
        let _both = [intake.submit_all(event(half)).unwrap(), intake.submit_all(event(half)).unwrap()];
        assert_eq!(intake.submit_all(event(1)).unwrap_err(), Refused::Overloaded);
        assert_eq!(intake.state.bytes.load(Ordering::SeqCst), BYTES_MAX);
    }

    #[test]
    fn a_full_queue_refuses_everything_and_keeps_no_account_of_it() {
        let (intake, queue) = door(1);
        let _only = intake.submit_all(event(1)).unwrap();
        for _ in 0..3 {
            assert_eq!(intake.submit_all(event(1)).unwrap_err(), Refused::Overloaded);
            assert_eq!(intake.submit_all(no_event()).unwrap_err(), Refused::Overloaded);
        }
        assert_eq!(intake.state.under_way.load(Ordering::SeqCst), 1, "the one that waits");
        drop(queue.recv().unwrap());
        assert_eq!(intake.state.under_way.load(Ordering::SeqCst), 0);
        assert_eq!(intake.state.bytes.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn the_log_hears_of_refusals_once_a_second_and_of_all_of_them() {
        let (mut refusals, began) = (Refusals::default(), Instant::now());
        let told: Vec<_> = (0..2_100).map(|ms| refusals.tell(began + Duration::from_millis(ms))).collect();
        let told: Vec<_> = told.into_iter().flatten().collect();
        assert_eq!(told, [1, 1_000, 1_000]);
    }
}
