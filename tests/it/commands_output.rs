//! Output of the commands: secrets that nobody saw, failed writes, and foreign text.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Standard outputs on which every write fails.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn left() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_key_that_nobody_saw_is_ended_again() {
    let world = World::new();
    let admin = world.server.admin();
    for (name, output, json) in
        [("Full", full(), true), ("Left", left(), true), ("Words", full(), false)]
    {
        let words = ["key", "create", "--org", name, "--json"];
        let mut command = world.admin(&words[..if json { 5 } else { 4 }]);
        let ran = Ran::of(command.stdout(output).output().unwrap());
        assert!(
            ran.code == Some(1)
                && ran.err.contains("standard output")
                && ran.err.contains("was revoked"),
            "{ran:?}"
        );
        let org = ran
            .err
            .split_whitespace()
            .find(|word| word.starts_with("org_"))
            .expect("the organization is named");
        let made = admin.post("/api/keys/generate", &json!({"organization": org}));
        assert_eq!(made.status, 201, "{made:?}");
        let keys = admin.with_key(made.json["key"].as_str().unwrap()).get("/api/keys").json;
        assert_eq!(keys["data"].as_array().unwrap().len(), 1, "the first one has ended: {keys}");
    }
    // With a closed standard output, nothing is created.
    let script = "exec \"$0\" \"$@\" >&-";
    let (url, file) = (world.server.url.as_str(), world.token_file());
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script])
        .arg(binary())
        .args(["key", "create", "--org", "Closed", "--url", url]);
    let ran = Ran::of(shell.args(["--admin-token-file", &file]).output().unwrap());
    assert!(ran.code == Some(1) && ran.err.contains("nothing was created"), "{ran:?}");
    assert_eq!(admin.post("/api/keys/generate", &json!({"organization": "Closed"})).status, 201);
}

#[test]
fn an_endpoint_whose_secret_nobody_saw_is_deleted_and_a_lost_secret_is_said() {
    let world = World::new();
    let (url, key, dir) = (world.server.url.as_str(), world.org.key.as_str(), world.empty());
    let with = |words: &[&str], output: Stdio| {
        let words = [words, &["--url", url, "--key", key]].concat();
        Ran::of(command(&dir, &words).stdout(output).output().unwrap())
    };
    for output in [full(), left()] {
        let ran = with(&["endpoint", "create", "http://127.0.0.1:1/"], output);
        assert!(
            ran.code == Some(1) && ran.err.contains("deleted again") && ran.err.contains("ep_"),
            "{ran:?}"
        );
    }
    assert_eq!(world.org.get("/api/endpoints").json["data"], json!([]));
    let id = world
        .org
        .post("/api/endpoints", &json!({"url": "http://127.0.0.1:1/", "enabled": false}))
        .id();
    let ran = with(&["endpoint", "rotate-secret", &id], full());
    let parts = [id.as_str(), "old secret also signs", "86400 seconds", "makes another secret"];
    assert!(ran.code == Some(1) && parts.iter().all(|part| ran.err.contains(part)), "{ran:?}");
}

/// Commands without arguments of the client, whose output goes to standard output.
const LOCAL_COMMANDS: [&[&str]; 3] = [&["check-config"], &["version"], &["--help"]];

/// Runs a command that cannot write. Returns its exit code and its errors.
fn run_on_a_full_disk(world: &World, words: &[&str]) -> (Option<i32>, String) {
    let mut command = command(&world.empty(), words);
    let mut child = command.stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut errors = String::new();
    if words[0] == "tail" {
        // The command has connected, and writes when something happens.
        std::io::BufRead::read_line(&mut stderr, &mut errors).unwrap();
        world.org.send("a.b", &json!("seen"));
    }
    stderr.read_to_string(&mut errors).unwrap();
    (child.wait().unwrap().code(), errors)
}

