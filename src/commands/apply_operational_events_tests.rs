//! Tests of operational events caused by attempts.

use super::*;

/// Adds all kinds of operational events to a command that settles an attempt.
pub(super) fn with_operational_events(
    mut command: Command,
    first_id: u128,
    failing_since: Option<u64>,
) -> Command {
    let Command::SettleAttempt(settle) = &mut command else { unreachable!() };
    settle.operational_events = OperationalEventKind::ALL
        .iter()
        .copied()
        .zip(first_id..)
        .map(|(kind, id)| OperationalEvent {
            kind,
            failing_since: failing_since.map(Timestamp),
            id: EventId(id),
            received_at: Timestamp(2),
            payload: b"{}".as_slice().into(),
        })
        .collect();
    command
}

pub(super) fn failed(mut command: Command, started_at: u64) -> Command {
    let Command::SettleAttempt(settle) = &mut command else { unreachable!() };
    settle.outcome.started_at = Timestamp(started_at);
    settle.outcome.error = Some(AttemptError { code: ErrorCode::Timeout, detail: String::new() });
    command
}

#[test]
fn of_what_an_attempt_would_tell_only_what_its_settling_made_true_is_stored_and_once() {
    use OperationalEventKind::{
        DeliveryDead, EndpointDisabled, EndpointFailing, EndpointRecovered,
    };
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    state.apply(&put_endpoint(50));
    for event in 1..=9 {
        state.apply(&submit(event, 1, None));
        state.apply(&route(event, &[50], AT_ONCE));
    }
    let mut next = 1_000;
    let mut tell =
        |state: &mut Fixture, command: Command, since: Option<u64>| -> Vec<OperationalEventKind> {
            next += 10;
            let became = state.apply(&with_operational_events(command, next, since));
            let Applied::SettleAttempt(settled) = became else { panic!("{became:?}") };
            settled.stored().iter().map(|stored| stored.kind).collect()
        };
    let again = Verdict::RetryAt(Timestamp(900));
    let none: [OperationalEventKind; 0] = [];
    assert_eq!(tell(&mut state, failed(settle(1, 50, 1, again), 20), None), none);
    assert_eq!(
        tell(&mut state, failed(settle(2, 50, 1, again), 30), Some(19)),
        none,
        "another streak"
    );
    assert_eq!(tell(&mut state, failed(settle(3, 50, 1, again), 30), Some(20)), [EndpointFailing]);
    assert_eq!(
        tell(&mut state, failed(settle(4, 50, 1, again), 30), Some(20)),
        none,
        "told already"
    );
    let dead = Verdict::Dead(DeadReason::AttemptsExhausted);
    assert_eq!(tell(&mut state, failed(settle(5, 50, 1, dead), 40), Some(20)), [DeliveryDead]);
    assert_eq!(
        tell(&mut state, failed(settle(5, 50, 1, dead), 40), Some(20)),
        none,
        "settled before"
    );
    assert_eq!(
        tell(&mut state, settle(6, 50, 1, Verdict::Delivered), Some(20)),
        [EndpointRecovered]
    );
    assert_eq!(tell(&mut state, settle(7, 50, 1, Verdict::Delivered), None), none);
    let gone = Verdict::Dead(DeadReason::Gone);
    assert_eq!(
        tell(&mut state, failed(settle(8, 50, 1, gone), 50), None),
        [EndpointDisabled, DeliveryDead]
    );
    assert_eq!(
        tell(&mut state, failed(settle(9, 50, 1, gone), 50), Some(50)),
        [EndpointFailing, DeliveryDead]
    );
    // A delivery canceled meanwhile is not reported as dead, and its endpoint was already disabled.
    state.apply(&submit(5_000, 1, None));
    state.apply(&route(5_000, &[50], AT_ONCE));
    let (endpoint, events) = (EndpointId(50), vec![EventId(5_000)]);
    state.apply(&Command::CancelDeliveries(CancelDeliveries { org: ORG, endpoint, events }));
    assert_eq!(tell(&mut state, failed(settle(5_000, 50, 1, gone), 60), None), none);
    let told =
        state.inbox(ORG).into_iter().filter(|(id, _)| (1_000..5_000).contains(&id.0)).count();
    assert_eq!(told, 0, "they are not in the inbox");
    assert_eq!(
        state.store.unrouted_after((ORG, EventId(999)), 99).unwrap().len(),
        7,
        "and wait for a worker"
    );
    let stored = (1_000..5_000).filter_map(|id| state.store.event(ORG, EventId(id)).unwrap());
    assert_eq!(stored.filter(|event| !event.in_inbox).count(), 7, "and can be read");
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}
