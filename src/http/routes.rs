//! The table of routes. The registration, the header `Allow`, the series of the metrics and the OpenAPI
//! document are made from it.

use std::sync::LazyLock;

use actix_web::{HttpRequest, web};
use futures_util::future::LocalBoxFuture;

use super::api::endpoints::operations as endpoint_operations;
use super::api::{
    admin, archive, audit, dead_letters, deliveries, docs, endpoints, event_history, events, hooks,
    inbox, keys, ops, orgs, replays, tail, webhook, whoami,
};
use super::edge::auth::Who;
use super::edge::middleware::{Target, serve};
use super::edge::route::{Route, Verb};
use super::openapi::document::document;
use super::shared::{Api, RouteSeries};
use crate::base::metrics::{Metrics, MetricsError, UNMATCHED_ROUTE};
use crate::model::key::Scope;

use Scope::{
    AuditRead, DeliveriesRead, DeliveriesWrite, EndpointsRead, EndpointsWrite, EventsRead,
    EventsWrite, InboxRead, InboxWrite, KeysRead, KeysWrite,
};
use Verb::{Delete, Get, Patch, Post};
use Who::{Admin, AdminOr, AdminOrAnyKey, AnyKey, Public, Scope as Needs};

#[rustfmt::skip] // it is a table
static ROUTES: [Route; 57] = [
    Route::new(Post,   "/api/events",         Needs(EventsWrite),    |call| Box::pin(events::post(call)), &events::POST),
    Route::new(Post,   "/api/events/batch",   Needs(EventsWrite),    |call| Box::pin(events::post_batch(call)), &events::POST_BATCH).charged_by_handler(),
    Route::new(Get,    "/api/events",         Needs(EventsRead),     |call| Box::pin(event_history::list(call)), &event_history::LIST),
    Route::new(Get,    "/api/events/{event_id}", Needs(EventsRead),  |call| Box::pin(event_history::show(call)), &event_history::SHOW),
    Route::new(Delete, "/api/events/{event_id}", Needs(EventsWrite), |call| Box::pin(event_history::erase(call)), &event_history::ERASE),
    Route::new(Get,    "/api/tail",           Needs(EventsRead),     |call| Box::pin(async move { tail::tail(call) }), &tail::TAIL),
    Route::new(Get,    "/api/inbox",          Needs(InboxRead),      |call| Box::pin(inbox::list(call)), &inbox::LIST),
    Route::new(Post,   "/api/ack/{event_id}", Needs(InboxWrite),     |call| Box::pin(inbox::acknowledge(call)), &inbox::ACKNOWLEDGE),
    Route::new(Get,    "/api/webhook/config", Needs(EndpointsRead),  |call| Box::pin(async move { webhook::show(call) }), &webhook::SHOW),
    Route::new(Post,   "/api/webhook/config", Needs(EndpointsWrite), |call| Box::pin(webhook::set(call)), &webhook::SET),
    Route::new(Delete, "/api/webhook/config", Needs(EndpointsWrite), |call| Box::pin(webhook::delete(call)), &webhook::DELETE),
    Route::new(Post,   "/api/endpoints",      Needs(EndpointsWrite), |call| Box::pin(endpoints::create(call)), &endpoint_operations::CREATE),
    Route::new(Get,    "/api/endpoints",      Needs(EndpointsRead),  |call| Box::pin(async move { endpoints::list(call) }), &endpoint_operations::LIST),
    Route::new(Get,    "/api/endpoints/{endpoint_id}", Needs(EndpointsRead),  |call| Box::pin(async move { endpoints::show(call) }), &endpoint_operations::SHOW),
    Route::new(Patch,  "/api/endpoints/{endpoint_id}", Needs(EndpointsWrite), |call| Box::pin(endpoints::change(call)), &endpoint_operations::CHANGE),
    Route::new(Delete, "/api/endpoints/{endpoint_id}", Needs(EndpointsWrite), |call| Box::pin(endpoints::delete(call)), &endpoint_operations::DELETE),
    Route::new(Post,   "/api/endpoints/{endpoint_id}/enable", Needs(EndpointsWrite), |call| Box::pin(endpoints::enable(call)), &endpoint_operations::ENABLE),
    Route::new(Post,   "/api/endpoints/{endpoint_id}/secret/rotate", Needs(EndpointsWrite), |call| Box::pin(endpoints::rotate_secret(call)), &endpoint_operations::ROTATE_SECRET),
    Route::new(Post,   "/api/endpoints/{endpoint_id}/test", Needs(EndpointsWrite), |call| Box::pin(endpoints::test(call)), &endpoint_operations::TEST),
    Route::new(Get,    "/api/endpoints/{endpoint_id}/stats", Needs(EndpointsRead), |call| Box::pin(async move { endpoints::stats(call) }), &endpoint_operations::STATS),
    Route::new(Get,    "/api/deliveries",     Needs(DeliveriesRead), |call| Box::pin(deliveries::list(call)), &deliveries::LIST),
    Route::new(Get,    "/api/deliveries/{delivery_id}", Needs(DeliveriesRead), |call| Box::pin(deliveries::show(call)), &deliveries::SHOW),
    Route::new(Post,   "/api/deliveries/{delivery_id}/retry", Needs(DeliveriesWrite), |call| Box::pin(deliveries::retry(call)), &deliveries::RETRY),
    Route::new(Get,    "/api/dead-letters",   Needs(DeliveriesRead), |call| Box::pin(dead_letters::list(call)), &dead_letters::LIST),
    Route::new(Delete, "/api/dead-letters",   Needs(DeliveriesWrite), |call| Box::pin(dead_letters::discard(call)), &dead_letters::DISCARD),
    Route::new(Post,   "/api/dead-letters/replay", Needs(DeliveriesWrite), |call| Box::pin(dead_letters::replay(call)), &dead_letters::REPLAY),
    Route::new(Post,   "/api/replays",        Needs(DeliveriesWrite), |call| Box::pin(replays::start(call)), &replays::START),
    Route::new(Get,    "/api/replays",        Needs(DeliveriesRead), |call| Box::pin(replays::list(call)), &replays::LIST),
    Route::new(Get,    "/api/replays/{replay_id}", Needs(DeliveriesRead), |call| Box::pin(async move { replays::show(call) }), &replays::SHOW),
    Route::new(Delete, "/api/replays/{replay_id}", Needs(DeliveriesWrite), |call| Box::pin(replays::cancel(call)), &replays::CANCEL),
    Route::new(Post,   "/api/hooks",          Needs(EndpointsWrite), |call| Box::pin(hooks::subscribe(call)), &hooks::SUBSCRIBE),
    Route::new(Get,    "/api/hooks/samples",  Needs(EventsRead),     |call| Box::pin(hooks::samples(call)), &hooks::SAMPLES),
    Route::new(Delete, "/api/hooks/{hook_id}", Needs(EndpointsWrite), |call| Box::pin(hooks::unsubscribe(call)), &hooks::UNSUBSCRIBE),
    Route::new(Post,   "/api/keys/generate",  AdminOr(KeysWrite),    |call| Box::pin(keys::generate(call)), &keys::GENERATE),
    Route::new(Post,   "/api/keys/rotate",    AnyKey,                |call| Box::pin(keys::rotate(call)), &keys::ROTATE),
    Route::new(Get,    "/api/keys",           Needs(KeysRead),       |call| Box::pin(async move { keys::list(call) }), &keys::LIST),
    Route::new(Patch,  "/api/keys/{key_id}",  AdminOr(KeysWrite),    |call| Box::pin(keys::change(call)), &keys::CHANGE),
    Route::new(Delete, "/api/keys/{key_id}",  AdminOr(KeysWrite),    |call| Box::pin(keys::end(call)), &keys::END),
    Route::new(Get,    "/api/whoami",         AdminOrAnyKey,         |call| Box::pin(async move { whoami::show(call) }), &whoami::SHOW),
    Route::new(Get,    "/api/orgs",           Admin,                 |call| Box::pin(orgs::list(call)), &orgs::LIST),
    Route::new(Post,   "/api/orgs",           Admin,                 |call| Box::pin(orgs::create(call)), &orgs::CREATE),
    Route::new(Get,    "/api/orgs/{org_id}",  Admin,                 |call| Box::pin(async move { orgs::show(call) }), &orgs::SHOW),
    Route::new(Patch,  "/api/orgs/{org_id}",  Admin,                 |call| Box::pin(orgs::change(call)), &orgs::CHANGE),
    Route::new(Delete, "/api/orgs/{org_id}",  Admin,                 |call| Box::pin(orgs::delete(call)), &orgs::DELETE),
    Route::new(Post,   "/api/orgs/{org_id}/keys", Admin,             |call| Box::pin(orgs::make_key(call)), &orgs::MAKE_KEY),
    Route::new(Get,    "/api/audit",          AdminOr(AuditRead),    |call| Box::pin(audit::list(call)), &audit::LIST),
    Route::new(Post,   "/api/admin/backup",   Admin,                 |call| Box::pin(admin::backup(call)), &admin::BACKUP),
    Route::new(Post,   "/api/admin/archive",  Admin,                 |call| Box::pin(archive::archive(call)), &archive::ARCHIVE),
    Route::new(Post,   "/api/admin/drill",    Admin,                 |call| Box::pin(admin::drill(call)), &admin::DRILL),
    Route::new(Get,    "/api/admin/jobs",     Admin,                 |call| Box::pin(async move { admin::jobs(call) }), &admin::JOBS),
    Route::new(Get,    "/health",             Public,                |call| Box::pin(async move { ops::health(call) }), &ops::HEALTH),
    Route::new(Get,    "/health/live",        Public,                |_| Box::pin(async { ops::live() }), &ops::LIVE),
    Route::new(Get,    "/health/ready",       Public,                |call| Box::pin(async move { ops::ready(call) }), &ops::READY),
    Route::new(Get,    "/metrics",            Public,                |call| Box::pin(async move { ops::metrics(call) }), &ops::METRICS),
    Route::new(Get,    "/openapi.json",       Public,                |call| Box::pin(async move { Ok(ops::openapi(call)) }), &ops::OPENAPI),
    Route::new(Get,    "/docs",               Public,                |call| Box::pin(async move { docs::index(call) }), &docs::INDEX),
    Route::new(Get,    "/docs/{page}",        Public,                |call| Box::pin(async move { docs::show(call) }), &docs::SHOW),
];

