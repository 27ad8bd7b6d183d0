//! Lets events expire. The sweeper calls once a second; a pass over all organizations begins now
//! and then, or when the disk is short, and each call goes on with it for a bounded time.
//! Everything is found by reading blocks of events in the order of their age, so no hint is needed,
//! and a pass that a restart ends is begun again.

use std::time::{Duration, Instant};

use super::disk_limits::{DiskKeeper, DiskLimits, Early};
use super::expiry_report;
use crate::archive::{Archiver, Batch, Written};
use crate::base::failpoint::{self, Switch};
use crate::base::metrics::{ExpiredKind, ExpiryReason, OperationalEvent};
use crate::commands::{ExpireEvents, ExpireOutcome, ForgetDeleted};
use crate::commit::Engine;
use crate::config;
use crate::journal::{Position, Reader};
use crate::model::id::{EventId, OrgNo};
use crate::model::org::Tier;
use crate::model::retention::{Cutoffs, Expired};
use crate::model::time::Timestamp;
use crate::store::{Expiring, RetainedOrg, StateError};

/// Maximum duration of a call, so that the sweeper's other tasks go on.
const CALL_MAX: Duration = Duration::from_millis(300);
/// Maximum number of blocks of events that a call reads.
const BLOCKS_PER_CALL_MAX: usize = 4_096;
/// A pass begins after this part of the shortest age.
const PASSES_PER_AGE: u32 = 32;
/// Minimum and maximum time between the beginnings of two passes.
const PASS_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));
/// Maximum time for which a call waits for the archive.
const ARCHIVE_MAX: Duration = Duration::from_millis(300);
/// How often the same events are searched again because they changed meanwhile. The next pass finds
/// the events that change even more often.
const SEARCHES_MAX: u32 = 4;
/// Time after which a pass leaves the other deleted endpoints of an organization to the next pass,
/// so that an organization that deletes very many does not keep the others waiting. A search that
/// has begun is finished.
const DELETED_MAX: Duration = Duration::from_millis(200);

/// The ages at which events and entries of the audit log expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// The ages of finished and of open events of each tier; zero stands for never.
    tiers: [(Duration, Duration); 3],
    /// The time within which compaction removes an erased payload from a running server.
    pub(super) erase: Duration,
    /// The age of entries of the audit log; zero stands for never.
    audit: Duration,
}

impl Ages {
    /// Takes the ages from the configuration: those of the tier, or else the general ages.
    pub fn of(retention: &config::Retention, tiers: &config::Tiers) -> Self {
        let or = |own: Duration, general| if own.is_zero() { general } else { own };
        let tiers = [Tier::Free, Tier::Pro, Tier::Enterprise].map(|tier| {
            let own = tiers.of(tier);
            let finished = or(own.retention_finished, retention.finished);
            (finished, or(own.retention_open, retention.open))
        });
        Self { tiers, erase: retention.erase, audit: retention.audit }
    }

    /// Returns the ages of finished and of open events.
    fn of_tier(&self, tier: Tier) -> (Duration, Duration) {
        let [free, pro, enterprise] = self.tiers;
        match tier {
            Tier::Free => free,
            Tier::Pro => pro,
            Tier::Enterprise => enterprise,
        }
    }

    /// Returns the times before which events of this tier expire. `up` is the time since the start:
    /// compaction needs it to find what was erased before, so until then no erased event expires.
    fn cutoffs(&self, tier: Tier, (now, up): (Timestamp, Duration)) -> Cutoffs {
        let (finished, open) = self.of_tier(tier);
        let erased = if up < self.erase { Timestamp(0) } else { now.before_age(self.erase) };
        let [finished, open] = [finished, open].map(|age| now.before_age(age));
        Cutoffs { finished, dead: open, open, erased, now }
    }

    /// Returns the steady time before which entries of the audit log expire.
    pub(super) fn audit_before(&self, now: Timestamp) -> Timestamp {
        now.before_age(self.audit)
    }

