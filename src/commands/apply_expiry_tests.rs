//! Tests of expired events.

use super::*;
use crate::model::id::ReplayId;
use crate::model::replay::{ReplayEnd, ReplayOnly, ReplayRequest};
use crate::model::retention::{Cutoffs, Expired, ExpiringBlock};
use crate::store::{DeadQuery, DeliveryQuery, EventQuery, Expiring};

const NEVER: Timestamp = Timestamp(0);
const DEAD: Verdict = Verdict::Dead(DeadReason::AttemptsExhausted);

fn cutoffs(finished: u64, dead: u64, open: u64) -> Cutoffs {
    let [finished, dead, open] = [finished, dead, open].map(Timestamp);
    Cutoffs { finished, dead, open, erased: Timestamp(u64::MAX), now: Timestamp(99) }
}

fn command(found: Expiring, cutoffs: Cutoffs, report: Option<OperationalEvent>) -> Command {
    let Expiring { blocks, looked_at, .. } = found;
    Command::ExpireEvents(ExpireEvents { org: ORG, blocks, cutoffs, looked_at, report })
}

fn report(id: u128) -> OperationalEvent {
    OperationalEvent {
        kind: OperationalEventKind::InboxExpired,
        failing_since: None,
        id: EventId(id),
        received_at: Timestamp(3),
        payload: b"{}".as_slice().into(),
    }
}

/// Searches and expires until nothing is left to do.
fn expire(state: &mut Fixture, cutoffs: Cutoffs) -> Expired {
    let (mut all, mut next) = (Expired::default(), Some(EventId(0)));
    while let Some(from) = next {
        let found = state.store.expiring(ORG, from, cutoffs).unwrap();
        next = found.next;
        if found.blocks.is_empty() {
            continue;
        }
        let counted = found.expired;
        let became = state.apply(&command(found, cutoffs, None));
        let Applied::ExpireEvents(ExpireOutcome::Expired { expired, stored: None }) = became else {
            panic!("{became:?}")
        };
        assert_eq!(expired, counted);
        all += expired;
    }
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
    all
}

fn forget(before: Timestamp, deleted_before: Position) -> Command {
    ForgetDeleted { org: ORG, before, deleted_before }.into()
}

/// Returns the number of rows in each table that knows events, without empty tables.
fn rows(state: &Fixture) -> Vec<(String, usize)> {
    let mut found = std::collections::BTreeMap::<String, usize>::new();
    let dump = state.store.dump().unwrap();
    for row in dump.lines().filter(|row| !row.starts_with('#')) {
        let table = row.split(' ').next().unwrap().to_owned();
        if !["meta", "orgs", "inboxes", "keys", "endpoints", "numbers", "health"]
            .contains(&table.as_str())
        {
            *found.entry(table).or_default() += 1;
        }
    }
    found.into_iter().collect()
}

fn exists(state: &Fixture, event: u128) -> bool {
    state.store.event(ORG, EventId(event)).unwrap().is_some()
}

fn erase_at(event: u128, at: u64) -> Command {
    let (event, at) = (EventId(event), Timestamp(at));
    Command::EraseEvent(EraseEvent { org: ORG, event, endpoints: Vec::new(), at })
}

fn delete(id: u128) -> Command {
    Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(id) })
}

/// Events in every state, received at 1: 1 is delivered, 2 is acknowledged and has a dead letter,
/// 3 is acknowledged and waits for a retry, 4 is open and unrouted, 5 is erased, 6 is open and has
/// a dead letter, 7 waits for its first attempt, 8 is acknowledged and canceled. Each but 4 has
/// deliveries to the endpoints 50 and 51, of which 51 is deleted.
fn of_every_kind() -> Fixture {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    for id in [50, 51] {
        state.apply(&put_endpoint(id));
    }
    for event in 1..=8 {
        state.apply(&submit(event, 1, None));
        if event != 4 {
            let due_at = if event % 2 == 0 { LATER } else { AT_ONCE };
            state.apply(&route(event, &[50, 51], due_at));
        }
        if event != 7 {
            state.apply(&settle(event, 51, 1, Verdict::Delivered));
        }
    }
    state.apply(&settle(1, 50, 1, Verdict::Delivered));
    state.apply(&settle(2, 50, 1, DEAD));
    state.apply(&settle(3, 50, 1, Verdict::RetryAt(Timestamp(90))));
    state.apply(&erase_at(5, 1));
    state.apply(&settle(6, 50, 1, DEAD));
    state.apply(&settle(8, 50, 1, DEAD));
    let (endpoint, event) = (EndpointId(50), EventId(8));
    state.apply(&Command::DropDead(DropDead { org: ORG, endpoint, event }));
    for event in [2, 3, 8] {
        state.apply(&ack(event));
    }
    state.apply(&delete(51));
    state
}

