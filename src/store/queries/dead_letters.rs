//! Dead letters: deliveries that were given up, in the order of their death.

use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::queries::delivery::{Delivery, Target};
use crate::store::{StateError, Store};

/// Number of rows that are read at once.
const ROWS_AT_ONCE: usize = 500;
/// Number of rows that are read for one page. With a filter that matches little, a page may be
/// short and continue at its cursor.
const ROWS_PER_PAGE_MAX: usize = 10_000;

/// A place in the list: the time of death, the event and the endpoint.
pub type DeadPlace = (Timestamp, EventId, EndpointId);

/// The filters and the bounds of a page.
#[derive(Clone, Copy, Debug)]
pub struct DeadQuery {
    /// Only deliveries to this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Only deliveries given up at or after this time.
    pub since: Option<Timestamp>,
    /// Only deliveries given up before this time.
    pub until: Option<Timestamp>,
    /// Only dead letters after this place.
    pub after: Option<DeadPlace>,
    /// Maximum number of dead letters in the page.
    pub limit: usize,
    /// Set to list the oldest first. Otherwise the newest come first.
    pub oldest_first: bool,
    /// Set to include dead letters of deleted endpoints.
    pub with_deleted: bool,
}

/// A page of dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadPage {
    /// The dead letters, in the requested order.
    pub items: Vec<Delivery>,
    /// The place after which the next page begins. Absent at the end of the list.
    pub next: Option<DeadPlace>,
}

impl Store {
    /// Returns a page of the organization's dead letters. Reads a bounded number of rows, however
    /// deep the page lies.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn dead_letters(&self, org: OrgNo, query: &DeadQuery) -> Result<DeadPage, StateError> {
        let mut page = DeadPage::default();
        let mut last: Option<DeadPlace> = None;
        let mut behind = query.after;
        for _ in 0..ROWS_PER_PAGE_MAX / ROWS_AT_ONCE {
            // Each chunk takes its own lock, so a long search blocks nobody.
            let state = self.read();
            let Some((first, end)) = bounds(query, behind) else { return Ok(page) };
            let key = |(at, event, endpoint): DeadPlace| (org, at, event, endpoint);
            let range = key(first)..=key(end);
            let rows = if query.oldest_first {
                state.dead.range(range, ROWS_AT_ONCE)?
            } else {
                state.dead.range_back(range, ROWS_AT_ONCE)?
            };
            for ((_, at, event, endpoint), _) in &rows {
                behind = Some((*at, *event, *endpoint));
                let wanted = query.endpoint.is_none_or(|wanted| wanted == *endpoint)
                    && (query.with_deleted || state.endpoints.get(*endpoint)?.is_some());
                let Some(target) = Target::of(&state, org, *endpoint)?.filter(|_| wanted) else {
                    continue;
                };
                if page.items.len() >= query.limit {
                    page.next = last;
                    return Ok(page);
                }
                let row = state.deliveries.promised((*endpoint, *event))?;
                page.items.push(target.of_row(*event, &row));
                last = behind;
            }
            if rows.len() < ROWS_AT_ONCE {
                return Ok(page);
            }
        }
        page.next = behind;
        Ok(page)
    }
}

/// Returns the first and the last matching place. `None` if no place matches.
fn bounds(query: &DeadQuery, behind: Option<DeadPlace>) -> Option<(DeadPlace, DeadPlace)> {
    let (no_event, every_event) =
        ((EventId(0), EndpointId(0)), (EventId(u128::MAX), EndpointId(u128::MAX)));
    let since = query.since.unwrap_or(Timestamp(0));
    let until = query.until.map_or(Some(u64::MAX), |until| until.0.checked_sub(1))?;
    let (mut first, mut end) =
        ((since, no_event.0, no_event.1), (Timestamp(until), every_event.0, every_event.1));
    if let Some((at, event, endpoint)) = behind {
        if query.oldest_first {
            first = first.max((at, event, EndpointId(endpoint.0.saturating_add(1))));
        } else {
            end = end.min((at, event, EndpointId(endpoint.0.saturating_sub(1))));
        }
    }
    (first <= end).then_some((first, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::{
        AT_ONCE, Fixture, ORG, create_org, put_endpoint, route, settle, submit,
    };
    use crate::commands::{Command, DeleteEndpoint};
    use crate::model::delivery::{DeadReason, Verdict};
    use crate::model::org::InboxMode;

    const EVENTS: u128 = 1_300;

    fn died_at(event: u128) -> u64 {
        1_000 + u64::try_from(event % 100).unwrap()
    }

    /// Each event is a dead letter of both endpoints.
    fn dead_letters() -> Fixture {
        let mut state = Fixture::new();
        state.apply(&create_org(InboxMode::Auto, 1_000_000));
        for id in [50, 51] {
            state.apply(&put_endpoint(id));
        }
        let dead = Verdict::Dead(DeadReason::AttemptsExhausted);
        for id in 1..=EVENTS {
            state.apply(&submit(id, 1, None));
            state.apply(&route(id, &[50, 51], AT_ONCE));
            for endpoint in [50, 51] {
                let mut settle = settle(id, endpoint, 1, dead);
                if let Command::SettleAttempt(settle) = &mut settle {
                    settle.outcome.started_at = Timestamp(died_at(id));
                    settle.outcome.duration_ms = 0;
                }
                state.apply(&settle);
            }
        }
        state.store.write_back().unwrap();
        state
    }

    fn query(limit: usize, oldest_first: bool) -> DeadQuery {
        DeadQuery {
            endpoint: None,
            since: None,
            until: None,
            after: None,
            limit,
            oldest_first,
            with_deleted: !oldest_first,
        }
    }

    /// Returns the times, events and endpoints of all dead letters of a query, page by page.
    fn pages(state: &Fixture, mut query: DeadQuery) -> Vec<(u64, u128, u128)> {
        let mut found = Vec::new();
        loop {
            let page = state.store.dead_letters(ORG, &query).unwrap();
            assert!(page.items.len() <= query.limit);
            let items = page.items.iter();
            found.extend(items.map(|it| (died_at(it.event.0), it.event.0, it.endpoint.0)));
            query.after = page.next;
            if query.after.is_none() {
                return found;
            }
        }
    }

    #[test]
    fn dead_letters_are_listed_by_when_they_died_page_by_page() {
        let mut state = dead_letters();
        let mut oldest: Vec<_> =
            (1..=EVENTS).flat_map(|id| [50, 51].map(|to| (died_at(id), id, to))).collect();
        oldest.sort_unstable();
        let newest: Vec<_> = oldest.iter().rev().copied().collect();
        for limit in [7, 499, 500, 501] {
            assert_eq!(pages(&state, query(limit, true)), oldest, "by {limit}");
            assert_eq!(pages(&state, query(limit, false)), newest, "by {limit}");
        }
        let (since, until, endpoint) =
            (Some(Timestamp(1_020)), Some(Timestamp(1_022)), Some(EndpointId(51)));
        let found = pages(&state, DeadQuery { endpoint, since, until, ..query(9, false) });
        let expected: Vec<_> = newest
            .iter()
            .filter(|(at, _, to)| (1_020..1_022).contains(at) && *to == 51)
            .copied()
            .collect();
        assert_eq!((found.len(), found), (26, expected));
        state
            .apply(&Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(50) }));
        let all = |query: DeadQuery| state.store.dead_letters(ORG, &query).unwrap().items.len();
        assert_eq!(
            (all(query(5_000, true)), all(query(5_000, false))),
            (1_300, 2_600),
            "also of a deleted endpoint"
        );
    }
}
