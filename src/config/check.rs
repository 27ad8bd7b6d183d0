//! The range of each value, and the rules between values. Takes raw settings; returns a [`Config`]
//! or every fault.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::Config;
use super::fault::{ConfigError, Fault};
use super::layers::Given;
use super::parts::{
    AdminToken, Dedup, Delivery, Egress, Inbox, Intake, Keys, Log, LogFormat, Server, Storage,
    TierLimit, Tiers, Workers,
};
use super::raw::{
    RawDelivery, RawEgress, RawIntake, RawKeys, RawLog, RawServer, RawStorage, RawTier,
};
use super::texts;
use crate::model::endpoint::TIMEOUT_MS_MAX;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Upper bound of `intake.wait_ms_max`, in milliseconds.
pub const INTAKE_WAIT_MS_MAX: u64 = 60_000;
/// Upper bound of `inbox.wait_seconds_max`, in seconds.
pub const INBOX_WAIT_SECONDS_MAX: u64 = 30;
const DAY_SECONDS: u64 = 86_400;
/// Maximum number of HTTP worker threads; actix-server panics above it.
const SERVER_WORKERS_MAX: u64 = 512;
/// Maximum number of answers in a breaker's window.
const BREAKER_WINDOW_MAX: u64 = 64;
/// Maximum number of waits in a retry schedule.
const RETRIES_MAX: usize = 30;
/// Maximum rate and burst of a tier, in events.
const TIER_EVENTS_MAX: u32 = 100_000_000;
/// Maximum rate and burst of a tier, in other requests.
const TIER_REQUESTS_MAX: u64 = 1_000_000_000;
/// Number of other requests allowed for each event, unless the configuration sets a limit.
const TIER_REQUESTS_FOR_EVENT: u64 = 10;
/// Allowed lengths of an admin token, in characters.
const ADMIN_TOKEN_CHARS: RangeInclusive<usize> = 16..=255;

/// True if the key's value must not be shown.
pub(super) fn is_secret(key: &str) -> bool {
    key == "keys.admin_token"
}

/// Checks all values and all rules between them.
pub(super) fn validated(given: Given) -> Result<Config, ConfigError> {
    let Given { raw, origins, faults, .. } = given;
    let mut checks = Checks { faults };
    let config = Config {
        server: server(&mut checks, raw.server),
        storage: storage(&mut checks, &raw.storage),
        intake: intake(&mut checks, &raw.intake),
        dedup: Dedup {
            window: checks.seconds(
                "dedup.window_seconds",
                raw.dedup.window_seconds,
                1..=90 * DAY_SECONDS,
            ),
        },
        inbox: Inbox {
            wait_max: checks.seconds(
                "inbox.wait_seconds_max",
                raw.inbox.wait_seconds_max,
                0..=INBOX_WAIT_SECONDS_MAX,
            ),
        },
        keys: keys(&mut checks, raw.keys),
        tiers: Tiers {
            free: tier(&mut checks, "tiers.free", &raw.tiers.free),
            pro: tier(&mut checks, "tiers.pro", &raw.tiers.pro),
            enterprise: tier(&mut checks, "tiers.enterprise", &raw.tiers.enterprise),
        },
        workers: Workers {
            threads: checks.count("workers.threads", raw.workers.threads, 1..=256),
            queue: checks.count("workers.queue", raw.workers.queue, 1..=1_000_000),
        },
        delivery: delivery(&mut checks, &raw.delivery),
        egress: egress(&mut checks, &raw.egress),
        log: log(&mut checks, raw.log),
    };
    if checks.faults.is_empty() {
        return Ok(config);
    }
    for fault in &mut checks.faults {
        if let (true, Some(origin)) = (fault.origin.is_empty(), origins.get(&fault.key)) {
            fault.origin.clone_from(origin);
        }
    }
    Err(ConfigError::Faults(checks.faults))
}