#[test]
fn an_event_expires_by_its_age_and_by_what_is_left_to_do_for_it() {
    let mut state = of_every_kind();
    assert_eq!(expire(&mut state, cutoffs(1, 1, 1)), Expired::default(), "nothing is old enough");
    let expired = |finished, dead, open| Expired { finished, dead, open };
    assert_eq!(expire(&mut state, cutoffs(2, 0, 0)), expired(3, 0, 0));
    let left = |state: &Fixture| (1..=8).filter(|id| exists(state, *id)).collect::<Vec<_>>();
    assert_eq!(left(&state), [2, 3, 4, 6, 7]);
    state.store.write_back().unwrap();
    assert_eq!(expire(&mut state, cutoffs(2, 2, 0)), expired(0, 1, 0));
    assert_eq!(left(&state), [3, 4, 6, 7]);
    assert_eq!(expire(&mut state, cutoffs(2, 2, 0)), Expired::default());
    assert_eq!(expire(&mut state, cutoffs(0, 0, 2)), expired(0, 0, 4));
    assert_eq!(left(&state), []);
}

/// Asserts that only the events 3, 4, 6 and 7 are listed, with their deliveries.
fn assert_lists(state: &Fixture) {
    let (before, limit, types) = (None, 9, TypeFilter::default());
    let (status, since, until) = (None, None, None);
    let query = EventQuery { before, limit, types, status, since, until };
    let listed = state.store.events(ORG, &query).unwrap().items;
    assert_eq!(listed.iter().map(|item| item.id.0).collect::<Vec<_>>(), [7, 6, 4, 3]);
    assert_eq!(state.inbox(ORG).iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [4, 6, 7]);
    let (endpoint, event, after, limit) = (None, None, None, 99);
    let query = DeliveryQuery { status: None, endpoint, event, since, until, after, limit };
    let deliveries = state.store.deliveries(ORG, &query).unwrap().items;
    let deliveries: Vec<_> = deliveries.iter().map(|it| (it.endpoint.0, it.event.0)).collect();
    assert_eq!(deliveries, [(50, 7), (50, 6), (50, 3), (51, 7), (51, 6), (51, 3)]);
    let (after, oldest_first, with_deleted) = (None, true, true);
    let query = DeadQuery { endpoint, since, until, after, limit, oldest_first, with_deleted };
    let dead = state.store.dead_letters(ORG, &query).unwrap().items;
    assert_eq!(dead.iter().map(|it| it.event.0).collect::<Vec<_>>(), [6]);
    let counts = state.store.counts().unwrap();
    assert_eq!((counts.events, counts.open, counts.waiting, counts.dead), (4, 3, 3, 1));
}

#[test]
fn an_expired_event_is_absent_everywhere_while_others_of_its_block_stay() {
    let mut state = of_every_kind();
    expire(&mut state, cutoffs(2, 2, 0));
    assert_lists(&state);
    state.reopen();
    assert_lists(&state);
    let of = EventId(1);
    assert_eq!(state.apply(&ack(1)), Applied::AckEvent(AckOutcome::NotFound));
    assert_eq!(state.apply(&erase(1, &[])), Applied::EraseEvent(EraseOutcome::NotFound));
    assert_eq!(state.apply(&retry(1, 50, false)), Applied::RetryDelivery(RetryOutcome::NotFound));
    let no_effect = Applied::SettleAttempt(SettleOutcome::NoEffect);
    assert_eq!(state.apply(&settle(1, 50, 2, Verdict::Delivered)), no_effect);
    assert_eq!(state.store.due_delivery(EndpointId(50), of).unwrap().map(|due| due.event), None);
    assert_eq!(state.store.delivery(ORG, of, 1).unwrap().map(|it| it.delivery), None);
    assert_eq!(state.store.routing(ORG, of).unwrap(), None);
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}

