//! Tests that a list of deliveries equals the single lookups, in order, page by page.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::commands::tests::{
    AT_ONCE, Fixture, LATER, ORG, create_org, put_endpoint, route, settle, submit,
};
use crate::commands::{CancelDeliveries, Command, DeleteEndpoint};
use crate::model::delivery::{DeadReason, Verdict};
use crate::model::org::InboxMode;
use crate::store::queries::delivery::DeliverySituation;

const EVENTS: u128 = 400;

/// Creates three endpoints: the first accepts, the second has deliveries in every state, the third
/// was deleted.
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
    state.apply(&Command::CancelDeliveries(CancelDeliveries {
        org: ORG,
        endpoint: EndpointId(52),
        events,
    }));
    state
}

fn query(limit: usize) -> DeliveryQuery {
    DeliveryQuery {
        status: None,
        endpoint: None,
        event: None,
        since: None,
        until: None,
        after: None,
        limit,
    }
}

/// Returns all deliveries, page by page, and the number of pages.
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
    let each =
        (1..=3).flat_map(|number| (1..=EVENTS).rev().map(move |event| (number, EventId(event))));
    let one = |(number, event)| {
        state.store.delivery(ORG, event, number).unwrap().map(|found| found.delivery)
    };
    let expected: Vec<Delivery> = each.filter_map(one).collect();
    assert_eq!(expected.len(), 3 * 320);
    for status in DeliveryStatus::ALL.iter().copied() {
        assert!(
            expected.iter().any(|delivery| delivery.situation.status() == status),
            "{status:?} is among them"
        );
    }
    for limit in [1, 7, 64, 500] {
        for status in DeliveryStatus::ALL.iter().copied().map(Some).chain([None]) {
            for endpoint in [None, Some(EndpointId(51)), Some(EndpointId(52)), Some(EndpointId(99))]
            {
                let wanted = |delivery: &&Delivery| {
                    status.is_none_or(|status| delivery.situation.status() == status)
                        && endpoint.is_none_or(|endpoint| delivery.endpoint == endpoint)
                };
                let expected: Vec<_> = expected.iter().filter(wanted).copied().collect();
                let (found, pages) =
                    all(&state.store, DeliveryQuery { status, endpoint, ..query(limit) });
                assert_eq!(found, expected, "{status:?} {endpoint:?} by {limit}");
                assert_eq!(pages, expected.len().div_ceil(limit).max(1));
            }
        }
    }
    let (found, _) = all(&state.store, DeliveryQuery { event: Some(EventId(9)), ..query(2) });
    let expected: Vec<_> =
        expected.iter().filter(|delivery| delivery.event == EventId(9)).copied().collect();
    assert_eq!((found.len(), &found), (3, &expected), "of one event");
}

#[test]
fn times_are_those_in_the_ids_of_events() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1));
    state.apply(&put_endpoint(50));
    let id = |ms: u128| (ms << 80) + 5;
    for ms in 1..=200 {
        // The clock was set back after the first half. Ids continue to grow.
        let received_at = u64::try_from(if ms <= 100 { ms } else { ms - 50 }).unwrap();
        state.apply(&submit(id(ms), received_at, None));
        state.apply(&route(id(ms), &[50], if ms % 3 == 0 { LATER } else { AT_ONCE }));
    }
    let (since, until) = (Some(Timestamp(50)), Some(Timestamp(70)));
    let expected: Vec<_> =
        (101..120).rev().chain((50..70).rev()).map(|ms| EventId(id(ms))).collect();
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

fn delete(id: u128) -> Command {
    Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(id) })
}

fn of_event(id: u128, limit: usize) -> DeliveryQuery {
    DeliveryQuery { event: Some(EventId(id)), ..query(limit) }
}

/// Creates an event for two endpoints, then many endpoints that are deleted again, then another
/// event for the two endpoints and an endpoint that is deleted after the event.
fn after_many_ended(ended: u128) -> Fixture {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    for id in [50, 51] {
        state.apply(&put_endpoint(id));
    }
    state.apply(&submit(1, 1, None));
    state.apply(&route(1, &[50, 51], AT_ONCE));
    for id in 10_000..10_000 + ended {
        state.apply(&put_endpoint(id));
        state.apply(&delete(id));
    }
    state.apply(&put_endpoint(20_000));
    state.apply(&submit(2, 1, None));
    state.apply(&route(2, &[50, 51, 20_000], AT_ONCE));
    state.apply(&delete(20_000));
    state.store.write_back().unwrap();
    state
}

#[test]
fn a_page_of_a_recent_events_deliveries_is_complete_at_once_however_many_endpoints_there_were() {
    let state = after_many_ended(5_000);
    let page = state.store.deliveries(ORG, &of_event(2, 10)).unwrap();
    let found: Vec<_> =
        page.items.iter().map(|it| (it.endpoint_number, it.situation.status())).collect();
    let pending = DeliveryStatus::Pending;
    assert_eq!(found, [(1, pending), (2, pending), (5_003, DeliveryStatus::Canceled)]);
    assert_eq!(page.next, None);
    // All deleted endpoints are candidates for the earlier event.
    let (found, pages) = all(&state.store, of_event(1, 10));
    assert_eq!((found.len(), pages), (2, 5), "1,024 endpoints a page");
}

