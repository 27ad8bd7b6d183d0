//! Every command for a server in each form of output: text without a terminal, on a terminal with
//! and without colours, one JSON document, and JSON Lines. The table of commands is complete.

use std::collections::BTreeSet;

use triggerd::cli::demo::receiver::Receiver;

use super::contexts::STALE_KEY;
use super::output::{EVIL, is_harmless};
use super::*;
use crate::harness::until;

/// Commands of triggerd that are no clients of the API, or whose output has tests of its own.
const OTHER_COMMANDS: [&str; 18] = [
    "archive",
    "backup",
    "bench",
    "check-config",
    "completions",
    "config-init",
    "config-reference",
    "deliver-on",
    "demo",
    "drill",
    "man",
    "openapi",
    "rebuild",
    "restore",
    "serve",
    "tail",
    "verify",
    "version",
];

/// The arguments of a command, made anew for each run.
type Arguments = fn(&Scene) -> Vec<String>;

/// A command, its arguments, and the first heading of its table.
type Row = (&'static str, Arguments, Option<&'static str>);

const NONE: Arguments = |_| vec![];

const ROWS: [Row; 42] = [
    ("context add", |_| words(&["a", "--url", "h", "--key", STALE_KEY, "--replace"]), None),
    ("context list", NONE, Some("CURRENT")),
    ("context use", |_| words(&["a"]), None),
    ("context show", |_| words(&["a"]), None),
    ("context remove", |scene| vec![scene.context()], None),
    ("status", NONE, None),
    ("send", |_| words(&["a.b", "1"]), None),
    ("inbox", NONE, Some("RECEIVED")),
    ("ack", |scene| vec![scene.event(), scene.event()], None),
    ("events", NONE, Some("RECEIVED")),
    ("event list", NONE, Some("RECEIVED")),
    ("event show", |scene| vec![scene.given_up["event_id"].as_str().unwrap().into()], None),
    ("event erase", |scene| vec![scene.event()], None),
    ("explain", |scene| vec![scene.given_up["event_id"].as_str().unwrap().into()], None),
    ("endpoint create", |_| words(&["http://127.0.0.1:1/"]), None),
    ("endpoint list", NONE, Some("ID")),
    ("endpoint show", |scene| vec![scene.endpoint.clone()], None),
    ("endpoint update", |scene| vec![scene.endpoint.clone(), "--timeout-ms=9".into()], None),
    ("endpoint disable", |scene| vec![scene.fresh_endpoint()], None),
    ("endpoint enable", |scene| vec![scene.fresh_endpoint()], None),
    ("endpoint stats", |scene| vec![scene.endpoint.clone()], None),
    ("endpoint rotate-secret", |scene| vec![scene.fresh_endpoint()], None),
    ("endpoint delete", |scene| vec![scene.fresh_endpoint()], None),
    ("deliveries", NONE, Some("ID")),
    ("delivery list", NONE, Some("ID")),
    ("delivery show", |scene| vec![scene.given_up["id"].as_str().unwrap().into()], None),
    ("dead-letters list", NONE, Some("GIVEN UP")),
    ("dead-letters drop", |scene| words(&["--endpoint", &scene.fresh_endpoint()]), None),
    ("replay list", NONE, Some("STARTED")),
    ("replay show", |scene| vec![scene.replay.clone()], None),
    ("replay cancel", |scene| vec![scene.replay.clone()], None),
    ("key list", NONE, Some("CURRENT")),
    ("key show", NONE, None),
    ("whoami", NONE, None),
    ("audit", NONE, Some("WHEN")),
    ("org list", NONE, Some("ID")),
    ("org show", |scene| vec![scene.fresh_org()], None),
    ("org create", |scene| vec![scene.fresh_name()], None),
    ("org update", |scene| vec![scene.fresh_org(), "--tier=pro".into()], None),
    ("org suspend", |scene| vec![scene.fresh_org()], None),
    ("org resume", |scene| vec![scene.fresh_org()], None),
    ("org delete", |scene| vec![scene.fresh_org()], None),
];

