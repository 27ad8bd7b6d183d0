//! The data directory itself: harmed under the server, locked, used by somebody else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::harness::{Client, PATIENCE, command, settings, until};
use crate::limits::pipes::put_pipe;
use crate::operator::{Served, Start};

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
        let harms: [(&str, &dyn Fn()); 4] = [
            ("elsewhere now", &|| fs::rename(&path, &aside).unwrap()),
            ("was removed", &|| fs::remove_file(&path).unwrap()),
            ("was overwritten", &|| fs::write(&path, "other").unwrap()),
            ("was replaced", &|| put_pipe(&path)),
        ];
        for (says, harm) in harms {
            let says = says.replace("elsewhere", aside.to_str().unwrap());
            until(|| (health() == good).then_some(()));
            harm();
            until(|| (health() == bad).then_some(()));
            let line = until(|| server.lines(&says).pop());
            let text = line["message"].as_str().unwrap();
            assert!(line["level"] == "ERROR" && text.contains(path.to_str().unwrap()), "{line}");
            assert!(text.contains("the next start"), "{line}");
            assert_eq!(org.send("a.b", &json!(1)).status, 202, "the server goes on");
            assert_eq!(org.get("/health/ready").status, 200);
            if path.exists() {
                fs::remove_file(&path).unwrap();
            }
            fs::write(&path, &content).unwrap();
        }
        until(|| (health() == good).then_some(()));
    }
    assert_eq!(server.lines("is as it was again").len(), 8);
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
    // A fresh filesystem is free to use.
    let fresh = dir.path().join("fresh");
    fs::create_dir_all(fresh.join("lost+found")).unwrap();
    for _ in 0..2 {
        assert_eq!(Start::on(&fresh).ready().stop().0, Some(0));
    }
    // An existing data directory may hold any other files.
    fs::write(fresh.join("notes.txt"), "").unwrap();
    assert_eq!(Start::on(&fresh).ready().stop().0, Some(0));
}

#[test]
fn a_file_that_may_not_grow_is_a_full_disk_and_no_crash() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // Less than the smallest segment of the journal.
    let server = Start::on(&data).under(&["prlimit", "--fsize=65000"]).ready();
    let admin = server.admin();
    let refused = admin.post("/api/keys/generate", &json!({"organization": "Acme"}));
    assert_eq!((refused.status, refused.json["code"].as_str()), (507, Some("disk_full")));
    assert!(refused.json["detail"].as_str().unwrap().contains("LimitFSIZE="), "{refused:?}");
    let health = until(|| Some(admin.get("/health")).filter(|health| health.status == 503));
    assert_eq!(health.json["checks"]["disk"], "file_too_large", "{health:?}");
    assert_eq!(server.stop().0, Some(0));
}
