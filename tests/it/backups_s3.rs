//! Backups in a store with the interface of Amazon S3: what is uploaded, what is deleted, what is
//! restored, and what is said when the store refuses. Needs Python; see `s3_store`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::backups::{fill, identity, restore, small, text};
use crate::harness::{Process, binary, command, until};
use crate::s3_store::{BUCKET, S3Store, Stuck};

/// The time of a stop that waits for no thread, on a busy machine.
const STOP_MAX: Duration = Duration::from_secs(7);

/// A data directory of a stopped server beside a store.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    pub(crate) store: S3Store,
}

impl Place {
    /// Starts a store. Says why, if there is none.
    pub(crate) fn start() -> Option<Self> {
        match S3Store::start(false) {
            Ok(store) => Some(Self { dir: tempfile::tempdir().unwrap(), store }),
            Err(why) => {
                eprintln!("skipped, because no S3 store can be started: {why}");
                None
            }
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn settings(&self, more: &str) -> String {
        let keys = self.dir.path().join("keys");
        fs::write(&keys, "[default]\naws_access_key_id = A\naws_secret_access_key = S\n").unwrap();
        let (url, keys) = (self.store.url(), keys.display().to_string());
        let more = format!(
            "[backup]\ns3_endpoint = {url:?}\ns3_region = \"eu-central-1\"\ns3_credentials = \
             {keys:?}\n{more}"
        );
        small(&self.data(), &more)
    }

    pub(crate) fn serve(&self, more: &str) -> Process {
        Process::start_on(&self.data(), &self.settings(more))
    }

    /// Starts a server that deletes objects although another backup may count on them.
    fn serve_without_grace(&self, more: &str) -> Process {
        let failpoint = ["env", "TRIGGERD_FAILPOINTS=object_grace_off"];
        let server = Process::spawn(&self.data(), &self.settings(more), &failpoint).ready();
        server.unwrap_or_else(|failed| panic!("{failed:?}"))
    }

    /// Begins to make a backup of the stopped server by another way to the store.
    fn begin_backup(&self, way: &Stuck) -> Child {
        Command::new(binary())
            .args(["backup", &url(""), "--config", text(&self.data().with_extension("toml"))])
            .env("AWS_ENDPOINT_URL", &way.url)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(crate) fn run(&self, words: &[&str]) -> (Option<i32>, String) {
        command(&self.data(), words)
    }

    pub(crate) fn good(&self, words: &[&str]) -> String {
        let (code, said) = self.run(words);
        assert_eq!(code, Some(0), "{said}");
        said
    }

    /// Makes a backup of the stopped server. Returns its answer.
    fn backup(&self) -> Value {
        serde_json::from_str(&self.good(&["backup", &url(""), "--json"])).unwrap()
    }

    /// Restores and returns the ids in the inbox.
    fn restored(&self, from: &str, name: &str, key: &str) -> Vec<String> {
        let to = self.dir.path().join(name);
        let said = self.good(&["restore", from, text(&to)]);
        assert!(said.contains("Deliveries are held"), "{said}");
        let server = Process::start_on(&to, &small(&to, ""));
        let ids = crate::harness::Client::new(&server.url, key).inbox_ids();
        assert_eq!(server.stop().0, Some(0));
        let (code, said) = command(&to, &["verify"]);
        assert_eq!(code, Some(0), "{said}");
        ids
    }
}

pub(crate) fn url(name: &str) -> String {
    format!("s3://{BUCKET}/of/one{}{name}", if name.is_empty() { "" } else { "/" })
}

/// A text of 240 KB that hardly becomes shorter by compression.
fn noise(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + u8::try_from(state >> 58).unwrap())
    };
    (0..240_000).map(letter).collect::<String>().replace('\\', "/")
}

/// An object that no backup needs.
fn stray() -> String {
    format!("of/one/objects/{}.zst", "0".repeat(64))
}

/// The objects that one backup more has, compared with before.
fn new_in(before: &[String], now: &[String]) -> usize {
    now.iter().filter(|key| !before.contains(key)).count()
}

#[test]
fn a_backup_in_a_bucket_restores_everything_and_the_next_one_uploads_only_what_is_new() {
    let Some(place) = Place::start() else { return };
    let server = place.serve("");
    let org = server.org("Acme");
    let mut ids = fill(&org, 60);
    let words = ["backup", &url(""), "--url", &server.url];
    let said = place.good(&words);
    assert!(said.contains(&url("20")), "{said}");
    let first = place.store.keys_with("/objects/");
    assert_eq!(place.store.keys_with("/backups/").len(), 1);
    // A middle of the journal is uploaded once: FORMAT, the last segment and the newest snapshot
    // are new, and what was written since.
    ids.extend(fill(&org, 30));
    place.good(&words);
    let second = place.store.keys_with("/objects/");
    let manifests = place.store.keys_with("/backups/");
    let new = new_in(&first, &second);
    assert!(manifests.len() == 2 && new > 0 && new < first.len(), "{new} of {}", second.len());
    assert_eq!(server.stop().0, Some(0));

    let said = place.good(&["verify", &url("")]);
    assert!(said.contains("every file matches its SHA-256"), "{said}");
    assert_eq!(place.restored(&url(""), "newest", &org.key), ids);
    let oldest = manifests[0].rsplit('/').next().unwrap().strip_suffix(".json").unwrap();
    assert_eq!(place.restored(&url(oldest), "oldest", &org.key), ids[..60]);
    // A time before the last events.
    let made_at =
        oldest.split_once('T').map(|(day, time)| format!("{day}T{}", time.replace('-', ":")));
    let to = place.dir.path().join("until");
    place.good(&["restore", &url(""), text(&to), "--until", &made_at.unwrap()]);

    // A stopped server, whose files are the same except for what the stop wrote.
    let third = place.backup();
    let (bytes, known) =
        (third["bytes"].as_u64().unwrap(), third["linked_bytes"].as_u64().unwrap());
    assert!(known > bytes / 2, "{third}");
    let fourth = place.backup();
    assert_eq!(fourth["linked_bytes"], fourth["bytes"], "nothing is new: {fourth}");
    assert_ne!(third["backup"], fourth["backup"]);
}

#[test]
fn the_schedule_keeps_so_many_backups_in_a_bucket_and_what_they_need() {
    let Some(place) = Place::start() else { return };
    let more = format!(
        "directory = {:?}\nevery_seconds = 1\nkeep = 2\ndrill_every_seconds = 0\n",
        url("")
    );
    let server = place.serve_without_grace(&more);
    let org = server.org("Acme");
    let mut ids = fill(&org, 40);
    let stray = stray();
    place.store.put(&stray, "left by a backup that was killed");
    let seen = until(|| Some(place.store.keys_with("/backups/")).filter(|it| !it.is_empty()));
    ids.extend(fill(&org, 40));
    until(|| {
        let now = place.store.keys_with("/backups/");
        (now.len() == 2 && !now.contains(&seen[0])).then_some(())
    });
    until(|| place.store.keys_with(&stray).is_empty().then_some(()));
    let health = server.admin().get("/health").json;
    assert!(health["backup"]["newest_at"].is_string(), "{health}");
    assert_eq!(health["backup"]["has_failed"], false);
    assert_eq!(server.stop().0, Some(0));
    // Whatever the last backup of the schedule has, each of the two is whole.
    for manifest in place.store.keys_with("/backups/") {
        let name = manifest.rsplit('/').next().unwrap().strip_suffix(".json").unwrap();
        place.good(&["verify", &url(name)]);
    }
    place.backup();
    assert_eq!(place.restored(&url(""), "restored", &org.key), ids);
}

#[test]
fn damage_in_a_bucket_is_refused_and_the_next_backup_repairs_it() {
    let Some(place) = Place::start() else { return };
    let server = place.serve("");
    fill(&server.org("Acme"), 60);
    assert_eq!(server.stop().0, Some(0));
    place.backup();
    let objects = place.store.keys_with("/objects/");
    place.store.put(&objects[0], "rotten");
    place.store.delete(&objects[1]);
    let to = place.dir.path().join("restored");
    for words in [vec!["verify", &url("")], vec!["restore", &url(""), text(&to)]] {
        let (code, said) = place.run(&words);
        assert_eq!(code, Some(3), "{said}");
        for word in ["2 files are wrong", "is missing", "is damaged", "delete the object"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
    assert!(!to.exists());
    place.store.delete(&objects[0]);
    place.backup();
    place.good(&["verify", &url("")]);
    assert_eq!(new_in(&objects, &place.store.keys_with("/objects/")), 0);
    // The manifest itself.
    let manifest = place.store.keys_with("/backups/").pop().unwrap();
    place.store.put(&manifest, "{}");
    let (code, said) = place.run(&["restore", &url(""), text(&to)]);
    assert!(code == Some(3) && said.contains("to take an older backup"), "{said}");
    // Nobody knows what a backup with a damaged manifest needs, so all objects stay.
    let perhaps_needed = stray();
    place.store.put(&perhaps_needed, "of the damaged backup");
    let server = place.serve_without_grace("");
    let words = ["backup", &url(""), "--url", &server.url];
    place.good(&words);
    assert_eq!(place.store.keys_with(&perhaps_needed).len(), 1);
    place.store.delete(&manifest);
    place.good(&words);
    assert!(place.store.keys_with(&perhaps_needed).is_empty());
}

#[test]
fn a_server_refuses_the_prefix_of_another() {
    let Some(place) = Place::start() else { return };
    assert_eq!(place.serve("").stop().0, Some(0));
    place.backup();
    let before = place.store.keys();
    fs::remove_dir_all(place.data()).unwrap();
    assert_eq!(place.serve("").stop().0, Some(0));
    let (code, said) = place.run(&["backup", &url("")]);
    assert!(code == Some(1) && said.contains("of another server"), "{said}");
    assert_eq!(place.store.keys(), before);
}

#[test]
fn a_backup_that_is_killed_is_none_and_the_next_one_goes_on_where_it_ended() {
    let Some(place) = Place::start() else { return };
    let server = place.serve("");
    let org = server.org("Acme");
    let ids = fill(&org, 60);
    assert_eq!(server.stop().0, Some(0));
    // The manifest comes last, so everything but the manifest is there.
    let stuck = Stuck::before(&place.store, "/of/one/backups/20");
    let mut child = place.begin_backup(&stuck);
    stuck.wait();
    child.kill().unwrap();
    child.wait().unwrap();
    let uploaded = place.store.keys_with("/objects/");
    assert!(!uploaded.is_empty() && place.store.keys_with("/backups/").is_empty());
    for words in [vec!["verify", &url("")], vec!["restore", &url(""), "/nowhere/at/all"]] {
        let (code, said) = place.run(&words);
        assert!(code == Some(1) && said.contains("holds no complete backup"), "{said}");
    }
    let made = place.backup();
    assert_eq!(made["linked_bytes"], made["bytes"], "nothing is uploaded again: {made}");
    assert_eq!(place.restored(&url(""), "restored", &org.key), ids);
}

#[test]
fn a_backup_fails_if_an_object_is_deleted_meanwhile_and_itself_spares_young_objects() {
    let Some(place) = Place::start() else { return };
    let server = place.serve("");
    fill(&server.org("Acme"), 10);
    assert_eq!(server.stop().0, Some(0));
    let stuck = Stuck::before(&place.store, "/of/one/backups/20");
    let child = place.begin_backup(&stuck);
    stuck.wait();
    // Another backup may have uploaded it, for a manifest that is still to come.
    place.store.put(&stray(), "of another backup");
    let objects = place.store.keys_with("/objects/");
    let deleted = objects.iter().find(|key| **key != stray()).unwrap();
    place.store.delete(deleted);
    stuck.release();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("was deleted while the backup was made"), "{said}");
    assert!(said.contains(deleted), "{said}");
    assert_eq!(place.store.keys_with("/backups/"), Vec::<String>::new());
    place.backup();
    place.good(&["verify", &url("")]);
    assert_eq!(place.store.keys_with("/objects/"), objects, "the stray one is there too");
}

#[test]
fn an_object_that_is_longer_than_its_file_is_not_read_to_its_end() {
    let Some(place) = Place::start() else { return };
    let server = place.serve("");
    fill(&server.org("Acme"), 60);
    assert_eq!(server.stop().0, Some(0));
    place.backup();
    let manifest = place.store.get(&place.store.keys_with("/backups/")[0]);
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let mut files = manifest["manifest"]["files"].as_array().unwrap().clone();
    files.sort_by_key(|file| file["bytes"].as_u64());
    let object = |file: &Value| format!("of/one/objects/{}.zst", file["sha256"].as_str().unwrap());
    let (short, long) = (&files[0], files.last().unwrap());
    place.store.copy(&object(long), &object(short));
    let fault = format!("holds more than the {} bytes of the file", short["bytes"]);
    let to = place.dir.path().join("restored");
    for words in [vec!["verify", &url("")], vec!["restore", &url(""), text(&to)]] {
        let (code, said) = place.run(&words);
        assert!(code == Some(3) && said.contains(&fault), "{said}");
    }
    assert!(!to.exists());
}

#[test]
fn a_url_of_another_scheme_is_no_directory_of_backups() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert_eq!(Process::start(&data).stop().0, Some(0));
    let new = dir.path().join("new");
    let other = "gs://bucket/of";
    for words in [
        vec!["backup", other],
        vec!["backup", "gs://bucket/of.tar.zst"],
        vec!["verify", other],
        vec!["restore", other, text(&new)],
        vec!["restore", text(&data), other],
    ] {
        let (code, said) = command(&data, &words);
        assert_eq!(code, Some(2), "{words:?}: {said}");
        assert!(said.contains("must be a path of a file system"), "{words:?}: {said}");
    }
    let config = small(&data, &format!("[backup]\ndirectory = {other:?}\n"));
    let (status, log) = Process::spawn(&data, &config, &[]).ready().err().unwrap();
    assert_eq!(status.code(), Some(2), "{log}");
}

#[test]
fn a_server_stops_and_serves_although_its_store_does_not_answer() {
    let Some(place) = Place::start() else { return };
    let stuck = Stuck::before(&place.store, "/of/one/objects/");
    let config = place.settings("").replace(&place.store.url(), &stuck.url);
    let server = Process::start_on(&place.data(), &config);
    let org = server.org("Acme");
    fill(&org, 10);
    let begun = server.admin().post("/api/admin/backup", &json!({"directory": url("")}));
    assert_eq!(begun.status, 202, "{}", begun.text);
    stuck.wait();
    let id = org.send("a", &json!(1)).id();
    assert!(org.inbox_ids().contains(&id));
    let (code, said) = place.run(&["backup", &url(""), "--url", &server.url]);
    assert!(code == Some(1) && said.contains("another backup is being made"), "{said}");
    let (code, took) = server.stop();
    // The thread of the backup ends at once. Without that, the stop would take 8 seconds.
    assert!(code == Some(0) && took < STOP_MAX, "{code:?} {took:?}");
    assert_eq!(place.store.keys(), Vec::<String>::new());
}

#[test]
fn an_archive_in_a_bucket_is_encrypted_and_opened_with_its_identity() {
    let Some(place) = Place::start() else { return };
    let server = place.serve("");
    let org = server.org("Acme");
    // The archive has more than one piece of 16 MiB, and is uploaded in parts.
    let ids: Vec<_> = (0..100).map(|seed| org.send("a", &json!(noise(seed))).id()).collect();
    let (key_file, recipient) = identity(place.dir.path(), "identity");
    let to = url("a.tar.zst.age");
    let words = ["backup", &to, "--encrypt-to", &recipient];
    place.good(&[&words[..], &["--url", &server.url]].concat());
    assert_eq!(server.stop().0, Some(0));
    let (code, said) = place.run(&words);
    assert!(code == Some(1) && said.contains("exists already"), "{said}");
    let (code, said) = place.run(&["verify", &to]);
    assert!(code == Some(2) && said.contains("--identity"), "{said}");
    place.good(&["verify", &to, "--identity", text(&key_file)]);
    let restored = place.dir.path().join("restored");
    let (code, said) =
        restore(&place.data(), Path::new(&to), &restored, &["--identity", text(&key_file)]);
    assert_eq!(code, Some(0), "{said}");
    let server = Process::start_on(&restored, &small(&restored, ""));
    assert_eq!(crate::harness::Client::new(&server.url, &org.key).inbox_ids(), ids);
    // An empty object is no archive, and is not overwritten either.
    let empty = url("empty.tar.zst");
    place.store.put("of/one/empty.tar.zst", "");
    let (code, said) = place.run(&["backup", &empty]);
    assert!(code == Some(1) && said.contains("exists already"), "{said}");
    let (code, said) = place.run(&["verify", &empty]);
    assert!(code != Some(0) && said.contains("is no backup"), "{said}");
    // An archive that is not there.
    let (code, said) = place.run(&["verify", &url("b.tar.zst")]);
    assert!(code == Some(1) && said.contains("there is no object"), "{said}");
}

#[test]
fn a_store_that_is_away_or_refuses_says_what_to_do() {
    let Some(place) = Place::start() else { return };
    let server = place.serve("");
    fill(&server.org("Acme"), 1);
    let elsewhere = "s3://no-such-bucket/of";
    let body = json!({"directory": elsewhere});
    let job = server.admin().post("/api/admin/backup", &body).json["id"].clone();
    let failed = until(|| {
        let jobs = server.admin().get("/api/admin/jobs").json;
        let job = jobs["data"].as_array().unwrap().iter().find(|it| it["id"] == job).cloned();
        job.filter(|job| job["state"] == "failed")
    });
    assert!(failed["error"].as_str().unwrap().contains("create the bucket"), "{failed}");
    for wrong in ["s3://", "s3://b", "s3://bucket//x", "gs://bucket/x", "relative"] {
        let answer = server.admin().post("/api/admin/backup", &json!({"directory": wrong}));
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.text);
    }
    assert_eq!(server.stop().0, Some(0));

