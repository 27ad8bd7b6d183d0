//! Compaction of the journal with the real binary. In some tests a failpoint stands in for a
//! snapshot, to show what happens when records go before a snapshot holds what follows from them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Client, Process, command, copy_running, settings, until};

/// Settings with small segments.
fn small_segments(data: &Path) -> String {
    settings(data, "").replace("segment_bytes = 1048576", "segment_bytes = 65536")
}

fn start(data: &Path, failpoints: &str) -> Process {
    let failpoints = format!("TRIGGERD_FAILPOINTS={failpoints}");
    let process = Process::spawn(data, &small_segments(data), &["env", &failpoints]);
    process.ready().unwrap_or_else(|(status, log)| panic!("not ready: {status}\n{log}"))
}

fn refused(data: &Path) -> String {
    let process = Process::spawn(data, &small_segments(data), &[]).ready();
    let (status, log) = process.err().unwrap();
    assert_eq!(status.code(), Some(3), "{log}");
    log
}

/// Returns the files of the journal with this suffix, the oldest first.
fn files(data: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("journal")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|it| it == suffix)).collect();
    paths.sort();
    paths
}

fn segments(data: &Path) -> Vec<PathBuf> {
    files(data, "seg")
}

/// Returns the number of segments in which the text stands.
fn found(data: &Path, text: &str) -> usize {
    let holds = |path: &PathBuf| {
        fs::read(path).is_ok_and(|bytes| memchr::memmem::find(&bytes, text.as_bytes()).is_some())
    };
    segments(data).iter().filter(|path| holds(path)).count()
}

/// Asserts what users see of the erased event and of another one.
fn assert_shown(org: &Client, erased: &str, kept: &str) {
    let event = org.get(&format!("/api/events/{erased}")).json;
    assert_eq!((&event["payload"], &event["dedup_id"]), (&Value::Null, &json!("d-1")));
    assert_eq!(event["type"], json!("order.created"));
    let other = org.get(&format!("/api/events/{kept}")).json;
    assert!(other["payload"].as_str().unwrap().starts_with("kept"), "{other}");
    assert_eq!(org.get("/api/events?limit=500").json["data"].as_array().unwrap().len(), 102);
}

#[test]
fn an_erased_payload_leaves_the_disk_and_only_a_snapshot_could_replace_the_state_then() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = start(&data, "compact_unproved,grace_off");
    let org = server.org("Acme");
    let body = json!({"type": "order.created", "payload": "canary".repeat(300), "dedup_id": "d-1"});
    let erased = org.post("/api/events", &body).id();
    let kept = org.send("order.created", &json!("kept".repeat(400))).id();
    for _ in 0..100 {
        org.send("order.created", &json!("x".repeat(1_500)));
    }
    assert_eq!((found(&data, "canary"), segments(&data).len()), (1, 3));
    assert_eq!(org.delete(&format!("/api/events/{erased}")).status, 200);
    until(|| (found(&data, "canary") == 0).then_some(()));
    assert_shown(&org, &erased, &kept);
    assert!(org.metric("triggerd_compaction_segments_punched_total") >= 1.0);
    assert_eq!(org.metric("triggerd_journal_damaged"), 0.0);
    assert_eq!(server.stop().0, Some(0));

    let (code, text) = command(&data, &["verify"]);
    assert!(code == Some(3) && text.contains("cannot be computed"), "{text}");
    let server = start(&data, "");
    assert_shown(&Client::new(&server.url, &org.key), &erased, &kept);
    // The journal has lost records, so a snapshot is taken before it is due.
    until(|| files(&data, "snap").pop());
    server.kill();
    // The control: without a snapshot the state was the only place of what is gone.
    for path in files(&data, "snap") {
        fs::remove_file(path).unwrap();
    }
    fs::remove_dir_all(data.join("sled")).unwrap();
    let log = refused(&data);
    assert!(log.contains("compaction removed records"), "{log}");
    assert!(log.contains("Restore a backup") && !log.contains("--skip-damaged"), "{log}");
    let (code, text) = command(&data, &["rebuild"]);
    assert!(code == Some(3) && text.contains("compaction removed records"), "{text}");
}

