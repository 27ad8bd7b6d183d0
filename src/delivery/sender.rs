//! One attempt: sign, send, and say what came of it. Called by the scheduler on the sending runtime; knows nothing of
//! schedules or storage. With its connector and what explains failures the only importer of hyper.
//!
//! A hostile receiver can neither lead the request elsewhere (every address is judged, redirects are not followed, no
//! proxy is used) nor hold on to it (one deadline over everything, at most 16 KiB of the answer's head and of its body are
//! read; more is not even taken off the connection).

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use hyper::{Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connector::{self, Connector, Step, TRACE, Trace};
use super::failure;
use crate::base::sabotage::{self, Switch};
use crate::model::delivery::{
    AttemptError, AttemptOutcome, ErrorCode, KEPT_BODY_BYTES_MAX, KEPT_HEADER_CHARS_MAX, KEPT_HEADERS_MAX, Timing,
};
use crate::model::endpoint::Secret;
use crate::model::id::EventId;
use crate::model::time::Timestamp;
use crate::rules::egress::{EgressRules, Target};
use crate::rules::signature;

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;

/// How much of an answer is read, in bytes, unless configured otherwise.
pub const BODY_READ_BYTES_MAX: usize = 16 << 10;

const IDLE_CONNECTION_KEPT: Duration = Duration::from_secs(30);
/// An answer's head: so many headers,
pub(super) const HEADERS_MAX: usize = 100;
/// and so many bytes.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a refusal that are kept: what helps to find it in the receiver's logs, and nothing that is a secret.
const KEPT_HEADERS: [&str; KEPT_HEADERS_MAX] = [
    "allow",
    "cf-ray",
    "content-length",
    "content-type",
    "date",
    "location",
    "request-id",
    "retry-after",
    "server",
    "traceparent",
    "via",
    "www-authenticate",
    "x-amzn-requestid",
    "x-cache",
    "x-correlation-id",
    "x-request-id",
];

/// What the sender is to keep to.
#[derive(Clone, Debug)]
pub struct SenderConfig {
    /// Longest time until a connection stands, name lookup and TLS included.
    pub connect_timeout: Duration,
    /// Longest time for an attempt in all.
    pub timeout: Duration,
    /// The `User-Agent`.
    pub user_agent: String,
    /// Most that is read of an answer's body, in bytes.
    pub body_read_bytes_max: usize,
    /// Connections kept open to one host while nothing is sent there. With fewer than attempts on their way, most of them
    /// would make a connection of their own.
    pub idle_connections_per_host: usize,
    /// What may be reached.
    pub egress: Arc<EgressRules>,
}

impl SenderConfig {
    /// The contract's figures: 5 s to connect, 15 s in all, 16 KiB of answer; 16 idle connections to a host.
    pub fn new(egress: Arc<EgressRules>) -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(15),
            user_agent: concat!("triggerd/", env!("CARGO_PKG_VERSION")).to_owned(),
            body_read_bytes_max: BODY_READ_BYTES_MAX,
            idle_connections_per_host: 16,
            egress,
        }
    }
}

/// Why there is no sender: no CA certificates on this machine, or a `User-Agent` that is no header value.
#[derive(Debug)]
pub struct SenderError(String);

impl std::fmt::Display for SenderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "webhooks cannot be sent: {}", self.0)
    }
}

impl StdError for SenderError {}

/// Chooses the TLS provider for the process, once.
pub fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none()
        && rustls::crypto::ring::default_provider().install_default().is_err()
    {
        tracing::debug!("another thread was faster to choose the TLS provider");
    }
}

/// One attempt to be made.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Where to.
    pub url: &'a str,
    /// What: `webhook-id`, the same at every attempt.
    pub event_id: EventId,
    /// The first attempt is 1.
    pub attempt: u32,
    /// The body, and its content type.
    pub body: Bytes,
    /// See `body`.
    pub content_type: &'static str,
    /// More headers, checked when they were set.
    pub headers: &'a [(String, String)],
    /// What signs it; more than one while a secret is being rotated.
    pub secrets: &'a [Secret],
    /// Longest time for the attempt in all; none: as configured.
    pub timeout: Option<Duration>,
    /// The time now: `webhook-timestamp`.
    pub now: Timestamp,
}

/// Sends webhooks. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Sender {
    client: Client<Connector, Full<Bytes>>,
    user_agent: HeaderValue,
    config: Arc<SenderConfig>,
}

impl Sender {
    /// A sender that keeps to these limits.
    ///
    /// # Errors
    /// When TLS cannot be set up (no CA store: the package ca-certificates), or the `User-Agent` is no header value.
    pub fn new(config: SenderConfig) -> Result<Self, SenderError> {
        install_crypto();
        let tls = connector::tls().map_err(|error| match error {
            rustls::Error::General(words) => SenderError(words),
            other => SenderError(other.to_string()),
        })?;
        Self::with_tls(config, tls)
    }

