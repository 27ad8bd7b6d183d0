//! The rows and their keys. Keys are big-endian, fixed width first, so that they sort as their parts do; before them
//! stands one byte that tells the table. Values are one version byte and the bincode form of the row.
//!
//! ```text
//! table        key                                    row
//! meta         (nothing)                              Meta: how far the journal is applied, counters
//! orgs         org 4                                  OrgRow: the organization, its keys and endpoints
//! inboxes      org 4                                  InboxRow: the block being filled, how many events are open
//! keys         key id 16                              KeyRow: whose, the key, when last used
//! endpoints    endpoint 16                            EndpointRow: whose, the endpoint and its number
//! numbers      org 4 · endpoint's number 4            NumberRow: which endpoint that is, or was
//! former       endpoint 16                            FormerRow: whose a deleted endpoint was, and its number
//! ended        org 4 · position 8 · number 4          EndedRow: which endpoint ended there in the journal
//! health       endpoint 16                            HealthRow: how its deliveries go
//! events       org 4 · first event id 16              EventBlock: up to 64 events
//! open         org 4 · first event id 16              OpenBits: which of the block are not confirmed; no row when none is
//! dedup        block 4                                DedupBlock: up to 128 entries, in the order they came
//! unrouted     org 4 · event 16                       UnroutedRow: not yet known where to
//! delivered    endpoint 16 · first event id 16        DeliveredBlock: what the endpoint accepted of the block
//! pending      endpoint 16 · first event id 16        PendingBits: which of the block wait for their first attempt at once
//! deliveries   endpoint 16 · event 16                 DeliveryRow: waiting for a later time, or given up
//! due          endpoint 16 · due_at 8 · event 16      DueRow: nothing; the key says it all
//! dead         org 4 · dead_at 8 · event 16 · endpoint 16   DeadRow: why
//! replays      org 4 · replay 16                      ReplayRow: what is replayed, and how far it is
//! running      org 4 · replay 16                      RunningRow: nothing; which of them run
//! ```
//!
//! `due` is grouped by endpoint, so that no endpoint stands before another. The state is rebuilt from the journal when
//! [`FORMAT`] differs, so rows may change shape freely: change `FORMAT` with them.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::delivery::{DeadReason, Trigger};
use crate::model::endpoint::Endpoint;
use crate::model::event::{EventStatus, EventType};
use crate::model::id::{EndpointId, EventId, KeyId, OrgNo, ReplayId};
use crate::model::key::Key;
use crate::model::org::Org;
use crate::model::replay::{ReplayEnd, ReplayLane, ReplayRequest};
use crate::model::time::Timestamp;

/// The format of all rows together.
pub(crate) const FORMAT: u32 = 13;
/// Events in a block; the bits of an `open` row.
pub(crate) const BLOCK_EVENTS: usize = 64;
/// Dedup ids in a block: a row stays below the size that sled would put in a file of its own.
pub(crate) const DEDUP_BLOCK_ENTRIES: usize = 128;

/// A row: which table it is in and what its key is.
pub(crate) trait Row: Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug + 'static {
    type Key: RowKey;
    /// The table's name, in drawings and dumps.
    const NAME: &'static str;
    /// The first byte of its keys: all tables lie in one tree, so that one batch is one atomic change of all of them.
    const PREFIX: u8;
    /// Whether all rows stay in memory: few, and read at every request.
    const RESIDENT: bool = false;
    /// What a row that can be large takes beside its struct, in bytes: nearly.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// A key: parts that sort like their bytes.
pub(crate) trait RowKey: Copy + Ord + std::fmt::Debug {
    type Bytes: AsRef<[u8]>;
    /// The bytes of the parts.
    fn bytes(self) -> Self::Bytes;
    /// The parts of the bytes; none if they have another length.
    fn parse(bytes: &[u8]) -> Option<Self>;
}

/// Joins arrays into one.
fn join<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut joined = [0; N];
    for (place, byte) in joined.iter_mut().zip(parts.iter().copied().flatten()) {
        *place = *byte;
    }
    joined
}

/// Takes the next `N` bytes off the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

macro_rules! key {
    ($parts:ty, $len:literal, |$key:ident| [$($part:expr),*], |$rest:ident| $parse:expr) => {
        impl RowKey for $parts {
            type Bytes = [u8; $len];

            fn bytes(self) -> [u8; $len] {
                let $key = self;
                join(&[$($part.as_slice()),*])
            }

            fn parse(bytes: &[u8]) -> Option<Self> {
                let mut rest = bytes;
                let $rest = &mut rest;
                let key = $parse;
                rest.is_empty().then_some(key)
            }
        }
    };
}