#[test]
fn when_too_many_ended_since_the_event_its_deliveries_are_found_all_the_same() {
    let state = after_many_ended(u128::try_from(ENDED_MAX + ENDED_AT_ONCE).unwrap());
    assert!(
        state.store.candidates(ORG, EventId(1)).unwrap().is_none(),
        "else this would test nothing"
    );
    let numbers =
        |query| all(&state.store, query).0.iter().map(|it| it.endpoint_number).collect::<Vec<_>>();
    assert_eq!(numbers(of_event(1, 1)), [1, 2]);
    assert_eq!(state.store.candidates(ORG, EventId(2)).unwrap().map(|them| them.len()), Some(3));
    assert_eq!(all(&state.store, of_event(2, 10)).1, 1);
    assert_eq!(numbers(of_event(3, 1)), [0; 0], "no such event");
}

#[test]
fn what_waits_for_a_deleted_endpoint_is_canceled_at_once_in_every_list() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    state.apply(&put_endpoint(50));
    for (id, due) in [(1, AT_ONCE), (2, LATER), (3, AT_ONCE)] {
        state.apply(&submit(id, 1, None));
        state.apply(&route(id, &[50], due));
    }
    state.apply(&settle(3, 50, 1, Verdict::RetryAt(Timestamp(900))));
    let count = |state: &Fixture, status, endpoint| {
        all(&state.store, DeliveryQuery { status: Some(status), endpoint, ..query(10) }).0.len()
    };
    let canceled = DeliveryStatus::Canceled;
    assert_eq!(count(&state, canceled, None), 0);
    state.apply(&delete(50));
    for endpoint in [None, Some(EndpointId(50))] {
        assert_eq!(count(&state, canceled, endpoint), 3);
        assert_eq!(
            count(&state, DeliveryStatus::Pending, endpoint)
                + count(&state, DeliveryStatus::Retrying, endpoint),
            0
        );
    }
    for id in 1..=3 {
        let found = state.store.delivery(ORG, EventId(id), 1).unwrap().unwrap().delivery;
        assert_eq!(
            (found.situation, found.attempts),
            (DeliverySituation::Canceled, u32::from(id == 3))
        );
        assert_eq!(all(&state.store, of_event(id, 10)).0, [found]);
    }
}

/// A step of the random test.
#[derive(Clone, Debug)]
enum Step {
    Make,
    /// Deletes the n-th created endpoint.
    Delete(usize),
    /// Posts an event for the endpoints of the set bits, at once or later.
    Event(u16, bool),
    Settle(usize, usize, Verdict),
    /// Cancels a delivery, as the scheduler does for a deleted endpoint.
    Cancel(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let verdict = prop_oneof![
        Just(Verdict::Delivered),
        Just(Verdict::RetryAt(Timestamp(900))),
        Just(Verdict::Dead(DeadReason::AttemptsExhausted)),
    ];
    prop_oneof![
        3 => Just(Step::Make),
        2 => (0usize..12).prop_map(Step::Delete),
        4 => any::<(u16, bool)>().prop_map(|(bits, later)| Step::Event(bits, later)),
        4 => (0usize..12, 0usize..20, verdict).prop_map(|(endpoint, event, verdict)|
        Step::Settle(endpoint, event, verdict)),
        1 => (0usize..12).prop_map(Step::Cancel),
    ]
}

/// A simple model: the status of each delivery, by its endpoint's number and its event.
#[derive(Default)]
struct Plain {
    /// For each created endpoint, true if it still exists.
    endpoints: Vec<bool>,
    events: usize,
    deliveries: BTreeMap<(usize, usize), (DeliveryStatus, u32)>,
}

const FIRST_ENDPOINT: u128 = 50;

/// The id of the n-th created endpoint.
fn id(endpoint: usize) -> u128 {
    FIRST_ENDPOINT + endpoint as u128
}

fn waits(status: DeliveryStatus) -> bool {
    matches!(status, DeliveryStatus::Pending | DeliveryStatus::Retrying)
}

impl Plain {
    /// Applies a step to the model and to the state.
    fn apply(&mut self, state: &mut Fixture, step: &Step) {
        match step {
            Step::Make if self.endpoints.len() < 16 => {
                state.apply(&put_endpoint(id(self.endpoints.len())));
                self.endpoints.push(true);
            }
            Step::Make => {}
            Step::Delete(endpoint) => {
                state.apply(&delete(id(*endpoint)));
                self.endpoints.get_mut(*endpoint).into_iter().for_each(|lives| *lives = false);
            }
            Step::Event(bits, later) => self.post(state, *bits, *later),
            Step::Settle(endpoint, event, verdict) => {
                self.settle(state, (*endpoint, *event), *verdict);
            }
            Step::Cancel(endpoint) => self.cancel(state, *endpoint),
        }
    }

