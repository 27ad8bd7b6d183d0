//! The common parts of the tests: the real binary as a child process, the same server inside the
//! test with a manual clock, a client with the verbs of a producer and a consumer, and the
//! receiver.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

#[path = "openapi_answers.rs"]
pub(crate) mod openapi_answers;

/// Time limit for any step, enough for a busy machine. No test measures it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// Time limit for an expected result. In a negative control, where the result may never come, the
/// limit is `in_a_control`.
pub(crate) fn patience(in_a_control: Duration) -> Duration {
    if std::env::var_os("TRIGGERD_FAILPOINTS").is_some() { in_a_control } else { PATIENCE }
}

/// Settings of a test's server, over the defaults: small files, no limits, webhooks to this
/// machine.
pub(crate) fn settings(data_dir: &Path, more: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[storage]\ndata_dir = {:?}\nsegment_bytes = \
         1048576\nreserve_bytes = 1\n\
         [egress]\nallow_networks = [\"127.0.0.0/8\"]\n[tiers.free]\nevents_per_second = \
         1000000\nburst = 1000000\n{more}",
        data_dir.display().to_string()
    )
}

/// The bytes of a `whsec_` secret.
pub(crate) fn secret_bytes(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text.strip_prefix("whsec_").unwrap()).unwrap()
}

/// A server on a data directory of its own.
pub(crate) fn server() -> (Process, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Process::start(&dir.path().join("data")), dir)
}

/// The first segment of the journal in a data directory.
pub(crate) fn first_segment(data: &Path) -> PathBuf {
    data.join("journal/00000000000000000001.seg")
}

/// Copies the data directory of a running server with `cp -a`. Returns the complaints of `cp` about
/// files that the copy lacks. A file that exists for a moment only is no such file.
pub(crate) fn copy_running(data: &Path, copy: &Path) -> Vec<String> {
    let copied = Command::new("cp").env("LC_ALL", "C").arg("-a").args([data, copy]).output();
    let copied = copied.unwrap();
    assert!(copied.status.code().is_some_and(|code| code <= 1), "{copied:?}");
    let said = String::from_utf8(copied.stderr).unwrap();
    assert_eq!(copied.status.success(), said.is_empty(), "{said}");
    let is_of_a_moment = |line: &&str| {
        let names = [".seg.new'", ".snap.new'", "/FORMAT.new'"];
        line.ends_with(": No such file or directory") && names.iter().any(|it| line.contains(it))
    };
    said.lines().filter(|line| !is_of_a_moment(line)).map(str::to_owned).collect()
}

/// A receiver whose connections nobody answers, and its URL.
pub(crate) fn silence() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (listener, url)
}

/// The real binary, running `serve`.
pub(crate) struct Process {
    pub(crate) child: Child,
    /// Empty until the server is ready.
    pub(crate) url: String,
    pub(crate) data_dir: PathBuf,
    log: mpsc::Receiver<String>,
}

/// The binary built by Cargo, or the binary that `TRIGGERD_TEST_BINARY` names, such as a release
/// build.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("TRIGGERD_TEST_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_triggerd").into(), PathBuf::from)
}

/// Runs another command on the data directory of a stopped server, with the settings beside it.
pub(crate) fn command(data: &Path, words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary())
        .args(words)
        .arg("--config")
        .arg(data.with_extension("toml"))
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

