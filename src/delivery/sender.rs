//! One attempt: sign, send, and report the outcome. Called for each attempt on the sending runtime;
//! knows nothing of schedules or storage.
//!
//! The head of the answer decides. An accepted attempt ends with the head. A refused attempt ends
//! when the kept part of its body is here, at most a second after the head: its slot is held until
//! then, and its retry counts from then. The rest of any body is read beside the attempts, only to
//! reuse the connection.
//!
//! A receiver may close an idle connection at any time without notice. So a request over a reused
//! connection without a byte of an answer is no attempt: the sender repeats it at once, over a new
//! connection and only once. HTTP forbids this for a `POST` unless it is known to be harmless (RFC
//! 9110, 9.2.2). A repeated webhook is harmless: delivery is at least once anyway, and a receiver
//! recognizes the duplicate by its `webhook-id`. The same holds for a 408 that closes a reused
//! connection: servers end an idle connection with it, and HTTP allows the repetition (RFC 9110,
//! 15.5.9).
//!
//! A name that must be looked up waits for its turn first. Until then nothing was tried: without a
//! turn there is no attempt, and with one the attempt has its whole time.
//!
//! A hostile receiver cannot redirect the request (every address is judged, redirects are not
//! followed, no proxy is used) and cannot hold it (one deadline covers everything, and at most 16
//! KiB of the head and of the body are read from the socket).

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use ::http::StatusCode;
use bytes::Bytes;
use tokio::time::error::Elapsed;
use tokio::time::timeout_at;
use url::Url;

use super::answer::{Body, HEAD_BYTES_MAX, Head, HeadReader, KEPT_HEADERS};
use super::connector::{self, Connector, Failure};
use super::exchange::Link;
use super::failure;
use super::lookups::{Asked, Lookups, NoLookup};
use super::pool::{Origin, Pool};
use super::subject::{Subject, log_about};
use super::trace::{AttemptTrace, Unanswered, whole_ms};
use crate::base::failpoint::{self, Switch};
use crate::model::delivery::{
    AttemptError, AttemptOutcome, ErrorCode, KEPT_BODY_BYTES_MAX, KEPT_HEADER_CHARS_MAX,
};
use crate::model::endpoint::Secret;
use crate::model::id::OrgNo;
use crate::model::time::Timestamp;
use crate::rules::egress::{EgressRules, Target};
use crate::rules::signature;

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;

/// Default maximum that is read of an answer's body, in bytes.
pub const BODY_READ_BYTES_MAX: usize = 16 << 10;

/// Maximum wait for the body of a refusal, after its head.
const REFUSAL_WITHIN: Duration = Duration::from_secs(1);
/// Maximum size of a head when the failpoint removes the limit, in bytes.
const UNBOUNDED_HEAD_BYTES: usize = 512 << 10;

/// Limits and identity of the sender.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Maximum time to establish a connection, name lookup and TLS included. The wait for the turn
    /// of the lookup comes before it, and lasts at most as long.
    pub connect_timeout: Duration,
    /// Maximum time of a whole attempt.
    pub timeout: Duration,
    /// The value of the `User-Agent` header.
    pub user_agent: String,
    /// Maximum that is read of an answer's body, in bytes.
    pub body_read_bytes_max: usize,
    /// Maximum number of idle connections to one host. If this is below the number of attempts in
    /// flight, most attempts make a new connection.
    pub idle_connections_per_host: usize,
    /// The addresses that may be reached.
    pub egress: Arc<EgressRules>,
    /// The lookups of the process.
    pub lookups: Arc<Lookups>,
}

impl SenderConfig {
    /// The identity of this version, with these limits.
    pub fn new(
        connect_timeout: Duration,
        timeout: Duration,
        idle_connections_per_host: usize,
        egress: Arc<EgressRules>,
        lookups: Arc<Lookups>,
    ) -> Self {
        Self {
            connect_timeout,
            timeout,
            user_agent: concat!("triggerd/", env!("CARGO_PKG_VERSION")).to_owned(),
            body_read_bytes_max: BODY_READ_BYTES_MAX,
            idle_connections_per_host,
            egress,
            lookups,
        }
    }
}

/// Why the sender cannot start: no CA certificates on this machine, or an invalid `User-Agent`.
#[derive(Debug, thiserror::Error)]
#[error("webhooks cannot be sent: {0}")]
pub struct SenderError(String);

/// Chooses the TLS provider of the process; later calls do nothing.
pub fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none()
        && rustls::crypto::ring::default_provider().install_default().is_err()
    {
        tracing::debug!("another thread chose the TLS provider first");
    }
}

