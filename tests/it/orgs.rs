//! Organizations as the operator runs them: listed, created, changed and suspended, with their
//! keys, and what a caller learns about itself.

use serde_json::{Value, json};
use triggerd::app::App;
use triggerd::base::clock::Clock;
use triggerd::base::exit_code::ExitCode;
use triggerd::cli::demo::receiver::Receiver;
use triggerd::config::Config;
use triggerd::model::time::Timestamp;

use crate::harness::{
    Answer, Client, PATIENCE, Process, assert_has, command, server, settings, until,
};

/// The id of the calling key's organization.
fn org_id(org: &Client) -> String {
    org.get("/api/whoami").json["organization"]["id"].as_str().unwrap().to_owned()
}

fn change(admin: &Client, id: &str, change: &Value) -> Answer {
    admin.patch(&format!("/api/orgs/{id}"), change)
}

fn suspend(admin: &Client, id: &str, suspended: bool) {
    let changed = change(admin, id, &json!({ "suspended": suspended }));
    assert_eq!((changed.status, &changed.json["suspended"]), (200, &json!(suspended)));
}

fn listed(admin: &Client, query: &str) -> (Vec<String>, Value) {
    let page = admin.get(&format!("/api/orgs{query}"));
    assert_eq!(page.status, 200, "{page:?}");
    let name = |org: &Value| org["name"].as_str().unwrap().to_owned();
    (page.json["data"].as_array().unwrap().iter().map(name).collect(), page.json)
}

#[test]
fn the_operator_creates_lists_and_renames_organizations() {
    let (server, _dir) = server();
    let admin = server.admin();
    let first = server.org("Acme");
    let made = admin.post("/api/orgs", &json!({"name": " Beta ", "inbox_mode": "ack_only"}));
    assert_eq!(made.status, 201, "{made:?}");
    let expected = json!({
        "name": "Beta", "tier": "free", "inbox_mode": "ack_only", "suspended": false, "events": 0,
        "bytes": 0, "open": 0, "waiting": 0, "dead": 0, "endpoints": 0, "keys": 0,
    });
    assert_has(&made.json, &expected);
    assert!(made.json["created_at"].is_string() && made.json["suspended_at"].is_null());
    admin.post("/api/orgs", &json!({"name": "Acme 2", "tier": "pro"}));
    first.send("a.b", &json!("123"));
    let shown = admin.get(&format!("/api/orgs/{}", org_id(&first))).json;
    assert_has(&shown, &json!({"name": "Acme", "events": 1, "bytes": 5, "open": 1, "keys": 1}));

    assert_eq!(listed(&admin, "").0, ["Acme", "Beta", "Acme 2"]);
    assert_eq!(listed(&admin, "?name=Acme").0, ["Acme"]);
    assert_eq!(listed(&admin, "?name_prefix=Acme").0, ["Acme", "Acme 2"]);
    let (page, more) = listed(&admin, "?limit=2");
    assert_eq!((page.len(), &more["has_more"]), (2, &json!(true)));
    let behind = format!("?cursor={}", more["next_cursor"].as_str().unwrap());
    let (page, last) = listed(&admin, &behind);
    assert_eq!((page, &last["has_more"]), (vec!["Acme 2".to_owned()], &json!(false)));
    let behind = format!("?cursor={}", last["next_cursor"].as_str().unwrap());
    assert_eq!(listed(&admin, &behind).0, [] as [String; 0]);
    admin.post("/api/orgs", &json!({"name": "Late"}));
    assert_eq!(listed(&admin, &behind).0, ["Late"], "a cursor stays where it was");
}

#[test]
fn a_name_is_one_organizations_alone_until_it_is_renamed() {
    let (server, _dir) = server();
    let (admin, first) = (server.admin(), server.org("Acme"));
    let beta = admin.post("/api/orgs", &json!({"name": "Beta"})).id();
    for taken in [
        admin.post("/api/orgs", &json!({"name": "Beta"})),
        change(&admin, &org_id(&first), &json!({"name": "Beta"})),
    ] {
        assert_eq!((taken.status, taken.code()), (409, "organization_exists"), "{taken:?}");
        assert_eq!(taken.json["organization_id"], json!(beta));
    }
    assert_eq!(change(&admin, &beta, &json!({"name": "Gamma"})).json["name"], json!("Gamma"));
    assert_eq!(admin.post("/api/orgs", &json!({"name": "Beta"})).status, 201, "it is free again");
}

