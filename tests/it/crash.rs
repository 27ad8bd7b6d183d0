//! Crashes, copies and lost state, over the real binary: what was acknowledged is there, once, and gets delivered.
//!
//! Rounds come from `TRIGGERD_TEST_ROUNDS` (3 unless given), the seed from `TRIGGERD_TEST_SEED`; both are printed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::json;
use triggerd::http::receiver::Receiver;

use crate::harness::{Client, PATIENCE, Process, dump, until};

const POSTERS: usize = 4;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// splitmix64: enough for instants, and a seed says it all.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Dedup id to event id, of every 2xx that was read whole.
type Acknowledged = Mutex<BTreeMap<String, String>>;

/// Who posts where, and what makes the dedup ids of this round its own.
struct Target<'a> {
    url: &'a str,
    keys: [&'a str; 2],
    round: u64,
}

/// Posts events with both keys until told to stop; an event counts when its whole answer was read.
fn load(target: &Target<'_>, stop: &AtomicBool, acknowledged: [&Acknowledged; 2], began: &mpsc::Sender<()>) {
    let Target { url, keys, round } = *target;
    std::thread::scope(|scope| {
        for poster in 0..POSTERS {
            let began = began.clone();
            scope.spawn(move || {
                let clients = keys.map(|key| Client::new(url, key));
                for count in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let which = count % 2;
                    let dedup_id = format!("{round}-{poster}-{count}");
                    let body = json!({"type": "load.event", "payload": {"dedup": dedup_id}, "dedup_id": dedup_id});
                    let headers = [("Content-Type", "application/json")];
                    let answer =
                        clients[which].try_request(reqwest::Method::POST, "/api/events", &headers, body.to_string());
                    let Ok(answer) = answer else { return };
                    if answer.status == 202 || answer.status == 200 {
                        acknowledged[which].lock().unwrap().insert(dedup_id, answer.id());
                        _ = began.send(()); // nobody counts any more once the process is killed
                    }
                }
            });
        }
    });
}

