//! Refused requests with the real binary: who refuses, in which words, and the line in the log.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use reqwest::Method;
use serde_json::{Value, json};
use triggerd::http::{Who, routes};

use crate::harness::{Answer, Client, PATIENCE, server, settings, until};
use crate::operator::{Served, Start};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const BATCH: (&str, &str) = ("Content-Type", "application/cloudevents-batch+json");

fn post(org: &Client, path: &str, headers: &[(&str, &str)], body: impl Into<String>) -> Answer {
    org.request(Method::POST, path, headers, body)
}

/// The pointer and the detail of the only fault.
fn fault(answer: &Answer) -> (&str, &str) {
    let faults = answer.json["errors"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(faults.len(), 1, "{answer:?}");
    (faults[0]["pointer"].as_str().unwrap(), faults[0]["detail"].as_str().unwrap())
}

#[test]
fn every_route_refuses_a_parameter_that_it_does_not_know() {
    let (server, _dir) = server();
    let (org, admin) = (server.org("Acme"), server.admin());
    let absent = "01h2xcejqtf2nbrexx3vqjhp41";
    for route in routes() {
        let prefixes =
            [("event", "evt"), ("endpoint", "ep"), ("delivery", "dlv"), ("replay", "rpl")];
        let more = [("hook", "ep"), ("key", "key"), ("org", "org")];
        let path = prefixes.iter().chain(&more).fold(route.path.to_owned(), |path, (name, id)| {
            path.replace(&format!("{{{name}_id}}"), &format!("{id}_{absent}"))
        });
        let method = Method::from_bytes(route.verb.name().as_bytes()).unwrap();
        let caller = if route.who == Who::Admin { &admin } else { &org };
        let answer = caller.request(method, &format!("{path}?colour=red"), &[JSON], "{}");
        if route.who == Who::Public {
            assert_ne!(answer.status, 400, "probes and browsers may send anything: {path}");
            continue;
        }
        assert_eq!((answer.status, answer.code()), (400, "invalid_request"), "{path}: {answer:?}");
        assert_eq!(fault(&answer).0, "?colour", "{path}: {answer:?}");
    }
    // Nothing was done, and a known parameter of another route is unknown too.
    let event = json!({"type": "a.b", "payload": 1}).to_string();
    for query in ["?limit=1", "?dedup_id=x", "?api_key=x", "?a&b"] {
        assert_eq!(post(&org, &format!("/api/events{query}"), &[JSON], &event).status, 400);
    }
    assert_eq!(org.inbox().len(), 0);
    assert_eq!(post(&org, "/api/events?", &[JSON], &event).status, 202);
}

#[test]
fn a_query_that_is_no_text_is_refused() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    for path in
        ["/api/events?type=%ff", "/api/inbox?type=a.b&type%C3=x", "/api/tail?type=%ED%A0%80"]
    {
        let answer = org.get(path);
        assert_eq!((answer.status, answer.code()), (400, "invalid_request"), "{path}: {answer:?}");
        assert!(answer.text.contains("must be UTF-8 text"), "{path}: {answer:?}");
    }
    assert_eq!(org.get("/api/events?type=%C3%A9.b").status, 200);
}

#[test]
fn a_name_that_turns_its_neighbors_around_is_refused() {
    let (server, _dir) = server();
    let (org, admin) = (server.org("Acme"), server.admin());
    let own = org.get("/api/whoami").json["key"]["id"].as_str().unwrap_or_default().to_owned();
    for hidden in ['\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}'] {
        let (name, rule) = (format!("Acme{hidden}2"), format!("U+{:04X}", u32::from(hidden)));
        let endpoint = json!({"url": "http://127.0.0.1:1/", "description": name});
        for (answer, pointer) in [
            (admin.post("/api/orgs", &json!({"name": name})), "/name"),
            (admin.post("/api/keys/generate", &json!({"organization": name})), "/organization"),
            (
                org.post("/api/keys/generate", &json!({"name": name, "scopes": ["events:read"]})),
                "/name",
            ),
            (org.patch(&format!("/api/keys/{own}"), &json!({"name": name})), "/name"),
            (org.post("/api/endpoints", &endpoint), "/description"),
        ] {
            assert_eq!(answer.status, 422, "{answer:?}");
            let (at, detail) = fault(&answer);
            assert!(at == pointer && detail.contains(&rule), "{answer:?}");
        }
    }
    assert_eq!(admin.post("/api/orgs", &json!({"name": "Åcme 漢字 😀"})).status, 201);
}

