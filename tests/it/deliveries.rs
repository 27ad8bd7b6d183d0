//! `/api/deliveries`, `/api/dead-letters` and `/api/events` with the real binary: the state of
//! deliveries, and retries by request.

use serde_json::{Value, json};
use triggerd::app::App;
use triggerd::base::clock::Clock;
use triggerd::cli::demo::receiver::Receiver;
use triggerd::config::Config;

use crate::harness::{Answer, Client, PATIENCE, Process, command, server, settings, until};

#[path = "deliveries_events.rs"]
mod events;

fn data(org: &Client, path: &str) -> Vec<Value> {
    let page = org.get(path);
    assert_eq!(page.status, 200, "{page:?}");
    page.json["data"].as_array().unwrap().clone()
}

/// Waits for the delivery of the event to the endpoint in this state.
fn delivery(org: &Client, event: &str, endpoint: &str, state: &str) -> Value {
    let path = format!("/api/deliveries?event_id={event}&endpoint_id={endpoint}&state={state}");
    until(|| data(org, &path).first().cloned())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// Asserts that three attempts of a delivery are shown, newest first.
fn assert_three_attempts(details: &Value) {
    let attempts = details["attempts"].as_array().unwrap();
    let shown: Vec<_> =
        attempts.iter().map(|attempt| json!([attempt["number"], attempt["status"]])).collect();
    assert_eq!(shown, [json!([3, 200]), json!([2, 429]), json!([1, 500])], "newest first");
    assert_eq!(
        (&attempts[0]["error"], &attempts[2]["error"]["code"]),
        (&Value::Null, &json!("http_status"))
    );
    assert!(attempts.iter().all(|attempt| text(attempt, "id").starts_with("atm_")), "{details}");
    assert!(attempts[0]["started_at"].as_str() >= attempts[2]["started_at"].as_str(), "{details}");
}

#[test]
fn a_delivery_shows_what_each_attempt_brought_also_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (org, other, receiver) =
        (server.org("Acme"), server.org("Other"), Receiver::start().unwrap());
    let to = org.endpoint(&json!({"url": receiver.url(), "retry_schedule": [1, 1]}));
    receiver.answer_next([500, 429]);
    let event = org.send("a.b", &json!(1)).id();
    let shown = delivery(&org, &event, &to, "delivered");
    assert_eq!([text(&shown, "event_id"), text(&shown, "endpoint_id")], [&*event, &*to]);
    assert_eq!(shown["attempt_count"], 3, "{shown}");
    assert_eq!(shown["next_attempt_at"], Value::Null, "{shown}");
    let path = format!("/api/deliveries/{}", text(&shown, "id"));
    let details = org.get(&path).json;
    assert_eq!(
        (&details["state"], &details["endpoint_enabled"]),
        (&json!("delivered"), &json!(true)),
        "{details}"
    );
    assert_three_attempts(&details);
    for path in [&path, "/api/deliveries/dlv_x", "/api/deliveries/dlv_00000000000000000000000001"] {
        let answer = if path == "/api/deliveries/dlv_x" { org.get(path) } else { other.get(path) };
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{answer:?}");
    }
    assert_eq!(data(&other, &format!("/api/deliveries?event_id={event}")), Vec::<Value>::new());
    server.kill();
    let server = Process::start(&dir.path().join("data"));
    let org = Client::new(&server.url, &org.key);
    assert_eq!(org.get(&path).json, details, "the same after a crash");
    receiver.stop();
}

/// The events of all deliveries, in the order of the list, two a page.
fn events_by_pages(org: &Client) -> Vec<String> {
    let (mut found, mut path) = (Vec::new(), "/api/deliveries?limit=2".to_owned());
    loop {
        let page = org.get(&path).json;
        let items = page["data"].as_array().unwrap();
        found.extend(items.iter().map(|item| text(item, "event_id").to_owned()));
        match page["next_cursor"].as_str().filter(|_| page["has_more"] == json!(true)) {
            Some(cursor) => path = format!("/api/deliveries?limit=2&cursor={cursor}"),
            None => return found,
        }
    }
}

