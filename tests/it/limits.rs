//! No client can exhaust the server: descriptors, inodes, the data directory itself, the log.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::harness::{binary, settings, until};
use crate::operator::{Served, Start, is_root};

#[path = "limits_data_dir.rs"]
mod data_dir;
#[path = "limits_log.rs"]
mod log;
#[path = "limits_pipes.rs"]
mod pipes;

/// The address in a server's URL.
fn address(server: &Served) -> String {
    server.url().strip_prefix("http://").unwrap().to_owned()
}

/// A filesystem in memory with few inodes, unmounted on drop.
pub(crate) struct Small(PathBuf);

impl Small {
    fn mount(dir: &Path, inodes: u32) -> Option<Self> {
        Self::mount_of(dir, &format!("size=200m,nr_inodes={inodes}"))
    }

    pub(crate) fn mount_of(dir: &Path, options: &str) -> Option<Self> {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(dir).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(dir.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn when_inodes_run_out_events_are_refused_for_that_reason_and_the_rest_goes_on() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("disk");
    fs::create_dir(&mount).unwrap();
    let Some(_small) = Small::mount(&mount, 200) else {
        println!("skipped: nothing can be mounted here");
        return;
    };
    let data = mount.join("data");
    let config =
        settings(&data, "").replace("reserve_bytes = 1", "reserve_bytes = 1\nreserve_files = 50");
    let server = Start { config, ..Start::on(&data) }.ready();
    let org = server.admin().new_org("Acme");
    let ids: Vec<_> = (0..20).map(|n| org.send("a.b", &json!(n)).id()).collect();
    let free = org.metric("triggerd_disk_free_files");
    assert!((50.0..200.0).contains(&free), "{free}");
    let ballast: Vec<PathBuf> =
        (0..).map(|n| mount.join(format!("ballast-{n}"))).take(1_000).collect();
    let made: Vec<_> = ballast.iter().take_while(|path| fs::write(path, "").is_ok()).collect();
    let refused = until(|| Some(org.send("a.b", &json!(1))).filter(|answer| answer.status == 507));
    assert!(refused.text.contains("inodes") && refused.code() == "disk_full", "{refused:?}");
    assert_eq!(org.get("/health").json["checks"]["disk"], "too_few_files");
    let said = until(|| server.lines("new events are refused").pop());
    assert!(said["cause"].as_str().unwrap().contains("inodes"), "{said}");
    // Requests that free space still work.
    for id in &ids {
        assert_eq!(org.ack(id).status, 200);
    }
    for path in made {
        fs::remove_file(path).unwrap();
    }
    until(|| (org.send("a.b", &json!(1)).status == 202).then_some(()));
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn connections_never_take_the_descriptors_that_the_journal_needs() {
    let dir = tempfile::tempdir().unwrap();
    for (name, limits, raised) in
        [("soft", "ulimit -Sn 64", true), ("hard", "ulimit -n 256", false)]
    {
        let data = dir.path().join(name);
        let script = format!("{limits}; exec \"$0\" \"$@\"");
        let wrapper = ["sh", "-c", &script];
        let config =
            settings(&data, "").replace("segment_bytes = 1048576", "segment_bytes = 65536");
        let server = Start { config, ..Start::on(&data) }.under(&wrapper).ready();
        let said = server.text().contains("LimitNOFILE=");
        assert_eq!(said, !raised, "{name}: {}", server.text());
        let org = server.admin().new_org("Acme");
        // More idle connections than the server accepts; the kernel keeps the others.
        let idle: Vec<_> =
            (0..400).filter_map(|_| TcpStream::connect(address(&server)).ok()).collect();
        assert_eq!(idle.len(), 400);
        let payload = json!("x".repeat(40_000));
        drop(idle.into_iter().skip(100).collect::<Vec<_>>());
        for _ in 0..20 {
            // One or two of these events fill a segment.
            let sent = until(|| {
                let body = json!({"type": "a.b", "payload": payload}).to_string();
                let headers = [("Content-Type", "application/json")];
                org.try_request(reqwest::Method::POST, "/api/events", &headers, body).ok()
            });
            assert_eq!(sent.status, 202, "{name}: {sent:?}");
        }
        assert!(fs::read_dir(data.join("journal")).unwrap().count() >= 10);
        let (code, text) = server.stop();
        assert_eq!(code, Some(0), "{name}: {text}");
        assert!(!text.contains("fatal"), "{name}: {text}");
    }
}

#[test]
fn a_limit_of_descriptors_that_the_threads_do_not_fit_in_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    for (limit, workers) in [(20, 1), (256, 64), (2_000, 512)] {
        let data = dir.path().join(limit.to_string());
        let config =
            settings(&data, "").replace("[server]", &format!("[server]\nworkers = {workers}"));
        fs::write(data.with_extension("toml"), config).unwrap();
        let script = format!("ulimit -n {limit}; exec \"$0\" serve --config \"$1\"");
        let output = Command::new("sh")
            .arg("-c")
            .arg(script)
            .arg(binary())
            .arg(data.with_extension("toml"))
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{limit}: {text}");
        assert!(
            text.contains("LimitNOFILE=") && text.contains("[server] workers"),
            "{limit}: {text}"
        );
        assert!(!text.contains("panicked"), "{limit}: {text}");
    }
}

/// Number of the process's threads for blocking work.
fn blocking_threads(server: &Served) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
    let name =
        |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.filter(|task| name(task.as_ref().unwrap()).starts_with("tokio-r")).count()
}

#[test]
fn a_large_event_is_read_where_it_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content_type, large) in [
        ("own", "application/json", json!({"type": "a.b", "payload": "x".repeat(100_000)})),
        (
            "structured",
            "application/cloudevents+json",
            json!({"specversion": "1.0", "id": "1", "source": "/x", "type": "a.b",
            "data_base64": "AAAA".repeat(60_000)}),
        ),
    ] {
        let data = dir.path().join(name);
        let server = Start::on(&data).ready();
        let org = server.admin().new_org("Acme");
        assert_eq!(org.send("a.b", &json!(1)).status, 202);
        assert_eq!(blocking_threads(&server), 0, "{name}: a small one is read at once");
        let headers = [("Content-Type", content_type)];
        let sent = org.request(reqwest::Method::POST, "/api/events", &headers, large.to_string());
        assert_eq!(sent.status, 202, "{name}: {sent:?}");
        assert_eq!(blocking_threads(&server), 1, "{name}");
    }
}

