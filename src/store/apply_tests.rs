//! What commands do to the state.

use super::erase::ENDED_LOOKED_AT;
use super::*;
use crate::model::command::{
    AckEvent, CancelDeliveries, CreateOrg, DeleteEndpoint, DropDead, EraseEvent, ExpireDedup, PutEndpoint,
    RetryDelivery, RouteEvent, SettleAttempt, SkipOrgs, SubmitEvent,
};
use crate::model::delivery::{AttemptError, AttemptOutcome, DeadReason, DeliveryStatus, ErrorCode, Trigger, Verdict};
use crate::model::endpoint::{DisabledReason, Endpoint, EndpointSettings, SealedSecret};
use crate::model::event::{Dedup, NewEvent};
use crate::model::id::{ENDPOINT_NUMBER_MAX, KeyId, OrgId};
use crate::model::key::{Key, Scopes};
use crate::model::notice::Notice;
use crate::model::org::{InboxMode, Org, Tier};
use crate::rules::type_filter::TypeFilter;
use crate::store::InboxQuery;

const NO_CACHE: u64 = 8 << 20;

pub(in crate::store) struct Fixture {
    pub(in crate::store) store: Store,
    dir: tempfile::TempDir,
    position: u64,
}

impl Fixture {
    pub(in crate::store) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), NO_CACHE, u64::MAX).unwrap();
        Self { store, dir, position: 1 }
    }

    pub(in crate::store) fn apply(&mut self, command: &Command) -> Outcome {
        let mut outcomes = Vec::new();
        let position = self.position;
        self.position += 100;
        self.store.apply(std::iter::once((position, command)), self.position, &mut outcomes).unwrap();
        outcomes.remove(0)
    }

    fn reopen(&mut self) {
        self.store.close().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        drop(std::mem::replace(&mut self.store, Store::open(elsewhere.path(), NO_CACHE, u64::MAX).unwrap()));
        self.store = Store::open(self.dir.path(), NO_CACHE, u64::MAX).unwrap();
        assert_eq!(self.store.rebuild_reason(), None);
    }

    fn inbox(&self, org: OrgNo) -> Vec<(EventId, EventStatus)> {
        let query = InboxQuery { after: None, limit: 500, types: TypeFilter::default(), since: None };
        self.store.inbox(org, &query).unwrap().items.into_iter().map(|item| (item.id, item.status)).collect()
    }

    fn status(&self, event: u128) -> EventStatus {
        self.store.event(ORG, EventId(event)).unwrap().unwrap().status
    }
}

pub(in crate::store) const ORG: OrgNo = OrgNo(0);

pub(in crate::store) fn create_org(mode: InboxMode, id: u128) -> Command {
    let (created_at, name) = (Timestamp(1), format!("Acme {id}"));
    let key = Key {
        id: KeyId(id + 1),
        name: "first".into(),
        hash: "$".into(),
        check: [0; 8],
        scopes: Scopes::all(),
        created_at,
        expires_at: None,
        ended_at: None,
    };
    Command::CreateOrg(CreateOrg {
        org: Org { id: OrgId(id), name, tier: Tier::Free, inbox_mode: mode, created_at },
        key,
    })
}

pub(in crate::store) fn submit(id: u128, at: u64, dedup: Option<(&str, u8)>) -> Command {
    let dedup = dedup.map(|(text, fingerprint)| Dedup {
        id: text.to_owned(),
        digest: std::array::from_fn(|at| text.as_bytes()[at % text.len()]),
        fingerprint: [fingerprint; 8],
        window_start: Timestamp(at).minus_ms(1_000),
    });
    let event = NewEvent {
        event_type: "order.created".parse().unwrap(),
        dedup,
        labels: Vec::new(),
        occurred_at: None,
        deliver_after: None,
        payload: b"{}".as_slice().into(),
        cloudevent: None,
    };
    Command::SubmitEvent(Box::new(SubmitEvent {
        org: ORG,
        by: None,
        id: EventId(id),
        received_at: Timestamp(at),
        event,
    }))
}

pub(in crate::store) fn put_endpoint(id: u128) -> Command {
    let settings = EndpointSettings { url: "https://example.com/".into(), ..EndpointSettings::default() };
    let endpoint = Endpoint::new(EndpointId(id), settings, SealedSecret::new(vec![7; 72]), Timestamp(1));
    Command::PutEndpoint(PutEndpoint { org: ORG, endpoint, sets_enabled: true })
}

/// Events in these tests are taken in at 1 or 2: what is due later has a row of its own from the beginning.
pub(in crate::store) const AT_ONCE: u64 = 1;
pub(in crate::store) const LATER: u64 = 10;

