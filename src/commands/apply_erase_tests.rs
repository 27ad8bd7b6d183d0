//! Tests of erased payloads.

use super::operational_events::{failed, with_operational_events};
use super::*;

const ERASED: Applied = Applied::EraseEvent(EraseOutcome::Erased { at: Timestamp(50) });

/// Three erased events. Two of them had deliveries in each state, one to a deleted endpoint.
fn erased() -> Fixture {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::AckOnly, 1_000_000));
    for endpoint in 50..54 {
        state.apply(&put_endpoint(endpoint));
    }
    for (event, dedup, due_at) in [(1, "a", AT_ONCE), (2, "b", LATER)] {
        state.apply(&submit(event, 1, Some((dedup, 1))));
        state.apply(&route(event, &[50, 51, 52, 53], due_at));
        state.apply(&settle(event, 50, 1, Verdict::Delivered));
        state.apply(&settle(event, 51, 1, Verdict::RetryAt(Timestamp(900))));
        state.apply(&settle(event, 52, 1, Verdict::Dead(DeadReason::AttemptsExhausted)));
    }
    state.apply(&submit(3, 1, None));
    // Erasing includes deleted endpoints.
    state.apply(&Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(52) }));
    state.store.write_back().unwrap();
    // Living endpoints are examined even if the command does not name them.
    for (event, endpoints) in [(1, [51, 52].as_slice()), (2, &[52, 7]), (3, &[])] {
        assert_eq!(state.apply(&erase(event, endpoints)), ERASED);
    }
    state
}

/// Returns the status of the first event's delivery to the endpoint with this number.
fn status(state: &Fixture, endpoint_number: u32) -> DeliveryStatus {
    let found = state.store.delivery(ORG, EventId(1), endpoint_number).unwrap().unwrap();
    found.delivery.situation.status()
}

fn assert_is_consistent(state: &Fixture) {
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}

#[test]
fn an_erased_event_leaves_the_inbox_and_nothing_of_it_is_under_way_any_more() {
    let mut state = erased();
    assert_eq!(state.apply(&erase(9, &[50])), Applied::EraseEvent(EraseOutcome::NotFound));
    assert_eq!(state.inbox(ORG), []);
    let counts = state.store.counts().unwrap();
    assert_eq!((counts.waiting, counts.dead, counts.open), (0, 0, 0));
    assert_eq!(status(&state, 1), DeliveryStatus::Delivered, "what was accepted stays so");
    assert_eq!([2, 3, 4].map(|number| status(&state, number)), [DeliveryStatus::Canceled; 3]);
    for endpoint in [50, 51, 53] {
        let due = state.store.due_delivery(EndpointId(endpoint), EventId(1)).unwrap();
        assert_eq!(due.map(|due| due.event), None);
        let erased = RetryOutcome::Erased { at: Timestamp(50) };
        assert_eq!(state.apply(&retry(1, endpoint, false)), Applied::RetryDelivery(erased));
    }
    assert_eq!(state.apply(&route(3, &[50], AT_ONCE)), Applied::RouteEvent(()));
    assert_eq!(state.store.counts().unwrap().waiting, 0, "it is not routed any more");
    assert_is_consistent(&state);
}

