//! Erasing an event's payload with the real binary: after the answer, nothing shows or sends the
//! payload.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc;

use serde_json::{Value, json};
use triggerd::cli::demo::receiver::Receiver;
use triggerd::model::time::Timestamp;

use crate::harness::{Client, PATIENCE, Process, command, server, until};

const ABSENT: &str = "/api/events/evt_01h2xcejqtf2nbrexx3vqjhp41";

fn status(org: &Client, id: &str) -> u16 {
    org.get(&path(id)).status
}

fn path(id: &str) -> String {
    format!("/api/events/{id}")
}

/// Every answer that shows the event.
fn shown(org: &Client, id: &str) -> Vec<String> {
    let pages = [
        "/api/events?limit=500",
        "/api/inbox?limit=500",
        "/api/hooks/samples?limit=100",
        &path(id),
    ];
    pages
        .map(|page| {
            let answer = org.get(page);
            assert_eq!(answer.status, 200, "{page}: {answer:?}");
            answer.text
        })
        .into()
}

fn state_of(org: &Client, delivery: &Value) -> String {
    let found = org.get(&format!("/api/deliveries/{}", delivery["id"].as_str().unwrap())).json;
    found["state"].as_str().unwrap().to_owned()
}

fn assert_is_not_tried_again(org: &Client, delivery: &Value) {
    let id = delivery["id"].as_str().unwrap();
    let retried = org.post(&format!("/api/deliveries/{id}/retry"), &json!({}));
    assert_eq!((retried.status, retried.code()), (409, "event_erased"), "{retried:?}");
    let replayed = org.post("/api/dead-letters/replay", &json!({ "ids": [id] }));
    assert_eq!(replayed.json["replayed"], json!(0), "{replayed:?}");
}

fn listed(org: &Client, list: &str) -> Vec<Value> {
    org.get(list).json["data"].as_array().unwrap().clone()
}

/// Two events that two receivers refused: the first of them is erased.
struct Refused {
    receivers: [Receiver; 2],
    /// The request that posted the first event.
    body: Value,
    erased: String,
    kept: String,
    /// The deliveries of the first event: a dead letter, and one that is tried again later.
    deliveries: [Value; 2],
}

impl Refused {
    fn of(org: &Client) -> Self {
        let receivers = [(); 2].map(|()| Receiver::start().unwrap());
        for receiver in &receivers {
            receiver.answer_next([500; 2]);
        }
        let urls = receivers.each_ref().map(Receiver::url);
        org.endpoint(&json!({"url": urls[0], "retry_schedule": [3_600]}));
        let once = json!({"url": urls[1], "retry_schedule": [], "event_types": ["order.*"]});
        org.endpoint(&once);
        let body =
            json!({"type": "order.created", "payload": {"name": "canary"}, "dedup_id": "d-1"});
        let erased = org.post("/api/events", &body).id();
        let kept = org.send("order.created", &json!({"name": "kept"})).id();
        let deliveries = ["/api/dead-letters", "/api/deliveries?state=retrying"].map(|list| {
            let both = until(|| Some(listed(org, list)).filter(|all| all.len() == 2));
            both.into_iter().find(|found| found["event_id"] == json!(erased)).unwrap()
        });
        Self { receivers, body, erased, kept, deliveries }
    }

    /// Asserts that the payload is shown nowhere, and that the event is otherwise as it was.
    fn assert_is_erased(&self, org: &Client, erased_at: &Value) {
        let Self { body, erased, kept, deliveries, .. } = self;
        for text in shown(org, erased) {
            assert!(!text.contains("canary"), "{text}");
        }
        assert!(shown(org, kept).iter().all(|text| text.contains("kept")), "of this event alone");
        let event = org.get(&path(erased)).json;
        assert_eq!((&event["payload"], &event["erased_at"]), (&Value::Null, erased_at));
        assert_eq!((&event["type"], &event["dedup_id"]), (&json!("order.created"), &json!("d-1")));
        let in_inbox = [&event, &org.get(&path(kept)).json].map(|event| event["in_inbox"] == true);
        assert_eq!(in_inbox, [false, true]);
        let inbox = org.inbox_ids();
        assert!(!inbox.contains(erased) && inbox.contains(kept), "{inbox:?}");
        let letters = listed(org, "/api/dead-letters");
        assert!(letters.iter().all(|letter| letter["event_id"] != json!(erased)), "{letters:?}");
        for delivery in deliveries {
            assert_eq!(state_of(org, delivery), "canceled");
            assert_is_not_tried_again(org, delivery);
        }
        let again = org.post("/api/events", body);
        assert_eq!((again.status, &again.id()), (200, erased));
        assert_eq!(org.send_once("d-1", &json!("other")).code(), "dedup_mismatch");
    }

