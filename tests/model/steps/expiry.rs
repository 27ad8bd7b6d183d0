//! Expired events.

use triggerd::commands::{Applied, Command, ExpireEvents, ExpireOutcome, ForgetDeleted};
use triggerd::journal::Position;
use triggerd::model::id::{EventId, OrgNo};
use triggerd::model::operational_event::{OperationalEvent, OperationalEventKind};
use triggerd::model::retention::{Cutoffs, Expired};
use triggerd::model::time::Timestamp;
use triggerd::store::{Expiring, Stored};

use super::{WINDOW_MS, World};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// The ages at which events expire when days pass.
const FINISHED_MS: u64 = 30 * DAY_MS;
const OPEN_MS: u64 = 90 * DAY_MS;
/// So often everything is compacted that can be: a payload waits for a seal, for a snapshot and one
/// that backs it, until no copy may have an older snapshot, and for the grace, and that twice.
const COMPACTIONS: u64 = 24;
const PAYLOAD: &[u8] = b"{\"expired\":1}";

impl World {
    /// Lets events of the organization expire, by any times.
    pub(super) fn expire_events(&mut self, org: OrgNo) -> Result<(), String> {
        let [finished, dead, open, erased] = [(); 4].map(|()| self.cutoff());
        self.expire_by(org, Cutoffs { finished, dead, open, erased, now: self.now() })?;
        let before = self.cutoff();
        let deleted_before = Position::MAX;
        let forget = ForgetDeleted { org, before, deleted_before };
        self.submit(&[vec![Command::ForgetDeleted(forget)]])?;
        self.audit()
    }

    /// Lets days pass, and the events of all organizations expire at their ages. Then the journal
    /// is compacted, now and then as far as possible.
    pub(super) fn pass_days(&mut self) -> Result<(), String> {
        self.clock.advance_ms(self.random.below(40 * DAY_MS));
        let ages = [FINISHED_MS, OPEN_MS, DAY_MS];
        let [finished, open, erased] = ages.map(|age| self.now().minus_ms(age));
        for org in 0..u32::try_from(self.naive.orgs.len()).unwrap() {
            let now = self.now();
            self.expire_by(OrgNo(org), Cutoffs { finished, dead: open, open, erased, now })?;
        }
        self.audit()?;
        if self.random.one_in(2) {
            self.system.compact(COMPACTIONS);
            self.check_erased()?;
            self.check_forgotten()?;
        }
        self.check_all().map_err(|fault| format!("days later: {fault}"))
    }

    /// Lets events of the organization expire, in as many steps as it takes.
    pub(super) fn expire_by(&mut self, org: OrgNo, cutoffs: Cutoffs) -> Result<(), String> {
        let (mut expired, mut stored, mut next) = (Expired::default(), None, Some(EventId(0)));
        while let Some(from) = next {
            let found = self.system.store().expiring(org, from, cutoffs);
            let found = found.map_err(|error| error.to_string())?;
            next = found.next;
            if found.blocks.is_empty() {
                continue;
            }
            if self.random.one_in(60) {
                self.system.restart_after_kill();
            }
            let (step, step_stored) = self.expire_step(org, cutoffs, found)?;
            expired += step;
            stored = stored.or(step_stored);
        }
        let (expected, gone) = self.naive.expire(org, cutoffs);
        self.touched.extend(gone);
        if expired != expected {
            return Err(format!("expired: {expired:?}, expected {expected:?} by {cutoffs:?}"));
        }
        if let Some(stored) = stored {
            self.naive.note_report(org, &stored, PAYLOAD);
            self.touched.push(stored.id);
        }
        Ok(())
    }

    /// Checks that no payload of an erased event is left in the journal.
    fn check_erased(&self) -> Result<(), String> {
        for (number, org) in (0..).zip(&self.naive.orgs) {
            for (id, _) in org.events.iter().filter(|(_, event)| event.erased_at.is_some()) {
                let found = self.system.store().event(OrgNo(number), *id);
                let found = found.map_err(|error| error.to_string())?;
                let position = found.map(|found| found.position).unwrap_or_default();
                let left = self.system.records().event(*id, position);
                if left.is_ok_and(|left| !left.event.payload.is_empty()) {
                    return Err(format!("the payload of the erased event {id} is not gone"));
                }
            }
        }
        Ok(())
    }

    pub(super) fn audit(&self) -> Result<(), String> {
        let contradictions = self.system.store().contradictions(3);
        let contradictions = contradictions.map_err(|error| error.to_string())?;
        if contradictions.is_empty() { Ok(()) } else { Err(contradictions.join("; ")) }
    }

    /// Returns a time before which events expire; often all events do.
    fn cutoff(&mut self) -> Timestamp {
        let now = self.now();
        match self.random.below(4) {
            0 => Timestamp(0),
            1 => now.minus_ms(self.random.below(WINDOW_MS)),
            _ => now.plus_ms(WINDOW_MS + 1),
        }
    }

    /// Submits the command, now and then twice. Only the first has an effect.
    fn expire_step(
        &mut self,
        org: OrgNo,
        cutoffs: Cutoffs,
        found: Expiring,
    ) -> Result<(Expired, Option<Stored>), String> {
        let report = self.random.one_in(2).then(|| OperationalEvent {
            kind: OperationalEventKind::InboxExpired,
            failing_since: None,
            id: EventId(0),
            received_at: Timestamp(0),
            payload: PAYLOAD.into(),
        });
        let is_reported = report.is_some() && found.expired.dead + found.expired.open > 0;
        let (blocks, looked_at) = (found.blocks, found.looked_at);
        let command =
            Command::ExpireEvents(ExpireEvents { org, blocks, cutoffs, looked_at, report });
        let times = if self.random.one_in(4) { 2 } else { 1 };
        let outcomes = self.system.submit(vec![vec![command; times]]).concat();
        match outcomes.as_slice() {
            [Ok(Applied::ExpireEvents(ExpireOutcome::Expired { expired, stored })), again @ ..]
                if stored.is_some() == is_reported
                    && again.iter().all(|again| {
                        *again == Ok(Applied::ExpireEvents(ExpireOutcome::Incomplete))
                    }) =>
            {
                Ok((*expired, stored.clone()))
            }
            _ => Err(format!("outcome {outcomes:?}, a report was asked for: {is_reported}")),
        }
    }
}
