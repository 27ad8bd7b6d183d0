//! The forms of requests: accepted forms, refused forms, and the rate that each is charged for.

use std::io::Write as _;

use reqwest::Method;
use serde_json::{Value, json};
use triggerd::http::Verb;

use crate::harness::{Answer, Client, Process};

#[path = "reading_limits.rs"]
mod limits;
#[path = "reading_members.rs"]
mod members;

const JSON: (&str, &str) = ("Content-Type", "application/json");
const CLOUD_EVENT: (&str, &str) = ("Content-Type", "application/cloudevents+json");
const GZIP: (&str, &str) = ("Content-Encoding", "gzip");
const CLOUD_EVENTS: (&str, &str) = ("Content-Type", "application/cloudevents-batch+json");
/// Maximum size of a payload, in bytes.
const PAYLOAD_BYTES: usize = 262_144;

fn server() -> (Process, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Process::start(&dir.path().join("data")), dir)
}

fn post(org: &Client, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
    org.try_request_bytes(Method::POST, path, headers, body.as_ref().to_vec()).unwrap()
}

/// The status of the single item of a batch.
fn of_batch(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json["results"][0]["status"].clone()
}

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes.as_ref()).unwrap();
    encoder.finish().unwrap()
}

/// Writes a time in each place that takes one; returns the places and the statuses.
fn time_in_each_place(org: &Client, time: &str) -> [(&'static str, u16); 8] {
    let event = json!({"type": "a", "payload": 1, "occurred_at": time});
    let cloud =
        json!({"specversion": "1.0", "type": "a", "source": "/s", "id": time, "time": time});
    let query = time.replace('+', "%2B");
    let list = |path: &str| org.get(&format!("{path}?since={query}")).status;
    let later = json!({"only": "missing", "since": time});
    let dropped = json!({ "since": time }).to_string();
    [
        ("event", org.post("/api/events", &event).status),
        ("CloudEvent", post(org, "/api/events", &[CLOUD_EVENT], cloud.to_string()).status),
        ("inbox", list("/api/inbox")),
        ("events", list("/api/events")),
        ("deliveries", list("/api/deliveries")),
        ("dead letters", list("/api/dead-letters")),
        ("replay", org.post("/api/replays", &later).status),
        ("drop", org.request(Method::DELETE, "/api/dead-letters", &[JSON], dropped).status),
    ]
}

#[test]
fn times_are_what_rfc_3339_says_wherever_one_is_read() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    for good in
        ["2026-01-31t10:00:00z", "2026-01-31T10:00:00.123456789-23:59", "9998-12-31T23:59:59.999Z"]
    {
        for (place, status) in time_in_each_place(&org, good) {
            assert!((200..300).contains(&status), "{good} as {place}: {status}");
        }
    }
    for bad in [
        "2026-01-31T10:00:00+25:00",
        "2026-01-31T10:00:00+05",
        "2026-01-31T10:00:00+0530",
        "2026-01-31T10:00:00,5Z",
        "2026-01-31 10:00:00Z",
        "2026-01-31T10:00Z",
        "2026-01-31T10:00:00",
        "1969-12-31T23:59:59Z",
    ] {
        // The time of a CloudEvent is kept as text, also before 1970.
        let is_kept = |place: &str| place == "CloudEvent" && bad.starts_with("1969");
        for (place, status) in
            time_in_each_place(&org, bad).into_iter().filter(|(place, _)| !is_kept(place))
        {
            assert!(matches!(status, 400 | 422), "{bad} as {place}: {status}");
        }
    }
    let last = org.post(
        "/api/events",
        &json!({"type": "last", "payload": 1, "occurred_at": "9999-12-31T23:59:59.999Z"}),
    );
    assert_eq!(last.status, 202, "{last:?}");
    let shown = org.get("/api/inbox?type=last");
    assert_eq!(shown.json["data"][0]["occurred_at"], "9999-12-31T23:59:59.999Z");
    let early = org.get("/api/inbox?since=1969-12-31T23:59:59Z");
    assert!(early.text.contains("from 1970"), "{early:?}");
}

/// Byte order mark.
const MARK: &str = "\u{feff}";

