//! Authorization and its duration, with the real binary: when a key ends while a request with it
//! waits, the request ends too and has no effect. The routes come from the table, so that new
//! routes are tested too.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use reqwest::Method;
use serde_json::{Value, json};
use triggerd::app::App;
use triggerd::base::clock::Clock;
use triggerd::base::exit_code::ExitCode;
use triggerd::config::Config;
use triggerd::http::{Route, Verb, Who, routes};

use crate::harness::{Answer, Client, PATIENCE, Process, server, settings, silence, until};

#[path = "authority_routes.rs"]
mod routes;

/// Creates a key of the organization; returns its id and a client with it.
fn key(org: &Client, wish: &Value) -> (String, Client) {
    let made = org.post("/api/keys/generate", wish);
    assert_eq!(made.status, 201, "{made:?}");
    (
        made.json["key_id"].as_str().unwrap().to_owned(),
        org.with_key(made.json["key"].as_str().unwrap()),
    )
}

fn all_scopes(org: &Client) -> Value {
    org.get("/api/keys").json["data"][0]["scopes"].clone()
}

/// Creates another key with all scopes.
fn twin(org: &Client) -> (String, Client) {
    key(org, &json!({"name": "twin", "scopes": all_scopes(org)}))
}

fn end(org: &Client, id: &str) {
    let ended = org.delete(&format!("/api/keys/{id}"));
    assert_eq!(ended.status, 204, "{ended:?}");
}

/// A request whose last byte is not yet sent.
struct Held {
    connection: TcpStream,
    last: u8,
}

