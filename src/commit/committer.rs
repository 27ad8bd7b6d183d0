//! The committer thread, which makes changes durable: takes waiting submissions, appends them,
//! syncs once, applies them and answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::activity_stream::ActivityStream;
use super::flusher::{self, Flush};
use super::intake::{Intake, Refused, Submission};
use super::notifier::InboxNotifier;
use super::portions::{Placed, portions};
use super::space::Space;
use super::watchdog::Progress;
use crate::base::clock::Clock;
use crate::base::exit_code::fatal;
use crate::base::metrics::Metrics;
use crate::base::random;
use crate::base::threads::Signal;
use crate::commands::{self, Applied, Applying, Command, Draft, Results, Stamp, SubmitEvent};
use crate::journal::{AppendError, Appended, Group, Log, Position};
use crate::model::id::{EndpointId, EventId, IdSource, OrgNo};
use crate::model::time::{Look, Timestamp};
use crate::store::{Effects, StateError, Store};

/// Approximate number of changed rows at which a group ends, so that later submissions wait only
/// briefly.
const WEIGHT_MAX: usize = 8_192;
/// Number of random bytes in an id.
const BYTES_PER_ID: usize = 10;
/// Appended bytes after which the free disk space is checked.
const DISK_LOOK_BYTES: u64 = 1 << 20;

/// Limits of the queue and of one commit group.
#[derive(Clone, Copy, Debug)]
pub struct CommitterLimits {
    /// Maximum number of waiting submissions.
    pub queue: usize,
    /// Age of the oldest submission at which events are refused.
    pub wait_max: Duration,
    /// Bytes of unfinished submissions at which events are refused.
    pub queue_bytes: usize,
    /// Commands at which a group ends; a submission is not split.
    pub group_commands: usize,
    /// Payload bytes at which a group ends; a submission is not split.
    pub group_bytes: usize,
}

/// Channels and signals for work following from commands. Hints may be lost, because the state
/// holds the same facts.
#[derive(Debug)]
pub struct Hints {
    /// Events to be routed to endpoints.
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
    fn give(&self, effects: &Effects) {
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
        self.notifier.ring(&effects.inbox_grew);
    }
}

/// Everything the committer works with besides the journal.
pub struct Ports {
    /// The state to which commands are applied.
    pub store: Arc<Store>,
    /// The clock for ids and times.
    pub clock: Clock,
    /// Channels to the workers, the scheduler and the replayer.
    pub hints: Arc<Hints>,
    /// The counters of commits and events.
    pub metrics: Arc<Metrics>,
    /// Handle for asking the flusher for a write-back.
    pub flush: Flush,
    /// Progress for the watchdog.
    pub progress: Arc<Progress>,
    /// Free space of the data's disk.
    pub space: Arc<Space>,
    /// Sends applied changes to the watchers of `/api/tail`.
    pub activity_stream: ActivityStream,
}

/// The only writer of the log.
pub struct Committer<L> {
    queue: Receiver<Submission>,
    intake: Intake,
    limits: CommitterLimits,
    log: L,
    ports: Ports,
    ids: IdSource,
    /// Number for the next organization.
    next_org: u32,
    group: Group,
    randomness: Vec<u8>,
    /// Bytes appended since the free disk space was last checked.
    unlooked_bytes: u64,
}

/// A submission in a group, with the outcomes of its commands as far as known.
struct Entry {
    submission: Submission,
    outcomes: Vec<Option<Applying>>,
}

impl<L: Log> Committer<L> {
    /// Creates a committer and its intake, for a state that is up to date with the log.
    /// `last_id` is the largest id in the state.
    pub fn new(limits: CommitterLimits, log: L, ports: Ports, last_id: u128) -> (Self, Intake) {
        let OrgNo(next_org) = ports.store.next_org();
        // After the clock was set back, due times of an earlier run may lie ahead of it. The last
        // id does not lie behind them.
        ports.clock.not_before(EventId(last_id).unix_ms());
        let (sender, queue) = crossbeam_channel::bounded(limits.queue);
        let intake = Intake::new(sender, limits.wait_max, limits.queue_bytes);
        let committer = Self {
            queue,
            intake: intake.clone(),
            limits,
            log,
            ports,
            ids: IdSource::after(last_id),
            next_org,
            group: Group::new(),
            randomness: Vec::new(),
            unlooked_bytes: 0,
        };
        (committer, intake)
    }

