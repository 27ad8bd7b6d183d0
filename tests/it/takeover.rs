//! Attempts of one client or organization to exhaust the server: idle connections, unread answers,
//! endless bodies, crowds that wait. Over raw sockets with the real binary; the tests measure
//! memory (`memory`, `orphans`) and counts, but no times.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::json;

use crate::harness::{Client, PATIENCE, Process, settings, silence};
use crate::raw::{Raw, get, post, processor};

#[path = "takeover_memory.rs"]
mod memory;
#[path = "takeover_orphans.rs"]
mod orphans;

pub(crate) fn server(more: &str) -> (Process, tempfile::TempDir) {
    broken_server(more, "")
}

/// A server with failpoints armed.
pub(crate) fn broken_server(more: &str, failpoint: &str) -> (Process, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let base = settings(&data, "");
    // Tokens return slowly, so that a charge is visible.
    let base = base.replace("events_per_second = 1000000", "events_per_second = 1");
    let (before, behind) = base.split_once("[storage]").unwrap();
    let text = format!("{before}{more}\n[storage]{behind}");
    let variable = format!("TRIGGERD_FAILPOINTS={failpoint}");
    let wrapper: &[&str] = if failpoint.is_empty() { &[] } else { &["env", &variable] };
    let server = Process::spawn(&data, &text, wrapper).ready();
    (server.unwrap_or_else(|(status, log)| panic!("not ready: {status}\n{log}")), dir)
}

