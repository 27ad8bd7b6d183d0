//! Every key of the configuration, declared once; some sections have files of their own. A
//! declaration has the key's type, name, default and range, its meaning, and whether a reload
//! applies it. The commented file `config/triggerd.toml`, the reference `docs/configuration.md`,
//! the checks and the structs for the modules are made from the declarations.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::backup::Backup;
use super::declare::{Group, Section, Values, section};
use super::kinds::{
    address, admin_token, count, directory, list_of_seconds, milliseconds, networks, number,
    origins, seconds, share, share_above_zero, size,
};
use super::log::Log;
use super::retention::Retention;
use super::tiers::Tiers;
use super::values::AdminToken;
use crate::model::endpoint::TIMEOUT_MS_MAX;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const HOUR_SECONDS: u64 = 3_600;
const DAY_SECONDS: u64 = 24 * HOUR_SECONDS;
/// Upper bound of `intake.wait_ms_max`, in milliseconds.
pub const INTAKE_WAIT_MS_MAX: u64 = 60_000;
/// Upper bound of `inbox.wait_seconds_max`, in seconds.
pub const INBOX_WAIT_SECONDS_MAX: u64 = 30;
/// Maximum number of HTTP worker threads; actix-server panics above it.
const SERVER_WORKERS_MAX: u64 = 512;
/// Maximum number of answers in a breaker's window.
const BREAKER_WINDOW_MAX: u64 = 64;
/// Maximum number of waits in a retry schedule.
const RETRIES_MAX: usize = 30;
/// Allowed lengths of an admin token, in characters.
const ADMIN_TOKEN_CHARS: RangeInclusive<usize> = 16..=255;

/// Makes [`Config`] from the list of its sections.
macro_rules! config {
    ($($name:ident: $Section:ty,)+) => {
        /// A checked configuration: every value is in its range, and no value contradicts another.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        pub struct Config {
            $(
                #[doc = concat!("The section `", stringify!($name), "`.")]
                pub $name: $Section,
            )+
        }

        impl Config {
            /// Describes every section, in the order of the commented file.
            pub(super) fn groups() -> Vec<Group> {
                vec![$(<$Section>::group(stringify!($name))),+]
            }

            /// Checks every value; none after a fault.
            pub(super) fn read(values: &mut Values) -> Option<Self> {
                // All are read before the first that is missing ends this.
                let ($($name,)+) = ($(<$Section>::read(stringify!($name), values),)+);
                Some(Self { $($name: $name?),+ })
            }

            /// Returns this configuration with all values of `new` that a running server applies;
            /// the others need a restart.
            #[must_use]
            pub fn reloaded(&self, new: &Self) -> Self {
                Self { $($name: self.$name.reloaded(&new.$name)),+ }
            }
        }
    };
}

config! {
    server: Server,
    storage: Storage,
    retention: Retention,
    backup: Backup,
    intake: Intake,
    dedup: Dedup,
    inbox: Inbox,
    keys: Keys,
    tiers: Tiers,
    workers: Workers,
    delivery: Delivery,
    egress: Egress,
    log: Log,
}

