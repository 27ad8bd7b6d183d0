//! A small disk is filled with tiny events, whose rows take more space than their records. All of
//! them are confirmed over one connection, and new events are accepted again, all by itself.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::disk::Disk;
use crate::harness::{Client, Process, command, until};
use crate::scenario::{Outcome, Plan, keep};

const PAYLOAD: usize = 100;
const BATCH: usize = 500;
/// Number of requests that wait for their answers at a time.
const PIPELINED: usize = 64;

/// The default sizes and limits, with short times.
fn config(data: &Path) -> String {
    crate::server::config(data)
        .replace("reserve_bytes = 1", "reserve_bytes = 0")
        .replace("segment_bytes = 262144\nsnapshot_bytes = 131072", "")
        .replace("grace_seconds = 5", "finished_seconds = 5\ngrace_seconds = 5")
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    let disk = match Disk::in_memory(&plan.dir, "disk", plan.rounds) {
        Ok(disk) => disk,
        Err(why) => return Outcome::Skipped(format!("no filesystem of its own: {why}")),
    };
    let data = disk.mount.join("data");
    let mut server = Process::start_on(&data, &config(&data));
    let org = server.org("tiny");
    let ids = fill(&org);
    let reserve = server.admin().get("/health").json["disk"]["reserve_bytes"].as_u64().unwrap();
    let least = Cell::new(disk.free_bytes());
    let look = || least.set(least.get().min(disk.free_bytes()));
    confirm(&server, &org, &ids, &look);
    let began = Instant::now();
    until(|| {
        look();
        (org.send("tiny.event", &json!(1)).status == 202).then_some(())
    });
    assert!(least.get() > 0, "the disk had no byte free");
    assert!(server.ended().is_none(), "a full disk ended the server");
    let waited = began.elapsed().as_secs();
    assert_eq!(server.stop().0, Some(0));
    let (code, text) = command(&data, &["verify", "--scratch", plan.dir.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
    keep("tiny", &data);
    Outcome::Passed(format!(
        "{} events taken and confirmed, with a reserve of {} KiB and at least {} KiB free; taken \
         again after {waited} s",
        ids.len(),
        reserve >> 10,
        least.get() >> 10
    ))
}

fn batch() -> Value {
    let event = json!({"type": "tiny.event", "payload": "x".repeat(PAYLOAD)});
    json!({"events": vec![event; BATCH]})
}

/// Posts batches until one is refused. Returns the ids of the events.
fn fill(org: &Client) -> Vec<String> {
    let (batch, mut ids) = (batch(), Vec::new());
    loop {
        let answer = org.post("/api/events/batch", &batch);
        if answer.status == 507 {
            return ids;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        let results = answer.json["results"].as_array().unwrap();
        ids.extend(results.iter().filter_map(|result| result["id"].as_str()).map(str::to_owned));
    }
}

/// Confirms the events over one connection, and asserts that each answer is 200.
fn confirm(server: &Process, org: &Client, ids: &[String], look: &dyn Fn()) {
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    for ids in ids.chunks(PIPELINED) {
        let requests: String = ids.iter().map(|id| request(&org.key, id)).collect();
        stream.write_all(requests.as_bytes()).unwrap();
        for id in ids {
            let (head, body) = answer(&mut answers);
            assert!(head.starts_with("HTTP/1.1 200 "), "{id}: {head}{body}");
        }
        look();
    }
}

fn request(key: &str, id: &str) -> String {
    format!(
        "POST /api/ack/{id} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// Reads an answer: its head and its body.
fn answer(stream: &mut impl BufRead) -> (String, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "the connection ended: {head}");
    }
    let length = head.to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}