/// The request of one attempt.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The organization of the endpoint, whose share of the lookups is used.
    pub org: OrgNo,
    /// The URL of the endpoint.
    pub url: &'a str,
    /// The event and the attempt.
    pub subject: Subject,
    /// The body, in the form of the endpoint.
    pub body: Bytes,
    /// The content type of `body`.
    pub content_type: &'static str,
    /// The endpoint's own headers, checked when they were set.
    pub headers: &'a [(String, String)],
    /// The signing secrets; more than one while a secret is rotated.
    pub secrets: &'a [Secret],
    /// Maximum time of the attempt; `None` for the configured time.
    pub timeout: Option<Duration>,
    /// The current wall time, sent as `webhook-timestamp`.
    pub now: Timestamp,
}

/// Sends webhooks. Clones are cheap and share their connections.
#[derive(Clone)]
pub struct Sender {
    connector: Connector,
    pool: Pool,
    config: Arc<SenderConfig>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Sender {
    /// Makes a sender with these limits.
    ///
    /// # Errors
    /// TLS cannot be set up (no CA store: the package ca-certificates), or the `User-Agent` is not
    /// a valid header value.
    pub fn new(config: SenderConfig) -> Result<Self, SenderError> {
        install_crypto();
        let tls = connector::tls().map_err(|error| match error {
            rustls::Error::General(words) => SenderError(words),
            other => SenderError(other.to_string()),
        })?;
        Self::with_tls(config, tls)
    }

    fn with_tls(config: SenderConfig, tls: rustls::ClientConfig) -> Result<Self, SenderError> {
        if !is_header_value(&config.user_agent) {
            return Err(SenderError("the User-Agent is not a valid header value".to_owned()));
        }
        let (lookups, rules) = (Arc::clone(&config.lookups), Arc::clone(&config.egress));
        let (tls, timeout) = (Arc::new(tls).into(), config.connect_timeout);
        let connector = Connector { lookups, rules, tls, timeout };
        let pool = Pool::new(config.idle_connections_per_host);
        Ok(Self { connector, pool, config: Arc::new(config) })
    }

    /// Makes the attempt; a failure is an outcome too. A 2xx counts as soon as its head is here:
    /// the receiver has accepted, and another request because of a slow or broken body would only
    /// make a duplicate.
    ///
    /// # Errors
    /// The name of the receiver could not be looked up for want of a thread: this is no attempt.
    pub async fn send(&self, request: Request<'_>) -> Result<AttemptOutcome, NoLookup> {
        let begun = Instant::now();
        let mut trace = AttemptTrace::default();
        let answer = match self.attempt(&request, begun, &mut trace).await {
            Ok(answer) => Ok(answer),
            Err(Unanswered::Failed(error)) => Err(error),
            Err(Unanswered::NotBegun(no_lookup)) => return Err(no_lookup),
        };
        // The wait for the turn of the lookup belongs to no attempt.
        let started_at = request.now.plus_ms(u64::from(whole_ms(trace.waited)));
        let mut outcome = trace.outcome(started_at, begun);
        match answer {
            Ok(answer) => {
                let ready_at = trace.ready_at(begun);
                outcome.timing.first_byte_ms =
                    Some(whole_ms(answer.here_at.saturating_duration_since(ready_at)));
                outcome.status = Some(answer.head.status);
                outcome.error = error_of(&answer.head);
                let answered_at = started_at.plus_ms(u64::from(outcome.duration_ms));
                let asked =
                    answer.head.header("retry-after").and_then(|value| str::from_utf8(value).ok());
                outcome.retry_after_ms = asked.and_then(|asked| retry_after_ms(asked, answered_at));
                if outcome.error.is_some() {
                    (outcome.headers, outcome.body) = (kept_headers(&answer.head), answer.body);
                }
            }
            Err(error) => outcome.error = Some(error),
        }
        Ok(outcome)
    }

    async fn attempt(
        &self,
        request: &Request<'_>,
        begun: Instant,
        trace: &mut AttemptTrace,
    ) -> Result<Answer, Unanswered> {
        let timeout = request.timeout.unwrap_or(self.config.timeout);
        let mut deadline = tokio::time::Instant::from_std(begun) + timeout;
        let (url, target) = self.config.egress.judge_text(request.url).map_err(|error| {
            AttemptError { code: ErrorCode::EgressBlocked, detail: error.to_string() }
        })?;
        let signed = self.signed(request, &url).map_err(|rule| unaskable(&target, rule))?;
        let asked = (signed.as_slice(), request.body.as_ref());
        let origin = Origin {
            is_secure: url.scheme() == "https",
            host: target.host.clone(),
            port: target.port,
        };
        let about = (&origin, &target, request.subject);
        let over_idle = timeout_at(deadline, self.ask_over_idle(about, asked, trace)).await;
        let over_idle = self.explained(over_idle, (&target, timeout), trace)?;
        let answered = if let Some(answered) = over_idle {
            answered
        } else {
            let waits = Instant::now();
            let lookup = self.connector.begin(request.org, &target, timeout).await?;
            trace.waited = waits.elapsed();
            deadline += trace.waited;
            let over_new = self.ask_over_new((&origin, &target, lookup), asked, trace);
            let over_new = timeout_at(deadline, over_new).await;
            self.explained(over_new, (&target, timeout), trace)?
        };
        Ok(self.answer(answered, deadline, request.subject).await)
    }

    /// Explains the error of a part of the attempt that ended, or whose time is over.
    fn explained<T>(
        &self,
        ended: Result<Result<T, Failure>, Elapsed>,
        (target, timeout): (&Target, Duration),
        trace: &AttemptTrace,
    ) -> Result<T, AttemptError> {
        let (step, place) = (trace.connection.step, shown(target, trace));
        match ended {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if failure::is_late(&*error) => {
                Err(failure::explain_late(step, self.config.connect_timeout, &place))
            }
            Ok(Err(error)) => Err(failure::explain(&*error, step, &place)),
            Err(_elapsed) => Err(failure::explain_timeout(step, timeout, &place)),
        }
    }

    /// Sends the request over an idle connection, and reads the head of the answer. Returns `None`
    /// if there is no idle connection, or if it had ended.
    async fn ask_over_idle(
        &self,
        (origin, target, subject): (&Origin, &Target, Subject),
        request: (&[u8], &[u8]),
        trace: &mut AttemptTrace,
    ) -> Result<Option<Answered>, Failure> {
        let Some(mut link) = self.pool.take(origin) else { return Ok(None) };
        *trace =
            AttemptTrace { connection: link.trace.clone(), is_reused: true, waited: trace.waited };
        let mut reader = HeadReader::new(head_bytes_max());
        match link.exchange(request, &mut reader).await {
            Ok(head) if ends_idleness(&head) => {
                let message = "an idle connection had ended with a 408; the request is sent again";
                log_about!(debug, subject, %target, "{message}");
            }
            Ok(head) => return Ok(Some(Answered::new(origin.clone(), link, head, reader))),
            Err(broken) if reader.has_heard() => return Err(broken.into()),
            Err(broken) => {
                let message = "an idle connection had been closed; the request is sent again";
                log_about!(debug, subject, %target, %broken, "{message}");
            }
        }
        *trace = AttemptTrace::default();
        Ok(None)
    }

    /// Sends the request over a new connection, and reads the head of the answer.
    async fn ask_over_new(
        &self,
        (origin, target, lookup): (&Origin, &Target, Option<Asked>),
        request: (&[u8], &[u8]),
        trace: &mut AttemptTrace,
    ) -> Result<Answered, Failure> {
        let connected =
            self.connector.connect((target, lookup), origin.is_secure, &mut trace.connection);
        let mut link = Link { stream: connected.await?, trace: trace.connection.clone() };
        let mut reader = HeadReader::new(head_bytes_max());
        let head = link.exchange(request, &mut reader).await?;
        Ok(Answered::new(origin.clone(), link, head, reader))
    }

    /// Reads the body of a refusal as far as it arrives soon; an acceptance needs no body. The
    /// connection goes back to the pool.
    async fn answer(
        &self,
        answered: Answered,
        deadline: tokio::time::Instant,
        subject: Subject,
    ) -> Answer {
        let Answered { origin, mut link, head, rest, here_at } = answered;
        let mut body = Body::of(&head, self.config.body_read_bytes_max, KEPT_BODY_BYTES_MAX);
        body.feed(&rest);
        if !is_success(head.status) {
            let within = deadline.min(tokio::time::Instant::now() + REFUSAL_WITHIN);
            let read = timeout_at(within, link.read(&mut body, Body::is_kept)).await;
            if read.is_err() {
                let subject = Subject { status: Some(head.status), ..subject };
                log_about!(debug, subject, "the body of the refusal arrives slowly");
            }
        }
        let kept = body.take_kept();
        self.pool.take_back(origin, link, body);
        Answer { head, here_at, body: kept }
    }

    /// Builds the head of the request, with its signature.
    fn signed(&self, request: &Request<'_>, url: &Url) -> Result<Vec<u8>, &'static str> {
        let id = request.subject.event.to_string();
        let timestamp_s = request.now.unix_seconds();
        let keys: Vec<&[u8]> = request.secrets.iter().map(Secret::bytes).collect();
        let mut head = String::with_capacity(512);
        head.extend(["POST ", url.path()]);
        head.extend(url.query().into_iter().flat_map(|query| ["?", query]));
        head.push_str(" HTTP/1.1\r\n");
        let mut add = |name: &str, value: &str| {
            if !is_header_value(value) {
                return Err("a header value has characters that HTTP forbids");
            }
            head.extend([name, ": ", value, "\r\n"]);
            Ok(())
        };
        let host = url.host_str().unwrap_or_default();
        match url.port() {
            Some(port) => add("host", &format!("{host}:{port}"))?,
            None => add("host", host)?,
        }
        for (name, value) in request.headers {
            add(name, value)?;
        }
        add("content-type", request.content_type)?;
        add("content-length", &request.body.len().to_string())?;
        add("webhook-id", &id)?;
        add("webhook-timestamp", &timestamp_s.to_string())?;
        add("webhook-signature", &signature::sign(&keys, &id, timestamp_s, &request.body))?;
        add("triggerd-attempt", &request.subject.attempt.to_string())?;
        add("user-agent", &self.config.user_agent)?;
        if !request.headers.iter().any(|(name, _)| name == "accept") {
            add("accept", "*/*")?;
        }
        head.push_str("\r\n");
        Ok(head.into_bytes())
    }
}

/// Returns true if a receiver ends an idle connection with this answer. A 408 that leaves the
/// connection open answers the request.
fn ends_idleness(head: &Head) -> bool {
    head.status == StatusCode::REQUEST_TIMEOUT.as_u16() && !head.keeps_connection()
}

/// Allows the characters of RFC 9110, 5.5, and all non-ASCII characters as UTF-8.
fn is_header_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control())
}

