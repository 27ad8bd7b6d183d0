//! Every route for every caller.

use std::collections::HashMap;

use reqwest::Method;
use serde_json::json;
use triggerd::base::clock::Clock;
use triggerd::http::{Route, Verb, Who, routes};
use triggerd::model::key::Scope;
use triggerd::model::time::Timestamp;

use super::{Held, Ids, all_scopes, body, end, key, twin};
use crate::harness::{Answer, Client, server, until};

fn changes(route: &Route) -> bool {
    route.verb != Verb::Get
}

/// Asks a route about the objects of these ids. Every request has the same id.
fn ask(route: &Route, client: &Client, ids: &Ids) -> Answer {
    let method = Method::from_bytes(route.verb.name().as_bytes()).unwrap();
    let headers = [("Content-Type", "application/json"), ("X-Request-Id", "same")];
    let text = if changes(route) { body(route.path, ids).to_string() } else { String::new() };
    if route.path == "/api/tail" {
        // The stream has no end.
        return client.request(Method::HEAD, route.path, &headers, "");
    }
    client.request(method, &ids.path(route), &headers, text)
}

/// Callers without authority: without a key; with a malformed, an ended or an expired key.
fn strangers(org: &Client) -> [Client; 4] {
    let (id, ended) = twin(org);
    end(org, &id);
    let soon = Timestamp(Clock::system().now_ms() + 300).to_string();
    let short = json!({"name": "short", "scopes": all_scopes(org), "expires_at": soon});
    let (_, expired) = key(org, &short);
    until(|| (expired.get("/api/keys").status == 401).then_some(()));
    [org.with_key(""), org.with_key(&format!("{}x", org.key)), ended, expired]
}

/// A key of the organization with all scopes but this one.
fn without(org: &Client, scope: Scope) -> Client {
    let mut scopes = all_scopes(org);
    scopes.as_array_mut().unwrap().retain(|known| known != scope.name());
    key(org, &json!({"name": "without", "scopes": scopes})).1
}

/// Every route for every caller: strangers, a key of another organization or without the scope, the
/// right key, and the operator. The objects exist, belong to another organization, or do not exist.
#[test]
fn every_route_lets_in_who_may_and_a_foreign_id_is_like_an_absent_one() {
    let (server, _dir) = server();
    let (org, other, admin) = (server.org("Acme"), server.org("Other"), server.admin());
    let (foreign, absent) = (Ids::make(&other), Ids::absent());
    let strangers = strangers(&org);
    let mut own = Ids::make(&org);
    let mut without_scope: HashMap<&str, Client> = HashMap::new();
    let others = other.get("/api/endpoints").text;
    for route in routes().iter().filter(|route| route.who == Who::Admin) {
        for stranger in &strangers {
            assert_eq!(ask(route, stranger, &absent).status, 401, "{}", route.path);
        }
        assert_eq!(ask(route, &org, &absent).status, 403, "{}", route.path);
        if route.path.contains("{org_id}") {
            assert_eq!(ask(route, &admin, &absent).status, 404, "{}", route.path);
            let (one, of) = (server.org("One"), &own);
            // A deletion is of another organization, because the others need their own.
            let of = if route.verb == Verb::Delete { &Ids::make(&one) } else { of };
            let answer = ask(route, &admin, of);
            assert!((200..300).contains(&answer.status), "{}: {answer:?}", route.path);
        }
    }
    for route in of_keys() {
        let ask = |client: &Client, ids: &Ids| ask(route, client, ids);
        let name = format!("{} {}", route.verb.name(), route.path);
        for stranger in &strangers {
            assert_eq!(ask(stranger, &absent).status, 401, "{name}");
        }
        let (scope, for_admin) = match route.who {
            Who::Scope(scope) => (Some(scope), false),
            Who::AdminOr(scope) => (Some(scope), true),
            Who::AdminOrAnyKey => (None, true),
            Who::AnyKey | Who::Public | Who::Admin => (None, false),
        };
        if let Some(scope) = scope {
            let lacks = without_scope.entry(scope.name()).or_insert_with(|| without(&org, scope));
            assert_eq!(ask(lacks, &absent).status, 403, "{name}");
        }
        assert_eq!(ask(&admin, &absent).status == 403, !for_admin, "{name}");
        if route.path.contains('{') {
            let (of_another, of_nobody) = (ask(&org, &foreign), ask(&org, &absent));
            assert_eq!((of_another.status, of_nobody.status), (404, 404), "{name}");
            assert_eq!(of_another.text, of_nobody.text, "{name}: byte for byte");
        }
        let answer =
            if route.who == Who::AnyKey { ask(&twin(&org).1, &own) } else { ask(&org, &own) };
        assert!((200..300).contains(&answer.status), "{name}: {answer:?}");
        if changes(route) {
            own = Ids::make(&org);
        }
        let others_now = other.get("/api/endpoints").text;
        assert_eq!(others_now, others, "{name}: nothing of the other organization has changed");
    }
}