/// Posts JSON in each form, with this charset in its content type and with `mark` before it.
fn each_form_is_taken(org: &Client, charset: &str, mark: &str) {
    let typed = |media: &str, path: &str, body: &str| {
        let content_type = format!("{media}; charset={charset}");
        post(org, path, &[("Content-Type", &content_type)], format!("{mark}{body}"))
    };
    let event = r#"{"type":"a.b","payload":"\u00e9 é"}"#;
    let sent = typed(JSON.1, "/api/events", event);
    assert_eq!(sent.status, 202, "{charset}: {sent:?}");
    let batch = typed(JSON.1, "/api/events/batch", &format!("{{\"events\":[{event}]}}"));
    assert_eq!(of_batch(&batch), "accepted", "{charset}");
    let id = org.metric("triggerd_events_accepted_total");
    let one = format!(r#"{{"specversion":"1.0","type":"a","source":"/s","id":"{id}","data":1}}"#);
    let sent = typed(CLOUD_EVENT.1, "/api/events", &one);
    assert_eq!(sent.status, 202, "{charset}: {sent:?}");
    let other = one.replace("/s", "/t");
    let batch = typed(CLOUD_EVENTS.1, "/api/events/batch", &format!("[{other}]"));
    assert_eq!(of_batch(&batch), "accepted", "{charset}");
    let binary = [
        ("Content-Type", &*format!("{}; charset={charset}", JSON.1)),
        ("ce-specversion", "1.0"),
        ("ce-type", "a"),
        ("ce-source", "/u"),
        ("ce-id", &id.to_string()),
    ];
    let sent = post(org, "/api/events", &binary, format!("{mark}{{\"n\":1}}"));
    // In binary mode the header is an attribute, which must be a media type.
    let status = if charset.is_empty() { 422 } else { 202 };
    assert_eq!(sent.status, status, "{charset}: {sent:?}");
    let endpoint = json!({"url": "http://127.0.0.1:1/", "enabled": false}).to_string();
    let set = typed(JSON.1, "/api/webhook/config", &endpoint);
    assert!(matches!(set.status, 200 | 201), "{set:?}");
}

#[test]
fn json_is_json_whatever_its_content_type_says_of_characters_and_with_a_byte_order_mark() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    for charset in ["utf-8", "utf8", "UTF8", "us-ascii", "\"utf-16\"", "iso-8859-1", ""] {
        for mark in ["", MARK] {
            each_form_is_taken(&org, charset, mark);
        }
    }
    assert!(!org.get("/api/events?limit=500").text.contains(MARK), "the mark is not kept");
    for bad in [
        b"{\"type\":\"a\",\"payload\":\"\xe9\"}".as_slice(),
        b"\xff\xfe{\0}\0",
        "\u{feff}\u{feff}{}".as_bytes(),
    ] {
        let latin = ("Content-Type", "application/json; charset=iso-8859-1");
        let answer = post(&org, "/api/events", &[latin], bad);
        assert_eq!((answer.status, answer.code()), (400, "malformed_json"), "{answer:?}");
    }
}