/// Eight requests in a row, and the statuses of their answers: whole and chunked ones, a large one,
/// and those without a body. An empty line stands among them.
fn round(key: &str, body: &str) -> (String, [u16; 8]) {
    let whole = post("/api/events", key, body);
    let chunked = format!(
        "POST /api/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: \
         application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let large = json!({"type": "a.b", "payload": "x".repeat(200 << 10)}).to_string();
    let large = post("/api/events", key, &large);
    let live = get("/health/live", "");
    let requests = [&*whole, &live, &chunked, &large, "\r\n", &whole, &live, &live, &chunked];
    (requests.concat(), [202, 200, 202, 202, 202, 200, 200, 202])
}

#[test]
fn requests_may_come_in_any_pieces_and_behind_each_other() {
    let (server, _dir) = server("workers = 1");
    let org = server.org("Acme");
    let mut raw = Raw::connect(&server);
    // The payload looks like the end of a head.
    let body = r#"{"type":"a.b","payload":"x"}"#.replace(',', "\r\n\r\n,\n\n");
    let whole = post("/api/events", &org.key, &body);
    let mut sent = 0;
    for cut in 1..whole.len() {
        raw.say(&whole[..cut]);
        raw.say(&whole[cut..]);
        assert_eq!(raw.answer().0, 202, "cut at {cut}");
        sent += 1;
    }
    // Two requests in a row, with empty lines before each: the rest of the second request comes
    // after the first answer.
    let one = format!("\r\n\r\n{whole}");
    for cut in 0..one.len() {
        raw.say(&format!("{one}{}", &one[..cut]));
        assert_eq!(raw.answer().0, 202, "cut at {cut} of the second one");
        raw.say(&one[cut..]);
        assert_eq!(raw.answer().0, 202, "cut at {cut}");
        sent += 2;
    }
    let (round, expected) = round(&org.key, &body);
    for _ in 0..20 {
        let (mut writer, text) = (raw.stream.try_clone().unwrap(), round.clone());
        let writes = std::thread::spawn(move || writer.write_all(text.as_bytes()).unwrap());
        let statuses: Vec<u16> = (0..8).map(|_| raw.answer().0).collect();
        assert_eq!(statuses, expected);
        writes.join().unwrap();
        sent += 5;
    }
    assert_eq!(org.inbox().len(), sent);
    // A client that has finished sending still gets the answer.
    raw.say(&whole);
    raw.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(raw.answer().0, 202);
    assert!(raw.is_closed());
}

#[test]
fn every_head_has_a_deadline_not_only_a_connections_first() {
    // A complete request must arrive in time on a slow machine too; all connections wait
    // concurrently.
    let (server, _dir) = server("client_timeout_seconds = 5");
    let mut waiting = Vec::new();
    for begun in ["", "G", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        for answered in [0, 1, 2] {
            let mut raw = Raw::connect(&server);
            for _ in 0..answered {
                raw.get("/health/live", "");
                assert_eq!(raw.answer().0, 200);
            }
            raw.say(begun);
            // An idle connection may stay open for longer.
            if !begun.is_empty() || answered == 0 {
                waiting.push((raw, format!("{begun:?} after {answered}")));
            }
        }
    }
    for (mut raw, case) in waiting {
        let (status, problem) = raw.answer();
        assert_eq!((status, problem["code"].as_str()), (408, Some("request_timeout")), "{case}");
        assert!(raw.is_closed());
    }
    // The deadline also applies to a head that comes slowly.
    let mut raw = Raw::connect(&server);
    raw.get("/health/live", "");
    assert_eq!(raw.answer().0, 200);
    let mut drips = raw.stream.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        while drips.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(raw.answer().0, 408);
    drop(raw);
    dripping.join().unwrap();
}

#[test]
fn heads_that_no_route_sees_are_answered_with_a_problem_too() {
    let (server, _dir) = server("");
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n", "x".repeat(100 << 10));
    let bad = [
        "GARBAGE\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n",
        "\x16\x03\x01\n\n",
    ];
    let bad = bad.map(|text| (text, 400, "invalid_request"));
    for (text, status, code) in bad.into_iter().chain([(&*large, 431, "head_too_large")]) {
        for answered in [0, 1] {
            let mut raw = Raw::connect(&server);
            for _ in 0..answered {
                raw.get("/health/live", "");
                assert_eq!(raw.answer().0, 200);
            }
            // The server may not read a request to its end if it is too large.
            drop(raw.stream.write_all(text.as_bytes()));
            let (got, problem) = raw.answer();
            assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{text:.20}");
            assert!(problem["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{problem}");
            assert!(raw.is_closed());
        }
    }
}

#[test]
fn an_idle_connection_ends_also_when_it_was_used_before() {
    let (server, _dir) = server("keep_alive_seconds = 1");
    let mut raw = Raw::connect(&server);
    raw.get("/health/live", "");
    assert_eq!(raw.answer().0, 200);
    assert!(raw.is_closed());
}

/// Connections that send one whole request and a part of another.
fn dribblers(server: &Process, count: usize) -> Vec<Raw> {
    let dribble = |_| {
        let mut raw = Raw::connect(server);
        raw.say(&format!("{}G", get("/health/live", "")));
        raw
    };
    (0..count).map(dribble).collect()
}

#[test]
fn when_connections_run_out_the_longest_idle_go_and_nobody_who_has_a_request_in_hand() {
    let (server, _dir) = server("workers = 2\nmax_connections = 40\nclient_timeout_seconds = 300");
    let (silent, url) = silence();
    let org = server.org("Acme");
    let made = org.post("/api/endpoints", &json!({"url": url, "timeout_ms": 300_000}));
    let mut in_hand = Raw::connect(&server);
    in_hand.say(&post(&format!("/api/endpoints/{}/test", made.id()), &org.key, ""));
    let (held, _) = silent.accept().unwrap();
    let mut crowd = dribblers(&server, 400);
    // Each newcomer is accepted although nobody has left.
    for _ in 0..5 {
        let newcomer = Client::new(&server.url, &org.key);
        assert_eq!(newcomer.send("a.b", &json!(1)).status, 202);
    }
    assert!(crowd.iter_mut().take(300).all(Raw::is_closed), "those that came first went first");
    drop(held);
    assert_eq!(
        in_hand.answer().0,
        200,
        "the test of the endpoint ends when its receiver goes away"
    );
}

#[test]
fn without_watching_a_crowd_that_dribbles_keeps_everybody_out() {
    let (server, _dir) =
        broken_server("workers = 1\nmax_connections = 40", "connections_unwatched");
    let org = server.org("Acme");
    let _crowd = dribblers(&server, 400);
    let mut newcomer = Raw::connect(&server);
    newcomer.stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    newcomer.get("/api/inbox", &org.key);
    assert!(newcomer.stream.read(&mut [0; 64]).is_err(), "nobody gets in");
}

#[test]
fn waiting_requests_are_answered_early_when_connections_run_out() {
    let (server, _dir) = server("workers = 1\nmax_connections = 20");
    let org = server.org("Acme");
    let wait = |_| {
        let mut raw = Raw::connect(&server);
        raw.get("/api/inbox?wait=30", &org.key);
        raw
    };
    let mut waiting: Vec<Raw> = (0..40).map(wait).collect();
    let other = server.org("Other");
    assert_eq!(other.send("a.b", &json!(1)).status, 202);
    let (status, page) = waiting[0].answer();
    assert_eq!(
        (status, &page["data"]),
        (200, &json!([])),
        "it is answered as if its time were over"
    );
    assert!(waiting[0].is_closed());
}

/// Fills an inbox with large events.
pub(crate) fn fill(org: &Client, events: usize, bytes: usize) {
    for _ in 0..events {
        assert_eq!(org.send("a.b", &json!("x".repeat(bytes))).status, 202);
    }
}

/// Connections whose answers nobody reads.
pub(crate) fn unread(server: &Process, count: usize, text: &str) -> Vec<Raw> {
    let ask = |_| {
        let mut raw = Raw::connect(server);
        set_socket_recv_buffer_size(&raw.stream, 4 << 10).unwrap();
        raw.say(text);
        raw
    };
    (0..count).map(ask).collect()
}

/// Reads an attempt to its end.
fn is_over(mut attempt: TcpStream) -> bool {
    attempt.set_read_timeout(Some(PATIENCE)).unwrap();
    loop {
        match attempt.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn one_organization_cannot_have_all_tests_of_endpoints_and_who_leaves_frees_them() {
    let (server, _dir) = server("");
    let (silent, url) = silence();
    let endpoint = |org: &Client| {
        let made = org.post("/api/endpoints", &json!({"url": url, "timeout_ms": 300_000}));
        format!("/api/endpoints/{}/test", made.id())
    };
    let (org, other) = (server.org("Acme"), server.org("Other"));
    let (path, others_path) = (endpoint(&org), endpoint(&other));
    // Each test is under way when its attempt has connected.
    let begin = |key: &str, path: &str| {
        let mut raw = Raw::connect(&server);
        raw.say(&post(path, key, ""));
        (raw, silent.accept().unwrap().0)
    };
    for leave in [Raw::reset as fn(Raw), drop::<Raw>] {
        let crowd: Vec<_> = (0..4).map(|_| begin(&org.key, &path)).collect();
        let refused = org.post_text(&path, "");
        assert_eq!((refused.status, refused.code()), (429, "rate_limited"));
        let (others, _attempt) = begin(&other.key, &others_path);
        drop(others);
        // Each test would have taken five minutes.
        for (raw, attempt) in crowd {
            leave(raw);
            assert!(is_over(attempt));
        }
    }
    // A client that has finished sending gets an error instead of waiting.
    let (mut half, _attempt) = begin(&other.key, &others_path);
    half.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(half.answer().0, 400);
}

/// The processor time for a crowd that waits for a type which never comes, while other events
/// arrive.
fn cost_of_a_crowd(failpoint: &str) -> u64 {
    const EVENTS: usize = 4_000;
    let (server, _dir) = broken_server("", failpoint);
    let org = server.org("Acme");
    for _ in 0..EVENTS / 1_000 {
        let events: Vec<_> = (0..1_000).map(|n| json!({"type": "a.b", "payload": n})).collect();
        assert_eq!(org.post("/api/events/batch", &json!({ "events": events })).status, 200);
    }
    let wait = |path: &str| {
        let mut raw = Raw::connect(&server);
        raw.get(path, &org.key);
        raw
    };
    let mut crowd: Vec<Raw> =
        (0..100).map(|_| wait("/api/inbox?type=never.comes,the.end&wait=30")).collect();
    let mut last = wait("/api/inbox?type=the.last&wait=30");
    // This request is examined after those of the crowd.
    let before = processor(&server);
    for n in 0..20 {
        assert_eq!(org.send("a.b", &json!(n)).status, 202);
    }
    assert_eq!(org.send("the.last", &json!(1)).status, 202);
    assert_eq!(last.answer().1["data"].as_array().unwrap().len(), 1);
    let used = processor(&server) - before;
    // The crowd still waits, and an event of its type wakes it.
    assert_eq!(org.send("the.end", &json!(1)).status, 202);
    for raw in &mut crowd {
        assert_eq!(raw.answer().1["data"].as_array().unwrap().len(), 1);
    }
    used
}

#[test]
fn who_waits_is_woken_by_what_it_waits_for_and_goes_on_where_it_was() {
    let (cost, unbounded) = (cost_of_a_crowd(""), cost_of_a_crowd("waiters_woken_by_all"));
    assert!(
        cost * 2 < unbounded,
        "{cost} ticks, and {unbounded} when each event wakes all of them"
    );
}