#[test]
fn a_wrong_request_about_an_organization_is_told_all_its_faults_and_changes_nothing() {
    let (server, _dir) = server();
    let admin = server.admin();
    let id = admin.post("/api/orgs", &json!({"name": "Acme"})).id();
    let before = admin.get(&format!("/api/orgs/{id}")).text;
    let wrong = json!({"name": " ", "tier": "gold", "inbox_mode": "x", "suspended": 1, "odd": 1});
    let refused = change(&admin, &id, &wrong);
    assert_eq!((refused.status, refused.code()), (422, "validation_failed"), "{refused:?}");
    let pointers: Vec<_> = refused.json["errors"].as_array().unwrap().iter().collect();
    assert_eq!(pointers.len(), 5, "{refused:?}");
    for body in [json!({}), json!({"name": "org_x"}), json!({"name": "a", "suspended": true})] {
        assert_eq!(admin.post("/api/orgs", &body).code(), "validation_failed", "{body}");
    }
    let keys = format!("/api/orgs/{id}/keys");
    assert_eq!(admin.post(&keys, &json!({})).code(), "validation_failed");
    assert_eq!(admin.get(&format!("/api/orgs/{id}")).text, before);
    assert_eq!(change(&admin, &id, &json!({})).text, before, "no change is no change");
    for absent in ["org_01h2xcejqtf2nbrexx3vqjhp41", "x"] {
        let path = format!("/api/orgs/{absent}");
        let name = json!({"name": "n"});
        let answers = [admin.get(&path), admin.patch(&path, &name)];
        assert_eq!(answers.map(|answer| answer.status), [404; 2]);
        assert_eq!(admin.post(&format!("{path}/keys"), &name).status, 404);
    }
}

#[test]
fn a_key_made_for_an_organization_knows_who_it_is_and_has_the_tier_of_this_moment() {
    let (server, _dir) = server();
    let admin = server.admin();
    let id = admin.post("/api/orgs", &json!({"name": "Acme"})).id();
    let wish = json!({"name": "reader", "scopes": ["read_only", "inbox:write"]});
    let made = admin.post(&format!("/api/orgs/{id}/keys"), &wish);
    assert_eq!((made.status, &made.json["organization_id"]), (201, &json!(id)), "{made:?}");
    let key = admin.with_key(made.json["key"].as_str().unwrap());
    let scopes = json!([
        "inbox:read",
        "inbox:write",
        "endpoints:read",
        "keys:read",
        "events:read",
        "deliveries:read",
        "audit:read"
    ]);
    let who = key.get("/api/whoami");
    let expected = json!({
        "organization": {"id": id, "name": "Acme", "tier": "free", "suspended": false},
        "key": {"id": made.json["key_id"], "name": "reader", "scopes": scopes, "expires_at": null},
    });
    assert_eq!(who.json, expected);
    assert!(who.header("ratelimit-policy").starts_with("\"free-"), "{who:?}");
    change(&admin, &id, &json!({"tier": "pro"}));
    let who = key.get("/api/whoami");
    assert!(who.header("ratelimit-policy").starts_with("\"pro-"), "{who:?}");
    assert_eq!(who.json["organization"]["tier"], json!("pro"));
    assert_eq!(admin.get("/api/whoami").json, json!({"admin": true}));
    assert_eq!(admin.with_key("").get("/api/whoami").status, 401);
}

