//! Expired events with the real binary, with ages of a few seconds.

use serde_json::{Value, json};
use triggerd::cli::demo::receiver::Receiver;

use crate::harness::{Client, PATIENCE, Process, assert_has, command, settings, until};
use crate::operator::Start;

const EXPIRED: &str = "triggerd.inbox.expired";
/// Finished events expire soon, open events some seconds later.
const SHORT: &str = "[retention]\nfinished_seconds = 1\nopen_seconds = 6\n";

fn status(org: &Client, event: &str) -> u16 {
    org.get(&format!("/api/events/{event}")).status
}

fn until_gone(org: &Client, event: &str) {
    until(|| (status(org, event) == 404).then_some(()));
}

/// The number of events of this kind that have expired because of their age.
fn expired(org: &Client, kind: &str) -> f64 {
    expired_for(org, kind, "age")
}

fn expired_for(org: &Client, kind: &str, reason: &str) -> f64 {
    let labels = format!("{{kind=\"{kind}\",reason=\"{reason}\"}}");
    org.metric(&format!("triggerd_events_expired_total{labels}"))
}

fn listed(org: &Client, path: &str) -> Vec<Value> {
    let page = org.get(path);
    assert_eq!(page.status, 200, "{page:?}");
    page.json["data"].as_array().unwrap().clone()
}

/// Stops the server, checks that its state follows from the journal, and starts it again without
/// the state and with the default ages.
fn restarted_without_state(server: Process) -> Process {
    let data = server.data_dir.clone();
    assert_eq!(server.stop().0, Some(0));
    let (code, text) = command(&data, &["verify"]);
    assert_eq!(code, Some(0), "{text}");
    std::fs::remove_dir_all(data.join("sled")).unwrap();
    Process::start(&data)
}

/// Makes endpoints for these types, with a single attempt for each delivery.
fn push_to(org: &Client, receivers: &[(&Receiver, &str)]) {
    for (receiver, types) in receivers {
        let settings = json!({"url": receiver.url(), "event_types": [types], "retry_schedule": []});
        assert_eq!(org.post("/api/endpoints", &settings).status, 201);
    }
}

/// Asserts that the inbox and the list of dead letters are empty.
fn assert_is_empty(org: &Client) {
    assert_eq!((listed(org, "/api/inbox"), listed(org, "/api/dead-letters")), (vec![], vec![]));
    until(|| (org.metric("triggerd_inbox_open_events") == 0.0).then_some(()));
}

/// Asserts that the organization does not have these events and can post a new one.
fn assert_goes_on_without(org: &Client, events: &[String]) {
    for event in events {
        assert_eq!(status(org, event), 404);
    }
    assert_eq!(org.send("later", &json!(1)).status, 202);
    assert_eq!(org.inbox_ids().len(), 1);
}

#[test]
fn finished_events_expire_first_and_open_ones_are_reported_and_neither_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start_with(&dir.path().join("data"), SHORT);
    let (org, quiet) = (server.org("Acme"), server.org("Quiet"));
    let [good, bad, watcher] = [(); 3].map(|()| Receiver::start().unwrap());
    bad.answer_next([500]);
    push_to(&org, &[(&good, "good.*"), (&bad, "bad.*"), (&watcher, "triggerd.inbox.*")]);
    let acknowledged = quiet.send("open.event", &json!(1)).id();
    assert_eq!(quiet.ack(&acknowledged).status, 200);
    let open = quiet.send("open.event", &json!(1)).id();
    let [delivered, dead] = ["good.event", "bad.event"].map(|it| org.send(it, &json!(1)).id());
    let waiting = org.send("open.event", &json!(1)).id();
    for (org, event) in [(&org, &delivered), (&quiet, &acknowledged)] {
        until_gone(org, event);
    }
    // Which of the open events is still there depends on the machine's speed; the reports do not.
    let report = watcher.wait_for(1, PATIENCE).remove(0);
    let report: Value = serde_json::from_slice(&report.body).unwrap();
    assert_eq!((&report["type"], &report["data"]["open_seconds"]), (&json!(EXPIRED), &json!(6)));
    for (org, event) in [(&org, &dead), (&org, &waiting), (&quiet, &open)] {
        until_gone(org, event);
        assert_eq!(org.ack(event).status, 404);
        assert_eq!(org.delete(&format!("/api/events/{event}")).status, 404);
    }
    // An event whose delivery was slow counts as open.
    until(|| (expired(&org, "open") + expired(&org, "finished") >= 5.0).then_some(()));
    assert!(expired(&org, "open") >= 3.0);
    assert_eq!(expired(&org, "dead"), 0.0, "the event of the dead letter was in the inbox too");
    assert_is_empty(&org);
    assert_is_empty(&quiet);
    let keys = [org.key.clone(), quiet.key.clone()];
    let server = restarted_without_state(server);
    let [org, quiet] = keys.map(|key| Client::new(&server.url, &key));
    assert_goes_on_without(&org, &[delivered, dead, waiting]);
    assert_goes_on_without(&quiet, &[open, acknowledged]);
    for receiver in [good, bad, watcher] {
        receiver.stop();
    }
}