    /// Asserts that the receivers, which work again, get only the other event. A retry of the other
    /// event goes to both receivers, so a delivery of the erased event would have come before.
    fn assert_is_not_sent(self, org: &Client) {
        for delivery in listed(org, &format!("/api/deliveries?event_id={}", self.kept)) {
            let id = delivery["id"].as_str().unwrap();
            assert_eq!(org.post(&format!("/api/deliveries/{id}/retry"), &json!({})).status, 202);
        }
        for receiver in self.receivers {
            let requests = receiver.wait_for(3, PATIENCE);
            let erased = requests.iter().filter(|request| request.id == self.erased).count();
            let expected = (3, 1);
            assert_eq!((requests.len(), erased), expected, "only the attempt before it was erased");
            receiver.stop();
        }
    }
}

#[test]
fn an_erased_payload_is_shown_nowhere_and_sent_nowhere_also_after_a_restart_without_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Acme");
    let refused = Refused::of(&org);
    for text in shown(&org, &refused.erased) {
        assert!(text.contains("canary"), "the control: {text}");
    }
    let answer = org.delete(&path(&refused.erased));
    assert_eq!((answer.status, &answer.json["id"]), (200, &json!(refused.erased)), "{answer:?}");
    let erased_at = &answer.json["erased_at"];
    assert!(erased_at.is_string());
    let [erased, gone] = [erased_at, &answer.json["gone_by"]]
        .map(|at| at.as_str().unwrap().parse::<Timestamp>().unwrap());
    assert_eq!(gone.0 - erased.0, 86_400_000, "[retention] erase_seconds");
    assert_eq!(org.delete(&path(&refused.erased)).text, answer.text, "again: the same answer");
    assert_eq!(org.metric("triggerd_events_erased_total"), 1.0);
    refused.assert_is_erased(&org, erased_at);
    server.kill();
    std::fs::remove_dir_all(data.join("sled")).unwrap();
    let server = Process::start(&data);
    let org = Client::new(&server.url, &org.key);
    refused.assert_is_erased(&org, erased_at);
    refused.assert_is_not_sent(&org);
    assert_eq!(server.stop().0, Some(0));
    let (code, text) = command(&data, &["verify"]);
    assert!(code == Some(0), "{text}");
}

/// Returns the number of files below the directory in which the text stands.
fn files_with(dir: &Path, text: &str) -> usize {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let holds = |path: &Path| {
        // A file may be removed meanwhile.
        let bytes = std::fs::read(path).unwrap_or_default();
        usize::from(memchr::memmem::find(&bytes, text.as_bytes()).is_some())
    };
    paths.map(|path| if path.is_dir() { files_with(&path, text) } else { holds(&path) }).sum()
}

#[test]
fn an_erased_payload_has_left_every_file_at_the_time_in_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let short = "[retention]\nerase_seconds = 60\ngrace_seconds = 1\n";
    let server = Process::start_with(&data, short);
    let org = server.org("Acme");
    let [erased, kept] = ["erased-canary", "kept-canary"]
        .map(|canary| org.send("a.b", &json!(canary.repeat(300))).id());
    assert_eq!(files_with(&data, "erased-canary"), 1, "the control");
    let answer = org.delete(&path(&erased));
    assert_eq!(answer.status, 200, "{answer:?}");
    until(|| (files_with(&data, "erased-canary") == 0).then_some(()));
    let gone_by: Timestamp = answer.json["gone_by"].as_str().unwrap().parse().unwrap();
    let now_ms = triggerd::base::clock::Clock::system().now_ms();
    assert!(now_ms <= gone_by.0, "too late by {} ms", now_ms - gone_by.0);
    let snapshots = std::fs::read_dir(data.join("journal")).unwrap();
    let mut snapshots = snapshots.map(|entry| entry.unwrap().path());
    assert!(snapshots.any(|path| path.extension().is_some_and(|it| it == "snap")));
    assert!(files_with(&data, "kept-canary") > 0 && status(&org, &kept) == 200);
    assert_eq!(org.get(&path(&erased)).json["payload"], Value::Null);
    server.kill();
    std::fs::remove_dir_all(data.join("sled")).unwrap();
    let server = Process::start_with(&data, short);
    let org = Client::new(&server.url, &org.key);
    assert_eq!((status(&org, &erased), status(&org, &kept)), (200, 200));
}

#[test]
fn an_event_of_another_organization_or_of_nobody_is_not_erased() {
    let (server, _dir) = server();
    let (org, other) = (server.org("Acme"), server.org("Other"));
    let event = org.send("a.b", &json!("canary")).id();
    for (client, path) in [(&other, path(&event)), (&org, ABSENT.to_owned()), (&org, path("evt_x"))]
    {
        let answer = client.delete(&path);
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{answer:?}");
    }
    assert!(org.get(&path(&event)).text.contains("canary"));
}

