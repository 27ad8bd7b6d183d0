//! The frozen bytes of the journal. A change here changes the format on disk and needs a new
//! version.

use proptest::prelude::*;

use super::*;
use crate::base::codec::encode_into;
use crate::commands::*;
use crate::journal::Position;
use crate::model::audit::{Action, Actor, AuditEntry, Changed, Note, Origin, Subject};
use crate::model::authority::Authority;
use crate::model::cloudevent::{AttributeValue, CloudEvent, DataKind};
use crate::model::delivery::{
    AttemptError, AttemptOutcome, DeadReason, ErrorCode, Timing, Trigger, Verdict,
};
use crate::model::endpoint::{
    BodyForm, DisabledReason, Endpoint, EndpointSettings, Ordering, SealedSecret,
};
use crate::model::event::{Dedup, NewEvent};
use crate::model::id::{EndpointId, EventId, KeyId, OrgId, OrgNo, ReplayId};
use crate::model::key::{Key, Scope, Scopes};
use crate::model::operational_event::{OperationalEvent, OperationalEventKind};
use crate::model::org::{InboxMode, Org, Tier};
use crate::model::replay::{ReplayCursor, ReplayEnd, ReplayOnly, ReplayRequest};
use crate::model::retention::{Cutoffs, ExpiringBlock};
use crate::model::routing::{RouteReason, RouteReasons};
use crate::model::time::Timestamp;

const VERSION: u8 = 1;

const ORG: OrgNo = OrgNo(0x0102_0304);
const EVENT: EventId = EventId(5);
const ENDPOINT: EndpointId = EndpointId(6);
const AT: Timestamp = Timestamp(0x0807);

fn key() -> Key {
    let scopes = scopes();
    Key {
        id: KeyId(7),
        name: "n".into(),
        hash: "$h".into(),
        check: [3; 8],
        scopes,
        created_at: AT,
        expires_at: Some(AT),
        ended_at: None,
    }
}

fn submit() -> Command {
    let dedup = Dedup { id: "d".into(), digest: [1; 14], fingerprint: [2; 8], window_start: AT };
    let event = NewEvent {
        event_type: "a.b".parse().unwrap(),
        dedup: Some(dedup),
        labels: vec![("k".into(), "v".into())],
        occurred_at: Some(AT),
        deliver_after: None,
        payload: b"{ }".as_slice().into(),
        cloudevent: None,
    };
    Command::SubmitEvent(Box::new(SubmitEvent {
        org: ORG,
        by: Some(KeyId(14)),
        id: EVENT,
        received_at: AT,
        event,
    }))
}

fn replaying() -> [Command; 3] {
    let (replay, since) = (ReplayId(10), Some(AT));
    let event_types = vec!["a.*".parse().unwrap()];
    let only = ReplayOnly::Missing;
    let request = ReplayRequest { endpoint: Some(ENDPOINT), since, until: None, event_types, only };
    let step = StepReplay {
        org: ORG,
        replay,
        cursor: ReplayCursor { number: 11, from: EVENT },
        endpoint: ENDPOINT,
        events: vec![EVENT],
        examined: 12,
        reached: Some(EventId(13)),
        at: AT,
    };
    [
        Command::StartReplay(StartReplay { org: ORG, replay, request, at: AT }),
        Command::StepReplay(step),
        Command::EndReplay(EndReplay { org: ORG, replay, end: ReplayEnd::EndpointDeleted, at: AT }),
    ]
}

fn settled() -> SettleAttempt {
    let error = Some(AttemptError { code: ErrorCode::HttpStatus, detail: "x".into() });
    let (status, retry_after_ms, body) = (Some(410), Some(1), b"b".to_vec());
    let timing =
        Timing { dns_ms: Some(5), connect_ms: Some(6), tls_ms: None, first_byte_ms: Some(7) };
    let (headers, address) = (vec![("via".into(), "v".into())], "1.2.3.4:80".parse().ok());
    let outcome = AttemptOutcome {
        started_at: AT,
        started_steady: AT,
        duration_ms: 3,
        status,
        error,
        retry_after_ms,
        body,
        headers,
        address,
        timing,
    };
    let verdict = Verdict::Dead(DeadReason::Gone);
    SettleAttempt {
        org: ORG,
        endpoint: ENDPOINT,
        event: EVENT,
        number: 2,
        trigger: Trigger::Replay,
        outcome,
        verdict,
        disables: Some(DisabledReason::Gone),
        previous: Some(Position(4)),
        operational_events: vec![OperationalEvent {
            kind: OperationalEventKind::DeliveryDead,
            failing_since: Some(AT),
            id: EVENT,
            received_at: AT,
            payload: b"{}".as_slice().into(),
        }],
    }
}