#[test]
fn what_cannot_be_written_is_an_error_and_a_reader_that_left_is_none() {
    let world = World::new();
    let [event, other] = [1, 2].map(|n| world.org.send("a.b", &json!(n)).id());
    let endpoint = world.org.endpoint(&json!({"url": "http://127.0.0.1:1/", "enabled": false}));
    let with = ["--url", &world.server.url, "--key", &world.org.key];
    let commands: [&[&str]; 11] = [
        &["inbox"],
        &["inbox", "--json"],
        &["explain", &event],
        &["explain", &event, "--json"],
        &["send", "a.b", "3"],
        &["ack", &event, &other],
        &["tail"],
        &["tail", "--json"],
        &["endpoint", "list"],
        &["endpoint", "stats", &endpoint],
        &["replay", "start", "--only", "all", "--no-wait"],
    ];
    let commands = commands.map(|words| [words, &with].concat());
    for words in commands.into_iter().chain(LOCAL_COMMANDS.map(<[_]>::to_vec)) {
        let (code, errors) = run_on_a_full_disk(&world, &words);
        assert_eq!(code, Some(1), "{words:?}: {errors}");
        assert!(errors.contains("No space left on device"), "{words:?}: {errors}");
    }
    let acknowledged = !world.org.inbox_ids().iter().any(|id| *id == event || *id == other);
    assert!(acknowledged, "both were acknowledged all the same");
    for words in
        [&["inbox"][..], &["explain", &event], &["ack", &event, &other], &["send", "a.b", "4"]]
    {
        let mut command = command(&world.empty(), &[words, &with].concat());
        let ran = Ran::of(command.stdout(left()).output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{words:?}");
    }
}

/// Text that moves the cursor, sets the title or hides characters where a terminal shows it raw.
pub(super) const EVIL: &str = "a\u{1b}[2J\u{1b}]0;title\u{7}b\u{9b}1mc\u{202e}d\u{2066}e\u{200b}f\u{e0041}\
    g\u{7f}h\u{2028}i";

pub(super) fn is_harmless(text: &str) -> bool {
    let is_hidden = |c| "\u{202e}\u{2066}\u{200b}\u{e0041}\u{2028}".contains(c);
    text.chars().all(|c| c == '\n' || !(c.is_control() || is_hidden(c)))
}

#[test]
fn text_of_others_is_made_visible_and_json_stays_the_same_json() {
    let world = World::new();
    // The text is raw where JSON allows this, and escaped elsewhere; line breaks are between the
    // tokens.
    let payload =
        format!("{{\r\n\t\"text\":\n{},\"x\u{202e}y\": \"\u{9b}\u{2066}\u{7f}\"\r}}", json!(EVIL));
    let sent =
        world.org.post_text("/api/events", &format!("{{\"type\":\"a.b\",\"payload\":{payload}}}"));
    assert_eq!(sent.status, 202, "{sent:?}");
    let ran = world.run(&["inbox"]);
    assert!(is_harmless(&ran.out) && ran.out.lines().count() == 2, "{ran:?}");
    let escaped = ["\\u202e", "\\u009b", "\\u007f"];
    assert!(escaped.iter().all(|text| ran.out.contains(text)), "{ran:?}");
    for words in [&["inbox", "--json"][..], &["explain", &sent.id(), "--json"]] {
        let ran = world.run(words);
        assert!(is_harmless(&ran.out) && ran.out.lines().count() == 1, "{ran:?}");
        let json = ran.json();
        let event = json.get("data").map_or(&json, |data| &data[0]);
        let own: Value = serde_json::from_str(&payload).unwrap();
        assert_eq!(event["payload"], own, "{ran:?}");
    }
    let note = EVIL.replace(char::is_control, "");
    let made =
        world.org.endpoint(&json!({"url": "http://127.0.0.1:1/", "metadata": {"note": note}}));
    for words in [
        &["endpoint", "list"][..],
        &["endpoint", "list", "--json"],
        &["endpoint", "show", &made, "--json"],
    ] {
        let ran = world.run(words);
        assert!(ran.code == Some(0) && is_harmless(&ran.out), "{ran:?}");
    }
}

#[test]
fn a_refusal_of_another_program_is_made_visible_too() {
    let world = World::new();
    let problem = json!({"code": "x\u{1b}[1m", "detail": "y\n\u{202e}z",
        "errors": [{"pointer": "\u{9b}", "detail": "\r"}, {}]});
    let (hostile, _asked) =
        says(answer("400 Bad\r\ncontent-type: application/problem+json", &problem.to_string()));
    let ran = run(&world.empty(), &["inbox", "--key", "k", "--url", &hostile]);
    assert!(ran.code == Some(1) && is_harmless(&ran.err), "{ran:?}");
    assert!(ran.err.contains("y\\n\\u202ez"), "{ran:?}");
}

#[test]
fn the_version_is_also_json() {
    let dir = tempfile::tempdir().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(run(dir.path(), &["version"]).out, format!("triggerd {version}\n"));
    let ran = run(dir.path(), &["version", "--json"]);
    assert_eq!((ran.code, ran.json()), (Some(0), json!({ "version": version })), "{ran:?}");
}

#[test]
fn a_file_that_is_no_text_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bytes");
    std::fs::write(&file, b"\xff\xfe").unwrap();
    let file = file.to_str().unwrap();
    for words in [
        &["check-config", "--config", file][..],
        &["key", "create", "--org", "A", "--url", "127.0.0.1:1", "--admin-token-file", file],
    ] {
        let ran = run(dir.path(), words);
        let said = [file, "it is not UTF-8 text; save it as UTF-8"];
        assert!(ran.code == Some(2) && said.iter().all(|part| ran.err.contains(part)), "{ran:?}");
    }
    let ran = run(dir.path(), &["check-config", "--config", dir.path().to_str().unwrap()]);
    assert!(ran.code == Some(2) && ran.err.contains("it is a directory"), "{ran:?}");
    assert!(!ran.err.contains("os error"), "{ran:?}");
    let ran = run(dir.path(), &["inbox", "--limit", "many"]);
    assert!(ran.code == Some(2) && ran.err.contains("a whole number is needed"), "{ran:?}");
}

