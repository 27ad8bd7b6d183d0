//! Organizations that are deleted, with the real binary: nobody acts for them any more, nothing of
//! them is left in any file, and another organization notices nothing.

use std::path::Path;

use serde_json::{Value, json};
use triggerd::cli::demo::receiver::Receiver;

use crate::harness::{Client, PATIENCE, Process, assert_has, command, server, silence, until};

/// Texts of which none may be left. Each is in another part of the organization.
const CANARIES: [&str; 8] = [
    "canary-name",
    "canary-key",
    "canary-url",
    "canary-description",
    "canary-metadata",
    "canary-payload",
    "canary-dedup",
    "canary-label",
];

fn org_id(org: &Client) -> String {
    org.get("/api/whoami").json["organization"]["id"].as_str().unwrap().to_owned()
}

/// Makes an organization with every canary. Returns its client and its id.
fn canaries(server: &Process, receiver: &Receiver) -> (Client, String) {
    let org = server.org("canary-name");
    org.post("/api/keys/generate", &json!({"name": "canary-key", "scopes": ["consumer"]}));
    let url = format!("{}canary-url", receiver.url());
    org.endpoint(&json!({
        "url": url, "description": "canary-description", "metadata": {"a": "canary-metadata"},
        "headers": {"x-a": "canary-header"}, "retry_schedule": [],
    }));
    let event = json!({
        "type": "a.b", "payload": "canary-payload".repeat(50), "dedup_id": "canary-dedup",
        "labels": {"a": "canary-label"},
    });
    assert_eq!(org.post("/api/events", &event).status, 202);
    let id = org_id(&org);
    (org, id)
}

