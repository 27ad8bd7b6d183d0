//! A server under systemd: its messages, and its log for the journal.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::Start;
use crate::harness::{PATIENCE, settings};

/// Opens the socket for messages to systemd.
fn notify_socket(dir: &Path) -> (UnixDatagram, String) {
    let path = dir.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    (socket, path.display().to_string())
}

fn told(socket: &UnixDatagram, part: &str) -> String {
    let mut buffer = [0; 4_096];
    loop {
        let bytes = socket
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("systemd was never told {part}: {error}"));
        let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
        if text.contains(part) {
            return text;
        }
    }
}

#[test]
fn systemd_hears_of_a_reload_of_one_that_is_refused_and_of_a_start_that_takes_long() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (socket, path) = notify_socket(dir.path());
    let mut server = Start::on(&data).variable("NOTIFY_SOCKET", &path).ready();
    told(&socket, "READY=1");
    let config = settings(&data, "[tiers.pro]\nburst = 9\n");
    server.reload(&config, "the configuration has changed");
    let reloading = told(&socket, "RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    told(&socket, "READY=1");
    server.reload("[tiers]\nwrong = 1", "reload refused");
    told(&socket, "RELOADING=1");
    let refused = told(&socket, "READY=1");
    let status = refused.lines().find_map(|line| line.strip_prefix("STATUS=")).unwrap();
    assert!(status.contains("refused") && status.contains("tiers.wrong"), "{refused}");
    assert!(
        refused.lines().all(|line| line.contains('=')),
        "a line break ends a status: {refused}"
    );
    server.admin().new_org("Acme").send("a.b", &json!("x"));
    assert_eq!(server.stop().0, Some(0));
    told(&socket, "STOPPING=1");
    fs::remove_dir_all(data.join("sled")).unwrap();
    let server = Start::on(&data).variable("NOTIFY_SOCKET", &path).ready();
    let extended = told(&socket, "EXTEND_TIMEOUT_USEC=");
    assert!(
        extended.contains("STATUS=applying the journal to the state: ") && extended.contains('%'),
        "{extended}"
    );
    told(&socket, "READY=1");
    server.stop();
}

#[test]
fn lines_for_the_journal_begin_with_their_priority_and_nothing_of_a_library_is_among_them() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let log = data.with_extension("log");
    let facts = File::create(&log).unwrap().metadata().unwrap();
    let stream = format!("{}:{}", facts.dev(), facts.ino());
    let mut server = Start::on(&data).variable("JOURNAL_STREAM", &stream).spawn();
    let text = server.wait_for("triggerd is ready");
    assert!(text.lines().all(|line| line.starts_with("<6>{")), "{text}");
    assert!(!text.contains("actix"), "{text}");
    drop(server);
    let broken =
        Start::on(&data).config("[log]\nlevel = \"inof\"\n").variable("JOURNAL_STREAM", &stream);
    let (code, text) = broken.ended();
    assert_eq!(code, Some(2));
    let words = ["--no-such-option"];
    let usage = Start::on(&data).words(&words).variable("JOURNAL_STREAM", &stream).ended();
    assert!(usage.0 == Some(2) && usage.1.contains("--no-such-option"), "{usage:?}");
    assert!(usage.1.lines().all(|line| line.starts_with("<3>")), "{usage:?}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("<3>") && last.contains("did you mean info?"), "{last}");
    // On a terminal the log is text. The address is in use, so the server ends.
    let (terminal, config) = (dir.path().join("terminal"), data.with_extension("toml"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("{}\"\nbind_seconds = 0", taken.local_addr().unwrap());
    fs::write(&config, settings(&data, "").replace("127.0.0.1:0\"", &listen)).unwrap();
    let line = format!("{} serve --config {}", env!("CARGO_BIN_EXE_triggerd"), config.display());
    let script = Command::new("script")
        .args(["-qec", &line])
        .arg(&terminal)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    if script.is_ok() {
        let text = fs::read_to_string(&terminal).unwrap();
        assert!(text.contains("INFO triggerd::") && !text.contains("{\"timestamp\""), "{text}");
    }
    // Another file is not systemd's journal.
    let server = Start::on(&data).variable("JOURNAL_STREAM", "1:1").ready();
    assert!(server.text().lines().last().unwrap().starts_with('{'));
}