/// Runs a command with a closed standard output.
fn closed(dir: &Path, words: &[&str]) -> Ran {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" >&-"]).arg(binary()).args(words).current_dir(dir);
    Ran::of(shell.output().unwrap())
}

#[test]
fn nothing_is_shown_on_a_closed_output_and_a_change_or_a_verdict_needs_none() {
    let world = World::new();
    let event = world.org.send("a.b", &json!(1)).id();
    let endpoint = world.org.endpoint(&json!({"url": "http://127.0.0.1:1/", "enabled": false}));
    let with = ["--url", &world.server.url, "--key", &world.org.key];
    let shows: [&[&str]; 13] = [
        &["inbox"],
        &["inbox", "--json"],
        &["inbox", "--jsonl"],
        &["events"],
        &["event", "show", &event],
        &["explain", &event],
        &["tail"],
        &["deliveries"],
        &["dead-letters", "list"],
        &["replay", "list"],
        &["key", "show"],
        &["endpoint", "show", &endpoint],
        &["endpoint", "stats", &endpoint],
    ];
    let local: [&[&str]; 6] = [
        &["--help"],
        &["--version"],
        &["completions", "bash"],
        &["man"],
        &["config", "init"],
        &["config", "reference"],
    ];
    let shows = shows.map(|words| [words, &with].concat());
    for words in shows.into_iter().chain(local.map(<[_]>::to_vec)) {
        let ran = closed(&world.empty(), &words);
        assert!(ran.code == Some(1) && ran.err.contains("is closed"), "{words:?}: {ran:?}");
    }
    let (url, file) = (world.server.url.as_str(), world.token_file());
    let ran = closed(&world.empty(), &["backup", "-", "--url", url, "--admin-token-file", &file]);
    let is_said = ran.err.contains("is closed") && !ran.err.contains("complete");
    assert!(ran.code == Some(1) && is_said, "{ran:?}");
    for words in [&["ack", &event][..], &["send", "a.b", "2"], &["status"]] {
        let ran = closed(
            &world.empty(),
            &[words, &with[..if words[0] == "status" { 2 } else { 4 }]].concat(),
        );
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{words:?}");
    }
}

