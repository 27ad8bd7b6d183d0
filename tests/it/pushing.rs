//! Delivery of events to endpoints: with the real binary, and where days must pass, with the same
//! server and a manual clock.

use std::time::Duration;

use serde_json::json;
use triggerd::app::App;
use triggerd::base::clock::Clock;
use triggerd::cli::demo::receiver::{Received, Receiver};
use triggerd::config::Config;

use crate::harness::{Client, PATIENCE, Process, settings, until};

fn now_s() -> u64 {
    Clock::system().now_ms() / 1_000
}

#[test]
fn an_event_is_pushed_signed_and_leaves_the_inbox() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let key = org.push_to(&receiver.url());
    let payload = r#"{ "z":1.10, "a" : 1 }"#;
    let sent =
        org.post_text("/api/events", &format!(r#"{{"type":"order.created","payload":{payload}}}"#));
    let received = receiver.wait_for(1, PATIENCE);
    let request = &received[0];
    assert_eq!(request.verify(&key, now_s()), Ok(()));
    assert!(request.verify(&[0; 32], now_s()).is_err(), "another secret does not verify");
    assert_eq!((&request.id, request.attempt.as_str()), (&sent.id(), "1"));
    let body = String::from_utf8(request.body.clone()).unwrap();
    let received_at = sent.json["received_at"].as_str().unwrap();
    let expected = format!(
        r#"{{"id":"{}","type":"order.created","timestamp":"{received_at}","data":{payload}}}"#,
        sent.id()
    );
    assert_eq!(body, expected);
    org.inbox_until(<[_]>::is_empty);
    until(|| (org.metric("triggerd_deliveries_total{outcome=\"delivered\"}") == 1.0).then_some(()));
    receiver.stop();
}

#[test]
fn only_events_of_the_wanted_types_are_pushed_and_a_change_counts_from_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let set = json!({"url": receiver.url(), "event_types": ["order.*"]});
    let first = org.post("/api/webhook/config", &set);
    assert_eq!(first.json["event_types"], json!(["order.*"]));
    let other = org.send("invoice.paid", &json!(1)).id();
    let wanted = org.send("order.created", &json!(2)).id();
    assert_eq!(receiver.wait_for(1, PATIENCE)[0].id, wanted);
    let set = json!({"url": receiver.url(), "event_types": ["invoice.paid"]});
    let second = org.post("/api/webhook/config", &set);
    assert_eq!(
        (&second.json["id"], second.json.get("secret")),
        (&first.json["id"], None),
        "changed, not made anew"
    );
    let now_wanted = org.send("invoice.paid", &json!(3)).id();
    assert_eq!(receiver.wait_for(2, PATIENCE)[1].id, now_wanted);
    let left = org.inbox_until(|inbox| inbox.len() == 1);
    assert_eq!(left[0]["id"], json!(other), "what matched nothing waits for a pull");
    assert_eq!(org.delete("/api/webhook/config").status, 204);
    assert_eq!(org.get("/api/webhook/config").status, 404);
    let third = org.send("invoice.paid", &json!(4)).id();
    assert_eq!(org.inbox_ids(), [other, third]);
    receiver.stop();
}

#[test]
fn what_was_not_delivered_is_delivered_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    // The first attempt fails with 500, so the next is due after 5 s, and the process is killed
    // before.
    receiver.answer_next([500]);
    org.push_to(&receiver.url());
    let id = org.send("a", &json!(1)).id();
    assert_eq!(receiver.wait_for(1, PATIENCE)[0].id, id);
    server.kill();
    let server = Process::start(&data);
    let second = receiver.wait_for(2, PATIENCE)[1].clone();
    assert_eq!(second.id, id, "the same webhook-id at every attempt");
    let org = Client::new(&server.url, &org.key);
    org.inbox_until(<[_]>::is_empty);
    receiver.stop();
}

/// A server inside the test, with a manual clock.
struct Timed {
    app: App,
    clock: Clock,
    org: Client,
    receiver: Receiver,
    _dir: tempfile::TempDir,
}

const START_MS: u64 = 1_800_000_000_000;

impl Timed {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::from_toml(&settings(
            &dir.path().join("data"),
            "[delivery]\njitter_share = 0.0\n",
        ))
        .unwrap();
        let clock = Clock::manual(START_MS);
        let app = App::start(config, clock.clone()).unwrap();
        let admin = Client::new(&format!("http://{}", app.address()), app.admin_token());
        let org = admin.new_org("Acme");
        Self { app, clock, org, receiver: Receiver::start().unwrap(), _dir: dir }
    }

    fn stop(self) {
        self.receiver.stop();
        assert_eq!(self.app.stop(), triggerd::base::exit_code::ExitCode::Clean);
    }

    /// Waits until the outcome of the last attempt is stored.
    fn settled(&self, attempts: u32) -> Vec<Received> {
        let received = self.receiver.wait_for(attempts as usize, PATIENCE);
        assert_eq!(received.len(), attempts as usize);
        until(|| {
            let outcomes = ["delivered", "retried", "dead"];
            let series = outcomes
                .map(|outcome| format!("triggerd_deliveries_total{{outcome=\"{outcome}\"}}"));
            let settled: f64 = series.iter().map(|series| self.org.metric(series)).sum();
            (settled >= f64::from(attempts)).then_some(())
        });
        received
    }
}