#[test]
fn a_number_in_a_query_has_digits_only() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    for (path, good) in [("/api/inbox?limit=", "7"), ("/api/inbox?wait=", "0")] {
        assert_eq!(org.get(&format!("{path}{good}")).status, 200);
        for sign in ["%2B", "+", "-", "%20", "0x", ""] {
            let digits = if sign.is_empty() { "" } else { good };
            for text in [format!("{sign}{digits}"), format!("{digits}{sign}")] {
                let answer = org.get(&format!("{path}{text}"));
                assert_eq!(answer.status, 400, "{path}{text}: {answer:?}");
            }
        }
    }
    assert_eq!(org.get("/api/hooks/samples?limit=%2B3").status, 400);
}

#[test]
fn a_request_with_one_header_of_a_cloud_event_is_one() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let whole =
        [JSON, ("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/x"), ("ce-type", "a.b")];
    // The body would be an event in triggerd's own form.
    let own = json!({"type": "own", "payload": 1}).to_string();
    for missing in 1..whole.len() {
        let headers: Vec<_> =
            whole.iter().filter(|header| **header != whole[missing]).copied().collect();
        let answer = post(&org, "/api/events", &headers, &own);
        assert_eq!((answer.status, answer.code()), (422, "validation_failed"), "{answer:?}");
        assert_eq!(fault(&answer).0, whole[missing].0);
    }
    let answer = post(&org, "/api/events", &[JSON, ("ce-extension", "x")], &own);
    assert_eq!((answer.status, answer.json["errors"].as_array().unwrap().len()), (422, 4));
    assert_eq!(org.inbox().len(), 0);
    assert_eq!(post(&org, "/api/events", &whole, &own).status, 202);
    assert_eq!(org.inbox()[0]["type"], "a.b");
    // Another format of CloudEvents is not binary mode, whatever its headers repeat.
    let avro = ("Content-Type", "application/cloudevents+avro");
    let answer = post(&org, "/api/events", &[&[avro], &whole[1..]].concat(), &own);
    assert_eq!(answer.status, 415, "{answer:?}");
    assert!(answer.text.contains("application/cloudevents+avro"), "{answer:?}");
    let structured = ("Content-Type", "application/cloudevents+json");
    let event = json!({"specversion": "1.0", "type": "s", "source": "/x", "id": "2"});
    let sent = post(&org, "/api/events", &[&[structured], &whole[1..]].concat(), event.to_string());
    assert_eq!(sent.status, 202, "the content type decides: {sent:?}");
}

#[test]
fn a_batch_says_which_route_and_type_a_single_cloud_event_needs() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let own = json!({"events": [{"type": "a", "payload": 1}]}).to_string();
    for headers in [&[JSON, ("ce-specversion", "1.0")][..], &[JSON, ("ce-id", "1")]] {
        let answer = post(&org, "/api/events/batch", headers, &own);
        assert_eq!((answer.status, answer.code()), (400, "invalid_request"), "{answer:?}");
        let (pointer, detail) = fault(&answer);
        assert_eq!(pointer, headers[1].0);
        assert!(detail.contains("POST /api/events, or") && detail.contains(BATCH.1), "{detail}");
    }
    let single = ("Content-Type", "application/cloudevents+json");
    let answer = post(&org, "/api/events/batch", &[single], "{}");
    assert!(answer.status == 415 && answer.text.contains(BATCH.1), "{answer:?}");
    let answer = post(&org, "/api/events", &[BATCH], "[]");
    assert!(answer.status == 415 && answer.text.contains("/api/events/batch"), "{answer:?}");
    let answer = post(&org, "/api/events/batch", &[JSON, ("Idempotency-Key", "x")], &own);
    assert_eq!((answer.status, fault(&answer).0), (400, "Idempotency-Key"));
    let answer = post(&org, "/api/events/batch", &[BATCH], "[1]");
    assert_eq!(answer.json["results"][0]["error"]["detail"], "the item must be a JSON object");
    assert_eq!(org.inbox().len(), 0);
}

