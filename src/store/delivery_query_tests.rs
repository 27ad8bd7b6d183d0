//! That lists of deliveries are what asking for each gives, in order, page by page.

use super::*;
use crate::model::command::{CancelDeliveries, Command, DeleteEndpoint};
use crate::model::delivery::Verdict;
use crate::model::org::InboxMode;
use crate::store::apply::tests::{AT_ONCE, Fixture, LATER, ORG, create_org, put_endpoint, route, settle, submit};

const EVENTS: u128 = 400;

/// Three endpoints: one that accepts, one with deliveries in every state, one that was deleted.
fn filled() -> Fixture {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    for id in [50, 51, 52] {
        state.apply(&put_endpoint(id));
    }
    for id in 1..=EVENTS {
        state.apply(&submit(id, 1, None));
        if id % 5 != 0 {
            state.apply(&route(id, &[50, 51, 52], if id % 7 == 0 { LATER } else { AT_ONCE }));
        }
        state.apply(&settle(id, 50, 1, Verdict::Delivered));
        match id % 4 {
            0 => state.apply(&settle(id, 51, 1, Verdict::RetryAt(Timestamp(900)))),
            1 => state.apply(&settle(id, 51, 1, Verdict::Dead(DeadReason::AttemptsExhausted))),
            2 => state.apply(&settle(id, 51, 1, Verdict::Delivered)),
            _ => continue,
        };
        if id == EVENTS / 2 {
            state.store.write_back().unwrap();
        }
    }
    state.apply(&Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(52) }));
    let events = (1..=EVENTS / 2).map(EventId).collect();
    state.apply(&Command::CancelDeliveries(CancelDeliveries { org: ORG, endpoint: EndpointId(52), events }));
    state
}

fn query(limit: usize) -> DeliveryQuery {
    DeliveryQuery { status: None, endpoint: None, event: None, since: None, until: None, after: None, limit }
}

/// All of it, page by page, and how many pages that took.
fn all(store: &Store, mut query: DeliveryQuery) -> (Vec<Delivery>, usize) {
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = store.deliveries(ORG, &query).unwrap();
        assert!(page.items.len() <= query.limit);
        found.extend(page.items);
        (query.after, pages) = (page.next, pages + 1);
        if query.after.is_none() {
            return (found, pages);
        }
    }
}

#[test]
fn a_list_is_what_asking_for_each_delivery_gives_newest_first_in_each_endpoint() {
    let state = filled();
    let each = (1..=3).flat_map(|number| (1..=EVENTS).rev().map(move |event| (number, EventId(event))));
    let one = |(number, event)| state.store.delivery(ORG, event, number).unwrap().map(|found| found.delivery);
    let expected: Vec<Delivery> = each.filter_map(one).collect();
    assert_eq!(expected.len(), 3 * 320);
    for status in DeliveryStatus::ALL {
        assert!(expected.iter().any(|delivery| delivery.standing.status() == status), "{status:?} is among them");
    }
    for limit in [1, 7, 64, 500] {
        for status in DeliveryStatus::ALL.map(Some).into_iter().chain([None]) {
            for endpoint in [None, Some(EndpointId(51)), Some(EndpointId(52)), Some(EndpointId(99))] {
                let wanted = |delivery: &&Delivery| {
                    status.is_none_or(|status| delivery.standing.status() == status)
                        && endpoint.is_none_or(|endpoint| delivery.endpoint == endpoint)
                };
                let expected: Vec<_> = expected.iter().filter(wanted).copied().collect();
                let (found, pages) = all(&state.store, DeliveryQuery { status, endpoint, ..query(limit) });
                assert_eq!(found, expected, "{status:?} {endpoint:?} by {limit}");
                assert_eq!(pages, expected.len().div_ceil(limit).max(1));
            }
        }
    }
    let (found, _) = all(&state.store, DeliveryQuery { event: Some(EventId(9)), ..query(2) });
    let expected: Vec<_> = expected.iter().filter(|delivery| delivery.event == EventId(9)).copied().collect();
    assert_eq!((found.len(), &found), (3, &expected), "of one event");
}

#[test]
fn times_are_those_in_the_ids_of_events() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1));
    state.apply(&put_endpoint(50));
    let id = |ms: u128| (ms << 80) + 5;
    for ms in 1..=200 {
        state.apply(&submit(id(ms), 1, None));
        state.apply(&route(id(ms), &[50], AT_ONCE));
    }
    let (since, until) = (Some(Timestamp(50)), Some(Timestamp(70)));
    let expected: Vec<_> = (50..70).rev().map(|ms| EventId(id(ms))).collect();
    for endpoint in [None, Some(EndpointId(50))] {
        let (found, _) = all(&state.store, DeliveryQuery { endpoint, since, until, ..query(6) });
        assert_eq!(found.iter().map(|delivery| delivery.event).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_page_looks_at_a_bounded_number_of_endpoints_and_goes_on_at_its_cursor() {
    const ENDPOINTS: u128 = 300;
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    for id in 0..ENDPOINTS {
        state.apply(&put_endpoint(10_000 + id));
    }
    state.apply(&submit(1, 1, None));
    state.apply(&route(1, &[10_000 + ENDPOINTS - 1], AT_ONCE));
    let (found, pages) = all(&state.store, query(10));
    assert_eq!((found.len(), found[0].endpoint_number), (1, 300));
    assert_eq!(pages, 3, "128 endpoints a page");
    let (found, pages) = all(&state.store, DeliveryQuery { event: Some(EventId(1)), ..query(10) });
    assert_eq!((found.len(), pages), (1, 1), "one event is looked for in more of them");
}