    /// Works until the intake is closed and its queue is empty.
    pub fn run(mut self) {
        let _on_panic = self.ports.store.invalidate_on_panic();
        let mut entries = Vec::new();
        while self.take(&mut entries) {
            self.commit(&mut entries);
            self.ports.progress.idle();
        }
        self.ports.progress.idle();
    }

    /// Waits for a submission, then takes all others in the queue. Returns false when the intake is
    /// closed and empty.
    fn take(&mut self, entries: &mut Vec<Entry>) -> bool {
        // Checked on each turn, because the queue may have been too full for the wakeup of `close`.
        if self.intake.is_closed() && self.queue.is_empty() {
            return false;
        }
        let Ok(first) = self.queue.recv() else { return false };
        self.ports.progress.busy();
        first.is_oldest();
        let (mut commands, mut weight, mut bytes) = (0, 0, 0);
        for submission in std::iter::once(first).chain(self.queue.try_iter()) {
            commands += submission.drafts.len();
            weight += submission.drafts.iter().map(Draft::weight).sum::<usize>();
            bytes += submission.drafts.iter().map(Draft::payload_bytes).sum::<usize>();
            let outcomes = vec![None; submission.drafts.len()];
            if !outcomes.is_empty() {
                entries.push(Entry { submission, outcomes });
            }
            if commands >= self.limits.group_commands
                || weight >= WEIGHT_MAX
                || bytes >= self.limits.group_bytes
            {
                break;
            }
        }
        true
    }

    /// Makes one group durable, applies it and answers.
    fn commit(&mut self, entries: &mut Vec<Entry>) {
        let known_duplicates = self.answer_known_duplicates(entries);
        let commands = self.stamp(entries);
        self.encode(&commands);
        let began = Instant::now();
        let Appended { positions, end } = match self.log.append(&mut self.group) {
            Ok(appended) => appended,
            Err(AppendError::NoSpace(kind)) => {
                let shortage = self.ports.space.explain(kind);
                self.intake.set_shortage(Some(shortage), self.ports.space.free());
                return refuse(entries, Refused::DiskFull(shortage));
            }
            Err(error) => fatal(&error.to_string()),
        };
        let metrics = &self.ports.metrics;
        if let Ok(count) = u32::try_from(positions.len())
            && count > 0
        {
            metrics.commit_group_commands.observe(count.into());
            metrics.commit_sync_seconds.observe(began.elapsed().as_secs_f64());
            metrics.commands_applied.inc_by(count.into());
        }
        let placed: Vec<_> = positions.iter().copied().zip(&commands).collect();
        let Results { outcomes, mut effects } = self.apply(&placed, end);
        self.ports.activity_stream.tell(std::mem::take(&mut effects.activity));
        // Counted before the answer, so that a client with an answer finds it in the metrics.
        metrics.events_accepted.inc_by(effects.stored);
        metrics.events_duplicate.inc_by(known_duplicates + effects.duplicates);
        metrics.replay_deliveries.inc_by(effects.replayed);
        self.answer(entries, outcomes);
        self.ports.hints.give(&effects);
        self.look_at_disk();
        self.group.clear();
    }

