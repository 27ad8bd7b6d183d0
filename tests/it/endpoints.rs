//! `/api/endpoints` with the real binary: the next attempt follows every setting.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use triggerd::cli::demo::receiver::{Received, Receiver};

use crate::harness::{Client, PATIENCE, Process, command, server, until};

fn create(org: &Client, settings: &Value) -> (String, Vec<u8>) {
    let made = org.post("/api/endpoints", settings);
    assert_eq!(made.status, 201, "{made:?}");
    (format!("/api/endpoints/{}", made.json["id"].as_str().unwrap()), secret(&made.json))
}

fn secret(json: &Value) -> Vec<u8> {
    crate::harness::secret_bytes(json["secret"].as_str().unwrap())
}

/// Every setting of an endpoint.
fn all_settings() -> Value {
    json!({
        "url": "https://example.com/a", "description": "first", "event_types": ["order.*"],
        "headers": {"X-Team": "blue", "X-Api-Key": "hidden"}, "body": "cloudevents",
        "retry_schedule": [1, 60], "timeout_ms": 2000, "max_in_flight": 3, "rate_per_second": 7,
        "ordering": "strict", "metadata": {"k": "v"}
    })
}

#[test]
fn an_endpoint_is_made_shown_and_changed() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let settings = all_settings();
    let made = org.post("/api/endpoints", &settings);
    assert_eq!(made.status, 201, "{made:?}");
    assert!(made.json["secret"].as_str().unwrap().starts_with("whsec_"));
    let path = format!("/api/endpoints/{}", made.id());
    let shown = org.get(&path).json;
    assert_eq!(shown.get("secret"), None, "a secret is shown once");
    assert_eq!(shown["headers"], json!({"x-team": "(set)", "x-api-key": "(set)"}));
    for (name, value) in settings.as_object().unwrap().iter().filter(|(name, _)| *name != "headers")
    {
        assert_eq!(&shown[name], value, "{name}");
    }
    assert_eq!((&shown["enabled"], &shown["disabled_reason"]), (&json!(true), &Value::Null));

    let changed =
        org.patch(&path, &json!({"timeout_ms": null, "description": "changed", "enabled": false}));
    assert_eq!(changed.status, 200, "{changed:?}");
    let changed = changed.json;
    assert_eq!(
        (&changed["timeout_ms"], &changed["description"]),
        (&Value::Null, &json!("changed"))
    );
    assert_eq!(changed["disabled_reason"], "by_owner");
    assert_eq!(changed["max_in_flight"], 3);
    assert_eq!(org.post(&format!("{path}/enable"), &json!({})).json["enabled"], json!(true));
}

#[test]
fn endpoints_are_listed_and_ended_by_their_organization_alone() {
    let (server, _dir) = server();
    let (org, other) = (server.org("Acme"), server.org("Other"));
    let [path, ..] = [0, 1, 2]
        .map(|number| create(&org, &json!({ "url": format!("https://example.com/{number}") })).0);
    let first = org.get("/api/endpoints?limit=2").json;
    assert_eq!((first["data"].as_array().unwrap().len(), &first["has_more"]), (2, &json!(true)));
    let rest =
        org.get(&format!("/api/endpoints?cursor={}", first["next_cursor"].as_str().unwrap())).json;
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["has_more"]), (1, &json!(false)));
    for answer in [
        other.get(&path),
        other.patch(&path, &json!({})),
        other.delete(&path),
        other.get("/api/endpoints/ep_x"),
    ] {
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{answer:?}");
    }
    assert_eq!(org.delete(&path).status, 204);
    assert_eq!(org.get(&path).status, 404);
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn an_endpoint_that_cannot_be_is_refused_with_each_fault() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let wrong = json!({"url": "x", "headers": {"Webhook-Id": "a"}, "colour": 1});
    let wrong = org.post("/api/endpoints", &wrong);
    let faults = wrong.json["errors"].as_array().unwrap().len();
    assert_eq!((wrong.status, faults), (422, 3), "{wrong:?}");
    let blocked = org.post("/api/endpoints", &json!({"url": "http://169.254.169.254/latest"}));
    assert_eq!((blocked.status, blocked.code()), (422, "egress_blocked"), "{blocked:?}");
}

