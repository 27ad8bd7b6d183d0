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

/// An endpoint with nine waiting deliveries.
fn nine_deliveries() -> Fixture {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    state.apply(&put_endpoint(50));
    for event in 1..=9 {
        state.apply(&submit(event, 1, None));
        state.apply(&route(event, &[50], AT_ONCE));
    }
    state
}

/// Settles an attempt that would tell everything; returns the kinds that were stored.
fn told(
    state: &mut Fixture,
    command: Command,
    first_id: u128,
    failing_since: Option<u64>,
) -> Vec<OperationalEventKind> {
    let applied = state.apply(&with_operational_events(command, first_id, failing_since));
    let Applied::SettleAttempt(settled) = applied else { panic!("{applied:?}") };
    settled.stored().iter().map(|stored| stored.kind).collect()
}

#[test]
fn of_what_an_attempt_would_tell_only_what_its_settling_made_true_is_stored_and_once() {
    use OperationalEventKind::{
        DeliveryDead, EndpointDisabled, EndpointFailing, EndpointRecovered,
    };
    let mut state = nine_deliveries();
    let again = Verdict::RetryAt(Timestamp(900));
    let dead = Verdict::Dead(DeadReason::AttemptsExhausted);
    let gone = Verdict::Dead(DeadReason::Gone);
    let failed = |event, verdict, at| failed(settle(event, 50, 1, verdict), at);
    let accepted = |event| settle(event, 50, 1, Verdict::Delivered);
    let steps: [(Command, Option<u64>, &[OperationalEventKind]); 10] = [
        (failed(1, again, 20), None, &[]),
        // Another streak.
        (failed(2, again, 30), Some(19), &[]),
        (failed(3, again, 30), Some(20), &[EndpointFailing]),
        // Reported already.
        (failed(4, again, 30), Some(20), &[]),
        (failed(5, dead, 40), Some(20), &[DeliveryDead]),
        // Settled before.
        (failed(5, dead, 40), Some(20), &[]),
        (accepted(6), Some(20), &[EndpointRecovered]),
        (accepted(7), None, &[]),
        (failed(8, gone, 50), None, &[EndpointDisabled, DeliveryDead]),
        (failed(9, gone, 50), Some(50), &[EndpointFailing, DeliveryDead]),
    ];
    for (n, (command, since, expected)) in (1..).zip(steps) {
        assert_eq!(told(&mut state, command, 1_000 + n * 10, since), expected, "step {n}");
    }
    assert_seven_are_stored_outside_the_inbox(&state);
}

#[test]
fn a_delivery_canceled_meanwhile_is_not_told_as_dead() {
    let mut state = nine_deliveries();
    let gone = Verdict::Dead(DeadReason::Gone);
    told(&mut state, failed(settle(1, 50, 1, gone), 50), 1_000, None);
    // The endpoint is disabled.
    state.apply(&submit(5_000, 1, None));
    state.apply(&route(5_000, &[50], AT_ONCE));
    let (endpoint, events) = (EndpointId(50), vec![EventId(5_000)]);
    state.apply(&Command::CancelDeliveries(CancelDeliveries { org: ORG, endpoint, events }));
    let canceled = failed(settle(5_000, 50, 1, gone), 60);
    assert_eq!(told(&mut state, canceled, 2_000, None), [] as [OperationalEventKind; 0]);
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}

fn assert_seven_are_stored_outside_the_inbox(state: &Fixture) {
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
