//! Client libraries from npm, each in its own directory. Needs npm and its registry.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Errors of npm about its input.
const MISTAKES: [&str; 6] =
    ["EUSAGE", "EINTEGRITY", "ERESOLVE", "EJSONPARSE", "ETARGET", "ELIFECYCLE"];

/// Installs the program of this name in `tests/clients` with its packages. The error says why npm
/// or its registry is out of reach.
pub(crate) fn installed(name: &str) -> Result<PathBuf, String> {
    if Command::new("npm").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "there is no npm");
        return Err("there is no npm".to_owned());
    }
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name), &to);
    let few_retries = ["ci", "--prefer-offline", "--fetch-retries=1", "--fetch-timeout=60000"];
    let done = Command::new("npm").args(few_retries).current_dir(&to).output().unwrap();
    if done.status.success() {
        return Ok(to);
    }
    let said = text(&done);
    assert!(!MISTAKES.iter().any(|mistake| said.contains(mistake)), "npm ci: {said}");
    Err(format!("npm's registry cannot be reached: {said}"))
}

/// Both outputs of the program.
pub(crate) fn text(output: &Output) -> String {
    [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        // The modules of a manual installation are not copied.
        if entry.file_name() == "node_modules" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn the_lock_files_name_versions_and_no_registry() {
    for (lock, version) in [
        (include_str!("../clients/cloudevents/package-lock.json"), ("cloudevents", "10.0.0")),
        (include_str!("../clients/zapier/package-lock.json"), ("zapier-platform-core", "19.1.0")),
        (
            include_str!("../clients/standardwebhooks/package-lock.json"),
            ("standardwebhooks", "1.1.1"),
        ),
        (include_str!("../clients/redocly/package-lock.json"), ("@redocly/cli", "2.77.0")),
        (
            include_str!("../../packaging/clients/typescript/package-lock.json"),
            ("openapi-typescript", "7.13.0"),
        ),
    ] {
        assert!(lock.contains("\"integrity\": \"sha512-") && !lock.contains("\"resolved\""));
        let (name, version) = version;
        let exact = format!("\"node_modules/{name}\": {{\n      \"version\": \"{version}\"");
        assert!(lock.contains(&exact), "the version that package.json names");
    }
}
