//! The commands that show and change events, deliveries, dead letters, endpoints and keys do what
//! they say.

use triggerd::cli::demo::receiver::Receiver;

use super::*;
use crate::harness::{PATIENCE, until};

/// Runs a command that succeeds, and returns its JSON.
fn json_of(world: &World, words: &[&str]) -> Value {
    let ran = world.run(&[words, &["--json"]].concat());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{words:?}: {ran:?}");
    ran.json()
}

/// The number of items of a list.
fn count(world: &World, words: &[&str]) -> usize {
    json_of(world, words)["data"].as_array().unwrap().len()
}

/// Makes this number of dead letters of an endpoint, and returns its id and the receiver.
fn dead_letters(world: &World, number: usize) -> (String, Receiver) {
    let receiver = Receiver::start().unwrap();
    receiver.answer_next(std::iter::repeat_n(500, number));
    let endpoint = world.org.endpoint(&json!({"url": receiver.url(), "retry_schedule": []}));
    (0..number).for_each(|n| _ = world.org.send("a.b", &json!(n)));
    let all = || (count(world, &["dead-letters", "list"]) == number).then_some(());
    until(all);
    (endpoint, receiver)
}

#[test]
fn dead_letters_are_listed_replayed_and_dropped_by_id_or_by_a_filter() {
    let world = World::new();
    let (endpoint, receiver) = dead_letters(&world, 4);
    let letters =
        json_of(&world, &["dead-letters", "list", "--endpoint", &endpoint, "--limit", "2"]);
    let ids = letters["data"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap());
    let ids: Vec<_> = ids.collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(count(&world, &["dead-letters", "list", "--until", "1h"]), 0);
    let dropped = json_of(&world, &["dead-letters", "drop", ids[0]]);
    assert_eq!(dropped, json!({"dropped": 1}));
    assert_eq!(json_of(&world, &["dead-letters", "replay", ids[1]]), json!({"replayed": 1}));
    receiver.wait_for(5, PATIENCE);
    let said = world.run(&["dead-letters", "replay", "--since", "1h"]).out;
    assert_eq!(said, "2 dead letters replayed\n");
    receiver.wait_for(7, PATIENCE);
    until(|| (count(&world, &["deliveries", "--state", "delivered"]) == 3).then_some(()));
    let canceled = json_of(&world, &["deliveries", "--state", "canceled"]);
    assert_eq!(canceled["data"][0]["id"], json!(ids[0]));
    assert_eq!(json_of(&world, &["dead-letters", "drop", "--all"]), json!({"dropped": 0}));
    for unclear in [&[][..], &["--all", "--since", "1h"], &["dlv_1", "--all"]] {
        let ran = world.run(&[&["dead-letters", "drop"], unclear].concat());
        assert_eq!(ran.code, Some(2), "{unclear:?}: {ran:?}");
    }
    receiver.stop();
}

/// A request changes at most a thousand dead letters.
#[test]
fn dead_letters_that_nobody_chose_are_refused_with_every_way_to_choose() {
    let world = World::new();
    for command in ["replay", "drop"] {
        let ran = world.run(&["dead-letters", command]);
        let ways = ["DELIVERY", "--all", "--endpoint", "--since", "--until"];
        let said = ways.iter().all(|way| ran.err.contains(way));
        assert!(ran.code == Some(2) && said, "{ran:?}");
    }
}

#[test]
fn more_dead_letters_than_a_request_takes_are_all_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let answers = [
        json!({"dropped": 1000, "has_more": true, "next_since": "2026-01-31T10:00:00.000Z"}),
        json!({"dropped": 7, "has_more": false, "next_since": null}),
    ];
    let (url, asked) = says_in_turn(answers.iter().map(Value::to_string).collect());
    let words = ["dead-letters", "drop", "--endpoint", "ep_1", "--url", &url, "--key", "k"];
    let ran = run(dir.path(), &words);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "1007 dead letters dropped\n"), "{ran:?}");
    let [first, second] = [(); 2].map(|()| asked.recv().unwrap());
    assert!(first.contains("ep_1") && !first.contains("since"), "{first}");
    assert!(second.contains("\"since\":\"2026-01-31T10:00:00.000Z\""), "{second}");
    assert!(second.contains("\"until\":"), "letters of the meantime are left alone: {second}");
}

/// Starts a server that gives these answers in turn, and returns the requests.
fn says_in_turn(answers: Vec<String>) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for body in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            // The body is one JSON object, and the last part of the request.
            while !request.ends_with(b"}") {
                let mut bytes = [0; 4096];
                let length = stream.read(&mut bytes).unwrap();
                request.extend_from_slice(&bytes[..length]);
            }
            stream.write_all(answer("200 OK", &body).as_bytes()).unwrap();
            drop(sender.send(String::from_utf8(request).unwrap()));
        }
    });
    (url, asked)
}

