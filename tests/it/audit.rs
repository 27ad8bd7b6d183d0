//! The audit log with the real binary: each change of the API leaves an entry, which survives, hides
//! secrets, and is shown to the organization and to the operator only.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use triggerd::app::App;
use triggerd::base::clock::Clock;
use triggerd::config::Config;
use triggerd::http::{Route, Verb, Who, routes};

use crate::authority::{Ids, body};
use crate::harness::{Answer, Client, Process, assert_has, server, settings, until};

/// The routes that change something that is no administrative change: events are the product's
/// own traffic, and a test of an endpoint leaves nothing behind.
const NOT_AUDITED: [&str; 4] = [
    "POST /api/events",
    "POST /api/events/batch",
    "POST /api/ack/{event_id}",
    "POST /api/endpoints/{endpoint_id}/test",
];

/// Every other route that changes something, and the actions that its request of this table leaves.
const AUDITED: [(&str, &[&str]); 26] = [
    ("DELETE /api/events/{event_id}", &["event.erased"]),
    ("POST /api/webhook/config", &["endpoint.changed"]),
    ("DELETE /api/webhook/config", &["endpoint.deleted"]),
    ("POST /api/endpoints", &["endpoint.created"]),
    ("PATCH /api/endpoints/{endpoint_id}", &["endpoint.changed"]),
    ("DELETE /api/endpoints/{endpoint_id}", &["endpoint.deleted"]),
    ("POST /api/endpoints/{endpoint_id}/enable", &["endpoint.changed"]),
    ("POST /api/endpoints/{endpoint_id}/secret/rotate", &["endpoint.changed"]),
    ("POST /api/deliveries/{delivery_id}/retry", &["delivery.retried"]),
    ("DELETE /api/dead-letters", &["dead_letters.dropped"]),
    ("POST /api/dead-letters/replay", &["dead_letters.replayed"]),
    ("POST /api/replays", &["replay.started"]),
    ("DELETE /api/replays/{replay_id}", &["replay.canceled"]),
    ("POST /api/hooks", &["endpoint.created"]),
    ("DELETE /api/hooks/{hook_id}", &["endpoint.deleted"]),
    ("POST /api/keys/generate", &["key.created"]),
    ("POST /api/keys/rotate", &["key.rotated", "key.created"]),
    ("PATCH /api/keys/{key_id}", &["key.changed"]),
    ("DELETE /api/keys/{key_id}", &["key.revoked"]),
    ("POST /api/orgs", &["organization.created"]),
    ("PATCH /api/orgs/{org_id}", &["organization.changed"]),
    ("DELETE /api/orgs/{org_id}", &["organization.deleted"]),
    ("POST /api/orgs/{org_id}/keys", &["key.created"]),
    ("POST /api/admin/backup", &["backup.requested"]),
    ("POST /api/admin/archive", &["archive.requested"]),
    ("POST /api/admin/drill", &["drill.requested"]),
];

fn entries(client: &Client, query: &str) -> Vec<Value> {
    let page = client.get(&format!("/api/audit?limit=500{query}"));
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(page.json["has_more"], json!(false));
    page.json["data"].as_array().unwrap().clone()
}

fn actions(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect()
}

/// The entries of a request, in their order.
fn of_request(admin: &Client, request: &str) -> Vec<Value> {
    let mut entries = entries(admin, "&order=oldest");
    entries.retain(|entry| entry["request_id"] == request);
    entries
}

fn name(route: &Route) -> String {
    format!("{} {}", route.verb.name(), route.path)
}

/// Ids of an organization whose replay waits for an endpoint, which is disabled.
fn waiting(org: &Client) -> Ids {
    let mut ids = Ids::make(org);
    org.patch(&format!("/api/endpoints/{}", ids.endpoint), &json!({"enabled": false}));
    let replay = json!({"endpoint_id": ids.endpoint, "only": "all"});
    ids.replay = org.post("/api/replays", &replay).id();
    ids
}