/// Answers every request with this head and a body without an end. Counts the bytes that it wrote.
fn endless(head: &'static str) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let written = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&written);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            drop(stream.read(&mut [0; 16 << 10]));
            let mut piece = format!("HTTP/1.1 {head}\r\n\r\n{{\"data\":[").into_bytes();
            while stream.write_all(&piece).is_ok() {
                count.fetch_add(piece.len() as u64, Ordering::SeqCst);
                piece = vec![b' '; 64 << 10];
            }
        }
    });
    (url, written)
}

#[test]
fn an_answer_without_an_end_is_given_up_early() {
    let dir = tempfile::tempdir().unwrap();
    let (json, refusal) = ("200 OK\r\ncontent-type: application/json", "500 Oh");
    let commands: [&[&str]; 5] = [
        &["inbox"],
        &["events", "--jsonl"],
        &["send", "a.b", "1"],
        &["tail"],
        &["archive", "1h..", "."],
    ];
    for (head, mib, commands) in [(json, 48, &commands[..3]), (refusal, 16, &commands[..])] {
        for words in commands {
            let (url, written) = endless(head);
            let admin = ["--admin-token-file", "token"];
            std::fs::write(dir.path().join("token"), "trgadm_0123456789abcdef").unwrap();
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(dir.path().join("token"), permissions).unwrap();
            let with = if words[0] == "archive" { admin } else { ["--key", "k"] };
            let ran = run(dir.path(), &[words, &["--url", &url][..], &with].concat());
            let is_said = ran.err.contains("bytes") && ran.err.contains("the URL of triggerd");
            assert!(ran.code == Some(1) && is_said, "{words:?}: {ran:?}");
            let written = written.load(Ordering::SeqCst) >> 20;
            assert!(written < mib, "{words:?}: {written} MiB were read of {head}");
        }
    }
}

#[test]
fn a_key_in_a_file_that_may_not_grow_is_ended_again() {
    let world = World::new();
    let (url, file) = (world.server.url.as_str(), world.token_file());
    let output = world.empty().join("key.json");
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f 0; exec \"$0\" \"$@\""]).arg(binary());
    shell.args(["key", "create", "--org", "Limited", "--json", "--url", url]);
    shell.args(["--admin-token-file", &file]).stdout(File::create(&output).unwrap());
    let ran = Ran::of(shell.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap());
    assert!(ran.code == Some(1) && ran.err.contains("File too large"), "{ran:?}");
    assert!(ran.err.contains("was revoked"), "{ran:?}");
}

#[test]
fn a_full_disk_is_said_with_the_file_that_could_not_be_written() {
    let world = World::new();
    world.org.send("a.b", &json!("x".repeat(10_000)));
    let (url, file) = (world.server.url.as_str(), world.token_file());
    let with = ["--url", url, "--admin-token-file", &file];
    for (words, name) in [
        (&["backup", "b.tar.zst"][..], "b.tar.zst"),
        (&["archive", "1h..", "archives"], "archives/events-"),
    ] {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -f 0; exec \"$0\" \"$@\""]).arg(binary()).args(words).args(with);
        let ran = Ran::of(shell.current_dir(world.empty()).output().unwrap());
        let is_said = ran.err.contains(name) && ran.err.contains("File too large");
        assert!(ran.code == Some(1) && is_said, "{words:?}: {ran:?}");
    }
}
