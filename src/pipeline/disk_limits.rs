//! Keeps the data within its disk space: measures it, lets events expire before their time when it
//! is short, and says so once for each turn. The retention calls once a second.

use std::time::Duration;

use super::disk_forecast::DiskForecast;
use super::early_expiry::{Decision, EarlyExpiry, Journal, Leaving, Missing};
use crate::base::metrics::{DataKind, ExpiryReason};
use crate::base::units::gauge;
use crate::commit::{Engine, Measured, Pressure};
use crate::config;
use crate::journal::{Compaction, Position, Reader};
use crate::model::time::Timestamp;

/// At least this multiple of the reserve is kept free, as a numerator and a denominator, so that
/// events expire before new ones are refused.
const RESERVES: (u64, u64) = (5, 4);
/// The turn of a full disk ends when this multiple of what is to be kept is free.
const PLENTY: (u64, u64) = (5, 4);
/// The turn of the limit ends when this part of the limit is enough.
const LITTLE: (u64, u64) = (3, 4);
/// While nothing more can leave, a pass each minute finds the events that were finished since.
const PASS_EVERY_MS: u64 = 60_000;

/// The limits of the disk space of the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiskLimits {
    /// Bytes for the data; 0 stands for half of the filesystem.
    bytes: u64,
    keep_free_share: f64,
    drop_open: bool,
}

impl DiskLimits {
    /// Takes the limits from the configuration.
    pub fn of(retention: &config::Retention) -> Self {
        let config::Retention { bytes, keep_free_share, drop_open, .. } = *retention;
        Self { bytes, keep_free_share, drop_open }
    }

    /// Returns the limit in effect on a filesystem of this size.
    fn limit(&self, size: Option<u64>) -> Option<u64> {
        if self.bytes > 0 { Some(self.bytes) } else { size.map(|size| size / 2) }
    }

    /// Returns the free bytes below which events expire on a filesystem of this size.
    fn keep_free(&self, size: Option<u64>, reserve: u64) -> u64 {
        let Some(size) = size.filter(|_| self.keep_free_share > 0.0) else { return 0 };
        // A duration can be multiplied by a share, whatever its seconds stand for.
        let share = Duration::from_secs(size).mul_f64(self.keep_free_share.clamp(0.0, 1.0));
        share.as_secs().max(part(reserve, RESERVES))
    }
}

fn part(of: u64, (numerator, denominator): (u64, u64)) -> u64 {
    (of / denominator).saturating_mul(numerator)
}

/// Events that have to expire before their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Early {
    /// The times before which finished events, those with dead letters, and open ones expire.
    pub(super) until: [Timestamp; 3],
    pub(super) reason: ExpiryReason,
}

/// The disk space over time.
pub(super) struct DiskKeeper {
    journal: Compaction,
    /// The end of the journal at the start.
    began: Position,
    early: EarlyExpiry,
    forecast: DiskForecast,
    turn: Turn,
    /// The uptime of the last early pass, in milliseconds.
    passed_ms: u64,
}

impl DiskKeeper {
    pub(super) fn new(journal: &Reader, engine: &Engine) -> Self {
        Self {
            journal: Compaction::new(journal),
            began: engine.records.end(),
            early: EarlyExpiry::default(),
            forecast: DiskForecast::default(),
            turn: Turn::default(),
            passed_ms: 0,
        }
    }

    /// Measures the disk space. Returns the events that have to expire now, if a pass `may_begin`.
    pub(super) fn look(
        &mut self,
        engine: &Engine,
        limits: &DiskLimits,
        may_begin: bool,
    ) -> Option<Early> {
        let segments = self.journal.segments().unwrap_or_default();
        let looks = engine.disk_use.looks();
        let (began, now) = (self.began, Timestamp(engine.clock.now_ms()));
        let journal = Journal { segments: &segments, looks: &looks, began, now };
        let (missing, measured) = self.measure(engine, limits, journal);
        let missing = after_backups(engine, missing, may_begin);
        let mut early = None;
        if may_begin {
            let decision = self.early.decide(journal, missing, limits.drop_open);
            if !decision.asked.is_empty() {
                engine.disk_use.ask(&decision.asked);
                engine.hints.unneeded.came.notify();
            }
            self.turn.decided(&decision, &measured);
            early = self.pass_after(&decision, limits, engine.clock.uptime_ms());
        }
        self.turn.ended(engine.space.free(), &measured);
        show(engine, Measured { pressure: self.turn.pressure, ..measured });
        early
    }

    /// Notes that the pass of the last decision is over.
    pub(super) fn passed(&mut self, engine: &Engine) {
        self.early.passed(engine.store.applied());
        self.passed_ms = engine.clock.uptime_ms();
    }

    /// Returns the events that expire in the pass after a decision.
    fn pass_after(&self, decision: &Decision, limits: &DiskLimits, now_ms: u64) -> Option<Early> {
        let until = allowed(self.early.until(), decision.is_for_disk, limits.drop_open);
        let is_time = now_ms.saturating_sub(self.passed_ms) >= PASS_EVERY_MS;
        let again =
            decision.is_exhausted && is_time && until.iter().any(|until| *until > Timestamp(0));
        let reason = if decision.is_for_disk { ExpiryReason::Disk } else { ExpiryReason::Bytes };
        // A pass that an error ended is begun again.
        (self.early.has_to_pass() || again).then_some(Early { until, reason })
    }