fn org() -> Org {
    Org {
        id: OrgId(8),
        name: "o".into(),
        tier: Tier::Pro,
        inbox_mode: InboxMode::AckOnly,
        created_at: AT,
    }
}

fn endpoint() -> Endpoint {
    let settings = EndpointSettings {
        url: "u".into(),
        description: "d".into(),
        event_types: vec!["a.*".parse().unwrap()],
        headers: vec![("x-a".into(), SealedSecret::new(vec![7; 41]))],
        body: BodyForm::CloudEvents,
        retry_schedule_s: Some(vec![5, 6]),
        timeout_ms: Some(7),
        max_in_flight: Some(8),
        rate_per_second: Some(9),
        ordering: Ordering::Strict,
        metadata: vec![("m".into(), "n".into())],
    };
    let mut endpoint = Endpoint::new(ENDPOINT, settings, SealedSecret::new(vec![8; 72]), AT);
    endpoint.rotate(SealedSecret::new(vec![9; 72]), AT, 1);
    endpoint.disabled = Some(DisabledReason::Failing);
    endpoint
}

fn route() -> RouteEvent {
    RouteEvent {
        org: ORG,
        event: EVENT,
        endpoints: vec![ENDPOINT],
        due_at: AT,
        reasons: RouteReasons::record([(1, RouteReason::TypeWanted), (9, RouteReason::Disabled)]),
    }
}

/// Returns a command of each kind, in the order of the kind numbers.
pub(crate) fn one_of_each() -> Vec<Command> {
    let (only_dead, trigger) = (true, Trigger::Retry);
    let (events, endpoints, keys) = (vec![EVENT], vec![ENDPOINT], vec![KeyId(7)]);
    let retry =
        RetryDelivery { org: ORG, endpoint: ENDPOINT, event: EVENT, at: AT, only_dead, trigger };
    let mut commands = vec![
        Command::CreateOrg(CreateOrg { number: ORG, org: org(), key: Some(key()) }),
        Command::CreateKey(CreateKey { org: ORG, key: key() }),
        Command::RotateKey(RotateKey { org: ORG, old: KeyId(1), old_ends_at: AT, new: key() }),
        Command::NoteKeysUsed(NoteKeysUsed { used: vec![(KeyId(7), AT)], at: AT }),
        Command::PutEndpoint(PutEndpoint { org: ORG, endpoint: endpoint(), sets_enabled: true }),
        Command::DeleteEndpoint(DeleteEndpoint { org: ORG, endpoint: ENDPOINT }),
        submit(),
        Command::AckEvent(AckEvent { org: ORG, event: EVENT, at: AT }),
        Command::RouteEvent(route()),
        Command::NoteRouteCrash(NoteRouteCrash { org: ORG, event: EVENT }),
        Command::SettleAttempt(Box::new(settled())),
        Command::CancelDeliveries(CancelDeliveries { org: ORG, endpoint: ENDPOINT, events }),
        Command::ExpireDedup(ExpireDedup { before: AT }),
        Command::EndKey(EndKey { org: ORG, key: KeyId(7), at: AT.into() }),
        Command::RetryDelivery(retry),
        Command::DropDead(DropDead { org: ORG, endpoint: ENDPOINT, event: EVENT }),
    ];
    commands.extend(replaying());
    commands.push(Command::EraseEvent(EraseEvent { org: ORG, event: EVENT, endpoints, at: AT }));
    commands.push(Command::ExpireKeys(ExpireKeys { keys, at: AT.into() }));
    commands.push(requested());
    commands.push(
        NoteLoss { next_org: 2, judged_before: Position(3), lost_keys: vec![KeyId(7)] }.into(),
    );
    commands.push(Command::ExpireEvents(expiring()));
    let deleted_before = Position(9);
    commands.push(Command::ForgetDeleted(ForgetDeleted { org: ORG, before: AT, deleted_before }));
    commands.push(EndOverlaps { endpoints: vec![ENDPOINT], at: AT }.into());
    let (name, scopes, expires_at) = (Some("n".to_owned()), Some(scopes()), Some(AT));
    commands.push(
        ChangeOrg {
            org: ORG,
            name: name.clone(),
            tier: Some(Tier::Pro),
            inbox_mode: Some(InboxMode::AckOnly),
            suspended: Some(true),
            at: AT,
        }
        .into(),
    );
    let (key, at) = (KeyId(7), AT.into());
    commands.push(ChangeKey { org: ORG, key, name, scopes, expires_at, at }.into());
    let report = settled().operational_events.remove(0);
    commands.push(ReportKeyEnd { org: ORG, key, expires_at: AT, report }.into());
    commands.push(ExpireAudit { before: AT }.into());
    commands.push(NoteAudit { entry: audit_entry(), at: AT.into() }.into());
    commands.push(DeleteOrg { org: ORG, at: AT }.into());
    commands.push(ForgetOrg { org: ORG }.into());
    commands
}

