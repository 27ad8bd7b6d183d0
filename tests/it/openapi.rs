//! The OpenAPI document: it is that of the routes, it is committed, its examples are valid, and a
//! change that breaks clients is announced. `openapi_answers` compares real answers with it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};
use triggerd::http::{Code, Who, openapi_json, routes};

use self::changes::breaking;
use crate::harness::openapi_answers::{closed, resolved, validator};
use crate::harness::{binary, server};

#[path = "openapi_changes.rs"]
mod changes;

fn committed() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join("docs/openapi.json")).unwrap()
}

fn document() -> Value {
    serde_json::from_str(openapi_json()).unwrap()
}

/// Each operation of the document: path, method and the operation.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(|(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

#[test]
fn the_committed_document_is_that_of_the_routes() {
    let is_same = openapi_json() == committed();
    assert!(is_same, "run: target/debug/triggerd openapi > docs/openapi.json");
}

#[test]
fn the_command_prints_the_document_in_json_and_in_yaml() {
    let run = |words: &[&str]| {
        let output = Command::new(binary()).args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&["openapi"]), openapi_json());
    let yaml = run(&["openapi", "--yaml"]);
    assert!(yaml.contains("\nopenapi: \"3.1.0\"\n"), "{yaml}");
    assert!(yaml.contains("\n  /api/events:") || yaml.contains("\n  \"/api/events\":"), "{yaml}");
}

#[test]
fn the_server_has_the_routes_of_its_document_and_no_others() {
    let (server, _dir) = server();
    let shown = server.admin().with_key("").get("/openapi.json");
    assert_eq!((shown.status, shown.header("content-type")), (200, "application/json"));
    assert_eq!(shown.json, document());
    let documented: BTreeSet<_> = operations(&shown.json)
        .into_iter()
        .map(|(path, method, _)| (method.to_uppercase(), path.to_owned()))
        .collect();
    let routes: BTreeSet<_> = routes()
        .iter()
        .map(|route| (route.verb.name().to_owned(), route.path.to_owned()))
        .collect();
    assert_eq!(documented, routes);
    // A path of the document with another method answers 405 and names the methods of the document.
    let client = server.admin();
    for path in documented.iter().map(|(_, path)| path).collect::<BTreeSet<_>>() {
        let answer = client.request(Method::PUT, &path.replace(['{', '}'], ""), &[], "");
        let allowed: BTreeSet<_> = answer.header("allow").split(", ").collect();
        let methods = documented.iter().filter(|(_, other)| other == path);
        let mut expected: BTreeSet<_> = methods.map(|(method, _)| method.as_str()).collect();
        if expected.contains("GET") {
            expected.insert("HEAD");
        }
        assert_eq!((answer.status, allowed), (405, expected), "{path}");
    }
}

#[test]
fn each_reference_leads_somewhere_and_each_operation_is_complete() {
    let document = document();
    let (mut open, mut referred) = (vec![&document], BTreeSet::new());
    while let Some(value) = open.pop() {
        if let Some(reference) = value["$ref"].as_str() {
            let at = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(at).is_some(), "{reference}");
            referred.insert(at);
        }
        open.extend(value.as_object().into_iter().flat_map(|members| members.values()));
        open.extend(value.as_array().into_iter().flatten());
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        let is_used = referred.contains(format!("/components/schemas/{name}").as_str());
        assert!(is_used, "nothing refers to the schema {name}");
    }
    let tags: BTreeSet<_> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str()).collect();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{id} appears more than once");
        assert!(tags.contains(&operation["tags"][0].as_str()), "{method} {path}");
        assert!(operation["summary"].as_str().is_some_and(|summary| !summary.ends_with('.')));
        for (status, response) in operation["responses"].as_object().unwrap() {
            let response = resolved(&document, response);
            let has_words = !response["description"].as_str().unwrap_or_default().is_empty();
            assert!(has_words && response["headers"]["X-Request-Id"].is_object(), "{id} {status}");
        }
        if let Some(content) = operation["requestBody"]["content"].as_object() {
            for (media_type, content) in content {
                assert!(!content["example"].is_null(), "{id}: {media_type} needs an example");
            }
        }
    }
    for kind in triggerd::model::operational_event::OperationalEventKind::ALL {
        assert!(document["webhooks"][kind.event_type().as_str()].is_object(), "{kind:?}");
    }
}