/// Rows that change what the other rows show.
const LATER_ROWS: [Row; 7] = [
    ("endpoint test", |scene| vec![scene.endpoint.clone()], None),
    ("delivery retry", |scene| vec![scene.given_up["id"].as_str().unwrap().into()], None),
    ("dead-letters replay", |scene| words(&["--endpoint", &scene.endpoint]), None),
    ("replay start", |_| words(&["--only", "missing", "--type", "none.*"]), None),
    ("key create", |_| words(&["--name", "ci", "--scope", "events:write"]), None),
    ("key revoke", |scene| vec![scene.key()], None),
    ("key rotate", NONE, None),
];

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A server with one thing of each kind, whose texts are as hostile as the server lets them be.
struct Scene {
    world: World,
    endpoint: String,
    given_up: Value,
    replay: String,
    receiver: Receiver,
}

impl Scene {
    fn new() -> Self {
        let (world, receiver) = (World::new(), Receiver::start().unwrap());
        receiver.answer_next(std::iter::repeat_n(500, 1_000));
        let hidden = EVIL.replace(char::is_control, "");
        let settings = json!({
            "url": receiver.url(), "retry_schedule": [], "metadata": {"a": hidden},
            "event_types": ["hostile.*"],
        });
        let endpoint = world.org.endpoint(&settings);
        world.org.send("hostile.b", &json!({ "text": EVIL }));
        let given_up = until(|| {
            Some(world.org.get("/api/dead-letters").json["data"][0].clone())
                .filter(Value::is_object)
        });
        let replay = world.org.post("/api/replays", &json!({"only": "missing"})).id();
        Self { world, endpoint, given_up, replay, receiver }
    }

    fn event(&self) -> String {
        self.world.org.send("a.b", &json!(EVIL)).id()
    }

    fn fresh_endpoint(&self) -> String {
        let settings = json!({"url": "http://127.0.0.1:1/", "event_types": ["never"]});
        self.world.org.endpoint(&settings)
    }

    fn key(&self) -> String {
        let request = json!({"name": "old", "scopes": ["events:write"]});
        let made = self.world.org.post("/api/keys/generate", &request);
        made.json["key_id"].as_str().unwrap_or_else(|| panic!("{made:?}")).to_owned()
    }

    fn fresh_name(&self) -> String {
        format!("Acme {}", self.event())
    }

    fn fresh_org(&self) -> String {
        self.world.server.admin().post("/api/orgs", &json!({"name": self.fresh_name()})).id()
    }

    fn context(&self) -> String {
        let words = ["context", "add", "b", "--url", "h", "--replace"];
        assert_eq!(self.command(&words).output().unwrap().status.code(), Some(0));
        "b".to_owned()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = command(&self.world.empty(), words);
        command.env("HOME", self.world.dir.path());
        command
    }

    /// Makes the command of a row with the server and the key, if it takes them.
    fn words_of(&self, (name, arguments, _): Row, form: &[&str]) -> Vec<String> {
        let mut all: Vec<_> = name.split(' ').map(str::to_owned).collect();
        all.extend(arguments(self));
        all.extend(words(form));
        if !name.starts_with("context") {
            all.extend(words(&["--url", &self.world.server.url]));
        }
        if name.starts_with("org ") {
            all.extend(words(&["--admin-token-file", &self.world.token_file()]));
        } else if !name.starts_with("context") && name != "status" {
            all.extend(words(&["--key", &self.world.org.key]));
        }
        all
    }

    fn run(&self, row: Row, form: &[&str]) -> Ran {
        let words = self.words_of(row, form);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let ran = Ran::of(self.command(&words).output().unwrap());
        // The receiver refuses, so a test of the endpoint fails as it should.
        let code = i32::from(row.0 == "endpoint test");
        assert_eq!((ran.code, ran.err.as_str()), (Some(code), ""), "{words:?}: {ran:?}");
        assert!(is_harmless(&ran.out), "{words:?}: {ran:?}");
        ran
    }
}

#[test]
fn every_command_prints_text_one_document_or_lines() {
    let scene = Scene::new();
    for row in ROWS.into_iter().chain(LATER_ROWS) {
        let (name, _, heading) = row;
        let text = scene.run(row, &[]);
        assert!(serde_json::from_str::<Value>(&text.out).is_err(), "{name}: {text:?}");
        let document = scene.run(row, &["--json"]);
        assert_eq!(document.out.lines().count(), 1, "{name}: {document:?}");
        let document = document.json();
        let lines = scene.run(row, &["--jsonl"]).out;
        let lines: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).expect(name)).collect();
        assert!(lines.iter().all(Value::is_object), "{name}: {lines:?}");
        if let Some(heading) = heading {
            assert!(text.out.starts_with(&format!("{heading} ")), "{name}: {text:?}");
            let items = document["data"].as_array().expect(name);
            assert_eq!((items.len(), lines.len()), (text.out.lines().count() - 1, items.len()));
            assert!(!items.is_empty(), "{name} shows nothing: {document}");
        } else if document.get("data").is_none() {
            assert_eq!(lines.len(), 1, "{name}: {lines:?}");
        }
    }
    scene.receiver.stop();
}

