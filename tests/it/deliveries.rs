//! `/api/deliveries`, `/api/dead-letters` and `/api/events` with the real binary: the state of
//! deliveries, and retries by request.

use serde_json::{Value, json};
use triggerd::app::App;
use triggerd::base::clock::Clock;
use triggerd::cli::demo::receiver::Receiver;
use triggerd::config::Config;

use crate::harness::{Client, PATIENCE, Process, command, settings, until};

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
    assert_eq!(
        (text(&shown, "event_id"), text(&shown, "endpoint_id")),
        (event.as_str(), to.as_str())
    );
    assert_eq!(
        (&shown["attempt_count"], &shown["next_attempt_at"]),
        (&json!(3), &Value::Null),
        "{shown}"
    );
    let path = format!("/api/deliveries/{}", text(&shown, "id"));
    let details = org.get(&path).json;
    assert_eq!(
        (&details["state"], &details["endpoint_enabled"]),
        (&json!("delivered"), &json!(true)),
        "{details}"
    );
    let attempts = details["attempts"].as_array().unwrap();
    let told: Vec<_> = attempts
        .iter()
        .map(|attempt| (attempt["number"].clone(), attempt["status"].clone()))
        .collect();
    assert_eq!(
        told,
        [(json!(3), json!(200)), (json!(2), json!(429)), (json!(1), json!(500))],
        "newest first"
    );
    assert_eq!(
        (&attempts[0]["error"], &attempts[2]["error"]["code"]),
        (&Value::Null, &json!("http_status"))
    );
    assert!(attempts.iter().all(|attempt| text(attempt, "id").starts_with("atm_")), "{details}");
    assert!(attempts[0]["started_at"].as_str() >= attempts[2]["started_at"].as_str(), "{details}");

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

