//! Answers of the real binary over raw sockets: an answer is correct whatever text it holds and
//! however little room there is for answers, and no request waits for a client that cannot be seen
//! leaving.

use std::io::Write as _;
use std::net::TcpStream;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Process, silence, until};
use crate::raw::{Raw, find, get, post};
use crate::takeover::{fill, server, unread};

/// Number of bytes that actix writes of an answer at a time.
const PIECE_BYTES: usize = 16 << 10;

#[test]
fn text_in_an_answer_that_looks_like_a_refusal_stays_what_it_is() {
    let (server, _dir) = server("workers = 1");
    let org = server.org("Acme");
    let mut raw = Raw::connect(&server);
    assert_eq!(org.send("a.b", &json!("xxx")).status, 202);
    let begins = org.get("/api/events?limit=1").text.find("xxx").unwrap();
    for status in [400, 408, 413, 431, 500, 503] {
        let line = format!("HTTP/1.1 {status} Refused ");
        for pieces in 1..4 {
            // The line is at the start of each piece of the answer, also of the last piece.
            let mut payload = "x".repeat(PIECE_BYTES - begins);
            for piece in 0..pieces {
                payload.push_str(&line);
                payload.push_str(&"y".repeat(if piece + 1 < pieces {
                    PIECE_BYTES - line.len()
                } else {
                    100
                }));
            }
            assert_eq!(org.send("a.b", &json!(payload)).status, 202);
            raw.get("/api/events?limit=1", &org.key);
            let (status, page) = raw.answer();
            assert_eq!(status, 200);
            assert!(
                page["data"][0]["payload"] == json!(payload),
                "{line} in the last of {pieces} pieces and one"
            );
        }
    }
}

/// A CloudEvent whose attributes are far larger than its data.
fn of_large_attributes(number: usize) -> Value {
    let mut event = json!({"specversion": "1.0", "id": number.to_string(), "source": "/x",
    "type": "a.b", "data": 1});
    for place in 0..60 {
        event[format!("extension{place}")] = json!("x".repeat(4_000));
    }
    event
}

#[test]
fn a_page_of_events_with_large_attributes_or_labels_is_bounded_too() {
    const EVENTS: usize = 40;
    let (server, _dir) = server("");
    let org = server.org("Acme");
    let structured = [("Content-Type", "application/cloudevents+json")];
    for number in 0..EVENTS {
        let text = of_large_attributes(number).to_string();
        assert_eq!(org.request(Method::POST, "/api/events", &structured, text).status, 202);
    }
    for list in ["/api/inbox?limit=500", "/api/events?limit=500"] {
        let page = org.get(list);
        assert!(page.text.len() < 5 << 20, "{} bytes of {list}", page.text.len());
        let cursor = page.json["next_cursor"].as_str().unwrap();
        let rest = org.get(&format!("{list}&cursor={cursor}"));
        assert!(rest.text.len() < 5 << 20, "{} bytes of {list}", rest.text.len());
        let count = |page: &Value| page["data"].as_array().unwrap().len();
        assert!(
            count(&page.json) + count(&rest.json) > 30,
            "pages are not shorter than they have to be"
        );
    }
    let samples = org.get("/api/hooks/samples?limit=100");
    assert!(samples.text.len() < 5 << 20, "{} bytes of samples", samples.text.len());
}

/// Fills the organization's share of answer bytes, until the guard is dropped.
fn without_room(server: &Process, org: &Client) -> Vec<Raw> {
    let mut kept = Vec::new();
    while org.get("/api/inbox?limit=500").status != 503 {
        kept.extend(unread(server, 2, &get("/api/inbox?limit=500", &org.key)));
        assert!(kept.len() < 1_000, "there is always room");
    }
    kept
}