    let run = |words: &[&str], variables: &[(&str, &str)]| {
        let config = place.data().with_extension("toml");
        let mut command = Command::new(binary());
        command.args(words).arg("--config").arg(config).envs(variables.iter().copied());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let closed = ("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    let (code, said) = run(&["backup", &url("")], &[closed]);
    assert!(code == Some(1) && said.contains("does not answer"), "{said}");
    assert!(said.contains("http://127.0.0.1:9") && said.contains("s3_endpoint"), "{said}");
    let (code, said) = run(&["restore", elsewhere, "/nowhere/at/all"], &[]);
    assert!(code == Some(1) && said.contains("create the bucket"), "{said}");
    let (code, said) = run(&["backup", &url("")], &[("AWS_ACCESS_KEY_ID", "A")]);
    assert!(code == Some(1) && said.contains("must be set together"), "{said}");
    let (code, said) = run(&["backup", "s3://b"], &[]);
    assert!(code == Some(2) && said.contains("s3://BUCKET/PREFIX"), "{said}");
    fs::remove_file(place.dir.path().join("keys")).unwrap();
    let (code, said) = run(&["backup", &url("")], &[]);
    assert!(code == Some(1) && said.contains("cannot be read from"), "{said}");

    let Ok(strict) = S3Store::start(true) else { return };
    let (endpoint, id, secret) =
        (strict.url(), ("AWS_ACCESS_KEY_ID", "wrong"), ("AWS_SECRET_ACCESS_KEY", "wrong"));
    let (code, said) = run(&["verify", &url("")], &[("AWS_ENDPOINT_URL", &endpoint), id, secret]);
    assert!(code == Some(1) && said.contains("does not accept the credentials"), "{said}");
}