#[test]
fn an_empty_block_leaves_with_all_its_rows_and_the_next_event_begins_a_new_one() {
    let mut state = of_every_kind();
    state.store.write_back().unwrap();
    expire(&mut state, cutoffs(2, 2, 2));
    let only = |table: &str| (table.to_owned(), 1);
    assert_eq!(rows(&state), [only("ended"), only("tombstones")]);
    let counts = state.store.counts().unwrap();
    assert_eq!((counts.events, counts.open, counts.waiting, counts.dead), (0, 0, 0, 0));
    let (_, health) = state.store.endpoint_of(ORG, EndpointId(50)).unwrap().unwrap();
    let attempts = health.accepted + health.failed;
    assert_eq!((health.waiting, health.dead, attempts), (0, 0, 5), "attempts stay counted");
    assert_eq!(state.store.org_summary(ORG).unwrap().unwrap().open, 0);
    assert_eq!(state.store.newest_event(ORG).unwrap(), EventId(0));
    state.reopen();
    state.apply(&submit(20, 1, None));
    state.apply(&submit(21, 1, None));
    assert_eq!(state.inbox(ORG).len(), 2);
    assert_eq!(rows(&state).iter().filter(|(table, _)| table == "events").count(), 1);
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}

#[test]
fn nothing_expires_by_an_outdated_search() {
    let (all, mut state) = (cutoffs(2, 2, 2), of_every_kind());
    let outdated = |state: &mut Fixture, change: Command| {
        let found = state.store.expiring(ORG, EventId(0), all).unwrap();
        state.apply(&change);
        let before = state.store.counts().unwrap();
        let became = state.apply(&command(found, all, Some(report(900))));
        assert_eq!(became, Applied::ExpireEvents(ExpireOutcome::Incomplete), "{change:?}");
        assert_eq!(state.store.counts().unwrap(), before);
    };
    outdated(&mut state, ack(4));
    outdated(&mut state, route(4, &[50], AT_ONCE));
    outdated(&mut state, retry(1, 50, false));
    outdated(&mut state, submit(30, 1, None));
    // An endpoint that is not named, an unknown block, blocks out of order.
    let found = state.store.expiring(ORG, EventId(0), all).unwrap();
    let [block] = found.blocks.as_slice() else { panic!("{found:?}") };
    assert_eq!(block.endpoints, [EndpointId(50), EndpointId(51)]);
    let unnamed = ExpiringBlock { endpoints: vec![EndpointId(50)], ..block.clone() };
    let unknown = ExpiringBlock { first: EventId(2), ..block.clone() };
    for blocks in [vec![unnamed], vec![block.clone(), unknown], vec![block.clone(); 2]] {
        let wrong = Expiring { blocks, ..found.clone() };
        let became = state.apply(&command(wrong, all, None));
        assert_eq!(became, Applied::ExpireEvents(ExpireOutcome::Incomplete));
    }
    // A command that comes twice has an effect once.
    let twice = command(found, all, Some(report(900)));
    let became = state.apply(&twice);
    // The first event waits again.
    let expired = Expired { finished: 2, dead: 1, open: 6 };
    let stored = Some(crate::store::Stored {
        kind: OperationalEventKind::InboxExpired,
        id: EventId(900),
        received_at: Timestamp(3),
    });
    assert_eq!(became, Applied::ExpireEvents(ExpireOutcome::Expired { expired, stored }));
    assert_eq!(state.apply(&twice), Applied::ExpireEvents(ExpireOutcome::Incomplete));
    assert_eq!(state.store.counts().unwrap().events, 1, "the operational event");
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}

#[test]
fn a_search_counts_the_types_that_nobody_confirmed() {
    let mut state = of_every_kind();
    let found = state.store.expiring(ORG, EventId(0), cutoffs(2, 2, 2)).unwrap();
    let types: Vec<_> = found.unconfirmed.iter().map(|(it, count)| (it.as_str(), *count)).collect();
    assert_eq!(types, [("order.created", 5)]);
    assert_eq!(found.received, Some((Timestamp(1), Timestamp(1))));
    let mut finished = cutoffs(2, 0, 0);
    let found = state.store.expiring(ORG, EventId(0), finished).unwrap();
    assert_eq!((found.unconfirmed.len(), found.received, found.next), (0, None, None));
    // A report about nothing is not stored, and an operational event causes no report.
    let became = state.apply(&command(found, finished, Some(report(900))));
    assert!(matches!(became, Applied::ExpireEvents(ExpireOutcome::Expired { stored: None, .. })));
    let all = cutoffs(2, 2, 2);
    let found = state.store.expiring(ORG, EventId(0), all).unwrap();
    state.apply(&command(found, all, Some(report(901))));
    finished = cutoffs(0, 9, 9);
    state.apply(&route(901, &[50], AT_ONCE));
    let found = state.store.expiring(ORG, EventId(0), finished).unwrap();
    assert_eq!((found.expired.open, found.unconfirmed.len()), (1, 0));
}

