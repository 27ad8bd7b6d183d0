//! Facts that an operator should know of a server whose checks are good, each with its remedy.

use serde_json::Value;

use super::advice::Finding;
use super::report::Report;
use super::series::Series;
use super::units::{bytes, duration};

/// Deliveries that are late by more seconds are a fault of the server.
const OVERDUE_SECONDS: u64 = 60;
/// A disk that lasts fewer days is worth a notice.
const DAYS_MIN: f64 = 3.0;

/// Returns the notices about a server.
pub(super) fn notices(report: &Report, series: Option<&Series>) -> Vec<Finding> {
    let held = series.and_then(|series| series.number("triggerd_expiry_held"));
    let is_expiry_held = held == Some(1);
    let found = [
        series.is_none().then(|| {
            let what = "/metrics cannot be read, so figures are missing";
            Finding::new("metrics", what, "Ask the server directly, not through a proxy.")
        }),
        delivers(report),
        overdue(report),
        waits_for_disk(report),
        pressure(&report.disk.pressure),
        soon_full(report),
        backup(report),
        drill(&report.drill),
        archive(&report.archive),
        (is_expiry_held && report.delivers == Some(true)).then(|| {
            Finding::new(
                "retention",
                "no event expires, because the clock jumped",
                "Check the clock of the machine. After an hour events expire again.",
            )
        }),
    ];
    found.into_iter().flatten().collect()
}

fn delivers(report: &Report) -> Option<Finding> {
    let (what, remedy) = match (report.delivers?, report.is_held) {
        (true, _) => return None,
        (false, Some(true)) => (
            "nothing is delivered, because the data directory was restored from a backup",
            "If the original server does not run any more, run `triggerd deliver on` and restart \
             the server.",
        ),
        (false, _) => (
            "nothing is delivered, because the server was started with --no-deliver",
            "To deliver, restart the server without --no-deliver.",
        ),
    };
    Some(Finding::new("deliveries", what, remedy))
}

fn overdue(report: &Report) -> Option<Finding> {
    let deliveries = &report.deliveries;
    let overdue = deliveries.overdue_seconds.filter(|late| *late > OVERDUE_SECONDS)?;
    let what = format!("a delivery that may be sent is late by {}", duration(overdue));
    let remedy = if deliveries.lookups_waiting.is_some_and(|waiting| waiting > 0) {
        "Name servers do not answer. Check the resolver of the machine."
    } else {
        "Restart the server. Keep the log, because this is a fault of the server."
    };
    Some(Finding::new("deliveries", what, remedy))
}

fn waits_for_disk(report: &Report) -> Option<Finding> {
    let held = report.deliveries.held_endpoints.filter(|held| *held > 0)?;
    let (endpoints, wait) =
        if held == 1 { ("failing endpoint", "waits") } else { ("failing endpoints", "wait") };
    let what = format!(
        "{held} {endpoints} {wait} because the disk is almost full: one attempt a second is made, \
         and retries by hand are refused"
    );
    Some(Finding::new("deliveries", what, "Free disk space, or use a larger disk."))
}

fn pressure(word: &str) -> Option<Finding> {
    let (what, remedy) = match word {
        "bytes" => (
            "the data needs more than [retention] bytes: the oldest finished events expire before \
             their time",
            "Raise [retention] bytes and reload, or use a larger disk.",
        ),
        "disk" => (
            "less of the disk is free than [retention] keep_free_share: events expire before \
             their time",
            "Free disk space, or use a larger disk.",
        ),
        _ => return None,
    };
    Some(Finding::new("disk", what, remedy))
}

fn soon_full(report: &Report) -> Option<Finding> {
    let days = report.disk.days_until_full.filter(|days| *days < DAYS_MIN)?;
    let free = report.disk.free_bytes.map(bytes).unwrap_or_default();
    let what = format!("{free} are free and last {days:.1} days: then new events are refused");
    let remedy = "Free disk space, or lower finished_seconds and open_seconds in [retention] and \
                  reload.";
    Some(Finding::new("disk", what.trim_start(), remedy))
}

fn backup(report: &Report) -> Option<Finding> {
    report.backup.has_failed.filter(|has_failed| *has_failed)?;
    let remedy = "The log says why. `triggerd backup DIR` makes one now.";
    Some(Finding::new("backup", "the last backup failed", remedy))
}

fn archive(archive: &Value) -> Option<Finding> {
    archive.get("has_failed").and_then(Value::as_bool).filter(|has_failed| *has_failed)?;
    let what = "no event expires, because expiring events cannot be archived";
    let remedy = "Mend the directory in [retention] archive_directory: the log says what is wrong \
                  with it. Until then the data grows.";
    Some(Finding::new("archive", what, remedy))
}

fn drill(drill: &Value) -> Option<Finding> {
    drill.get("outcome").and_then(Value::as_str).filter(|outcome| *outcome == "failed")?;
    let what = "the newest backup could not be restored and verified";
    let remedy = "The log says why. Make a new backup, and check it with `triggerd verify BACKUP`.";
    Some(Finding::new("drill", what, remedy))
}