impl Process {
    /// Starts the server on a data directory and waits until it is ready.
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, "")
    }

    pub(crate) fn start_with(data_dir: &Path, more: &str) -> Self {
        Self::start_on(data_dir, &settings(data_dir, more))
    }

    /// Starts the server with a whole configuration.
    pub(crate) fn start_on(data_dir: &Path, config: &str) -> Self {
        let ready = Self::spawn(data_dir, config, &[]).ready();
        ready.unwrap_or_else(|(status, log)| panic!("not ready: {status}\n{log}"))
    }

    /// Starts the server under the command `wrapper`, such as strace.
    pub(crate) fn try_start(
        data_dir: &Path,
        more: &str,
        wrapper: &[&str],
    ) -> Result<Self, (ExitStatus, String)> {
        Self::spawn(data_dir, &settings(data_dir, more), wrapper).ready()
    }

    /// Starts the server without waiting.
    pub(crate) fn spawn(data_dir: &Path, text: &str, wrapper: &[&str]) -> Self {
        let config = data_dir.with_extension("toml");
        // The file is written only if it changes, because the disk may be full.
        if std::fs::read_to_string(&config).ok().as_deref() != Some(text) {
            std::fs::write(&config, text).unwrap();
        }
        let binary = binary();
        let words = wrapper.iter().map(OsStr::new).chain([binary.as_os_str()]).collect::<Vec<_>>();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["serve", "--config"]).arg(&config);
        if !text.contains("keep_free_share") {
            // The disk of the machine may be nearly full, which is no matter of the other tests.
            command.env("TRIGGERD__RETENTION__KEEP_FREE_SHARE", "0");
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, log) = mpsc::channel();
        // The output is read to its end, so that the server never waits for the test.
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        Self { child, url: String::new(), data_dir: data_dir.to_owned(), log }
    }

    /// Waits until the server is ready. The error is its exit status and its log.
    pub(crate) fn ready(mut self) -> Result<Self, (ExitStatus, String)> {
        let mut before = String::new();
        loop {
            let Ok(line) = self.log.recv_timeout(PATIENCE) else {
                return Err((self.child.wait().unwrap(), before));
            };
            let json: Value = serde_json::from_str(&line).unwrap_or_default();
            if json["message"] == "triggerd is ready" {
                self.url = format!("http://{}", json["address"].as_str().unwrap());
                return Ok(self);
            }
            before.push_str(&line);
            before.push('\n');
        }
    }

    /// Kills the server with SIGKILL and waits for its end.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops the server with SIGTERM; returns the exit code and the duration.
    pub(crate) fn stop(mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, began.elapsed())
    }

    /// A client with the admin token.
    pub(crate) fn admin(&self) -> Client {
        let token = std::fs::read_to_string(self.data_dir.join("admin.token")).unwrap();
        Client::new(&self.url, token.trim())
    }

    /// A client of a new organization.
    pub(crate) fn org(&self, name: &str) -> Client {
        self.admin().new_org(name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Kills the server if the test failed before stopping it.
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// An HTTP client with an API key.
pub(crate) struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    pub(crate) url: String,
    pub(crate) key: String,
}

/// An answer and its parsed body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn id(&self) -> String {
        self.json["id"].as_str().unwrap_or_else(|| panic!("no id: {self:?}")).to_owned()
    }
}