/// Returns the table of all routes.
pub fn routes() -> &'static [Route] {
    &ROUTES
}

/// Returns the OpenAPI document, which is made once.
pub(super) fn openapi() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        // Texts, numbers and lists always serialize.
        serde_json::to_string_pretty(&document(&ROUTES)).unwrap_or_default() + "\n"
    });
    &DOCUMENT
}

/// Registers the metrics of all routes.
pub(super) fn series(metrics: &Metrics) -> Result<RouteSeries, MetricsError> {
    let matched = ROUTES.iter().map(|route| metrics.http_route(route.verb.name(), route.path));
    let unmatched = metrics.http_route("", UNMATCHED_ROUTE)?;
    Ok(RouteSeries { matched: matched.collect::<Result<_, _>>()?, unmatched })
}

/// Registers a resource for each path, with its answer to a wrong method, and the answer to unknown
/// paths.
pub(super) fn register(services: &mut web::ServiceConfig, api: &web::Data<Api>) {
    let mut paths: Vec<&str> = Vec::new();
    for route in &ROUTES {
        if !paths.contains(&route.path) {
            paths.push(route.path);
        }
    }
    // A path with a slash at its end means the same path. These patterns come last, so that no
    // other path is compared with them.
    let with_slash = paths.iter().map(|path| (*path, format!("{path}/")));
    let all: Vec<_> =
        paths.iter().map(|path| (*path, (*path).to_owned())).chain(with_slash).collect();
    for (path, pattern) in all {
        let mut resource = web::resource(pattern);
        let mut allow = Vec::new();
        for (number, route) in ROUTES.iter().enumerate().filter(|(_, route)| route.path == path) {
            allow.push(route.verb.allows());
            for method in route.verb.methods() {
                let handler = handler(api, Target::Route(number, route));
                resource = resource.route(web::method(method.clone()).to(handler));
            }
        }
        let wrong_method = handler(api, Target::WrongMethod(allow.join(", ").into()));
        services.service(resource.default_service(web::to(wrong_method)));
    }
    services.default_service(web::to(handler(api, Target::Unknown)));
}

