//! Signatures of the real binary, verified by a foreign library of the Standard Webhooks
//! specification.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use triggerd::cli::demo::receiver::{Received, Receiver};

use crate::harness::{PATIENCE, Process};
use crate::npm::installed;

/// A received request and the secret, as input of the verifier.
fn case(secret: &str, request: &Received) -> Value {
    let headers: serde_json::Map<_, _> =
        request.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({"secret": secret, "headers": headers, "body": STANDARD.encode(&request.body)})
}

/// A copy of the case with a change.
fn with(case: &Value, change: impl Fn(&mut Value)) -> Value {
    let mut case = case.clone();
    change(&mut case);
    case
}

/// Every truncated body, every body with one changed bit, and every truncated signature.
fn forgeries(genuine: &Value, request: &Received) -> Vec<Value> {
    let body = |bytes: &[u8]| with(genuine, |case| case["body"] = json!(STANDARD.encode(bytes)));
    let cut = (0..request.body.len()).map(|len| body(&request.body[..len]));
    let changed = (0..request.body.len()).map(|place| {
        let mut bytes = request.body.clone();
        bytes[place] ^= 1;
        body(&bytes)
    });
    let signature = request.signature.as_str();
    let cut_signatures = (0..signature.len()).map(|len| {
        with(genuine, |case| case["headers"]["webhook-signature"] = json!(&signature[..len]))
    });
    let others = ["webhook-id", "webhook-timestamp"].map(|name| {
        with(genuine, |case| {
            let value = case["headers"][name].as_str().unwrap().to_owned();
            case["headers"][name] = json!(format!("{value}0"));
        })
    });
    cut.chain(changed).chain(cut_signatures).chain(others).collect()
}

fn secret_of(answer: &Value) -> String {
    answer["secret"].as_str().unwrap().to_owned()
}

#[test]
fn the_specifications_own_library_trusts_what_is_sent_and_nothing_else() {
    let judge = match installed("standardwebhooks") {
        Ok(judge) => judge,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (org, receiver) = (server.org("Acme"), Receiver::start().unwrap());
    let made = org.post("/api/endpoints", &json!({"url": receiver.url()}));
    let (id, old) = (made.id(), secret_of(&made.json));
    org.send("a.b", &json!({"n": 1, "text": "ä"}));
    let first = receiver.wait_for(1, PATIENCE).remove(0);
    let rotated = org.post(&format!("/api/endpoints/{id}/secret/rotate"), &json!({}));
    let new = secret_of(&rotated.json);
    org.send("a.b", &json!([null, 1.50, "\u{2028}"]));
    let second = receiver.wait_for(2, PATIENCE).remove(1);

    let genuine = [case(&old, &first), case(&old, &second), case(&new, &second)];
    let mut wrong = vec![case(&new, &first)];
    wrong.extend(forgeries(&genuine[0], &first));
    let cases: Vec<&Value> = genuine.iter().chain(&wrong).collect();
    let mut node = Command::new("node");
    node.arg("judge.js").current_dir(judge).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut node = node.spawn().unwrap();
    node.stdin
        .take()
        .unwrap()
        .write_all(serde_json::to_string(&cases).unwrap().as_bytes())
        .unwrap();
    let judged = node.wait_with_output().unwrap();
    assert!(judged.status.success(), "{judged:?}");
    let trusted: Vec<bool> = serde_json::from_slice(&judged.stdout).unwrap();
    assert_eq!(trusted[..3], [true; 3], "while two secrets are valid, both are");
    assert!(wrong.len() > 200 && trusted[3..].iter().all(|trusted| !trusted), "{trusted:?}");
    assert_eq!(trusted.len(), cases.len());
    receiver.stop();
    assert_eq!(server.stop().0, Some(0));
}
