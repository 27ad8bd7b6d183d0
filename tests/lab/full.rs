//! A full disk is a state, not a crash. At the reserve, new events are refused with 507, while
//! reading, confirming and delivering go on; with space again, events are accepted within seconds.
//! This holds also when another program takes the last byte, and when the server is then killed and
//! started again.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::checker::{check_delivered, check_pulls};
use crate::disk::Disk;
use crate::harness::{Client, PATIENCE, Process, until};
use crate::ledger::{Ledger, Sent};
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};
use crate::server::{IN_FLIGHT, config};

const DISK_MEBIBYTES: u64 = 144;
const RESERVE: u64 = 12 << 20;
const BALLAST: u64 = 32 << 20;
/// Free bytes that are enough for the journal but not for sled, which fills a segment of 8 MiB when
/// opened after a crash.
const LITTLE: u64 = 2 << 20;
const PAYLOAD: usize = 200 << 10;
/// Longest time until events are accepted again, where times are judged.
const RECOVERY: Duration = Duration::from_secs(5);

struct Full {
    disk: Disk,
    server: Process,
    ledger: Ledger,
    receiver: Receiver,
    /// Clients of the pulling and the pushing organization.
    clients: [Client; 2],
    count: u64,
    recovers_within: Duration,
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut outcome = Vec::new();
    for round in 0..plan.rounds {
        let dir = plan.dir.join(format!("round-{round}"));
        std::fs::create_dir(&dir).unwrap();
        let disk = match Disk::make(&dir, "disk", DISK_MEBIBYTES) {
            Ok(disk) => disk,
            Err(why) => return Outcome::Skipped(format!("no filesystem of its own: {why}")),
        };
        outcome.push(fill_twice(disk, &dir, if plan.judges_time { RECOVERY } else { PATIENCE }));
    }
    Outcome::Passed(outcome.join("; "))
}

fn boot(data: &Path, wrapper: &[&str]) -> Process {
    let config = config(data).replace("reserve_bytes = 1", &format!("reserve_bytes = {RESERVE}"));
    // Old snapshots soon make room for the next one, and nothing is to expire early.
    let config = config.replace("grace_seconds = 5", "grace_seconds = 1\nbytes = 1099511627776");
    let config = format!("{config}retry_schedule_seconds = {:?}\n", [1; 30]);
    let ready = Process::spawn(data, &config, wrapper).ready();
    ready.unwrap_or_else(|(status, log)| panic!("not ready: {status}\n{log}"))
}

fn fill_twice(disk: Disk, dir: &Path, recovers_within: Duration) -> String {
    let data = disk.mount.join("data");
    let (ledger, receiver) = (Ledger::new(&dir.join("ledger")), Receiver::start());
    let server = boot(&data, &[]);
    let clients = server.orgs(&ledger, &receiver).map(|(_, key)| Client::new(&server.url, &key));
    fill_state(&server.org("bulk"));
    let mut full = Full { disk, server, ledger, receiver, clients, count: 0, recovers_within };

    let ballast = full.disk.mount.join("ballast");
    take_space(&ballast, BALLAST);
    full.fill();
    let left = full.disk.free_bytes();
    assert!(
        left > RESERVE / 2,
        "{left} bytes were left when events were refused, of a reserve of {RESERVE}"
    );
    full.goes_on();
    let first = full.recovers_without(&ballast);

    full.starts_without_a_byte_and_with_few(&ballast);
    full.goes_on();
    let second = full.recovers_without(&ballast);

    full.receiver.refuse(false);
    let history = full.ledger.read();
    check_pulls(&full.clients[0], &history);
    check_delivered(&full.clients[1], &history, &full.receiver, IN_FLIGHT);
    assert_eq!(full.server.stop().0, Some(0));
    assert!(snapshots(&data.join("journal")) > 0, "no snapshot was taken");
    keep("full", &data);
    let waits = [first, second].map(|wait| wait.as_millis().to_string()).join(", ");
    format!(
        "{} events taken, 0 lost; refused with {left} bytes free; taken again after {waits} ms",
        history.stored.len()
    )
}

