//! The sentences of the contract, over HTTP, against the real binary.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Process, server, until};

#[test]
fn an_event_is_accepted_waits_in_the_inbox_and_is_gone_when_acknowledged() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    // The payload keeps its numbers, key order, spaces and escapes.
    let payload = r#"{ "z":1.10, "a" : 12345678901234567890123, "e":1e400, "u":"\u00e9" }"#;
    let attributes = r#""labels":{"region":"eu"},"occurred_at":"2026-01-31T11:00:00+01:00""#;
    let body =
        format!(r#"{{"type":"order.created","payload":{payload},"dedup_id":"o-1",{attributes}}}"#);
    let sent = org.post_text("/api/events", &body);
    assert_eq!(sent.status, 202, "{sent:?}");
    assert_eq!(
        (&sent.json["status"], &sent.json["duplicate"]),
        (&json!("accepted"), &json!(false))
    );
    let id = sent.id();
    assert!(id.starts_with("evt_") && id.len() == 30, "{id}");
    let inbox = org.get("/api/inbox");
    assert!(inbox.text.contains(payload), "verbatim: {}", inbox.text);
    let event = inbox.text.replace(payload, "null");
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!((&event["has_more"], event["next_cursor"].is_string()), (&json!(false), true));
    let event = &event["data"][0];
    assert_eq!(event["id"], json!(id));
    assert_eq!(event["received_at"], sent.json["received_at"]);
    assert_eq!(event["occurred_at"], "2026-01-31T10:00:00.000Z");
    assert_eq!((&event["dedup_id"], &event["labels"]), (&json!("o-1"), &json!({"region": "eu"})));
    assert_eq!((&event["status"], &event["lease_count"]), (&json!("accepted"), &json!(0)));
    let acked = org.ack(&id);
    assert_eq!((acked.status, &acked.json["status"]), (200, &json!("acknowledged")));
    assert_eq!(
        org.ack(&id).json["acknowledged_at"],
        acked.json["acknowledged_at"],
        "again: the same answer"
    );
    assert_eq!(org.inbox_ids(), [] as [&str; 0]);
}

#[test]
fn a_duplicate_names_the_first_event_and_another_payload_under_its_id_is_refused() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let first = org.send_once("a", &json!(1));
    let again = org.send_once("a", &json!(1));
    assert_eq!((first.status, again.status), (202, 200));
    assert_eq!((again.id(), &again.json["duplicate"]), (first.id(), &json!(true)));
    assert_eq!(again.json["received_at"], first.json["received_at"]);
    let other = org.send_once("a", &json!(2));
    assert_eq!((other.status, other.code()), (422, "dedup_mismatch"));
    assert!(other.text.contains(&first.id()), "{other:?}");
    assert_eq!(
        server.org("Other").send_once("a", &json!(3)).status,
        202,
        "dedup is per organization"
    );
    let header = |key: &str, body: Value| {
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
        org.request(Method::POST, "/api/events", &headers, body.to_string())
    };
    let body = json!({"type": "test.event", "payload": 1});
    assert_eq!(header("a", body).id(), first.id(), "the header means the same");
    let both = header("b", json!({"type": "test.event", "payload": 1, "dedup_id": "a"}));
    assert_eq!(both.status, 400, "both, and different");
}