    fn with_tls(config: SenderConfig, tls: rustls::ClientConfig) -> Result<Self, SenderError> {
        let user_agent =
            HeaderValue::try_from(&config.user_agent).map_err(|error| SenderError(format!("its name: {error}")))?;
        let mut client = Client::builder(TokioExecutor::new());
        client
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION_KEPT)
            .pool_max_idle_per_host(config.idle_connections_per_host)
            .http1_max_headers(HEADERS_MAX);
        // What is left of the body is in the client's buffer, which is as large as a head may be.
        let mut answer_bytes_max = HEAD_BYTES_MAX * 2 + config.body_read_bytes_max;
        if sabotage::is_on(Switch::HeadUnbounded) {
            answer_bytes_max = 512 << 10;
        } else {
            client.http1_max_buf_size(HEAD_BYTES_MAX);
        }
        let rules = Arc::clone(&config.egress);
        let (tls, timeout) = (Arc::new(tls).into(), config.connect_timeout);
        let client = client.build(Connector { rules, tls, timeout, answer_bytes_max });
        Ok(Self { client, user_agent, config: Arc::new(config) })
    }

    /// Makes the attempt. That it failed is an outcome like another. A 2xx counts as soon as its head is here: the
    /// receiver has accepted, and sending again because of a slow or broken body would only make a duplicate.
    pub async fn send(&self, request: Request<'_>) -> AttemptOutcome {
        let begun = Instant::now();
        let mut journey = Journey::default();
        let answer = self.attempt(&request, begun, &mut journey).await;
        let duration_ms = whole_ms(begun.elapsed());
        let steps = journey.trace.steps();
        let mut outcome = AttemptOutcome { address: steps.address, ..AttemptOutcome::new(request.now, duration_ms) };
        let ready_at = if journey.is_reused {
            begun
        } else {
            outcome.timing = Timing {
                dns_ms: steps.dns.map(whole_ms),
                connect_ms: steps.connect.map(whole_ms),
                tls_ms: steps.tls.map(whole_ms),
                first_byte_ms: None,
            };
            steps.ready_at.unwrap_or(begun)
        };
        match answer {
            Ok(answer) => {
                outcome.timing.first_byte_ms = Some(whole_ms(answer.here_at.saturating_duration_since(ready_at)));
                outcome.status = Some(answer.status.as_u16());
                outcome.error = error_of(&answer);
                let answered_at = request.now.plus_ms(u64::from(outcome.duration_ms));
                outcome.retry_after_ms = answer.retry_after.and_then(|asked| retry_after_ms(&asked, answered_at));
                if outcome.error.is_some() {
                    (outcome.body, outcome.headers) = (answer.body, answer.kept_headers);
                }
            }
            Err(error) => outcome.error = Some(error),
        }
        outcome
    }

    async fn attempt(
        &self,
        request: &Request<'_>,
        begun: Instant,
        journey: &mut Journey,
    ) -> Result<Answer, AttemptError> {
        let timeout = request.timeout.unwrap_or(self.config.timeout);
        let deadline = tokio::time::Instant::from_std(begun) + timeout;
        let (url, target) = self
            .config
            .egress
            .judge_text(request.url)
            .map_err(|error| AttemptError { code: ErrorCode::EgressBlocked, detail: error.to_string() })?;
        let uri = url.as_str().parse::<Uri>().map_err(|error| unaskable(&target, &error))?;
        let mut signed = self.signed(request, uri).map_err(|error| unaskable(&target, &error))?;
        let used = capture_connection(&mut signed);
        let sending = TRACE.scope(journey.trace.clone(), self.client.request(signed));
        let sent = tokio::time::timeout_at(deadline, sending).await;
        // One that was to be used again may have been closed before anything was sent, and a new one did not come about.
        if !matches!(&sent, Ok(Err(error)) if error.is_connect()) {
            journey.learn(&used);
        }
        let step = journey.step();
        match sent {
            Ok(Ok(response)) => Ok(Answer::read(response, self.config.body_read_bytes_max, deadline).await),
            Ok(Err(error)) if failure::is_late(&error) => {
                Err(failure::explain_late(step, self.config.connect_timeout, &place(&target, journey)))
            }
            Ok(Err(error)) => Err(failure::explain(&error, step, &place(&target, journey))),
            Err(_elapsed) => Err(failure::explain_timeout(step, timeout, &place(&target, journey))),
        }
    }

    fn signed(&self, request: &Request<'_>, uri: Uri) -> Result<hyper::Request<Full<Bytes>>, hyper::http::Error> {
        let id = request.event_id.to_string();
        let timestamp_s = request.now.unix_seconds();
        let keys: Vec<&[u8]> = request.secrets.iter().map(Secret::bytes).collect();
        let signature = signature::sign(&keys, &id, timestamp_s, &request.body);
        let own = hyper::Request::post(uri);
        let own = request.headers.iter().fold(own, |it, (name, value)| it.header(name, value));
        let mut signed = own
            .header(CONTENT_TYPE, request.content_type)
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp_s)
            .header("webhook-signature", signature)
            .header("triggerd-attempt", request.attempt)
            .header(USER_AGENT, self.user_agent.clone())
            .body(Full::new(request.body.clone()))?;
        signed.headers_mut().entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        Ok(signed)
    }
}