impl Held {
    fn send(client: &Client, method: &str, path: &str, body: &str) -> Self {
        let address = client.url.strip_prefix("http://").unwrap();
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let (key, length) = (&client.key, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: \
             application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let (last, first) = body.as_bytes().split_last().unwrap();
        connection.write_all(&[head.as_bytes(), first].concat()).unwrap();
        Self { connection, last: *last }
    }

    /// Sends the last byte; returns the status and the body of the answer.
    fn finish(mut self) -> (u16, String) {
        // The request may be refused already.
        drop(self.connection.write_all(&[self.last]));
        let mut answer = String::new();
        self.connection.read_to_string(&mut answer).unwrap();
        let (head, body) =
            answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

/// A request body that the route accepts.
pub(crate) fn body(path: &str, ids: &Ids) -> Value {
    match path {
        "/api/events" => json!({"type": "a.b", "payload": 1, "dedup_id": "held"}),
        "/api/events/batch" => {
            json!({"events": [{"type": "a.b", "payload": 1}, {"type": "a.b", "payload": 2}]})
        }
        "/api/webhook/config" | "/api/endpoints" => json!({"url": "https://example.com/held"}),
        "/api/endpoints/{endpoint_id}" => json!({"url": "https://example.com/changed"}),
        "/api/endpoints/{endpoint_id}/secret/rotate" => json!({"overlap_seconds": 1}),
        "/api/hooks" => json!({"target_url": "https://example.com/hook"}),
        "/api/keys/generate" => json!({"name": "held", "scopes": ["events:write"]}),
        "/api/keys/rotate" => json!({"grace_seconds": 60}),
        "/api/keys/{key_id}" => json!({"name": "changed"}),
        "/api/orgs" => json!({"name": "held"}),
        "/api/orgs/{org_id}" => json!({"tier": "pro"}),
        "/api/orgs/{org_id}/keys" => json!({"name": "made"}),
        "/api/dead-letters" | "/api/dead-letters/replay" => json!({"ids": [ids.delivery]}),
        "/api/replays" => json!({"only": "all"}),
        _ => json!({}),
    }
}

/// Ids of an organization's objects, for the parameters of paths.
pub(crate) struct Ids {
    event: String,
    pub(crate) endpoint: String,
    delivery: String,
    pub(crate) replay: String,
    hook: String,
    key: String,
    org: String,
}

impl Ids {
    const ABSENT: &str = "01h2xcejqtf2nbrexx3vqjhp41";

    /// Creates an event, a dead letter at an endpoint that refuses, and the other objects.
    pub(crate) fn make(org: &Client) -> Self {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{closed}/");
        let endpoint = org.post("/api/webhook/config", &json!({"url": url})).id();
        org.patch(&format!("/api/endpoints/{endpoint}"), &json!({"retry_schedule": []}));
        let hook = org.post("/api/hooks", &json!({"target_url": url, "event": "never.sent"})).id();
        let event = org.send("a.b", &json!(1)).id();
        let delivery = until(|| {
            let dead = org.get("/api/dead-letters").json;
            let of_event = |letter: &&Value| letter["event_id"] == json!(event);
            dead["data"]
                .as_array()
                .unwrap()
                .iter()
                .find(of_event)
                .map(|letter| letter["id"].as_str().unwrap().to_owned())
        });
        let replay = org.post("/api/replays", &json!({"only": "missing"})).id();
        let (key, _) = key(org, &json!({"name": "other", "scopes": ["inbox:read"]}));
        let id = org.get("/api/whoami").json["organization"]["id"].as_str().unwrap().to_owned();
        Self { event, endpoint, delivery, replay, hook, key, org: id }
    }

    fn absent() -> Self {
        let id = |prefix: &str| format!("{prefix}_{}", Self::ABSENT);
        let (event, endpoint, delivery, replay) = (id("evt"), id("ep"), id("dlv"), id("rpl"));
        let (hook, key, org) = (id("ep"), id("key"), id("org"));
        Self { event, endpoint, delivery, replay, hook, key, org }
    }

    pub(crate) fn path(&self, route: &Route) -> String {
        let path =
            route.path.replace("{event_id}", &self.event).replace("{endpoint_id}", &self.endpoint);
        let path =
            path.replace("{delivery_id}", &self.delivery).replace("{replay_id}", &self.replay);
        let path = path.replace("{hook_id}", &self.hook).replace("{key_id}", &self.key);
        let path = path.replace("{org_id}", &self.org).replace("{page}", "api");
        assert!(!path.contains('{'), "{path} has a parameter without a row here");
        path
    }
}

#[test]
fn what_a_key_asks_for_that_ended_while_the_body_was_on_its_way_does_not_happen() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let ids = Ids::make(&org);
    let world = || {
        let lists =
            ["/api/keys", "/api/endpoints", "/api/events", "/api/dead-letters", "/api/replays"];
        lists.map(|list| org.get(list).json["data"].as_array().unwrap().len())
    };
    let routes = routes().iter().filter(|route| matches!(route.verb, Verb::Post | Verb::Patch));
    let mut asked = 0;
    for route in routes.filter(|route| !matches!(route.who, Who::Public | Who::Admin)) {
        let (id, caller) = twin(&org);
        let path = ids.path(route);
        let text = format!("{} ", body(route.path, &ids));
        let held = Held::send(&caller, route.verb.name(), &path, &text);
        let before = world();
        end(&org, &id);
        let (status, text) = held.finish();
        // A route without a body may have answered before.
        let takes_none =
            ["enable", "/test", "ack/", "/retry"].iter().any(|word| route.path.contains(word));
        if takes_none && status != 401 {
            continue;
        }
        assert_eq!(status, 401, "{} {path}: {text}", route.verb.name());
        let mut expected = before;
        expected[0] -= 1; // the twin
        assert_eq!(world(), expected, "{} {path}", route.verb.name());
        asked += 1;
    }
    assert!(asked >= 11, "{asked} routes");
    assert_eq!(org.send_once("held", &json!(1)).status, 202, "it was not stored before");
    let keys = org.get("/api/keys").text;
    assert!(!keys.contains("\"held\""), "{keys}");
}

/// If the key expires or is revoked meanwhile, the long poll ends with 401 and returns no events.
#[test]
fn a_long_poll_ends_with_its_key() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let (id, ended) = twin(&org);
    let (_, rotated) = twin(&org);
    let soon = triggerd::model::time::Timestamp(Clock::system().now_ms() + 1_500).to_string();
    let (_, expired) =
        key(&org, &json!({"name": "short", "scopes": ["inbox:read"], "expires_at": soon}));
    let wait = |client: &Client| {
        let client = client.with_key(&client.key);
        std::thread::spawn(move || client.get("/api/inbox?wait=30"))
    };
    let known = || org.metric("triggerd_key_verifications_total{result=\"cached\"}");
    let before = known();
    let waiting = [wait(&ended), wait(&rotated), wait(&expired)];
    until(|| (known() >= before + 3.0).then_some(()));
    end(&org, &id);
    let successor = rotated.post("/api/keys/rotate", &json!({"grace_seconds": 0}));
    assert_eq!(successor.status, 201);
    for waiting in waiting {
        let answer: Answer = waiting.join().unwrap();
        assert_eq!((answer.status, answer.code()), (401, "unauthorized"), "{answer:?}");
    }
    let successor = org.with_key(successor.json["key"].as_str().unwrap());
    let waiting = wait(&successor);
    let id = org.send("a.b", &json!(1)).id();
    assert_eq!(waiting.join().unwrap().json["data"][0]["id"], json!(id));
}

/// Negative control: with a check only at the start, the held request takes effect and the long
/// poll returns events.
#[test]
#[cfg(debug_assertions)]
fn a_caller_that_is_judged_once_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let failpoint = ["env", "TRIGGERD_FAILPOINTS=judged_once"];
    let server = Process::try_start(&data, "", &failpoint).unwrap_or_else(|it| panic!("{it:?}"));
    let org = server.org("Acme");
    let (id, caller) = twin(&org);
    let of = |result: &str| {
        org.metric(&format!("triggerd_key_verifications_total{{result=\"{result}\"}}"))
    };
    let judged = || of("cached") + of("verified");
    let before = judged();
    let held = Held::send(
        &caller,
        "POST",
        "/api/keys/generate",
        "{\"name\": \"held\", \"scopes\": [\"inbox:read\"]}",
    );
    let waiting = {
        let caller = caller.with_key(&caller.key);
        std::thread::spawn(move || caller.get("/api/inbox?wait=30"))
    };
    // Both requests were authorized; no later check follows.
    until(|| (judged() >= before + 2.0).then_some(()));
    end(&org, &id);
    assert_eq!(held.finish().0, 201);
    org.send("a.b", &json!(1));
    assert_eq!(waiting.join().unwrap().status, 200);
}

