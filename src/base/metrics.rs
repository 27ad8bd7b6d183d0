//! Metrics for Prometheus: every series of the server in one struct, each present at zero from the
//! first scrape.
//!
//! Every module takes handles from here; `http` renders them. The only importer of the prometheus
//! crate. An organization, endpoint or key is never a label, because each value would be a series.
//! Handles are looked up once, at the start, so counting is an atomic addition. This module knows
//! nothing of the product: names from the model come in as arguments.

mod labels;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use std::marker::PhantomData;
use std::time::Duration;

pub use labels::{
    DeliveryOutcome, KeyVerification, Label, OperationalEvent, Queue, Rejection, StatusClass,
};
pub use prometheus::{Gauge as FloatGauge, Histogram, IntCounter as Counter, IntGauge as Gauge};

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

/// One metric handle for each value of a label.
#[derive(Debug)]
pub struct PerLabel<L, M> {
    handles: Vec<M>,
    /// The handle for a value without a series. No label of type `L` reaches this handle, and its
    /// count is not shown.
    spare: M,
    label: PhantomData<fn(L)>,
}

impl<L: Label, M> PerLabel<L, M> {
    /// Returns the handle for `label`.
    pub fn of(&self, label: L) -> &M {
        self.handles.get(label.index()).unwrap_or(&self.spare)
    }
}

/// The error when metrics cannot be created or rendered.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// All metrics of the server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Number of new events that are on stable storage.
    pub events_accepted: Counter,
    /// Number of posted events whose `dedup_id` was known.
    pub events_duplicate: Counter,
    /// Number of refused events, by reason.
    pub events_rejected: PerLabel<Rejection, Counter>,
    /// Number of events whose payload was erased.
    pub events_erased: Counter,
    /// Number of commands in one commit group.
    pub commit_group_commands: Histogram,
    /// Duration of one sync, in seconds.
    pub commit_sync_seconds: Histogram,
    /// Number of commands applied to the state.
    pub commands_applied: Counter,
    /// Number of items in each queue.
    pub queue_depth: PerLabel<Queue, Gauge>,
    /// Duration of one write-back of rows to sled, in seconds.
    pub write_back_seconds: Histogram,
    /// Number of rows written back to sled.
    pub write_back_rows: Counter,
    /// Age of the oldest event that an endpoint still has to get, in seconds. 0 if there is no such
    /// event.
    pub oldest_undelivered_age_seconds: FloatGauge,
    /// Longest delay of an overdue delivery that nothing holds back, in seconds. 0 if there is no
    /// such delivery.
    pub delivery_overdue_seconds: FloatGauge,
    /// Number of deliveries, by the outcome of an attempt.
    pub deliveries: PerLabel<DeliveryOutcome, Counter>,
    attempts_ok: Counter,
    attempts_failed: Vec<Counter>,
    attempts_other: Counter,
    /// Duration of one attempt, in seconds.
    pub attempt_seconds: Histogram,
    /// Number of attempts under way.
    pub deliveries_in_flight: Gauge,
    /// Number of endpoints whose circuit breaker is open.
    pub breakers_open: Gauge,
    /// Number of running replays.
    pub replays_running: Gauge,
    /// Number of deliveries made because of replays.
    pub replay_deliveries: Counter,
    /// Number of stored operational events, by kind.
    pub operational_events: PerLabel<OperationalEvent, Counter>,
    /// Number of events in inboxes, which nobody has acknowledged.
    pub inbox_open_events: Gauge,
    /// Number of events in the store.
    pub events_stored: Gauge,
    /// Number of rebuilds of the state from the journal.
    pub state_rebuilds: Counter,
    /// Size of the journal's files, in bytes.
    pub journal_disk_bytes: Gauge,
    /// 1 if a record of the journal was found damaged since the start, else 0.
    pub journal_damaged: Gauge,
    /// Free space on the disk of the data directory, in bytes.
    pub disk_free_bytes: Gauge,
    /// Free inodes on the disk of the data directory. -1 if the filesystem has no fixed number.
    pub disk_free_files: Gauge,
    /// Number of log lines left out because they came too often.
    pub log_lines_left_out: Counter,
    /// Number of connections that sent something other than HTTP.
    pub http_malformed: Counter,
    /// Number of checked keys, by result.
    pub key_verifications: PerLabel<KeyVerification, Counter>,
    /// Number of runs of the slow hash of API keys.
    pub key_hashes: Counter,
    http_requests: IntCounterVec,
    http_seconds: HistogramVec,
}