#[test]
fn deliveries_are_listed_page_by_page_and_by_state() {
    let (server, _dir) = server();
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let good = org.endpoint(&json!({"url": receiver.url(), "event_types": ["good.*"]}));
    let bad =
        json!({"url": "http://127.0.0.1:1/", "retry_schedule": [600], "event_types": ["bad"]});
    let bad = org.endpoint(&bad);
    let sent: Vec<String> = (0..6).map(|n| org.send("good.a", &json!(n)).id()).collect();
    until(|| (data(&org, "/api/deliveries?state=delivered").len() == 6).then_some(()));
    let failing = org.send("bad", &json!(1)).id();
    let retrying = delivery(&org, &failing, &bad, "retrying");
    assert!(
        retrying["next_attempt_at"].is_string() && retrying["attempt_count"] == json!(1),
        "{retrying}"
    );
    let expected: Vec<_> = sent.iter().rev().chain([&failing]).cloned().collect();
    assert_eq!(events_by_pages(&org), expected, "by endpoint, newest first");
    assert_eq!(data(&org, &format!("/api/deliveries?endpoint_id={good}")).len(), 6);
    assert_eq!(data(&org, "/api/deliveries?until=2020-01-01T00:00:00Z"), Vec::<Value>::new());
    assert_eq!(data(&org, "/api/deliveries?since=2020-01-01T00:00:00Z").len(), 7);

    // A deleted endpoint's deliveries are still listed.
    assert_eq!(org.delete(&format!("/api/endpoints/{bad}")).status, 204);
    let canceled = delivery(&org, &failing, &bad, "canceled");
    let details = org.get(&format!("/api/deliveries/{}", text(&canceled, "id"))).json;
    assert_eq!(details["endpoint_disabled_reason"], json!("deleted"), "{details}");
    assert_eq!(details["attempts"][0]["error"]["code"], json!("connect"), "{details}");
    receiver.wait_for(6, PATIENCE);
    receiver.stop();
}

#[test]
fn the_list_of_deliveries_names_each_wrong_parameter_and_needs_its_scope() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let wrong = org.get(
        "/api/deliveries?state=lost&endpoint_id=x&event_id=y&since=z&limit=0&cursor=c&colour=red",
    );
    let faults = wrong.json["errors"].as_array().unwrap().len();
    assert_eq!((wrong.status, faults), (400, 7), "{wrong:?}");
    let scopes = json!({"name": "r", "scopes": ["deliveries:read"]});
    let reader = org.post("/api/keys/generate", &scopes);
    let reader = org.with_key(text(&reader.json, "key"));
    assert_eq!((reader.get("/api/deliveries").status, reader.get("/api/inbox").status), (200, 403));
}

/// A delivery and its endpoint, which tries again only after ten minutes.
struct Failing {
    receiver: Receiver,
    endpoint: String,
    event: String,
    /// The path of the delivery.
    path: String,
}

impl Failing {
    /// The first `failures` attempts are answered 500, and the first of them is over.
    fn of(org: &Client, failures: usize) -> Self {
        let receiver = Receiver::start().unwrap();
        let endpoint = org.endpoint(&json!({"url": receiver.url(), "retry_schedule": [600]}));
        receiver.answer_next(vec![500; failures]);
        let event = org.send("a.b", &json!(1)).id();
        let waiting = delivery(org, &event, &endpoint, "retrying");
        let path = format!("/api/deliveries/{}", text(&waiting, "id"));
        Self { receiver, endpoint, event, path }
    }

    /// Tries again, by request; returns the answer.
    fn retry(&self, org: &Client) -> Answer {
        org.post_text(&format!("{}/retry", self.path), "")
    }

    /// Waits for the delivery in this state.
    fn until(&self, org: &Client, state: &str) -> Value {
        delivery(org, &self.event, &self.endpoint, state)
    }
}

