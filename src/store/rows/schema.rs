//! The rows and their keys. A key is one byte for the table, then big-endian parts of fixed width,
//! so that keys sort like their parts. A value is one version byte and the bincode form of the row.
//!
//! ```text
//! table        key                                row
//! meta         (empty)                            Meta: the applied journal position, counters
//! orgs         org 4                              OrgRow: the organization, its keys and endpoints
//! inboxes      org 4                              InboxRow: the block being filled, open events
//! keys         key id 16                          KeyRow: the key, its organization and last use
//! endpoints    endpoint 16                        EndpointRow: the endpoint and its number
//! numbers      org 4 · endpoint's number 4        NumberRow: the endpoint, deleted or not
//! tombstones   endpoint 16                        TombstoneRow: a deleted endpoint and its number
//! ended        org 4 · position 8 · number 4      EndedRow: the endpoint deleted by this command
//! health       endpoint 16                        HealthRow: counters and times of its attempts
//! events       org 4 · first event id 16          EventBlock: up to 64 events
//! open         org 4 · first event id 16          OpenBits: events in the inbox; no row if none
//! dedup        block 4                            DedupBlock: up to 128 ids in order of arrival
//! unrouted     org 4 · event 16                   UnroutedRow: an event without known endpoints
//! delivered    endpoint 16 · first event id 16    DeliveredBlock: accepted events of the block
//! pending      endpoint 16 · first event id 16    PendingBits: first attempts that are due at once
//! deliveries   endpoint 16 · event 16             DeliveryRow: waiting for later, dead or canceled
//! due          endpoint 16 · due_at 8 · event 16  DueRow: empty; the key is the content
//! dead         org 4 · dead_at 8 · event 16 · endpoint 16  DeadRow: the reason
//! replays      org 4 · replay 16                  ReplayRow: the request and the progress
//! running      org 4 · replay 16                  RunningRow: empty; the replay runs
//! audit        position 8 · number 4              AuditRow: an entry of the audit log
//! audit_of     org 4 · position 8 · number 4      AuditOfRow: how many came before
//! ```
//!
//! `due` is grouped by endpoint, so that no endpoint comes before another. If [`FORMAT`] differs,
//! the state is made anew from a snapshot and the journal. A row whose encoding changes gets
//! another version and keeps its reader for the versions before ([`Row::read`]), because snapshots
//! hold them.
//!
//! [`Row::read`]: super::row::Row::read

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::journal::Position;
use crate::model::audit::AuditEntry;
use crate::model::delivery::{DeadReason, Trigger};
use crate::model::endpoint::Endpoint;
use crate::model::event::{EventStatus, EventType};
use crate::model::id::{EndpointId, EventId, KeyId, OrgNo, ReplayId};
use crate::model::key::Key;
use crate::model::org::{Org, OrgDeletion};
use crate::model::replay::{ReplayCursor, ReplayEnd, ReplayRequest};
use crate::model::time::{Now, Timestamp};
use crate::store::rows::row::row;

/// The format of all rows together.
pub(crate) const FORMAT: u32 = 20;
/// Maximum number of events in a block, which is the number of bits in an `open` row.
pub(crate) const BLOCK_EVENTS: usize = 64;
/// Maximum number of dedup ids in a block. A row stays below the size that sled puts in its own
/// file.
pub(crate) const DEDUP_BLOCK_ENTRIES: usize = 128;

/// The applied position of the journal, and counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The position of the first command that is not applied.
    pub(crate) applied: Position,
    /// The number for the next organization.
    pub(crate) next_org: u32,
    /// The largest id that was generated.
    pub(crate) last_id: u128,
    /// The latest steady time of a command, apart from the times in ids.
    pub(crate) steady: Timestamp,
    pub(crate) events: u64, // stored, including erased events
    /// The number of events in inboxes.
    pub(crate) open: u64,
    /// The number of deliveries that wait for an attempt.
    pub(crate) waiting: u64,
    /// The number of dead letters.
    pub(crate) dead: u64,
    /// The oldest block of dedup ids.
    pub(crate) dedup_first: u32,
    /// The block for new dedup ids.
    pub(crate) dedup_tail: u32,
    /// Commands below this position were judged before a part of the journal was lost. The
    /// first position stands for no loss.
    pub(crate) judged_before: Position,
    /// The keys of such commands whose creation was lost, sorted.
    pub(crate) lost_keys: Vec<KeyId>,
    /// The position of the last command that forgot an organization. The files of the state must
    /// hold no byte of before. New in version 2.
    pub(crate) forgot_at: Option<Position>,
}
row!(Meta, 1, "meta", (), resident, added 1);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrgRow {
    pub(crate) org: Org,
    pub(crate) keys: Vec<KeyId>,
    pub(crate) endpoints: Vec<EndpointId>,
    /// The number for the next endpoint, from 1 on.
    pub(crate) next_endpoint: u32,
    /// The time since which the organization is suspended. New in version 2.
    pub(crate) suspended_at: Option<Timestamp>,
    /// The newest event of all at the last change of the inbox mode. An event up to it may be in the
    /// inbox, or have left it, by an earlier mode. New in version 2.
    pub(crate) mode_since: Option<EventId>,
    /// Set while the organization is being deleted: it is refused for everything. New in version 3.
    pub(crate) deletion: Option<OrgDeletion>,
}
row!(OrgRow, 2, "orgs", OrgNo, resident, added 2, then 1);