fn server(checks: &mut Checks, raw: RawServer) -> Server {
    let listen = texts::listen_address(&raw.listen).unwrap_or_else(|detail| {
        checks.fault("server.listen", detail);
        SocketAddr::from(([127, 0, 0, 1], 0))
    });
    for origin in &raw.cors_origins {
        if !(is_origin(origin) || origin == "*" && raw.cors_origins.len() == 1) {
            let rule = "must be origins such as https://app.example.com (scheme, host and port \
                only), or \"*\" as the only item";
            checks.fault("server.cors_origins", format!("{rule}, not {origin:?}"));
        }
    }
    Server {
        listen,
        bind: checks.seconds("server.bind_seconds", raw.bind_seconds, 0..=3600),
        workers: checks.count("server.workers", raw.workers, 0..=SERVER_WORKERS_MAX),
        max_connections: checks.count("server.max_connections", raw.max_connections, 1..=1_000_000),
        client_timeout: checks.seconds(
            "server.client_timeout_seconds",
            raw.client_timeout_seconds,
            1..=300,
        ),
        body_timeout: checks.seconds(
            "server.body_timeout_seconds",
            raw.body_timeout_seconds,
            1..=3600,
        ),
        keep_alive: checks.seconds("server.keep_alive_seconds", raw.keep_alive_seconds, 1..=3600),
        write_timeout: checks.seconds(
            "server.write_timeout_seconds",
            raw.write_timeout_seconds,
            1..=3600,
        ),
        answer_bytes_max: checks.count(
            "server.answer_bytes_max",
            raw.answer_bytes_max,
            MIB..=16 * GIB,
        ),
        shutdown: checks.seconds("server.shutdown_seconds", raw.shutdown_seconds, 1..=9),
        cors_origins: raw.cors_origins,
        trusted_proxies: networks(checks, "server.trusted_proxies", &raw.trusted_proxies),
    }
}

/// True for the serialization of an origin as browsers send it (RFC 6454, section 6.2).
fn is_origin(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
    })
}

fn storage(checks: &mut Checks, raw: &RawStorage) -> Storage {
    if raw.data_dir.trim().is_empty() {
        checks.fault("storage.data_dir", "must name a directory".to_owned());
    }
    if let Some(fault) = texts::path_fault(&raw.data_dir) {
        checks.fault("storage.data_dir", fault);
    }
    Storage {
        data_dir: PathBuf::from(&raw.data_dir),
        segment_bytes: checks.range("storage.segment_bytes", raw.segment_bytes, 64 * KIB..=GIB),
        reserve_bytes: checks.range("storage.reserve_bytes", raw.reserve_bytes, 0..=1024 * GIB),
        reserve_files: checks.range("storage.reserve_files", raw.reserve_files, 0..=1_000_000_000),
        state_cache_bytes: checks.range(
            "storage.state_cache_bytes",
            raw.state_cache_bytes,
            MIB..=64 * GIB,
        ),
    }
}

fn intake(checks: &mut Checks, raw: &RawIntake) -> Intake {
    let intake = Intake {
        queue: checks.count("intake.queue", raw.queue, 1..=1_000_000),
        wait_max: Duration::from_millis(checks.range(
            "intake.wait_ms_max",
            raw.wait_ms_max,
            1..=INTAKE_WAIT_MS_MAX,
        )),
        queue_bytes: checks.count("intake.queue_bytes", raw.queue_bytes, 64 * KIB..=16 * GIB),
        group_commands: checks.count("intake.group_commands", raw.group_commands, 1..=65_536),
        group_bytes: checks.count("intake.group_bytes", raw.group_bytes, 64 * KIB..=256 * MIB),
        event_bytes_max: checks.count("intake.event_bytes_max", raw.event_bytes_max, KIB..=8 * MIB),
        batch_bytes_max: checks.count(
            "intake.batch_bytes_max",
            raw.batch_bytes_max,
            KIB..=64 * MIB,
        ),
        batch_events_max: checks.count("intake.batch_events_max", raw.batch_events_max, 1..=10_000),
    };
    checks.at_most(
        "intake.event_bytes_max",
        raw.event_bytes_max,
        "intake.group_bytes",
        raw.group_bytes,
    );
    checks.at_most(
        "intake.event_bytes_max",
        raw.event_bytes_max,
        "intake.batch_bytes_max",
        raw.batch_bytes_max,
    );
    checks.at_most(
        "intake.batch_bytes_max",
        raw.batch_bytes_max,
        "intake.queue_bytes",
        raw.queue_bytes,
    );
    intake
}

fn keys(checks: &mut Checks, raw: RawKeys) -> Keys {
    let token = raw.admin_token;
    let fits = ADMIN_TOKEN_CHARS.contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !token.is_empty() && !fits {
        let (least, most) = (ADMIN_TOKEN_CHARS.start(), ADMIN_TOKEN_CHARS.end());
        checks.fault(
            "keys.admin_token",
            format!("must be {least} to {most} visible ASCII characters, or empty (not shown)"),
        );
    }
    Keys {
        admin_token: (!token.is_empty()).then(|| AdminToken::new(token)),
        verify_threads: checks.count("keys.verify_threads", raw.verify_threads, 1..=64),
        verify_queue: checks.count("keys.verify_queue", raw.verify_queue, 1..=10_000),
        cache_entries: checks.range("keys.cache_entries", raw.cache_entries, 1..=10_000_000),
        cache: checks.seconds("keys.cache_seconds", raw.cache_seconds, 1..=DAY_SECONDS),
    }
}

