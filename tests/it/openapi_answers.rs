//! Compares every answer that a test gets with the OpenAPI document: its status and its media type
//! must be documented for the route, and its body must be valid, without any further member.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};
use triggerd::http::{Route, openapi_json, routes};

use super::Answer;

/// Longer bodies are not compared: they are payloads for the most part.
const BYTES_MAX: usize = 256 << 10;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(openapi_json()).unwrap());
/// The validators by route, status and media type.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Fails the test if the document does not describe this answer.
pub(crate) fn check(method: &Method, target: &str, answer: &Answer) {
    let path = target.split('?').next().unwrap_or_default();
    let Some(route) = routes().iter().find(|route| is_of(route, method, path)) else { return };
    let (verb, status) = (route.verb.name().to_lowercase(), answer.status.to_string());
    let name = format!("{method} {}", route.path);
    let response = &DOCUMENT["paths"][route.path][&verb]["responses"][&status];
    let response = resolved(&DOCUMENT, response);
    assert!(response.is_object(), "{name}: the status is not documented: {answer:?}");
    let media_type = answer.header("content-type").split(';').next().unwrap_or_default().trim();
    if *method == Method::HEAD || answer.text.is_empty() || answer.text.len() > BYTES_MAX {
        return;
    }
    let content = &response["content"][media_type];
    assert!(content.is_object(), "{name}: the media type is not documented: {answer:?}");
    // A payload can have numbers that this parser does not read.
    if !media_type.ends_with("json") || answer.json.is_null() {
        return;
    }
    let key = format!("{name} {status} {media_type}");
    let known = VALIDATORS.lock().unwrap().get(&key).cloned();
    let validator = known.unwrap_or_else(|| {
        let made = Arc::new(validator(&DOCUMENT, &closed(content["schema"].clone())));
        VALIDATORS.lock().unwrap().insert(key, Arc::clone(&made));
        made
    });
    let faults: Vec<_> = validator
        .iter_errors(&answer.json)
        .map(|fault| format!("{}: {fault}", fault.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{name}: the document does not describe {answer:?}: {faults:?}");
}

fn is_of(route: &Route, method: &Method, path: &str) -> bool {
    let verb = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let is_exact = || routes().iter().any(|other| other.path == path);
    let is_same = |(wanted, given): (&str, &str)| {
        wanted == given || wanted.starts_with('{') && !given.is_empty()
    };
    route.verb.name() == verb
        && path.split('/').count() == route.path.split('/').count()
        && route.path.split('/').zip(path.split('/')).all(is_same)
        // A path without parameters comes first.
        && (route.path == path || !is_exact())
}

/// Returns the value behind a reference.
pub(crate) fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let reference = value["$ref"].as_str().and_then(|it| it.strip_prefix('#'));
    reference.and_then(|at| document.pointer(at)).unwrap_or(value)
}

/// Makes the validator of a schema that refers to schemas of the document. `#/closed` has the same
/// schemas without room for further members.
pub(crate) fn validator(document: &Value, schema: &Value) -> Validator {
    let components = &document["components"];
    let named = components["schemas"].as_object().unwrap().iter();
    let shut: serde_json::Map<_, _> =
        named.map(|(name, schema)| (name.clone(), closed(schema.clone()))).collect();
    let mut schema = schema.clone();
    schema["components"] = components.clone();
    schema["closed"] = shut.into();
    jsonschema::draft202012::new(&schema).unwrap()
}

/// Returns the schema without room for members that it does not name.
pub(crate) fn closed(schema: Value) -> Value {
    shut(schema, false)
}

/// `is_part` is true for a part of an object: the whole of it has room for the other parts.
fn shut(mut schema: Value, is_part: bool) -> Value {
    const OF_COMPONENTS: &str = "#/components/schemas/";
    let Some(members) = schema.as_object_mut() else { return schema };
    if let Some(name) = members.get("$ref").and_then(Value::as_str) {
        let name = name.strip_prefix(OF_COMPONENTS).unwrap();
        let of = if is_part { OF_COMPONENTS } else { "#/closed/" };
        return json!({ "$ref": format!("{of}{name}") });
    }
    let names_members = members.contains_key("properties") || members.contains_key("allOf");
    for (keyword, value) in members.iter_mut() {
        match (keyword.as_str(), &mut *value) {
            ("properties", Value::Object(all)) => {
                for value in all.values_mut() {
                    *value = shut(value.take(), false);
                }
            }
            ("allOf", Value::Array(all)) => {
                for value in all {
                    *value = shut(value.take(), true);
                }
            }
            ("anyOf" | "oneOf", Value::Array(all)) if !names_members => {
                for value in all {
                    *value = shut(value.take(), is_part);
                }
            }
            ("items" | "additionalProperties", Value::Object(_)) => {
                *value = shut(value.take(), false);
            }
            _ => {}
        }
    }
    if names_members && !is_part && !members.contains_key("additionalProperties") {
        members.insert("unevaluatedProperties".to_owned(), json!(false));
    }
    schema
}

#[test]
fn an_answer_that_the_document_does_not_describe_is_noticed() {
    let answer = |status: u16, body: Value| {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        Answer { status, headers, text: body.to_string(), json: body }
    };
    let receipt = json!({"id": "evt_01h2xcejqtf2nbrexx3vqjhp41", "status": "accepted",
        "duplicate": false, "received_at": "2026-01-31T10:00:00.000Z"});
    let noticed = |status, body| {
        let answer = answer(status, body);
        std::panic::catch_unwind(|| check(&Method::POST, "/api/events", &answer)).is_err()
    };
    assert!(!noticed(202, receipt.clone()));
    assert!(noticed(203, receipt.clone()), "another status");
    for (member, value) in [
        ("id", json!("ep_1")),
        ("status", json!("lost")),
        ("duplicate", json!(1)),
        ("new", json!(1)),
    ] {
        let mut wrong = receipt.clone();
        wrong[member] = value;
        assert!(noticed(202, wrong), "another {member}");
    }
    let mut short = receipt;
    short.as_object_mut().unwrap().remove("received_at");
    assert!(noticed(202, short), "a member is missing");
}
