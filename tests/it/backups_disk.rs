//! Backups and the retention: what waits for `triggerd deliver on`, for the clock, and for old
//! backups.

use std::path::PathBuf;

use serde_json::json;
use triggerd::app::App;
use triggerd::base::clock::Clock;
use triggerd::base::exit_code::ExitCode;
use triggerd::config::Config;

use crate::backups::{ask, backups, restore, text};
use crate::harness::{Client, Process, command, first_segment, settings, until};

const START_MS: u64 = 1_800_000_000_000;
const HOUR_MS: u64 = 3_600_000;
const LIMIT: u64 = 24 << 20;

/// Posts confirmed events of 200 KiB each. Returns the first id.
fn fill(org: &Client, events: usize) -> String {
    let payload = json!("x".repeat(200 << 10));
    let post = || {
        let id = org.send("large.event", &payload).id();
        assert_eq!(org.ack(&id).status, 200);
        id
    };
    std::iter::repeat_with(post).take(events).collect::<Vec<_>>().remove(0)
}

fn status(org: &Client, event: &str) -> u16 {
    org.get(&format!("/api/events/{event}")).status
}

fn journal_bytes(org: &Client) -> u64 {
    org.get("/health").json["disk"]["journal_bytes"].as_u64().unwrap()
}

/// Asserts that nothing has expired, although the sweeper has looked several times at data that is
/// larger than its limit.
fn assert_held(org: &Client) {
    until(|| (journal_bytes(org) > LIMIT).then_some(()));
    for _ in 0..2 {
        let stored = org.metric("triggerd_events_stored");
        assert_eq!(org.send("one.more", &json!(1)).status, 202);
        until(|| (org.metric("triggerd_events_stored") > stored).then_some(()));
    }
    assert_eq!(org.get("/health").json["disk"]["pressure"], json!("none"));
    let text = org.get("/metrics").text;
    let expired = text.lines().filter(|line| line.starts_with("triggerd_events_expired_total{"));
    assert!(expired.clone().count() > 0 && expired.clone().all(|line| line.ends_with(" 0")));
}

#[test]
fn no_event_leaves_early_while_the_clock_is_doubtful() {
    let dir = tempfile::tempdir().unwrap();
    let more = format!("[retention]\nbytes = {LIMIT}\ngrace_seconds = 1\n");
    let config = Config::from_toml(&settings(&dir.path().join("data"), &more)).unwrap();
    let clock = Clock::manual(START_MS);
    let app = App::start(config, clock.clone()).unwrap();
    let client = |key: &str| Client::new(&format!("http://{}", app.address()), key);
    let org = client(app.admin_token()).new_org("Acme");
    // The sweeper has read the clock before it jumps.
    until(|| (org.metric("triggerd_disk_free_bytes") > 0.0).then_some(()));
    clock.set_ms(START_MS + 2 * HOUR_MS);
    until(|| (org.metric("triggerd_expiry_held") == 1.0).then_some(()));
    let first = fill(&org, 160);
    assert_held(&org);
    assert_eq!(status(&org, &first), 200);
    clock.advance_ms(HOUR_MS + 1);
    until(|| (status(&org, &first) == 404).then_some(()));
    assert_eq!(app.stop(), ExitCode::Clean);
}

#[test]
fn nothing_expires_in_a_restored_directory_before_it_may_deliver() {
    let dir = tempfile::tempdir().unwrap();
    let (data, target, to) =
        (dir.path().join("data"), dir.path().join("backups"), dir.path().join("to"));
    let server = Process::start(&data);
    let org = server.org("Acme");
    let first = fill(&org, 160);
    assert_eq!(ask(&server, &[text(&target)]).0, Some(0));
    assert_eq!(server.stop().0, Some(0));
    assert_eq!(restore(&data, &target, &to, &[]).0, Some(0));
    let ages = format!(
        "[retention]\nfinished_seconds = 1\nopen_seconds = 1\nbytes = {LIMIT}\n\
        grace_seconds = 1\n"
    );
    for _ in 0..2 {
        let held = Process::start_with(&to, &ages);
        let org = Client::new(&held.url, &org.key);
        until(|| (org.metric("triggerd_expiry_held") == 1.0).then_some(()));
        assert_held(&org);
        assert_eq!(status(&org, &first), 200);
        assert_eq!(held.stop().0, Some(0));
    }
    assert_eq!(command(&to, &["deliver", "on"]).0, Some(0));
    let told = Process::start_with(&to, &ages);
    let org = Client::new(&told.url, &org.key);
    until(|| (status(&org, &first) == 404).then_some(()));
}

#[test]
fn on_a_short_disk_old_backups_go_before_events_and_the_newest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (data, target) = (dir.path().join("data"), dir.path().join("backups"));
    let with = |every: u32, retention: &str| {
        let directory = target.display().to_string();
        format!(
            "[backup]\ndirectory = {directory:?}\nevery_seconds = {every}\nkeep = 1000\n\
            [retention]\ngrace_seconds = 1\n{retention}\n"
        )
    };
    // The first events expire soon, and only the first backups have their segments then.
    let server = Process::start_with(&data, &with(1, "finished_seconds = 1"));
    let org = server.org("Acme");
    fill(&org, 60);
    let holds = |backup: &PathBuf| first_segment(backup).exists();
    until(|| {
        let made = backups(&target);
        (made.first().is_some_and(holds) && made.last().is_some_and(|it| !holds(it))).then_some(())
    });
    let health = || server.admin().get("/health").json["disk"]["backup_bytes"].as_u64();
    until(|| health().filter(|bytes| *bytes > 8 << 20));
    assert_eq!(server.stop().0, Some(0));
    let newest = backups(&target).pop().unwrap();
    // The whole disk is to be free.
    let server = Process::start_with(&data, &with(0, "keep_free_share = 1.0"));
    let org = Client::new(&server.url, &org.key);
    let first = fill(&org, 20);
    let finished = "triggerd_events_expired_total{kind=\"finished\",reason=\"disk\"}";
    until(|| {
        let expired = org.metric(finished);
        let left: Vec<_> = backups(&target).into_iter().filter(holds).collect();
        assert!(expired == 0.0 || left.is_empty(), "{expired} events left before {left:?}");
        (status(&org, &first) == 404).then_some(())
    });
    assert_eq!(backups(&target).pop(), Some(newest));
    assert_eq!(command(&data, &["verify", text(&target)]).0, Some(0));
}