#[test]
fn deliveries_are_listed_page_by_page_and_by_state() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let good = org.endpoint(&json!({"url": receiver.url(), "event_types": ["good.*"]}));
    let bad = org.endpoint(
        &json!({"url": "http://127.0.0.1:1/", "retry_schedule": [600], "event_types": ["bad"]}),
    );
    let sent: Vec<String> = (0..6).map(|n| org.send("good.a", &json!(n)).id()).collect();
    until(|| (data(&org, "/api/deliveries?state=delivered").len() == 6).then_some(()));
    let failing = org.send("bad", &json!(1)).id();
    let retrying = delivery(&org, &failing, &bad, "retrying");
    assert!(
        retrying["next_attempt_at"].is_string() && retrying["attempt_count"] == json!(1),
        "{retrying}"
    );

    let (mut found, mut path) = (Vec::new(), "/api/deliveries?limit=2".to_owned());
    loop {
        let page = org.get(&path).json;
        found.extend(
            page["data"].as_array().unwrap().iter().map(|item| text(item, "event_id").to_owned()),
        );
        match page["next_cursor"].as_str().filter(|_| page["has_more"] == json!(true)) {
            Some(cursor) => path = format!("/api/deliveries?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    let expected: Vec<_> = sent.iter().rev().chain([&failing]).cloned().collect();
    assert_eq!(found, expected, "by endpoint, newest first");
    assert_eq!(data(&org, &format!("/api/deliveries?endpoint_id={good}")).len(), 6);
    assert_eq!(data(&org, "/api/deliveries?until=2020-01-01T00:00:00Z"), Vec::<Value>::new());
    assert_eq!(data(&org, "/api/deliveries?since=2020-01-01T00:00:00Z").len(), 7);

    // A deleted endpoint's deliveries are still listed.
    assert_eq!(org.delete(&format!("/api/endpoints/{bad}")).status, 204);
    let canceled = delivery(&org, &failing, &bad, "canceled");
    let details = org.get(&format!("/api/deliveries/{}", text(&canceled, "id"))).json;
    assert_eq!(details["endpoint_disabled_reason"], json!("deleted"), "{details}");
    assert_eq!(details["attempts"][0]["error"]["code"], json!("connect"), "{details}");

    let wrong = org.get(
        "/api/deliveries?state=lost&endpoint_id=x&event_id=y&since=z&limit=0&cursor=c&colour=red",
    );
    assert_eq!(
        (wrong.status, wrong.json["errors"].as_array().unwrap().len()),
        (400, 7),
        "{wrong:?}"
    );
    let reader =
        org.post("/api/keys/generate", &json!({"name": "r", "scopes": ["deliveries:read"]}));
    let reader = org.with_key(text(&reader.json, "key"));
    assert_eq!((reader.get("/api/deliveries").status, reader.get("/api/inbox").status), (200, 403));
    receiver.wait_for(6, PATIENCE);
    receiver.stop();
}

#[test]
fn a_delivery_is_tried_again_when_somebody_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (org, other, receiver) =
        (server.org("Acme"), server.org("Other"), Receiver::start().unwrap());
    let to = org.endpoint(&json!({"url": receiver.url(), "retry_schedule": [600]}));
    receiver.answer_next([500, 500, 500]);
    let event = org.send("a.b", &json!(1)).id();
    let path = format!("/api/deliveries/{}", text(&delivery(&org, &event, &to, "retrying"), "id"));
    let retry = || org.post_text(&format!("{path}/retry"), "");
    assert_eq!(other.post_text(&format!("{path}/retry"), "").status, 404);
    let again = retry();
    assert_eq!((again.status, &again.json["endpoint_enabled"]), (202, &json!(true)), "{again:?}");
    let dead = delivery(&org, &event, &to, "dead");
    assert_eq!(
        (&dead["attempt_count"], &dead["reason"]),
        (&json!(2), &json!("attempts_exhausted")),
        "{dead}"
    );
    assert!(dead["dead_at"].is_string(), "{dead}");

    // The third attempt is the first of a new schedule: it fails, and a further attempt is due.
    assert_eq!(retry().status, 202);
    let retrying = until(|| {
        Some(delivery(&org, &event, &to, "retrying")).filter(|it| it["attempt_count"] == json!(3))
    });
    assert!(retrying["next_attempt_at"].is_string(), "{retrying}");
    let attempts = org.get(&path).json["attempts"].clone();
    let triggers: Vec<_> =
        attempts.as_array().unwrap().iter().map(|attempt| text(attempt, "trigger")).collect();
    assert_eq!(
        triggers,
        ["retry", "retry", "schedule"],
        "sooner, once more, and before that by itself"
    );
    let (first, address) = (&attempts[2], receiver.url());
    assert!(
        address.starts_with(&format!("http://{}/", text(first, "address"))),
        "{address}: {first}"
    );
    assert!(
        first["timing"]["connect_ms"].is_u64() && first["timing"]["first_byte_ms"].is_u64(),
        "{first}"
    );
    assert_eq!(
        (&first["timing"]["dns_ms"], &first["timing"]["tls_ms"]),
        (&Value::Null, &Value::Null),
        "{first}"
    );
    assert!(first["response_headers"].is_object(), "{first}");
    assert_eq!(retry().status, 202);
    delivery(&org, &event, &to, "delivered");
    let attempts: Vec<String> =
        receiver.received().into_iter().map(|request| request.attempt).collect();
    assert_eq!(attempts, ["1", "2", "3", "4"], "counted on");
    org.inbox_until(<[_]>::is_empty);
    let told = org.get("/api/events?type=triggerd.*").json["data"].clone();
    assert_eq!(
        (told.as_array().unwrap().len(), &told[0]["type"]),
        (1, &json!("triggerd.delivery.dead")),
        "it was told"
    );

    // A disabled endpoint gets the delivery when it is enabled.
    org.patch(&format!("/api/endpoints/{to}"), &json!({"enabled": false}));
    let again = retry();
    assert_eq!((again.status, &again.json["state"]), (202, &json!("retrying")), "{again:?}");
    assert_eq!(again.json["endpoint_enabled"], json!(false), "{again:?}");
    assert!(!org.inbox_ids().contains(&event), "it has left for good");
    org.post(&format!("/api/endpoints/{to}/enable"), &json!({}));
    assert_eq!(receiver.wait_for(5, PATIENCE)[4].id, event);
    delivery(&org, &event, &to, "delivered");
    org.delete(&format!("/api/endpoints/{to}"));
    assert_eq!((retry().status, retry().code()), (422, "validation_failed"));
    receiver.stop();
}

#[test]
fn dead_letters_are_listed_replayed_and_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (org, other, receiver) =
        (server.org("Acme"), server.org("Other"), Receiver::start().unwrap());
    let to =
        org.endpoint(&json!({"url": receiver.url(), "retry_schedule": [], "max_in_flight": 1}));
    receiver.answer_next([500; 5]);
    for n in 0..5 {
        org.send("a.b", &json!(n));
    }
    let dead = until(|| Some(data(&org, "/api/dead-letters")).filter(|dead| dead.len() == 5));
    assert!(dead.is_sorted_by(|a, b| text(a, "dead_at") >= text(b, "dead_at")), "{dead:?}");
    let page = org.get("/api/dead-letters?limit=3").json;
    let rest =
        data(&org, &format!("/api/dead-letters?limit=3&cursor={}", text(&page, "next_cursor")));
    assert_eq!([page["data"].as_array().unwrap().as_slice(), &rest].concat(), dead);
    assert_eq!(data(&other, "/api/dead-letters"), Vec::<Value>::new());

    let drop = |org: &Client, body: &Value| {
        let json_type = [("Content-Type", "application/json")];
        org.request(reqwest::Method::DELETE, "/api/dead-letters", &json_type, body.to_string())
    };
    let ids = json!({"ids": [dead[0]["id"], dead[1]["id"]]});
    assert_eq!(
        other.post("/api/dead-letters/replay", &ids).json["replayed"],
        json!(0),
        "another's"
    );
    assert_eq!(drop(&other, &ids).json["dropped"], json!(0), "another's");
    let dropped = drop(&org, &ids);
    assert_eq!((dropped.status, &dropped.json["dropped"]), (200, &json!(2)), "{dropped:?}");
    assert_eq!(drop(&org, &ids).json["dropped"], json!(0), "once");
    assert_eq!(
        org.post("/api/dead-letters/replay", &ids).json["replayed"],
        json!(0),
        "no dead letters any more"
    );
    assert_eq!(data(&org, "/api/deliveries?state=canceled").len(), 2);
    assert_eq!(data(&org, "/api/dead-letters").len(), 3);

    let nothing = org.post("/api/dead-letters/replay", &json!({"until": "2020-01-01T00:00:00Z"}));
    assert_eq!(nothing.json, json!({"replayed": 0, "has_more": false, "next_since": null}));
    let all = org.post("/api/dead-letters/replay", &json!({ "endpoint_id": to }));
    assert_eq!(all.json, json!({"replayed": 3, "has_more": false, "next_since": null}));
    until(|| (data(&org, "/api/deliveries?state=delivered").len() == 3).then_some(()));
    assert_eq!(data(&org, "/api/dead-letters"), Vec::<Value>::new());
    for delivered in data(&org, "/api/deliveries?state=delivered") {
        let attempts =
            org.get(&format!("/api/deliveries/{}", text(&delivered, "id"))).json["attempts"]
                .clone();
        let triggers = [text(&attempts[0], "trigger"), text(&attempts[1], "trigger")];
        assert_eq!(triggers, ["replay", "schedule"], "{attempts}");
    }
    let stats = org.get(&format!("/api/endpoints/{to}/stats")).json;
    assert_eq!((&stats["dead_letters"], &stats["waiting"]), (&json!(0), &json!(0)), "{stats}");
    receiver.stop();
}

