use actix_web::http::header::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::delivery::envelope::Body;
use crate::model::endpoint::BodyForm;
use crate::model::event::Dedup;
use crate::model::id::{EventId, OrgNo};
use crate::model::time::Timestamp;

#[path = "cloudevents_refusals_tests.rs"]
mod refusals;

fn rules() -> Rules {
    Rules {
        org: OrgNo(1),
        now: Timestamp(1_800_000_000_000).into(),
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
    body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["pointer"].as_str().unwrap().to_owned())
        .collect()
}

fn attribute(event: &NewEvent, name: &str) -> Option<AttributeValue> {
    event.cloudevent.as_ref().unwrap().attribute(name).cloned()
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::Text(text.to_owned())
}

/// Returns the body for an endpoint whose body form is `cloudevents`.
fn pushed(event: NewEvent) -> Value {
    let body = Body::of(BodyForm::CloudEvents, EventId(1 << 80), Timestamp(1), event).unwrap();
    serde_json::from_slice(&body.bytes).unwrap()
}

const REQUIRED: [(&str, &str); 4] = [
    ("ce-specversion", "1.0"),
    ("ce-type", "com.example.created"),
    ("ce-source", "/orders"),
    ("ce-id", "A-1"),
];

/// Returns an event with the required attributes and the members of `more`.
fn least_and(more: &Value) -> Value {
    let mut event = json!({"specversion": "1.0", "id": "A-1", "type": "com.example.created",
    "source": "https://example.com"});
    for (name, value) in more.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

#[test]
fn the_servers_own_types_are_refused_in_both_modes() {
    for own in ["triggerd.disk.low", "triggerd/x"] {
        let text = json!({"specversion": "1.0", "type": own, "source": "/orders", "id": "A-1"})
            .to_string();
        assert_eq!(pointers(&structured(&rules(), &text).unwrap_err()), ["/type"]);
        let pairs =
            REQUIRED.map(|(name, value)| (name, if name == "ce-type" { own } else { value }));
        assert_eq!(pointers(&binary(&rules(), &headers(&pairs), b"").unwrap_err()), ["ce-type"]);
    }
    assert!(binary(&rules(), &headers(&REQUIRED), b"").is_ok());
}

/// The members of events of each valid kind in cloudevents/conformance, with more examples of each.
fn valid_members() -> Vec<Value> {
    vec![
        json!({}),
        json!({"datacontenttype": "text/plain", "dataschema": "https://example.com/schema",
            "subject": "s", "time": "2018-04-05T17:31:00Z"}),
        json!({"time": "2018-04-05T17:31:00.000000000Z"}),
        json!({"time": "2018-04-05T18:31:00+01:00"}),
        json!({"time": "1937-01-01T12:00:27.87+00:20"}),
        json!({"time": "1990-12-31T23:59:60Z"}),
        json!({"source": "#fragment"}),
        json!({"source": "//authority/path?a=b"}),
        json!({"source": "1-555-123-4567", "id": "ä \" \\ ~"}),
        json!({"type": "orders/create"}),
        json!({"type": "any thing, at * all!"}),
        json!({"type": "ä".repeat(255)}),
        json!({"subject": "x".repeat(4096), "source": format!("/{}", "y".repeat(4095)),
            "id": "z".repeat(4096)}),
        json!({"datacontenttype": "text/plain", "data": "Simple text"}),
        json!({"datacontenttype": "application/xml", "data": "<much wow=\"xml\"/>"}),
        json!({"datacontenttype": "application/octet-stream", "data_base64": "/wA="}),
        json!({"data_base64": ""}),
        json!({"data": null}),
        json!({"data": {"a": [1, 2.5, "x", null, true]}}),
        json!({"data": "I'm just a string"}),
        json!({"data": {"data_base64": "/wA="}}),
        json!({"datacontenttype": "application/vnd.a.b+json; charset=utf-8", "data": [1]}),
        json!({"extinteger": 10, "extboolean": true, "extstring": "text",
            "exturi": "https://example.com", "exturiref": "//authority/path",
            "exttimestamp": "2023-03-31T15:12:00Z", "extbinary": "TWE="}),
        json!({"least": i32::MIN, "most": i32::MAX, "none": 0, "no": false, "empty": "",
            "a1b2": "x"}),
    ]
}

#[test]
fn what_is_valid_comes_out_as_it_came_in() {
    for more in valid_members() {
        let event = least_and(&more);
        let read = structured(&rules(), &event.to_string())
            .unwrap_or_else(|problem| panic!("{event} {problem:?}"));
        assert_eq!(pushed(read), event);
    }
    let nulls = least_and(
        &json!({"datacontenttype": null, "dataschema": null, "subject": null, "time": null,
        "ext": null, "data_base64": null}),
    );
    assert_eq!(
        pushed(structured(&rules(), &nulls.to_string()).unwrap()),
        least_and(&json!({})),
        "null is absence"
    );
}

#[test]
fn data_that_is_null_beside_base64_is_absent_and_base64_may_be_escaped() {
    for text in [
        r#""data":null,"data_base64":"\/wA=""#,
        r#""data_base64":"\u002fw\u0041=","data":null"#,
        r#""data":null,"data_base64":"/wA=""#,
    ] {
        let text = format!(r#"{{"specversion":"1.0","type":"a","source":"s","id":"1",{text}}}"#);
        let event = structured(&rules(), &text).unwrap();
        assert_eq!(&*event.payload, br#"{"data_base64":"/wA="}"#, "{text}");
        assert_eq!((event.data_len(), event.cloudevent.unwrap().data), (2, DataKind::Base64));
    }
    let null = least_and(&json!({"data": null})).to_string();
    let event = structured(&rules(), &null).unwrap();
    assert_eq!(event.cloudevent.unwrap().data, DataKind::Json, "alone it is a value");
}

#[test]
fn an_event_has_64_attributes_beside_specversion_and_type() {
    let with = |count: usize| {
        let more: serde_json::Map<_, _> =
            (2..count).map(|n| (format!("ext{n}"), json!("x"))).collect();
        structured(&rules(), &least_and(&Value::from(more)).to_string())
    };
    assert_eq!(with(64).unwrap().cloudevent.unwrap().attributes.len(), 64);
    let problem = with(65).unwrap_err();
    assert_eq!(pointers(&problem), [""]);
    let body = serde_json::to_value(problem.document(None)).unwrap();
    let rule = "must have at most 64 attributes beside `specversion` and `type`";
    assert_eq!(body["detail"], format!("the body {rule}"));
    let mut many = headers(&REQUIRED);
    for number in 0..63 {
        let name: HeaderName = format!("ce-ext{number}").parse().unwrap();
        many.append(name, HeaderValue::from_static("x"));
    }
    let problem = binary(&rules(), &many, b"").unwrap_err();
    let body = serde_json::to_value(problem.document(None)).unwrap();
    assert_eq!(body["detail"], format!("ce-*: {rule}"));
}

#[test]
fn a_structured_event_is_read_and_its_data_kept_as_it_came() {
    let given = r#"{"specversion":"1.0","type":"com.example.created","source":"/orders","id":"A-1","subject":"1017",
        "time":"2026-01-31T10:00:00.120Z","datacontenttype":"application/json","count":7,"urgent":true,"none":null,
        "data":{ "b":1.0 }}"#;
    let event = structured(&rules(), given).unwrap();
    assert_eq!(event.event_type.as_str(), "com.example.created");
    assert_eq!(&*event.payload, b"{ \"b\":1.0 }");
    assert_eq!(event.dedup.as_ref().unwrap().id, r#"["/orders","A-1"]"#);
    assert_eq!(event.occurred_at, Some(Timestamp(1_769_853_600_120)));
    assert_eq!(attribute(&event, "time"), Some(text("2026-01-31T10:00:00.120Z")));
    assert_eq!(attribute(&event, "count"), Some(AttributeValue::Integer(7)));
    assert_eq!(attribute(&event, "urgent"), Some(AttributeValue::Boolean(true)));
    assert_eq!(event.cloudevent.as_ref().unwrap().attributes.len(), 7);
    assert!(event.labels.is_empty(), "attributes are no labels");
}

#[test]
fn binary_mode_means_the_same() {
    let mut given = headers(&REQUIRED);
    given.append("ce-subject".parse().unwrap(), HeaderValue::from_static("Euro%20%E2%82%AC"));
    given.append("ce-quoted".parse().unwrap(), HeaderValue::from_static("\"a \\\"b\\\"\""));
    given.append("ce-raw".parse().unwrap(), HeaderValue::from_bytes("ä%zz".as_bytes()).unwrap());
    given.append(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    let event = binary(&rules(), &given, b" {\"a\" : 1} ").unwrap();
    assert_eq!(&*event.payload, b"{\"a\" : 1}");
    let expected = json!({"specversion": "1.0", "type": "com.example.created", "source": "/orders",
    "id": "A-1",
        "subject": "Euro €", "quoted": "a \"b\"", "raw": "ä%zz", "data": {"a": 1},
        "datacontenttype": "application/json; charset=utf-8"});
    assert_eq!(pushed(event.clone()), expected);
    let same =
        structured(&rules(), &expected.to_string().replace("{\"a\":1}", "{\"a\" : 1}")).unwrap();
    assert_eq!(
        (event.event_type, event.dedup, event.payload),
        (same.event_type, same.dedup, same.payload)
    );
    for bad in ["%C0%A0", "%ff"] {
        let given = headers(&[REQUIRED.as_slice(), &[("ce-subject", bad)]].concat());
        assert_eq!(pointers(&binary(&rules(), &given, b"").unwrap_err()), ["ce-subject"], "{bad}");
    }
}

fn read_binary(content_type: &str, body: &[u8]) -> NewEvent {
    let mut given = headers(&REQUIRED);
    if !content_type.is_empty() {
        given.append(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
    }
    binary(&rules(), &given, body).unwrap()
}

#[test]
fn binary_data_stays_what_it_was() {
    for (content_type, body, member, data, payload) in [
        ("text/plain", "ä\"".as_bytes(), "data", json!("ä\""), "\"ä\\\"\""),
        (
            "text/plain; charset=latin1",
            &[0xe4],
            "data_base64",
            json!("5A=="),
            r#"{"data_base64":"5A=="}"#,
        ),
        ("text/plain", &[0xe4], "data_base64", json!("5A=="), r#"{"data_base64":"5A=="}"#),
        ("application/xml", b"<a/>", "data", json!("<a/>"), r#""<a/>""#),
        (
            "application/octet-stream",
            &[0xff, 0],
            "data_base64",
            json!("/wA="),
            r#"{"data_base64":"/wA="}"#,
        ),
        ("", b"x", "data_base64", json!("eA=="), r#"{"data_base64":"eA=="}"#),
        ("application/json", b"null", "data", json!(null), "null"),
        ("application/vnd.a+json", b"[1]", "data", json!([1]), "[1]"),
    ] {
        let event = read_binary(content_type, body);
        assert_eq!(str::from_utf8(&event.payload).unwrap(), payload);
        let pushed = pushed(event);
        assert_eq!(
            (&pushed[member], pushed.get("data").is_some()),
            (&data, member == "data"),
            "{pushed}"
        );
        let said = (!content_type.is_empty()).then(|| json!(content_type));
        assert_eq!(pushed.get("datacontenttype").cloned(), said);
    }
}

#[test]
fn a_body_without_bytes_is_no_data_and_other_bytes_are_as_in_structured_mode() {
    let without = pushed(read_binary("application/json", b""));
    assert!(without.get("data").is_none() && without.get("data_base64").is_none(), "{without}");
    let encoded =
        structured(&rules(), &least_and(&json!({"data_base64": "/wA="})).to_string()).unwrap();
    assert_eq!(encoded.payload, read_binary("application/octet-stream", &[0xff, 0]).payload);
}

#[test]
fn as_many_bytes_of_data_are_taken_as_of_a_payload() {
    let given = headers(&REQUIRED);
    let most = rules().payload_bytes_max;
    assert!(
        binary(&rules(), &given, &vec![0xff; most]).is_ok(),
        "base64 is longer, and that is not the producer's"
    );
    assert!(binary(&rules(), &given, &vec![0xff; most + 3]).is_err());
    let text = headers(&[REQUIRED.as_slice(), &[("content-type", "text/plain")]].concat());
    let read =
        |letters: &str, count: usize| binary(&rules(), &text, letters.repeat(count).as_bytes());
    assert_eq!(
        read("a", most).unwrap().payload.len(),
        most + 2,
        "the quotes are not the producer's"
    );
    assert!(read("a", most + 1).is_err());
    let lines = read("a\n", most / 2).unwrap();
    assert_eq!(
        lines.cloudevent.unwrap().data,
        DataKind::Base64,
        "all the escapes would make it much longer"
    );
    assert_eq!(
        read("a\n", most / 4).unwrap().cloudevent.unwrap().data,
        DataKind::Json,
        "there is room for them"
    );
}

#[test]
fn everything_that_is_missing_or_wrong_in_headers_is_named() {
    let problem =
        binary(&rules(), &headers(&[("ce-specversion", "0.3"), ("ce-id", "")]), b"").unwrap_err();
    assert_eq!(pointers(&problem), ["ce-id", "ce-specversion", "ce-source", "ce-type"]);
    let both = [
        ("ce-datacontenttype", "text/plain"),
        ("ce-id", "B"),
        ("ce-my_ext", "x"),
        ("ce-data", "x"),
        ("content-type", "xyz"),
    ];
    let both = headers(&[REQUIRED.as_slice(), &both].concat());
    let named = pointers(&binary(&rules(), &both, b"").unwrap_err());
    assert_eq!(named, ["ce-data", "ce-datacontenttype", "ce-id", "ce-my_ext", "Content-Type"]);
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

fn dedup(more: &Value) -> Dedup {
    structured(&rules(), &least_and(more).to_string()).unwrap().dedup.unwrap()
}

#[test]
fn the_same_event_again_is_known_by_everything_that_matters() {
    let first = dedup(&json!({"subject": "s", "count": 7, "data": 1}));
    for same in [
        json!({"data": 1, "count": 7, "subject": "s"}),
        json!({"data": 1, "count": "7", "subject": "s", "none": null}),
        json!({"data": 1, "count": 7, "subject": "s", "datacontenttype": "Application/JSON; \
            charset=utf-8"}),
        json!({"data": 1, "count": 7, "subject": "s", "traceparent": "00-1-2-03",
        "tracestate": "a=b"}),
    ] {
        assert_eq!(dedup(&same), first, "{same}");
    }
    for other in [
        json!({"subject": "s", "count": 7, "data": 2}),
        json!({"subject": "s", "count": 8, "data": 1}),
        json!({"subject": "t", "count": 7, "data": 1}),
        json!({"count": 7, "data": 1}),
        json!({"subject": "s", "count": 7, "data": 1, "time": "2018-04-05T17:31:00Z"}),
        json!({"subject": "s", "count": 7, "data": 1, "datacontenttype": "text/plain"}),
        json!({"subject": "s", "count": 7, "data": 1, "dataschema": "a:b"}),
        json!({"subject": "s", "count": 7, "data": 1, "type": "other"}),
        json!({"subject": "s", "count": 7}),
        json!({"subject": "s", "count": 7, "data": null}),
        json!({"subject": "s", "count": 7, "data_base64": "/wA="}),
        json!({"subject": "s", "count": 7, "data": {"data_base64": "/wA="}}),
    ] {
        let read = dedup(&other);
        assert!(read.digest == first.digest && read.fingerprint != first.fingerprint, "{other}");
    }
    let (none, null) = (dedup(&json!({})), dedup(&json!({"data": null})));
    assert_ne!(none.fingerprint, null.fingerprint, "no data is not null");
}

#[test]
fn the_same_event_again_is_known_by_the_meaning_of_its_content_type() {
    let of_type = |media: &str| dedup(&json!({"datacontenttype": media, "data": "x"}));
    let plain = of_type("text/plain; charset=utf-8");
    for same in ["Text/Plain;CHARSET=UTF-8", "text/plain ;  charset=\"Utf-8\""] {
        assert_eq!(of_type(same), plain, "{same}");
    }
    for other in ["text/plain", "text/plain;charset=latin1", "text/plain;charset=utf-8;a=b"] {
        assert_ne!(of_type(other).fingerprint, plain.fingerprint, "{other}");
    }
}

/// Generates valid attribute values of each JSON type.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[^\\p{Cc}\\p{Cn}]{1,40}".prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
    ]
}

proptest! {
    #[test]
    fn nothing_makes_reading_panic(text in "\\PC{0,60}", header in "[ -~]{0,40}", body: Vec<u8>) {
        drop(structured(&rules(), &text));
        let given = headers(&[("ce-specversion", "1.0"), ("ce-id", &header), ("ce-x", &header),
        ("content-type", &header)]);
        drop(binary(&rules(), &given, &body));
    }

    #[test]
    fn attributes_and_data_come_out_as_they_came_in(
        attributes in prop::collection::btree_map("x[a-z0-9]{1,10}", any_value(), 0..6),
        data in prop::option::of(any_value()),
    ) {
        let mut event = least_and(&Value::Object(attributes.into_iter().collect()));
        if let Some(data) = data {
            event["data"] = json!([data, null]);
        }
        prop_assert_eq!(pushed(structured(&rules(), &event.to_string()).unwrap()), event);
    }
}