fn ask(client: &Client, route: &Route, (ids, body): (&Ids, &Value), request: &str) -> Answer {
    let method = Method::from_bytes(route.verb.name().as_bytes()).unwrap();
    let headers = [("Content-Type", "application/json"), ("X-Request-Id", request)];
    client.request(method, &ids.path(route), &headers, body.to_string())
}

#[test]
fn every_route_that_changes_something_leaves_its_entries_or_is_known_to_leave_none() {
    let dir = tempfile::tempdir().unwrap();
    let backups = dir.path().join("backups");
    let more = format!("[backup]\ndirectory = {:?}\n", backups.display().to_string());
    let server = Process::start_with(&dir.path().join("data"), &more);
    let admin = server.admin();
    let changing = || routes().iter().filter(|route| route.verb != Verb::Get);
    for (number, route) in changing().enumerate() {
        let (name, request) = (name(route), format!("request-{number}"));
        let org = server.org("Acme");
        let ids = waiting(&org);
        let of_admin = route.who == Who::Admin;
        let body = match route.path {
            "/api/admin/backup" => json!({"directory": backups.join("one")}),
            path => body(path, &ids),
        };
        let caller = if of_admin { &admin } else { &org };
        let answer = ask(caller, route, (&ids, &body), &request);
        assert!((200..300).contains(&answer.status), "{name}: {answer:?}");
        let left = of_request(&admin, &request);
        let expected = AUDITED.iter().find(|(audited, _)| *audited == name);
        assert_eq!(
            expected.is_none(),
            NOT_AUDITED.contains(&name.as_str()),
            "{name} must be in one of the tables of this file"
        );
        assert_eq!(actions(&left), expected.map_or(&[][..], |(_, actions)| actions), "{name}");
        let actor = if of_admin { "admin" } else { "key" };
        for entry in &left {
            assert_eq!(entry["actor"]["type"], actor, "{entry}");
            assert_eq!(entry["address"], "127.0.0.1", "{entry}");
            assert!(entry["at"].is_string(), "{entry}");
        }
    }
    let known: BTreeSet<_> = changing().map(name).collect();
    let gone = AUDITED.iter().map(|(audited, _)| *audited).chain(NOT_AUDITED);
    let gone: Vec<_> = gone.filter(|name| !known.contains(*name)).collect();
    assert_eq!(gone, [] as [&str; 0], "there is no such route");
}

#[test]
fn an_entry_shows_what_was_changed_and_no_secret() {
    let (server, _dir) = server();
    let (org, admin) = (server.org("Acme"), server.admin());
    let secret = "c4nary";
    let settings = json!({
        "url": format!("https://example.com/hook?token={secret}"), "description": "old",
        "headers": {"x-team": secret}, "metadata": {"team": "blue"},
    });
    let made = org.post("/api/endpoints", &settings);
    let path = format!("/api/endpoints/{}", made.id());
    let changes = [
        json!({"description": "new", "event_types": ["order.*"]}),
        json!({"headers": {"x-team": format!("{secret}2")}}),
        json!({"url": format!("https://example.com/hook?token={secret}2")}),
    ];
    for change in &changes {
        assert_eq!(org.patch(&path, change).status, 200);
    }
    assert_eq!(org.patch(&path, &changes[0]).status, 200, "this changes nothing");
    let rotated = org.post(&format!("{path}/secret/rotate"), &json!({}));
    let left = entries(&org, "&order=oldest");
    let changed = |number: usize| left[number]["changes"].clone();
    let field = |name: &str, before: Value, after: Value| json!({"field": name, "before": before, "after": after});
    assert_eq!(actions(&left[2..]), [&["endpoint.created"][..], &["endpoint.changed"; 4]].concat());
    let created = changed(2).as_array().unwrap().clone();
    assert!(created.contains(&field("metadata", Value::Null, json!("team=blue"))), "{created:?}");
    assert!(created.contains(&field("headers", Value::Null, json!("x-team"))), "{created:?}");
    let described = field("description", json!("old"), json!("new"));
    let types = field("event_types", Value::Null, json!("order.*"));
    assert_eq!(changed(3), json!([described, types]));
    let url = json!("https://example.com/hook");
    assert_eq!(changed(4), json!([field("headers", json!("x-team"), json!("x-team"))]));
    assert_eq!(changed(5), json!([field("url", url.clone(), url)]));
    assert_eq!(changed(6), json!([field("secret", json!("(secret)"), json!("(secret)"))]));
    let text = admin.get("/api/audit?limit=500").text;
    let of = |answer: &Answer| answer.json["secret"].as_str().unwrap().to_owned();
    for hidden in [secret, &org.key, &admin.key, &of(&made), &of(&rotated)] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
}