#[test]
fn the_next_request_is_as_the_endpoint_was_set() {
    let (server, _dir) = server();
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let settings = json!({"url": receiver.url(), "body": "payload", "headers": {"X-Team": "blue"},
        "retry_schedule": []});
    let path = create(&org, &settings).0;
    let payload = r#"{ "n": 1.50 }"#;
    let post = |kind: &str| {
        org.post_text("/api/events", &format!(r#"{{"type":"{kind}","payload":{payload}}}"#)).id()
    };
    let id = post("a.b");
    let got = receiver.wait_for(1, PATIENCE)[0].clone();
    assert_eq!((&got.id, &*String::from_utf8_lossy(&got.body)), (&id, payload));
    // n8n's and Make's webhooks accept this form: any JSON that is posted.
    let headers = ["x-team", "content-type"].map(|name| got.header(name));
    assert_eq!(headers, [Some("blue"), Some("application/json")]);

    org.patch(&path, &json!({"body": "cloudevents", "event_types": ["c.*"]}));
    post("a.b");
    let id = post("c.d");
    let got = receiver.wait_for(2, PATIENCE)[1].clone();
    let event: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(
        (&event["id"], &event["type"], &event["specversion"]),
        (&json!(id), &json!("c.d"), &json!("1.0"))
    );
    assert_eq!(got.header("content-type"), Some("application/cloudevents+json"));
    receiver.stop();
}

/// Seconds since 1970.
fn now() -> u64 {
    triggerd::base::clock::Clock::system().now_ms() / 1_000
}

#[test]
fn rotated_secrets_sign_together_while_they_overlap() {
    let (server, _dir) = server();
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let (path, first) = create(&org, &json!({ "url": receiver.url() }));
    let rotate = |overlap_seconds: u32| {
        let overlap = json!({ "overlap_seconds": overlap_seconds });
        let rotated = org.post(&format!("{path}/secret/rotate"), &overlap);
        assert_eq!(rotated.status, 200, "{rotated:?}");
        secret(&rotated.json)
    };
    let second = rotate(3_600);
    org.send("c.d", &json!(1));
    let got = receiver.wait_for(1, PATIENCE)[0].clone();
    for key in [&first, &second] {
        assert_eq!(got.verify(key, now()), Ok(()), "both secrets sign while they overlap");
    }
    let third = rotate(0);
    let id = org.send("c.d", &json!(2)).id();
    let got = receiver.wait_for(2, PATIENCE)[1].clone();
    assert_eq!((&got.id, got.verify(&third, now())), (&id, Ok(())));
    assert!(got.verify(&second, now()).is_err(), "without overlap the secret before is done with");
    assert_eq!(got.verify(&first, now()), Ok(()), "the one before that still has its hour");
    receiver.stop();
}

/// Asserts that the outcome of a test is shown like an attempt of a delivery.
fn assert_is_like_an_attempt(tested: &Value, attempt: &Value, receiver: &Receiver) {
    assert_eq!(tested["trigger"], "test", "{tested}");
    assert!(receiver.url().contains(tested["address"].as_str().unwrap()), "{tested}");
    let timing = &tested["timing"];
    assert!(timing["connect_ms"].is_u64() && timing["first_byte_ms"].is_u64(), "{tested}");
    // The event beside it is known nowhere else.
    let names = |shown: &Value| -> Vec<String> {
        shown.as_object().unwrap().keys().filter(|name| *name != "event_id").cloned().collect()
    };
    assert_eq!(names(tested), names(attempt), "{tested}");
    assert!(tested["id"].as_str().unwrap().starts_with("atm_"), "{tested}");
    assert_eq!(tested["number"], 1, "{tested}");
}

#[test]
fn an_endpoint_can_be_tried_out() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let (path, key) = create(&org, &json!({"url": receiver.url(), "retry_schedule": []}));
    let test = || org.post(&format!("{path}/test"), &json!({}));
    let tested = test();
    assert_eq!(
        (tested.status, &tested.json["error"], &tested.json["status"]),
        (200, &json!(null), &json!(200))
    );
    let got = receiver.wait_for(1, PATIENCE)[0].clone();
    assert_eq!(got.verify(&key, now()), Ok(()));
    assert_eq!(got.header("webhook-id"), tested.json["event_id"].as_str());
    receiver.answer_next([500]);
    let failed = test().json;
    assert_eq!(failed["error"]["code"], "http_status", "{failed}");
    // The command line says the same, and its exit code too.
    let id = path.rsplit('/').next().unwrap();
    let words = ["endpoint", "test", id, "--key", &org.key, "--url", &server.url];
    let (code, said) = command(&data, &words);
    assert!(code == Some(0) && said.contains("was accepted"), "{said}");
    receiver.answer_next([500]);
    let (code, said) = command(&data, &words);
    assert!(code == Some(1) && said.contains("(http_status)"), "{said}");
    assert_eq!(org.inbox().len(), 0, "nothing is stored of a test");
    org.send("a.b", &json!(1));
    receiver.wait_for(5, PATIENCE);
    org.inbox_until(<[_]>::is_empty);
    let delivery = org.get("/api/deliveries").json["data"][0]["id"].clone();
    let delivery = org.get(&format!("/api/deliveries/{}", delivery.as_str().unwrap())).json;
    for tested in [&tested.json, &failed] {
        assert_is_like_an_attempt(tested, &delivery["attempts"][0], &receiver);
    }
    receiver.stop();
}

#[test]
fn the_figures_of_an_endpoint_say_how_it_fails_and_recovers() {
    let (server, _dir) = server();
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let (path, _) = create(&org, &json!({"url": receiver.url(), "retry_schedule": []}));
    let stats_with_one = |figure: &str| {
        let stats = || org.get(&format!("{path}/stats")).json;
        until(|| Some(stats()).filter(|stats| stats[figure] == json!(1)))
    };
    receiver.answer_next([410]);
    org.send("a.b", &json!(1));
    let stats = stats_with_one("dead_letters");
    assert_eq!((&stats["attempts_failed"], &stats["waiting"]), (&json!(1), &json!(0)), "{stats}");
    assert!(stats["failing_since"].is_string(), "{stats}");
    let shown = org.get(&path).json;
    let why = (&shown["enabled"], &shown["disabled_reason"]);
    assert_eq!(why, (&json!(false), &json!("gone")), "410 disables");
    let enabled = org.post(&format!("{path}/enable"), &json!({})).json;
    assert_eq!(enabled["disabled_reason"], Value::Null);
    org.send("a.b", &json!(2));
    let stats = stats_with_one("attempts_accepted");
    assert_eq!(stats["failing_since"], Value::Null, "{stats}");
    receiver.stop();
}

/// The content of all files below a directory.
fn all_bytes(dir: &std::path::Path) -> Vec<u8> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(
            |path| if path.is_dir() { all_bytes(&path) } else { std::fs::read(path).unwrap() },
        )
        .collect()
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Changes headers whose values are secret in every way, and asserts that no answer shows one.
fn assert_no_answer_shows_a_header(org: &Client, path: &str) {
    let shown = json!({"authorization": "(set)", "x-plain": "(set)"});
    assert_eq!(org.get(path).json["headers"], shown);
    // A masked value leaves the stored value unchanged.
    let masked = json!({"headers": {"authorization": "(set)", "x-plain": "sealed-canary-3"}});
    assert_eq!(org.patch(path, &masked).json["headers"], shown);
    let wrong = json!({"headers": {"webhook-id": "sealed-canary-4", "x-a": "sealed-canary-5\n"}});
    let answers = [
        org.patch(path, &wrong),
        org.post(&format!("{path}/test"), &json!({})),
        org.get("/metrics"),
        org.get("/api/endpoints"),
        org.post(&format!("{path}/enable"), &json!({})),
        org.post(&format!("{path}/secret/rotate"), &json!({"overlap_seconds": 604_800})),
    ];
    assert_eq!(answers.each_ref().map(|answer| answer.status), [422, 200, 200, 200, 200, 200]);
    assert!(answers.iter().all(|answer| !answer.text.contains("canary")), "{answers:?}");
}

/// A stopped server whose endpoint has secrets, and its organization's key.
struct Sealed {
    dir: tempfile::TempDir,
    receiver: Receiver,
    key: String,
    /// The first two signing secrets of the endpoint.
    secrets: [Vec<u8>; 2],
}

impl Sealed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = format!("[log]\nlevel = \"debug\"\ndirectory = {:?}\n", dir.path().join("logs"));
        let server = Process::start_with(&dir.path().join("data"), &log);
        let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
        let headers =
            json!({"Authorization": "Bearer sealed-canary-1", "X-Plain": "sealed-canary-2"});
        let settings = json!({"url": receiver.url(), "headers": headers,
            "description": "found-if-you-look", "retry_schedule": [1]});
        let (path, first) = create(&org, &settings);
        let second = secret(&org.post(&format!("{path}/secret/rotate"), &json!({})).json);
        assert_no_answer_shows_a_header(&org, &path);
        receiver.answer_next([500]);
        org.send("a.b", &json!(1));
        for got in &receiver.wait_for(2, PATIENCE)[..2] {
            let sent = ["authorization", "x-plain"].map(|name| got.header(name));
            assert_eq!(sent, [Some("Bearer sealed-canary-1"), Some("sealed-canary-3")]);
        }
        receiver.wait_for(3, PATIENCE);
        org.inbox_until(<[_]>::is_empty);
        assert_eq!(server.stop().0, Some(0));
        Self { dir, receiver, key: org.key, secrets: [first, second] }
    }
}