#[test]
fn links_lead_from_each_id_to_every_route_that_takes_it() {
    let document = document();
    let parameters = |operation: &Value| -> BTreeSet<String> {
        let all = operation["parameters"].as_array().into_iter().flatten();
        all.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    let mut linked = BTreeSet::new();
    for (path, _, operation) in operations(&document) {
        for response in operation["responses"].as_object().unwrap().values() {
            for link in response["links"].as_object().into_iter().flatten().map(|(_, link)| link) {
                let id = link["operationId"].as_str().unwrap();
                let (_, _, to) = *operations(&document)
                    .iter()
                    .find(|(_, _, to)| to["operationId"] == json!(id))
                    .unwrap_or_else(|| panic!("{path} links to {id}, which is no operation"));
                let named = link["parameters"].as_object().unwrap();
                assert!(named.keys().all(|name| parameters(to).contains(name)), "{path}: {link}");
                linked.insert(id.to_owned());
            }
        }
    }
    for (path, _, operation) in operations(&document) {
        let takes_id = path.starts_with("/api/") && path.contains('{');
        let takes_cursor = parameters(operation).contains("cursor");
        let is_linked = linked.contains(operation["operationId"].as_str().unwrap());
        assert_eq!(is_linked, takes_id || takes_cursor, "{path}");
    }
}

#[test]
fn each_example_is_valid_for_its_schema() {
    let document = document();
    let mut seen = 0;
    for (path, method, operation) in operations(&document) {
        let request = operation["requestBody"]["content"].as_object().into_iter().flatten();
        let responses = operation["responses"].as_object().unwrap().values();
        let responses = responses.filter_map(|response| response["content"].as_object()).flatten();
        for (media_type, content) in request.chain(responses) {
            if content["example"].is_null() {
                continue;
            }
            let validator = validator(&document, &closed(content["schema"].clone()));
            let faults: Vec<_> =
                validator.iter_errors(&content["example"]).map(|fault| fault.to_string()).collect();
            assert!(faults.is_empty(), "{method} {path} {media_type}: {faults:?}");
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen} examples");
}

/// Every member and parameter of the document is known to the server, and no other one.
#[test]
fn the_server_knows_each_member_and_parameter_of_the_document() {
    let (server, _dir) = server();
    let (org, admin) = (server.org("Acme"), server.admin());
    let document = document();
    for (path, method, operation) in operations(&document) {
        let caller = match operation["security"][0].as_object() {
            None => continue,
            Some(scheme) if scheme.contains_key("admin") => &admin,
            Some(_) => &org,
        };
        let to = path.replace(['{', '}'], "");
        let verb = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let mut query = "no_such=1".to_owned();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["in"] == "query" {
                query.extend(["&", parameter["name"].as_str().unwrap(), "="]);
            }
        }
        if method == "get" || path == "/api/admin/archive" {
            let answer = caller.request(verb, &format!("{to}?{query}"), &[], "");
            let faults: Vec<_> = answer.json["errors"].as_array().unwrap().iter().collect();
            let unknown: Vec<_> =
                faults.iter().filter(|fault| is_unknown(fault)).map(|it| &it["pointer"]).collect();
            assert_eq!(unknown, ["?no_such"], "{method} {to}: {answer:?}");
            continue;
        }
        let Some(schema) =
            operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str()
        else {
            continue;
        };
        let schema = document.pointer(schema.strip_prefix('#').unwrap()).unwrap();
        assert_eq!(schema["additionalProperties"], json!(false), "{method} {to}");
        let names = schema["properties"].as_object().unwrap().keys();
        let mut body: serde_json::Map<_, _> =
            names.map(|name| (name.clone(), json!([[]]))).collect();
        body.insert("no_such".to_owned(), json!(1));
        let headers = [("Content-Type", "application/json")];
        let answer = caller.request(verb, &to, &headers, Value::from(body).to_string());
        if answer.status == 404 {
            continue; // the object of the path is looked up first
        }
        let faults = answer.json["errors"].as_array().unwrap_or_else(|| panic!("{to} {answer:?}"));
        let unknown: Vec<_> =
            faults.iter().filter(|fault| is_unknown(fault)).map(|it| &it["pointer"]).collect();
        assert_eq!(unknown, ["/no_such"], "{method} {to}: {answer:?}");
    }
}

fn is_unknown(fault: &Value) -> bool {
    fault["detail"].as_str().is_some_and(|detail| detail.starts_with("unknown "))
}

#[test]
fn each_code_is_answered_by_some_route() {
    let of_routes: Vec<Code> = routes().iter().flat_map(triggerd::http::Route::codes).collect();
    for code in Code::ALL {
        // Only a path has no such method.
        let is_of_paths = *code == Code::MethodNotAllowed;
        assert_eq!(of_routes.contains(code), !is_of_paths, "{}", code.word());
    }
    for route in routes().iter().filter(|route| route.who != Who::Public) {
        assert!(route.codes().contains(&Code::Unauthorized), "{}", route.path);
    }
}

#[test]
fn a_change_that_breaks_clients_is_in_the_changelog() {
    let Some(before) = committed_before() else {
        println!("skipped: the repository has no earlier document");
        return;
    };
    let before: Value = serde_json::from_str(&before).unwrap();
    let broken = breaking(&before, &document());
    let changelog = include_str!("../../CHANGELOG.md");
    let unreleased = changelog.split("\n## ").nth(1).unwrap_or_default();
    assert!(
        broken.is_empty() || unreleased.contains("Breaking"),
        "CHANGELOG.md, Unreleased, does not say \"Breaking\", and clients may break:\n{}",
        broken.join("\n")
    );
}

/// The last committed document that differs from the present one.
fn committed_before() -> Option<String> {
    let git = |words: &[&str]| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output = Command::new("git").args(words).current_dir(root).output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()
    };
    let commits = git(&["log", "-n", "20", "--format=%H", "--", "docs/openapi.json"])?;
    let mut texts =
        commits.lines().filter_map(|commit| git(&["show", &format!("{commit}:docs/openapi.json")]));
    texts.find(|text| text != openapi_json())
}
