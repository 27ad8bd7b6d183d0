//! More verbs for the server under test: kill during a start, suspend, watch the end.

use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::client::{PULLS, PUSHES};
use crate::harness::{Client, PATIENCE, Process, first_segment, settings, until};
use crate::ledger::Ledger;
use crate::receiver::Receiver;

/// Concurrent attempts to one endpoint: a crash can repeat only so many deliveries.
pub(crate) const IN_FLIGHT: u64 = 4;

/// Returns the lab's configuration: small segments, so that many are sealed, snapshots all the
/// time, and few concurrent attempts.
pub(crate) fn config(data_dir: &Path) -> String {
    let more = format!(
        "[retention]\ngrace_seconds = 5\n[delivery]\nmax_in_flight_per_endpoint = {IN_FLIGHT}\n"
    );
    settings(data_dir, &more)
        .replace("segment_bytes = 1048576", "segment_bytes = 262144\nsnapshot_bytes = 131072")
}

/// Returns a configuration in which events expire soon after their end, and only compaction asks
/// for snapshots.
pub(crate) fn compacting(data_dir: &Path, grace_seconds: u64) -> String {
    config(data_dir).replace("snapshot_bytes = 131072", "snapshot_bytes = 1073741824").replace(
        "grace_seconds = 5",
        &format!("finished_seconds = 1\ngrace_seconds = {grace_seconds}"),
    )
}

impl Process {
    /// Starts a server with the lab's configuration. Returns the time until it was ready.
    pub(crate) fn boot(data_dir: &Path) -> (Self, Duration) {
        let began = Instant::now();
        let process = Self::start_on(data_dir, &config(data_dir));
        (process, began.elapsed())
    }

    /// Starts a server and kills it `after` this time, ready or not.
    pub(crate) fn boot_and_kill(data_dir: &Path, after: Duration) {
        let process = Self::spawn(data_dir, &config(data_dir), &[]);
        std::thread::park_timeout(after);
        process.kill();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Returns the exit status if the server has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends SIGTERM to the server under a wrapper such as strace, which ends with it.
    pub(crate) fn stop_wrapped(mut self) {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let server = children
            .split_whitespace()
            .next()
            .expect("the wrapper runs the server")
            .parse()
            .unwrap();
        kill_process(Pid::from_raw(server).unwrap(), Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }

    /// Makes the two organizations of every load. The ledger gets the keys and the endpoint.
    pub(crate) fn orgs(&self, ledger: &Ledger, receiver: &Receiver) -> [(&'static str, String); 2] {
        let orgs = [PULLS, PUSHES].map(|name| (name, self.org(name).key));
        let pushes = Client::new(&self.url, &orgs[1].1);
        let set = pushes.post("/api/webhook/config", &json!({ "url": receiver.url() }));
        assert_eq!(set.status, 201, "{set:?}");
        for (_, key) in &orgs {
            ledger.key(key);
        }
        ledger.endpoint(&receiver.url());
        orgs
    }
}

/// Waits for `more` acknowledgements than there are now.
pub(crate) fn wait_for_acknowledgements(ledger: &Ledger, more: u64) {
    let (began, wanted) = (Instant::now(), ledger.acknowledgements() + more);
    while ledger.acknowledgements() < wanted {
        assert!(began.elapsed() < PATIENCE, "no acknowledgements come");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Stores events of which each segment of the lab holds a few, and confirms all but the last one,
/// after `meanwhile`. Returns the last one.
pub(crate) fn store_and_confirm(org: &Client, meanwhile: impl FnOnce()) -> String {
    let payload = json!("x".repeat(50_000));
    let mut ids: Vec<_> = (0..20).map(|_| org.send("lab.event", &payload).id()).collect();
    meanwhile();
    let last = ids.pop().unwrap();
    assert!(ids.iter().all(|id| org.ack(id).status == 200));
    last
}

/// Waits until compaction has removed the first segment. Returns false if this takes too long.
pub(crate) fn loses_first_segment(data_dir: &Path, at_most: Duration) -> bool {
    let (began, first) = (Instant::now(), first_segment(data_dir));
    until(|| (!first.exists() || began.elapsed() >= at_most).then_some(()));
    !first.exists()
}

/// Confirms the oldest events, through the ledger, to keep the inbox short.
pub(crate) fn confirm_all_but(left: usize, pulls: &Client, ledger: &Ledger) {
    let ids = pulls.inbox_ids();
    for id in ids.iter().take(ids.len().saturating_sub(left)) {
        ledger.confirming(id);
        assert_eq!(pulls.ack(id).status, 200);
        ledger.confirmed(id);
    }
}
