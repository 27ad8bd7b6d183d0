//! Snapshots: a lost state comes back from the newest whole one, in an original and in a copy;
//! `verify` and `rebuild` know them; what is torn is never believed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Client, Process, command, settings, until};

/// Settings of a server that takes a snapshot for each 64 KiB of the journal, and logs to a file.
fn often(data: &Path, grace_seconds: u32) -> String {
    let logs = data.with_file_name("logs");
    let more = format!(
        "[retention]\ngrace_seconds = {grace_seconds}\n[log]\nformat = \"json\"\n\
         directory = {:?}\n",
        logs.display().to_string()
    );
    settings(data, &more).replace("[storage]", "[storage]\nsnapshot_bytes = 65536")
}

fn log_of(data: &Path) -> String {
    let files = fs::read_dir(data.with_file_name("logs")).unwrap();
    files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

/// The snapshots on disk, the oldest first.
fn snapshots(data: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        names.filter(|path| path.extension().is_some_and(|ext| ext == "snap")).collect();
    found.sort();
    found
}

/// Sends events until there is another snapshot. Returns the ids of the events.
fn until_the_next(data: &Path, org: &Client) -> Vec<String> {
    let (before, mut ids) = (snapshots(data).last().cloned(), Vec::new());
    while snapshots(data).last() == before.as_ref() {
        ids.push(org.send("a", &json!("x".repeat(2_000))).id());
        assert!(ids.len() < 20_000, "no snapshot is taken");
    }
    ids
}

/// A data directory with events and at least this many snapshots, of a server that was killed.
fn filled(data: &Path, count: usize) -> (String, Vec<String>) {
    let server = Process::start_on(data, &often(data, 3_600));
    let org = server.org("Acme");
    let mut ids = Vec::new();
    while snapshots(data).len() < count {
        ids.extend(until_the_next(data, &org));
    }
    ids.extend((0..5).map(|_| org.send("a", &json!(1)).id()));
    server.kill();
    (org.key, ids)
}

/// All pages of `GET /api/events`, the newest event first.
fn all_events(org: &Client) -> Vec<String> {
    let (mut ids, mut path) = (Vec::new(), "/api/events?limit=100".to_owned());
    loop {
        let page = org.get(&path);
        assert_eq!(page.status, 200, "{page:?}");
        let data = page.json["data"].as_array().unwrap();
        ids.extend(data.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        if page.json["has_more"] == json!(false) {
            return ids;
        }
        let cursor = page.json["next_cursor"].as_str().unwrap();
        path = format!("/api/events?limit=100&cursor={cursor}");
    }
}

fn report(data: &Path) -> (Option<i32>, Value, String) {
    let (code, text) = command(data, &["verify", "--json"]);
    (code, serde_json::from_str(&text).unwrap_or_default(), text)
}

fn results(report: &Value) -> Vec<&str> {
    let found = report["snapshots"].as_array().unwrap();
    found.iter().map(|snapshot| snapshot["result"].as_str().unwrap()).collect()
}

#[test]
fn a_lost_state_comes_back_from_the_newest_whole_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (key, ids) = filled(&data, 2);
    let (code, found, text) = report(&data);
    assert_eq!(code, Some(0), "{text}");
    assert!(results(&found).iter().all(|result| *result == "equal"), "{text}");
    fs::remove_dir_all(data.join("sled")).unwrap();
    let newest = snapshots(&data).pop().unwrap();
    let server = Process::start_on(&data, &often(&data, 3_600));
    assert_eq!(Client::new(&server.url, &key).inbox_ids(), ids);
    let log = log_of(&data);
    let position: u64 = newest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let loaded = format!("\"position\":{position}");
    let line = log.lines().find(|line| line.contains("the snapshot is loaded")).unwrap();
    assert!(line.contains(&loaded), "{line}");
    until(|| (server.admin().metric("triggerd_snapshot_rows") > 0.0).then_some(()));
    assert_eq!(server.stop().0, Some(0));
    let (code, _, text) = report(&data);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_state_that_a_killed_start_left_behind_the_newest_snapshot_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (key, ids) = filled(&data, 1);
    fs::remove_dir_all(data.join("sled")).unwrap();
    // A start that is killed before it loads the snapshot leaves such a state: valid, and empty.
    let failpoint = ["env", "TRIGGERD_FAILPOINTS=rebuild_off"];
    let ready = Process::spawn(&data, &often(&data, 3_600), &failpoint).ready();
    ready.unwrap_or_else(|(status, log)| panic!("{status}\n{log}")).kill();
    let server = Process::start_on(&data, &often(&data, 3_600));
    assert_eq!(Client::new(&server.url, &key).inbox_ids(), ids);
    let log = log_of(&data);
    assert!(log.contains("the state is older than the newest snapshot"), "{log}");
}

#[test]
fn a_torn_snapshot_is_passed_over_reported_by_verify_and_deleted_by_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (key, ids) = filled(&data, 2);
    let newest = snapshots(&data).pop().unwrap();
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() - 20]).unwrap();
    fs::remove_dir_all(data.join("sled")).unwrap();
    let server = Process::start_on(&data, &often(&data, 3_600));
    assert_eq!(Client::new(&server.url, &key).inbox_ids(), ids);
    let log = log_of(&data);
    assert!(log.contains("a snapshot is damaged and passed over"), "{log}");
    let loaded = |path: &Path| {
        let position: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        format!("\"position\":{position}")
    };
    let line = log.lines().find(|line| line.contains("the snapshot is loaded")).unwrap();
    assert!(!line.contains(&loaded(&newest)), "{line}");
    server.kill();
    let (code, found, text) = report(&data);
    assert_eq!(code, Some(3), "{text}");
    assert!(results(&found).contains(&"damaged"), "{text}");
    let (code, text) = command(&data, &["rebuild"]);
    assert!(code == Some(0) && !newest.exists(), "{text}");
    let (code, _, text) = report(&data);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = command(&data, &["rebuild", "--from-start"]);
    assert!(code == Some(0) && snapshots(&data).is_empty(), "{text}");
    let server = Process::start(&data);
    assert_eq!(Client::new(&server.url, &key).inbox_ids(), ids);
}

