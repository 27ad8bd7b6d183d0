use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::journal::Position;
use crate::model::delivery::Trigger;
use crate::model::delivery::{AttemptOutcome, ErrorCode};
use crate::model::endpoint::{Endpoint, EndpointSettings, SealedSecret};
use crate::model::id::OrgNo;
use crate::model::time::Look;

const SINCE: Timestamp = Timestamp(1_000_000);
const AFTER_MS: u64 = 300_000;

fn delivery(event_type: &str) -> DueDelivery {
    let url = "https://example.com/hook?token=canary#canary".to_owned();
    let headers = vec![("authorization".to_owned(), SealedSecret::new(b"canary".to_vec()))];
    let settings = EndpointSettings { url, headers, ..EndpointSettings::default() };
    let endpoint =
        Endpoint::new(EndpointId(7), settings, SealedSecret::new(b"canary".to_vec()), Timestamp(0));
    DueDelivery {
        org: OrgNo(1),
        is_suspended: false,
        org_id: None,
        endpoint: Arc::new(endpoint),
        endpoint_number: 3,
        event: EventId(5 << 20),
        event_type: event_type.parse().unwrap(),
        received_at: Timestamp(1),
        position: Position::FIRST,
        due: Look::Now,
        failing_since: None,
        failing_from: None,
        failing_told: None,
        attempts: 1,
        base: 0,
        last_attempt: None,
        trigger: Trigger::Schedule,
    }
}

fn settle(
    delivery: &DueDelivery,
    error: Option<(ErrorCode, u16)>,
    verdict: Verdict,
) -> SettleAttempt {
    SettleAttempt {
        org: delivery.org,
        endpoint: delivery.endpoint.id,
        event: delivery.event,
        number: delivery.attempts + 1,
        trigger: Trigger::Schedule,
        outcome: AttemptOutcome {
            status: error.map(|(_, status)| status),
            error: error.map(|(code, status)| AttemptError {
                code,
                detail: format!(
                    "the receiver answered {status} to https://user:canary@example.com/?canary"
                ),
            }),
            body: b"canary".to_vec(),
            headers: vec![("server".to_owned(), "canary".to_owned())],
            ..AttemptOutcome::new(Timestamp(2_000_000), 1)
        },
        verdict,
        disables: None,
        previous: None,
        operational_events: Vec::new(),
    }
}

const FAILS: Option<(ErrorCode, u16)> = Some((ErrorCode::Redirect, 302));
const AGAIN: Verdict = Verdict::RetryAt(Timestamp(9));
const DEAD: Verdict = Verdict::Dead(DeadReason::AttemptsExhausted);
const GONE: Verdict = Verdict::Dead(DeadReason::Gone);

fn kinds(delivery: &DueDelivery, settle: &SettleAttempt, now: u64) -> Vec<OperationalEventKind> {
    caused_by(delivery, settle, Timestamp(now), AFTER_MS)
        .into_iter()
        .map(|operational_event| operational_event.kind)
        .collect()
}

#[test]
fn an_endpoint_that_fails_is_told_once_for_each_streak_and_so_is_its_recovery() {
    let fresh = delivery("order.created");
    let failed = settle(&fresh, FAILS, AGAIN);
    assert_eq!(kinds(&fresh, &failed, u64::MAX / 2), [], "the first failure of a streak");
    let failing = DueDelivery {
        failing_since: Some(SINCE),
        failing_from: Some(SINCE),
        ..delivery("order.created")
    };
    assert_eq!(kinds(&failing, &failed, SINCE.0 + AFTER_MS - 1), []);
    assert_eq!(
        kinds(&failing, &failed, SINCE.0 + AFTER_MS),
        [OperationalEventKind::EndpointFailing]
    );
    assert!(caused_by(&failing, &failed, Timestamp(u64::MAX / 2), 0).is_empty(), "0: never");
    let told = DueDelivery { failing_told: Some(SINCE), ..failing.clone() };
    assert_eq!(kinds(&told, &failed, u64::MAX / 2), []);
    let another = DueDelivery { failing_told: Some(Timestamp(1)), ..failing.clone() };
    assert_eq!(
        kinds(&another, &failed, u64::MAX / 2),
        [OperationalEventKind::EndpointFailing],
        "that was another streak"
    );
    let accepted = settle(&fresh, None, Verdict::Delivered);
    assert_eq!(kinds(&told, &accepted, 0), [OperationalEventKind::EndpointRecovered]);
    assert_eq!(kinds(&failing, &accepted, 0), [], "nobody was told that it fails");
}

