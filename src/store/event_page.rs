//! A page of events, as every list of them gives it.

use super::StateError;
use super::schema::{EventBlock, EventEntry};
use super::table::State;
use crate::model::event::EventStatus;
use crate::model::id::{EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::type_filter::TypeFilter;

/// The last time that an id can carry: 48 bits of milliseconds.
const LAST_OF_IDS: Timestamp = Timestamp((1 << 48) - 1);

/// When something was received: events are asked for by that, and lie in the order of their ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// At this time or later,
    pub(super) since: Option<Timestamp>,
    /// and before this one.
    pub(super) until: Option<Timestamp>,
}

impl Received {
    pub(super) fn contains(self, received_at: Timestamp) -> bool {
        self.since.is_none_or(|since| received_at >= since) && self.until.is_none_or(|until| received_at < until)
    }

    /// The ids that such events can have: from the first up to, and without, the second. An id's time is never before the
    /// time its event was received, and ahead of it by `ids_ahead_ms` at most.
    pub(super) fn ids(self, ids_ahead_ms: u64) -> (EventId, EventId) {
        let end = |until: Timestamp| EventId::first_of(until.plus_ms(ids_ahead_ms).min(LAST_OF_IDS));
        let first = self.since.map_or(EventId(0), EventId::first_of);
        (first, self.until.map_or(EventId(u128::MAX), end))
    }

    /// Whether an event was received then, as far as its id tells.
    pub(super) fn of_id(self, event: EventId, ids_ahead_ms: u64) -> Option<bool> {
        let latest = Timestamp(event.unix_ms());
        let earliest = latest.minus_ms(ids_ahead_ms);
        let (first, last) = (self.contains(earliest), self.contains(latest));
        let is_outside =
            self.since.is_some_and(|since| latest < since) || self.until.is_some_and(|until| earliest >= until);
        if is_outside { Some(false) } else { (first && last).then_some(true) }
    }
}

/// How far the times in an organization's event ids are ahead of when those were received, at most.
pub(super) fn ids_ahead_ms(state: &State, org: OrgNo) -> Result<u64, StateError> {
    Ok(state.inboxes.get(org)?.map_or(0, |row| row.ids_ahead_ms))
}

/// Blocks looked at for one page: with a filter that matches little, a page may be short and go on at its cursor.
pub(super) const BLOCKS_PER_PAGE_MAX: usize = 2_000;
/// Blocks fetched at a time.
pub(super) const BLOCKS_AT_ONCE: usize = 16;

/// One event of a page; its payload and the rest are in the journal at `position`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventItem {
    /// Its id.
    pub id: EventId,
    /// Journal position of the frame that holds it.
    pub position: u64,
    /// Bytes of its payload, labels and attributes.
    pub bytes: u32,
    /// Where it stands.
    pub status: EventStatus,
    /// When its payload was erased.
    pub erased_at: Option<Timestamp>,
}

impl EventItem {
    /// What a block has of the event.
    pub(super) fn of(entry: &EventEntry) -> Self {
        let EventEntry { id, position, bytes, status, erased_at, .. } = *entry;
        Self { id, position, bytes, status, erased_at }
    }
}

/// Which of a block's events have a type that passes the filter.
pub(super) struct Passing(Vec<bool>);

impl Passing {
    pub(super) fn of(block: &EventBlock, filter: &TypeFilter) -> Self {
        Self(block.types.iter().map(|event_type| filter.matches(event_type)).collect())
    }

    pub(super) fn has(&self, entry: &EventEntry) -> bool {
        self.0.get(usize::from(entry.type_no)) == Some(&true)
    }
}

/// A page of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventPage {
    /// The events, in the order of the list.
    pub items: Vec<EventItem>,
    /// Where the next page begins, if there may be more: behind this event.
    pub next: Option<EventId>,
    /// Of an inbox whose page is empty: nothing up to this event is asked for, and nothing that comes later is before it.
    pub seen: EventId,
}
