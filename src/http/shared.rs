//! The API's own state, shared by all workers. The engine holds what the API shares with the rest
//! of the server.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ipnet::IpNet;

use super::edge::answers::Answers;
use super::edge::auth::Authenticator;
use super::edge::blocking::Blocking;
use super::edge::cors::Cors;
use super::edge::health::Health;
use super::edge::limit::RateLimits;
use super::edge::refused_admin::RefusedAdmin;
use super::edge::request_id::RequestIds;
use super::edge::scrapes::Scrapes;
use super::input::body_memory::BodyMemory;
use super::principal::Principal;
use crate::backup::Backups;
use crate::base::keyed::Keyed;
use crate::base::live::Live;
use crate::base::metrics::HttpRoute;
use crate::base::random;
use crate::base::shares::Shares;
use crate::base::threads::SingleThread;
use crate::commands::NoteAudit;
use crate::commit::Engine;
use crate::config::{Config, Retention};
use crate::delivery::sender::Sender;
use crate::model::audit::{Actor, AuditEntry};
use crate::model::id::{EventId, IdSource, KeyId, OrgNo};
use crate::model::time::Timestamp;
use crate::rules::egress::EgressRules;
use crate::rules::type_filter::TypeFilter;

/// Maximum number of endpoint tests at a time, for all organizations: each test holds a request and
/// a connection.
const TESTS_MAX: u64 = 128;
/// Maximum number of endpoint tests at a time for each organization.
const TESTS_PER_ORG_MAX: u64 = 4;
/// Maximum number of inbox filters in the `barren` cache.
const BARREN_ENTRIES_MAX: u64 = 4_096;

/// The API, shared by all workers.
pub struct Api {
    pub(super) engine: Arc<Engine>,
    /// The configuration that the server started with.
    pub(super) config: Arc<Config>,
    /// The data directory as an absolute path, to show.
    pub(super) data_dir: String,
    /// The phase of the server, set by the code that starts and stops the server.
    pub(super) health: Arc<Health>,
    /// Makes the backups that the operator asks for.
    pub(super) backups: Arc<Backups>,
    pub(super) auth: Authenticator,
    pub(super) settings: Live<Settings>,
    pub(super) bounds: Bounds,
    /// The event up to which an inbox has no event for a filter. New events enter an inbox only
    /// behind this event, so the entry stays true.
    pub(super) barren: moka::sync::Cache<(OrgNo, TypeFilter), EventId>,
    /// Sends the events of a time to the operator.
    pub(super) archive_stream: SingleThread,
    pub(super) cors: Option<Cors>,
    pub(super) refused_admin: RefusedAdmin,
    pub(super) request_ids: RequestIds,
    pub(super) scrapes: Scrapes,
    pub(super) series: RouteSeries,
    /// Returns the OpenAPI document. The table of routes makes it, and knows the handlers.
    pub(super) document: fn() -> &'static str,
    /// Ids of organizations, keys and endpoints; the committer makes the ids of events.
    ids: Mutex<IdSource>,
    /// Locks that keep changes of one organization's settings apart.
    settings_locks: Keyed<OrgNo, tokio::sync::Mutex<()>>,
    /// Turns of one organization's requests that replay or drop dead letters.
    dead_letter_turns: Keyed<OrgNo, tokio::sync::Mutex<()>>,
    pub(super) began: Instant,
}

/// The settings that a reload replaces.
pub(super) struct Settings {
    pub(super) limits: RateLimits,
    pub(super) egress: EgressRules,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) retention: Retention,
    /// The sender of webhooks, for tests of endpoints.
    pub(super) sender: Sender,
}

/// Shares of the server for each organization.
pub(super) struct Bounds {
    /// Memory for answers that their readers have not taken yet.
    pub(super) answers: Arc<Answers>,
    pub(super) blocking: Blocking,
    /// Requests that wait for their turn.
    pub(super) waiting: Arc<Shares<Principal>>,
    /// Bytes of request bodies that are being read or wait to be stored.
    pub(super) bodies: Arc<BodyMemory>,
    /// Requests whose changes wait to be stored or are being stored.
    pub(super) submissions: Arc<Shares<Principal>>,
    /// Endpoint tests under way, by organization.
    pub(super) tests: Arc<Shares<OrgNo>>,
}

/// The metrics of the routes.
pub(super) struct RouteSeries {
    /// In the order of the table of routes.
    pub(super) matched: Vec<HttpRoute>,
    pub(super) unmatched: HttpRoute,
}

