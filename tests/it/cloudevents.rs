//! CloudEvents with the real binary: events appear in the inbox, and reach endpoints with body
//! `cloudevents`, exactly as posted, in every mode. CloudEvents' JavaScript SDK reads the requests.

use std::io::Write as _;
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};
use triggerd::cli::demo::receiver::{Received, Receiver};

use crate::harness::{Answer, Client, PATIENCE, Process, server};
use crate::npm::installed;

const STRUCTURED: (&str, &str) = ("Content-Type", "application/cloudevents+json; charset=utf-8");
const BATCHED: (&str, &str) = ("Content-Type", "application/cloudevents-batch+json");

/// Events of every kind, each with its own id.
fn events() -> Vec<Value> {
    let kinds = [
        json!({"type": "io.cloudevents.test"}),
        json!({"type": "orders/create", "time": "2018-04-05T18:31:00.120000+01:00",
        "subject": "1017", "data": {"a": 1}}),
        json!({"type": "repo:push", "datacontenttype": "text/plain", "data": "some text, ä"}),
        json!({"type": "a b, \
            *!", "datacontenttype": "application/octet-stream", "data_base64": "/wDerQ=="}),
        json!({"type": "x", "dataschema": "https://example.com/schema", "data": null}),
        json!({"type": "x", "extinteger": -2_147_483_648_i64, "extboolean": false, "exttext": "7",
        "extbytes": "TWE="}),
        json!({"type": "x", "source": "#fragment", "subject": "s".repeat(4_096), "data": [1, "x",
        null]}),
    ];
    let with_id = |(number, mut event): (usize, Value)| {
        event["specversion"] = json!("1.0");
        event["id"] = json!(format!("no {number}"));
        if event.get("source").is_none() {
            event["source"] = json!("https://example.com/shop");
        }
        event
    };
    kinds.into_iter().enumerate().map(with_id).collect()
}

/// The event without its data, and the data as the inbox shows it.
fn shown(event: &Value) -> (Value, Value, &'static str) {
    let mut context = event.clone();
    let members = context.as_object_mut().unwrap();
    match (members.remove("data"), members.remove("data_base64")) {
        (_, Some(encoded)) => (context, json!({"data_base64": encoded}), "base64"),
        (Some(data), None) => (context, data, "json"),
        (None, None) => (context, Value::Null, "none"),
    }
}

/// Creates an endpoint with body `cloudevents` at this receiver.
fn endpoint(org: &Client, receiver: &Receiver) {
    let settings = json!({"url": receiver.url(), "body": "cloudevents", "ordering": "strict"});
    assert_eq!(org.post("/api/endpoints", &settings).status, 201);
}

/// A server, an organization, and the receiver of its endpoint.
fn world() -> (Process, Client, Receiver, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    endpoint(&org, &receiver);
    (server, org, receiver, dir)
}

fn post(org: &Client, event: &Value) -> Answer {
    org.request(Method::POST, "/api/events", &[STRUCTURED], event.to_string())
}

fn bodies(received: &[Received]) -> Vec<Value> {
    let read = |request: &Received| {
        assert_eq!(request.header("content-type"), Some("application/cloudevents+json"));
        serde_json::from_slice(&request.body).unwrap()
    };
    received.iter().map(read).collect()
}

/// Posts an event twice to each organization, and another one with the same id to the first.
fn post_twice(orgs: [&Client; 2], event: &Value) {
    for org in orgs {
        let answer = post(org, event);
        assert_eq!(answer.status, 202, "{event} {answer:?}");
        let again = post(org, event);
        assert_eq!((again.status, &again.json["duplicate"]), (200, &json!(true)), "{again:?}");
    }
    let mut other = event.clone();
    other["ext"] = json!("other");
    let other = post(orgs[0], &other);
    assert_eq!((other.status, other.code()), (422, "dedup_mismatch"), "{other:?}");
}

#[test]
fn structured_and_batched_events_come_out_as_they_came_in() {
    let (server, _dir) = server();
    let (pulls, pushed, batched) = (server.org("Pull"), server.org("Push"), server.org("Batch"));
    let receivers = [Receiver::start().unwrap(), Receiver::start().unwrap()];
    endpoint(&pushed, &receivers[0]);
    endpoint(&batched, &receivers[1]);
    let events = events();
    for event in &events {
        post_twice([&pulls, &pushed], event);
    }
    let batch = Value::from(events.clone()).to_string();
    let answer = batched.request(Method::POST, "/api/events/batch", &[BATCHED], batch);
    let results = answer.json["results"].as_array().unwrap();
    let accepted = results.iter().filter(|it| it["status"] == "accepted").count();
    assert_eq!(accepted, events.len(), "{answer:?}");
    let inbox = pulls.inbox();
    assert_eq!(inbox.len(), events.len());
    for (item, event) in inbox.iter().zip(&events) {
        let (context, payload, kind) = shown(event);
        assert_eq!((&item["cloudevent"], &item["payload"]), (&context, &payload));
        assert_eq!((&item["payload_kind"], &item["type"]), (&json!(kind), &event["type"]));
        let one = pulls.get(&format!("/api/events/{}", item["id"].as_str().unwrap())).json;
        assert_eq!((&one["cloudevent"], &one["payload_kind"]), (&context, &json!(kind)));
    }
    let own = pulls.send("order.created", &json!(1)).id();
    let own = pulls.get(&format!("/api/events/{own}")).json;
    assert_eq!((own.get("cloudevent"), own.get("payload_kind")), (None, None));
    for receiver in receivers {
        assert_eq!(bodies(&receiver.wait_for(events.len(), PATIENCE)), events);
        receiver.stop();
    }
}

