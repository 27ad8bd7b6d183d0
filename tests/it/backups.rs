//! Backups: of a running and of a stopped server, in every form, restored with everything that was
//! acknowledged; and everything that is wrong with a backup, refused without leaving anything
//! behind.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use age::secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::harness::{Client, Process, binary, command, settings, silence, until};

/// Settings with small segments, and a snapshot for each 64 KiB of the journal.
pub(crate) fn small(data: &Path, more: &str) -> String {
    settings(data, more)
        .replace("segment_bytes = 1048576", "segment_bytes = 65536\nsnapshot_bytes = 65536")
}

/// Asks the running server for a backup.
pub(crate) fn ask(server: &Process, words: &[&str]) -> (Option<i32>, String) {
    let words = [&["backup"], words, &["--url", &server.url]].concat();
    command(&server.data_dir, &words)
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn restore(data: &Path, from: &Path, to: &Path, more: &[&str]) -> (Option<i32>, String) {
    // The command needs no configuration; that of the original is valid.
    command(data, &[&["restore", text(from), text(to)], more].concat())
}

/// The backups in a directory of backups, the oldest first.
pub(crate) fn backups(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.join("manifest.json").exists()).collect();
    found.sort();
    found
}

/// The segments of a backup, the oldest first.
pub(crate) fn segments(backup: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(backup.join("journal")).unwrap().map(|it| it.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|it| it == "seg")).collect();
    found.sort();
    found
}

/// Starts a server on a restored directory and asserts that it has all of these events, the key and
/// the endpoint.
fn assert_restored(data: &Path, key: &str, ids: &[String]) {
    let server = Process::start_on(data, &small(data, ""));
    let org = Client::new(&server.url, key);
    let found: HashSet<_> = org.inbox_ids().into_iter().collect();
    let lost: Vec<_> = ids.iter().filter(|id| !found.contains(*id)).collect();
    assert!(lost.is_empty(), "{} of {} events are lost: {lost:?}", lost.len(), ids.len());
    let endpoints = org.get("/api/endpoints").json["data"].as_array().unwrap().len();
    assert_eq!(endpoints, 1, "the endpoint is there");
    assert_eq!(server.stop().0, Some(0));
    let (code, found) = command(data, &["verify"]);
    assert_eq!(code, Some(0), "{found}");
}

pub(crate) fn fill(org: &Client, count: usize) -> Vec<String> {
    (0..count).map(|_| org.send("a", &json!("x".repeat(3_000))).id()).collect()
}

/// Writes the identity of age into a file. Returns the path and the recipient.
pub(crate) fn identity(dir: &Path, name: &str) -> (PathBuf, String) {
    let identity = age::x25519::Identity::generate();
    let path = dir.join(name);
    fs::write(&path, identity.to_string().expose_secret()).unwrap();
    (path, identity.to_public().to_string())
}

#[test]
fn every_backup_of_a_running_server_under_load_restores_all_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start_on(&data, &small(&data, ""));
    let (org, (_listener, url)) = (server.org("Acme"), silence());
    org.endpoint(&json!({"url": url, "event_types": ["never.sent"]}));
    let acknowledged = Mutex::new(fill(&org, 60));
    let is_over = AtomicBool::new(false);
    let target = dir.path().join("backups");
    let (file, sealed) = (dir.path().join("b.tar.zst"), dir.path().join("b.tar.zst.age"));
    let (key_file, recipient) = identity(dir.path(), "identity");
    let mut made: Vec<(PathBuf, Vec<String>)> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let id = org.send("a", &json!("x".repeat(3_000))).id();
                acknowledged.lock().unwrap().push(id);
            }
        });
        let so_far = || acknowledged.lock().unwrap().clone();
        let forms: [&[&str]; 4] = [
            &[text(&target)],
            &[text(&target)],
            &[text(&file)],
            &[text(&sealed), "--encrypt-to", &recipient],
        ];
        for (number, words) in forms.iter().enumerate() {
            let ids = so_far();
            let (code, said) = ask(&server, words);
            assert_eq!(code, Some(0), "{said}");
            let place = match number {
                0 | 1 => backups(&target)[number].clone(),
                _ => PathBuf::from(words[0]),
            };
            made.push((place, ids));
        }
        is_over.store(true, Ordering::SeqCst);
    });
    // The header of an age file (C2SP, age, version 1), which the plain archives lack.
    let is_sealed = |path: &Path| fs::read(path).unwrap().starts_with(b"age-encryption.org/v1\n");
    assert!(made.iter().all(|(path, _)| path.is_dir() || is_sealed(path) == (*path == sealed)));
    // The original may go: the links in the backups are files of their own.
    assert_eq!(server.stop().0, Some(0));
    for (number, (place, ids)) in made.iter().enumerate() {
        let to = dir.path().join(format!("restored-{number}"));
        let more: &[&str] = if number == 3 { &["--identity", text(&key_file)] } else { &[] };
        let words = [&["verify", text(place)], more].concat();
        let (code, said) = command(&data, &words);
        // Of an archive, only the sums are read.
        let result = if place.is_dir() { "no damage was found" } else { "matches its SHA-256" };
        assert!(code == Some(0) && said.contains(result), "{said}");
        let (code, said) = restore(&data, place, &to, more);
        assert!(code == Some(0) && said.contains("Deliveries are held"), "{said}");
        assert_restored(&to, &org.key, ids);
    }
}

