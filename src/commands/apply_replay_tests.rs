//! Tests of replays, step by step.

use std::collections::BTreeSet;

use super::*;
use crate::model::id::ReplayId;
use crate::model::replay::{
    REPLAYS_REMEMBERED, REPLAYS_RUNNING_MAX, ReplayEnd, ReplayOnly, ReplayRequest, ReplayWait,
};
use crate::store::{REPLAY_WAITING_MAX, Replay, ReplayTurn};

const DEAD: Verdict = Verdict::Dead(DeadReason::AttemptsExhausted);
const NOW: Timestamp = Timestamp(5_000);

fn request(only: ReplayOnly) -> ReplayRequest {
    ReplayRequest { endpoint: None, since: None, until: None, event_types: Vec::new(), only }
}

fn start(replay: u128, request: ReplayRequest) -> Command {
    Command::StartReplay(StartReplay { org: ORG, replay: ReplayId(replay), request, at: NOW })
}

fn end(replay: u128) -> Command {
    let (replay, end) = (ReplayId(replay), ReplayEnd::Requested);
    Command::EndReplay(EndReplay { org: ORG, replay, end, at: NOW })
}

fn seen(state: &Fixture, replay: u128) -> Replay {
    state.store.replay(ORG, ReplayId(replay), NOW).unwrap().unwrap()
}

/// Returns every row except the applied position of the journal.
fn rows(state: &Fixture) -> Vec<String> {
    let text = state.store.dump().unwrap();
    text.lines().filter(|line| !line.contains("applied: ")).map(str::to_owned).collect()
}

/// Runs a replay as far as possible, applying each step twice. Returns the reason for waiting, or
/// `None` if the replay is over.
fn go_on(state: &mut Fixture, replay: u128) -> Option<ReplayWait> {
    loop {
        match state.store.replay_turn((ORG, ReplayId(replay)), NOW, &BTreeSet::new()).unwrap() {
            ReplayTurn::Wait(wait) => return Some(wait),
            ReplayTurn::Over => return None,
            turn => {
                let command = command_of_turn((ORG, ReplayId(replay)), turn, NOW).unwrap();
                let skipped =
                    state.store.replay(ORG, ReplayId(replay), NOW).unwrap().unwrap().skipped;
                let stays = match &command {
                    Command::StepReplay(step) => {
                        step.reached == Some(step.cursor.from) && !skipped.contains(&step.endpoint)
                    }
                    _ => true,
                };
                let done = state.apply(&command);
                let ended = Applied::EndReplay(EndReplayOutcome::Ended);
                assert!(
                    done == Applied::StepReplay(StepReplayOutcome::Stepped) || done == ended,
                    "{done:?}"
                );
                let before = rows(state);
                let again =
                    if stays { done } else { Applied::StepReplay(StepReplayOutcome::NotFound) };
                assert_eq!(state.apply(&command), again, "{command:?}");
                assert!(rows(state) == before, "a second time it does nothing");
            }
        }
    }
}

fn waiting(state: &Fixture, endpoint: u128) -> Vec<u128> {
    let waiting =
        state.store.waiting_for(EndpointId(endpoint), Timestamp(u64::MAX), 10_000).unwrap();
    let mut waiting: Vec<_> = waiting.into_iter().map(|(_, event)| event.0 >> 80).collect();
    waiting.sort_unstable();
    waiting
}

/// Returns the first event id of a millisecond.
fn id(ms: u128) -> u128 {
    ms << 80
}

/// Endpoints 50 and 51. To endpoint 50, event 1 is delivered, 2 dead, 3 canceled, 4 waiting for a
/// retry and 5 pending; events 6 and 7 were never routed. Endpoint 51 has no deliveries.
fn history() -> Fixture {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    for event in 6..=7 {
        // Without an endpoint the event is not routed.
        state.apply(&submit(id(event - 5), u64::try_from(event - 5).unwrap(), None));
    }
    state.apply(&put_endpoint(50));
    for event in 3..=7 {
        state.apply(&submit(id(event), u64::try_from(event).unwrap(), None));
        state.apply(&route(id(event), &[50], AT_ONCE));
    }
    state.apply(&put_endpoint(51));
    state.apply(&settle(id(3), 50, 1, Verdict::Delivered));
    state.apply(&settle(id(4), 50, 1, DEAD));
    state.apply(&settle(id(5), 50, 1, DEAD));
    state.apply(&Command::DropDead(DropDead {
        org: ORG,
        endpoint: EndpointId(50),
        event: EventId(id(5)),
    }));
    state.apply(&settle(id(6), 50, 1, Verdict::RetryAt(Timestamp(9_000))));
    state
}