#[test]
fn two_hundred_racing_posts_with_one_dedup_id_store_one_event_also_after_restart_and_kill() {
    let (server, dir) = server();
    let org = server.org("Acme");
    let (url, key) = (org.url.clone(), org.key.clone());
    let race = |url: &str| -> Vec<(u16, String)> {
        std::thread::scope(|scope| {
            let racers: Vec<_> = (0..20)
                .map(|_| {
                    scope.spawn(|| {
                        let client = Client::new(url, &key);
                        let posts = (0..10).map(|_| client.send_once("race", &json!({"n": 1})));
                        posts.map(|answer| (answer.status, answer.id())).collect::<Vec<_>>()
                    })
                })
                .collect();
            racers.into_iter().flat_map(|racer| racer.join().unwrap()).collect()
        })
    };
    let answers = race(&url);
    assert_eq!(answers.len(), 200);
    assert_eq!(answers.iter().filter(|(status, _)| *status == 202).count(), 1, "one 202");
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 199);
    let id = answers[0].1.clone();
    assert!(answers.iter().all(|(_, other)| *other == id), "one id");
    assert_eq!(org.inbox_ids(), [id.as_str()]);

    assert_eq!(server.stop().0, Some(0));
    let server = Process::start(&dir.path().join("data"));
    assert!(race(&server.url).iter().all(|answer| *answer == (200, id.clone())), "after a restart");
    server.kill();
    let server = Process::start(&dir.path().join("data"));
    assert!(race(&server.url).iter().all(|answer| *answer == (200, id.clone())), "after kill -9");
    assert_eq!(Client::new(&server.url, &key).inbox_ids(), [id.as_str()]);
}

#[test]
fn a_wrong_event_is_told_all_that_is_wrong_with_it_and_nothing_is_stored() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let wrong =
        r#"{"type":"a b","dedup_id":"","labels":{"x":1},"occurred_at":"yesterday","colour":"red"}"#;
    let answer = org.post_text("/api/events", wrong);
    assert_eq!((answer.status, answer.code()), (422, "validation_failed"), "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let faults = answer.json["errors"].as_array().unwrap();
    let pointers: Vec<_> = faults.iter().map(|fault| fault["pointer"].as_str().unwrap()).collect();
    for named in ["/type", "/payload", "/dedup_id", "/labels/x", "/occurred_at", "/colour"] {
        assert!(pointers.contains(&named), "{named} in {pointers:?}");
    }
    assert_eq!(answer.json["request_id"].as_str().unwrap(), answer.header("x-request-id"));
    for malformed in ["", "{", "{\"type\":\"a\",}", "\u{0}", &"[".repeat(100_000)] {
        let answer = org.post_text("/api/events", malformed);
        assert_eq!((answer.status, answer.code()), (400, "malformed_json"), "{malformed:.20}");
        assert_eq!(
            answer.text.contains("the request has no body"),
            malformed.is_empty(),
            "{answer:?}"
        );
    }
    let text = org.request(Method::POST, "/api/events", &[("Content-Type", "text/plain")], "{}");
    assert_eq!(text.status, 415);
    let large = org.send("a", &json!("x".repeat(256 << 10)));
    assert_eq!((large.status, large.code()), (413, "payload_too_large"));
    assert_eq!(org.inbox_ids(), [] as [&str; 0]);
}

#[test]
fn each_item_of_a_batch_stands_alone_and_answers_come_in_order() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let batch = json!({"events": [
        {"type": "a.b", "payload": 1, "dedup_id": "x"},
        {"type": "a b", "payload": 1},
        {"type": "a.b", "payload": 1, "dedup_id": "x"},
        {"type": "a.b", "payload": 2, "dedup_id": "x"},
        {"type": "a.c", "payload": 3},
    ]});
    let answer = org.post("/api/events/batch", &batch);
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.json["results"].as_array().unwrap();
    let states: Vec<_> = results.iter().map(|result| result["status"].as_str().unwrap()).collect();
    assert_eq!(states, ["accepted", "rejected", "duplicate", "rejected", "accepted"]);
    assert!(results.iter().enumerate().all(|(place, result)| result["index"] == json!(place)));
    assert_eq!(results[2]["id"], results[0]["id"]);
    assert_eq!(results[1]["error"]["code"], "validation_failed");
    assert_eq!(results[3]["error"]["code"], "dedup_mismatch");
    let ids = [results[0]["id"].as_str().unwrap(), results[4]["id"].as_str().unwrap()];
    assert_eq!(org.inbox_ids(), ids);
    let many: Vec<_> = (0..1_001).map(|_| json!({"type": "a", "payload": 1})).collect();
    assert_eq!(
        org.post("/api/events/batch", &json!({"events": many})).status,
        422,
        "a thousand at most"
    );
}

