use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn rules() -> Rules {
    Rules {
        org: OrgNo(1),
        now: Timestamp(1_800_000_000_000).into(),
        dedup_window_ms: 1_000,
        payload_bytes_max: 1_000_000,
        idempotency_key: None,
    }
}

fn document(problem: &Problem) -> Value {
    serde_json::to_value(problem.document(None)).unwrap()
}

/// Returns the error code, and the pointers of all faults.
fn faults(text: &str) -> (String, Vec<String>) {
    let body = document(&rules().event(text).unwrap_err());
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    let pointers = errors.iter().map(|fault| fault["pointer"].as_str().unwrap().to_owned());
    (body["code"].as_str().unwrap().to_owned(), pointers.collect())
}

#[test]
fn an_event_is_read_with_all_its_members() {
    let event = rules()
        .event(
            r#" {"type":"order.created", "payload": { "b" : 1.0, "a":[1e400] }, "dedup_id":"o\u002d1",
            "occurred_at":"2026-01-31T10:00:00Z","labels":{"b":"2","a":"\u00e9"},"deliver_after":"2027-01-15T08:00:01Z"} "#,
        )
        .unwrap();
    assert_eq!(event.event_type.as_str(), "order.created");
    assert_eq!(&*event.payload, br#"{ "b" : 1.0, "a":[1e400] }"#, "as it came");
    assert_eq!(event.dedup.as_ref().unwrap().id, "o-1");
    assert_eq!(
        event.labels,
        [("b".into(), "2".into()), ("a".into(), "é".into())],
        "in the order they came"
    );
    assert_eq!(event.occurred_at, Some(Timestamp(1_769_853_600_000)));
    assert_eq!(event.deliver_after, Some(Timestamp(1_800_000_001_000)));
    let small = rules().event(r#"{"event_type":"a","payload":null}"#).unwrap();
    assert_eq!((&*small.payload, small.dedup), (&b"null"[..], None));
}

#[test]
fn the_servers_own_types_are_refused_wherever_the_type_stands() {
    let code = "validation_failed".to_owned();
    assert_eq!(
        faults(r#"{"type":"triggerd.delivery.dead","payload":1}"#),
        (code.clone(), vec!["/type".to_owned()])
    );
    assert_eq!(
        faults(r#"{"event_type":"triggerd/x","payload":1}"#),
        (code, vec!["/event_type".to_owned()])
    );
    let told = document(&rules().event(r#"{"type":"triggerd.x","payload":1}"#).unwrap_err());
    assert!(told["detail"].as_str().unwrap().contains("must not begin with `triggerd.`"), "{told}");
    for of_producers in ["triggerd", "triggerd-x.y", "Triggerd.x", "a.triggerd.x"] {
        assert!(
            rules().event(&json!({"type": of_producers, "payload": 1}).to_string()).is_ok(),
            "{of_producers}"
        );
    }
}

#[test]
fn everything_that_is_wrong_is_named_at_once() {
    let text = r#"{"type":"a b","dedup_id":"","labels":{"x":1,"y":"ok","x/y":null},"occurred_at":"yesterday",
        "deliver_after":"2099-01-01T00:00:00Z","colour":"red","a~b":1}"#;
    let (code, mut pointers) = faults(text);
    pointers.sort();
    let expected = [
        "/a~0b",
        "/colour",
        "/deliver_after",
        "/dedup_id",
        "/labels/x",
        "/labels/x~1y",
        "/occurred_at",
        "/payload",
        "/type",
    ];
    let mut expected: Vec<_> = expected.map(str::to_owned).into();
    expected.sort();
    assert_eq!((code.as_str(), pointers), ("validation_failed", expected));
}

#[test]
fn each_member_has_its_rule() {
    let long = "x".repeat(256);
    let labels = |count: usize| {
        let labels: serde_json::Map<_, _> =
            (0..count).map(|n| (n.to_string(), json!("v"))).collect();
        json!({"type": "a", "payload": 1, "labels": labels}).to_string()
    };
    for (text, pointer) in [
        (r#"{"payload":1}"#.to_owned(), "/type"),
        (r#"{"type":1,"payload":1}"#.to_owned(), "/type"),
        (r#"{"type":null,"payload":1}"#.to_owned(), "/type"),
        (r#"{"type":"a","event_type":"a","payload":1}"#.to_owned(), "/event_type"),
        (r#"{"type":"a","payload":1,"payload":1}"#.to_owned(), "/payload"),
        (r#"{"type":"a","ty\u0070e":"a","payload":1}"#.to_owned(), "/type"),
        (json!({"type": "a", "payload": 1, "dedup_id": long}).to_string(), "/dedup_id"),
        (json!({"type": "a", "payload": 1, "dedup_id": "a\u{7}"}).to_string(), "/dedup_id"),
        (r#"{"type":"a","payload":1,"dedup_id":"\ud800"}"#.to_owned(), "/dedup_id"),
        (json!({"type": "a", "payload": 1, "labels": []}).to_string(), "/labels"),
        (json!({"type": "a", "payload": 1, "labels": {"a": long}}).to_string(), "/labels/a"),
        (r#"{"type":"a","payload":1,"labels":{"a":"1","a":"2"}}"#.to_owned(), "/labels/a"),
        (labels(33), "/labels"),
        (json!({"type": "a", "payload": 1, "occurred_at": 5}).to_string(), "/occurred_at"),
        ("[]".to_owned(), ""),
        ("\"text\"".to_owned(), ""),
        ("7".to_owned(), ""),
        (format!(r#"{{"type":"a","payload":{}{}}}"#, "[".repeat(200), "]".repeat(200)), "/payload"),
    ] {
        assert_eq!(
            faults(&text),
            ("validation_failed".to_owned(), vec![pointer.to_owned()]),
            "{text}"
        );
    }
    assert_eq!(rules().event(&labels(32)).unwrap().labels.len(), 32);
    let deep = format!(r#"{{"type":"a","payload":{}{}}}"#, "[".repeat(128), "]".repeat(128));
    assert!(rules().event(&deep).is_ok(), "the limit is 128 levels");
    let text = format!(r#"{{"type":"a","payload":"{}\"["}}"#, "[".repeat(200));
    assert!(rules().event(&text).is_ok(), "brackets in a text are text");
}

#[test]
fn what_is_not_json_is_told_where() {
    let deep = "[".repeat(100_000);
    for text in
        ["", " ", "{", "{\"type\":\"a\",}", "\u{0}", "{} x", "[1", "\u{feff}{}", "{'a':1}", &deep]
    {
        assert_eq!(faults(text).0, "malformed_json", "{text:.20}");
    }
    let body = document(&rules().event("{\"type\":\n tru}").unwrap_err());
    assert!(body["detail"].as_str().unwrap().contains("line 2, column"), "{body}");
}

#[test]
fn the_header_means_the_same_as_the_member() {
    let with = |key: &str| Rules { idempotency_key: Some(key.to_owned()), ..rules() };
    let (plain, same) =
        (r#"{"type":"a","payload":1}"#, r#"{"type":"a","payload":1,"dedup_id":"k"}"#);
    let by_header = with("k").event(plain).unwrap().dedup;
    assert_eq!(by_header, rules().event(same).unwrap().dedup);
    assert_eq!(by_header, with("k").event(same).unwrap().dedup);
    let problem = with("other").event(same).unwrap_err();
    assert_eq!(problem.code(), Code::ConflictingDedupId);
    assert_eq!(with("").event(plain).unwrap_err().code(), Code::ValidationFailed);
}

#[test]
fn dedup_is_per_organization_and_its_fingerprint_covers_type_and_payload() {
    let dedup =
        |org, text: &str| Rules { org: OrgNo(org), ..rules() }.event(text).unwrap().dedup.unwrap();
    let one = dedup(1, r#"{"type":"a","payload":1,"dedup_id":"k"}"#);
    assert_eq!(one.window_start, Timestamp(1_799_999_999_000));
    assert_ne!(one.digest, dedup(2, r#"{"type":"a","payload":1,"dedup_id":"k"}"#).digest);
    for other in
        [r#"{"type":"b","payload":1,"dedup_id":"k"}"#, r#"{"type":"a","payload":2,"dedup_id":"k"}"#]
    {
        let other = dedup(1, other);
        assert!(other.digest == one.digest && other.fingerprint != one.fingerprint);
    }
}

#[test]
fn a_payload_over_the_limit_is_too_large() {
    let rules = Rules { payload_bytes_max: 3, ..rules() };
    assert!(rules.event(r#"{"type":"a","payload":100}"#).is_ok());
    assert_eq!(
        rules.event(r#"{"type":"a","payload":1000}"#).unwrap_err().code(),
        Code::PayloadTooLarge
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".*".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,5}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in "\\PC{0,80}") {
        drop(rules().event(&text));
    }

    #[test]
    fn nothing_like_an_event_makes_reading_panic(text in r#"\{("(type|payload|labels|x)":("a"|1|\[|\]|\{|\}|\{"a":1\}),?){0,5}\}?"#) {
        drop(rules().event(&text));
    }

    #[test]
    fn payloads_come_back_byte_for_byte(payload in any_json(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&payload) } else { serde_json::to_string(&payload) }.unwrap();
        let event = rules().event(&format!("{{\"payload\": {text} ,\"type\":\"a.b\"}}")).unwrap();
        prop_assert_eq!(&*event.payload, text.as_bytes());
    }
}