#[test]
fn a_key_loses_scopes_and_time_and_only_the_operator_gives_time_back() {
    let (server, _dir) = server();
    let (org, admin) = (server.org("Acme"), server.admin());
    let wish = json!({"name": "one", "scopes": ["operator"], "expires_at": "2100-01-01T00:00:00Z"});
    let made = org.post("/api/keys/generate", &wish);
    let (path, key) = (format!("/api/keys/{}", made.json["key_id"].as_str().unwrap()), &made.json);
    let own = org.with_key(key["key"].as_str().unwrap());
    assert_eq!(own.get("/api/endpoints").status, 200);
    assert_eq!(own.patch(&path, &json!({"name": "n"})).status, 403, "it lacks keys:write");
    let earlier = json!({"name": "two", "scopes": ["deliveries:read", "events:read"],
        "expires_at": "2099-01-01T00:00:00Z"});
    let changed = org.patch(&path, &earlier);
    assert_eq!(changed.status, 200, "{changed:?}");
    let expected = json!({"name": "two", "scopes": ["events:read", "deliveries:read"],
        "expires_at": "2099-01-01T00:00:00.000Z", "current": false});
    assert_has(&changed.json, &expected);
    assert_eq!(own.get("/api/endpoints").status, 403, "from the next request on");
    for (client, wrong, pointer) in [
        (&org, json!({"scopes": ["operator"]}), "/scopes"),
        (&admin, json!({"scopes": ["inbox:read"]}), "/scopes"),
        (&org, json!({"expires_at": "2099-01-02T00:00:00Z"}), "/expires_at"),
        (&org, json!({"expires_at": "2001-01-01T00:00:00Z"}), "/expires_at"),
        (&org, json!({"scopes": []}), "/scopes"),
        (&org, json!({"key": "x"}), "/key"),
    ] {
        let refused = client.patch(&path, &wrong);
        assert_eq!((refused.status, refused.code()), (422, "validation_failed"), "{wrong}");
        assert_eq!(refused.json["errors"][0]["pointer"], json!(pointer), "{refused:?}");
    }
    let later = admin.patch(&path, &json!({"expires_at": "2101-01-01T00:00:00Z"}));
    assert_eq!(
        (later.status, &later.json["expires_at"]),
        (200, &json!("2101-01-01T00:00:00.000Z"))
    );
}

#[test]
fn a_key_changes_no_key_that_may_more() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let first = org.get("/api/whoami").json["key"]["id"].as_str().unwrap().to_owned();
    let keeper = json!({"name": "keeper", "scopes": ["keys:write"]});
    let keeper = org.post("/api/keys/generate", &keeper);
    let keeper = org.with_key(keeper.json["key"].as_str().unwrap());
    let refused = keeper.patch(&format!("/api/keys/{first}"), &json!({"scopes": ["keys:write"]}));
    assert_eq!((refused.status, refused.code()), (403, "forbidden"), "{refused:?}");
    assert!(refused.text.contains("cannot change a key with more scopes"), "{refused:?}");
}

/// Number of events of the suspended organization; so few failures open no circuit breaker.
const EVENTS: usize = 4;

/// Posts events that a receiver refuses once. The next attempts are due in six seconds.
fn refused(org: &Client, receiver: &Receiver) -> Vec<String> {
    receiver.answer_next([500; EVENTS]);
    org.endpoint(&json!({"url": receiver.url(), "retry_schedule": [6, 6, 6]}));
    let mut ids: Vec<_> = (0..EVENTS).map(|number| org.send("a.b", &json!(number)).id()).collect();
    ids.sort_unstable();
    let retrying =
        || org.get("/api/deliveries?state=retrying").json["data"].as_array().map(Vec::len);
    until(|| (retrying() == Some(EVENTS)).then_some(()));
    ids
}

/// Waits until a retry of another organization, due in five seconds, has come.
fn others_go_on(other: &Client) {
    let receiver = Receiver::start().unwrap();
    receiver.answer_next([500]);
    let settings =
        json!({"url": receiver.url(), "retry_schedule": [5, 5], "event_types": ["tick.*"]});
    let endpoint = other.endpoint(&settings);
    other.send("tick.now", &json!(1));
    receiver.wait_for(2, PATIENCE);
    receiver.stop();
    other.delete(&format!("/api/endpoints/{endpoint}"));
}

