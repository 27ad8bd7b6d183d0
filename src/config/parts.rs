//! The checked configuration as the modules receive it: one small struct for each section, with
//! typed values. The serialized form is the TOML of `check-config`, so its names and units are
//! those of `config/triggerd.toml`.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use zeroize::Zeroize;

use crate::model::org::Tier;

/// Settings of the HTTP server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Server {
    /// Address and port to listen on; port 0 stands for any free port.
    pub listen: SocketAddr,
    /// Time that a start waits for an address in use by another process.
    #[serde(rename = "bind_seconds", serialize_with = "seconds")]
    pub bind: Duration,
    /// Number of HTTP worker threads; 0 stands for one for each core.
    pub workers: usize,
    /// Maximum number of open connections, for all workers together.
    pub max_connections: usize,
    /// Time limit for the head of a request.
    #[serde(rename = "client_timeout_seconds", serialize_with = "seconds")]
    pub client_timeout: Duration,
    /// Time limit for the body of a request.
    #[serde(rename = "body_timeout_seconds", serialize_with = "seconds")]
    pub body_timeout: Duration,
    /// Time after which an idle connection is closed.
    #[serde(rename = "keep_alive_seconds", serialize_with = "seconds")]
    pub keep_alive: Duration,
    /// Time that an answer waits for a reader that takes less than 1 KiB a second.
    #[serde(rename = "write_timeout_seconds", serialize_with = "seconds")]
    pub write_timeout: Duration,
    /// Maximum number of bytes in answers waiting for their readers.
    pub answer_bytes_max: usize,
    /// Time limit for requests and attempts under way when the server stops.
    #[serde(rename = "shutdown_seconds", serialize_with = "seconds")]
    pub shutdown: Duration,
    /// Origins whose web pages may call the API, such as `https://app.example.com`; or `*` alone.
    pub cors_origins: Vec<String>,
    /// Proxies whose statement about the client's address is trusted.
    #[serde(serialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
}

/// Settings of the data directory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Storage {
    /// Path of the data directory.
    pub data_dir: PathBuf,
    /// Size of a journal segment, in bytes.
    pub segment_bytes: u64,
    /// Free bytes on the disk below which new events are refused.
    pub reserve_bytes: u64,
    /// Number of files that can still be created on the filesystem, below which new events are
    /// refused.
    pub reserve_files: u64,
    /// Size of the memory cache of the state, in bytes.
    pub state_cache_bytes: u64,
}

/// Settings of the intake of events.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Intake {
    /// Maximum number of commands waiting to be written.
    pub queue: usize,
    /// Time that the oldest waiting command may wait before events are refused.
    #[serde(rename = "wait_ms_max", serialize_with = "milliseconds")]
    pub wait_max: Duration,
    /// Maximum number of bytes of events waiting to be written or being written.
    pub queue_bytes: usize,
    /// Maximum number of commands in a commit group.
    pub group_commands: usize,
    /// Maximum number of bytes in a commit group.
    pub group_bytes: usize,
    /// Maximum size of an event's payload, in bytes.
    pub event_bytes_max: usize,
    /// Maximum size of a batch's request body, in bytes.
    pub batch_bytes_max: usize,
    /// Maximum number of events in a batch.
    pub batch_events_max: usize,
}

/// Settings of the deduplication of events.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dedup {
    /// Deduplication window: how long a `dedup_id` stands for the same event.
    #[serde(rename = "window_seconds", serialize_with = "seconds")]
    pub window: Duration,
}

/// Settings of the inbox.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inbox {
    /// Maximum duration of a long poll.
    #[serde(rename = "wait_seconds_max", serialize_with = "seconds")]
    pub wait_max: Duration,
}

/// Settings of API keys and the admin token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Keys {
    /// The admin token; absent if it comes from a credential or a file.
    #[serde(serialize_with = "masked")]
    pub admin_token: Option<AdminToken>,
    /// Number of threads that verify keys missing from the cache.
    pub verify_threads: usize,
    /// Maximum number of verifications waiting.
    pub verify_queue: usize,
    /// Maximum number of verified keys in the cache.
    pub cache_entries: u64,
    /// Time that a verified key stays in the cache.
    #[serde(rename = "cache_seconds", serialize_with = "seconds")]
    pub cache: Duration,
}

/// The operator's token. Only [`AdminToken::reveal`] shows the text, which is wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// Makes a token of this text, which the caller has checked.
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The token in clear, for a comparison in constant time.
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

/// Rate limits of each tier.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tiers {
    /// The limit for trying triggerd.
    pub free: TierLimit,
    /// The limit for ordinary use.
    pub pro: TierLimit,
    /// The limit for heavy use.
    pub enterprise: TierLimit,
}

