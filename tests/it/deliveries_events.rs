//! `/api/events` with the real binary: which endpoints an event went to, and why; and its list.

use serde_json::{Value, json};
use triggerd::cli::demo::receiver::Receiver;

use super::{data, delivery, text};
use crate::harness::{Client, Process, command, server, until};

/// An event, the endpoint that wanted it, and three endpoints that did not get it.
struct Matched {
    event: String,
    good: String,
    unwanted: String,
    off: String,
    late: String,
}

/// The payload of the event in [`Matched`].
const PAYLOAD: &str = r#"{ "n": 1.50 }"#;

impl Matched {
    fn of(org: &Client, url: &str) -> Self {
        let good = org.endpoint(&json!({"url": url, "event_types": ["order.*"]}));
        let unwanted = org.endpoint(&json!({"url": url, "event_types": ["invoice.*"]}));
        let off = org.endpoint(&json!({"url": url, "enabled": false}));
        let body = format!(
            r#"{{"type":"order.paid","payload":{PAYLOAD},"dedup_id":"d-1","labels":{{"k":"v"}}}}"#
        );
        let event = org.post_text("/api/events", &body).id();
        delivery(org, &event, &good, "delivered");
        // The endpoint must be created in a later millisecond than the event was accepted.
        let began = std::time::Instant::now();
        until(|| (began.elapsed().as_millis() >= 2).then_some(()));
        let late = org.endpoint(&json!({ "url": url }));
        Self { event, good, unwanted, off, late }
    }

    /// The reasons why each endpoint got the event or did not.
    fn reasons(&self, org: &Client) -> Vec<Value> {
        let shown = org.get(&format!("/api/events/{}", self.event)).json;
        let endpoints = shown["endpoints"].as_array().unwrap().iter();
        endpoints.map(|found| found["reason"].clone()).collect()
    }
}

#[test]
fn an_event_says_why_each_endpoint_matched_or_did_not() {
    let (server, _dir) = server();
    let (org, other, receiver) =
        (server.org("Acme"), server.org("Other"), Receiver::start().unwrap());
    let matched = Matched::of(&org, &receiver.url());
    let path = format!("/api/events/{}", matched.event);
    let answer = org.get(&path);
    assert!(answer.text.contains(&format!("\"payload\":{PAYLOAD},")), "as it came: {answer:?}");
    let shown = answer.json;
    assert_eq!(
        (&shown["status"], &shown["dedup_id"], &shown["labels"]["k"]),
        (&json!("delivered"), &json!("d-1"), &json!("v"))
    );
    assert_eq!(shown["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(shown["deliveries"][0]["state"], json!("delivered"));
    let endpoints = shown["endpoints"].as_array().unwrap().iter().map(|found| {
        (text(found, "endpoint_id"), found["matched"] == json!(true), text(found, "reason"))
    });
    let expected = [
        (matched.good.as_str(), true, "type_wanted"),
        (&matched.unwanted, false, "type_not_wanted"),
        (&matched.off, false, "disabled"),
        (&matched.late, false, "made_later"),
    ];
    assert_eq!(endpoints.collect::<Vec<_>>(), expected);
    assert_eq!(shown["endpoints"][0]["delivery"]["state"], json!("delivered"), "{shown}");
    for answer in [other.get(&path), org.get("/api/events/evt_x")] {
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{answer:?}");
    }
    receiver.stop();
}

#[test]
fn the_reasons_of_an_event_stay_whatever_becomes_of_the_endpoints() {
    let (server, _dir) = server();
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let matched = Matched::of(&org, &receiver.url());
    org.patch(&format!("/api/endpoints/{}", matched.off), &json!({"enabled": true}));
    org.patch(&format!("/api/endpoints/{}", matched.unwanted), &json!({"event_types": []}));
    org.patch(&format!("/api/endpoints/{}", matched.good), &json!({"enabled": false}));
    let recorded = ["type_wanted", "type_not_wanted", "disabled", "made_later"];
    assert_eq!(matched.reasons(&org), recorded);
    let replay = json!({"endpoint_id": matched.late, "only": "missing"});
    assert_eq!(org.post("/api/replays", &replay).status, 202);
    let delivered = delivery(&org, &matched.event, &matched.late, "delivered");
    assert_eq!(delivered["attempt_count"], json!(1));
    let replayed = ["type_wanted", "type_not_wanted", "disabled", "replayed"];
    assert_eq!(matched.reasons(&org), replayed);
    receiver.stop();
}

#[test]
fn explain_says_what_became_of_an_event_at_each_endpoint() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let url = receiver.url();
    let Matched { event, good, late, .. } = Matched::of(&org, &url);
    let words = ["explain", &event, "--url", &server.url, "--key", &org.key];
    let (code, said) = command(&dir.path().join("data"), &words);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{good} ({url}): accepted after 1 attempt.")), "{said}");
    let why = "did not get the event, because the endpoint was created after";
    assert!(said.contains(&format!("{late} ({url}): {why}")), "{said}");
    receiver.stop();
}

#[test]
fn events_are_listed_by_status_and_type_and_page_by_page() {
    let (server, _dir) = server();
    let (org, other, receiver) =
        (server.org("Acme"), server.org("Other"), Receiver::start().unwrap());
    let good = org.endpoint(&json!({"url": receiver.url(), "event_types": ["order.*"]}));
    let event = org.send("order.paid", &json!(1)).id();
    delivery(&org, &event, &good, "delivered");
    let second = org.send("user", &json!(2)).id();
    let ids = |path: &str| {
        data(&org, path).iter().map(|item| text(item, "id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("/api/events"), [second.clone(), event.clone()], "newest first");
    assert_eq!(ids("/api/events?status=delivered"), std::slice::from_ref(&event));
    assert_eq!(ids("/api/events?type=user"), std::slice::from_ref(&second));
    let page = org.get("/api/events?limit=1").json;
    let rest = ids(&format!("/api/events?limit=1&cursor={}", text(&page, "next_cursor")));
    assert_eq!((text(&page["data"][0], "id"), rest), (second.as_str(), vec![event]));
    assert_eq!(data(&other, "/api/events"), Vec::<Value>::new());
    let wrong =
        org.get("/api/events?type=a+b&status=lost&since=x&until=y&limit=0&cursor=c&colour=red");
    let faults = wrong.json["errors"].as_array().unwrap().len();
    assert_eq!((wrong.status, faults), (400, 7), "{wrong:?}");
    receiver.stop();
}
