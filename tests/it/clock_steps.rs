//! Everything given in seconds ends in its time, although the clock is set back.

use serde_json::{Value, json};
use triggerd::app::App;
use triggerd::base::clock::Clock;
use triggerd::base::exit_code::ExitCode;
use triggerd::cli::demo::receiver::Receiver;
use triggerd::config::Config;
use triggerd::model::id::EndpointId;
use triggerd::model::time::Timestamp;

use crate::harness::{Client, PATIENCE, settings, until};

const START_MS: u64 = 1_800_000_000_000;
const HOUR_MS: u64 = 3_600_000;

/// A server with a clock to set, and an endpoint.
struct Stepped {
    app: App,
    clock: Clock,
    org: Client,
    receiver: Receiver,
    endpoint: String,
    dir: tempfile::TempDir,
}

fn start(dir: &tempfile::TempDir, clock: &Clock) -> App {
    let keys = "[delivery]\njitter_share = 0.0\ndisable_after_seconds = 60\n[dedup]\n\
        window_seconds = 60\n";
    let config = Config::from_toml(&settings(&dir.path().join("data"), keys)).unwrap();
    App::start(config, clock.clone()).unwrap()
}

fn client(app: &App, key: &str) -> Client {
    Client::new(&format!("http://{}", app.address()), key)
}

impl Stepped {
    fn start() -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(START_MS));
        let (app, receiver) = (start(&dir, &clock), Receiver::start().unwrap());
        let org = client(&app, app.admin_token()).new_org("Acme");
        let endpoint = org.endpoint(&json!({"url": receiver.url(), "retry_schedule": vec![1; 20]}));
        Self { app, clock, org, receiver, endpoint, dir }
    }

    /// Starts the server again; the clock then stands at this time.
    fn restart(self, now_ms: u64) -> Self {
        assert_eq!(self.app.stop(), ExitCode::Clean);
        let clock = Clock::manual(now_ms);
        let app = start(&self.dir, &clock);
        let org = client(&app, &self.org.key);
        Self { app, clock, org, ..self }
    }

    fn stop(self) {
        self.receiver.stop();
        assert_eq!(self.app.stop(), ExitCode::Clean);
    }

    fn rotate_secret(&self) {
        let path = format!("/api/endpoints/{}/secret/rotate", self.endpoint);
        assert_eq!(self.org.post(&path, &json!({"overlap_seconds": 60})).status, 200);
    }

    /// Sends the event with this number, and returns the number of its signatures.
    fn signatures(&self, number: usize) -> usize {
        self.org.send("a.b", &json!(number));
        let received = self.receiver.wait_for(number, PATIENCE);
        assert_eq!(received.len(), number);
        received[number - 1].header("webhook-signature").unwrap().split(' ').count()
    }

    fn until_failed(&self, attempts: u64) {
        let path = format!("/api/endpoints/{}/stats", self.endpoint);
        until(|| (self.org.get(&path).json["attempts_failed"] == json!(attempts)).then_some(()));
    }

    /// Posts an event, always with the same dedup id. Returns true if it is taken for a duplicate.
    fn is_duplicate(&self) -> bool {
        let event = json!({"type": "a.b", "payload": 1, "dedup_id": "one"});
        let posted = self.org.post("/api/events", &event);
        assert!([200, 202].contains(&posted.status), "{posted:?}");
        posted.status == 200
    }

    fn is_enabled(&self) -> Value {
        self.org.get(&format!("/api/endpoints/{}", self.endpoint)).json["enabled"].clone()
    }
}

#[test]
fn a_rotated_secret_signs_no_longer_than_its_overlap_when_the_clock_is_set_back() {
    let stepped = Stepped::start();
    stepped.rotate_secret();
    assert_eq!(stepped.signatures(1), 2);
    stepped.clock.set_ms(START_MS - HOUR_MS);
    assert_eq!(stepped.signatures(2), 2, "its time has not come");
    stepped.clock.advance_ms(60_000);
    assert_eq!(stepped.signatures(3), 1);
    stepped.stop();
}

#[test]
fn a_rotated_secret_whose_overlap_is_over_signs_no_more_after_a_restart_in_the_past() {
    let stepped = Stepped::start();
    stepped.rotate_secret();
    assert_eq!(stepped.signatures(1), 2);
    stepped.clock.advance_ms(60_000);
    let id: EndpointId = stepped.endpoint.parse().unwrap();
    // The sweeper removes the secret within about a second, without any request.
    until(|| {
        let endpoint = stepped.app.store().destination(id).unwrap().unwrap().endpoint;
        endpoint.retiring.is_empty().then_some(())
    });
    let stepped = stepped.restart(START_MS - HOUR_MS);
    assert_eq!(stepped.signatures(2), 1);
    stepped.stop();
}