#[test]
fn a_tier_has_its_own_ages_and_health_shows_the_general_ones() {
    let dir = tempfile::tempdir().unwrap();
    // The section of the free tier is open at this place.
    let ages = "retention_open_seconds = 1\n[retention]\nfinished_seconds = 1\nopen_seconds = 3600";
    let server = Process::start_with(&dir.path().join("data"), ages);
    let free = server.org("Free");
    let made =
        server.admin().post("/api/keys/generate", &json!({"organization": "Pro", "tier": "pro"}));
    let pro = free.with_key(made.json["key"].as_str().unwrap());
    let [leaves, stays] = [&free, &pro].map(|org| org.send("a.b", &json!(1)).id());
    until_gone(&free, &leaves);
    let report = until(|| listed(&free, &format!("/api/events?type={EXPIRED}")).pop());
    assert_eq!(report["payload"]["by_type"], json!({"a.b": 1}));
    assert_eq!(report["payload"]["open_seconds"], json!(1));
    assert_eq!(status(&pro, &stays), 200);
    let health = free.get("/health").json;
    let shown = json!({"finished_seconds": 1, "open_seconds": 3600, "grace_seconds": 3600,
        "erase_seconds": 86400, "keep_free_share": 0.0, "drop_open": false});
    assert_has(&health["retention"], &shown);
    let half = triggerd::data_dir::filesystem_bytes(dir.path()).unwrap() / 2;
    assert_eq!(health["retention"]["bytes"], json!(half), "the limit in effect");
    assert_eq!(health["disk"]["pressure"], json!("none"));
}

const MIB: u64 = 1 << 20;

/// Posts large events and acknowledges each. Returns their ids.
fn fill(org: &Client, events: usize) -> Vec<String> {
    let payload = json!("x".repeat(200 << 10));
    let post = || {
        let id = org.send("large.event", &payload).id();
        assert_eq!(org.ack(&id).status, 200);
        id
    };
    std::iter::repeat_with(post).take(events).collect()
}

/// The disk space of the data, with or without the part that nobody needs.
fn disk_bytes(org: &Client, with_unneeded: bool) -> u64 {
    let disk = org.get("/health").json["disk"].take();
    let figure = |name: &str| disk[name].as_u64().unwrap();
    let all = ["journal_bytes", "snapshot_bytes", "state_bytes"].map(figure).iter().sum::<u64>();
    if with_unneeded { all } else { all - figure("unneeded_bytes") }
}

#[test]
fn the_oldest_finished_events_leave_before_their_time_until_the_data_fits_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 24 * MIB;
    let short = format!("[retention]\nbytes = {limit}\ngrace_seconds = 1\n");
    let server = Process::start_with(&dir.path().join("data"), &short);
    let org = server.org("Acme");
    let open = org.send("open.event", &json!("open")).id();
    let events = fill(&org, 160);
    until_gone(&org, &events[0]);
    until(|| (disk_bytes(&org, false) <= limit).then_some(()));
    // The space really comes back, and no event leaves while retention waits for that.
    let stored = org.metric("triggerd_events_stored");
    until(|| (disk_bytes(&org, true) <= limit).then_some(()));
    assert!(org.metric("triggerd_events_stored") >= stored);
    assert!(stored >= 20.0, "{stored} of 161 events are left");
    assert!(expired_for(&org, "finished", "bytes") >= 1.0);
    assert_eq!(expired(&org, "finished"), 0.0);
    assert_eq!(org.get("/health").json["disk"]["pressure"], json!("bytes"));
    let newest = events.last().unwrap();
    assert_eq!((status(&org, newest), status(&org, &open)), (200, 200));
    let key = org.key.clone();
    let server = restarted_without_state(server);
    let org = Client::new(&server.url, &key);
    assert_eq!((status(&org, newest), status(&org, &events[0])), (200, 404));
    assert_eq!(org.inbox_ids(), [open]);
}

#[test]
fn a_disk_without_enough_free_space_loses_dead_letters_and_keeps_open_events_unless_told() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let full = "[retention]\nkeep_free_share = 1.0\ngrace_seconds = 1\n";
    let server = Process::start_with(&data, full);
    let org = server.org("Acme");
    let bad = Receiver::start().unwrap();
    bad.answer_next([500]);
    push_to(&org, &[(&bad, "bad.*")]);
    let dead = org.send("bad.event", &json!(1)).id();
    until(|| (listed(&org, "/api/dead-letters").len() == 1).then_some(()));
    org.ack(&dead);
    let open = org.send("open.event", &json!(1)).id();
    let finished = fill(&org, 12).remove(0);
    until_gone(&org, &finished);
    until_gone(&org, &dead);
    let report = until(|| listed(&org, &format!("/api/events?type={EXPIRED}")).pop());
    assert_eq!(report["payload"]["reason"], json!("disk"));
    assert_eq!(report["payload"]["by_type"], json!({"bad.event": 1}));
    assert_eq!(expired_for(&org, "dead", "disk"), 1.0);
    assert_eq!(org.get("/health").json["disk"]["pressure"], json!("disk"));
    // The next pass would take it.
    fill(&org, 12);
    assert_eq!((status(&org, &open), expired_for(&org, "open", "disk")), (200, 0.0));
    let key = org.key.clone();
    assert_eq!(server.stop().0, Some(0));
    let server = Process::start_with(&data, &format!("{full}drop_open = true\n"));
    let org = Client::new(&server.url, &key);
    until_gone(&org, &open);
    let told = |report: &Value| report["payload"]["by_type"]["open.event"] == json!(1);
    until(|| listed(&org, &format!("/api/events?type={EXPIRED}")).iter().any(told).then_some(()));
    bad.stop();
}

