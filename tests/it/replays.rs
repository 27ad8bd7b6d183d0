//! `/api/replays` and `triggerd replay` with the real binary: past events are delivered again.

use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use triggerd::cli::demo::receiver::Receiver;

use crate::harness::{Client, PATIENCE, Process, assert_has, command, until};

fn set_enabled(org: &Client, endpoint: &str, enabled: bool) {
    assert_eq!(
        org.patch(&format!("/api/endpoints/{endpoint}"), &json!({ "enabled": enabled })).status,
        200
    );
}

fn start(org: &Client, request: &Value) -> String {
    let started = org.post("/api/replays", request);
    assert_eq!(started.status, 202, "{started:?}");
    started.id()
}

fn show(org: &Client, replay: &str) -> Value {
    let shown = org.get(&format!("/api/replays/{replay}"));
    assert_eq!(shown.status, 200, "{shown:?}");
    shown.json
}

/// Waits for the end of a replay.
fn over(org: &Client, replay: &str) -> Value {
    until(|| Some(show(org, replay)).filter(|it| it["state"] != "running"))
}

/// Runs a replay to its end; returns the numbers of examined and queued events.
fn counts(org: &Client, request: &Value) -> (u64, u64) {
    let replay = over(org, &start(org, request));
    assert_has(&replay, &json!({"state": "finished", "progress": 1.0}));
    assert!(replay["finished_at"].is_string() && replay["waits_for"].is_null(), "{replay}");
    (replay["examined"].as_u64().unwrap(), replay["queued"].as_u64().unwrap())
}

fn queued(org: &Client, request: &Value) -> u64 {
    counts(org, request).1
}

/// The posted events in the inbox, without operational events about dead letters.
fn posted_in_inbox(org: &Client) -> Vec<String> {
    let is_posted = |event: &Value| !event["type"].as_str().unwrap().starts_with("triggerd.");
    org.inbox()
        .iter()
        .filter(|event| is_posted(event))
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect()
}

fn waiting(org: &Client, endpoint: &str) -> Value {
    org.get(&format!("/api/endpoints/{endpoint}/stats")).json["waiting"].clone()
}

/// Waits for `count` events; returns their ids in the order of arrival.
fn came(receiver: &Receiver, count: usize) -> Vec<String> {
    let came: Vec<_> =
        receiver.wait_for(count, PATIENCE).into_iter().map(|request| request.id).collect();
    assert_eq!(came.len(), count, "{came:?}");
    came
}

/// Sends events of these types, each in its own millisecond; returns their ids.
fn send(org: &Client, types: &[&str]) -> Vec<String> {
    let began = std::time::Instant::now();
    let send = |(number, event_type): (usize, &&str)| {
        until(|| (began.elapsed().as_millis() >= 3 * number as u128).then_some(()));
        org.send(event_type, &json!(number)).id()
    };
    types.iter().enumerate().map(send).collect()
}

fn received_at(org: &Client, event: &str) -> String {
    org.get(&format!("/api/events/{event}")).json["received_at"].as_str().unwrap().to_owned()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids
}

/// Five events sent to one endpoint, whose receiver refused the first and the third of them.
struct Scene {
    org: Client,
    receiver: Receiver,
    endpoint: String,
    events: Vec<String>,
    _server: (Process, tempfile::TempDir),
}

impl Scene {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Process::start(&dir.path().join("data"));
        let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
        let settings = json!({"url": receiver.url(), "retry_schedule": [], "max_in_flight": 1});
        let endpoint = org.endpoint(&settings);
        receiver.answer_next([500, 200, 500, 200, 200]);
        let events = send(&org, &["order.paid", "order.paid", "user", "user", "order.item.added"]);
        came(&receiver, 5);
        until(|| (posted_in_inbox(&org).len() == 2).then_some(()));
        Self { org, receiver, endpoint, events, _server: (server, dir) }
    }
}

