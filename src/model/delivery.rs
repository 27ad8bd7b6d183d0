//! A delivery: an event on its way to an endpoint, attempt by attempt.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time::Timestamp;
use crate::base::names::{UnknownName, named};

/// Maximum number of bytes that are kept of a receiver's answer.
pub const KEPT_BODY_BYTES_MAX: usize = 4 << 10;
/// Maximum number of headers that are kept of a receiver's answer.
pub const KEPT_HEADERS_MAX: usize = 16;
/// Maximum number of characters that are kept of each header.
pub const KEPT_HEADER_CHARS_MAX: usize = 256;

/// The kind of an attempt's failure. The API shows its name, so the name never changes.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ErrorCode {
    /// No complete answer came in time.
    Timeout,
    /// The server could not connect to the receiver.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The host name has no address.
    Dns,
    /// The rules for outgoing requests forbid the address.
    EgressBlocked,
    /// The status of the answer is not 2xx.
    HttpStatus,
    /// The receiver answered 3xx. Redirects are never followed.
    Redirect,
    /// The answer is not HTTP, or it broke off.
    Protocol,
}

named!(ErrorCode);

/// The reason why an attempt failed, as a code and as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptError {
    /// The kind of the failure.
    pub code: ErrorCode,
    /// The sentence for people. It names the address, the status or the rule.
    pub detail: String,
}

impl AttemptError {
    /// Returns the error without any text that the receiver chose: the target of a redirect.
    /// `status` is the status of the answer.
    #[must_use]
    pub fn without_receivers_words(self, status: Option<u16>) -> Self {
        if self.code != ErrorCode::Redirect {
            return self;
        }
        let status = status.unwrap_or(0);
        Self {
            detail: format!(
                "the receiver answered {status}, a redirect; redirects are not followed"
            ),
            ..self
        }
    }
}

/// The outcome of one attempt. A failed attempt is an outcome too, never an `Err`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptOutcome {
    /// The time at which the request began.
    pub started_at: Timestamp,
    /// The steady time at which the request began.
    pub started_steady: Timestamp,
    /// The time the attempt took, in milliseconds: up to the head of an acceptance, to the kept
    /// part of a refusal, or to the failure.
    pub duration_ms: u32,
    /// The HTTP status. Absent if no answer came.
    pub status: Option<u16>,
    /// The failure. Absent if the receiver accepted the event (2xx).
    pub error: Option<AttemptError>,
    /// The wait of the receiver's `Retry-After`, in milliseconds from the answer.
    pub retry_after_ms: Option<u64>,
    /// The first 4 KiB of the answer's body, as far as they came within a second of the head. Only
    /// of a failed attempt.
    pub body: Vec<u8>,
    /// The answer's headers of a fixed list, with names in lower case and values cut short. Only of
    /// a failed attempt.
    pub headers: Vec<(String, String)>,
    /// The connected address. Without a connection, the first address to try; absent if there was
    /// none.
    pub address: Option<SocketAddr>,
    /// The durations of the attempt's parts.
    pub timing: Timing,
}

impl AttemptOutcome {
    /// Returns an outcome with nothing but the time. The steady time is the same.
    pub fn new(started_at: Timestamp, duration_ms: u32) -> Self {
        Self {
            started_at,
            started_steady: started_at,
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

    /// Returns the outcome without any text that the receiver chose. A receiver may repeat the
    /// request in its answer.
    #[must_use]
    pub fn without_receivers_words(self) -> Self {
        let error = self.error.map(|error| error.without_receivers_words(self.status));
        Self { error, body: Vec::new(), headers: Vec::new(), ..self }
    }
}

/// The durations of an attempt's parts, in milliseconds. A part is absent if it did not happen or
/// did not end: an attempt over a kept connection has none of the first three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Timing {
    /// The lookup of the host name.
    #[schema(required)]
    pub dns_ms: Option<u32>,
    /// The opening of the TCP connection.
    #[schema(required)]
    pub connect_ms: Option<u32>,
    /// The duration of the TLS handshake.
    #[schema(required)]
    pub tls_ms: Option<u32>,
    /// The wait for the head of the answer, from the moment at which the connection is there.
    #[schema(required)]
    pub first_byte_ms: Option<u32>,
}

/// The cause of an attempt. The API shows its name, so the name never changes.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum Trigger {
    /// The attempt was due: by the retry schedule, or because the event came.
    Schedule,
    /// A user asked to retry this delivery, or to retry it sooner.
    Retry,
    /// A user asked for a replay of many events.
    Replay,
    /// A user sent a test event to the endpoint.
    Test,
}

impl Trigger {
    /// The name of the trigger in the API.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The reason why a delivery became a dead letter.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum DeadReason {
    /// The schedule has no attempt left.
    AttemptsExhausted,
    /// The receiver answered 410.
    Gone,
}

impl DeadReason {
    /// The name of the reason in the API.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The status of a delivery. The API shows its name, so the name never changes.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[strum(
    serialize_all = "snake_case",
    parse_err_ty = UnknownName,
    parse_err_fn = UnknownName::of::<DeliveryStatus>
)]
pub enum DeliveryStatus {
    /// No attempt has ended yet.
    Pending,
    /// At least one attempt failed, and another will follow.
    Retrying,
    /// The receiver accepted the event.
    Delivered,
    /// The delivery was given up: it is a dead letter.
    Dead,
    /// No further attempt will be made.
    Canceled,
}

named!(DeliveryStatus);

/// The consequence of an attempt for its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The receiver accepted the event.
    Delivered,
    /// The next attempt is due at this time.
    RetryAt(Timestamp),
    /// The delivery becomes a dead letter.
    Dead(DeadReason),
}
