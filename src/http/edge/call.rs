//! A request under way: its caller, its budget, and the functions that handlers need.

use std::cell::Cell;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, dev, web};
use serde::Serialize;

use crate::base::shares::Exhausted;
use crate::base::splice::Splice;
use crate::base::units::millis;
use crate::commands::{Drafted, Kind, Requester};
use crate::commit::{CommitError, Pending};
use crate::http::edge::auth::{Caller, Who, forbidden, suspended};
use crate::http::edge::client_address::client_address;
use crate::http::edge::handle::Handle;
use crate::http::edge::limit::{Budget, Plan, RateLimits};
use crate::http::error::{Code, Problem};
use crate::http::input::body::{self, BodyLimit};
use crate::http::input::body_memory::Reserved;
use crate::http::principal::Principal;
use crate::http::shared::Api;
use crate::model::audit::{Note, Origin};
use crate::model::id::OrgNo;
use crate::model::key::Scope;
use crate::model::org::Tier;
use crate::model::time::Timestamp;
use crate::rules::token_bucket::{Admission, Decision};
use crate::store::{Authenticated, Refusal};

/// How often a waiting request is judged again: after the end of its key, the request ends within a
/// second.
const JUDGE_EVERY: Duration = Duration::from_secs(1);
/// Size in bytes at which a page of a list ends early.
pub(in crate::http) const PAGE_BYTES_MAX: usize = 4 << 20;
/// Maximum number of tries for an answer without room.
const TRIES: usize = 4;
/// The wait between two tries.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The outcome of the command that a draft becomes.
type OutcomeOf<D> = <<D as Drafted>::Kind as Kind>::Outcome;

/// The result of a request: an answer or a problem.
pub(in crate::http) type Answer = Result<HttpResponse, Problem>;

/// A request under way, with everything a handler needs.
pub(in crate::http) struct Call {
    pub(in crate::http) api: web::Data<Api>,
    pub(in crate::http) request: HttpRequest,
    /// The body; none after [`Call::body`] has read all of it.
    pub(in crate::http) payload: dev::Payload,
    /// The permission required by the table of routes.
    pub(in crate::http) who: Who,
    pub(in crate::http) caller: Caller,
    /// The id of the request.
    pub(in crate::http) request_id: String,
    /// The time at which the request came.
    pub(in crate::http) now: Timestamp,
    /// The budget to which the request is charged.
    pub(in crate::http) budget: Budget,
    /// The last decision of the caller's rate limit, shown in the answer's headers.
    pub(in crate::http) admission: Option<Admission>,
    /// The body's share of the memory for all bodies, held until the call is over.
    pub(in crate::http) reserved: Option<Reserved>,
    /// Set when a change of this request is committed: the committer has judged the key, so the key
    /// is not judged again.
    pub(in crate::http) has_committed: Cell<bool>,
    /// The connection by which the request came.
    pub(in crate::http) connection: Handle,
}

impl Call {
    /// Begins a call, whose caller is not known yet. `now` is the time at which the request came,
    /// `request_id` the id of the request.
    pub(in crate::http) fn new(
        (api, now): (web::Data<Api>, Timestamp),
        (request, payload, request_id): (HttpRequest, dev::Payload, String),
        connection: Handle,
        (who, budget): (Who, Budget),
    ) -> Self {
        Self {
            api,
            request,
            payload,
            who,
            caller: Caller::Anyone,
            request_id,
            now,
            budget,
            admission: None,
            reserved: None,
            has_committed: Cell::new(false),
            connection,
        }
    }

    /// Returns the calling organization's key. Any other caller is refused.
    pub(in crate::http) fn key(&self) -> Result<&Authenticated, Problem> {
        match &self.caller {
            Caller::Key(key) => Ok(key),
            Caller::Admin | Caller::Anyone => Err(Problem::new(
                Code::Forbidden,
                "this route needs the API key of an organization",
            )),
        }
    }

    /// Returns the calling organization. Any other caller is refused.
    pub(in crate::http) fn org(&self) -> Result<OrgNo, Problem> {
        self.key().map(Authenticated::org_no)
    }

    /// Returns true if the caller's key has the scope.
    pub(in crate::http) fn may(&self, scope: Scope) -> bool {
        self.key().is_ok_and(|key| key.key().scopes.allows(scope))
    }

    /// Returns the principal whose share of the server this call uses.
    pub(in crate::http) fn principal(&self) -> Principal {
        match &self.caller {
            Caller::Anyone => Principal::Anyone,
            Caller::Admin => Principal::Admin,
            Caller::Key(key) => Principal::Org(key.org_no()),
        }
    }

