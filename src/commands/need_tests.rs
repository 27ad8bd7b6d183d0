//! Tests of the need for records.

use super::*;
use crate::commands::tests::{
    AT_ONCE, Fixture, ORG, ack, create_org, erase, put_endpoint, route, settle, submit,
};
use crate::commands::{
    Applied, CreateOrg, DeleteOrg, EraseOutcome, ExpireEvents, ForgetOrg, NoteRouteCrash,
    one_of_each,
};
use crate::journal::Position;
use crate::model::delivery::{AttemptError, ErrorCode, Verdict};
use crate::model::operational_event::{OperationalEvent, OperationalEventKind};
use crate::model::org::InboxMode;
use crate::model::retention::Cutoffs;
use crate::model::time::Timestamp;

/// A state, and the records that gave it.
struct Log {
    state: Fixture,
    records: Vec<Record>,
}

impl Log {
    fn new() -> Self {
        let mut log = Self { state: Fixture::new(), records: Vec::new() };
        log.apply(create_org(InboxMode::AckOnly, 1_000_000));
        log.apply(put_endpoint(50));
        log
    }

    /// Applies a command. Returns its number.
    fn apply(&mut self, command: Command) -> usize {
        let position = self.state.position;
        self.state.apply(&command);
        self.records.push(Record { position, command });
        self.records.len() - 1
    }

    fn need(&self, number: usize) -> Need {
        needs(&self.state.store, &self.records).unwrap()[number]
    }

    fn is_cut(&self, number: usize) -> bool {
        matches!(self.need(number), Need::Without(_))
    }

    /// Returns the record without what nobody may see.
    fn cut(&self, number: usize) -> Command {
        let Need::Without(cuts) = self.need(number) else { panic!("{:?}", self.need(number)) };
        self.records[number].command.clone().without(cuts)
    }
}

/// An attempt with the receiver's words in it.
fn refused(event: u128, number: u32, verdict: Verdict) -> Command {
    let Command::SettleAttempt(mut settle) = settle(event, 50, number, verdict) else {
        unreachable!()
    };
    settle.outcome.body = b"canary".to_vec();
    settle.outcome.headers = vec![("x".into(), "canary".into())];
    let detail = "the receiver answered 302, a redirect to canary; redirects are not followed";
    settle.outcome.status = Some(302);
    settle.outcome.error = Some(AttemptError { code: ErrorCode::Redirect, detail: detail.into() });
    Command::SettleAttempt(settle)
}

#[test]
fn records_of_an_event_are_needed_and_commands_about_it_are_not() {
    let mut log = Log::new();
    let event = log.apply(submit(1, 1, Some(("a", 1))));
    let duplicate = log.apply(submit(2, 1, Some(("a", 1))));
    let routed = log.apply(route(1, &[50], AT_ONCE));
    let again = log.apply(route(1, &[50], AT_ONCE));
    let first = log.apply(refused(1, 1, Verdict::RetryAt(Timestamp(90))));
    let last = log.apply(settle(1, 50, 2, Verdict::Delivered));
    let acked = log.apply(ack(1));
    for needed in [event, routed, first, last] {
        assert_eq!(log.need(needed), Need::Whole, "{needed}");
    }
    for unneeded in [0, 1, duplicate, again, acked] {
        assert_eq!(log.need(unneeded), Need::Nothing, "{unneeded}");
    }
    log.state.reopen();
    assert_eq!((log.need(event), log.need(acked)), (Need::Whole, Need::Nothing));
}

#[test]
fn an_erased_event_is_needed_without_its_payload_and_without_the_receivers_words() {
    let mut log = Log::new();
    let event = log.apply(submit(1, 1, None));
    let other = log.apply(submit(2, 1, None));
    let routed = log.apply(route(1, &[50], AT_ONCE));
    let attempt = log.apply(refused(1, 1, Verdict::RetryAt(Timestamp(90))));
    let erased = log.apply(erase(1, &[]));
    assert_eq!((log.need(other), log.need(routed)), (Need::Whole, Need::Whole));
    assert_eq!(log.need(erased), Need::Nothing, "it ended no routing");
    let (before, cut) = (log.records[event].command.clone(), log.cut(event));
    let (Some(before), Some(after)) =
        (before.into_event(EventId(1)), cut.clone().into_event(EventId(1)))
    else {
        panic!("{cut:?}")
    };
    assert!(after.event.payload.is_empty() && !before.event.payload.is_empty());
    assert_eq!(after.event.event_type, before.event.event_type);
    let cut_attempt = log.cut(attempt);
    assert!(!format!("{cut_attempt:?}").contains("canary"), "{cut_attempt:?}");
    // A cut record is not cut again.
    (log.records[event].command, log.records[attempt].command) = (cut, cut_attempt);
    assert_eq!((log.need(event), log.need(attempt)), (Need::Whole, Need::Whole));
}

#[test]
fn whatever_ended_the_routing_of_an_event_is_needed() {
    let mut log = Log::new();
    for event in 1..=3 {
        log.apply(submit(event, 1, None));
    }
    let crash = |event| Command::NoteRouteCrash(NoteRouteCrash { org: ORG, event: EventId(event) });
    let crashes: Vec<_> = (0..3).map(|_| log.apply(crash(1))).collect();
    let erased = log.apply(erase(2, &[]));
    let late = log.apply(route(2, &[50], AT_ONCE));
    let of_crashes: Vec<_> = crashes.iter().map(|number| log.need(*number)).collect();
    assert_eq!(of_crashes, [Need::Nothing, Need::Nothing, Need::Whole]);
    assert_eq!((log.need(erased), log.need(late)), (Need::Whole, Need::Nothing));
}