pub(in crate::store) fn route(event: u128, endpoints: &[u128], due_at: u64) -> Command {
    let endpoints = endpoints.iter().map(|id| EndpointId(*id)).collect();
    Command::RouteEvent(RouteEvent { org: ORG, event: EventId(event), endpoints, due_at: Timestamp(due_at) })
}

pub(in crate::store) fn settle(event: u128, endpoint: u128, number: u32, verdict: Verdict) -> Command {
    let outcome = AttemptOutcome { status: Some(200), ..AttemptOutcome::new(Timestamp(20), 5) };
    Command::SettleAttempt(Box::new(SettleAttempt {
        org: ORG,
        endpoint: EndpointId(endpoint),
        event: EventId(event),
        number,
        trigger: Trigger::Schedule,
        outcome,
        verdict,
        disables: (verdict == Verdict::Dead(DeadReason::Gone)).then_some(DisabledReason::Gone),
        previous: None,
        notices: Vec::new(),
    }))
}

pub(in crate::store) fn ack(event: u128) -> Command {
    Command::AckEvent(AckEvent { org: ORG, event: EventId(event), at: Timestamp(30) })
}

#[test]
fn a_waiting_delivery_knows_why_it_is_tried_next_and_forgets_it_with_the_attempt() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    state.apply(&put_endpoint(50));
    for id in 1..=2 {
        state.apply(&submit(id, 1, None));
    }
    state.apply(&route(1, &[50], 60));
    state.apply(&route(2, &[50], LATER));
    let trigger = |state: &Fixture, event| {
        state.store.due_delivery(EndpointId(50), EventId(event)).unwrap().map(|due| due.trigger)
    };
    assert_eq!(trigger(&state, 1), Some(Trigger::Schedule));
    for id in 1..=2 {
        state.apply(&retry(id, 50, false));
    }
    assert_eq!(trigger(&state, 1), Some(Trigger::Retry), "it comes sooner");
    assert_eq!(trigger(&state, 2), Some(Trigger::Schedule), "it was due by itself");
    state.apply(&settle(1, 50, 1, Verdict::RetryAt(Timestamp(90))));
    assert_eq!(trigger(&state, 1), Some(Trigger::Schedule));
    state.apply(&settle(1, 50, 2, Verdict::Delivered));
    assert_eq!(trigger(&state, 1), None);
    state.apply(&retry(1, 50, false));
    assert_eq!(trigger(&state, 1), Some(Trigger::Retry), "once more");
    state.apply(&settle(1, 50, 3, Verdict::Dead(DeadReason::AttemptsExhausted)));
    let replay = Trigger::Replay;
    let Command::RetryDelivery(again) = retry(1, 50, true) else { unreachable!() };
    state.apply(&Command::RetryDelivery(RetryDelivery { trigger: replay, ..again }));
    assert_eq!(trigger(&state, 1), Some(replay));
}

pub(in crate::store) fn erase(event: u128, endpoints: &[u128]) -> Command {
    let endpoints = endpoints.iter().map(|id| EndpointId(*id)).collect();
    Command::EraseEvent(EraseEvent { org: ORG, event: EventId(event), endpoints, at: Timestamp(50) })
}

pub(in crate::store) fn retry(event: u128, endpoint: u128, only_dead: bool) -> Command {
    let (endpoint, event, at) = (EndpointId(endpoint), EventId(event), Timestamp(40));
    Command::RetryDelivery(RetryDelivery { org: ORG, endpoint, event, at, only_dead, trigger: Trigger::Retry })
}

/// Some of everything: two endpoints, one that accepts and one that does not answer, events in each state.
pub(in crate::store) fn fill(store: &Store) {
    let mut commands = vec![create_org(InboxMode::Auto, 1_000_000), put_endpoint(50), put_endpoint(51)];
    for id in 1..=100 {
        let dedup_id = u8::try_from(id).ok().filter(|id| *id < 26).map(|id| char::from(b'a' + id).to_string());
        commands.push(submit(id, 1, dedup_id.as_deref().map(|id| (id, 1))));
        if id % 3 != 0 {
            commands.push(route(id, &[50, 51], if id % 2 == 0 { AT_ONCE } else { LATER }));
            commands.push(settle(id, 50, 1, Verdict::Delivered));
        }
        match id % 4 {
            0 => commands.push(settle(id, 51, 1, Verdict::RetryAt(Timestamp(900)))),
            1 => commands.push(settle(id, 51, 1, Verdict::Dead(DeadReason::AttemptsExhausted))),
            2 => commands.push(ack(id)),
            _ => {}
        }
    }
    let positions = (1..).step_by(100);
    store.apply(positions.zip(&commands), 100_000, &mut Vec::new()).unwrap();
    store.write_back().unwrap();
}