    /// Returns the time from the beginning of a pass to the beginning of the next pass.
    fn pass_every(&self) -> Duration {
        let ages = self.tiers.iter().flat_map(|(finished, open)| [*finished, *open]);
        let shortest = ages.filter(|age| !age.is_zero()).min();
        let (min, max) = PASS_EVERY;
        shortest.map_or(max, |age| (age / PASSES_PER_AGE).clamp(min, max))
    }
}

/// The progress of the passes, kept between calls.
pub struct Retention {
    disk: DiskKeeper,
    /// Archives events before they expire, if the configuration asks for it.
    archiver: Option<Archiver>,
    pass: Option<Pass>,
    /// The uptime at the start.
    since_ms: u64,
    /// The uptime at which the last pass began.
    began_ms: Option<u64>,
    /// The position of the state when the last pass began.
    began_at: Option<Position>,
}

/// A pass over all organizations, in the order of their numbers.
#[derive(Debug)]
struct Pass {
    /// The wall-clock time at which the pass began. The whole pass judges by this time.
    now: Timestamp,
    /// The time from the start of the server to the beginning of the pass.
    up: Duration,
    /// The position of the state when the pass before began: endpoints that were deleted later are
    /// not forgotten yet.
    deleted_before: Position,
    /// The events that expire before their time. Absent in a pass that judges by age.
    early: Option<Early>,
    /// The next organization.
    org: OrgNo,
    /// The event at which the search in this organization goes on.
    from: EventId,
    /// The number of searches from this event that found nothing that stayed unchanged.
    searches: u32,
    /// A search that is not complete yet, or whose events are being archived.
    found: Option<Expiring>,
    /// The times by which the found events expire, and the reason. Later times would let more of
    /// them expire.
    judged: Option<(Cutoffs, ExpiryReason)>,
    /// The number of the batch of the found events in the archive.
    archiving: Option<u64>,
    /// The time spent on deleted endpoints of this organization so far.
    spent: Duration,
    /// Set after something of an organization was left to the next pass.
    is_cut: bool,
    /// Set after a command had no effect: the next one names a single block.
    is_by_block: bool,
    /// The first event of a block with an event that cannot be read, and so not be archived. The
    /// search goes block by block until it is behind this one.
    unreadable: Option<EventId>,
    /// The time of receipt of the oldest event so far.
    oldest: Option<Timestamp>,
}

/// The next step after events were found.
enum Next {
    Expire,
    /// The events are not archived yet.
    Wait,
    /// An event cannot be read: the events are searched again, block by block.
    SearchAgain,
    /// The only block has an event that cannot be read: none of its events expires.
    Skip,
}

impl Retention {
    /// Starts without a pass.
    pub fn new(journal: &Reader, engine: &Engine, archiver: Option<Archiver>) -> Self {
        let (disk, since_ms) = (DiskKeeper::new(journal, engine), engine.clock.uptime_ms());
        Self { disk, archiver, pass: None, since_ms, began_ms: None, began_at: None }
    }

    /// Measures the disk space only, while no event may expire.
    pub(super) fn measure(&mut self, engine: &Engine, limits: &DiskLimits) {
        self.disk.look(engine, limits, false);
    }

