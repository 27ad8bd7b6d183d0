//! Every route, in one table: what it is registered by, what its figures are kept under, what a wrong method is told.

use actix_web::{HttpRequest, Route, web};

use super::error::{Code, Problem};
use super::{events, inbox, keys, ops, webhook};
use crate::model::key::Scope;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone.
    Public,
    /// A key with this scope.
    Key(Scope),
    /// Any valid key.
    AnyKey,
    /// The admin token, or a key with this scope.
    AdminOrKey(Scope),
}

/// A method of a path.
#[derive(Clone, Copy)]
pub(super) struct RouteRow {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) access: Access,
    handler: fn() -> Route,
}

const fn row(method: &'static str, path: &'static str, access: Access, handler: fn() -> Route) -> RouteRow {
    RouteRow { method, path, access, handler }
}

use Access::{AdminOrKey, AnyKey, Key, Public};

/// Methods of one path stand together.
pub(super) const ROUTES: &[RouteRow] = &[
    row("POST", "/api/events", Key(Scope::EventsWrite), || web::post().to(events::post_event)),
    row("POST", "/api/events/batch", Key(Scope::EventsWrite), || web::post().to(events::post_batch)),
    row("GET", "/api/inbox", Key(Scope::InboxRead), || web::get().to(inbox::get_inbox)),
    row("POST", "/api/ack/{event_id}", Key(Scope::InboxWrite), || web::post().to(inbox::post_ack)),
    row("GET", "/api/webhook/config", Key(Scope::EndpointsRead), || web::get().to(webhook::get_config)),
    row("POST", "/api/webhook/config", Key(Scope::EndpointsWrite), || web::post().to(webhook::post_config)),
    row("DELETE", "/api/webhook/config", Key(Scope::EndpointsWrite), || web::delete().to(webhook::delete_config)),
    row("POST", "/api/keys/generate", AdminOrKey(Scope::KeysWrite), || web::post().to(keys::post_generate)),
    row("POST", "/api/keys/rotate", AnyKey, || web::post().to(keys::post_rotate)),
    row("GET", "/api/keys", Key(Scope::KeysRead), || web::get().to(keys::get_keys)),
    row("DELETE", "/api/keys/{key_id}", Key(Scope::KeysWrite), || web::delete().to(keys::delete_key)),
    row("GET", "/health", Public, || web::get().to(ops::get_health)),
    row("GET", "/health/live", Public, || web::get().to(ops::get_live)),
    row("GET", "/health/ready", Public, || web::get().to(ops::get_ready)),
    row("GET", "/metrics", Public, || web::get().to(ops::get_metrics)),
];

/// Registers the table.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    for methods in ROUTES.chunk_by(|a, b| a.path == b.path) {
        let Some(first) = methods.first() else { continue };
        let allow: Box<str> = methods.iter().map(|row| row.method).collect::<Vec<_>>().join(", ").into();
        let resource = web::resource(first.path).default_service(web::to(move |request: HttpRequest| {
            let wrong = wrong_method(&request, allow.clone());
            async move { Err::<&str, _>(wrong) }
        }));
        config.service(methods.iter().fold(resource, |resource, row| resource.route((row.handler)())));
    }
    config
        .default_service(web::to(|| async { Err::<&str, _>(Problem::new(Code::NotFound, "there is no such route")) }));
}

fn wrong_method(request: &HttpRequest, allow: Box<str>) -> Problem {
    let detail = format!("{} is not possible here; {allow} is", request.method());
    Problem { allow: Some(allow), ..Problem::new(Code::MethodNotAllowed, detail) }
}
