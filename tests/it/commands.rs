//! The commands for a server, from the user's view: without a configuration, as another user, with
//! answers of other programs, outputs that cannot be written, hostile text, and payloads that few
//! programs can hold.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::harness::{Client, Process, binary};

#[path = "commands_changes.rs"]
mod changes;
#[path = "commands_contexts.rs"]
mod contexts;
#[path = "commands_forms.rs"]
mod forms;
#[path = "commands_keys.rs"]
mod keys;
#[path = "commands_output.rs"]
mod output;

/// The result of a command: exit code and outputs.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A command in a directory and an environment without anything of triggerd.
fn command(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(words).current_dir(dir).env_clear().stdin(Stdio::null());
    command
}

fn run(dir: &Path, words: &[&str]) -> Ran {
    Ran::of(command(dir, words).output().unwrap())
}

fn run_with(dir: &Path, variables: &[(&str, &str)], words: &[&str]) -> Ran {
    Ran::of(command(dir, words).envs(variables.iter().copied()).output().unwrap())
}

/// A server, one of its organizations, and an empty directory.
struct World {
    server: Process,
    org: Client,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        let server = Process::start(&dir.path().join("data"));
        let org = server.org("Acme");
        Self { server, org, dir }
    }

    fn empty(&self) -> PathBuf {
        self.dir.path().join("empty")
    }

    fn token_file(&self) -> String {
        self.server.data_dir.join("admin.token").display().to_string()
    }

    /// Runs a command with address and key.
    fn run(&self, words: &[&str]) -> Ran {
        run(&self.empty(), &[words, &["--url", &self.server.url, "--key", &self.org.key]].concat())
    }

    /// Makes a command with address and admin token.
    fn admin(&self, words: &[&str]) -> Command {
        let file = self.token_file();
        command(
            &self.empty(),
            &[words, &["--url", &self.server.url, "--admin-token-file", &file]].concat(),
        )
    }
}

/// Starts a server that gives this answer to every request, and returns the requests.
fn says(answer: impl Into<Vec<u8>>) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, answer) = (format!("http://{}", listener.local_addr().unwrap()), answer.into());
    let (sender, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = vec![0; 16 << 10];
            let len = stream.read(&mut head).unwrap_or(0);
            drop(stream.write_all(&answer));
            if sender.send(String::from_utf8_lossy(&head[..len]).into_owned()).is_err() {
                return;
            }
        }
    });
    (url, asked)
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[test]
fn a_client_command_needs_no_configuration() {
    let world = World::new();
    let (url, key, dir) = (world.server.url.as_str(), world.org.key.as_str(), world.empty());
    let bare = url.strip_prefix("http://").unwrap();
    for (url, more) in [(url, ""), (bare, ""), (url, "/"), (bare, "/")] {
        let ran = run(&dir, &["inbox", "--url", &format!("{url}{more}"), "--key", key]);
        assert!(ran.code == Some(0) && ran.out == "The inbox is empty.\n", "{url}{more}: {ran:?}");
    }
    // Options count before the environment, and the environment before the configuration. A source
    // that is not needed is not read, even if it is invalid.
    let by_variables = [("TRIGGERD_URL", bare), ("TRIGGERD_API_KEY", key)];
    assert_eq!(run_with(&dir, &by_variables, &["inbox"]).code, Some(0));
    let wrong = [("TRIGGERD_URL", "localhost:1"), ("TRIGGERD_API_KEY", "wrong")];
    assert_eq!(run_with(&dir, &wrong, &["inbox", "--url", url, "--key", key]).code, Some(0));
    let file = dir.join("config/triggerd.toml");
    std::fs::create_dir(dir.join("config")).unwrap();
    std::fs::write(&file, "this is [ no TOML").unwrap();
    assert_eq!(run_with(&dir, &by_variables, &["inbox"]).code, Some(0));
    let ran = run(&dir, &["inbox", "--key", key]);
    assert!(
        ran.code == Some(2) && ran.err.contains("is not TOML") && ran.err.contains("--url"),
        "{ran:?}"
    );
    std::fs::write(&file, format!("[server]\nlisten = \"{bare}\"\n")).unwrap();
    let ran = run(&dir, &["inbox", "--key", key]);
    assert_eq!(ran.code, Some(0), "it says where the server listens: {ran:?}");
    assert!(run(&dir, &["--help"]).out.contains("TRIGGERD_URL"), "the order is written down");
}

