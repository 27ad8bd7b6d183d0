//! `GET /api/tail` and `triggerd tail` with the real binary: the stream shows events and attempts
//! of its own organization as they happen, until its key ends.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use triggerd::cli::demo::receiver::Receiver;

use crate::harness::{Answer, Client, PATIENCE, Process, assert_has, settings};
use crate::raw::Raw;

/// A watcher of the stream; each item has its name, and a comment is named `comment`.
struct Watch(mpsc::Receiver<(String, Value)>);

impl Watch {
    /// Starts watching; every later item is seen.
    fn start(org: &Client, query: &str) -> Self {
        let watch = Self::connect(org, query);
        assert_eq!(watch.next().0, "start");
        watch
    }

    fn connect(org: &Client, query: &str) -> Self {
        let (url, key) = (format!("{}/api/tail{query}", org.url), org.key.clone());
        let (sender, items) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let http = reqwest::Client::builder().no_proxy().build().unwrap();
                let mut answer = http.get(url).header("X-API-Key", key).send().await.unwrap();
                assert_eq!(answer.headers()["content-type"], "text/event-stream");
                let mut text = String::new();
                while let Ok(Some(chunk)) = answer.chunk().await {
                    text.push_str(std::str::from_utf8(&chunk).unwrap());
                    while let Some((item, rest)) = text.split_once("\n\n") {
                        if sender.send(parse(item)).is_err() {
                            return;
                        }
                        text = rest.to_owned();
                    }
                }
            });
        });
        Self(items)
    }

    fn next(&self) -> (String, Value) {
        self.0.recv_timeout(PATIENCE).expect("there is another item")
    }

    /// Returns the next item, which must have this name.
    fn expect(&self, name: &str) -> Value {
        let (got, data) = self.next();
        assert_eq!(got, name, "{data}");
        data
    }

    /// Waits for the end of the stream.
    fn is_over(&self) -> bool {
        self.0.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Disconnected)
    }
}

fn parse(item: &str) -> (String, Value) {
    if item.starts_with(':') {
        return ("comment".to_owned(), Value::Null);
    }
    let (name, data) = item.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
    (name.to_owned(), serde_json::from_str(data).unwrap())
}

fn server() -> (Process, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Process::start(&dir.path().join("data")), dir)
}

/// Creates an endpoint with this retry schedule in seconds; returns its id.
fn endpoint(org: &Client, receiver: &Receiver, retry_schedule: &[u32]) -> String {
    let made = org
        .post("/api/endpoints", &json!({"url": receiver.url(), "retry_schedule": retry_schedule}));
    assert_eq!(made.status, 201, "{made:?}");
    made.id()
}

/// Creates a key of the same organization with these scopes; returns a client and the id.
fn key(org: &Client, scopes: &[&str]) -> (Client, String) {
    let made = org.post("/api/keys/generate", &json!({"name": "k", "scopes": scopes}));
    assert_eq!(made.status, 201, "{made:?}");
    (
        org.with_key(made.json["key"].as_str().unwrap()),
        made.json["key_id"].as_str().unwrap().to_owned(),
    )
}

#[test]
fn events_and_attempts_are_seen_as_they_happen_by_their_organization_alone() {
    let (server, _dir) = server();
    let (org, other, receiver) =
        (server.org("Acme"), server.org("Other"), Receiver::start().unwrap());
    let to = endpoint(&org, &receiver, &[1]);
    let (watch, others) = (Watch::start(&org, ""), Watch::start(&other, ""));
    receiver.answer_next([500]);
    let elsewhere = other.send("other.kind", &json!("canary")).id();
    let body = json!({"type": "a.b", "payload": "canary", "dedup_id": "d"});
    let sent = org.post("/api/events", &body);
    assert_eq!(org.post("/api/events", &body).status, 200);

    let event = watch.expect("event");
    let received_at = &sent.json["received_at"];
    assert_eq!(event, json!({"id": sent.id(), "type": "a.b", "received_at": received_at}));
    let failed = watch.expect("attempt");
    assert_has(&failed, &json!({"event_id": sent.id(), "event_type": "a.b", "endpoint_id": to}));
    assert_has(&failed, &json!({"number": 1, "status": 500, "state": "retrying"}));
    assert_eq!(failed["error"]["code"], "http_status");
    assert!(failed["next_attempt_at"].is_string() && failed["duration_ms"].is_u64(), "{failed}");
    let delivery = org.get(&format!("/api/deliveries/{}", failed["delivery_id"].as_str().unwrap()));
    assert_eq!(delivery.json["event_id"], json!(sent.id()), "{delivery:?}");
    let accepted = watch.expect("attempt");
    assert_has(&accepted, &json!({"number": 2, "state": "delivered"}));
    assert_has(&accepted, &json!({"error": null, "next_attempt_at": null}));

    receiver.answer_next([410]);
    org.send("a.c", &json!(1));
    assert_eq!(watch.expect("event")["type"], json!("a.c"), "the duplicate was none");
    let dead = watch.expect("attempt");
    assert_has(&dead, &json!({"state": "dead", "reason": "gone"}));
    assert_has(&dead, &json!({"endpoint_disabled_reason": "gone"}));
    let theirs = others.expect("event");
    assert_eq!(theirs["id"], json!(elsewhere));
    assert!(others.0.try_recv().is_err(), "and nothing of ours");
    for item in [&event, &failed, &accepted, &dead, &theirs] {
        assert!(!item.to_string().contains("canary"), "{item}");
    }
    receiver.stop();
}