#[test]
fn dead_letters_are_delivered_again_by_type_or_endpoint() {
    let Scene { org, receiver: first, endpoint: to, events, _server } = Scene::start();
    let dead: Vec<_> = [&events[0], &events[2]].into_iter().cloned().collect();
    assert_eq!(posted_in_inbox(&org), dead);

    assert_eq!(queued(&org, &json!({"only": "missing"})), 0, "it had everything");
    assert_eq!(counts(&org, &json!({"only": "failed", "event_types": ["user"]})), (2, 1));
    assert_eq!(came(&first, 6)[5..], dead[1..]);
    assert_eq!(counts(&org, &json!({"only": "failed", "endpoint_id": to})), (1, 1));
    assert_eq!(came(&first, 7)[6..], dead[..1]);
    let deliveries = org.get(&format!("/api/deliveries?event_id={}", dead[0])).json["data"].clone();
    let path = format!("/api/deliveries/{}", deliveries[0]["id"].as_str().unwrap());
    let attempts =
        until(|| Some(org.get(&path).json["attempts"].clone()).filter(|it| it[1].is_object()));
    assert_eq!(attempts[0]["trigger"], "replay");
    assert_eq!(attempts[1]["trigger"], "schedule");
    until(|| (waiting(&org, &to) == 0 && posted_in_inbox(&org).is_empty()).then_some(()));
    assert_eq!(counts(&org, &json!({"only": "failed"})), (0, 0));
    first.stop();
}

#[test]
fn what_is_missing_or_everything_is_delivered_again() {
    let Scene { org, receiver: first, endpoint: to, events, _server } = Scene::start();
    let second = Receiver::start().unwrap();
    assert_eq!(queued(&org, &json!({"only": "failed"})), 2);
    came(&first, 7);
    until(|| (waiting(&org, &to) == 0 && posted_in_inbox(&org).is_empty()).then_some(()));
    // An endpoint created later gets the past events that it wants, and no others.
    let late = org.endpoint(&json!({"url": second.url(), "event_types": ["order.*"]}));
    assert_eq!(queued(&org, &json!({"only": "missing", "event_types": ["order.item.*"]})), 1);
    assert_eq!(came(&second, 1), events[4..]);
    assert_eq!(queued(&org, &json!({"only": "missing"})), 2);
    assert_eq!(sorted(came(&second, 3)), [&events[..2], &events[4..]].concat());
    until(|| (waiting(&org, &late) == 0).then_some(()));
    assert_eq!(posted_in_inbox(&org), [] as [&str; 0], "what was delivered does not come back");

    let (since, until_) = (received_at(&org, &events[1]), received_at(&org, &events[3]));
    let between = json!({"only": "all", "since": since, "until": until_});
    assert_eq!(
        queued(&org, &between),
        3,
        "of two events, one is not wanted by the second endpoint"
    );
    assert_eq!(sorted(came(&first, 9)[7..].to_vec()), events[1..3]);
    assert_eq!(came(&second, 4)[3..], events[1..2]);
    until(|| (waiting(&org, &to) == 0).then_some(()));
    assert_eq!(
        queued(&org, &json!({"only": "all", "endpoint_id": to})),
        5,
        "what the server told is not among them"
    );
    assert_eq!(sorted(came(&first, 14)[9..].to_vec()), events);
    first.stop();
    second.stop();
}

#[test]
fn a_replay_is_its_organizations_alone() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (org, other) = (server.org("Acme"), server.org("Other"));
    let to = org.endpoint(&json!({"url": "http://127.0.0.1:1/", "enabled": false}));
    send(&org, &["a"]);
    let replay = start(&org, &json!({"only": "missing", "endpoint_id": to}));
    let fixed = [("X-Request-Id", "same"), ("Content-Type", "application/json")];
    let absent = "rpl_01h2xcejqtf2nbrexx3vqjhp41";
    for method in [Method::GET, Method::DELETE] {
        let ask =
            |id: &str| other.request(method.clone(), &format!("/api/replays/{id}"), &fixed, "");
        let (foreign, absent) = (ask(&replay), ask(absent));
        assert_eq!(
            (foreign.status, foreign.code(), &foreign.text),
            (404, "not_found", &absent.text)
        );
    }
    let ask = |to: &str| {
        let body = json!({"only": "all", "endpoint_id": to}).to_string();
        other.request(Method::POST, "/api/replays", &fixed, body)
    };
    let (foreign, nowhere) = (ask(&to), ask("ep_01h2xcejqtf2nbrexx3vqjhp41"));
    assert_eq!(
        (foreign.status, foreign.code(), &foreign.text),
        (422, "validation_failed", &nowhere.text)
    );
    assert_eq!(other.get("/api/replays").json["data"], json!([]));
    assert_eq!(show(&org, &replay)["state"], "running");

    let reader =
        org.post("/api/keys/generate", &json!({"name": "r", "scopes": ["deliveries:read"]}));
    let reader = org.with_key(reader.json["key"].as_str().unwrap());
    assert_eq!(reader.get("/api/replays").json["data"][0]["id"], json!(replay));
    assert_eq!(reader.post("/api/replays", &json!({"only": "all"})).status, 403);
    assert_eq!(reader.delete(&format!("/api/replays/{replay}")).status, 403);
}