/// Delivered events in many blocks and one open event, to one existing endpoint and among very many
/// deleted ones.
fn of_many_blocks(events: u128, deleted: u128) -> Fixture {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    for endpoint in [50, 60, 61] {
        state.apply(&put_endpoint(endpoint));
    }
    for id in 1..=events {
        state.apply(&submit(id, 1, None));
        state.apply(&route(id, &[50, 60, 61], AT_ONCE));
        for endpoint in [50, 60, 61] {
            state.apply(&settle(id, endpoint, 1, Verdict::Delivered));
        }
    }
    state.apply(&submit(events + 1, 1, None));
    for id in 1_000..1_000 + deleted {
        state.apply(&put_endpoint(id));
        state.apply(&delete(id));
    }
    for id in [60, 61] {
        state.apply(&delete(id));
    }
    state.store.write_back().unwrap();
    state
}

#[test]
fn many_blocks_expire_in_bounded_steps_and_the_deleted_endpoints_are_found() {
    const EVENTS: u128 = 64 * 20;
    let mut state = of_many_blocks(EVENTS, 700);
    let found = state.store.expiring(ORG, EventId(0), cutoffs(2, 0, 0)).unwrap();
    assert_eq!((found.blocks.len(), found.next), (8, Some(EventId(64 * 7 + 2))));
    // However many were deleted: their rows are read in portions.
    let from = (ORG, EventId(0));
    let mut begun = state.store.begin_expiring(from, cutoffs(2, 0, 0), false).unwrap();
    assert!(!begun.is_named() && begun.blocks.is_empty());
    state.store.name_more(&mut begun).unwrap();
    assert!(!begun.is_named(), "702 were deleted");
    state.store.name_more(&mut begun).unwrap();
    assert_eq!((begun.is_named(), begun), (true, found));
    let single = state.store.begin_expiring(from, cutoffs(2, 0, 0), true).unwrap();
    assert_eq!(single.next, Some(EventId(2)));
    assert_eq!(expire(&mut state, cutoffs(2, 0, 0)).finished, 1_280);
    assert!(exists(&state, EVENTS + 1));
    // The endpoints were deleted after the remaining event came.
    assert!(!state.store.has_forgettable(ORG, (NEVER, Position::MAX)).unwrap());
    expire(&mut state, cutoffs(0, 0, 2));
    let mut forgotten = 0;
    while state.store.has_forgettable(ORG, (NEVER, Position::MAX)).unwrap() {
        state.apply(&forget(NEVER, Position::MAX));
        forgotten += 1;
    }
    assert_eq!(forgotten, 3, "in steps");
    let dump = state.store.dump().unwrap();
    let numbers = dump.lines().filter(|row| row.starts_with("numbers ")).count();
    assert_eq!(numbers, 1, "the existing endpoint keeps its number");
    assert_eq!(rows(&state), []);
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}

#[test]
fn a_replay_passes_over_what_has_expired_and_is_forgotten_some_time_after_its_end() {
    let mut state = of_every_kind();
    let (replay, at) = (ReplayId(77), Timestamp(2));
    let (event_types, only) = (Vec::new(), ReplayOnly::All);
    let request = ReplayRequest { endpoint: None, since: None, until: None, event_types, only };
    state.apply(&StartReplay { org: ORG, replay, request, at }.into());
    expire(&mut state, cutoffs(2, 2, 2));
    state.apply(&submit(20, 1, None));
    let mut taken = std::collections::BTreeSet::new();
    for _ in 0..9 {
        let turn = state.store.replay_turn((ORG, replay), at, &taken).unwrap();
        if let Some(step) = command_of_turn((ORG, replay), turn, at) {
            state.apply(&step);
        }
        taken.clear();
    }
    let known = state.store.replay(ORG, replay, at).unwrap().unwrap();
    assert_eq!((known.ended, known.examined), (Some((ReplayEnd::Finished, at)), 0));
    state.apply(&forget(Timestamp(2), Position::MAX));
    assert!(state.store.replay(ORG, replay, at).unwrap().is_some());
    assert!(state.store.has_forgettable(ORG, (Timestamp(3), Position::MAX)).unwrap());
    state.apply(&forget(Timestamp(3), Position::MAX));
    assert!(state.store.replay(ORG, replay, at).unwrap().is_none());
}

