//! No client can exhaust the server: descriptors, inodes, the data directory itself, the log.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};
use triggerd::cli::demo::receiver::Receiver;

use crate::harness::{Client, PATIENCE, binary, command, settings, until};
use crate::operator::{Served, Start, is_root};

/// The address in a server's URL.
fn address(server: &Served) -> String {
    server.url().strip_prefix("http://").unwrap().to_owned()
}

/// Damages a data directory.
type Harm = fn(&Path);

/// The journal's segments, oldest first.
fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = entries.collect();
    segments.sort();
    segments
}

fn set_len(path: &Path, len: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// Name of the damage, the damage, and a part of the last error.
const HARMS: [(&str, Harm, &str); 10] = [
    (
        "removed",
        |data| fs::remove_dir_all(data).unwrap(),
        "would otherwise make an empty data directory",
    ),
    (
        "renamed",
        |data| fs::rename(data, data.with_extension("elsewhere")).unwrap(),
        "Nothing is lost",
    ),
    (
        "no-journal",
        |data| fs::remove_dir_all(data.join("journal")).unwrap(),
        "no start succeeds without the journal",
    ),
    (
        "journal",
        |data| fs::rename(data.join("journal"), data.join("elsewhere")).unwrap(),
        "Nothing is lost",
    ),
    (
        "replaced",
        |data| {
            fs::rename(data, data.with_extension("old")).unwrap();
            assert!(
                Command::new("cp")
                    .arg("-a")
                    .arg(data.with_extension("old"))
                    .arg(data)
                    .status()
                    .unwrap()
                    .success()
            );
        },
        "Nothing is lost",
    ),
    ("last-cut", |data| set_len(segments(data).last().unwrap(), 0), "bytes long, but was made"),
    ("first-cut", |data| set_len(&segments(data)[0], 1_000), "1000 bytes long, but was made"),
    (
        "last-gone",
        |data| fs::remove_file(segments(data).last().unwrap()).unwrap(),
        "lost but for a backup",
    ),
    ("first-gone", |data| fs::remove_file(&segments(data)[0]).unwrap(), "lost but for a backup"),
    (
        "first-replaced",
        |data| {
            let (first, copy) = (&segments(data)[0], data.join("copy"));
            fs::copy(first, &copy).unwrap();
            fs::rename(copy, first).unwrap();
        },
        "lost but for a backup",
    ),
];

/// Damages the data directory; returns the last error in the log.
fn last_words(data: &Path, mut server: Served, org: &Client, harm: Harm) -> String {
    harm(data);
    let mut said = (false, false);
    let began = std::time::Instant::now();
    while server.child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < PATIENCE, "it goes on: {}", server.text());
        let event = org.try_request(
            reqwest::Method::POST,
            "/api/events",
            &[("Content-Type", "application/json")],
            r#"{"type":"a.b","payload":1}"#,
        );
        said.0 |= event.is_ok_and(|answer| answer.status == 503);
        let health = org.try_request(reqwest::Method::GET, "/health", &[], "");
        said.1 |= health.is_ok_and(|answer| {
            answer.status == 503 && answer.json["checks"]["data_dir"] == "lost"
        });
    }
    let text = server.text();
    assert_eq!(said, (true, true), "clients and probes are told: {text}");
    assert_eq!(server.child.wait().unwrap().code(), Some(70), "{text}");
    assert!(!text.contains("continues with the journal"), "{text}");
    server.lines("\"fatal").pop().unwrap()["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_data_directory_that_goes_or_is_changed_is_noticed_said_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    for (name, harm, says) in HARMS {
        let data = dir.path().join(name);
        let config =
            settings(&data, "").replace("segment_bytes = 1048576", "segment_bytes = 65536");
        let server = Start { config, ..Start::on(&data) }.ready();
        let org = server.admin().new_org("Acme");
        let payload = json!("x".repeat(10_000));
        (0..20).for_each(|_| assert_eq!(org.send("a.b", &payload).status, 202));
        assert_eq!(org.get("/health").json["checks"]["data_dir"], "ok");
        // A reader of the directory causes no loss.
        let copy = dir.path().join(format!("{name}.copy"));
        assert!(Command::new("cp").arg("-a").arg(&data).arg(&copy).status().unwrap().success());
        let reason = last_words(&data, server, &org, harm);
        assert!(
            reason.contains(data.to_str().unwrap()) && reason.contains(says),
            "{name}: {reason}"
        );
    }
}

