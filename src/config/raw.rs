//! The configuration in the shape of `config/triggerd.toml`, not yet checked. Units are in the
//! names. There is no `Debug`, because the admin token is here in clear.

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) server: RawServer,
    pub(super) storage: RawStorage,
    pub(super) intake: RawIntake,
    pub(super) dedup: RawDedup,
    pub(super) inbox: RawInbox,
    pub(super) keys: RawKeys,
    pub(super) tiers: RawTiers,
    pub(super) workers: RawWorkers,
    pub(super) delivery: RawDelivery,
    pub(super) egress: RawEgress,
    pub(super) log: RawLog,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawServer {
    pub(super) listen: String,
    pub(super) bind_seconds: u64,
    pub(super) workers: u64,
    pub(super) max_connections: u64,
    pub(super) client_timeout_seconds: u64,
    pub(super) body_timeout_seconds: u64,
    pub(super) keep_alive_seconds: u64,
    pub(super) write_timeout_seconds: u64,
    pub(super) answer_bytes_max: u64,
    pub(super) shutdown_seconds: u64,
    pub(super) cors_origins: Vec<String>,
    pub(super) trusted_proxies: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStorage {
    pub(super) data_dir: String,
    pub(super) segment_bytes: u64,
    pub(super) reserve_bytes: u64,
    pub(super) reserve_files: u64,
    pub(super) state_cache_bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIntake {
    pub(super) queue: u64,
    pub(super) wait_ms_max: u64,
    pub(super) queue_bytes: u64,
    pub(super) group_commands: u64,
    pub(super) group_bytes: u64,
    pub(super) event_bytes_max: u64,
    pub(super) batch_bytes_max: u64,
    pub(super) batch_events_max: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDedup {
    pub(super) window_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInbox {
    pub(super) wait_seconds_max: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKeys {
    pub(super) admin_token: String,
    pub(super) verify_threads: u64,
    pub(super) verify_queue: u64,
    pub(super) cache_entries: u64,
    pub(super) cache_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTiers {
    pub(super) free: RawTier,
    pub(super) pro: RawTier,
    pub(super) enterprise: RawTier,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTier {
    pub(super) events_per_second: u64,
    pub(super) burst: u64,
    pub(super) requests_per_second: u64,
    pub(super) request_burst: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWorkers {
    pub(super) threads: u64,
    pub(super) queue: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDelivery {
    pub(super) timeout_ms: u64,
    pub(super) connect_timeout_ms: u64,
    pub(super) max_in_flight: u64,
    pub(super) max_in_flight_per_org: u64,
    pub(super) max_in_flight_per_endpoint: u64,
    pub(super) queue_per_endpoint: u64,
    pub(super) retry_schedule_seconds: Vec<u64>,
    pub(super) jitter_share: f64,
    pub(super) failing_after_seconds: u64,
    pub(super) breaker_failures_in_a_row: u64,
    pub(super) breaker_window: u64,
    pub(super) breaker_failure_share: f64,
    pub(super) breaker_pause_seconds: u64,
    pub(super) breaker_pause_seconds_max: u64,
    pub(super) disable_after_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEgress {
    pub(super) allow_networks: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) level: String,
    pub(super) format: String,
    pub(super) directory: String,
    pub(super) file_bytes_max: u64,
    pub(super) files_max: u64,
}