#[test]
fn every_fault_of_a_choice_of_dead_letters_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
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
#[expect(clippy::too_many_lines, reason = "a table: one row follows the other")]
fn an_event_says_what_became_of_it_and_why_an_endpoint_matched_or_did_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (org, other, receiver) =
        (server.org("Acme"), server.org("Other"), Receiver::start().unwrap());
    let url = receiver.url();
    let good = org.endpoint(&json!({"url": url, "event_types": ["order.*"]}));
    let unwanted = org.endpoint(&json!({"url": url, "event_types": ["invoice.*"]}));
    let off = org.endpoint(&json!({"url": url, "enabled": false}));
    let payload = r#"{ "n": 1.50 }"#;
    let body = format!(
        r#"{{"type":"order.paid","payload":{payload},"dedup_id":"d-1","labels":{{"k":"v"}}}}"#
    );
    let event = org.post_text("/api/events", &body).id();
    delivery(&org, &event, &good, "delivered");
    let second = org.send("user", &json!(2)).id();
    // The endpoint must be created in a later millisecond than the event was accepted.
    let began = std::time::Instant::now();
    until(|| (began.elapsed().as_millis() >= 2).then_some(()));
    let late = org.endpoint(&json!({ "url": url }));

    let answer = org.get(&format!("/api/events/{event}"));
    assert!(answer.text.contains(&format!("\"payload\":{payload},")), "as it came: {answer:?}");
    let shown = answer.json;
    assert_eq!(
        (&shown["status"], &shown["dedup_id"], &shown["labels"]["k"]),
        (&json!("delivered"), &json!("d-1"), &json!("v"))
    );
    assert_eq!(
        (shown["deliveries"].as_array().unwrap().len(), &shown["deliveries"][0]["state"]),
        (1, &json!("delivered"))
    );
    let told: Vec<_> = shown["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| {
            (text(found, "endpoint_id"), found["matched"] == json!(true), found["reason"].as_str())
        })
        .collect();
    let expected = [
        (good.as_str(), true, Some("type_wanted")),
        (&unwanted, false, Some("type_not_wanted")),
        (&off, false, Some("disabled")),
        (&late, false, Some("made_later")),
    ];
    assert_eq!(told, expected);
    assert_eq!(shown["endpoints"][0]["delivery"]["state"], json!("delivered"), "{shown}");
    // The reasons are recorded, so later changes of the endpoints change none of them.
    org.patch(&format!("/api/endpoints/{off}"), &json!({"enabled": true}));
    org.patch(&format!("/api/endpoints/{unwanted}"), &json!({"event_types": []}));
    org.patch(&format!("/api/endpoints/{good}"), &json!({"enabled": false}));
    let reasons = |event: &str| -> Vec<Value> {
        let shown = org.get(&format!("/api/events/{event}")).json;
        let endpoints = shown["endpoints"].as_array().unwrap().iter();
        endpoints.map(|found| found["reason"].clone()).collect()
    };
    assert_eq!(reasons(&event), ["type_wanted", "type_not_wanted", "disabled", "made_later"]);
    for answer in [other.get(&format!("/api/events/{event}")), org.get("/api/events/evt_x")] {
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{answer:?}");
    }

    let words = ["explain", &event, "--url", &server.url, "--key", &org.key];
    let (code, said) = crate::harness::command(&dir.path().join("data"), &words);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{good} ({url}): accepted after 1 attempt.")), "{said}");
    assert!(
        said.contains(&format!(
            "{late} ({url}): did not get the event, because the endpoint was created after"
        )),
        "{said}"
    );

    let ids = |path: &str| {
        data(&org, path).iter().map(|item| text(item, "id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("/api/events"), [second.clone(), event.clone()], "newest first");
    assert_eq!(ids("/api/events?status=delivered"), std::slice::from_ref(&event));
    assert_eq!(ids("/api/events?type=user"), std::slice::from_ref(&second));
    let page = org.get("/api/events?limit=1").json;
    let rest = ids(&format!("/api/events?limit=1&cursor={}", text(&page, "next_cursor")));
    assert_eq!((text(&page["data"][0], "id"), rest), (second.as_str(), vec![event.clone()]));
    assert_eq!(data(&other, "/api/events"), Vec::<Value>::new());
    let wrong =
        org.get("/api/events?type=a+b&status=lost&since=x&until=y&limit=0&cursor=c&colour=red");
    assert_eq!(
        (wrong.status, wrong.json["errors"].as_array().unwrap().len()),
        (400, 7),
        "{wrong:?}"
    );
    let replay = json!({"endpoint_id": late, "only": "missing"});
    assert_eq!(org.post("/api/replays", &replay).status, 202);
    let delivered = delivery(&org, &event, &late, "delivered");
    assert_eq!(delivered["attempt_count"], json!(1));
    assert_eq!(reasons(&event), ["type_wanted", "type_not_wanted", "disabled", "replayed"]);
    receiver.stop();
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