#[test]
fn an_organization_sees_its_own_entries_and_the_operator_those_of_all() {
    let (server, _dir) = server();
    let (org, other, admin) = (server.org("Acme"), server.org("Other"), server.admin());
    let id = |org: &Client| {
        org.get("/api/whoami").json["organization"]["id"].as_str().unwrap().to_owned()
    };
    admin.patch(&format!("/api/orgs/{}", id(&other)), &json!({"suspended": true}));
    let own = entries(&org, "");
    assert_eq!(actions(&own), ["key.created", "organization.created"]);
    assert!(own.iter().all(|entry| entry["organization_id"] == json!(id(&org))), "{own:?}");
    assert_eq!(own[0]["actor"], json!({"type": "admin", "id": null}));
    let others = entries(&other, "");
    assert_eq!(actions(&others), ["organization.changed", "key.created", "organization.created"]);
    let suspended = json!({"field": "suspended", "before": "false", "after": "true"});
    assert_eq!(others[0]["changes"], json!([suspended]));
    assert_eq!(entries(&admin, "").len(), 5);
    assert_eq!(entries(&admin, &format!("&organization_id={}", id(&other))), others);
    for (query, client) in [
        ("?organization_id=org_01h2xcejqtf2nbrexx3vqjhp41", &admin),
        ("?organization_id=x", &admin),
        ("?order=up", &admin),
        ("?action=x", &admin),
        (&*format!("?organization_id={}", id(&org)), &org),
    ] {
        let refused = client.get(&format!("/api/audit{query}"));
        assert_eq!((refused.status, refused.code()), (400, "invalid_request"), "{query}");
    }
    for (scopes, status) in [("read_only", 200), ("audit:read", 200), ("consumer", 403)] {
        let wish = json!({"name": scopes, "scopes": [scopes]});
        let made = org.post("/api/keys/generate", &wish);
        let key = org.with_key(made.json["key"].as_str().unwrap());
        assert_eq!(key.get("/api/audit").status, status, "{scopes}");
    }
}

#[test]
fn a_list_is_read_page_by_page_in_both_orders() {
    let (server, _dir) = server();
    let (org, admin) = (server.org("Acme"), server.admin());
    for number in 0..5 {
        let wish = json!({"name": format!("key {number}"), "scopes": ["inbox:read"]});
        assert_eq!(org.post("/api/keys/generate", &wish).status, 201);
    }
    let pages = |order: &str| {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/audit?limit=2&action=key.created&order={order}{cursor}");
            let page = admin.get(&path).json;
            found.extend(page["data"].as_array().unwrap().clone());
            cursor = format!("&cursor={}", page["next_cursor"].as_str().unwrap());
            if page["has_more"] == json!(false) {
                return (found, cursor);
            }
        }
    };
    let ((mut newest, _), (oldest, cursor)) = (pages("newest"), pages("oldest"));
    newest.reverse();
    assert_eq!((oldest.len(), &newest), (6, &oldest));
    assert_eq!(entries(&admin, &format!("&order=oldest{cursor}")), [] as [Value; 0]);
    org.post("/api/keys/generate", &json!({"name": "late", "scopes": ["inbox:read"]}));
    let late = entries(&admin, &format!("&order=oldest{cursor}"));
    assert_eq!(late.len(), 1, "what comes later is behind the cursor");
    let at = oldest[3]["at"].as_str().unwrap();
    let since = entries(&admin, &format!("&action=key.created&since={at}"));
    let until = entries(&admin, &format!("&action=key.created&until={at}"));
    assert_eq!(since.len() + until.len(), 7);
    assert!(since.iter().all(|entry| entry["at"].as_str().unwrap() >= at), "{since:?}");
}