#[test]
fn the_numbers_of_lost_organizations_are_given_to_nobody() {
    let mut state = Fixture::new();
    assert_eq!(state.apply(&create_org(InboxMode::Auto, 100)), Outcome::OrgCreated(OrgNo(0)));
    let skip = SkipOrgs { count: 2, judged_before: 0, lost_keys: vec![] };
    assert_eq!(state.apply(&Command::SkipOrgs(skip)), Outcome::Done);
    assert_eq!(state.apply(&create_org(InboxMode::Auto, 200)), Outcome::OrgCreated(OrgNo(3)));
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}

#[test]
fn a_name_is_one_organizations_alone_also_over_a_restart() {
    let mut state = Fixture::new();
    assert_eq!(state.apply(&create_org(InboxMode::Auto, 100)), Outcome::OrgCreated(OrgNo(0)));
    let named = |name: &str, id| {
        let Command::CreateOrg(mut make) = create_org(InboxMode::Auto, id) else { unreachable!() };
        make.org.name = name.to_owned();
        Command::CreateOrg(make)
    };
    assert_eq!(state.apply(&named("Acme 100", 200)), Outcome::OrgExists(OrgId(100)));
    assert_eq!(state.apply(&named("acme 100", 300)), Outcome::OrgCreated(OrgNo(2)), "who was refused took a number");
    assert_eq!(state.store.key(KeyId(201)).unwrap().map(|_| ()), None, "and has no key");
    assert_eq!((state.store.org_named("Acme 100"), state.store.org_named("other")), (Some(OrgId(100)), None));
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}

#[test]
fn the_same_dedup_id_is_the_first_event_within_the_window_and_a_new_one_after_it() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    let first = Outcome::Accepted { id: EventId(1), received_at: Timestamp(5_000) };
    assert_eq!(state.apply(&submit(1, 5_000, Some(("a", 1)))), first);
    let duplicate = Outcome::Duplicate { id: EventId(1), received_at: Timestamp(5_000) };
    assert_eq!(state.apply(&submit(2, 5_500, Some(("a", 1)))), duplicate);
    assert_eq!(state.apply(&submit(3, 6_000, Some(("a", 2)))), Outcome::Mismatch { id: EventId(1) });
    let after = Outcome::Accepted { id: EventId(4), received_at: Timestamp(6_001) };
    assert_eq!(state.apply(&submit(4, 6_001, Some(("a", 2)))), after, "the window has passed");
    assert_eq!(state.inbox(ORG).len(), 2);
    let before = Timestamp(6_002);
    state.apply(&Command::ExpireDedup(ExpireDedup { before }));
    let forgotten = Outcome::Accepted { id: EventId(5), received_at: Timestamp(6_003) };
    assert_eq!(state.apply(&submit(5, 6_003, Some(("a", 9)))), forgotten);
}

#[test]
fn dedup_ids_are_known_over_many_blocks_and_a_reopening_until_their_block_is_old() {
    const IDS: u128 = 400;
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000));
    let of = |n: u128, at: u64| {
        let Command::SubmitEvent(mut submit) = submit(n, at, Some((&format!("{n:03}"), 1))) else { unreachable!() };
        submit.event.dedup.as_mut().unwrap().window_start = Timestamp(0);
        Command::SubmitEvent(submit)
    };
    for n in 0..IDS {
        state.apply(&of(n + 1, u64::try_from(n).unwrap()));
    }
    let known = |state: &mut Fixture| -> Vec<bool> {
        let submits: Vec<_> = (0..IDS).map(|n| of(n + 1, 9_000)).collect();
        let events = submits.iter().map(|command| match command {
            Command::SubmitEvent(submit) => Some(submit.as_ref()),
            _ => None,
        });
        let outcomes = state.store.known_duplicates(events, Timestamp(0)).unwrap();
        for (n, outcome) in outcomes.iter().enumerate().filter_map(|(n, outcome)| Some((n, outcome.as_ref()?))) {
            let received_at = Timestamp(n as u64);
            assert_eq!(*outcome, Outcome::Duplicate { id: EventId(n as u128 + 1), received_at });
        }
        outcomes.iter().map(Option::is_some).collect()
    };
    assert_eq!(known(&mut state), vec![true; 400]);
    state.reopen();
    assert_eq!(known(&mut state), vec![true; 400], "the index is made anew");
    assert!(!state.store.has_expired_dedup(Timestamp(127)).unwrap());
    assert!(state.store.has_expired_dedup(Timestamp(128)).unwrap());
    // The third block is not wholly old: it stays.
    state.apply(&Command::ExpireDedup(ExpireDedup { before: Timestamp(300) }));
    let remembered: Vec<bool> = (0..IDS).map(|n| n >= 256).collect();
    assert_eq!(known(&mut state), remembered);
    state.apply(&Command::ExpireDedup(ExpireDedup { before: Timestamp(400) }));
    assert_eq!(known(&mut state), vec![false; 400]);
    let again = Outcome::Accepted { id: EventId(401), received_at: Timestamp(500) };
    let Command::SubmitEvent(mut submit) = of(1, 500) else { unreachable!() };
    submit.id = EventId(401);
    assert_eq!(state.apply(&Command::SubmitEvent(submit)), again);
}