#[test]
fn bodies_come_in_gzip_too_and_no_larger_than_without() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let event = r#"{"type":"a.b","payload":{ "n": 1.0 }}"#;
    for coding in ["gzip", "GZIP", "x-gzip", "identity, gzip"] {
        let sent = post(&org, "/api/events", &[JSON, ("Content-Encoding", coding)], gzip(event));
        assert_eq!(sent.status, 202, "{coding}: {sent:?}");
    }
    let members = [gzip(&event[..9]), gzip(&event[9..])].concat();
    assert_eq!(post(&org, "/api/events", &[JSON, GZIP], members).status, 202);
    assert_eq!(org.get("/api/inbox").text.matches(r#"{ "n": 1.0 }"#).count(), 5, "as it came");
    let batch = format!("{{\"events\":[{}]}}", vec![event; 1_000].join(","));
    let sent = post(&org, "/api/events/batch", &[JSON, GZIP], gzip(&batch));
    assert_eq!((sent.status, sent.json["results"].as_array().unwrap().len()), (200, 1_000));
    let cloud = r#"{"specversion":"1.0","type":"a","source":"/s","id":"1","data":1}"#;
    assert_eq!(post(&org, "/api/events", &[CLOUD_EVENT, GZIP], gzip(cloud)).status, 202);
    assert_eq!(post(&org, "/api/events", &[CLOUD_EVENT], cloud).status, 200, "the same event");
    let endpoint = json!({"url": "http://127.0.0.1:1/"}).to_string();
    assert_eq!(post(&org, "/api/endpoints", &[JSON, GZIP], gzip(endpoint)).status, 201);

    let payload =
        |bytes: usize| gzip(format!(r#"{{"type":"a","payload":"{}"}}"#, "x".repeat(bytes - 2)));
    assert_eq!(post(&org, "/api/events", &[JSON, GZIP], payload(PAYLOAD_BYTES)).status, 202);
    for (path, body) in [
        ("/api/events", payload(PAYLOAD_BYTES + 1)),
        ("/api/events", gzip(vec![b' '; 64 << 20])),
        ("/api/events/batch", gzip(vec![b' '; (8 << 20) + 1])),
        ("/api/endpoints", gzip(vec![b' '; 64 << 20])),
    ] {
        let large = post(&org, path, &[JSON, GZIP], body);
        assert_eq!((large.status, large.code()), (413, "payload_too_large"), "{path}: {large:?}");
    }
}

#[test]
fn gzip_that_is_broken_and_any_other_coding_is_refused() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let event = r#"{"type":"a.b","payload":1}"#;
    let whole = gzip(event);
    let cut = whole[..whole.len() - 1].to_vec();
    for broken in [cut, [whole.as_slice(), b"x"].concat(), event.as_bytes().to_vec(), gzip(&whole)]
    {
        let answer = post(&org, "/api/events", &[JSON, GZIP], broken);
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    for coding in ["br", "deflate", "zstd", "gzip, gzip", "compress"] {
        let answer = post(&org, "/api/events", &[JSON, ("Content-Encoding", coding)], event);
        assert_eq!(
            (answer.status, answer.header("accept-encoding")),
            (415, "gzip"),
            "{coding}: {answer:?}"
        );
    }
    let other = post(&org, "/api/events", &[("Content-Type", "text/plain")], event);
    assert_eq!((other.status, other.header("accept-encoding")), (415, ""), "it is not the coding");
}

#[test]
fn one_slash_at_the_end_is_the_same_path_on_every_route() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let event = org.send("a", &json!(1)).id();
    let endpoint = org.post("/api/endpoints", &json!({"url": "http://127.0.0.1:1/"})).id();
    for route in triggerd::http::routes() {
        let path = route.path.replace("{event_id}", &event).replace("{endpoint_id}", &endpoint);
        // The other ids do not exist.
        let path = path.replace(['{', '}'], "");
        let method = match route.verb {
            // The stream has no end.
            Verb::Get if path == "/api/tail" => Method::HEAD,
            Verb::Get => Method::GET,
            Verb::Post => Method::POST,
            Verb::Patch => Method::PATCH,
            Verb::Delete if path.starts_with("/api/e") => continue,
            Verb::Delete => Method::DELETE,
        };
        let ask = |path: &str| {
            let answer = org.request(method.clone(), path, &[("Content-Type", "text/plain")], "x");
            (answer.status, answer.code().to_owned())
        };
        assert_eq!(ask(&format!("{path}/")), ask(&path), "{method} {path}");
        if method == Method::GET {
            assert_eq!(
                ask(&format!("{path}/?colour=red")),
                ask(&format!("{path}?colour=red")),
                "{path}"
            );
        }
        assert_eq!(ask(&format!("{path}//")).0, 404, "{method} {path}: two are none");
        if !route.path.contains('{') {
            let escaped = ask(&format!("{path}%2F"));
            assert!(
                matches!(escaped.0, 404 | 405),
                "{method} {path}: an escaped slash is none: {escaped:?}"
            );
        }
    }
}

#[test]
fn one_slash_at_the_end_is_neither_a_redirection_nor_a_route_of_its_own() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let event = org.send("a", &json!(1)).id();
    assert_eq!(org.ack(&format!("{event}/")).status, 200);
    let wrong = org.request(Method::PUT, "/api/events/", &[], "");
    assert_eq!((wrong.status, wrong.header("allow")), (405, "POST, GET, HEAD"));
    assert_eq!(
        org.post("/api/events/", &json!({"type": "a", "payload": 1})).status,
        202,
        "and no redirection"
    );
    let metrics = org.get("/metrics").text;
    assert!(
        metrics.contains("/api/events") && !metrics.contains("/api/events/\""),
        "the route names the series"
    );
}

#[test]
fn types_of_every_list_are_lists_and_patterns() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    for event_type in ["order.created", "order.paid", "user.created", "order.test"] {
        org.send(event_type, &json!(1));
    }
    let types = |path: &str, filter: &str| -> Vec<String> {
        let page = org.get(&format!("{path}?type={filter}"));
        assert_eq!(page.status, 200, "{page:?}");
        let found = page.json["data"].as_array().unwrap().iter();
        let mut found: Vec<_> =
            found.map(|event| event["type"].as_str().unwrap().to_owned()).collect();
        found.sort();
        found
    };
    for path in ["/api/inbox", "/api/events"] {
        assert_eq!(
            types(path, "order.created,user.created"),
            ["order.created", "user.created"],
            "{path}"
        );
        assert_eq!(types(path, "order.*,!order.test"), ["order.created", "order.paid"], "{path}");
        assert_eq!(types(path, "*.created"), ["order.created", "user.created"], "{path}");
        assert_eq!(types(path, "!*.created"), ["order.paid", "order.test"], "{path}");
        assert_eq!(types(path, "*").len(), 4, "{path}");
        let wrong = org.get(&format!("{path}?type=order.*,x%20y"));
        assert_eq!((wrong.status, wrong.code()), (400, "invalid_request"), "{path}");
        assert!(wrong.text.contains("?type"), "{wrong:?}");
    }
    // A long poll for a type does not end at an event of another type.
    let waiting = org.get("/api/inbox?type=never.*,nor.this&wait=1");
    assert_eq!((waiting.status, &waiting.json["data"]), (200, &json!([])));
}

#[test]
fn the_commands_take_lists_of_types_too() {
    let (server, dir) = server();
    let org = server.org("Acme");
    let [created, paid, test] =
        ["order.created", "order.paid", "order.test"].map(|kind| org.send(kind, &json!(1)).id());
    let run = |filter: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_triggerd"));
        command.args(["inbox", "--type", filter, "--config"]).arg(dir.path().join("data.toml"));
        let output =
            command.args(["--url", &org.url]).env("TRIGGERD_API_KEY", &org.key).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, shown, _) = run("order.*,!order.test");
    assert_eq!(
        (code, shown.contains(&created), shown.contains(&paid), shown.contains(&test)),
        (Some(0), true, true, false)
    );
    let (code, _, complaint) = run("a b");
    assert!(code == Some(1) && complaint.contains("type"), "{complaint}");
}
