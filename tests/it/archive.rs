//! Archives: the command, and events that are archived before they expire, whatever happens between.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use triggerd::app::App;
use triggerd::base::clock::Clock;
use triggerd::cli::demo::receiver::Receiver;
use triggerd::config::Config;

use crate::backups::text;
use crate::harness::{Client, PATIENCE, Process, command, settings, until};

#[path = "archive_command.rs"]
mod of_command;
#[path = "archive_streams.rs"]
mod streams;

/// The file that tells an archive from an empty directory in its place.
const MARKER: &str = ".triggerd-archive";

/// Finished events expire soon, and are archived before.
fn archiving(archive: &Path) -> String {
    format!(
        "[retention]\nfinished_seconds = 2\nopen_seconds = 1000\narchive_directory = {:?}\n",
        text(archive)
    )
}

/// The settings with another key in the section of the server.
fn with_server_key(settings: &str, key: &str) -> String {
    settings.replacen("[server]\n", &format!("[server]\n{key}\n"), 1)
}

/// The files of an archive, in the order of their names, without its marker.
fn files(archive: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(archive).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| !path.ends_with(MARKER)).collect();
    files.sort();
    files
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.to_str().unwrap().ends_with(ending)
}

/// The events in the finished files of an archive.
fn archived(archive: &Path) -> Vec<Value> {
    let files = files(archive).into_iter().filter(|path| has_ending(path, ".jsonl.zst"));
    let texts = files.map(|path| {
        let bytes = zstd::decode_all(fs::File::open(&path).unwrap());
        String::from_utf8(bytes.unwrap_or_else(|error| panic!("{path:?}: {error}"))).unwrap()
    });
    let parse = |line: &str| serde_json::from_str(line).unwrap();
    texts.flat_map(|text| text.lines().map(parse).collect::<Vec<Value>>()).collect()
}

fn ids(events: &[Value]) -> HashSet<String> {
    events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

fn status(org: &Client, event: &str) -> u16 {
    org.get(&format!("/api/events/{event}")).status
}

fn has_failed(server: &Process) -> bool {
    server.admin().get("/health").json["archive"]["has_failed"] == json!(true)
}

/// Posts events and acknowledges them, so that they are finished.
fn finished(org: &Client, count: usize) -> Vec<String> {
    let ids: Vec<_> = (0..count).map(|n| org.send("a.b", &json!({"number": n})).id()).collect();
    for id in &ids {
        assert_eq!(org.ack(id).status, 200);
    }
    ids
}

#[test]
fn an_event_that_expires_is_in_the_archive_as_the_api_showed_it() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("sub/archive");
    let server = Process::start_with(&dir.path().join("data"), &archiving(&archive));
    let org = server.org("Acme");
    let receiver = Receiver::start().unwrap();
    org.endpoint(&json!({"url": receiver.url(), "event_types": ["order.*"]}));
    let body = "{\"type\": \"order.made\", \"labels\": {\"a\": \"b\"}, \"dedup_id\": \"d\",\n\
        \"payload\": {\n\"n\": 1.0}}";
    let id = org.post_text("/api/events", body).id();
    assert_eq!(org.ack(&id).status, 200);
    receiver.wait_for(1, PATIENCE);
    let shown = || {
        let shown = org.get(&format!("/api/events/{id}")).json;
        (shown["deliveries"][0]["state"] == "delivered").then_some(shown)
    };
    let mut shown = until(shown);
    until(|| (status(&org, &id) == 404).then_some(()));
    let lines = until(|| Some(archived(&archive)).filter(|lines| !lines.is_empty()));
    let mut line = lines.into_iter().find(|line| line["id"] == json!(id)).unwrap();
    // These two say what is so now, and not what became of the event.
    for name in ["endpoints", "organization_suspended"] {
        shown.as_object_mut().unwrap().remove(name);
    }
    let organization = line.as_object_mut().unwrap().remove("organization_id").unwrap();
    assert!(organization.as_str().unwrap().starts_with("org_"));
    assert_eq!(line, shown);
    let numbers = || org.metric("triggerd_archived_events_total");
    until(|| (numbers() >= 1.0).then_some(()));
    assert!(!has_failed(&server));
    receiver.stop();
}

/// Waits until a file of the archive has grown beyond this number of bytes.
fn until_archives(archive: &Path, known: u64) {
    let bytes = || {
        let lengths = files(archive).into_iter().map(|path| fs::metadata(path).map(|it| it.len()));
        lengths.filter_map(Result::ok).sum::<u64>()
    };
    until(|| (bytes() > known).then_some(()));
}

