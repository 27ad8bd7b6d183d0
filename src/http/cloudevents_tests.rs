use actix_web::http::header::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::id::OrgNo;
use crate::model::time::Timestamp;

fn rules() -> Rules {
    Rules {
        org: OrgNo(1),
        now: Timestamp(1_800_000_000_000),
        dedup_window_ms: 1_000,
        payload_bytes_max: 10_000,
        idempotency_key: None,
    }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn pointers(problem: &Problem) -> Vec<String> {
    let body = serde_json::to_value(problem.document(None)).unwrap();
    assert_eq!(body["code"], "validation_failed", "{body}");
    body["errors"].as_array().unwrap().iter().map(|fault| fault["pointer"].as_str().unwrap().to_owned()).collect()
}

fn label<'a>(event: &'a NewEvent, name: &str) -> Option<&'a str> {
    event.labels.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

const REQUIRED: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-type", "com.example.created"), ("ce-source", "/orders"), ("ce-id", "A-1")];

#[test]
fn the_servers_own_types_are_refused_in_both_modes() {
    let own = r#"{"specversion":"1.0","type":"triggerd.disk.low","source":"/orders","id":"A-1"}"#;
    assert_eq!(pointers(&structured(&rules(), own).unwrap_err()), ["/type"]);
    let pairs = REQUIRED.map(|(name, value)| (name, if name == "ce-type" { "triggerd.disk.low" } else { value }));
    assert_eq!(pointers(&binary(&rules(), &headers(&pairs), b"").unwrap_err()), ["ce-type"]);
    assert!(binary(&rules(), &headers(&REQUIRED), b"").is_ok());
}

#[test]
fn a_structured_event_is_read_and_its_data_kept_as_it_came() {
    let text = r#"{"specversion":"1.0","type":"com.example.created","source":"/orders","id":"A-1","subject":"1017",
        "time":"2026-01-31T10:00:00Z","datacontenttype":"application/json","count":7,"urgent":true,"none":null,
        "data":{ "b":1.0 }}"#;
    let event = structured(&rules(), text).unwrap();
    assert_eq!(event.event_type.as_str(), "com.example.created");
    assert_eq!(&*event.payload, b"{ \"b\":1.0 }");
    assert_eq!(event.dedup.as_ref().unwrap().id, r#"["/orders","A-1"]"#);
    assert_eq!(event.occurred_at, Some(Timestamp(1_769_853_600_000)));
    let expected = [("subject", "1017"), ("count", "7"), ("urgent", "true"), ("source", "/orders"), ("id", "A-1")];
    for (name, value) in expected {
        assert_eq!(label(&event, &format!("ce-{name}")), Some(value), "{name}");
    }
    assert_eq!(event.labels.len(), 5, "{:?}", event.labels);
}