#[test]
fn a_delivery_is_tried_again_when_somebody_says_so() {
    let (server, _dir) = server();
    let (org, other) = (server.org("Acme"), server.org("Other"));
    let failing = Failing::of(&org, 3);
    assert_eq!(failing.retry(&other).status, 404);
    let again = failing.retry(&org);
    assert_eq!((again.status, &again.json["endpoint_enabled"]), (202, &json!(true)), "{again:?}");
    let dead = failing.until(&org, "dead");
    assert_eq!(
        (&dead["attempt_count"], &dead["reason"]),
        (&json!(2), &json!("attempts_exhausted")),
        "{dead}"
    );
    assert!(dead["dead_at"].is_string(), "{dead}");
    // The third attempt is the first of a new schedule: it fails, and a further attempt is due.
    assert_eq!(failing.retry(&org).status, 202);
    let retrying =
        until(|| Some(failing.until(&org, "retrying")).filter(|it| it["attempt_count"] == 3));
    assert!(retrying["next_attempt_at"].is_string(), "{retrying}");
    let attempts = org.get(&failing.path).json["attempts"].clone();
    let triggers: Vec<_> =
        attempts.as_array().unwrap().iter().map(|attempt| text(attempt, "trigger")).collect();
    let why = "sooner, once more, and before that by itself";
    assert_eq!(triggers, ["retry", "retry", "schedule"], "{why}");
    assert_eq!(failing.retry(&org).status, 202);
    failing.until(&org, "delivered");
    let numbers: Vec<String> =
        failing.receiver.received().into_iter().map(|request| request.attempt).collect();
    assert_eq!(numbers, ["1", "2", "3", "4"], "counted on");
    org.inbox_until(<[_]>::is_empty);
    let reported = data(&org, "/api/events?type=triggerd.*");
    assert_eq!((reported.len(), text(&reported[0], "type")), (1, "triggerd.delivery.dead"));
    failing.receiver.stop();
}

#[test]
fn an_attempt_shows_its_address_its_times_and_the_headers_of_its_answer() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let failing = Failing::of(&org, 1);
    let attempt = org.get(&failing.path).json["attempts"][0].clone();
    let address = failing.receiver.url();
    let known = format!("http://{}/", text(&attempt, "address"));
    assert!(address.starts_with(&known), "{address}: {attempt}");
    let timing = &attempt["timing"];
    assert!(timing["connect_ms"].is_u64() && timing["first_byte_ms"].is_u64(), "{attempt}");
    assert!(timing["dns_ms"].is_null() && timing["tls_ms"].is_null(), "{attempt}");
    assert!(attempt["response_headers"].is_object(), "{attempt}");
    failing.receiver.stop();
}

#[test]
fn a_disabled_endpoint_gets_a_retried_delivery_when_it_is_enabled_and_a_deleted_one_gets_none() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let failing = Failing::of(&org, 1);
    assert_eq!(failing.retry(&org).status, 202);
    failing.until(&org, "delivered");
    let endpoint = format!("/api/endpoints/{}", failing.endpoint);
    org.patch(&endpoint, &json!({"enabled": false}));
    let again = failing.retry(&org);
    assert_eq!((again.status, &again.json["state"]), (202, &json!("retrying")), "{again:?}");
    assert_eq!(again.json["endpoint_enabled"], json!(false), "{again:?}");
    assert!(!org.inbox_ids().contains(&failing.event), "it has left for good");
    org.post(&format!("{endpoint}/enable"), &json!({}));
    assert_eq!(failing.receiver.wait_for(3, PATIENCE)[2].id, failing.event);
    failing.until(&org, "delivered");
    org.delete(&endpoint);
    let refused = failing.retry(&org);
    assert_eq!((refused.status, refused.code()), (422, "validation_failed"));
    failing.receiver.stop();
}

