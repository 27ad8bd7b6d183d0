use std::io::{ErrorKind, Write as _};
use std::process::{Command, Stdio};

use super::*;

/// Every series of the server with its label values, as a scraper sees them.
const SERIES: &[(&str, &[&str])] = &[
    ("triggerd_build_info", &[]),
    ("triggerd_events_accepted_total", &[]),
    ("triggerd_events_duplicate_total", &[]),
    (
        "triggerd_events_rejected_total",
        &[
            "reason=\"validation\"",
            "reason=\"malformed\"",
            "reason=\"mismatch\"",
            "reason=\"too_large\"",
            "reason=\"unsupported_media_type\"",
            "reason=\"rate_limited\"",
            "reason=\"overloaded\"",
            "reason=\"disk_full\"",
            "reason=\"shutting_down\"",
            "reason=\"unauthorized\"",
        ],
    ),
    ("triggerd_events_erased_total", &[]),
    ("triggerd_commit_group_commands_count", &[]),
    ("triggerd_commit_sync_duration_seconds_count", &[]),
    ("triggerd_commands_applied_total", &[]),
    ("triggerd_queue_depth", &["queue=\"intake\"", "queue=\"routing\"", "queue=\"scheduler\""]),
    ("triggerd_write_back_duration_seconds_count", &[]),
    ("triggerd_write_back_rows_total", &[]),
    ("triggerd_oldest_undelivered_age_seconds", &[]),
    ("triggerd_delivery_overdue_seconds", &[]),
    (
        "triggerd_deliveries_total",
        &["outcome=\"delivered\"", "outcome=\"retried\"", "outcome=\"dead\""],
    ),
    (
        "triggerd_delivery_attempts_total",
        &["result=\"ok\"", "result=\"timeout\"", "result=\"dns\""],
    ),
    ("triggerd_delivery_attempt_duration_seconds_count", &[]),
    ("triggerd_lookups_running", &[]),
    ("triggerd_lookups_waiting", &[]),
    ("triggerd_endpoints_held", &[]),
    ("triggerd_deliveries_in_flight", &[]),
    ("triggerd_breakers_open", &[]),
    ("triggerd_replays_running", &[]),
    ("triggerd_replay_deliveries_total", &[]),
    (
        "triggerd_operational_events_total",
        &[
            "kind=\"endpoint_failing\"",
            "kind=\"endpoint_disabled\"",
            "kind=\"endpoint_recovered\"",
            "kind=\"delivery_dead\"",
            "kind=\"disk_low\"",
            "kind=\"inbox_expired\"",
        ],
    ),
    ("triggerd_inbox_open_events", &[]),
    ("triggerd_events_stored", &[]),
    ("triggerd_dead_letters", &[]),
    (
        "triggerd_events_expired_total",
        &[
            "kind=\"finished\",reason=\"age\"",
            "kind=\"finished\",reason=\"bytes\"",
            "kind=\"finished\",reason=\"disk\"",
            "kind=\"dead\",reason=\"age\"",
            "kind=\"dead\",reason=\"disk\"",
            "kind=\"open\",reason=\"age\"",
            "kind=\"open\",reason=\"disk\"",
        ],
    ),
    ("triggerd_archived_events_total", &[]),
    ("triggerd_archive_failures_total", &[]),
    ("triggerd_expiry_failures_total", &[]),
    ("triggerd_expiry_held", &[]),
    ("triggerd_data_bytes", &["kind=\"journal\"", "kind=\"snapshots\"", "kind=\"state\""]),
    ("triggerd_data_unneeded_bytes", &[]),
    ("triggerd_data_limit_bytes", &[]),
    ("triggerd_disk_keep_free_bytes", &[]),
    ("triggerd_oldest_event_age_seconds", &[]),
    ("triggerd_state_rebuilds_total", &[]),
    ("triggerd_snapshot_seconds", &[]),
    ("triggerd_snapshot_bytes", &[]),
    ("triggerd_snapshot_rows", &[]),
    ("triggerd_snapshot_age_seconds", &[]),
    ("triggerd_snapshot_failures_total", &[]),
    ("triggerd_backup_age_seconds", &[]),
    ("triggerd_backup_seconds", &[]),
    ("triggerd_backup_bytes", &[]),
    ("triggerd_backup_disk_bytes", &[]),
    ("triggerd_backup_failures_total", &[]),
    ("triggerd_drill_age_seconds", &[]),
    ("triggerd_drill_seconds", &[]),
    ("triggerd_drill_failures_total", &[]),
    ("triggerd_drill_skips_total", &[]),
    ("triggerd_journal_disk_bytes", &[]),
    ("triggerd_journal_segments", &[]),
    ("triggerd_journal_allocated_bytes", &[]),
    ("triggerd_compaction_segments_punched_total", &[]),
    ("triggerd_compaction_segments_removed_total", &[]),
    ("triggerd_compaction_freed_bytes_total", &[]),
    ("triggerd_compaction_failures_total", &[]),
    ("triggerd_journal_damaged", &[]),
    ("triggerd_disk_free_bytes", &[]),
    ("triggerd_disk_free_files", &[]),
    ("triggerd_disk_reserve_bytes", &[]),
    ("triggerd_log_lines_left_out_total", &[]),
    ("triggerd_http_malformed_total", &[]),
    (
        "triggerd_http_requests_total",
        &["status=\"1xx\"", "status=\"2xx\"", "status=\"3xx\"", "status=\"4xx\"", "status=\"5xx\""],
    ),
    (
        "triggerd_http_request_duration_seconds_count",
        &["route=\"unmatched\"", "route=\"/api/events\""],
    ),
    (
        "triggerd_key_verifications_total",
        &[
            "result=\"cached\"",
            "result=\"verified\"",
            "result=\"refused\"",
            "result=\"overloaded\"",
        ],
    ),
    ("triggerd_key_hashes_total", &[]),
    ("process_resident_memory_bytes", &[]),
    ("process_open_fds", &[]),
];

