//! An operator's situations: a reload, a lost key, an address in use, a copy beside the original,
//! files of another user, systemd. The real binary logs to a file, as a service logs to systemd's
//! journal.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};
use triggerd::cli::demo::receiver::Receiver;

use crate::harness::{Client, PATIENCE, assert_has, settings, until};

#[path = "operator_log.rs"]
mod log_lines;
#[path = "operator_refusals.rs"]
mod refusals;
#[path = "operator_reload.rs"]
mod reload;
#[path = "operator_systemd.rs"]
mod systemd;

/// A user other than root.
const NOBODY: u32 = 65_534;

/// A server that writes its output to a file.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) data: PathBuf,
    log: PathBuf,
}

pub(crate) struct Start<'a> {
    pub(crate) data: &'a Path,
    pub(crate) config: String,
    pub(crate) words: &'a [&'a str],
    pub(crate) variables: Vec<(&'a str, String)>,
    pub(crate) wrapper: &'a [&'a str],
}

impl<'a> Start<'a> {
    pub(crate) fn on(data: &'a Path) -> Self {
        Self { data, config: settings(data, ""), words: &[], variables: Vec::new(), wrapper: &[] }
    }

    pub(crate) fn config(mut self, more: &str) -> Self {
        self.config = settings(self.data, more);
        self
    }

    pub(crate) fn words(mut self, words: &'a [&'a str]) -> Self {
        self.words = words;
        self
    }

    pub(crate) fn variable(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    pub(crate) fn under(mut self, wrapper: &'a [&'a str]) -> Self {
        self.wrapper = wrapper;
        self
    }

    pub(crate) fn spawn(self) -> Served {
        let (config, log) = (self.data.with_extension("toml"), self.data.with_extension("log"));
        fs::write(&config, &self.config).unwrap();
        let output = OpenOptions::new().create(true).truncate(true).write(true).open(&log).unwrap();
        let mut words = self.wrapper.to_vec();
        words.push(env!("CARGO_BIN_EXE_triggerd"));
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("serve").args(self.words).arg("--config").arg(&config);
        command.envs(self.variables).stdout(output.try_clone().unwrap()).stderr(output);
        Served { child: command.spawn().unwrap(), data: self.data.to_owned(), log }
    }

    pub(crate) fn ready(self) -> Served {
        let mut served = self.spawn();
        served.wait_for("triggerd is ready");
        served
    }

    /// Runs a server that does not start; returns its exit code and its output.
    pub(crate) fn ended(self) -> (Option<i32>, String) {
        let mut served = self.spawn();
        let code = served.child.wait().unwrap().code();
        (code, served.text())
    }
}

impl Served {
    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        let began = std::time::Instant::now();
        loop {
            let text = self.text();
            if text.contains(part) {
                return text;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status} before it said {part:?}:\n{text}");
            }
            assert!(began.elapsed() < PATIENCE, "it never said {part:?}:\n{text}");
            std::thread::yield_now();
        }
    }

    pub(crate) fn lines(&self, part: &str) -> Vec<Value> {
        let lines = self.text();
        lines
            .lines()
            .filter(|line| line.contains(part))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(crate) fn url(&self) -> String {
        let ready = self.lines("triggerd is ready").pop().unwrap();
        format!("http://{}", ready["address"].as_str().unwrap())
    }

    pub(crate) fn admin(&self) -> Client {
        let token = fs::read_to_string(self.data.join("admin.token")).unwrap();
        Client::new(&self.url(), token.trim())
    }

    pub(crate) fn client(&self, key: &str) -> Client {
        Client::new(&self.url(), key)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Reloads with this configuration and waits for a line with `says`.
    pub(crate) fn reload(&mut self, config: &str, says: &str) -> String {
        let said = self.text().matches(says).count();
        fs::write(self.data.with_extension("toml"), config).unwrap();
        self.signal(Signal::HUP);
        until(|| Some(self.text()).filter(|text| text.matches(says).count() > said))
    }

    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        let code = self.child.wait().unwrap().code();
        (code, self.text())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Runs another command on the data directory, under `wrapper`.
fn run(data: &Path, words: &[&str], wrapper: &[&str]) -> (Option<i32>, String) {
    let all: Vec<_> = wrapper.iter().copied().chain([env!("CARGO_BIN_EXE_triggerd")]).collect();
    let output = Command::new(all[0])
        .args(&all[1..])
        .args(words)
        .arg("--config")
        .arg(data.with_extension("toml"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    )
}

pub(crate) fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        println!("skipped: only root can run it as another user");
    }
    is_root
}

const AS_NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// Gives everything below a directory to this user.
fn give(dir: &Path, user: u32) {
    chown(dir, Some(user), Some(user)).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            give(&path, user);
        } else {
            chown(&path, Some(user), Some(user)).unwrap();
        }
    }
}