/// Reads a request whose body is a JSON object, or the part before the connection ended.
fn read_request(connection: &mut TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        let mut some = [0; 4_096];
        let read = connection.read(&mut some).unwrap();
        if read == 0 {
            break;
        }
        request.extend_from_slice(&some[..read]);
    }
    request
}

/// Answers every request with its own body: status 500 and the body, or status 302 and a location.
fn echo(redirects: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            let request = read_request(&mut connection);
            let body = request.rsplit(|byte| *byte == b'\n').next().unwrap();
            let (line, body) = if redirects {
                (
                    format!("302 There\r\nlocation: /{}", String::from_utf8_lossy(body)),
                    [].as_slice(),
                )
            } else {
                ("500 No".to_owned(), body)
            };
            let head = format!(
                "HTTP/1.1 {line}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            connection.write_all(&[head.as_bytes(), body].concat()).unwrap();
        }
    });
    url
}

#[test]
fn a_receivers_answer_that_repeats_the_payload_is_not_shown_either() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    for redirects in [false, true] {
        let made =
            org.post("/api/endpoints", &json!({"url": echo(redirects), "retry_schedule": []}));
        assert_eq!(made.status, 201, "{made:?}");
    }
    let id = org.send("a", &json!({"name": "canary"})).id();
    let dead = || org.get("/api/dead-letters").json["data"].as_array().unwrap().clone();
    let dead = until(|| Some(dead()).filter(|dead| dead.len() == 2));
    let shown = |letter: &Value| {
        let mut shown =
            org.get(&format!("/api/deliveries/{}", letter["id"].as_str().unwrap())).json;
        shown["attempts"][0].take()
    };
    let repeats = |said: &Value| said.to_string().contains("canary");
    let mut parts: Vec<_> = dead
        .iter()
        .map(&shown)
        .map(|attempt| {
            ["response_body", "response_headers", "error"].map(|part| repeats(&attempt[part]))
        })
        .collect();
    parts.sort_unstable();
    assert_eq!(parts, [[false, true, true], [true, false, false]], "the control");
    assert_eq!(org.delete(&path(&id)).status, 200);
    let attempts: Vec<_> = dead.iter().map(&shown).collect();
    assert!(!attempts.iter().any(repeats), "{attempts:?}");
    let mut codes: Vec<_> =
        attempts.iter().map(|attempt| attempt["error"]["code"].as_str().unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["http_status", "redirect"], "what came of it is shown");
}

/// Reports each request, and answers 410 when the test says so.
fn gone_when_told() -> (String, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let ((came, has_come), (answer, is_told)) = (mpsc::channel(), mpsc::channel());
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            read_request(&mut connection);
            if came.send(()).is_err() || is_told.recv().is_err() {
                return;
            }
            let head = b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            connection.write_all(head).unwrap();
        }
    });
    (url, has_come, answer)
}

#[test]
fn an_attempt_under_way_while_its_event_is_erased_is_seen_and_disables_but_is_no_dead_letter() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let (url, has_come, answer) = gone_when_told();
    let endpoint = org.post("/api/endpoints", &json!({"url": url, "retry_schedule": [1]})).id();
    let id = org.send("a", &json!({"name": "canary"})).id();
    has_come.recv_timeout(PATIENCE).unwrap();
    assert_eq!(org.delete(&path(&id)).status, 200);
    answer.send(()).unwrap();
    let disabled =
        || org.get(&format!("/api/endpoints/{endpoint}")).json["disabled_reason"] == json!("gone");
    until(|| disabled().then_some(()));
    let deliveries = org.get(&format!("/api/deliveries?event_id={id}")).json["data"].clone();
    let (state, attempts) = (&deliveries[0]["state"], &deliveries[0]["attempt_count"]);
    assert_eq!((state, attempts), (&json!("canceled"), &json!(1)), "{deliveries}");
    let shown = org.get(&format!("/api/deliveries/{}", deliveries[0]["id"].as_str().unwrap())).json;
    assert_eq!(shown["attempts"][0]["status"], json!(410), "{shown}");
    assert_eq!(org.get("/api/dead-letters").json["data"], json!([]));
    assert_eq!(org.get("/api/inbox").json["data"], json!([]));
    let reported = org.get("/api/events?type=!a").json["data"].clone();
    assert_eq!(
        (reported.as_array().unwrap().len(), &reported[0]["type"]),
        (1, &json!("triggerd.endpoint.disabled"))
    );
    // The metrics change after the answer to the settling.
    let metric = "triggerd_operational_events_total{kind=\"endpoint_disabled\"}";
    until(|| (org.metric(metric) > 0.0).then_some(()));
    assert_eq!(org.metric("triggerd_deliveries_total{outcome=\"dead\"}"), 0.0);
    assert_eq!(org.metric("triggerd_deliveries_total{outcome=\"retried\"}"), 0.0);
    // The endpoint gets no further events.
    org.send("a", &json!({"name": "other"}));
    assert_eq!(server.stop().0, Some(0));
    assert!(has_come.try_recv().is_err());
}

