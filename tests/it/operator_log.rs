//! The log lines about deliveries, and the silence of the libraries.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use super::*;

/// Times are short, so that each outcome comes soon.
const DELIVERY: &str = "[delivery]\nretry_schedule_seconds = [1]\njitter_share = 0.0\n\
    breaker_failures_in_a_row = 1\nbreaker_pause_seconds = 1\n[log]\nlevel = \"debug\"\n";

/// Reads a request to its end.
fn read_request(reader: &mut BufReader<TcpStream>) {
    let mut length = 0;
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the sender closed the connection");
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
}

/// A receiver that accepts a request, and closes the kept connection when the next one arrives.
/// Then it accepts that request over a new connection.
fn closing_receiver() -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let thread = std::thread::Builder::new();
    let thread = thread.spawn(move || {
        for (requests, ends) in [(1, true), (1, false)] {
            let mut reader = BufReader::new(listener.accept().unwrap().0);
            for _ in 0..requests {
                read_request(&mut reader);
                reader
                    .get_mut()
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .unwrap();
            }
            if ends {
                read_request(&mut reader);
            }
        }
    });
    (url, thread.unwrap())
}

struct Scene {
    server: Served,
    org: Client,
    organization: String,
}

impl Scene {
    fn start(dir: &Path) -> Self {
        let server = Start::on(&dir.join("data")).config(DELIVERY).ready();
        let made = server.admin().post("/api/keys/generate", &json!({"organization": "Acme"}));
        let organization = made.json["organization_id"].as_str().unwrap().to_owned();
        assert!(organization.starts_with("org_"), "{organization}");
        let org = server.client(made.json["key"].as_str().unwrap());
        Self { server, org, organization }
    }

    fn endpoint(&self, url: &str, event_type: &str, more: &Value) -> String {
        let mut settings = json!({"url": url, "event_types": [event_type]});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.org.post("/api/endpoints", &settings);
        assert_eq!(made.status, 201, "{}", made.json);
        made.id()
    }

    /// Waits for a line with this message about the event, and checks that the line names the
    /// delivery.
    fn line(&mut self, message: &str, endpoint: &str, event: &str) -> Value {
        let organization = self.organization.clone();
        let line = self.line_of(message, endpoint, |line| line["event"] == event);
        let list = self.org.get(&format!("/api/deliveries?event_id={event}"));
        let delivery = list.json["data"][0]["id"].as_str().unwrap();
        assert_eq!(line["organization"], organization, "{line}");
        assert_eq!(line["delivery"], delivery, "{line}");
        assert!(line["attempt"].is_u64(), "{line}");
        line
    }

    fn line_of(&self, message: &str, endpoint: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        until(|| {
            let text = self.server.text();
            // The last line may be half-written.
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut lines = lines.filter(|line| line["message"].as_str() == Some(message));
            lines.find(|line| line["endpoint"] == endpoint && is_wanted(line))
        })
    }
}

#[test]
fn each_line_about_a_retry_or_a_breaker_names_it_as_users_know_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::start(dir.path());
    let retried = Receiver::start().unwrap();
    retried.answer_next([500]);
    let endpoint = scene.endpoint(&retried.url(), "a.retried", &json!({}));
    let event = scene.org.send("a.retried", &json!(1)).id();
    let line = scene.line("the attempt failed; the delivery is retried", &endpoint, &event);
    assert_eq!((&line["state"], &line["status"]), (&json!("retrying"), &json!(500)), "{line}");
    for (status, message) in [
        ("open", "the circuit breaker of the endpoint is open"),
        ("closed", "the circuit breaker of the endpoint is closed"),
    ] {
        let line = scene.line_of(message, &endpoint, |_| true);
        assert_eq!(line["organization"], scene.organization, "{line}");
        assert_eq!(line["status"], status, "{line}");
    }
    let line = scene.line("delivered", &endpoint, &event);
    assert_eq!((&line["state"], &line["status"]), (&json!("delivered"), &json!(200)), "{line}");
    retried.stop();
}

#[test]
fn each_line_about_a_dead_letter_names_it_as_users_know_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::start(dir.path());
    let dead = Receiver::start().unwrap();
    dead.answer_next([410]);
    let endpoint = scene.endpoint(&dead.url(), "a.dead", &json!({"retry_schedule": []}));
    let event = scene.org.send("a.dead", &json!(1)).id();
    for message in [
        "the attempt failed; the delivery is a dead letter",
        "the endpoint is disabled",
        "an operational event was stored",
    ] {
        let line = scene.line(message, &endpoint, &event);
        assert_eq!(line["state"], "dead", "{line}");
    }
    let line = scene.line("the endpoint is disabled", &endpoint, &event);
    assert_eq!((&line["status"], &line["reason"]), (&json!(410), &json!("gone")), "{line}");
    dead.stop();
}

#[test]
fn the_line_about_a_closed_connection_names_the_delivery_as_users_know_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut scene = Scene::start(dir.path());
    let (url, thread) = closing_receiver();
    let endpoint = scene.endpoint(&url, "a.closed", &json!({}));
    let first = scene.org.send("a.closed", &json!(1)).id();
    scene.line("delivered", &endpoint, &first);
    let event = scene.org.send("a.closed", &json!(2)).id();
    let message = "an idle connection had been closed; the request is sent again";
    let line = scene.line(message, &endpoint, &event);
    assert_eq!(line["state"], "pending", "{line}");
    scene.line("delivered", &endpoint, &event);
    thread.join().unwrap();
}

/// Lines of libraries below `warn`, as target and level.
fn noise(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let noise = lines.filter_map(|line| {
        let of = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let (target, level) = (of("target"), of("level"));
        let is_noise = !target.starts_with("triggerd") && level != "WARN" && level != "ERROR";
        is_noise.then_some((target, level))
    });
    noise.collect()
}

#[test]
fn libraries_are_quiet_at_every_level_unless_they_are_asked_for_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (at, level, asked_for) in
        [(0, "debug", None), (1, "trace", None), (2, "debug,sled=debug", Some("sled"))]
    {
        let data = dir.path().join(format!("data{at}"));
        let config = format!("[log]\nlevel = \"{level}\"\n");
        let mut server = Start::on(&data).config(&config).ready();
        let (org, receiver) = (server.admin().new_org("Acme"), Receiver::start().unwrap());
        org.push_to(&receiver.url());
        org.send("a.b", &json!(1));
        server.wait_for("\"message\":\"delivered\"");
        let (code, text) = server.stop();
        assert_eq!(code, Some(0), "{text}");
        let mut noise = noise(&text);
        match asked_for {
            None => assert!(noise.is_empty(), "{level}: {} lines: {noise:?}", noise.len()),
            Some(name) => {
                assert!(noise.iter().any(|(target, _)| target.starts_with(name)), "{noise:?}");
                noise.retain(|(target, _)| !target.starts_with(name));
                assert!(noise.is_empty(), "{level}: {noise:?}");
            }
        }
        receiver.stop();
    }
}
