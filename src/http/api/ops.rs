//! `/health` and `/metrics`: for probes and Prometheus.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::backup::{DrillOutcome, DrillStanding, Standing};
use crate::commit::{Measured, Pressure, Shortage};
use crate::config::Retention;
use crate::http::edge::call::{Answer, Call, json};
use crate::http::edge::health::{Delivering, Phase};
use crate::http::error::Problem;
use crate::http::openapi::operation::{Operation, Reply, Tag, any_text};
use crate::http::openapi::schemas::schema_of;
use crate::model::time::Timestamp;

pub(in crate::http) static HEALTH: Operation = Operation::new(
    "showHealth",
    Tag::Operations,
    "Show if the server is healthy",
    &[
        Reply::json(200, "The server is healthy.", schema_of::<Healthy>),
        Reply::json(503, "A check failed.", schema_of::<Healthy>),
    ],
);

pub(in crate::http) static LIVE: Operation = Operation::new(
    "showLiveness",
    Tag::Operations,
    "Show if the process runs",
    &[Reply::json(200, "The process runs.", schema_of::<Word>)],
);

pub(in crate::http) static READY: Operation = Operation::new(
    "showReadiness",
    Tag::Operations,
    "Show if the server takes requests",
    &[
        Reply::json(200, "The server takes requests.", schema_of::<Word>),
        Reply::json(503, "The server starts or stops.", schema_of::<Word>),
    ],
);

pub(in crate::http) static METRICS: Operation = Operation::new(
    "showMetrics",
    Tag::Operations,
    "Show the metrics",
    &[Reply::of(200, "Prometheus text, version 0.0.4.", ("text/plain", any_text))],
);

pub(in crate::http) static OPENAPI: Operation = Operation::new(
    "showOpenapi",
    Tag::Operations,
    "Show this document",
    &[Reply::json(200, "The OpenAPI document.", |_| json!({"type": "object"}))],
);

/// The condition of the server.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
struct Healthy {
    status: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    /// The data directory on the server's machine.
    data_dir: String,
    /// False if the server makes no deliveries.
    delivers: bool,
    /// True if it makes none because its data directory was restored.
    is_held: bool,
    checks: Checks,
    /// The ages at which events expire, unless their tier has its own.
    #[schema(value_type = HashMap<String, Value>)]
    retention: Retention,
    disk: Disk,
    backup: BackupStanding,
    archive: ArchiveStanding,
    drill: DrillShown,
}

/// The disk space of the data in bytes, as the retention measured it last.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthDisk)]
struct Disk {
    journal_bytes: u64,
    snapshot_bytes: u64,
    state_bytes: u64,
    /// The part that comes back once no copy can need it.
    unneeded_bytes: u64,
    /// Space of the same filesystem that only the backups in `[backup] directory` take.
    backup_bytes: u64,
    /// Free space below which new events are refused: the configured reserve, or more if the next
    /// snapshots need more.
    reserve_bytes: u64,
    /// Free space below which events expire before their time.
    keep_free_bytes: u64,
    /// `bytes` or `disk` while events expire before their time for this reason, else `none`.
    #[schema(value_type = Pressure)]
    pressure: &'static str,
    /// Absent while unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    days_until_full: Option<f64>,
}

impl Disk {
    fn of(measured: &Measured, reserve_bytes: u64) -> Self {
        Self {
            journal_bytes: measured.journal,
            snapshot_bytes: measured.snapshots,
            state_bytes: measured.state,
            unneeded_bytes: measured.unneeded,
            backup_bytes: measured.backups,
            reserve_bytes,
            keep_free_bytes: measured.keep_free,
            pressure: measured.pressure.into(),
            days_until_full: measured.days_until_full,
        }
    }
}

/// The newest backup of this server in its directory of backups.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthBackup)]
struct BackupStanding {
    /// When the backup began; `null` without one.
    #[schema(required)]
    newest_at: Option<Timestamp>,
    /// True if the last backup failed.
    has_failed: bool,
    /// The time between two backups; 0 if the server makes none by itself.
    every_seconds: u64,
}

impl BackupStanding {
    fn of(call: &Call) -> Self {
        let Standing { newest_at, has_failed, every } = call.api.backups.standing();
        Self { newest_at, has_failed, every_seconds: seconds(every) }
    }
}

fn seconds(every: Option<Duration>) -> u64 {
    every.unwrap_or_default().as_secs()
}

/// The archive of expired events.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthArchive)]
struct ArchiveStanding {
    /// `null` if events expire without an archive.
    #[schema(required, value_type = Option<String>)]
    directory: Option<PathBuf>,
    /// True while events do not expire because they cannot be archived.
    has_failed: bool,
}

impl ArchiveStanding {
    fn of(call: &Call) -> Self {
        let directory = call.api.config.retention.archive_directory.clone();
        let has_failed = call.api.health.archive_fails().load(Ordering::SeqCst);
        Self { directory, has_failed }
    }
}