fn metrics() -> Metrics {
    Metrics::new(&["timeout", "dns"]).unwrap()
}

/// Returns the value of the only series with this name and label.
fn value(text: &str, name: &str, label: &str) -> f64 {
    let mut lines = text.lines().filter(|line| {
        let series = line.rsplit_once(' ').map_or("", |(series, _)| series);
        series.split('{').next() == Some(name) && series.contains(label)
    });
    let line = lines.next().unwrap_or_else(|| panic!("no {name} with {label} in\n{text}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn every_series_is_there_at_zero_from_the_first_scrape() {
    let metrics = metrics();
    metrics.http_route("POST", "/api/events").unwrap();
    let text = metrics.render().unwrap();
    for (name, labels) in SERIES {
        let labels = if labels.is_empty() { &[""][..] } else { labels };
        for label in labels {
            let value = value(&text, name, label);
            let one_of_ours = name.starts_with("triggerd_") && *name != "triggerd_build_info";
            assert!(!one_of_ours || value == 0.0, "{name} {label} is {value}");
        }
    }
}

#[test]
fn every_series_of_ours_is_in_the_list_above_and_documented() {
    let text = metrics().render().unwrap();
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        let listed = SERIES
            .iter()
            .any(|(series, _)| *series == name || series.strip_suffix("_count") == Some(name));
        assert!(listed || name.starts_with("process_"), "{name} is not in the list");
    }
}

#[test]
fn each_label_counts_its_own_series() {
    let metrics = metrics();
    metrics.events_rejected.of(Rejection::DiskFull).inc_by(3);
    metrics.queue_depth.of(Queue::Routing).set(5);
    metrics.deliveries.of(DeliveryOutcome::Dead).inc();
    metrics.key_verifications.of(KeyVerification::Overloaded).inc_by(7);
    metrics.attempt_failed(1);
    metrics.attempt_failed(99);
    metrics.attempt_ok();
    metrics.attempt_ok();
    let text = metrics.render().unwrap();
    for (name, label, expected) in [
        ("triggerd_events_rejected_total", "disk_full", 3.0),
        ("triggerd_events_rejected_total", "overloaded", 0.0),
        ("triggerd_queue_depth", "routing", 5.0),
        ("triggerd_deliveries_total", "dead", 1.0),
        ("triggerd_key_verifications_total", "overloaded", 7.0),
        ("triggerd_delivery_attempts_total", "dns", 1.0),
        ("triggerd_delivery_attempts_total", "timeout", 0.0),
        ("triggerd_delivery_attempts_total", "ok", 2.0),
    ] {
        assert!(
            (value(&text, name, label) - expected).abs() < f64::EPSILON,
            "{name} {label}\n{text}"
        );
    }
}

#[test]
fn a_request_counts_by_class_and_time() {
    let metrics = metrics();
    let route = metrics.http_route("GET", "/api/inbox").unwrap();
    for status in [200, 204, 429, 503] {
        route.answered(status, Duration::from_millis(20));
    }
    let text = metrics.render().unwrap();
    let requests = |class| {
        let label = format!("method=\"GET\",route=\"/api/inbox\",status=\"{class}\"");
        value(&text, "triggerd_http_requests_total", &label)
    };
    let counted = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| requests(class).to_string());
    assert_eq!(counted, ["0", "2", "0", "1", "1"]);
    let count = value(&text, "triggerd_http_request_duration_seconds_count", "/api/inbox");
    let seconds = value(&text, "triggerd_http_request_duration_seconds_sum", "/api/inbox");
    assert!(
        (count - 4.0).abs() < f64::EPSILON && (seconds - 0.08).abs() < 1e-9,
        "{count} {seconds}"
    );
}

#[test]
fn promtool_finds_nothing_to_say() {
    let metrics = metrics();
    metrics.http_route("POST", "/api/events").unwrap();
    let mut command = Command::new("promtool");
    let child = command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match child.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound && option_env!("CI").is_none() => {
            eprintln!("skipped: promtool is not installed");
            return;
        }
        child => child.unwrap(),
    };
    child.stdin.take().unwrap().write_all(metrics.render().unwrap().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    assert!(output.status.success() && said.is_empty(), "{said}");
}