impl Client {
    pub(crate) fn new(url: &str, key: &str) -> Self {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        // A connection that the server may be closing is not used again, because this client would
        // notice too late.
        let builder =
            reqwest::Client::builder().no_proxy().pool_idle_timeout(Duration::from_millis(500));
        let http = builder.timeout(patience(Duration::from_secs(30))).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { http, runtime, url: url.to_owned(), key: key.to_owned() }
    }

    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self::new(&self.url, key)
    }

    /// Sends any request; fails the test if there is no answer.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<String>,
    ) -> Answer {
        self.try_request(method, path, headers, body).unwrap()
    }

    pub(crate) fn try_request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<String>,
    ) -> Result<Answer, reqwest::Error> {
        self.try_request_bytes(method, path, headers, body.into().into_bytes())
    }

    /// Sends a request whose body need not be text.
    pub(crate) fn try_request_bytes(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, reqwest::Error> {
        let asked = method.clone();
        let answer = self.runtime.block_on(async {
            let mut request = self.http.request(method, format!("{}{path}", self.url)).body(body);
            if !self.key.is_empty() {
                request = request.header("X-API-Key", &self.key);
            }
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = request.send().await?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let text = answer.text().await?;
            let json = serde_json::from_str(&text).unwrap_or_default();
            Ok(Answer { status, headers, text, json })
        });
        answer.inspect(|answer| openapi_answers::check(&asked, path, answer))
    }

    /// Posts over a connection that no other request uses. Returns the status, or `None` if there
    /// is no answer.
    pub(crate) fn request_on_its_own(&self, path: &str, body: &Value) -> Option<u16> {
        let headers = [("Content-Type", "application/json"), ("Connection", "close")];
        let answer = self.try_request(Method::POST, path, &headers, body.to_string());
        answer.ok().map(|answer| answer.status)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[], "")
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string())
    }

    pub(crate) fn post_text(&self, path: &str, body: &str) -> Answer {
        self.request(Method::POST, path, &[("Content-Type", "application/json")], body)
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::PATCH, path, &[("Content-Type", "application/json")], body.to_string())
    }

    pub(crate) fn new_org(&self, name: &str) -> Self {
        let ask = |name: &str| {
            self.post("/api/keys/generate", &json!({ "organization": name, "tier": "free" }))
        };
        // Names are unique; a test that does not care about names may use a name twice.
        let mut made = ask(name);
        for number in 2.. {
            if made.code() != "organization_exists" {
                break;
            }
            made = ask(&format!("{name} {number}"));
        }
        assert_eq!(made.status, 201, "{made:?}");
        self.with_key(made.json["key"].as_str().unwrap())
    }

    /// Creates an endpoint and returns its id.
    pub(crate) fn endpoint(&self, settings: &Value) -> String {
        let made = self.post("/api/endpoints", settings);
        assert_eq!(made.status, 201, "{made:?}");
        made.id()
    }

    pub(crate) fn send(&self, event_type: &str, payload: &Value) -> Answer {
        self.post("/api/events", &json!({ "type": event_type, "payload": payload }))
    }

    pub(crate) fn send_once(&self, dedup_id: &str, payload: &Value) -> Answer {
        self.post(
            "/api/events",
            &json!({ "type": "test.event", "payload": payload, "dedup_id": dedup_id }),
        )
    }

    pub(crate) fn ack(&self, id: &str) -> Answer {
        self.post_text(&format!("/api/ack/{id}"), "")
    }

    /// Sets the default endpoint; returns the key bytes of its secret.
    pub(crate) fn push_to(&self, url: &str) -> Vec<u8> {
        let set = self.post("/api/webhook/config", &json!({ "url": url }));
        assert!(set.status == 200 || set.status == 201, "{set:?}");
        secret_bytes(set.json["secret"].as_str().unwrap())
    }

    /// Reads the whole inbox, page by page.
    pub(crate) fn inbox(&self) -> Vec<Value> {
        let (mut events, mut path) = (Vec::new(), "/api/inbox?limit=500".to_owned());
        loop {
            let page = self.get(&path);
            assert_eq!(page.status, 200, "{page:?}");
            events.extend(page.json["data"].as_array().unwrap().iter().cloned());
            match page.json["next_cursor"].as_str().filter(|_| page.json["has_more"] == json!(true))
            {
                Some(cursor) => path = format!("/api/inbox?limit=500&cursor={cursor}"),
                None => return events,
            }
        }
    }

    pub(crate) fn inbox_ids(&self) -> Vec<String> {
        self.inbox().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Reads the inbox until it is as wanted.
    pub(crate) fn inbox_until(&self, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        until(|| Some(self.inbox()).filter(|inbox| wanted(inbox)))
    }

    /// The value of a series of `/metrics`.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").text;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no series {series} in\n{text}")).parse().unwrap()
    }
}

/// Checks that an object has these members with these values. Null is the same as absence.
#[track_caller]
pub(crate) fn assert_has(object: &Value, members: &Value) {
    for (name, value) in members.as_object().unwrap() {
        assert_eq!(&object[name], value, "{name} of {object}");
    }
}

/// Calls `ask` repeatedly until there is a result.
#[track_caller]
pub(crate) fn until<T>(ask: impl Fn() -> Option<T>) -> T {
    until_within(PATIENCE, ask).expect("waited in vain")
}

/// Calls `ask` repeatedly until there is a result, or the time is over.
pub(crate) fn until_within<T>(at_most: Duration, ask: impl Fn() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        let answer = ask();
        if answer.is_some() || began.elapsed() >= at_most {
            return answer;
        }
        // The pause leaves the processor to the server.
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
