//! The HTTP API turns requests into commands and queries, and their outcomes into answers. No other
//! module knows HTTP.
//!
//! `routes` is the table of routes. Every request goes through `edge`, which authenticates the
//! caller, checks the permission, hands a `Call` to the handler, and adds headers to every answer.
//! Handlers (`events`, `inbox`, `endpoints`, `webhook`, `hooks`, `deliveries`, `dead_letters`,
//! `event_history`, `tail`, `keys`, `ops`) never block a worker: argon2id has its own threads
//! (`verify`), reads of the journal and of large texts run on actix's blocking pool, and changes go
//! through the committer's intake.
//!
//! This module must not know how events are stored or delivered; a test of an endpoint goes to the
//! sender.

mod api;
mod edge;
mod error;
mod input;
mod routes;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use actix_web::web;
use ipnet::IpNet;

pub use edge::health::Health;
pub use edge::server::{server, workers};
pub use error::Code;
pub use routes::{Route, Verb, Who, routes};

use edge::answers::Answers;
use edge::auth::Authenticator;
use edge::blocking::Blocking;
use edge::cors::Cors;
use edge::limit::{Payer, RateLimits};
use edge::middleware::RequestIds;
use input::rooms::Rooms;

use crate::base::clock::Clock;
use crate::base::keyed::Keyed;
use crate::base::live::Live;
use crate::base::metrics::{HttpRoute, Metrics, UNMATCHED_ROUTE};
use crate::base::random;
use crate::base::shares::Shares;
use crate::base::threads::Stop;
use crate::base::vault::Vault;
use crate::commands::Records;
use crate::commit::{ActivityStream, InboxNotifier, Intake};
use crate::config::Config;
use crate::delivery::breakers::Breakers;
use crate::delivery::sender::Sender;
use crate::model::event::NewEvent;
use crate::model::id::{EventId, IdSource, KeyId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::egress::EgressRules;
use crate::rules::type_filter::TypeFilter;
use crate::store::Store;

/// Maximum number of endpoint tests at a time, for all organizations: each test holds a request and
/// a connection.
const TESTS_MAX: u64 = 128;
/// Maximum number of endpoint tests at a time for each organization.
const TESTS_PER_ORG_MAX: u64 = 4;
/// Maximum number of inbox filters in the `barren` cache.
const BARREN_ENTRIES_MAX: u64 = 4_096;

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
    let rules = input::wire::Rules {
        org: OrgNo(1),
        now: Timestamp(1_800_000_000_000),
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

/// The parts of the server that the API uses.
pub struct ApiParts {
    /// The configuration that the server started with.
    pub config: Arc<Config>,
    /// The clock of the server.
    pub clock: Clock,
    /// The state, which handlers only read.
    pub store: Arc<Store>,
    /// The records of the journal, which hold payloads and attempts.
    pub records: Records,
    /// The queue of changes in front of the committer.
    pub intake: Intake,
    /// The notifier of requests which wait for an event.
    pub notifier: InboxNotifier,
    /// The activity stream behind `GET /api/tail`.
    pub activity_stream: ActivityStream,
    /// The counters behind `GET /metrics`.
    pub metrics: Arc<Metrics>,
    /// The stop signal, which ends waiting requests.
    pub stop: Stop,
    /// The sender of webhooks, for tests of endpoints.
    pub sender: Sender,
    /// The vault, which seals and opens endpoints' secrets.
    pub vault: Arc<Vault>,
    /// The circuit breakers of all endpoints.
    pub breakers: Arc<Breakers>,
    /// The operator's admin token, in clear.
    pub admin_token: String,
    /// The phase of the server, set by the code that starts and stops the server, and read by
    /// probes.
    pub health: Arc<Health>,
}

/// The API, shared by all workers.
pub struct Api {
    config: Arc<Config>,
    clock: Clock,
    store: Arc<Store>,
    records: Records,
    intake: Intake,
    notifier: InboxNotifier,
    activity_stream: ActivityStream,
    metrics: Arc<Metrics>,
    stop: Stop,
    health: Arc<Health>,
    auth: Authenticator,
    limits: Live<RateLimits>,
    egress: Live<EgressRules>,
    trusted_proxies: Live<Vec<IpNet>>,
    sender: Live<Sender>,
    vault: Arc<Vault>,
    breakers: Arc<Breakers>,
    /// Memory for answers that their readers have not taken yet.
    answers: Arc<Answers>,
    blocking: Blocking,
    /// The event up to which an inbox has no event for a filter. New events enter an inbox only
    /// behind this event, so the entry stays true.
    barren: moka::sync::Cache<(OrgNo, TypeFilter), EventId>,
    /// Bytes of request bodies that are being read or wait to be stored.
    bodies: Arc<Rooms>,
    /// Requests whose changes wait to be stored or are being stored.
    submissions: Arc<Shares<Payer>>,
    /// Endpoint tests under way, by organization.
    tests: Arc<Shares<OrgNo>>,
    cors: Option<Cors>,
    /// Ids of organizations, keys and endpoints; the committer makes the ids of events.
    ids: Mutex<IdSource>,
    request_ids: RequestIds,
    /// Locks that keep changes of one organization's settings apart.
    settings_locks: Keyed<OrgNo, tokio::sync::Mutex<()>>,
    /// Metrics of each route, in the order of the routes.
    metered: Vec<HttpRoute>,
    unmatched: HttpRoute,
    began: Instant,
}

impl Api {
    /// Assembles the API and starts the threads that check keys.
    ///
    /// # Errors
    /// If a thread cannot be started, or a metric cannot be registered.
    pub fn new(parts: ApiParts) -> io::Result<Self> {
        let ApiParts { config, clock, store, records, intake, notifier, metrics, .. } = parts;
        let ApiParts {
            activity_stream, stop, sender, vault, breakers, admin_token, health, ..
        } = parts;
        let meter =
            |verb: &str, path: &str| metrics.http_route(verb, path).map_err(io::Error::other);
        let metered = routes()
            .iter()
            .map(|route| meter(route.verb.name(), route.path))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            metered,
            unmatched: meter("", UNMATCHED_ROUTE)?,
            auth: Authenticator::new(
                &config.keys,
                &admin_token,
                intake.clone(),
                Arc::clone(&metrics),
            )?,
            limits: Live::new(RateLimits::new(&config.tiers)),
            egress: Live::new(egress_rules(&config)),
            trusted_proxies: Live::new(config.server.trusted_proxies.clone()),
            cors: Cors::new(&config.server.cors_origins),
            ids: Mutex::new(IdSource::after(0)),
            request_ids: RequestIds::default(),
            answers: Arc::new(Answers::new(config.server.answer_bytes_max)),
            blocking: Blocking::default(),
            barren: moka::sync::Cache::new(BARREN_ENTRIES_MAX),
            bodies: Rooms::new(config.intake.queue_bytes),
            submissions: submissions(&config),
            tests: Shares::new(TESTS_MAX, TESTS_PER_ORG_MAX),
            settings_locks: Keyed::default(),
            began: Instant::now(),
            config,
            clock,
            store,
            records,
            intake,
            notifier,
            activity_stream,
            metrics,
            stop,
            sender: Live::new(sender),
            vault,
            breakers,
            health,
        })
    }

    /// Applies a new configuration. Used tokens of a rate limit stay used.
    pub fn reload(&self, config: &Config, sender: Sender) {
        self.limits.set(self.limits.get().with(&config.tiers));
        self.egress.set(egress_rules(config));
        self.trusted_proxies.set(config.server.trusted_proxies.clone());
        self.sender.set(sender);
    }

    /// Returns the keys used since the last call, each with the time of its last use. The caller
    /// stores these times.
    pub fn take_keys_used(&self) -> Vec<(KeyId, Timestamp)> {
        self.auth.take_used()
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }

    /// Returns the time that due times are compared with. This time never goes back, also when the
    /// wall clock is set back.
    fn steady(&self) -> Timestamp {
        Timestamp(self.clock.steady_ms())
    }

    /// Returns the number of a new organization, key or endpoint.
    fn new_id(&self) -> u128 {
        self.ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next(self.clock.now_ms(), random::bytes())
    }

    /// Locks the organization's settings, so that no other request changes them between a check and
    /// the change. Other organizations do not wait.
    async fn settings_lock(&self, org: OrgNo) -> tokio::sync::OwnedMutexGuard<()> {
        self.settings_locks.of(org, tokio::sync::Mutex::default).lock_owned().await
    }
}

/// Returns shares for as many changes as fit into the queue and into the commit group that is being
/// stored.
fn submissions(config: &Config) -> Arc<Shares<Payer>> {
    let places = config.intake.queue.saturating_add(config.intake.group_commands) as u64;
    Shares::new(places, places)
}

fn egress_rules(config: &Config) -> EgressRules {
    EgressRules { allow: config.egress.allow_networks.clone() }
}

/// Registers all routes, and the answers to unknown paths.
pub fn configure(services: &mut web::ServiceConfig, api: &web::Data<Api>) {
    routes::register(services, api);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_organization_takes_all_places_among_what_waits_to_be_stored() {
        let places = submissions(&Config::from_toml("").unwrap());
        let all_of = |org| {
            std::iter::from_fn(|| places.take(Payer::Org(OrgNo(org)), 1).ok()).collect::<Vec<_>>()
        };
        let first = all_of(1);
        assert!(first.len() > 1_000);
        let second = all_of(2);
        assert!(!second.is_empty() && !all_of(3).is_empty(), "there is something left for others");
    }
}
