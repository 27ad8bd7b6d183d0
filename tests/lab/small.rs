//! A small filesystem with the default limits gets confirmed events for longer than it can hold
//! them. The oldest ones leave before their time, new events are refused while the space of those
//! that left has not come back, and are accepted again by themselves. An open event stays.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::disk::Disk;
use crate::harness::{Process, command, until};
use crate::scenario::{Outcome, Plan, keep};

const DISK_MEBIBYTES: u64 = 64;
const PAYLOAD: usize = 64 << 10;

/// The default sizes and limits, with a short grace.
fn config(data: &Path) -> String {
    crate::server::config(data)
        .replace("reserve_bytes = 1", "reserve_bytes = 0")
        .replace("segment_bytes = 262144\nsnapshot_bytes = 131072", "")
        .replace("grace_seconds = 5", "keep_free_share = 0.1\ngrace_seconds = 2")
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    let disk = match Disk::make(&plan.dir, "disk", DISK_MEBIBYTES) {
        Ok(disk) => disk,
        Err(why) => return Outcome::Skipped(format!("no filesystem of its own: {why}")),
    };
    let data = disk.mount.join("data");
    let mut server = Process::start_on(&data, &config(&data));
    let org = server.org("small");
    let open = org.send("open.event", &json!("open")).id();
    let (mut bytes, mut refused, mut least, mut newest) = (0, 0_u64, u64::MAX, String::new());
    let payload = json!("x".repeat(PAYLOAD));
    while bytes < plan.rounds << 20 {
        let event = json!({"type": "small.event", "payload": payload});
        let sent = org.post("/api/events", &event);
        least = least.min(disk.free_bytes());
        assert!(server.ended().is_none(), "a small disk ended the server");
        if sent.status == 202 {
            bytes += PAYLOAD as u64;
            newest = sent.id();
            assert_eq!(org.ack(&newest).status, 200);
            continue;
        }
        assert_eq!((sent.status, sent.code()), (507, "disk_full"), "{sent:?}");
        refused += 1;
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let early = "triggerd_events_expired_total{kind=\"finished\",reason=";
    let early = ["bytes", "disk"].map(|reason| org.metric(&format!("{early}\"{reason}\"}}")));
    assert!(early.iter().sum::<f64>() > 0.0, "{early:?}");
    assert_eq!(org.inbox_ids(), [open]);
    assert_eq!(org.get(&format!("/api/events/{newest}")).status, 200);
    // New events are accepted again, by themselves.
    until(|| (org.get("/health").status == 200).then_some(()));
    assert_eq!(server.stop().0, Some(0));
    let (code, text) = command(&data, &["verify"]);
    assert_eq!(code, Some(0), "{text}");
    keep("small", &data);
    let [of_limit, of_disk] = early;
    Outcome::Passed(format!(
        "{} MiB taken, {refused} times refused, {least} bytes free at least; {of_limit} events left \
         for the limit and {of_disk} for the disk; 0 others lost",
        bytes >> 20
    ))
}
