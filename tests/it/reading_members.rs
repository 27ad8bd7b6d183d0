//! The members of requests: null, and what an answer had.

use serde_json::{Value, json};

use super::{of_batch, server};
use crate::harness::Answer;

/// The status, and the place of the first fault.
fn fault(answer: &Answer) -> (u16, &str) {
    let pointer = answer.json["errors"][0]["pointer"].as_str();
    (answer.status, pointer.unwrap_or_default())
}

#[test]
fn null_is_the_same_as_absence_wherever_a_member_is_optional() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let event = json!({"type": "a", "payload": null, "dedup_id": null, "labels": null,
        "occurred_at": null, "deliver_after": null, "event_type": null});
    assert_eq!(org.post("/api/events", &event).status, 202);
    let alias = json!({"type": null, "event_type": "a", "payload": 1, "labels": {"kept": "x"}});
    let sent = org.post("/api/events", &alias);
    assert_eq!(sent.status, 202, "{sent:?}");
    assert_eq!(org.inbox()[0]["payload"], Value::Null, "a payload can be null");
    assert_eq!(org.inbox()[1]["labels"], json!({"kept": "x"}));
    assert_eq!(of_batch(&org.post("/api/events/batch", &json!({"events": [event]}))), "accepted");
    for (missing, pointer) in
        [(json!({"type": null, "payload": 1}), "/type"), (json!({"type": "a"}), "/payload")]
    {
        let refused = org.post("/api/events", &missing);
        assert_eq!(fault(&refused), (422, pointer), "{refused:?}");
    }
    // Names in a map belong to the producer: there, null is a value, and no label can have this
    // value.
    let label = org.post("/api/events", &json!({"type": "a", "payload": 1, "labels": {"x": null}}));
    assert_eq!(fault(&label), (422, "/labels/x"), "{label:?}");
    let twice =
        org.post_text("/api/events", r#"{"type":"a","payload":1,"dedup_id":null,"dedup_id":"x"}"#);
    assert_eq!(fault(&twice), (422, "/dedup_id"), "{twice:?}");
    let unknown = org.post("/api/events", &json!({"type": "a", "payload": 1, "colour": null}));
    assert_eq!(fault(&unknown), (422, "/colour"), "{unknown:?}");
}

#[test]
fn null_is_the_same_as_absence_in_settings() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let all = json!({"description": null, "event_types": null, "headers": null, "body": null,
        "enabled": null, "retry_schedule": null, "timeout_ms": null, "max_in_flight": null,
        "rate_per_second": null, "ordering": null, "metadata": null,
        "url": "http://127.0.0.1:1/"});
    let made = org.post("/api/endpoints", &all);
    assert_eq!(made.status, 201, "{made:?}");
    let plain = org.post("/api/endpoints", &json!({"url": "http://127.0.0.1:1/"}));
    for member in [
        "description",
        "event_types",
        "headers",
        "body",
        "enabled",
        "ordering",
        "metadata",
        "timeout_ms",
    ] {
        assert_eq!(made.json[member], plain.json[member], "{member}");
    }
    let set = org.post(
        "/api/webhook/config",
        &json!({"url": "http://127.0.0.1:1/", "event_types": null, "enabled": null}),
    );
    assert_eq!((set.status, &set.json["enabled"]), (201, &json!(true)), "{set:?}");
    let hook = org.post(
        "/api/hooks",
        &json!({"target_url": null, "hookUrl": "http://127.0.0.1:1/", "event": null}),
    );
    assert_eq!(hook.status, 201, "{hook:?}");
    let path = format!("/api/endpoints/{}/secret/rotate", made.id());
    assert_eq!(org.post(&path, &json!({"overlap_seconds": null})).status, 200);
}

#[test]
fn null_is_the_same_as_absence_in_replays_and_keys() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let replay = json!({"only": "missing", "endpoint_id": null, "since": null, "until": null,
        "event_types": null});
    assert_eq!(org.post("/api/replays", &replay).status, 202);
    let letters =
        json!({"ids": null, "endpoint_id": null, "since": "2026-01-31T10:00:00Z", "until": null});
    assert_eq!(org.post("/api/dead-letters/replay", &letters).status, 200);
    let of_ids = json!({"ids": [], "endpoint_id": null, "since": null, "until": null});
    assert_eq!(org.post("/api/dead-letters/replay", &of_ids).status, 200);
    let none = org.post("/api/dead-letters/replay", &json!({"ids": null}));
    assert_eq!(none.status, 422, "nothing is chosen: {none:?}");
    let key = json!({"name": "n", "scopes": ["inbox:read"], "expires_at": null});
    assert_eq!(org.post("/api/keys/generate", &key).status, 201);
    let new = json!({"organization": "New", "tier": null, "name": null, "scopes": null,
        "expires_at": null});
    assert_eq!(server.admin().post("/api/keys/generate", &new).status, 201);
    assert_eq!(org.post("/api/keys/rotate", &json!({"grace_seconds": null})).status, 201);
}