#[test]
fn another_organizations_event_is_like_one_that_does_not_exist() {
    let (server, _dir) = server();
    let (org, other) = (server.org("Acme"), server.org("Other"));
    let id = org.send("a", &json!(1)).id();
    let fixed = [("X-Request-Id", "same"), ("Content-Type", "application/json")];
    let foreign = other.request(Method::POST, &format!("/api/ack/{id}"), &fixed, "");
    let absent = other.request(Method::POST, "/api/ack/evt_01h2xcejqtf2nbrexx3vqjhp41", &fixed, "");
    assert_eq!((foreign.status, &foreign.text), (404, &absent.text), "byte for byte");
    assert_eq!(foreign.header("x-request-id"), "same");
    assert_eq!(other.inbox_ids(), [] as [&str; 0]);
    assert_eq!(org.inbox_ids(), [id]);
}

#[test]
fn unknown_routes_and_wrong_methods_answer_like_everything_else() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let unknown = org.get("/api/nothing");
    assert_eq!((unknown.status, unknown.code()), (404, "not_found"));
    let wrong = org.request(Method::PUT, "/api/events", &[], "");
    assert_eq!(
        (wrong.status, wrong.code(), wrong.header("allow")),
        (405, "method_not_allowed", "POST, GET, HEAD")
    );
    for answer in [unknown, wrong] {
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(!answer.header("x-request-id").is_empty());
    }
}

#[test]
fn a_key_opens_what_its_scopes_say_and_nothing_without_it() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let made = org.post("/api/keys/generate", &json!({"name": "reader", "scopes": ["inbox:read"]}));
    assert_eq!(made.status, 201, "{made:?}");
    let reader = org.with_key(made.json["key"].as_str().unwrap());
    assert_eq!(reader.get("/api/inbox").status, 200);
    assert_eq!(reader.send("a", &json!(1)).status, 403);
    let more =
        reader.post("/api/keys/generate", &json!({"name": "more", "scopes": ["inbox:read"]}));
    assert_eq!(more.status, 403, "it may not make keys");
    let text = org.key.clone();
    let flipped =
        format!("{}{}", &text[..text.len() - 1], if text.ends_with('0') { '1' } else { '0' });
    for wrong in ["", "nonsense", &flipped, &text[..text.len() - 7]] {
        let answer = org.with_key(wrong).get("/api/inbox");
        assert_eq!((answer.status, answer.code()), (401, "unauthorized"), "{wrong}");
    }
    let bearer = format!("Bearer {text}");
    let anonymous = org.with_key("");
    assert_eq!(
        anonymous.request(Method::GET, "/api/inbox", &[("Authorization", &bearer)], "").status,
        200
    );
    let generate = json!({"organization": "Mine"});
    assert_eq!(anonymous.post("/api/keys/generate", &generate).status, 401);
}