#[test]
fn what_is_seen_can_be_narrowed_and_is_bounded_by_the_scopes() {
    let (server, _dir) = server();
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let (first, second) = (endpoint(&org, &receiver, &[]), endpoint(&org, &receiver, &[]));
    let orders = Watch::start(&org, "?type=order.*");
    let to_second = Watch::start(&org, &format!("?endpoint_id={second}"));
    let (reader, _) = key(&org, &["events:read"]);
    let events_only = Watch::connect(&reader, "");
    assert_eq!(events_only.expect("start"), json!({"attempts": false}));
    org.send("invoice.paid", &json!(1));
    let id = org.send("order.created", &json!(2)).id();
    assert_eq!(orders.expect("event")["id"], json!(id));
    let attempts: Vec<_> = (0..2).map(|_| orders.expect("attempt")).collect();
    assert!(attempts.iter().all(|attempt| attempt["event_id"] == json!(id)), "{attempts:?}");
    for wanted in [&first, &second] {
        assert!(
            attempts.iter().any(|attempt| attempt["endpoint_id"] == json!(wanted)),
            "{attempts:?}"
        );
    }
    let narrowed: Vec<_> = (0..2).map(|_| to_second.expect("attempt")).collect();
    assert!(narrowed.iter().all(|attempt| attempt["endpoint_id"] == json!(second)), "{narrowed:?}");
    assert_eq!(events_only.expect("event")["type"], json!("invoice.paid"));
    org.send("last.one", &json!(3));
    assert_eq!(events_only.expect("event")["id"], json!(id));
    assert_eq!(events_only.expect("event")["type"], json!("last.one"), "no attempt between them");
    receiver.stop();
}

#[test]
fn who_may_not_watch_and_one_watcher_too_many_are_refused() {
    let (server, _dir) = server();
    let (org, other, receiver) =
        (server.org("Acme"), server.org("Other"), Receiver::start().unwrap());
    let first = endpoint(&org, &receiver, &[]);
    let refused = |client: &Client, query: &str, status: u16, code: &str| -> Answer {
        let answer = client.get(&format!("/api/tail{query}"));
        assert_eq!((answer.status, answer.code()), (status, code), "{query}: {answer:?}");
        answer
    };
    let reader = key(&org, &["events:read"]).0;
    refused(&reader, &format!("?endpoint_id={first}"), 403, "forbidden");
    refused(&key(&org, &["deliveries:read"]).0, "", 403, "forbidden");
    refused(&other, &format!("?endpoint_id={first}"), 404, "not_found");
    refused(&other, "?endpoint_id=ep_00000000000000000000000001", 404, "not_found");
    refused(&org, "?type=a.*.b", 400, "invalid_request");
    refused(&org, "?since=2026-01-01T00:00:00Z", 400, "invalid_request");
    let head = org.request(reqwest::Method::HEAD, "/api/tail", &[], "");
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));

    let _watchers: Vec<_> = (0..8).map(|_| Watch::start(&org, "")).collect();
    let full = refused(&org, "", 429, "rate_limited");
    assert!(full.header("retry-after").parse::<u32>().unwrap() >= 1, "{full:?}");
    drop(Watch::start(&other, ""));
    receiver.stop();
}