#[test]
fn a_named_configuration_must_be_valid_and_an_unreadable_default_one_is_skipped_by_clients() {
    let world = World::new();
    let (url, key, dir) = (world.server.url.as_str(), world.org.key.as_str(), world.empty());
    let by_variables = [("TRIGGERD_URL", url), ("TRIGGERD_API_KEY", key)];
    let named = dir.join("mine.toml");
    let words = ["inbox", "--config", named.to_str().unwrap()];
    assert_eq!(run_with(&dir, &by_variables, &words).code, Some(2), "not there");
    std::fs::write(&named, "[server]\nlisten = 7\n").unwrap();
    assert_eq!(run_with(&dir, &by_variables, &words).code, Some(2), "wrong");
    std::fs::create_dir_all(dir.join("config/triggerd.toml")).unwrap();
    let ran = run(&dir, &["inbox", "--key", key]);
    let said = ["it is a directory", "127.0.0.1:8080"].map(|part| ran.err.contains(part));
    assert!(ran.code != Some(2) && said == [true; 2], "{ran:?}");
    for server_command in ["check-config", "verify", "rebuild", "serve"] {
        let ran = run(&dir, &[server_command]);
        let is_named = ran.err.contains("config/triggerd.toml");
        assert!(ran.code == Some(2) && is_named, "{server_command}: {ran:?}");
    }
}