#[test]
fn a_snapshot_ahead_of_the_journal_is_a_loss_in_an_original_and_none_in_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let server = Process::start_on(&data, &often(&data, 3_600));
    let org = server.org("Acme");
    let first = until_the_next(&data, &org);
    // A copy that read the segments before the snapshots: the newest one is of a later position.
    let copied = Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap();
    assert!(copied.success());
    until_the_next(&data, &org);
    let ahead = snapshots(&data).pop().unwrap();
    let in_copy = copy.join("journal").join(ahead.file_name().unwrap());
    fs::copy(&ahead, &in_copy).unwrap();
    fs::write(copy.with_extension("toml"), settings(&copy, "")).unwrap();
    let (code, found, text) = report(&copy);
    assert!(code == Some(0) && results(&found).contains(&"ahead"), "{text}");
    let started = Process::start(&copy);
    let kept = Client::new(&started.url, &org.key).inbox_ids();
    assert_eq!(kept, first, "everything that was posted before the copy, once");
    assert!(!in_copy.exists(), "its journal goes on in another way");
    assert_eq!(started.stop().0, Some(0));
    assert_eq!(server.stop().0, Some(0));
    // The original with the journal of before: its end is missing.
    let lost = dir.path().join("lost");
    assert_eq!(Process::start(&lost).stop().0, Some(0));
    fs::copy(&ahead, lost.join("journal").join(ahead.file_name().unwrap())).unwrap();
    let (status, log) = Process::try_start(&lost, "", &[]).err().unwrap();
    assert!(status.code() == Some(3) && log.contains("but the snapshot"), "{log}");
    let (code, _, text) = report(&lost);
    assert!(code == Some(3) && text.contains("ahead"), "{text}");
    let (code, text) = command(&lost, &["rebuild"]);
    assert!(code == Some(3) && text.contains("--skip-damaged"), "{text}");
    let (code, text) = command(&lost, &["rebuild", "--skip-damaged"]);
    assert!(code == Some(0) && snapshots(&lost).is_empty(), "{text}");
    assert!(lost.join("journal-damaged-1").join(ahead.file_name().unwrap()).exists());
    assert_eq!(Process::start(&lost).stop().0, Some(0));
}

