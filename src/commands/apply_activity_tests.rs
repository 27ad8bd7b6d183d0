//! Tests of the results of commands: the activity that watchers see, and the counts.

use super::operational_events::{failed, with_operational_events};
use super::*;
use crate::model::activity::{Activity, Attempted};

impl Fixture {
    /// Applies commands and returns their results, with activity if somebody watches.
    fn results(&mut self, commands: &[Command], is_watched: bool) -> Results {
        let placed = (self.position.0..).map(Position).zip(commands);
        self.position = self.position.plus(1_000);
        let mut results = Results::new(is_watched);
        crate::commands::apply(&self.store, placed, self.position, &mut results).unwrap();
        assert_eq!(results.outcomes.len(), commands.len());
        results
    }
}

fn with_endpoint() -> Fixture {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    state.apply(&put_endpoint(50));
    state
}

fn accepted(event: u128, event_type: &str, received_at: u64) -> Activity {
    let event_type = event_type.parse().unwrap();
    Activity::Accepted { event: EventId(event), event_type, received_at: Timestamp(received_at) }
}

fn verdicts(results: &Results) -> Vec<Option<Verdict>> {
    let verdict = |(org, activity): &(OrgNo, Activity)| {
        assert_eq!(*org, ORG);
        let Activity::Attempted(attempted) = activity else { return None };
        Some(attempted.verdict)
    };
    results.effects.activity.iter().filter_map(verdict).collect()
}

#[test]
fn what_is_stored_and_settled_is_activity_and_what_changes_nothing_is_none() {
    let mut state = with_endpoint();
    let known = [submit(1, 1, Some(("a", 1))), submit(2, 1, Some(("a", 1)))];
    let results = state.results(&known, true);
    assert_eq!(results.effects.activity, [(ORG, accepted(1, "order.created", 1))]);
    assert_eq!((results.effects.stored, results.effects.duplicates), (1, 1));
    let mismatch = state.results(&[submit(3, 1, Some(("a", 2)))], true);
    assert_eq!((mismatch.effects.stored, mismatch.effects.duplicates), (0, 0));

    state.apply(&route(1, &[50], AT_ONCE));
    let retry = settle(1, 50, 1, Verdict::RetryAt(Timestamp(90)));
    let settled = state.results(&[retry.clone(), retry], true);
    let expected = Attempted {
        event: EventId(1),
        endpoint: EndpointId(50),
        number: 1,
        started_at: Timestamp(20),
        duration_ms: 5,
        status: Some(200),
        error: None,
        verdict: Some(Verdict::RetryAt(Timestamp(90))),
        disables: None,
    };
    let activity = settled.effects.activity;
    assert_eq!(activity, [(ORG, Activity::Attempted(expected))], "it is settled once");

    state.apply(&erase(1, &[50]));
    let canceled = state.results(&[settle(1, 50, 2, Verdict::Delivered)], true);
    assert_eq!(verdicts(&canceled), [None], "the delivery stays canceled");
}

#[test]
fn an_attempt_comes_before_the_operational_events_that_it_causes() {
    let mut state = with_endpoint();
    state.apply(&submit(1, 1, None));
    state.apply(&route(1, &[50], AT_ONCE));
    let dead = failed(settle(1, 50, 1, Verdict::Dead(DeadReason::AttemptsExhausted)), 20);
    let results = state.results(&[with_operational_events(dead, 1_000, None)], true);
    assert_eq!(verdicts(&results).len(), 1);
    let told: Vec<_> = results.effects.activity.iter().skip(1).collect();
    assert!(
        matches!(told.as_slice(), [(_, Activity::Accepted { event_type, .. })]
            if event_type.as_str() == "triggerd.delivery.dead"),
        "{told:?}"
    );
    assert_eq!(results.effects.stored, 1);
}

#[test]
fn nobody_sees_where_a_receiver_redirects_to_and_nothing_is_made_unless_somebody_watches() {
    let mut state = with_endpoint();
    let Command::SettleAttempt(mut settle) = settle(1, 50, 1, Verdict::RetryAt(Timestamp(90)))
    else {
        unreachable!()
    };
    let detail =
        "the receiver answered 302, a redirect to /its-words; redirects are not followed".into();
    settle.outcome.error = Some(AttemptError { code: ErrorCode::Redirect, detail });
    settle.outcome.status = Some(302);
    let settle = Command::SettleAttempt(settle);
    for event in 1..=2 {
        state.apply(&submit(event, 1, None));
        state.apply(&route(event, &[50], AT_ONCE));
    }
    let shown = format!("{:?}", state.results(&[settle], true).effects.activity);
    assert!(shown.contains("answered 302, a redirect;") && !shown.contains("its-words"), "{shown}");
    let unwatched = state.results(&[super::settle(2, 50, 1, Verdict::Delivered)], false);
    assert_eq!(unwatched.effects.activity, []);
    assert_eq!(unwatched.outcomes, [Ok(Applied::SettleAttempt(SettleOutcome::Settled(vec![])))]);
}