/// The settings of an endpoint that has none as configured.
fn every_setting() -> Value {
    json!({"url": "http://127.0.0.1:1/", "description": "d", "event_types": ["a.*"],
        "headers": {"Authorization": "Bearer 1", "X-Team": "blue"}, "body": "payload",
        "enabled": false, "retry_schedule": [1, 2], "timeout_ms": 3, "max_in_flight": 4,
        "rate_per_second": 5, "ordering": "strict", "metadata": {"k": "v"}})
}

#[test]
fn what_get_gave_can_be_sent_back_and_changes_nothing() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    for made in [every_setting(), json!({"url": "http://127.0.0.1:2/"})] {
        let path = format!("/api/endpoints/{}", org.post("/api/endpoints", &made).id());
        let before = org.get(&path);
        let patched = org.patch(&path, &before.json);
        assert_eq!((patched.status, &patched.json), (200, &before.json), "{patched:?}");
        assert_eq!(org.get(&path).text, before.text);
        // The error names every member that differs.
        let mut changed = before.json.clone();
        (changed["id"], changed["created_at"]) = (json!("ep_1"), json!("2026-01-31T10:00:00Z"));
        (changed["updated_at"], changed["disabled_reason"]) = (json!(1), json!("gone"));
        let refused = org.patch(&path, &changed);
        let faults = refused.json["errors"].as_array().unwrap().iter();
        let mut named: Vec<_> = faults.map(|fault| fault["pointer"].as_str().unwrap()).collect();
        named.sort_unstable();
        assert_eq!(
            (refused.status, named),
            (422, vec!["/created_at", "/disabled_reason", "/id", "/updated_at"])
        );
        let mut one = before.json;
        one["description"] = json!("another one");
        let patched = org.patch(&path, &one);
        assert_eq!(
            (patched.status, &patched.json["description"]),
            (200, &json!("another one")),
            "{patched:?}"
        );
        assert_eq!(org.patch(&path, &one).status, 422, "changed since it was read");
    }
}

#[test]
fn null_in_a_change_leaves_a_setting_or_sets_it_back_to_what_is_configured() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let full = format!("/api/endpoints/{}", org.post("/api/endpoints", &every_setting()).id());
    let before = org.get(&full).json;
    let nulls = json!({"url": null, "description": null, "event_types": null, "headers": null,
        "body": null, "enabled": null, "ordering": null, "metadata": null, "disabled_reason": null,
        "id": null});
    assert_eq!(org.patch(&full, &nulls).json, before, "null changes nothing");
    let reset = json!({"retry_schedule": null, "timeout_ms": null, "max_in_flight": null,
        "rate_per_second": null});
    let reset = org.patch(&full, &reset).json;
    let shown = ["retry_schedule", "timeout_ms", "max_in_flight", "rate_per_second"]
        .map(|name| reset[name].clone());
    assert_eq!(shown, [const { Value::Null }; 4], "as configured, as it is shown then");
}

#[test]
fn what_get_gave_of_the_default_endpoint_can_be_sent_back_too() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    org.post("/api/webhook/config", &json!({"url": "http://127.0.0.1:1/", "event_types": ["a"]}));
    let before = org.get("/api/webhook/config");
    let set = org.post("/api/webhook/config", &before.json);
    assert_eq!((set.status, &set.text), (200, &before.text), "{set:?}");
    let mut changed = before.json;
    changed["timeout_ms"] = json!(7);
    let refused = org.post("/api/webhook/config", &changed);
    assert_eq!(fault(&refused), (422, "/timeout_ms"), "{refused:?}");
}

/// For JSON Schema, and so for clients made from the document, 5000.0 is a whole number.
#[test]
fn a_whole_number_can_have_zeros_behind_its_point() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let with = |members: &str| {
        org.post_text("/api/endpoints", &format!("{{\"url\":\"https://example.com/\",{members}}}"))
    };
    let made = with("\"timeout_ms\": 5000.0, \"retry_schedule\": [1, 2.00]");
    let shown = (&made.json["timeout_ms"], &made.json["retry_schedule"]);
    assert_eq!((made.status, shown), (201, (&json!(5000), &json!([1, 2]))), "{made:?}");
    for bad in ["5000.5", "5e3", "-5000.0", "\"5000.0\"", "5000.01", "1.0e99"] {
        let refused = with(&format!("\"timeout_ms\": {bad}"));
        assert_eq!(fault(&refused), (422, "/timeout_ms"), "{bad}: {refused:?}");
    }
}