/// The error for an allowed URL that cannot be written as an HTTP request.
fn unaskable(target: &Target, rule: &str) -> AttemptError {
    AttemptError {
        code: ErrorCode::Protocol,
        detail: format!("the request to {target} is not valid HTTP: {rule}"),
    }
}

/// The head of an answer and its connection.
struct Answered {
    origin: Origin,
    link: Link,
    head: Head,
    /// Bytes of the body that arrived with the head.
    rest: Vec<u8>,
    here_at: Instant,
}

impl Answered {
    fn new(origin: Origin, link: Link, head: Head, reader: HeadReader) -> Self {
        Self { origin, link, head, rest: reader.into_rest(), here_at: Instant::now() }
    }
}

/// The answer of a receiver, as far as kept.
struct Answer {
    head: Head,
    /// When the head was complete.
    here_at: Instant,
    body: Vec<u8>,
}

fn head_bytes_max() -> usize {
    if failpoint::is_on(Switch::HeadUnbounded) { UNBOUNDED_HEAD_BYTES } else { HEAD_BYTES_MAX }
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

fn kept_headers(head: &Head) -> Vec<(String, String)> {
    let kept = KEPT_HEADERS.iter().filter_map(|name| Some((*name, head.header(name)?)));
    kept.map(|(name, value)| {
        let value = String::from_utf8_lossy(value).chars().take(KEPT_HEADER_CHARS_MAX).collect();
        (name.to_owned(), value)
    })
    .collect()
}

/// `None` for 2xx, otherwise the error code and its sentence.
fn error_of(head: &Head) -> Option<AttemptError> {
    if is_success(head.status) {
        return None;
    }
    let reason =
        StatusCode::from_u16(head.status).ok().and_then(|status| status.canonical_reason());
    let status = match reason {
        Some(reason) => format!("{} {reason}", head.status),
        None => head.status.to_string(),
    };
    // 304 is no redirect: it answers a conditional request (RFC 9110, 15.4.5), which ours is not.
    if !(300..400).contains(&head.status) || head.status == 304 {
        let detail = format!("the receiver answered {status}");
        return Some(AttemptError { code: ErrorCode::HttpStatus, detail });
    }
    let location = head.header("location").map(String::from_utf8_lossy);
    let to = match location {
        Some(location) => format!(" to {}", location.chars().take(200).collect::<String>()),
        None => String::new(),
    };
    let detail =
        format!("the receiver answered {status}, a redirect{to}; redirects are not followed");
    Some(AttemptError { code: ErrorCode::Redirect, detail })
}

/// `Retry-After` in milliseconds from the answer: seconds, or a date (RFC 9110, 10.2.3). A past
/// date is 0.
fn retry_after_ms(text: &str, answered_at: Timestamp) -> Option<u64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
        // Too many digits for a number count as the longest time.
        return Some(text.parse::<u64>().map_or(u64::MAX, |seconds| seconds.saturating_mul(1_000)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let date_ms = u64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
    Some(date_ms.saturating_sub(answered_at.0))
}

/// The target for messages: host and port of the URL, and up to four addresses of a name.
fn shown(target: &Target, trace: &AttemptTrace) -> String {
    let shown: Vec<String> =
        trace.connection.addresses.iter().take(4).map(|address| address.ip().to_string()).collect();
    if shown.is_empty() || target.address.is_some() {
        target.to_string()
    } else {
        format!("{target} ({})", shown.join(", "))
    }
}
