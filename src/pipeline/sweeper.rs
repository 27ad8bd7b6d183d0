//! Housekeeping, once a second and in bounded steps. The sweeper offers lost work again, watches
//! the disk and tells organizations when space gets low or a key ends soon, removes dedup ids whose
//! window has passed, records when keys were used and which have expired, notes refused requests in
//! the audit log, removes rotated secrets whose overlap is over, lets events expire, carries out the
//! deletion of organizations, and sets the gauges.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::ages::Ages;
use super::clock_trust::ClockTrust;
use super::deletions::Deletions;
use super::disk_limits::DiskLimits;
use super::disk_watch::{DiskWatch, disk_low};
use super::key_report;
use super::retention::Retention;
use crate::archive::Archiver;
use crate::base::exit_code::fatal;
use crate::base::failpoint::{self, Switch};
use crate::base::live::Live;
use crate::base::metrics::{OperationalEvent, Queue};
use crate::base::threads::Signal;
use crate::base::units::gauge;
use crate::commands::{
    EndOverlaps, ExpireAudit, ExpireDedup, ExpireKeys, NoteAudit, NoteKeysUsed, SubmitOutcome,
};
use crate::commit::{Engine, Shortage};
use crate::journal::Reader;
use crate::model::id::{EndpointId, EventId, KeyId, OrgNo};
use crate::model::operational_event::OperationalEventKind;
use crate::model::time::Timestamp;
use crate::store::StateError;

const TICK: Duration = Duration::from_secs(1);
/// How often all unrouted events are offered again, in milliseconds.
const OFFERED_EVERY_MS: u64 = 20_000;
/// How often the last uses of keys are recorded.
const KEYS_USED_EVERY: Duration = Duration::from_secs(10);
/// Maximum number of keys whose expiry is checked in one round.
const KEYS_LOOKED_AT: usize = 4_096;
/// Maximum number of keys that are reported in one round. The next rounds report the others.
const KEY_REPORTS_MAX: usize = 64;
/// Maximum number of endpoints whose rotated secrets are checked in one round.
const ENDPOINTS_LOOKED_AT: usize = 4_096;
/// Maximum number of organizations that are told about low disk space: each event takes some of the
/// rest.
const DISK_LOW_EVENTS_MAX: usize = 1_000;

/// Returns the keys used since the last call, with the time of their last use.
pub type KeysUsed = Box<dyn Fn() -> Vec<(KeyId, Timestamp)> + Send>;

/// Returns an entry of the audit log about refused requests, if it is due or the last one (`true`).
pub type RefusedRequests = Box<dyn Fn(bool) -> Option<NoteAudit> + Send>;

/// The housekeeping thread.
pub struct Sweeper {
    /// The shared parts of the server.
    pub engine: Arc<Engine>,
    /// The journal; a gauge shows its size.
    pub journal: Reader,
    /// The deduplication window, in milliseconds.
    pub dedup_window_ms: u64,
    /// The ages at which events expire.
    pub ages: Arc<Live<Ages>>,
    /// False in a copy that does not deliver: nothing in it is to change by itself.
    pub lets_expire: bool,
    /// The limits of the disk space of the data.
    pub limits: Arc<Live<DiskLimits>>,
    /// The source of the used keys.
    pub keys_used: KeysUsed,
    /// The source of entries about refused requests.
    pub refused: RefusedRequests,
    /// Archives events before they expire, if the configuration asks for it.
    pub archiver: Option<Archiver>,
}

/// Progress of the tasks, kept between rounds.
struct Rounds {
    /// The first unrouted event of the last round. If the same event is still first, its hint was
    /// lost.
    stuck: Option<(OrgNo, EventId)>,
    /// Steady time at which all unrouted events were last offered, in milliseconds.
    offered_ms: u64,
    keys_noted: Instant,
    /// The last key whose expiry was checked; the next round continues after it.
    key: Option<KeyId>,
    /// The last endpoint whose rotated secrets were checked.
    endpoint: Option<EndpointId>,
    disk: DiskWatch,
    clock: ClockTrust,
    retention: Retention,
    deletions: Deletions,
}

impl Sweeper {
    /// Works until the engine stops; `wake` ends the pause early.
    pub fn run(mut self, wake: &Signal) {
        let archiver = self.archiver.take();
        let mut rounds = Rounds {
            stuck: None,
            offered_ms: self.engine.clock.steady_ms(),
            keys_noted: Instant::now(),
            key: None,
            endpoint: None,
            disk: DiskWatch::default(),
            clock: self.trust(),
            retention: Retention::new(&self.journal, &self.engine, archiver),
            deletions: Deletions::default(),
        };
        // The workers find at once the events that a crash left unrouted.
        self.engine.hints.unrouted_missed.store(true, Ordering::SeqCst);
        while !self.engine.stop.is_set() {
            if let Err(error) = self.tick(&mut rounds) {
                tracing::error!(%error, "a task of the sweeper failed; it is retried");
            }
            if self.engine.store.is_broken() {
                self.engine.store.invalidate();
                fatal(
                    "a row of the state cannot be read; the next start computes the state from \
                     the journal",
                );
            }
            wake.wait(if failpoint::is_on(Switch::SweeperHurries) { TICK / 1_000 } else { TICK });
        }
        self.note_keys_used();
        self.note_refused(true);
    }

