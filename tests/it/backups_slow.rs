//! Backups beside a slow reader, and beside a slow receiver.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::backups::{ask, restore, small, text};
use crate::harness::{Client, Process, binary, command, until};

/// Events of the stream, with payloads that no compression makes smaller.
const EVENTS: usize = 160;
const PAYLOAD_BYTES: usize = 200 << 10;

/// A text of sixteen letters from a generator (Knuth's MMIX), which zstd can at best halve.
fn noise(seed: u64) -> String {
    let (mut state, mut text) = (seed, String::with_capacity(PAYLOAD_BYTES));
    while text.len() < PAYLOAD_BYTES {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend(state.to_be_bytes()[..4].iter().map(|byte| char::from(b'a' + byte % 16)));
    }
    text
}

#[test]
fn a_stream_waits_for_its_reader_while_everything_else_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (data, to) = (dir.path().join("data"), dir.path().join("to"));
    // What the stream holds open is removed meanwhile.
    let more = "[retention]\nfinished_seconds = 1\ngrace_seconds = 1\n";
    let server = Process::start_on(&data, &small(&data, more));
    let org = server.org("Acme");
    let ids: Vec<_> =
        (0..EVENTS).map(|seed| org.send("a", &json!(noise(seed as u64))).id()).collect();
    let config = data.with_extension("toml");
    let mut download = Command::new(binary())
        .args(["backup", "-", "--url", &server.url, "--config", text(&config)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stream = download.stdout.take().unwrap();
    let mut archive = vec![0; 1_000];
    stream.read_exact(&mut archive).unwrap();
    // The reader reads nothing more until all of this is done.
    let admin = server.admin();
    let headers = [("Accept", "application/zstd")];
    let other = admin.request(reqwest::Method::POST, "/api/admin/backup", &headers, "");
    assert_eq!((other.status, other.code()), (503, "overloaded"), "{other:?}");
    for id in &ids {
        assert_eq!(org.ack(id).status, 200);
    }
    until(|| (org.get(&format!("/api/events/{}", ids[0])).status == 404).then_some(()));
    until(|| (admin.metric("triggerd_compaction_segments_removed_total") > 0.0).then_some(()));
    let (code, said) = ask(&server, &[text(&dir.path().join("backups"))]);
    assert_eq!(code, Some(0), "a backup in a directory is made beside the stream: {said}");
    let mut piece = [0; 4_096];
    loop {
        match stream.read(&mut piece).unwrap() {
            0 => break,
            count => archive.extend_from_slice(&piece[..count]),
        }
    }
    let ended = download.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(archive.len() > EVENTS * PAYLOAD_BYTES / 3, "{} bytes", archive.len());
    assert_eq!(admin.metric("triggerd_backup_failures_total"), 0.0);
    let file = dir.path().join("b.tar.zst");
    std::fs::write(&file, &archive).unwrap();
    assert_eq!(restore(&data, &file, &to, &[]).0, Some(0));
    let restored = Process::start_on(&to, &small(&to, ""));
    let stored = Client::new(&restored.url, &org.key).inbox_ids();
    assert_eq!(stored, ids, "the archive is of the moment at which the stream began");
}

/// Reads one request, and returns its connection before the answer.
fn request(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let (mut stream, _) = until(|| listener.accept().ok());
    stream.set_nonblocking(false).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    stream
}

fn answer(mut stream: TcpStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
}

#[test]
fn a_restore_until_a_time_makes_a_delivery_again_that_a_slow_receiver_accepted_later() {
    let dir = tempfile::tempdir().unwrap();
    let (data, target, to) =
        (dir.path().join("data"), dir.path().join("backups"), dir.path().join("to"));
    let server = Process::start(&data);
    let org = server.org("Acme");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    org.endpoint(&json!({"url": url, "event_types": ["a"]}));
    let sent = org.send("a", &json!(1));
    let path = format!("/api/deliveries?event_id={}", sent.id());
    let waiting = request(&listener);
    let received = |answer: &Value| answer["received_at"].as_str().unwrap().to_owned();
    let time = received(&sent.json);
    // The receiver answers only at a later time, of which the journal then has a record.
    until(|| (received(&org.send("later", &json!(2)).json) > time).then_some(()));
    answer(waiting);
    let state = |org: &Client| org.get(&path).json["data"][0]["state"].as_str().map(str::to_owned);
    let is = |org: &Client, wanted: &str| state(org).as_deref() == Some(wanted);
    until(|| is(&org, "delivered").then_some(()));
    let (code, said) = ask(&server, &[text(&target)]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(server.stop().0, Some(0));
    let (code, said) = restore(&data, &target, &to, &["--until", &time]);
    assert_eq!(code, Some(0), "{said}");
    let held = Process::start(&to);
    let org = Client::new(&held.url, &org.key);
    until(|| state(&org).filter(|state| state != "delivered"));
    assert_eq!(held.stop().0, Some(0));
    let (code, said) = command(&to, &["deliver", "on"]);
    assert_eq!(code, Some(0), "{said}");
    let told = Process::start(&to);
    let org = Client::new(&told.url, &org.key);
    answer(request(&listener));
    until(|| is(&org, "delivered").then_some(()));
}