#[test]
fn a_file_that_only_a_start_needs_is_missed_in_a_second_and_the_server_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Start::on(&data).ready();
    let org = server.admin().new_org("Acme");
    let health = || {
        let answer = org.get("/health");
        (answer.status, answer.json["checks"]["data_dir"].as_str().unwrap().to_owned())
    };
    let (good, bad) = ((200, "ok".to_owned()), (503, "incomplete".to_owned()));
    for name in ["secrets.key", "FORMAT"] {
        let (path, aside) = (data.join(name), dir.path().join(name));
        let content = fs::read_to_string(&path).unwrap();
        let harms: [(&str, &dyn Fn()); 3] = [
            ("elsewhere now", &|| fs::rename(&path, &aside).unwrap()),
            ("was removed", &|| fs::remove_file(&path).unwrap()),
            ("was overwritten", &|| fs::write(&path, "other").unwrap()),
        ];
        for (says, harm) in harms {
            let says = says.replace("elsewhere", aside.to_str().unwrap());
            until(|| (health() == good).then_some(()));
            harm();
            until(|| (health() == bad).then_some(()));
            let told = until(|| server.lines(&says).pop());
            let text = told["message"].as_str().unwrap();
            assert!(told["level"] == "ERROR" && text.contains(path.to_str().unwrap()), "{told}");
            assert!(text.contains("the next start"), "{told}");
            assert_eq!(org.send("a.b", &json!(1)).status, 202, "the server goes on");
            assert_eq!(org.get("/health/ready").status, 200);
            fs::write(&path, &content).unwrap();
        }
        until(|| (health() == good).then_some(()));
    }
    assert_eq!(server.lines("is as it was again").len(), 6);
    fs::set_permissions(data.join("secrets.key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(server.stop().0, Some(0));
    assert_eq!(Start::on(&data).ready().stop().0, Some(0));
}

/// Starts a server that logs this text and ends; returns its exit code and its log.
fn refused(start: Start<'_>, says: &str) -> (Option<i32>, String) {
    let mut served = start.spawn();
    until(|| {
        (served.text().contains(says) || served.text().contains("triggerd is ready")).then_some(())
    });
    assert!(!served.text().contains("triggerd is ready"), "it started");
    (served.child.wait().unwrap().code(), served.text())
}

#[test]
fn a_lock_file_that_goes_lets_no_second_server_in() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Start::on(&data).ready();
    let org = server.admin().new_org("Acme");
    let second = dir.path().join("second");
    fs::remove_file(data.join("LOCK")).unwrap();
    let in_use = "is in use by another triggerd";
    assert_eq!(
        refused(Start { config: settings(&data, ""), ..Start::on(&second) }, in_use).0,
        Some(4)
    );
    for words in [["verify"], ["rebuild"]] {
        fs::remove_file(data.join("LOCK")).ok();
        let (code, text) = command(&second, &words);
        assert!(code == Some(4) && text.contains(in_use), "{words:?}: {text}");
    }
    assert_eq!(org.send("a.b", &json!(1)).status, 202, "the first goes on");
    assert_eq!(server.stop().0, Some(0));
    assert_eq!(Start::on(&data).ready().stop().0, Some(0));
}