/// Everything acknowledged is in the inbox once, with its own payload, and nothing is there twice.
fn check_inbox(org: &Client, acknowledged: &BTreeMap<String, String>) {
    let inbox = org.inbox();
    let mut stored = BTreeMap::new();
    for event in &inbox {
        let dedup_id = event["dedup_id"].as_str().unwrap().to_owned();
        assert_eq!(event["payload"], json!({"dedup": dedup_id}), "its own bytes");
        let twice = stored.insert(dedup_id, event["id"].as_str().unwrap().to_owned());
        assert_eq!(twice, None, "stored twice: {event}");
    }
    let ids: Vec<_> = inbox.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted(), "in acceptance order");
    for (dedup_id, id) in acknowledged {
        assert_eq!(stored.get(dedup_id), Some(id), "acknowledged {dedup_id} is lost or another event");
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_kill_9_at_any_instant() {
    let rounds = number("TRIGGERD_TEST_ROUNDS", 3);
    let seed = number("TRIGGERD_TEST_SEED", u64::from(std::process::id()));
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let receiver = Receiver::start().unwrap();
    let mut server = Process::start(&data);
    let (pulls, pushes) = (server.org("Pulls"), server.org("Pushes"));
    pushes.push_to(&receiver.url());
    let (pulled, pushed) = (Acknowledged::default(), Acknowledged::default());
    let mut slowest_start = Duration::ZERO;
    for round in 0..rounds {
        let stop = AtomicBool::new(false);
        let (began, first) = mpsc::channel();
        std::thread::scope(|scope| {
            let (url, keys) = (server.url.clone(), [pulls.key.as_str(), pushes.key.as_str()]);
            let (stop, acknowledged) = (&stop, [&pulled, &pushed]);
            scope.spawn(move || load(&Target { url: &url, keys, round }, stop, acknowledged, &began));
            first.recv_timeout(PATIENCE).expect("events are accepted");
            // The instant of the kill: after so many acknowledgements and a bit.
            for _ in 0..random.below(200) {
                _ = first.recv_timeout(PATIENCE);
            }
            std::thread::park_timeout(Duration::from_micros(random.below(20_000)));
            server.kill();
            stop.store(true, Ordering::SeqCst);
        });
        let starts = Instant::now();
        server = Process::start(&data);
        slowest_start = slowest_start.max(starts.elapsed());
        check_inbox(&Client::new(&server.url, &pulls.key), &pulled.lock().unwrap());
    }
    let (pulls, pushes) = (Client::new(&server.url, &pulls.key), Client::new(&server.url, &pushes.key));
    let pushed = pushed.into_inner().unwrap();
    let wanted: BTreeSet<_> = pushed.values().cloned().collect();
    let delivered = until(|| {
        let delivered: BTreeSet<_> = receiver.received().into_iter().map(|request| request.id).collect();
        delivered.is_superset(&wanted).then_some(delivered)
    });
    pushes.inbox_until(<[_]>::is_empty);
    let (pulled, requests) = (pulled.into_inner().unwrap(), receiver.received().len());
    println!(
        "{rounds} rounds of kill -9, seed {seed}: {} + {} events acknowledged, 0 lost, 0 stored twice; {} delivered in {requests} requests; \
         slowest start {slowest_start:?}; {} left in the pulled inbox",
        pulled.len(),
        pushed.len(),
        delivered.len(),
        pulls.inbox().len()
    );
    receiver.stop();
}

/// A stopped server with some of everything in it.
fn filled(data: &Path) -> (Vec<String>, String) {
    let server = Process::start(data);
    let (pulls, pushes) = (server.org("Pulls"), server.org("Pushes"));
    let receiver = Receiver::start().unwrap();
    receiver.answer_next([500, 410]);
    pushes.push_to(&receiver.url());
    let ids: Vec<_> = (0..150).map(|n| pulls.send_once(&format!("d-{n}"), &json!(n)).id()).collect();
    for n in 0..100 {
        pushes.send_once(&format!("d-{n}"), &json!(n));
    }
    receiver.wait_for(2, PATIENCE);
    ids.iter().take(70).for_each(|id| assert_eq!(pulls.ack(id).status, 200));
    pulls.post("/api/keys/rotate", &json!({"grace_seconds": 1}));
    assert_eq!(server.stop().0, Some(0));
    receiver.stop();
    (ids, pulls.key)
}

#[test]
fn a_deleted_state_is_made_anew_with_the_very_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    filled(&data);
    let before = dump(&data);
    for _ in 0..3 {
        std::fs::remove_dir_all(data.join("sled")).unwrap();
        let server = Process::start(&data);
        assert_eq!(server.stop().0, Some(0));
        let after = dump(&data);
        // Nothing happened in between but deliveries that were still due; those append to the journal.
        let stable = |dump: &str| {
            let rows = dump
                .lines()
                .filter(|row| row.starts_with("dedup ") || row.starts_with("orgs ") || row.starts_with("open "));
            rows.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(stable(&before), stable(&after));
    }
    let once = dump(&data);
    std::fs::remove_dir_all(data.join("sled")).unwrap();
    let store = triggerd::store::Store::open(&data.join("sled"), 8 << 20, u64::MAX).unwrap();
    let options = triggerd::journal::Options { segment_bytes: 1 << 20, scan_from: None };
    let files = std::sync::Arc::new(triggerd::journal::OsFiles);
    let (_writer, journal, _report) = triggerd::journal::open(&data.join("journal"), files, &options).unwrap();
    triggerd::commit::recover(&store, &journal).unwrap();
    assert_eq!(once, store.dump().unwrap(), "every row of every tree");
    assert!(once.lines().count() > 20, "{once}");
}

#[test]
fn a_copy_of_the_running_directory_has_everything_acknowledged_before_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Pulls");
    let acknowledged = Acknowledged::default();
    let nobody = Acknowledged::default();
    let stop = AtomicBool::new(false);
    let (began, first) = mpsc::channel();
    std::thread::scope(|scope| {
        let (url, keys) = (server.url.clone(), [org.key.as_str(), org.key.as_str()]);
        let (stop, both) = (&stop, [&acknowledged, &nobody]);
        scope.spawn(move || load(&Target { url: &url, keys, round: 0 }, stop, both, &began));
        for round in 0..3 {
            for _ in 0..300 {
                first.recv_timeout(PATIENCE).unwrap();
            }
            let before = acknowledged.lock().unwrap().clone();
            let copy = dir.path().join(format!("copy-{round}"));
            assert!(Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap().success());
            let restored = Process::start(&copy);
            check_inbox(&Client::new(&restored.url, &org.key), &before);
            assert_eq!(Client::new(&restored.url, &org.key).send_once("new", &json!(1)).status, 202);
            assert_eq!(restored.stop().0, Some(0));
        }
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_second_server_on_the_directory_and_a_damaged_journal_are_told_by_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let Err((status, log)) = Process::try_start(&data, "", &[]) else { panic!("two servers on one directory") };
    assert_eq!(status.code(), Some(4), "{log}");
    let org = server.org("Acme");
    for n in 0..3 {
        org.send("a", &json!(n));
    }
    assert_eq!(server.stop().0, Some(0));
    let segment = data.join("journal/00000000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let Err((status, log)) = Process::try_start(&data, "", &[]) else { panic!("damage was not found") };
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("00000000000000000001.seg") && log.contains("offset 64"), "{log}");
}

#[test]
fn a_journal_that_lost_a_part_is_told_by_exit_code_and_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Acme");
    let payload = json!("x".repeat(200_000));
    for _ in 0..12 {
        assert_eq!(org.send("a", &payload).status, 202);
    }
    assert_eq!(server.stop().0, Some(0));
    let mut segments: Vec<_> =
        std::fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    assert!(segments.len() >= 3, "{segments:?}");
    let aside = dir.path().join("aside");
    let (first, middle, last) = (&segments[0], &segments[1], segments.last().unwrap());
    for missing in [first, middle, last] {
        std::fs::rename(missing, &aside).unwrap();
        let Err((status, log)) = Process::try_start(&data, "", &[]) else { panic!("{missing:?} is not missed") };
        assert_eq!(status.code(), Some(3), "{missing:?}: {log}");
        std::fs::rename(&aside, missing).unwrap();
    }
    std::fs::rename(data.join("journal"), &aside).unwrap();
    assert_eq!(Process::try_start(&data, "", &[]).err().and_then(|(status, _)| status.code()), Some(3));
    std::fs::remove_dir_all(data.join("sled")).unwrap();
    assert_eq!(Process::try_start(&data, "", &[]).err().and_then(|(status, _)| status.code()), Some(3));
    std::fs::rename(&aside, data.join("journal")).unwrap();
    let server = Process::start(&data);
    assert_eq!(Client::new(&server.url, &org.key).inbox().len(), 12, "whole again");
}

/// Every 202 comes after a finished fdatasync of the journal that began after the request was read.
#[test]
fn a_finished_sync_comes_before_every_acknowledgement() {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("skipped: strace is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let wrapper = [
        "strace",
        "-f",
        "-y",
        "-s",
        "16",
        "-e",
        "trace=fdatasync,fsync,pwrite64,writev,sendto,sendmsg,write",
        "-o",
        trace.to_str().unwrap(),
    ];
    let server = Process::try_start(&dir.path().join("data"), "", &wrapper)
        .map_err(|(status, log)| format!("{status} {log}"))
        .unwrap();
    let org = server.org("Acme");
    for n in 0..50 {
        assert_eq!(org.send("a", &json!(n)).status, 202);
    }
    server.stop_wrapped();
    let text = std::fs::read_to_string(&trace).unwrap();
    let judged = judge_trace(&text);
    assert_eq!(judged, Ok(50), "acknowledgements, each after a sync");
    // Negative control: the same trace without its syncs must be refused.
    let unsynced: Vec<&str> = text.lines().filter(|line| !line.contains("fdatasync")).collect();
    assert!(judge_trace(&unsynced.join("\n")).is_err(), "a trace without syncs is noticed");
}

/// Walks through a trace: a write to a segment makes it dirty, a finished sync makes it clean, a 202 needs it clean and
/// something written since the one before it. Gives the number of 202s.
fn judge_trace(trace: &str) -> Result<usize, String> {
    let (mut acknowledged, mut dirty, mut written) = (0, false, false);
    for line in trace.lines() {
        let journal = line.contains(".seg>");
        if journal && line.contains("pwrite64(") {
            (dirty, written) = (true, true);
        } else if (line.contains("fdatasync(") && journal && line.contains("= 0"))
            || line.contains("fdatasync resumed") && line.contains("= 0")
        {
            dirty = false;
        } else if line.contains("HTTP/1.1 202") {
            if dirty || !written {
                return Err(format!("not synced before: {line}"));
            }
            written = false;
            acknowledged += 1;
        }
    }
    Ok(acknowledged)
}
