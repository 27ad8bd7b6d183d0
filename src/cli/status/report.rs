//! The condition of a server as one value, whose members are those of `--json`.

use serde::Serialize;
use serde_json::Value;

use super::advice::{Finding, problems};
use super::series::Series;
use crate::cli::answer::text;

/// The condition of a server. A figure that the server does not give is null.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) status: String,
    pub(super) url: String,
    /// The option, variable, context or configuration that gave the URL.
    pub(super) url_source: String,
    /// The reasons why the server is unhealthy.
    pub(super) problems: Vec<Finding>,
    /// What an operator should know of a server, healthy or not.
    pub(super) notices: Vec<Finding>,
    pub(super) version: String,
    pub(super) uptime_seconds: Option<u64>,
    pub(super) data_dir: String,
    pub(super) delivers: Option<bool>,
    pub(super) is_held: Option<bool>,
    pub(super) events: Events,
    pub(super) deliveries: Deliveries,
    pub(super) disk: Disk,
    /// The member `retention` of `/health`.
    pub(super) retention: Value,
    pub(super) snapshot: Snapshot,
    pub(super) backup: Backup,
    /// The member `archive` of `/health`.
    pub(super) archive: Value,
    /// The member `drill` of `/health`.
    pub(super) drill: Value,
}

#[derive(Serialize)]
pub(super) struct Events {
    pub(super) stored: Option<u64>,
    pub(super) in_inboxes: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Deliveries {
    pub(super) waiting: Option<u64>,
    /// The longest wait of a delivery that nothing holds back.
    pub(super) overdue_seconds: Option<u64>,
    pub(super) dead_letters: Option<u64>,
    /// The number of endpoints whose circuit breaker is open.
    pub(super) open_breakers: Option<u64>,
    /// The number of failing endpoints that wait because the disk is almost full.
    pub(super) held_endpoints: Option<u64>,
    pub(super) lookups_waiting: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Disk {
    pub(super) journal_bytes: Option<u64>,
    pub(super) snapshot_bytes: Option<u64>,
    pub(super) state_bytes: Option<u64>,
    pub(super) unneeded_bytes: Option<u64>,
    pub(super) backup_bytes: Option<u64>,
    pub(super) free_bytes: Option<u64>,
    pub(super) reserve_bytes: Option<u64>,
    pub(super) keep_free_bytes: Option<u64>,
    pub(super) limit_bytes: Option<u64>,
    pub(super) pressure: String,
    pub(super) days_until_full: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct Snapshot {
    pub(super) age_seconds: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Backup {
    pub(super) newest_at: Option<String>,
    pub(super) age_seconds: Option<u64>,
    pub(super) has_failed: Option<bool>,
    /// The time between two backups; 0 if the server makes none by itself.
    pub(super) every_seconds: Option<u64>,
}

impl Report {
    /// Makes the report, without notices, from the answer of `/health` and the series of
    /// `/metrics`, if they could be read.
    pub(super) fn of((url, source): (&str, &str), health: &Value, series: Option<&Series>) -> Self {
        let member = |name: &str| health.get(name).cloned().unwrap_or_default();
        let number = |name: &str| series.and_then(|series| series.number(name));
        Self {
            status: text(health, "status").to_owned(),
            url: url.to_owned(),
            url_source: source.to_owned(),
            problems: problems(&member("checks")),
            notices: Vec::new(),
            version: text(health, "version").to_owned(),
            uptime_seconds: member("uptime_seconds").as_u64(),
            data_dir: text(health, "data_dir").to_owned(),
            delivers: member("delivers").as_bool(),
            is_held: member("is_held").as_bool(),
            events: Events {
                stored: number("triggerd_events_stored"),
                in_inboxes: number("triggerd_inbox_open_events"),
            },
            deliveries: Deliveries::of(series),
            disk: Disk::of(&member("disk"), &number),
            retention: member("retention"),
            snapshot: Snapshot { age_seconds: number("triggerd_snapshot_age_seconds") },
            backup: Backup::of(&member("backup"), number("triggerd_backup_age_seconds")),
            archive: member("archive"),
            drill: member("drill"),
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.status == "healthy"
    }
}

impl Deliveries {
    fn of(series: Option<&Series>) -> Self {
        let number = |name: &str| series?.number(name);
        Self {
            waiting: number("triggerd_queue_depth{queue=\"scheduler\"}"),
            overdue_seconds: series
                .and_then(|series| series.seconds("triggerd_delivery_overdue_seconds")),
            dead_letters: number("triggerd_dead_letters"),
            open_breakers: number("triggerd_breakers_open"),
            held_endpoints: number("triggerd_endpoints_held"),
            lookups_waiting: number("triggerd_lookups_waiting"),
        }
    }
}

impl Disk {
    fn of(disk: &Value, number: &dyn Fn(&str) -> Option<u64>) -> Self {
        let of_health = |name: &str| disk.get(name).and_then(Value::as_u64);
        Self {
            journal_bytes: of_health("journal_bytes"),
            snapshot_bytes: of_health("snapshot_bytes"),
            state_bytes: of_health("state_bytes"),
            unneeded_bytes: of_health("unneeded_bytes"),
            backup_bytes: of_health("backup_bytes"),
            free_bytes: number("triggerd_disk_free_bytes"),
            reserve_bytes: of_health("reserve_bytes"),
            keep_free_bytes: of_health("keep_free_bytes"),
            limit_bytes: number("triggerd_data_limit_bytes").filter(|limit| *limit > 0),
            pressure: text(disk, "pressure").to_owned(),
            days_until_full: disk.get("days_until_full").and_then(Value::as_f64),
        }
    }
}

impl Backup {
    fn of(backup: &Value, age_seconds: Option<u64>) -> Self {
        Self {
            newest_at: Some(text(backup, "newest_at").to_owned()).filter(|at| !at.is_empty()),
            age_seconds,
            has_failed: backup.get("has_failed").and_then(Value::as_bool),
            every_seconds: backup.get("every_seconds").and_then(Value::as_u64),
        }
    }
}