fn expiring() -> ExpireEvents {
    ExpireEvents {
        org: ORG,
        blocks: vec![ExpiringBlock { first: EVENT, endpoints: vec![ENDPOINT] }],
        cutoffs: Cutoffs {
            finished: AT,
            dead: Timestamp(1),
            open: Timestamp(2),
            erased: Timestamp(3),
            now: Timestamp(4),
        },
        looked_at: Position(3),
        report: settled().operational_events.pop(),
    }
}

/// The scopes of the first version of the format.
fn scopes() -> Scopes {
    Scope::ALL.iter().copied().filter(|scope| *scope != Scope::AuditRead).collect()
}

fn origin() -> Origin {
    Origin { address: Some([127, 0, 0, 1].into()), request_id: "r".to_owned() }
}

fn audit_entry() -> AuditEntry {
    AuditEntry {
        at: AT,
        actor: Actor::Key(KeyId(7)),
        origin: Some(origin()),
        organization: Some(OrgId(8)),
        note: note(),
    }
}

fn note() -> Note {
    let changes = vec![Changed { field: "url".into(), before: None, after: Some("u".into()) }];
    Note { action: Action::EndpointChanged, subject: Subject::Endpoint(ENDPOINT), changes }
}

fn requested() -> Command {
    let ack = Command::AckEvent(AckEvent { org: ORG, event: EVENT, at: AT });
    let authority = Authority { key: Some(KeyId(14)), needs: scopes(), at: AT.into() };
    ack.requested_from(authority, (Some(origin()), Some(note())))
}

fn body(command: &Command) -> Vec<u8> {
    let mut out = Vec::new();
    command.write(&mut out).unwrap();
    out
}

#[test]
fn every_kind_has_its_number_and_reads_back() {
    let known: std::collections::BTreeSet<u8> = KINDS.iter().map(|kind| kind.number).collect();
    assert_eq!(
        (known.len(), one_of_each().len()),
        (KINDS.len(), KINDS.len()),
        "each number is given once"
    );
    // Number 15 was given up before the first release.
    for (number, command) in (1..15).chain(16..).zip(&one_of_each()) {
        let kind = command.kind();
        assert_eq!(kind.number, number, "{command:?}");
        assert!(KINDS.contains(&kind));
        assert_eq!(Command::read(number, kind.version, &body(command)).unwrap(), *command);
    }
}

/// Returns the length and the CRC32.
fn digest(bytes: &[u8]) -> String {
    format!("{}:{:08x}", bytes.len(), crc32fast::hash(bytes))
}

#[test]
fn the_bytes_of_each_kind_are_frozen() {
    let digests: Vec<String> = one_of_each().iter().map(|command| digest(&body(command))).collect();
    assert_eq!(digests, FROZEN);
}

/// Length and CRC32 of each command's body.
const FROZEN: [&str; 33] = [
    "109:12766989",
    "67:f822631c",
    "91:f6f2bf37",
    "40:f567ceef",
    "386:c4872b73",
    "20:338d3f59",
    "136:115b1bfa",
    "28:54fbc939",
    "63:7bd2f760",
    "20:1a458bab",
    "231:270ab26f",
    "44:3da0da84",
    "8:5c089817",
    "36:150c87dd",
    "49:5cd376eb",
    "36:95d52ced",
    "78:5c0405d3",
    "109:f1664ff7",
    "32:bbbba2f3",
    "52:daabbea9",
    "40:f567ceef",
    "139:f05706cf",
    "36:2ee58853",
    "148:2fef909c",
    "20:4d237964",
    "32:61c74529",
    "34:062e9b15",
    "58:324428e0",
    "75:1270a3e1",
    "8:5c089817",
    "134:19351535",
    "12:cb951811",
    "4:e951a406",
];