#[test]
fn a_replay_makes_just_what_it_was_asked_for_and_counts_it_once() {
    for (only, of_50, of_51, examined) in [
        (ReplayOnly::Failed, vec![4], vec![], 1),
        (ReplayOnly::Missing, vec![1, 2], vec![1, 2, 3, 4, 5, 6, 7], 14),
        (ReplayOnly::All, vec![1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5, 6, 7], 14),
    ] {
        let mut state = history();
        let queued = of_50.len() + of_51.len();
        state.apply(&start(9, request(only)));
        assert_eq!((seen(&state, 9).progress, seen(&state, 9).ended), (0.0, None));
        assert_eq!(go_on(&mut state, 9), None);
        let found = seen(&state, 9);
        assert_eq!((found.examined, found.queued), (examined, queued as u64), "{only:?}");
        assert_eq!((found.progress, found.ended), (1.0, Some((ReplayEnd::Finished, NOW))));
        let waited = [of_50, vec![6, 7]].concat();
        assert_eq!((waiting(&state, 50), waiting(&state, 51)), (waited, of_51), "{only:?}");
        assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
    }
}

#[test]
fn a_replayed_delivery_begins_its_schedule_again_and_its_event_does_not_come_back_into_the_inbox() {
    let mut state = history();
    assert_eq!(state.status(id(3)), EventStatus::Delivered);
    let open: Vec<_> = state.inbox(ORG).into_iter().map(|(event, _)| event).collect();
    state.apply(&start(9, request(ReplayOnly::All)));
    go_on(&mut state, 9);
    let due =
        |event| state.store.due_delivery(EndpointId(50), EventId(id(event))).unwrap().unwrap();
    assert_eq!([3, 4, 5].map(|event| (due(event).attempts, due(event).base)), [(1, 1); 3]);
    assert_eq!((due(1).attempts, due(1).base), (0, 0), "never tried before");
    assert_eq!(state.status(id(3)), EventStatus::Accepted);
    assert_eq!(
        state.inbox(ORG).into_iter().map(|(event, _)| event).collect::<Vec<_>>(),
        open,
        "as it was"
    );
    assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
}

#[test]
fn time_type_and_endpoint_narrow_a_replay_and_what_comes_later_is_no_part_of_it() {
    let mut state = history();
    let (since, until) = (Some(Timestamp(2)), Some(Timestamp(4)));
    state.apply(&start(7, ReplayRequest { since, until, ..request(ReplayOnly::All) }));
    state.apply(&start(
        8,
        ReplayRequest { event_types: vec!["other.*".parse().unwrap()], ..request(ReplayOnly::All) },
    ));
    state.apply(&start(
        9,
        ReplayRequest { endpoint: Some(EndpointId(51)), ..request(ReplayOnly::Missing) },
    ));
    state.apply(&submit(id(8), 8, None));
    state.apply(&route(id(8), &[], AT_ONCE));
    assert_eq!(go_on(&mut state, 7), None);
    assert_eq!((waiting(&state, 50), waiting(&state, 51)), (vec![2, 3, 6, 7], vec![2, 3]));
    assert_eq!(go_on(&mut state, 8), None);
    assert_eq!((seen(&state, 8).examined, seen(&state, 8).queued), (14, 0));
    assert_eq!(go_on(&mut state, 9), None);
    assert_eq!(
        (waiting(&state, 50), waiting(&state, 51)),
        (vec![2, 3, 6, 7], vec![1, 2, 3, 4, 5, 6, 7])
    );
    let unknown = ReplayRequest { endpoint: Some(EndpointId(99)), ..request(ReplayOnly::All) };
    assert_eq!(
        state.apply(&start(10, unknown)),
        Applied::StartReplay(StartReplayOutcome::NotFound)
    );
    let newest: Vec<_> =
        state.store.replays(ORG, NOW).unwrap().into_iter().map(|replay| replay.id.0).collect();
    assert_eq!(newest, [9, 8, 7]);
}