#[test]
fn secrets_lie_sealed_on_the_disk() {
    use base64::Engine as _;
    let sealed = Sealed::new();
    let bytes = all_bytes(sealed.dir.path());
    assert!(!holds(&bytes, b"sealed-canary"), "a header's value lies open");
    assert!(
        holds(&bytes, b"found-if-you-look") && holds(&bytes, b"delivered"),
        "else this would find nothing"
    );
    for key in &sealed.secrets {
        let text = base64::engine::general_purpose::STANDARD.encode(key);
        assert!(!holds(&bytes, key) && !holds(&bytes, text.as_bytes()), "a secret lies open");
    }
    let key_file = std::fs::metadata(sealed.dir.path().join("data/secrets.key")).unwrap();
    assert_eq!(key_file.permissions().mode() & 0o777, 0o600);
    sealed.receiver.stop();
}

#[test]
fn nothing_starts_with_another_key_of_the_secrets_and_with_theirs_they_sign_again() {
    let Sealed { dir, receiver, key, secrets: [first, second] } = Sealed::new();
    let data = dir.path().join("data");
    let key_file = data.join("secrets.key");
    let secrets_key = std::fs::read(&key_file).unwrap();
    for other in ["0".repeat(64), "no key".to_owned()] {
        std::fs::write(&key_file, other).unwrap();
        let (status, log) = Process::try_start(&data, "", &[]).err().expect("it does not start");
        assert!(status.code() == Some(3) || status.code() == Some(70), "{status}");
        assert!(log.contains("secrets.key"), "{log}");
    }
    std::fs::write(&key_file, secrets_key).unwrap();
    let server = Process::start(&data);
    Client::new(&server.url, &key).send("a.b", &json!(2));
    let got = receiver.wait_for(4, PATIENCE)[3].clone();
    assert_eq!(got.header("authorization"), Some("Bearer sealed-canary-1"));
    assert_eq!((got.verify(&second, now()), got.verify(&first, now())), (Ok(()), Ok(())));
    receiver.stop();
}