impl Metrics {
    /// Creates all series at zero. `error_codes` are the names of the failure codes, in the order
    /// of the indexes that [`Metrics::attempt_failed`] gets.
    ///
    /// # Errors
    /// A series cannot be registered.
    #[expect(clippy::too_many_lines, reason = "a table: one row follows the other")]
    pub fn new(error_codes: &[&str]) -> Result<Self, MetricsError> {
        let make = Maker(Registry::new());
        make.0.register(Box::new(ProcessCollector::for_self()))?;
        make.build_info()?;
        let disk = |name: &str, help: &str| make.histogram(name, help, &DISK_SECONDS);
        let attempts =
            make.counters("delivery_attempts_total", "Attempts, by result.", &["result"])?;
        let failed = error_codes.iter().map(|code| attempts.get_metric_with_label_values(&[*code]));
        let routes =
            make.counters("http_requests_total", "HTTP requests.", &["route", "method", "status"])?;
        let metrics = Self {
            events_accepted: make
                .counter("events_accepted_total", "New events that were stored.")?,
            events_duplicate: make.counter(
                "events_duplicate_total",
                "Posted events whose dedup_id was known already.",
            )?,
            events_rejected: make.counter_per(
                "events_rejected_total",
                "Events refused, by reason.",
                "reason",
            )?,
            events_erased: make
                .counter("events_erased_total", "Events whose payload was erased.")?,
            commit_group_commands: make.histogram(
                "commit_group_commands",
                "Commands written with one sync.",
                &GROUP_COMMANDS,
            )?,
            commit_sync_seconds: disk(
                "commit_sync_duration_seconds",
                "Duration of one sync of the journal.",
            )?,
            commands_applied: make
                .counter("commands_applied_total", "Commands applied to the state.")?,
            queue_depth: make.gauge_per(
                "queue_depth",
                "Items that wait in each queue in memory.",
                "queue",
            )?,
            write_back_seconds: disk(
                "write_back_duration_seconds",
                "Duration of writing changed rows to disk.",
            )?,
            write_back_rows: make
                .counter("write_back_rows_total", "Rows written back to the state on disk.")?,
            oldest_undelivered_age_seconds: make.undelivered_age()?,
            delivery_overdue_seconds: make.overdue()?,
            deliveries: make.counter_per(
                "deliveries_total",
                "Deliveries, by outcome of an attempt.",
                "outcome",
            )?,
            attempts_ok: attempts.get_metric_with_label_values(&["ok"])?,
            attempts_failed: failed.collect::<Result<_, _>>()?,
            attempts_other: Counter::new("spare", "not shown")?,
            attempt_seconds: make.histogram(
                "delivery_attempt_duration_seconds",
                "Duration of one attempt.",
                &REQUEST_SECONDS,
            )?,
            deliveries_in_flight: make.gauge("deliveries_in_flight", "Attempts under way.")?,
            breakers_open: make
                .gauge("breakers_open", "Endpoints whose circuit breaker is open.")?,
            replays_running: make
                .gauge("replays_running", "Running replays, including replays that wait.")?,
            replay_deliveries: make
                .counter("replay_deliveries_total", "Deliveries made because of replays.")?,
            operational_events: make.counter_per(
                "operational_events_total",
                "Operational events stored.",
                "kind",
            )?,
            inbox_open_events: make
                .gauge("inbox_open_events", "Events in inboxes, which nobody acknowledged yet.")?,
            events_stored: make.gauge("events_stored", "Events in the store.")?,
            state_rebuilds: make
                .counter("state_rebuilds_total", "Rebuilds of the state from the journal.")?,
            journal_disk_bytes: make.gauge("journal_disk_bytes", "Size of the journal's files.")?,
            journal_damaged: make
                .gauge("journal_damaged", "1 if the journal was found damaged since the start.")?,
            disk_free_bytes: make
                .gauge("disk_free_bytes", "Free space on the disk of the data directory.")?,
            disk_free_files: make.gauge(
                "disk_free_files",
                "Free inodes on the disk of the data directory; -1 without a fixed number.",
            )?,
            log_lines_left_out: make.counter(
                "log_lines_left_out_total",
                "Log lines left out, because they repeated.",
            )?,
            http_malformed: make.counter("http_malformed_total", "Inputs that were not HTTP.")?,
            key_verifications: make.counter_per(
                "key_verifications_total",
                "API key checks, by result.",
                "result",
            )?,
            key_hashes: make
                .counter("key_hashes_total", "Runs of the slow hash (argon2id) of API keys.")?,
            http_seconds: make.route_seconds()?,
            http_requests: routes,
            registry: make.0,
        };
        metrics.http_route("", UNMATCHED_ROUTE)?;
        Ok(metrics)
    }