    fn measure(
        &mut self,
        engine: &Engine,
        limits: &DiskLimits,
        journal: Journal<'_>,
    ) -> (Missing, Measured) {
        let space = &engine.space;
        let (free, size) = (space.free(), space.size());
        let (kept, snapshots) = engine.snapshots.sizes();
        let old = snapshots.saturating_sub(kept);
        let measured = Measured {
            journal: journal.segments.iter().map(|segment| segment.allocated).sum(),
            snapshots,
            state: space.state_bytes().unwrap_or_default(),
            unneeded: self.early.known_given(journal).saturating_add(old),
            backups: engine.disk_use.backups().only_theirs,
            limit: limits.limit(size),
            keep_free: limits.keep_free(size, space.reserve_bytes()),
            pressure: Pressure::None,
            days_until_full: None,
        };
        let needed = measured.journal + measured.state + kept;
        let missing = Missing {
            of_limit: measured.limit.map_or(0, |limit| needed.saturating_sub(limit)),
            of_free: free.map_or(0, |free| measured.keep_free.saturating_sub(free + old)),
        };
        let left = |free: u64| (free + measured.unneeded).saturating_sub(space.reserve_bytes());
        let now_ms = engine.clock.uptime_ms();
        let days_until_full = free.and_then(|free| self.forecast.days(now_ms, left(free)));
        (missing, Measured { days_until_full, ..measured })
    }
}

/// Leaves out the times by which no event may expire now. The times of an earlier turn stay, but
/// `[retention] bytes` takes finished events only, and `drop_open` may have been switched off.
fn allowed(
    [finished, dead, open]: [Timestamp; 3],
    is_for_disk: bool,
    drop_open: bool,
) -> [Timestamp; 3] {
    let if_so = |time: Timestamp, is_allowed: bool| if is_allowed { time } else { Timestamp(0) };
    [finished, if_so(dead, is_for_disk), if_so(open, is_for_disk && drop_open)]
}

/// Asks for the space of an old backup first. As long as one can go, no event leaves for the disk.
/// While no event may leave, no backup has to.
fn after_backups(engine: &Engine, missing: Missing, may_begin: bool) -> Missing {
    let can_go = may_begin && missing.of_free > 0 && engine.disk_use.backups().has_spare;
    engine.disk_use.want_backup(can_go);
    if can_go { Missing { of_free: 0, ..missing } } else { missing }
}

/// Sets the gauges, and shows the figures to the API.
fn show(engine: &Engine, measured: Measured) {
    let metrics = &engine.metrics;
    for (kind, bytes) in [
        (DataKind::Journal, measured.journal),
        (DataKind::Snapshots, measured.snapshots),
        (DataKind::State, measured.state),
    ] {
        metrics.data_bytes.of(kind).set(gauge(bytes));
    }
    metrics.data_unneeded_bytes.set(gauge(measured.unneeded));
    metrics.backup_disk_bytes.set(gauge(measured.backups));
    metrics.data_limit_bytes.set(gauge(measured.limit.unwrap_or_default()));
    metrics.disk_keep_free_bytes.set(gauge(measured.keep_free));
    metrics.disk_days_until_full.set(measured.days_until_full);
    engine.disk_use.show(measured);
}

/// The present turn of the disk space, so that each is logged once.
#[derive(Debug, Default)]
struct Turn {
    pressure: Pressure,
    /// The kind of events that leave in this turn of a full disk.
    deepest: Option<Leaving>,
    /// Set if it was said that nothing more can leave.
    is_exhausted: bool,
}

impl Turn {
    /// Begins a turn, or goes deeper in a turn.
    fn decided(&mut self, decision: &Decision, measured: &Measured) {
        if decision.is_for_disk && (decision.widened.is_some() || decision.is_exhausted) {
            self.pressure = Pressure::Disk;
            if decision.widened > self.deepest {
                self.deepest = decision.widened;
                self.tell_kind(measured);
            }
            if decision.is_exhausted && !self.is_exhausted {
                self.is_exhausted = true;
                tracing::warn!(
                    keep_free = measured.keep_free,
                    "the disk has less free space than [retention] keep_free_share, and no event \
                     that may expire early is left; below the reserve, new events are refused. \
                     Free disk space, or set [retention] drop_open"
                );
            }
        } else if decision.widened.is_some() && self.pressure == Pressure::None {
            self.pressure = Pressure::Bytes;
            tracing::warn!(
                limit = measured.limit,
                "the data takes more disk space than [retention] bytes allows; the oldest \
                 finished events expire before their time"
            );
        }
    }

    fn tell_kind(&self, measured: &Measured) {
        let Measured { keep_free, backups, .. } = *measured;
        let kind = match self.deepest {
            Some(Leaving::Open) => "events in an inbox or waiting for an endpoint",
            Some(Leaving::Dead) => "events of which only dead letters are left",
            Some(Leaving::Finished) | None => "finished events",
        };
        tracing::warn!(
            kind,
            keep_free,
            only_in_backups = backups,
            "the disk has less free space than [retention] keep_free_share; the oldest events of \
             this kind expire before their time"
        );
    }

    /// Ends the turn if there is plenty of space again.
    fn ended(&mut self, free: Option<u64>, measured: &Measured) {
        let needed = measured.journal + measured.snapshots + measured.state;
        let needed = needed.saturating_sub(measured.unneeded);
        let is_over = match self.pressure {
            Pressure::None => return,
            Pressure::Bytes => measured.limit.is_none_or(|limit| needed <= part(limit, LITTLE)),
            Pressure::Disk => free.is_none_or(|free| free >= part(measured.keep_free, PLENTY)),
        };
        if is_over {
            *self = Self::default();
            tracing::info!("the disk has room again; events expire by their age only");
        }
    }
}

#[cfg(test)]
#[path = "disk_limits_tests.rs"]
mod tests;
