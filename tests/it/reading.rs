//! What requests may look like: what is read, what is refused, and what a rate is charged for.

use serde_json::json;

use crate::harness::{Process, until};

fn server() -> (Process, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Process::start(&dir.path().join("data")), dir)
}

#[test]
fn types_of_every_list_are_lists_and_patterns() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    for event_type in ["order.created", "order.paid", "user.created", "order.test"] {
        org.send(event_type, &json!(1));
    }
    let types = |path: &str, filter: &str| -> Vec<String> {
        let page = org.get(&format!("{path}?type={filter}"));
        assert_eq!(page.status, 200, "{page:?}");
        let found = page.json["data"].as_array().unwrap().iter();
        let mut found: Vec<_> = found.map(|event| event["type"].as_str().unwrap().to_owned()).collect();
        found.sort();
        found
    };
    for path in ["/api/inbox", "/api/events"] {
        assert_eq!(types(path, "order.created,user.created"), ["order.created", "user.created"], "{path}");
        assert_eq!(types(path, "order.*,!order.test"), ["order.created", "order.paid"], "{path}");
        assert_eq!(types(path, "*.created"), ["order.created", "user.created"], "{path}");
        assert_eq!(types(path, "!*.created"), ["order.paid", "order.test"], "{path}");
        assert_eq!(types(path, "*").len(), 4, "{path}");
        let wrong = org.get(&format!("{path}?type=order.*,%20x"));
        assert_eq!((wrong.status, wrong.code()), (400, "invalid_request"), "{path}");
        assert!(wrong.text.contains("?type"), "{wrong:?}");
    }
    // Whoever waits for a type is not woken to an answer by another one.
    let waiting = org.get("/api/inbox?type=never.*,nor.this&wait=1");
    assert_eq!((waiting.status, &waiting.json["data"]), (200, &json!([])));
}

#[test]
fn what_else_is_asked_for_has_a_bound_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let settings = "[tiers.pro]\nevents_per_second = 5000\nrequests_per_second = 1\nrequest_burst = 2\n";
    let server = Process::start_with(&dir.path().join("data"), settings);
    let made = server.admin().post("/api/keys/generate", &json!({"organization": "Pro", "tier": "pro"}));
    let org = server.admin().with_key(made.json["key"].as_str().unwrap());
    let refused = until(|| Some(org.get("/api/events?limit=1")).filter(|answer| answer.status == 429));
    assert!(refused.text.contains("no more requests"), "{refused:?}");
    assert!(refused.header("ratelimit").starts_with("\"pro-requests\";r=0"), "{refused:?}");
    assert_eq!(org.send("a", &json!(1)).status, 202, "posting goes on");
}