impl Tiers {
    /// The limit of this tier.
    pub fn of(&self, tier: Tier) -> TierLimit {
        match tier {
            Tier::Free => self.free,
            Tier::Pro => self.pro,
            Tier::Enterprise => self.enterprise,
        }
    }
}

/// Rate limits of an organization of one tier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TierLimit {
    /// Events a second, over time.
    pub events_per_second: NonZeroU32,
    /// Events at once, after a quiet period.
    pub burst: NonZeroU32,
    /// Other requests a second, over time.
    pub requests_per_second: NonZeroU32,
    /// Other requests at once, after a quiet period.
    pub request_burst: NonZeroU32,
}

/// Settings of the workers that route events to endpoints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workers {
    /// Number of worker threads.
    pub threads: usize,
    /// Maximum number of events waiting for the workers in memory.
    pub queue: usize,
}

/// Settings of attempts, retries and circuit breakers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Delivery {
    /// Time limit for a whole attempt.
    #[serde(rename = "timeout_ms", serialize_with = "milliseconds")]
    pub timeout: Duration,
    /// Time limit for connecting; at most `timeout`.
    #[serde(rename = "connect_timeout_ms", serialize_with = "milliseconds")]
    pub connect_timeout: Duration,
    /// Maximum number of attempts under way, for all endpoints together.
    pub max_in_flight: usize,
    /// Maximum number of attempts under way for the endpoints of one organization; at most
    /// `max_in_flight`.
    pub max_in_flight_per_org: usize,
    /// Maximum number of attempts under way for one endpoint; at most `max_in_flight_per_org`.
    pub max_in_flight_per_endpoint: usize,
    /// Maximum number of deliveries of one endpoint ready in memory.
    pub queue_per_endpoint: usize,
    /// Waits before the second attempt, the third, and so on.
    #[serde(rename = "retry_schedule_seconds", serialize_with = "seconds_list")]
    pub retry_schedule: Vec<Duration>,
    /// Jitter: the random share by which each wait is made longer or shorter, 0.0 to 1.0.
    pub jitter_share: f64,
    /// Time of failures alone after which the organization of an endpoint is notified; zero stands
    /// for never.
    #[serde(rename = "failing_after_seconds", serialize_with = "seconds")]
    pub failing_after: Duration,
    /// Number of failures in a row at which the circuit breaker opens.
    pub breaker_failures_in_a_row: u32,
    /// Number of latest answers in which the failure rate is measured; 0 turns this off.
    pub breaker_window: u32,
    /// Failure rate at which the circuit breaker opens, above 0.0 and up to 1.0.
    pub breaker_failure_share: f64,
    /// First pause of an open circuit breaker.
    #[serde(rename = "breaker_pause_seconds", serialize_with = "seconds")]
    pub breaker_pause: Duration,
    /// Maximum pause of an open circuit breaker; at least `breaker_pause`.
    #[serde(rename = "breaker_pause_seconds_max", serialize_with = "seconds")]
    pub breaker_pause_max: Duration,
    /// Time of failures alone after which an endpoint is disabled; zero stands for never.
    #[serde(rename = "disable_after_seconds", serialize_with = "seconds")]
    pub disable_after: Duration,
}

/// Settings of the networks that webhooks may reach.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Egress {
    /// Special networks that webhooks may reach nevertheless.
    #[serde(serialize_with = "networks")]
    pub allow_networks: Vec<IpNet>,
}

/// Settings of the logs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Log {
    /// Log level, in the syntax of `tracing_subscriber::EnvFilter`. It is valid, and every module
    /// in it exists.
    pub level: String,
    /// The form of the lines.
    pub format: LogFormat,
    /// Directory of the log files; absent if there is only standard output.
    #[serde(serialize_with = "path_or_empty")]
    pub directory: Option<PathBuf>,
    /// Maximum size of a log file, in bytes.
    pub file_bytes_max: u64,
    /// Maximum number of log files.
    pub files_max: usize,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON anywhere else.
    Auto,
    /// One JSON object for each line.
    Json,
    /// Text for people to read.
    Text,
}

impl LogFormat {
    /// Returns the format with this name in the configuration.
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
    serializer
        .serialize_str(&value.as_ref().map_or_else(String::new, |path| path.display().to_string()))
}

/// Masks the token. The mask is too short for a token, so a printed configuration cannot be loaded
/// again with the mask.
#[expect(clippy::ref_option, reason = "serde hands over the field as it is")]
fn masked<S: Serializer>(value: &Option<AdminToken>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if value.is_some() { "(set)" } else { "" })
}
