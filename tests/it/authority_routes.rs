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

/// What the callers of the matrix got, compared with what the contract says.
#[derive(Default)]
struct Matrix {
    cells: usize,
    deviations: Vec<String>,
}

impl Matrix {
    /// Compares an answer with the expected statuses.
    fn expect(&mut self, cell: &str, answer: &Answer, expected: &[u16]) {
        self.cells += 1;
        if !expected.contains(&answer.status) {
            self.deviations.push(format!("{cell}: {} and not {expected:?}", answer.status));
        }
    }

    /// Asks for each of these objects, which the caller must not reach.
    fn refused(&mut self, who: (&str, &Client), route: &Route, objects: &[&Ids], status: u16) {
        for (ids, whose) in objects.iter().zip(["own", "foreign", "absent"]) {
            let cell = format!("{} {} by {} of {whose}", route.verb.name(), route.path, who.0);
            self.expect(&cell, &ask(route, who.1, ids), &[status]);
        }
    }
}

/// The callers of the matrix.
struct Callers {
    org: Client,
    admin: Client,
    strangers: [Client; 4],
    without_scope: HashMap<&'static str, Client>,
}

const DONE: [u16; 5] = [200, 201, 202, 203, 204];

impl Matrix {
    /// Asks a route in every way that it refuses.
    fn refusals(&mut self, route: &Route, callers: &mut Callers, objects: [&Ids; 3]) {
        let Callers { org, admin, strangers, without_scope } = callers;
        for stranger in strangers.iter() {
            self.refused(("a stranger", stranger), route, &objects, 401);
        }
        let (scope, is_for_admin) = match route.who {
            Who::Scope(scope) => (Some(scope), false),
            Who::AdminOr(scope) => (Some(scope), true),
            Who::AdminOrAnyKey | Who::Admin => (None, true),
            Who::AnyKey | Who::Public => (None, false),
        };
        if let Some(scope) = scope {
            let lacks = without_scope.entry(scope.name()).or_insert_with(|| without(org, scope));
            self.refused(("a key without the scope", lacks), route, &objects, 403);
        }
        let (has_id, [_, foreign, absent]) = (route.path.contains('{'), objects);
        if route.who == Who::Admin {
            self.refused(("a key", org), route, &objects, 403);
        } else if has_id {
            self.refused(("a key", org), route, &[foreign, absent], 404);
            let [of_another, of_nobody] = [foreign, absent].map(|ids| ask(route, org, ids).text);
            assert_eq!(of_another, of_nobody, "{}: byte for byte", route.path);
        }
        if !is_for_admin {
            self.refused(("the operator", admin), route, &objects, 403);
        } else if has_id {
            self.expect(route.path, &ask(route, admin, absent), &[404]);
        }
    }
}

/// Every route for every caller: strangers, a key of another organization or without the scope, the
/// right key, and the operator. The objects exist, belong to another organization, or do not exist.
/// A route that needs a body or an id of its own has a row in [`body`] or [`Ids`].
#[test]
fn every_route_lets_in_who_may_and_a_foreign_id_is_like_an_absent_one() {
    let (server, _dir) = server();
    let (org, other, admin) = (server.org("Acme"), server.org("Other"), server.admin());
    let (foreign, absent) = (Ids::make(&other), Ids::absent());
    let strangers = strangers(&org);
    let mut own = Ids::make(&org);
    // An organization whose deletion spoils no other cell.
    let deleted = Ids::make(&server.org("Deleted"));
    let mut callers = Callers { org, admin, strangers, without_scope: HashMap::new() };
    let others = other.get("/api/endpoints").text;
    let mut matrix = Matrix::default();
    for route in routes() {
        let name = format!("{} {}", route.verb.name(), route.path);
        if route.who != Who::Public {
            matrix.refusals(route, &mut callers, [&own, &foreign, &absent]);
        }
        let Callers { org, admin, strangers: [nobody, malformed, ..], .. } = &callers;
        let replaced = (route.who == Who::AnyKey).then(|| twin(org).1);
        let right = match route.who {
            Who::Public => vec![org, admin, nobody, malformed],
            // Backups and drills of this server are not configured.
            Who::Admin if route.path.starts_with("/api/admin/") => vec![],
            Who::Admin => vec![admin],
            Who::AnyKey => replaced.iter().collect(),
            Who::Scope(_) | Who::AdminOr(_) | Who::AdminOrAnyKey => vec![org],
        };
        let deletes_all = (route.verb, route.path) == (Verb::Delete, "/api/orgs/{org_id}");
        for caller in right {
            let ids = if deletes_all { &deleted } else { &own };
            matrix.expect(&name, &ask(route, caller, ids), &DONE);
        }
        if changes(route) {
            own = Ids::make(org);
        }
        let others_now = other.get("/api/endpoints").text;
        assert_eq!(others_now, others, "{name}: nothing of the other organization has changed");
    }
    let Matrix { cells, deviations } = matrix;
    println!("{cells} cells, {} deviations", deviations.len());
    assert!(deviations.is_empty(), "{deviations:#?}");
    assert!(cells >= 15 * routes().len(), "{cells} cells");
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