#[test]
fn entries_survive_a_kill_and_the_loss_of_the_state() {
    let (server, dir) = server();
    let data = dir.path().join("data");
    let org = server.org("Acme");
    org.endpoint(&json!({"url": "https://example.com/"}));
    let before = entries(&server.admin(), "");
    assert_eq!(actions(&before), ["endpoint.created", "key.created", "organization.created"]);
    server.kill();
    let server = Process::start(&data);
    assert_eq!(entries(&server.admin(), ""), before);
    server.kill();
    std::fs::remove_dir_all(data.join("sled")).unwrap();
    let server = Process::start(&data);
    assert_eq!(entries(&server.admin(), ""), before);
}

#[test]
fn entries_expire_at_their_age_and_new_ones_come() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start_with(&data, "[retention]\naudit_seconds = 1\n");
    let org = server.org("Acme");
    until(|| entries(&server.admin(), "").is_empty().then_some(()));
    org.endpoint(&json!({"url": "https://example.com/"}));
    until(|| entries(&org, "").is_empty().then_some(()));
    server.kill();
    let server = Process::start_on(&data, &settings(&data, "[retention]\naudit_seconds = 0\n"));
    assert_eq!(entries(&server.admin(), ""), [] as [Value; 0]);
    server.org("Other");
    assert_eq!(entries(&server.admin(), "").len(), 2);
}

#[test]
fn requests_that_try_to_pass_for_the_operator_leave_a_single_entry() {
    let (server, _dir) = server();
    let (org, admin) = (server.org("Acme"), server.admin());
    let wrong = org.with_key(&format!("{}x", admin.key));
    for client in std::iter::repeat_n(&wrong, 300).chain([&org, &org.with_key("")]) {
        let status = client.get("/api/orgs").status;
        assert!(matches!(status, 401 | 403), "{status}");
    }
    let refused = until(|| {
        let refused = entries(&admin, "&action=administration.refused");
        Some(refused).filter(|refused| !refused.is_empty())
    });
    assert_eq!(refused.len(), 1, "{refused:?}");
    let expected = json!({
        "organization_id": null, "actor": {"type": "unknown", "id": null}, "address": "127.0.0.1",
        "subject": {"type": "administration", "id": null},
    });
    assert_has(&refused[0], &expected);
    assert_eq!(
        refused[0]["changes"][0],
        json!({"field": "requests", "before": null, "after": "1"})
    );
    let text = admin.get("/api/audit").text;
    assert!(!text.contains("trgadm_"), "{text}");
    assert_eq!(entries(&org, "").len(), 2, "it is none of the organization's");
}

#[test]
fn the_rest_of_a_burst_of_refused_requests_is_noted_without_a_further_request() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(1_800_000_000_000);
    let config = settings(&dir.path().join("data"), "");
    let start = || App::start(Config::from_toml(&config).unwrap(), clock.clone()).unwrap();
    let admin_of = |app: &App| Client::new(&format!("http://{}", app.address()), app.admin_token());
    let noted = |admin: &Client, least: usize| {
        until(|| {
            let noted = entries(admin, "&order=oldest&action=administration.refused");
            let counts = noted.iter().map(|entry| entry["changes"][0]["after"].clone());
            Some(counts.collect::<Vec<_>>()).filter(|counts| counts.len() >= least)
        })
    };
    let app = start();
    let admin = admin_of(&app);
    let refused = |admin: &Client, requests: usize| {
        let wrong = admin.with_key(&format!("{}x", admin.key));
        assert!((0..requests).all(|_| wrong.get("/api/orgs").status == 401));
    };
    refused(&admin, 30);
    assert_eq!(noted(&admin, 1), ["1"]);
    clock.advance_ms(600_000);
    assert_eq!(noted(&admin, 2), ["1", "29"]);
    refused(&admin, 7);
    app.stop();
    let app = start();
    assert_eq!(noted(&admin_of(&app), 3), ["1", "29", "7"], "a stop does not lose the count");
    app.stop();
}
