//! The HTTP client of the commands.

use std::future::Future;
use std::ops::ControlFlow;
use std::time::Duration;

pub(super) use reqwest::Method;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, Server};
use crate::base::exit_code::ExitCode;
use crate::config::{Config, credentials_directory};
use crate::data_dir::read_admin_token;

/// Longer than the longest wait for an event.
const TIMEOUT: Duration = Duration::from_mins(1);
/// A stream that is silent for so long is dead: longer than two of the comments that keep it alive.
const SILENCE_MAX: Duration = Duration::from_secs(40);
/// Longest line of a stream, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// A connection to a server, with a key or the admin token.
pub(super) struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    url: String,
    key: String,
}

/// Why a stream is over.
pub(super) enum Broken {
    /// The server does not give it, and would not give it a moment later.
    Refused(Failure),
    /// The server is not there, has no room now, or ended it.
    Lost(Failure),
}

impl Client {
    /// A client with this key.
    pub(super) fn new(server: &Server, config: &Config, key: String) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::new(ExitCode::Failed, error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(&error))?;
        crate::delivery::sender::install_crypto();
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().map_err(|error| failed(&error))?;
        let url = server.url.clone().unwrap_or_else(|| format!("http://{}", reachable(config)));
        Ok(Self { http, runtime, url: url.trim_end_matches('/').to_owned(), key })
    }

    /// A client with the admin token: the configured one, systemd's credential, or the data directory's file.
    pub(super) fn admin(server: &Server, config: &Config) -> Result<Self, Failure> {
        let configured = config.keys.admin_token.as_ref().map(|token| token.reveal().to_owned());
        let dirs = credentials_directory().into_iter().chain([config.storage.data_dir.clone()]);
        let mut tokens = dirs.map(|dir| read_admin_token(&dir));
        let found = match configured {
            Some(token) => Some(token),
            None => tokens
                .find_map(Result::transpose)
                .transpose()
                .map_err(|error| Failure::new(ExitCode::Failed, format!("the admin token cannot be read: {error}")))?,
        };
        let token = found.ok_or_else(|| {
            let file = config.storage.data_dir.join("admin.token");
            Failure::new(
                ExitCode::Failed,
                format!(
                    "no admin token: {} does not exist yet; the server makes it at its first start",
                    file.display()
                ),
            )
        })?;
        Self::new(server, config, token)
    }

    /// Sends a request and gives the answer's JSON; anything but 2xx is a failure that says what the server said.
    pub(super) fn call(&self, method: Method, path: &str, body: Option<String>) -> Result<Value, Failure> {
        let text = self.call_text(method, path, body)?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::new(ExitCode::Failed, format!("the answer of {} is not understood: {error}", self.url))
        })
    }

    /// The same, giving the answer as it came.
    pub(super) fn call_text(&self, method: Method, path: &str, body: Option<String>) -> Result<String, Failure> {
        let failed = |error: reqwest::Error| {
            Failure::new(ExitCode::Failed, format!("no answer from {}: {}", self.url, cause(&error)))
        };
        self.runtime.block_on(async {
            let mut request = self.http.request(method, format!("{}{path}", self.url)).header("X-API-Key", &self.key);
            if let Some(body) = body {
                request = request.header("Content-Type", "application/json").body(body);
            }
            let answer = request.send().await.map_err(failed)?;
            let status = answer.status();
            let text = answer.text().await.map_err(failed)?;
            if status.is_success() {
                return Ok(text);
            }
            Err(refusal(status.as_u16(), &serde_json::from_str(&text).unwrap_or(Value::Null)))
        })
    }

    /// From now on Ctrl-C does not end the process, but is heard by [`Self::pause`].
    pub(super) fn hear_interrupts(&self) -> Result<Interrupts, Failure> {
        let _in_runtime = self.runtime.enter();
        signal(SignalKind::interrupt()).map(Interrupts).map_err(|error| Failure::new(ExitCode::Failed, error))
    }

    /// Waits so long, or until Ctrl-C; says whether it was not that.
    pub(super) fn pause(&self, interrupts: &mut Interrupts, duration: Duration) -> bool {
        self.runtime.block_on(async {
            tokio::select! {
                _ = interrupts.0.recv() => false,
                () = tokio::time::sleep(duration) => true,
            }
        })
    }
}

impl Client {
    /// Runs it until it is done, or until Ctrl-C: then there is nothing.
    pub(super) fn until_interrupted<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => Some(done),
                _ = tokio::signal::ctrl_c() => None,
            }
        })
    }

    /// Hands each line of a stream to `take` until that breaks, or until the stream does.
    pub(super) async fn stream(
        &self,
        path: &str,
        take: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> ControlFlow<(), Broken> {
        let lost = |why: &dyn std::fmt::Display| {
            let message = format!("no connection to {}: {why}", self.url);
            ControlFlow::Continue(Broken::Lost(Failure::new(ExitCode::Failed, message)))
        };
        let builder = reqwest::Client::builder().no_proxy().connect_timeout(TIMEOUT).read_timeout(SILENCE_MAX);
        let http = match builder.build() {
            Ok(http) => http,
            Err(error) => return lost(&error),
        };
        let request = http.get(format!("{}{path}", self.url)).header("X-API-Key", &self.key);
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return lost(&cause(&error)),
        };
        let status = answer.status();
        if !status.is_success() {
            let text = answer.text().await.unwrap_or_default();
            let failure = refusal(status.as_u16(), &serde_json::from_str(&text).unwrap_or(Value::Null));
            let may_be_other_later = status.is_server_error() || status.as_u16() == 429;
            return ControlFlow::Continue(if may_be_other_later {
                Broken::Lost(failure)
            } else {
                Broken::Refused(failure)
            });
        }
        let mut unread = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => unread.extend_from_slice(&chunk),
                Ok(None) => return lost(&"the server ended the connection"),
                Err(error) => return lost(&cause(&error)),
            }
            while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                take(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']))?;
            }
            if unread.len() > LINE_BYTES_MAX {
                return lost(&"what the server says is not understood");
            }
        }
    }
}

/// Hears Ctrl-C, also while nobody waits for it.
pub(super) struct Interrupts(Signal);

/// An address that a wildcard listener can be reached at.
fn reachable(config: &Config) -> std::net::SocketAddr {
    let mut address = config.server.listen;
    match address.ip() {
        std::net::IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(std::net::Ipv4Addr::LOCALHOST.into()),
        std::net::IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(std::net::Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// The innermost reason, which is the one that helps ("connection refused").
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// What a problem document says, with every fault it names.
fn refusal(status: u16, problem: &Value) -> Failure {
    let text = |name: &str| problem.get(name).and_then(Value::as_str);
    let mut message = text("detail").or(text("title")).unwrap_or("the server refused").to_owned();
    let faults = problem.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    // A single fault is the detail already.
    for fault in faults.iter().filter(|_| faults.len() > 1) {
        let part = |name: &str| fault.get(name).and_then(Value::as_str).unwrap_or_default();
        message = format!("{message}\n  {}: {}", part("pointer"), part("detail"));
    }
    let code = text("code").unwrap_or("unknown");
    let request = text("request_id").unwrap_or("unknown");
    Failure::new(ExitCode::Failed, format!("{message} ({status} {code}, request {request})"))
}