    fn tick(&self, rounds: &mut Rounds) -> Result<(), StateError> {
        self.watch_disk(&mut rounds.disk)?;
        self.offer_missed(rounds)?;
        self.expire_dedup()?;
        self.expire_keys(rounds)?;
        self.end_overlaps(rounds)?;
        self.note_refused(false);
        let is_held = !self.lets_expire || rounds.clock.is_held(self.readings());
        self.engine.metrics.expiry_held.set(i64::from(is_held));
        let (ages, limits) = (self.ages.get(), self.limits.get());
        rounds.deletions.call(&self.engine, ages.erase)?;
        if is_held {
            rounds.retention.measure(&self.engine, &limits);
        } else {
            rounds.retention.call(&self.engine, (&ages, &limits))?;
            self.expire_audit(&ages)?;
        }
        if rounds.keys_noted.elapsed() >= KEYS_USED_EVERY {
            rounds.keys_noted = Instant::now();
            self.note_keys_used();
        }
        self.set_gauges()
    }

    fn readings(&self) -> (u64, u64) {
        (self.engine.clock.now_ms(), self.engine.clock.uptime_ms())
    }

    /// Judges the wall clock by the last id. A state that cannot be read is reported elsewhere.
    fn trust(&self) -> ClockTrust {
        let newest = self.engine.store.counts().map_or(0, |counts| counts.last_id);
        ClockTrust::new(self.readings(), EventId(newest).unix_ms())
    }

    fn watch_disk(&self, watch: &mut DiskWatch) -> Result<(), StateError> {
        let Engine { space, store, intake, metrics, .. } = &*self.engine;
        let Some(free) = space.free() else { return Ok(()) };
        let short = || space.is_short_for(store.fresh()).then_some(Shortage::Bytes);
        intake.set_shortage(space.shortage().or_else(short), Some(free));
        self.engine.look_at_rest();
        metrics.disk_free_bytes.set(gauge(free));
        metrics.disk_reserve_bytes.set(gauge(space.reserve_bytes()));
        metrics.disk_free_files.set(space.free_files().map_or(-1, gauge));
        if watch.is_due(free, space.reserve_bytes()) {
            self.report_disk_low(watch, (free, space.reserve_bytes()))?;
        }
        Ok(())
    }

    /// Tells only the organizations with an endpoint for this event type. While no organization has
    /// such an endpoint, the event stays due. A failed batch is tried again in the next round.
    fn report_disk_low(
        &self,
        watch: &mut DiskWatch,
        (free, reserve): (u64, u64),
    ) -> Result<(), StateError> {
        let Engine { store, intake, metrics, .. } = &*self.engine;
        let now = self.engine.now();
        let event_type = OperationalEventKind::DiskLow.event_type();
        let orgs = store.orgs_asking_for(&event_type, DISK_LOW_EVENTS_MAX)?;
        if watch.is_new() {
            tracing::warn!(
                free,
                reserve,
                "the disk is getting full: below the reserve, new events are refused"
            );
        }
        if orgs.is_empty() {
            return Ok(());
        }
        let events = orgs.iter().map(|org| disk_low(*org, (free, reserve), now));
        let Some(outcomes) = intake.push_for_outcomes(events) else { return Ok(()) };
        watch.reported();
        let is_stored =
            |outcome: &&SubmitOutcome| matches!(outcome, SubmitOutcome::Accepted { .. });
        let stored = outcomes.iter().filter(is_stored).count() as u64;
        metrics.operational_events.of(OperationalEvent::DiskLow).inc_by(stored);
        Ok(())
    }

    /// Offers unrouted events whose hints were lost. A lost event that is first in line is noticed
    /// in the next round. Under load other events always come before it, so all unrouted events are
    /// also offered at a fixed interval.
    fn offer_missed(&self, rounds: &mut Rounds) -> Result<(), StateError> {
        let Engine { clock, store, hints, .. } = &*self.engine;
        let first = store.unrouted_after((OrgNo(0), EventId(0)), 1)?.first().copied();
        let now_ms = clock.steady_ms();
        let is_time = now_ms.saturating_sub(rounds.offered_ms) >= OFFERED_EVERY_MS;
        if first.is_some()
            && (first == rounds.stuck || is_time)
            && !failpoint::is_on(Switch::ScanOff)
        {
            hints.unrouted_missed.store(true, Ordering::SeqCst);
        }
        if is_time {
            rounds.offered_ms = now_ms;
        }
        rounds.stuck = first;
        Ok(())
    }

