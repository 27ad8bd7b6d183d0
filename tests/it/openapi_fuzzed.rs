//! schemathesis, a program of others, makes requests from the OpenAPI document, right and wrong
//! ones, and compares the answers with it. Needs Python; see `python`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use triggerd::http::openapi_json;

use crate::harness::Process;
use crate::python::installed;

/// Operations that end or narrow the calling key, or do not end.
const LEFT_OUT: [&str; 4] = ["rotateKey", "changeKey", "revokeKey", "watchActivity"];
/// Limits that no request reaches, behind those of the harness.
const LIMITS: &str = "requests_per_second = 1000000\nrequest_burst = 1000000\n";

/// A server and the program.
struct Fuzzed {
    server: Process,
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Fuzzed {
    fn start() -> Option<Self> {
        let program = match installed("schemathesis") {
            Ok(program) => program.join("bin/schemathesis"),
            Err(why) => {
                println!("skipped: {why}");
                return None;
            }
        };
        let dir = tempfile::tempdir().unwrap();
        let server = Process::start_with(&dir.path().join("data"), LIMITS);
        Some(Self { server, dir, program })
    }

    /// Makes requests with this key, and returns the report of what was found.
    fn run(&self, document: &str, key: &str, words: &[&str]) -> Result<String, String> {
        let path = self.dir.path().join("openapi.json");
        std::fs::write(&path, document).unwrap();
        let settings = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/clients/schemathesis/schemathesis.toml");
        let output = Command::new(&self.program)
            .current_dir(self.dir.path())
            .arg("--config-file")
            .arg(settings)
            .arg("run")
            .arg(path)
            .args(["--url", &self.server.url, "--header", &format!("X-API-Key: {key}")])
            .args(["--checks=all", "--phases=examples,fuzzing", "--seed=1", "--no-color"])
            .args(["--generation-database=none", "--suppress-health-check=all", "--warnings=off"])
            .args(words)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        if output.status.success() { Ok(said.concat()) } else { Err(said.concat()) }
    }
}

#[test]
fn requests_made_from_the_document_are_answered_as_it_says() {
    let Some(fuzzed) = Fuzzed::start() else { return };
    let (admin, org) = (fuzzed.server.admin(), fuzzed.server.org("Acme"));
    let left_out = LEFT_OUT.map(|id| format!("--exclude-operation-id={id}"));
    let of_key = ["--exclude-tag=Administration", "--exclude-tag=Organizations"];
    let of_key: Vec<_> = of_key
        .into_iter()
        .chain(left_out.iter().map(String::as_str))
        .chain(["--max-examples=10"])
        .collect();
    let found = fuzzed.run(openapi_json(), &org.key, &of_key);
    assert!(found.is_ok(), "{}", found.unwrap_err());
    let found = fuzzed.run(
        openapi_json(),
        &admin.key,
        &["--include-tag=Organizations", "--max-examples=10"],
    );
    assert!(found.is_ok(), "{}", found.unwrap_err());
}

#[test]
fn a_wrong_type_in_the_document_is_found() {
    let Some(fuzzed) = Fuzzed::start() else { return };
    let org = fuzzed.server.org("Acme");
    let words = ["--include-operation-id=listKeys", "--max-examples=3"];
    assert!(fuzzed.run(openapi_json(), &org.key, &words).is_ok());
    let mut document: Value = serde_json::from_str(openapi_json()).unwrap();
    document["components"]["schemas"]["Key"]["properties"]["name"] = json!({"type": "integer"});
    let found = fuzzed.run(&document.to_string(), &org.key, &words).unwrap_err();
    assert!(found.contains("Response violates schema"), "{found}");
}
