//! `triggerd status` as an operator sees it: of a healthy server, of one whose disk is short, of
//! one that delivers nothing, and of none.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::backups::{ask, restore, text};
use crate::harness::{Process, binary, command, settings, until};

/// Columns of the table.
const COLUMNS: usize = 80;

/// Runs the command without a configuration. Returns its exit code and outputs.
fn status(dir: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary());
    command.arg("status").args(words).current_dir(dir).env_clear().stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Returns the table of the server, whose lines are well formed, and the exit code.
#[track_caller]
fn table(dir: &Path, url: &str) -> (Option<i32>, String) {
    let (code, table, said) = status(dir, &["--url", url]);
    assert_eq!(said, "");
    for line in table.lines() {
        assert!(line.chars().count() <= COLUMNS, "too long: {line:?}\n{table}");
        assert!(!line.ends_with(' '), "{line:?}");
    }
    for name in ["server", "data", "events", "deliveries", "disk", "free", "full", "retention"] {
        let row = table.lines().find(|line| line.starts_with(&format!("  {name} ")));
        let row = row.unwrap_or_else(|| panic!("no row {name}:\n{table}"));
        let value = row.find(name).unwrap() + name.len();
        assert_eq!(value + row[value..].find(|c| c != ' ').unwrap(), 14, "not aligned: {row:?}");
    }
    assert!(!table.contains("unknown"), "{table}");
    (code, table)
}

fn as_json(dir: &Path, url: &str) -> (Option<i32>, Value) {
    let (code, json, _) = status(dir, &["--json", "--url", url]);
    assert_eq!(json.lines().count(), 1, "{json}");
    (code, serde_json::from_str(&json).unwrap())
}

#[test]
fn a_healthy_server_is_shown_without_a_key_and_without_a_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Acme");
    assert_eq!(org.send("a.b", &json!(1)).status, 202);
    until(|| (org.metric("triggerd_inbox_open_events") == 1.0).then_some(()));
    until(|| (org.metric("triggerd_disk_free_bytes") > 0.0).then_some(()));
    let (code, shown) = table(dir.path(), &server.url);
    assert_eq!(code, Some(0), "{shown}");
    for part in [
        "triggerd is healthy.",
        "1 stored, 1 in inboxes",
        "0 waiting, none overdue, 0 dead letters",
        "no open circuit breaker",
        "finished 30 days, unfinished 90 days",
        text(&data),
        env!("CARGO_PKG_VERSION"),
    ] {
        assert!(shown.contains(part), "no {part:?}:\n{shown}");
    }
    let (code, json) = as_json(dir.path(), &server.url);
    assert_eq!(
        (code, &json["status"], &json["problems"]),
        (Some(0), &json!("healthy"), &json!([]))
    );
    assert_eq!((&json["delivers"], &json["notices"]), (&json!(true), &json!([])), "{json}");
    assert_eq!((&json["events"]["stored"], &json["data_dir"]), (&json!(1), &json!(text(&data))));
    assert!(json["disk"]["journal_bytes"].is_u64() && json["disk"]["free_bytes"].is_u64());
    assert_eq!(json["retention"]["finished_seconds"], json!(2_592_000));
    assert_eq!(
        json["backup"],
        json!({"newest_at": null, "age_seconds": null, "has_failed": false, "every_seconds": 0})
    );
}

#[test]
fn a_server_that_does_not_answer_is_no_healthy_one() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (code, out, said) = status(dir.path(), &["--url", &address]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(said.contains(&address) && said.contains("No server listens"), "{said}");
}

#[test]
fn an_answer_of_another_program_is_not_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let endless = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // An answer before the request is none.
        assert!(stream.read(&mut [0; 1_024]).unwrap() > 0);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n\"";
        stream.write_all(head.as_bytes()).unwrap();
        let (piece, mut sent) = (vec![b'x'; 64 << 10], 0);
        while sent < 64 << 20 && stream.write_all(&piece).is_ok() {
            sent += piece.len();
        }
        sent
    });
    let (code, out, said) = status(dir.path(), &["--url", &address]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(said.contains("more than 1048576 bytes"), "{said}");
    assert!(endless.join().unwrap() < 16 << 20);
}

#[test]
fn a_short_disk_is_named_with_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = settings(&data, "");
    let server = Process::start_on(&data, &config);
    assert_eq!(server.stop().0, Some(0));
    let short = config.replace("reserve_bytes = 1", "reserve_bytes = 1099511627776");
    let server = Process::start_on(&data, &short);
    until(|| (server.admin().get("/health").status == 503).then_some(()));
    let (code, shown) = table(dir.path(), &server.url);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.starts_with("triggerd is UNHEALTHY.\n"), "{shown}");
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("! disk: the disk has less free space than the reserve"), "{shown}");
    assert!(words.contains("Free disk space, or lower finished_seconds"), "{shown}");
    assert!(shown.contains("full        now: "), "{shown}");
    let (code, json) = as_json(dir.path(), &server.url);
    assert_eq!((code, &json["status"]), (Some(1), &json!("unhealthy")));
    assert_eq!(json["disk"]["reserve_bytes"], json!(1_099_511_627_776_u64));
    let health = server.admin().get("/health").json;
    assert_eq!(health["disk"]["reserve_bytes"], json["disk"]["reserve_bytes"]);
    assert_eq!(json["problems"][0]["about"], "disk");
    assert!(json["problems"][0]["remedy"].as_str().unwrap().contains("[retention]"), "{json}");
}

#[test]
fn a_server_that_delivers_nothing_says_so_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let (data, target) = (dir.path().join("data"), dir.path().join("backups"));
    let server = Process::start(&data);
    let health = server.admin().get("/health").json;
    assert_eq!((&health["delivers"], &health["is_held"]), (&json!(true), &json!(false)));
    let (code, said) = ask(&server, &[text(&target)]);
    assert_eq!(code, Some(0), "{said}");
    let quiet = ["sh", "-c", "exec \"$0\" \"$@\" --no-deliver"];
    assert_eq!(server.stop().0, Some(0));
    let server = Process::try_start(&data, "", &quiet).map_err(|(_, log)| log).unwrap();
    assert_eq!(server.admin().get("/health").json["delivers"], false);
    assert_says(dir.path(), &server, "--no-deliver");
    assert_eq!(server.stop().0, Some(0));
    let held = dir.path().join("held");
    assert_eq!(restore(&data, &target, &held, &[]).0, Some(0));
    let server = Process::start(&held);
    let health = server.admin().get("/health").json;
    assert_eq!((&health["delivers"], &health["is_held"]), (&json!(false), &json!(true)));
    assert_says(dir.path(), &server, "`triggerd deliver on`");
    assert_eq!(server.stop().0, Some(0));
    assert_eq!(command(&held, &["deliver", "on"]).0, Some(0));
    let server = Process::start(&held);
    assert_eq!(as_json(dir.path(), &server.url).1["notices"], json!([]));
}

/// Asserts that the server is healthy and shown with a notice that has this part.
#[track_caller]
fn assert_says(dir: &Path, server: &Process, part: &str) {
    until(|| (server.admin().metric("triggerd_disk_free_bytes") > 0.0).then_some(()));
    let (code, shown) = table(dir, &server.url);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("nothing is delivered") && shown.contains(part), "{shown}");
    assert!(shown.contains("nothing is sent"), "{shown}");
}
