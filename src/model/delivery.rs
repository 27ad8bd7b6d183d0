//! A delivery: one event on its way to one endpoint, attempt by attempt.

use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// How much of a receiver's answer is kept, in bytes.
pub const KEPT_BODY_BYTES_MAX: usize = 4 << 10;
/// How many of the headers of a receiver's answer are kept,
pub const KEPT_HEADERS_MAX: usize = 16;
/// and how many characters of each.
pub const KEPT_HEADER_CHARS_MAX: usize = 256;

/// Why an attempt failed; the word is part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No complete answer in time.
    Timeout,
    /// No connection.
    Connect,
    /// No secure connection.
    Tls,
    /// The name has no address.
    Dns,
    /// The address must not be reached from here.
    EgressBlocked,
    /// An answer that is not 2xx.
    HttpStatus,
    /// A 3xx answer; redirects are never followed.
    Redirect,
    /// Not HTTP, or broken off.
    Protocol,
    /// The endpoint is gone, or the server stopped meanwhile.
    Canceled,
}

impl ErrorCode {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Timeout,
        Self::Connect,
        Self::Tls,
        Self::Dns,
        Self::EgressBlocked,
        Self::HttpStatus,
        Self::Redirect,
        Self::Protocol,
        Self::Canceled,
    ];

    /// The word for it in the API, in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::EgressBlocked => "egress_blocked",
            Self::HttpStatus => "http_status",
            Self::Redirect => "redirect",
            Self::Protocol => "protocol",
            Self::Canceled => "canceled",
        }
    }
}

/// Why an attempt failed, in one word and in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptError {
    /// The word.
    pub code: ErrorCode,
    /// The sentence: names the address, status or rule.
    pub detail: String,
}

impl AttemptError {
    /// Without what the receiver had the choice of words for: where it redirects to. `status` is that of its answer.
    #[must_use]
    pub fn without_receivers_words(self, status: Option<u16>) -> Self {
        if self.code != ErrorCode::Redirect {
            return self;
        }
        let status = status.unwrap_or(0);
        Self { detail: format!("the receiver answered {status}, a redirect; redirects are not followed"), ..self }
    }
}

/// What one attempt brought. Data, never an `Err`: that it failed is an outcome like another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptOutcome {
    /// When the request began.
    pub started_at: Timestamp,
    /// How long it took: to the head of an acceptance, to what was kept of a refusal, or to the failure.
    pub duration_ms: u32,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// None: accepted (2xx).
    pub error: Option<AttemptError>,
    /// What the receiver's `Retry-After` asks for, in milliseconds from the answer.
    pub retry_after_ms: Option<u64>,
    /// The first 4 KiB of the answer's body, as far as they came within a second of its head, if the attempt failed.
    pub body: Vec<u8>,
    /// A few headers of the answer by their names in lower case, cut short, if the attempt failed.
    pub headers: Vec<(String, String)>,
    /// The address that was connected to, or tried in vain; none if there was none.
    pub address: Option<SocketAddr>,
    /// Where the time went.
    pub timing: Timing,
}

impl AttemptOutcome {
    /// Of an attempt of which nothing is known but its time.
    pub fn new(started_at: Timestamp, duration_ms: u32) -> Self {
        Self {
            started_at,
            duration_ms,
            status: None,
            error: None,
            retry_after_ms: None,
            body: Vec::new(),
            headers: Vec::new(),
            address: None,
            timing: Timing::default(),
        }
    }

    /// Without what the receiver had the choice of words for: it may have repeated what it was sent.
    #[must_use]
    pub fn without_receivers_words(self) -> Self {
        let error = self.error.map(|error| error.without_receivers_words(self.status));
        Self { error, body: Vec::new(), headers: Vec::new(), ..self }
    }
}

/// Where an attempt's time went, in milliseconds. None: that did not happen, or did not end; a connection that was used
/// again took none of the first three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Looking up the name.
    pub dns_ms: Option<u32>,
    /// The TCP connection.
    pub connect_ms: Option<u32>,
    /// The TLS handshake.
    pub tls_ms: Option<u32>,
    /// From the connection's being there to the head of the answer.
    pub first_byte_ms: Option<u32>,
}

/// Why an attempt is made; the word is part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Trigger {
    /// It was due, by the schedule or because the event came.
    Schedule,
    /// Somebody asked for this delivery to be tried again, or sooner.
    Retry,
    /// Somebody asked for many.
    Replay,
    /// Somebody tried the endpoint out.
    Test,
}

impl Trigger {
    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Retry => "retry",
            Self::Replay => "replay",
            Self::Test => "test",
        }
    }
}

/// Why a delivery was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// The schedule has no attempt left.
    AttemptsExhausted,
    /// The receiver answered 410.
    Gone,
}

impl DeadReason {
    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::Gone => "gone",
        }
    }
}

/// Where a delivery stands; the word is part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryStatus {
    /// No attempt yet.
    Pending,
    /// At least one failed, and there will be another.
    Retrying,
    /// Accepted.
    Delivered,
    /// Given up.
    Dead,
    /// Not to be tried any more.
    Canceled,
}

impl DeliveryStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Retrying, Self::Delivered, Self::Dead, Self::Canceled];

    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Canceled => "canceled",
        }
    }
}

impl FromStr for DeliveryStatus {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|status| status.name() == text);
        known.ok_or("must be `pending`, `retrying`, `delivered`, `dead` or `canceled`")
    }
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The endpoint accepted it.
    Delivered,
    /// Try again at this time.
    RetryAt(Timestamp),
    /// Give it up.
    Dead(DeadReason),
}