/// Makes five dead letters. Returns the id of their endpoint, its receiver, and the dead letters.
fn five_dead_letters(org: &Client) -> (String, Receiver, Vec<Value>) {
    let receiver = Receiver::start().unwrap();
    let settings = json!({"url": receiver.url(), "retry_schedule": [], "max_in_flight": 1});
    let to = org.endpoint(&settings);
    receiver.answer_next([500; 5]);
    (0..5).for_each(|n| drop(org.send("a.b", &json!(n))));
    let dead = until(|| Some(data(org, "/api/dead-letters")).filter(|dead| dead.len() == 5));
    (to, receiver, dead)
}

/// Drops dead letters; returns their number.
fn drop_dead(org: &Client, body: &Value) -> Value {
    let json_type = [("Content-Type", "application/json")];
    let method = reqwest::Method::DELETE;
    let dropped = org.request(method, "/api/dead-letters", &json_type, body.to_string());
    assert_eq!(dropped.status, 200, "{dropped:?}");
    dropped.json["dropped"].clone()
}

#[test]
fn dead_letters_are_listed_and_dropped() {
    let (server, _dir) = server();
    let (org, other) = (server.org("Acme"), server.org("Other"));
    let (_, receiver, dead) = five_dead_letters(&org);
    assert!(dead.is_sorted_by(|a, b| text(a, "dead_at") >= text(b, "dead_at")), "{dead:?}");
    let page = org.get("/api/dead-letters?limit=3").json;
    let rest =
        data(&org, &format!("/api/dead-letters?limit=3&cursor={}", text(&page, "next_cursor")));
    assert_eq!([page["data"].as_array().unwrap().as_slice(), &rest].concat(), dead);
    assert_eq!(data(&other, "/api/dead-letters"), Vec::<Value>::new());
    let ids = json!({"ids": [dead[0]["id"], dead[1]["id"]]});
    let replayed =
        |org: &Client| org.post("/api/dead-letters/replay", &ids).json["replayed"].clone();
    assert_eq!((replayed(&other), drop_dead(&other, &ids)), (json!(0), json!(0)), "another's");
    assert_eq!(drop_dead(&org, &ids), json!(2));
    assert_eq!(drop_dead(&org, &ids), json!(0), "once");
    let commands = || org.metric("triggerd_commands_applied_total");
    let before = commands();
    assert_eq!(replayed(&org), json!(0), "no dead letters any more");
    // The server may have made one of its own meanwhile.
    assert!(commands() - before < 2.0, "what is no dead letter costs no command");
    assert_eq!(data(&org, "/api/deliveries?state=canceled").len(), 2);
    assert_eq!(data(&org, "/api/dead-letters").len(), 3);
    receiver.stop();
}

#[test]
fn dead_letters_are_replayed() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let (to, receiver, dead) = five_dead_letters(&org);
    assert_eq!(drop_dead(&org, &json!({"ids": [dead[0]["id"], dead[1]["id"]]})), json!(2));
    let nothing = org.post("/api/dead-letters/replay", &json!({"until": "2020-01-01T00:00:00Z"}));
    assert_eq!(nothing.json, json!({"replayed": 0, "has_more": false, "next_since": null}));
    let all = org.post("/api/dead-letters/replay", &json!({ "endpoint_id": to }));
    assert_eq!(all.json, json!({"replayed": 3, "has_more": false, "next_since": null}));
    let delivered = "/api/deliveries?state=delivered";
    let delivered = until(|| Some(data(&org, delivered)).filter(|found| found.len() == 3));
    assert_eq!(data(&org, "/api/dead-letters"), Vec::<Value>::new());
    for delivered in delivered {
        let shown = org.get(&format!("/api/deliveries/{}", text(&delivered, "id"))).json;
        let triggers = [0, 1].map(|number| text(&shown["attempts"][number], "trigger"));
        assert_eq!(triggers, ["replay", "schedule"], "{shown}");
    }
    let stats = org.get(&format!("/api/endpoints/{to}/stats")).json;
    assert_eq!((&stats["dead_letters"], &stats["waiting"]), (&json!(0), &json!(0)), "{stats}");
    receiver.stop();
}

