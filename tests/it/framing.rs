//! The end of a request, over raw sockets with the real binary: each request has at most one
//! answer, each refusal is a problem document with a request id, and a request without a length has
//! no body (RFC 9112, 6.3).

use std::io::Write as _;
use std::time::Duration;

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

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
const LIVE: &str = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
const UPGRADE: &str = "GET /health/live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n";
const BODY: &str = r#"{"type":"a.b","payload":1}"#;
/// A route that needs no body, about an event that does not exist.
const NEEDS_NONE: &str = "/api/ack/evt_01h2xcejqtf2nbrexx3vqjhp41";

/// The head of a request for JSON, with more header lines.
fn head(path: &str, key: &str, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: \
         application/json\r\n{more}\r\n"
    )
}

/// Bytes that a client sends at once, and the statuses of their answers.
fn requests_behind_each_other(key: &str) -> Vec<(String, &'static [u16])> {
    let head = |path: &str, more: &str| head(path, key, more);
    let length = &*format!("Content-Length: {}\r\n", BODY.len());
    let chunks = &*format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    let bare = format!("POST {NEEDS_NONE} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n{BODY}");
    let (events, nothing) = ("/api/events", "/api/nothing");
    vec![
        // Without a length there is no body, so the following bytes are a request of their own,
        // which cannot be parsed.
        (bare.clone(), &[404, 400]),
        (format!("{LIVE}{bare}{LIVE}"), &[200, 404, 400]),
        // After a refusal of a request that seems to have a body, nothing more is answered.
        (head(events, "") + BODY, &[400]),
        (head(nothing, "") + BODY + LIVE, &[404]),
        (head(NEEDS_NONE, "") + BODY, &[404]),
        (head(events, "") + "\r\n" + BODY, &[400]),
        (format!("POST /api/events HTTP/1.1\r\nHost: x\r\n\r\n{BODY}{LIVE}"), &[401, 400]),
        (head(events, length) + BODY + BODY, &[202, 400]),
        (head(events, length) + BODY + LIVE + "{}\r\n\r\n{}", &[202, 200, 400]),
        (head(events, CHUNKED) + chunks + "{}", &[202, 400]),
        (head(events, CHUNKED) + chunks + LIVE + chunks, &[202, 200, 400]),
        (head(NEEDS_NONE, CHUNKED) + "0\r\n\r\n" + LIVE, &[404, 200]),
        (
            head(NEEDS_NONE, CHUNKED) + chunks + &head(NEEDS_NONE, length) + BODY + LIVE,
            &[404, 404, 200],
        ),
        // An incomplete body gets a single answer, whichever part of the server refuses the
        // request.
        (head(events, CHUNKED) + "x\r\n\r\n", &[400]),
        (head(events, CHUNKED) + "2\r\n{}x\r\n0\r\n\r\n" + LIVE, &[400]),
        (head(nothing, CHUNKED) + "2\r\n{}x\r\n0\r\n\r\n" + LIVE, &[404]),
        (head(NEEDS_NONE, CHUNKED) + "zz" + LIVE, &[404]),
        // Several heads that actix itself answers.
        ("{}\r\n\r\n".repeat(3), &[400]),
        (LIVE.to_owned() + &"{}\r\n\r\n".repeat(3), &[200, 400]),
        (format!("{LIVE}GET / HTTP/1.1\r\n\r\n{LIVE}"), &[200, 400]),
        (format!("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n{LIVE}"), &[404]),
        (format!("{UPGRADE}{LIVE}"), &[200]),
    ]
}

#[test]
fn what_comes_behind_a_request_is_answered_after_it_and_with_a_problem_too() {
    let (server, _dir) = server("workers = 1");
    let org = server.org("Acme");
    for (text, expected) in requests_behind_each_other(&org.key) {
        let mut raw = Raw::connect(&server);
        raw.say(&text);
        raw.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answers = answers(&mut raw);
        assert_eq!(statuses(&answers), expected, "{text:?}: {answers:?}");
        assert_are_problems(&answers, &text);
    }
    let mut raw = Raw::connect(&server);
    raw.say(&(head("/api/events", &org.key, CHUNKED) + "x\r\n\r\n"));
    let detail = raw.answer().1["detail"].clone();
    assert!(detail.as_str().unwrap().contains("chunks"), "{detail}");
}