#[test]
fn attempts_follow_the_schedule_to_the_second_and_then_the_delivery_is_dead() {
    let timed = Timed::start();
    timed.org.push_to(&timed.receiver.url());
    timed.receiver.answer_next([500; 10]);
    let id = timed.org.send("a", &json!(1)).id();
    let mut now_ms = START_MS;
    timed.settled(1);
    for (number, wait_s) in
        (2u32..).zip([5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400])
    {
        now_ms += wait_s * 1_000;
        timed.clock.set_ms(now_ms - 1);
        let early = timed.receiver.wait_for(number as usize, Duration::from_millis(50)).len();
        assert_eq!(early, number as usize - 1, "not too early");
        timed.clock.set_ms(now_ms);
        let attempts = timed.settled(number);
        assert_eq!(attempts.last().unwrap().attempt, number.to_string());
        assert_eq!(
            attempts.last().unwrap().timestamp,
            (now_ms / 1_000).to_string(),
            "fresh at every attempt"
        );
    }
    timed.clock.set_ms(now_ms + 10 * 86_400_000);
    let inbox = timed.org.inbox_until(|inbox| inbox[0]["status"] == "dead");
    assert_eq!((inbox.len(), &inbox[0]["id"]), (1, &json!(id)), "dead, and still to be pulled");
    let told = timed.org.get("/api/events?type=triggerd.*").json["data"].clone();
    let told: Vec<_> =
        told.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(told, ["triggerd.delivery.dead", "triggerd.endpoint.failing"], "the newest first");
    assert_eq!(timed.receiver.received().len(), 10, "and no more");
    assert_eq!(timed.org.metric("triggerd_deliveries_total{outcome=\"dead\"}"), 1.0);
    timed.stop();
}

#[test]
fn a_receiver_that_is_gone_gets_nothing_more() {
    let timed = Timed::start();
    timed.org.push_to(&timed.receiver.url());
    timed.receiver.answer_next([410]);
    timed.org.send("a", &json!(1));
    timed.settled(1);
    assert_eq!(timed.org.get("/api/webhook/config").json["enabled"], json!(false));
    let second = timed.org.send("a", &json!(2)).id();
    until(|| timed.org.inbox_ids().contains(&second).then_some(()));
    assert_eq!(timed.receiver.received().len(), 1);
    timed.stop();
}

#[test]
fn an_event_is_not_pushed_before_the_time_it_asks_for() {
    let timed = Timed::start();
    timed.org.push_to(&timed.receiver.url());
    let after = triggerd::model::time::Timestamp(START_MS + 60_000).to_string();
    let sent =
        timed.org.post("/api/events", &json!({"type": "a", "payload": 1, "deliver_after": after}));
    assert_eq!(sent.status, 202, "{sent:?}");
    timed.clock.set_ms(START_MS + 59_999);
    assert_eq!(timed.receiver.wait_for(1, Duration::from_millis(100)).len(), 0);
    timed.clock.set_ms(START_MS + 60_000);
    timed.settled(1);
    timed.stop();
}

#[test]
fn a_clock_that_is_set_back_holds_up_nothing_and_times_are_when_an_event_was_received() {
    const HOUR_MS: u64 = 3_600_000;
    let timed = Timed::start();
    let settings = json!({"url": timed.receiver.url(), "rate_per_second": 1});
    assert_eq!(timed.org.post("/api/endpoints", &settings).status, 201);
    timed.receiver.answer_next([500]);
    let first = timed.org.send("a", &json!(1)).id();
    timed.settled(1);
    timed.clock.set_ms(START_MS - HOUR_MS);
    let text = |ms: u64| triggerd::model::time::Timestamp(ms).to_string();
    let retrying = timed.org.get("/api/deliveries?state=retrying").json["data"][0].clone();
    assert_eq!(
        retrying["next_attempt_at"],
        json!(text(START_MS - HOUR_MS + 5_000)),
        "as the clock has it now"
    );
    timed.clock.advance_ms(5_000);
    timed.settled(2);
    let second = timed.org.send("a", &json!(2)).id();
    timed.clock.advance_ms(1_000);
    timed.settled(3);
    let ids = |path: &str, member: &str| -> Vec<String> {
        let listed = timed.org.get(path).json["data"].clone();
        let listed = listed.as_array().unwrap().iter();
        listed.map(|it| it[member].as_str().unwrap().to_owned()).collect()
    };
    let between = text(START_MS - HOUR_MS / 2);
    for (list, member) in [("events", "id"), ("deliveries", "event_id")] {
        let found = |bound: &str, time: &str| ids(&format!("/api/{list}?{bound}={time}"), member);
        assert_eq!(found("until", &between), [second.as_str()], "{list}");
        assert_eq!(found("since", &between), [first.as_str()], "{list}");
        assert_eq!(found("since", &text(START_MS - HOUR_MS)).len(), 2, "{list}");
    }
    timed.stop();
}