#[test]
fn what_was_sent_to_one_origin_in_a_header_is_not_sent_to_another() {
    let (server, _dir) = server();
    let (org, one, other) =
        (server.org("Acme"), Receiver::start().unwrap(), Receiver::start().unwrap());
    let headers = json!({"Authorization": "Bearer canary", "X-Signature": "canary"});
    let sent = |got: &Received| {
        ["authorization", "x-signature"].map(|name| got.header(name).map(str::to_owned))
    };
    // The endpoint is seen as created, and through the short route.
    let (path, _) =
        create(&org, &json!({"url": one.url(), "event_types": ["a.b"], "headers": headers}));
    org.push_to(&one.url());
    let short = format!("/api/endpoints/{}", org.get("/api/webhook/config").id());
    assert_eq!(org.patch(&short, &json!({"headers": headers})).status, 200);
    org.send("a.b", &json!(1));
    for got in &one.wait_for(2, PATIENCE)[..2] {
        assert_eq!(sent(got), ["Bearer canary", "canary"].map(|text| Some(text.to_owned())));
    }
    let dropped = json!(["authorization", "x-signature"]);
    let sent_back = org.get(&path).json["headers"].clone();
    let moved = org.patch(&path, &json!({"url": other.url(), "headers": sent_back}));
    assert_eq!((moved.status, &moved.json["headers_dropped"]), (200, &dropped), "{moved:?}");
    let moved = org.post("/api/webhook/config", &json!({"url": other.url()}));
    assert_eq!((moved.status, &moved.json["headers_dropped"]), (200, &dropped), "{moved:?}");
    assert_eq!(org.get(&path).json["headers"], json!({}));
    let tried = org.post(&format!("{path}/test"), &json!({}));
    assert_eq!(tried.json["error"], json!(null), "{tried:?}");
    org.send("a.b", &json!(2));
    other.wait_for(3, PATIENCE)[..3].iter().for_each(|got| assert_eq!(sent(got), [None, None]));
    let again =
        org.patch(&path, &json!({"url": one.url(), "headers": {"Authorization": "Bearer new"}}));
    assert_eq!((again.status, again.json.get("headers_dropped")), (200, None), "{again:?}");
    org.send("a.b", &json!(3));
    assert_eq!(one.wait_for(3, PATIENCE)[2].header("authorization"), Some("Bearer new"));
    one.stop();
    other.stop();
}