#[test]
fn a_directory_that_somebody_else_uses_is_refused_and_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    for name in [".bashrc", "Letters", "Music", "notes.txt", "photo.jpg", "thesis.pdf", "todo.txt"]
    {
        fs::write(home.join(name), "").unwrap();
    }
    let says = format!("{} is not a data directory of triggerd", home.display());
    let (serve, rebuild) = (refused(Start::on(&home), &says), command(&home, &["rebuild"]));
    for (code, text) in [serve, rebuild] {
        assert_eq!(code, Some(2), "{text}");
        assert!(
            text.contains(&says)
                && text.contains(".bashrc, Letters, Music")
                && text.contains("2 more"),
            "{text}"
        );
    }
    assert_eq!(fs::read_dir(&home).unwrap().count(), 7, "something was made in it");
    // A fresh filesystem is free to use, and logs may be beside the data.
    let fresh = dir.path().join("fresh");
    fs::create_dir_all(fresh.join("lost+found")).unwrap();
    let config = format!("[log]\ndirectory = {:?}\n", fresh.join("logs").display().to_string());
    for _ in 0..2 {
        assert_eq!(Start::on(&fresh).config(&config).ready().stop().0, Some(0));
    }
    // An existing data directory may hold any other files.
    fs::write(fresh.join("notes.txt"), "").unwrap();
    assert_eq!(Start::on(&fresh).config(&config).ready().stop().0, Some(0));
}

#[test]
fn the_log_has_numbers_for_figures_words_for_words_and_no_path_of_a_build() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut lines = Vec::new();
    for _ in 0..2 {
        let server = Start::on(&data).config("[log]\nlevel = \"trace,sled=trace\"\n").ready();
        let org = server.admin().new_org("Acme");
        let receiver = Receiver::start().unwrap();
        receiver.answer_next([410]);
        org.push_to(&receiver.url());
        org.send("a.b", &json!(1));
        until(|| server.text().contains("the delivery is a dead letter").then_some(()));
        let (code, text) = server.stop();
        assert_eq!(code, Some(0));
        lines.extend(
            text.lines().map(|line| serde_json::from_str::<Map<String, Value>>(line).unwrap()),
        );
        receiver.stop();
    }
    let is_figure =
        |name: &str| ["_ms", "_us", "_seconds", "_bytes"].iter().any(|unit| name.ends_with(unit));
    for (name, value) in lines.iter().flatten() {
        assert!(!is_figure(name) || value.is_number(), "{name} is {value}");
        assert!(!name.starts_with("log."), "{name} is {value}");
        let text = value.as_str().unwrap_or_default();
        let is_quoted = text.len() > 1 && text.starts_with('"') && text.ends_with('"');
        assert!(!is_quoted && !text.contains("/.cargo/"), "{name} is {value}");
    }
    let says = |name: &str, value: Value| lines.iter().any(|line| line.get(name) == Some(&value));
    let is_of_sled = |line: &Map<String, Value>| {
        line["target"].as_str().is_some_and(|target| target.starts_with("sled"))
    };
    assert!(lines.iter().any(is_of_sled), "libraries are heard at this level");
    assert!(says("name", json!("Acme")) && says("reason", json!("gone")));
    assert!(lines.iter().any(|line| line.contains_key("took_ms")));
}

/// A filesystem in memory with few inodes, unmounted on drop.
struct Small(PathBuf);

impl Small {
    fn mount(dir: &Path, inodes: u32) -> Option<Self> {
        let options = format!("size=200m,nr_inodes={inodes}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(dir).status();
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
        settings(&data, "").replace("reserve_bytes = 0", "reserve_bytes = 0\nreserve_files = 50");
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

/// Sends bytes that are not HTTP on a connection of their own.
fn garbage(address: &str, bytes: &[u8]) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    drop(stream.set_read_timeout(Some(Duration::from_secs(1))));
    if stream.write_all(bytes).is_ok() {
        drop(stream.read(&mut [0; 256]));
    }
}

#[test]
fn what_is_no_http_is_a_line_a_second_at_most_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Start::on(&data).ready();
    let org = server.admin().new_org("Acme");
    let before = server.text().lines().count();
    let began = std::time::Instant::now();
    // A TLS hello, random bytes, and an invalid request.
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 300]].concat();
    for _ in 0..200 {
        garbage(&address(&server), &hello);
        garbage(&address(&server), b"\x00\x01\x02\x03\r\n\r\n");
        garbage(&address(&server), b"GET / HTTP/9.9\r\n\r\n");
    }
    until(|| (org.metric("triggerd_http_malformed_total") >= 400.0).then_some(()));
    until(|| server.text().contains("input arrived that is not HTTP").then_some(()));
    let lines: Vec<_> = server.text().lines().skip(before).map(str::to_owned).collect();
    let most = usize::try_from(began.elapsed().as_secs()).unwrap() * 3 + 6;
    assert!(lines.len() <= most, "{} lines:\n{}", lines.len(), lines.join("\n"));
    assert!(lines.iter().all(|line| !line.contains("\"ERROR\"")), "{}", lines.join("\n"));
    let told = server.lines("input arrived that is not HTTP").pop().unwrap();
    assert!(
        told["count"].as_u64().unwrap() >= 1
            && told["sample"].as_str().unwrap().contains("127.0.0.1"),
        "{told}"
    );
}