/// Fills whole segments with commands that nobody needs later.
fn fill_unneeded(data: &Path) -> Client {
    let server = start(data, "");
    let org = server.org("Acme");
    let endpoint = org.endpoint(&json!({"url": "http://127.0.0.1:9/"}));
    let path = format!("/api/endpoints/{endpoint}");
    for n in 0..9 {
        let value = n.to_string().repeat(1_000);
        let headers: serde_json::Map<_, _> =
            (0..20).map(|name| (format!("x-{name}"), json!(value))).collect();
        assert_eq!(org.patch(&path, &json!({"headers": headers})).status, 200);
    }
    assert_eq!(org.delete(&path).status, 204);
    assert!(segments(data).len() > 2);
    org.send("order.created", &json!("kept"));
    assert_eq!(server.stop().0, Some(0));
    org
}

/// Copies the files in this order, and waits in between for `meanwhile`.
fn copy_slowly(data: &Path, copy: &Path, meanwhile: impl FnOnce()) {
    fs::create_dir_all(copy.join("journal")).unwrap();
    for name in ["FORMAT", "admin.token", "secrets.key"] {
        fs::copy(data.join(name), copy.join(name)).unwrap();
    }
    meanwhile();
    for path in segments(data) {
        // Without a grace, a segment may go after it was listed.
        let copied = fs::copy(&path, copy.join("journal").join(path.file_name().unwrap()));
        assert!(copied.map_or_else(|error| error.kind() == ErrorKind::NotFound, |_| true));
    }
}

#[test]
fn a_slow_copy_finds_the_beginning_of_the_journal_within_the_grace() {
    for (failpoints, has_grace) in
        [("compact_unproved,grace_off", false), ("compact_unproved", true)]
    {
        let dir = tempfile::tempdir().unwrap();
        let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
        let key = fill_unneeded(&data).key;
        let first = segments(&data)[0].clone();
        let server = start(&data, "");
        let mut running = None;
        copy_slowly(&data, &copy, || {
            assert_eq!(server.stop().0, Some(0));
            let server = start(&data, failpoints);
            let witness = || fs::read_to_string(data.join("FORMAT")).unwrap();
            until(|| (!witness().contains("journal_from=1 ")).then_some(()));
            if !has_grace {
                until(|| (!first.exists()).then_some(()));
            }
            running = Some(server);
        });
        let server = running.unwrap();
        assert_eq!(first.exists(), has_grace);
        let org = Client::new(&server.url, &key);
        assert_eq!(org.inbox_ids().len(), 1, "the original goes on");
        let health = org.get("/health");
        assert_eq!(health.status, 200, "{health:?}");
        assert_eq!(server.stop().0, Some(0));
        if has_grace {
            let server = start(&copy, "");
            assert_eq!(Client::new(&server.url, &key).inbox_ids().len(), 1);
        } else {
            let log = refused(&copy);
            assert!(log.contains("the positions before it are missing"), "{log}");
            assert_goes_on_with_a_snapshot(&data, &key);
        }
    }
}

/// Asserts that the original starts, because it has the witness, and takes a snapshot.
fn assert_goes_on_with_a_snapshot(data: &Path, key: &str) {
    let server = start(data, "");
    assert_eq!(Client::new(&server.url, key).inbox_ids().len(), 1);
    until(|| files(data, "snap").pop());
    assert_eq!(server.stop().0, Some(0));
    let (code, text) = command(data, &["verify"]);
    assert!(code == Some(0) && text.contains("compacted positions 1 to "), "{text}");
}

/// Settings with small segments, many snapshots, and events that expire a second after their end.
fn short_lives(data: &Path) -> String {
    let ages = "[retention]\nfinished_seconds = 1\nopen_seconds = 3600\ngrace_seconds = 1\n";
    settings(data, ages)
        .replace("segment_bytes = 1048576", "segment_bytes = 65536\nsnapshot_bytes = 65536")
}

/// Returns the disk space of the segments, in bytes. A segment may be removed meanwhile.
fn allocated(data: &Path) -> u64 {
    segments(data)
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|it| it.blocks() * 512)
        .sum()
}

/// Posts events of 4,000 bytes and acknowledges them. Returns the first one.
fn post_and_ack(org: &Client, count: usize) -> String {
    let ids: Vec<_> = (0..count).map(|_| org.send("a.b", &json!("x".repeat(4_000))).id()).collect();
    assert!(ids.iter().all(|id| org.ack(id).status == 200));
    ids[0].clone()
}

