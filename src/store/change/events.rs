//! Events: their storage in blocks and the inbox, their ranges of ids, and known dedup ids.

use super::Change;
use crate::model::activity::Activity;
use crate::model::event::{Dedup, EventStatus, NewEvent};
use crate::model::id::{EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::StateError;
use crate::store::queries::duplicates::{self, Earlier};
use crate::store::queries::event_page::{Received, ids_ahead_ms};
use crate::store::queries::inbox::newest;
use crate::store::rows::schema::{
    BLOCK_EVENTS, EventAddress, EventBlock, EventEntry, InboxRow, OpenBits, UnroutedRow,
};

/// A new event, from a producer or from the server itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) org: OrgNo,
    pub(crate) id: EventId,
    pub(crate) received_at: Timestamp,
    pub(crate) event: &'a NewEvent,
}

impl Change<'_> {
    /// Stores a new event. The event waits for a worker if its organization has an endpoint.
    pub(crate) fn take_in(&mut self, arrival: Arrival<'_>) -> Result<(), StateError> {
        let Arrival { org, id, received_at, event } = arrival;
        self.store_event(arrival)?;
        self.effects.stored += 1;
        self.effects.add_activity(org, || {
            let event_type = event.event_type.clone();
            Activity::Accepted { event: id, event_type, received_at }
        });
        if self.state.orgs.get(org)?.is_some_and(|org| !org.endpoints.is_empty()) {
            let row = UnroutedRow { deliver_after: event.deliver_after, crashes: 0 };
            self.state.unrouted.insert_new((org, id), row);
            self.effects.unrouted.push((org, id));
        }
        Ok(())
    }

    /// Returns the key of the block for the organization's next event: the last block, or a new
    /// block that begins with this event when the last is full.
    fn block_for(&mut self, org: OrgNo, id: EventId) -> Result<EventId, StateError> {
        if let Some(tail) = self.state.inboxes.get(org)?.and_then(|row| row.tail)
            && self.state.events.promised((org, tail))?.events.len() < BLOCK_EVENTS
        {
            return Ok(tail);
        }
        self.state.events.insert_new((org, id), EventBlock::default());
        Ok(id)
    }

    /// Appends the event to a block of its organization.
    fn store_event(
        &mut self,
        Arrival { org, id, received_at, event }: Arrival<'_>,
    ) -> Result<(), StateError> {
        let first = self.block_for(org, id)?;
        let block = self.state.events.edit_promised((org, first))?;
        let known = block.types.iter().position(|known| *known == event.event_type);
        let type_no = known.unwrap_or_else(|| {
            block.types.push(event.event_type.clone());
            block.types.len() - 1
        });
        let index = block.events.len();
        block.changed = self.position;
        block.events.push(EventEntry {
            id,
            position: self.position,
            routed: None,
            bytes: u32::try_from(event.bytes_len())
                .map_err(|_too_many| StateError::Invariant("an event fits into a record"))?,
            type_no: u8::try_from(type_no)
                .map_err(|_too_many| StateError::Invariant("a block has 64 types at most"))?,
            received_at,
            deliver_after: event.deliver_after,
            status: EventStatus::Accepted,
            waiting: 0,
            accepted: 0,
            dead: 0,
            acknowledged_at: None,
            erased_at: None,
            is_expired: false,
        });
        self.meta()?.events += 1;
        let inbox = self.state.inboxes.edit_or_insert(org, InboxRow::default)?;
        inbox.tail = Some(first);
        inbox.events += 1;
        inbox.bytes += event.bytes_len() as u64;
        inbox.ids_ahead_ms = inbox.ids_ahead_ms.max(id.unix_ms().saturating_sub(received_at.0));
        // Operational events are for subscribers; consumers of the inbox did not ask for them.
        if event.event_type.is_own() { Ok(()) } else { self.enter_inbox(org, (first, index)) }
    }

    fn enter_inbox(&mut self, org: OrgNo, (first, index): EventAddress) -> Result<(), StateError> {
        let known = self.state.events.may_be_in_tree((org, first));
        self.state.open.edit_or_insert_beside(known, (org, first), OpenBits::default)?.0 |=
            1 << index;
        self.meta()?.open += 1;
        self.state.inboxes.edit_or_insert(org, InboxRow::default)?.open += 1;
        self.effects.inbox_grew.push(org);
        Ok(())
    }

    /// Returns the time at which the event's payload was erased, if it was. Everything that would
    /// send the event again asks this.
    pub(crate) fn erased_at(
        &self,
        org: OrgNo,
        at: EventAddress,
    ) -> Result<Option<Timestamp>, StateError> {
        self.read_event(org, at, |entry| entry.erased_at)
    }

    /// Returns the earlier event with the same dedup id, if the window has one.
    pub(crate) fn earlier(&self, dedup: &Dedup) -> Result<Option<Earlier>, StateError> {
        duplicates::earlier(self.state, dedup)
    }

    /// Returns the organization's newest event. The smallest id if there is no event.
    pub(crate) fn newest_event(&self, org: OrgNo) -> Result<EventId, StateError> {
        newest(self.state, org)
    }

    /// Returns the range of ids for events received from `since` on and before `until`. The second
    /// id is excluded.
    pub(crate) fn ids_received(
        &self,
        org: OrgNo,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<(EventId, EventId), StateError> {
        Ok(Received { since, until }.ids(ids_ahead_ms(self.state, org)?))
    }
}