#[test]
fn binary_mode_means_the_same() {
    let mut given = headers(&REQUIRED);
    given.append("ce-subject".parse().unwrap(), HeaderValue::from_static("Euro%20%E2%82%AC"));
    given.append("ce-quoted".parse().unwrap(), HeaderValue::from_static("\"a \\\"b\\\"\""));
    given.append(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    let event = binary(&rules(), &given, b" {\"a\" : 1} ").unwrap();
    assert_eq!(&*event.payload, b"{\"a\" : 1}");
    assert_eq!(label(&event, "ce-subject"), Some("Euro €"));
    assert_eq!(label(&event, "ce-quoted"), Some("a \"b\""));
    let text = r#"{"specversion":"1.0","type":"com.example.created","source":"/orders","id":"A-1","data":{"a" : 1}}"#;
    let same = structured(&rules(), text).unwrap();
    assert_eq!((event.event_type, event.dedup, event.payload), (same.event_type, same.dedup, same.payload));
}

#[test]
fn data_that_is_not_json_becomes_json() {
    let binary = |content_type: &str, body: &[u8]| {
        let mut given = headers(&REQUIRED);
        if !content_type.is_empty() {
            given.append(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        }
        binary(&rules(), &given, body).unwrap()
    };
    let text = binary("text/plain", "ä\"".as_bytes());
    assert_eq!((&*text.payload, label(&text, "ce-datacontenttype")), ("\"ä\\\"\"".as_bytes(), Some("text/plain")));
    let bytes = binary("application/octet-stream", &[0xff, 0]);
    assert_eq!(&*bytes.payload, br#"{"data_base64":"/wA="}"#);
    assert_eq!(&*binary("", b"x").payload, br#"{"data_base64":"eA=="}"#);
    assert_eq!(&*binary("application/json", b"").payload, b"null");
    let encoded = json!({"specversion": "1.0", "type": "a", "source": "s", "id": "1", "data_base64": "/wA="});
    assert_eq!(structured(&rules(), &encoded.to_string()).unwrap().payload, bytes.payload);
    let without = json!({"specversion": "1.0", "type": "a", "source": "s", "id": "1"});
    assert_eq!(&*structured(&rules(), &without.to_string()).unwrap().payload, b"null");
}

#[test]
fn everything_that_is_missing_or_wrong_is_named() {
    let problem = structured(&rules(), "{}").unwrap_err();
    assert_eq!(pointers(&problem), ["/specversion", "/id", "/source", "/type"]);
    let problem = binary(&rules(), &headers(&[("ce-specversion", "0.3"), ("ce-id", "")]), b"").unwrap_err();
    assert_eq!(pointers(&problem), ["ce-id", "ce-source", "ce-type", "ce-specversion"]);
    let good = json!({"specversion": "1.0", "type": "a", "source": "s", "id": "1"});
    let with = |name: &str, value: Value| {
        let mut event = good.clone();
        event[name] = value;
        structured(&rules(), &event.to_string())
    };
    for (name, value) in [
        ("id", json!(1)),
        ("type", json!("a b")),
        ("time", json!("now")),
        ("Upper", json!("x")),
        ("ext", json!({})),
        ("subject", json!("x".repeat(256))),
        ("data_base64", json!("%")),
    ] {
        let named = pointers(&with(name, value).unwrap_err());
        assert_eq!(named.first().map(String::as_str), Some(format!("/{name}").as_str()), "{named:?}");
    }
    let twice = r#"{"specversion":"1.0","type":"a","source":"s","id":"1","id":"2","data":1,"data_base64":"eA=="}"#;
    assert_eq!(pointers(&structured(&rules(), twice).unwrap_err()), ["/data_base64", "/id"]);
    let both = headers(&[REQUIRED.as_slice(), &[("ce-datacontenttype", "text/plain"), ("ce-id", "B")]].concat());
    assert_eq!(pointers(&binary(&rules(), &both, b"").unwrap_err()).len(), 2);
}

#[test]
fn a_long_source_and_id_are_hashed_and_no_two_pairs_are_one() {
    assert_eq!(dedup_id("s", "1"), r#"["s","1"]"#);
    let long = dedup_id(&"s".repeat(300), "1");
    assert!(long.starts_with("sha256:") && long.len() == 7 + 64, "{long}");
    assert_ne!(long, dedup_id(&"s".repeat(301), "1"));
    assert_eq!(dedup_id("s", "a\nb"), r#"["s","a\nb"]"#, "escaped, so it can be printed");
    assert_ne!(dedup_id("a b", "c"), dedup_id("a", "b c"));
}

proptest! {
    #[test]
    fn nothing_makes_reading_panic(text in "\\PC{0,60}", header in "[ -~]{0,40}", body: Vec<u8>) {
        drop(structured(&rules(), &text));
        let given = headers(&[("ce-specversion", "1.0"), ("ce-id", &header), ("ce-x", &header), ("content-type", &header)]);
        drop(binary(&rules(), &given, &body));
    }
}
