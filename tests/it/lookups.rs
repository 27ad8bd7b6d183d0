//! Name servers that do not answer: an organization whose names cannot be looked up delays its own
//! endpoints, and nobody else. The server runs in a mount namespace with its own `/etc/resolv.conf`
//! and `/etc/hosts`, so these tests need root.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use triggerd::cli::demo::receiver::Receiver;

use crate::harness::{Client, PATIENCE, Process, until};
use crate::operator::is_root;

/// The shares of lookups: four for each organization.
const LOOKUPS_EACH: u8 = 4;
/// A lookup hangs for longer than any step of a test waits.
const RESOLV_CONF: &str = "options timeout:30 attempts:5\n";
const DELIVERY: &str = "[delivery]\nconnect_timeout_ms = 300\n";

/// A server for which `good-<number>.example` is this machine, and any other name hangs.
struct Unanswered {
    server: Process,
    _name_server: UdpSocket,
    _dir: tempfile::TempDir,
}

impl Unanswered {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let name_server = silent_name_server();
        let address = name_server.local_addr().unwrap().ip();
        let servers = format!("nameserver {address}\n").repeat(3);
        fs::write(at("resolv.conf"), servers + RESOLV_CONF).unwrap();
        let good = (0..100).map(good).collect::<Vec<_>>().join("\n127.0.0.1 ");
        fs::write(at("hosts"), format!("127.0.0.1 localhost\n127.0.0.1 {good}\n")).unwrap();
        fs::write(at("nsswitch.conf"), "hosts: files dns\n").unwrap();
        let mounts = ["resolv.conf", "hosts", "nsswitch.conf"]
            .map(|name| format!("mount --bind '{}' /etc/{name} && ", at(name)));
        let script = format!("{}exec \"$0\" \"$@\"", mounts.concat());
        let server = start(&dir.path().join("data"), &script);
        Self { server, _name_server: name_server, _dir: dir }
    }

    /// Stops the server and returns its exit code.
    fn stop(self) -> Option<i32> {
        self.server.stop().0
    }
}

/// False without root, and for root in a container that may not mount.
fn may_mount() -> bool {
    let probe = || Command::new("unshare").args(["--mount", "true"]).status();
    let may = is_root() && probe().is_ok_and(|status| status.success());
    if !may {
        eprintln!("skipped: only root may mount the files of a name server");
    }
    may
}

fn start(data: &Path, script: &str) -> Process {
    Process::try_start(data, DELIVERY, &["unshare", "--mount", "sh", "-c", script])
        .unwrap_or_else(|(status, log)| panic!("not ready: {status}\n{log}"))
}

/// A name server of this test alone, which never answers.
fn silent_name_server() -> UdpSocket {
    let mut addresses = (1..=u8::MAX).map(|last| format!("127.53.53.{last}:53"));
    addresses.find_map(|address| UdpSocket::bind(address).ok()).expect("an address is free")
}

fn good(number: u32) -> String {
    format!("good-{number}.example")
}

/// The URL of the receiver by another name.
fn by_name(receiver: &Receiver, name: &str) -> String {
    receiver.url().replace("127.0.0.1", name)
}

/// Creates endpoints whose names hang.
fn hanging(org: &Client, count: usize) -> Vec<String> {
    let endpoint = |number| {
        json!({
            "url": format!("http://h-{number}.slow.example/"), "event_types": ["slow"],
            "retry_schedule": [],
        })
    };
    (0..count).map(|number| org.endpoint(&endpoint(number))).collect()
}

#[test]
fn lookups_that_hang_hold_up_only_the_deliveries_of_their_organization() {
    if !may_mount() {
        return;
    }
    let scene = Unanswered::start();
    let server = &scene.server;
    let (evil, honest) = (server.org("Evil"), server.org("Honest"));
    // More than the threads of a runtime, so that lookups without a share would take them all.
    hanging(&evil, 600);
    assert_eq!(evil.send("slow", &json!(1)).status, 202);
    let (metric, hanging_at_once) = (|series| honest.metric(series), f64::from(LOOKUPS_EACH));
    let dns = "triggerd_delivery_attempts_total{result=\"dns\"}";
    until(|| (metric(dns) >= hanging_at_once).then_some(()));
    let (receiver, begun) = (Receiver::start().unwrap(), Instant::now());
    let mut sent = 0_u32;
    // Each event needs a lookup of its own. Meanwhile the others have time to take every thread.
    while sent < 20 || begun.elapsed() < Duration::from_secs(6) {
        let url = by_name(&receiver, &good(sent));
        let event_type = format!("good.{sent}");
        honest.endpoint(&json!({ "url": url, "event_types": [event_type] }));
        honest.send(&event_type, &json!(1));
        sent += 1;
        let received = receiver.wait_for(sent as usize, PATIENCE);
        assert_eq!(received.len(), sent as usize);
        std::thread::park_timeout(Duration::from_millis(200));
    }
    until(|| {
        (metric("triggerd_delivery_attempts_total{result=\"ok\"}") == f64::from(sent)).then_some(())
    });
    // A lookup that got no thread was no attempt, and makes no dead letter.
    assert_eq!(metric(dns), hanging_at_once);
    assert_eq!(metric("triggerd_deliveries_total{outcome=\"dead\"}"), hanging_at_once);
    assert_eq!(metric("triggerd_lookups_running"), hanging_at_once);
    receiver.stop();
    // Threads in a lookup do not hold up the end of the process.
    assert_eq!(scene.stop(), Some(0));
}

#[test]
fn lookups_of_tests_that_hang_take_no_thread_from_requests() {
    if !may_mount() {
        return;
    }
    let scene = Unanswered::start();
    let server = &scene.server;
    let (evil, honest) = (server.org("Evil"), server.org("Honest"));
    let id = honest.send("a", &json!(1)).id();
    let test = |org: &Client, endpoint: &str| {
        // Each connection may go to another worker.
        let path = format!("/api/endpoints/{endpoint}/test");
        org.request(Method::POST, &path, &[("Connection", "close")], "")
    };
    let answers: Vec<_> = hanging(&evil, 40).iter().map(|endpoint| test(&evil, endpoint)).collect();
    for _ in 0..8 {
        let inbox = honest.request(Method::GET, "/api/inbox", &[("Connection", "close")], "");
        assert_eq!(inbox.json["data"][0]["id"], id, "{inbox:?}");
    }
    let receiver = Receiver::start().unwrap();
    let endpoint = honest.endpoint(&json!({ "url": by_name(&receiver, &good(1)) }));
    assert_eq!(test(&honest, &endpoint).json["status"], 200);
    let (begun, refused) = answers.split_at(LOOKUPS_EACH.into());
    assert!(begun.iter().all(|answer| answer.json["error"]["code"] == "dns"), "{begun:?}");
    for answer in refused {
        assert_eq!((answer.status, answer.code()), (429, "rate_limited"), "{answer:?}");
        assert!(answer.json["detail"].as_str().unwrap().contains("name servers"), "{answer:?}");
    }
    receiver.stop();
}
