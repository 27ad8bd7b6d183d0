//! The memory that unread answers, endless bodies and crowds of requests take: it has bounds, and
//! without them a server takes much more.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::{Value, json};

use super::{broken_server, fill, server, unread};
use crate::harness::{Client, PATIENCE, Process, until};
use crate::raw::{Raw, get, memory_kib, sockets};

/// The growth of the server's memory in KiB, for unread answers to requests of these paths.
fn growth_kib(server: &Process, org: &Client, paths: &[&str]) -> u64 {
    const EACH: usize = 30;
    let before = memory_kib(server, "VmRSS");
    let kept: Vec<Raw> =
        paths.iter().flat_map(|path| unread(server, EACH, &get(path, &org.key))).collect();
    until(|| {
        let text = org.get("/metrics").text;
        let of_paths =
            |line: &&str| paths.iter().any(|path| line.contains(path.split('?').next().unwrap()));
        let requests =
            text.lines().filter(|line| line.starts_with("triggerd_http_requests_total{"));
        let answered: usize = requests
            .filter(|line| line.contains("method=\"GET\""))
            .filter(of_paths)
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap())
            .sum();
        (answered >= EACH * paths.len()).then_some(())
    });
    let grown = memory_kib(server, "VmRSS").saturating_sub(before);
    drop(kept);
    grown
}

#[test]
fn answers_that_nobody_reads_are_bounded_and_given_up_and_others_have_theirs() {
    let more = "answer_bytes_max = 16777216\nkeep_alive_seconds = 1";
    let paths = ["/api/inbox?limit=500", "/api/events?limit=500", "/api/hooks/samples?limit=100"];
    let (server, _dir) = server(&format!("{more}\nwrite_timeout_seconds = 2"));
    let (org, other) = (server.org("Acme"), server.org("Other"));
    fill(&org, 33, 250_000);
    fill(&other, 1, 100);
    let grown = growth_kib(&server, &org, &paths);
    let kept = unread(&server, 40, &get("/api/inbox?limit=500", &org.key));
    assert_eq!(other.get("/api/inbox").status, 200, "another organization's share is there");
    // The server ends these connections, and then there is room again.
    until(|| (sockets(&server) < 40).then_some(()));
    let again =
        || Some(org.with_key(&org.key).get("/api/inbox?limit=5")).filter(|page| page.status == 200);
    until(again);
    drop(kept);

    // No connection is closed during the measurement, however slow the machine is.
    let more = format!("{more}\nwrite_timeout_seconds = 300");
    let (server, _dir) = broken_server(&more, "shares_off,connections_unwatched");
    let org = server.org("Acme");
    fill(&org, 33, 250_000);
    let unbounded = growth_kib(&server, &org, &paths);
    assert!(grown * 3 < unbounded, "{grown} KiB with bounds, {unbounded} KiB without");
}

/// Asserts that a list answers with few bytes, and returns its page.
fn bounded(org: &Client, path: &str) -> Value {
    let page = org.get(path);
    assert!(page.text.len() < 5 << 20, "{} bytes of {path}", page.text.len());
    page.json
}

/// The ids of a whole list, and the number of its pages.
fn ids_of(org: &Client, list: &str) -> (BTreeSet<String>, usize) {
    let (mut ids, mut path, mut pages) = (BTreeSet::new(), list.to_owned(), 0);
    loop {
        let page = bounded(org, &path);
        let items = page["data"].as_array().unwrap();
        ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        pages += 1;
        if page["has_more"] == json!(false) {
            return (ids, pages);
        }
        path = format!("{list}&cursor={}", page["next_cursor"].as_str().unwrap());
    }
}

#[test]
fn a_page_is_bounded_in_bytes_and_the_next_one_goes_on_behind_it() {
    let (server, _dir) = server("");
    let org = server.org("Acme");
    fill(&org, 33, 250_000);
    for list in ["/api/inbox?limit=500", "/api/events?limit=500"] {
        let (ids, pages) = ids_of(&org, list);
        assert_eq!((ids.len(), pages > 1), (33, true), "{list}");
    }
    bounded(&org, "/api/hooks/samples?limit=100");
    // Settings of endpoints can be long too.
    let types: Vec<_> = (0..100).map(|place| format!("t{place}.{}", "y".repeat(110))).collect();
    for n in 0..400 {
        let url = format!("https://example.com/{n}/{}", "x".repeat(1_900));
        org.endpoint(&json!({"url": url, "event_types": types}));
    }
    let page = bounded(&org, "/api/endpoints?limit=500");
    assert_eq!(page["has_more"], true);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = org.get(&format!("/api/endpoints?limit=500&cursor={cursor}"));
    let count = |page: &Value| page["data"].as_array().unwrap().len();
    assert_eq!(count(&page) + count(&rest.json), 400);
}