/// Copies the data directory: the journal's directory is read once, and its files one by one, from
/// either end, while snapshots come and the journal grows. Returns the events that came meanwhile.
fn copy_slowly(data: &Path, copy: &Path, (org, from_the_end): (&Client, bool)) -> Vec<String> {
    fs::create_dir_all(copy.join("journal")).unwrap();
    for name in ["FORMAT", "admin.token", "secrets.key"] {
        fs::copy(data.join(name), copy.join(name)).unwrap();
    }
    let entries = fs::read_dir(data.join("journal")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    if from_the_end {
        names.reverse();
    }
    let mut ids = Vec::new();
    for name in &names {
        ids.extend(until_the_next(data, org));
        fs::copy(data.join("journal").join(name), copy.join("journal").join(name)).unwrap();
    }
    fs::write(copy.with_extension("toml"), settings(copy, "")).unwrap();
    ids
}

#[test]
fn old_snapshots_go_after_the_grace_time_and_slow_copies_are_whole_within_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start_on(&data, &often(&data, 3_600));
    let org = server.org("Acme");
    let mut ids = until_the_next(&data, &org);
    for number in 0..4 {
        let copy = dir.path().join(format!("copy-{number}"));
        let acknowledged = ids.clone();
        ids.extend(copy_slowly(&data, &copy, (&org, number % 2 == 1)));
        let (code, _, text) = report(&copy);
        assert_eq!(code, Some(0), "{text}");
        let started = Process::start(&copy);
        let kept = Client::new(&started.url, &org.key).inbox_ids();
        assert!(kept.starts_with(&acknowledged) && ids.starts_with(&kept), "{number}");
        assert_eq!(started.stop().0, Some(0));
    }
    assert!(snapshots(&data).len() > 4);
    assert_eq!(server.stop().0, Some(0));
    // Without a grace time only the newest two stay.
    let server = Process::start_on(&data, &often(&data, 0));
    until_the_next(&data, &Client::new(&server.url, &org.key));
    while snapshots(&data).len() > 2 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_loss_before_the_newest_snapshot_costs_payloads_only() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (key, ids) = filled(&data, 1);
    let lost = ids[3].clone();
    let segment = data.join("journal/00000000000000000001.seg");
    let mut bytes = fs::read(&segment).unwrap();
    // The fourth payload of 2,000 characters.
    let run = [b'x'; 2_000];
    let mut places = bytes.windows(run.len()).enumerate().filter(|(_, part)| *part == run);
    let place = places.nth(3).unwrap().0;
    bytes[place + 100] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let (code, text) = command(&data, &["rebuild", "--skip-damaged"]);
    assert!(code == Some(0) && text.contains(&format!("PAYLOAD   {lost}")), "{text}");
    let (code, found, text) = report(&data);
    assert!(code == Some(0) && results(&found)[0] == "not_compared", "{text}");
    let server = Process::start(&data);
    let client = Client::new(&server.url, &key);
    let mut others = ids.clone();
    others.retain(|id| *id != lost);
    let mut listed = all_events(&client);
    listed.reverse();
    assert_eq!(listed, others, "the lost payload does not stop the list");
    assert_eq!(client.ack(&lost).status, 200, "the event itself is there");
    assert_eq!(client.inbox_ids(), others);
}

#[test]
fn verify_takes_a_copy_that_has_not_delivered_for_a_copy_as_a_start_does() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let (key, ids) = filled(&data, 1);
    let copied = Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap();
    assert!(copied.success());
    // The last segment is an original from now on; FORMAT is not.
    let held = ["sh", "-c", "exec \"$0\" \"$@\" --no-deliver"];
    let quiet = || {
        let ready = Process::try_start(&copy, "", &held);
        ready.unwrap_or_else(|(status, log)| panic!("not ready: {status}\n{log}"))
    };
    assert_eq!(quiet().stop().0, Some(0));
    let server = Process::start_on(&data, &often(&data, 3_600));
    until_the_next(&data, &Client::new(&server.url, &key));
    assert_eq!(server.stop().0, Some(0));
    let ahead = snapshots(&data).pop().unwrap();
    fs::copy(&ahead, copy.join("journal").join(ahead.file_name().unwrap())).unwrap();
    let (code, found, text) = report(&copy);
    assert!(code == Some(0) && results(&found).contains(&"ahead"), "{text}");
    assert_eq!(Client::new(&quiet().url, &key).inbox_ids(), ids);
}