/// The part that changes with every event, apart from [`OrgRow`], which requests hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InboxRow {
    /// The first id of the block for new events.
    pub(crate) tail: Option<EventId>,
    pub(crate) open: u64, // events in the inbox
    /// Maximum by which the time in an id was ahead of the time of receipt.
    pub(crate) ids_ahead_ms: u64,
    /// The number of stored events, including erased events. New in version 2, as `bytes`; the
    /// loading of a snapshot counts both for a row of version 1.
    pub(crate) events: u64,
    pub(crate) bytes: u64, // size of the stored events as they came
}
row!(InboxRow, 13, "inboxes", OrgNo, resident, added 16);

impl InboxRow {
    /// Counts the events of a block.
    pub(crate) fn count(&mut self, block: &EventBlock) {
        for (_, entry) in block.existing() {
            self.events += 1;
            self.bytes += u64::from(entry.bytes);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    pub(crate) org: OrgNo,
    pub(crate) key: Key,
    /// The first key of the family: the key from which rotations led to this key, or the key itself
    /// if it came from no rotation.
    pub(crate) family: KeyId,
    pub(crate) last_used_at: Option<Timestamp>,
    /// The `expires_at` that the organization was warned of. New in version 2.
    pub(crate) end_told: Option<Timestamp>,
}
row!(KeyRow, 3, "keys", KeyId, resident, added 1);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointRow {
    pub(crate) org: OrgNo,
    /// The number in the organization, which is part of the ids of deliveries.
    pub(crate) number: u32,
    /// The journal position of the command that created the endpoint.
    pub(crate) made: Position,
    /// Shared, because attempts hold the endpoint.
    pub(crate) endpoint: Arc<Endpoint>,
}
row!(EndpointRow, 4, "endpoints", EndpointId, resident);

/// The endpoint with a number. Stays after a deletion, because the deliveries stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NumberRow(pub(crate) EndpointId);
row!(NumberRow, 16, "numbers", (OrgNo, u32));

/// A deleted endpoint. It never comes back, because ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TombstoneRow {
    pub(crate) org: OrgNo,
    pub(crate) number: u32,
    /// The journal position of the command that deleted the endpoint.
    pub(crate) ended: Position,
}
row!(TombstoneRow, 17, "tombstones", EndpointId);

/// A deleted endpoint by the time of deletion: it has no delivery of any later event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndedRow(pub(crate) EndpointId);
row!(EndedRow, 20, "ended", (OrgNo, Position, u32));

/// The health of an endpoint: the part that changes with every attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRow {
    /// The number of deliveries that wait for an attempt.
    pub waiting: u64,
    /// The number of dead letters.
    pub dead: u64,
    /// The number of accepted attempts.
    pub accepted: u64,
    /// The number of failed attempts.
    pub failed: u64,
    /// The start of the first failure after the last success.
    pub failing_since: Option<Timestamp>,
    /// The steady time of `failing_since`: durations are measured by it.
    pub failing_from: Option<Timestamp>,
    /// The time of the last accepted attempt.
    pub accepted_at: Option<Timestamp>,
    /// The time of the last failed attempt.
    pub failed_at: Option<Timestamp>,
    /// The `failing_since` that was reported. Absent if the recovery was reported since.
    pub failing_told: Option<Timestamp>,
}
row!(HealthRow, 15, "health", EndpointId, resident);

/// Up to [`BLOCK_EVENTS`] events of an organization, in acceptance order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventBlock {
    /// The types of the events, each once.
    pub(crate) types: Vec<EventType>,
    pub(crate) events: Vec<EventEntry>,
    /// The journal position of the last command that added an event, or changed the number of an
    /// event's deliveries or its place in the inbox.
    pub(crate) changed: Position,
}
row!(EventBlock, 5, "events", (OrgNo, EventId), |row| {
    let types: usize = row.types.iter().map(|known| size_of::<u64>() + known.as_str().len()).sum();
    types + size_of_val(row.events.as_slice())
});

