//! Tests of the effects of commands on the state.

use super::erase_event::ENDED_LOOKED_AT;
use super::*;
use crate::journal::Position;
use crate::model::delivery::{
    AttemptError, AttemptOutcome, DeadReason, DeliveryStatus, ErrorCode, Trigger, Verdict,
};
use crate::model::endpoint::{DisabledReason, Endpoint, EndpointSettings, SealedSecret};
use crate::model::event::{Dedup, EventStatus, NewEvent};
use crate::model::id::{ENDPOINT_NUMBER_MAX, EndpointId, EventId, KeyId, OrgId, OrgNo};
use crate::model::key::{Key, Scopes};
use crate::model::operational_event::{OperationalEvent, OperationalEventKind};
use crate::model::org::{InboxMode, Org, Tier};
use crate::model::routing::RouteReasons;
use crate::model::time::Timestamp;
use crate::rules::type_filter::TypeFilter;
use crate::store::{Earlier, Effects, InboxQuery, KeyAdded, Refusal, Store};

const NO_CACHE: u64 = 8 << 20;

pub(crate) struct Fixture {
    pub(crate) store: Store,
    dir: tempfile::TempDir,
    pub(crate) position: Position,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), NO_CACHE, Position::MAX).unwrap();
        Self { store, dir, position: Position::FIRST }
    }

    /// Applies a command that is not refused, and returns its outcome.
    pub(crate) fn apply(&mut self, command: &Command) -> Applied {
        self.became(command).unwrap()
    }

    /// Applies a command. Organizations get the next number, as from the committer.
    pub(crate) fn became(&mut self, command: &Command) -> Applying {
        let mut command = command.clone();
        if let Command::CreateOrg(create) = &mut command {
            create.number = self.store.next_org();
        }
        let mut results = Results::default();
        let position = self.position;
        self.position = position.plus(100);
        crate::commands::apply(
            &self.store,
            std::iter::once((position, &command)),
            self.position,
            &mut results,
        )
        .unwrap();
        results.outcomes.remove(0)
    }

    pub(crate) fn reopen(&mut self) {
        self.store.close().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        drop(std::mem::replace(
            &mut self.store,
            Store::open(elsewhere.path(), NO_CACHE, Position::MAX).unwrap(),
        ));
        self.store = Store::open(self.dir.path(), NO_CACHE, Position::MAX).unwrap();
        assert_eq!(self.store.rebuild_reason(), None);
    }

    fn inbox(&self, org: OrgNo) -> Vec<(EventId, EventStatus)> {
        let query =
            InboxQuery { after: None, limit: 500, types: TypeFilter::default(), since: None };
        self.store
            .inbox(org, &query)
            .unwrap()
            .items
            .into_iter()
            .map(|item| (item.id, item.status))
            .collect()
    }

    fn status(&self, event: u128) -> EventStatus {
        self.store.event(ORG, EventId(event)).unwrap().unwrap().status
    }
}

pub(crate) const ORG: OrgNo = OrgNo(0);

pub(crate) fn create_org(mode: InboxMode, id: u128) -> Command {
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
        number: OrgNo(0),
        org: Org { id: OrgId(id), name, tier: Tier::Free, inbox_mode: mode, created_at },
        key: Some(key),
    })
}

pub(crate) fn submit(id: u128, at: u64, dedup: Option<(&str, u8)>) -> Command {
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

pub(crate) fn put_endpoint(id: u128) -> Command {
    let settings =
        EndpointSettings { url: "https://example.com/".into(), ..EndpointSettings::default() };
    let endpoint =
        Endpoint::new(EndpointId(id), settings, SealedSecret::new(vec![7; 72]), Timestamp(1));
    Command::PutEndpoint(PutEndpoint { org: ORG, endpoint, sets_enabled: true })
}

/// Events in these tests are received at 1 or 2. A delivery due later has a row of its own from the
/// start.
pub(crate) const AT_ONCE: u64 = 1;
pub(crate) const LATER: u64 = 10;

pub(crate) fn route(event: u128, endpoints: &[u128], due_at: u64) -> Command {
    let endpoints = endpoints.iter().map(|id| EndpointId(*id)).collect();
    Command::RouteEvent(RouteEvent {
        org: ORG,
        event: EventId(event),
        endpoints,
        due_at: Timestamp(due_at),
        reasons: RouteReasons::default(),
    })
}

pub(crate) fn settle(event: u128, endpoint: u128, number: u32, verdict: Verdict) -> Command {
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
        operational_events: Vec::new(),
    }))
}