#[test]
fn a_replay_is_paced_by_each_endpoint_and_none_waits_behind_another() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    let events = REPLAY_WAITING_MAX * 2;
    for event in 1..=events as u128 {
        state.apply(&submit(id(event), u64::try_from(event).unwrap(), None));
    }
    for endpoint in [50, 51, 52] {
        state.apply(&put_endpoint(endpoint));
    }
    state.apply(&start(9, request(ReplayOnly::Missing)));
    assert_eq!(go_on(&mut state, 9), Some(ReplayWait::EndpointBusy));
    for endpoint in [50, 51, 52] {
        let waits = waiting(&state, endpoint).len();
        assert!((REPLAY_WAITING_MAX..REPLAY_WAITING_MAX + 200).contains(&waits), "{waits}");
    }
    let found = seen(&state, 9);
    assert!(found.progress > 0.4 && found.progress < 0.9, "{found:?}");
    assert_eq!(found.waits_for, Some(ReplayWait::EndpointBusy));
    // Progress survives a reopened state, and the replay continues from there.
    state.reopen();
    assert_eq!(seen(&state, 9), found);
    let mut delivered = 0;
    while let Some(wait) = go_on(&mut state, 9) {
        assert_eq!(wait, ReplayWait::EndpointBusy);
        for endpoint in [50, 51, 52] {
            for event in waiting(&state, endpoint) {
                state.apply(&settle(id(event), endpoint, 1, Verdict::Delivered));
                delivered += 1;
            }
        }
    }
    let left: usize = [50, 51, 52].map(|endpoint| waiting(&state, endpoint).len()).iter().sum();
    assert_eq!(seen(&state, 9).queued, 3 * events as u64);
    assert_eq!(left + delivered, 3 * events, "each once");
    assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
}

fn set_disabled(state: &mut Fixture, endpoint: u128, disabled: Option<DisabledReason>) {
    let Command::PutEndpoint(mut put) = put_endpoint(endpoint) else { panic!() };
    put.endpoint.disabled = disabled;
    state.apply(&Command::PutEndpoint(put));
}

/// Takes one step of a replay.
fn step(state: &mut Fixture, replay: u128) {
    let turn = state.store.replay_turn((ORG, ReplayId(replay)), NOW, &BTreeSet::new()).unwrap();
    state.apply(&command_of_turn((ORG, ReplayId(replay)), turn, NOW).unwrap());
}

/// Replay 8 is to endpoint 50 alone, replay 9 to all endpoints. Endpoint 50 is disabled before the
/// start of replay 9 (0), after its cursor began (1), or between the computing of a step with
/// deliveries and the step (2).
fn replays_of_a_disabled_endpoint(begun: u32) -> Fixture {
    let mut state = history();
    let alone = ReplayRequest { endpoint: Some(EndpointId(50)), ..request(ReplayOnly::Missing) };
    state.apply(&start(8, alone));
    state.apply(&start(9, request(ReplayOnly::Missing)));
    if begun > 0 {
        step(&mut state, 9);
    }
    let turn = state.store.replay_turn((ORG, ReplayId(9)), NOW, &BTreeSet::new()).unwrap();
    set_disabled(&mut state, 50, Some(DisabledReason::ByOwner));
    if begun > 1 {
        state.apply(&command_of_turn((ORG, ReplayId(9)), turn, NOW).unwrap());
    }
    state
}

#[test]
fn a_replay_to_all_endpoints_passes_over_one_that_is_disabled_at_its_turn_and_one_to_it_alone_waits()
 {
    for begun in 0..3 {
        let mut state = replays_of_a_disabled_endpoint(begun);
        assert_eq!(seen(&state, 9).waits_for, None, "{begun}");
        assert_eq!(go_on(&mut state, 9), None, "{begun}");
        let found = seen(&state, 9);
        assert_eq!(
            (found.progress, found.ended),
            (1.0, Some((ReplayEnd::Finished, NOW))),
            "{begun}"
        );
        assert_eq!(found.skipped, [EndpointId(50)], "{begun}");
        assert_eq!((found.examined, found.queued, waiting(&state, 51).len()), (7, 7, 7), "{begun}");
        assert_eq!(waiting(&state, 50), [6, 7], "{begun}: nothing was added");

        assert_eq!(go_on(&mut state, 8), Some(ReplayWait::EndpointDisabled));
        assert_eq!(
            (seen(&state, 8).waits_for, seen(&state, 8).queued),
            (Some(ReplayWait::EndpointDisabled), 0)
        );
        assert_eq!(seen(&state, 8).skipped, [], "{begun}");
        set_disabled(&mut state, 50, None);
        assert_eq!((go_on(&mut state, 8), seen(&state, 8).queued), (None, 2));
        assert_eq!(seen(&state, 9), found, "what is enabled later changes nothing");
        state.reopen();
        assert_eq!(seen(&state, 9), found);
        assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
    }
}