/// The address of an event: the key of its block, and its index in the block.
pub(crate) type EventAddress = (EventId, usize);

/// One event with its journal position and its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventEntry {
    pub(crate) id: EventId,
    /// The journal position of the event.
    pub(crate) position: Position,
    /// The journal position of the command that routed the event, or ended its routing. Its record
    /// has the reasons, so they cost no rows.
    pub(crate) routed: Option<Position>,
    pub(crate) bytes: u32,
    /// The index of the type in the block's list.
    pub(crate) type_no: u8,
    pub(crate) received_at: Timestamp,
    /// The time before which the event is not pushed.
    pub(crate) deliver_after: Option<Timestamp>,
    pub(crate) status: EventStatus,
    /// The number of deliveries that wait for an attempt.
    pub(crate) waiting: u16,
    /// The number of accepted deliveries.
    pub(crate) accepted: u16,
    /// The number of dead letters.
    pub(crate) dead: u16,
    pub(crate) acknowledged_at: Option<Timestamp>,
    /// The time since which nobody sees the payload.
    pub(crate) erased_at: Option<Timestamp>,
    /// Set if the event has expired. Its entry stays, because other rows name the events of a block
    /// by their indexes; nothing else of the event is left.
    pub(crate) is_expired: bool,
}

impl EventEntry {
    /// Returns the time from which the age of the event counts. An erased event stays for a while,
    /// because compaction must find what has to leave the journal. The id tells the time of an
    /// event that came while the clock was behind.
    pub(crate) fn aged_from(&self, now: Timestamp) -> Timestamp {
        let by_id = Some(Timestamp(self.id.unix_ms())).filter(|by_id| *by_id <= now);
        let later = self.deliver_after.max(self.erased_at).max(by_id);
        later.map_or(self.received_at, |later| later.max(self.received_at))
    }
}

impl EventBlock {
    /// Returns the event and its index in the block. An expired event does not exist.
    pub(crate) fn find(&self, id: EventId) -> Option<(usize, &EventEntry)> {
        let index = self.events.binary_search_by_key(&id, |entry| entry.id).ok()?;
        let entry = self.events.get(index)?;
        (!entry.is_expired).then_some((index, entry))
    }

    /// Returns the existing events and their indexes in the block.
    pub(crate) fn existing(&self) -> impl DoubleEndedIterator<Item = (usize, &EventEntry)> {
        self.events.iter().enumerate().filter(|(_, entry)| !entry.is_expired)
    }

    /// Returns the events whose bits are set. The first event is the lowest bit.
    pub(crate) fn marked(&self, bits: u64) -> impl Iterator<Item = &EventEntry> {
        let marked =
            self.events.iter().enumerate().filter(move |(index, _)| bits & 1 << index != 0);
        marked.map(|(_, entry)| entry)
    }

    /// Returns the type of an event of the block.
    pub(crate) fn event_type(&self, entry: &EventEntry) -> Option<&EventType> {
        self.types.get(usize::from(entry.type_no))
    }
}

/// A bit for each event of a block that is in the inbox. The first event is the lowest bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenBits(pub(crate) u64);
row!(OpenBits, 6, "open", (OrgNo, EventId));

/// Up to [`DEDUP_BLOCK_ENTRIES`] dedup ids, in the order of arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DedupBlock {
    pub(crate) entries: Vec<DedupEntry>,
}
row!(DedupBlock, 7, "dedup", u32, |row| size_of_val(row.entries.as_slice()));

impl DedupBlock {
    /// Returns true if every entry was received before this steady time.
    pub(crate) fn is_older_than(&self, before: Timestamp) -> bool {
        self.entries.iter().all(|entry| entry.received_steady() < before)
    }
}

/// One dedup id with its event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DedupEntry {
    pub(crate) digest: [u8; 14],
    pub(crate) fingerprint: [u8; 8],
    pub(crate) event: EventId,
    pub(crate) received_at: Timestamp,
}

impl DedupEntry {
    /// Returns the steady time at which the event was received.
    pub(crate) fn received_steady(&self) -> Timestamp {
        Now::new(self.received_at, Timestamp(self.event.unix_ms())).steady
    }
}

/// An event that no worker has routed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnroutedRow {
    pub(crate) deliver_after: Option<Timestamp>,
    /// The number of crashes while routing the event.
    pub(crate) crashes: u8,
}
row!(UnroutedRow, 8, "unrouted", (OrgNo, EventId));

/// The events of a block that an endpoint accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveredBlock {
    /// The accepted deliveries, sorted by index.
    pub(crate) entries: Vec<DeliveredEntry>,
}
row!(DeliveredBlock, 9, "delivered", (EndpointId, EventId), |row| size_of_val(
    row.entries.as_slice()
));

