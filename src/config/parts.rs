//! What the rooms are given: one small struct a section, in types that cannot be misread. Their serialized form is the
//! TOML that `check-config` prints, so names and units there are those of `config/triggerd.toml`.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use zeroize::Zeroize;

use crate::model::org::Tier;

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Server {
    /// Address and port to listen on; port 0: any free one.
    pub listen: SocketAddr,
    /// How long a start waits for an address that somebody else listens on.
    #[serde(rename = "bind_seconds", serialize_with = "seconds")]
    pub bind: Duration,
    /// Threads that serve requests; 0: one for each core.
    pub workers: usize,
    /// Connections open at a time, all workers together.
    pub max_connections: usize,
    /// How long a client may take for the head of a request.
    #[serde(rename = "client_timeout_seconds", serialize_with = "seconds")]
    pub client_timeout: Duration,
    /// How long a client may take for the body of a request.
    #[serde(rename = "body_timeout_seconds", serialize_with = "seconds")]
    pub body_timeout: Duration,
    /// How long an idle connection is kept.
    #[serde(rename = "keep_alive_seconds", serialize_with = "seconds")]
    pub keep_alive: Duration,
    /// How long an answer may wait for its reader, taking less than 1 KiB a second.
    #[serde(rename = "write_timeout_seconds", serialize_with = "seconds")]
    pub write_timeout: Duration,
    /// Most bytes of answers that wait for their readers.
    pub answer_bytes_max: usize,
    /// How long what is in hand may take at a stop.
    #[serde(rename = "shutdown_seconds", serialize_with = "seconds")]
    pub shutdown: Duration,
    /// Origins whose pages may call the API, such as `https://app.example.com`; or only `*`.
    pub cors_origins: Vec<String>,
    /// Proxies that are believed whom they speak for.
    #[serde(serialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
}

/// The data directory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Storage {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Bytes of a journal segment.
    pub segment_bytes: u64,
    /// Bytes of free disk below which new events are refused.
    pub reserve_bytes: u64,
    /// Files that can still be made on the filesystem below which new events are refused.
    pub reserve_files: u64,
    /// Bytes of memory to cache the state in.
    pub state_cache_bytes: u64,
}

/// Accepting events.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Intake {
    /// Commands that may wait to be written.
    pub queue: usize,
    /// How long the oldest may have waited before events are refused.
    #[serde(rename = "wait_ms_max", serialize_with = "milliseconds")]
    pub wait_max: Duration,
    /// Bytes of events that may wait or be on their way to the disk.
    pub queue_bytes: usize,
    /// Most commands written with one sync.
    pub group_commands: usize,
    /// Most bytes written with one sync.
    pub group_bytes: usize,
    /// Most bytes of one event's payload.
    pub event_bytes_max: usize,
    /// Most bytes of one batch's request body.
    pub batch_bytes_max: usize,
    /// Most events in one batch.
    pub batch_events_max: usize,
}

/// Deduplication.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dedup {
    /// How long a `dedup_id` names the event it came with.
    #[serde(rename = "window_seconds", serialize_with = "seconds")]
    pub window: Duration,
}

/// The inbox.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inbox {
    /// How long a consumer may wait for an event.
    #[serde(rename = "wait_seconds_max", serialize_with = "seconds")]
    pub wait_max: Duration,
}

/// API keys and the admin token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Keys {
    /// The operator's token; none: it is in a credential or a file.
    #[serde(serialize_with = "masked")]
    pub admin_token: Option<AdminToken>,
    /// Threads that check keys not seen lately.
    pub verify_threads: usize,
    /// Checks that may wait.
    pub verify_queue: usize,
    /// Verified keys remembered.
    pub cache_entries: u64,
    /// How long a verified key is remembered.
    #[serde(rename = "cache_seconds", serialize_with = "seconds")]
    pub cache: Duration,
}

/// The operator's token. Shown by nothing but [`AdminToken::reveal`], wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// A token of this text, judged by the caller.
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The token in clear, to compare in constant time.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

impl Drop for AdminToken {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Rate limits by tier.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tiers {
    /// For trying it out.
    pub free: TierLimit,
    /// For ordinary use.
    pub pro: TierLimit,
    /// For much.
    pub enterprise: TierLimit,
}

impl Tiers {
    /// The limit of a tier.
    pub fn of(&self, tier: Tier) -> TierLimit {
        match tier {
            Tier::Free => self.free,
            Tier::Pro => self.pro,
            Tier::Enterprise => self.enterprise,
        }
    }
}

/// What an organization of a tier may post and ask for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TierLimit {
    /// Events a second, over time.
    pub events_per_second: NonZeroU32,
    /// Events at once, after a quiet while.
    pub burst: NonZeroU32,
    /// Other requests a second, over time.
    pub requests_per_second: NonZeroU32,
    /// Other requests at once, after a quiet while.
    pub request_burst: NonZeroU32,
}

