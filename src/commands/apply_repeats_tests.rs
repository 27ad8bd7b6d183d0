//! Tests of deliveries that are retried on request.

use super::*;

/// Returns a delivery's status, its attempts, and the attempts before its schedule started over.
fn stands(state: &Fixture, event: u128) -> (DeliveryStatus, u32, Option<u32>) {
    let found = state.store.delivery(ORG, EventId(event), 1).unwrap().unwrap().delivery;
    let due = state.store.due_delivery(EndpointId(50), EventId(event)).unwrap();
    (found.situation.status(), found.attempts, due.map(|due| due.base))
}

const DEAD: Verdict = Verdict::Dead(DeadReason::AttemptsExhausted);
const QUEUED: Applied = Applied::RetryDelivery(RetryOutcome::Queued);
const NOT_FOUND: Applied = Applied::RetryDelivery(RetryOutcome::NotFound);

/// Four events with a delivery each: retried, dead, accepted, not attempted yet.
fn four_deliveries() -> Fixture {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    state.apply(&put_endpoint(50));
    for id in 1..=4 {
        state.apply(&submit(id, 1, None));
        state.apply(&route(id, &[50], AT_ONCE));
    }
    state.apply(&settle(1, 50, 1, Verdict::RetryAt(Timestamp(900))));
    state.apply(&settle(2, 50, 1, DEAD));
    state.apply(&settle(3, 50, 1, Verdict::Delivered));
    state
}

#[test]
fn what_is_tried_again_is_due_now_and_what_was_over_begins_its_schedule_again() {
    let mut state = four_deliveries();
    assert_eq!(state.status(3), EventStatus::Delivered);
    for id in [1, 3, 4] {
        assert_eq!(state.apply(&retry(id, 50, true)), NOT_FOUND, "no dead letter");
    }
    assert_eq!(state.apply(&retry(9, 50, false)), NOT_FOUND);
    for _twice in 0..2 {
        for id in 1..=4 {
            assert_eq!(state.apply(&retry(id, 50, false)), QUEUED);
        }
        assert_eq!(
            stands(&state, 1),
            (DeliveryStatus::Retrying, 1, Some(0)),
            "goes on with its schedule"
        );
        assert_eq!(stands(&state, 2), (DeliveryStatus::Retrying, 1, Some(1)));
        assert_eq!(stands(&state, 3), (DeliveryStatus::Retrying, 1, Some(1)));
        assert_eq!(stands(&state, 4), (DeliveryStatus::Pending, 0, Some(0)));
        let waiting = state.store.waiting_for(EndpointId(50), Timestamp(40), 9).unwrap();
        let due: Vec<_> = waiting.iter().map(|(at, _)| at.0).collect();
        assert_eq!(due, [0, 40, 40, 40]);
        let counts = state.store.counts().unwrap();
        assert_eq!(
            (counts.waiting, counts.dead, counts.open),
            (4, 0, 3),
            "the accepted one has left the inbox for good"
        );
    }
}

#[test]
fn what_is_tried_again_can_end_in_each_way_again() {
    let mut state = four_deliveries();
    for id in 1..=4 {
        assert_eq!(state.apply(&retry(id, 50, false)), QUEUED);
    }
    state.apply(&settle(2, 50, 2, DEAD));
    assert_eq!(stands(&state, 2), (DeliveryStatus::Dead, 2, None));
    let drop =
        Command::DropDead(DropDead { org: ORG, endpoint: EndpointId(50), event: EventId(2) });
    assert_eq!(
        (state.apply(&drop), state.apply(&drop)),
        (Applied::DropDead(DropOutcome::Dropped), Applied::DropDead(DropOutcome::NotFound))
    );
    assert_eq!(
        (stands(&state, 2).0, state.status(2)),
        (DeliveryStatus::Canceled, EventStatus::Accepted)
    );
    state.apply(&retry(2, 50, false));
    state.apply(&settle(2, 50, 3, Verdict::Delivered));
    assert_eq!(
        (stands(&state, 2), state.status(2)),
        ((DeliveryStatus::Delivered, 3, None), EventStatus::Delivered)
    );
    state.apply(&settle(3, 50, 2, Verdict::RetryAt(Timestamp(99))));
    assert_eq!(stands(&state, 3), (DeliveryStatus::Retrying, 2, Some(1)), "the base stays");
    assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
    state.apply(&Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(50) }));
    assert_eq!(state.apply(&retry(1, 50, false)), NOT_FOUND, "its endpoint is no more");
}
