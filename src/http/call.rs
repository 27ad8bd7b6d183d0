//! One request on its way through the room: who is calling, and what the handlers ask of it.

use std::cell::Cell;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, dev, web};
use serde::Serialize;

use super::Api;
use super::auth::{Caller, forbidden};
use super::body::{self, BodyLimit, Room};
use super::client_address::client_address;
use super::connection::Handle;
use super::error::{Code, Problem};
use super::limit::{Budget, Payer};
use super::routes::Who;
use crate::base::shares::Exhausted;
use crate::commands::Submitted;
use crate::commit::{CommitError, Pending};
use crate::model::authority::Authority;
use crate::model::id::OrgNo;
use crate::model::key::Scopes;
use crate::model::org::Tier;
use crate::model::time::Timestamp;
use crate::rules::token_bucket::{Admission, Decision};
use crate::store::{Authenticated, Refusal};

/// How often a request that waits is judged again: what ends a key ends it within a second.
const JUDGE_EVERY: Duration = Duration::from_secs(1);
/// A page of a list ends early when it has so many bytes.
pub(super) const PAGE_BYTES_MAX: usize = 4 << 20;

/// When there may be a place among what waits to be stored again, in seconds.
const PLACE_RETRY_AFTER_S: u64 = 1;

/// What becomes of a request.
pub(super) type Answer = Result<HttpResponse, Problem>;

/// A request.
pub(super) struct Call {
    pub(super) api: web::Data<Api>,
    pub(super) request: HttpRequest,
    pub(super) payload: dev::Payload,
    /// Who may, as the table of routes says.
    pub(super) who: Who,
    pub(super) caller: Caller,
    /// When it came.
    pub(super) now: Timestamp,
    /// What the request is charged to.
    pub(super) budget: Budget,
    /// What the caller's rate limit said last.
    pub(super) admission: Option<Admission>,
    /// The body's part of what all bodies may take in memory, held until the call is over.
    pub(super) room: Option<Room>,
    /// Whether a change that it asks for was decided on: then that was judged when it was made.
    pub(super) has_committed: Cell<bool>,
    /// The connection it came by.
    pub(super) connection: Handle,
}

impl Call {
    /// The calling organization's key.
    pub(super) fn key(&self) -> Result<&Authenticated, Problem> {
        match &self.caller {
            Caller::Key(key) => Ok(key),
            Caller::Admin | Caller::Anyone => {
                Err(Problem::new(Code::Forbidden, "this route needs the key of an organization"))
            }
        }
    }

    /// The calling organization.
    pub(super) fn org(&self) -> Result<OrgNo, Problem> {
        self.key().map(Authenticated::org_no)
    }

    /// Whose share of the server this call uses.
    pub(super) fn payer(&self) -> Payer {
        match &self.caller {
            Caller::Anyone => Payer::Anyone,
            Caller::Admin => Payer::Admin,
            Caller::Key(key) => Payer::Org(key.org_no()),
        }
    }

    fn tier(&self) -> Option<Tier> {
        match &self.caller {
            Caller::Anyone | Caller::Admin => None,
            Caller::Key(key) => Some(key.org().tier),
        }
    }

    /// Charges what a call that was admitted costs beyond what it was charged when it began.
    pub(super) fn charge_rest(&mut self, cost: u64) {
        let limits = self.api.limits.get();
        self.admission = Some(limits.owe((self.payer(), self.budget), limits.plan(self.tier(), self.budget), cost));
    }

    /// Charges the caller; see [`super::limit::RateLimits::admit`].
    pub(super) fn charge(&mut self, cost: u64) -> Result<(), Problem> {
        let payer = self.payer();
        if payer == Payer::Anyone {
            return Ok(());
        }
        let limits = self.api.limits.get();
        let admission = limits.admit((payer, self.budget), limits.plan(self.tier(), self.budget), cost);
        self.admission = Some(admission);
        match admission.decision {
            Decision::Admitted => Ok(()),
            Decision::Refused { retry_after_s } => {
                let detail = match self.budget {
                    Budget::Events => "the event budget of the organization's tier is used up; nothing was stored",
                    Budget::Requests => "the request budget of the organization's tier is used up; nothing was done",
                };
                Err(Problem::new(Code::RateLimited, detail).retry_after(retry_after_s))
            }
        }
    }

    /// The body, whole.
    pub(super) async fn body(&mut self, bytes_max: usize) -> Result<web::Bytes, Problem> {
        let limit = BodyLimit { bytes_max, within: self.api.config.server.body_timeout };
        let room = self.room.insert(Room::of(&self.api.bodies, self.payer()));
        let is_malformed = || self.connection.is_malformed();
        let body = body::read(&self.request, &mut self.payload, limit, room).await.map_err(|problem| {
            if problem.code() == Code::InvalidRequest && is_malformed() {
                Problem::new(Code::InvalidRequest, "the body is incomplete: the chunks cannot be read (RFC 9112, 7.1)")
            } else {
                problem
            }
        })?;
        self.connection.body_is_read();
        Ok(body)
    }

    /// The call does nothing but wait from now on, and can be ended early: when the caller has left, or for others.
    pub(super) fn waits(&self) {
        self.connection.waits();
    }

    /// Completes when nothing should wait for the caller any more.
    pub(super) async fn left(&self) {
        self.connection.left().await;
    }

