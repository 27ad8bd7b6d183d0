//! The HTTP client of the commands that talk to a server.

mod download;
mod failures;

use std::future::Future;
use std::ops::ControlFlow;
use std::time::Duration;

pub(super) use reqwest::Method;
use reqwest::header::HeaderValue;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use super::answer::Answer;
use super::target::{Credential, Target};
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::os_words;
use crate::model::endpoint::TIMEOUT_MS_MAX;

/// Time limit for an answer. It is longer than the server needs for any request but the test of an
/// endpoint: an event can wait a minute to be written, and a consumer half a minute for an event.
const PATIENCE: Duration = Duration::from_mins(2);
/// Time limit for the test of an endpoint, longer than the longest timeout of an endpoint.
const TEST_PATIENCE: Duration = Duration::from_millis(TIMEOUT_MS_MAX + 60_000);
/// Time limit for the answer of a probe: a server that is well answers at once.
const PROBE_PATIENCE: Duration = Duration::from_secs(20);
/// Time limit for the connection alone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Time after which a silent stream is dead. Two of the server's comments fit in this time.
const SILENCE_MAX: Duration = Duration::from_secs(40);
/// Maximum length of a line in a stream, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Maximum size of an answer, in bytes. The server may be another program, whose answer has no end.
/// A page of triggerd ends at 4 MiB, with at most one more event of maximum size.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Maximum size of the answer of a probe and of a refusal, in bytes.
const SMALL_BYTES_MAX: usize = 1 << 20;
/// The status of an answer without a body.
const NO_CONTENT: u16 = 204;
/// The status of a probe that failed.
const UNAVAILABLE: u16 = 503;
/// The path for posting an event.
const EVENTS_PATH: &str = "/api/events";
/// The header that carries the key.
const KEY_HEADER: &str = "X-API-Key";

/// An HTTP client for one server, with a key or the admin token.
pub(super) struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    /// The server's URL, without a `/` at the end.
    url: String,
    /// The same URL without user and password, for messages.
    shown: String,
    url_origin: String,
    key: HeaderValue,
    key_origin: String,
    /// The word for the key in messages.
    key_noun: &'static str,
    /// Time limit for an answer.
    patience: Duration,
    /// Maximum size of an answer, in bytes.
    bytes_max: usize,
}

/// The reason for the end of a stream.
pub(super) enum Broken {
    /// The server refuses the stream, and would refuse it again.
    Refused(Failure),
    /// The server is unreachable, has no room, or ended the stream. A new connection may succeed.
    Lost(Failure),
}