#[test]
fn the_outcome_of_an_attempt_under_way_is_recorded_and_an_erased_event_stays_canceled() {
    let mut state = erased();
    let gone = failed(settle(1, 53, 1, Verdict::Dead(DeadReason::Gone)), 20);
    let disabled = vec![OperationalEventKind::EndpointDisabled];
    let kinds = |applied: Applied| {
        let Applied::SettleAttempt(settled) = applied else { panic!("{applied:?}") };
        settled.stored().iter().map(|stored| stored.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(state.apply(&with_operational_events(gone.clone(), 1_000, None))), disabled);
    let no_effect = Applied::SettleAttempt(SettleOutcome::NoEffect);
    assert_eq!(
        state.apply(&with_operational_events(gone, 2_000, None)),
        no_effect,
        "settled before"
    );
    let canceled_before = Applied::SettleAttempt(SettleOutcome::Canceled(Vec::new()));
    assert_eq!(state.apply(&settle(2, 53, 1, Verdict::Delivered)), canceled_before);
    assert_eq!(state.apply(&settle(1, 50, 1, Verdict::Delivered)), no_effect, "it is accepted");
    assert_eq!(
        state.apply(&settle(9, 50, 1, Verdict::Delivered)),
        no_effect,
        "there is no such event"
    );
    let found = state.store.delivery(ORG, EventId(1), 4).unwrap().unwrap();
    assert_eq!(found.delivery.attempts, 1, "it was sent");
    assert!(found.delivery.last_attempt.is_some());
    assert_eq!(found.endpoint.unwrap().disabled, Some(DisabledReason::Gone));
    let (_, health) = state.store.endpoint_of(ORG, EndpointId(53)).unwrap().unwrap();
    assert_eq!((health.accepted, health.failed, health.waiting, health.dead), (1, 1, 0, 0));
    let counts = state.store.counts().unwrap();
    assert_eq!((counts.waiting, counts.dead), (0, 0));
    assert_eq!(status(&state, 4), DeliveryStatus::Canceled);
    assert_is_consistent(&state);
}

#[test]
fn an_erased_event_is_found_by_its_dedup_id_and_can_be_acknowledged_and_erased_again() {
    let mut state = erased();
    let first = Applied::SubmitEvent(SubmitOutcome::Duplicate {
        id: EventId(1),
        received_at: Timestamp(1),
    });
    assert_eq!(state.apply(&submit(4_000, 2, Some(("a", 1)))), first);
    let other = Applied::SubmitEvent(SubmitOutcome::Mismatch { id: EventId(1) });
    assert_eq!(state.apply(&submit(4_000, 2, Some(("a", 2)))), other);
    assert_eq!(
        state.apply(&ack(1)),
        Applied::AckEvent(AckOutcome::Acknowledged { at: Timestamp(30) })
    );
    let (event, endpoints) = (EventId(1), vec![EndpointId(50)]);
    let later = Command::EraseEvent(EraseEvent { org: ORG, event, endpoints, at: Timestamp(99) });
    assert_eq!(state.apply(&later), ERASED, "again: the same answer");
    assert_eq!(state.store.event(ORG, EventId(1)).unwrap().unwrap().erased_at, Some(Timestamp(50)));
    assert_is_consistent(&state);
}

/// An event with a delivery to a deleted endpoint, and `ended_since` endpoints created and deleted
/// later.
fn erased_beside(ended_since: usize) -> Fixture {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    let delete =
        |id| Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(id) });
    for endpoint in [50, 51] {
        state.apply(&put_endpoint(endpoint));
    }
    for event in 1..=2 {
        state.apply(&submit(event, 1, None));
        state.apply(&route(event, &[50, 51], AT_ONCE));
    }
    state.apply(&settle(1, 50, 1, Verdict::Dead(DeadReason::AttemptsExhausted)));
    state.apply(&delete(50));
    state.apply(&delete(51));
    for id in (60..).take(ended_since) {
        state.apply(&put_endpoint(id));
        state.apply(&delete(id));
    }
    state
}

#[test]
fn what_is_erased_follows_from_the_state_and_not_from_the_endpoints_that_somebody_saw() {
    // The command names neither endpoint, and both were deleted since.
    let mut state = erased_beside(ENDED_LOOKED_AT - 2);
    assert_eq!(state.apply(&erase(1, &[])), ERASED);
    let counts = state.store.counts().unwrap();
    assert_eq!((counts.waiting, counts.dead), (2, 0), "what waits is of the other event");
    assert_is_consistent(&state);

    // With more deleted endpoints the command changes nothing, and a new command that names them is
    // complete.
    let mut state = erased_beside(ENDED_LOOKED_AT - 1);
    let before = state.store.dump().unwrap();
    assert_eq!(state.apply(&erase(1, &[])), Applied::EraseEvent(EraseOutcome::Incomplete));
    let rows = |dump: String| {
        dump.lines().filter(|row| !row.starts_with("meta ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(rows(state.store.dump().unwrap()), rows(before), "nothing changed");
    assert_eq!(state.apply(&erase(1, &[50])), ERASED);
    assert_is_consistent(&state);
}
