//! A full disk, and endpoints that refuse whatever they get, with long answers and whose
//! breaker stays closed.
//! Confirming and erasing go on, every event expires at its time, compaction gives the space back,
//! and new events are accepted again, all by itself.

use std::cell::Cell;
use std::path::Path;

use serde_json::json;

use crate::disk::Disk;
use crate::harness::{Process, command, until};
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};

const DISK_MEBIBYTES: u64 = 80;
const PAYLOAD: usize = 4 << 10;
const ANSWER: usize = 4 << 10;
const OPEN_SECONDS: u64 = 30;

/// The default reserve, small files, and attempts without an end.
fn config(data: &Path) -> String {
    let retention =
        format!("open_seconds = {OPEN_SECONDS}\nfinished_seconds = 5\ngrace_seconds = 1");
    let config = crate::server::config(data)
        .replace("reserve_bytes = 1", "reserve_bytes = 0")
        .replace("grace_seconds = 5", &retention)
        .replace("max_in_flight_per_endpoint = 4", "max_in_flight_per_endpoint = 64");
    let breaker = "breaker_window = 0\nbreaker_failures_in_a_row = 1000\n";
    format!("{config}{breaker}retry_schedule_seconds = {:?}\n", [1; 30])
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    let disk = match Disk::make(&plan.dir, "disk", DISK_MEBIBYTES) {
        Ok(disk) => disk,
        Err(why) => return Outcome::Skipped(format!("no filesystem of its own: {why}")),
    };
    let (data, receiver) = (disk.mount.join("data"), Receiver::start());
    // A success now and then keeps the breaker closed.
    receiver.refuse_most(ANSWER, 100);
    let mut server = Process::start_on(&data, &config(&data));
    let org = server.org("failing");
    for _ in 0..4 {
        let endpoint = json!({"url": receiver.url(), "event_types": ["failing.*"]});
        assert_eq!(org.post("/api/endpoints", &endpoint).status, 201);
    }
    let mut figures = Vec::new();
    for _ in 0..plan.rounds {
        let item = json!({"type": "failing.event", "payload": "x".repeat(PAYLOAD)});
        let batch = json!({"events": vec![item; 20]});
        until(|| (org.post("/api/events/batch", &batch).status == 507).then_some(()));
        // Failing endpoints use their part of the reserve up first.
        until(|| (org.metric("triggerd_endpoints_held") > 0.0).then_some(()));
        let held_at = disk.free_bytes();
        let ids = org.inbox_ids();
        for id in ids.iter().take(20) {
            let answer = org.ack(id);
            assert_eq!(answer.status, 200, "confirming goes on: {answer:?}");
        }
        for id in ids.iter().skip(20).take(20) {
            let answer = org.delete(&format!("/api/events/{id}"));
            assert_eq!(answer.status, 200, "erasing goes on: {answer:?}");
        }
        let least = Cell::new(held_at);
        until(|| {
            least.set(least.get().min(disk.free_bytes()));
            let sent = org.post("/api/events", &json!({"type": "other.event", "payload": 1}));
            (sent.status == 202).then_some(())
        });
        assert!(server.ended().is_none(), "a full disk ended the server");
        figures.push(format!(
            "held at {} KiB free, least {} KiB",
            held_at >> 10,
            least.get() >> 10
        ));
    }
    assert_eq!(server.stop().0, Some(0));
    // The filesystem may have no room for a second state.
    let scratch = plan.dir.join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let (code, text) = command(&data, &["verify", "--scratch", scratch.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
    keep("failing", &data);
    Outcome::Passed(figures.join("; "))
}