    /// Returns the tier of the calling organization; `None` is the operator.
    pub(in crate::http) fn tier(&self) -> Option<Tier> {
        match &self.caller {
            Caller::Anyone | Caller::Admin => None,
            Caller::Key(key) => Some(key.org().tier),
        }
    }

    /// Charges the rest of a cost that was not known at admission.
    ///
    /// # Errors
    /// Fails when other requests, which began meanwhile, have used up the budget.
    pub(in crate::http) fn charge_rest(&mut self, cost: u64) -> Result<(), Problem> {
        self.charge_by(|limits, who, plan| limits.owe(who, plan, cost))
    }

    /// Charges `cost` tokens to the caller; see [`RateLimits::admit`].
    pub(in crate::http) fn charge(&mut self, cost: u64) -> Result<(), Problem> {
        self.charge_by(|limits, who, plan| limits.admit(who, plan, cost))
    }

    fn charge_by(
        &mut self,
        charge: impl FnOnce(&RateLimits, (Principal, Budget), &Plan) -> Admission,
    ) -> Result<(), Problem> {
        let principal = self.principal();
        if principal == Principal::Anyone {
            return Ok(());
        }
        let settings = self.api.settings.get();
        let limits = &settings.limits;
        let plan = limits.plan(self.tier(), self.budget);
        let admission = charge(limits, (principal, self.budget), plan);
        self.admission = Some(admission);
        match admission.decision {
            Decision::Admitted => Ok(()),
            Decision::Refused { retry_after_s } => {
                let detail = match self.budget {
                    Budget::Events => {
                        "the event budget of the organization's tier is used up; nothing was \
                         stored; wait for the seconds in Retry-After"
                    }
                    Budget::Requests => {
                        "the request budget of the organization's tier is used up; nothing was \
                         done; wait for the seconds in Retry-After"
                    }
                };
                Err(Problem::new(Code::RateLimited, detail).retry_after(retry_after_s))
            }
        }
    }

    /// Reads the whole body, of at most `bytes_max` decoded bytes.
    pub(in crate::http) async fn body(&mut self, bytes_max: usize) -> Result<web::Bytes, Problem> {
        let limit = BodyLimit { bytes_max, within: self.api.config.server.body_timeout };
        let memory = &self.api.bounds.bodies;
        let reserved = Reserved::of(memory, self.principal());
        let reserved = self.reserved.insert(reserved);
        let is_malformed = || self.connection.is_malformed();
        let read = tokio::select! {
            biased;
            read = body::read(&self.request, &mut self.payload, limit, reserved) => read,
            () = self.connection.must_make_room() => Err(Problem::new(
                Code::RequestTimeout,
                "the body arrived too slowly while the server had too many connections; nothing \
                 was stored",
            )),
        };
        let body = read.map_err(|problem| {
            if problem.code() == Code::InvalidRequest && is_malformed() {
                Problem::new(
                    Code::InvalidRequest,
                    "the body is incomplete: its chunks are malformed (RFC 9112, 7.1)",
                )
            } else {
                problem
            }
        })?;
        self.connection.body_is_read();
        self.payload = dev::Payload::None;
        Ok(body)
    }

    /// Declares that the call only waits from now on, and can be ended early: when the caller has
    /// left, or to make room for others.
    pub(in crate::http) fn waits(&self) {
        self.connection.waits();
    }

    /// Completes when nothing should wait for the caller any more.
    pub(in crate::http) async fn left(&self) {
        self.connection.left().await;
    }

    /// Awaits the caller's turn for a resource of which each organization has a share. Until then
    /// the call only waits, and can be ended early. An organization has a share of the places in
    /// which its calls wait. A call that has changed something keeps its place until its turn.
    ///
    /// # Errors
    /// Fails when too many calls of the organization wait, or when the connection must make room.
    pub(in crate::http) async fn in_line<T>(
        &self,
        turn: impl Future<Output = T>,
    ) -> Result<T, Problem> {
        let mut turn = pin!(turn);
        tokio::select! {
            biased;
            turn = &mut turn => return Ok(turn),
            () = std::future::ready(()) => {}
        }
        if self.has_committed.get() {
            return Ok(turn.await);
        }
        let _place = self.api.bounds.waiting.take(self.principal(), 1).map_err(|exhausted| {
            Problem::exhausted(
                exhausted,
                "too many requests of this organization wait for their turn; nothing was done; \
                 send the request again, with fewer at a time",
                "too many requests wait for their turn; nothing was done; send the request again",
            )
        })?;
        let _waits = self.connection.waits_meanwhile();
        tokio::select! {
            biased;
            turn = turn => Ok(turn),
            () = self.connection.must_make_room() => Err(Problem::new(
                Code::Overloaded,
                "the server had too many connections while this request waited for its turn; \
                 nothing was done; send the request again",
            )),
        }
    }

