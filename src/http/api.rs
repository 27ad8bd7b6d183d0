//! What every handler works with.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use actix_web::HttpRequest;
use actix_web::web;

use super::auth::{Admitted, Authenticator};
use super::error::Problem;
use super::hashing::HashingPool;
use super::limit::RateLimits;
use crate::base::clock::Clock;
use crate::base::metrics::Metrics;
use crate::base::random;
use crate::base::threads::Stop;
use crate::commit::{InboxBell, Intake};
use crate::config::Config;
use crate::journal::Reader;
use crate::model::command::Command;
use crate::model::id::{IdSource, KeyId};
use crate::model::time::Timestamp;
use crate::rules::egress::EgressRules;
use crate::store::{Outcome, Store};

/// What the application gives.
pub struct ApiParts {
    /// Settings.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Clock,
    /// The state.
    pub store: Arc<Store>,
    /// The payloads.
    pub journal: Reader,
    /// Where changes go.
    pub intake: Intake,
    /// Tells of new events.
    pub bell: InboxBell,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Set when the server stops: held requests are answered.
    pub stop: Stop,
    /// The operator's token.
    pub admin_token: String,
    /// What probes are told.
    pub health: Arc<Health>,
}

/// The HTTP front's state; one for all actix workers.
pub struct Api {
    pub(super) parts: ApiParts,
    pub(super) auth: Authenticator,
    pub(super) limits: RateLimits,
    pub(super) egress: EgressRules,
    pub(super) routes: super::edge::RouteFigures,
    pub(super) started: Instant,
    ids: Mutex<IdSource>,
}

impl Api {
    /// The front, with its hashing threads started.
    ///
    /// # Errors
    /// When there are no threads or series to be had.
    pub fn new(parts: ApiParts) -> std::io::Result<Self> {
        let keys = &parts.config.keys;
        let hashing = HashingPool::start(keys.verify_threads, keys.verify_queue)?;
        let auth = Authenticator::new(keys, hashing, &parts.admin_token);
        let routes = super::edge::RouteFigures::new(&parts.metrics).map_err(std::io::Error::other)?;
        let egress = EgressRules { allow: parts.config.egress.allow_networks.clone() };
        Ok(Self {
            parts,
            auth,
            limits: RateLimits::default(),
            egress,
            routes,
            started: Instant::now(),
            ids: Mutex::new(IdSource::after(0)),
        })
    }

    /// Keys that were used since the last call, and when.
    pub fn take_keys_used(&self) -> Vec<(KeyId, Timestamp)> {
        self.auth.take_used()
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp(self.parts.clock.now_ms())
    }

    /// A fresh id for anything but an event.
    pub(super) fn next_id(&self) -> u128 {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).next(self.now().0, random::bytes())
    }

    /// Who is calling, if they may call this route, and not too often. `cost`: events, or 1.
    pub(super) async fn admit(&self, request: &HttpRequest, cost: u64) -> Result<Admitted, Problem> {
        let admitted = self.auth.admit(self, request).await?;
        self.limits.charge(self, request, &admitted, cost)?;
        Ok(admitted)
    }

    /// Stores changes; gives an outcome for each.
    pub(super) async fn commit(&self, commands: Vec<Command>) -> Result<Vec<Outcome>, Problem> {
        Ok(self.parts.intake.submit(commands)?.outcomes().await?)
    }

    /// Stores one change.
    pub(super) async fn commit_one(&self, command: Command) -> Result<Outcome, Problem> {
        let mut outcomes = self.commit(vec![command]).await?;
        outcomes.pop().ok_or_else(|| Problem::internal("the committer gave no outcome"))
    }
}

/// Runs something that reads the disk on a thread where it may.
pub(super) async fn off_worker<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    web::block(work).await.unwrap_or_else(|error| Err(Problem::internal(error)))
}

/// What probes are told.
#[derive(Debug, Default)]
pub struct Health(AtomicU8);

const READY: u8 = 1;
const STOPPING: u8 = 2;

impl Health {
    /// Requests are served from now on.
    pub fn set_ready(&self) {
        self.0.store(READY, Ordering::SeqCst);
    }

    /// No more requests, please.
    pub fn set_stopping(&self) {
        self.0.store(STOPPING, Ordering::SeqCst);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.0.load(Ordering::SeqCst) == READY
    }
}