#[test]
fn who_is_too_slow_is_told_how_many_it_missed() {
    const BATCHES_MAX: u64 = 300;
    let (server, _dir) = server();
    let org = server.org("Acme");
    let watch = Watch::start(&org, "");
    let batch = json!({"events": vec![json!({"type": "a", "payload": 1}); 1_000]});
    let told = AtomicBool::new(false);
    let (seen, missed, sent) = std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let client = Client::new(&org.url, &org.key);
            let mut batches = 0;
            while !told.load(Ordering::SeqCst) && batches < BATCHES_MAX {
                assert_eq!(client.post("/api/events/batch", &batch).status, 200);
                batches += 1;
            }
            // No item follows this one, so this item cannot be missed.
            client.send("last", &json!(1));
            batches * 1_000
        });
        let (mut seen, mut missed) = (0, 0);
        loop {
            let (name, data) = watch.next();
            if data["type"] == json!("last") {
                return (seen, missed, producer.join().unwrap());
            }
            seen += u64::from(name == "event");
            if name == "missed" {
                missed += data["count"].as_u64().unwrap();
                told.store(true, Ordering::SeqCst);
            }
        }
    });
    assert!(missed > 0, "{seen} of {sent} were seen");
    assert_eq!(seen + missed, sent, "each was shown or counted");
}

#[test]
fn a_key_that_ends_and_a_server_that_stops_end_it_and_silence_is_filled_with_comments() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let (reader, id) = key(&org, &["events:read", "deliveries:read"]);
    let (by_reader, by_org) = (Watch::start(&reader, ""), Watch::start(&org, ""));
    assert_eq!(org.delete(&format!("/api/keys/{id}")).status, 204);
    assert_eq!(by_reader.expect("end"), json!({"reason": "key_ended"}));
    assert!(by_reader.is_over());
    assert_eq!(by_org.next(), ("comment".to_owned(), Value::Null), "the other key's goes on");
    let event = org.send("a.b", &json!(1)).id();
    assert_eq!(by_org.expect("event")["id"], json!(event));
    assert_eq!(server.stop().0, Some(0));
    assert_eq!(by_org.expect("end"), json!({"reason": "shutting_down"}));
    assert!(by_org.is_over());
}

/// Starts a command; returns it, and the lines of both its outputs as they come.
fn start(command: &mut Command) -> (Child, mpsc::Receiver<String>) {
    fn pass_on(output: impl Read + Send + 'static, sender: mpsc::Sender<String>) {
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (sender, lines) = mpsc::channel();
    pass_on(child.stdout.take().unwrap(), sender.clone());
    pass_on(child.stderr.take().unwrap(), sender);
    (child, lines)
}

#[test]
fn streams_make_room_when_connections_run_out() {
    let (server, _dir) = crate::takeover::server("workers = 1\nmax_connections = 20");
    let orgs: Vec<Client> = (0..5).map(|n| server.org(&format!("Acme {n}"))).collect();
    let watch = |org: &Client| {
        let mut raw = Raw::connect(&server);
        raw.get("/api/tail", &org.key);
        raw
    };
    let mut watching: Vec<Raw> = orgs.iter().cycle().take(40).map(watch).collect();
    let newcomer = Client::new(&server.url, &orgs[0].key);
    let answer = newcomer.request_on_its_own("/api/events", &json!({"type": "a.b", "payload": 1}));
    assert_eq!(answer, Some(202));
    let mut seen = String::new();
    watching[0].stream.read_to_string(&mut seen).unwrap();
    assert!(seen.contains("{\"reason\":\"too_many_connections\"}"), "{seen}");
}

#[test]
fn the_command_shows_a_line_each_connects_again_and_ends_clean_with_ctrl_c() {
    let (server, dir) = server();
    let data = dir.path().join("data");
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    endpoint(&org, &receiver, &[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_triggerd"));
    command.args(["tail", "--type", "order.*", "--url", &org.url, "--config"]);
    command.arg(data.with_extension("toml"));
    command.env("TRIGGERD_API_KEY", &org.key);
    let (mut tail, lines) = start(&mut command);
    let next = |wanted: &str| {
        let line = lines.recv_timeout(PATIENCE).unwrap();
        assert!(line.contains(wanted), "{wanted} in {line}");
        line
    };
    next("watching events and attempts");
    let shown = |client: &Client| {
        client.send("invoice.paid", &json!(1));
        let id = client.send("order.created", &json!(1)).id();
        assert!(next("accepted").contains(&id));
        let line = next("delivered");
        assert!(line.contains(&id) && line.contains("200 (attempt 1, "), "{line}");
    };
    shown(&org);

    assert_eq!(server.stop().0, Some(0));
    next("shutting_down");
    next("connecting again");
    let same_port = org.url.strip_prefix("http://").unwrap();
    let server = Process::start_on(&data, &settings(&data, "").replace("127.0.0.1:0", same_port));
    next("again; events and attempts during the interruption are not shown");
    shown(&Client::new(&server.url, &org.key));

    kill_process(Pid::from_child(&tail), Signal::INT).unwrap();
    assert_eq!(tail.wait().unwrap().code(), Some(0), "Ctrl-C is no failure");
    let wrong = command.env("TRIGGERD_API_KEY", "nonsense").output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("unauthorized"));
    receiver.stop();
}