/// Makes a state of several MiB from events with long and distinct types.
fn fill_state(bulk: &Client) {
    for batch in 0..160 {
        let item =
            |n: u64| json!({"type": format!("{}.b{batch}.n{n}", "long".repeat(28)), "payload": n});
        let sent = bulk
            .post("/api/events/batch", &json!({"events": (0..250).map(item).collect::<Vec<_>>()}));
        assert!(sent.status < 300, "{sent:?}");
    }
}

/// Writes to a file until it has `bytes` bytes, or until the disk is full.
fn take_space(path: &Path, bytes: u64) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    for chunk in [1 << 20, 1 << 12] {
        let block = vec![1_u8; chunk];
        while file.metadata().unwrap().len() + chunk as u64 <= bytes {
            if file.write_all(&block).and_then(|()| file.sync_data()).is_err() {
                break;
            }
        }
    }
}

/// Returns the number of snapshots in the journal's directory.
fn snapshots(journal: &Path) -> usize {
    let names = std::fs::read_dir(journal).unwrap();
    let is_snapshot = |path: &Path| path.extension() == Some("snap".as_ref());
    names.filter(|name| is_snapshot(&name.as_ref().unwrap().path())).count()
}

/// Changes the boot id in the mark in place: there is no space for another file.
fn forget_boot(sled: &Path) {
    for generation in std::fs::read_dir(sled).unwrap() {
        let mark = generation.unwrap().path().join("RUNNING");
        // A state whose rows from a snapshot are only in memory has no mark.
        let Ok(text) = std::fs::read_to_string(&mark) else { continue };
        let other: String = text.chars().map(|c| if c == '-' { '+' } else { c }).collect();
        assert_ne!(text, other, "a boot's id has dashes");
        File::options().write(true).open(&mark).unwrap().write_all(other.as_bytes()).unwrap();
    }
}

impl Full {
    /// Posts one event of the pulling organization. Returns the status.
    fn post_event(&mut self) -> u16 {
        self.count += 1;
        self.post(
            &self.clients[0],
            &Sent { tag: format!("pulls-full-{}", self.count), bytes: PAYLOAD },
        )
    }

    fn post(&self, org: &Client, sent: &Sent) -> u16 {
        self.ledger.sending(sent);
        let body = format!("{{\"type\":\"full.event\",\"payload\":{}}}", sent.payload());
        let answer = org.post_text("/api/events", &body);
        if answer.status == 202 {
            self.ledger.stored(&sent.tag, &answer.id());
        } else {
            assert_eq!((answer.status, answer.code()), (507, "disk_full"), "{answer:?}");
        }
        answer.status
    }

    /// Posts until events are refused, also when older snapshots are gone. Some deliveries wait
    /// meanwhile.
    fn fill(&mut self) {
        self.post_until_refused();
        let journal = self.server.data_dir.join("journal");
        until(|| (snapshots(&journal) <= 2).then_some(()));
        self.give_back();
        self.post_until_refused();
    }

    fn post_until_refused(&mut self) {
        self.receiver.refuse(true);
        for _ in 0..5 {
            self.count += 1;
            let sent = Sent { tag: format!("pushes-full-{}", self.count), bytes: 500 };
            self.post(&self.clients[1], &sent);
        }
        self.post_events_until_refused();
    }

    /// Posts until events are refused: an older snapshot that went may have made room.
    fn post_events_until_refused(&mut self) {
        let is_refused = (0..400).any(|_| self.post_event() == 507);
        assert!(is_refused, "events are never refused: the reserve is not kept");
    }

    /// Reads, confirms and delivers with the disk at the reserve.
    fn goes_on(&mut self) {
        let [pulls, pushes] = &self.clients;
        let ids = pulls.inbox_ids();
        for id in ids.iter().take(10) {
            self.ledger.confirming(id);
            let answer = pulls.ack(id);
            assert_eq!(answer.status, 200, "confirming goes on at the reserve: {answer:?}");
            self.ledger.confirmed(id);
        }
        self.receiver.refuse(false);
        let set = pushes.post("/api/webhook/config", &json!({ "url": self.receiver.url() }));
        // The rest of the reserve is kept for what gives space back.
        assert!([200, 507].contains(&set.status), "settings at the reserve: {set:?}");
        pushes.inbox_until(<[_]>::is_empty);
        self.post_events_until_refused();
        assert!(self.server.ended().is_none(), "a full disk ended the server");
    }

