//! Metrics for Prometheus: every series of the server in one struct, each present at zero from the
//! first scrape.
//!
//! Every module counts with the handles here; `http` renders them. Only this module, `maker` and
//! `series` import the prometheus crate. An organization, endpoint or key is never a label, because
//! each value would be a series. Handles are looked up once, at the start, so counting is an atomic
//! addition. Names that the model gives, such as the codes of failed attempts, come in as
//! arguments.

mod labels;
mod maker;
mod series;

use prometheus::process_collector::ProcessCollector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Registry, TextEncoder};

use std::marker::PhantomData;
use std::time::Duration;

use maker::{Maker, opts, spare_counter};

pub use labels::{
    DataKind, DeliveryOutcome, ExpiredKind, ExpiryReason, KeyVerification, Label, OperationalEvent,
    Queue, Rejection, StatusClass,
};
pub use series::{Counter, FloatGauge, Gauge, Histogram, MetricsError, OptionalGauge, PerLabel};

/// Bucket bounds for local work on disk and in memory, in seconds: 100 µs to 10 s.
const DISK_SECONDS: [f64; 12] =
    [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0];
/// Bucket bounds for incoming and outgoing requests, in seconds: 1 ms to 60 s (a long poll takes up
/// to 30).
const REQUEST_SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];
/// Bucket bounds for the number of commands in one commit group.
const GROUP_COMMANDS: [f64; 11] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The route label of requests that match no route.
pub const UNMATCHED_ROUTE: &str = "unmatched";