/// The workers that route events to endpoints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workers {
    /// How many threads.
    pub threads: usize,
    /// Events that may wait for them in memory.
    pub queue: usize,
}

/// Attempts and their schedule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Delivery {
    /// How long an attempt may take in all.
    #[serde(rename = "timeout_ms", serialize_with = "milliseconds")]
    pub timeout: Duration,
    /// How long connecting may take; at most `timeout`.
    #[serde(rename = "connect_timeout_ms", serialize_with = "milliseconds")]
    pub connect_timeout: Duration,
    /// Attempts under way at a time, all endpoints together.
    pub max_in_flight: usize,
    /// Attempts under way at a time for the endpoints of one organization; at most `max_in_flight`.
    pub max_in_flight_per_org: usize,
    /// Attempts under way at a time for one endpoint; at most `max_in_flight_per_org`.
    pub max_in_flight_per_endpoint: usize,
    /// Deliveries of one endpoint kept ready in memory.
    pub queue_per_endpoint: usize,
    /// Waits before the second attempt, the third, and so on.
    #[serde(rename = "retry_schedule_seconds", serialize_with = "seconds_list")]
    pub retry_schedule: Vec<Duration>,
    /// How far each wait is moved at random either way, as a share of it, 0.0 to 1.0.
    pub jitter_share: f64,
    /// The organization of an endpoint that did nothing but fail for so long is told; zero: it is not.
    #[serde(rename = "failing_after_seconds", serialize_with = "seconds")]
    pub failing_after: Duration,
    /// Failures in a row after which an endpoint is left alone for a while.
    pub breaker_failures_in_a_row: u32,
    /// Answers of an endpoint among which the share of failures is looked at; 0: none.
    pub breaker_window: u32,
    /// The share from which on it is left alone as well, above 0.0 and up to 1.0.
    pub breaker_failure_share: f64,
    /// How long it is left alone at first.
    #[serde(rename = "breaker_pause_seconds", serialize_with = "seconds")]
    pub breaker_pause: Duration,
    /// How long at most; at least `breaker_pause`.
    #[serde(rename = "breaker_pause_seconds_max", serialize_with = "seconds")]
    pub breaker_pause_max: Duration,
    /// An endpoint that did nothing but fail for so long gets nothing more; zero: it always does.
    #[serde(rename = "disable_after_seconds", serialize_with = "seconds")]
    pub disable_after: Duration,
}

/// Where webhooks may go.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Egress {
    /// Networks that may be reached although they are special.
    #[serde(serialize_with = "networks")]
    pub allow_networks: Vec<IpNet>,
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Log {
    /// What is logged, in the syntax of `tracing_subscriber::EnvFilter`; it parses, and names nothing that there is not.
    pub level: String,
    /// In which form.
    pub format: LogFormat,
    /// Where log files go; none: standard output only.
    #[serde(serialize_with = "path_or_empty")]
    pub directory: Option<PathBuf>,
    /// Bytes of a log file at most.
    pub file_bytes_max: u64,
    /// Log files kept.
    pub files_max: usize,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON anywhere else.
    Auto,
    /// One JSON object a line.
    Json,
    /// For a terminal.
    Text,
}

impl LogFormat {
    /// The one that the configuration calls so.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "json" => Some(Self::Json),
            "text" => Some(Self::Text),
            _ => None,
        }
    }
}

fn seconds<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(value.as_secs())
}

fn milliseconds<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
}

fn seconds_list<S: Serializer>(values: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(Duration::as_secs))
}

fn networks<S: Serializer>(values: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}

#[expect(clippy::ref_option, reason = "serde hands over the field as it is")]
fn path_or_empty<S: Serializer>(value: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.as_ref().map_or_else(String::new, |path| path.display().to_string()))
}

/// Too short to be taken for a token, should someone load what was printed.
#[expect(clippy::ref_option, reason = "serde hands over the field as it is")]
fn masked<S: Serializer>(value: &Option<AdminToken>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if value.is_some() { "(set)" } else { "" })
}