/// An order's event with more members.
fn with(more: &Value) -> Value {
    let mut event = json!({"specversion": "1.0", "type": "orders/create", "source": "/shop"});
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

#[test]
fn binary_events_come_out_as_they_came_in() {
    let (_server, org, receiver, _dir) = world();
    let least = [("ce-specversion", "1.0"), ("ce-type", "orders/create"), ("ce-source", "/shop")];
    let post = |more: &[(&str, &str)], body: &str| {
        let answer =
            org.request(Method::POST, "/api/events", &[least.as_slice(), more].concat(), body);
        assert_eq!(answer.status, 202, "{answer:?}");
    };
    post(
        &[
            ("ce-id", "1"),
            ("ce-time", "2018-04-05T17:31:00.000000000Z"),
            ("Content-Type", "application/json"),
        ],
        "[1.0]",
    );
    post(
        &[
            ("ce-id", "2"),
            ("ce-subject", "Euro%20%E2%82%AC"),
            ("Content-Type", "text/plain; charset=utf-8"),
        ],
        "ä",
    );
    post(&[("ce-id", "3"), ("ce-count", "7"), ("Content-Type", "application/x-thing")], "\0\u{1}");
    post(&[("ce-id", "4")], "");
    let expected = [
        with(&json!({"id": "1", "time": "2018-04-05T17:31:00.000000000Z",
            "datacontenttype": "application/json", "data": [1.0]})),
        with(&json!({"id": "2", "subject": "Euro €", "datacontenttype": "text/plain; \
                charset=utf-8", "data": "ä"})),
        with(&json!({"id": "3", "count": "7", "datacontenttype": "application/x-thing",
            "data_base64": "AAE="})),
        with(&json!({"id": "4"})),
    ];
    assert_eq!(bodies(&receiver.wait_for(expected.len(), PATIENCE)), expected);
    receiver.stop();
}

/// The data of an event in each mode.
struct InModes {
    /// The data and its content type as members of a structured event.
    structured: &'static str,
    content_type: &'static str,
    /// The same data as the body of a binary event.
    same: &'static [u8],
    /// Other data.
    other: &'static [u8],
}

const IN_MODES: [InModes; 6] = [
    InModes {
        structured: r#","data":{"a": 1, "b":"\u00e4\/"}"#,
        content_type: "application/json",
        same: "{\n \"b\":\"ä/\",\"a\":1}".as_bytes(),
        other: b"{\"a\":2}",
    },
    InModes {
        structured: r#","datacontenttype":"application/json","data_base64":"eyJhIjoxfQ==""#,
        content_type: "application/json",
        same: b"{ \"a\" : 1 }",
        other: b"[1]",
    },
    InModes {
        structured: r#","datacontenttype":"text/plain","data":"x\n\u00e4""#,
        content_type: "text/plain",
        same: "x\nä".as_bytes(),
        other: b"x",
    },
    InModes {
        structured: r#","datacontenttype":"text/plain","data_base64":"eA==""#,
        content_type: "text/plain",
        same: b"x",
        other: b"y",
    },
    InModes {
        structured: r#","datacontenttype":"application/yaml","data":"a: b""#,
        content_type: "application/yaml",
        same: b"a: b",
        other: b"a: c",
    },
    InModes {
        structured: r#","datacontenttype":"image/png","data_base64":"/wA=""#,
        content_type: "image/png",
        same: b"\xff\0",
        other: b"\xff",
    },
];

#[test]
fn an_event_is_the_same_in_whatever_mode_and_however_its_data_is_written() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let structured = |id: &str, more: &str| {
        let text =
            format!(r#"{{"specversion":"1.0","type":"a.b","source":"/shop","id":"{id}"{more}}}"#);
        org.request(Method::POST, "/api/events", &[STRUCTURED], text)
    };
    let binary = |id: &str, content_type: &str, body: &[u8]| {
        let least =
            [("ce-specversion", "1.0"), ("ce-type", "a.b"), ("ce-source", "/shop"), ("ce-id", id)];
        let headers = [least.as_slice(), &[("Content-Type", content_type)]].concat();
        org.try_request_bytes(Method::POST, "/api/events", &headers, body.to_vec()).unwrap()
    };
    for (number, data) in IN_MODES.iter().enumerate() {
        let (id, content_type, same) = (number.to_string(), data.content_type, data.same);
        let first = structured(&id, data.structured);
        assert_eq!(first.status, 202, "{first:?}");
        for again in [structured(&id, data.structured), binary(&id, content_type, same)] {
            let is_same = (again.status, &again.json["duplicate"]);
            assert_eq!(is_same, (200, &json!(true)), "{id}: {again:?}");
            assert_eq!(again.id(), first.id());
        }
        let other = binary(&id, content_type, data.other);
        assert_eq!((other.status, other.code()), (422, "dedup_mismatch"), "{id}: {other:?}");
        // The same in the other order.
        let id = format!("{id} again");
        assert_eq!(binary(&id, content_type, same).status, 202);
        assert_eq!(structured(&id, data.structured).status, 200, "{id}");
    }
}

#[test]
fn a_source_that_is_no_uri_reference_is_refused() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    for source in [":a", "http://a:b/", "/ä", "a[b]"] {
        let event = json!({"specversion": "1.0", "type": "a.b", "source": source, "id": "7"});
        let refused = post(&org, &event);
        assert_eq!(refused.status, 422, "{refused:?}");
        assert_eq!(refused.json["errors"][0]["pointer"], "/source", "{refused:?}");
    }
}