#[test]
fn an_event_is_listed_shown_and_erased_and_its_delivery_shown_and_retried() {
    let world = World::new();
    let (endpoint, receiver) = dead_letters(&world, 1);
    let letter = &json_of(&world, &["deliveries", "--endpoint", &endpoint])["data"][0];
    let (id, event) = (letter["id"].as_str().unwrap(), letter["event_id"].as_str().unwrap());
    assert_eq!(count(&world, &["deliveries", "--event", event, "--state", "dead"]), 1);
    assert_eq!(count(&world, &["events", "--type", "a.*", "--type", "!a.c", "--since", "1h"]), 1);
    assert_eq!(count(&world, &["events", "--status", "acknowledged"]), 0);
    let shown = world.run(&["event", "show", event]).out;
    let row = shown.lines().last().unwrap();
    let is_payload = |line: &str| line.split_whitespace().eq(["payload", "0"]);
    assert!(shown.lines().any(is_payload) && row.contains(id), "{shown}");
    let shown = world.run(&["delivery", "show", id]).out;
    let row = shown.lines().last().unwrap();
    assert!(row.starts_with('1') && row.contains("  500  "), "{shown}");
    let is_reason = |line: &str| line.split_whitespace().eq(["reason", "attempts_exhausted"]);
    assert!(shown.lines().any(is_reason), "{shown}");
    let retried = world.run(&["delivery", "retry", id]);
    assert!(retried.code == Some(0) && retried.out.contains("the next attempt"), "{retried:?}");
    receiver.wait_for(2, PATIENCE);
    let erased = json_of(&world, &["event", "erase", event]);
    assert!(erased["erased_at"].is_string(), "{erased}");
    assert_eq!(json_of(&world, &["event", "show", event])["payload"], Value::Null);
    for words in [["events", "--status", "some"], ["deliveries", "--state", "some"]] {
        let ran = world.run(&words);
        assert!(ran.code == Some(2) && ran.err.contains("possible values"), "{ran:?}");
    }
    receiver.stop();
}

#[test]
fn an_endpoint_is_updated_by_the_options_that_are_given() {
    let world = World::new();
    let words =
        ["endpoint", "create", "http://127.0.0.1:1/", "--type", "a,b.*", "--header", "x-a=1"];
    let made =
        json_of(&world, &[&words[..], &["--timeout-ms", "5", "--metadata", "team=blue"]].concat());
    assert_eq!((&made["event_types"], &made["timeout_ms"]), (&json!(["a", "b.*"]), &json!(5)));
    let id = made["id"].as_str().unwrap();
    let update = |words: &[&str]| json_of(&world, &[&["endpoint", "update", id], words].concat());
    let changed =
        update(&["--description", "d", "--retry-schedule", "1,2", "--timeout-ms", "default"]);
    let members = ["description", "retry_schedule", "timeout_ms", "event_types", "metadata"];
    assert_eq!(
        members.map(|name| &changed[name]),
        [&json!("d"), &json!([1, 2]), &Value::Null, &json!(["a", "b.*"]), &json!({"team": "blue"})]
    );
    let changed = update(&["--type", "*", "--ordering", "strict"]);
    assert_eq!((&changed["event_types"], &changed["ordering"]), (&json!([]), &json!("strict")));
    let moved = world.run(&["endpoint", "update", id, "--target", "http://127.0.0.1:2/"]);
    assert!(moved.out.contains(":2/") && moved.out.contains("dropped headers"), "{moved:?}");
    assert!(moved.out.contains("x-a"), "{moved:?}");
    let nothing = world.run(&["endpoint", "update", id]);
    assert!(nothing.code == Some(2) && nothing.err.contains("no setting is given"), "{nothing:?}");
}

#[test]
fn a_key_is_created_by_a_key_listed_and_revoked() {
    let world = World::new();
    let create = ["key", "create", "--name", "ci", "--scope", "events:write,events:read"];
    let made = json_of(&world, &create);
    let (id, key) = (made["key_id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let shown = json_of(&world, &["key", "show", id]);
    assert_eq!((&shown["name"], shown["scopes"].as_array().unwrap().len()), (&json!("ci"), 2));
    assert_eq!(json_of(&world, &["key", "show"])["current"], json!(true));
    let whole = json_of(&world, &["key", "create"]);
    let all = json_of(&world, &["key", "show", whole["key_id"].as_str().unwrap()]);
    assert_eq!(all["scopes"].as_array().unwrap().len(), 11, "those of the calling key");
    let listed = world.run(&["key", "list"]).out;
    let current: Vec<_> = listed.lines().filter(|line| line.starts_with('*')).collect();
    assert!(current.len() == 1 && current[0].ends_with(" all"), "{listed}");
    assert!(!listed.contains(key), "{listed}");
    assert!(world.run(&["key", "show"]).out.contains("  all\n"), "the same word as in the list");
    let reader = json_of(&world, &["key", "create", "--scope", "read_only"]);
    let reader = json_of(&world, &["key", "show", reader["key_id"].as_str().unwrap()]);
    assert_eq!(reader["scopes"].as_array().unwrap().len(), 6, "those of the set");
    let revoked = world.run(&["key", "revoke", id]);
    assert_eq!((revoked.code, revoked.out), (Some(0), format!("{id} is revoked\n")));
    let gone = world.run(&["key", "show", id]);
    assert!(gone.code == Some(1) && gone.err.contains("no valid key"), "{gone:?}");
    let words = ["key", "revoke", whole["key_id"].as_str().unwrap(), "--as-admin"];
    let by_admin = Ran::of(world.admin(&words).output().unwrap());
    assert_eq!(by_admin.code, Some(0), "the admin token needs no key: {by_admin:?}");
    let unknown = world.run(&["key", "create", "--scope", "all"]);
    assert!(unknown.code == Some(2) && unknown.err.contains("possible values"), "{unknown:?}");
}