#[test]
fn a_rotated_key_works_for_its_grace_and_an_ended_one_is_refused_by_the_next_request() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let rotated = org.post("/api/keys/rotate", &json!({"grace_seconds": 3600}));
    assert_eq!(rotated.status, 201, "{rotated:?}");
    let new = org.with_key(rotated.json["key"].as_str().unwrap());
    assert_eq!((org.get("/api/inbox").status, new.get("/api/inbox").status), (200, 200));
    let again = org.post("/api/keys/rotate", &json!({}));
    let old = |keys: &Value| {
        let mut keys = keys["data"].as_array().unwrap().iter();
        keys.find(|key| org.key.starts_with(key["prefix"].as_str().unwrap())).unwrap().clone()
    };
    let ends = old(&org.get("/api/keys").json)["expires_at"].clone();
    assert!(ends.is_string() && new.get("/api/keys").text.contains("\"expires_at\":null"));
    assert_eq!(
        (again.status, &again.json["expires_at"]),
        (201, &ends),
        "no rotation outlives the grace"
    );
    let at_once = new.post("/api/keys/rotate", &json!({"grace_seconds": 0}));
    assert_eq!(at_once.status, 201, "{at_once:?}");
    assert_eq!(new.get("/api/inbox").status, 401, "seen by the very next request");
    let newest = org.with_key(at_once.json["key"].as_str().unwrap());
    let keys = newest.get("/api/keys");
    assert_eq!(keys.status, 200, "{keys:?}");
    let secret = &newest.key[36..];
    assert!(!keys.text.contains(secret), "never the secret");
    let first = newest.get("/api/keys?limit=1").json;
    let rest =
        newest.get(&format!("/api/keys?cursor={}", first["next_cursor"].as_str().unwrap())).json;
    let paged: Vec<_> =
        [&first, &rest].into_iter().flat_map(|page| page["data"].as_array().unwrap()).collect();
    let ids = |keys: Vec<&Value>| keys.into_iter().map(|key| key["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(paged), ids(keys.json["data"].as_array().unwrap().iter().collect()));
    assert_eq!((&first["has_more"], &rest["has_more"]), (&json!(true), &json!(false)));
    assert_eq!(newest.get("/api/keys?colour=red").status, 400);
    let old = old(&keys.json)["id"].as_str().unwrap().to_owned();
    assert_eq!(newest.delete(&format!("/api/keys/{old}")).status, 204);
    assert_eq!(org.get("/api/inbox").status, 401);
}

#[test]
fn the_tier_bounds_the_rate_and_says_so_at_every_answer() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start_with(
        &dir.path().join("data"),
        "[tiers.pro]\nevents_per_second = 1\nburst = 3\n",
    );
    let made =
        server.admin().post("/api/keys/generate", &json!({"organization": "Pro", "tier": "pro"}));
    let org = server.admin().with_key(made.json["key"].as_str().unwrap());
    let mut answers: Vec<_> = (0..3).map(|n| org.send("a", &json!(n))).collect();
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [202, 202, 202]);
    // The refusal comes at once, unless the machine takes a second for a request.
    answers.push(until(|| Some(org.send("a", &json!(3))).filter(|answer| answer.status != 202)));
    let refused = answers.iter().find(|answer| answer.status == 429).expect("over the burst");
    assert_eq!(refused.code(), "rate_limited");
    assert!(refused.header("retry-after").parse::<u32>().unwrap() >= 1);
    for answer in &answers {
        assert_eq!(answer.header("x-ratelimit-limit"), "3", "{answer:?}");
        assert!(answer.header("ratelimit").starts_with("\"pro-events\";r="), "{answer:?}");
        assert_eq!(answer.header("ratelimit-policy"), "\"pro-events\";q=3;w=3", "{answer:?}");
    }
    // Other requests have ten times the limit, so that producers do not delay consumers.
    for id in org.inbox_ids() {
        let acked = org.ack(&id);
        assert_eq!((acked.status, acked.header("x-ratelimit-limit")), (200, "30"), "{acked:?}");
        assert_eq!(acked.header("ratelimit-policy"), "\"pro-requests\";q=30;w=3", "{acked:?}");
    }
    let batch = org.post("/api/events/batch", &json!({"events": [{"type": "a", "payload": 1}]}));
    assert!(batch.header("ratelimit").starts_with("\"pro-events\";r="), "{batch:?}");
}

#[test]
fn a_request_that_waits_gets_the_event_that_comes_and_ends_when_the_server_stops() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let waits = Client::new(&org.url, &org.key);
    let waiting = std::thread::spawn(move || waits.get("/api/inbox?wait=30"));
    until(|| (org.metric("triggerd_events_stored") == 0.0).then_some(()));
    let id = org.send("a", &json!(1)).id();
    let page = waiting.join().unwrap();
    assert_eq!(page.json["data"][0]["id"], json!(id));
    org.ack(&id);
    let waits = Client::new(&org.url, &org.key);
    let waiting =
        std::thread::spawn(move || waits.try_request(Method::GET, "/api/inbox?wait=30", &[], ""));
    assert_eq!(server.stop().0, Some(0));
    // A long poll that delayed the stop would be cut off. The request may also have come too late.
    match waiting.join().unwrap() {
        Ok(page) => assert_eq!((page.status, &page.json["data"]), (200, &json!([])), "{page:?}"),
        Err(error) => assert!(error.is_connect(), "{error:?}"),
    }
}