    /// Applies commands in chunks. Writes rows to sled itself when too many wait.
    fn apply(&self, commands: &[Placed<'_>], end: Position) -> Results {
        let store = &self.ports.store;
        let mut results = Results::new(self.ports.activity_stream.is_watched());
        results.outcomes.reserve(commands.len());
        for (portion, end) in portions(commands, end) {
            if let Err(error) = commands::apply(store, portion.iter().copied(), end, &mut results) {
                self.give_up(&error);
            }
            self.ports.progress.busy();
            if self.ports.flush.ask(store.fresh_rows())
                && !self.ports.space.is_short_for(store.fresh())
            {
                flusher::write_back(store, &self.ports.metrics);
            }
        }
        results
    }

    /// Answers events whose dedup id is known; such an event needs no record. Returns the number of
    /// duplicates among them.
    fn answer_known_duplicates(&self, entries: &mut [Entry]) -> u64 {
        let events = entries.iter().flat_map(|entry| &entry.submission.drafts).map(Draft::dedup);
        let now = Timestamp(self.ports.clock.now_ms());
        let known = match self.ports.store.known_duplicates(events, now) {
            Ok(known) => known,
            Err(error) => self.give_up(&error),
        };
        let duplicates = known.iter().flatten().filter(|earlier| earlier.is_same).count();
        for (slot, known) in entries.iter_mut().flat_map(|entry| &mut entry.outcomes).zip(known) {
            *slot =
                known.as_ref().map(|earlier| Ok(Applied::SubmitEvent(SubmitEvent::known(earlier))));
        }
        duplicates as u64
    }

    /// Makes commands of the drafts whose outcome is not known yet, in journal order.
    fn stamp(&mut self, entries: &mut [Entry]) -> Vec<Command> {
        let count: usize = entries.iter().map(|entry| entry.outcomes.len()).sum();
        self.randomness.resize(count * BYTES_PER_ID, 0);
        random::fill(&mut self.randomness);
        let mut stamp = Stamper {
            now: Timestamp(self.ports.clock.now_ms()),
            steady_ms: self.ports.clock.steady_ms(),
            ids: &mut self.ids,
            next_org: &mut self.next_org,
            randomness: self.randomness.as_chunks().0.iter(),
        };
        let mut commands = Vec::with_capacity(count);
        commands.extend(
            entries.iter_mut().flat_map(Entry::take_open).map(|draft| draft.stamped(&mut stamp)),
        );
        commands
    }

    fn encode(&mut self, commands: &[Command]) {
        self.group.clear();
        for command in commands {
            if let Err(reason) = command.add_to(&mut self.group) {
                // Requests are bounded far below a record's limits, so this is a bug.
                fatal(&format!("a command cannot be written: {reason}"));
            }
        }
    }

    /// Fills in the open outcomes and sends them.
    fn answer(&self, entries: &mut Vec<Entry>, outcomes: Vec<Applying>) {
        let mut outcomes = outcomes.into_iter();
        for entry in entries.drain(..) {
            let complete =
                entry.outcomes.into_iter().map(|known| known.or_else(|| outcomes.next()));
            let missing =
                || self.give_up(&StateError::Invariant("each applied command has a result"));
            let complete = complete.map(|outcome| outcome.unwrap_or_else(missing)).collect();
            if let Some(reply) = entry.submission.reply {
                drop(reply.send(Ok(complete)));
            }
        }
    }

    /// Checks the free disk space after each megabyte: the sweeper's check once a second is too
    /// late for a fast producer and a small disk.
    fn look_at_disk(&mut self) {
        self.unlooked_bytes += self.group.bytes() as u64;
        if self.unlooked_bytes >= DISK_LOOK_BYTES {
            self.unlooked_bytes = 0;
            if let Some(shortage) = self.ports.space.shortage() {
                self.intake.set_shortage(Some(shortage), self.ports.space.free());
            }
        }
    }

    /// Ends the process. The state is broken but the journal is not, so the next start computes the
    /// state anew.
    fn give_up(&self, error: &StateError) -> ! {
        self.ports.store.invalidate();
        fatal(&error.to_string())
    }
}

impl Entry {
    /// Takes the drafts out whose outcome is not known yet.
    fn take_open(&mut self) -> impl Iterator<Item = Draft> {
        let drafts = std::mem::take(&mut self.submission.drafts);
        drafts
            .into_iter()
            .zip(&self.outcomes)
            .filter(|(_, outcome)| outcome.is_none())
            .map(|(draft, _)| draft)
    }
}

/// Gives ids, numbers and the time, in journal order. An id is made from the steady time, because
/// ids never go back; the time at which an event was received is the wall clock's.
struct Stamper<'a> {
    now: Timestamp,
    steady_ms: u64,
    ids: &'a mut IdSource,
    next_org: &'a mut u32,
    /// Random bytes for one event of each draft.
    randomness: std::slice::Iter<'a, [u8; BYTES_PER_ID]>,
}

impl Stamp for Stamper<'_> {
    fn next_id(&mut self) -> EventId {
        let randomness = self.randomness.next().copied().unwrap_or_else(random::bytes);
        EventId(self.ids.next(self.steady_ms, randomness))
    }

    fn next_org(&mut self) -> OrgNo {
        let number = OrgNo(*self.next_org);
        *self.next_org = self.next_org.saturating_add(1);
        number
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

fn refuse(entries: &mut Vec<Entry>, refused: Refused) {
    for entry in entries.drain(..) {
        if let Some(reply) = entry.submission.reply {
            drop(reply.send(Err(refused)));
        }
    }
}