#[test]
fn deliveries_of_a_suspended_organization_wait_also_over_a_kill_and_all_go_on_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let (org, other, receiver) =
        (server.org("Acme"), server.org("Other"), Receiver::start().unwrap());
    let id = org_id(&org);
    let ids = refused(&org, &receiver);
    suspend(&server.admin(), &id, true);
    others_go_on(&other);
    server.kill();
    let server = Process::start(&data);
    let on = |client: &Client| Client::new(&server.url, &client.key);
    let (org, other, admin) = (on(&org), on(&other), server.admin());
    others_go_on(&other);
    assert_eq!(receiver.received().len(), EVENTS, "nothing was sent meanwhile");
    let waiting = org.get("/api/deliveries?state=retrying").json;
    let waiting = waiting["data"].as_array().unwrap().clone();
    assert_eq!(waiting.len(), EVENTS);
    let delivery = format!("/api/deliveries/{}", waiting[0]["id"].as_str().unwrap());
    let event = waiting[0]["event_id"].as_str().unwrap();
    assert_eq!(org.get(&delivery).json["organization_suspended"], json!(true));
    let words = ["explain", event, "--key", &org.key, "--url", &server.url];
    let (_, text) = command(&data, &words);
    assert!(text.contains("The organization is suspended: no attempt is made"), "{text}");
    assert_eq!(admin.get(&format!("/api/orgs/{id}")).json["waiting"], json!(waiting.len()));
    suspend(&admin, &id, false);
    let mut arrived: Vec<_> = receiver.wait_for(2 * EVENTS, PATIENCE)[EVENTS..]
        .iter()
        .map(|request| request.id.clone())
        .collect();
    arrived.sort_unstable();
    assert_eq!(arrived, ids, "none is lost, and none is sent twice");
    let delivered =
        || org.get("/api/deliveries?state=delivered").json["data"].as_array().map(Vec::len);
    until(|| (delivered() == Some(EVENTS)).then_some(()));
    assert_eq!(org.get(&delivery).json["organization_suspended"], json!(false));
    receiver.stop();
}

const START_MS: u64 = 1_800_000_000_000;
const DAY_MS: u64 = 86_400_000;

/// Makes a key that ends so many days after the start.
fn key_for(org: &Client, days: u64) -> Value {
    let end = Timestamp(START_MS + days * DAY_MS).to_string();
    let name = format!("{days} days");
    let wish = json!({"name": name, "scopes": ["consumer"], "expires_at": end});
    org.post("/api/keys/generate", &wish).json
}

/// The warnings about ending keys, the newest first.
fn told(org: &Client) -> Vec<Value> {
    let page = org.get("/api/events?type=triggerd.key.expiring").json;
    page["data"].as_array().unwrap().clone()
}

#[test]
fn the_end_of_a_key_is_announced_a_week_before_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let clock = Clock::manual(START_MS);
    let start =
        || App::start(Config::from_toml(&settings(&data, "")).unwrap(), clock.clone()).unwrap();
    let app = start();
    let client = |app: &App, key: &str| Client::new(&format!("http://{}", app.address()), key);
    let org = client(&app, app.admin_token()).new_org("Acme");
    let made = [5, 10, 30].map(|days| key_for(&org, days));
    clock.set_ms(START_MS + 3 * DAY_MS - 1);
    let looked = org.send("a.b", &json!(1)).id();
    until(|| (org.get("/api/inbox").json["data"][0]["id"] == json!(looked)).then_some(()));
    assert_eq!(told(&org), [] as [Value; 0]);
    clock.set_ms(START_MS + 3 * DAY_MS + 1);
    let events = until(|| Some(told(&org)).filter(|events| !events.is_empty()));
    let payload = json!({"key_id": made[1]["key_id"], "name": "10 days",
        "expires_at": made[1]["expires_at"]});
    assert_eq!((events.len(), &events[0]["payload"]), (1, &payload));
    let metric = "triggerd_operational_events_total{kind=\"key_expiring\"}";
    assert_eq!(org.metric(metric), 1.0);
    assert_eq!(app.stop(), ExitCode::Clean);
    let app = start();
    let org = client(&app, &org.key);
    clock.set_ms(START_MS + 23 * DAY_MS + 1);
    let events = until(|| Some(told(&org)).filter(|events| events.len() > 1));
    let names: Vec<_> = events.iter().map(|event| &event["payload"]["name"]).collect();
    assert_eq!(names, ["30 days", "10 days"], "each once, and not the short one");
    assert_eq!(app.stop(), ExitCode::Clean);
}
