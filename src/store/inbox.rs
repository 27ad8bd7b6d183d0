//! The inbox: an organization's events that nobody has confirmed, oldest first.

use super::event_page::{BLOCKS_AT_ONCE, BLOCKS_PER_PAGE_MAX, EventItem, EventPage, Passing};
use super::table::State;
use super::{StateError, Store};
use crate::model::event::EventType;
use crate::model::id::{EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::type_filter::TypeFilter;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct InboxQuery {
    /// Only behind this event.
    pub after: Option<EventId>,
    /// At most so many.
    pub limit: usize,
    /// Only of these types.
    pub types: TypeFilter,
    /// Only taken in at or after this.
    pub since: Option<Timestamp>,
}

/// What came into an inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboxNews {
    /// The types of what came, each once.
    pub types: Vec<EventType>,
    /// The newest event there is.
    pub seen: EventId,
    /// Whether all that came was looked at.
    pub is_complete: bool,
}

/// Portions looked through to fill a page that has something.
const PORTIONS_FOR_MORE_MAX: usize = 8;
/// Blocks looked at to find out what came; more is not looked through.
const NEWS_BLOCKS_MAX: usize = 64;

impl Store {
    /// The newest event of an organization; the smallest id if it has none.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn newest_event(&self, org: OrgNo) -> Result<EventId, StateError> {
        newest(&self.read(), org)
    }

    /// What came into an inbox behind an event and is still there.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn inbox_news(&self, org: OrgNo, after: EventId) -> Result<InboxNews, StateError> {
        let state = self.read();
        let mut news = InboxNews { seen: newest(&state, org)?, ..InboxNews::default() };
        let begins = state.open.last((org, EventId(0))..=(org, after))?;
        let from = begins.map_or((org, after), |(key, _)| key);
        let blocks = state.open.range(from..=(org, EventId(u128::MAX)), NEWS_BLOCKS_MAX)?;
        news.is_complete = blocks.len() < NEWS_BLOCKS_MAX;
        for ((_, first), open) in &blocks {
            let block = state.events.promised((org, *first))?;
            let in_inbox = block.events.iter().enumerate().filter(|(place, _)| open.0 & (1 << place) != 0);
            for (_, entry) in in_inbox.filter(|(_, entry)| entry.id > after) {
                if let Some(event_type) = block.event_type(entry)
                    && !news.types.contains(event_type)
                {
                    news.types.push(event_type.clone());
                }
            }
        }
        Ok(news)
    }

    /// A page of the inbox. Costs what the page holds, however deep it lies.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub fn inbox(&self, org: OrgNo, query: &InboxQuery) -> Result<EventPage, StateError> {
        // An id's time is never before the time its event was taken in (ids do not go back with the clock), so nothing
        // taken in since then has a smaller id.
        let since = query.since.map_or(0, |since| EventId::first_of(since).0.saturating_sub(1));
        let mut after = EventId(query.after.map_or(0, |id| id.0).max(since));
        let last = (org, EventId(u128::MAX));
        let begins = self.read().open.last((org, EventId(0))..=(org, after))?;
        let mut from = begins.map_or((org, after), |(key, _)| key);
        // Whatever comes later has a larger id.
        let mut page = EventPage { seen: newest(&self.read(), org)?.max(after), ..EventPage::default() };
        let mut portions_since_found = 0;
        for _ in 0..BLOCKS_PER_PAGE_MAX / BLOCKS_AT_ONCE {
            // Whoever has something need not wait until much is looked through that may hold nothing more.
            if !page.items.is_empty() {
                portions_since_found += 1;
                if portions_since_found > PORTIONS_FOR_MORE_MAX {
                    break;
                }
            }
            // A lock for each portion: a long search holds up nobody.
            let state = self.read();
            let blocks = state.open.range(from..=last, BLOCKS_AT_ONCE)?;
            let Some(((_, last_first), _)) = blocks.last() else { return Ok(page) };
            from = (org, EventId(last_first.0 + 1));
            for ((_, first), open) in &blocks {
                let block = state.events.promised((org, *first))?;
                let passing = Passing::of(&block, &query.types);
                let in_inbox = block.events.iter().enumerate().filter(|(place, _)| open.0 & (1 << place) != 0);
                for (_, entry) in in_inbox.filter(|(_, entry)| entry.id > after) {
                    let wanted = passing.has(entry) && query.since.is_none_or(|since| entry.received_at >= since);
                    if !wanted {
                        continue;
                    }
                    if page.items.len() == query.limit {
                        page.next = page.items.last().map(|item| item.id);
                        return Ok(page);
                    }
                    page.items.push(EventItem::of(entry));
                }
                after = block.events.last().map_or(after, |entry| entry.id.max(after));
            }
        }
        page.next = Some(after);
        page.seen = after;
        Ok(page)
    }
}

fn newest(state: &State, org: OrgNo) -> Result<EventId, StateError> {
    let Some(tail) = state.inboxes.get(org)?.and_then(|inbox| inbox.tail) else { return Ok(EventId(0)) };
    let block = state.events.promised((org, tail))?;
    Ok(block.events.last().map_or(tail, |entry| entry.id))
}
