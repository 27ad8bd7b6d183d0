//! Compares the ledger with the server and the receiver. Each fault has a message of its own, by
//! which the negative controls recognize it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::{PULLS, PUSHES};
use crate::harness::{Client, until};
use crate::ledger::{History, Sent};
use crate::receiver::Receiver;

#[derive(Deserialize)]
struct Page {
    data: Vec<Item>,
    has_more: bool,
    next_cursor: String,
}

/// An event as the inbox shows it.
#[derive(Deserialize)]
pub(crate) struct Item {
    pub(crate) id: String,
    dedup_id: Option<String>,
    payload: Box<RawValue>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    tag: &'a str,
}

/// Returns the whole inbox, with payloads byte for byte.
pub(crate) fn inbox(org: &Client) -> Vec<Item> {
    let (mut items, mut path) = (Vec::new(), "/api/inbox?limit=500".to_owned());
    loop {
        let answer = org.get(&path);
        assert_eq!(answer.status, 200, "the inbox cannot be read: {answer:?}");
        let page: Page = serde_json::from_str(&answer.text).unwrap();
        items.extend(page.data);
        if !page.has_more {
            return items;
        }
        path = format!("/api/inbox?limit=500&cursor={}", page.next_cursor);
    }
}

/// Checks an inbox against the ledger. Returns the event id of each tag.
fn check_inbox(items: &[Item], history: &History) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut last = "";
    for item in items {
        assert!(last < item.id.as_str(), "the inbox is not in acceptance order at {}", item.id);
        last = &item.id;
        let tag = serde_json::from_str::<Payload<'_>>(item.payload.get())
            .map(|payload| payload.tag.to_owned());
        let tag = tag.unwrap_or_else(|error| {
            panic!("unexpected event {}: {error}: {}", item.id, item.payload)
        });
        let Some(bytes) = history.sent.get(&tag) else {
            panic!("unexpected event {}: {tag} was never sent", item.id)
        };
        let sent = Sent { tag: tag.clone(), bytes: *bytes };
        assert_eq!(item.payload.get(), sent.payload(), "the payload bytes of {tag} differ");
        assert_eq!(item.dedup_id.as_deref(), sent.dedup_id(), "the dedup id of {tag} differs");
        let earlier = found.insert(tag, item.id.clone());
        assert_eq!(earlier, None, "{} is stored twice", sent.tag);
    }
    found
}

/// Checks the organization of pulled events. Each acknowledged event is in the inbox once, with its
/// own bytes, unless it was confirmed; confirmed events stay away. Returns the number of events.
pub(crate) fn check_pulls(org: &Client, history: &History) -> usize {
    let found = check_inbox(&inbox(org), history);
    for (tag, id) in history.stored.iter().filter(|(tag, _)| tag.starts_with(PULLS)) {
        match found.get(tag) {
            Some(found) => assert_eq!(found, id, "acknowledged {tag} is another event"),
            None => {
                assert!(history.confirming.contains(id), "acknowledged event {tag} ({id}) is lost");
            }
        }
    }
    let ids: BTreeSet<_> = found.values().collect();
    for id in &history.confirmed {
        assert!(!ids.contains(id), "the acknowledged confirmation of {id} is lost");
    }
    found.len()
}

/// Checks the organization of pushed events. Each acknowledged event was delivered or is still in
/// the inbox.
pub(crate) fn check_pushes(org: &Client, history: &History, receiver: &Receiver) {
    // The inbox is read first: events leave the inbox only after their delivery.
    let found = check_inbox(&inbox(org), history);
    let log = receiver.log();
    for (tag, id) in history.stored.iter().filter(|(tag, _)| tag.starts_with(PUSHES)) {
        let is_known = log.contains_key(id) || found.get(tag) == Some(id);
        assert!(is_known, "acknowledged event {tag} ({id}) is lost: neither delivered nor due");
    }
}

/// Checks that each delivered event was sent and has its own bytes. The ledger must not grow
/// meanwhile.
pub(crate) fn check_received(history: &History, receiver: &Receiver) {
    for (id, got) in &receiver.log() {
        assert!(!got.changed, "the payload bytes of {id} differ between attempts");
        let tag = serde_json::from_str::<Payload<'_>>(&got.payload).unwrap().tag;
        let Some(bytes) = history.sent.get(tag) else {
            panic!("unexpected event {id}: {tag} was never sent")
        };
        let sent = Sent { tag: tag.to_owned(), bytes: *bytes };
        assert_eq!(got.payload, sent.payload(), "the payload bytes of {tag} differ");
        if let Some(acknowledged) = history.stored.get(tag).filter(|_| !got.in_the_dark) {
            assert_eq!(
                id, acknowledged,
                "{tag} was delivered as another event: it is stored twice"
            );
        }
    }
}

/// Waits until each acknowledged event was delivered. Returns the number of events and of repeated
/// requests. No more repeats are allowed than attempts were in flight at the crashes.
pub(crate) fn check_delivered(
    org: &Client,
    history: &History,
    receiver: &Receiver,
    duplicates_max: u64,
) -> (usize, u64) {
    until(|| {
        let wanted =
            history.stored.iter().filter(|(tag, _)| tag.starts_with(PUSHES)).map(|(_, id)| id);
        (receiver.missing(wanted) == 0 && org.inbox_ids().is_empty()).then_some(())
    });
    check_pushes(org, history, receiver);
    check_received(history, receiver);
    let log = receiver.log();
    let duplicates = log.values().map(|got| got.requests - 1).sum();
    assert!(
        duplicates <= duplicates_max,
        "{duplicates} deliveries came twice, and only {duplicates_max} attempts can have been \
         under way at the crashes"
    );
    (log.len(), duplicates)
}

/// Checks that all keys handed out still work, and that the endpoint has its last URL.
pub(crate) fn check_accounts(url: &str, pushes_key: &str, history: &History) {
    for key in &history.keys {
        let answer = Client::new(url, key).get("/api/inbox?limit=1");
        assert_eq!(answer.status, 200, "an acknowledged key is lost: {answer:?}");
    }
    if let Some(endpoint) = &history.endpoint {
        let answer = Client::new(url, pushes_key).get("/api/webhook/config");
        assert_eq!(
            answer.json["url"].as_str(),
            Some(endpoint.as_str()),
            "an acknowledged endpoint is lost: {answer:?}"
        );
    }
}