#[test]
fn what_the_last_backup_has_becomes_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start_on(&data, &small(&data, ""));
    let org = server.org("Acme");
    fill(&org, 60);
    // Another filesystem, if this machine has one.
    let device = |path: &Path| fs::metadata(path).map(|facts| facts.dev()).ok();
    let shared = Path::new("/dev/shm");
    let other = device(shared).filter(|other| Some(*other) != device(dir.path()));
    let other = other.and_then(|_| tempfile::tempdir_in(shared).ok());
    let targets = [Some(dir.path().join("backups")), other.as_ref().map(|it| it.path().join("b"))];
    for target in targets.iter().flatten() {
        for _ in 0..2 {
            let (code, said) = ask(&server, &[text(target)]);
            assert_eq!(code, Some(0), "{said}");
            fill(&org, 30);
        }
        let [first, second] = backups(target).try_into().unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let sealed = segments(&first);
        let sealed = &sealed[..sealed.len() - 1];
        assert!(sealed.len() > 1, "{sealed:?}");
        for segment in sealed {
            let again = second.join("journal").join(segment.file_name().unwrap());
            assert_eq!(inode(segment), inode(&again), "{segment:?}");
        }
        let (code, said) = command(&data, &["verify", text(target)]);
        assert!(code == Some(0) && said.contains(text(&second)), "the newest is taken: {said}");
    }
}

/// Damages a backup; returns the name of the wrong file.
type Harm = fn(&Path) -> String;

fn change_a_byte(backup: &Path) -> String {
    let segment = segments(backup).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[1_000] ^= 1;
    // A new file, because the segment is a link to that of the server.
    fs::remove_file(&segment).unwrap();
    fs::write(&segment, bytes).unwrap();
    format!("journal/{}: the SHA-256", segment.file_name().unwrap().to_str().unwrap())
}

fn lose_a_segment(backup: &Path) -> String {
    let segment = segments(backup).remove(1);
    fs::remove_file(&segment).unwrap();
    format!("journal/{}: the file is missing", segment.file_name().unwrap().to_str().unwrap())
}

fn cut_the_key(backup: &Path) -> String {
    fs::write(backup.join("secrets.key"), "abc").unwrap();
    "secrets.key: the file has 3 bytes".to_owned()
}

fn change_the_manifest(backup: &Path) -> String {
    let path = backup.join("manifest.json");
    let manifest = fs::read_to_string(&path).unwrap();
    fs::write(&path, manifest.replacen("\"end\": 1", "\"end\": 2", 1).replacen("Z\"", "z\"", 1))
        .unwrap();
    "manifest.json".to_owned()
}

fn lose_the_manifest(backup: &Path) -> String {
    fs::remove_file(backup.join("manifest.json")).unwrap();
    "no complete backup".to_owned()
}