/// Declares the metrics that are one series, or one series for each value of a label: field,
/// type, and constructor with the name and the help of the series.
macro_rules! metrics {
    ($($(#[$doc:meta])+ $name:ident: $type:ty = $make:ident($($argument:expr),+);)+) => {
        /// All metrics of the server.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            attempts: Attempts,
            http: HttpSeries,
            $($(#[$doc])+ pub $name: $type,)+
        }

        impl Metrics {
            fn made_by(
                make: Maker,
                attempts: Attempts,
                http: HttpSeries,
            ) -> Result<Self, MetricsError> {
                $(let $name = make.$make($($argument),+)?;)+
                Ok(Self { registry: make.0, attempts, http, $($name),+ })
            }
        }
    };
}

metrics! {
    /// Number of new events that are on stable storage.
    events_accepted: Counter =
        counter("events_accepted_total", "New events that were stored.");

    /// Number of posted events whose `dedup_id` was known.
    events_duplicate: Counter =
        counter("events_duplicate_total", "Posted events whose dedup_id was known already.");

    /// Number of refused events, by reason.
    events_rejected: PerLabel<Rejection, Counter> =
        counter_per("events_rejected_total", "Events refused, by reason.", "reason");

    /// Number of events whose payload was erased.
    events_erased: Counter =
        counter("events_erased_total", "Events whose payload was erased.");

    /// Number of commands in one commit group.
    commit_group_commands: Histogram =
        histogram("commit_group_commands", "Commands written with one sync.", &GROUP_COMMANDS);

    /// Duration of one sync, in seconds.
    commit_sync_seconds: Histogram = histogram(
        "commit_sync_duration_seconds",
        "Duration of one sync of the journal.",
        &DISK_SECONDS
    );

    /// Number of commands applied to the state.
    commands_applied: Counter =
        counter("commands_applied_total", "Commands applied to the state.");

    /// Number of items in each queue.
    queue_depth: PerLabel<Queue, Gauge> =
        gauge_per("queue_depth", "Items that wait in each queue in memory.", "queue");

    /// Duration of one write-back of rows to sled, in seconds.
    write_back_seconds: Histogram = histogram(
        "write_back_duration_seconds",
        "Duration of writing changed rows to disk.",
        &DISK_SECONDS
    );

    /// Number of rows written back to sled.
    write_back_rows: Counter =
        counter("write_back_rows_total", "Rows written back to the state on disk.");

    /// Age of the oldest event that an endpoint still has to get, in seconds. 0 if there is no such
    /// event.
    oldest_undelivered_age_seconds: FloatGauge = float_gauge(
        "oldest_undelivered_age_seconds",
        "Age of the oldest event that is not delivered to all its endpoints."
    );

    /// Longest delay of an overdue delivery that nothing holds back, in seconds. 0 if there is no
    /// such delivery.
    delivery_overdue_seconds: FloatGauge = float_gauge(
        "delivery_overdue_seconds",
        "Longest wait of an overdue delivery that nothing holds back; above 60 the server is at \
         fault."
    );

    /// Number of deliveries, by the outcome of an attempt.
    deliveries: PerLabel<DeliveryOutcome, Counter> =
        counter_per("deliveries_total", "Deliveries, by outcome of an attempt.", "outcome");

    /// Duration of one attempt, in seconds.
    attempt_seconds: Histogram = histogram(
        "delivery_attempt_duration_seconds",
        "Duration of one attempt.",
        &REQUEST_SECONDS
    );

    /// Number of names that are being looked up.
    lookups_running: Gauge = gauge("lookups_running", "Names that are being looked up.");

    /// Number of names that wait for a thread to look them up.
    lookups_waiting: Gauge =
        gauge("lookups_waiting", "Names that wait for a thread to look them up.");

    /// Number of failing endpoints that wait because the disk is almost full.
    endpoints_held: Gauge =
        gauge("endpoints_held", "Failing endpoints that wait because the disk is almost full.");

    /// Number of attempts under way.
    deliveries_in_flight: Gauge = gauge("deliveries_in_flight", "Attempts under way.");

    /// Number of endpoints whose circuit breaker is open.
    breakers_open: Gauge = gauge("breakers_open", "Endpoints whose circuit breaker is open.");

    /// Number of running replays.
    replays_running: Gauge =
        gauge("replays_running", "Running replays, including replays that wait.");

    /// Number of deliveries made because of replays.
    replay_deliveries: Counter =
        counter("replay_deliveries_total", "Deliveries made because of replays.");

    /// Number of stored operational events, by kind.
    operational_events: PerLabel<OperationalEvent, Counter> =
        counter_per("operational_events_total", "Operational events stored.", "kind");

    /// Number of events in inboxes, which nobody has acknowledged.
    inbox_open_events: Gauge =
        gauge("inbox_open_events", "Events in inboxes, which nobody acknowledged yet.");

    /// Number of events in the store.
    events_stored: Gauge = gauge("events_stored", "Events in the store.");

    /// Number of deliveries that were given up and wait for somebody.
    dead_letters: Gauge = gauge("dead_letters", "Deliveries that were given up, and kept.");

    /// Number of expired events, by what was left to do and the reason.
    events_expired: PerLabel<ExpiredKind, PerLabel<ExpiryReason, Counter>> = counter_per_pair(
        "events_expired_total",
        "Expired events, by what was left to do and the reason.",
        ["kind", "reason"]
    );

    /// Number of events that were archived before they expired.
    archived_events: Counter =
        counter("archived_events_total", "Events that were archived before they expired.");

    /// Number of times that events could not be archived.
    archive_failures: Counter =
        counter("archive_failures_total", "Attempts to archive expiring events that failed.");

    /// Number of blocks of events that could not expire.
    expiry_failures: Counter =
        counter("expiry_failures_total", "Blocks of events that did not expire although due.");

    /// 1 while no event expires, because the clock is doubtful, or the server is a copy that does
    /// not deliver; else 0.
    expiry_held: Gauge =
        gauge("expiry_held", "1 while the clock is doubtful, or in a copy without deliveries.");

    /// Age of the oldest event in the store, in seconds, at the end of the last pass over all
    /// events. 0 if there is no event.
    oldest_event_age_seconds: FloatGauge = float_gauge(
        "oldest_event_age_seconds",
        "Age of the oldest event, as of the last search for expired events; 0 without events."
    );

    /// Number of starts' computations of the whole state, from a snapshot or the whole journal.
    state_rebuilds: Counter = counter(
        "state_rebuilds_total",
        "How often a start computed the whole state, from a snapshot or the whole journal."
    );

    /// Duration of the last snapshot, in seconds.
    snapshot_seconds: FloatGauge =
        float_gauge("snapshot_seconds", "Duration of the last snapshot of the state.");

    /// Size of the newest snapshot, in bytes.
    snapshot_bytes: Gauge = gauge("snapshot_bytes", "Size of the newest snapshot of the state.");

    /// Number of rows in the newest snapshot.
    snapshot_rows: Gauge = gauge("snapshot_rows", "Rows in the newest snapshot of the state.");

    /// Age of the newest snapshot, in seconds. -1 if there is none.
    snapshot_age_seconds: Gauge =
        gauge("snapshot_age_seconds", "Age of the newest snapshot; -1 without one.");

    /// Number of snapshots that were begun and not completed.
    snapshot_failures: Counter =
        counter("snapshot_failures_total", "Snapshots that could not be taken.");

    /// Age of the newest backup, in seconds. -1 if there is none.
    backup_age_seconds: Gauge =
        gauge("backup_age_seconds", "Age of the newest backup; -1 without one.");

    /// Duration of the newest backup, in seconds.
    backup_seconds: FloatGauge = float_gauge("backup_seconds", "Duration of the newest backup.");

    /// Size of the newest backup, in bytes.
    backup_bytes: Gauge = gauge("backup_bytes", "Size of the newest backup's files.");

    /// Disk space on the data's filesystem that only the backups in `[backup] directory` take.
    backup_disk_bytes: Gauge =
        gauge("backup_disk_bytes", "Space on the data's filesystem that only backups take.");

    /// Number of backups that failed.
    backup_failures: Counter = counter("backup_failures_total", "Backups that failed.");

    /// Age of the last drill that passed, in seconds. -1 if there is none.
    drill_age_seconds: Gauge =
        gauge("drill_age_seconds", "Age of the last drill that passed; -1 without one.");

    /// Duration of the last drill, in seconds.
    drill_seconds: FloatGauge = float_gauge("drill_seconds", "Duration of the last drill.");

    /// Number of drills that failed.
    drill_failures: Counter =
        counter("drill_failures_total", "Drills whose backup could not be restored or was wrong.");

    /// Number of drills that were skipped.
    drill_skips: Counter = counter("drill_skips_total", "Drills that were skipped.");

    /// Length of the journal's segments, in bytes.
    journal_disk_bytes: Gauge =
        gauge("journal_disk_bytes", "Length of the journal's segments, with their holes.");

    /// Disk space of the journal's segments, in bytes.
    journal_allocated_bytes: Gauge = gauge(
        "journal_allocated_bytes",
        "Disk space that the journal's segments take, without their holes."
    );

    /// Number of the journal's segments.
    journal_segments: Gauge = gauge("journal_segments", "Segments of the journal.");

    /// Disk space of the data, by its part, in bytes.
    data_bytes: PerLabel<DataKind, Gauge> =
        gauge_per("data_bytes", "Disk space of the data, by its part.", "kind");

    /// Disk space of the data that nobody needs any more, in bytes. It comes back once no copy can
    /// need it.
    data_unneeded_bytes: Gauge = gauge(
        "data_unneeded_bytes",
        "Disk space of the data that comes back once no copy can need it."
    );

    /// Limit of the needed disk space in effect, in bytes. 0 without a limit.
    data_limit_bytes: Gauge =
        gauge("data_limit_bytes", "Disk space above which events expire before their time.");

    /// Free space below which events expire before their time, in bytes.
    disk_keep_free_bytes: Gauge = gauge(
        "disk_keep_free_bytes",
        "Free space below which events expire before their time."
    );

    /// Days until new events are refused at the present rate. Absent if unknown.
    disk_days_until_full: OptionalGauge =
        optional_gauge("disk_days_until_full", "Days until new events are refused at the present rate.");

    /// Number of segments that were written again without some of their records.
    compaction_segments_punched: Counter = counter(
        "compaction_segments_punched_total",
        "Segments that were written again without some of their records."
    );

    /// Number of segments that were removed from the beginning of the journal.
    compaction_segments_removed: Counter = counter(
        "compaction_segments_removed_total",
        "Segments that were removed from the beginning of the journal."
    );

    /// Disk space that compaction has given back, in bytes.
    compaction_bytes_freed: Counter = counter(
        "compaction_freed_bytes_total",
        "Disk space that compaction of the journal has given back."
    );

    /// Number of segments that could not be compacted.
    compaction_failures: Counter = counter(
        "compaction_failures_total",
        "Segments of the journal that could not be compacted; the log names each."
    );

    /// 1 if a record of the journal was found damaged since the start, else 0.
    journal_damaged: Gauge =
        gauge("journal_damaged", "1 if the journal was found damaged since the start.");

    /// Free space on the disk of the data directory, in bytes.
    disk_free_bytes: Gauge =
        gauge("disk_free_bytes", "Free space on the disk of the data directory.");

    /// Free space below which new events are refused, in bytes.
    disk_reserve_bytes: Gauge =
        gauge("disk_reserve_bytes", "Free space below which new events are refused.");

    /// Free inodes on the disk of the data directory. -1 if the filesystem has no fixed number.
    disk_free_files: Gauge = gauge(
        "disk_free_files",
        "Free inodes on the disk of the data directory; -1 without a fixed number."
    );

    /// Number of log lines left out because they came too often.
    log_lines_left_out: Counter =
        counter("log_lines_left_out_total", "Log lines left out, because they repeated.");

    /// Number of connections that sent something other than HTTP.
    http_malformed: Counter = counter("http_malformed_total", "Inputs that were not HTTP.");

    /// Number of checked keys, by result.
    key_verifications: PerLabel<KeyVerification, Counter> =
        counter_per("key_verifications_total", "API key checks, by result.", "result");

    /// Number of runs of the slow hash of API keys.
    key_hashes: Counter =
        counter("key_hashes_total", "Runs of the slow hash (argon2id) of API keys.");
}

/// The number of attempts, by result.
#[derive(Debug)]
struct Attempts {
    ok: Counter,
    /// One counter for each code of a failure.
    failed: Vec<Counter>,
    other: Counter,
}

impl Attempts {
    fn new(make: &Maker, error_codes: &[&str]) -> Result<Self, MetricsError> {
        let all = make.counters("delivery_attempts_total", "Attempts, by result.", &["result"])?;
        let failed = error_codes.iter().map(|code| all.get_metric_with_label_values(&[*code]));
        Ok(Self {
            ok: all.get_metric_with_label_values(&["ok"])?,
            failed: failed.collect::<Result<_, _>>()?,
            other: spare_counter()?,
        })
    }
}

/// The number and the duration of HTTP requests. [`Metrics::http_route`] makes the series.
#[derive(Debug)]
struct HttpSeries {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl HttpSeries {
    fn new(make: &Maker) -> Result<Self, MetricsError> {
        let labels = ["route", "method", "status"];
        let requests = make.counters("http_requests_total", "HTTP requests.", &labels)?;
        let opts = opts(
            "http_request_duration_seconds",
            "Duration from the head of a request to its answer.",
        );
        let opts = HistogramOpts::from(opts).buckets(REQUEST_SECONDS.to_vec());
        let seconds = make.register(HistogramVec::new(opts, &["route"])?)?;
        Ok(Self { requests, seconds })
    }
}

impl Metrics {
    /// Creates all series at zero. `error_codes` are the names of the failure codes, in the order
    /// of the indexes that [`Metrics::attempt_failed`] gets.
    ///
    /// # Errors
    /// A series cannot be registered.
    pub fn new(error_codes: &[&str]) -> Result<Self, MetricsError> {
        let make = Maker(Registry::new());
        make.0.register(Box::new(ProcessCollector::for_self()))?;
        let build_info = opts("build_info", "Always 1; the version is a label.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        make.register(Gauge::with_opts(build_info)?)?.set(1);
        let (attempts, http) = (Attempts::new(&make, error_codes)?, HttpSeries::new(&make)?);
        let metrics = Self::made_by(make, attempts, http)?;
        metrics.http_route("", UNMATCHED_ROUTE)?;
        Ok(metrics)
    }

    /// Counts an accepted attempt.
    pub fn attempt_ok(&self) {
        self.attempts.ok.inc();
    }

    /// Counts a failed attempt, by its index in the `error_codes` of [`Metrics::new`].
    pub fn attempt_failed(&self, error_code: usize) {
        self.attempts.failed.get(error_code).unwrap_or(&self.attempts.other).inc();
    }

    /// Creates the series of one route at zero. Callers ask once at the start and keep the handle.
    /// `route` is the pattern, such as `/api/ack/{event_id}`, never the path of a request. For
    /// [`UNMATCHED_ROUTE`] the method is empty, because callers may send any method.
    ///
    /// # Errors
    /// Never with the labels that this function sets.
    pub fn http_route(&self, method: &str, route: &str) -> Result<HttpRoute, MetricsError> {
        let handles = StatusClass::NAMES.iter();
        let handles = handles.map(|status| {
            self.http.requests.get_metric_with_label_values(&[route, method, *status])
        });
        Ok(HttpRoute {
            requests: PerLabel {
                handles: handles.collect::<Result<_, _>>()?,
                spare: spare_counter()?,
                label: PhantomData,
            },
            seconds: self.http.seconds.get_metric_with_label_values(&[route])?,
        })
    }

    /// Renders all series in the text format of Prometheus, version 0.0.4.
    ///
    /// # Errors
    /// A series has no values. Every series of the server has values.
    pub fn render(&self) -> Result<String, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

/// The series of one route.
#[derive(Debug)]
pub struct HttpRoute {
    requests: PerLabel<StatusClass, Counter>,
    seconds: Histogram,
}

impl HttpRoute {
    /// Counts one answered request with its status and duration.
    pub fn answered(&self, status: u16, took: Duration) {
        self.requests.of(StatusClass::of(status)).inc();
        self.seconds.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