#[test]
fn nothing_expires_in_a_copy_that_does_not_deliver() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let server = Process::start(&data);
    let org = server.org("Acme");
    let event = org.send("open.event", &json!(1)).id();
    assert_eq!(server.stop().0, Some(0));
    let copied = std::process::Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap();
    assert!(copied.success());
    let ages = settings(&copy, "[retention]\nfinished_seconds = 1\nopen_seconds = 1\n");
    let held =
        Process::spawn(&copy, &ages, &["sh", "-c", "exec \"$0\" \"$@\" --no-deliver"]).ready();
    let server = held.unwrap_or_else(|(status, log)| panic!("not ready: {status}\n{log}"));
    let looked_at = Client::new(&server.url, &org.key);
    // The sweeper has looked several times.
    until(|| (looked_at.metric("triggerd_expiry_held") == 1.0).then_some(()));
    let posted = looked_at.send("open.event", &json!(2)).id();
    until(|| (looked_at.metric("triggerd_inbox_open_events") == 2.0).then_some(()));
    assert_eq!((status(&looked_at, &event), status(&looked_at, &posted)), (200, 200));
    assert_eq!(server.stop().0, Some(0));
    let server = Process::start_on(&copy, &ages);
    until_gone(&Client::new(&server.url, &org.key), &event);
}

/// A server that keeps everything.
const FOR_EVER: &str = "[retention]\nfinished_seconds = 0\nopen_seconds = 0\n";

/// Waits until the server has searched for expired events.
fn until_searched(org: &Client) {
    until(|| (org.metric("triggerd_oldest_event_age_seconds") > 0.0).then_some(()));
}

#[test]
fn ages_change_at_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Start::on(&data).config(FOR_EVER).ready();
    let org = server.admin().new_org("Acme");
    let event = org.send("a.b", &json!(1)).id();
    assert_eq!(org.ack(&event).status, 200);
    assert_eq!(status(&org, &event), 200);
    let short = settings(&data, &FOR_EVER.replace("finished_seconds = 0", "finished_seconds = 1"));
    server.reload(&short, "retention.finished_seconds");
    until_gone(&org, &event);
    assert_eq!(expired(&org, "finished"), 1.0);
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_dead_letter_counts_as_such_if_the_inbox_does_not_wait_for_its_event() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start_with(&dir.path().join("data"), FOR_EVER);
    let (org, bad) = (server.org("Acme"), Receiver::start().unwrap());
    bad.answer_next([500]);
    push_to(&org, &[(&bad, "bad.*")]);
    let event = org.send("bad.event", &json!(1)).id();
    assert_eq!(org.ack(&event).status, 200);
    until(|| (listed(&org, "/api/dead-letters").len() == 1).then_some(()));
    let (data, key) = (server.data_dir.clone(), org.key.clone());
    assert_eq!(server.stop().0, Some(0));
    let server = Process::start_with(&data, "[retention]\nopen_seconds = 1\n");
    let org = Client::new(&server.url, &key);
    until_gone(&org, &event);
    until(|| (expired(&org, "dead") == 1.0).then_some(()));
    assert_eq!((expired(&org, "open"), expired(&org, "finished")), (0.0, 0.0));
    assert_is_empty(&org);
    bad.stop();
}

#[test]
fn a_copy_that_is_started_without_ages_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let server = Process::start_with(&data, FOR_EVER);
    let org = server.org("Acme");
    let [acknowledged, open] = ["a.b", "a.b"].map(|it| org.send(it, &json!(1)).id());
    assert_eq!(org.ack(&acknowledged).status, 200);
    assert_eq!(server.stop().0, Some(0));
    let copied = std::process::Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap();
    assert!(copied.success());
    let server = Process::start_with(&data, "[retention]\nfinished_seconds = 1\nopen_seconds = 1");
    let original = Client::new(&server.url, &org.key);
    for event in [&acknowledged, &open] {
        until_gone(&original, event);
    }
    let server = Process::start_with(&copy, FOR_EVER);
    let copied = Client::new(&server.url, &org.key);
    until_searched(&copied);
    assert_eq!([&acknowledged, &open].map(|event| status(&copied, event)), [200, 200]);
    assert_eq!(copied.inbox_ids(), [open]);
}
