//! Carries out the deletion of organizations. The sweeper calls once a second, and each call goes
//! on for a bounded time. The state says what is left to be done, so a restart goes on with it.
//!
//! ```text
//! asked for → events expire, whatever their age → the rest is forgotten → the state's files are
//!                                                                         renewed
//! ```
//!
//! Compaction then removes the records of the organization, see [`crate::commands::Need`].

use std::time::{Duration, Instant};

use crate::commands::{ExpireEvents, ExpireOutcome, ForgetOrg, ForgetOrgOutcome};
use crate::commit::Engine;
use crate::model::id::{EventId, OrgId, OrgNo};
use crate::model::retention::Cutoffs;
use crate::store::{Expiring, FreshSize, StateError};

/// Maximum duration of a call, so that the sweeper's other tasks go on.
const CALL_MAX: Duration = Duration::from_millis(300);
/// The files of the state are renewed at most this many times within the time for erasing.
const RENEWALS_PER_ERASE: u32 = 4;
/// How often the same events are searched again because they changed meanwhile.
const SEARCHES_MAX: u32 = 4;

/// The progress of the deletion under way, kept between calls. It is only in memory.
#[derive(Default)]
pub(super) struct Deletions {
    org: Option<(OrgNo, OrgId)>,
    /// The event at which the search goes on.
    from: EventId,
    /// A search that has not named all endpoints yet.
    found: Option<Expiring>,
    /// The number of commands in succession that had no effect.
    vain: u32,
    /// The uptime in milliseconds at which the last renewal of the files began.
    renewed_ms: Option<u64>,
    /// Set while the disk has no room for a renewal.
    lacks_room: bool,
}

impl Deletions {
    /// Goes on with the deletion of an organization, and then with the renewal of the state's
    /// files. `erase` is the time within which deleted data must be gone.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub(super) fn call(&mut self, engine: &Engine, erase: Duration) -> Result<(), StateError> {
        let began = Instant::now();
        // A snapshot that is outrun is begun again, so deletion gives way to it.
        let may_go_on = || {
            began.elapsed() < CALL_MAX
                && !engine.stop.is_set()
                && !engine.store.may_outrun_snapshot()
        };
        while may_go_on() {
            let Some(org) = engine.store.deleted_org() else { break };
            if self.org != Some(org) {
                *self = Self { renewed_ms: self.renewed_ms, ..Self::default() };
                self.org = Some(org);
                tracing::info!(organization = %org.1, "the data of a deleted organization is \
                    removed now");
            }
            if !self.step(engine, org)? {
                return Ok(());
            }
        }
        if self.renews(engine, erase) {
            while may_go_on() && renew_more(engine) {}
        }
        Ok(())
    }

    /// Does one bounded step. Returns false if the next one has to wait for the next call.
    fn step(&mut self, engine: &Engine, org: (OrgNo, OrgId)) -> Result<bool, StateError> {
        let Some(found) = self.search(engine, org.0)? else { return Ok(true) };
        if found.blocks.is_empty() && found.next.is_none() {
            return Ok(self.forget(engine, org));
        }
        self.from = found.next.unwrap_or_default();
        if found.blocks.is_empty() {
            return Ok(true);
        }
        let Expiring { blocks, looked_at, .. } = found;
        let command =
            ExpireEvents { org: org.0, blocks, cutoffs: Cutoffs::ALL, looked_at, report: None };
        let Some(outcomes) = engine.intake.push_for_outcomes([command]) else { return Ok(false) };
        let is_done = matches!(outcomes.first(), Some(ExpireOutcome::Expired { .. }));
        if is_done {
            self.vain = 0;
        } else {
            (self.vain, self.from) = (self.vain + 1, EventId(0));
        }
        Ok(!self.vain.is_multiple_of(SEARCHES_MAX) || is_done)
    }

    /// Searches the next events. Returns them when all endpoints with their deliveries are named.
    fn search(&mut self, engine: &Engine, org: OrgNo) -> Result<Option<Expiring>, StateError> {
        let mut found = if let Some(found) = self.found.take() {
            found
        } else {
            // One block that changes all the time must not hold up the others.
            let is_single = self.vain >= SEARCHES_MAX;
            engine.store.begin_expiring((org, self.from), Cutoffs::ALL, is_single)?
        };
        if !found.is_named() {
            engine.store.name_more(&mut found)?;
        }
        if found.is_named() {
            return Ok(Some(found));
        }
        self.found = Some(found);
        Ok(None)
    }

    /// Forgets a part of the rest. Returns false if the disk is full.
    fn forget(&mut self, engine: &Engine, (org, id): (OrgNo, OrgId)) -> bool {
        let outcomes = engine.intake.push_for_outcomes([ForgetOrg { org }]);
        let Some(outcome) = outcomes.and_then(|outcomes| outcomes.into_iter().next()) else {
            return false;
        };
        self.from = EventId(0);
        if outcome == ForgetOrgOutcome::Forgotten {
            tracing::info!(organization = %id, "an organization is deleted: compaction removes its \
                records");
        }
        true
    }

    /// Returns true if the renewal of the state's files is under way, or begins.
    fn renews(&mut self, engine: &Engine, erase: Duration) -> bool {
        if engine.store.is_renewing() {
            return true;
        }
        let now_ms = engine.clock.uptime_ms();
        let since_ms = self.renewed_ms.map(|last| now_ms.saturating_sub(last));
        let pause = erase / RENEWALS_PER_ERASE;
        let is_early = since_ms.is_some_and(|since| u128::from(since) < pause.as_millis());
        if is_early || !engine.store.is_stale() || !self.has_room(engine) {
            return false;
        }
        self.renewed_ms = Some(now_ms);
        let begun = engine.store.begin_renewal();
        begun.inspect_err(|error| give_up(engine, error)).is_ok()
    }

    /// Returns true if the disk has room for the state once more.
    fn has_room(&mut self, engine: &Engine) -> bool {
        let bytes = usize::try_from(engine.store.disk_bytes()).unwrap_or(usize::MAX);
        let is_short = engine.space.is_short_for(FreshSize { rows: 0, bytes });
        if is_short && !std::mem::replace(&mut self.lacks_room, is_short) {
            let what = "no room to renew the files of the state: bytes of a deleted organization \
                        stay in them until there is space for the state once more";
            tracing::warn!(wanted = bytes, free = engine.space.free(), "{what}");
        }
        self.lacks_room = is_short;
        !is_short
    }
}

/// Copies some rows. Returns false if there is nothing more to do now.
fn renew_more(engine: &Engine) -> bool {
    match engine.store.renew_more() {
        Ok(true) => true,
        Ok(false) => {
            tracing::info!("the files of the state are renewed, without removed rows");
            false
        }
        Err(error) => {
            give_up(engine, &error);
            false
        }
    }
}

/// Gives up a renewal that failed. It is tried again later.
fn give_up(engine: &Engine, error: &StateError) {
    tracing::warn!(%error, "the files of the state cannot be renewed now");
    engine.store.give_up_renewal();
}