fn org(rest: &mut &[u8]) -> Option<OrgNo> {
    take(rest).map(u32::from_be_bytes).map(OrgNo)
}

fn event(rest: &mut &[u8]) -> Option<EventId> {
    take(rest).map(EventId::from_bytes)
}

fn endpoint(rest: &mut &[u8]) -> Option<EndpointId> {
    take(rest).map(EndpointId::from_bytes)
}

fn moment(rest: &mut &[u8]) -> Option<Timestamp> {
    take(rest).map(u64::from_be_bytes).map(Timestamp)
}

key!((), 0, |_key| [], |_rest| ());
key!(u32, 4, |key| [key.to_be_bytes()], |rest| u32::from_be_bytes(take(rest)?));
key!(OrgNo, 4, |key| [key.0.to_be_bytes()], |rest| org(rest)?);
key!((OrgNo, u32), 8, |key| [key.0.0.to_be_bytes(), key.1.to_be_bytes()], |rest| (
    org(rest)?,
    u32::from_be_bytes(take(rest)?)
));
key!((OrgNo, u64, u32), 16, |key| [key.0.0.to_be_bytes(), key.1.to_be_bytes(), key.2.to_be_bytes()], |rest| (
    org(rest)?,
    u64::from_be_bytes(take(rest)?),
    u32::from_be_bytes(take(rest)?)
));
key!(KeyId, 16, |key| [key.to_bytes()], |rest| KeyId::from_bytes(take(rest)?));
key!(EndpointId, 16, |key| [key.to_bytes()], |rest| endpoint(rest)?);
key!((OrgNo, EventId), 20, |key| [key.0.0.to_be_bytes(), key.1.to_bytes()], |rest| (org(rest)?, event(rest)?));
key!((OrgNo, ReplayId), 20, |key| [key.0.0.to_be_bytes(), key.1.to_bytes()], |rest| (
    org(rest)?,
    ReplayId::from_bytes(take(rest)?)
));
key!((EndpointId, EventId), 32, |key| [key.0.to_bytes(), key.1.to_bytes()], |rest| (endpoint(rest)?, event(rest)?));
key!((EndpointId, Timestamp, EventId), 40, |key| [key.0.to_bytes(), key.1.0.to_be_bytes(), key.2.to_bytes()], |rest| (
    endpoint(rest)?,
    moment(rest)?,
    event(rest)?
));
key!(
    (OrgNo, Timestamp, EventId, EndpointId),
    44,
    |key| [key.0.0.to_be_bytes(), key.1.0.to_be_bytes(), key.2.to_bytes(), key.3.to_bytes()],
    |rest| (org(rest)?, moment(rest)?, event(rest)?, endpoint(rest)?)
);

macro_rules! row {
    ($name:ident, $prefix:literal, $label:literal, $key:ty) => {
        impl Row for $name {
            type Key = $key;
            const NAME: &'static str = $label;
            const PREFIX: u8 = $prefix;
        }
    };
    ($name:ident, $prefix:literal, $label:literal, $key:ty, resident) => {
        impl Row for $name {
            type Key = $key;
            const NAME: &'static str = $label;
            const PREFIX: u8 = $prefix;
            const RESIDENT: bool = true;
        }
    };
    ($name:ident, $prefix:literal, $label:literal, $key:ty, |$row:ident| $heap_bytes:expr) => {
        impl Row for $name {
            type Key = $key;
            const NAME: &'static str = $label;
            const PREFIX: u8 = $prefix;

            fn heap_bytes(&self) -> usize {
                let $row = self;
                $heap_bytes
            }
        }
    };
}

/// How far the journal is applied, and what is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Journal position of the first frame that is not applied.
    pub(crate) applied: u64,
    /// The number the next organization gets.
    pub(crate) next_org: u32,
    /// The largest id handed out.
    pub(crate) last_id: u128,
    pub(crate) events: u64, // stored, erased ones too
    /// Events in inboxes.
    pub(crate) open: u64,
    /// Deliveries waiting for an attempt.
    pub(crate) waiting: u64,
    /// Deliveries given up.
    pub(crate) dead: u64,
    /// The oldest block of dedup ids.
    pub(crate) dedup_first: u32,
    /// The block that new dedup ids go into.
    pub(crate) dedup_tail: u32,
    /// Commands below this journal position were judged before damage took a part of the journal. 0: none was ever lost.
    pub(crate) judged_before: u64,
    /// Keys that such commands stand on and whose making was lost, sorted.
    pub(crate) lost_keys: Vec<KeyId>,
}
row!(Meta, 1, "meta", (), resident);

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrgRow {
    pub(crate) org: Org,
    pub(crate) keys: Vec<KeyId>,
    pub(crate) endpoints: Vec<EndpointId>,
    /// The number that its next endpoint gets, from 1 on.
    pub(crate) next_endpoint: u32,
}
row!(OrgRow, 2, "orgs", OrgNo, resident);

