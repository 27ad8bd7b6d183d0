//! Programs from Python's index, each in a directory of its own. Needs python3 with its module
//! `venv`, and the index.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the directory with the programs of `tests/clients/NAME/requirements.txt`, which are
/// installed once. The error says why Python or its index is out of reach.
pub(crate) fn installed(name: &str) -> Result<PathBuf, String> {
    install(name).inspect_err(|why| assert!(!must_run(), "there is no {name}: {why}"))
}

/// Returns true if a test without its programs has to fail, as a scenario of the crash lab has to.
fn must_run() -> bool {
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    is("CI", "true") || is("TRIGGERD_LAB_SKIP", "never")
}

fn install(name: &str) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let requirements = root.join(format!("tests/clients/{name}/requirements.txt"));
    let wanted = std::fs::read_to_string(&requirements).unwrap();
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let stamp = to.join("requirements.txt");
    let lock = File::create(to.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(to);
    }
    let run = |command: &mut Command| {
        let done = command.output().map_err(|error| format!("there is no python3: {error}"))?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        done.status.success().then_some(()).ok_or(said)
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&to))
        .map_err(|why| format!("python3 -m venv failed: {why}"))?;
    let mut pip = Command::new(to.join("bin/pip"));
    pip.args(["install", "--no-deps", "--quiet", "--disable-pip-version-check", "--retries=1"]);
    run(pip.arg("-r").arg(requirements))
        .map_err(|why| format!("the index of Python cannot be reached: {why}"))?;
    std::fs::write(stamp, wanted).unwrap();
    Ok(to)
}
