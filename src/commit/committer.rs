//! The committer thread, which makes changes durable: takes waiting submissions, appends them,
//! syncs once, applies them and answers.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;

use super::chunks::{Placed, chunks};
use super::engine::Engine;
use super::flusher::{self, Flush};
use super::intake::{Submission, Submissions};
use super::reply::Refused;
use super::watchdog::Progress;
use crate::base::exit_code::fatal;
use crate::base::random;
use crate::commands::{self, Applied, Applying, Command, Draft, Results, Stamp, SubmitEvent};
use crate::journal::{AppendError, Appended, Group, Log, Position};
use crate::model::id::{EventId, IdSource, OrgNo};
use crate::model::time::Timestamp;
use crate::store::{Counts, StateError};

/// Approximate number of changed rows at which a group ends, so that later submissions wait only
/// briefly.
const WEIGHT_MAX: usize = 8_192;
/// Number of random bytes in an id.
const BYTES_PER_ID: usize = 10;
/// Appended bytes after which the free disk space is checked.
const DISK_LOOK_BYTES: u64 = 1 << 20;

/// Limits of one commit group.
#[derive(Clone, Copy, Debug)]
pub struct GroupLimits {
    /// Commands at which a group ends; a submission is not split.
    pub commands: usize,
    /// Payload bytes at which a group ends; a submission is not split.
    pub bytes: usize,
}

/// The only writer of the log.
pub struct Committer<L> {
    engine: Arc<Engine>,
    queue: Receiver<Submission>,
    limits: GroupLimits,
    log: L,
    flush: Flush,
    progress: Arc<Progress>,
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
    /// Makes a committer of the engine's commands, for a state that is up to date with the log.
    ///
    /// # Errors
    /// The largest id in the state cannot be read.
    pub fn new(
        engine: Arc<Engine>,
        Submissions(queue): Submissions,
        log: L,
        limits: GroupLimits,
    ) -> Result<Self, StateError> {
        let OrgNo(next_org) = engine.store.next_org();
        let Counts { last_id, steady, .. } = engine.store.counts()?;
        // After the clock was set back, due times and ends of an earlier run may lie far ahead of
        // it, and what ended must not begin again.
        engine.clock.not_before(steady.0);
        Ok(Self {
            engine,
            queue,
            limits,
            log,
            flush: Flush::default(),
            progress: Arc::default(),
            ids: IdSource::after(last_id),
            next_org,
            group: Group::new(),
            randomness: Vec::new(),
            unlooked_bytes: 0,
        })
    }

    /// Returns the committer's way to ask for a write-back, for the flusher.
    pub fn flush(&self) -> Flush {
        self.flush.clone()
    }

    /// Returns the progress of the thread, for the watchdog.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Works until the intake is closed and its queue is empty.
    pub fn run(mut self) {
        let _on_panic = self.engine.store.invalidate_on_panic();
        let mut entries = Vec::new();
        while self.take(&mut entries) {
            self.commit(&mut entries);
            self.progress.idle();
        }
        self.progress.idle();
    }

    /// Waits for a submission, then takes all others in the queue. Returns false when the intake is
    /// closed and empty.
    fn take(&mut self, entries: &mut Vec<Entry>) -> bool {
        // Checked on each turn, because the queue may have been too full for the wakeup of `close`.
        if self.engine.intake.is_closed() && self.queue.is_empty() {
            return false;
        }
        let Ok(first) = self.queue.recv() else { return false };
        self.progress.busy();
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
            if commands >= self.limits.commands
                || weight >= WEIGHT_MAX
                || bytes >= self.limits.bytes
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
                let shortage = self.engine.space.explain(kind);
                self.engine.intake.set_shortage(Some(shortage), self.engine.space.free());
                return refuse(entries, Refused::DiskFull(shortage));
            }
            Err(error) => fatal(&error.to_string()),
        };
        let metrics = &self.engine.metrics;
        if let Ok(count) = u32::try_from(positions.len())
            && count > 0
        {
            metrics.commit_group_commands.observe(count.into());
            metrics.commit_sync_seconds.observe(began.elapsed().as_secs_f64());
            metrics.commands_applied.inc_by(count.into());
        }
        self.engine.snapshots.appended(end);
        let placed: Vec<_> = positions.iter().copied().zip(&commands).collect();
        let Results { outcomes, mut effects } = self.apply(&placed, end);
        self.engine.activity_stream.publish(std::mem::take(&mut effects.activity));
        // Counted before the answer, so that a client with an answer finds it in the metrics.
        metrics.events_accepted.inc_by(effects.stored);
        metrics.events_duplicate.inc_by(known_duplicates + effects.duplicates);
        metrics.replay_deliveries.inc_by(effects.replayed);
        self.answer(entries, outcomes);
        self.engine.hints.give(&effects);
        self.look_at_disk();
        self.group.clear();
    }

    /// Applies commands in chunks. Writes rows to sled itself when too many wait.
    fn apply(&self, commands: &[Placed<'_>], end: Position) -> Results {
        let store = &self.engine.store;
        let mut results = Results::new(self.engine.activity_stream.is_watched());
        results.outcomes.reserve(commands.len());
        for (chunk, end) in chunks(commands, end) {
            if let Err(error) = commands::apply(store, chunk.iter().copied(), end, &mut results) {
                self.give_up(&error);
            }
            self.progress.busy();
            if self.flush.ask(store.fresh_rows()) && !self.engine.space.is_short_for(store.fresh())
            {
                flusher::write_back(store, &self.engine.metrics);
            }
        }
        results
    }

    /// Answers events whose dedup id is known; such an event needs no record. Returns the number of
    /// duplicates among them.
    fn answer_known_duplicates(&self, entries: &mut [Entry]) -> u64 {
        let events = entries.iter().flat_map(|entry| &entry.submission.drafts).map(Draft::dedup);
        let now = self.engine.now();
        let known = match self.engine.store.known_duplicates(events, now) {
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
            now: Timestamp(self.engine.clock.now_ms()),
            steady_ms: self.engine.clock.steady_ms(),
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
            if let Some(shortage) = self.engine.space.shortage() {
                self.engine.intake.set_shortage(Some(shortage), self.engine.space.free());
            }
            self.engine.look_at_rest();
        }
    }

    /// Ends the process. The state is broken but the journal is not, so the next start computes the
    /// state anew.
    fn give_up(&self, error: &StateError) -> ! {
        self.engine.store.invalidate();
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

    fn steady(&self) -> Timestamp {
        Timestamp(self.steady_ms)
    }
}

fn refuse(entries: &mut Vec<Entry>, refused: Refused) {
    for entry in entries.drain(..) {
        if let Some(reply) = entry.submission.reply {
            drop(reply.send(Err(refused)));
        }
    }
}
