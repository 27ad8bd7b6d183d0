//! Operational events with the real binary: events of triggerd itself about endpoints, deliveries
//! and the disk.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Barrier};

use serde_json::{Value, json};
use triggerd::base::clock::Clock;
use triggerd::cli::demo::receiver::{Received, Receiver};

use crate::harness::{Client, PATIENCE, Process, assert_has, secret_bytes, until};

const DEAD: &str = "triggerd.delivery.dead";
const FAILING: &str = "triggerd.endpoint.failing";
const RECOVERED: &str = "triggerd.endpoint.recovered";
const DISABLED: &str = "triggerd.endpoint.disabled";
const DISK_LOW: &str = "triggerd.disk.low";

/// Creates an endpoint; returns its path and the key bytes of its secret.
fn endpoint(org: &Client, settings: &Value) -> (String, Vec<u8>) {
    let made = org.post("/api/endpoints", settings);
    assert_eq!(made.status, 201, "{made:?}");
    (format!("/api/endpoints/{}", made.id()), secret_bytes(made.json["secret"].as_str().unwrap()))
}

/// All events of this type or below it, newest first.
fn events(org: &Client, event_type: &str) -> Vec<Value> {
    let page = org.get(&format!("/api/events?limit=500&type={event_type}"));
    assert_eq!(page.status, 200, "{page:?}");
    page.json["data"].as_array().unwrap().clone()
}

fn told(org: &Client, kind: &str) -> f64 {
    org.metric(&format!("triggerd_operational_events_total{{kind=\"{kind}\"}}"))
}

fn body(request: &Received) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// The reason why an event did not go to the endpoint of this path, once the event is routed.
fn why_not(org: &Client, event: &str, path: &str) -> Value {
    let id = path.rsplit('/').next().unwrap();
    until(|| {
        let shown = org.get(&format!("/api/events/{event}")).json;
        let of = shown["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .find(|found| found["endpoint_id"] == id)
            .unwrap()
            .clone();
        (of["reason"] != "not_routed_yet").then(|| of["reason"].clone())
    })
}

/// Creates an endpoint for orders that refuses the only attempt; its URL has a token.
fn gives_up_orders(org: &Client, bad: &Receiver) {
    bad.answer_next([500]);
    endpoint(
        org,
        &json!({"url": bad.url() + "?token=canary", "event_types": ["order.*"],
            "retry_schedule": []}),
    );
}

#[test]
fn a_delivery_that_is_given_up_is_told_to_those_who_ask() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let org = server.org("Acme");
    let [bad, watcher, plain] = [(); 3].map(|()| Receiver::start().unwrap());
    gives_up_orders(&org, &bad);
    let (_, key) = endpoint(&org, &json!({"url": watcher.url(), "event_types": ["triggerd.*"]}));
    let (plain_path, _) = endpoint(&org, &json!({ "url": plain.url() }));
    let sent = org.send("order.created", &json!(1)).id();
    let request = watcher.wait_for(1, PATIENCE).remove(0);
    assert_eq!(request.verify(&key, Clock::system().now_ms() / 1_000), Ok(()));
    let (letter, body) = (org.get("/api/dead-letters").json["data"][0].clone(), body(&request));
    assert_has(&body, &json!({"type": DEAD, "id": request.id}));
    let data = &body["data"];
    assert_has(
        data,
        &json!({"delivery_id": letter["id"], "endpoint_id": letter["endpoint_id"],
            "event_id": sent, "event_type": "order.created", "reason": "attempts_exhausted",
            "attempts": 1, "url": bad.url()}),
    );
    assert_eq!(data["error"]["code"], "http_status");
    assert_eq!(
        why_not(&org, &request.id, &plain_path),
        "type_not_wanted",
        "an empty list did not ask for it"
    );
    assert_eq!(body["data"], events(&org, "triggerd.*")[0]["payload"], "the same by pull");
    assert!(
        org.inbox().iter().all(|event| event["type"] == "order.created"),
        "also with subscribers"
    );
    // The event of the producer is alone in the inbox.
    until(|| (org.metric("triggerd_inbox_open_events") == 1.0).then_some(()));
    assert_eq!((told(&org, "delivery_dead"), events(&org, "triggerd.*").len()), (1.0, 1));
    for receiver in [bad, watcher, plain] {
        receiver.stop();
    }
}

