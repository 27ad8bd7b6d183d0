//! All events of an organization, acknowledged or not, the newest first.

use crate::model::event::EventStatus;
use crate::model::id::{EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::type_filter::TypeFilter;
use crate::store::queries::event_page::{
    BLOCKS_AT_ONCE, BLOCKS_PER_PAGE_MAX, EventPage, Passing, Received, ids_ahead_ms,
};
use crate::store::{StateError, Store};

/// The filters and the bounds of a page.
#[derive(Clone, Debug)]
pub struct EventQuery {
    /// Only events before this event.
    pub before: Option<EventId>,
    /// Maximum number of events in the page.
    pub limit: usize,
    /// Only events of these types.
    pub types: TypeFilter,
    /// Only events with this status.
    pub status: Option<EventStatus>,
    /// Only events received at or after this time.
    pub since: Option<Timestamp>,
    /// Only events received before this time.
    pub until: Option<Timestamp>,
}

/// Events, each with its time of receipt.
pub type ReceivedEvents = Vec<(EventId, Timestamp)>;

impl Store {
    /// Returns a page of events, the newest first. The cost does not depend on how deep the page
    /// lies.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn events(&self, org: OrgNo, query: &EventQuery) -> Result<EventPage, StateError> {
        let received = Received { since: query.since, until: query.until };
        let (first, end) = received.ids(ids_ahead_ms(&self.read(), org)?);
        let mut before = query.before.map_or(end, |before| before.min(end));
        let mut page = EventPage::default();
        for _ in 0..BLOCKS_PER_PAGE_MAX / BLOCKS_AT_ONCE {
            let Some(last) = before.0.checked_sub(1).filter(|_| before > first) else {
                return Ok(page);
            };
            // Each chunk takes its own lock, so a long search blocks nobody.
            let blocks = self
                .read()
                .events
                .range_back((org, EventId(0))..=(org, EventId(last)), BLOCKS_AT_ONCE)?;
            for (_, block) in &blocks {
                let passing = Passing::of(block, &query.types);
                let existing = block.existing().rev().map(|(_, entry)| entry);
                let mut wanted = existing.filter(|entry| {
                    (first..before).contains(&entry.id)
                        && received.contains(entry.received_at)
                        && passing.has(entry)
                        && query.status.is_none_or(|wanted| entry.status == wanted)
                });
                if !wanted.all(|entry| page.add(entry, query.limit)) {
                    return Ok(page);
                }
            }
            let Some(((_, lowest), _)) = blocks.last().filter(|_| blocks.len() == BLOCKS_AT_ONCE)
            else {
                return Ok(page);
            };
            before = *lowest;
        }
        page.next = Some(before);
        Ok(page)
    }
}