/// A type of the maximum length.
fn longest_type() -> String {
    format!("orders/{}", "x".repeat(248))
}

#[test]
fn types_of_any_kind_are_posted_and_subscribed_to_below_their_words() {
    let (server, _dir) = server();
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let types = ["orders.*", "repo:*", "Größe"];
    org.endpoint(&json!({"url": receiver.url(), "event_types": types, "ordering": "strict"}));
    for beside in ["ordersx/create", "orders", "repository:push", "größe"] {
        assert_eq!(org.send(beside, &json!(1)).status, 202, "{beside}");
    }
    let longest = longest_type();
    let wanted = [
        "orders/create",
        "orders.created",
        "repo:push",
        "repo/push",
        "Größe",
        "orders/{\"id\"}",
        &longest,
    ];
    for event_type in wanted {
        assert_eq!(org.send(event_type, &json!(1)).status, 202, "{event_type}");
    }
    let received = receiver.wait_for(wanted.len(), PATIENCE);
    let type_of = |request: &Received| {
        serde_json::from_slice::<Value>(&request.body).unwrap()["type"].clone()
    };
    assert_eq!(received.iter().map(type_of).collect::<Vec<_>>(), wanted);
    assert_eq!(org.get("/api/events?type=orders.*").json["data"].as_array().unwrap().len(), 4);
    receiver.stop();
}

#[test]
fn a_type_that_is_none_is_refused() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let too_long = format!("{}x", longest_type());
    let malformed = ["", " ", "a b", "a*", "!a", "a,b", "a\u{200b}"];
    for bad in malformed.into_iter().chain([&*too_long, "triggerd/x", "triggerd:x"]) {
        assert_eq!(org.send(bad, &json!(1)).status, 422, "{bad:?}");
    }
}

#[test]
fn the_sdk_for_javascript_reads_what_is_pushed() {
    let reader = match installed("cloudevents") {
        Ok(reader) => reader,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let (_server, org, receiver, _dir) = world();
    let mut events = events();
    for event in &events {
        assert_eq!(post(&org, event).status, 202);
    }
    let own = org.send("order.created", &json!({"order": 1017})).id();
    events.push(
        json!({"specversion": "1.0", "id": own, "source": "urn:triggerd", "type": "order.created",
        "datacontenttype": "application/json", "data": {"order": 1017}}),
    );
    let received = receiver.wait_for(events.len(), PATIENCE);
    let requests: Vec<Value> = received
        .iter()
        .map(|it| {
            json!({"headers": {"content-type": it.header("content-type")},
        "body": String::from_utf8_lossy(&it.body)})
        })
        .collect();
    let mut node = Command::new("node");
    node.arg("reader.js").current_dir(reader).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut node = node.spawn().unwrap();
    node.stdin.take().unwrap().write_all(Value::from(requests).to_string().as_bytes()).unwrap();
    let said = node.wait_with_output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let mut read: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap();
    // The SDK changes the form of times, adds the current time to events without a time, and treats
    // null data as no data.
    for event in events.iter_mut().chain(&mut read) {
        event.as_object_mut().unwrap().retain(|name, value| name != "time" && !value.is_null());
    }
    assert_eq!(read, events);
    receiver.stop();
}