#[test]
fn trying_an_endpoint_out_ends_with_the_key() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let (receiver, url) = silence();
    let endpoint = org.post("/api/endpoints", &json!({"url": url, "timeout_ms": 300_000})).id();
    let (id, caller) = twin(&org);
    let tried = std::thread::spawn(move || {
        caller.post(&format!("/api/endpoints/{endpoint}/test"), &json!({}))
    });
    let (mut connection, _) = receiver.accept().unwrap();
    end(&org, &id);
    let answer = tried.join().unwrap();
    assert_eq!((answer.status, answer.code()), (401, "unauthorized"));
    // The attempt of the test ends too.
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_key_ends_none_that_may_more_and_the_operator_ends_any() {
    let (server, _dir) = server();
    let (org, other) = (server.org("Acme"), server.org("Other"));
    let (full, _) = twin(&org);
    let (_, keeper) = key(&org, &json!({"name": "keeper", "scopes": ["keys:read", "keys:write"]}));
    let (small, _) = key(&org, &json!({"name": "small", "scopes": ["keys:read"]}));
    let refused = keeper.delete(&format!("/api/keys/{full}"));
    assert_eq!((refused.status, refused.code()), (403, "forbidden"), "{refused:?}");
    assert!(org.get("/api/keys").text.contains(&full));
    end(&keeper, &small);
    let foreign = other.delete(&format!("/api/keys/{full}"));
    let absent = other.delete(&format!("/api/keys/key_{}", Ids::ABSENT));
    assert_eq!(
        (foreign.status, absent.status, &foreign.json["detail"]),
        (404, 404, &absent.json["detail"])
    );
    assert_eq!(server.admin().delete(&format!("/api/keys/{full}")).status, 204);
    assert_eq!(server.admin().delete(&format!("/api/keys/{full}")).status, 404);
    assert!(!org.get("/api/keys").text.contains(&full));
}

