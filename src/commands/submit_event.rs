//! Command: stores an event of a producer.

use serde::{Deserialize, Serialize};

use super::codec::only_current;
use super::{AskedBy, Command, Draft, Drafted, Kind, Stamp, UnknownRecord};
use crate::base::codec::{CodecError, decode_prefix, encode_into};
use crate::model::authority::Authority;
use crate::model::cloudevent::CloudEvent;
use crate::model::event::{Dedup, EventType, NewEvent, StoredEvent};
use crate::model::id::{EventId, KeyId, OrgNo};
use crate::model::key::Scope;
use crate::model::time::{Now, Timestamp};
use crate::store::change::Arrival;
use crate::store::rows::schema::{DEDUP_BLOCK_ENTRIES, DedupBlock, DedupEntry};
use crate::store::{Change, Earlier, StateError, Unapplied};

/// Stores an event, unless an event with the same dedup id was stored within the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmitEvent {
    /// The organization of the event.
    pub org: OrgNo,
    /// The key that posted the event; it must be valid at `received_at` and have the scope to write
    /// events. `None` stands for the server itself.
    pub by: Option<KeyId>,
    /// The id of the event, given by the committer in journal order.
    pub id: EventId,
    /// The time at which the event was received, given by the committer.
    pub received_at: Timestamp,
    /// The event as the producer posted it.
    pub event: NewEvent,
}

impl SubmitEvent {
    /// Returns the outcome for an event with the same dedup id as an earlier one.
    pub(crate) fn known(earlier: &Earlier) -> SubmitOutcome {
        if earlier.is_same {
            SubmitOutcome::Duplicate { id: earlier.id, received_at: earlier.received_at }
        } else {
            SubmitOutcome::Mismatch { id: earlier.id }
        }
    }
}

/// An event to be stored. The box of the draft becomes the box of the command, so that each event
/// is moved to the heap once.
#[derive(Clone, Debug)]
pub struct EventDraft(Box<SubmitEvent>);

impl EventDraft {
    /// Creates a draft of an event of this organization.
    pub fn new(org: OrgNo, event: NewEvent) -> Self {
        let (id, received_at) = (EventId(0), Timestamp(0));
        Self(Box::new(SubmitEvent { org, by: None, id, received_at, event }))
    }

    /// Returns the event to be stored.
    pub fn event(&self) -> &NewEvent {
        &self.0.event
    }
}

impl Drafted for EventDraft {
    type Kind = SubmitEvent;
}

impl From<EventDraft> for Draft {
    fn from(draft: EventDraft) -> Self {
        Command::SubmitEvent(draft.0).into()
    }
}

/// The outcome of [`SubmitEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitOutcome {
    /// The event is stored.
    Accepted {
        /// The id of the event.
        id: EventId,
        /// The time at which the event was received.
        received_at: Timestamp,
    },
    /// An event with the same dedup id, type and payload was stored before.
    Duplicate {
        /// The id of the earlier event.
        id: EventId,
        /// The time at which the earlier event was received.
        received_at: Timestamp,
    },
    /// An event with the same dedup id but another type or payload was stored before.
    Mismatch {
        /// The id of the earlier event.
        id: EventId,
    },
    /// The organization does not exist.
    NotFound,
}

impl Kind for SubmitEvent {
    const NUMBER: u8 = 7;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Key(Scope::EventsWrite);

    type Outcome = SubmitOutcome;

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn requester(&self) -> Option<KeyId> {
        self.by
    }

    fn payload_bytes(&self) -> usize {
        self.event.bytes_len()
    }

    fn at(&self) -> Option<Timestamp> {
        Some(self.received_at)
    }

    fn stamp(&mut self, stamp: &mut impl Stamp) {
        (self.id, self.received_at) = (stamp.next_id(), stamp.now());
    }

    fn stored_events(&self) -> Vec<EventId> {
        vec![self.id]
    }

    fn forget_payload(&mut self, id: EventId) {
        if self.id == id {
            self.event.payload = Box::default();
        }
    }

    fn into_event(self, id: EventId) -> Option<StoredEvent> {
        let Self { id: own, received_at, event, .. } = self;
        (own == id).then_some(StoredEvent { id, received_at, event })
    }