#[test]
fn an_event_leaves_the_inbox_when_acknowledged_and_stays_acknowledged_since_then() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    state.apply(&submit(1, 1, None));
    assert_eq!(state.inbox(ORG), [(EventId(1), EventStatus::Accepted)]);
    assert_eq!(state.apply(&ack(1)), Outcome::Acknowledged { at: Timestamp(30) });
    assert_eq!(state.inbox(ORG), []);
    assert_eq!(state.apply(&ack(1)), Outcome::Acknowledged { at: Timestamp(30) });
    assert_eq!(state.apply(&ack(9)), Outcome::NotFound);
    let foreign = AckEvent { org: OrgNo(5), event: EventId(1), at: Timestamp(1) };
    assert_eq!(state.apply(&Command::AckEvent(foreign)), Outcome::NotFound);
    assert_eq!(state.store.counts().unwrap().open, 0);
}

#[test]
fn an_event_is_delivered_when_every_endpoint_that_matched_accepted_it() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    state.apply(&put_endpoint(50));
    state.apply(&put_endpoint(51));
    state.apply(&submit(1, 1, None));
    state.apply(&route(1, &[50, 51], AT_ONCE));
    state.apply(&settle(1, 50, 1, Verdict::Delivered));
    assert_eq!(state.inbox(ORG), [(EventId(1), EventStatus::Accepted)]);
    state.apply(&settle(1, 51, 1, Verdict::RetryAt(Timestamp(99))));
    assert_eq!(state.store.waiting_for(EndpointId(51), Timestamp(50), 9).unwrap(), [(Timestamp(99), EventId(1))]);
    state.apply(&settle(1, 51, 2, Verdict::Delivered));
    assert_eq!((state.inbox(ORG), state.status(1)), (vec![], EventStatus::Delivered));
    assert_eq!(state.store.next_lane(None).unwrap(), None);
}

#[test]
fn what_waits_is_listed_by_when_it_is_due_and_what_was_to_go_at_once_is_due_whatever_the_clock_says() {
    const EVENTS: u64 = 200;
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000));
    state.apply(&put_endpoint(50));
    for id in 1..=EVENTS {
        state.apply(&submit(id.into(), 1_000 + id, None));
        // Every tenth is to wait; the others have been due since the time in their ids, which is 1970 here.
        state.apply(&route(id.into(), &[50], if id % 10 == 0 { 5_000 + id } else { 1_000 + id }));
        if id % 50 == 7 {
            state.apply(&settle(id.into(), 50, 1, Verdict::RetryAt(Timestamp(4_000 + id))));
        }
        if id % 90 == 0 {
            state.store.write_back().unwrap();
        }
    }
    let due_at = |id: u64| match id {
        _ if id.is_multiple_of(10) => 5_000 + id,
        _ if id % 50 == 7 => 4_000 + id,
        _ => 0,
    };
    let mut wanted: Vec<_> = (1..=EVENTS).map(|id| (Timestamp(due_at(id)), EventId(id.into()))).collect();
    wanted.sort();
    let waiting = |now, limit| state.store.waiting_for(EndpointId(50), Timestamp(now), limit).unwrap();
    assert_eq!(waiting(9_999, 500), wanted);
    assert_eq!(waiting(9_999, 30), wanted[..30]);
    let due = waiting(3, 500).into_iter().filter(|(at, _)| *at <= Timestamp(3)).count();
    assert_eq!(due, 176, "the clock was set back: all but those that were to wait");
    assert_eq!(state.store.next_lane(None).unwrap().unwrap().endpoint, EndpointId(50));
}

#[test]
fn a_dead_delivery_leaves_the_event_in_the_inbox_as_dead_until_it_is_acknowledged() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    state.apply(&put_endpoint(50));
    state.apply(&submit(1, 1, None));
    state.apply(&route(1, &[50], AT_ONCE));
    state.apply(&settle(1, 50, 1, Verdict::Dead(DeadReason::Gone)));
    assert_eq!(state.inbox(ORG), [(EventId(1), EventStatus::Dead)]);
    assert!(!state.store.target(EndpointId(50)).unwrap().unwrap().1.is_enabled(), "410 disables");
    state.apply(&ack(1));
    assert_eq!((state.inbox(ORG), state.status(1)), (vec![], EventStatus::Acknowledged));
    let counts = state.store.counts().unwrap();
    assert_eq!((counts.waiting, counts.dead, counts.open), (0, 1, 0));
}