fn tier(checks: &mut Checks, section: &str, raw: &RawTier) -> TierLimit {
    let key = |name: &str| format!("{section}.{name}");
    let mut requests = |name: &str, given: u64, events: u64| {
        let number = checks.number(&key(name), given, 0..=TIER_REQUESTS_MAX);
        let derived = events.saturating_mul(TIER_REQUESTS_FOR_EVENT).min(TIER_REQUESTS_MAX);
        NonZeroU32::new(number)
            .or_else(|| NonZeroU32::new(u32::try_from(derived).ok()?))
            .unwrap_or(NonZeroU32::MIN)
    };
    TierLimit {
        requests_per_second: requests(
            "requests_per_second",
            raw.requests_per_second,
            raw.events_per_second,
        ),
        request_burst: requests("request_burst", raw.request_burst, raw.burst),
        events_per_second: checks.positive(
            &key("events_per_second"),
            raw.events_per_second,
            TIER_EVENTS_MAX,
        ),
        burst: checks.positive(&key("burst"), raw.burst, TIER_EVENTS_MAX),
    }
}

fn delivery(checks: &mut Checks, raw: &RawDelivery) -> Delivery {
    const PREFIX: &str = "delivery";
    let key = |name: &str| format!("{PREFIX}.{name}");
    let (timeout, connect) = (key("timeout_ms"), key("connect_timeout_ms"));
    let (total, org, each) =
        (key("max_in_flight"), key("max_in_flight_per_org"), key("max_in_flight_per_endpoint"));
    let delivery = Delivery {
        timeout: Duration::from_millis(checks.range(&timeout, raw.timeout_ms, 1..=TIMEOUT_MS_MAX)),
        connect_timeout: Duration::from_millis(checks.range(
            &connect,
            raw.connect_timeout_ms,
            1..=TIMEOUT_MS_MAX,
        )),
        max_in_flight: checks.count(&total, raw.max_in_flight, 1..=10_000),
        max_in_flight_per_org: checks.count(&org, raw.max_in_flight_per_org, 1..=10_000),
        max_in_flight_per_endpoint: checks.count(&each, raw.max_in_flight_per_endpoint, 1..=10_000),
        queue_per_endpoint: checks.count(
            &key("queue_per_endpoint"),
            raw.queue_per_endpoint,
            1..=100_000,
        ),
        retry_schedule: retry_schedule(checks, &raw.retry_schedule_seconds),
        jitter_share: raw.jitter_share,
        failing_after: checks.seconds(
            &key("failing_after_seconds"),
            raw.failing_after_seconds,
            0..=365 * DAY_SECONDS,
        ),
        breaker_failures_in_a_row: checks.number(
            &key("breaker_failures_in_a_row"),
            raw.breaker_failures_in_a_row,
            1..=1_000,
        ),
        breaker_window: checks.number(
            &key("breaker_window"),
            raw.breaker_window,
            0..=BREAKER_WINDOW_MAX,
        ),
        breaker_failure_share: raw.breaker_failure_share,
        breaker_pause: checks.seconds(
            &key("breaker_pause_seconds"),
            raw.breaker_pause_seconds,
            1..=DAY_SECONDS,
        ),
        breaker_pause_max: checks.seconds(
            &key("breaker_pause_seconds_max"),
            raw.breaker_pause_seconds_max,
            1..=DAY_SECONDS,
        ),
        disable_after: checks.seconds(
            &key("disable_after_seconds"),
            raw.disable_after_seconds,
            0..=365 * DAY_SECONDS,
        ),
    };
    checks.at_most(&connect, raw.connect_timeout_ms, &timeout, raw.timeout_ms);
    checks.at_most(&org, raw.max_in_flight_per_org, &total, raw.max_in_flight);
    checks.at_most(&each, raw.max_in_flight_per_endpoint, &org, raw.max_in_flight_per_org);
    if !(0.0..=1.0).contains(&raw.jitter_share) {
        checks.fault(&key("jitter_share"), format!("must be 0.0 to 1.0, not {}", raw.jitter_share));
    }
    breaker(checks, raw);
    delivery
}

