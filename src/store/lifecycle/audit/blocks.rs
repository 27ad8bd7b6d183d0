//! The checks of blocks and their events.

use super::{Audit, org_text};
use crate::model::event::{EventStatus, EventType};
use crate::model::id::{EventId, OrgNo};
use crate::model::org::InboxMode;
use crate::store::StateError;
use crate::store::queries::event_page::ids_ahead_ms;
use crate::store::rows::schema::{BLOCK_EVENTS, EventBlock, EventEntry, OrgRow};

impl Audit<'_> {
    /// Requires a block to be in order, with the events that its organization and its inbox allow.
    pub(super) fn block(
        &mut self,
        (org, first): (OrgNo, EventId),
        block: &EventBlock,
        open: u64,
    ) -> Result<(), StateError> {
        let state = self.state;
        let of = || org_text(state, org);
        let ids: Vec<EventId> = block.events.iter().map(|entry| entry.id).collect();
        let shaped = ids.first() == Some(&first)
            && ids.len() <= BLOCK_EVENTS
            && ids.is_sorted_by(|a, b| a < b);
        self.require(shaped, || {
            format!("the block {first} of {} is empty, too long or not in order", of())
        });
        let row = self.state.orgs.get(org)?;
        self.require(row.is_some(), || {
            format!("the block {first} belongs to {}, which does not exist", of())
        });
        self.require(block.existing().next().is_some(), || {
            format!("every event of the block {first} of {} has expired, the block is left", of())
        });
        self.entries(org, block, (row.as_deref(), open))?;
        let beyond = block.events.len() < BLOCK_EVENTS && open >> block.events.len() != 0;
        self.require(!beyond, || {
            format!("the block {first} of {} has open events beyond its end", of())
        });
        Ok(())
    }

    fn entries(
        &mut self,
        org: OrgNo,
        block: &EventBlock,
        (row, open): (Option<&OrgRow>, u64),
    ) -> Result<(), StateError> {
        let ids_ahead_ms = ids_ahead_ms(self.state, org)?;
        for (index, entry) in block.events.iter().enumerate() {
            let ahead_ms = entry.id.unix_ms().saturating_sub(entry.received_at.0);
            self.require(ahead_ms <= ids_ahead_ms, || {
                format!("the time of {} is ahead by {ahead_ms} ms", entry.id)
            });
            let event_type = block.event_type(entry);
            let is_own = event_type.is_some_and(EventType::is_own);
            self.inbox_of(entry, row, (is_own, open & (1 << index) != 0));
            self.leftovers(org, entry)?;
            self.require(event_type.is_some(), || format!("{} has no type", entry.id));
        }
        Ok(())
    }

    /// Requires the event to be in the inbox if and only if its status says so.
    fn inbox_of(
        &mut self,
        entry: &EventEntry,
        row: Option<&OrgRow>,
        (is_own, is_open): (bool, bool),
    ) {
        let stays = row.is_some_and(|row| row.org.inbox_mode == InboxMode::AckOnly);
        let by_earlier_mode =
            row.and_then(|row| row.mode_since).is_some_and(|newest| entry.id <= newest);
        let (may_be, must_be) = match entry.status {
            _ if entry.erased_at.is_some() || entry.is_expired => (false, false),
            _ if is_own => (false, false),
            EventStatus::Acknowledged => (false, false),
            _ if by_earlier_mode => (true, false),
            // An event that was delivered before has left the inbox.
            EventStatus::Accepted | EventStatus::Dead => (true, stays),
            EventStatus::Delivered => (stays, stays),
        };
        self.require((must_be..=may_be).contains(&is_open), || {
            format!("{} is {}, open: {is_open}", entry.id, entry.status.name())
        });
    }

    /// Requires a routed event not to wait for routing, nothing of an erased event to go on, and
    /// nothing of an expired event to be left.
    fn leftovers(&mut self, org: OrgNo, entry: &EventEntry) -> Result<(), StateError> {
        if entry.routed.is_some() {
            let waits = self.state.unrouted.get((org, entry.id))?.is_some();
            self.require(!waits, || format!("{} is routed and waits for routing", entry.id));
        }
        if entry.is_expired {
            let unrouted = self.state.unrouted.get((org, entry.id))?.is_some();
            let left = (entry.waiting, entry.accepted, entry.dead, unrouted);
            self.require(left == (0, 0, 0, false), || {
                format!("{} has expired, and parts of it remain: {left:?}", entry.id)
            });
        } else if entry.erased_at.is_some() {
            let unrouted = self.state.unrouted.get((org, entry.id))?.is_some();
            let left = (entry.waiting, entry.dead, unrouted);
            self.require(left == (0, 0, false), || {
                let (waiting, dead, unrouted) = left;
                let of = entry.id;
                format!(
                    "{of} is erased, and parts of it remain: {waiting} waiting and {dead} \
                    dead deliveries, unrouted: {unrouted}"
                )
            });
        }
        Ok(())
    }
}