#[test]
fn only_a_change_that_says_so_enables_what_a_receiver_disabled_and_then_failures_count_anew() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    state.apply(&put_endpoint(50));
    state.apply(&submit(1, 1, None));
    state.apply(&route(1, &[50], AT_ONCE));
    let Command::SettleAttempt(mut gone) = settle(1, 50, 1, Verdict::Dead(DeadReason::Gone)) else { unreachable!() };
    gone.outcome.error = Some(AttemptError { code: ErrorCode::HttpStatus, detail: "410".into() });
    state.apply(&Command::SettleAttempt(gone));
    let Command::PutEndpoint(mut put) = put_endpoint(50) else { unreachable!() };
    put.sets_enabled = false;
    // Made from what the endpoint was before.
    state.apply(&Command::PutEndpoint(put));
    let (endpoint, health) = state.store.endpoint_of(ORG, EndpointId(50)).unwrap().unwrap();
    assert_eq!((endpoint.disabled, health.failing_since), (Some(DisabledReason::Gone), Some(Timestamp(20))));
    state.apply(&put_endpoint(50));
    let (endpoint, health) = state.store.endpoint_of(ORG, EndpointId(50)).unwrap().unwrap();
    assert_eq!((endpoint.disabled, health.failing_since), (None, None));
}

#[test]
fn an_ack_only_inbox_keeps_what_was_delivered() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::AckOnly, 100));
    state.apply(&put_endpoint(50));
    state.apply(&submit(1, 1, None));
    state.apply(&route(1, &[50], AT_ONCE));
    state.apply(&settle(1, 50, 1, Verdict::Delivered));
    assert_eq!(state.inbox(ORG), [(EventId(1), EventStatus::Delivered)]);
}

#[test]
fn a_deleted_endpoint_gets_nothing_and_what_waited_for_it_is_canceled() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    state.apply(&put_endpoint(50));
    state.apply(&submit(1, 1, None));
    state.apply(&submit(2, 2, None));
    state.apply(&route(1, &[50], AT_ONCE));
    state.apply(&Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(50) }));
    state.apply(&route(2, &[50], AT_ONCE));
    let events = vec![EventId(1), EventId(2)];
    state.apply(&Command::CancelDeliveries(CancelDeliveries { org: ORG, endpoint: EndpointId(50), events }));
    assert_eq!(state.store.next_lane(None).unwrap(), None);
    assert_eq!(state.inbox(ORG), [(EventId(1), EventStatus::Accepted), (EventId(2), EventStatus::Accepted)]);
    assert_eq!(state.store.counts().unwrap().waiting, 0);
}

#[test]
fn endpoints_have_numbers_of_their_own_that_are_given_again_only_when_they_are_used_up() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    let number = |state: &Fixture, id: u128| {
        state.store.read().endpoints.get(EndpointId(id)).unwrap().map_or(0, |row| row.number)
    };
    let delete = |id| Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(id) });
    for (id, expected) in [(50, 1), (51, 2), (50, 1)] {
        assert_eq!(state.apply(&put_endpoint(id)), Outcome::Done);
        assert_eq!(number(&state, id), expected, "{id}");
    }
    state.apply(&delete(50));
    assert_eq!(state.apply(&put_endpoint(50)), Outcome::NotFound, "one that has ended stays ended");
    state.apply(&put_endpoint(52));
    assert_eq!(number(&state, 52), 3, "not the one that was given before");
    state.store.write().orgs.edit(ORG).unwrap().unwrap().next_endpoint = ENDPOINT_NUMBER_MAX;
    for (id, expected) in [(53, ENDPOINT_NUMBER_MAX), (54, 1), (55, 4)] {
        assert_eq!(state.apply(&put_endpoint(id)), Outcome::Done);
        assert_eq!(number(&state, id), expected, "{id}");
    }
    assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
}

#[test]
fn a_routing_that_crashes_three_times_parks_the_event() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    state.apply(&put_endpoint(50));
    state.apply(&submit(1, 1, None));
    let crash = Command::NoteRouteCrash(crate::model::command::NoteRouteCrash { org: ORG, event: EventId(1) });
    state.apply(&crash);
    state.apply(&crash);
    assert!(state.store.unrouted(ORG, EventId(1)).unwrap().is_some());
    state.apply(&crash);
    assert_eq!(state.store.unrouted(ORG, EventId(1)).unwrap(), None);
    assert_eq!(state.inbox(ORG), [(EventId(1), EventStatus::Dead)]);
}