fn owners(dir: &Path, found: &mut Vec<(PathBuf, u32)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        found.push((path.clone(), fs::metadata(&path).unwrap().uid()));
        if path.is_dir() {
            owners(&path, found);
        }
    }
}

#[test]
fn an_address_that_is_taken_is_waited_for_and_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("listen = \"{}\"", taken.local_addr().unwrap());
    let on = |more: &str| {
        let config =
            settings(&data, "").replace("listen = \"127.0.0.1:0\"", &format!("{listen}\n{more}"));
        Start { config, ..Start::on(&data) }
    };
    let (code, text) = on("bind_seconds = 0").ended();
    assert!(code == Some(70) && text.contains("cannot listen on"), "{text}");
    let mut waits = on("").spawn();
    waits.wait_for("in use by another process");
    // A waiting server can be stopped.
    assert_eq!(waits.stop().0, Some(0));
    let mut waits = on("").spawn();
    waits.wait_for("in use by another process");
    // The server tries again and again meanwhile. Fewer tries make the check weaker, never wrong.
    std::thread::park_timeout(Duration::from_millis(300));
    drop(taken);
    let text = waits.wait_for("triggerd is ready");
    assert_eq!(text.matches("in use by another process").count(), 1, "said once: {text}");
}

#[test]
fn a_stop_at_any_moment_of_a_start_is_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    Start::on(&data).ready().stop();
    for wait in (0..40).map(Duration::from_millis) {
        let mut server = Start::on(&data).spawn();
        server.wait_for("journal opened");
        std::thread::park_timeout(wait);
        let (code, text) = server.stop();
        assert_eq!(code, Some(0), "after {wait:?}: {text}");
    }
}

/// A stopped server with an endpoint whose settings are sealed.
struct Sealed {
    data: PathBuf,
    key: PathBuf,
    api_key: String,
    endpoint: String,
    receiver: Receiver,
}

impl Sealed {
    fn below(dir: &Path) -> Self {
        let data = dir.join("data");
        let server = Start::on(&data).ready();
        let (org, receiver) = (server.admin().new_org("Acme"), Receiver::start().unwrap());
        let settings = json!({"url": receiver.url(), "headers": {"x-token": "canary"}});
        let endpoint = org.post("/api/endpoints", &settings).id();
        assert_eq!(server.stop().0, Some(0));
        let key = data.join("secrets.key");
        Self { data, key, api_key: org.key.clone(), endpoint, receiver }
    }

    fn start_without_secrets(&self) -> (Served, Client) {
        let server = Start::on(&self.data).words(&["--forget-secrets"]).ready();
        let org = server.client(&self.api_key);
        (server, org)
    }

    fn path(&self) -> String {
        format!("/api/endpoints/{}", self.endpoint)
    }
}

#[test]
fn a_lost_secrets_key_is_named_and_nothing_is_made_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let sealed = Sealed::below(dir.path());
    let (key, kept) = (&sealed.key, dir.path().join("kept"));
    fs::rename(key, &kept).unwrap();
    let (code, text) = Start::on(&sealed.data).ended();
    assert!(
        code == Some(3) && text.contains("--forget-secrets") && text.contains("their number: 1"),
        "{text}"
    );
    assert!(!key.exists(), "nothing was made in its place");
    // A wrong key is refused too, and the right key still works.
    fs::write(key, "00".repeat(32)).unwrap();
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(Start::on(&sealed.data).ended().0, Some(3));
    fs::copy(&kept, key).unwrap();
    let (server, org) = sealed.start_without_secrets();
    assert_eq!(org.get(&sealed.path()).json["enabled"], true, "nothing was lost");
    assert_eq!(server.stop().0, Some(0));
    sealed.receiver.stop();
}