#[test]
fn config_init_prints_every_key_or_writes_a_file_that_was_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let printed = run(dir.path(), &["config", "init"]);
    assert_eq!((printed.code, printed.err.as_str()), (Some(0), ""));
    assert!(
        printed.out == include_str!("../../config/triggerd.toml"),
        "config/triggerd.toml is not what `config init` prints"
    );
    let file = dir.path().join("mine.toml");
    let words = ["config", "init", file.to_str().unwrap()];
    assert_eq!(run(dir.path(), &words).code, Some(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), printed.out);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "others cannot read the admin token that it may come to hold");
    let checked = run(dir.path(), &["check-config", "--config", file.to_str().unwrap()]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    // A file that is there stays as it is.
    std::fs::write(&file, "# mine\n").unwrap();
    let refused = run(dir.path(), &words);
    assert!(refused.code == Some(2) && refused.err.contains("exists already"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "# mine\n");
    let nowhere = dir.path().join("nowhere/mine.toml");
    let failed = run(dir.path(), &["config", "init", nowhere.to_str().unwrap()]);
    assert!(failed.code == Some(1) && failed.err.contains("cannot be written"), "{failed:?}");
    // A wrong configuration in a default place does not matter.
    std::fs::create_dir(dir.path().join("config")).unwrap();
    std::fs::write(dir.path().join("config/triggerd.toml"), "foo = 1").unwrap();
    assert_eq!(run(dir.path(), &["config", "reference"]).code, Some(0));
}

#[test]
fn a_prefix_is_kept_and_a_bad_address_is_refused_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (url, asked) =
        says(answer("200 OK\r\ncontent-type: application/json", r#"{"data":[],"has_more":false}"#));
    let bare = url.strip_prefix("http://").unwrap();
    for prefixed in [format!("{url}/a/b/"), format!("{bare}/a/b")] {
        let ran = run(dir.path(), &["inbox", "--key", "k", "--url", &prefixed]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(asked.recv().unwrap().starts_with("GET /a/b/api/inbox?"));
    }
    for (bad, why) in [
        ("ftp://h", "neither http nor https"),
        ("h:0", "port"),
        ("http://h/?q", "query"),
        ("", "host"),
    ] {
        let ran = run(dir.path(), &["inbox", "--key", "k", "--url", bad]);
        assert!(
            ran.code == Some(2) && ran.err.contains(why) && ran.err.contains("--url"),
            "{bad}: {ran:?}"
        );
    }
    for (variables, what) in
        [(vec![], "no API key"), (vec![("TRIGGERD_API_KEY", "k\u{e9}")], "TRIGGERD_API_KEY")]
    {
        let ran = run_with(dir.path(), &variables, &["inbox", "--url", &url]);
        assert!(ran.code == Some(2) && ran.err.contains(what), "{ran:?}");
    }
}

const NO_TRIGGERD: &str = "not an answer of triggerd";

/// A program that is not triggerd: the head of its answers, their body, and parts of the error.
type Other = (&'static str, &'static str, &'static [&'static str]);

const OTHERS: [Other; 5] = [
    (
        "502 Bad Gateway\r\ncontent-type: text/html",
        "<html><h1>502 Bad\u{1b}[2J Gateway</h1></html>",
        &["502", "text/html", NO_TRIGGERD, "502 Bad\\u001b[2J Gateway", "proxy"],
    ),
    (
        "200 OK\r\ncontent-type: text/html",
        "<html>Welcome</html>",
        &["200", "text/html", NO_TRIGGERD, "the URL of triggerd"],
    ),
    (
        "200 OK\r\ncontent-type: application/json",
        "{\"status\":\"up\"}",
        &["200", "application/json", NO_TRIGGERD, "the URL of triggerd"],
    ),
    (
        "429 Too Many Requests\r\ncontent-type: text/html",
        "<html><h1>502 Bad\u{1b}[2J Gateway</h1></html>",
        &["429", NO_TRIGGERD, "limit the rate"],
    ),
    (
        "401 Unauthorized\r\nwww-authenticate: Basic realm=x",
        "",
        &["401", "https://user:password@host"],
    ),
];

/// Commands for a server, each of which fails alike.
const CLIENT_COMMANDS: [&[&str]; 22] = [
    &["inbox"],
    &["tail"],
    &["endpoint", "list"],
    &["endpoint", "show", "ep_1"],
    &["endpoint", "delete", "ep_1"],
    &["endpoint", "test", "ep_1"],
    &["endpoint", "update", "ep_1", "--timeout-ms", "1"],
    &["replay", "list"],
    &["events"],
    &["event", "show", "evt_1"],
    &["event", "erase", "evt_1"],
    &["deliveries"],
    &["delivery", "show", "dlv_1"],
    &["delivery", "retry", "dlv_1"],
    &["dead-letters", "list"],
    &["dead-letters", "replay", "--all"],
    &["dead-letters", "drop", "dlv_1"],
    &["key", "list"],
    &["key", "revoke", "key_1"],
    &["send", "a", "1"],
    &["ack", "evt_01m8ecr7hzekcv2mzb94ek0000"],
    &["explain", "evt_01m8ecr7hzekcv2mzb94ek0000"],
];

/// Asserts that each command names the error in these words, and shows no key.
fn assert_all_say(world: &World, url: &str, parts: &[&str]) {
    let key = world.org.key.as_str();
    for words in CLIENT_COMMANDS {
        let ran = run(&world.empty(), &[words, &["--key", key, "--url", url]].concat());
        let all = parts.iter().all(|part| ran.err.contains(part));
        let is_error = ran.code == Some(1) && all && ran.out.is_empty();
        assert!(is_error, "{words:?} {url} {parts:?}: {ran:?}");
        assert!(!ran.err.contains('\u{1b}') && !ran.err.contains(key), "{ran:?}");
    }
}

#[test]
fn an_error_says_what_is_wrong_and_where_and_what_to_do() {
    let world = World::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_all_say(&world, &closed, &["Connection refused", "No server listens", "--url"]);
    let nowhere = ["no-such-host.invalid", "cannot be resolved"];
    assert_all_say(&world, "no-such-host.invalid:80", &nowhere);
    let below = format!("{}/api", world.server.url);
    assert_all_say(&world, &below, &["no route with this path", "the URL of triggerd"]);
    let tls = world.server.url.replace("http://", "https://");
    assert_all_say(&world, &tls, &["does not speak TLS", "http://"]);
}

#[test]
fn an_answer_of_another_program_is_said_to_be_one() {
    let world = World::new();
    for (head, body, parts) in OTHERS {
        let (url, _asked) = says(answer(head, body));
        assert_all_say(&world, &url, parts);
    }
    let (garbage, _asked) = says("SSH-2.0-OpenSSH_9.2\r\n");
    assert_all_say(&world, &garbage, &["no answer", "HTTP"]);
}

#[test]
fn a_key_does_not_follow_a_redirection() {
    let world = World::new();
    let (elsewhere, asked) = says(answer("200 OK", "{}"));
    let head = format!("308 Permanent Redirect\r\nlocation: {elsewhere}/api/inbox");
    let (moved, _asked) = says(answer(&head, ""));
    assert_all_say(&world, &moved, &["308", &elsewhere, "not followed"]);
    assert!(asked.try_recv().is_err(), "the key went to where it was redirected");
}

#[test]
fn a_key_that_is_not_accepted_is_named_by_its_source() {
    let world = World::new();
    let wrong = run_with(
        &world.empty(),
        &[("TRIGGERD_API_KEY", "trg_live_x")],
        &["inbox", "--url", &world.server.url],
    );
    let parts =
        ["does not accept the key from TRIGGERD_API_KEY", "unauthorized", &world.server.url];
    assert!(wrong.err.contains("Check the key") && !wrong.err.contains("X-API-Key"), "{wrong:?}");
    assert!(
        wrong.code == Some(1) && parts.iter().all(|part| wrong.err.contains(part)),
        "{wrong:?}"
    );
}

/// A proxy that speaks HTTP/1.0 to the server (nginx's default) passes the length on.
#[test]
fn a_request_without_a_body_says_that_it_has_none() {
    let (dir, (url, asked)) = (tempfile::tempdir().unwrap(), says(answer("200 OK", "{}")));
    run(dir.path(), &["ack", "evt_1", "--key", "k", "--url", &url]);
    let head = asked.recv().unwrap().to_ascii_lowercase();
    assert!(
        head.starts_with("post /api/ack/evt_1 ") && head.contains("\r\ncontent-length: 0\r\n"),
        "{head}"
    );
}

#[test]
fn an_event_that_is_not_acknowledged_is_named_and_so_are_those_behind_it() {
    let world = World::new();
    let [first, last] = [1, 2].map(|n| world.org.send("a.b", &json!(n)).id());
    let ran = world.run(&["ack", &first, "evt_01m8ecr7hzekcv2mzb94ek0000", &last]);
    let parts = [
        "evt_01m8ecr7hzekcv2mzb94ek0000 was not acknowledged",
        "not_found",
        "The event after it was not tried",
    ];
    assert!(ran.code == Some(1) && parts.iter().all(|part| ran.err.contains(part)), "{ran:?}");
    assert!(ran.out.starts_with(&first) && world.org.inbox().len() == 1, "{ran:?}");
}

/// Asserts that each command shows the payload as it was sent, or says the essentials of its event.
fn assert_is_understood(world: &World, payload: &str) {
    let run = |words: &[&str], parts: &[&str]| {
        let ran = world.run(words);
        let all = parts.iter().all(|part| ran.out.contains(part));
        assert!(ran.code == Some(0) && all, "{payload}: {ran:?}");
        ran
    };
    let id =
        run(&["send", "a.b", payload, "--json"], &[]).json()["id"].as_str().unwrap().to_owned();
    run(&["inbox", "--limit", "500"], &[payload, &id]);
    run(&["inbox", "--json"], &[payload]);
    run(&["explain", &id], &["has the type a.b", "is in the inbox", "127.0.0.1:1"]);
    run(&["explain", &id, "--json"], &[payload]);
    run(&["ack", &id], &["acknowledged"]);
}

#[test]
fn each_payload_that_the_server_took_is_understood_by_each_command() {
    let world = World::new();
    world.org.push_to("http://127.0.0.1:1/");
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(128), close.repeat(128));
    for payload in [
        "1e400",
        "-123456789.5E+99999",
        "123456789012345678901234567890",
        "{\"n\":18446744073709551616,\"f\":0.1000000000000000000000000001,\"e\":1e-400}",
        "\"\\ud800\"",
        "{\"\\udfff\":[\"\\udc00\\ud83d\",\"\\ud83d\\ude00\"]}",
        &deep("[", "]"),
        &deep("{\"a\":", "}"),
    ] {
        assert_is_understood(&world, payload);
    }
}

#[test]
fn a_payload_can_be_a_number_below_zero_or_come_from_standard_input() {
    let world = World::new();
    for words in [
        ["send", "a.b", "-5", "--json"],
        ["send", "--json", "a.b", "-5"],
        ["send", "a.b", "--json", "-5"],
    ] {
        let ran = world.run(&words);
        assert!(ran.code == Some(0) && ran.json()["status"] == "accepted", "{words:?}: {ran:?}");
    }
    let words = ["send", "a.b", "-", "--url", &world.server.url, "--key", &world.org.key];
    let mut from_stdin = command(&world.empty(), &words);
    from_stdin.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = from_stdin.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"[1e400, \"\\ud800\"]\n").unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn a_duration_back_from_now_is_a_time() {
    let world = World::new();
    let id = world.org.send("a.b", &json!(1)).id();
    world.org.push_to("http://127.0.0.1:1/");
    let listed = |path: &str| {
        let page = world.org.get(path);
        assert_eq!(page.status, 200, "{path}: {page:?}");
        page.json["data"].as_array().unwrap().iter().any(|event| event["id"] == json!(id))
    };
    for path in ["/api/events?since=1h", "/api/events?since=1d12h&until=0s", "/api/inbox?since=90m"]
    {
        assert!(listed(path), "{path}");
    }
    assert!(!listed("/api/events?until=1h") && !listed("/api/inbox?since=0s"));
    for path in ["/api/deliveries?since=2w&until=1s", "/api/dead-letters?since=1h30m"] {
        assert_eq!(world.org.get(path).status, 200, "{path}");
    }
    let filter = json!({"since": "1h", "until": "1s"});
    assert_eq!(world.org.post("/api/dead-letters/replay", &filter).status, 200);
    let ran = world
        .run(&["replay", "start", "--only", "all", "--since", "1h", "--until", "0s", "--json"]);
    assert!(ran.code == Some(0) && ran.json()["state"] == "finished", "{ran:?}");
}

#[test]
fn a_duration_that_is_none_is_refused_with_an_example() {
    let world = World::new();
    for bad in ["1", "h", "1y", "1.5h", "1m1h", "-1h", "1%20h"] {
        let refused = world.org.get(&format!("/api/events?since={bad}"));
        let said = ["?since", "1d12h"].map(|part| refused.text.contains(part));
        assert_eq!((refused.status, said), (400, [true; 2]), "{refused:?}");
    }
    assert!(world.org.get("/api/events?since=1h&until=2h").text.contains("later than since"));
    let own_time = json!({"type": "a", "payload": 1, "occurred_at": "1h"});
    let not_back = world.org.post("/api/events", &own_time);
    assert_eq!(not_back.status, 422, "an event's own time is no filter");
    let ran = world.run(&["replay", "start", "--only", "all", "--since", "soon"]);
    let said = ["--since: must be", "duration back from now"].map(|part| ran.err.contains(part));
    assert_eq!((ran.code, said), (Some(1), [true; 2]), "{ran:?}");
    let several = world.run(&["deliveries", "--since", "soon", "--endpoint", "here"]);
    let said = ["\n  --since: must be", "\n  --endpoint: "].map(|part| several.err.contains(part));
    assert_eq!((several.code, said), (Some(1), [true; 2]), "{several:?}");
    for ran in [ran, several] {
        assert!(!["?since", "/since", "%2B"].iter().any(|part| ran.err.contains(part)), "{ran:?}");
    }
}