#[test]
fn everything_wrong_with_a_replay_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let org = server.org("Acme");
    for (body, pointers) in [
        (
            json!({"only": "lost", "endpoint_id": "x", "since": 1, "until": "y",
                "event_types": ["a.*.b"], "colour": 1}),
            vec!["/only", "/endpoint_id", "/since", "/until", "/event_types/0", "/colour"],
        ),
        (json!({}), vec!["/only"]),
        (
            json!({"only": "all", "since": "2026-01-02T00:00:00Z",
                "until": "2026-01-01T00:00:00Z"}),
            vec!["/until"],
        ),
    ] {
        let wrong = org.post("/api/replays", &body);
        let faults = wrong.json["errors"].as_array().unwrap().iter();
        let found: Vec<_> = faults.map(|fault| fault["pointer"].as_str().unwrap()).collect();
        assert_eq!((wrong.status, found), (422, pointers), "{wrong:?}");
    }
    assert_eq!(org.get("/api/replays?colour=red").status, 400);
    assert_eq!(org.get("/api/replays?cursor=x").status, 400);
}

#[test]
fn replays_are_listed_page_by_page_and_their_number_is_limited() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let org = server.org("Acme");
    let to = org.endpoint(&json!({"url": "http://127.0.0.1:1/", "enabled": false}));
    send(&org, &["a"]);
    let replay = start(&org, &json!({"only": "missing", "endpoint_id": to}));
    for _ in 1..10 {
        start(&org, &json!({"only": "missing", "endpoint_id": to}));
    }
    let more = org.post("/api/replays", &json!({"only": "missing"}));
    assert_eq!((more.status, more.code()), (422, "limit_reached"));
    let page = |path: &str| org.get(path).json;
    let first = page("/api/replays?limit=9");
    let rest =
        page(&format!("/api/replays?limit=1&cursor={}", first["next_cursor"].as_str().unwrap()));
    let whole = page("/api/replays?limit=10");
    assert_eq!(
        (&first["has_more"], &rest["has_more"], &whole["has_more"]),
        (&json!(true), &json!(false), &json!(false))
    );
    let ids = |pages: &[&Value]| -> Vec<_> {
        pages
            .iter()
            .flat_map(|page| page["data"].as_array().unwrap())
            .map(|it| it["id"].clone())
            .collect()
    };
    assert_eq!((ids(&[&first, &rest]), ids(&[&whole]).len()), (ids(&[&whole]), 10));
    assert_eq!(
        (&rest["data"][0]["id"], rest["next_cursor"].is_string()),
        (&json!(replay), true),
        "the oldest is the last"
    );
}