/// Versions of HTTP, and header lines that say nothing of a body.
const WITHOUT_A_BODY: [(&str, &str); 8] = [
    ("1.0", ""),
    ("1.0", "Connection: close\r\n"),
    ("1.0", "Connection: keep-alive\r\n"),
    ("1.0", "Connection: keep-alive\r\nContent-Type: application/json\r\n"),
    ("1.1", ""),
    ("1.1", "Connection: close\r\n"),
    ("1.1", "Connection: keep-alive\r\nContent-Type: application/json\r\n"),
    ("1.1", "Content-Length: 0\r\n"),
];

const NEED_A_BODY: [&str; 8] = [
    "/api/events",
    "/api/events/batch",
    "/api/webhook/config",
    "/api/endpoints",
    "/api/dead-letters/replay",
    "/api/replays",
    "/api/hooks",
    "/api/keys/generate",
];

#[test]
fn a_post_that_says_nothing_of_a_body_has_none() {
    let (server, _dir) = server("workers = 1");
    for (number, (version, more)) in WITHOUT_A_BODY.into_iter().enumerate() {
        let org = server.org(&format!("Acme {number}"));
        let event = org.send("a.b", &json!(1)).id();
        let endpoint = org.endpoint(&json!({"url": "http://127.0.0.1:1/"}));
        let need_none = [
            (&*format!("/api/ack/{event}"), 200),
            (&format!("/api/endpoints/{endpoint}/enable"), 200),
            (&format!("/api/endpoints/{endpoint}/secret/rotate"), 200),
            (&format!("/api/endpoints/{endpoint}/test"), 200),
            ("/api/deliveries/dlv_01h2xcejqtf2nbrexx3vqjhp41/retry", 404),
            ("/api/nothing", 404),
            ("/health/live", 405),
            ("/api/keys/rotate", 201),
        ];
        let ask = |path: &str| {
            let mut raw = Raw::connect(&server);
            let head = format!("POST {path} HTTP/{version}\r\nHost: x\r\nX-API-Key: {}", org.key);
            raw.say(&format!("{head}\r\n{more}\r\n"));
            raw.answer()
        };
        for (path, status) in need_none {
            let (got, body) = ask(path);
            assert_eq!(got, status, "{path} {version} {more:?}: {body}");
        }
        for path in NEED_A_BODY {
            let (status, body) = ask(path);
            let says_so = body["detail"].as_str().is_some_and(|text| text.contains("no body"));
            assert!(status == 400 && says_so, "{path} {version} {more:?}: {status} {body}");
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

/// Heads of requests that are refused, the bytes that follow them, and the status of the answer.
fn refused_heads(key: &str) -> Vec<(String, &'static str, u16)> {
    let (small, large) = ("Content-Length: 1000\r\n", "Content-Length: 100000000\r\n");
    let refused = [
        ("/api/events", "trg_live_x", small, 401),
        ("/api/events", "trg_live_x", large, 401),
        ("/api/events", "trg_live_x", CHUNKED, 401),
        ("/api/events", key, small, 408),
        ("/api/events", key, large, 413),
        ("/api/events", key, CHUNKED, 408),
        ("/api/events", "trg_live_x", "", 401),
        ("/api/events", key, "", 400),
        ("/api/nothing", key, "", 404),
        ("/api/nothing", key, small, 404),
        ("/api/nothing", key, large, 404),
        ("/api/nothing", key, CHUNKED, 404),
    ];
    let refused = refused.into_iter().map(|(path, key, more, status)| {
        let dribble = if more == CHUNKED { "1\r\n{\r\n" } else { "a" };
        (head(path, key, more), dribble, status)
    });
    // The bytes after these heads are not HTTP either.
    let others = [("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 404), (UPGRADE, 200)];
    refused.chain(others.map(|(text, status)| (text.to_owned(), "a", status))).collect()
}

#[test]
fn a_refused_body_that_dribbles_on_has_one_answer() {
    let (server, _dir) = server("client_timeout_seconds = 1\nbody_timeout_seconds = 1");
    let org = server.org("Acme");
    let begin = |(text, dribble, status): (String, &'static str, u16)| {
        let mut raw = Raw::connect(&server);
        raw.say(&text);
        let mut writer = raw.stream.try_clone().unwrap();
        let dribbling = std::thread::spawn(move || {
            while writer.write_all(dribble.as_bytes()).is_ok() {
                std::thread::park_timeout(Duration::from_millis(50));
            }
        });
        (raw, dribbling, text, status)
    };
    let begun: Vec<_> = refused_heads(&org.key).into_iter().map(begin).collect();
    for (mut raw, dribbling, text, status) in begun {
        let answers = answers(&mut raw);
        assert_eq!(statuses(&answers), [status], "{text:?}: {answers:?}");
        assert_are_problems(&answers, &text);
        drop(raw);
        dribbling.join().unwrap();
    }
}