#[test]
fn every_fault_of_a_choice_of_dead_letters_is_named() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    for (body, faults) in [
        (json!({"ids": ["dlv_x", 7], "since": "yesterday", "colour": "red"}), 5),
        (json!({}), 1),
        (json!({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}), 1),
    ] {
        let wrong = org.post("/api/dead-letters/replay", &body);
        assert_eq!(
            (wrong.status, wrong.json["errors"].as_array().unwrap().len()),
            (422, faults),
            "{wrong:?}"
        );
    }
}

#[test]
fn what_waits_for_a_deleted_endpoint_is_canceled_from_that_moment_on() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("data");
    let server = Process::start(&directory);
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let to = org.endpoint(&json!({"url": receiver.url(), "retry_schedule": [3600]}));
    receiver.answer_next([500]);
    let event = org.send("a.b", &json!(1)).id();
    let waits = delivery(&org, &event, &to, "retrying");
    assert_eq!(org.delete(&format!("/api/endpoints/{to}")).status, 204);
    // The delivery is canceled even if the scheduler did not see the deletion.
    let canceled = data(&org, &format!("/api/deliveries?event_id={event}&state=canceled"));
    assert_eq!((canceled.len(), &canceled[0]["id"]), (1, &waits["id"]), "{canceled:?}");
    assert_eq!(
        (&canceled[0]["next_attempt_at"], &canceled[0]["attempt_count"]),
        (&Value::Null, &json!(1))
    );
    let shown = org.get(&format!("/api/events/{event}")).json;
    assert_eq!(
        (&shown["deliveries"], &shown["deliveries_complete"]),
        (&json!(canceled), &json!(true)),
        "{shown}"
    );
    assert_eq!(data(&org, "/api/deliveries?state=retrying"), Vec::<Value>::new());
    let (code, text) =
        command(&directory, &["explain", &event, "--key", &org.key, "--url", &server.url]);
    assert!(
        code == Some(0) && text.contains("(deleted since): canceled after 1 attempt."),
        "{text}"
    );
    receiver.stop();
}

#[test]
fn what_is_retried_after_a_clock_was_set_back_comes_after_what_was_due_before() {
    const START_MS: u64 = 1_800_000_000_000;
    let dir = tempfile::tempdir().unwrap();
    let (clock, receiver) = (Clock::manual(START_MS), Receiver::start().unwrap());
    let config = Config::from_toml(&settings(&dir.path().join("data"), "")).unwrap();
    let app = App::start(config, clock.clone()).unwrap();
    let org = Client::new(&format!("http://{}", app.address()), app.admin_token()).new_org("Acme");
    let to =
        org.endpoint(&json!({"url": receiver.url(), "max_in_flight": 1, "retry_schedule": [1]}));
    let enable = |enabled: bool| {
        assert_eq!(
            org.patch(&format!("/api/endpoints/{to}"), &json!({"enabled": enabled})).status,
            200
        );
    };
    receiver.answer_next([200, 500]);
    let first = org.send("a.b", &json!(1)).id();
    let delivered = delivery(&org, &first, &to, "delivered");
    let second = org.send("a.b", &json!(2)).id();
    delivery(&org, &second, &to, "retrying");
    enable(false);
    clock.set_ms(START_MS - 3_600_000);
    // The retry of the second event is due from now on.
    clock.advance_ms(60_000);
    let path = format!("/api/deliveries/{}/retry", text(&delivered, "id"));
    assert_eq!(org.post(&path, &json!({})).status, 202);
    enable(true);
    let came: Vec<_> =
        receiver.wait_for(4, PATIENCE).into_iter().map(|request| request.id).collect();
    assert_eq!(came, [first.clone(), second.clone(), second, first]);
    app.stop();
    receiver.stop();
}