#[test]
fn the_age_of_an_erased_event_counts_from_its_erasure() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    state.apply(&submit(1, 1, None));
    state.apply(&erase_at(1, 50));
    assert_eq!(expire(&mut state, cutoffs(50, 50, 50)), Expired::default());
    assert_eq!(expire(&mut state, cutoffs(51, 0, 0)).finished, 1);
}

#[test]
fn an_event_that_came_while_the_clock_was_behind_counts_from_the_time_in_its_id() {
    let at = |ms: u128| ms << 80;
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    // The second id is from a clock that was ahead.
    for event in [at(50), at(200)] {
        state.apply(&submit(event, 1, None));
    }
    assert_eq!(expire(&mut state, cutoffs(0, 0, 50)).open, 1);
    assert!(exists(&state, at(50)) && !exists(&state, at(200)));
    assert_eq!(expire(&mut state, cutoffs(0, 0, 51)).open, 1);
}

#[test]
fn an_erased_event_does_not_expire_before_compaction_had_the_time_to_find_it() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    for event in [1, 2] {
        state.apply(&submit(event, 1, None));
    }
    state.apply(&erase_at(1, 50));
    let early = Cutoffs { erased: Timestamp(50), ..cutoffs(90, 90, 90) };
    assert_eq!(expire(&mut state, early).all(), 1, "the other event expires");
    assert!(exists(&state, 1));
    let late = Cutoffs { erased: Timestamp(51), ..early };
    assert_eq!(expire(&mut state, late).finished, 1);
}

#[test]
fn a_dedup_id_outlives_its_event() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    state.apply(&submit(1, 1, Some(("a", 1))));
    expire(&mut state, cutoffs(2, 2, 2));
    let first = SubmitOutcome::Duplicate { id: EventId(1), received_at: Timestamp(1) };
    assert_eq!(state.apply(&submit(9, 2, Some(("a", 1)))), Applied::SubmitEvent(first));
}

#[test]
fn a_replay_reaches_the_newest_event_although_the_last_block_has_expired() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    // The first block stays open, the second one expires.
    (1..=66).for_each(|event| drop(state.apply(&submit(event, 1, None))));
    for event in [65, 66] {
        state.apply(&route(event, &[], AT_ONCE));
        state.apply(&ack(event));
    }
    assert_eq!(expire(&mut state, cutoffs(2, 0, 0)).finished, 2);
    assert_eq!(state.store.newest_event(ORG).unwrap(), EventId(64));
    let (replay, at) = (ReplayId(77), Timestamp(2));
    let (event_types, only) = (Vec::new(), ReplayOnly::All);
    let request = ReplayRequest { endpoint: None, since: None, until: None, event_types, only };
    state.apply(&StartReplay { org: ORG, replay, request, at }.into());
    let dump = state.store.dump().unwrap();
    let row = dump.lines().find(|row| row.starts_with("replays ")).unwrap();
    assert!(row.contains(&format!("last: {:?}", EventId(64))), "{row}");
}

#[test]
fn an_endpoint_that_was_just_deleted_is_not_forgotten_and_does_not_return() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    state.apply(&put_endpoint(50));
    let before = state.store.applied();
    state.apply(&delete(50));
    assert!(!state.store.has_forgettable(ORG, (NEVER, before)).unwrap());
    state.apply(&forget(NEVER, before));
    // A change that was asked for before the deletion.
    state.apply(&put_endpoint(50));
    assert!(state.store.endpoint_of(ORG, EndpointId(50)).unwrap().is_none());
    // The control: without its tombstone it returns.
    state.apply(&forget(NEVER, Position::MAX));
    state.apply(&put_endpoint(50));
    assert!(state.store.endpoint_of(ORG, EndpointId(50)).unwrap().is_some());
}