#[test]
fn refusals_of_a_full_disk_and_wrong_keys_are_few_lines_however_many_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = settings(&data, "").replace("reserve_bytes = 0", "reserve_bytes = 1099511627776");
    let server = Start { config, ..Start::on(&data) }.ready();
    let org = server.admin().new_org("Acme");
    let (before, began) = (server.text().lines().count(), std::time::Instant::now());
    (0..500).for_each(|_| assert_eq!(org.send("a.b", &json!(1)).status, 507));
    let wrong = org.with_key("trgd_wrong");
    (0..500).for_each(|_| assert_eq!(wrong.get("/api/inbox").status, 401));
    let lines = server.text().lines().count() - before;
    let most = usize::try_from(began.elapsed().as_secs()).unwrap() * 16 + 24;
    assert!(lines <= most, "{lines} lines in {:?}:\n{}", began.elapsed(), server.text());
    let refused = server.lines("request refused").remove(0);
    assert!(refused["address"] == "127.0.0.1" && refused["code"] == "disk_full", "{refused}");
    let failed = server.lines("authentication failed").remove(0);
    assert!(failed["address"] == "127.0.0.1" && failed["route"] == "/api/inbox", "{failed}");
    until(|| (org.metric("triggerd_log_lines_left_out_total") >= 500.0).then_some(()));
    until(|| server.text().contains("lines were left out").then_some(()));
}

#[test]
fn who_made_and_ended_what_is_in_the_log_by_the_ids_that_users_know() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Start::on(&data).ready();
    let admin = server.admin();
    let made =
        admin.post("/api/keys/generate", &json!({"organization": "Acme", "tier": "free"})).json;
    let (org_id, key_id) =
        (made["organization_id"].as_str().unwrap(), made["key_id"].as_str().unwrap());
    let org = admin.with_key(made["key"].as_str().unwrap());
    let second =
        org.post("/api/keys/generate", &json!({"name": "two", "scopes": ["events:write"]})).json;
    let second_id = second["key_id"].as_str().unwrap();
    assert_eq!(org.delete(&format!("/api/keys/{second_id}")).status, 204);
    let endpoint =
        org.post("/api/endpoints", &json!({"url": "http://127.0.0.1:9/x?token=canary"})).id();
    assert_eq!(org.delete(&format!("/api/endpoints/{endpoint}")).status, 204);
    org.push_to("http://127.0.0.1:9/y");
    let event = org.send("a.b", &json!(1)).id();
    assert_eq!(org.delete(&format!("/api/events/{event}")).status, 200);
    let replay = org.post("/api/replays", &json!({"only": "all"})).id();
    let rotated = org.post("/api/keys/rotate", &json!({"grace_seconds": 0})).json;
    let rotated_id = rotated["key_id"].as_str().unwrap();
    let wrong = format!("{}x", &made["key"].as_str().unwrap());
    assert_eq!(admin.with_key(&wrong).get("/api/inbox").status, 401);
    let text = server.text();
    for (part, ids) in [
        ("an organization was created", vec![org_id, "admin"]),
        ("a key was created", vec![org_id, key_id, "admin"]),
        ("a key was created", vec![org_id, second_id, key_id]),
        ("a key was revoked", vec![org_id, second_id, key_id]),
        ("an endpoint was created", vec![org_id, &endpoint, key_id]),
        ("an endpoint was deleted", vec![org_id, &endpoint, key_id]),
        ("payload was erased", vec![org_id, &event, key_id]),
        ("a replay was started", vec![org_id, &replay, key_id]),
        ("a key was rotated", vec![org_id, key_id]),
        ("a key was created by rotation", vec![org_id, rotated_id]),
    ] {
        let found = text.lines().any(|line| {
            let all = ids.iter().all(|id| line.contains(&format!("{id}\"")));
            line.contains(part) && all && line.contains("\"address\":\"127.0.0.1\"")
        });
        assert!(found, "{part} with {ids:?} is missing in\n{text}");
    }
    assert!(!text.contains("canary") && !text.contains("\"org\":0"), "{text}");
    assert!(text.contains("authentication failed"), "{text}");
}