/// Number of request bytes that the server takes, up to a bound, while its answers are not read.
fn taken_without_reading(server: &Process, request: &str, stall: Duration) -> usize {
    let mut raw = Raw::connect(server);
    set_socket_recv_buffer_size(&raw.stream, 4 << 10).unwrap();
    raw.stream.set_write_timeout(Some(stall)).unwrap();
    let text = request.repeat(64);
    let mut taken = 0;
    while taken < TAKEN_MAX {
        match raw.stream.write(&text.as_bytes()[taken % text.len()..]) {
            Ok(written) => taken += written,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    taken
}

/// More than the kernel's buffers on both sides hold.
const TAKEN_MAX: usize = 48 << 20;

#[test]
fn who_sends_requests_and_takes_no_answers_is_not_read_from_any_more() {
    let measure = |failpoint, stall| {
        let (server, _dir) = broken_server("", failpoint);
        let org = server.org("Acme");
        // The answer has no body, and actix would limit only a body.
        let pad = "x".repeat(4_000);
        let request = format!(
            "HEAD /api/tail HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\nX-Pad: {pad}\r\n\r\n",
            org.key
        );
        let taken = taken_without_reading(&server, &request, stall);
        let before = memory_kib(&server, "VmRSS");
        let crowd = unread(&server, 200, &"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(900));
        // Requests behind the crowd in each worker's queue are answered after it.
        for _ in 0..20 {
            assert_eq!(Client::new(&server.url, "").get("/health/live").status, 200);
        }
        let grown = memory_kib(&server, "VmRSS").saturating_sub(before);
        drop(crowd);
        (taken, grown)
    };
    let (taken, grown) = measure("", Duration::from_secs(3));
    assert!(taken < TAKEN_MAX, "all of it was read");
    let (taken, unbounded) = measure("connections_unwatched,shares_off", PATIENCE);
    assert!(taken >= TAKEN_MAX, "{taken}");
    assert!(grown * 2 < unbounded, "{grown} KiB with bounds, {unbounded} KiB without");
}

#[test]
fn who_takes_no_answers_keeps_no_page_and_no_document_from_others() {
    let (server, _dir) = server("");
    for (path, crowd) in [("/openapi.json", 150), ("/docs/api", 550)] {
        let kept = unread(&server, crowd, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        // Requests behind the crowd in each worker's queue are answered after it.
        for _ in 0..20 {
            assert_eq!(Client::new(&server.url, "").get(path).status, 200, "{path}");
        }
        drop(kept);
    }
}

/// Begins a batch of almost 8 MiB, and sends the first megabyte of it.
fn begin_batch(server: &Process, key: &str) -> Raw {
    let length = (8 << 20) - 1;
    let mut raw = Raw::connect(server);
    raw.say(&format!(
        "POST /api/events/batch HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: \
         application/json\r\nContent-Length: {length}\r\n\r\n{{\"events\":["
    ));
    // A refused body may not be read to its end.
    drop(raw.stream.write_all(&vec![b' '; 1 << 20]));
    raw
}

#[test]
fn bodies_on_their_way_have_a_bound_and_cost_tokens_from_their_beginning() {
    let (server, _dir) = server("body_timeout_seconds = 60");
    let (org, other) = (server.org("Acme"), server.org("Other"));
    let tokens =
        || org.send("a.b", &json!(1)).header("x-ratelimit-remaining").parse::<u64>().unwrap();
    let before = tokens();
    // An organization's share is 32 MiB, and each body holds a megabyte of it.
    let crowd: Vec<Raw> = (0..40).map(|_| begin_batch(&server, &org.key)).collect();
    // Most are refused at once; the others wait for the rest of their body.
    let count = || crowd.iter().filter(|raw| raw.is_answered()).count();
    let refusals = until(|| Some(count()).filter(|count| *count >= 8));
    assert!(refusals < 40, "all are refused");
    let after = tokens();
    assert!(before - after > 40 * 15, "each costs what it holds at least: {before} to {after}");
    assert_eq!(org.send("a.b", &json!(1)).status, 202, "what is small has room");
    assert_eq!(other.send("a.b", &json!(1)).status, 202);
    let small = json!({"events": [{"type": "a.b", "payload": 1}]});
    assert_eq!(other.post("/api/events/batch", &small).status, 200);
    // An abandoned request releases its room.
    drop(crowd);
    let events: Vec<_> =
        (0..40).map(|_| json!({"type": "a.b", "payload": "x".repeat(200_000)})).collect();
    let text = json!({ "events": events }).to_string();
    let posted =
        || Some(org.post_text("/api/events/batch", &text)).filter(|answer| answer.status == 200);
    assert_eq!(until(posted).json["results"].as_array().unwrap().len(), 40);
}