#[test]
fn a_kill_between_archive_and_expiry_loses_no_event() {
    let dir = tempfile::tempdir().unwrap();
    let (data, archive) = (dir.path().join("data"), dir.path().join("archive"));
    let config = settings(&data, &archiving(&archive));
    // The command that lets events expire is under way for long.
    let slow = ["env", "TRIGGERD_FAILPOINTS=syncs_slowly"];
    let start = || Process::spawn(&data, &config, &slow).ready().map_err(|(_, log)| log).unwrap();
    let (mut server, mut all) = (start(), Vec::new());
    let key = server.org("Acme").key;
    for _ in 0..4 {
        let known = files(&archive).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        all.extend(finished(&Client::new(&server.url, &key), 20));
        until_archives(&archive, known);
        server.kill();
        server = start();
    }
    let org = Client::new(&server.url, &key);
    for id in &all {
        until(|| (status(&org, id) == 404).then_some(()));
    }
    assert_eq!(server.stop().0, Some(0));
    let found = ids(&archived(&archive));
    let lost: Vec<_> = all.iter().filter(|id| !found.contains(*id)).collect();
    assert!(lost.is_empty(), "{} of {} events are lost: {lost:?}", lost.len(), all.len());
    let files = files(&archive);
    assert!(files.iter().all(|path| has_ending(path, ".jsonl.zst")), "{files:?}");
    let (code, said) = command(&data, &["verify"]);
    assert_eq!(code, Some(0), "{said}");
}

/// A server whose archive directory cannot be made, because a file is in its way.
struct Blocked {
    dir: tempfile::TempDir,
    server: Process,
    org: Client,
    events: Vec<String>,
}

impl Blocked {
    fn start(failpoints: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("disk"), "no directory").unwrap();
        let data = dir.path().join("data");
        let config = settings(&data, &archiving(&dir.path().join("disk/archive")));
        let variable = format!("TRIGGERD_FAILPOINTS={failpoints}");
        let ready = Process::spawn(&data, &config, &["env", &variable]).ready();
        let server = ready.map_err(|(_, log)| log).unwrap();
        let org = server.org("Acme");
        let events = finished(&org, 3);
        Self { dir, server, org, events }
    }

    /// Returns true if no event expires within this time, although all are older than their age
    /// at its end.
    fn keeps_all(&self, time: Duration) -> bool {
        let began = Instant::now();
        until(|| (self.is_gone() || began.elapsed() >= time).then_some(()));
        !self.is_gone()
    }

    fn is_gone(&self) -> bool {
        self.events.iter().any(|event| status(&self.org, event) == 404)
    }
}

#[test]
fn what_cannot_be_archived_does_not_expire_until_it_can() {
    let blocked = Blocked::start("");
    assert!(blocked.keeps_all(Duration::from_secs(8)));
    assert!(blocked.org.metric("triggerd_archive_failures_total") >= 1.0);
    assert!(has_failed(&blocked.server));
    let (code, said) = command(&blocked.server.data_dir, &["status", "--url", &blocked.server.url]);
    assert!(code == Some(0) && said.contains("! archive: no event expires"), "{said}");
    let disk = blocked.dir.path().join("disk");
    fs::remove_file(&disk).unwrap();
    for event in &blocked.events {
        until(|| (status(&blocked.org, event) == 404).then_some(()));
    }
    until(|| (!has_failed(&blocked.server)).then_some(()));
    assert_eq!(blocked.server.stop().0, Some(0));
    let found = ids(&archived(&disk.join("archive")));
    assert!(blocked.events.iter().all(|event| found.contains(event)), "{found:?}");
}

#[test]
fn an_expiry_that_does_not_wait_for_the_archive_is_noticed() {
    assert!(!Blocked::start("archive_outrun").keeps_all(PATIENCE / 2));
}

#[test]
fn on_a_full_disk_nothing_expires_and_no_half_file_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    fs::create_dir(&archive).unwrap();
    let Some(_disk) = crate::limits::Small::mount_of(&archive, "size=64k") else {
        println!("skipped: nothing can be mounted here");
        return;
    };
    let server = Process::start_with(&dir.path().join("data"), &archiving(&archive));
    let org = server.org("Acme");
    let noise = || json!(triggerd::base::random::bytes::<20_000>().to_vec());
    let events: Vec<_> = (0..6).map(|_| org.send("a.b", &noise()).id()).collect();
    for event in &events {
        assert_eq!(org.ack(event).status, 200);
    }
    until(|| (org.metric("triggerd_archive_failures_total") >= 2.0).then_some(()));
    let found = ids(&archived(&archive));
    for event in events.iter().filter(|event| status(&org, event) == 404) {
        assert!(found.contains(event), "{event} has expired and is not in the archive");
    }
    assert!(events.iter().any(|event| status(&org, event) == 200), "not all have room");
}