    /// Another program takes the rest of the space, to the last byte, and gives a little of it
    /// back. The server starts before and after.
    fn starts_without_a_byte_and_with_few(&mut self, ballast: &Path) {
        // A snapshot that was given up gives its space back.
        while self.disk.free_bytes() >= LITTLE {
            take_space(ballast, u64::MAX);
            self.fill();
        }
        self.lives_without_a_byte();
        self.starts_again(false);
        self.starts_again(true);
        let held = ballast.metadata().unwrap().len();
        let file = File::options().write(true).open(ballast).unwrap();
        file.set_len(held.saturating_sub(LITTLE)).unwrap();
        self.give_back();
        self.starts_again(false);
        self.starts_again(true);
        // The start also copes with a wrong estimate of the room (in builds with failpoints).
        self.starts_again_under(&["env", "TRIGGERD_FAILPOINTS=room_misjudged"]);
    }

    /// Reads go on, and confirmations do as long as the last segment has room. This lasts longer
    /// than rows wait in memory for sled.
    fn lives_without_a_byte(&mut self) {
        let began = Instant::now();
        for id in self.clients[0].inbox_ids() {
            self.ledger.confirming(&id);
            let answer = self.clients[0].ack(&id);
            match answer.status {
                200 => self.ledger.confirmed(&id),
                status => assert_eq!(status, 507, "{answer:?}"),
            }
            std::thread::park_timeout(Duration::from_millis(20));
            if began.elapsed() > Duration::from_secs(2) {
                break;
            }
        }
        let read = self.clients[0].get("/api/inbox?limit=1");
        assert_eq!(read.status, 200, "reading goes on without a free byte: {read:?}");
        assert!(self.server.ended().is_none(), "a full disk ended the server");
    }

    /// Kills the server and starts it on the disk as it is, with `other_boot` as after a reboot.
    /// Nothing is missing, and events are refused.
    fn starts_again(&mut self, other_boot: bool) {
        self.start_again(other_boot, &[]);
    }

    /// Does the same as after a reboot, with the server run by a wrapper.
    fn starts_again_under(&mut self, wrapper: &[&str]) {
        self.start_again(true, wrapper);
    }

    fn start_again(&mut self, other_boot: bool, wrapper: &[&str]) {
        let before = self.clients[0].inbox_ids();
        self.server.signal(Signal::KILL);
        self.server.child.wait().unwrap();
        let data = self.server.data_dir.clone();
        if other_boot {
            forget_boot(&data.join("sled"));
        }
        self.server = boot(&data, wrapper);
        self.clients = [0, 1].map(|place| Client::new(&self.server.url, &self.clients[place].key));
        assert_eq!(self.post_event(), 507, "events are refused after a start on a full disk");
        assert!(
            before == self.clients[0].inbox_ids(),
            "the inbox differs after a start on a full disk"
        );
        let health = self.clients[0].get("/health");
        assert_eq!(health.status, 503, "{health:?}");
        // This lasts longer than rows wait in memory for sled.
        self.lives_without_a_byte();
    }

    /// Syncs: ext4 frees blocks with its next commit, which this mount puts off for minutes.
    fn give_back(&self) {
        File::open(&self.disk.mount).unwrap().sync_all().unwrap();
    }

    /// Gives space back. Returns the time until an event was accepted.
    fn recovers_without(&mut self, ballast: &Path) -> Duration {
        std::fs::remove_file(ballast).unwrap();
        self.give_back();
        let began = Instant::now();
        while self.post_event() != 202 {
            let waited = began.elapsed();
            assert!(
                waited < self.recovers_within,
                "space came back, and events are refused after {waited:?}"
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
        began.elapsed()
    }
}