/// One accepted delivery of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveredEntry {
    /// The index of the event in its block.
    pub(crate) index: u8,
    pub(crate) attempts: u32,
    /// The journal position of the accepted attempt, which has everything else.
    pub(crate) attempt: Position,
}

/// A bit for each event of a block whose first attempt is due at once and was not made. Such a
/// delivery has no row, because most deliveries succeed at the first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PendingBits {
    pub(crate) org: OrgNo,
    pub(crate) bits: u64,
}
row!(PendingBits, 14, "pending", (EndpointId, EventId));

/// A delivery that waits for a later time, was given up, or was canceled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveryRow {
    pub(crate) org: OrgNo,
    pub(crate) state: DeliveryState,
    pub(crate) attempts: u32,
    /// The number of attempts before the schedule began again.
    pub(crate) base: u32,
    /// The journal position of the last attempt.
    pub(crate) last_attempt: Option<Position>,
    /// The cause of the next attempt.
    pub(crate) trigger: Trigger,
}
row!(DeliveryRow, 10, "deliveries", (EndpointId, EventId));

/// The status of such a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeliveryState {
    /// The first or next attempt is due at this time.
    Waiting(Timestamp),
    /// The delivery was given up at this time.
    Dead(DeadReason, Timestamp),
    /// The endpoint was deleted, or a user dropped the dead letter.
    Canceled,
}

/// Marks a due time. The key is the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DueRow;
row!(DueRow, 11, "due", (EndpointId, Timestamp, EventId));

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeadRow(pub(crate) DeadReason);
row!(DeadRow, 12, "dead", (OrgNo, Timestamp, EventId, EndpointId));

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplayRow {
    pub(crate) request: ReplayRequest,
    pub(crate) created_at: Timestamp,
    /// The first event of the replay.
    pub(crate) first: EventId,
    /// The last event of the replay.
    pub(crate) last: EventId,
    /// Endpoints with this number or a larger number have not begun.
    pub(crate) next: u32,
    /// Only endpoints below this number belong to the replay.
    pub(crate) end: u32,
    /// The endpoints that have begun and are not finished, by number.
    pub(crate) cursors: Vec<ReplayCursor>,
    /// The number of finished endpoints, including deleted endpoints.
    pub(crate) done: u32,
    /// The endpoints that were passed over because they were disabled; they are also in `done`.
    pub(crate) skipped: Vec<u32>,
    /// The number of events or dead letters that were looked at.
    pub(crate) examined: u64,
    /// The number of deliveries that the replay has made.
    pub(crate) queued: u64,
    /// The reason and the time of the end. Absent while the replay runs.
    pub(crate) ended: Option<(ReplayEnd, Timestamp)>,
}
row!(ReplayRow, 18, "replays", (OrgNo, ReplayId));

impl ReplayRow {
    /// Returns true if the next step can begin at `cursor`.
    pub(crate) fn is_at(&self, cursor: ReplayCursor) -> bool {
        let begins = (self.next..self.end).contains(&cursor.number) && cursor.from == self.first;
        self.ended.is_none() && (begins || self.cursors.contains(&cursor))
    }

    /// Returns true if the replay delivers nothing more to the endpoint because it is disabled. A
    /// replay to this endpoint alone waits instead.
    pub(crate) fn passes_over(&self, endpoint: &Endpoint) -> bool {
        self.request.endpoint.is_none() && !endpoint.is_enabled()
    }

    /// Moves the endpoint to `reached`. `None`: the endpoint is finished.
    pub(crate) fn advance(&mut self, number: u32, reached: Option<EventId>) {
        self.next = self.next.max(number.saturating_add(1));
        self.cursors.retain(|cursor| cursor.number != number);
        self.done += u32::from(reached.is_none());
        self.cursors.extend(reached.map(|from| ReplayCursor { number, from }));
        self.cursors.sort_unstable_by_key(|cursor| cursor.number);
    }
}

/// Marks a running replay. The key is the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunningRow;
row!(RunningRow, 19, "running", (OrgNo, ReplayId), resident);

/// An entry of the audit log. Entries of one command have numbers from 0 on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditRow {
    /// The organization that can read the entry.
    pub(crate) org: Option<OrgNo>,
    /// The steady time of the entry, by which it expires.
    pub(crate) steady: Timestamp,
    pub(crate) entry: AuditEntry,
}
row!(AuditRow, 21, "audit", (Position, u32), |row| row.entry.note.changes.len() * 128);

/// Marks an entry of an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditOfRow {
    /// The number of entries that the organization had made before.
    pub(crate) ordinal: u64,
}
row!(AuditOfRow, 22, "audit_of", (OrgNo, Position, u32));
