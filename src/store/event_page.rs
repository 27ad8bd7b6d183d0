//! A page of events, as every list of them gives it.

use super::schema::{EventBlock, EventEntry};
use crate::model::event::EventStatus;
use crate::model::id::EventId;
use crate::model::time::Timestamp;
use crate::rules::type_filter::TypeFilter;

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
    /// Bytes of its payload.
    pub payload_len: u32,
    /// Where it stands.
    pub status: EventStatus,
    /// When its payload was erased.
    pub erased_at: Option<Timestamp>,
}

impl EventItem {
    /// What a block has of the event.
    pub(super) fn of(entry: &EventEntry) -> Self {
        let EventEntry { id, position, payload_len, status, erased_at, .. } = *entry;
        Self { id, position, payload_len, status, erased_at }
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
}