impl Client {
    /// Makes a client for this server with this key.
    pub(super) fn new(target: Target, credential: Credential) -> Result<Self, Failure> {
        let Target { mut url, origin: url_origin } = target;
        let Credential { text, origin: key_origin, noun: key_noun } = credential;
        let mut key =
            HeaderValue::from_str(&text).ok().filter(|_| text.is_ascii()).ok_or_else(|| {
                Failure::new(
                    ExitCode::Usage,
                    format!("the {key_noun} ({key_origin}) has characters that it cannot have"),
                )
            })?;
        key.set_sensitive(true);
        let failed = |error: &dyn std::fmt::Display| Failure::new(ExitCode::Failed, error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            failed(&format_args!("the runtime for HTTP cannot be created: {}", os_words(&error)))
        })?;
        crate::delivery::sender::install_crypto();
        let http = builder().build().map_err(|error| {
            failed(&format_args!("the HTTP client cannot be created: {}", cause(&error)))
        })?;
        let whole = url.as_str().trim_end_matches('/').to_owned();
        // This fails only for a URL without a host.
        let _is_shown_bare = url.set_password(None).and_then(|()| url.set_username(""));
        let shown = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self {
            http,
            runtime,
            url: whole,
            shown,
            url_origin,
            key,
            key_origin,
            key_noun,
            patience: PATIENCE,
            bytes_max: ANSWER_BYTES_MAX,
        })
    }

    /// Makes a client for a server that this process started.
    pub(super) fn to(url: &str, key: &str) -> Result<Self, Failure> {
        Self::new(Target::parse(url, "its own address")?, Credential::key(key, "its own"))
    }

    /// Makes a client for the routes that need no key.
    pub(super) fn without_key(target: Target) -> Result<Self, Failure> {
        let client = Self::new(target, Credential::key("", "not needed"))?;
        Ok(Self { patience: PROBE_PATIENCE, bytes_max: SMALL_BYTES_MAX, ..client })
    }

    /// Returns the URL of the server, without user and password.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Returns the source of the URL.
    pub(super) fn url_origin(&self) -> &str {
        &self.url_origin
    }

    /// Returns the client with the time limit for the test of an endpoint.
    pub(super) fn patient(self) -> Self {
        Self { patience: TEST_PATIENCE, ..self }
    }

    /// Makes a client for the same server with another key.
    pub(super) fn with_key(&self, key: &str, origin: &str) -> Result<Self, Failure> {
        let target = Target::parse(&self.url, &self.url_origin)?;
        Self::new(target, Credential::key(key, origin))
    }

    /// Sends a request and parses the answer. Any status but 2xx is a failure with the server's
    /// message. An answer without one of `members` is a failure too, because another program can
    /// also answer 200 with JSON.
    pub(super) fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        members: &[&str],
    ) -> Result<Answer, Failure> {
        let (head, text) = self.exchange(method, path, body)?;
        self.read(&head, text, members)
    }

    /// Sends a GET request to a probe, which answers with the same members when it fails.
    pub(super) fn probe(&self, path: &str, members: &[&str]) -> Result<Answer, Failure> {
        let (head, text) = self.answered(Method::GET, path, None)?;
        let read = self.read(&head, text.clone(), members);
        match head.status {
            UNAVAILABLE => read.map_err(|_other| self.refusal(&head, &text)),
            _ if head.is_success() => read,
            _ => Err(self.refusal(&head, &text)),
        }
    }

    fn read(&self, head: &Head, text: String, members: &[&str]) -> Result<Answer, Failure> {
        let answer = Answer::read(text).map_err(|text| self.foreign(head, &text))?;
        if members.iter().all(|member| answer.get(member).is_some()) {
            return Ok(answer);
        }
        Err(self.foreign(head, answer.as_text()))
    }

    /// Sends a GET request and returns the text of the answer.
    pub(super) fn text(&self, path: &str) -> Result<String, Failure> {
        self.exchange(Method::GET, path, None).map(|(_, text)| text)
    }

    /// Sends a DELETE request, whose answer has no content.
    pub(super) fn delete(&self, path: &str) -> Result<(), Failure> {
        let (head, text) = self.exchange(Method::DELETE, path, None)?;
        if head.status == NO_CONTENT { Ok(()) } else { Err(self.foreign(&head, &text)) }
    }

    fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<(Head, String), Failure> {
        let (head, text) = self.answered(method, path, body)?;
        if head.is_success() { Ok((head, text)) } else { Err(self.refusal(&head, &text)) }
    }

    /// Sends a request and returns the answer, whatever its status.
    fn answered(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<(Head, String), Failure> {
        let doubt = match (&method, path) {
            (&Method::GET, _) => Doubt::None,
            (_, EVENTS_PATH) => Doubt::Event,
            _ => Doubt::Change,
        };
        self.runtime.block_on(async {
            let request = self
                .http
                .request(method, format!("{}{path}", self.url))
                .header(KEY_HEADER, &self.key);
            let request = request.timeout(self.patience);
            let request = match body {
                Some(body) => request.header("Content-Type", "application/json").body(body),
                // Proxies speaking HTTP/1.0 to the server pass the header on. Without it, the
                // server would refuse a POST.
                None if doubt != Doubt::None => request.header("Content-Length", "0"),
                None => request,
            };
            let answer = request.send().await.map_err(|error| self.no_answer(&error, doubt))?;
            let head = Head::of(&answer);
            let text = self.body(&head, answer).await.map_err(|unread| match unread {
                Unread::BrokenOff(error) => self.no_answer(&error, doubt),
                Unread::TooLong(bytes) => self.too_long(bytes),
            })?;
            Ok((head, text))
        })
    }

    /// Reads the body as text.
    async fn body(&self, head: &Head, mut answer: reqwest::Response) -> Result<String, Unread> {
        let bytes_max =
            if head.is_success() { self.bytes_max } else { self.bytes_max.min(SMALL_BYTES_MAX) };
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(Unread::BrokenOff)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > bytes_max {
                return Err(Unread::TooLong(bytes_max));
            }
        }
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// Returns the failure for an answer with a refusal.
    async fn refused(&self, head: &Head, answer: reqwest::Response) -> Failure {
        match self.body(head, answer).await {
            Err(Unread::TooLong(bytes)) => self.too_long(bytes),
            text => self.refusal(head, &text.unwrap_or_default()),
        }
    }

    /// From now on, Ctrl-C no longer ends the process; [`Self::pause`] returns instead.
    pub(super) fn hear_interrupts(&self) -> Result<Interrupts, Failure> {
        let _in_runtime = self.runtime.enter();
        signal(SignalKind::interrupt()).map(Interrupts).map_err(|error| {
            Failure::new(
                ExitCode::Failed,
                format!("the signal of Ctrl-C cannot be caught: {}", os_words(&error)),
            )
        })
    }

    /// Waits for this duration. Returns false if Ctrl-C came first.
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
    /// Runs the work to its end. Returns none if Ctrl-C came first.
    pub(super) fn until_interrupted<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => Some(done),
                _ = tokio::signal::ctrl_c() => None,
            }
        })
    }

    /// Passes each line of a stream to `take`, until `take` breaks or the stream ends.
    pub(super) async fn stream(
        &self,
        path: &str,
        take: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> ControlFlow<(), Broken> {
        let mut answer = match self.open_stream(path).await {
            Ok(answer) => answer,
            Err(broken) => return ControlFlow::Continue(broken),
        };
        let lost = |why: &dyn std::fmt::Display| ControlFlow::Continue(self.lost(why));
        let mut unread = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => unread.extend_from_slice(&chunk),
                Ok(None) => return lost(&"the server closed the connection"),
                Err(error) => return lost(&self.words(&error, &cause(&error)).0),
            }
            while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                take(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']))?;
            }
            if unread.len() > LINE_BYTES_MAX {
                return lost(&"the answer is not valid: a line is too long");
            }
        }
    }

    /// Sends the request for a stream and checks the head of the answer.
    async fn open_stream(&self, path: &str) -> Result<reqwest::Response, Broken> {
        let http = builder().read_timeout(SILENCE_MAX).build().map_err(|error| {
            self.lost(&format_args!("the HTTP client cannot be created: {}", cause(&error)))
        })?;
        let request = http.get(format!("{}{path}", self.url)).header(KEY_HEADER, &self.key);
        let sent = request.send().await;
        let answer = sent.map_err(|error| Broken::Lost(self.no_answer(&error, Doubt::None)))?;
        let head = Head::of(&answer);
        if !head.is_success() {
            let failure = self.refused(&head, answer).await;
            let may_be_other_later = head.status >= 500 || head.status == 429;
            return Err(if may_be_other_later {
                Broken::Lost(failure)
            } else {
                Broken::Refused(failure)
            });
        }
        if !head.content_type.starts_with("text/event-stream") {
            return Err(Broken::Refused(self.foreign(&head, "")));
        }
        Ok(answer)
    }

    fn lost(&self, why: &dyn std::fmt::Display) -> Broken {
        let message = format!("no connection to {}: {why}", self.shown);
        Broken::Lost(Failure::new(ExitCode::Failed, message))
    }
}