#[test]
fn a_rest_hook_is_subscribed_pushed_to_and_unsubscribed() {
    let (server, _dir) = server();
    let (org, other, receiver) =
        (server.org("Acme"), server.org("Other"), Receiver::start().unwrap());
    let made = org.post("/api/hooks", &json!({"target_url": receiver.url(), "event": "order.*"}));
    assert_eq!((made.status, &made.json["event"]), (201, &json!("order.*")), "{made:?}");
    let path = format!("/api/hooks/{}", made.json["id"].as_str().unwrap());
    org.send("invoice.paid", &json!(1));
    let id = org.send("order.created", &json!(2)).id();
    let pushed = receiver.wait_for(1, PATIENCE)[0].clone();
    assert_eq!(pushed.id, id);
    let samples = org.get("/api/hooks/samples?event=order.*").json;
    let pushed: Value = serde_json::from_slice(&pushed.body).unwrap();
    assert_eq!(samples, json!([pushed]), "a sample is what is pushed");
    assert_eq!(org.get("/api/hooks/samples").json.as_array().unwrap().len(), 2);
    assert_eq!(org.get("/api/hooks/samples?event=none.such").json, json!([]));
    let everything = org.post("/api/hooks", &json!({"hookUrl": receiver.url()}));
    assert_eq!((everything.status, &everything.json["event"]), (201, &Value::Null));
    let (endpoint, _) = create(&org, &json!({"url": "https://example.com/"}));
    let not_a_hook = endpoint.replace("/endpoints/", "/hooks/");
    for answer in [other.delete(&path), org.delete(&not_a_hook), org.delete("/api/hooks/ep_x")] {
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{answer:?}");
    }
    assert_eq!((org.delete(&path).status, org.delete(&path).status), (204, 404));
    for wrong in [
        json!({}),
        json!({"target_url": "x"}),
        json!({"target_url": receiver.url(), "event": "a.*.b"}),
    ] {
        assert_eq!(org.post("/api/hooks", &wrong).status, 422, "{wrong}");
    }
    receiver.stop();
}

#[test]
fn the_command_line_makes_tries_and_ends_an_endpoint() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let run = |words: &[&str]| {
        let words = [&["endpoint"], words, &["--key", &org.key, "--url", &server.url]].concat();
        command(&data, &words)
    };
    let (code, text) = run(&["create", &receiver.url(), "--type", "order.*", "--body", "payload"]);
    assert!(code == Some(0) && text.contains("whsec_") && text.contains("order.*"), "{text}");
    let id = text.split_whitespace().next().unwrap().to_owned();
    let (code, text) = run(&["test", &id]);
    assert!(code == Some(0) && text.contains("was accepted"), "{text}");
    receiver.answer_next([503]);
    let (code, text) = run(&["test", &id]);
    assert!(code == Some(1) && text.contains("503"), "{text}");
    let (code, text) = run(&["disable", &id]);
    assert!(code == Some(0) && text.contains("disabled: by_owner"), "{text}");
    assert!(run(&["enable", &id]).1.contains("enabled"));
    assert!(run(&["list"]).1.contains(&id));
    assert!(run(&["stats", &id]).1.contains("attempts_failed"));
    assert!(run(&["rotate-secret", &id, "--overlap", "0"]).1.contains("whsec_"));
    assert_eq!(run(&["show", "../x"]).0, Some(2));
    assert_eq!(run(&["delete", &id]).0, Some(0));
    let (code, text) = run(&["show", &id]);
    assert!(code == Some(1) && text.contains("not_found"), "{text}");
    receiver.stop();
}

#[test]
fn an_event_says_when_its_endpoint_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    create(&org, &json!({"url": receiver.url(), "max_in_flight": 1}));
    let breaker =
        |id: &str| org.get(&format!("/api/events/{id}")).json["endpoints"][0]["breaker"].clone();
    let first = org.send("a.b", &json!(0)).id();
    org.inbox_until(<[_]>::is_empty);
    assert_eq!(breaker(&first), json!("closed"));
    receiver.answer_next([500; 100]);
    let ids: Vec<_> = (0..10).map(|n| org.send("a.b", &json!(n)).id()).collect();
    until(|| (breaker(&ids[9]) == json!("open")).then_some(()));
    let event = org.get(&format!("/api/events/{}", ids[9])).json;
    assert!(event["endpoints"][0]["breaker_until"].is_string(), "{event}");
    let (code, text) =
        command(&data, &["explain", &ids[9], "--key", &org.key, "--url", &server.url]);
    assert!(code == Some(0) && text.contains("circuit breaker is open until"), "{text}");
    receiver.stop();
}