#[test]
fn a_delivery_that_is_given_up_can_be_read_without_a_subscriber_and_is_not_in_the_inbox() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (quiet, bad) = (server.org("Quiet"), Receiver::start().unwrap());
    gives_up_orders(&quiet, &bad);
    let sent = quiet.send("order.created", &json!(1)).id();
    let found = until(|| events(&quiet, "triggerd.*").pop());
    assert_eq!(
        (&found["payload"]["event_id"], &found["status"]),
        (&json!(sent), &json!("accepted"))
    );
    let shown = quiet.get(&format!("/api/events/{}", found["id"].as_str().unwrap())).json;
    assert_eq!((&shown["type"], &shown["in_inbox"]), (&json!(DEAD), &json!(false)));
    assert_eq!(quiet.inbox_ids(), [sent]);
    assert_eq!(quiet.get("/api/inbox?type=triggerd.*").json["data"], json!([]));
    assert!(!quiet.get("/api/events").text.contains("canary"), "tokens in URLs are not told");
    // An event outside the inbox can be acknowledged too, and stays outside.
    assert_eq!(quiet.ack(found["id"].as_str().unwrap()).status, 200);
    until(|| (quiet.metric("triggerd_inbox_open_events") == 1.0).then_some(()));
    assert_eq!(told(&quiet, "delivery_dead"), 1.0);
    bad.stop();
}

/// An endpoint fails three times, the server is killed, the endpoint fails once more and then
/// accepts. Returns the operational events about the endpoint.
fn fails_and_recovers(failing_after_s: u64) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = format!("[delivery]\nfailing_after_seconds = {failing_after_s}\n");
    let server = Process::start_with(&data, &config);
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    receiver.answer_next([500; 4]);
    let settings = json!({"url": receiver.url(), "event_types": ["a.*"], "retry_schedule": [1, 1, 1,
    1, 1, 1, 1]});
    endpoint(&org, &settings);
    let id = org.send("a.b", &json!(1)).id();
    let failed = |org: &Client| org.metric("triggerd_deliveries_total{outcome=\"retried\"}");
    until(|| (failed(&org) == 3.0).then_some(()));
    assert_eq!(told(&org, "endpoint_recovered"), 0.0, "not before it accepts");
    let before = events(&org, FAILING).len();
    server.kill();
    let server = Process::start_with(&data, &config);
    let org = Client::new(&server.url, &org.key);
    until(|| (org.get(&format!("/api/events/{id}")).json["status"] == "delivered").then_some(()));
    assert_eq!(events(&org, FAILING).len(), before, "once for each streak, also over a restart");
    let mut all = events(&org, "triggerd.*");
    all.reverse();
    receiver.stop();
    assert_eq!(server.stop().0, Some(0));
    all
}

#[test]
fn an_endpoint_that_does_nothing_but_fail_is_told_once_and_its_recovery_too_also_over_a_kill() {
    let all = fails_and_recovers(1);
    let types: Vec<_> = all.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, [FAILING, RECOVERED]);
    let (failing, recovered) = (&all[0]["payload"], &all[1]["payload"]);
    assert_eq!(failing["error"]["code"], "http_status");
    assert!(failing["failing_since"].is_string(), "{failing}");
    assert_eq!(failing["failing_since"], recovered["failing_since"]);
    assert_eq!(
        (&failing["endpoint_id"], recovered.get("error")),
        (&recovered["endpoint_id"], None)
    );
}

#[test]
fn an_endpoint_that_accepts_before_the_time_is_not_told() {
    assert_eq!(fails_and_recovers(3_600), [] as [Value; 0]);
    assert_eq!(fails_and_recovers(0), [] as [Value; 0], "0: never");
}

