//! Expired events.

use triggerd::commands::{Applied, Command, ExpireEvents, ExpireOutcome, ForgetDeleted};
use triggerd::journal::Position;
use triggerd::model::id::{EventId, OrgNo};
use triggerd::model::operational_event::{OperationalEvent, OperationalEventKind};
use triggerd::model::retention::{Cutoffs, Expired};
use triggerd::model::time::Timestamp;
use triggerd::store::{Expiring, Stored};

use super::{WINDOW_MS, World};

const PAYLOAD: &[u8] = b"{\"expired\":1}";

impl World {
    /// Lets events of the organization expire, in as many steps as it takes.
    pub(super) fn expire_events(&mut self, org: OrgNo) -> Result<(), String> {
        let [finished, dead, open, erased] = [(); 4].map(|()| self.cutoff());
        let cutoffs = Cutoffs { finished, dead, open, erased, now: self.now() };
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
        let before = self.cutoff();
        let deleted_before = Position::MAX;
        let forget = ForgetDeleted { org, before, deleted_before };
        self.submit(&[vec![Command::ForgetDeleted(forget)]])?;
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