    /// Writes the head, then the payload byte for byte.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_into(&HeadRef::of(self), out)?;
        out.extend_from_slice(&self.event.payload);
        Ok(())
    }

    fn read(version: u8, body: &[u8]) -> Result<Self, UnknownRecord> {
        only_current::<Self>(version)?;
        let (head, head_len): (Head, usize) = decode_prefix(body)?;
        let event = NewEvent {
            event_type: head.event_type,
            dedup: head.dedup,
            labels: head.labels,
            occurred_at: head.occurred_at,
            deliver_after: head.deliver_after,
            payload: body
                .get(head_len..)
                .ok_or_else(|| CodecError::new("its head is longer than its record"))?
                .into(),
            cloudevent: head.cloudevent,
        };
        Ok(Self { org: head.org, by: head.by, id: head.id, received_at: head.received_at, event })
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<SubmitOutcome, Unapplied> {
        let Self { org, id, received_at, ref event, .. } = *self;
        change.note_id(id.0)?;
        let at = Now::new(received_at, Timestamp(id.unix_ms()));
        let authority = Authority { key: self.by, needs: Scope::EventsWrite.into(), at };
        change.judge(authority, Some(org))?;
        if change.state.living_org(org)?.is_none() {
            return Ok(SubmitOutcome::NotFound);
        }
        if let Some(dedup) = &event.dedup {
            if let Some(earlier) = change.earlier(dedup)? {
                change.effects.duplicates += u64::from(earlier.is_same);
                return Ok(Self::known(&earlier));
            }
            self.remember(dedup, change)?;
        }
        change.take_in(Arrival { org, id, received_at, event })?;
        Ok(SubmitOutcome::Accepted { id, received_at })
    }
}

impl SubmitEvent {
    /// Stores the dedup id of this event.
    fn remember(&self, dedup: &Dedup, change: &mut Change<'_>) -> Result<(), StateError> {
        let mut tail = change.meta()?.dedup_tail;
        let is_full = |block: &DedupBlock| block.entries.len() >= DEDUP_BLOCK_ENTRIES;
        if change.state.dedup.load(tail)?.is_some_and(is_full) {
            tail = tail.wrapping_add(1);
            change.meta()?.dedup_tail = tail;
            change.state.dedup.insert_new(tail, DedupBlock::default());
        }
        let block = change.state.dedup.edit_or_insert(tail, DedupBlock::default)?;
        block.entries.push(DedupEntry {
            digest: dedup.digest,
            fingerprint: dedup.fingerprint,
            event: self.id,
            received_at: self.received_at,
        });
        change.state.dedup_index.insert(dedup.digest, tail);
        Ok(())
    }
}

/// The part of the record before the payload.
#[derive(Serialize, Deserialize)]
struct Head {
    org: OrgNo,
    by: Option<KeyId>,
    id: EventId,
    received_at: Timestamp,
    event_type: EventType,
    dedup: Option<Dedup>,
    labels: Vec<(String, String)>,
    occurred_at: Option<Timestamp>,
    deliver_after: Option<Timestamp>,
    cloudevent: Option<Box<CloudEvent>>,
}

/// A borrowed [`Head`] for writing. The field order is the format.
#[derive(Serialize)]
struct HeadRef<'a> {
    org: OrgNo,
    by: Option<KeyId>,
    id: EventId,
    received_at: Timestamp,
    event_type: &'a EventType,
    dedup: Option<&'a Dedup>,
    labels: &'a [(String, String)],
    occurred_at: Option<Timestamp>,
    deliver_after: Option<Timestamp>,
    cloudevent: Option<&'a CloudEvent>,
}

impl<'a> HeadRef<'a> {
    fn of(command: &'a SubmitEvent) -> Self {
        Self {
            org: command.org,
            by: command.by,
            id: command.id,
            received_at: command.received_at,
            event_type: &command.event.event_type,
            dedup: command.event.dedup.as_ref(),
            labels: &command.event.labels,
            occurred_at: command.event.occurred_at,
            deliver_after: command.event.deliver_after,
            cloudevent: command.event.cloudevent.as_deref(),
        }
    }
}