section! {
    /// The HTTP server.
    pub struct Server {
        /// Address and port to listen on; port 0 stands for any free port. The default serves this
        /// machine only. Put a [proxy with TLS](operations.md#a-proxy-in-front) in front before you
        /// open it further.
        listen: SocketAddr = address("listen", "127.0.0.1:8080");

        /// Seconds that a start waits for an address that another process still listens on, or that
        /// the machine does not have yet. The log mentions the wait once. After it, the server ends
        /// with exit code 70.
        bind: Duration = seconds("bind_seconds", 60, 0..=HOUR_SECONDS);

        /// Threads that serve requests. 0 means one for each core.
        workers: usize = count("workers", 0, 0..=SERVER_WORKERS_MAX);

        /// Maximum number of open connections. When more arrive, the connections that have been
        /// idle for the longest are closed; then those whose client neither sends its body nor
        /// reads its answer; then requests that only wait, for an event or for their organization's
        /// turn, are answered early; then busy connections are closed after their answer. An
        /// address with more than an eighth of all connections loses its own first, unless it is
        /// one of `trusted_proxies`. Until one of these has gone, newcomers wait in the kernel's
        /// queue. Each connection costs some kilobytes and a file descriptor (`LimitNOFILE` in the
        /// systemd unit). A connection whose client sends ahead and reads nothing costs up to 200
        /// KiB in the kernel's buffers, and 400 KiB if its answer is longer than 128 KiB.
        ///
        /// An organization has at most half as many requests that wait for its turn; further ones
        /// get 429.
        ///
        /// While the processor is short, requests wait for their turn, one for each connection. So
        /// fewer connections mean shorter waits.
        max_connections: usize = count("max_connections", 10_000, 1..=1_000_000);

        /// Seconds that a client may take to send the head of a request. The limit holds for every
        /// request of a connection. Slower clients get 408.
        ///
        /// When connections run out, a connection that has been idle for this long makes room for
        /// any newcomer, however many connections the newcomer's address has.
        client_timeout: Duration = seconds("client_timeout_seconds", 5, 1..=300);

        /// Seconds that a client may take to send the body of a request. Raise it for producers on
        /// slow lines.
        body_timeout: Duration = seconds("body_timeout_seconds", 30, 1..=HOUR_SECONDS);

        /// Seconds that an idle connection is kept for the next request. Make it longer than the
        /// idle timeout of a proxy in front.
        keep_alive: Duration = seconds("keep_alive_seconds", 75, 1..=HOUR_SECONDS);

        /// Seconds that an answer may wait for a reader that takes less than 1 KiB a second. After
        /// that the connection is closed. While more than half of `answer_bytes_max` is in use, the
        /// limit is 20 seconds, or this value if it is smaller: a reader that takes 4 KiB a second
        /// is never cut off then.
        write_timeout: Duration = seconds("write_timeout_seconds", 60, 1..=HOUR_SECONDS);

        /// Bytes of answers that may wait for their readers, all organizations together. One
        /// organization gets at most half of them. Lists make shorter pages when little is left;
        /// further answers are refused with 503.
        answer_bytes_max: usize = count("answer_bytes_max", 64 * MIB, MIB..=16 * GIB);

        /// Seconds that requests and attempts under way may take to finish when the server stops.
        /// The process ends within 10 seconds.
        shutdown: Duration = seconds("shutdown_seconds", 8, 1..=9);

        /// Origins whose web pages may call the API, such as `["https://app.example.com"]`. `["*"]`
        /// allows every page; the empty list allows none.
        cors_origins: Vec<String> = origins("cors_origins");

        /// Networks of proxies in front, as CIDRs such as `["10.1.0.0/16"]` or `["127.0.0.1/32"]`.
        /// The server believes what these proxies say in `Forwarded` or `X-Forwarded-For` about the
        /// client's address, and logs that address. Name only proxies that add to the header
        /// themselves; whatever a client put there before is never believed. Let the proxy remove
        /// the header that it does not set: when both disagree, the proxy's own address is logged.
        /// With the empty list, the address of the connection counts. When connections run out, a
        /// proxy in this list is not taken for one client that holds too many.
        trusted_proxies: Vec<IpNet> = networks("trusted_proxies").reloaded();
    }
}

section! {
    /// The data directory.
    pub struct Storage {
        /// Directory that holds everything, relative to the working directory. A copy of it, taken
        /// at any time, is a backup.
        data_dir: PathBuf = directory("data_dir", "./data");

        /// Size of a journal segment in bytes. Larger segments make fewer files. A segment
        /// takes at most 1/16 of the filesystem, whatever is set here.
        segment_bytes: u64 = size("segment_bytes", 32 * MIB, 64 * KIB..=GIB);

        /// Bytes by which the journal grows before the next [snapshot](operations.md#snapshots) of
        /// the state is taken, or the size of the last snapshot if that is more. A start that has
        /// to compute the state reads the newest snapshot and the journal behind it. Lower it for
        /// faster starts; raise it to write less. At most 1/16 of the filesystem counts, so that a
        /// small one has snapshots before it is full.
        snapshot_bytes: u64 = size("snapshot_bytes", 256 * MIB, 64 * KIB..=1024 * GIB);

        /// Bytes of free disk space below which new events are refused with 507, so that
        /// acknowledging and delivering can go on. 0 means 2 % of the filesystem, but at least
        /// 16 MiB and at most 256 MiB. Raise it when other programs fill the same disk. A quarter
        /// of it (between 8 and 64 MiB) is never given to the state, whose changes stay in memory
        /// then. If the next snapshots need more room than that leaves, the reserve is larger by what
        /// they need: without them, no space comes back. `/metrics` has the reserve in force.
        reserve_bytes: u64 = size("reserve_bytes", 0, 0..=1024 * GIB);

        /// Free inodes below which new events are refused with 507: the journal and the state need
        /// some. It has no effect on filesystems without a fixed number of inodes. 0 turns it off.
        reserve_files: u64 = size("reserve_files", 256, 0..=1_000_000_000);

        /// Bytes of memory that cache the state. Raise it when old events are often read.
        state_cache_bytes: u64 = size("state_cache_bytes", 32 * MIB, MIB..=64 * GIB);
    }
}