pub(crate) fn ack(event: u128) -> Command {
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

pub(crate) fn erase(event: u128, endpoints: &[u128]) -> Command {
    let endpoints = endpoints.iter().map(|id| EndpointId(*id)).collect();
    Command::EraseEvent(EraseEvent {
        org: ORG,
        event: EventId(event),
        endpoints,
        at: Timestamp(50),
    })
}

pub(crate) fn retry(event: u128, endpoint: u128, only_dead: bool) -> Command {
    let (endpoint, event, at) = (EndpointId(endpoint), EventId(event), Timestamp(40));
    Command::RetryDelivery(RetryDelivery {
        org: ORG,
        endpoint,
        event,
        at,
        only_dead,
        trigger: Trigger::Retry,
    })
}

/// Fills a store with some of everything: two endpoints, one accepting and one failing, and events
/// in each state.
pub(crate) fn fill(store: &Store) {
    let mut commands =
        vec![create_org(InboxMode::Auto, 1_000_000), put_endpoint(50), put_endpoint(51)];
    for id in 1..=100 {
        let dedup_id =
            u8::try_from(id).ok().filter(|id| *id < 26).map(|id| char::from(b'a' + id).to_string());
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
    let positions = (1..).step_by(100).map(Position);
    let mut results = Results::default();
    super::apply(store, positions.zip(&commands), Position(100_000), &mut results).unwrap();
    store.write_back().unwrap();
}

#[test]
fn an_event_leaves_the_inbox_when_acknowledged_and_stays_acknowledged_since_then() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    state.apply(&submit(1, 1, None));
    assert_eq!(state.inbox(ORG), [(EventId(1), EventStatus::Accepted)]);
    assert_eq!(
        state.apply(&ack(1)),
        Applied::AckEvent(AckOutcome::Acknowledged { at: Timestamp(30) })
    );
    assert_eq!(state.inbox(ORG), []);
    assert_eq!(
        state.apply(&ack(1)),
        Applied::AckEvent(AckOutcome::Acknowledged { at: Timestamp(30) })
    );
    assert_eq!(state.apply(&ack(9)), Applied::AckEvent(AckOutcome::NotFound));
    let foreign = AckEvent { org: OrgNo(5), event: EventId(1), at: Timestamp(1) };
    assert_eq!(state.apply(&Command::AckEvent(foreign)), Applied::AckEvent(AckOutcome::NotFound));
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
    assert_eq!(
        state.store.waiting_for(EndpointId(51), Timestamp(50), 9).unwrap(),
        [(Timestamp(99), EventId(1))]
    );
    state.apply(&settle(1, 51, 2, Verdict::Delivered));
    assert_eq!((state.inbox(ORG), state.status(1)), (vec![], EventStatus::Delivered));
    assert_eq!(state.store.next_waiting_endpoint(None).unwrap(), None);
}

#[test]
fn what_waits_is_listed_by_when_it_is_due_and_what_was_to_go_at_once_is_due_whatever_the_clock_says()
 {
    const EVENTS: u64 = 200;
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000));
    state.apply(&put_endpoint(50));
    for id in 1..=EVENTS {
        state.apply(&submit(id.into(), 1_000 + id, None));
        // Every tenth delivery waits; the others are due since the time in their ids, which is 1970
        // here.
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
    let mut wanted: Vec<_> =
        (1..=EVENTS).map(|id| (Timestamp(due_at(id)), EventId(id.into()))).collect();
    wanted.sort();
    let waiting =
        |now, limit| state.store.waiting_for(EndpointId(50), Timestamp(now), limit).unwrap();
    assert_eq!(waiting(9_999, 500), wanted);
    assert_eq!(waiting(9_999, 30), wanted[..30]);
    let due = waiting(3, 500).into_iter().filter(|(at, _)| *at <= Timestamp(3)).count();
    assert_eq!(due, 176, "the clock was set back: all but those that were to wait");
    assert_eq!(state.store.next_waiting_endpoint(None).unwrap().unwrap().endpoint, EndpointId(50));
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
    assert!(
        !state.store.destination(EndpointId(50)).unwrap().unwrap().endpoint.is_enabled(),
        "410 disables"
    );
    state.apply(&ack(1));
    assert_eq!((state.inbox(ORG), state.status(1)), (vec![], EventStatus::Acknowledged));
    let counts = state.store.counts().unwrap();
    assert_eq!((counts.waiting, counts.dead, counts.open), (0, 1, 0));
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
fn a_routing_that_crashes_three_times_parks_the_event() {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 100));
    state.apply(&put_endpoint(50));
    state.apply(&submit(1, 1, None));
    let crash = Command::NoteRouteCrash(NoteRouteCrash { org: ORG, event: EventId(1) });
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

#[path = "apply_accounts_tests.rs"]
mod accounts;
#[path = "apply_activity_tests.rs"]
mod activity;
#[path = "apply_audit_tests.rs"]
mod audit;
#[path = "apply_broken_tests.rs"]
mod broken;
#[path = "apply_dedup_tests.rs"]
mod dedup;
#[path = "apply_delete_org_tests.rs"]
mod delete_org;
#[path = "apply_erase_tests.rs"]
mod erase;
#[path = "apply_expiry_tests.rs"]
mod expiry;
#[path = "keys_tests.rs"]
mod keys;
#[path = "apply_operational_events_tests.rs"]
mod operational_events;
#[path = "apply_random_tests.rs"]
mod random;
#[path = "apply_repeats_tests.rs"]
mod repeats;

#[path = "apply_replay_tests.rs"]
mod replays;