#[test]
fn the_table_has_every_command() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(dir.path(), &["man", "pages"]).code, Some(0));
    let pages = std::fs::read_dir(dir.path().join("pages")).unwrap();
    let pages: BTreeSet<_> = pages
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| Some(name.strip_prefix("triggerd-")?.strip_suffix(".1")?.to_owned()))
        .collect();
    let known: BTreeSet<_> = ROWS
        .iter()
        .chain(&LATER_ROWS)
        .map(|(name, ..)| name.replace(' ', "-"))
        .chain(OTHER_COMMANDS.map(str::to_owned))
        .collect();
    let has_below = |page: &str| known.iter().any(|name| name.starts_with(&format!("{page}-")));
    let missing: Vec<_> =
        pages.iter().filter(|page| !known.contains(*page) && !has_below(page)).collect();
    assert!(missing.is_empty(), "the tables of this file lack {missing:?}");
    let gone: Vec<_> = known.difference(&pages).collect();
    assert!(gone.is_empty(), "there is no command {gone:?}");
}

/// Runs a command on a terminal, with what a person types there. Returns the exit code, and the
/// output with the errors.
fn on_terminal(
    scene: &Scene,
    variables: &[(&str, &str)],
    words: &[String],
    typed: &str,
) -> (Option<i32>, String) {
    let quoted = |word: &str| format!("'{}'", word.replace('\'', "'\\''"));
    let line: Vec<_> =
        [binary().display().to_string()].iter().chain(words).map(|w| quoted(w)).collect();
    let mut command = Command::new("script");
    command.args(["-qec", &line.join(" "), "/dev/null"]).current_dir(scene.world.empty());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "xterm");
    command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("`script` of util-linux runs");
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    (ran.code, ran.out)
}

/// The output without the sequences for colours.
fn without_colours(text: &str) -> String {
    let colours = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m"];
    colours.iter().fold(text.replace('\r', ""), |text, colour| text.replace(colour, ""))
}

#[test]
fn a_terminal_gets_colours_unless_it_has_none_or_nobody_wants_them() {
    let scene = Scene::new();
    scene.context();
    for row in ROWS.into_iter().filter(|(_, _, heading)| heading.is_some()) {
        let (name, ..) = row;
        let plain = scene.run(row, &[]).out;
        assert!(!plain.contains('\u{1b}'), "{name}: {plain}");
        let words = scene.words_of(row, &[]);
        let (code, coloured) = on_terminal(&scene, &[("HOME", scene.home())], &words, "");
        assert_eq!(code, Some(0), "{coloured}");
        assert!(coloured.contains("\u{1b}[1m"), "{name}: {coloured:?}");
        assert!(is_harmless(&without_colours(&coloured)), "{name}: {coloured:?}");
        for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let variables = [("HOME", scene.home()), variable];
            let (_, text) = on_terminal(&scene, &variables, &words, "");
            assert!(!text.contains('\u{1b}'), "{name} {variable:?}: {text:?}");
        }
        let words = scene.words_of(row, &["--json"]);
        let (_, text) = on_terminal(&scene, &[("HOME", scene.home())], &words, "");
        assert!(!text.contains('\u{1b}'), "{name}: {text:?}");
    }
    let (_, states) =
        on_terminal(&scene, &[], &scene.words_of(("deliveries", NONE, None), &[]), "");
    assert!(states.contains("\u{1b}[31mdead\u{1b}[0m"), "{states:?}");
    scene.receiver.stop();
}

impl Scene {
    fn home(&self) -> &str {
        self.world.dir.path().to_str().unwrap()
    }
}