/// Returns the function that actix calls.
fn handler(
    api: &web::Data<Api>,
    target: Target,
) -> impl Fn(HttpRequest, web::Payload) -> LocalBoxFuture<'static, actix_web::HttpResponse>
+ Clone
+ 'static {
    let api = web::Data::clone(api);
    move |request, payload| {
        let (api, target) = (web::Data::clone(&api), target.clone());
        Box::pin(serve(api, target, request, payload.into_inner()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{AskedBy, Draft, Requester, one_of_each};
    use crate::model::id::KeyId;

    #[test]
    fn each_method_of_a_path_is_there_once() {
        for (place, route) in ROUTES.iter().enumerate() {
            let same = |other: &Route| (other.verb, other.path) == (route.verb, route.path);
            assert_eq!(
                ROUTES.iter().position(same),
                Some(place),
                "{} {}",
                route.verb.name(),
                route.path
            );
        }
    }

    /// The commands that a route of the operator may make.
    const OF_OPERATOR: &[&str] =
        &["create_org", "create_key", "end_key", "change_org", "change_key", "delete_org"];

    /// The commands that a route may make, by its permission: for a key and for the operator.
    fn makes(who: Who) -> (&'static [&'static str], &'static [&'static str]) {
        let of_key: &[&str] = match who {
            Public => return (&[], &[]),
            Admin => return (&[], OF_OPERATOR),
            AdminOrAnyKey | AdminOr(AuditRead) => return (&["rotate_key"], OF_OPERATOR),
            AdminOr(KeysWrite) => {
                return (&["create_key", "rotate_key", "end_key", "change_key"], OF_OPERATOR);
            }
            AnyKey => &["rotate_key"],
            Needs(EventsWrite) => &["rotate_key", "submit_event", "erase_event"],
            Needs(InboxWrite) => &["rotate_key", "ack_event"],
            Needs(EndpointsWrite) => &["rotate_key", "put_endpoint", "delete_endpoint"],
            Needs(DeliveriesWrite) => {
                &["rotate_key", "retry_delivery", "drop_dead", "start_replay", "end_replay"]
            }
            Needs(EventsRead | InboxRead | EndpointsRead | DeliveriesRead | KeysRead) => {
                &["rotate_key"]
            }
            AdminOr(_) | Needs(KeysWrite | AuditRead) => {
                panic!("{who:?} is the permission of no route")
            }
        };
        (of_key, &[])
    }

    #[test]
    fn each_route_can_make_only_the_commands_whose_declaration_allows_its_callers() {
        for route in &ROUTES {
            let needs = route.who.needs();
            let (of_key, of_operator) = makes(route.who);
            for (key, expected) in [(Some(KeyId(1)), of_key), (None, of_operator)] {
                let is_caller = match route.who {
                    Public => false,
                    Admin => key.is_none(),
                    AdminOr(_) | AdminOrAnyKey => true,
                    AnyKey | Needs(_) => key.is_some(),
                };
                let requester = Requester { key, needs, origin: None, note: None };
                // A draft is of the command in an envelope, never of the envelope.
                let commands = one_of_each().into_iter();
                for command in commands.filter(|it| it.kind().asked_by != AskedBy::Inner) {
                    let kind = command.kind();
                    let is_made =
                        is_caller && Draft::from(command).asked_by(requester.clone()).is_ok();
                    let is_expected = expected.contains(&kind.name);
                    assert_eq!(is_made, is_expected, "{} as {key:?}: {}", route.path, kind.name);
                }
            }
        }
    }

    #[test]
    fn only_routes_outside_of_the_api_are_public() {
        for route in &ROUTES {
            assert_eq!(route.who == Public, !route.path.starts_with("/api/"), "{}", route.path);
        }
    }
}