    /// Measures the disk space, and goes on with the pass, or begins a pass when it is time.
    /// Returns true if the pass is not over.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn call(
        &mut self,
        engine: &Engine,
        (ages, limits): (&Ages, &DiskLimits),
    ) -> Result<bool, StateError> {
        if self.archiver.as_ref().is_some_and(Archiver::rests) {
            self.measure(engine, limits);
            return Ok(self.pass.is_some());
        }
        let pass = self.pass.take().or_else(|| self.begin(engine, ages));
        let early = self.disk.look(engine, limits, pass.is_none());
        let early = early.map(|early| Pass { early: Some(early), ..self.new_pass(engine) });
        let Some(mut pass) = pass.or(early) else {
            return Ok(false);
        };
        let (called, mut read) = (Instant::now(), 0);
        // A snapshot that is outrun is begun again, so expiry gives way to it.
        let may_go_on = || {
            called.elapsed() < CALL_MAX
                && !engine.stop.is_set()
                && !engine.store.may_outrun_snapshot()
        };
        while read < BLOCKS_PER_CALL_MAX && may_go_on() {
            let Some(org) = engine.store.retained_org(pass.org)? else {
                if pass.early.is_some() {
                    self.disk.passed(engine);
                }
                // What was left does not wait for as long as a pass that left nothing.
                self.began_ms = self.began_ms.filter(|_| !pass.is_cut);
                pass.end(engine);
                self.archiver.iter().for_each(Archiver::close);
                return Ok(false);
            };
            let Some(blocks) = pass.go_on((engine, self.archiver.as_mut()), ages, org)? else {
                break;
            };
            read += 1 + blocks;
        }
        self.pass = Some(pass);
        Ok(true)
    }

    fn begin(&mut self, engine: &Engine, ages: &Ages) -> Option<Pass> {
        let (uptime_ms, every) = (engine.clock.uptime_ms(), ages.pass_every());
        let is_early = self
            .began_ms
            .is_some_and(|began| u128::from(uptime_ms.saturating_sub(began)) < every.as_millis());
        if is_early {
            return None;
        }
        self.began_ms = Some(uptime_ms);
        let before = self.began_at.replace(engine.store.applied());
        let deleted_before = before.unwrap_or(Position::FIRST);
        Some(Pass { deleted_before, ..self.new_pass(engine) })
    }

    fn new_pass(&self, engine: &Engine) -> Pass {
        let up_ms = engine.clock.uptime_ms().saturating_sub(self.since_ms);
        Pass {
            now: Timestamp(engine.clock.now_ms()),
            up: Duration::from_millis(up_ms),
            deleted_before: Position::FIRST,
            early: None,
            org: OrgNo(0),
            from: EventId(0),
            searches: 0,
            found: None,
            judged: None,
            archiving: None,
            spent: Duration::ZERO,
            is_cut: false,
            is_by_block: false,
            unreadable: None,
            oldest: None,
        }
    }
}

impl Pass {
    /// Returns the times before which events of this tier expire, and the reason.
    fn cutoffs(&self, engine: &Engine, ages: &Ages, tier: Tier) -> (Cutoffs, ExpiryReason) {
        // The clock may have been corrected since the pass began.
        let now = self.now.min(Timestamp(engine.clock.now_ms()));
        let by_age = ages.cutoffs(tier, (now, self.up));
        let Some(Early { until: [finished, dead, open], reason }) = self.early else {
            return (by_age, ExpiryReason::Age);
        };
        (Cutoffs { finished, dead, open, ..by_age }, reason)
    }

    /// Returns the times by which the found events expire, or by which a new search judges. Events
    /// that were found before the clock was set back may not be due, so they are searched again.
    fn judge(&mut self, engine: &Engine, ages: &Ages, tier: Tier) -> (Cutoffs, ExpiryReason) {
        let present = self.cutoffs(engine, ages, tier);
        let is_ahead = |(judged, _): &(Cutoffs, ExpiryReason)| judged.now > present.0.now;
        if self.judged.as_ref().is_some_and(is_ahead) {
            (self.found, self.archiving) = (None, None);
        }
        let judged = self.judged.filter(|_| self.found.is_some()).unwrap_or(present);
        self.judged = Some(judged);
        judged
    }

