//! The end of a request, over raw sockets with the real binary: each request has at most one
//! answer, each refusal is a problem document with a request id, and a request without a length has
//! no body (RFC 9112, 6.3).

use serde_json::{Value, json};

use crate::harness::Process;
use crate::raw::Raw;

/// An answer: its status, head and body.
type Answer = (u16, String, Value);

fn server(more: &str) -> (Process, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let base = crate::harness::settings(&data, "");
    let server =
        Process::start_on(&data, &base.replace("[storage]", &format!("{more}\n[storage]")));
    (server, dir)
}

/// All answers until the connection ends.
fn answers(raw: &mut Raw) -> Vec<Answer> {
    assert!(raw.is_closed());
    let (mut rest, mut answers) = (std::mem::take(&mut raw.read), Vec::new());
    while !rest.is_empty() {
        let text = String::from_utf8_lossy(&rest).into_owned();
        let (head, _) =
            text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let head = head.to_lowercase();
        let status = head.strip_prefix("http/1.").unwrap_or_else(|| panic!("no answer: {text:?}"))
            [2..5]
            .parse()
            .unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0);
        let end = head.len() + 4 + length;
        let body = serde_json::from_slice(&rest[head.len() + 4..end]).unwrap_or_default();
        answers.push((status, head, body));
        rest.drain(..end);
    }
    answers
}

fn assert_are_problems(answers: &[Answer], case: &str) {
    for (status, head, body) in answers {
        if *status >= 400 {
            assert!(head.contains("content-type: application/problem+json"), "{case}: {head}");
            assert!(
                body["request_id"]
                    .as_str()
                    .is_some_and(|id| head.contains(&format!("x-request-id: {id}"))),
                "{case}: {head}"
            );
        }
    }
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|(status, ..)| *status).collect()
}

#[test]
fn what_comes_behind_a_request_is_answered_after_it_and_with_a_problem_too() {
    let (server, _dir) = server("workers = 1");
    let org = server.org("Acme");
    let key = &org.key;
    let body = r#"{"type":"a.b","payload":1}"#;
    let head = |path: &str, more: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: \
             application/json\r\n{more}\r\n"
        )
    };
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let live = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
    let none = "/api/ack/evt_01h2xcejqtf2nbrexx3vqjhp41";
    for (text, expected) in [
        // Without a length there is no body, so the following bytes are a request of their own,
        // which cannot be parsed.
        (
            format!("POST {none} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n{body}"),
            &[404, 400][..],
        ),
        (
            format!(
                "{live}POST {none} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n{body}{live}"
            ),
            &[200, 404, 400],
        ),
        // After a refusal of a request that seems to have a body, nothing more is answered.
        (head("/api/events", "") + body, &[400]),
        (head("/api/nothing", "") + body + live, &[404]),
        (head(none, "") + body, &[404]),
        (head("/api/events", "") + "\r\n" + body, &[400]),
        (format!("POST /api/events HTTP/1.1\r\nHost: x\r\n\r\n{body}{live}"), &[401, 400]),
        (head("/api/events", &length) + body + body, &[202, 400]),
        (head("/api/events", &length) + body + live + "{}\r\n\r\n{}", &[202, 200, 400]),
        (head("/api/events", chunked) + &chunks + "{}", &[202, 400]),
        (head("/api/events", chunked) + &chunks + live + &chunks, &[202, 200, 400]),
        (head(none, chunked) + "0\r\n\r\n" + live, &[404, 200]),
        (head(none, chunked) + &chunks + &head(none, &length) + body + live, &[404, 404, 200]),
        // An incomplete body gets a single answer, whichever part of the server refuses the
        // request.
        (head("/api/events", chunked) + "x\r\n\r\n", &[400]),
        (head("/api/events", chunked) + "2\r\n{}x\r\n0\r\n\r\n" + live, &[400]),
        (head("/api/nothing", chunked) + "2\r\n{}x\r\n0\r\n\r\n" + live, &[404]),
        (head(none, chunked) + "zz" + live, &[404]),
        // Several heads that actix itself answers.
        ("{}\r\n\r\n".repeat(3), &[400]),
        (live.to_owned() + &"{}\r\n\r\n".repeat(3), &[200, 400]),
        (format!("{live}GET / HTTP/1.1\r\n\r\n{live}"), &[200, 400]),
        (format!("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n{live}"), &[404]),
        (
            format!("GET /health/live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n{live}"),
            &[200],
        ),
    ] {
        let mut raw = Raw::connect(&server);
        raw.say(&text);
        raw.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answers = answers(&mut raw);
        assert_eq!(statuses(&answers), expected, "{text:?}: {answers:?}");
        assert_are_problems(&answers, &text);
    }
    let malformed = head("/api/events", chunked) + "x\r\n\r\n";
    let mut raw = Raw::connect(&server);
    raw.say(&malformed);
    let detail = raw.answer().1["detail"].clone();
    assert!(detail.as_str().unwrap().contains("chunks"), "{detail}");
}

