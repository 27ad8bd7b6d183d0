//! A page of events, for every list of events.

use crate::journal::Position;
use crate::model::event::EventStatus;
use crate::model::id::{EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::type_filter::TypeFilter;
use crate::store::StateError;
use crate::store::rows::schema::{EventBlock, EventEntry};
use crate::store::rows::state::State;

/// The last time that an id can hold: 48 bits of milliseconds.
const LAST_OF_IDS: Timestamp = Timestamp((1 << 48) - 1);

/// A filter on the time of receipt. Events are sorted by their ids, and the filter finds the ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Received {
    /// Only events received at or after this time.
    pub(in crate::store) since: Option<Timestamp>,
    /// Only events received before this time.
    pub(in crate::store) until: Option<Timestamp>,
}

impl Received {
    pub(in crate::store) fn contains(self, received_at: Timestamp) -> bool {
        self.since.is_none_or(|since| received_at >= since)
            && self.until.is_none_or(|until| received_at < until)
    }

    /// Returns the range of ids that such events can have, without the second id. The time in an id
    /// is never before the time of receipt, and at most `ids_ahead_ms` after it.
    pub(in crate::store) fn ids(self, ids_ahead_ms: u64) -> (EventId, EventId) {
        let end =
            |until: Timestamp| EventId::first_of(until.plus_ms(ids_ahead_ms).min(LAST_OF_IDS));
        let first = self.since.map_or(EventId(0), EventId::first_of);
        (first, self.until.map_or(EventId(u128::MAX), end))
    }

    /// Returns true or false if the id alone decides, otherwise `None`.
    pub(in crate::store) fn of_id(self, event: EventId, ids_ahead_ms: u64) -> Option<bool> {
        let latest = Timestamp(event.unix_ms());
        let earliest = latest.minus_ms(ids_ahead_ms);
        let (first, last) = (self.contains(earliest), self.contains(latest));
        let is_outside = self.since.is_some_and(|since| latest < since)
            || self.until.is_some_and(|until| earliest >= until);
        if is_outside { Some(false) } else { (first && last).then_some(true) }
    }
}

/// Returns the maximum by which the times in an organization's event ids are ahead of the times of
/// receipt.
pub(in crate::store) fn ids_ahead_ms(state: &State, org: OrgNo) -> Result<u64, StateError> {
    Ok(state.inboxes.get(org)?.map_or(0, |row| row.ids_ahead_ms))
}

/// Maximum number of blocks that are read for one page. With a filter that matches little, a page
/// may be short and continue at its cursor.
pub(in crate::store) const BLOCKS_PER_PAGE_MAX: usize = 2_000;
/// Number of blocks that are read at once.
pub(in crate::store) const BLOCKS_AT_ONCE: usize = 16;

/// One event of a page. Its payload and labels are in the journal at `position`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventItem {
    /// The id of the event.
    pub id: EventId,
    /// The journal position of the event.
    pub position: Position,
    /// The size of payload, labels and attributes, in bytes.
    pub bytes: u32,
    /// The status of the event.
    pub status: EventStatus,
    /// The time at which the payload was erased.
    pub erased_at: Option<Timestamp>,
}

impl EventItem {
    /// Copies the item from the entry of a block.
    pub(in crate::store) fn of(entry: &EventEntry) -> Self {
        let EventEntry { id, position, bytes, status, erased_at, .. } = *entry;
        Self { id, position, bytes, status, erased_at }
    }
}

/// For each type of a block, true if the filter matches.
pub(in crate::store) struct Passing(Vec<bool>);

impl Passing {
    pub(in crate::store) fn of(block: &EventBlock, filter: &TypeFilter) -> Self {
        Self(block.types.iter().map(|event_type| filter.matches(event_type)).collect())
    }

    pub(in crate::store) fn has(&self, entry: &EventEntry) -> bool {
        self.0.get(usize::from(entry.type_no)) == Some(&true)
    }
}

/// A page of a list of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventPage {
    /// The events, in the order of the list.
    pub items: Vec<EventItem>,
    /// The event after which the next page begins. Absent at the end of the list.
    pub next: Option<EventId>,
    /// Only for an empty page of an inbox: no event up to this id matches, and every later event
    /// has a larger id.
    pub seen: EventId,
}

impl EventPage {
    /// Adds an event and returns true. If the page has `limit` events, ends it here and returns
    /// false.
    pub(in crate::store) fn add(&mut self, entry: &EventEntry, limit: usize) -> bool {
        if self.items.len() == limit {
            self.next = self.items.last().map(|item| item.id);
            return false;
        }
        self.items.push(EventItem::of(entry));
        true
    }
}
