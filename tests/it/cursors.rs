//! Cursors with the real binary: each page of each list has a cursor, also the last page, and later
//! items come after it.

use serde_json::{Value, json};

use crate::harness::{Client, Process, server, until};

/// Every list with pages.
const LISTS: [&str; 7] = [
    "/api/inbox",
    "/api/events",
    "/api/endpoints",
    "/api/deliveries",
    "/api/dead-letters",
    "/api/replays",
    "/api/keys",
];

fn page(org: &Client, path: &str) -> Value {
    let page = org.get(path);
    assert_eq!(page.status, 200, "{path}: {page:?}");
    page.json
}

fn ids(page: &Value) -> Vec<String> {
    page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

fn cursor(page: &Value) -> String {
    page["next_cursor"].as_str().unwrap_or_else(|| panic!("no cursor: {page}")).to_owned()
}

/// All ids of a list, read with pages of this size, and the last cursor.
fn all(org: &Client, list: &str, limit: usize) -> (Vec<String>, String) {
    let (mut found, mut path) = (Vec::new(), format!("{list}?limit={limit}"));
    loop {
        let page = page(org, &path);
        found.extend(ids(&page));
        path = format!("{list}?limit={limit}&cursor={}", cursor(&page));
        if page["has_more"] == json!(false) {
            return (found, cursor(&page));
        }
    }
}

/// The cursor of a list that is empty; the list of keys has one key from the beginning.
fn cursor_of_empty(org: &Client, list: &str) -> String {
    let empty = page(org, list);
    assert_eq!(empty["has_more"], json!(false), "{list}: {empty}");
    let begins = cursor(&empty);
    if list != "/api/keys" {
        assert_eq!(empty["data"], json!([]), "{list}");
        let again = page(org, &format!("{list}?cursor={begins}"));
        assert_eq!(cursor(&again), begins, "{list}: an empty page gives the cursor back");
    }
    begins
}

#[test]
fn every_page_of_every_list_has_a_cursor() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let begins = LISTS.map(|list| (list, cursor_of_empty(&org, list)));
    let key = json!({"name": "x", "scopes": ["inbox:read"]});
    for _ in 0..3 {
        org.endpoint(&json!({"url": "http://127.0.0.1:1/", "retry_schedule": []}));
        assert_eq!(org.post("/api/replays", &json!({"only": "missing"})).status, 202);
        assert_eq!(org.post("/api/keys/generate", &key).status, 201);
    }
    for _ in 0..3 {
        assert_eq!(org.send("a.b", &json!(1)).status, 202);
    }
    until(|| (ids(&page(&org, "/api/dead-letters?limit=500")).len() == 9).then_some(()));
    for (list, begins) in begins {
        let (whole, last) = all(&org, list, 500);
        assert!(whole.len() >= 3, "{list}");
        for limit in [1, 2, 3] {
            assert_eq!(all(&org, list, limit), (whole.clone(), last.clone()), "{list} by {limit}");
        }
        let behind = page(&org, &format!("{list}?cursor={last}"));
        assert_eq!((&behind["data"], &behind["has_more"]), (&json!([]), &json!(false)), "{list}");
        assert_eq!(cursor(&behind), last, "{list}");
        // The cursor of an empty list begins before all later items. The list of keys was not
        // empty: it had one.
        let from_it = ids(&page(&org, &format!("{list}?limit=500&cursor={begins}")));
        assert_eq!(from_it, whole[usize::from(list == "/api/keys")..], "{list}");
    }
}

#[test]
fn a_list_refuses_the_cursor_of_another_list_and_names_both() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Acme");
    org.send("a.b", &json!(1));
    org.post("/api/endpoints", &json!({"url": "http://127.0.0.1:1/", "enabled": false}));
    let cursors = LISTS.map(|list| cursor(&page(&org, list)));
    server.kill();
    let server = Process::start(&data);
    let org = Client::new(&server.url, &org.key);
    for (list, own) in LISTS.into_iter().zip(&cursors) {
        for (other, cursor) in LISTS.into_iter().zip(&cursors) {
            let answer = org.get(&format!("{list}?cursor={cursor}"));
            if list == other {
                assert_eq!(answer.status, 200, "{list}, also after a restart: {answer:?}");
                continue;
            }
            assert_eq!((answer.status, answer.code()), (400, "invalid_request"), "{list} {other}");
            let fault = &answer.json["errors"][0];
            let detail = fault["detail"].as_str().unwrap();
            assert_eq!(fault["pointer"], "?cursor", "{answer:?}");
            assert!(
                detail.contains(&format!("is a cursor of GET {other};"))
                    && detail.contains(&format!("of a page of GET {list},")),
                "{detail}"
            );
        }
        // Filters and sizes can change from page to page: the place is one of the whole list.
        assert_eq!(org.get(&format!("{list}?limit=1&cursor={own}")).status, 200, "{list}");
        let none = org.get(&format!("{list}?cursor=x{own}"));
        assert!(none.status == 400 && none.text.contains("is not a cursor"), "{list}: {none:?}");
    }
}