impl Api {
    /// Assembles the API and starts the threads that check keys.
    pub(super) fn new(
        engine: Arc<Engine>,
        config: Arc<Config>,
        (health, backups): (Arc<Health>, Arc<Backups>),
        (admin_token, sender): (&str, Sender),
        (series, document): (RouteSeries, fn() -> &'static str),
    ) -> io::Result<Self> {
        let (intake, metrics) = (engine.intake.clone(), Arc::clone(&engine.metrics));
        let data_dir = &config.storage.data_dir;
        let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.clone());
        Ok(Self {
            data_dir: data_dir.display().to_string(),
            auth: Authenticator::new(&config.keys, admin_token, intake, metrics)?,
            settings: Live::new(Settings::new(&config, RateLimits::new(&config.tiers), sender)),
            bounds: Bounds::new(&config),
            barren: moka::sync::Cache::new(BARREN_ENTRIES_MAX),
            archive_stream: SingleThread::default(),
            cors: Cors::new(&config.server.cors_origins),
            refused_admin: RefusedAdmin::default(),
            request_ids: RequestIds::default(),
            scrapes: Scrapes::default(),
            series,
            document,
            ids: Mutex::new(IdSource::after(0)),
            settings_locks: Keyed::default(),
            dead_letter_turns: Keyed::default(),
            began: Instant::now(),
            engine,
            config,
            health,
            backups,
        })
    }

    /// Applies a new configuration. Used tokens of a rate limit stay used.
    pub fn reload(&self, config: &Config, sender: Sender) {
        let limits = self.settings.get().limits.with(&config.tiers);
        self.settings.set(Settings::new(config, limits, sender));
    }

    /// Returns the flag that is set while expiring events cannot be archived.
    pub fn archive_fails(&self) -> Arc<AtomicBool> {
        self.health.archive_fails()
    }

    /// Waits for the threads that send archives and backups. Returns true if they ended in time.
    pub fn join_streams(&self, deadline: Instant) -> bool {
        let is_archive_over = self.archive_stream.join_until(deadline);
        self.backups.join_stream(deadline) && is_archive_over
    }

    /// Returns the keys used since the last call, each with the time of its last use. The caller
    /// stores these times.
    pub fn take_keys_used(&self) -> Vec<(KeyId, Timestamp)> {
        self.auth.take_used()
    }

    /// Returns an entry of the audit log about the requests without the admin token that were refused
    /// since the last entry, if their time is over, or at the end of the server (`is_last`).
    pub fn take_refused_admin(&self, is_last: bool) -> Option<NoteAudit> {
        let refused = if is_last {
            self.refused_admin.take_last()
        } else {
            self.refused_admin.take_due(self.engine.clock.uptime_ms())
        };
        let (actor, at, note) = (Actor::Unknown, Timestamp(0), refused?.note());
        Some(NoteAudit::new(AuditEntry { at, actor, origin: None, organization: None, note }))
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.engine.clock.now_ms())
    }

    /// Returns the time that due times are compared with. This time never goes back, also when the
    /// wall clock is set back.
    pub(super) fn steady(&self) -> Timestamp {
        Timestamp(self.engine.clock.steady_ms())
    }

    /// Returns the number of a new organization, key or endpoint.
    pub(super) fn new_id(&self) -> u128 {
        self.ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next(self.engine.clock.steady_ms(), random::bytes())
    }

    /// Locks the organization's settings, so that no other request changes them between a check and
    /// the change. Other organizations do not wait.
    pub(super) async fn settings_lock(&self, org: OrgNo) -> tokio::sync::OwnedMutexGuard<()> {
        self.settings_locks.of(org, tokio::sync::Mutex::default).lock_owned().await
    }

    /// Waits for the turn of a request that replays or drops many dead letters of the organization.
    /// Changes of its settings do not wait.
    pub(super) async fn dead_letter_turn(&self, org: OrgNo) -> tokio::sync::OwnedMutexGuard<()> {
        self.dead_letter_turns.of(org, tokio::sync::Mutex::default).lock_owned().await
    }
}

impl Settings {
    fn new(config: &Config, limits: RateLimits, sender: Sender) -> Self {
        let egress = EgressRules { allow: config.egress.allow_networks.clone() };
        let (trusted_proxies, retention) =
            (config.server.trusted_proxies.clone(), config.retention.clone());
        Self { limits, egress, trusted_proxies, retention, sender }
    }
}

impl Bounds {
    fn new(config: &Config) -> Self {
        let connections = config.server.max_connections as u64;
        Self {
            answers: Arc::new(Answers::new(config.server.answer_bytes_max)),
            blocking: Blocking::default(),
            waiting: Shares::new(connections, connections),
            bodies: BodyMemory::new(config.intake.queue_bytes),
            submissions: submissions(config),
            tests: Shares::new(TESTS_MAX, TESTS_PER_ORG_MAX),
        }
    }
}

/// Returns shares for as many changes as fit into the queue and into the commit group that is being
/// stored.
fn submissions(config: &Config) -> Arc<Shares<Principal>> {
    let places = config.intake.queue.saturating_add(config.intake.group_commands) as u64;
    Shares::new(places, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_organization_takes_all_places_among_what_waits_to_be_stored() {
        let places = submissions(&Config::from_toml("").unwrap());
        let all_of = |org| {
            std::iter::from_fn(|| places.take(Principal::Org(OrgNo(org)), 1).ok())
                .collect::<Vec<_>>()
        };
        let first = all_of(1);
        assert!(first.len() > 1_000);
        let second = all_of(2);
        assert!(!second.is_empty() && !all_of(3).is_empty(), "there is something left for others");
    }
}