/// The routes that keys of organizations use.
fn of_keys() -> impl Iterator<Item = &'static Route> {
    routes().iter().filter(|route| !matches!(route.who, Who::Public | Who::Admin))
}

/// For each route that reads a body: a request whose last byte is not sent yet.
fn held_bodies(org: &Client, ids: &Ids) -> Vec<(&'static str, Held)> {
    let takes_body = |route: &&Route| {
        changes(route) && route.verb != Verb::Delete && body(route.path, ids) != json!({})
    };
    let held = of_keys().filter(takes_body).map(|route| {
        let text = format!("{} ", body(route.path, ids));
        (route.path, Held::send(org, route.verb.name(), &ids.path(route), &text))
    });
    held.collect()
}

/// The organization is suspended before a request begins, or before the last byte of its body
/// arrives.
#[test]
fn a_suspended_organization_reads_everything_and_its_keys_change_nothing() {
    let (server, _dir) = server();
    let (org, admin) = (server.org("Acme"), server.admin());
    let own = Ids::make(&org);
    let suspend = |suspended: bool| {
        let path = format!("/api/orgs/{}", own.org);
        assert_eq!(admin.patch(&path, &json!({ "suspended": suspended })).status, 200);
    };
    let world = || {
        let lists = ["/api/keys", "/api/endpoints", "/api/events", "/api/dead-letters"];
        lists.map(|list| org.get(list).json["data"].as_array().unwrap().len())
    };
    let before = world();
    let held = held_bodies(&org, &own);
    suspend(true);
    for route in of_keys() {
        let (name, answer) =
            (format!("{} {}", route.verb.name(), route.path), ask(route, &org, &own));
        if changes(route) {
            let said = (answer.status, answer.code());
            assert_eq!(said, (403, "organization_suspended"), "{name}: {answer:?}");
        } else {
            assert!((200..300).contains(&answer.status), "{name}: {answer:?}");
        }
    }
    assert!(held.len() >= 10, "{} bodies", held.len());
    for (path, held) in held {
        let (status, text) = held.finish();
        assert_eq!(status, 403, "{path}: {text}");
        assert!(text.contains("organization_suspended"), "{path}: {text}");
    }
    assert_eq!(world(), before);
    let made = admin.post(&format!("/api/orgs/{}/keys", own.org), &json!({"name": "operator's"}));
    assert_eq!(made.status, 201, "the operator's own changes work");
    let new = org.with_key(made.json["key"].as_str().unwrap());
    assert_eq!((new.get("/api/inbox").status, new.send("a.b", &json!(1)).status), (200, 403));
    suspend(false);
    assert_eq!(new.send("a.b", &json!(1)).status, 202);
}

/// The body is wrong, and its key ends before the last byte of the body arrives, or before the
/// request begins. The ids do not exist either.
#[test]
fn a_key_that_has_ended_is_said_before_any_fault_of_the_request() {
    let (server, _dir) = server();
    let (org, absent) = (server.org("Acme"), Ids::absent());
    let mut refused_late = 0;
    for route in of_keys() {
        for wrong in [r#"{"no_such_member": 1}"#, "[1, 2}"] {
            let (id, caller) = twin(&org);
            let (method, path) = (route.verb.name(), absent.path(route));
            let held = changes(route).then(|| Held::send(&caller, method, &path, wrong));
            end(&org, &id);
            let (status, answer) = Held::send(&caller, method, &path, wrong).finish();
            assert_eq!(status, 401, "{method} {path} after the key ended: {answer}");
            let Some((status, answer)) = held.map(Held::finish) else { continue };
            // A route that reads no body may have answered before.
            let has_body = body(route.path, &absent) != json!({}) && route.verb != Verb::Delete
                || route.path == "/api/dead-letters";
            if has_body {
                assert_eq!(status, 401, "{method} {path} {wrong}: {answer}");
                refused_late += 1;
            }
        }
    }
    assert!(refused_late >= 24, "{refused_late} requests");
}
