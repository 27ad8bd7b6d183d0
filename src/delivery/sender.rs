//! One attempt: sign, send, and say what came of it. Called by the scheduler on the sending runtime; knows nothing of
//! schedules or storage. The only importer of reqwest.
//!
//! A hostile receiver can neither lead the request elsewhere (every address is judged, redirects are not followed, no
//! proxy is used) nor hold on to it (one deadline over everything, at most 16 KiB of the answer are read).

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, dns, redirect, retry};

use super::failure::{self, Stage};
use super::resolver;
use crate::model::delivery::{AttemptError, AttemptOutcome, ErrorCode, KEPT_BODY_BYTES_MAX};
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
const ANSWER_HEADERS_MAX: usize = 100;
const ANSWER_HEADER_BYTES_MAX: u32 = 16 << 10;
/// What an HTTP/2 receiver may send ahead on one stream, and on a whole connection, in bytes.
const STREAM_WINDOW_BYTES: u32 = 32 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;

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
    client: Client,
    config: Arc<SenderConfig>,
}

impl Sender {
    /// A sender that keeps to these limits.
    ///
    /// # Errors
    /// When TLS cannot be set up (no CA store: the package ca-certificates), or the `User-Agent` is no header value.
    pub fn new(config: SenderConfig) -> Result<Self, SenderError> {
        install_crypto();
        let client = Client::builder()
            .user_agent(&config.user_agent)
            .no_proxy()
            .redirect(redirect::Policy::none())
            // An attempt is one request; what follows from a failure is the retry policy's decision.
            .retry(retry::never())
            .referer(false)
            .connect_timeout(config.connect_timeout)
            .pool_max_idle_per_host(config.idle_connections_per_host)
            .pool_idle_timeout(IDLE_CONNECTION_KEPT)
            .http1_max_headers(ANSWER_HEADERS_MAX)
            .http2_max_header_list_size(ANSWER_HEADER_BYTES_MAX)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .dns_resolver(JudgingResolver(Arc::clone(&config.egress)))
            .build()
            .map_err(|error| SenderError(failure::root_words(&error)))?;
        Ok(Self { client, config: Arc::new(config) })
    }

    /// Makes the attempt. That it failed is an outcome like another. A 2xx counts as soon as its head is here: the
    /// receiver has accepted, and sending again because of a slow or broken body would only make a duplicate.
    pub async fn send(&self, request: Request<'_>) -> AttemptOutcome {
        let begun = Instant::now();
        let answer = self.attempt(&request, begun).await;
        let mut outcome = AttemptOutcome {
            started_at: request.now,
            duration_ms: u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX),
            status: None,
            error: None,
            retry_after_ms: None,
            body: Vec::new(),
        };
        match answer {
            Ok(answer) => {
                outcome.status = Some(answer.status.as_u16());
                outcome.error = error_of(&answer);
                let answered_at = request.now.plus_ms(u64::from(outcome.duration_ms));
                outcome.retry_after_ms = answer.retry_after.and_then(|asked| retry_after_ms(&asked, answered_at));
                if outcome.error.is_some() {
                    outcome.body = answer.body;
                }
            }
            Err(error) => outcome.error = Some(error),
        }
        outcome
    }

    async fn attempt(&self, request: &Request<'_>, begun: Instant) -> Result<Answer, AttemptError> {
        let timeout = request.timeout.unwrap_or(self.config.timeout);
        let deadline = tokio::time::Instant::from_std(begun) + timeout;
        let judged = self.config.egress.judge_text(request.url);
        let (url, target) =
            judged.map_err(|error| AttemptError { code: ErrorCode::EgressBlocked, detail: error.to_string() })?;
        let resolved = Resolved::default();
        let sending = RESOLVED.scope(Arc::clone(&resolved), self.signed(request, url).send());
        match tokio::time::timeout_at(deadline, sending).await {
            Ok(Ok(response)) => Ok(Answer::read(response, self.config.body_read_bytes_max, deadline).await),
            Ok(Err(error)) => {
                let stage = match (error.is_connect(), error.is_timeout()) {
                    (true, true) => Stage::ConnectTimedOut(self.config.connect_timeout),
                    (true, false) => Stage::Connecting,
                    (false, _) => Stage::Connected,
                };
                Err(failure::explain(&error, stage, &place(&target, &resolved)))
            }
            Err(_elapsed) => {
                let (place, within) = (place(&target, &resolved), failure::span(timeout));
                Err(AttemptError {
                    code: ErrorCode::Timeout,
                    detail: format!("no answer from {place} within {within}"),
                })
            }
        }
    }

    fn signed(&self, request: &Request<'_>, url: reqwest::Url) -> reqwest::RequestBuilder {
        let id = request.event_id.to_string();
        let timestamp_s = request.now.unix_seconds();
        let keys: Vec<&[u8]> = request.secrets.iter().map(Secret::bytes).collect();
        let signature = signature::sign(&keys, &id, timestamp_s, &request.body);
        let own = request.headers.iter().fold(self.client.post(url), |it, (name, value)| it.header(name, value));
        own.header(CONTENT_TYPE, request.content_type)
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp_s)
            .header("webhook-signature", signature)
            .header("triggerd-attempt", request.attempt)
            .body(request.body.clone())
    }
}

/// What a receiver answered.
struct Answer {
    status: StatusCode,
    location: Option<String>,
    retry_after: Option<String>,
    body: Vec<u8>,
}

impl Answer {
    /// Reads on until the end, the limit or the deadline. Short answers are read to their end because the connection can
    /// be used again then; it is closed otherwise.
    async fn read(mut response: Response, read_bytes_max: usize, deadline: tokio::time::Instant) -> Self {
        let text = |headers: &HeaderMap, name| -> Option<String> {
            headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let mut answer = Self {
            status: response.status(),
            location: text(response.headers(), LOCATION),
            retry_after: text(response.headers(), RETRY_AFTER),
            body: Vec::new(),
        };
        let mut read_bytes = 0;
        while read_bytes < read_bytes_max {
            // The status is known, so a body that breaks off or is late changes nothing.
            let Ok(Ok(Some(chunk))) = tokio::time::timeout_at(deadline, response.chunk()).await else {
                break;
            };
            read_bytes = read_bytes.saturating_add(chunk.len());
            let room = KEPT_BODY_BYTES_MAX.saturating_sub(answer.body.len());
            answer.body.extend(chunk.iter().take(room));
        }
        answer
    }
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

/// The addresses a name had when this attempt connected, for the sentence that says who did not answer.
type Resolved = Arc<Mutex<Vec<SocketAddr>>>;

tokio::task_local! {
    static RESOLVED: Resolved;
}

fn place(target: &Target, resolved: &Resolved) -> String {
    let addresses = resolved.lock().unwrap_or_else(PoisonError::into_inner);
    let shown: Vec<String> = addresses.iter().take(4).map(|address| address.ip().to_string()).collect();
    if shown.is_empty() { target.to_string() } else { format!("{target} ({})", shown.join(", ")) }
}

/// How the HTTP client resolves names: through [`resolver::resolve`].
struct JudgingResolver(Arc<EgressRules>);

impl dns::Resolve for JudgingResolver {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        let rules = Arc::clone(&self.0);
        // Asked here and not in the future: the client may go on connecting in another task.
        let resolved = RESOLVED.try_with(Arc::clone).unwrap_or_default();
        Box::pin(async move {
            let addresses = resolver::resolve(&rules, name.as_str()).await?;
            resolved.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&addresses);
            Ok(Box::new(addresses.into_iter()) as dns::Addrs)
        })
    }
}
