//! REST hooks with Zapier's own library: runs the app in `tests/clients/zapier` with its packages
//! against the real binary.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{Process, settings};
use crate::npm::{installed, text};

/// Runs the app's tests against a server with these settings.
fn run_tests(app: &Path, change: impl Fn(String) -> String) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start_on(&data, &change(settings(&data, "")));
    let org = server.org("Acme");
    let mut node = Command::new("node");
    node.arg("--test")
        .current_dir(app)
        .env("TRIGGERD_URL", &server.url)
        .env("TRIGGERD_API_KEY", &org.key);
    node.output().unwrap()
}

#[test]
fn zapiers_own_library_sets_up_a_zap_turns_it_on_runs_it_and_turns_it_off() {
    let app = match installed("zapier") {
        Ok(app) => app,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let done = run_tests(&app, |settings| settings);
    assert!(done.status.success() && text(&done).contains("pass 3"), "{}", text(&done));
    // A server that reaches no target must be noticed.
    let none = run_tests(&app, |settings| settings.replace("[\"127.0.0.0/8\"]", "[]"));
    assert!(!none.status.success() && text(&none).contains("egress_blocked"), "{}", text(&none));
}