/// The last drill.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthDrill)]
struct DrillShown {
    /// When the last drill ended; `null` without one.
    #[schema(required)]
    ended_at: Option<Timestamp>,
    /// `passed`, `failed` or `skipped`; `null` without one.
    #[schema(required)]
    outcome: Option<DrillOutcome>,
    /// When the last one ended that passed; `null` without one.
    #[schema(required)]
    passed_at: Option<Timestamp>,
    /// Why the last drill was skipped; `null` if it was not.
    #[schema(required)]
    skipped_because: Option<String>,
    /// The time between two drills; 0 if the server carries out none by itself.
    every_seconds: u64,
}

impl DrillShown {
    fn of(call: &Call) -> Self {
        let drills = call.api.backups.drills();
        let DrillStanding { ended_at, outcome, passed_at, skipped_because, .. } = drills.standing();
        let every_seconds = seconds(drills.every());
        Self { ended_at, outcome, passed_at, skipped_because, every_seconds }
    }
}

/// A word for each part of the server; `ok` means healthy.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthChecks)]
struct Checks {
    /// The phase of the server, if the server is not ready.
    server: &'static str,
    /// `lost` if the data directory is no longer in its place, `incomplete` if a file is lost that
    /// the next start needs.
    data_dir: &'static str,
    /// The kind of shortage, if there is no room for events.
    disk: &'static str,
    /// `unreadable` if the state cannot be read.
    state: &'static str,
    /// `damaged` if bytes read from the journal differed from the bytes written.
    journal: &'static str,
    /// `full` if the queue of changes has no room.
    intake: &'static str,
}

impl Checks {
    fn of(call: &Call) -> Self {
        let api = &call.api;
        let ok_or = |ok: bool, word| if ok { "ok" } else { word };
        let phase = api.health.phase();
        Self {
            server: ok_or(phase == Phase::Ready, phase.name()),
            data_dir: api.health.data_dir(),
            disk: api.engine.intake.shortage().map_or("ok", Shortage::word),
            state: ok_or(api.engine.store.counts().is_ok(), "unreadable"),
            journal: ok_or(!api.engine.records.is_damaged(), "damaged"),
            intake: ok_or(api.engine.intake.waiting() < api.config.intake.queue, "full"),
        }
    }

    fn all_ok(&self) -> bool {
        let Self { server, data_dir, disk, state, journal, intake } = self;
        [server, data_dir, disk, state, journal, intake].into_iter().all(|word| *word == "ok")
    }
}

/// `GET /health`: answers 200, or 503 if a check fails.
pub(in crate::http) fn health(call: &Call) -> Answer {
    let checks = Checks::of(call);
    let healthy = checks.all_ok();
    let measured = call.api.engine.disk_use.measured();
    let mut retention = call.api.settings.get().retention.clone();
    // The limit in effect.
    retention.bytes = measured.limit.unwrap_or(retention.bytes);
    let delivering = call.api.health.delivering;
    let body = Healthy {
        status: if healthy { "healthy" } else { "unhealthy" },
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: call.api.began.elapsed().as_secs(),
        data_dir: call.api.data_dir.clone(),
        delivers: delivering == Delivering::Yes,
        is_held: delivering == Delivering::Held,
        checks,
        retention,
        disk: Disk::of(&measured, call.api.engine.space.reserve_bytes()),
        backup: BackupStanding::of(call),
        archive: ArchiveStanding::of(call),
        drill: DrillShown::of(call),
    };
    status(healthy, &body)
}

/// A phase of the server.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthWord)]
struct Word {
    status: &'static str,
}

/// `GET /health/live`: answers 200 as long as the process runs.
pub(in crate::http) fn live() -> Answer {
    status(true, &Word { status: "live" })
}

/// `GET /health/ready`: answers 200, or 503 while the server starts or stops.
pub(in crate::http) fn ready(call: &Call) -> Answer {
    let phase = call.api.health.phase();
    status(phase == Phase::Ready, &Word { status: phase.name() })
}

fn status(good: bool, body: &impl Serialize) -> Answer {
    if good {
        return json(StatusCode::OK, body);
    }
    let mut answer = json(StatusCode::SERVICE_UNAVAILABLE, body)?;
    answer.headers_mut().insert(RETRY_AFTER, 1.into());
    Ok(answer)
}

/// `GET /openapi.json`: returns the OpenAPI document.
pub(in crate::http) fn openapi(call: &Call) -> HttpResponse {
    let text = (call.api.document)();
    let answer = HttpResponse::Ok().content_type("application/json").body(text);
    call.api.bounds.answers.in_common(call.principal(), answer)
}

/// `GET /metrics`: returns Prometheus text, version 0.0.4.
pub(in crate::http) fn metrics(call: &Call) -> Answer {
    let metrics = &call.api.engine.metrics;
    let text = call.api.scrapes.text(Instant::now(), || metrics.render());
    let text = text.map_err(|error| Problem::internal(&error))?;
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    let answer = HttpResponse::Ok().content_type(content_type).body(text);
    Ok(call.api.bounds.answers.in_common(call.principal(), answer))
}
