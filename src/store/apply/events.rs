//! Events coming in and being confirmed; what counts as the same event again.

use super::{Change, Outcome, meta};
use crate::base::sabotage::{self, Switch};
use crate::model::command::{AckEvent, ExpireDedup, SubmitEvent};
use crate::model::event::{Dedup, EventStatus};
use crate::model::id::EventId;
use crate::store::schema::{BLOCK_EVENTS, DedupBucket, DedupEntry, EventBlock, EventEntry, OpenBits, UnroutedRow};
use crate::store::table::State;
use crate::store::{StateError, Store};

impl Store {
    /// What submissions with these dedup ids would come to, where the state can say so already. For the thread that
    /// applies: the buckets it is about to change stay in memory.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn known_duplicates<'a>(
        &self,
        dedups: impl Iterator<Item = Option<&'a Dedup>>,
    ) -> Result<Vec<Option<Outcome>>, StateError> {
        let mut state = self.write();
        let known = dedups.map(|dedup| {
            let Some(dedup) = dedup else { return Ok(None) };
            let (bucket, digest) = split(dedup.digest);
            Ok(state.dedup.load(bucket)?.and_then(|bucket| earlier(bucket, digest, dedup)))
        });
        known.collect()
    }

    /// The buckets from `first` on, `count` at most, that hold entries received before `before`.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn expired_buckets(
        &self,
        first: u16,
        count: u16,
        before: crate::model::time::Timestamp,
    ) -> Result<Vec<u16>, StateError> {
        let last = first.saturating_add(count.saturating_sub(1));
        let rows = self.read().dedup.range(first..=last, usize::from(count))?;
        let old = rows.into_iter().filter(|(_, bucket)| bucket.entries.iter().any(|entry| entry.received_at < before));
        Ok(old.map(|(number, _)| number).collect())
    }
}

impl Change<'_> {
    pub(super) fn submit_event(&mut self, command: &SubmitEvent) -> Result<Outcome, StateError> {
        let Some(org) = self.state.orgs.get(command.org)? else { return Ok(Outcome::NotFound) };
        self.note_id(command.id.0)?;
        if let Some(dedup) = &command.event.dedup
            && let Some(outcome) = self.remember(dedup, command)?
        {
            return Ok(outcome);
        }
        self.store_event(command)?;
        if !org.endpoints.is_empty() {
            let row = UnroutedRow { deliver_after: command.event.deliver_after, crashes: 0 };
            self.state.unrouted.insert_new((command.org, command.id), row);
            self.effects.unrouted.push((command.org, command.id));
        }
        Ok(Outcome::Accepted { id: command.id, received_at: command.received_at })
    }

    /// Puts the event into the organization's block that is being filled, or begins a new one.
    fn store_event(&mut self, command: &SubmitEvent) -> Result<(), StateError> {
        let org = command.org;
        let tail = self.state.orgs.get(org)?.and_then(|row| row.tail);
        let tail_len = match tail {
            Some(first) => self.state.events.get((org, first))?.map_or(BLOCK_EVENTS, |block| block.events.len()),
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
            payload_len: u32::try_from(command.event.payload.len()).unwrap_or(u32::MAX),
            type_no: u8::try_from(type_no).unwrap_or(u8::MAX),
            received_at: command.received_at,
            status: EventStatus::Accepted,
            waiting: 0,
            accepted: 0,
            dead: 0,
            acknowledged_at: None,
        });
        self.state.open.edit_or_insert((org, first), OpenBits::default)?.0 |= 1 << place;
        let meta = meta(self.state)?;
        meta.events += 1;
        meta.open += 1;
        if let Some(row) = self.state.orgs.edit(org)? {
            row.tail = Some(first);
            row.open += 1;
        }
        self.effects.inbox_grew.push(org);
        Ok(())
    }

    /// Notes the dedup id for this event; or says what it is, if the id was used before and within the window.
    fn remember(&mut self, dedup: &Dedup, command: &SubmitEvent) -> Result<Option<Outcome>, StateError> {
        let (number, digest) = split(dedup.digest);
        let known = self.state.dedup.get(number)?;
        if let Some(outcome) = known.and_then(|bucket| earlier(&bucket, digest, dedup)) {
            return Ok(Some(outcome));
        }
        let bucket = self.state.dedup.edit_or_insert(number, DedupBucket::default)?;
        let entry =
            DedupEntry { digest, fingerprint: dedup.fingerprint, event: command.id, received_at: command.received_at };
        match bucket.entries.binary_search_by_key(&digest, |entry| entry.digest) {
            Ok(place) => {
                // The earlier one is out of its window.
                if let Some(outdated) = bucket.entries.get_mut(place) {
                    *outdated = entry;
                }
            }
            Err(place) => bucket.entries.insert(place, entry),
        }
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

    pub(super) fn expire_dedup(&mut self, command: &ExpireDedup) -> Result<Outcome, StateError> {
        for number in &command.buckets {
            let Some(bucket) = self.state.dedup.edit(*number)? else { continue };
            bucket.entries.retain(|entry| entry.received_at >= command.before);
            if bucket.entries.is_empty() {
                self.state.dedup.remove(*number);
            }
        }
        Ok(Outcome::Done)
    }
}

fn acknowledged_at(
    state: &State,
    org: crate::model::id::OrgNo,
    (first, place): (EventId, usize),
) -> Result<Option<crate::model::time::Timestamp>, StateError> {
    let block = state.events.get((org, first))?;
    Ok(block.and_then(|block| block.events.get(place)?.acknowledged_at))
}

/// The bucket's number and what is compared within it.
fn split(digest: [u8; 14]) -> (u16, [u8; 12]) {
    let [a, b, rest @ ..] = digest;
    (u16::from_be_bytes([a, b]), rest)
}

/// What an earlier event in the bucket makes of this dedup id.
fn earlier(bucket: &DedupBucket, digest: [u8; 12], dedup: &Dedup) -> Option<Outcome> {
    if sabotage::is_on(Switch::DedupOff) {
        return None;
    }
    let place = bucket.entries.binary_search_by_key(&digest, |entry| entry.digest).ok()?;
    let entry = bucket.entries.get(place).filter(|entry| entry.received_at >= dedup.window_start)?;
    Some(if entry.fingerprint == dedup.fingerprint {
        Outcome::Duplicate { id: entry.event, received_at: entry.received_at }
    } else {
        Outcome::Mismatch { id: entry.event }
    })
}