#[test]
fn a_replay_waits_for_its_endpoint_through_a_kill_and_ends_with_it_or_when_it_is_canceled() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let events = send(&org, &["a", "a", "a"]);
    let made = |enabled: bool| org.endpoint(&json!({"url": receiver.url(), "enabled": enabled}));
    let (off, gone) = (made(false), made(false));
    let missing = |to: &str| start(&org, &json!({"only": "missing", "endpoint_id": to}));
    let (waits, canceled, orphaned) = (missing(&off), missing(&off), missing(&gone));
    for replay in [&waits, &canceled, &orphaned] {
        let shown = show(&org, replay);
        assert_has(&shown, &json!({"state": "running", "waits_for": "endpoint_disabled"}));
        assert_has(&shown, &json!({"queued": 0, "only": "missing"}));
    }
    for _again in 0..2 {
        let shown = org.delete(&format!("/api/replays/{canceled}"));
        assert_eq!(shown.status, 200, "{shown:?}");
        let canceled = json!({"state": "canceled", "reason": "requested", "queued": 0});
        assert_has(&shown.json, &canceled);
    }
    assert_eq!(org.delete(&format!("/api/endpoints/{gone}")).status, 204);
    let shown = over(&org, &orphaned);
    assert_has(&shown, &json!({"state": "canceled", "reason": "endpoint_deleted"}));

    server.kill();
    let server = Process::start(&dir.path().join("data"));
    let org = Client::new(&server.url, &org.key);
    assert_eq!(show(&org, &orphaned), shown, "as it was");
    assert_eq!(show(&org, &waits)["waits_for"], json!("endpoint_disabled"));
    // A later event is no part of the replay.
    send(&org, &["a"]);
    set_enabled(&org, &off, true);
    let one = over(&org, &waits);
    assert_eq!((&one["queued"], &one["skipped_endpoint_ids"]), (&json!(3), &json!([])), "{one}");
    assert_eq!(sorted(came(&receiver, 3)), events);
    until(|| (waiting(&org, &off) == 0).then_some(()));
    assert_eq!(receiver.received().len(), 3);
    receiver.stop();
}

#[test]
fn a_replay_to_all_endpoints_passes_over_disabled_ones_names_them_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let disabled = json!({"url": receiver.url(), "enabled": false, "event_types": ["zz.never"]});
    let off = org.endpoint(&disabled);
    receiver.answer_next([500]);
    let to = org.endpoint(&json!({"url": receiver.url(), "retry_schedule": []}));
    send(&org, &["a"]);
    until(|| (posted_in_inbox(&org).len() == 1).then_some(()));
    // More than can run at a time.
    for only in ["failed", "missing", "all"].into_iter().cycle().take(12) {
        let started = org.post("/api/replays", &json!({ "only": only }));
        assert_eq!(started.status, 202, "{started:?}");
        assert_has(&started.json, &json!({"skipped_endpoint_ids": [off]}));
        let ended = over(&org, &started.id());
        assert_has(&ended, &json!({"state": "finished", "progress": 1.0, "waits_for": null}));
        assert_has(&ended, &json!({"skipped_endpoint_ids": [off]}));
    }
    until(|| (waiting(&org, &to) == 0).then_some(()));
    let words = ["replay", "start", "--only", "all", "--type", "b"];
    let (code, said) =
        run(&data, &[words.as_slice(), &["--url", &org.url, "--key", &org.key]].concat());
    assert!(
        code == Some(0) && said.contains(&format!("skipped because disabled: {off}")),
        "{said}"
    );

    // A replay that is over shows what it passed over, and not what is disabled now.
    set_enabled(&org, &off, true);
    set_enabled(&org, &to, false);
    let listed = org.get("/api/replays").json["data"].clone();
    assert!(
        listed.as_array().unwrap().iter().all(|it| it["skipped_endpoint_ids"] == json!([off])),
        "{listed}"
    );
    assert_eq!(counts(&org, &json!({"only": "all"})).1, 0, "the other one wants nothing of it");
    receiver.stop();
}