/// Checks the rules between the values of the circuit breaker.
fn breaker(checks: &mut Checks, raw: &RawDelivery) {
    let share = raw.breaker_failure_share;
    if !(share > 0.0 && share <= 1.0) {
        checks.fault(
            "delivery.breaker_failure_share",
            format!("must be above 0.0 and up to 1.0, not {share}"),
        );
    }
    if raw.breaker_window > 0 {
        // With more failures in a row than the window holds, the failure rate would always open the
        // breaker first.
        let (row, window) = ("delivery.breaker_failures_in_a_row", "delivery.breaker_window");
        checks.at_most(row, raw.breaker_failures_in_a_row, window, raw.breaker_window);
    }
    let (first, longest) = ("delivery.breaker_pause_seconds", "delivery.breaker_pause_seconds_max");
    checks.at_most(first, raw.breaker_pause_seconds, longest, raw.breaker_pause_seconds_max);
}

fn retry_schedule(checks: &mut Checks, seconds: &[u64]) -> Vec<Duration> {
    const KEY: &str = "delivery.retry_schedule_seconds";
    if seconds.len() > RETRIES_MAX {
        checks.fault(KEY, format!("must have at most {RETRIES_MAX} waits, not {}", seconds.len()));
    }
    seconds.iter().map(|wait| checks.seconds(KEY, *wait, 1..=30 * DAY_SECONDS)).collect()
}

fn egress(checks: &mut Checks, raw: &RawEgress) -> Egress {
    Egress { allow_networks: networks(checks, "egress.allow_networks", &raw.allow_networks) }
}

/// Parses a list of networks. Each must be able to match an address.
fn networks(checks: &mut Checks, key: &str, list: &[String]) -> Vec<IpNet> {
    let network =
        |text: &String| texts::network(text).map_err(|detail| checks.fault(key, detail)).ok();
    list.iter().filter_map(network).collect()
}

fn log(checks: &mut Checks, raw: RawLog) -> Log {
    if let Some(fault) = texts::level_fault(&raw.level) {
        checks.fault("log.level", fault);
    }
    if let Some(fault) = texts::path_fault(&raw.directory) {
        checks.fault("log.directory", fault);
    }
    let format = LogFormat::named(&raw.format).unwrap_or_else(|| {
        let meant = texts::suggestion(&raw.format, &["auto", "json", "text"]);
        checks.fault(
            "log.format",
            format!("must be \"auto\", \"json\" or \"text\", not {:?}{meant}", raw.format),
        );
        LogFormat::Auto
    });
    Log {
        level: raw.level,
        format,
        directory: (!raw.directory.is_empty()).then(|| PathBuf::from(raw.directory)),
        file_bytes_max: checks.range("log.file_bytes_max", raw.file_bytes_max, 64 * KIB..=GIB),
        files_max: checks.count("log.files_max", raw.files_max, 1..=1000),
    }
}

/// Collects faults. Each method returns its value also after a fault, so that checking goes on.
struct Checks {
    faults: Vec<Fault>,
}

impl Checks {
    fn fault(&mut self, key: &str, detail: String) {
        self.faults.push(Fault { key: key.to_owned(), origin: String::new(), detail });
    }

    fn range(&mut self, key: &str, value: u64, allowed: RangeInclusive<u64>) -> u64 {
        if !allowed.contains(&value) {
            self.fault(
                key,
                format!("must be {} to {}, not {value}", allowed.start(), allowed.end()),
            );
        }
        value
    }

    fn count(&mut self, key: &str, value: u64, allowed: RangeInclusive<u64>) -> usize {
        usize::try_from(self.range(key, value, allowed)).unwrap_or(usize::MAX)
    }

    fn number(&mut self, key: &str, value: u64, allowed: RangeInclusive<u64>) -> u32 {
        u32::try_from(self.range(key, value, allowed)).unwrap_or(u32::MAX)
    }

    fn seconds(&mut self, key: &str, value: u64, allowed: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.range(key, value, allowed))
    }

    fn positive(&mut self, key: &str, value: u64, most: u32) -> NonZeroU32 {
        let value = self.range(key, value, 1..=u64::from(most));
        u32::try_from(value).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
    }

    fn at_most(&mut self, key: &str, value: u64, other: &str, limit: u64) {
        if value > limit {
            self.fault(key, format!("must be at most {other} ({limit}), not {value}"));
        }
    }
}