    /// Where the request comes from: the client's address, also behind a proxy that is trusted.
    pub(super) fn client_address(&self) -> Option<IpAddr> {
        let peer = self.request.peer_addr()?.ip();
        Some(client_address(peer, self.request.headers(), &self.api.trusted_proxies.get()))
    }

    /// A path parameter.
    pub(super) fn path(&self, name: &str) -> &str {
        self.request.match_info().get(name).unwrap_or_default()
    }

    /// What the caller's key must be allowed to do.
    fn needs(&self) -> Scopes {
        match self.who {
            Who::Scope(scope) | Who::AdminOr(scope) => scope.into(),
            Who::AnyKey | Who::Public => Scopes::none(),
        }
    }

    /// Whether the caller still may: for everything that waits, before it goes on. What a request reads is judged once more
    /// when its answer is ready, and what it changes when the change is made.
    ///
    /// # Errors
    /// When the key has ended meanwhile, or has lost the scope.
    pub(super) fn judge_again(&self) -> Result<(), Problem> {
        match &self.caller {
            Caller::Key(key) => self.api.auth.judge(key.key().id, self.needs(), &self.api.store, self.api.now()),
            Caller::Admin | Caller::Anyone => Ok(()),
        }
    }

    /// Waits as long as the caller may.
    ///
    /// # Errors
    /// See [`Call::judge_again`]; within a second after it is so.
    pub(super) async fn while_allowed<T>(&self, waiting: impl Future<Output = T>) -> Result<T, Problem> {
        let mut waiting = pin!(waiting);
        loop {
            let waited = tokio::time::timeout(JUDGE_EVERY, &mut waiting).await;
            self.judge_again()?;
            if let Ok(done) = waited {
                return Ok(done);
            }
        }
    }

    /// Makes one change durable and gives its outcome.
    ///
    /// # Errors
    /// When it was refused, or the caller may not make it any more by then.
    pub(super) async fn commit<K: Submitted>(&self, command: K) -> Result<K::Outcome, Problem> {
        self.committed([command], Pending::outcome).await
    }

    /// Makes changes of one kind durable, all together, and gives the outcome of each.
    ///
    /// # Errors
    /// When they were refused, or the caller may not make them any more by then: then there was none of them.
    pub(super) async fn commit_all<K: Submitted>(&self, commands: Vec<K>) -> Result<Vec<K::Outcome>, Problem> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        self.committed(commands, Pending::outcomes).await
    }

    async fn committed<K: Submitted, T, F: Future<Output = Result<T, CommitError>>>(
        &self,
        commands: impl IntoIterator<Item = K>,
        wait: impl FnOnce(Pending<K>) -> F,
    ) -> Result<T, Problem> {
        let key = match &self.caller {
            Caller::Key(key) => Some(key.key().id),
            Caller::Admin => None,
            Caller::Anyone => return Err(Problem::internal(&"a change without a caller")),
        };
        // The committer says when.
        let authority = Authority { key, needs: self.needs(), at: Timestamp(0) };
        let _place = self.api.submissions.take(self.payer(), 1).map_err(|exhausted| {
            let detail = match exhausted {
                Exhausted::OfOne => {
                    "too many changes of this organization wait to be stored; this change was not stored"
                }
                Exhausted::InAll => "too many changes wait to be stored; this change was not stored",
            };
            Problem::new(Code::Overloaded, detail).retry_after(PLACE_RETRY_AFTER_S)
        })?;
        let pending = self.api.intake.submit_requested(commands, authority)?;
        let outcomes = wait(pending).await.map_err(|error| match error {
            CommitError::Refused(refused) => refused.into(),
            CommitError::NotAllowed(Refusal::NotAuthorized) => self.api.auth.refused(),
            CommitError::NotAllowed(Refusal::Forbidden) => forbidden(),
        })?;
        self.has_committed.set(true);
        Ok(outcomes)
    }

    /// How long a dedup id counts.
    pub(super) fn dedup_window_ms(&self) -> u64 {
        milliseconds(self.api.config.dedup.window)
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(body).map_err(|error| Problem::internal(&error))?;
    Ok(json_bytes(status, bytes))
}

/// A page of a list: as many of these as there may be, each with the cursor behind it; `begins` is the cursor before all of them. It
/// ends early when it gets large.
pub(super) fn page<T: Serialize>(
    (limit, begins): (usize, String),
    mut items: impl Iterator<Item = (String, T)>,
) -> Answer {
    let mut body = b"{\"data\":[".to_vec();
    let mut last = None;
    for (cursor, item) in items.by_ref().take(limit) {
        if last.is_some() {
            body.push(b',');
        }
        serde_json::to_writer(&mut body, &item).map_err(|error| Problem::internal(&error))?;
        last = Some(cursor);
        if body.len() >= PAGE_BYTES_MAX {
            break;
        }
    }
    let has_more = last.is_some() && items.next().is_some();
    let rest = serde_json::json!({ "has_more": has_more, "next_cursor": last.unwrap_or(begins) }).to_string();
    body.extend_from_slice(b"],");
    body.extend_from_slice(rest.trim_start_matches('{').as_bytes());
    Ok(json_bytes(StatusCode::OK, body))
}

/// A JSON answer that is written already.
pub(super) fn json_bytes(status: StatusCode, bytes: Vec<u8>) -> HttpResponse {
    HttpResponse::build(status).content_type("application/json").body(bytes)
}
