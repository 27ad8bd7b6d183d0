//! The report as a table for a terminal of 80 columns.

use serde_json::Value;

use super::advice::Finding;
use super::report::{Disk, Report};
use super::units::{bytes, duration, number};
use crate::base::clock::Clock;
use crate::cli::answer::text;
use crate::cli::output::counted;
use crate::model::time::Timestamp;

/// Columns of a line. Only a word that is longer by itself, such as a path, goes beyond.
const COLUMNS: usize = 80;
/// Columns of the names, with the spaces around them.
const NAMES: usize = 14;
const UNKNOWN: &str = "unknown";
const DAY_SECONDS: u64 = 86_400;

/// Returns the lines of the table.
pub(super) fn lines(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if report.is_healthy() {
        lines.push("triggerd is healthy.".to_owned());
    } else {
        lines.push("triggerd is UNHEALTHY.".to_owned());
    }
    for finding in report.problems.iter().chain(&report.notices) {
        lines.push(String::new());
        add_finding(&mut lines, finding);
    }
    lines.push(String::new());
    for (name, value) in rows(report) {
        add(&mut lines, (&format!("  {name:<width$}", width = NAMES - 2), NAMES), &value);
    }
    if !report.is_healthy() || !report.notices.is_empty() {
        lines.push(String::new());
        lines.push(format!("Manual: {}/docs/operations", report.url));
    }
    lines
}

fn add_finding(lines: &mut Vec<String>, finding: &Finding) {
    let Finding { about, what, remedy } = finding;
    let end = if what.ends_with('.') { "" } else { "." };
    add(lines, ("  ! ", 4), &format!("{about}: {what}{end}"));
    add(lines, ("    ", 4), remedy);
}