#[test]
fn what_is_too_large_is_said_with_its_size_and_the_limit() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let event = |bytes: usize| json!({"type": "a", "payload": "x".repeat(bytes - 2)}).to_string();
    let says = |answer: &Answer, parts: &[&str]| {
        let detail = answer.json["detail"].as_str().unwrap();
        assert_eq!((answer.status, answer.code()), (413, "payload_too_large"), "{answer:?}");
        assert!(parts.iter().all(|part| detail.contains(part)), "{detail}");
    };
    let payload = post(&org, "/api/events", &[JSON], event(262_145));
    says(&payload, &["the payload has 262145 bytes; the limit is 262144 bytes"]);
    let large = event(1 << 20);
    let announced = post(&org, "/api/events", &[JSON], &large);
    says(&announced, &[&format!("the body has {} bytes; the limit is", large.len())]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(large.as_bytes()).unwrap();
    let gzip = [JSON, ("Content-Encoding", "gzip")];
    let zipped = encoder.finish().unwrap();
    let inflated = org.try_request_bytes(Method::POST, "/api/events", &gzip, zipped).unwrap();
    says(&inflated, &["the body, decompressed, has more bytes than the limit of"]);
    let item = json!({"specversion": "1.0", "type": "a", "source": "/x", "id": "1",
        "data": "x".repeat(262_144)});
    let batch = post(&org, "/api/events/batch", &[BATCH], json!([item]).to_string());
    let detail = &batch.json["results"][0]["error"]["detail"];
    assert_eq!(detail, "the data has 262146 bytes; the limit is 262144 bytes");
    let coded = post(&org, "/api/events", &[JSON, ("Content-Encoding", "br")], &large);
    assert!(coded.status == 415 && coded.text.contains("must be gzip, once, or absent"));
    let broken = post(&org, "/api/events", &gzip, event(100));
    assert!(broken.text.contains("Content-Encoding says gzip, but the body is not"), "{broken:?}");
}

#[test]
fn a_hook_names_the_member_that_repeats_its_url_or_holds_a_forbidden_one() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let url = "https://example.com/x";
    for (first, second) in [("target_url", "hookUrl"), ("hookUrl", "target_url")] {
        let both = org.post("/api/hooks", &json!({first: url, second: url}));
        assert_eq!(both.status, 422, "{both:?}");
        assert_eq!(fault(&both), ("/hookUrl", "repeats `target_url`; send only one of them"));
    }
    let forbidden = org.post("/api/hooks", &json!({"hookUrl": "http://10.0.0.1/"}));
    assert_eq!((forbidden.code(), fault(&forbidden).0), ("egress_blocked", "/hookUrl"));
    assert_eq!(org.post("/api/hooks", &json!({"hookUrl": url, "target_url": null})).status, 201);
}

