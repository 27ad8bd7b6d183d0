//! The answer with the events of a time, and the backup as a stream: readers that stop reading, and
//! readers that speak HTTP/1.0.

use std::io::Read as _;

use serde_json::json;
use triggerd::base::random;

use super::{finished, with_server_key};
use crate::harness::{Client, Process, settings, until};
use crate::raw::{Raw, find};

/// The routes that stream, each with its `Accept` header.
const STREAMS: [(&str, &str); 2] =
    [("/api/admin/archive", "application/jsonl"), ("/api/admin/backup", "application/zstd")];

/// Number of events, each with about 70 KiB of JSON.
const EVENTS: usize = 64;

/// A server with more events than the sockets of a stream hold, all of them random.
fn filled(key: &str) -> (Process, Client, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start_on(&data, &with_server_key(&settings(&data, ""), key));
    let org = server.org("Acme");
    for _ in 0..EVENTS {
        let noise = json!(random::bytes::<20_000>().to_vec());
        assert_eq!(org.send("a.b", &noise).status, 202);
    }
    (server, org, dir)
}

fn ask(server: &Process, (path, accept): (&str, &str), version: &str) -> Raw {
    let key = server.admin().key;
    let mut raw = Raw::connect(server);
    raw.say(&format!(
        "POST {path} HTTP/{version}\r\nHost: x\r\nX-API-Key: {key}\r\nAccept: {accept}\r\n\
         Content-Length: 2\r\nContent-Type: application/json\r\n\r\n{{}}"
    ));
    raw
}

fn status_of(raw: &mut Raw) -> String {
    let end = raw.read_until(|read| find(read, b"\r\n\r\n")).unwrap();
    String::from_utf8_lossy(&raw.read[..end]).into_owned()
}

#[test]
fn a_reader_that_stops_reading_makes_room_for_the_next_one() {
    let (server, _org, _dir) = filled("write_timeout_seconds = 2");
    for stream in STREAMS {
        let mut stopped = ask(&server, stream, "1.1");
        assert!(status_of(&mut stopped).contains(" 200 "));
        assert!(status_of(&mut ask(&server, stream, "1.1")).contains(" 503 "), "one at a time");
        let is_free = || status_of(&mut ask(&server, stream, "1.1")).contains(" 200 ");
        until(|| is_free().then_some(()));
        drop(stopped);
    }
}

#[test]
fn a_client_of_http_1_0_reads_a_stream_to_the_end_of_the_connection() {
    let (server, org, _dir) = filled("");
    let events = finished(&org, 1);
    for stream in STREAMS {
        let mut raw = ask(&server, stream, "1.0");
        let head = status_of(&mut raw).to_lowercase();
        assert!(head.contains(" 200 ") && !head.contains("transfer-encoding"), "{head}");
        assert!(!head.contains("keep-alive"), "{head}");
        let start = find(&raw.read, b"\r\n\r\n").unwrap() + 4;
        let mut body = raw.read.split_off(start);
        raw.stream.read_to_end(&mut body).unwrap();
        if stream.1 == "application/jsonl" {
            let text = String::from_utf8(body).unwrap();
            assert_eq!(text.lines().count(), EVENTS + 1);
            assert!(text.lines().all(|line| line.starts_with('{')) && text.contains(&events[0]));
        } else {
            assert!(zstd::decode_all(body.as_slice()).is_ok(), "not one byte beside the archive");
        }
    }
    let mut tail = Raw::connect(&server);
    tail.say(&format!("GET /api/tail HTTP/1.0\r\nX-API-Key: {}\r\n\r\n", org.key));
    let began = tail.read_until(|read| find(read, b"\r\n\r\nevent: start\n"));
    assert!(began.is_some(), "no length of a chunk comes before the first item");
}
