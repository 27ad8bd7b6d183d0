//! Errors of libraries as users read them, with the real binary: in triggerd's words, with advice.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::harness::{Process, command};

/// Words of libraries that only programmers understand.
const FOREIGN: [&str; 8] = [
    "relative URL",
    "without a base",
    "at line",
    "EOF",
    "expected value",
    "expected ident",
    "os error",
    "invalid peer certificate",
];

fn is_ours(text: &str) -> bool {
    FOREIGN.iter().all(|words| !text.contains(words))
}

#[test]
fn what_a_library_refuses_in_a_command_is_said_in_our_words() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Acme");
    let with_key =
        |words: &[&'static str]| [words, &["--key", &org.key, "--url", &server.url]].concat();
    for (words, part) in [
        (
            &["endpoint", "create", "nonsense"][..],
            "the URL does not begin with a scheme, such as https://",
        ),
        (&["endpoint", "create", "https://"], "the host is missing"),
        (&["endpoint", "create", "https://example.com:99999/"], "the port must be a number"),
        (&["endpoint", "create", "http://010.8.8.8/"], "write 8.8.8.8 if this address is meant"),
        (&["send", "a.b", "nonsense"], "the payload is not JSON: there is no JSON value"),
        (&["send", "a.b", "{\"a\":"], "the text ends before the value does"),
    ] {
        let (code, said) = command(&data, &with_key(words));
        assert!(code != Some(0) && said.contains(part) && is_ours(&said), "{words:?}: {said}");
    }
    for (url, part) in [
        ("http://[::1", "not an IPv6 address"),
        ("https://127.0.0.1:1", "No server listens"),
        (&server.url.replace("http://", "https://"), "does not speak TLS"),
        ("http://010.0.0.1:80", "write 8.0.0.1 if this address is meant"),
        ("http://no-such-host.invalid", "the name of the host cannot be resolved"),
    ] {
        let (code, said) = command(&data, &["inbox", "--key", &org.key, "--url", url]);
        assert!(code != Some(0) && said.contains(part) && is_ours(&said), "{url}: {said}");
    }
}

#[test]
fn what_a_library_refuses_in_a_body_is_said_in_our_words() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let org = server.org("Acme");
    let json = [("Content-Type", "application/json")];
    for (body, part) in [
        ("", "the request has no body"),
        ("{\"type\":\n tru}", "line 2, column"),
        ("{", "ends before"),
    ] {
        let answer = org.request(Method::POST, "/api/events", &json, body);
        assert_eq!((answer.status, answer.code()), (400, "malformed_json"));
        assert!(answer.text.contains(part) && is_ours(&answer.text), "{body}: {answer:?}");
    }
    let gzip = [json[0], ("Content-Encoding", "gzip")];
    let answer = org.request(Method::POST, "/api/events", &gzip, "this is no gzip at all");
    assert!(
        answer.text.contains("header, the blocks or the checksum") && is_ours(&answer.text),
        "{answer:?}"
    );
}

#[test]
fn a_configuration_that_is_wrong_names_file_line_key_and_what_is_right_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let text = "[server]\nlisten = \"127.0.0.1:0\"\nfoo = 1\n[storage]\ndata_dir = \"~/x\"\n[log]\n\
                directory = \"$HOME/logs\"\n[egress]\nallow_networks = \
                [\"010.0.0.0/8\"]\n[tiers.gold]\nburst = 1\n";
    let file = data.with_extension("toml");
    std::fs::write(&file, text).unwrap();
    for words in [&["check-config"][..], &["serve"]] {
        let (code, said) = command(&data, words);
        assert_eq!(code, Some(2), "{said}");
        for (line, key, right) in [
            (3, "server.foo", "`triggerd config init` lists all of them"),
            (5, "storage.data_dir", "~ is not expanded"),
            (7, "log.directory", "$HOME is not expanded"),
            (9, "egress.allow_networks", "write 10.0.0.0/8"),
            (10, "tiers.gold", "[tiers.enterprise], [tiers.free] and [tiers.pro]"),
        ] {
            let place = format!("(set in {}, line {line})", file.display());
            let told = said.lines().find(|line| line.trim_start().starts_with(key));
            assert!(
                told.is_some_and(|told| told.contains(right) && told.ends_with(&place)),
                "{key}: {said}"
            );
        }
        assert!(!said.contains("did you mean"), "nothing is near: {said}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the file alone is there");
    std::fs::write(&file, "[server]\nlisten = 127.0.0.1:8080\n").unwrap();
    let (code, said) = command(&data, &["check-config"]);
    let place = format!("{} is not TOML: line 2, column", file.display());
    assert!(code == Some(2) && said.contains(&place), "{said}");
}

/// Settings that can be as configured, which is shown as null.
fn limits() -> Value {
    json!({"retry_schedule": [1, 2], "timeout_ms": 3, "max_in_flight": 4, "rate_per_second": 5})
}

/// Settings that are never shown as null.
fn others() -> Value {
    json!({"description": "d", "event_types": ["a.*"], "headers": {"x-team": "blue"},
        "body": "payload", "ordering": "strict", "metadata": {"k": "v"}})
}

fn names(members: &Value) -> Vec<String> {
    members.as_object().unwrap().keys().cloned().collect()
}

/// The same members, each of them null.
fn nulls(members: &Value) -> Value {
    names(members).into_iter().map(|name| (name, Value::Null)).collect::<Map<_, _>>().into()
}

/// The settings of an endpoint with this URL and these members.
fn settings(url: &str, members: [&Value; 2]) -> Value {
    let mut all = json!({ "url": url });
    for members in members {
        all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    }
    all
}

#[test]
fn null_in_a_new_endpoint_is_the_same_as_an_absent_member() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let org = server.org("Acme");
    let url = "https://example.com/b";
    let with_nothing = org.post("/api/endpoints", &json!({ "url": url }));
    let null = settings(url, [&nulls(&limits()), &nulls(&others())]);
    let with_nulls = org.post("/api/endpoints", &null);
    for name in names(&limits()).into_iter().chain(names(&others())) {
        assert_eq!(with_nulls.json[&name], with_nothing.json[&name], "{name}");
    }
}

#[test]
fn null_leaves_a_member_as_it_is_and_sets_what_is_shown_as_null_back_to_what_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let org = server.org("Acme");
    let (limits, others) = (limits(), others());
    let all = settings("https://example.com/a", [&limits, &others]);
    let path = format!("/api/endpoints/{}", org.post("/api/endpoints", &all).id());
    let before = org.get(&path).json;
    assert_eq!(org.patch(&path, &nulls(&others)).status, 200);
    for name in others.as_object().unwrap().keys() {
        assert_eq!(
            org.get(&path).json[name],
            before[name],
            "{name} is never shown as null, so null leaves it"
        );
    }
    for name in limits.as_object().unwrap().keys() {
        assert_eq!(org.get(&path).json[name], limits[name], "{name}");
        assert_eq!(org.patch(&path, &json!({ name: null })).status, 200);
        assert_eq!(org.get(&path).json[name], json!(null), "{name} is as configured");
        let back = org.get(&path).json;
        assert_eq!(org.patch(&path, &back).status, 200, "what is shown can be sent back");
        assert_eq!(org.get(&path).json[name], json!(null), "{name}");
    }
}