#[test]
fn pages_follow_one_another_through_blocks_and_a_write_back() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    for id in 1..=300 {
        state.apply(&submit(id, 1, None));
        if id == 150 {
            state.store.write_back().unwrap();
        }
    }
    for id in (1..=300).filter(|id| id % 3 == 0) {
        state.apply(&ack(id));
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let query = InboxQuery { after, limit: 7, types: TypeFilter::default(), since: None };
        let page = state.store.inbox(ORG, &query).unwrap();
        seen.extend(page.items.iter().map(|item| item.id.0));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..=300).filter(|id| id % 3 != 0).collect::<Vec<u128>>());
}

/// A delivery's status, attempts and those before its schedule began anew.
fn stands(state: &Fixture, event: u128) -> (DeliveryStatus, u32, Option<u32>) {
    let found = state.store.delivery(ORG, EventId(event), 1).unwrap().unwrap().delivery;
    let due = state.store.due_delivery(EndpointId(50), EventId(event)).unwrap();
    (found.standing.status(), found.attempts, due.map(|due| due.base))
}

#[test]
fn what_is_tried_again_is_due_now_and_what_was_over_begins_its_schedule_anew() {
    const DEAD: Verdict = Verdict::Dead(DeadReason::AttemptsExhausted);
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
    assert_eq!(state.status(3), EventStatus::Delivered);
    for id in [1, 3, 4] {
        assert_eq!(state.apply(&retry(id, 50, true)), Outcome::NotFound, "no dead letter");
    }
    assert_eq!(state.apply(&retry(9, 50, false)), Outcome::NotFound);
    for _twice in 0..2 {
        for id in 1..=4 {
            assert_eq!(state.apply(&retry(id, 50, false)), Outcome::Done);
        }
        assert_eq!(stands(&state, 1), (DeliveryStatus::Retrying, 1, Some(0)), "goes on with its schedule");
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
    state.apply(&settle(2, 50, 2, DEAD));
    assert_eq!(stands(&state, 2), (DeliveryStatus::Dead, 2, None));
    let drop = Command::DropDead(DropDead { org: ORG, endpoint: EndpointId(50), event: EventId(2) });
    assert_eq!((state.apply(&drop), state.apply(&drop)), (Outcome::Done, Outcome::NotFound));
    assert_eq!((stands(&state, 2).0, state.status(2)), (DeliveryStatus::Canceled, EventStatus::Accepted));
    state.apply(&retry(2, 50, false));
    state.apply(&settle(2, 50, 3, Verdict::Delivered));
    assert_eq!((stands(&state, 2), state.status(2)), ((DeliveryStatus::Delivered, 3, None), EventStatus::Delivered));
    state.apply(&settle(3, 50, 2, Verdict::RetryAt(Timestamp(99))));
    assert_eq!(stands(&state, 3), (DeliveryStatus::Retrying, 2, Some(1)), "the base stays");
    assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
    state.apply(&Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(50) }));
    assert_eq!(state.apply(&retry(1, 50, false)), Outcome::NotFound, "its endpoint is no more");
}

#[path = "apply_random_tests.rs"]
mod random;

#[path = "apply_replay_tests.rs"]
mod replays;