    fn expire_dedup(&self) -> Result<(), StateError> {
        let Engine { clock, store, intake, .. } = &*self.engine;
        let before = Timestamp(clock.steady_ms()).minus_ms(self.dedup_window_ms);
        if store.has_expired_dedup(before)? {
            intake.push([ExpireDedup { before }]);
        }
        Ok(())
    }

    /// Removes a bounded number of the oldest entries of the audit log, if they have expired.
    fn expire_audit(&self, ages: &Ages) -> Result<(), StateError> {
        let Engine { clock, store, intake, .. } = &*self.engine;
        let before = ages.audit_before(Timestamp(clock.steady_ms()));
        if store.has_expired_audit(before)? {
            intake.push([ExpireAudit { before }]);
        }
        Ok(())
    }

    /// Records expired keys, so that a key stays expired even if the clock is set back, and reports
    /// the keys that end soon.
    fn expire_keys(&self, rounds: &mut Rounds) -> Result<(), StateError> {
        let Engine { store, intake, metrics, .. } = &*self.engine;
        let at = self.engine.now();
        let soon = at.wall.plus_ms(key_report::REPORTED_BEFORE_MS);
        let found = store.ending_keys((at, soon), rounds.key, KEYS_LOOKED_AT)?;
        rounds.key = found.next;
        if !found.past_end.is_empty() {
            intake.push([ExpireKeys { keys: found.past_end, at }]);
        }
        // In a copy that does not deliver, nothing is to change by itself.
        let soon = found.soon.iter().filter(|_| self.lets_expire);
        let reports = soon.filter_map(key_report::report).take(KEY_REPORTS_MAX);
        let stored = intake.push_for_outcomes(reports).unwrap_or_default();
        let stored = stored.iter().flatten().count() as u64;
        metrics.operational_events.of(OperationalEvent::KeyExpiring).inc_by(stored);
        Ok(())
    }

    /// Removes rotated secrets whose overlap is over, so that none of them signs again.
    fn end_overlaps(&self, rounds: &mut Rounds) -> Result<(), StateError> {
        let Engine { clock, store, intake, .. } = &*self.engine;
        let at = Timestamp(clock.steady_ms());
        let (endpoints, next) =
            store.overlaps_past_end(at, rounds.endpoint, ENDPOINTS_LOOKED_AT)?;
        rounds.endpoint = next;
        if !endpoints.is_empty() {
            intake.push([EndOverlaps { endpoints, at }]);
        }
        Ok(())
    }

    fn note_keys_used(&self) {
        let used = (self.keys_used)();
        if !used.is_empty() || failpoint::is_on(Switch::SweeperWrites) {
            let at = Timestamp(self.engine.clock.steady_ms());
            self.engine.intake.push([NoteKeysUsed { used, at }]);
        }
    }

    /// Adds the requests that were refused since the last entry to the audit log, if their entry is
    /// due. While the disk is short, they are only counted.
    fn note_refused(&self, is_last: bool) {
        let intake = &self.engine.intake;
        if !intake.is_disk_low() {
            intake.push((self.refused)(is_last));
        }
    }

    fn set_gauges(&self) -> Result<(), StateError> {
        let Engine { clock, store, records, intake, hints, metrics, .. } = &*self.engine;
        let counts = store.counts()?;
        metrics.events_stored.set(gauge(counts.events));
        metrics.inbox_open_events.set(gauge(counts.open));
        metrics.dead_letters.set(gauge(counts.dead));
        metrics.queue_depth.of(Queue::Intake).set(gauge(intake.waiting() as u64));
        metrics.queue_depth.of(Queue::Routing).set(gauge(hints.unrouted.len() as u64));
        metrics.queue_depth.of(Queue::Scheduler).set(gauge(counts.waiting));
        metrics.journal_damaged.set(i64::from(records.is_damaged()));
        let sizes = self.journal.sizes().unwrap_or_default();
        metrics.journal_disk_bytes.set(gauge(sizes.bytes));
        metrics.journal_allocated_bytes.set(gauge(sizes.allocated));
        metrics.journal_segments.set(gauge(sizes.segments));
        let now_ms = clock.steady_ms();
        let oldest = store.oldest_waiting(Timestamp(now_ms))?;
        let age_ms = oldest.map_or(0, |at| now_ms.saturating_sub(at.0));
        let age = Duration::from_millis(age_ms);
        metrics.oldest_undelivered_age_seconds.set(age.as_secs_f64());
        Ok(())
    }
}
