//! Housekeeping, once a second and in bounded steps: offers again what was missed, watches the disk (and tells those who
//! asked for it when it gets full), forgets dedup ids whose window has passed, notes when keys were used and which have
//! ended, keeps the gauges true.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::disk_watch::{DiskWatch, disk_low};
use crate::base::clock::Clock;
use crate::base::exit_code::fatal;
use crate::base::metrics::{Metrics, OperationalEvent, Queue};
use crate::base::sabotage::{self, Switch};
use crate::base::threads::{Signal, Stop};
use crate::commands::{ExpireDedup, ExpireKeys, NoteKeysUsed, SubmitOutcome};
use crate::commit::{Hints, Intake, Shortage, Space};
use crate::journal::Reader;
use crate::model::id::{EventId, KeyId, OrgNo};
use crate::model::notice::NoticeKind;
use crate::model::time::Timestamp;
use crate::store::{StateError, Store};

const TICK: Duration = Duration::from_secs(1);
/// Whatever waits for routing is offered this often, in milliseconds.
const OFFERED_EVERY_MS: u64 = 20_000;
/// Last uses of keys are written down this often.
const KEYS_USED_EVERY: Duration = Duration::from_secs(10);
/// Keys whose end is looked at in one round.
const KEYS_LOOKED_AT: usize = 4_096;
/// Most organizations that are told of a disk that gets full: each event takes some of what is left.
const TOLD_OF_DISK_MAX: usize = 1_000;

/// Settings of the sweeper.
pub struct SweeperSettings {
    /// A dedup id counts so long, in milliseconds.
    pub dedup_window_ms: u64,
    /// The disk that the data is on.
    pub space: Arc<Space>,
    /// Keys that were used since the last call.
    pub keys_used: Box<dyn Fn() -> Vec<(KeyId, Timestamp)> + Send>,
}

/// The housekeeper.
pub struct Sweeper {
    /// The state.
    pub store: Arc<Store>,
    /// The journal, for its size.
    pub journal: Reader,
    /// Where commands go.
    pub intake: Intake,
    /// Where missed work is offered.
    pub hints: Arc<Hints>,
    /// The time.
    pub clock: Clock,
    /// The gauges.
    pub metrics: Arc<Metrics>,
    /// What to do.
    pub settings: SweeperSettings,
}

/// Where the rounds are.
struct Rounds {
    /// The first unrouted event at the last look: if it is still there, its hint got lost.
    stuck: Option<(OrgNo, EventId)>,
    /// When all of them were offered.
    offered_ms: u64,
    keys_noted: Instant,
    /// The last key whose end was looked at; the next round goes on behind it.
    key: Option<KeyId>,
    disk: DiskWatch,
}

impl Sweeper {
    /// Works until it is asked to stop.
    pub fn run(self, stop: &Stop, wake: &Signal) {
        let mut rounds = Rounds {
            stuck: None,
            offered_ms: self.clock.steady_ms(),
            keys_noted: Instant::now(),
            key: None,
            disk: DiskWatch::default(),
        };
        // What a crash left unrouted is found at once.
        self.hints.unrouted_missed.store(true, Ordering::SeqCst);
        while !stop.is_set() {
            if let Err(error) = self.tick(&mut rounds) {
                tracing::error!(%error, "a task of the sweeper failed; it is retried");
            }
            if self.store.is_broken() {
                self.store.condemn();
                fatal("a row of the state cannot be read; the next start computes the state from the journal");
            }
            wake.wait(if sabotage::is_on(Switch::SweeperHurries) { TICK / 1_000 } else { TICK });
        }
        self.note_keys_used();
    }

    fn tick(&self, rounds: &mut Rounds) -> Result<(), StateError> {
        self.watch_disk(&mut rounds.disk)?;
        self.offer_missed(rounds)?;
        self.expire_dedup()?;
        self.expire_keys(rounds)?;
        if rounds.keys_noted.elapsed() >= KEYS_USED_EVERY {
            rounds.keys_noted = Instant::now();
            self.note_keys_used();
        }
        self.set_gauges()
    }

    fn watch_disk(&self, watch: &mut DiskWatch) -> Result<(), StateError> {
        let space = &self.settings.space;
        let Some(free) = space.free() else { return Ok(()) };
        let short = || space.is_short_for(self.store.fresh()).then_some(Shortage::Bytes);
        self.intake.set_shortage(space.shortage().or_else(short), Some(free));
        self.metrics.disk_free_bytes.set(gauge(free));
        self.metrics.disk_free_files.set(space.free_files().map_or(-1, gauge));
        if watch.is_due(free, space.reserve_bytes()) {
            self.tell_disk_low(watch, (free, space.reserve_bytes()))?;
        }
        Ok(())
    }