/// Sends bytes, and returns the id in the answer to them.
fn id_of_raw(server: &Served, bytes: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(server.url().strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may close before it has read everything.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    let body: Value = serde_json::from_str(body).unwrap();
    let id = body["request_id"].as_str().unwrap().to_owned();
    assert!(head.contains(&format!("x-request-id: {id}")), "{head}");
    (head[9..12].parse().unwrap(), id)
}

/// Waits for the only line with this id in the log.
fn line_of(server: &Served, id: &str) -> Value {
    let id = format!("\"{id}\"");
    let lines = until(|| Some(server.lines(&id)).filter(|lines| !lines.is_empty()));
    assert_eq!(lines.len(), 1, "{id}: {}", server.text());
    lines[0].clone()
}

#[test]
fn each_refused_request_is_one_line_by_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let server = Start::on(&dir.path().join("data")).ready();
    let admin = server.admin();
    let made =
        admin.post("/api/keys/generate", &json!({"organization": "Acme", "tier": "free"})).json;
    let (organization, key) = (&made["organization_id"], &made["key_id"]);
    let org = admin.with_key(made["key"].as_str().unwrap());
    let secret = format!("/api/keys/{}", org.key);
    for (method, path, body, status, code) in [
        (Method::GET, "/nowhere/at?token=canary", "", 404, "not_found"),
        (Method::PUT, "/api/events", "{}", 405, "method_not_allowed"),
        (Method::POST, "/api/events", "{}", 422, "validation_failed"),
        (Method::POST, "/api/events", "{", 400, "malformed_json"),
        (Method::GET, "/api/inbox?canary=1", "", 400, "invalid_request"),
        (Method::DELETE, &secret, "", 404, "not_found"),
    ] {
        let answer = org.request(method.clone(), path, &[JSON], body);
        assert_eq!((answer.status, answer.code()), (status, code), "{answer:?}");
        let line = line_of(&server, answer.header("x-request-id"));
        let path = if path == secret { "/api/keys/(secret)" } else { path };
        let path = path.split('?').next().unwrap();
        let said = ["message", "level", "method", "path", "code", "address"]
            .map(|name| line[name].as_str().unwrap());
        let expected = ["request refused", "INFO", method.as_str(), path, code, "127.0.0.1"];
        assert_eq!((said, &line["status"]), (expected, &json!(status)), "{line}");
        // Without a route, the key is not read.
        let has_route = status != 405 && !path.starts_with("/nowhere");
        let known = if has_route { (organization, key) } else { (&Value::Null, &Value::Null) };
        assert_eq!((&line["organization"], &line["key"]), known, "{line}");
    }
    assert!(!server.text().contains("canary"), "{}", server.text());
    assert!(!server.text().contains(&org.key), "{}", server.text());
}

#[test]
fn a_request_with_a_wrong_key_is_one_line_by_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let server = Start::on(&dir.path().join("data")).ready();
    let refused = server.admin().with_key("wrong").get("/api/inbox?token=canary");
    let line = line_of(&server, refused.header("x-request-id"));
    let said = ["message", "path", "code"].map(|name| line[name].as_str().unwrap());
    assert_eq!(said, ["authentication failed", "/api/inbox", "unauthorized"], "{line}");
    assert_eq!(line["status"], 401, "{line}");
    assert!(!server.text().contains("canary"), "{}", server.text());
}

/// actix answers these by itself. Their lines are damped, so each kind has a server of its own.
#[test]
fn a_request_that_no_route_sees_is_one_line_by_its_id() {
    let large = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    for (bytes, status) in [("GET / HTTP/9.9\r\n\r\n", 400), (&large, 431), ("GET / HT", 408)] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let quick = "[server]\nclient_timeout_seconds = 1\n";
        let config = settings(&data, "").replace("[server]\n", quick);
        let server = Start { config, ..Start::on(&data) }.ready();
        let (answered, id) = id_of_raw(&server, bytes.as_bytes());
        assert_eq!(answered, status);
        let line = line_of(&server, &id);
        let said = ["message", "address"].map(|name| line[name].as_str().unwrap());
        assert_eq!(said, ["request refused", "127.0.0.1"], "{line}");
        assert_eq!(line["status"], status, "{line}");
    }
}

#[test]
fn refusals_are_few_lines_however_many_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let server = Start::on(&dir.path().join("data")).ready();
    let org = server.admin().new_org("Acme");
    let (before, began) = (server.text().lines().count(), std::time::Instant::now());
    (0..500).for_each(|_| assert_eq!(org.get("/nowhere").status, 404));
    (0..500).for_each(|_| assert_eq!(org.get("/api/inbox?limit=0").status, 400));
    let lines = server.text().lines().count() - before;
    let most = usize::try_from(began.elapsed().as_secs()).unwrap() * 12 + 24;
    assert!(lines <= most, "{lines} lines in {:?}", began.elapsed());
    until(|| server.text().contains("lines were left out").then_some(()));
}