#[test]
fn an_operational_event_keeps_the_record_of_its_attempt() {
    let mut log = Log::new();
    log.apply(submit(1, 1, None));
    log.apply(route(1, &[50], AT_ONCE));
    let Command::SettleAttempt(mut settle) =
        refused(1, 1, Verdict::Dead(crate::model::delivery::DeadReason::AttemptsExhausted))
    else {
        unreachable!()
    };
    settle.operational_events = vec![OperationalEvent {
        kind: OperationalEventKind::DeliveryDead,
        failing_since: None,
        id: EventId(77),
        received_at: Timestamp(2),
        payload: b"{\"told\":1}".as_slice().into(),
    }];
    let attempt = log.apply(Command::SettleAttempt(settle));
    assert_eq!(log.need(attempt), Need::Whole);
    let payload = |command: Command| command.into_event(EventId(77)).unwrap().event.payload;
    // Each of the two events that the record holds can be erased alone.
    let erased = Applied::EraseEvent(EraseOutcome::Erased { at: Timestamp(50) });
    assert_eq!(log.state.apply(&erase(1, &[50])), erased);
    let cut = log.cut(attempt);
    assert!(!format!("{cut:?}").contains("canary") && !payload(cut).is_empty());
    assert_eq!(log.state.apply(&erase(77, &[])), erased);
    assert!(log.is_cut(attempt) && payload(log.cut(attempt)).is_empty());
}

#[test]
fn nobody_needs_an_expired_event_and_the_report_keeps_the_record_of_the_expiry() {
    let mut log = Log::new();
    let event = log.apply(submit(1, 1, None));
    let routed = log.apply(route(1, &[50], AT_ONCE));
    let attempt = log.apply(refused(1, 1, Verdict::RetryAt(Timestamp(90))));
    let at = Timestamp(2);
    let cutoffs = Cutoffs { finished: at, dead: at, open: at, erased: at, now: at };
    let found = log.state.store.expiring(ORG, EventId(0), cutoffs).unwrap();
    let report = OperationalEvent {
        kind: OperationalEventKind::InboxExpired,
        failing_since: None,
        id: EventId(77),
        received_at: Timestamp(3),
        payload: b"{\"told\":1}".as_slice().into(),
    };
    let (blocks, looked_at, report) = (found.blocks, found.looked_at, Some(report));
    let expire = ExpireEvents { org: ORG, blocks, cutoffs, looked_at, report };
    let expired = log.apply(Command::ExpireEvents(expire));
    for unneeded in [event, routed, attempt] {
        assert_eq!(log.need(unneeded), Need::Nothing, "{unneeded}");
    }
    assert_eq!(log.need(expired), Need::Whole);
    log.apply(erase(77, &[]));
    let report = log.cut(expired).into_event(EventId(77)).unwrap();
    assert!(report.event.payload.is_empty(), "{report:?}");
}

#[test]
fn every_event_that_a_command_stores_is_named_and_its_payload_can_be_cut() {
    let mut stored = 0;
    for command in one_of_each() {
        let record = Record { position: Position(9), command: command.clone() };
        let named = named_events(&record);
        let cuts = Cuts { outcome: false, payloads: u8::MAX };
        for id in (0..1_000).map(EventId) {
            let Some(event) = command.clone().into_event(id) else { continue };
            stored += 1;
            let name = command.kind().name;
            assert!(named.iter().any(|(_, named)| *named == id), "{name} forgets {id}");
            assert!(command.stored_events().contains(&id), "{name} does not store {id}");
            assert!(!event.event.payload.is_empty(), "{name}: nothing could be cut");
            let cut = command.clone().without(cuts).into_event(id).unwrap();
            assert!(cut.event.payload.is_empty(), "{name}: the payload of {id} is not cut");
        }
    }
    assert_eq!(stored, 4);
}

#[test]
fn every_record_of_a_deleted_organization_is_forgotten_also_one_that_was_refused() {
    let mut log = Log::new();
    // The number that the committer gives.
    let numbered = |number: u32| {
        let Command::CreateOrg(made) = create_org(InboxMode::Auto, 2_000_000) else {
            unreachable!()
        };
        Command::CreateOrg(CreateOrg { number: OrgNo(number), ..made })
    };
    let other = log.apply(numbered(1));
    let refused = log.apply(numbered(2));
    let event = log.apply(submit(1, 1, None));
    let deleted = log.apply(DeleteOrg { org: ORG, at: Timestamp(9) }.into());
    assert_eq!((log.need(event), log.need(deleted)), (Need::Whole, Need::Nothing));
    let late = log.apply(submit(2, 1, None));
    let found = log.state.store.expiring(ORG, EventId(0), Cutoffs::ALL).unwrap();
    let (blocks, looked_at, cutoffs) = (found.blocks, found.looked_at, Cutoffs::ALL);
    log.apply(ExpireEvents { org: ORG, blocks, cutoffs, looked_at, report: None }.into());
    assert_eq!(log.need(event), Need::Nothing);
    for _ in 0..2 {
        log.apply(ForgetOrg { org: ORG }.into());
    }
    for index in 0..log.records.len() {
        let expected = if index == other { Need::Nothing } else { Need::Forgotten };
        assert_eq!(log.need(index), expected, "{index} of {refused} {late}");
    }
}