#[test]
fn what_failed_to_authenticate_is_told_as_it_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Start::on(&data).ready();
    let org = server.admin().new_org("Acme");
    let ended =
        org.post("/api/keys/generate", &json!({"name": "two", "scopes": ["events:write"]})).json;
    let (id, key) = (ended["key_id"].as_str().unwrap(), ended["key"].as_str().unwrap());
    assert_eq!(org.delete(&format!("/api/keys/{id}")).status, 204);
    let bearer = format!("bearer\t{key}");
    for (own, name, value, has_key, told) in [
        // The proxy's own credential is no API key.
        ("", "Authorization", "Basic dHJpZ2dlcjpk", false, None),
        ("nonsense", "X-API-Key", key, true, Some(id)),
        ("", "Authorization", &bearer, true, Some(id)),
        ("nonsense", "Authorization", "Basic dHJpZ2dlcjpk", true, None),
    ] {
        let count = server.lines("authentication failed").len();
        let refused =
            org.with_key(own).request(reqwest::Method::GET, "/api/inbox", &[(name, value)], "");
        assert_eq!(refused.status, 401, "{name}: {value}");
        let line = until(|| server.lines("authentication failed").get(count).cloned());
        assert_eq!(
            (line["has_key"].as_bool(), line["key"].as_str()),
            (Some(has_key), told),
            "{name}: {value}: {line}"
        );
    }
}

#[test]
fn who_is_refused_because_the_server_is_busy_is_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let more =
        "[intake]\nqueue_bytes = 262144\nbatch_bytes_max = 262144\nevent_bytes_max = 65536\n";
    let server = Start::on(&data).config(more).ready();
    let org = server.admin().new_org("One");
    // The body is as large as the organization's share and does not end.
    let unfinished = format!(
        "POST /api/events/batch HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\nContent-Type: \
         application/json\r\nContent-Length: 131073\r\n\r\n{}",
        org.key,
        " ".repeat(131_072)
    );
    let mut stream = TcpStream::connect(address(&server)).unwrap();
    stream.write_all(unfinished.as_bytes()).unwrap();
    let payload = json!("x".repeat(10_000));
    let refused = until(|| Some(org.send("a.b", &payload)).filter(|answer| answer.status != 202));
    assert_eq!((refused.status, refused.code()), (429, "rate_limited"), "{refused:?}");
    let line = until(|| server.lines("request refused").pop());
    assert!(line["code"] == "rate_limited" && line["address"] == "127.0.0.1", "{line}");
    assert!(line["message"] == "request refused" && line["request_id"].is_string(), "{line}");
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
fn log_files_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let logs = dir.path().join("logs");
    let more = format!(
        "[log]\nlevel = \"debug\"\nfile_bytes_max = 65536\nfiles_max = 3\ndirectory = {:?}\n",
        logs.display().to_string()
    );
    let server = Start::on(&data).config(&more).ready();
    let org = server.admin().new_org("Acme");
    for _ in 0..1_500 {
        org.get("/api/inbox");
        let files: Vec<_> = fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap()).collect();
        let bytes: u64 =
            files.iter().filter_map(|entry| entry.metadata().ok()).map(|facts| facts.len()).sum();
        assert!(files.len() <= 4 && bytes <= 4 * 65_536, "{} files, {bytes} bytes", files.len());
    }
    assert_eq!(server.stop().0, Some(0));
    let left = fs::read_dir(&logs).unwrap().count();
    assert!((2..=3).contains(&left), "{left} files");
}