#[test]
fn a_column_begins_at_the_same_place_in_each_line_also_behind_wide_characters() {
    let item = |name: &str| json!({"id": "key_1", "name": name, "scopes": ["a", "b"]});
    let page = json!({"data": [item("漢字"), item("e\u{301}"), item(EVIL)], "has_more": false});
    let (url, _asked) = says(answer("200 OK", &page.to_string()));
    let dir = tempfile::tempdir().unwrap();
    let ran = run(dir.path(), &["key", "list", "--url", &url, "--key", "k"]);
    assert!(ran.code == Some(0) && is_harmless(&ran.out), "{ran:?}");
    let lines: Vec<_> = ran.out.lines().collect();
    let before = |line: &str, what: &str| line[..line.find(what).unwrap()].to_owned();
    let width = before(lines[0], "CREATED").len();
    // Two columns for each of the two characters, and none for the accent.
    assert_eq!(before(lines[1], "- ").chars().count() + 2, width, "{ran:?}");
    assert_eq!(before(lines[2], "- ").chars().count() - 1, width, "{ran:?}");
    assert!(lines.iter().all(|line| !line.ends_with(' ')), "{ran:?}");
}

#[test]
fn a_list_has_all_pages_up_to_its_limit_and_says_on_a_terminal_that_there_is_more() {
    let scene = Scene::new();
    let events: Vec<_> = (0..600).map(|n| json!({"type": "many", "payload": n})).collect();
    for _ in 0..2 {
        let sent = scene.world.org.post("/api/events/batch", &json!({ "events": events }));
        assert_eq!(sent.status, 200, "{sent:?}");
    }
    let ids = |ran: &Ran| -> Vec<String> {
        let lines = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["id"].as_str().unwrap().to_owned()).collect()
    };
    let row: Row = ("events", |_| words(&["--type", "many", "--limit", "1150"]), None);
    let lines = ids(&scene.run(row, &["--jsonl"]));
    assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), 1_150, "no event twice");
    let document = scene.run(row, &["--json"]).json();
    let of_document = document["data"].as_array().unwrap().iter();
    let of_document: Vec<_> = of_document.map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!(of_document, lines);
    assert_eq!(document["has_more"], json!(true));
    let whole: Row = ("events", |_| words(&["--type", "many", "--limit", "1300"]), None);
    let document = scene.run(whole, &["--json"]).json();
    assert_eq!(document["data"].as_array().unwrap().len(), 1_200);
    assert!(document["has_more"] == json!(false) && document["next_cursor"].is_string());
    for (row, more) in [(row, true), (whole, false)] {
        let (_, shown) = on_terminal(&scene, &[], &scene.words_of(row, &[]), "");
        assert_eq!(shown.contains("a larger --limit shows more"), more, "{shown}");
    }
    for bad in ["0", "-1", "all"] {
        let ran = scene.world.run(&["events", "--limit", bad]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
    }
    scene.receiver.stop();
}

#[test]
fn a_list_of_another_program_that_never_ends_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut head, mut pages) = (vec![0; 16 << 10], 0);
        while stream.read(&mut head).unwrap_or(0) > 0 {
            pages += 1;
            let page = json!({"data": [], "has_more": true, "next_cursor": pages.to_string()});
            let page = page.to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", page.len());
            stream.write_all((head + &page).as_bytes()).unwrap();
        }
        pages
    });
    let dir = tempfile::tempdir().unwrap();
    let ran = run(dir.path(), &["events", "--url", &url, "--key", "k"]);
    assert!(ran.code == Some(1) && ran.err.contains("page after page"), "{ran:?}");
    assert_eq!(served.join().unwrap(), 10_001);
}

#[test]
fn what_cannot_be_undone_is_asked_on_a_terminal_only() {
    let scene = Scene::new();
    let there = |id: &str| scene.world.org.get(&format!("/api/endpoints/{id}")).status == 200;
    let delete: Row = ("endpoint delete", |_| vec![], None);
    for (typed, more, is_deleted) in
        [("n\n", "", false), ("\n", "", false), ("y\n", "", true), ("", "--yes", true)]
    {
        let id = scene.fresh_endpoint();
        let form: &[&str] = if more.is_empty() { &[&id] } else { &[&id, more] };
        let (code, shown) = on_terminal(&scene, &[], &scene.words_of(delete, form), typed);
        assert_eq!(there(&id), !is_deleted, "{typed:?}: {shown}");
        assert_eq!(code, Some(i32::from(!is_deleted)), "{typed:?}: {shown}");
        assert_eq!(shown.contains("[y/N]"), more.is_empty(), "{shown}");
        assert_eq!(shown.contains("nothing was changed"), !is_deleted, "{shown}");
    }
    scene.receiver.stop();
}