    /// Lets the next events of the organization expire, or goes on to the next organization.
    /// Returns the number of blocks that were read. None while events are not archived yet.
    fn go_on(
        &mut self,
        (engine, archiver): (&Engine, Option<&mut Archiver>),
        ages: &Ages,
        org: RetainedOrg,
    ) -> Result<Option<usize>, StateError> {
        if org.number != self.org {
            (self.org, self.from, self.searches) = (org.number, EventId(0), 0);
            (self.found, self.spent, self.is_by_block) = (None, Duration::ZERO, false);
            (self.archiving, self.unreadable) = (None, None);
        }
        let judged = self.judge(engine, ages, org.tier);
        let Some(found) = self.search(engine, org.number, judged.0)? else { return Ok(Some(1)) };
        let next = match archiver.filter(|_| !found.blocks.is_empty()) {
            Some(archiver) => self.archive(archiver, org, judged.0, &found),
            None => Next::Expire,
        };
        let (read, following) = (found.read, found.next);
        match next {
            Next::Wait => {
                // What failed is searched again, because it may have changed.
                self.found = self.archiving.is_some().then_some(found);
                return Ok(None);
            }
            Next::SearchAgain => {
                engine.metrics.expiry_failures.inc();
                return Ok(Some(read));
            }
            Next::Skip => self.searches = 0,
            Next::Expire => {
                if !self.expired((engine, ages), org, judged, &found) {
                    return Ok(Some(read));
                }
            }
        }
        if let Some(following) = following {
            self.from = following;
            self.unreadable = self.unreadable.filter(|block| *block >= following);
            return Ok(Some(read));
        }
        self.end_org(engine, org.number, judged.0)?;
        Ok(Some(read))
    }

    /// Lets the found events expire. Returns false if they have to be searched again.
    fn expired(
        &mut self,
        (engine, ages): (&Engine, &Ages),
        org: RetainedOrg,
        judged: (Cutoffs, ExpiryReason),
        found: &Expiring,
    ) -> bool {
        self.searches += 1;
        if !found.blocks.is_empty() && !expire(engine, (org, ages), judged, found) {
            if self.searches < SEARCHES_MAX {
                return false;
            }
            if !self.is_by_block {
                // One block that does not fit must not hold up the others of its command.
                (self.is_by_block, self.searches) = (true, 0);
                return false;
            }
            tell_stuck(engine, org, found);
        }
        (self.is_by_block, self.searches) = (false, 0);
        true
    }

    /// Forgets some of the organization's deleted endpoints, or goes on to the next organization.
    fn end_org(&mut self, engine: &Engine, org: OrgNo, cutoffs: Cutoffs) -> Result<(), StateError> {
        let before = (cutoffs.finished, self.deleted_before);
        let began = Instant::now();
        self.is_cut |= self.early.is_none() && self.spent >= DELETED_MAX;
        let forgets = self.early.is_none() && self.spent < DELETED_MAX;
        if forgets && forget_deleted(engine, org, before)? {
            self.spent += began.elapsed();
            return Ok(());
        }
        let oldest = engine.store.retained_org(org)?.and_then(|org| org.oldest);
        self.oldest = self.oldest.into_iter().chain(oldest).min();
        (self.org, self.from) = (OrgNo(org.0.saturating_add(1)), EventId(0));
        self.spent = Duration::ZERO;
        Ok(())
    }

    /// Has the found events archived, and waits for it for a moment.
    fn archive(
        &mut self,
        archiver: &mut Archiver,
        org: RetainedOrg,
        cutoffs: Cutoffs,
        found: &Expiring,
    ) -> Next {
        if failpoint::is_on(Switch::ArchiveOutrun) {
            return Next::Expire;
        }
        if let ([only], Some(block)) = (found.blocks.as_slice(), self.unreadable)
            && only.first == block
        {
            return Next::Skip;
        }
        if self.archiving.is_none() {
            let blocks = found.blocks.iter().map(|block| block.first).collect();
            let (org, org_id) = (org.number, org.id);
            self.archiving = archiver.ask(Batch { org, org_id, blocks, cutoffs });
        }
        let Some(batch) = self.archiving else { return Next::Wait };
        let written = archiver.wait(batch, ARCHIVE_MAX);
        if written != Written::Waits {
            self.archiving = None;
        }
        match written {
            Written::Done => Next::Expire,
            Written::Unreadable(block) => {
                self.unreadable = Some(block);
                Next::SearchAgain
            }
            Written::Failed | Written::Waits => Next::Wait,
        }
    }