/// The URL may be reached, but HTTP cannot ask for it.
fn unaskable(target: &Target, error: &dyn StdError) -> AttemptError {
    AttemptError { code: ErrorCode::Protocol, detail: format!("no valid HTTP request to {target}: {error}") }
}

fn whole_ms(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// The connection of an attempt.
#[derive(Default)]
struct Journey {
    /// What is known of the connection that was used; until there is one, of the one that is made for the attempt.
    trace: Trace,
    is_used: bool,
    /// It was there before.
    is_reused: bool,
}

impl Journey {
    /// The client may have made a connection and used another that became free meanwhile.
    fn learn(&mut self, used: &CaptureConnection) {
        let mut known = hyper::http::Extensions::new();
        if let Some(connected) = used.connection_metadata().as_ref() {
            connected.get_extras(&mut known);
        }
        if let Some(used) = known.remove::<Trace>() {
            self.is_used = true;
            self.is_reused = !used.is(&self.trace);
            self.trace = used;
        }
    }

    fn step(&self) -> Step {
        if self.is_used { Step::Use } else { self.trace.steps().step }
    }
}

/// What a receiver answered.
struct Answer {
    status: StatusCode,
    /// When its head was.
    here_at: Instant,
    location: Option<String>,
    retry_after: Option<String>,
    kept_headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    /// Reads on until the end, the limit or the deadline. Short answers are read to their end because the connection can
    /// be used again then; it is closed otherwise.
    async fn read(response: Response<Incoming>, read_bytes_max: usize, deadline: tokio::time::Instant) -> Self {
        let here_at = Instant::now();
        let text = |headers: &HeaderMap, name: HeaderName| -> Option<String> {
            headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (head, mut incoming) = response.into_parts();
        let mut answer = Self {
            status: head.status,
            here_at,
            location: text(&head.headers, LOCATION),
            retry_after: text(&head.headers, RETRY_AFTER),
            kept_headers: kept_headers(&head.headers),
            body: Vec::new(),
        };
        let mut read_bytes = 0;
        while read_bytes < read_bytes_max {
            // The status is known, so a body that breaks off or is late changes nothing.
            let Ok(Some(Ok(frame))) = tokio::time::timeout_at(deadline, incoming.frame()).await else { break };
            let Ok(chunk) = frame.into_data() else { break };
            read_bytes = read_bytes.saturating_add(chunk.len());
            let room = KEPT_BODY_BYTES_MAX.saturating_sub(answer.body.len());
            answer.body.extend(chunk.iter().take(room));
        }
        answer
    }
}

fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let kept = KEPT_HEADERS.iter().filter_map(|name| Some((*name, headers.get(*name)?)));
    kept.map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).chars().take(KEPT_HEADER_CHARS_MAX).collect();
        (name.to_owned(), value)
    })
    .collect()
}

/// Nothing for 2xx, else the word and the sentence.
fn error_of(answer: &Answer) -> Option<AttemptError> {
    if answer.status.is_success() {
        return None;
    }
    let status = match answer.status.canonical_reason() {
        Some(reason) => format!("{} {reason}", answer.status.as_u16()),
        None => answer.status.as_u16().to_string(),
    };
    if !answer.status.is_redirection() {
        let detail = format!("the receiver answered {status}");
        return Some(AttemptError { code: ErrorCode::HttpStatus, detail });
    }
    let to = match &answer.location {
        Some(location) => format!(" to {}", location.chars().take(200).collect::<String>()),
        None => String::new(),
    };
    let detail = format!("the receiver answered {status}, a redirect{to}; redirects are not followed");
    Some(AttemptError { code: ErrorCode::Redirect, detail })
}

/// `Retry-After` as milliseconds from the answer: seconds, or a date (RFC 9110, 10.2.3). A date that has passed is 0.
fn retry_after_ms(text: &str, answered_at: Timestamp) -> Option<u64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
        // Too many digits for a number are a very long time.
        return Some(text.parse::<u64>().map_or(u64::MAX, |seconds| seconds.saturating_mul(1_000)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let date_ms = u64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
    Some(date_ms.saturating_sub(answered_at.0))
}

/// Who was to be reached: as the URL says, and the addresses of a name.
fn place(target: &Target, journey: &Journey) -> String {
    let steps = journey.trace.steps();
    let shown: Vec<String> = steps.addresses.iter().take(4).map(|address| address.ip().to_string()).collect();
    if shown.is_empty() || target.address.is_some() {
        target.to_string()
    } else {
        format!("{target} ({})", shown.join(", "))
    }
}