#[test]
fn every_series_is_there_at_zero_from_the_first_scrape() {
    let (server, _dir) = server();
    let anyone = Client::new(&server.url, "");
    for series in [
        "triggerd_events_accepted_total",
        "triggerd_events_duplicate_total",
        "triggerd_events_rejected_total{reason=\"rate_limited\"}",
        "triggerd_deliveries_total{outcome=\"dead\"}",
        "triggerd_delivery_attempts_total{result=\"egress_blocked\"}",
        "triggerd_commit_group_commands_count",
        "triggerd_inbox_open_events",
        "triggerd_oldest_undelivered_age_seconds",
    ] {
        assert!(anyone.metric(series).abs() < f64::EPSILON, "{series}");
    }
    assert!(
        anyone.metric("triggerd_disk_free_bytes") > 0.0 && anyone.metric("process_open_fds") > 0.0
    );
    assert!(
        (anyone.metric("triggerd_state_rebuilds_total") - 1.0).abs() < f64::EPSILON,
        "a new state is a rebuilt one"
    );
    for (path, status) in [("/health", "healthy"), ("/health/live", ""), ("/health/ready", "")] {
        let answer = anyone.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.text.contains(status), "{answer:?}");
    }
    let org = server.org("Acme");
    org.send_once("a", &json!(1));
    org.send_once("a", &json!(1));
    assert_eq!(anyone.metric("triggerd_events_accepted_total"), 1.0);
    assert_eq!(anyone.metric("triggerd_events_duplicate_total"), 1.0);
}

#[test]
fn a_url_that_must_not_be_reached_is_refused_with_address_and_rule() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    for url in [
        "http://10.0.0.7/x",
        "http://169.254.169.254/latest",
        "ftp://example.com/",
        "http://[::1]/",
        "http://2130706433:0/",
    ] {
        let answer = org.post("/api/webhook/config", &json!({"url": url}));
        assert_eq!((answer.status, answer.code()), (422, "egress_blocked"), "{url}: {answer:?}");
    }
    let answer = org.post("/api/webhook/config", &json!({"url": "http://10.0.0.7/x"}));
    assert!(answer.text.contains("10.0.0.7") && answer.text.contains("10.0.0.0/8"), "{answer:?}");
    assert_eq!(org.get("/api/webhook/config").status, 404, "nothing is set");
}

#[test]
fn a_stop_under_load_is_in_good_order() {
    let (server, dir) = server();
    let org = server.org("Acme");
    let (url, key) = (org.url.clone(), org.key.clone());
    let stop = std::sync::atomic::AtomicBool::new(false);
    let acknowledged = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let client = Client::new(&url, &key);
                let body = json!({"type": "a", "payload": 1}).to_string();
                let headers = [("Content-Type", "application/json")];
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    match client.try_request(Method::POST, "/api/events", &headers, body.as_str()) {
                        Ok(answer) if answer.status == 202 => {
                            acknowledged.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        }
                        Ok(answer) => {
                            assert_eq!((answer.status, answer.code()), (503, "shutting_down"));
                        }
                        Err(_closed) => return,
                    }
                }
            });
        }
        until(|| (acknowledged.load(std::sync::atomic::Ordering::SeqCst) > 200).then_some(()));
        let (code, _) = server.stop();
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(code, Some(0));
    });
    let server = Process::start(&dir.path().join("data"));
    let stored = Client::new(&server.url, &key).inbox().len();
    assert!(stored >= acknowledged.into_inner(), "{stored}");
}