#[test]
fn what_comes_later_is_behind_the_last_cursor_of_lists_that_begin_with_the_oldest() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let endpoint = || {
        org.post("/api/endpoints", &json!({"url": "http://127.0.0.1:1/", "enabled": false})).id()
    };
    let key = || {
        let made = org.post("/api/keys/generate", &json!({"name": "x", "scopes": ["inbox:read"]}));
        made.json["key_id"].as_str().unwrap().to_owned()
    };
    let event = || org.send("a.b", &json!(1)).id();
    let make: [(&str, &dyn Fn() -> String); 3] =
        [("/api/endpoints", &endpoint), ("/api/keys", &key), ("/api/inbox", &event)];
    for (list, make) in make {
        let mut last = cursor(&page(&org, list));
        for count in [1, 2] {
            let made: Vec<String> = (0..count).map(|_| make()).collect();
            let later = page(&org, &format!("{list}?cursor={last}"));
            assert_eq!(ids(&later), made, "{list}");
            last = cursor(&later);
        }
    }
}

#[test]
fn who_waits_behind_the_last_cursor_gets_each_event_once_also_of_one_millisecond() {
    const BATCHES: usize = 20;
    let (server, _dir) = server();
    let org = server.org("Acme");
    let producer = Client::new(&org.url, &org.key);
    let sending = std::thread::spawn(move || {
        let batch = json!({ "events": vec![json!({"type": "a.b", "payload": 1}); 5] });
        let results = (0..BATCHES).map(|_| producer.post("/api/events/batch", &batch).json);
        let sent = results.flat_map(|json| json["results"].as_array().unwrap().clone());
        sent.map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    });
    let (mut got, mut path) = (Vec::new(), "/api/inbox?limit=3&wait=30".to_owned());
    while got.len() < BATCHES * 5 {
        let page = page(&org, &path);
        got.extend(ids(&page));
        path = format!("/api/inbox?limit=3&wait=30&type=a.b,%20c&cursor={}", cursor(&page));
    }
    assert_eq!(got, sending.join().unwrap());
    let later = page(&org, &path.replace("wait=30", "wait=0"));
    assert_eq!(later["data"], json!([]), "nothing is repeated");
}

#[test]
fn spaces_around_the_terms_of_a_list_mean_nothing() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    for event_type in ["a", "b.c", "d"] {
        org.send(event_type, &json!(1));
    }
    for list in ["/api/inbox", "/api/events"] {
        for types in ["a,%20b.*", "%20a%20,%20b.*%20", "*,+!d", "a,b.c"] {
            assert_eq!(
                ids(&page(&org, &format!("{list}?type={types}"))).len(),
                2,
                "{list} {types}"
            );
        }
        assert_eq!(org.get(&format!("{list}?type=a,%20,b")).status, 400, "{list}");
    }
}

/// The optional members of an endpoint's settings.
const OPTIONAL_SETTINGS: [&str; 11] = [
    "description",
    "event_types",
    "enabled",
    "headers",
    "body",
    "ordering",
    "metadata",
    "retry_schedule",
    "timeout_ms",
    "max_in_flight",
    "rate_per_second",
];

/// Requests in which every optional member is null, with the status of their answers.
fn with_nulls() -> Vec<(&'static str, Value, u16)> {
    let (url, delivery) = ("http://127.0.0.1:1/", "dlv_01h2xcejqtf2nbrexx3vqjhp41");
    let mut endpoint = json!({ "url": url });
    for name in OPTIONAL_SETTINGS {
        endpoint[name] = Value::Null;
    }
    let key = json!({"name": "x", "scopes": ["inbox:read"], "organization": null, "tier": null,
        "expires_at": null});
    let event = json!({"type": "a", "event_type": null, "payload": null, "dedup_id": null,
        "labels": null, "occurred_at": null, "deliver_after": null});
    let old_event = json!({"event_type": "a", "type": null, "payload": 1, "labels": null});
    let replay = json!({"only": "missing", "endpoint_id": null, "since": null, "until": null,
        "event_types": null});
    let by_id = json!({"ids": [delivery], "endpoint_id": null, "since": null, "until": null});
    let by_time = json!({"ids": null, "endpoint_id": null, "since": "1h", "until": null});
    vec![
        ("/api/keys/generate", key, 201),
        ("/api/keys/rotate", json!({"grace_seconds": null}), 201),
        ("/api/events", event, 202),
        ("/api/events", old_event, 202),
        ("/api/endpoints", endpoint, 201),
        ("/api/endpoints", json!({"url": url, "headers": null, "metadata": null}), 201),
        ("/api/webhook/config", json!({"url": url, "event_types": null, "enabled": null}), 201),
        ("/api/hooks", json!({"target_url": url, "hookUrl": null, "event": null}), 201),
        ("/api/replays", replay, 202),
        ("/api/dead-letters/replay", by_id, 200),
        ("/api/dead-letters/replay", by_time, 200),
    ]
}

#[test]
fn null_is_the_absence_of_every_optional_member() {
    let (server, _dir) = server();
    let (org, admin) = (server.org("Acme"), server.admin());
    for (path, body, status) in with_nulls() {
        let answer = org.post(path, &body);
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
    }
    let made = json!({"organization": "Other", "tier": null, "name": null, "scopes": null,
        "expires_at": null});
    assert_eq!(admin.post("/api/keys/generate", &made).status, 201);
    let known =
        json!({"name": "x", "scopes": ["inbox:read"], "organization": "Acme", "tier": "free"});
    let refused = org.post("/api/keys/generate", &known);
    let faults = refused.json["errors"].as_array().unwrap().iter();
    let places: Vec<_> = faults.map(|fault| fault["pointer"].clone()).collect();
    assert_eq!((refused.status, places), (422, vec![json!("/organization"), json!("/tier")]));
}