#[test]
fn a_post_that_says_nothing_of_a_body_has_none() {
    let (server, _dir) = server("workers = 1");
    let org = server.org("Acme");
    let event = org.send("a.b", &json!(1)).id();
    let endpoint = org.post("/api/endpoints", &json!({"url": "http://127.0.0.1:1/"})).id();
    let needs_none = [
        (format!("/api/ack/{event}"), 200),
        (format!("/api/endpoints/{endpoint}/enable"), 200),
        (format!("/api/endpoints/{endpoint}/secret/rotate"), 200),
        (format!("/api/endpoints/{endpoint}/test"), 200),
        ("/api/deliveries/dlv_01h2xcejqtf2nbrexx3vqjhp41/retry".to_owned(), 404),
        ("/api/nothing".to_owned(), 404),
        ("/health/live".to_owned(), 405),
        ("/api/keys/rotate".to_owned(), 201),
    ];
    let needs_one = [
        "/api/events",
        "/api/events/batch",
        "/api/webhook/config",
        "/api/endpoints",
        "/api/dead-letters/replay",
        "/api/replays",
        "/api/hooks",
        "/api/keys/generate",
    ];
    let request = |path: &str, version: &str, more: &str| {
        format!("POST {path} HTTP/{version}\r\nHost: x\r\nX-API-Key: {}\r\n{more}\r\n", org.key)
    };
    let says_so =
        |body: &Value| body["detail"].as_str().is_some_and(|detail| detail.contains("no body"));
    for (version, more) in [
        ("1.0", ""),
        ("1.0", "Connection: close\r\n"),
        ("1.0", "Connection: keep-alive\r\n"),
        ("1.0", "Connection: keep-alive\r\nContent-Type: application/json\r\n"),
        ("1.1", ""),
        ("1.1", "Connection: close\r\n"),
        ("1.1", "Connection: keep-alive\r\nContent-Type: application/json\r\n"),
        ("1.1", "Content-Length: 0\r\n"),
    ] {
        for (path, status) in &needs_none {
            let mut raw = Raw::connect(&server);
            raw.say(&request(path, version, more));
            let (got, body) = raw.answer();
            assert_eq!(got, *status, "{path} {version} {more:?}: {body}");
        }
        for path in needs_one {
            let mut raw = Raw::connect(&server);
            raw.say(&request(path, version, more));
            let (status, body) = raw.answer();
            assert!(status == 400 && says_so(&body), "{path} {version} {more:?}: {status} {body}");
        }
    }
}

#[test]
fn an_old_post_without_a_body_may_come_in_any_pieces_and_between_others() {
    let (server, _dir) = server("workers = 1");
    let org = server.org("Acme");
    let event = org.send("a.b", &json!(1)).id();
    let old = |path: &str, more: &str| {
        format!(
            "POST {path} HTTP/1.0\r\nX-API-Key: {}\r\nConnection: keep-alive\r\n{more}\r\n",
            org.key
        )
    };
    let whole = old(&format!("/api/ack/{event}"), "");
    // The request may come in any pieces, and the connection stays open if the request asks for
    // this.
    let mut raw = Raw::connect(&server);
    for cut in 1..whole.len() {
        raw.say(&whole[..cut]);
        std::thread::yield_now();
        raw.say(&whole[cut..]);
        assert_eq!(raw.answer().0, 200, "cut at {cut}");
    }
    // Several requests at once, with other requests between.
    let with_body =
        "GET /api/inbox HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\nX-API-Key: "
            .to_owned()
            + &org.key
            + "\r\n\r\n{}";
    raw.say(&[whole.as_str(), &with_body, &whole, &whole, &with_body].concat());
    for _ in 0..5 {
        assert_eq!(raw.answer().0, 200);
    }
    // A request that announces a body is not refused for a missing body.
    raw.say(
        &(old("/api/events", "Content-Type: application/json\r\nContent-Length: 2\r\n") + "{}"),
    );
    raw.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answers = answers(&mut raw);
    assert_eq!(statuses(&answers), [422], "{answers:?}");
}

#[test]
fn a_refused_body_that_dribbles_on_has_one_answer() {
    let (server, _dir) = server("client_timeout_seconds = 1\nbody_timeout_seconds = 1");
    let org = server.org("Acme");
    let head = |path: &str, key: &str, more: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: \
             application/json\r\n{more}\r\n"
        )
    };
    let (small, large, chunked) = (
        "Content-Length: 1000\r\n",
        "Content-Length: 100000000\r\n",
        "Transfer-Encoding: chunked\r\n",
    );
    let (mut threads, mut raws) = (Vec::new(), Vec::new());
    let refused = [
        ("/api/events", "trg_live_x", small, 401),
        ("/api/events", "trg_live_x", large, 401),
        ("/api/events", "trg_live_x", chunked, 401),
        ("/api/events", &*org.key, small, 408),
        ("/api/events", &org.key, large, 413),
        ("/api/events", &org.key, chunked, 408),
        ("/api/events", "trg_live_x", "", 401),
        ("/api/events", &org.key, "", 400),
        ("/api/nothing", &org.key, "", 404),
        ("/api/nothing", &org.key, small, 404),
        ("/api/nothing", &org.key, large, 404),
        ("/api/nothing", &org.key, chunked, 404),
    ];
    let mut all: Vec<_> = refused
        .into_iter()
        .map(|(path, key, more, status)| (head(path, key, more), more == chunked, status))
        .collect();
    // The bytes after these heads are not HTTP either.
    all.push(("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), false, 404));
    all.push((
        "GET /health/live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        false,
        200,
    ));
    for (text, is_chunked, status) in all {
        let mut raw = Raw::connect(&server);
        raw.say(&text);
        let mut drips = raw.stream.try_clone().unwrap();
        let drip = if is_chunked { "1\r\n{\r\n" } else { "a" };
        threads.push(std::thread::spawn(move || {
            use std::io::Write as _;
            while drips.write_all(drip.as_bytes()).is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }));
        raws.push((raw, text, status));
    }
    for (mut raw, text, status) in raws {
        let answers = answers(&mut raw);
        assert_eq!(statuses(&answers), [status], "{text:?}: {answers:?}");
        assert_are_problems(&answers, &text);
        drop(raw);
    }
    for thread in threads {
        thread.join().unwrap();
    }
}
