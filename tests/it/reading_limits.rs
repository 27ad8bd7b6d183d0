//! Limits of requests: a value at the limit is accepted, a value above it is refused.

use super::*;
use crate::harness::until;

/// Text of this many characters of four bytes each.
fn text(characters: usize) -> String {
    "\u{1f600}".repeat(characters)
}

/// The same text with each character escaped, which takes twelve bytes each.
fn escaped(characters: usize) -> String {
    "\\ud83d\\ude00".repeat(characters)
}

/// ASCII text with each character escaped.
fn escaped_ascii(text: &str) -> String {
    text.bytes().map(|byte| format!("\\u{byte:04x}")).collect::<Vec<_>>().concat()
}

/// A JSON string of this many bytes, with its quotes.
fn quoted(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

/// The status of an event sent alone, and its status as an item of a batch.
type Statuses = (u16, String);

fn statuses(alone: u16, in_batch: &str) -> Statuses {
    (alone, in_batch.to_owned())
}

/// Posts an event alone, and again in a batch.
fn event(org: &Client, body: &str) -> Statuses {
    let alone = org.post_text("/api/events", body);
    let batch = org.post_text("/api/events/batch", &format!("{{\"events\":[{body}]}}"));
    statuses(alone.status, of_batch(&batch).as_str().unwrap())
}

/// Posts a structured CloudEvent alone, and again in a batch.
fn cloud_event(org: &Client, id: &str, members: &str) -> Statuses {
    let body = format!(r#"{{"specversion":"1.0","type":"a","source":"/c","id":"{id}",{members}}}"#);
    let alone = post(org, "/api/events", &[CLOUD_EVENT], &body);
    let batch = post(org, "/api/events/batch", &[CLOUD_EVENTS], format!("[{body}]"));
    statuses(alone.status, of_batch(&batch).as_str().unwrap())
}

#[test]
fn every_limit_of_an_event_is_reached_and_not_passed() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let labels = |count: usize, characters: usize, of: &dyn Fn(usize) -> String| {
        let label = |n: usize| format!("\"{n:03}{}\":\"{}\"", of(characters - 3), of(characters));
        (0..count).map(label).collect::<Vec<_>>().join(",")
    };
    let sent = |payload: &str, dedup: &str, labels: &str| {
        let members = format!(r#""payload":{payload},"dedup_id":"{dedup}","labels":{{{labels}}}"#);
        event(&org, &format!(r#"{{"type":"a.b",{members}}}"#))
    };
    let (taken, refused) = (statuses(202, "duplicate"), statuses(422, "rejected"));
    // All limits at once, also with every character escaped.
    let payload = quoted(PAYLOAD_BYTES);
    assert_eq!(sent(&payload, &text(255), &labels(32, 255, &text)), taken);
    assert_eq!(sent(&payload, &escaped(254), &labels(32, 255, &escaped)), taken);
    let without_id = format!(r#"{{"type":"a","payload":{payload}}}"#);
    assert_eq!(event(&org, &without_id), statuses(202, "accepted"));
    assert_eq!(sent(&quoted(PAYLOAD_BYTES + 1), "x", ""), statuses(413, "rejected"));
    assert_eq!(sent("1", &text(256), ""), refused);
    assert_eq!(sent("1", "y", &labels(33, 3, &text)), refused);
    assert_eq!(sent("1", "y", &labels(1, 256, &text)), refused);
}

#[test]
fn every_limit_of_a_cloud_event_is_reached_and_not_passed() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let binary = |bytes: usize, id: &str| {
        let headers =
            [JSON, ("ce-specversion", "1.0"), ("ce-type", "a"), ("ce-source", "/b"), ("ce-id", id)];
        post(&org, "/api/events", &headers, quoted(bytes)).status
    };
    assert_eq!([binary(PAYLOAD_BYTES, "1"), binary(PAYLOAD_BYTES + 1, "2")], [202, 413]);
    let (taken, refused) = (statuses(202, "duplicate"), statuses(413, "rejected"));
    let data = |bytes: usize| format!("\"data\":{}", quoted(bytes));
    assert_eq!(cloud_event(&org, "1", &data(PAYLOAD_BYTES)), taken);
    assert_eq!(cloud_event(&org, "2", &data(PAYLOAD_BYTES + 1)), refused);
    let encoded = |bytes: usize| {
        use base64::Engine as _;
        let data = base64::engine::general_purpose::STANDARD.encode(vec![0; bytes]);
        let attributes: Vec<_> =
            (0..60).map(|n| format!("\"a{n}\":\"{}\"", escaped(1_024))).collect();
        format!("{},\"data_base64\":\"{data}\"", attributes.join(","))
    };
    assert_eq!(cloud_event(&org, "3", &encoded(PAYLOAD_BYTES)), taken);
    assert_eq!(cloud_event(&org, "4", &encoded(PAYLOAD_BYTES + 1)), refused);

    // The data and every attribute at their limits, with each character escaped.
    let value = escaped_ascii(&"x".repeat(4_096));
    let attributes: Vec<_> =
        (0..62).map(|n| format!("\"{}\":\"{value}\"", escaped_ascii(&format!("a{n}")))).collect();
    let data = escaped_ascii(&"/".repeat(PAYLOAD_BYTES.div_ceil(3) * 4 - 4));
    let members = format!("{},\"data_base64\":\"{data}\"", attributes.join(","));
    assert_eq!(cloud_event(&org, "5", &members), taken);
}

#[test]
fn a_batch_has_limits_for_its_events_and_its_bytes() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let of = |count: usize| json!({"events": vec![json!({"type": "a", "payload": 1}); count]});
    let most = org.post("/api/events/batch", &of(1_000)).json;
    assert_eq!(most["results"].as_array().unwrap().len(), 1_000);
    assert_eq!(org.post("/api/events/batch", &of(1_001)).status, 422);
    let whole = of(1).to_string();
    let padded = |bytes: usize| {
        org.post_text("/api/events/batch", &format!("{}{whole}", " ".repeat(bytes - whole.len())))
            .status
    };
    assert_eq!([padded(8 << 20), padded((8 << 20) + 1)], [200, 413]);
}

fn url(bytes: usize) -> String {
    format!("http://127.0.0.1:1/{}", "x".repeat(bytes - 19))
}

/// A map of `count` members; each name is its number in three digits and `name`.
fn members(count: usize, name: &str, value: &str) -> Value {
    (0..count)
        .map(|n| (format!("{n:03}{name}"), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Headers with names of `name` and values of `value` characters.
fn headers(count: usize, name: usize, value: usize) -> Value {
    members(count, &"x".repeat(name - 3), &"v".repeat(value))
}

/// Metadata with names of `name` and values of `value` characters.
fn metadata(count: usize, name: usize, value: usize) -> Value {
    members(count, &text(name - 3), &text(value))
}

fn patterns(count: usize) -> Value {
    (0..count).map(|n| json!(format!("{n:03}{}.*", "x".repeat(125)))).collect()
}

#[test]
fn an_endpoint_can_have_all_that_its_limits_allow() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let all = json!({"url": url(2_048), "description": text(500),
        "headers": headers(20, 128, 1_024), "metadata": metadata(20, 500, 500),
        "event_types": patterns(100)});
    // The body as serde_json writes it, and with every non-ASCII character escaped.
    let made = org.post("/api/endpoints", &all);
    assert_eq!(made.status, 201, "{made:?}");
    let escaped = all.to_string().replace('\u{1f600}', "\\ud83d\\ude00");
    assert_eq!(org.post_text("/api/endpoints", &escaped).status, 201);
    let path = format!("/api/endpoints/{}", made.id());
    assert_eq!(org.patch(&path, &org.get(&path).json).status, 200);
    for (pointer, member) in [
        ("/url", json!({"url": url(2_049)})),
        ("/description", json!({"description": text(501)})),
        ("/headers", json!({"headers": headers(21, 3, 1)})),
        ("/headers/000", json!({"headers": headers(1, 3, 1_025)})),
        ("/headers/000x", json!({"headers": headers(1, 129, 1)})),
        ("/metadata", json!({"metadata": metadata(21, 3, 1)})),
        ("/metadata/000", json!({"metadata": metadata(1, 3, 501)})),
        ("/metadata/000", json!({"metadata": metadata(1, 501, 1)})),
        ("/event_types", json!({"event_types": patterns(101)})),
    ] {
        let mut settings = json!({"url": "http://127.0.0.1:1/"});
        settings.as_object_mut().unwrap().extend(member.as_object().unwrap().clone());
        let refused = org.post("/api/endpoints", &settings);
        let named = refused.json["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert!(refused.status == 422 && named.starts_with(pointer), "{pointer}: {refused:?}");
    }
}

#[test]
fn replays_names_and_lists_of_ids_have_limits_too() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let replay = |count: usize| {
        org.post("/api/replays", &json!({"only": "missing", "event_types": patterns(count)})).status
    };
    assert_eq!([replay(100), replay(101)], [202, 422]);
    let ids = |count: usize| {
        let ids = json!({"ids": vec!["dlv_01h2xcejqtf2nbrexx3vqjhp41"; count]});
        org.post("/api/dead-letters/replay", &ids).status
    };
    assert_eq!([ids(500), ids(501)], [200, 422]);
    let key = |characters: usize| {
        org.post("/api/keys/generate", &json!({"name": text(characters), "scopes": ["inbox:read"]}))
            .status
    };
    assert_eq!([key(200), key(201)], [201, 422]);
    let organization = |characters: usize| {
        server.admin().post("/api/keys/generate", &json!({"organization": text(characters)})).status
    };
    assert_eq!([organization(200), organization(201)], [201, 422]);
}

#[test]
fn what_else_is_asked_for_has_a_bound_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        "[tiers.pro]\nevents_per_second = 5000\nrequests_per_second = 1\nrequest_burst = 2\n";
    let server = Process::start_with(&dir.path().join("data"), settings);
    let made =
        server.admin().post("/api/keys/generate", &json!({"organization": "Pro", "tier": "pro"}));
    let org = server.admin().with_key(made.json["key"].as_str().unwrap());
    let refused =
        until(|| Some(org.get("/api/events?limit=1")).filter(|answer| answer.status == 429));
    assert!(refused.text.contains("request budget"), "{refused:?}");
    assert!(refused.header("ratelimit").starts_with("\"pro-requests\";r=0"), "{refused:?}");
    assert_eq!(org.send("a", &json!(1)).status, 202, "posting goes on");
}