    /// Counts an accepted attempt.
    pub fn attempt_ok(&self) {
        self.attempts_ok.inc();
    }

    /// Counts a failed attempt, by its index in the `error_codes` of [`Metrics::new`].
    pub fn attempt_failed(&self, error_code: usize) {
        self.attempts_failed.get(error_code).unwrap_or(&self.attempts_other).inc();
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
            self.http_requests.get_metric_with_label_values(&[route, method, *status])
        });
        Ok(HttpRoute {
            requests: PerLabel {
                handles: handles.collect::<Result<_, _>>()?,
                spare: Counter::new("spare", "not shown")?,
                label: PhantomData,
            },
            seconds: self.http_seconds.get_metric_with_label_values(&[route])?,
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

/// Creates and registers series, and puts `triggerd_` before their names.
struct Maker(Registry);

impl Maker {
    fn register<C: Collector + Clone + 'static>(&self, series: C) -> Result<C, MetricsError> {
        self.0.register(Box::new(series.clone()))?;
        Ok(series)
    }

    fn counter(&self, name: &str, help: &str) -> Result<Counter, MetricsError> {
        self.register(Counter::with_opts(opts(name, help))?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<Gauge, MetricsError> {
        self.register(Gauge::with_opts(opts(name, help))?)
    }

    fn undelivered_age(&self) -> Result<FloatGauge, MetricsError> {
        self.float_gauge(
            "oldest_undelivered_age_seconds",
            "Age of the oldest event that is not delivered to all its endpoints.",
        )
    }

    fn overdue(&self) -> Result<FloatGauge, MetricsError> {
        self.float_gauge(
            "delivery_overdue_seconds",
            "Longest wait of an overdue delivery that nothing holds back; above 60 the server is \
             at fault.",
        )
    }

    fn float_gauge(&self, name: &str, help: &str) -> Result<FloatGauge, MetricsError> {
        self.register(FloatGauge::with_opts(opts(name, help))?)
    }

    fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Result<Histogram, MetricsError> {
        self.register(Histogram::with_opts(
            HistogramOpts::from(opts(name, help)).buckets(bounds.to_vec()),
        )?)
    }

    fn route_seconds(&self) -> Result<HistogramVec, MetricsError> {
        let opts = opts(
            "http_request_duration_seconds",
            "Duration from the head of a request to its answer.",
        );
        self.register(HistogramVec::new(
            HistogramOpts::from(opts).buckets(REQUEST_SECONDS.to_vec()),
            &["route"],
        )?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricsError> {
        self.register(IntCounterVec::new(opts(name, help), labels)?)
    }

    fn counter_per<L: Label>(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> Result<PerLabel<L, Counter>, MetricsError> {
        let counters = self.counters(name, help, &[label])?;
        let handles = L::NAMES.iter().map(|value| counters.get_metric_with_label_values(&[*value]));
        let spare = Counter::new("spare", "not shown")?;
        Ok(PerLabel { handles: handles.collect::<Result<_, _>>()?, spare, label: PhantomData })
    }

    fn gauge_per<L: Label>(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> Result<PerLabel<L, Gauge>, MetricsError> {
        let gauges = self.register(IntGaugeVec::new(opts(name, help), &[label])?)?;
        let handles = L::NAMES.iter().map(|value| gauges.get_metric_with_label_values(&[*value]));
        let spare = Gauge::new("spare", "not shown")?;
        Ok(PerLabel { handles: handles.collect::<Result<_, _>>()?, spare, label: PhantomData })
    }

    fn build_info(&self) -> Result<(), MetricsError> {
        let info = opts("build_info", "Always 1; the version is a label.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        self.register(Gauge::with_opts(info)?)?.set(1);
        Ok(())
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("triggerd")
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