#[test]
fn an_erased_event_leaves_the_inbox_and_nothing_of_it_is_under_way_any_more() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::AckOnly, 1_000_000));
    for endpoint in 50..54 {
        state.apply(&put_endpoint(endpoint));
    }
    for (event, due_at) in [(1, AT_ONCE), (2, LATER)] {
        state.apply(&submit(event, 1, Some((["a", "b"][usize::try_from(event).unwrap() - 1], 1))));
        state.apply(&route(event, &[50, 51, 52, 53], due_at));
        state.apply(&settle(event, 50, 1, Verdict::Delivered));
        state.apply(&settle(event, 51, 1, Verdict::RetryAt(Timestamp(900))));
        state.apply(&settle(event, 52, 1, Verdict::Dead(DeadReason::AttemptsExhausted)));
    }
    state.apply(&submit(3, 1, None));
    // Of a deleted endpoint too.
    state.apply(&Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(52) }));
    state.store.write_back().unwrap();
    // Those that live are looked at in any case.
    for (event, endpoints) in [(1, [51, 52].as_slice()), (2, &[52, 7]), (3, &[])] {
        assert_eq!(state.apply(&erase(event, endpoints)), Outcome::Erased { at: Timestamp(50) });
    }
    assert_eq!(state.apply(&erase(9, &[50])), Outcome::NotFound);
    assert_eq!(state.inbox(ORG), []);
    let counts = state.store.counts().unwrap();
    assert_eq!((counts.waiting, counts.dead, counts.open), (0, 0, 0));
    let standing = |state: &Fixture, endpoint_number| {
        let found = state.store.delivery(ORG, EventId(1), endpoint_number).unwrap().unwrap();
        found.delivery.standing.status()
    };
    let all: Vec<_> = (1..=4).map(|number| standing(&state, number)).collect();
    let canceled = DeliveryStatus::Canceled;
    assert_eq!(all, [DeliveryStatus::Delivered, canceled, canceled, canceled], "what was accepted stays so");
    for endpoint in [50, 51, 53] {
        assert_eq!(state.store.due_delivery(EndpointId(endpoint), EventId(1)).unwrap().map(|due| due.event), None);
        assert_eq!(state.apply(&retry(1, endpoint, false)), Outcome::Erased { at: Timestamp(50) });
    }
    // An attempt that was on its way is kept, and disables, but its delivery stays canceled; nothing is routed any more.
    let gone = failed(settle(1, 53, 1, Verdict::Dead(DeadReason::Gone)), 20);
    let disabled = vec![NoticeKind::EndpointDisabled];
    let kinds = |outcome: Outcome| outcome.told().iter().map(|told| told.kind).collect::<Vec<_>>();
    assert_eq!(kinds(state.apply(&with_notices(gone.clone(), 1_000, None))), disabled);
    assert_eq!(state.apply(&with_notices(gone, 2_000, None)), Outcome::Moot, "settled before");
    assert_eq!(state.apply(&settle(2, 53, 1, Verdict::Delivered)), Outcome::Canceled(Vec::new()));
    assert_eq!(state.apply(&settle(1, 50, 1, Verdict::Delivered)), Outcome::Moot, "it is accepted");
    assert_eq!(state.apply(&settle(9, 50, 1, Verdict::Delivered)), Outcome::Moot, "there is no such event");
    let found = state.store.delivery(ORG, EventId(1), 4).unwrap().unwrap();
    assert_eq!((found.delivery.attempts, found.delivery.last_attempt.is_some()), (1, true), "it was sent");
    assert_eq!(found.endpoint.unwrap().disabled, Some(DisabledReason::Gone));
    let (_, health) = state.store.endpoint_of(ORG, EndpointId(53)).unwrap().unwrap();
    assert_eq!((health.accepted, health.failed, health.waiting, health.dead), (1, 1, 0, 0));
    assert_eq!(state.apply(&route(3, &[50], AT_ONCE)), Outcome::Done);
    let counts = state.store.counts().unwrap();
    assert_eq!((standing(&state, 4), counts.waiting, counts.dead), (canceled, 0, 0));
    // Its dedup id stands for it, and it can be confirmed.
    let first = Outcome::Duplicate { id: EventId(1), received_at: Timestamp(1) };
    assert_eq!(state.apply(&submit(4_000, 2, Some(("a", 1)))), first);
    assert_eq!(state.apply(&submit(4_000, 2, Some(("a", 2)))), Outcome::Mismatch { id: EventId(1) });
    assert_eq!(state.apply(&ack(1)), Outcome::Acknowledged { at: Timestamp(30) });
    let (event, endpoints) = (EventId(1), vec![EndpointId(50)]);
    let later = Command::EraseEvent(EraseEvent { org: ORG, event, endpoints, at: Timestamp(99) });
    assert_eq!(state.apply(&later), Outcome::Erased { at: Timestamp(50) }, "again: the same answer");
    assert_eq!(state.store.event(ORG, EventId(1)).unwrap().unwrap().erased_at, Some(Timestamp(50)));
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}

