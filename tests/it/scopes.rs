//! The scopes of a key bound what its answers show and which keys it ends, with the real binary.

use std::path::Path;

use serde_json::{Value, json};
use triggerd::cli::demo::receiver::Receiver;

use crate::harness::{Answer, Client, Process, command, until};

const SECRET: &str = "URLSECRET";
/// The members of the answer to a change of an endpoint by a key that may not read endpoints.
const CHANGED: [&str; 4] = ["disabled_reason", "enabled", "id", "updated_at"];

/// Creates a key of the organization with these scopes.
fn key(org: &Client, scopes: &[&str]) -> Client {
    let made = org.post("/api/keys/generate", &json!({"name": "narrow", "scopes": scopes}));
    assert_eq!(made.status, 201, "{made:?}");
    org.with_key(made.json["key"].as_str().unwrap())
}

/// The id of the key that the client uses.
fn own_id(client: &Client) -> String {
    let keys = client.get("/api/keys").json;
    let current = keys["data"].as_array().unwrap().iter().find(|key| key["current"] == json!(true));
    current.unwrap()["id"].as_str().unwrap().to_owned()
}

fn members(answer: &Answer) -> Vec<&str> {
    answer.json.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn an_event_shows_deliveries_and_the_whole_url_only_to_keys_that_may_read_them() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let url = format!("{}?token={SECRET}", receiver.url());
    assert_eq!(org.post("/api/endpoints", &json!({ "url": url })).status, 201);
    let path = format!("/api/events/{}", org.send("a.b", &json!(1)).id());
    let whole =
        until(|| Some(org.get(&path)).filter(|shown| shown.json["status"] == json!("delivered")));
    assert_eq!(whole.json["endpoints"][0]["url"], json!(url), "{whole:?}");
    assert!(whole.json["deliveries"][0]["id"].is_string(), "{whole:?}");
    let has = |item: &Value, names: [&str; 3]| names.map(|name| item.get(name).is_some());
    for (more, deliveries, endpoints) in [
        (None, false, false),
        (Some("deliveries:read"), true, false),
        (Some("endpoints:read"), false, true),
    ] {
        let narrow = key(&org, &[&["events:read"], more.as_slice()].concat());
        let shown = narrow.get(&path);
        let item = &shown.json["endpoints"][0];
        assert_eq!(
            has(&shown.json, ["deliveries", "deliveries_complete", "in_inbox"]),
            [deliveries, deliveries, true]
        );
        assert_eq!(
            has(item, ["delivery", "breaker", "breaker_until"]),
            [deliveries, endpoints, endpoints],
            "{item}"
        );
        assert_eq!(shown.text.contains(SECRET), endpoints, "{shown:?}");
        let recorded = (&item["matched"], &item["reason"]);
        assert_eq!(recorded, (&json!(true), &json!("type_wanted")), "{item}");
        is_explained(&data, &narrow, &shown.id(), deliveries);
    }
    receiver.stop();
}

/// Explains an event with this key, which shows deliveries or names the scope for them.
fn is_explained(data: &Path, narrow: &Client, event: &str, with_deliveries: bool) {
    let words = ["explain", event, "--key", &narrow.key, "--url", &narrow.url];
    let (code, text) = command(data, &words);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.contains("accepted after 1 attempt"), with_deliveries, "{text}");
    let names_scope = text.contains("Only a key with the scope deliveries:read");
    assert_eq!(names_scope, !with_deliveries, "{text}");
}

#[test]
fn who_may_only_write_endpoints_sees_nothing_of_them_that_others_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let url = format!("{}?token={SECRET}", receiver.url());
    let endpoint = org.post("/api/webhook/config", &json!({ "url": url })).id();
    let path = format!("/api/endpoints/{endpoint}");
    let writer = key(&org, &["endpoints:write"]);
    let answers = [
        writer.patch(&path, &json!({})),
        writer.patch(&path, &json!({"description": "d"})),
        writer.post(&format!("{path}/enable"), &json!({})),
    ];
    for answer in &answers {
        assert_eq!((answer.status, members(answer)), (200, CHANGED.to_vec()), "{answer:?}");
    }
    let (code, line) = command(
        &data,
        &["endpoint", "disable", &endpoint, "--key", &writer.key, "--url", &server.url],
    );
    assert_eq!(
        (code, line.trim_end()),
        (Some(0), format!("{endpoint}  disabled: by_owner").as_str())
    );
    assert_eq!(writer.post(&format!("{path}/enable"), &json!({})).json["enabled"], json!(true));
    let rotated = writer.post(&format!("{path}/secret/rotate"), &json!({}));
    assert_eq!(
        members(&rotated),
        ["disabled_reason", "enabled", "id", "secret", "updated_at"],
        "{rotated:?}"
    );
    assert_eq!(org.patch(&path, &json!({})).json["url"], json!(url), "who may read sees the whole");
    assert_eq!(org.patch(&path, &json!({"metadata": {"team": "blue"}})).status, 200);
    let set = writer.post("/api/webhook/config", &json!({ "url": receiver.url() }));
    assert_eq!(members(&set), CHANGED, "{set:?}");
    receiver.stop();
}

#[test]
fn who_may_only_write_deliveries_sees_nothing_of_them_that_others_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    org.push_to(&receiver.url());
    let event = org.send("a.b", &json!(1)).id();
    let list = format!("/api/deliveries?event_id={event}&state=delivered");
    let delivery = until(|| org.get(&list).json["data"][0]["id"].as_str().map(String::from));
    let retry = format!("/api/deliveries/{delivery}/retry");
    let writer = key(&org, &["deliveries:write"]);
    let retried = writer.post_text(&retry, "");
    assert_eq!((retried.status, &retried.json["id"]), (202, &json!(delivery)), "{retried:?}");
    assert_eq!(
        ["attempts", "endpoint_enabled"].map(|name| retried.json.get(name)),
        [None; 2],
        "{retried:?}"
    );
    assert!(org.post_text(&retry, "").json["attempts"].is_array());
    let replay = org.post("/api/replays", &json!({"only": "failed"})).id();
    let canceled = writer.delete(&format!("/api/replays/{replay}"));
    assert_eq!(members(&canceled), ["finished_at", "id", "reason", "state"], "{canceled:?}");
    receiver.stop();
}

#[test]
fn a_key_in_its_grace_period_revokes_no_key_but_itself() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let org = server.org("Acme");
    let (all, scopes) = (own_id(&org), org.get("/api/keys").json["data"][0]["scopes"].clone());
    let made = org.post("/api/keys/generate", &json!({"name": "short", "scopes": scopes}));
    let leaving = org.with_key(made.json["key"].as_str().unwrap());
    let rotated = leaving.post("/api/keys/rotate", &json!({"grace_seconds": 600}));
    let successor = rotated.json["key_id"].as_str().unwrap();
    for other in [all.as_str(), successor] {
        let refused = leaving.delete(&format!("/api/keys/{other}"));
        assert_eq!((refused.status, refused.code()), (403, "forbidden"), "{refused:?}");
        assert!(refused.text.contains("in its grace period"), "{refused:?}");
    }
    let wish = json!({"name": "ends", "scopes": scopes, "expires_at": "2100-01-01T00:00:00Z"});
    let ends = org.post("/api/keys/generate", &wish);
    let refused =
        org.with_key(ends.json["key"].as_str().unwrap()).delete(&format!("/api/keys/{all}"));
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.text.contains("outlives"), "{refused:?}");
    assert_eq!(leaving.delete(&format!("/api/keys/{}", own_id(&leaving))).status, 204);
    assert_eq!(org.delete(&format!("/api/keys/{successor}")).status, 204);
}