#[test]
fn the_operator_can_go_on_without_a_lost_secrets_key() {
    let dir = tempfile::tempdir().unwrap();
    let sealed = Sealed::below(dir.path());
    fs::remove_file(&sealed.key).unwrap();
    let (server, org) = sealed.start_without_secrets();
    let told = server.lines(&sealed.endpoint).pop().unwrap();
    assert!(
        told["organization"].as_str().unwrap().starts_with("org_") && told["headers"] == 1,
        "{told}"
    );
    let lost = json!({"enabled": false, "disabled_reason": "secret_lost", "headers": {}});
    assert_has(&org.get(&sealed.path()).json, &lost);
    // The owner sets a new secret and enables the endpoint.
    let event = org.send("a.b", &json!(1)).id();
    let rotate = format!("{}/secret/rotate", sealed.path());
    assert_eq!(org.post(&rotate, &json!({"overlap_seconds": 0})).status, 200);
    assert_eq!(org.post_text(&format!("{}/enable", sealed.path()), "").status, 200);
    org.send("a.b", &json!(2));
    sealed.receiver.wait_for(1, PATIENCE);
    assert!(event.starts_with("evt_"));
    assert_eq!(server.stop().0, Some(0));
    let (code, text) = Start::on(&sealed.data).ready().stop();
    assert_eq!(code, Some(0), "and the next start knows nothing of it: {text}");
    sealed.receiver.stop();
}

/// A copy of the directory of a server with one delivery that its receiver has refused.
struct Copied {
    copy: PathBuf,
    key: String,
    receiver: Receiver,
}

impl Copied {
    fn below(dir: &Path) -> Self {
        let (data, copy) = (dir.join("data"), dir.join("copy"));
        let server = Start::on(&data).ready();
        assert!(!server.text().contains("is a copy"), "{}", server.text());
        let (org, receiver) = (server.admin().new_org("Acme"), Receiver::start().unwrap());
        receiver.answer_next([500; 20]);
        org.push_to(&receiver.url());
        org.send("a.b", &json!(1));
        receiver.wait_for(1, PATIENCE);
        assert!(Command::new("cp").arg("-a").arg(&data).arg(&copy).status().unwrap().success());
        assert_eq!(server.stop().0, Some(0));
        Self { copy, key: org.key.clone(), receiver }
    }
}

#[test]
fn a_copy_delivers_nothing_if_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let Copied { copy, key, receiver } = Copied::below(dir.path());
    let asked = receiver.received().len();
    let quiet = Start::on(&copy).words(&["--no-deliver"]).ready();
    let text = quiet.text();
    assert!(
        text.contains("this server delivers nothing") && text.contains("--no-deliver"),
        "{text}"
    );
    assert_eq!(quiet.lines("triggerd is ready")[0]["delivers"], false);
    let there = quiet.client(&key);
    let second = there.send("a.b", &json!(2));
    assert_eq!((there.inbox().len(), second.status), (2, 202), "all but delivering goes on");
    until(|| {
        let waiting = there.get("/api/deliveries").json["data"].as_array().unwrap().len();
        (waiting == 2).then_some(())
    });
    assert_eq!(quiet.stop().0, Some(0));
    assert_eq!(receiver.received().len(), asked, "nothing went out");
    receiver.stop();
}

#[test]
fn a_directory_stays_a_copy_until_a_server_has_delivered_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let Copied { copy, receiver, .. } = Copied::below(dir.path());
    let asked = receiver.received().len();
    // A start that fails, a rebuild and a start without deliveries change nothing.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config =
        settings(&copy, "").replace("127.0.0.1:0", &taken.local_addr().unwrap().to_string());
    let config = config.replace("[storage]", "bind_seconds = 0\n[storage]");
    let (code, text) = Start { config, ..Start::on(&copy) }.ended();
    assert_eq!(code, Some(70), "{text}");
    assert_eq!(run(&copy, &["rebuild"], &[]).0, Some(0));
    let (code, text) = Start::on(&copy).words(&["--no-deliver"]).ready().stop();
    assert!(code == Some(0) && text.contains("this server delivers nothing"), "{text}");
    assert_eq!(receiver.received().len(), asked, "nothing went out");
    let drilled = Start::on(&copy).ready();
    let told = drilled.lines("the data directory is a copy").pop().unwrap();
    assert!(told["level"] == "WARN" && told["waiting"] == 1, "{told}");
    assert!(told["message"].as_str().unwrap().contains("twice"), "{told}");
    assert_eq!(drilled.stop().0, Some(0));
    for words in [&["--no-deliver"], &[][..]] {
        let (code, text) = Start::on(&copy).words(words).ready().stop();
        assert!(
            code == Some(0) && !text.contains("is a copy"),
            "it delivered, and is an original now: {text}"
        );
    }
    receiver.stop();
}
