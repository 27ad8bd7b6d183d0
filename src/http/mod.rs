//! The HTTP API turns requests into commands and queries, and their outcomes into answers. No other
//! module knows HTTP.
//!
//! `routes` is the table of routes. Every request goes through `edge`, which authenticates the
//! caller, checks the permission, hands a `Call` to the handler, and adds headers to every answer.
//! The handlers are in `api`, with a file for each resource; they read requests through `input`,
//! and declare what they take and answer for the document that `openapi` makes.
//!
//! Handlers never block a worker: argon2id has its own threads (`edge::verify`), reads of the
//! journal and of large texts run on actix's blocking pool, and changes go through the committer's
//! intake.
//!
//! This module must not know how events are stored or delivered; a test of an endpoint goes to the
//! sender.

mod api;
mod edge;
mod error;
mod input;
mod openapi;
mod principal;
mod routes;
mod shared;

use std::io;
use std::sync::Arc;

pub use edge::auth::Who;
pub use edge::health::{Delivering, Health};
pub use edge::route::{Route, Verb};
pub use edge::server::{server, workers};
pub use error::Code;
pub use openapi::yaml::yaml;
pub use routes::routes;
pub use shared::Api;

use self::api::archived_events::{Source, Taking, read};
use self::error::Problem;
use crate::archive::Line;
use crate::backup::Backups;
use crate::base::clock::Clock;
use crate::commands::Records;
use crate::commit::Engine;
use crate::config::Config;
use crate::delivery::sender::Sender;
use crate::model::event::NewEvent;
use crate::model::id::{EventId, OrgId, OrgNo};
use crate::model::time::{Now, Timestamp};
use crate::store::Store;

/// Reads the body of a posted event, in triggerd's own form or as a structured CloudEvent. Fuzz
/// tests call this function, because they have bytes and no request.
///
/// # Errors
/// The problem document that the caller would get.
#[doc(hidden)]
pub fn read_event_for_fuzzing(
    body: &[u8],
    is_cloudevent: bool,
) -> Result<NewEvent, serde_json::Value> {
    const TIME: Timestamp = Timestamp(1_800_000_000_000);
    let rules = input::wire::Rules {
        org: OrgNo(1),
        now: Now { wall: TIME, steady: TIME },
        dedup_window_ms: 1_000,
        payload_bytes_max: 64 << 10,
        idempotency_key: None,
    };
    let read = |text| {
        if is_cloudevent { input::cloudevents::structured(&rules, text) } else { rules.event(text) }
    };
    input::fields::text_of(body).and_then(read).map_err(|problem| {
        serde_json::to_value(problem.document(None)).unwrap_or(serde_json::Value::Null)
    })
}

/// Returns an event as a line of JSON for an archive; none if it does not exist any more.
///
/// # Errors
/// The event cannot be read: the reason in words.
pub fn archive_line(
    api: &Api,
    org: (OrgNo, OrgId),
    event: EventId,
) -> Result<Option<Line>, String> {
    let line = api::archived_events::line(api.into(), org, event);
    line.map_err(|problem| format!("{event}: {}", cause(&problem)))
}

/// Passes the events that a stopped server received in this time to `take`, as lines of JSON without
/// their line breaks, until it returns false.
///
/// # Errors
/// The state cannot be read, or `take` returned false.
pub fn read_archive(
    (store, records): (&Store, &Records),
    time: (Timestamp, Timestamp),
    take: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), String> {
    let source = Source { store, records, clock: &Clock::system() };
    read(source, time, &mut Taking(take)).map_err(|problem| cause(&problem).to_owned())
}

fn cause(problem: &Problem) -> &str {
    problem.cause().unwrap_or("it cannot be read")
}

/// Returns the OpenAPI document of the routes, in JSON.
pub fn openapi_json() -> &'static str {
    routes::openapi()
}

/// Makes the API and starts the threads that check keys. `admin_token` is the operator's token in
/// clear, and `sender` sends the tests of endpoints.
///
/// # Errors
/// If a thread cannot be started, or a metric cannot be registered.
pub fn api(
    engine: Arc<Engine>,
    config: Arc<Config>,
    admin_token: &str,
    parts: (Arc<Health>, Arc<Backups>),
    sender: Sender,
) -> io::Result<Api> {
    let series = routes::series(&engine.metrics).map_err(io::Error::other)?;
    Api::new(engine, config, parts, (admin_token, sender), (series, routes::openapi))
}