    /// Runs a job that may block, as soon as the caller has a turn.
    ///
    /// # Errors
    /// Fails like the job, or like [`Call::in_line`] before the job began.
    pub(in crate::http) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = self.in_line(self.api.bounds.blocking.turn(self.principal())).await?;
        let job = move || {
            // The turn lasts as long as the job, even if the request has ended.
            let done = job();
            drop(turn);
            done
        };
        web::block(job).await.map_err(|error| Problem::internal(&error))?
    }

    /// Runs a job that builds a large answer. Without room for the answer, the job is tried again
    /// for a moment.
    ///
    /// # Errors
    /// Fails like [`Call::run`].
    pub(in crate::http) async fn run_for_answer<T: Send + 'static>(
        &self,
        job: impl Fn() -> Result<T, Problem> + Send + Sync + 'static,
    ) -> Result<T, Problem> {
        let job = Arc::new(job);
        for _ in 1..TRIES {
            let again = Arc::clone(&job);
            match self.run(move || again()).await {
                Err(problem) if problem.code() == Code::Overloaded => {
                    self.in_line(tokio::time::sleep(TRY_AGAIN_AFTER)).await?;
                }
                done => return done,
            }
        }
        self.run(move || job()).await
    }

    /// Locks the organization's settings when the call has its turn; see [`Api::settings_lock`].
    ///
    /// # Errors
    /// Fails like [`Call::in_line`].
    pub(in crate::http) async fn settings_lock(
        &self,
        org: OrgNo,
    ) -> Result<tokio::sync::OwnedMutexGuard<()>, Problem> {
        self.in_line(self.api.settings_lock(org)).await
    }

    /// Returns the client's address, also from behind a trusted proxy.
    pub(in crate::http) fn client_address(&self) -> Option<IpAddr> {
        let peer = self.request.peer_addr()?.ip();
        Some(client_address(peer, self.request.headers(), &self.api.settings.get().trusted_proxies))
    }

    /// Returns the origin of the request, for the audit log.
    pub(in crate::http) fn origin(&self) -> Origin {
        Origin { address: self.client_address(), request_id: self.request_id.clone() }
    }

    /// Returns a path parameter, or an empty text if the route has no such parameter.
    pub(in crate::http) fn path(&self, name: &str) -> &str {
        self.request.match_info().get(name).unwrap_or_default()
    }

    /// Judges the caller's key again, as every call does after a wait: a read when its answer is
    /// ready, a change when committed.
    ///
    /// # Errors
    /// Fails when the key has ended or lost the scope meanwhile, or when the request is a change
    /// and the organization was suspended meanwhile.
    pub(in crate::http) fn judge_again(&self) -> Result<(), Problem> {
        match &self.caller {
            Caller::Key(key) => {
                let (store, now) = (&self.api.engine.store, self.api.engine.now());
                self.api.auth.judge(key.key().id, self.who.needs(), store, now)?;
                if !self.request.method().is_safe() && store.is_suspended(key.org_no())? {
                    return Err(suspended());
                }
                Ok(())
            }
            Caller::Admin | Caller::Anyone => Ok(()),
        }
    }

    /// Awaits a future while the caller is allowed to wait.
    ///
    /// # Errors
    /// Fails like [`Call::judge_again`], within a second after the end of the key.
    pub(in crate::http) async fn while_allowed<T>(
        &self,
        waiting: impl Future<Output = T>,
    ) -> Result<T, Problem> {
        let mut waiting = pin!(waiting);
        loop {
            let waited = tokio::time::timeout(JUDGE_EVERY, &mut waiting).await;
            self.judge_again()?;
            if let Ok(done) = waited {
                return Ok(done);
            }
        }
    }

    /// Commits a single change and returns its outcome.
    ///
    /// # Errors
    /// Fails when the change was refused, or when the caller's key was no longer allowed.
    pub(in crate::http) async fn commit<D: Drafted>(
        &self,
        draft: D,
    ) -> Result<OutcomeOf<D>, Problem> {
        self.committed([draft], None, Pending::outcome).await
    }

    /// Does the same as [`Call::commit`], with this entry of the audit log.
    pub(in crate::http) async fn commit_noted<D: Drafted>(
        &self,
        draft: D,
        note: Note,
    ) -> Result<OutcomeOf<D>, Problem> {
        self.committed([draft], Some(note), Pending::outcome).await
    }

    /// Commits changes of one kind together, with a note if there is one; returns each outcome.
    ///
    /// # Errors
    /// Fails like [`Call::commit`]; then none of the changes was made.
    pub(in crate::http) async fn commit_all<D: Drafted>(
        &self,
        drafts: Vec<D>,
        note: Option<Note>,
    ) -> Result<Vec<OutcomeOf<D>>, Problem> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        self.committed(drafts, note, Pending::outcomes).await
    }

    async fn committed<D: Drafted, T, F: Future<Output = Result<T, CommitError>>>(
        &self,
        drafts: impl IntoIterator<Item = D>,
        note: Option<Note>,
        wait: impl FnOnce(Pending<D::Kind>) -> F,
    ) -> Result<T, Problem> {
        let key = match &self.caller {
            Caller::Key(key) => Some(key.key().id),
            Caller::Admin => None,
            Caller::Anyone => return Err(Problem::internal(&"a change without a caller")),
        };
        let origin = (D::Kind::IS_AUDITED || note.is_some()).then(|| self.origin());
        let requester = Requester { key, needs: self.who.needs(), origin, note };
        let _place = self.api.bounds.submissions.take(self.principal(), 1).map_err(|exhausted| {
            let detail = match exhausted {
                Exhausted::OfOne => {
                    "too many changes of this organization wait to be stored; this change was not \
                     stored; send it again"
                }
                Exhausted::InAll => {
                    "too many changes wait to be stored; this change was not stored; send it again"
                }
            };
            Problem::new(Code::Overloaded, detail)
        })?;
        let problem = |error| match error {
            CommitError::Refused(refused) => refused.into(),
            CommitError::NotAllowed(Refusal::NotAuthorized) => self.api.auth.refused(),
            CommitError::NotAllowed(Refusal::Forbidden) => forbidden(),
            CommitError::NotAllowed(Refusal::Suspended) => suspended(),
        };
        let pending =
            self.api.engine.intake.submit_requested(drafts, requester).map_err(problem)?;
        let outcomes = wait(pending).await.map_err(problem)?;
        self.has_committed.set(true);
        Ok(outcomes)
    }

    /// Returns the deduplication window in milliseconds.
    pub(in crate::http) fn dedup_window_ms(&self) -> u64 {
        millis(self.api.config.dedup.window)
    }
}

