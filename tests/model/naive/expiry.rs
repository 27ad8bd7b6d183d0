//! Expired events: gone, but for their dedup ids.

use triggerd::commands::ForgetDeleted;
use triggerd::model::id::{EventId, OrgNo};
use triggerd::model::retention::{Cutoffs, Expired};
use triggerd::model::time::Timestamp;
use triggerd::store::Stored;

use super::{Naive, NaiveEvent, NaiveOrg, Stands};

impl NaiveEvent {
    /// Counts the event if it expires.
    fn count(&self, id: EventId, cutoffs: Cutoffs, expired: &mut Expired) -> bool {
        let any = |wanted: fn(Stands) -> bool| {
            self.deliveries.values().any(|delivery| wanted(delivery.stands))
        };
        let is_open = !self.left || self.unrouted || any(|it| matches!(it, Stands::Waiting(_)));
        let (count, cutoff) = if is_open {
            (&mut expired.open, cutoffs.open)
        } else if any(|stands| matches!(stands, Stands::Dead(_))) {
            (&mut expired.dead, cutoffs.dead)
        } else {
            (&mut expired.finished, cutoffs.finished)
        };
        let by_id = Some(Timestamp(id.unix_ms())).filter(|by_id| *by_id <= cutoffs.now);
        let after = self.event.deliver_after.max(self.erased_at).max(by_id).unwrap_or_default();
        let is_kept = self.erased_at.is_some_and(|erased| erased >= cutoffs.erased);
        let is_old = self.received_at.max(after) < cutoff && !is_kept;
        *count += u64::from(is_old);
        is_old
    }
}

impl NaiveOrg {
    fn expire(&mut self, cutoffs: Cutoffs) -> (Expired, Vec<EventId>) {
        let mut expired = Expired::default();
        let gone: Vec<EventId> = self
            .events
            .iter()
            .filter(|(id, event)| event.count(**id, cutoffs, &mut expired))
            .map(|(id, _)| *id)
            .collect();
        for id in &gone {
            self.expired.extend(self.events.remove(id).map(|event| (*id, event)));
        }
        for replay in self.replays.values_mut() {
            replay.pass_over(&gone);
        }
        (expired, gone)
    }
}

impl Naive {
    /// Lets the organization's events expire. Returns their numbers and their ids.
    pub(crate) fn expire(&mut self, org: OrgNo, cutoffs: Cutoffs) -> (Expired, Vec<EventId>) {
        self.org_mut(org).map(|org| org.expire(cutoffs)).unwrap_or_default()
    }

    /// Adds the operational event about expired events.
    pub(crate) fn note_report(&mut self, org: OrgNo, stored: &Stored, payload: &[u8]) {
        self.store_own_event(org, stored, stored.received_at, payload.into());
    }

    pub(super) fn forget(&mut self, forget: &ForgetDeleted) {
        if let Some(org) = self.org_mut(forget.org) {
            org.replays.retain(|_, replay| replay.ended.is_none_or(|(_, at)| at >= forget.before));
        }
    }
}
