//! REST hooks as Zapier's own library uses them: the app in `tests/clients/zapier`, with the packages it names, against the
//! real binary. Needs npm and its registry.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::{Process, settings};

const APP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/zapier");
const FILES: [&str; 5] = [".npmrc", "package.json", "package-lock.json", "index.js", "test/hook.test.js"];

/// What npm says when there is something wrong with what it was given.
const MISTAKES: [&str; 6] = ["EUSAGE", "EINTEGRITY", "ERESOLVE", "EJSONPARSE", "ETARGET", "ELIFECYCLE"];

/// The app with its packages, in a directory of its own; why there is none, where npm or its registry is out of reach.
fn installed() -> Result<PathBuf, String> {
    if Command::new("npm").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "there is no npm");
        return Err("there is no npm".to_owned());
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("zapier");
    std::fs::create_dir_all(dir.join("test")).unwrap();
    for file in FILES {
        std::fs::copy(Path::new(APP).join(file), dir.join(file)).unwrap();
    }
    let few_retries = ["ci", "--prefer-offline", "--fetch-retries=1", "--fetch-timeout=60000"];
    let done = Command::new("npm").args(few_retries).current_dir(&dir).output().unwrap();
    if done.status.success() {
        return Ok(dir);
    }
    let said = text(&done);
    assert!(!MISTAKES.iter().any(|mistake| said.contains(mistake)), "npm ci: {said}");
    Err(format!("npm's registry cannot be reached: {said}"))
}

fn text(output: &Output) -> String {
    [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat()
}

/// Runs the app's tests against a server with these settings.
fn run_tests(app: &Path, change: impl Fn(String) -> String) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start_on(&data, &change(settings(&data, "")));
    let org = server.org("Acme");
    let mut node = Command::new("node");
    node.arg("--test").current_dir(app).env("TRIGGERD_URL", &server.url).env("TRIGGERD_API_KEY", &org.key);
    node.output().unwrap()
}

#[test]
fn zapiers_own_library_sets_up_a_zap_turns_it_on_runs_it_and_turns_it_off() {
    let app = match installed() {
        Ok(app) => app,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let done = run_tests(&app, |settings| settings);
    assert!(done.status.success() && text(&done).contains("pass 3"), "{}", text(&done));
    // A server that reaches no target is found out.
    let none = run_tests(&app, |settings| settings.replace("[\"127.0.0.0/8\"]", "[]"));
    assert!(!none.status.success() && text(&none).contains("egress_blocked"), "{}", text(&none));
}

#[test]
fn the_lock_file_names_no_registry() {
    let lock = include_str!("../clients/zapier/package-lock.json");
    assert!(lock.contains("\"integrity\": \"sha512-") && !lock.contains("\"resolved\""));
    let core = "\"node_modules/zapier-platform-core\": {\n      \"version\": \"19.1.0\"";
    assert!(lock.contains(core), "the version that package.json names");
}
