//! What is understood, what is refused, and that all of what is wrong is named.

use proptest::prelude::*;

use super::*;

const SCOPE: DedupScope = DedupScope { org: OrgNo(1), window_start: Timestamp(0) };

fn read(body: &str) -> Result<NewEvent, Problem> {
    event(members(body.as_bytes())?, None, SCOPE)
}

fn faults(body: &str) -> Vec<String> {
    let mut pointers: Vec<_> = read(body).unwrap_err().errors.into_iter().map(|fault| fault.pointer).collect();
    pointers.sort();
    pointers
}

#[test]
fn a_payload_is_kept_byte_for_byte_whatever_json_it_is() {
    for payload in ["null", "1.0e400", "\"\\ud800\"", "[ 1 , 2 ]", "{\"a\":1,\"a\":2}", "{ \"z\":1 }", "-0.0", "\"ä\""]
    {
        let body = format!("{{\"type\":\"a\",\"payload\": {payload} }}");
        assert_eq!(&*read(&body).unwrap().payload, payload.as_bytes());
    }
}

#[test]
fn every_fault_is_named_at_once() {
    assert_eq!(faults("{}"), ["/payload", "/type"]);
    assert_eq!(
        faults(r#"{"type":"a b","payload":1,"x/y":1,"occurred_at":1,"deliver_after":"soon"}"#),
        ["/deliver_after", "/occurred_at", "/type", "/x~1y"]
    );
    assert_eq!(faults(r#"{"type":"a","event_type":"b","payload":1}"#), ["/event_type"]);
    assert_eq!(faults(r#"{"type":"a","type":"b","payload":1,"payload":2}"#), ["/payload", "/type"]);
    assert_eq!(faults(r#"{"type":"a","payload":1,"labels":{"a":1,"b":"x","b":"y"}}"#), ["/labels/a", "/labels/b"]);
    assert_eq!(faults(r#"{"type":"a","payload":1,"labels":[]}"#), ["/labels"]);
    assert_eq!(faults(r#"{"type":"a","payload":1,"dedup_id":"a\u0000b"}"#), ["/dedup_id"]);
    assert_eq!(faults("[1]"), [""]);
    let deep = format!(r#"{{"type":"a","payload":{}{}}}"#, "[".repeat(129), "]".repeat(129));
    assert_eq!(faults(&deep), ["/payload"]);
}

#[test]
fn what_is_not_json_is_malformed() {
    for body in [
        "",
        " ",
        "{",
        "{\"type\":}",
        "{\"type\":\"a\"}}",
        "nul",
        "\u{0}",
        &"[".repeat(100_000),
        &"{\"a\":".repeat(50_000),
    ] {
        assert_eq!(read(body).unwrap_err().code, Code::MalformedJson, "{body:.20}");
    }
    assert_eq!(members(b"{\"type\":\"\xff\"}").err().unwrap().code, Code::MalformedJson);
}

#[test]
fn names_and_values_may_be_escaped_and_null_is_absent() {
    let new =
        read(r#"{"\u0074ype":"a\u002eb","payload":null,"dedup_id":null,"labels":null,"occurred_at":null}"#).unwrap();
    assert_eq!((new.event_type.as_str(), new.dedup, new.occurred_at), ("a.b", None, None));
}

#[test]
fn header_and_member_may_agree_and_must_not_differ() {
    let body = br#"{"type":"a","payload":1,"dedup_id":"x"}"#;
    let with = |header| event(members(body).unwrap(), Some(header), SCOPE);
    assert_eq!(with("x").unwrap().dedup.unwrap().id, "x");
    assert_eq!(with("y").unwrap_err().code, Code::ConflictingDedupId);
    assert_eq!(with("").unwrap_err().code, Code::ConflictingDedupId);
}

#[test]
fn digests_depend_on_organization_id_type_and_payload() {
    let type_of = |text: &str| text.parse::<EventType>().unwrap();
    let base = dedup("x".into(), SCOPE, &type_of("a"), b"1");
    let other_org = DedupScope { org: OrgNo(2), ..SCOPE };
    assert_ne!(dedup("x".into(), other_org, &type_of("a"), b"1").digest, base.digest);
    assert_ne!(dedup("y".into(), SCOPE, &type_of("a"), b"1").digest, base.digest);
    assert_ne!(dedup("x".into(), SCOPE, &type_of("b"), b"1").fingerprint, base.fingerprint);
    assert_ne!(dedup("x".into(), SCOPE, &type_of("a"), b"2").fingerprint, base.fingerprint);
}

proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(members(&body).and_then(|members| event(members, None, SCOPE)));
    }

    #[test]
    fn no_json_like_body_panics(body in "[{}\\[\\]\",:a-z0-9\\\\ ]{0,80}") {
        drop(read(&body));
    }

    #[test]
    fn any_string_is_read_as_it_was_written(text in any::<String>()) {
        let json = serde_json::to_string(&text).unwrap();
        let raw: &RawValue = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(super::text(raw).unwrap(), text);
    }
}
