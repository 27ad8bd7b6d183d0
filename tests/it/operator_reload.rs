//! A reload of the configuration.

use serde_json::json;
use triggerd::cli::demo::receiver::Receiver;

use super::Start;
use crate::harness::{Client, PATIENCE, settings, until};

fn limit(org: &Client) -> String {
    org.get("/api/endpoints").header("x-ratelimit-limit").to_owned()
}

#[test]
fn a_reload_takes_over_what_it_can_and_names_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Start::on(&data).ready();
    let org = server.admin().new_org("Acme");
    let endpoint = json!({"url": "http://10.1.2.3/hook"});
    assert_eq!(org.post("/api/endpoints", &endpoint).code(), "egress_blocked");
    let wider =
        settings(&data, "[workers]\nthreads = 3\n[delivery]\nretry_schedule_seconds = [1]\n")
            .replace("127.0.0.0/8", "127.0.0.0/8\", \"10.0.0.0/8")
            .replace("burst = 1000000", "burst = 7");
    let text = server.reload(&wider, "these changes need a restart");
    let changed = server.lines("the configuration has changed").pop().unwrap();
    for key in [
        "egress.allow_networks",
        "tiers.free.burst (1000000 → 7)",
        "delivery.retry_schedule_seconds",
    ] {
        assert!(changed["changed"].as_str().unwrap().contains(key), "{key}: {changed}");
    }
    let rest = server.lines("these changes need a restart").pop().unwrap();
    assert_eq!(rest["changed"], "workers.threads (2 → 3)", "{text}");
    let entry = until(|| {
        let page = server.admin().get("/api/audit?action=configuration.reloaded").json;
        page["data"].get(0).cloned()
    });
    assert_eq!(entry["actor"]["type"], "admin");
    let burst = json!({"field": "tiers.free.burst", "before": "1000000", "after": "7"});
    let changes = entry["changes"].as_array().unwrap();
    assert!(changes.contains(&burst), "{entry}");
    assert!(changes.iter().all(|change| change["field"] != "workers.threads"), "{entry}");
    assert_eq!(org.post("/api/endpoints", &endpoint).status, 201, "the network is allowed now");
    assert_eq!(limit(&org), "70", "ten times as many requests as events");
    // A new log level takes effect at once.
    let narrow = format!("{wider}[log]\nlevel = \"debug\"\n");
    server.reload(&narrow, "log.level");
    org.get("/api/endpoints");
    server.wait_for("\"level\":\"DEBUG\"");
    let narrower = wider.replace(", \\\"10.0.0.0/8\\\"", "").replace(", \"10.0.0.0/8\"", "");
    server.reload(&narrower, "egress.allow_networks");
    assert_eq!(
        org.post("/api/endpoints", &endpoint).code(),
        "egress_blocked",
        "and is forbidden again"
    );
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_reload_of_a_broken_configuration_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = settings(&data, "").replace("burst = 1000000", "burst = 7");
    let mut server = Start { config: config.clone(), ..Start::on(&data) }.ready();
    let org = server.admin().new_org("Acme");
    assert_eq!(limit(&org), "70", "ten times as many requests as events");
    let broken = config.replace("burst = 7", "burst = 0");
    let text = server.reload(&broken, "reload refused");
    assert!(text.contains("tiers.free.burst"), "{text}");
    assert_eq!(limit(&org), "70", "as it was");
    server.reload("no = toml = at all", "reload refused");
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_reload_gives_nobody_back_what_they_have_used_of_their_rate() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = settings(&data, "").replace("= 1000000\nburst = 1000000", "= 1\nburst = 10000");
    let mut server = Start { config: config.clone(), ..Start::on(&data) }.ready();
    let org = server.admin().new_org("Acme");
    let events: Vec<_> = (0..1_000).map(|n| json!({"type": "a.b", "payload": n})).collect();
    assert_eq!(org.post("/api/events/batch", &json!({ "events": events })).status, 200);
    server.reload(&format!("{config}[tiers.pro]\nburst = 9\n"), "the configuration has changed");
    let left: u64 = org.send("a.b", &json!(1)).header("x-ratelimit-remaining").parse().unwrap();
    assert!(
        (8_999..9_500).contains(&left),
        "{left} of 10,000 are left after 1,001, one comes back each second"
    );
}

#[test]
fn attempts_that_begin_after_a_reload_keep_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server =
        Start::on(&data).config("[delivery]\nretry_schedule_seconds = [3600]\n").ready();
    let org = server.admin().new_org("Acme");
    let receiver = Receiver::start().unwrap();
    receiver.answer_next([500, 500, 200]);
    org.push_to(&receiver.url());
    org.send("a.b", &json!(1));
    receiver.wait_for(1, PATIENCE);
    let quick = settings(&data, "[delivery]\nretry_schedule_seconds = [1]\njitter_share = 0\n");
    server.reload(&quick, "the configuration has changed");
    org.send("a.b", &json!(2));
    receiver.wait_for(3, PATIENCE);
    // Networks that are no longer allowed are not reached by existing endpoints either.
    server.reload(&quick.replace("127.0.0.0/8", "192.168.0.0/16"), "the configuration has changed");
    org.send("a.b", &json!(3));
    until(|| {
        let list = org.get("/api/deliveries?state=dead").json["data"].as_array().unwrap().len();
        let retrying = org.get("/api/deliveries?state=retrying").json["data"].to_string();
        (list > 0 || retrying.contains("allow_networks") || retrying.contains("egress"))
            .then_some(())
    });
    receiver.stop();
}