    /// Only those who ask for it, not everybody; as long as nobody does, whoever does later. What cannot be stored is tried
    /// again.
    fn tell_disk_low(&self, watch: &mut DiskWatch, (free, reserve): (u64, u64)) -> Result<(), StateError> {
        let now = Timestamp(self.clock.now_ms());
        let orgs = self.store.orgs_asking_for(&NoticeKind::DiskLow.event_type(), TOLD_OF_DISK_MAX)?;
        if watch.is_new() {
            tracing::warn!(free, reserve, "the disk is getting full: below the reserve, new events are refused");
        }
        if orgs.is_empty() {
            return Ok(());
        }
        let events = orgs.iter().map(|org| disk_low(*org, (free, reserve), now));
        let Some(outcomes) = self.intake.push_for_outcomes(events) else { return Ok(()) };
        watch.told();
        let told = outcomes.iter().filter(|outcome| matches!(outcome, SubmitOutcome::Accepted { .. })).count();
        self.metrics.operational_events.of(OperationalEvent::DiskLow).inc_by(told as u64);
        Ok(())
    }

    /// An event whose hint got lost is found soon when it is the first that waits. Under a load that always leaves others
    /// before it, it is found because from time to time everything that waits is gone through.
    fn offer_missed(&self, rounds: &mut Rounds) -> Result<(), StateError> {
        let first = self.store.unrouted_after((OrgNo(0), EventId(0)), 1)?.first().copied();
        let now_ms = self.clock.steady_ms();
        let is_time = now_ms.saturating_sub(rounds.offered_ms) >= OFFERED_EVERY_MS;
        if first.is_some() && (first == rounds.stuck || is_time) && !sabotage::is_on(Switch::ScanOff) {
            self.hints.unrouted_missed.store(true, Ordering::SeqCst);
        }
        if is_time {
            rounds.offered_ms = now_ms;
        }
        rounds.stuck = first;
        Ok(())
    }

    fn expire_dedup(&self) -> Result<(), StateError> {
        let before = Timestamp(self.clock.now_ms()).minus_ms(self.settings.dedup_window_ms);
        if self.store.has_expired_dedup(before)? {
            self.intake.push([ExpireDedup { before }]);
        }
        Ok(())
    }

    /// A key whose time has come stays ended, also when the clock is set back: so it is written down.
    fn expire_keys(&self, rounds: &mut Rounds) -> Result<(), StateError> {
        let at = Timestamp(self.clock.now_ms());
        let (keys, next) = self.store.keys_past_end(at, rounds.key, KEYS_LOOKED_AT)?;
        rounds.key = next;
        if !keys.is_empty() {
            self.intake.push([ExpireKeys { keys, at }]);
        }
        Ok(())
    }

    fn note_keys_used(&self) {
        let used = (self.settings.keys_used)();
        if !used.is_empty() || sabotage::is_on(Switch::SweeperWrites) {
            self.intake.push([NoteKeysUsed { used }]);
        }
    }

    fn set_gauges(&self) -> Result<(), StateError> {
        let counts = self.store.counts()?;
        self.metrics.events_stored.set(gauge(counts.events));
        self.metrics.inbox_open_events.set(gauge(counts.open));
        self.metrics.queue_depth.of(Queue::Intake).set(gauge(self.intake.waiting() as u64));
        self.metrics.queue_depth.of(Queue::Routing).set(gauge(self.hints.unrouted.len() as u64));
        self.metrics.queue_depth.of(Queue::Scheduler).set(gauge(counts.waiting));
        self.metrics.journal_damaged.set(i64::from(self.journal.is_damaged()));
        self.metrics.journal_disk_bytes.set(gauge(self.journal.bytes_on_disk().unwrap_or(0)));
        let now_ms = self.clock.steady_ms();
        let oldest = self.store.oldest_waiting(Timestamp(now_ms))?.map_or(0, |at| now_ms.saturating_sub(at.0));
        self.metrics.oldest_undelivered_age_seconds.set(Duration::from_millis(oldest).as_secs_f64());
        Ok(())
    }
}

fn gauge(figure: u64) -> i64 {
    i64::try_from(figure).unwrap_or(i64::MAX)
}