#[test]
fn a_rotation_has_room_among_a_hundred_keys() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    let full = std::iter::from_fn(|| {
        let made = org.post("/api/keys/generate", &json!({"name": "n", "scopes": ["inbox:read"]}));
        Some(made).filter(|made| made.status == 201)
    });
    assert_eq!(full.count(), triggerd::store::KEYS_PER_ORG_MAX - 1);
    let rotated = org.post("/api/keys/rotate", &json!({}));
    assert_eq!(rotated.status, 201, "{rotated:?}");
    assert_eq!(org.get("/api/keys").status, 200, "the old one has its grace");
    let new = org.with_key(rotated.json["key"].as_str().unwrap());
    let more = new.post("/api/keys/generate", &json!({"name": "n", "scopes": ["inbox:read"]}));
    assert_eq!((more.status, more.code()), (422, "limit_reached"), "{more:?}");
}

const START_MS: u64 = 1_800_000_000_000;
const HOUR_MS: u64 = 3_600_000;

/// Keys of one organization that end in every way, and one that ends later.
struct EndingKeys {
    /// The id of the key `never`, which no request uses after its end.
    never_id: String,
    /// Ends in three hours.
    later: Client,
    /// Names and clients of all keys that end within an hour.
    ending: [(&'static str, Client); 5],
}

impl EndingKeys {
    fn make(org: &Client) -> Self {
        let at = |ms: u64| triggerd::model::time::Timestamp(ms).to_string();
        let ends_after = |hours: u64| {
            let end = at(START_MS + hours * HOUR_MS);
            key(org, &json!({"name": "short", "scopes": all_scopes(org), "expires_at": end}))
        };
        let (_, asks) = ends_after(1);
        let (never_id, never) = ends_after(1);
        let (_, later) = ends_after(3);
        let (id, ended) = twin(org);
        let [rotated, in_grace] = [(); 2].map(|()| twin(org).1);
        end(org, &id);
        for (key, grace_seconds) in [(&rotated, 0), (&in_grace, 3_600)] {
            let grace = json!({ "grace_seconds": grace_seconds });
            assert_eq!(key.post("/api/keys/rotate", &grace).status, 201);
        }
        let working = [&asks, &never, &later, &in_grace];
        assert_eq!(working.map(|key| key.get("/api/keys").status), [200; 4]);
        let ending = [
            ("asks", asks),
            ("never", never),
            ("ended", ended),
            ("rotated", rotated),
            ("grace", in_grace),
        ];
        Self { never_id, later, ending }
    }
}

#[test]
fn a_clock_that_is_set_back_revives_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let start = |clock: &Clock| {
        App::start(Config::from_toml(&settings(&data, "")).unwrap(), clock.clone()).unwrap()
    };
    let clock = Clock::manual(START_MS);
    let app = start(&clock);
    let client = |app: &App, key: &str| Client::new(&format!("http://{}", app.address()), key);
    let org = client(&app, app.admin_token()).new_org("Acme");
    let keys = EndingKeys::make(&org);
    clock.set_ms(START_MS + 2 * HOUR_MS);
    for (name, key) in keys.ending.iter().filter(|(name, _)| *name != "never") {
        assert_eq!(key.get("/api/keys").status, 401, "{name}");
    }
    // The sweeper ends the key within about a second, without any request.
    let id = keys.never_id.parse().unwrap();
    let stored = || app.store().key(id).unwrap().expect("it is there until another key is made");
    until(|| stored().key().has_ended().then_some(()));
    for hours_back in [0, 3] {
        clock.set_ms(START_MS + HOUR_MS / 2 - hours_back * HOUR_MS);
        for (name, key) in &keys.ending {
            assert_eq!(key.get("/api/keys").status, 401, "{name} {hours_back} hours back");
        }
        assert_eq!(keys.later.get("/api/keys").status, 200, "its time never came");
    }
    assert_eq!(app.stop(), ExitCode::Clean);
    let app = start(&clock);
    for (name, key) in &keys.ending {
        assert_eq!(client(&app, &key.key).get("/api/keys").status, 401, "{name}");
    }
    assert_eq!(client(&app, &keys.later.key).get("/api/keys").status, 200);
    assert_eq!(app.stop(), ExitCode::Clean);
}

#[test]
fn a_proxys_own_credentials_stand_beside_a_key_of_ours() {
    let (server, _dir) = server();
    let org = server.org("Acme");
    for others in [
        "Basic dXNlcjpwYXNz",
        "",
        "Digest username=\"x\"",
        "Negotiate abc",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
    ] {
        let answer = org.request(Method::GET, "/api/inbox", &[("Authorization", others)], "");
        assert_eq!(answer.status, 200, "{others}: {answer:?}");
        let alone =
            org.with_key("").request(Method::GET, "/api/inbox", &[("Authorization", others)], "");
        assert_eq!(alone.status, 401, "{others}");
    }
    let (_, other) = twin(&org);
    let both = org.request(
        Method::GET,
        "/api/inbox",
        &[("Authorization", &format!("Bearer {}", other.key))],
        "",
    );
    assert_eq!((both.status, both.code()), (400, "invalid_request"));
}

/// Tests correctness without a clock: wrong keys cause no slow hash, so they keep nobody out. A
/// gate measures the speed.
#[test]
fn wrong_keys_cost_no_slow_hash_and_keep_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    // One thread and a queue of one: if wrong keys were hashed, the owner would get 503.
    let server = Process::start_with(
        &dir.path().join("data"),
        "[keys]\nverify_threads = 1\nverify_queue = 1\n",
    );
    let (org, other) = (server.org("Acme"), server.org("Other"));
    let (server, data) = {
        assert_eq!(server.stop().0, Some(0));
        let data = dir.path().join("data");
        let more = "[keys]\nverify_threads = 1\nverify_queue = 1\n";
        (Process::start_with(&data, more), data)
    };
    drop(data);
    let hashes = || Client::new(&server.url, "").metric("triggerd_key_hashes_total");
    // Well-formed keys with the owner's id, another secret and the right checksum.
    let wrong: Vec<String> = (0..400).map(|seed| wrong_key(&org.key, seed)).collect();
    std::thread::scope(|scope| {
        for part in wrong.chunks(100) {
            let url = &server.url;
            scope.spawn(move || {
                let client = Client::new(url, "");
                for key in part {
                    let answer =
                        client.request(Method::GET, "/api/inbox", &[("X-API-Key", key)], "");
                    assert_eq!(answer.status, 401, "{answer:?}");
                }
            });
        }
    });
    assert_eq!(hashes(), 0.0);
    for (owner, runs) in [(&org, 1.0), (&other, 2.0), (&org, 2.0)] {
        assert_eq!(Client::new(&server.url, &owner.key).get("/api/inbox").status, 200);
        assert_eq!(hashes(), runs);
    }
}

/// A key with the id of this key and another secret.
fn wrong_key(key: &str, seed: u32) -> String {
    let id: triggerd::model::key::KeyText = key.parse().unwrap();
    let mut next = seed;
    let made = triggerd::model::key::KeyText::generate(id.id(), || {
        next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        next.to_be_bytes()[0]
    });
    assert_ne!(made.reveal(), key);
    made.reveal().to_owned()
}