#[test]
fn a_wrong_backup_is_refused_by_name_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start_on(&data, &small(&data, ""));
    let org = server.org("Acme");
    org.push_to("http://127.0.0.1:9/");
    fill(&org, 60);
    assert_eq!(server.stop().0, Some(0));
    let (to, draft) = (dir.path().join("to"), dir.path().join("to.restoring"));
    let harms: [Harm; 5] =
        [change_a_byte, lose_a_segment, cut_the_key, change_the_manifest, lose_the_manifest];
    for (number, harm) in harms.into_iter().enumerate() {
        let target = dir.path().join(format!("backups-{number}"));
        let (code, said) = command(&data, &["backup", text(&target)]);
        assert_eq!(code, Some(0), "{said}");
        let backup = backups(&target).remove(0);
        let wrong = harm(&backup);
        for words in [vec!["verify", text(&backup)], vec!["restore", text(&backup), text(&to)]] {
            let (code, said) = command(&data, &words);
            assert!(code == Some(3) || code == Some(1), "{words:?}: {said}");
            assert!(said.contains(&wrong), "{words:?}: {wrong} is missing in {said}");
        }
        assert!(!to.exists() && !draft.exists());
    }
    // The directory of the original is whole.
    let (code, said) = command(&data, &["verify"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_cut_archive_and_a_wrong_identity_are_refused_and_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start_on(&data, &small(&data, ""));
    let org = server.org("Acme");
    fill(&org, 20);
    assert_eq!(server.stop().0, Some(0));
    let (to, draft) = (dir.path().join("to"), dir.path().join("to.restoring"));
    let (right, recipient) = identity(dir.path(), "right");
    let (wrong, _) = identity(dir.path(), "wrong");
    let (plain, sealed) = (dir.path().join("p.tar.zst"), dir.path().join("s.tar.zst.age"));
    assert_eq!(command(&data, &["backup", text(&plain)]).0, Some(0));
    let words = ["backup", text(&sealed), "--encrypt-to", &recipient];
    assert_eq!(command(&data, &words).0, Some(0));
    let refused = |from: &Path, more: &[&str], says: &str| {
        let (code, said) = restore(&data, from, &to, more);
        assert!(matches!(code, Some(1..=3)) && said.contains(says), "{from:?}: {says}: {said}");
        assert!(!to.exists() && !draft.exists(), "{from:?}");
    };
    for (file, more) in [(&plain, &[][..]), (&sealed, &["--identity", text(&right)])] {
        let bytes = fs::read(file).unwrap();
        let (cut, bad) = (dir.path().join("cut"), dir.path().join("bad"));
        for len in [bytes.len() - 1, bytes.len() / 2, 300] {
            fs::write(&cut, &bytes[..len]).unwrap();
            refused(&cut, more, "");
        }
        let mut changed = bytes.clone();
        changed[bytes.len() / 2] ^= 4;
        fs::write(&bad, changed).unwrap();
        refused(&bad, more, "damaged");
    }
    refused(&sealed, &[], "name the file of your identity with --identity");
    refused(&sealed, &["--identity", text(&wrong)], "another identity");
    refused(&sealed, &["--identity", text(&plain)], "identity cannot be read");
    refused(&data.join("FORMAT"), &[], "is no backup");
    // A file or a directory that exists stays as it is.
    for words in [["backup", text(&plain)], ["backup", text(&data)]] {
        let (code, said) = command(&data, &words);
        assert!(code == Some(1), "{words:?}: {said}");
    }
    let (other, file) = (dir.path().join("dir"), dir.path().join("x.zst"));
    for (target, recipient) in [(&other, recipient.as_str()), (&file, "age1wrong")] {
        let words = ["backup", text(target), "--encrypt-to", recipient];
        assert_eq!(command(&data, &words).0, Some(2));
    }
    assert!(!file.exists() && !dir.path().join("x.zst.new").exists());
    let (code, said) = restore(&data, &plain, &data, &[]);
    assert!(code == Some(1) && said.contains("is not empty"), "{said}");
    let (code, said) = restore(&data, &sealed, &to, &["--identity", text(&right)]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = restore(&data, &plain, &to, &[]);
    assert!(code == Some(1) && said.contains("is not empty"), "{said}");
}

#[test]
fn an_archive_goes_through_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start_on(&data, &small(&data, ""));
    let org = server.org("Acme");
    let ids = fill(&org, 20);
    let config = data.with_extension("toml");
    let out = Command::new(binary())
        .args(["backup", "-", "--url", &server.url, "--config", text(&config)])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let to = dir.path().join("to");
    let mut restoring = Command::new(binary())
        .args(["restore", "-", text(&to)])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    restoring.stdin.take().unwrap().write_all(&out.stdout).unwrap();
    assert!(restoring.wait().unwrap().success());
    let restored = Process::start_on(&to, &small(&to, ""));
    assert_eq!(Client::new(&restored.url, &org.key).inbox_ids(), ids);
}

#[test]
fn a_restored_server_delivers_only_when_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Acme");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // Nobody answers, so the delivery stays open.
    org.push_to(&url);
    let id = org.send("a", &json!(1)).id();
    assert!(listener.accept().is_ok());
    let (target, to) = (dir.path().join("backups"), dir.path().join("to"));
    let (code, said) = ask(&server, &[text(&target)]);
    assert_eq!(code, Some(0), "{said}");
    server.kill();
    listener.set_nonblocking(true).unwrap();
    while listener.accept().is_ok() {}
    assert_eq!(restore(&data, &target, &to, &[]).0, Some(0));
    for _ in 0..2 {
        let held = Process::start(&to);
        let org = Client::new(&held.url, &org.key);
        assert_eq!(org.inbox_ids(), [id.as_str()]);
        let later = org.send("b", &json!(1)).id();
        until(|| {
            let path = format!("/api/deliveries?event_id={later}");
            org.get(&path).json["data"].as_array().filter(|all| !all.is_empty()).map(drop)
        });
        assert_eq!(org.ack(&later).status, 200);
        let came = listener.accept();
        assert!(came.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
        assert_eq!(held.stop().0, Some(0));
    }
    let (code, said) = command(&to, &["deliver", "on"]);
    assert!(code == Some(0) && said.contains("the next start"), "{said}");
    let (_, said) = command(&to, &["deliver", "on"]);
    assert!(said.contains("no deliveries were held"), "{said}");
    let _told = Process::start(&to);
    until(|| listener.accept().ok().map(drop));
}

#[test]
fn a_restore_until_a_time_ends_there() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Acme");
    let received = |answer: &Value| answer["received_at"].as_str().unwrap().to_owned();
    let mut ids = vec![org.send("a", &json!(1)).id()];
    let second = org.send("a", &json!(2));
    ids.push(second.id());
    let time = received(&second.json);
    let later = until(|| {
        let later = org.send("later", &json!(3));
        (received(&later.json) > time).then(|| later.id())
    });
    let target = dir.path().join("backups");
    let (code, said) = ask(&server, &[text(&target)]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(server.stop().0, Some(0));
    let to = dir.path().join("to");
    let (code, said) = restore(&data, &target, &to, &["--until", &time]);
    assert_eq!(code, Some(0), "{said}");
    let restored = Process::start(&to);
    let kept = Client::new(&restored.url, &org.key).inbox_ids();
    assert!(kept.starts_with(&ids) && !kept.contains(&later), "{kept:?}");
    assert_eq!(restored.stop().0, Some(0));
    let (code, said) = command(&to, &["verify"]);
    assert_eq!(code, Some(0), "{said}");
    let none = dir.path().join("none");
    let (code, said) = restore(&data, &target, &none, &["--until", "2001-01-01T00:00:00Z"]);
    assert!(code == Some(1) && said.contains("nothing of 2001-01-01"), "{said}");
    assert!(!none.exists() && !dir.path().join("none.restoring").exists());
}

#[test]
fn the_server_makes_backups_by_itself_and_keeps_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let (data, target) = (dir.path().join("data"), dir.path().join("backups"));
    let more = format!(
        "[backup]\ndirectory = {:?}\nevery_seconds = 1\nkeep = 2\ndrill_every_seconds = 0\n",
        target.display().to_string()
    );
    let server = Process::start_on(&data, &settings(&data, &more));
    let seen = Mutex::new(HashSet::new());
    until(|| {
        let mut seen = seen.lock().unwrap();
        seen.extend(backups(&target));
        (seen.len() >= 4).then_some(())
    });
    assert!(backups(&target).len() <= 3, "two are kept, and one may be new");
    let health = server.admin().get("/health").json;
    assert!(health["backup"]["newest_at"].is_string(), "{health}");
    assert_eq!(health["backup"]["has_failed"], false);
    let admin = server.admin();
    until(|| (admin.metric("triggerd_backup_age_seconds") >= 0.0).then_some(()));
    let jobs = admin.get("/api/admin/jobs").json;
    assert!(jobs["data"].as_array().unwrap().iter().any(|job| job["state"] == "done"), "{jobs}");
}