#[test]
fn a_change_that_was_made_is_answered_however_little_room_there_is_for_answers() {
    let (server, _dir) = server("answer_bytes_max = 1048576\nwrite_timeout_seconds = 300");
    let org = server.org("Acme");
    // Two of these events are half of the bound, which is less than any answer here needs.
    fill(&org, 3, 257_500);
    let made = org.post("/api/endpoints", &large_settings()).id();
    let events: Vec<_> = (0..1_000).map(|n| json!({"type": "a.b", "payload": n})).collect();
    let batch = json!({ "events": events });
    let changes = [
        ("/api/endpoints".to_owned(), large_settings(), 201),
        (format!("/api/endpoints/{made}/secret/rotate"), json!({}), 200),
    ];
    let kept = without_room(&server, &org);
    // The answer to a batch can be long, so it is refused before the batch is stored.
    let accepted = || server.admin().metric("triggerd_events_accepted_total");
    let before = accepted();
    let refused = org.post("/api/events/batch", &batch);
    assert_eq!((refused.status, refused.code()), (503, "overloaded"), "{:.500}", refused.text);
    assert_eq!(accepted(), before);
    for (path, body, status) in changes {
        let answer = org.post(&path, &body);
        assert_eq!(answer.status, status, "{path}: {:.500}", answer.text);
        let secret = answer.json["secret"].as_str().unwrap_or_default();
        assert!(secret.starts_with("whsec_"), "{path}");
        assert!(answer.text.len() > 16 << 10, "{path}: {} bytes are small", answer.text.len());
    }
    // A request that only reads is refused too.
    assert_eq!(org.get(&format!("/api/endpoints/{made}")).status, 503);
    drop(kept);
    until(|| (org.get(&format!("/api/endpoints/{made}")).status == 200).then_some(()));
    assert_eq!(org.inbox().len(), 3, "nothing of the batch was stored");
    let stored = until(|| Some(org.post("/api/events/batch", &batch)).filter(|a| a.status == 200));
    assert!(stored.text.len() > 16 << 10, "{} bytes are small", stored.text.len());
}

/// Settings of an endpoint whose answer is large.
fn large_settings() -> Value {
    let types: Vec<_> = (0..100).map(|place| format!("t{place}.{}", "y".repeat(110))).collect();
    let metadata: Value =
        (0..20).map(|place| (format!("name {place}"), json!("z".repeat(400)))).collect();
    json!({"url": "https://example.com/", "event_types": types, "metadata": metadata})
}

#[test]
fn nothing_waits_for_who_sends_further_ahead_than_is_read() {
    let (server, _dir) = server("");
    let (silent, url) = silence();
    let org = server.org("Acme");
    let made = org.post("/api/endpoints", &json!({"url": url, "timeout_ms": 300_000})).id();
    let ahead = get("/health/live", "").repeat(500);
    // The test of this endpoint would take five minutes.
    let mut raw = Raw::connect(&server);
    raw.say(&post(&format!("/api/endpoints/{made}/test"), &org.key, ""));
    let _attempt: TcpStream = silent.accept().unwrap().0;
    raw.say(&ahead);
    assert_eq!(raw.answer().0, 400);
    assert_eq!(raw.answer().0, 200, "what was sent ahead is answered behind it");
    // A stream would never end by itself.
    let mut raw = Raw::connect(&server);
    raw.say(&format!("{}{ahead}", get("/api/tail", &org.key)));
    let answers = |read: &[u8]| find(read, b"\r\n0\r\n\r\nHTTP/1.1 200");
    assert!(
        raw.read_until(answers).is_some(),
        "the stream is over and the next request is answered"
    );
    // A client that sends a little ahead is still served.
    let mut raw = Raw::connect(&server);
    raw.say(&format!(
        "{}{}",
        get("/api/inbox?wait=30", &org.key),
        get("/health/live", "").repeat(20)
    ));
    assert_eq!(org.send("a.b", &json!(1)).status, 202);
    assert_eq!(raw.answer().1["data"].as_array().unwrap().len(), 1);
    assert_eq!(raw.answer().0, 200);
}

#[test]
fn a_compressed_body_that_is_too_large_is_refused_alike_with_and_without_an_announced_length() {
    let (server, _dir) = server("");
    let org = server.org("Acme");
    let head = format!(
        "POST /api/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\nContent-Type: \
         application/json\r\n\
         Content-Encoding: gzip\r\n",
        org.key
    );
    let details = ["Content-Length: 10000000\r\n\r\n".to_owned(), chunked(4 << 20)].map(|rest| {
        let mut raw = Raw::connect(&server);
        // The answer may come before the server has read everything.
        drop(raw.stream.write_all(format!("{head}{rest}").as_bytes()));
        let (status, problem) = raw.answer();
        assert_eq!(status, 413, "{problem}");
        problem["detail"].as_str().unwrap().to_owned()
    });
    assert_eq!(details[0], details[1]);
}

/// The rest of a head, and one chunk of this size.
fn chunked(bytes: usize) -> String {
    format!("Transfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n{}", "x".repeat(bytes))
}