#[test]
fn an_endpoint_enabled_again_before_its_turn_is_not_passed_over() {
    let mut state = history();
    set_disabled(&mut state, 50, Some(DisabledReason::ByOwner));
    state.apply(&start(9, request(ReplayOnly::Missing)));
    let turn = state.store.replay_turn((ORG, ReplayId(9)), NOW, &BTreeSet::new()).unwrap();
    set_disabled(&mut state, 50, None);
    state.apply(&command_of_turn((ORG, ReplayId(9)), turn, NOW).unwrap());
    assert_eq!((go_on(&mut state, 9), waiting(&state, 50)), (None, vec![1, 2, 6, 7]));
    assert_eq!(seen(&state, 9).skipped, []);
}

#[test]
fn what_is_tried_again_hours_later_does_not_hold_up_a_replay_and_what_is_due_does() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    state.apply(&put_endpoint(50));
    let (many, later) = (REPLAY_WAITING_MAX as u128 + 5, Timestamp(NOW.0 + 86_400_000));
    for event in 1..=many + 1 {
        state.apply(&submit(id(event), u64::try_from(event).unwrap(), None));
        state.apply(&route(id(event), &[50], AT_ONCE));
        let verdict = if event > many { DEAD } else { Verdict::RetryAt(later) };
        state.apply(&settle(id(event), 50, 1, verdict));
    }
    state.apply(&start(8, request(ReplayOnly::Failed)));
    state.apply(&start(9, request(ReplayOnly::All)));
    let begun = |state: &mut Fixture, replay, at, taken: &[u128]| {
        let taken = taken.iter().copied().map(EndpointId).collect();
        let turn =
            |state: &Fixture| state.store.replay_turn((ORG, ReplayId(replay)), at, &taken).unwrap();
        let begin = command_of_turn((ORG, ReplayId(replay)), turn(state), at).unwrap();
        state.apply(&begin);
        turn(state)
    };
    // All deliveries are due a day later.
    assert_eq!(begun(&mut state, 9, later, &[]), ReplayTurn::Wait(ReplayWait::EndpointBusy));
    let shown = |at| state.store.replay(ORG, ReplayId(9), at).unwrap().unwrap().waits_for;
    assert_eq!((shown(later), shown(NOW)), (Some(ReplayWait::EndpointBusy), None));
    // A step that is not stored yet also blocks the endpoint.
    assert_eq!(begun(&mut state, 8, NOW, &[50]), ReplayTurn::Wait(ReplayWait::EndpointBusy));
    assert_eq!(seen(&state, 8).waits_for, None);
    assert_eq!(go_on(&mut state, 8), None);
    assert_eq!(seen(&state, 8).queued, 1);
    assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
}

#[test]
fn a_replay_waits_for_what_was_not_routed_yet_and_makes_nothing_twice() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    state.apply(&put_endpoint(50));
    for event in 1..=3 {
        state.apply(&submit(id(event), u64::try_from(event).unwrap(), None));
    }
    state.apply(&route(id(1), &[], AT_ONCE));
    state.apply(&route(id(3), &[], AT_ONCE));
    state.apply(&start(9, request(ReplayOnly::Missing)));
    assert_eq!(go_on(&mut state, 9), Some(ReplayWait::Routing));
    assert_eq!(seen(&state, 9).waits_for, Some(ReplayWait::Routing));
    assert_eq!(waiting(&state, 50), [1]);
    state.apply(&route(id(2), &[50], AT_ONCE));
    assert_eq!(go_on(&mut state, 9), None);
    assert_eq!((waiting(&state, 50), seen(&state, 9).queued), (vec![1, 2, 3], 2));
    assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
}