#[test]
fn the_command_starts_a_replay_waits_for_it_lists_it_and_cancels_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let events = send(&org, &["a.b", "a.c", "b"]);
    let to = org.endpoint(&json!({ "url": receiver.url() }));
    let run = |words: &[&str]| {
        run(&data, &[&["replay"], words, &["--url", &org.url, "--key", &org.key]].concat())
    };
    let missing = ["start", "--only", "missing"];
    let (code, said) = run(&[missing.as_slice(), &["--type", "a.*", "--endpoint", &to]].concat());
    assert!(code == Some(0) && said.contains("finished  3 examined, 2 queued"), "{said}");
    assert_eq!(sorted(came(&receiver, 2)), events[..2]);
    let (_, listed) = run(&["list"]);
    let id = said.split(' ').next().unwrap();
    let row = listed.lines().nth(1).unwrap_or_else(|| panic!("{listed}"));
    assert!(listed.starts_with("STARTED") && row.contains(id) && row.contains("finished"), "{row}");

    set_enabled(&org, &to, false);
    let missing = [missing.as_slice(), &["--endpoint", &to]].concat();
    let (code, said) = run(&[missing.as_slice(), &["--no-wait", "--json"]].concat());
    let started: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &started["state"]), (Some(0), &json!("running")), "{said}");
    let id = started["id"].as_str().unwrap();
    let (_, said) = run(&["show", id]);
    assert!(said.contains(&format!("waits until {to} is enabled")), "{said}");
    let (code, said) = run(&["cancel", id]);
    assert!(code == Some(0) && said.contains("canceled: requested"), "{said}");
    assert_eq!(run(&["show", "../keys"]).0, Some(2));
    assert_eq!(run(&["start", "--only", "some"]).0, Some(2));
    let watched = interrupted(&data, &org, &missing);
    assert_eq!(
        (watched.0, show(&org, &watched.2)["state"].as_str()),
        (Some(0), Some("running")),
        "{watched:?}"
    );
    assert!(watched.1.contains(&format!("triggerd replay show {}", watched.2)), "{watched:?}");
    let (code, said) = run(&[missing.as_slice(), &["--since", "yesterday"]].concat());
    assert!(code == Some(1) && said.contains("--since"), "{said}");
    receiver.stop();
}

/// Starts watching a replay that makes no progress, and sends Ctrl-C; returns the exit code, the
/// output and the id of the replay.
fn interrupted(data: &Path, org: &Client, words: &[&str]) -> (Option<i32>, String, String) {
    let known = |org: &Client| org.get("/api/replays").json["data"].as_array().unwrap().clone();
    let before = known(org).len();
    let mut command = Command::new(env!("CARGO_BIN_EXE_triggerd"));
    command.arg("replay").args(words).args(["--url", &org.url, "--key", &org.key, "--config"]);
    let child = command
        .arg(data.with_extension("toml"))
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = until(|| Some(known(org)).filter(|known| known.len() > before));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let id = begun[0]["id"].as_str().unwrap().to_owned();
    (output.status.code(), String::from_utf8(output.stderr).unwrap(), id)
}

fn run(data: &Path, words: &[&str]) -> (Option<i32>, String) {
    command(data, words)
}

/// Replays of dead letters, single and concurrent, to endpoints that still fail: often a delivery
/// is repeated before the scheduler has seen its end. Without the scan, this test depends on the
/// hint.
#[test]
fn what_is_replayed_just_when_it_fails_for_the_last_time_is_attempted() {
    const ENDPOINTS: usize = 10;
    const EVENTS: u64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let more = "[delivery]\nretry_schedule_seconds = []\nbreaker_window = \
        0\nbreaker_failures_in_a_row = 1000\n";
    let without_scan = ["env", "TRIGGERD_FAILPOINTS=scan_off"];
    let server = Process::try_start(&dir.path().join("data"), more, &without_scan).unwrap();
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    receiver.answer_next(std::iter::repeat_n(500, 1_000_000));
    let endpoints: Vec<_> = (0..ENDPOINTS)
        .map(|_| org.endpoint(&json!({"url": receiver.url(), "event_types": ["a"]})))
        .collect();
    for number in 0..EVENTS {
        assert_eq!(org.send("a", &json!(number)).status, 202);
    }
    let all_dead = || {
        let dead = |id: &String| {
            org.get(&format!("/api/endpoints/{id}/stats")).json["dead_letters"] == json!(EVENTS)
        };
        endpoints.iter().all(dead).then_some(())
    };
    until(all_dead);
    for _ in 0..5 {
        let replays: Vec<_> = (0..10).map(|_| start(&org, &json!({"only": "failed"}))).collect();
        for replay in &replays {
            over(&org, replay);
        }
        until(all_dead);
    }
    receiver.stop();
}