/// A server whose expired events have given their disk space back. Returns an event that waits in
/// the inbox, and one that has expired.
fn compacted(data: &Path) -> (Process, Client, [String; 2]) {
    let server = Process::start_on(data, &short_lives(data));
    let org = server.org("Acme");
    let early = post_and_ack(&org, 60);
    let kept = org.send("a.b", &json!("kept".repeat(500))).id();
    post_and_ack(&org, 200);
    // The first events may have given their space back already.
    let posted = 260 * 4_000;
    until(|| (allocated(data) < posted / 4).then_some(()));
    (server, org, [kept, early])
}

/// Asserts that only the event that waits in the inbox is left, with its payload.
fn assert_only(org: &Client, kept: &str, gone: &str) {
    assert_eq!(org.get(&format!("/api/events/{gone}")).status, 404);
    let listed = org.get("/api/events?limit=500").json["data"].as_array().unwrap().clone();
    let ids: Vec<_> = listed.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [kept]);
    assert_eq!(listed[0]["payload"], json!("kept".repeat(500)));
}

#[test]
fn expired_events_give_their_disk_space_back_and_a_lost_state_comes_from_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let (server, org, [kept, early]) = compacted(&data);
    assert_only(&org, &kept, &early);
    assert!(org.metric("triggerd_compaction_freed_bytes_total") > 500_000.0);
    assert_eq!(org.metric("triggerd_journal_damaged"), 0.0);
    assert_eq!(copy_running(&data, &copy), [""; 0]);
    server.kill();
    fs::remove_dir_all(data.join("sled")).unwrap();
    fs::write(copy.with_extension("toml"), short_lives(&copy)).unwrap();
    for place in [&data, &copy] {
        let (code, text) = command(place, &["verify"]);
        assert!(code == Some(0) && text.contains("compacted positions "), "{text}");
        let server = Process::start_on(place, &short_lives(place));
        assert_only(&Client::new(&server.url, &org.key), &kept, &early);
        assert_eq!(server.stop().0, Some(0));
        let (code, text) = command(place, &["verify"]);
        assert!(code == Some(0) && text.contains("matches the journal, row by row"), "{text}");
        let (code, text) = command(place, &["rebuild"]);
        assert_eq!(code, Some(0), "{text}");
        let (code, text) = command(place, &["rebuild", "--from-start"]);
        assert!(code == Some(3) && text.contains("no whole snapshot is used"), "{text}");
        let server = Process::start_on(place, &short_lives(place));
        assert_only(&Client::new(&server.url, &org.key), &kept, &early);
    }
}

/// Returns the beginning of the journal that the newest snapshot witnesses.
fn witnessed(data: &Path) -> u64 {
    let newest = files(data, "snap").pop().and_then(|path| fs::read(path).ok());
    newest.map_or(0, |bytes| u64::from_be_bytes(bytes[20..28].try_into().unwrap()))
}

#[test]
fn a_copy_with_an_older_format_begins_where_its_snapshot_says() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let server = Process::start_on(&data, &short_lives(&data));
    let older = fs::read(data.join("FORMAT")).unwrap();
    let org = server.org("Acme");
    post_and_ack(&org, 60);
    let kept = org.send("a.b", &json!("kept".repeat(500))).id();
    until(|| {
        post_and_ack(&org, 10);
        (witnessed(&data) > 1).then_some(())
    });
    assert_eq!(server.stop().0, Some(0));
    let copied = std::process::Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap();
    assert!(copied.success());
    fs::write(copy.join("FORMAT"), &older).unwrap();
    fs::write(copy.with_extension("toml"), short_lives(&copy)).unwrap();
    let (code, text) = command(&copy, &["verify"]);
    assert_eq!(code, Some(0), "{text}");
    let server = Process::start_on(&copy, &short_lives(&copy));
    let client = Client::new(&server.url, &org.key);
    let event = client.get(&format!("/api/events/{kept}")).json;
    assert_eq!(event["payload"], json!("kept".repeat(500)));
    assert_eq!(server.stop().0, Some(0));
    let format = fs::read_to_string(copy.join("FORMAT")).unwrap();
    assert!(!format.contains("journal_from=1 "), "the start notes it: {format}");
    // The control: without the witness, the beginning is missing.
    for snapshot in files(&copy, "snap") {
        fs::remove_file(snapshot).unwrap();
    }
    fs::remove_dir_all(copy.join("sled")).unwrap();
    let log = refused(&copy);
    assert!(log.contains("there is no whole snapshot of that position or a later one"), "{log}");
    assert!(log.contains("Restore a backup") && !log.contains("--skip-damaged"), "{log}");
    let (code, text) = command(&copy, &["rebuild", "--skip-damaged"]);
    assert!(code == Some(3) && text.contains("the state cannot be computed"), "{text}");
    fs::write(copy.join("FORMAT"), &older).unwrap();
    let log = refused(&copy);
    assert!(log.contains("the positions before it are missing"), "{log}");
}