section! {
    /// The intake: requests that wait to be written to the disk.
    pub struct Intake {
        /// Requests that may wait to be written. Further requests are refused with 503, so that
        /// waiting stays short. One organization never holds more of these places, and of the
        /// `group_commands` that are being written, than it leaves free for the others: at most
        /// half of them.
        queue: usize = count("queue", 10_000, 1..=1_000_000);

        /// Milliseconds that the oldest waiting request may have waited before new events are
        /// refused with 503. A producer that comes back later is better off than one that waits for
        /// long. Keep it above the pauses that the disk makes now and then.
        wait_max: Duration = milliseconds("wait_ms_max", 500, 1..=INTAKE_WAIT_MS_MAX);

        /// Bytes of events that may wait or be on their way to the disk. Further events are refused
        /// with 503. Request bodies may take the same number of bytes, half of them for one
        /// organization, from their arrival until they are stored. Memory grows with it.
        queue_bytes: usize = count("queue_bytes", 64 * MIB, 64 * KIB..=16 * GIB);

        /// Maximum number of changes written with one sync. A larger group gives more throughput
        /// and longer waits.
        group_commands: usize = count("group_commands", 1024, 1..=65_536);

        /// Maximum number of bytes written with one sync.
        group_bytes: usize = count("group_bytes", 8 * MIB, 64 * KIB..=256 * MIB);

        /// Maximum size of one event's payload in bytes. Larger payloads get 413. A request may be
        /// larger by what the other members of an event can take.
        event_bytes_max: usize = count("event_bytes_max", 256 * KIB, KIB..=8 * MIB)
            .at_most("group_bytes")
            .at_most("batch_bytes_max");

        /// Maximum size of the body of a batch in bytes. Larger batches get 413.
        batch_bytes_max: usize =
            count("batch_bytes_max", 8 * MIB, KIB..=64 * MIB).at_most("queue_bytes");

        /// Maximum number of events in one batch.
        batch_events_max: usize = count("batch_events_max", 1000, 1..=10_000);
    }
}

section! {
    /// Deduplication of events.
    pub struct Dedup {
        /// Seconds that a `dedup_id` is remembered. Make it longer than the longest time after
        /// which a producer may retry. Memory and disk grow with the number of events in one
        /// window.
        window: Duration = seconds("window_seconds", 7 * DAY_SECONDS, 1..=90 * DAY_SECONDS);
    }
}

section! {
    /// The inbox.
    pub struct Inbox {
        /// Maximum long-poll time of the inbox in seconds (`?wait=`). Make it shorter than the
        /// timeout of a proxy in front.
        wait_max: Duration = seconds("wait_seconds_max", 30, 0..=INBOX_WAIT_SECONDS_MAX);
    }
}

section! {
    /// API keys and the admin token.
    pub struct Keys {
        /// The operator's token. Empty means the systemd credential `admin.token`, else the file
        /// `<data_dir>/admin.token` (mode 0600), which the first start makes. Prefer to leave it
        /// empty: such a file is easier to protect than a configuration.
        admin_token: Option<AdminToken> = admin_token("admin_token", ADMIN_TOKEN_CHARS);

        /// Threads that check API keys which were not seen lately. The check (argon2id) is slow on
        /// purpose and takes 19 MiB of memory in each thread.
        verify_threads: usize = count("verify_threads", 2, 1..=64);

        /// Checks that may wait; further requests get 503. Wrong keys never come this far, and each
        /// right key comes once until it is remembered. After a start, every key comes once.
        verify_queue: usize = count("verify_queue", 10_000, 1..=10_000);

        /// Verified keys that are remembered, so that they need no slow check.
        cache_entries: u64 = size("cache_entries", 10_000, 1..=10_000_000);

        /// Seconds that a verified key is remembered after its last use. Rotating and revoking a
        /// key take effect at once, whatever is set here.
        cache: Duration = seconds("cache_seconds", 600, 1..=DAY_SECONDS);
    }
}

section! {
    /// The threads that route events to endpoints.
    pub struct Workers {
        /// Threads that find the endpoints of each event.
        threads: usize = count("threads", 2, 1..=256);

        /// Events that may wait for these threads in memory. Further events are found again from
        /// disk, which costs time and never loses an event.
        queue: usize = count("queue", 10_000, 1..=1_000_000);
    }
}