/// Adds a text in lines of at most [`COLUMNS`]: the first one begins with `begin`, the others with
/// spaces.
fn add(lines: &mut Vec<String>, (begin, indent): (&str, usize), text: &str) {
    let mut line = begin.to_owned();
    let mut is_empty = true;
    for word in text.split(' ') {
        let columns = line.chars().count() + usize::from(!is_empty) + word.chars().count();
        if !is_empty && columns > COLUMNS {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line.trim_end().to_owned());
}

fn rows(report: &Report) -> Vec<(&'static str, String)> {
    let up = report.uptime_seconds.map_or_else(unknown, duration);
    let mut rows = vec![
        ("server", format!("version {}, up {up}", report.version)),
        ("url", format!("{} ({})", report.url, report.url_source)),
    ];
    if !report.data_dir.is_empty() {
        rows.push(("data", report.data_dir.clone()));
    }
    rows.extend([
        ("events", events(report)),
        ("deliveries", deliveries(report)),
        ("endpoints", endpoints(report.deliveries.open_breakers)),
        ("disk", disk(&report.disk)),
        ("free", free(&report.disk)),
        ("full", full(&report.disk)),
        ("retention", retention(report)),
        ("snapshot", report.snapshot.age_seconds.map_or_else(none, ago)),
        ("backup", backup(report)),
    ]);
    let archive = text(&report.archive, "directory");
    if !archive.is_empty() {
        rows.push(("archive", archive.to_owned()));
    }
    if !report.drill.is_null() {
        rows.push(("drill", drill(&report.drill, Clock::system().now_ms())));
    }
    rows
}

fn unknown() -> String {
    UNKNOWN.to_owned()
}

fn none() -> String {
    "none".to_owned()
}

fn ago(seconds: u64) -> String {
    format!("{} ago", duration(seconds))
}

fn figure(figure: Option<u64>) -> String {
    figure.map_or_else(unknown, number)
}

fn size(size: Option<u64>) -> String {
    size.map_or_else(unknown, bytes)
}

fn events(report: &Report) -> String {
    let events = &report.events;
    format!("{} stored, {} in inboxes", figure(events.stored), figure(events.in_inboxes))
}

fn deliveries(report: &Report) -> String {
    let of = &report.deliveries;
    let waiting = figure(of.waiting);
    let overdue = match of.overdue_seconds {
        None => "overdue: unknown".to_owned(),
        Some(0) => "none overdue".to_owned(),
        Some(seconds) => format!("overdue by up to {}", duration(seconds)),
    };
    let dead = match of.dead_letters {
        None => "dead letters: unknown".to_owned(),
        Some(1) => "1 dead letter".to_owned(),
        Some(dead) => format!("{} dead letters", number(dead)),
    };
    let held = if report.delivers == Some(false) { "; nothing is sent" } else { "" };
    format!("{waiting} waiting, {overdue}, {dead}{held}")
}

fn endpoints(open: Option<u64>) -> String {
    match open {
        None => unknown(),
        Some(0) => "no open circuit breaker".to_owned(),
        Some(open) => format!("{} with an open circuit breaker", number(open)),
    }
}

fn disk(disk: &Disk) -> String {
    let unneeded = match disk.unneeded_bytes {
        None | Some(0) => String::new(),
        Some(unneeded) => format!(" ({} of it come back)", bytes(unneeded)),
    };
    format!(
        "journal {}, snapshots {}, state {}{unneeded}, only backups {}",
        size(disk.journal_bytes),
        size(disk.snapshot_bytes),
        size(disk.state_bytes),
        size(disk.backup_bytes)
    )
}

fn free(disk: &Disk) -> String {
    let early = match disk.keep_free_bytes {
        Some(0) => String::new(),
        keep_free => format!("below {} events expire early, ", size(keep_free)),
    };
    let (free, reserve) = (size(disk.free_bytes), size(disk.reserve_bytes));
    format!("{free}; {early}below {reserve} new events are refused")
}

fn full(disk: &Disk) -> String {
    let is_short =
        disk.free_bytes.zip(disk.reserve_bytes).is_some_and(|(free, reserve)| free < reserve);
    match disk.days_until_full {
        _ if is_short => "now: less than the reserve is free".to_owned(),
        None => "not in sight at the rate of the last day".to_owned(),
        Some(days) => format!("in {days:.1} days at the rate of the last day"),
    }
}

fn retention(report: &Report) -> String {
    let seconds = |name: &str| report.retention.get(name).and_then(Value::as_u64);
    let age = |name: &str| match seconds(name) {
        None => unknown(),
        Some(0) => "no age".to_owned(),
        Some(seconds) if seconds % DAY_SECONDS == 0 => counted(seconds / DAY_SECONDS, "day"),
        Some(seconds) => duration(seconds),
    };
    let limit = report
        .disk
        .limit_bytes
        .map_or(String::new(), |limit| format!("; at most {} of data", bytes(limit)));
    format!("finished {}, unfinished {}{limit}", age("finished_seconds"), age("open_seconds"))
}

fn backup(report: &Report) -> String {
    let newest = report.backup.age_seconds.map_or_else(none, ago);
    let failed = if report.backup.has_failed == Some(true) { "; the last one failed" } else { "" };
    format!("{newest}{failed}")
}

/// Formats the last drill, and the last one that passed if this is another one.
fn drill(drill: &Value, now_ms: u64) -> String {
    let age = |name: &str| {
        let at = text(drill, name).parse::<Timestamp>().ok()?;
        Some(ago(now_ms.saturating_sub(at.0) / 1_000))
    };
    match (text(drill, "outcome"), age("ended_at"), age("passed_at")) {
        ("passed", Some(ended), _) => format!("passed {ended}"),
        (outcome, Some(ended), None) => format!("{outcome} {ended}; none has passed"),
        (outcome, Some(ended), Some(passed)) => format!("{outcome} {ended}; passed {passed}"),
        (_, None, _) => none(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_drill_that_failed_also_says_when_one_passed() {
        let now: Timestamp = "2026-01-31T10:00:00Z".parse().unwrap();
        let shown = |ended: &str, outcome: &str, passed: &str| {
            let found = json!({"ended_at": ended, "outcome": outcome, "passed_at": passed});
            drill(&found, now.0)
        };
        let (hour, day) = ("2026-01-31T09:00:00Z", "2026-01-30T10:00:00Z");
        assert_eq!(shown(hour, "passed", hour), "passed 1 h ago");
        assert_eq!(shown(hour, "failed", day), "failed 1 h ago; passed 1 day ago");
        assert_eq!(shown(hour, "failed", ""), "failed 1 h ago; none has passed");
        assert_eq!(drill(&json!({"ended_at": null, "outcome": null}), now.0), "none");
    }

    #[test]
    fn long_texts_are_wrapped_and_no_line_ends_with_a_space() {
        let mut lines = Vec::new();
        add(&mut lines, ("  ! ", 4), &"word ".repeat(40));
        assert!(lines.len() > 2);
        assert!(lines.iter().all(|line| line.len() <= COLUMNS && !line.ends_with(' ')));
        assert!(lines[0].starts_with("  ! word") && lines[1].starts_with("    word"));
        let mut lines = Vec::new();
        let path = format!("/{}", "x".repeat(100));
        add(&mut lines, ("  data  ", 8), &path);
        assert_eq!(lines, [format!("  data  {path}")]);
    }
}