#[test]
fn the_operator_alone_asks_for_backups_and_a_failed_one_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let (org, admin) = (server.org("Acme"), server.admin());
    for answer in [org.post("/api/admin/backup", &json!({})), org.get("/api/admin/jobs")] {
        assert_eq!((answer.status, answer.code()), (403, "forbidden"), "{answer:?}");
    }
    for (body, says) in [
        (json!({}), "no [backup] directory"),
        (json!({"directory": "here"}), "absolute path"),
        (json!({"dir": "/x"}), "/dir"),
    ] {
        let answer = admin.post("/api/admin/backup", &body);
        assert!(answer.status == 422 && answer.text.contains(says), "{answer:?}");
    }
    assert_eq!(admin.get("/api/admin/jobs").json, json!({"data": []}));
    let (code, said) = ask(&server, &[text(&data)]);
    assert!(code == Some(1) && said.contains("is in the data directory"), "{said}");
    let job = admin.get("/api/admin/jobs").json["data"][0].clone();
    assert_eq!((&job["state"], &job["backup"]), (&json!("failed"), &Value::Null), "{job}");
    assert_eq!(server.admin().metric("triggerd_backup_failures_total"), 1.0);
    assert_eq!(server.admin().get("/health").json["backup"]["has_failed"], true);
    let (code, said) = ask(&server, &[text(&dir.path().join("backups")), "--json"]);
    let made: Value = serde_json::from_str(&said).unwrap();
    assert!(code == Some(0) && made["state"] == "done" && made["id"].is_string(), "{said}");
}