section! {
    /// Attempts, retries and circuit breakers.
    pub struct Delivery {
        /// Maximum duration of an attempt in milliseconds. An endpoint can have its own.
        timeout: Duration = milliseconds("timeout_ms", 15_000, 1..=TIMEOUT_MS_MAX).reloaded();

        /// Maximum time to connect in milliseconds, including the name lookup and TLS.
        connect_timeout: Duration = milliseconds("connect_timeout_ms", 5_000, 1..=TIMEOUT_MS_MAX)
            .at_most("timeout_ms")
            .reloaded();

        /// Attempts under way at one time, all organizations together. Each takes a socket and
        /// holds its event in memory. The last eighth is for organizations that have no attempt
        /// under way. A reload can raise it to at most four times its value at the start.
        max_in_flight: usize = count("max_in_flight", 1024, 1..=10_000).reloaded();

        /// Attempts under way at one time for the endpoints of one organization. It keeps an
        /// organization whose endpoints all hang from taking what the others need: the smaller it
        /// is compared with `max_in_flight`, the more such organizations there may be.
        max_in_flight_per_org: usize =
            count("max_in_flight_per_org", 64, 1..=10_000).at_most("max_in_flight").reloaded();

        /// Attempts under way at one time for one endpoint. An endpoint can have fewer.
        max_in_flight_per_endpoint: usize = count("max_in_flight_per_endpoint", 16, 1..=10_000)
            .at_most("max_in_flight_per_org")
            .reloaded();

        /// Deliveries of one endpoint that are kept ready in memory. The others wait on disk.
        queue_per_endpoint: usize = count("queue_per_endpoint", 1000, 1..=100_000).reloaded();

        /// Seconds to wait before the second attempt, before the third, and so on. After the last
        /// attempt the delivery is a dead letter. An empty list means one attempt only.
        retry_schedule: Vec<Duration> = list_of_seconds(
            "retry_schedule_seconds",
            &[5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400],
            1..=30 * DAY_SECONDS,
            RETRIES_MAX,
        )
        .reloaded();

        /// Jitter: each wait is moved at random by up to this share of itself, either way. So
        /// retries do not all come at once.
        jitter_share: f64 = share("jitter_share", 0.2).reloaded();

        /// Seconds of nothing but failed attempts after which the organization of an endpoint gets
        /// the operational event
        /// [`triggerd.endpoint.failing`](operational-events.md#triggerdendpointfailing). 0 turns it
        /// off.
        failing_after: Duration =
            seconds("failing_after_seconds", 300, 0..=365 * DAY_SECONDS).reloaded();

        /// Consecutive failures after which the circuit breaker of an endpoint opens. While the
        /// breaker is open, no attempt begins; then one attempt probes whether the endpoint works
        /// again. Raise it for receivers that restart often; lower it to spare dead ones.
        breaker_failures_in_a_row: u32 = number("breaker_failures_in_a_row", 5, 1..=1_000)
            // With more failures in a row than the window holds, the failure rate would always open
            // the breaker first.
            .at_most_unless_zero("breaker_window")
            .reloaded();

        /// Number of recent answers over which the failure rate of an endpoint is computed. The
        /// rate counts only once there are that many answers. A smaller window reacts sooner and
        /// errs more often. 0 turns the failure rate off.
        breaker_window: u32 = number("breaker_window", 40, 0..=BREAKER_WINDOW_MAX).reloaded();

        /// Failure rate at which the circuit breaker opens. Lower it to spare receivers; raise it
        /// to deliver as much as possible to receivers that fail half the time.
        breaker_failure_share: f64 = share_above_zero("breaker_failure_share", 0.5).reloaded();

        /// Seconds that the circuit breaker stays open at first, plus or minus 20 %. Each failed
        /// probe doubles the time.
        breaker_pause: Duration = seconds("breaker_pause_seconds", 5, 1..=DAY_SECONDS)
            .at_most("breaker_pause_seconds_max")
            .reloaded();

        /// Maximum seconds that the circuit breaker stays open, plus or minus 20 %. A receiver that
        /// works again may wait this long for what is due.
        breaker_pause_max: Duration =
            seconds("breaker_pause_seconds_max", 300, 1..=DAY_SECONDS).reloaded();

        /// Seconds of nothing but failed attempts after which an endpoint is disabled. Enabling the
        /// endpoint again sends what waits. 0 turns it off.
        disable_after: Duration =
            seconds("disable_after_seconds", 5 * DAY_SECONDS, 0..=365 * DAY_SECONDS).reloaded();
    }
}

section! {
    /// The networks that webhooks may reach.
    pub struct Egress {
        /// Private, loopback or otherwise special networks that webhooks may reach all the same, as
        /// CIDRs such as `["10.1.0.0/16"]`. The empty list allows public addresses only, which is
        /// right when others choose the URLs.
        allow_networks: Vec<IpNet> = networks("allow_networks").reloaded();
    }
}