/// What changes with every event of an organization; apart from [`OrgRow`], which requests hold on to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InboxRow {
    /// First id of the block that new events go into.
    pub(crate) tail: Option<EventId>,
    pub(crate) open: u64, // events in its inbox
    /// How far the time in an id was ahead of when its event was received, at most.
    pub(crate) ids_ahead_ms: u64,
}
row!(InboxRow, 13, "inboxes", OrgNo, resident);

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    pub(crate) org: OrgNo,
    pub(crate) key: Key,
    pub(crate) last_used_at: Option<Timestamp>,
}
row!(KeyRow, 3, "keys", KeyId, resident);

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointRow {
    pub(crate) org: OrgNo,
    /// Its number in the organization, which stands for it in the ids of deliveries.
    pub(crate) number: u32,
    /// Shared, because attempts hold on to it.
    pub(crate) endpoint: Arc<Endpoint>,
}
row!(EndpointRow, 4, "endpoints", EndpointId, resident);

/// Which endpoint a number stands for. Stays when that is deleted, because its deliveries do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NumberRow(pub(crate) EndpointId);
row!(NumberRow, 16, "numbers", (OrgNo, u32));

/// An endpoint that was deleted. It does not come again: ids are not given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FormerRow {
    pub(crate) org: OrgNo,
    pub(crate) number: u32,
    /// Journal position of the command that ended it.
    pub(crate) ended: u64,
}
row!(FormerRow, 17, "former", EndpointId);

/// An endpoint that was deleted, by when: deliveries are made for endpoints that are there, so one that ended before an
/// event came has none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndedRow(pub(crate) EndpointId);
row!(EndedRow, 20, "ended", (OrgNo, u64, u32));

/// How the deliveries to an endpoint go: what changes with every attempt; apart from the endpoint itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRow {
    /// Deliveries that wait for an attempt.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Attempts that were accepted,
    pub accepted: u64,
    /// and that failed.
    pub failed: u64,
    /// When the first of the failures began that no success came after.
    pub failing_since: Option<Timestamp>,
    /// When an attempt was accepted last,
    pub accepted_at: Option<Timestamp>,
    /// and when one failed last.
    pub failed_at: Option<Timestamp>,
    /// What `failing_since` was when its organization was told of it; none when it was told of the recovery since.
    pub failing_told: Option<Timestamp>,
}
row!(HealthRow, 15, "health", EndpointId, resident);

/// Up to [`BLOCK_EVENTS`] events of an organization, in acceptance order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventBlock {
    /// The types that occur, each once.
    pub(crate) types: Vec<EventType>,
    pub(crate) events: Vec<EventEntry>,
}
row!(EventBlock, 5, "events", (OrgNo, EventId), |row| {
    let types: usize = row.types.iter().map(|known| size_of::<u64>() + known.as_str().len()).sum();
    types + size_of_val(row.events.as_slice())
});

/// One event: where its payload is, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventEntry {
    pub(crate) id: EventId,
    /// Of the frame that holds it.
    pub(crate) position: u64,
    pub(crate) bytes: u32,
    /// Place of its type in the block's list.
    pub(crate) type_no: u8,
    pub(crate) received_at: Timestamp,
    pub(crate) status: EventStatus,
    /// Deliveries that wait for an attempt.
    pub(crate) waiting: u16,
    /// Deliveries that were accepted.
    pub(crate) accepted: u16,
    /// Deliveries that were given up.
    pub(crate) dead: u16,
    pub(crate) acknowledged_at: Option<Timestamp>,
    /// Since when nobody sees its payload.
    pub(crate) erased_at: Option<Timestamp>,
}

impl EventBlock {
    /// The event and its place in the block.
    pub(crate) fn find(&self, id: EventId) -> Option<(usize, &EventEntry)> {
        let place = self.events.binary_search_by_key(&id, |entry| entry.id).ok()?;
        Some((place, self.events.get(place)?))
    }

    /// The type of one of its events.
    pub(crate) fn event_type(&self, entry: &EventEntry) -> Option<&EventType> {
        self.types.get(usize::from(entry.type_no))
    }
}

/// A bit for each event of a block that is in the inbox; the first event is the lowest bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenBits(pub(crate) u64);
row!(OpenBits, 6, "open", (OrgNo, EventId));

/// Up to [`DEDUP_BLOCK_ENTRIES`] dedup ids, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DedupBlock {
    pub(crate) entries: Vec<DedupEntry>,
}
row!(DedupBlock, 7, "dedup", u32, |row| size_of_val(row.entries.as_slice()));