/// Receives Ctrl-C, also between two waits.
pub(super) struct Interrupts(Signal);

/// The reason why the body of an answer was not read to its end.
enum Unread {
    BrokenOff(reqwest::Error),
    /// It has more than this number of bytes.
    TooLong(usize),
}

/// The change that the server may have made although no answer came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// The request only reads.
    None,
    /// The event may have been accepted.
    Event,
    /// Another change may have been made.
    Change,
}

/// Status and headers of an answer.
#[derive(Default)]
struct Head {
    status: u16,
    content_type: String,
    location: String,
    challenge: String,
}

impl Head {
    fn of(answer: &reqwest::Response) -> Self {
        let header = |name: &str| {
            let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        Self {
            status: answer.status().as_u16(),
            content_type: header("content-type"),
            location: header("location"),
            challenge: header("www-authenticate"),
        }
    }

    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The settings common to all requests. Redirects are not followed, because the key would go to the
/// other server too.
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
}

/// The innermost cause, which helps most ("connection refused").
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{INBOX_WAIT_SECONDS_MAX, INTAKE_WAIT_MS_MAX};

    #[test]
    fn a_command_waits_longer_than_the_server_may_take() {
        assert!(TEST_PATIENCE > Duration::from_millis(TIMEOUT_MS_MAX) + CONNECT_TIMEOUT);
        assert!(PATIENCE > Duration::from_secs(INBOX_WAIT_SECONDS_MAX) + CONNECT_TIMEOUT);
        assert!(PATIENCE > Duration::from_millis(INTAKE_WAIT_MS_MAX) + CONNECT_TIMEOUT);
    }

    #[test]
    fn a_server_that_does_not_answer_is_given_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let (client, patience) = (Client::to(&url, "k").unwrap(), Duration::from_millis(20));
        let client = Client { patience, ..client };
        let failure = client.call(Method::GET, "/api/admin/jobs", None, &["data"]).err().unwrap();
        assert!(failure.message.contains("no answer within"), "{}", failure.message);
    }

    #[test]
    fn only_a_test_of_an_endpoint_is_waited_for_so_long() {
        let client = Client::to("http://127.0.0.1:1", "k").unwrap();
        assert_eq!(client.patience, PATIENCE);
        assert_eq!(client.patient().patience, TEST_PATIENCE);
    }
}
