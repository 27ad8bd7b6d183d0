//! The clients in Python and TypeScript, by the short form of their own checks, against the real
//! binary.

use std::path::Path;
use std::process::Command;

use crate::harness::binary;
use crate::npm::text;

#[test]
fn the_clients_in_python_and_typescript_pass_their_checks() {
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/clients/check");
    let checked = Command::new(check)
        .env("TRIGGERD_TEST_BINARY", binary())
        .env("CLIENTS_DIRECTORY", Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients"))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", text(&checked));
    for line in text(&checked).lines().filter(|line| line.starts_with("skipped")) {
        eprintln!("{line}");
    }
}
