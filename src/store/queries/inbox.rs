//! The inbox: an organization's events that nobody has acknowledged, the oldest first.

use crate::model::event::EventType;
use crate::model::id::{EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::type_filter::TypeFilter;
use crate::store::queries::event_page::{BLOCKS_AT_ONCE, BLOCKS_PER_PAGE_MAX, EventPage, Passing};
use crate::store::rows::schema::{EventBlock, OpenBits};
use crate::store::rows::state::State;
use crate::store::{StateError, Store};

/// The filters and the bounds of a page.
#[derive(Clone, Debug)]
pub struct InboxQuery {
    /// Only events after this event.
    pub after: Option<EventId>,
    /// Maximum number of events in the page.
    pub limit: usize,
    /// Only events of these types.
    pub types: TypeFilter,
    /// Only events received at or after this time.
    pub since: Option<Timestamp>,
}

impl InboxQuery {
    /// Adds the events of a block that match and come after `after`. Returns false if the page is
    /// full.
    fn add_block(
        &self,
        page: &mut EventPage,
        (block, open): (&EventBlock, OpenBits),
        after: EventId,
    ) -> bool {
        let passing = Passing::of(block, &self.types);
        let mut wanted = block.marked(open.0).filter(|entry| {
            entry.id > after
                && passing.has(entry)
                && self.since.is_none_or(|since| entry.received_at >= since)
        });
        wanted.all(|entry| page.add(entry, self.limit))
    }
}

/// The new events of an inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboxNews {
    /// The types of the new events, each once.
    pub types: Vec<EventType>,
    /// The newest event of the organization.
    pub seen: EventId,
    /// Set if all new events were looked at.
    pub is_complete: bool,
}

/// Maximum number of chunks that are read to fill a page with at least one event.
const CHUNKS_FOR_MORE_MAX: usize = 8;
/// Maximum number of blocks that are read to find the new events.
const NEWS_BLOCKS_MAX: usize = 64;

impl Store {
    /// Returns the newest event of an organization. The smallest id if there is no event.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn newest_event(&self, org: OrgNo) -> Result<EventId, StateError> {
        newest(&self.read(), org)
    }

    /// Returns the events that came into the inbox after an event and are still there.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn inbox_news(&self, org: OrgNo, after: EventId) -> Result<InboxNews, StateError> {
        let state = self.read();
        let mut news = InboxNews { seen: newest(&state, org)?, ..InboxNews::default() };
        let begins = state.open.at_or_before((org, EventId(0)), (org, after))?;
        let from = begins.map_or((org, after), |(key, _)| key);
        let blocks = state.open.range(from..=(org, EventId(u128::MAX)), NEWS_BLOCKS_MAX)?;
        news.is_complete = blocks.len() < NEWS_BLOCKS_MAX;
        for ((_, first), open) in &blocks {
            let block = state.events.promised((org, *first))?;
            for entry in block.marked(open.0).filter(|entry| entry.id > after) {
                if let Some(event_type) = block.event_type(entry)
                    && !news.types.contains(event_type)
                {
                    news.types.push(event_type.clone());
                }
            }
        }
        Ok(news)
    }

    /// Returns a page of the inbox. The cost does not depend on how deep the page lies.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn inbox(&self, org: OrgNo, query: &InboxQuery) -> Result<EventPage, StateError> {
        // The time in an id is never before the time of receipt, because ids do not go back with
        // the clock. So no event received since then has a smaller id.
        let since = query.since.map_or(0, |since| EventId::first_of(since).0.saturating_sub(1));
        let mut after = EventId(query.after.map_or(0, |id| id.0).max(since));
        let last = (org, EventId(u128::MAX));
        let begins = self.read().open.at_or_before((org, EventId(0)), (org, after))?;
        let mut from = begins.map_or((org, after), |(key, _)| key);
        // Every later event has a larger id.
        let mut page =
            EventPage { seen: newest(&self.read(), org)?.max(after), ..EventPage::default() };
        let mut chunks_since_found = 0;
        for _ in 0..BLOCKS_PER_PAGE_MAX / BLOCKS_AT_ONCE {
            // A page with an event is returned soon, before many blocks are read that may hold
            // nothing more.
            if !page.items.is_empty() {
                chunks_since_found += 1;
                if chunks_since_found > CHUNKS_FOR_MORE_MAX {
                    break;
                }
            }
            // Each chunk takes its own lock, so a long search blocks nobody.
            let state = self.read();
            let blocks = state.open.range(from..=last, BLOCKS_AT_ONCE)?;
            let Some(((_, last_first), _)) = blocks.last() else { return Ok(page) };
            from = (org, EventId(last_first.0 + 1));
            for ((_, first), open) in &blocks {
                let block = state.events.promised((org, *first))?;
                if !query.add_block(&mut page, (&block, **open), after) {
                    return Ok(page);
                }
                after = block.events.last().map_or(after, |entry| entry.id.max(after));
            }
        }
        page.next = Some(after);
        page.seen = after;
        Ok(page)
    }
}

/// Returns the last event of the last block of an organization. The smallest id if there is none.
pub(in crate::store) fn newest(state: &State, org: OrgNo) -> Result<EventId, StateError> {
    let (first, block) = match state.inboxes.get(org)?.and_then(|inbox| inbox.tail) {
        Some(tail) => (tail, state.events.promised((org, tail))?),
        // There is no tail after the last block has expired, but there may be older blocks.
        None => match state.events.last((org, EventId(0))..=(org, EventId(u128::MAX)))? {
            Some(((_, first), block)) => (first, block),
            None => return Ok(EventId(0)),
        },
    };
    Ok(block.events.last().map_or(first, |entry| entry.id))
}