#[test]
fn the_payload_of_an_erased_event_never_reaches_the_archive() {
    const DAY_MS: u64 = 86_400_000;
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    let more = archiving(&archive).replace("finished_seconds = 2", "finished_seconds = 86400");
    let config = Config::from_toml(&settings(&dir.path().join("data"), &more)).unwrap();
    let clock = Clock::manual(1_800_000_000_000);
    let app = App::start(config, clock.clone()).unwrap();
    let org = Client::new(&format!("http://{}", app.address()), app.admin_token()).new_org("Acme");
    let [erased, kept] = ["secret", "kept"].map(|word| org.send("a.b", &json!(word)).id());
    for event in [&erased, &kept] {
        assert_eq!(org.ack(event).status, 200);
    }
    assert_eq!(org.delete(&format!("/api/events/{erased}")).status, 200);
    for event in [&erased, &kept] {
        until(|| {
            clock.advance_ms(DAY_MS / 8);
            std::thread::park_timeout(Duration::from_millis(20));
            (status(&org, event) == 404).then_some(())
        });
    }
    app.stop();
    let lines = archived(&archive);
    let of = |id: &String| lines.iter().find(|line| line["id"] == json!(id)).unwrap();
    assert_eq!((&of(&erased)["payload"], &of(&kept)["payload"]), (&Value::Null, &json!("kept")));
    assert!(of(&erased)["erased_at"].is_string());
}

#[test]
fn a_directory_in_the_data_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&data, &link).unwrap();
    for inside in [data.join("archive"), data.join("a/b"), link.clone(), link.join("archive")] {
        let of = |section| format!("[{section}]\ndirectory = {:?}\n", inside.display().to_string());
        for (key, more) in [
            ("[retention] archive_directory", archiving(&inside)),
            ("[backup] directory", of("backup")),
            ("[log] directory", of("log")),
        ] {
            let config = settings(&data, &more);
            let (status, log) = Process::spawn(&data, &config, &[]).ready().err().unwrap();
            let said = format!("{key} is in the data directory");
            // There is no log yet that could say it of its own directory.
            let is_said = log.contains(&said) || key == "[log] directory";
            assert!(status.code() == Some(2) && is_said, "{log}");
            let (code, text) = command(&data, &["check-config"]);
            assert!(code == Some(2) && text.contains(&said), "{text}");
        }
    }
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "something was made in it");
}

#[test]
fn nothing_is_archived_in_a_directory_whose_filesystem_is_not_mounted() {
    let dir = tempfile::tempdir().unwrap();
    let (data, mounted) = (dir.path().join("data"), dir.path().join("mounted"));
    let config = settings(&data, &archiving(&mounted.join("archive")));
    let server = Process::start_on(&data, &config);
    let key = server.org("Acme").key;
    until(|| mounted.join("archive").join(MARKER).exists().then_some(()));
    assert_eq!(server.stop().0, Some(0));
    let away = dir.path().join("away");
    fs::rename(&mounted, &away).unwrap();
    fs::create_dir(&mounted).unwrap();
    let server = Process::start_on(&data, &config);
    let org = Client::new(&server.url, &key);
    let event = finished(&org, 1).remove(0);
    until(|| has_failed(&server).then_some(()));
    until(|| (org.metric("triggerd_archive_failures_total") >= 2.0).then_some(()));
    assert_eq!(status(&org, &event), 200);
    assert_eq!(fs::read_dir(&mounted).unwrap().count(), 0);
    fs::remove_dir(&mounted).unwrap();
    fs::rename(&away, &mounted).unwrap();
    until(|| (status(&org, &event) == 404).then_some(()));
    until(|| (!has_failed(&server)).then_some(()));
    assert_eq!(server.stop().0, Some(0));
    assert!(ids(&archived(&mounted.join("archive"))).contains(&event));
}

#[test]
fn a_directory_that_does_not_answer_delays_neither_start_nor_stop_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let archive = dir.path().join("archive");
    // A stop that waits for the archive takes nine seconds, and a start waits for ever.
    let config = with_server_key(&settings(&data, &archiving(&archive)), "shutdown_seconds = 9");
    let began = Instant::now();
    let hangs = ["env", "TRIGGERD_FAILPOINTS=archive_hangs"];
    let server = Process::spawn(&data, &config, &hangs).ready();
    let server = server.map_err(|(_, log)| log).unwrap();
    assert!(has_failed(&server), "the health says so from the start");
    let org = server.org("Acme");
    let event = finished(&org, 1).remove(0);
    let ages = Duration::from_secs(6);
    until(|| (began.elapsed() >= ages).then_some(()));
    assert_eq!(status(&org, &event), 200);
    let (code, took) = server.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(8), "{took:?}");
}