/// Answers 410 to this number of requests as soon as all have arrived.
fn gone_together(requests: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let all_there = Arc::new(Barrier::new(requests));
    std::thread::spawn(move || {
        for mut connection in listener.incoming().take(requests).map_while(Result::ok) {
            let all_there = Arc::clone(&all_there);
            std::thread::spawn(move || {
                let mut head = [0; 4_096];
                assert!(connection.read(&mut head).unwrap() > 0);
                all_there.wait();
                connection
                    .write_all(
                        b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                    )
                    .unwrap();
            });
        }
    });
    url
}

#[test]
fn an_endpoint_that_is_disabled_by_many_racing_attempts_is_told_once_and_again_after_it_was_enabled()
 {
    const RACING: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let org = server.org("Acme");
    let (path, _) = endpoint(&org, &json!({"url": gone_together(RACING), "event_types": ["a.*"]}));
    let racing: Vec<_> = (0..RACING).map(|n| json!({"type": "a.b", "payload": n})).collect();
    assert_eq!(org.post("/api/events/batch", &json!({ "events": racing })).status, 200);
    let dead = |count: usize| until(|| (events(&org, DEAD).len() == count).then_some(()));
    dead(RACING);
    let disabled = events(&org, DISABLED);
    assert_eq!(disabled.len(), 1, "{disabled:?}");
    assert_eq!(disabled[0]["payload"]["reason"], "gone");
    assert_eq!(path.rsplit('/').next(), disabled[0]["payload"]["endpoint_id"].as_str());
    assert_eq!(org.get(&path).json["disabled_reason"], "gone");

    let again = org.patch(&path, &json!({"url": gone_together(1), "enabled": true}));
    assert_eq!((again.status, &again.json["enabled"]), (200, &json!(true)), "{again:?}");
    org.send("a.b", &json!("again"));
    dead(RACING + 1);
    assert_eq!((events(&org, DISABLED).len(), told(&org, "endpoint_disabled")), (2, 2.0));
    assert_eq!(events(&org, FAILING).len() + events(&org, RECOVERED).len(), 0);
}

#[test]
fn operational_events_cause_no_more_of_themselves_whatever_becomes_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        Process::start_with(&dir.path().join("data"), "[delivery]\nfailing_after_seconds = 1\n");
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let watches =
        json!({"url": receiver.url(), "event_types": ["triggerd.*", "b"], "retry_schedule": [2]});
    let (path, _) = endpoint(&org, &watches);
    // One endpoint for each event, so that no endpoint fails for long.
    for wanted in ["a", "c"] {
        endpoint(
            &org,
            &json!({"url": "http://127.0.0.1:1/", "event_types": [wanted], "retry_schedule": []}),
        );
    }
    let dead = || org.metric("triggerd_deliveries_total{outcome=\"dead\"}");
    // The watcher fails twice, more than a second apart, and its delivery is given up: this
    // delivery is dead, and the watcher has been failing long enough.
    receiver.answer_next([500, 500, 410]);
    org.send("a", &json!(1));
    until(|| (dead() == 2.0).then_some(()));
    assert_eq!(events(&org, "triggerd.*").len(), 1, "of the ordinary one");
    // The watcher answers 410 to the next event.
    org.send("c", &json!(2));
    until(|| (dead() == 4.0).then_some(()));
    assert_eq!(org.get(&path).json["disabled_reason"], "gone");
    let all = events(&org, "triggerd.*");
    assert!(all.len() == 2 && all.iter().all(|event| event["type"] == DEAD), "{all:?}");
    // An ordinary event disables the same endpoint, and this is reported.
    assert_eq!(org.post(&format!("{path}/enable"), &json!({})).status, 200);
    receiver.answer_next([410]);
    org.send("b", &json!(3));
    let disabled = until(|| events(&org, DISABLED).into_iter().next());
    assert_eq!(disabled["payload"]["event_type"], "b");
    assert!(path.ends_with(disabled["payload"]["endpoint_id"].as_str().unwrap()), "{disabled}");
    receiver.stop();
}