impl Store {
    /// Returns the next events of the organization that were received in this time, in the order
    /// of their ids and each with its time of receipt, and the block behind which the search goes
    /// on, if there may be more. It begins behind the block `after`, or with the first event of
    /// this time.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn received_events(
        &self,
        org: OrgNo,
        (since, until): (Timestamp, Timestamp),
        after: Option<EventId>,
    ) -> Result<(ReceivedEvents, Option<EventId>), StateError> {
        let state = self.read();
        let received = Received { since: Some(since), until: Some(until) };
        let (first, end) = received.ids(ids_ahead_ms(&state, org)?);
        let from = match after {
            Some(after) => after.next(),
            // The first event of this time may be in the middle of a block.
            None => state
                .events
                .range_back((org, EventId(0))..=(org, first), 1)?
                .first()
                .map_or(first, |((_, block), _)| *block),
        };
        let last = EventId(end.0.saturating_sub(1));
        if from > last {
            return Ok((Vec::new(), None));
        }
        let blocks = state.events.range((org, from)..=(org, last), BLOCKS_AT_ONCE)?;
        let entries = blocks.iter().flat_map(|(_, block)| block.existing());
        let wanted = entries.filter(|(_, entry)| received.contains(entry.received_at));
        let events = wanted.map(|(_, entry)| (entry.id, entry.received_at)).collect();
        let next = blocks.last().filter(|_| blocks.len() == BLOCKS_AT_ONCE);
        Ok((events, next.map(|((_, block), _)| *block)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::{Fixture, ORG, ack, create_org, submit};
    use crate::model::org::InboxMode;

    fn every_event() -> EventQuery {
        let (before, types, status) = (None, TypeFilter::default(), None);
        EventQuery { before, limit: 500, types, status, since: None, until: None }
    }

    /// Returns the ids of all events of a query, page by page.
    fn pages(store: &Store, mut query: EventQuery) -> Vec<u128> {
        let mut found = Vec::new();
        loop {
            let page = store.events(ORG, &query).unwrap();
            assert!(page.items.len() <= query.limit);
            found.extend(page.items.iter().map(|item| item.id.0));
            query.before = page.next;
            if query.before.is_none() {
                return found;
            }
        }
    }

    /// Returns the ids of all events of this time, the oldest first.
    fn oldest_first(store: &Store, time: (Timestamp, Timestamp)) -> Vec<u128> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (events, next) = store.received_events(ORG, time, after).unwrap();
            found.extend(events.iter().map(|(event, _)| event.0));
            after = next;
            if after.is_none() {
                return found;
            }
        }
    }

    #[test]
    fn events_are_listed_newest_first_page_by_page() {
        const EVENTS: u128 = 1_500;
        let mut state = Fixture::new();
        state.apply(&create_org(InboxMode::Auto, 1));
        for n in 1..=EVENTS {
            state.apply(&submit(n << 80, u64::try_from(n).unwrap(), None));
            if n % 3 == 0 {
                state.apply(&ack(n << 80));
            }
            if n == 700 {
                state.store.write_back().unwrap();
            }
        }
        let all = |query| pages(&state.store, query).into_iter().map(|id| id >> 80);
        let query = |limit| EventQuery { limit, ..every_event() };
        for limit in [7, 64, 500] {
            assert!(all(query(limit)).eq((1..=EVENTS).rev()), "by {limit}");
        }
        let status = Some(EventStatus::Acknowledged);
        let (since, until) = (Some(Timestamp(90)), Some(Timestamp(300)));
        let found = all(EventQuery { status, since, until, ..query(9) });
        assert!(found.eq((90..300).rev().filter(|n| n % 3 == 0)));
        let types = "other".parse().unwrap();
        assert_eq!(all(EventQuery { types, ..query(9) }).count(), 0);
    }

    /// The clock goes forward, back and forward again. The time in an id never goes back.
    #[test]
    fn a_time_is_when_an_event_was_received_wherever_the_clock_has_been() {
        let received =
            (0..400_u64).chain(100..300).chain(1_000..1_200).chain(50..60).chain(2_000..2_010);
        let received: Vec<u64> = received.collect();
        let mut state = Fixture::new();
        state.apply(&create_org(InboxMode::Auto, 1));
        let mut steady = 0;
        let mut events = Vec::new();
        for (n, at) in (1_u128..).zip(received) {
            steady = at.max(steady + 1);
            events.push(((u128::from(steady) << 80) + n, at));
            state.apply(&submit((u128::from(steady) << 80) + n, at, None));
        }
        assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
        let times =
            [None, Some(0), Some(55), Some(150), Some(350), Some(999), Some(1_100), Some(5_000)];
        for (since, until) in times.into_iter().flat_map(|since| times.map(|until| (since, until)))
        {
            let is_wanted = |at: u64| {
                since.is_none_or(|since| at >= since) && until.is_none_or(|until| at < until)
            };
            let expected: Vec<u128> =
                events.iter().rev().filter(|(_, at)| is_wanted(*at)).map(|(id, _)| *id).collect();
            let (since, until) = (since.map(Timestamp), until.map(Timestamp));
            let found =
                pages(&state.store, EventQuery { limit: 33, since, until, ..every_event() });
            assert_eq!(found, expected, "{since:?} to {until:?}");
            let time = (since.unwrap_or(Timestamp(0)), until.unwrap_or(Timestamp(u64::MAX)));
            let forward: Vec<u128> = found.into_iter().rev().collect();
            assert_eq!(oldest_first(&state.store, time), forward, "{since:?} to {until:?}");
        }
    }
}