    /// Goes on with the search, or begins one. Returns what was found when it is complete.
    fn search(
        &mut self,
        engine: &Engine,
        org: OrgNo,
        cutoffs: Cutoffs,
    ) -> Result<Option<Expiring>, StateError> {
        let mut found = match self.found.take() {
            Some(found) => found,
            // The next pass goes on with this organization's events.
            None if self.spent >= DELETED_MAX => return Ok(Some(Expiring::default())),
            None => {
                let is_single = self.is_by_block || self.unreadable.is_some();
                engine.store.begin_expiring((org, self.from), cutoffs, is_single)?
            }
        };
        if found.is_named() {
            return Ok(Some(found));
        }
        let began = Instant::now();
        engine.store.name_more(&mut found)?;
        if found.is_named() {
            return Ok(Some(found));
        }
        self.spent += began.elapsed();
        self.found = Some(found);
        Ok(None)
    }

    /// Sets the gauge that needs a whole pass.
    fn end(self, engine: &Engine) {
        let now_ms = engine.clock.now_ms();
        let age = self.oldest.map_or(0, |oldest| now_ms.saturating_sub(oldest.0));
        engine.metrics.oldest_event_age_seconds.set(Duration::from_millis(age).as_secs_f64());
    }
}

/// Lets the found events expire. Returns false if the command had no effect.
fn expire(
    engine: &Engine,
    (org, ages): (RetainedOrg, &Ages),
    (cutoffs, reason): (Cutoffs, ExpiryReason),
    found: &Expiring,
) -> bool {
    let (_, open) = ages.of_tier(org.tier);
    let report = expiry_report::report(found, (open, reason));
    let (blocks, looked_at) = (found.blocks.clone(), found.looked_at);
    let command = ExpireEvents { org: org.number, blocks, cutoffs, looked_at, report };
    // What could not be stored is tried again by the next pass.
    let Some(outcomes) = engine.intake.push_for_outcomes([command]) else { return true };
    let Some(ExpireOutcome::Expired { expired, stored }) = outcomes.into_iter().next() else {
        return false;
    };
    count(engine, expired, reason);
    expiry_report::log(org.id, found, reason);
    let reports = engine.metrics.operational_events.of(OperationalEvent::InboxExpired);
    reports.inc_by(u64::from(stored.is_some()));
    true
}

/// Tells about a block whose events do not expire, and goes on without them: it changes all the
/// time, or its rows contradict each other.
fn tell_stuck(engine: &Engine, org: RetainedOrg, found: &Expiring) {
    engine.metrics.expiry_failures.inc();
    let org = org.id.to_string();
    let first = found.blocks.first().map(|block| block.first.to_string());
    tracing::warn!(
        org,
        first,
        "the events from this one on, at most 64, do not expire, because they change all the time \
         or their deliveries do not fit their counts; the next search tries again, and `triggerd \
         verify` shows contradictions"
    );
}

fn count(engine: &Engine, expired: Expired, reason: ExpiryReason) {
    for (kind, events) in [
        (ExpiredKind::Finished, expired.finished),
        (ExpiredKind::Dead, expired.dead),
        (ExpiredKind::Open, expired.open),
    ] {
        engine.metrics.events_expired.of(kind).of(reason).inc_by(events);
    }
}

/// Forgets some deleted endpoints that no event can name, and replays that ended before this time.
/// Returns false if there was nothing to forget.
fn forget_deleted(
    engine: &Engine,
    org: OrgNo,
    (before, deleted_before): (Timestamp, Position),
) -> Result<bool, StateError> {
    let forget = ForgetDeleted { org, before, deleted_before };
    Ok(engine.store.has_forgettable(org, (before, deleted_before))?
        && engine.intake.push_and_wait([forget]))
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