#[test]
fn producers_cannot_post_the_servers_own_types() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let org = server.org("Acme");
    let refused = org.send(DEAD, &json!({}));
    assert_eq!((refused.status, refused.code()), (422, "validation_failed"));
    assert!(refused.text.contains("must not begin with `triggerd.`"), "{refused:?}");
    let items =
        json!({"events": [{"type": DEAD, "payload": 1}, {"type": "triggerd", "payload": 1}]});
    let batch = org.post("/api/events/batch", &items).json;
    let statuses: Vec<_> =
        (0..2).map(|n| batch["results"][n]["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["rejected", "accepted"]);
    let cloud = |event_type: &str| {
        let body = json!({"specversion": "1.0", "type": event_type, "source": "/a", "id": "1"})
            .to_string();
        let headers = [("Content-Type", "application/cloudevents+json")];
        org.request(reqwest::Method::POST, "/api/events", &headers, body).status
    };
    assert_eq!((cloud(DISK_LOW), cloud("disk.low")), (422, 202));
    assert_eq!(events(&org, "triggerd.*").len(), 0);
}

/// A reserve with which the disk is low, but not full. `None` if the configuration does not allow
/// so much.
fn reserve_above_half(free_bytes: f64) -> Option<u64> {
    const RESERVE_MAX: u64 = 1 << 40;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "free bytes are a whole number"
    )]
    let reserve = (free_bytes / 1.5) as u64;
    (reserve <= RESERVE_MAX).then_some(reserve)
}

#[test]
fn a_disk_that_gets_full_is_told_once_to_organizations_that_ask_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let (asks, plain, off) = (server.org("Asks"), server.org("Plain"), server.org("Off"));
    let receiver = Receiver::start().unwrap();
    endpoint(&asks, &json!({"url": receiver.url(), "event_types": ["triggerd.disk.*"]}));
    endpoint(&plain, &json!({ "url": receiver.url() }));
    let disabled = json!({"url": receiver.url(), "event_types": ["triggerd.*"], "enabled": false});
    endpoint(&off, &disabled);
    let free = asks.metric("triggerd_disk_free_bytes");
    assert_eq!(told(&asks, "disk_low"), 0.0, "without a reserve nothing is low");
    assert_eq!(server.stop().0, Some(0));
    let Some(reserve) = reserve_above_half(free) else {
        return eprintln!("skipped: more disk is free than can be a reserve");
    };
    let start = || {
        let config = crate::harness::settings(&data, "");
        let config = config.replace("reserve_bytes = 1", &format!("reserve_bytes = {reserve}"));
        let server = Process::start_on(&data, &config);
        let orgs = [&asks, &plain, &off].map(|org| Client::new(&server.url, &org.key));
        (server, orgs)
    };
    let (server, [asks, plain, off]) = start();
    let request = receiver.wait_for(1, PATIENCE).remove(0);
    let body = body(&request);
    assert_eq!(body["type"], DISK_LOW);
    assert_eq!(body["data"]["reserve_bytes"], reserve);
    assert!(body["data"]["free_bytes"].as_u64().unwrap() < 2 * reserve, "{body}");
    until(|| (told(&asks, "disk_low") == 1.0).then_some(()));
    assert_eq!((events(&plain, "triggerd.*").len(), events(&off, "triggerd.*").len()), (0, 0));
    assert_eq!(asks.send("a", &json!(1)).status, 202, "events are taken still");
    server.kill();
    let (server, [asks, ..]) = start();
    // The second report is a duplicate, which the metric counts.
    until(|| (asks.metric("triggerd_events_duplicate_total") == 1.0).then_some(()));
    assert_eq!((told(&asks, "disk_low"), events(&asks, DISK_LOW).len()), (0.0, 1));
    assert_eq!(server.stop().0, Some(0));
    receiver.stop();
}
