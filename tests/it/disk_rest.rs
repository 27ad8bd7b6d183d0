//! An almost full disk: what makes more is refused, and what gives space back goes on.

use reqwest::Method;
use serde_json::{Value, json};
use triggerd::cli::demo::receiver::Receiver;

use crate::harness::{Client, PATIENCE, Process, assert_has, settings, until};

/// The settings of a server for which the whole disk is less than its reserve.
fn almost_full(settings: &str) -> String {
    settings.replacen("reserve_bytes = 1\n", "reserve_bytes = 1099511627776\n", 1)
}

/// Waits until the delivery of the event is a dead letter, and returns the id of the delivery.
fn dead(org: &Client, event: &str) -> String {
    until(|| {
        let shown = org.get(&format!("/api/events/{event}")).json;
        let delivery = &shown["deliveries"][0];
        (delivery["state"] == "dead").then(|| delivery["id"].as_str().unwrap().to_owned())
    })
}

#[test]
fn what_makes_more_is_refused_and_what_gives_space_back_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let plain = settings(&data, "");
    let server = Process::start_on(&data, &plain);
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    receiver.answer_next([500]);
    let settings_of = json!({"url": receiver.url(), "retry_schedule": [], "description": "longer"});
    let endpoint = org.endpoint(&settings_of);
    let event = org.send("a.b", &json!(1)).id();
    let delivery = dead(&org, &event);
    let second_key = json!({"name": "second", "scopes": ["events:read"]});
    let made = org.post("/api/keys/generate", &second_key);
    assert_eq!(made.status, 201, "{made:?}");
    let key = made.json["key_id"].as_str().unwrap().to_owned();
    assert_eq!(server.stop().0, Some(0));
    let server = Process::start_on(&data, &almost_full(&plain));
    let org = Client::new(&server.url, &org.key);
    let of_endpoint = format!("/api/endpoints/{endpoint}");
    let retry = format!("/api/deliveries/{delivery}/retry");
    let nothing = json!({});
    let dead_letters = json!({"ids": [delivery]});
    let asked: [(&Client, &str, &Value); 8] = [
        (&server.admin(), "/api/keys/generate", &json!({"organization": "More"})),
        (&org, "/api/keys/generate", &second_key),
        (&org, "/api/keys/rotate", &nothing),
        (&org, "/api/endpoints", &settings_of),
        (&org, &format!("{of_endpoint}/secret/rotate"), &nothing),
        (&org, "/api/replays", &json!({"only": "failed", "endpoint_id": endpoint})),
        (&org, "/api/dead-letters/replay", &dead_letters),
        (&org, &retry, &nothing),
    ];
    for (client, path, body) in asked {
        let refused = client.post(path, body);
        assert_eq!((refused.status, refused.code()), (507, "disk_full"), "{path}: {refused:?}");
        let detail = refused.json["detail"].as_str().unwrap();
        assert!(detail.contains("its rest is kept for what gives space back"), "{detail}");
    }
    // A change of an endpoint is judged by what it does.
    for (change, status) in [
        (json!({"description": "longer still"}), 507),
        (json!({"description": "LONGER"}), 507),
        (json!({"description": "short"}), 200),
        (json!({"retry_schedule": [1]}), 507),
        (json!({"event_types": ["a.*", "b.*"]}), 200),
        (json!({"event_types": ["c.*"]}), 507),
        (json!({"event_types": []}), 507),
        (json!({"event_types": ["a.*"], "description": "longer"}), 507),
        (json!({"event_types": ["a.*"]}), 200),
        (json!({"enabled": false, "metadata": {"why": "the disk"}}), 507),
        (json!({"enabled": false}), 200),
        (json!({"enabled": true}), 507),
    ] {
        let answer = org.patch(&of_endpoint, &change);
        assert_eq!(answer.status, status, "{change}: {answer:?}");
    }
    assert_eq!(org.ack(&event).status, 200);
    let json = [("Content-Type", "application/json")];
    let drop = |body: &Value| {
        org.request(Method::DELETE, "/api/dead-letters", &json, body.to_string()).status
    };
    assert_eq!(drop(&dead_letters), 200);
    assert_eq!(org.delete(&format!("/api/events/{event}")).status, 200);
    assert!([200, 204].contains(&org.delete(&format!("/api/keys/{key}")).status));
    assert!([200, 204].contains(&org.delete(&of_endpoint).status));
    assert_eq!(server.stop().0, Some(0));
    receiver.stop();
}

#[test]
fn a_retry_that_waits_says_why() {
    let (server, _dir) = crate::harness::server();
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    receiver.answer_next([500, 500]);
    let endpoint = org.endpoint(&json!({"url": receiver.url(), "retry_schedule": []}));
    let delivery = dead(&org, &org.send("a.b", &json!(1)).id());
    let path = format!("/api/endpoints/{endpoint}");
    assert_eq!(org.patch(&path, &json!({"enabled": false})).status, 200);
    let retry = || org.post(&format!("/api/deliveries/{delivery}/retry"), &json!({}));
    let waits = retry();
    assert_eq!(waits.status, 202);
    assert_has(&waits.json, &json!({"state": "retrying", "waits_for": "endpoint_disabled"}));
    assert_eq!(org.patch(&path, &json!({"enabled": true})).status, 200);
    receiver.wait_for(2, PATIENCE);
    let shown = until(|| {
        let shown = org.get(&format!("/api/deliveries/{delivery}")).json;
        (shown["state"] == "dead").then_some(shown)
    });
    assert_eq!(shown["waits_for"], Value::Null, "a dead letter waits for nothing");
    receiver.stop();
}