/// An event on its way to an endpoint that is deleted, and so many endpoints that are made and deleted after that.
fn erased_beside(ended_since: usize) -> Fixture {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    let delete = |id| Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: EndpointId(id) });
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
    // Nobody saw that it was on its way, and both endpoints were deleted since.
    let mut state = erased_beside(ENDED_LOOKED_AT - 2);
    assert_eq!(state.apply(&erase(1, &[])), Outcome::Erased { at: Timestamp(50) });
    let counts = state.store.counts().unwrap();
    assert_eq!((counts.waiting, counts.dead), (2, 0), "what waits is of the other event");
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());

    // With more deleted since, it is all or nothing, and whoever looks again has it.
    let mut state = erased_beside(ENDED_LOOKED_AT - 1);
    let before = state.store.dump().unwrap();
    assert_eq!(state.apply(&erase(1, &[])), Outcome::Incomplete);
    let rows =
        |dump: String| dump.lines().filter(|row| !row.starts_with("meta ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(rows(state.store.dump().unwrap()), rows(before), "nothing changed");
    assert_eq!(state.apply(&erase(1, &[50])), Outcome::Erased { at: Timestamp(50) });
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}

/// What a settled attempt would tell, all of it.
fn with_notices(mut command: Command, first_id: u128, failing_since: Option<u64>) -> Command {
    let Command::SettleAttempt(settle) = &mut command else { unreachable!() };
    settle.notices = NoticeKind::ALL
        .into_iter()
        .zip(first_id..)
        .map(|(kind, id)| Notice {
            kind,
            failing_since: failing_since.map(Timestamp),
            id: EventId(id),
            received_at: Timestamp(2),
            payload: b"{}".as_slice().into(),
        })
        .collect();
    command
}

fn failed(mut command: Command, started_at: u64) -> Command {
    let Command::SettleAttempt(settle) = &mut command else { unreachable!() };
    settle.outcome.started_at = Timestamp(started_at);
    settle.outcome.error = Some(AttemptError { code: ErrorCode::Timeout, detail: String::new() });
    command
}

#[test]
fn of_what_an_attempt_would_tell_only_what_its_settling_made_true_is_stored_and_once() {
    use NoticeKind::{DeliveryDead, EndpointDisabled, EndpointFailing, EndpointRecovered};
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    state.apply(&put_endpoint(50));
    for event in 1..=9 {
        state.apply(&submit(event, 1, None));
        state.apply(&route(event, &[50], AT_ONCE));
    }
    let mut next = 1_000;
    let mut tell = |state: &mut Fixture, command: Command, since: Option<u64>| -> Vec<NoticeKind> {
        next += 10;
        match state.apply(&with_notices(command, next, since)) {
            Outcome::Told(told) => told.into_iter().map(|told| told.kind).collect(),
            Outcome::Canceled(told) => told.into_iter().map(|told| told.kind).collect(),
            outcome => {
                assert!(matches!(outcome, Outcome::Done | Outcome::Moot), "{outcome:?}");
                Vec::new()
            }
        }
    };
    let again = Verdict::RetryAt(Timestamp(900));
    let none: [NoticeKind; 0] = [];
    assert_eq!(tell(&mut state, failed(settle(1, 50, 1, again), 20), None), none);
    assert_eq!(tell(&mut state, failed(settle(2, 50, 1, again), 30), Some(19)), none, "another streak");
    assert_eq!(tell(&mut state, failed(settle(3, 50, 1, again), 30), Some(20)), [EndpointFailing]);
    assert_eq!(tell(&mut state, failed(settle(4, 50, 1, again), 30), Some(20)), none, "told already");
    let dead = Verdict::Dead(DeadReason::AttemptsExhausted);
    assert_eq!(tell(&mut state, failed(settle(5, 50, 1, dead), 40), Some(20)), [DeliveryDead]);
    assert_eq!(tell(&mut state, failed(settle(5, 50, 1, dead), 40), Some(20)), none, "settled before");
    assert_eq!(tell(&mut state, settle(6, 50, 1, Verdict::Delivered), Some(20)), [EndpointRecovered]);
    assert_eq!(tell(&mut state, settle(7, 50, 1, Verdict::Delivered), None), none);
    let gone = Verdict::Dead(DeadReason::Gone);
    assert_eq!(tell(&mut state, failed(settle(8, 50, 1, gone), 50), None), [EndpointDisabled, DeliveryDead]);
    assert_eq!(tell(&mut state, failed(settle(9, 50, 1, gone), 50), Some(50)), [EndpointFailing, DeliveryDead]);
    // One that was canceled meanwhile is not dead, and its endpoint is disabled already.
    state.apply(&submit(5_000, 1, None));
    state.apply(&route(5_000, &[50], AT_ONCE));
    let (endpoint, events) = (EndpointId(50), vec![EventId(5_000)]);
    state.apply(&Command::CancelDeliveries(CancelDeliveries { org: ORG, endpoint, events }));
    assert_eq!(tell(&mut state, failed(settle(5_000, 50, 1, gone), 60), None), none);
    let told = state.inbox(ORG).into_iter().filter(|(id, _)| (1_000..5_000).contains(&id.0)).count();
    assert_eq!(told, 0, "they are not in the inbox");
    assert_eq!(state.store.unrouted_after((ORG, EventId(999)), 99).unwrap().len(), 7, "and wait for a worker");
    let stored = (1_000..5_000).filter_map(|id| state.store.event(ORG, EventId(id)).unwrap());
    assert_eq!(stored.filter(|event| !event.in_inbox).count(), 7, "and can be read");
    assert_eq!(state.store.contradictions(9).unwrap(), Vec::<String>::new());
}