/// Returns the canaries that some file below the directory holds.
fn found(dir: &Path) -> Vec<&'static str> {
    let mut found = Vec::new();
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    for path in paths {
        if path.is_dir() {
            found.extend(self::found(&path));
            continue;
        }
        // A file may be removed meanwhile.
        let bytes = std::fs::read(&path).unwrap_or_default();
        let holds = |canary: &&&str| memchr::memmem::find(&bytes, canary.as_bytes()).is_some();
        found.extend(CANARIES.iter().filter(holds).copied());
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn delete(admin: &Client, id: &str) -> Value {
    let answer = admin.delete(&format!("/api/orgs/{id}"));
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json
}

fn until_deleted(admin: &Client, id: &str) {
    until(|| (admin.get(&format!("/api/orgs/{id}")).status == 404).then_some(()));
}

#[test]
fn a_deleted_organization_has_left_every_file_within_the_time_for_erasing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let short = "[retention]\nerase_seconds = 60\ngrace_seconds = 1\n";
    let server = Process::start_with(&data, short);
    let (admin, receiver, other) = (server.admin(), Receiver::start().unwrap(), server.org("Kept"));
    let kept = other.send("a.b", &json!("kept-payload")).id();
    let (org, id) = canaries(&server, &receiver);
    receiver.wait_for(1, PATIENCE);
    // The rows of the organization reach the file of the state.
    let mut expected = CANARIES.to_vec();
    expected.sort_unstable();
    until(|| (found(&data) == expected).then_some(()));
    let taken = admin.post("/api/orgs", &json!({"name": "canary-name"}));
    assert_eq!(taken.status, 409, "the record of a refused command has the name, too");
    until(|| (found(&data.join("sled")).contains(&"canary-url")).then_some(()));
    let deletion = delete(&admin, &id)["deletion"].clone();
    assert_has(&deletion, &json!({"events": 1}));
    assert_eq!(org.get("/api/inbox").status, 401);
    until_deleted(&admin, &id);
    let began = std::time::Instant::now();
    until(|| (found(&data) == [] as [&str; 0]).then_some(()));
    assert!(began.elapsed().as_secs() <= 60, "[retention] erase_seconds");
    assert_eq!(other.get(&format!("/api/events/{kept}")).json["payload"], json!("kept-payload"));
    receiver.stop();
    server.kill();
    let server = Process::start_with(&data, short);
    let other = Client::new(&server.url, &other.key);
    assert_eq!(other.get(&format!("/api/events/{kept}")).status, 200);
    assert_eq!(server.stop().0, Some(0));
    let (code, text) = command(&data, &["verify"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(found(&data), [] as [&str; 0]);
}

#[test]
fn what_waits_for_a_deleted_organization_ends_and_everything_of_it_is_refused() {
    let (server, _dir) = server();
    let (admin, org) = (server.admin(), server.org("Acme"));
    let id = org_id(&org);
    let path = format!("/api/orgs/{id}");
    assert_eq!(admin.patch(&path, &json!({"suspended": true})).status, 200);
    let (_held, url) = silence();
    admin.patch(&path, &json!({"suspended": false}));
    org.push_to(&url);
    let known = || org.metric("triggerd_key_verifications_total{result=\"cached\"}");
    let event = org.send("a.b", &json!(1)).id();
    assert_eq!(org.ack(&event).status, 200);
    let before = known();
    let waits = org.with_key(&org.key);
    let waiting = std::thread::spawn(move || waits.get("/api/inbox?wait=30"));
    let watches = org.with_key(&org.key);
    let watching = std::thread::spawn(move || watches.get("/api/tail"));
    until(|| (known() >= before + 2.0).then_some(()));
    until(|| (org.metric("triggerd_deliveries_in_flight") == 1.0).then_some(()));
    admin.patch(&path, &json!({"suspended": true}));
    let shown = delete(&admin, &id);
    assert_has(&shown, &json!({"suspended": false, "endpoints": 0, "keys": 0}));
    let answer = waiting.join().unwrap();
    assert_eq!((answer.status, answer.code()), (401, "unauthorized"), "{answer:?}");
    watching.join().unwrap();
    for answer in [org.get("/api/whoami"), org.send("a.b", &json!(1)), org.get("/api/tail")] {
        assert_eq!((answer.status, answer.code()), (401, "unauthorized"), "{answer:?}");
    }
    until_deleted(&admin, &id);
    until(|| (org.metric("triggerd_deliveries_in_flight") == 0.0).then_some(()));
    let absent = [
        admin.patch(&path, &json!({"suspended": true})),
        admin.post(&format!("{path}/keys"), &json!({"name": "n"})),
        admin.delete(&path),
    ];
    assert_eq!(absent.map(|answer| answer.status), [404; 3]);
    assert_eq!(admin.post("/api/orgs", &json!({"name": "Acme"})).status, 201, "the name is free");
    let entries = admin.get("/api/audit?action=organization.deleted").json["data"].clone();
    assert_eq!((entries.as_array().unwrap().len(), &entries[0]["subject"]["id"]), (1, &json!(id)));
}

#[test]
fn a_deletion_goes_on_after_each_kill_and_gives_the_same_rows_without_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let (org, other) = (server.org("Acme"), server.org("Other"));
    let (id, kept) = (org_id(&org), other.send("a.b", &json!(1)).id());
    org.push_to("http://127.0.0.1:1/");
    let events: Vec<_> = (0..1_000).map(|n| json!({"type": "a.b", "payload": n})).collect();
    for _ in 0..4 {
        assert_eq!(org.post("/api/events/batch", &json!({ "events": events })).status, 200);
    }
    delete(&server.admin(), &id);
    server.kill();
    let mut server = Process::start(&data);
    for _ in 0..3 {
        server.kill();
        server = Process::start(&data);
        assert_eq!(Client::new(&server.url, &org.key).get("/api/inbox").status, 401);
    }
    until_deleted(&server.admin(), &id);
    assert_eq!(server.stop().0, Some(0));
    let (code, text) = command(&data, &["verify"]);
    assert_eq!(code, Some(0), "{text}");
    std::fs::remove_dir_all(data.join("sled")).unwrap();
    let server = Process::start(&data);
    let other = Client::new(&server.url, &other.key);
    assert_eq!(server.admin().get(&format!("/api/orgs/{id}")).status, 404);
    assert_eq!(other.inbox_ids(), [kept]);
    assert_eq!(other.metric("triggerd_events_stored"), 1.0);
}