#[test]
fn explain_says_that_a_payload_is_erased_and_erasing_needs_the_scope() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let org = server.org("Acme");
    let id = org.send("a", &json!("canary")).id();
    let made = org.post(
        "/api/keys/generate",
        &json!({"name": "reader", "scopes": ["events:read", "inbox:write"]}),
    );
    let reader = org.with_key(made.json["key"].as_str().unwrap());
    assert_eq!(reader.delete(&path(&id)).status, 403);
    assert!(reader.get(&path(&id)).text.contains("canary"), "nothing was erased");
    assert_eq!(org.delete(&path(&id)).status, 200);
    assert_eq!(org.ack(&id).status, 200, "it can be confirmed all the same");
    let mut explain = std::process::Command::new(env!("CARGO_BIN_EXE_triggerd"));
    explain.args(["explain", &id, "--url", &org.url, "--config"]).arg(dir.path().join("data.toml"));
    let said = explain.env("TRIGGERD_API_KEY", &org.key).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("Its payload was erased at") && !said.contains("canary"), "{said}");
    assert_eq!(
        org.metric("triggerd_events_rejected_total{reason=\"unauthorized\"}"),
        0.0,
        "no event was refused"
    );
}

/// Between the look at an event's deliveries and the change itself, the event may be routed and its
/// endpoints deleted.
#[test]
fn an_event_whose_deliveries_nobody_saw_in_time_is_erased_with_all_of_them() {
    // More endpoints than the change itself examines.
    const DELETED_SINCE: usize = 260;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let too_early = ["env", "TRIGGERD_FAILPOINTS=erase_looks_too_early"];
    let server = Process::try_start(&data, "", &too_early).unwrap_or_else(|it| panic!("{it:?}"));
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    receiver.answer_next([500]);
    let make =
        || org.post("/api/endpoints", &json!({"url": receiver.url(), "retry_schedule": []})).id();
    let delete = |id: String| assert_eq!(org.delete(&format!("/api/endpoints/{id}")).status, 204);
    let first = make();
    let erased = org.send("a.b", &json!("canary")).id();
    until(|| {
        (org.get("/api/dead-letters").json["data"].as_array().unwrap().len() == 1).then_some(())
    });
    delete(first);
    (0..DELETED_SINCE).for_each(|_| delete(make()));
    let answer = org.delete(&path(&erased));
    assert_eq!((answer.status, &answer.json["id"]), (200, &json!(erased)), "{answer:?}");
    assert_eq!(org.get("/api/dead-letters").json["data"], json!([]));
    receiver.stop();
    server.kill();
    // This start has no failpoint.
    let server = Process::start(&data);
    assert_eq!(server.stop().0, Some(0));
    let (code, text) = command(&data, &["verify"]);
    assert!(code == Some(0), "{text}");
}

/// The scheduler cancels deliveries to a deleted endpoint, but it may come late or not run at all.
#[test]
fn an_event_that_waits_for_an_endpoint_deleted_long_ago_is_erased() {
    // More endpoints than the change itself examines.
    const DELETED_SINCE: usize = 260;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let without_sending = ["sh", "-c", "exec \"$0\" \"$@\" --no-deliver"];
    let server =
        Process::try_start(&data, "", &without_sending).unwrap_or_else(|it| panic!("{it:?}"));
    let org = server.org("Acme");
    let make = || org.post("/api/endpoints", &json!({"url": "http://127.0.0.1:1/"})).id();
    let delete = |id: String| assert_eq!(org.delete(&format!("/api/endpoints/{id}")).status, 204);
    let first = make();
    let waits = org.send("a.b", &json!("canary")).id();
    let deliveries = || {
        org.get(&format!("/api/deliveries?event_id={waits}")).json["data"].as_array().unwrap().len()
    };
    until(|| (deliveries() == 1).then_some(()));
    delete(first);
    (0..DELETED_SINCE).for_each(|_| delete(make()));
    let erased = org.delete(&path(&waits));
    assert_eq!((erased.status, &erased.json["id"]), (200, &json!(waits)), "{erased:?}");
    assert_eq!(server.stop().0, Some(0));
    let (code, text) = command(&data, &["verify"]);
    assert!(code == Some(0), "{text}");
}