/// Builds an answer with a JSON body.
pub(in crate::http) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(body).map_err(|error| Problem::internal(&error))?;
    Ok(json_bytes(status, bytes))
}

/// Builds a page of at most `limit` items, each with the cursor behind the item. The page ends
/// early when large. `begins` is the cursor before the first item.
pub(in crate::http) fn page<T: Serialize>(
    (limit, begins): (usize, String),
    mut items: impl Iterator<Item = (String, T)>,
) -> Answer {
    let (mut data, mut last) = (Vec::new(), None);
    for (cursor, item) in items.by_ref().take(limit) {
        if last.is_some() {
            data.push(b',');
        }
        serde_json::to_writer(&mut data, &item).map_err(|error| Problem::internal(&error))?;
        last = Some(cursor);
        if data.len() >= PAGE_BYTES_MAX {
            break;
        }
    }
    let has_more = last.is_some() && items.next().is_some();
    let body = page_body(&data, has_more, &last.unwrap_or(begins))?;
    Ok(json_bytes(StatusCode::OK, body))
}

/// Builds the body of a page. `data` has the items in JSON, with commas between them.
pub(in crate::http) fn page_body(
    data: &[u8],
    has_more: bool,
    next_cursor: &str,
) -> Result<Vec<u8>, Problem> {
    #[derive(Serialize)]
    struct Next<'a> {
        has_more: bool,
        next_cursor: &'a str,
    }
    let mut body = Vec::with_capacity(data.len() + 96);
    Splice::new(&mut body)
        .list("data", data)
        .members(&Next { has_more, next_cursor })
        .map_err(|error| Problem::internal(&error))?
        .end();
    Ok(body)
}

/// Builds an answer from a body already in JSON.
pub(in crate::http) fn json_bytes(status: StatusCode, bytes: Vec<u8>) -> HttpResponse {
    HttpResponse::build(status).content_type("application/json").body(bytes)
}