#[test]
fn an_endpoint_that_only_fails_is_disabled_in_time_when_the_clock_is_set_back() {
    let stepped = Stepped::start();
    stepped.receiver.answer_next([500; 10]);
    stepped.org.send("a.b", &json!(1));
    stepped.until_failed(1);
    stepped.clock.set_ms(START_MS - HOUR_MS);
    stepped.clock.advance_ms(59_999);
    stepped.until_failed(2);
    assert_eq!(stepped.is_enabled(), json!(true), "its time has not come");
    stepped.clock.advance_ms(1_000);
    stepped.until_failed(3);
    until(|| (stepped.is_enabled() == json!(false)).then_some(()));
    stepped.stop();
}

#[test]
fn a_grace_period_ends_in_time_when_the_clock_is_set_back() {
    let stepped = Stepped::start();
    let org = &stepped.org;
    let made = org.post("/api/keys/rotate", &json!({"grace_seconds": 60}));
    assert_eq!(made.status, 201, "{made:?}");
    let new = org.with_key(made.json["key"].as_str().unwrap());
    stepped.clock.set_ms(START_MS - 24 * HOUR_MS);
    let request = json!({"name": "child", "scopes": ["keys:read"]});
    let child = org.post("/api/keys/generate", &request);
    assert_eq!(child.status, 201, "{child:?}");
    let end = Timestamp(START_MS - 24 * HOUR_MS + 60_000).to_string();
    assert_eq!(child.json["expires_at"], json!(end), "as the clock has it now");
    let child = org.with_key(child.json["key"].as_str().unwrap());
    let statuses = |keys: [&Client; 3]| keys.map(|key| key.get("/api/keys").status);
    stepped.clock.advance_ms(59_999);
    assert_eq!(statuses([org, &child, &new]), [200; 3]);
    stepped.clock.advance_ms(1);
    assert_eq!(statuses([org, &child, &new]), [401, 401, 200]);
    let keys = [org, &child, &new].map(|client| client.key.clone());
    let stepped = stepped.restart(START_MS - 48 * HOUR_MS);
    let [old, child, new] = keys.map(|key| stepped.org.with_key(&key));
    assert_eq!(statuses([&old, &child, &new]), [401, 401, 200]);
    stepped.stop();
}

#[test]
fn a_dedup_id_whose_window_is_over_is_not_known_again_when_the_clock_is_set_back() {
    let stepped = Stepped::start();
    assert!(!stepped.is_duplicate());
    stepped.clock.advance_ms(60_001);
    stepped.clock.set_ms(START_MS - HOUR_MS);
    assert!(!stepped.is_duplicate(), "its window is over");
    stepped.clock.advance_ms(60_000);
    assert!(stepped.is_duplicate());
    stepped.clock.advance_ms(1);
    assert!(!stepped.is_duplicate(), "its window is no longer");
    let stepped = stepped.restart(START_MS - 2 * HOUR_MS);
    assert!(stepped.is_duplicate());
    stepped.clock.advance_ms(60_001);
    assert!(!stepped.is_duplicate());
    stepped.stop();
}

#[test]
fn a_restart_in_the_past_prolongs_nothing_that_had_begun_before() {
    let stepped = Stepped::start();
    stepped.rotate_secret();
    let made = stepped.org.post("/api/keys/rotate", &json!({"grace_seconds": 60}));
    assert_eq!(made.status, 201, "{made:?}");
    let new = made.json["key"].as_str().unwrap().to_owned();
    stepped.clock.advance_ms(59_999);
    let old_key = |stepped: &Stepped| stepped.org.get("/api/keys").status;
    assert_eq!(old_key(&stepped), 200);
    let mut stepped = stepped.restart(START_MS - HOUR_MS);
    assert_eq!((old_key(&stepped), stepped.signatures(1)), (200, 2), "their time has not come");
    stepped.clock.advance_ms(1);
    assert_eq!(old_key(&stepped), 401);
    stepped.org = stepped.org.with_key(&new);
    assert_eq!(stepped.signatures(2), 1);
    stepped.stop();
}