#[test]
fn what_is_given_up_is_told_and_an_endpoint_that_is_disabled_too_and_not_that_it_fails() {
    let failing = DueDelivery {
        failing_since: Some(SINCE),
        failing_from: Some(SINCE),
        ..delivery("order.created")
    };
    let dead = settle(&failing, FAILS, DEAD);
    assert_eq!(kinds(&failing, &dead, 0), [OperationalEventKind::DeliveryDead]);
    let gone =
        SettleAttempt { disables: Some(DisabledReason::Gone), ..settle(&failing, FAILS, GONE) };
    assert_eq!(
        kinds(&failing, &gone, u64::MAX / 2),
        [OperationalEventKind::DeliveryDead, OperationalEventKind::EndpointDisabled]
    );
    let after_days =
        SettleAttempt { disables: Some(DisabledReason::Failing), ..settle(&failing, FAILS, AGAIN) };
    assert_eq!(
        kinds(&failing, &after_days, u64::MAX / 2),
        [OperationalEventKind::EndpointDisabled]
    );
}

#[test]
fn operational_events_cause_none_whatever_becomes_of_them() {
    for event_type in ["triggerd.delivery.dead", "triggerd.endpoint.failing", "triggerd.x"] {
        let told = DueDelivery {
            failing_since: Some(SINCE),
            failing_told: Some(Timestamp(1)),
            ..delivery(event_type)
        };
        for (error, verdict) in
            [(FAILS, AGAIN), (FAILS, DEAD), (FAILS, GONE), (None, Verdict::Delivered)]
        {
            let settle = SettleAttempt {
                disables: Some(DisabledReason::Gone),
                ..settle(&told, error, verdict)
            };
            assert_eq!(kinds(&told, &settle, u64::MAX / 2), [], "{event_type} {verdict:?}");
        }
    }
}

#[test]
fn members_are_those_of_the_api_and_none_is_a_credential() {
    let failing = DueDelivery {
        failing_since: Some(SINCE),
        failing_from: Some(SINCE),
        ..delivery("order.created")
    };
    let gone =
        SettleAttempt { disables: Some(DisabledReason::Gone), ..settle(&failing, FAILS, GONE) };
    let operational_events = caused_by(&failing, &gone, Timestamp(0), AFTER_MS);
    let payloads: Vec<Value> = operational_events
        .iter()
        .map(|operational_event| serde_json::from_slice(&operational_event.payload).unwrap())
        .collect();
    let expected = json!({
        "endpoint_id": EndpointId(7), "url": "https://example.com/hook", "reason": "gone",
        "failing_since": SINCE, "delivery_id": DeliveryId::of(EventId(5 << 20), 3),
        "event_id": EventId(5 << 20), "event_type": "order.created", "attempts": 2,
        "error": {"code": "redirect", "detail": "the receiver answered 302, a redirect; redirects \
         are not followed"},
    });
    assert_eq!(payloads, [expected.clone(), expected]);
    assert!(!format!("{payloads:?}").contains("canary"), "{payloads:?}");
    let fresh = delivery("order.created");
    let dead = caused_by(&fresh, &settle(&fresh, FAILS, DEAD), Timestamp(0), AFTER_MS);
    let dead: Value = serde_json::from_slice(&dead[0].payload).unwrap();
    assert_eq!(dead["reason"], "attempts_exhausted");
    assert_eq!(dead["failing_since"], json!(Timestamp(2_000_000)), "since this attempt");
    let told = DueDelivery { failing_told: Some(SINCE), failing_since: Some(SINCE), ..fresh };
    let recovered =
        caused_by(&told, &settle(&told, None, Verdict::Delivered), Timestamp(0), AFTER_MS);
    let recovered: Value = serde_json::from_slice(&recovered[0].payload).unwrap();
    assert_eq!((recovered.get("error"), &recovered["failing_since"]), (None, &json!(SINCE)));
    assert_eq!(recovered.get("reason"), None);
}