#[test]
fn below_the_disk_reserve_events_are_refused_and_everything_else_goes_on() {
    let (server, dir) = server();
    let org = server.org("Acme");
    let id = org.send("a", &json!(1)).id();
    let endpoint = org
        .post("/api/endpoints", &json!({"url": "http://127.0.0.1:1/", "retry_schedule": []}))
        .id();
    let replay = |org: &Client| org.post("/api/replays", &json!({"only": "missing"})).id();
    let show = |org: &Client, id: &str| org.get(&format!("/api/replays/{id}")).json;
    let queued = replay(&org);
    until(|| (show(&org, &queued)["state"] == "finished").then_some(()));
    assert_eq!(show(&org, &queued)["queued"], json!(1), "with room it goes on");
    let metric = |org: &Client, name: &str| org.metric(&format!("triggerd_{name}"));
    until(|| (metric(&org, "replays_running") == 0.0).then_some(()));
    assert_eq!(metric(&org, "replay_deliveries_total"), 1.0);
    let free = org.metric("triggerd_disk_free_bytes");
    assert_eq!(server.stop().0, Some(0));
    let text = std::fs::read_to_string(dir.path().join("data.toml")).unwrap();
    // The disk is short, and not yet almost full.
    let reserve = text.replace("reserve_bytes = 1", &format!("reserve_bytes = {:.0}", free * 1.25));
    let server = Process::start_on(&dir.path().join("data"), &reserve);
    let org = Client::new(&server.url, &org.key);
    let refused = until(|| Some(org.send("a", &json!(2))).filter(|answer| answer.status != 202));
    assert_eq!((refused.status, refused.code()), (507, "disk_full"));
    assert_eq!(refused.header("retry-after"), "1");
    let waits = org.post("/api/replays", &json!({"only": "all", "endpoint_id": endpoint})).id();
    assert_eq!(org.ack(&id).status, 200);
    let shown = show(&org, &waits);
    assert_eq!(
        (&shown["state"], &shown["waits_for"]),
        (&json!("running"), &json!("disk_full")),
        "{shown}"
    );
    assert_eq!((&shown["progress"], &shown["queued"]), (&json!(0.0), &json!(0)), "{shown}");
    until(|| (metric(&org, "replays_running") == 1.0).then_some(()));
    assert_eq!(org.get("/health").status, 503);
    assert_eq!(org.metric("triggerd_events_rejected_total{reason=\"disk_full\"}"), 1.0);
}

#[test]
fn the_commands_do_what_curl_does_with_any_payload() {
    let (server, dir) = server();
    let org = server.org("Acme");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_triggerd"));
        command.args(arguments).arg("--config").arg(dir.path().join("data.toml"));
        command.args(["--url", &org.url]).env("TRIGGERD_API_KEY", &org.key);
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    // A lone surrogate is valid JSON, but no valid text.
    assert_eq!(org.post_text("/api/events", r#"{"type":"a","payload":"\ud800"}"#).status, 202);
    let (code, sent, _) = run(&["send", "order.created", "{ \"n\": 1.0 }", "--dedup-id", "x"]);
    assert_eq!(code, 0);
    let id = sent.split(' ').next().unwrap();
    let (_, inbox, _) = run(&["inbox"]);
    assert!(
        inbox.contains(r#""\ud800""#) && inbox.contains(r#"{ "n": 1.0 }"#) && inbox.contains(id),
        "{inbox}"
    );
    assert!(run(&["inbox", "--json"]).1.contains(id));
    assert_eq!(run(&["ack", id]).0, 0);
    assert!(!run(&["inbox"]).1.contains(id));
    let (code, _, complaint) = run(&["send", "a b", "1"]);
    assert!(code == 1 && complaint.contains("/type") && complaint.contains("422"), "{complaint}");
    assert_eq!(run(&["send", "a", "not json"]).0, 2);
    assert_eq!(run(&["nonsense"]).0, 2);
    let made = run(&["key", "create", "--org", "Other", "--json"]);
    let made: Value = serde_json::from_str(&made.1).unwrap();
    assert!(
        made["key"].as_str().unwrap().starts_with("trg_live_")
            && made["organization_id"].is_string()
    );
}