#[test]
fn an_event_is_its_head_and_then_its_payload_as_it_came() {
    let expected = [
        [4, 3, 2, 1].as_slice(),
        &[1, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[7, 8, 0, 0, 0, 0, 0, 0],
        &[3, 0, 0, 0, 0, 0, 0, 0],
        b"a.b",
        &[1, 1, 0, 0, 0, 0, 0, 0, 0],
        b"d",
        &[1; 14],
        &[2; 8],
        &[7, 8, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        b"k",
        &[1, 0, 0, 0, 0, 0, 0, 0],
        b"v",
        &[1, 7, 8, 0, 0, 0, 0, 0, 0],
        &[0],
        &[0],
        b"{ }",
    ]
    .concat();
    assert_eq!(body(&submit()), expected);
}

#[test]
fn a_cloud_event_stands_between_head_and_payload() {
    let Command::SubmitEvent(mut command) = submit() else { unreachable!() };
    let attributes = vec![
        ("id".to_owned(), AttributeValue::Text("7".to_owned())),
        ("n".to_owned(), AttributeValue::Integer(-2)),
        ("b".to_owned(), AttributeValue::Boolean(true)),
    ];
    command.event.cloudevent = Some(Box::new(CloudEvent { attributes, data: DataKind::Base64 }));
    let without = body(&submit());
    let (head, payload) = without.split_at(without.len() - 4);
    assert_eq!(payload, b"\0{ }");
    let expected = [
        head,
        &[1, 3, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0],
        b"id",
        &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        b"7",
        &[1, 0, 0, 0, 0, 0, 0, 0],
        b"n",
        &[1, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        b"b",
        &[2, 0, 0, 0, 1],
        &[1, 0, 0, 0],
        b"{ }",
    ]
    .concat();
    let command = Command::SubmitEvent(command);
    assert_eq!(body(&command), expected);
    assert_eq!(Command::read(SubmitEvent::NUMBER, VERSION, &expected).unwrap(), command);
}

#[test]
fn the_origins_and_notes_of_requests_are_known_since_the_third_version() {
    let Command::Requested(requested) = requested() else { unreachable!() };
    let whole = body(&Command::Requested(requested.clone()));
    let mut source = Vec::new();
    encode_into(&(&requested.origin, &requested.note), &mut source).unwrap();
    let at = whole.windows(source.len()).position(|bytes| bytes == source).unwrap();
    let without = [&whole[..at], &whole[at + source.len()..]].concat();
    assert_eq!(digest(&without), "65:68f83cfc");
    let read = Command::read(Requested::NUMBER, 2, &without).unwrap();
    let expected = requested.command.requested(requested.authority);
    assert_eq!(read, expected);
}

#[test]
fn commands_name_their_things_exactly_if_they_are_declared_to_be_in_the_audit_log() {
    let named: Vec<_> = one_of_each()
        .iter()
        .filter(|it| !it.audited().is_empty())
        .map(|it| it.kind().name)
        .collect();
    let declared: Vec<_> =
        KINDS.iter().filter(|kind| kind.is_audited).map(|kind| kind.name).collect();
    assert_eq!(named.len(), 12);
    assert!(declared.iter().all(|name| named.contains(name)) && declared.len() == 12);
}

#[test]
fn a_request_is_for_one_thing_and_for_no_event() {
    let requested = body(&requested());
    let authority = requested.len() - 2 - 28;
    for number in [Requested::NUMBER, SubmitEvent::NUMBER] {
        let inner = [&requested[..authority], &[number, 1], &requested].concat();
        assert!(matches!(
            Command::read(Requested::NUMBER, Requested::VERSION, &inner),
            Err(UnknownRecord::Malformed(_))
        ));
    }
    let short = &requested[..authority];
    assert!(matches!(
        Command::read(Requested::NUMBER, Requested::VERSION, short),
        Err(UnknownRecord::Malformed(_))
    ));
    let later = [short, &[99, 1]].concat();
    assert!(matches!(
        Command::read(Requested::NUMBER, Requested::VERSION, &later),
        Err(UnknownRecord::Newer { kind: 99, .. })
    ));
}

#[test]
fn an_organization_of_version_2_always_had_a_key() {
    let mut bytes = Vec::new();
    encode_into(&(ORG, org(), key()), &mut bytes).unwrap();
    assert_eq!(digest(&bytes), "108:d3d27266");
    let read = |version| Command::read(CreateOrg::NUMBER, version, &bytes);
    assert_eq!(read(2).unwrap(), one_of_each().remove(0));
    for other in [1, 3] {
        assert!(matches!(read(other), Err(UnknownRecord::Malformed(_))), "version {other}");
    }
}

#[test]
fn a_newer_kind_or_version_is_told_apart_from_damage() {
    let bytes = body(&submit());
    assert!(matches!(
        Command::read(99, VERSION, &bytes),
        Err(UnknownRecord::Newer { kind: 99, .. })
    ));
    assert!(matches!(
        Command::read(SubmitEvent::NUMBER, 2, &bytes),
        Err(UnknownRecord::Newer { version: 2, .. })
    ));
    assert!(matches!(
        Command::read(AckEvent::NUMBER, VERSION, &bytes),
        Err(UnknownRecord::Malformed(_))
    ));
}

proptest! {
    #[test]
    fn no_bytes_panic(kind in 0u8..36, version in 0u8..4,
    bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(Command::read(kind, version, &bytes));
    }

    #[test]
    fn every_truncation_is_refused_or_the_payload_is_shorter(cut in 1usize..100) {
        for command in one_of_each() {
            let bytes = body(&command);
            let short = &bytes[..bytes.len().saturating_sub(cut)];
            if let Ok(read) = Command::read(command.kind().number, command.kind().version, short) {
                prop_assert!(matches!(read, Command::SubmitEvent(_)) && cut <= 3, "{read:?}");
            }
        }
    }
}