impl DedupBlock {
    /// Whether all of it was received before this.
    pub(crate) fn is_older_than(&self, before: Timestamp) -> bool {
        self.entries.iter().all(|entry| entry.received_at < before)
    }
}

/// One dedup id and the event it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DedupEntry {
    pub(crate) digest: [u8; 14],
    pub(crate) fingerprint: [u8; 8],
    pub(crate) event: EventId,
    pub(crate) received_at: Timestamp,
}

/// An event that no worker has routed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnroutedRow {
    pub(crate) deliver_after: Option<Timestamp>,
    /// How often routing it crashed.
    pub(crate) crashes: u8,
}
row!(UnroutedRow, 8, "unrouted", (OrgNo, EventId));

/// What an endpoint accepted of a block of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveredBlock {
    /// Sorted by place.
    pub(crate) entries: Vec<DeliveredEntry>,
}
row!(DeliveredBlock, 9, "delivered", (EndpointId, EventId), |row| size_of_val(row.entries.as_slice()));

/// One accepted delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveredEntry {
    /// Of the event in its block.
    pub(crate) place: u8,
    pub(crate) attempts: u32,
    pub(crate) status: u16,
    pub(crate) duration_ms: u32,
    /// Journal position of the attempt that was accepted.
    pub(crate) attempt: u64,
}

/// A bit for each event of a block that the endpoint is to get at once and that was not attempted yet. Such a delivery has
/// no row of its own: most succeed at the first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PendingBits {
    pub(crate) org: OrgNo,
    pub(crate) bits: u64,
}
row!(PendingBits, 14, "pending", (EndpointId, EventId));

/// A delivery that waits for a later time, or was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveryRow {
    pub(crate) org: OrgNo,
    pub(crate) state: DeliveryState,
    pub(crate) attempts: u32,
    /// Those of them that were made before its schedule began anew.
    pub(crate) base: u32,
    /// Journal position of the last attempt.
    pub(crate) last_attempt: Option<u64>,
    /// Why the next one is made.
    pub(crate) trigger: Trigger,
}
row!(DeliveryRow, 10, "deliveries", (EndpointId, EventId));

/// Where such a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeliveryState {
    /// For its first or next attempt, at this time.
    Waiting(Timestamp),
    /// Given up, then.
    Dead(DeadReason, Timestamp),
    /// Its endpoint is no more, or its owner dropped it.
    Canceled,
}

/// Marks a due time; the key says it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DueRow;
row!(DueRow, 11, "due", (EndpointId, Timestamp, EventId));

/// A dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeadRow(pub(crate) DeadReason);
row!(DeadRow, 12, "dead", (OrgNo, Timestamp, EventId, EndpointId));

/// A replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplayRow {
    pub(crate) request: ReplayRequest,
    pub(crate) created_at: Timestamp,
    /// The first event that it can be about,
    pub(crate) first: EventId,
    /// and the last.
    pub(crate) last: EventId,
    /// The endpoints whose numbers are from this one on have not begun,
    pub(crate) next: u32,
    /// and it is about those below this one.
    pub(crate) end: u32,
    /// Those that have begun and are not done, by number.
    pub(crate) lanes: Vec<ReplayLane>,
    /// How many are done, also because they were deleted.
    pub(crate) done: u32,
    /// Events or dead letters that were looked at.
    pub(crate) examined: u64,
    /// Deliveries that wait again, or for the first time, because of it.
    pub(crate) queued: u64,
    /// Why and since when it is over; none: it runs.
    pub(crate) ended: Option<(ReplayEnd, Timestamp)>,
}
row!(ReplayRow, 18, "replays", (OrgNo, ReplayId));

impl ReplayRow {
    /// Whether a step that begins there is the next one.
    pub(crate) fn is_at(&self, lane: ReplayLane) -> bool {
        let begins = (self.next..self.end).contains(&lane.number) && lane.from == self.first;
        self.ended.is_none() && (begins || self.lanes.contains(&lane))
    }

    /// The endpoint is there now; none: it is done.
    pub(crate) fn advance(&mut self, number: u32, reached: Option<EventId>) {
        self.next = self.next.max(number.saturating_add(1));
        self.lanes.retain(|lane| lane.number != number);
        self.done += u32::from(reached.is_none());
        self.lanes.extend(reached.map(|from| ReplayLane { number, from }));
        self.lanes.sort_unstable_by_key(|lane| lane.number);
    }
}

/// Marks a replay that runs; the key says it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunningRow;
row!(RunningRow, 19, "running", (OrgNo, ReplayId), resident);

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