#[test]
fn a_replay_ends_with_its_endpoint_or_when_its_owner_says_so() {
    let mut state = history();
    state.apply(&start(
        8,
        ReplayRequest { endpoint: Some(EndpointId(51)), ..request(ReplayOnly::All) },
    ));
    state.apply(&start(9, request(ReplayOnly::All)));
    state.apply(&Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(51) }));
    assert_eq!(go_on(&mut state, 8), None);
    assert_eq!(seen(&state, 8).ended, Some((ReplayEnd::EndpointDeleted, NOW)));
    assert_eq!(state.apply(&end(8)), Applied::EndReplay(EndReplayOutcome::Ended));
    assert_eq!(
        seen(&state, 8).ended,
        Some((ReplayEnd::EndpointDeleted, NOW)),
        "it stays as it ended"
    );
    let turn = state.store.replay_turn((ORG, ReplayId(9)), NOW, &BTreeSet::new()).unwrap();
    let step = command_of_turn((ORG, ReplayId(9)), turn, NOW).unwrap();
    assert_eq!(state.apply(&end(9)), Applied::EndReplay(EndReplayOutcome::Ended));
    assert_eq!(
        state.apply(&step),
        Applied::StepReplay(StepReplayOutcome::NotFound),
        "no step of what is over"
    );
    assert_eq!(state.apply(&end(10)), Applied::EndReplay(EndReplayOutcome::NotFound));
    assert_eq!(
        (seen(&state, 9).ended, seen(&state, 9).queued),
        (Some((ReplayEnd::Requested, NOW)), 0)
    );
    assert_eq!(state.store.running_replays(), []);
}

#[test]
fn progress_never_goes_back_whatever_is_deleted_meanwhile() {
    let mut state = history();
    state.apply(&put_endpoint(52));
    state.apply(&start(9, request(ReplayOnly::Missing)));
    let mut shown = vec![0.0];
    let deleted = |endpoint| {
        Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(endpoint) })
    };
    // The first endpoint is deleted when done, the second while under way, the third before its
    // start.
    for number in 0.. {
        let turn = state.store.replay_turn((ORG, ReplayId(9)), NOW, &BTreeSet::new()).unwrap();
        let Some(step) = command_of_turn((ORG, ReplayId(9)), turn, NOW) else { break };
        state.apply(&step);
        shown.push(seen(&state, 9).progress);
        let endpoint = [None, Some(50), Some(51), Some(52)].get(number).copied().flatten();
        if let Some(endpoint) = endpoint {
            state.apply(&deleted(endpoint));
            shown.push(seen(&state, 9).progress);
        }
    }
    assert!(shown.is_sorted() && shown.last() == Some(&1.0), "{shown:?}");
    assert!(shown.iter().any(|progress| (0.3..1.0).contains(progress)), "{shown:?}");
    assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
}

#[test]
fn so_many_replays_run_and_so_many_are_remembered() {
    let mut state = history();
    let running = REPLAYS_RUNNING_MAX as u128;
    for replay in 1..=running {
        assert_eq!(
            state.apply(&start(replay, request(ReplayOnly::All))),
            Applied::StartReplay(StartReplayOutcome::Started)
        );
    }
    assert_eq!(
        state.apply(&start(99, request(ReplayOnly::All))),
        Applied::StartReplay(StartReplayOutcome::LimitReached)
    );
    for replay in 2..=running {
        state.apply(&end(replay));
    }
    for replay in 1_000..1_000 + REPLAYS_REMEMBERED as u128 {
        assert_eq!(
            state.apply(&start(replay, request(ReplayOnly::All))),
            Applied::StartReplay(StartReplayOutcome::Started)
        );
        state.apply(&end(replay));
    }
    let known: Vec<_> =
        state.store.replays(ORG, NOW).unwrap().into_iter().map(|replay| replay.id.0).collect();
    assert_eq!(
        (known.len(), known.last()),
        (REPLAYS_REMEMBERED, Some(&1)),
        "one that runs is not forgotten"
    );
    assert_eq!(state.store.running_replays(), [(ORG, ReplayId(1))]);
    assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
}
