//! The log: its contents, its number of lines and its files are bounded.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Map, Value, json};
use triggerd::cli::demo::receiver::Receiver;

use super::address;
use crate::harness::{Process, settings, until};
use crate::operator::Start;

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
    let summary = server.lines("input arrived that is not HTTP").pop().unwrap();
    assert!(
        summary["count"].as_u64().unwrap() >= 1
            && summary["sample"].as_str().unwrap().contains("127.0.0.1"),
        "{summary}"
    );
}

#[test]
fn refusals_of_a_full_disk_and_wrong_keys_are_few_lines_however_many_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let plain = settings(&data, "");
    let server = Process::start_on(&data, &plain);
    let key = server.org("Acme").key;
    assert_eq!(server.stop().0, Some(0));
    let config = plain.replace("reserve_bytes = 1", "reserve_bytes = 1099511627776");
    let server = Start { config, ..Start::on(&data) }.ready();
    let org = server.admin().with_key(&key);
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
    // Each refusal is a line or is counted, however many there are in a second.
    until(|| {
        let lines = u32::try_from(server.text().lines().count() - before).unwrap();
        let counted = org.metric("triggerd_log_lines_left_out_total");
        (counted + f64::from(lines) >= 1_000.0).then_some(())
    });
    until(|| server.text().contains("lines were left out").then_some(()));
}

/// Asserts that one line has this text, all of these ids, and the client's address.
fn assert_has_line(log: &str, part: &str, ids: &[&str]) {
    let found = log.lines().any(|line| {
        let all = ids.iter().all(|id| line.contains(&format!("{id}\"")));
        line.contains(part) && all && line.contains("\"address\":\"127.0.0.1\"")
    });
    assert!(found, "{part} with {ids:?} is missing in\n{log}");
}

#[test]
fn who_made_and_ended_what_is_in_the_log_by_the_ids_that_users_know() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Start::on(&data).ready();
    let admin = server.admin();
    let made =
        admin.post("/api/keys/generate", &json!({"organization": "Acme", "tier": "free"})).json;
    let [org_id, key_id] = ["organization_id", "key_id"].map(|name| made[name].as_str().unwrap());
    let org = admin.with_key(made["key"].as_str().unwrap());
    let two = json!({"name": "two", "scopes": ["events:write"]});
    let second = org.post("/api/keys/generate", &two).json;
    let second_id = second["key_id"].as_str().unwrap();
    assert_eq!(org.delete(&format!("/api/keys/{second_id}")).status, 204);
    let endpoint = org.endpoint(&json!({"url": "http://127.0.0.1:9/x?token=canary"}));
    assert_eq!(org.delete(&format!("/api/endpoints/{endpoint}")).status, 204);
    org.push_to("http://127.0.0.1:9/y");
    let event = org.send("a.b", &json!(1)).id();
    assert_eq!(org.delete(&format!("/api/events/{event}")).status, 200);
    let replay = org.post("/api/replays", &json!({"only": "all"})).id();
    let rotated = org.post("/api/keys/rotate", &json!({"grace_seconds": 0})).json;
    let rotated_id = rotated["key_id"].as_str().unwrap();
    let wrong = format!("{}x", org.key);
    assert_eq!(admin.with_key(&wrong).get("/api/inbox").status, 401);
    let log = server.text();
    assert_has_line(&log, "an organization was created", &[org_id, "admin"]);
    assert_has_line(&log, "a key was created", &[org_id, key_id, "admin"]);
    assert_has_line(&log, "a key was created", &[org_id, second_id, key_id]);
    assert_has_line(&log, "a key was revoked", &[org_id, second_id, key_id]);
    assert_has_line(&log, "an endpoint was created", &[org_id, &endpoint, key_id]);
    assert_has_line(&log, "an endpoint was deleted", &[org_id, &endpoint, key_id]);
    assert_has_line(&log, "payload was erased", &[org_id, &event, key_id]);
    assert_has_line(&log, "a replay was started", &[org_id, &replay, key_id]);
    assert_has_line(&log, "a key was rotated", &[org_id, key_id]);
    assert_has_line(&log, "a key was created by rotation", &[org_id, rotated_id]);
    assert!(!log.contains("canary") && !log.contains("\"org\":0"), "{log}");
    assert!(log.contains("authentication failed"), "{log}");
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
    for (own, name, value, has_key, shown) in [
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
            (Some(has_key), shown),
            "{name}: {value}: {line}"
        );
    }
}

#[test]
fn who_is_refused_by_a_limit_is_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = settings(&data, "").replace("1000000", "1");
    let server = Start { config, ..Start::on(&data) }.ready();
    let org = server.admin().new_org("One");
    let refused = until(|| Some(org.send("a.b", &json!(1))).filter(|answer| answer.status != 202));
    assert_eq!((refused.status, refused.code()), (429, "rate_limited"), "{refused:?}");
    let line = until(|| server.lines("request refused").pop());
    assert!(line["code"] == "rate_limited" && line["address"] == "127.0.0.1", "{line}");
    assert!(line["message"] == "request refused" && line["request_id"].is_string(), "{line}");
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
