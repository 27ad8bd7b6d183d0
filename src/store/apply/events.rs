//! Events coming in and being confirmed; what counts as the same event again.

use super::{Change, Outcome, meta};
use crate::model::authority::Authority;
use crate::model::command::{AckEvent, ExpireDedup, SubmitEvent};
use crate::model::event::{Dedup, EventStatus};
use crate::model::id::{EventId, OrgNo};
use crate::model::key::Scope;
use crate::store::schema::{
    BLOCK_EVENTS, DEDUP_BLOCK_ENTRIES, DedupBlock, DedupEntry, EventBlock, EventEntry, InboxRow, OpenBits, UnroutedRow,
};
use crate::store::table::State;
use crate::store::{StateError, dedup};

/// Blocks of dedup ids that one command forgets.
const EXPIRED_BLOCKS_MAX: usize = 256;

impl Change<'_> {
    pub(super) fn submit_event(&mut self, command: &SubmitEvent) -> Result<Outcome, StateError> {
        if self.state.orgs.get(command.org)?.is_none() {
            return Ok(Outcome::NotFound);
        }
        self.note_id(command.id.0)?;
        let authority = Authority { key: command.by, needs: Scope::EventsWrite.into(), at: command.received_at };
        if let Some(refused) = self.judge(authority, Some(command.org))? {
            return Ok(refused);
        }
        if let Some(dedup) = &command.event.dedup
            && let Some(outcome) = self.remember(dedup, command)?
        {
            return Ok(outcome);
        }
        self.take_in(command)?;
        Ok(Outcome::Accepted { id: command.id, received_at: command.received_at })
    }

    /// Stores a new event; it waits for a worker if there is an endpoint that it could go to.
    pub(super) fn take_in(&mut self, command: &SubmitEvent) -> Result<(), StateError> {
        self.store_event(command)?;
        if self.state.orgs.get(command.org)?.is_some_and(|org| !org.endpoints.is_empty()) {
            let row = UnroutedRow { deliver_after: command.event.deliver_after, crashes: 0 };
            self.state.unrouted.insert_new((command.org, command.id), row);
            self.effects.unrouted.push((command.org, command.id));
        }
        Ok(())
    }

    /// Puts the event into the organization's block that is being filled, or begins a new one.
    fn store_event(&mut self, command: &SubmitEvent) -> Result<(), StateError> {
        let org = command.org;
        let tail = self.state.inboxes.get(org)?.and_then(|row| row.tail);
        let tail_len = match tail {
            Some(first) => self.state.events.promised((org, first))?.events.len(),
            None => BLOCK_EVENTS,
        };
        let begins = tail_len >= BLOCK_EVENTS;
        let first = tail.filter(|_| !begins).unwrap_or(command.id);
        if begins {
            self.state.events.insert_new((org, first), EventBlock::default());
        }
        let Some(block) = self.state.events.edit((org, first))? else { return Ok(()) };
        let known = block.types.iter().position(|known| *known == command.event.event_type);
        let type_no = known.unwrap_or_else(|| {
            block.types.push(command.event.event_type.clone());
            block.types.len() - 1
        });
        let place = block.events.len();
        block.events.push(EventEntry {
            id: command.id,
            position: self.position,
            bytes: u32::try_from(command.event.bytes_len()).unwrap_or(u32::MAX),
            type_no: u8::try_from(type_no).unwrap_or(u8::MAX),
            received_at: command.received_at,
            status: EventStatus::Accepted,
            waiting: 0,
            accepted: 0,
            dead: 0,
            acknowledged_at: None,
            erased_at: None,
        });
        meta(self.state)?.events += 1;
        let inbox = self.state.inboxes.edit_or_insert(org, InboxRow::default)?;
        inbox.tail = Some(first);
        inbox.ids_ahead_ms = inbox.ids_ahead_ms.max(command.id.unix_ms().saturating_sub(command.received_at.0));
        // What the server itself tells is for those who ask for it: whoever works off the inbox did not.
        if command.event.event_type.is_own() { Ok(()) } else { self.enter_inbox(org, first, place) }
    }

    fn enter_inbox(&mut self, org: OrgNo, first: EventId, place: usize) -> Result<(), StateError> {
        let known = self.state.events.may_be_in_tree((org, first));
        self.state.open.edit_or_insert_beside(known, (org, first), OpenBits::default)?.0 |= 1 << place;
        meta(self.state)?.open += 1;
        self.state.inboxes.edit_or_insert(org, InboxRow::default)?.open += 1;
        self.effects.inbox_grew.push(org);
        Ok(())
    }

    /// Notes the dedup id for this event; or says what it is, if the id was used before and within the window.
    fn remember(&mut self, dedup: &Dedup, command: &SubmitEvent) -> Result<Option<Outcome>, StateError> {
        if let Some(entry) = dedup::earlier(self.state, dedup)? {
            return Ok(Some(dedup::outcome(&entry, dedup)));
        }
        let mut tail = meta(self.state)?.dedup_tail;
        let is_full = |block: &DedupBlock| block.entries.len() >= DEDUP_BLOCK_ENTRIES;
        if self.state.dedup.load(tail)?.is_some_and(is_full) {
            tail = tail.wrapping_add(1);
            meta(self.state)?.dedup_tail = tail;
            self.state.dedup.insert_new(tail, DedupBlock::default());
        }
        let block = self.state.dedup.edit_or_insert(tail, DedupBlock::default)?;
        block.entries.push(DedupEntry {
            digest: dedup.digest,
            fingerprint: dedup.fingerprint,
            event: command.id,
            received_at: command.received_at,
        });
        self.state.dedup_index.insert(dedup.digest, tail);
        Ok(None)
    }

    pub(super) fn ack_event(&mut self, command: &AckEvent) -> Result<Outcome, StateError> {
        let Some(at) = self.locate(command.org, command.event)? else { return Ok(Outcome::NotFound) };
        if let Some(since) = acknowledged_at(self.state, command.org, at)? {
            return Ok(Outcome::Acknowledged { at: since });
        }
        self.edit_event(command.org, at, |entry| entry.acknowledged_at = Some(command.at))?;
        Ok(Outcome::Acknowledged { at: command.at })
    }

    /// Forgets the oldest blocks whose entries were all received before the command's time, a bounded number of them.
    pub(super) fn expire_dedup(&mut self, command: &ExpireDedup) -> Result<Outcome, StateError> {
        for _ in 0..EXPIRED_BLOCKS_MAX {
            let (first, tail) = (meta(self.state)?.dedup_first, meta(self.state)?.dedup_tail);
            let Some(block) = self.state.dedup.get(first)?.filter(|block| block.is_older_than(command.before)) else {
                break;
            };
            for entry in &block.entries {
                self.state.dedup_index.remove(entry.digest, first);
            }
            self.state.dedup.remove(first);
            let meta = meta(self.state)?;
            meta.dedup_first = first.wrapping_add(1);
            if first == tail {
                meta.dedup_tail = meta.dedup_first;
            }
        }
        Ok(Outcome::Done)
    }
}

fn acknowledged_at(
    state: &State,
    org: OrgNo,
    (first, place): (EventId, usize),
) -> Result<Option<crate::model::time::Timestamp>, StateError> {
    let block = state.events.get((org, first))?;
    Ok(block.and_then(|block| block.events.get(place)?.acknowledged_at))
}