#[test]
fn a_compacted_journal_is_salvaged_around_damage() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (server, org, [kept, early]) = compacted(&data);
    server.kill();
    for path in segments(&data) {
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = memchr::memmem::find(&bytes, b"keptkept") {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    let (code, text) = command(&data, &["rebuild"]);
    assert!(code == Some(3) && text.contains("--skip-damaged"), "{text}");
    let (code, text) = command(&data, &["rebuild", "--skip-damaged"]);
    assert!(code == Some(0) && text.contains(&format!("PAYLOAD   {kept}")), "{text}");
    assert!(!text.contains(&early), "what has expired is not lost: {text}");
    let (code, text) = command(&data, &["verify"]);
    assert_eq!(code, Some(0), "{text}");
    let server = Process::start_on(&data, &short_lives(&data));
    let org = Client::new(&server.url, &org.key);
    let listed = org.get("/api/events?limit=500");
    assert_eq!((listed.status, &listed.json["data"]), (200, &json!([])), "{listed:?}");
    assert_eq!(org.get("/api/inbox").status, 500, "a consumer hears of the lost payload");
    assert_eq!(org.ack(&kept).status, 200);
    assert_eq!(org.inbox_ids(), Vec::<String>::new());
}

#[test]
fn a_copy_that_was_made_while_the_beginning_was_removed_begins_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let key = fill_unneeded(&data).key;
    // The witness is older than the copy, which reads the first segment before its removal.
    let server = start(&data, "compact_unproved");
    let witness = || fs::read_to_string(data.join("FORMAT")).unwrap();
    until(|| (!witness().contains("journal_from=1 ")).then_some(()));
    let (first, second) = (segments(&data)[0].clone(), segments(&data)[1].clone());
    let copied = copy.join("journal").join(first.file_name().unwrap());
    copy_slowly(&data, &copy, || {
        fs::copy(&first, &copied).unwrap();
        assert_eq!(server.stop().0, Some(0));
        let server = start(&data, "compact_unproved,grace_off");
        until(|| (!first.exists() && !second.exists()).then_some(()));
        until(|| files(&data, "snap").pop());
        assert_eq!(server.stop().0, Some(0));
        for path in files(&data, "snap") {
            fs::copy(&path, copy.join("journal").join(path.file_name().unwrap())).unwrap();
        }
    });
    assert!(segments(&copy).len() >= 2);
    fs::write(copy.with_extension("toml"), small_segments(&copy)).unwrap();
    let (code, text) = command(&copy, &["verify"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = command(&copy, &["rebuild"]);
    assert_eq!(code, Some(0), "{text}");
    let server = start(&copy, "");
    assert_eq!(Client::new(&server.url, &key).inbox_ids().len(), 1);
    until(|| (!copied.exists()).then_some(()));
    assert_eq!(server.stop().0, Some(0));
    let (code, text) = command(&copy, &["verify"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_copy_that_is_not_complete_keeps_its_snapshots_until_it_can_start() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let (server, org, [kept, early]) = compacted(&data);
    server.kill();
    let copied = std::process::Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap();
    assert!(copied.success());
    fs::remove_dir_all(copy.join("sled")).unwrap();
    // The copying broke off: every snapshot is ahead of the journal.
    let (snapshots, all) = (files(&copy, "snap"), segments(&copy));
    assert!(!snapshots.is_empty() && all[1].file_stem() <= snapshots[0].file_stem());
    for path in &all[1..] {
        fs::remove_file(path).unwrap();
    }
    let (status, log) = Process::spawn(&copy, &short_lives(&copy), &[]).ready().err().unwrap();
    assert_eq!(status.code(), Some(3), "{log}");
    assert_eq!(files(&copy, "snap"), snapshots, "{log}");
    for path in &all[1..] {
        let name = path.file_name().unwrap();
        fs::copy(data.join("journal").join(name), path).unwrap();
    }
    let server = Process::start_on(&copy, &short_lives(&copy));
    assert_only(&Client::new(&server.url, &org.key), &kept, &early);
}