#[test]
fn a_batch_costs_no_more_than_its_events_however_large_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = settings(&data, "").replace("= 1000000\nburst = 1000000", "= 1\nburst = 10000");
    let server = Start { config, ..Start::on(&data) }.ready();
    let org = server.admin().new_org("Acme");
    let event = json!({"specversion": "1.0", "id": "1", "source": "/x", "type": "a.b",
    "data_base64": "AAAA".repeat(87_000)});
    let batch = json!(vec![event; 23]).to_string();
    assert!(batch.len() > 30 * 262_144, "much longer than so many payloads");
    let headers = [("Content-Type", "application/cloudevents-batch+json")];
    let sent = org.request(reqwest::Method::POST, "/api/events/batch", &headers, batch);
    assert_eq!(sent.status, 200, "{sent:?}");
    let left: u64 = sent.header("x-ratelimit-remaining").parse().unwrap();
    assert!((10_000 - 23..10_000).contains(&left), "{left} of 10,000 are left after 23");
}

#[test]
fn with_few_descriptors_one_organization_still_gets_a_part_of_the_attempts_only() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Start::on(&data).under(&["sh", "-c", "ulimit -n 400; exec \"$0\" \"$@\""]).ready();
    let line = server.lines("the limit of open files is too low").pop().unwrap();
    let number = |name: &str| line[name].as_u64().unwrap_or(u64::MAX);
    // By default it is a sixteenth.
    let (all, part) = (number("max_in_flight"), number("max_in_flight_per_org"));
    assert!(all < 1_024 && part >= 1 && part <= all / 16, "{line}");
    assert!((1..=part).contains(&number("max_in_flight_per_endpoint")), "{line}");
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_start_warns_when_every_address_is_a_trusted_proxy() {
    let dir = tempfile::tempdir().unwrap();
    for (name, network) in [("four", "0.0.0.0/0"), ("six", "::/0"), ("some", "10.0.0.0/8")] {
        let data = dir.path().join(name);
        let line = format!("[server]\ntrusted_proxies = [\"{network}\"]\n");
        let config = settings(&data, "").replace("[server]\n", &line);
        let server = Start { config, ..Start::on(&data) }.ready();
        assert_eq!(server.stop().0, Some(0));
        let warned = fs::read_to_string(data.with_extension("log")).unwrap();
        assert_eq!(warned.contains("names every address"), name != "some", "{warned}");
    }
}
