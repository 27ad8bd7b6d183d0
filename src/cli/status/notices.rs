//! Facts that an operator should know of a server whose checks are good, each with its remedy.

use serde_json::Value;

use super::advice::Finding;
use super::report::{Backup, Report};
use super::series::Series;
use super::units::{bytes, duration};
use crate::cli::answer::text;

/// Deliveries that are late by more seconds are a fault of the server.
const OVERDUE_SECONDS: u64 = 60;
/// A disk that lasts fewer days is worth a notice.
const DAYS_MIN: f64 = 3.0;
/// A backup or a drill that is older than this many times the time between two of them is overdue.
const TIMES_MAX: u64 = 2;
/// A server that has run for more seconds should have a backup, if it makes backups.
const FIRST_BACKUP_SECONDS: u64 = 600;

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
        drill(report, series),
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
    let Backup { newest_at, age_seconds, has_failed, every_seconds } = &report.backup;
    if *has_failed == Some(true) {
        let remedy = "The log says why. `triggerd backup DIR` makes one now.";
        return Some(Finding::new("backup", "the last backup failed", remedy));
    }
    let every = every_seconds.filter(|every| *every > 0)?;
    if newest_at.is_none() {
        report.uptime_seconds.filter(|up| *up > FIRST_BACKUP_SECONDS)?;
        let what = "there is no backup, although [backup] every_seconds asks for backups";
        let remedy = "Check that [backup] directory is in its place. `triggerd backup DIR` makes \
                      a backup now.";
        return Some(Finding::new("backup", what, remedy));
    }
    let age = age_seconds.filter(|age| is_overdue(*age, every))?;
    let (age, every) = (duration(age), duration(every));
    let what = format!("the newest backup is {age} old, although one is due every {every}");
    let remedy =
        "`GET /api/admin/jobs` shows a backup that is under way; the log shows the others.";
    Some(Finding::new("backup", what, remedy))
}

fn is_overdue(age: u64, every: u64) -> bool {
    age > every.saturating_mul(TIMES_MAX)
}

fn archive(archive: &Value) -> Option<Finding> {
    archive.get("has_failed").and_then(Value::as_bool).filter(|has_failed| *has_failed)?;
    let what = "no event expires, because expiring events cannot be archived";
    let remedy = "Mend the directory in [retention] archive_directory: the log says what is wrong \
                  with it. Until then the data grows.";
    Some(Finding::new("archive", what, remedy))
}

fn drill(report: &Report, series: Option<&Series>) -> Option<Finding> {
    let drill = &report.drill;
    match text(drill, "outcome") {
        "failed" => {
            let what = "the newest backup could not be restored and verified";
            let remedy = "The log says why. Make a new backup, and check it with `triggerd verify \
                          BACKUP`.";
            return Some(Finding::new("drill", what, remedy));
        }
        "skipped" => {
            let why = text(drill, "skipped_because");
            let what = format!("the last drill was skipped: {why}");
            let remedy = "Until a drill passes, nobody knows if the newest backup can be restored. \
                          `triggerd drill` asks for one now.";
            return Some(Finding::new("drill", what, remedy));
        }
        _ => {}
    }
    let every = drill.get("every_seconds").and_then(Value::as_u64).filter(|every| *every > 0)?;
    report.backup.newest_at.as_ref()?;
    let passed = series?.number("triggerd_drill_age_seconds");
    let age = passed.or(report.uptime_seconds).filter(|age| is_overdue(*age, every))?;
    let (age, every) = (duration(age), duration(every));
    let what = format!("no drill has passed for {age}, although one is due every {every}");
    let remedy = "`triggerd drill` asks for one now. The log says why there was none.";
    Some(Finding::new("drill", what, remedy))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DAY: u64 = 86_400;

    /// Returns what is said about a server with this newest backup and last drill, each of which is
    /// due every day, and with these ages of the newest backup and of the last drill that passed.
    fn said(newest_at: Option<&str>, drill: &Value, ages: (i64, i64), uptime: u64) -> Vec<String> {
        let mut drill = drill.clone();
        drill["every_seconds"] = json!(DAY);
        let health = json!({
            "status": "healthy", "delivers": true, "uptime_seconds": uptime, "drill": drill,
            "backup": {"newest_at": newest_at, "has_failed": false, "every_seconds": DAY},
        });
        let (backup, passed) = ages;
        let series = Series::read(&format!(
            "triggerd_backup_age_seconds {backup}\ntriggerd_drill_age_seconds {passed}\n"
        ));
        let report = Report::of(("http://server", "--url"), &health, Some(&series));
        let found = notices(&report, Some(&series));
        found.into_iter().map(|finding| format!("{}: {}", finding.about, finding.what)).collect()
    }

    #[test]
    fn backups_and_drills_that_are_overdue_are_named() {
        let at = Some("2026-01-31T10:00:00.000Z");
        let (day, passed) = (DAY.cast_signed(), json!({"outcome": "passed"}));
        let none = json!({"outcome": null});
        assert_eq!(said(at, &passed, (2 * day, 2 * day), 3 * DAY), Vec::<String>::new());
        let old = said(at, &passed, (3 * day, day), DAY);
        let words = "backup: the newest backup is 3 days old, although one is due every 1 day";
        assert_eq!(old, [words]);
        assert_eq!(said(None, &none, (-1, -1), 60), Vec::<String>::new(), "it has just started");
        let none_there = said(None, &none, (-1, -1), DAY);
        assert!(matches!(&none_there[..], [it] if it.starts_with("backup: there is no backup")));
        let late = said(at, &passed, (0, 3 * day), DAY);
        let words = "drill: no drill has passed for 3 days, although one is due every 1 day";
        assert_eq!(late, [words]);
        assert_eq!(said(at, &none, (0, -1), DAY), Vec::<String>::new(), "the first one may come");
        assert_eq!(said(at, &none, (0, -1), 3 * DAY), [words]);
        let skipped = json!({"outcome": "skipped", "skipped_because": "the disk is full"});
        let skipped = said(at, &skipped, (0, day), DAY);
        assert_eq!(skipped, ["drill: the last drill was skipped: the disk is full"]);
    }
}