    fn post(&mut self, state: &mut Fixture, bits: u16, later: bool) {
        self.events += 1;
        let event = self.events as u128;
        state.apply(&submit(event, 1, None));
        let to: Vec<_> = (0..self.endpoints.len()).filter(|at| bits & 1 << at != 0).collect();
        let ids: Vec<_> = to.iter().map(|at| id(*at)).collect();
        state.apply(&route(event, &ids, if later { LATER } else { AT_ONCE }));
        for endpoint in to.into_iter().filter(|at| self.endpoints[*at]) {
            self.deliveries.insert((endpoint, self.events), (DeliveryStatus::Pending, 0));
        }
    }

    fn settle(&mut self, state: &mut Fixture, delivery: (usize, usize), verdict: Verdict) {
        let found = self.deliveries.get_mut(&delivery).filter(|(status, _)| waits(*status));
        let Some((status, attempts)) = found else { return };
        let (endpoint, event) = delivery;
        *attempts += 1;
        state.apply(&settle(event as u128, id(endpoint), *attempts, verdict));
        *status = match verdict {
            Verdict::Delivered => DeliveryStatus::Delivered,
            Verdict::RetryAt(_) => DeliveryStatus::Retrying,
            Verdict::Dead(_) => DeliveryStatus::Dead,
        };
    }

    fn cancel(&mut self, state: &mut Fixture, endpoint: usize) {
        if self.endpoints.get(endpoint) != Some(&false) {
            return;
        }
        let events = (1..=self.events as u128).map(EventId).collect();
        let endpoint_id = EndpointId(id(endpoint));
        let cancel = CancelDeliveries { org: ORG, endpoint: endpoint_id, events };
        state.apply(&Command::CancelDeliveries(cancel));
        for ((to, _), (status, _)) in &mut self.deliveries {
            if *to == endpoint && waits(*status) {
                *status = DeliveryStatus::Canceled;
            }
        }
    }

    /// Returns the deliveries that a list should show.
    fn list(
        &self,
        event: Option<usize>,
        status: Option<DeliveryStatus>,
    ) -> Vec<(usize, usize, DeliveryStatus, u32)> {
        let mut all: Vec<_> = self.deliveries.iter().collect();
        all.sort_by_key(|((endpoint, event), _)| (*endpoint, std::cmp::Reverse(*event)));
        let shown =
            |((endpoint, event), (status, attempts)): (&(usize, usize), &(DeliveryStatus, u32))| {
                let ended = !self.endpoints[*endpoint]
                    && matches!(status, DeliveryStatus::Pending | DeliveryStatus::Retrying);
                (
                    *endpoint,
                    *event,
                    if ended { DeliveryStatus::Canceled } else { *status },
                    *attempts,
                )
            };
        let wanted = |it: &(usize, usize, DeliveryStatus, u32)| {
            event.is_none_or(|event| it.1 == event) && status.is_none_or(|status| it.2 == status)
        };
        all.into_iter().map(shown).filter(wanted).collect()
    }
}

fn plainly(found: &[Delivery]) -> Vec<(usize, usize, DeliveryStatus, u32)> {
    let number = |it: &Delivery| usize::try_from(it.endpoint.0 - FIRST_ENDPOINT).unwrap();
    found
        .iter()
        .map(|it| {
            (number(it), usize::try_from(it.event.0).unwrap(), it.situation.status(), it.attempts)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn lists_are_those_of_a_plain_world_also_when_endpoints_end_between_two_pages(
        steps in proptest::collection::vec(any_step(), 1..80),
        meanwhile in proptest::collection::vec((0usize..12).prop_map(Step::Delete), 12),
        written_back in 0usize..80,
    ) {
        let (mut state, mut plain) = (Fixture::new(), Plain::default());
        state.apply(&create_org(InboxMode::Auto, 1_000_000));
        for (at, step) in steps.iter().enumerate() {
            plain.apply(&mut state, step);
            if at == written_back {
                state.store.write_back().unwrap();
            }
        }
        let events = || (1..=plain.events).map(Some).chain([None]);
        for event in events() {
            for status in DeliveryStatus::ALL.iter().copied().map(Some).chain([None]) {
                let event_id = event.map(|event| EventId(event as u128));
                let wanted = DeliveryQuery { status, event: event_id, ..query(2) };
                let found = plainly(&all(&state.store, wanted).0);
                prop_assert_eq!(found, plain.list(event, status), "{:?} {:?}", event, status);
            }
        }
        let mut meanwhile = meanwhile.into_iter();
        for event in 1..=plain.events {
            let expected = plain.list(Some(event), None);
            let expected: Vec<_> = expected.into_iter().map(|it| it.0).collect();
            let (mut wanted, mut found) = (of_event(event as u128, 1), Vec::new());
            loop {
                let page = state.store.deliveries(ORG, &wanted).unwrap();
                found.extend(plainly(&page.items).into_iter().map(|it| it.0));
                wanted.after = page.next;
                if wanted.after.is_none() {
                    break;
                }
                meanwhile.next().iter().for_each(|step| plain.apply(&mut state, step));
            }
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
    }
}
