//! Programs of others judge the OpenAPI document. schemathesis makes requests from it, right and
//! wrong ones, and compares the answers with it; needs Python, see `python`. Redocly compares it
//! with its rules; needs npm, see `npm`.
//!
//! `TRIGGERD_API_EXAMPLES` sets the number of requests for each operation, and
//! `TRIGGERD_API_SEED` the seed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use triggerd::http::{Code, openapi_json, routes};

use crate::harness::Process;
use crate::{npm, python};

/// Operations that end or narrow the calling key, or do not end.
const LEFT_OUT: [&str; 4] = ["rotateKey", "changeKey", "revokeKey", "watchActivity"];
/// Operations whose bodies have rules that a schema cannot say.
const BESIDE_THE_SCHEMA: [&str; 4] =
    ["dropDeadLetters", "replayDeadLetters", "retryDelivery", "startReplay"];
/// Limits that no request reaches, behind those of the harness.
const LIMITS: &str = "requests_per_second = 1000000\nrequest_burst = 1000000\n";

/// Returns the value of a variable, or a default.
fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// A server and the program.
struct Fuzzed {
    server: Process,
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Fuzzed {
    fn start() -> Option<Self> {
        let program = match python::installed("schemathesis") {
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
        let [path, settings] =
            ["openapi.json", "schemathesis.toml"].map(|name| self.dir.path().join(name));
        std::fs::write(&path, document).unwrap();
        std::fs::write(&settings, rules()).unwrap();
        let seed = format!("--seed={}", number("TRIGGERD_API_SEED", 1));
        let examples = format!("--max-examples={}", number("TRIGGERD_API_EXAMPLES", 10));
        let output = Command::new(&self.program)
            .current_dir(self.dir.path())
            .arg("--config-file")
            .arg(settings)
            .arg("run")
            .arg(path)
            .args(["--url", &self.server.url, "--header", &format!("X-API-Key: {key}")])
            .args(["--checks=all", "--phases=examples,fuzzing,stateful", &seed, &examples])
            .args(["--generation-database=none", "--suppress-health-check=all", "--warnings=off"])
            .arg("--no-color")
            .args(words)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        if output.status.success() { Ok(said.concat()) } else { Err(said.concat()) }
    }
}

/// The settings of schemathesis: the statuses that an operation may answer to a request that is
/// valid for its schema. They are those of its codes, without the codes that a schema prevents.
fn rules() -> String {
    let document: Value = serde_json::from_str(openapi_json()).unwrap();
    // A busy machine is answered with 503, which the document names, and a request that is wrong can
    // be too large first.
    let mut rules = "[checks]\n\
         not_a_server_error.expected-statuses = [\"2xx\", \"3xx\", \"4xx\", 503]\n\
         negative_data_rejection.expected-statuses = [\"4xx\", 503]\n"
        .to_owned();
    for route in routes() {
        let operation = &document["paths"][route.path][route.verb.name().to_lowercase()];
        let id = operation["operationId"].as_str().unwrap();
        let mut parameters = operation["parameters"].as_array().into_iter().flatten();
        let is_list = parameters.any(|parameter| parameter["name"] == json!("cursor"));
        let can_be = |code: &Code| match code {
            // A cursor comes from the page before, and `until` is later than `since`.
            Code::InvalidRequest => is_list,
            Code::ValidationFailed => BESIDE_THE_SCHEMA.contains(&id),
            Code::MalformedJson | Code::PayloadTooLarge | Code::UnsupportedMediaType => false,
            _ => true,
        };
        let statuses: BTreeSet<_> =
            route.codes().iter().filter(|code| can_be(code)).map(|code| code.status()).collect();
        writeln!(rules, "[[operations]]\ninclude-operation-id = \"{id}\"").unwrap();
        let list = statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        writeln!(rules, "checks.positive_data_acceptance.expected-statuses = [\"2xx\", {list}]")
            .unwrap();
        if id == "postEvents" {
            // Each event of a batch stands alone: the answer refuses a wrong one with status 200.
            rules += "checks.negative_data_rejection.expected-statuses = [\"2xx\", \"4xx\", 503]\n";
        }
    }
    rules
}

#[test]
fn requests_made_from_the_document_are_answered_as_it_says() {
    let Some(fuzzed) = Fuzzed::start() else { return };
    let (admin, org) = (fuzzed.server.admin(), fuzzed.server.org("Acme"));
    let left_out = LEFT_OUT.map(|id| format!("--exclude-operation-id={id}"));
    let of_key = ["--exclude-tag=Administration", "--exclude-tag=Organizations"];
    let of_key: Vec<_> = of_key.into_iter().chain(left_out.iter().map(String::as_str)).collect();
    // The deletion of an organization is answered with 202. Until it has ended, the organization is
    // there and shows the progress, which schemathesis takes for a fault.
    let of_admin = vec!["--include-tag=Organizations", "--exclude-operation-id=deleteOrganization"];
    for (key, words) in [(&org.key, of_key), (&admin.key, of_admin)] {
        let said = fuzzed.run(openapi_json(), key, &words).unwrap_or_else(|said| panic!("{said}"));
        println!("{said}");
    }
}

#[test]
fn a_wrong_type_in_the_document_is_found() {
    let Some(fuzzed) = Fuzzed::start() else { return };
    let org = fuzzed.server.org("Acme");
    let words = ["--include-operation-id=listKeys", "--phases=fuzzing", "--max-examples=3"];
    assert!(fuzzed.run(openapi_json(), &org.key, &words).is_ok());
    let mut document: Value = serde_json::from_str(openapi_json()).unwrap();
    document["components"]["schemas"]["Key"]["properties"]["name"] = json!({"type": "integer"});
    let found = fuzzed.run(&document.to_string(), &org.key, &words).unwrap_err();
    assert!(found.contains("Response violates schema"), "{found}");
}

/// Compares a document with Redocly's rules. Returns what Redocly says if it finds a fault.
fn judge(program: &Path, document: &str) -> Result<(), String> {
    std::fs::write(program.join("openapi.json"), document).unwrap();
    let output = Command::new(program.join("node_modules/.bin/redocly"))
        .current_dir(program)
        .args(["lint", "openapi.json"])
        .env("REDOCLY_TELEMETRY", "off")
        .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")
        .output()
        .unwrap();
    output.status.success().then_some(()).ok_or_else(|| npm::text(&output))
}

#[test]
fn redocly_finds_no_fault_in_the_document_and_finds_one_that_is_made() {
    let program = match npm::installed("redocly") {
        Ok(program) => program,
        Err(why) => return println!("skipped: {why}"),
    };
    assert_eq!(judge(&program, openapi_json()), Ok(()));
    let mut document: Value = serde_json::from_str(openapi_json()).unwrap();
    document["paths"]["/api/events"]["get"]["operationId"] = json!("postEvent");
    let found = judge(&program, &document.to_string()).unwrap_err();
    assert!(found.contains("operation-operationId-unique"), "{found}");
}
