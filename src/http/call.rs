//! One request on its way through the room: who is calling, and what the handlers ask of it.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, dev, web};
use serde::Serialize;

use super::Api;
use super::auth::Caller;
use super::body::{self, BodyLimit, Room};
use super::error::{Code, Problem};
use super::limit::{Budget, Payer};
use crate::model::command::Command;
use crate::model::id::OrgNo;
use crate::model::org::Tier;
use crate::model::time::Timestamp;
use crate::rules::token_bucket::{Admission, Decision};
use crate::store::{Authenticated, Outcome};

/// What becomes of a request.
pub(super) type Answer = Result<HttpResponse, Problem>;

/// A request.
pub(super) struct Call {
    pub(super) api: web::Data<Api>,
    pub(super) request: HttpRequest,
    pub(super) payload: dev::Payload,
    pub(super) caller: Caller,
    /// When it came.
    pub(super) now: Timestamp,
    /// What the request is charged to.
    pub(super) budget: Budget,
    /// What the caller's rate limit said last.
    pub(super) admission: Option<Admission>,
    /// The body's part of what all bodies may take in memory, held until the call is over.
    pub(super) room: Option<Room>,
}

impl Call {
    /// The calling organization's key.
    pub(super) fn key(&self) -> Result<&Authenticated, Problem> {
        match &self.caller {
            Caller::Key(key) => Ok(key),
            Caller::Admin | Caller::Anyone => {
                Err(Problem::new(Code::Forbidden, "this is for the key of an organization"))
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
        let limits = &self.api.limits;
        self.admission = Some(limits.owe((self.payer(), self.budget), limits.plan(self.tier(), self.budget), cost));
    }

    /// Charges the caller; see [`super::limit::RateLimits::admit`].
    pub(super) fn charge(&mut self, cost: u64) -> Result<(), Problem> {
        let payer = self.payer();
        if payer == Payer::Anyone {
            return Ok(());
        }
        let limits = &self.api.limits;
        let admission = limits.admit((payer, self.budget), limits.plan(self.tier(), self.budget), cost);
        self.admission = Some(admission);
        match admission.decision {
            Decision::Admitted => Ok(()),
            Decision::Refused { retry_after_s } => {
                let detail = match self.budget {
                    Budget::Events => "the organization's tier allows no more events now; nothing was stored",
                    Budget::Requests => "the organization's tier allows no more requests now; nothing was done",
                };
                Err(Problem::new(Code::RateLimited, detail).retry_after(retry_after_s))
            }
        }
    }

    /// The body, whole.
    pub(super) async fn body(&mut self, bytes_max: usize) -> Result<web::Bytes, Problem> {
        let limit = BodyLimit { bytes_max, within: self.api.config.server.body_timeout };
        let room = self.room.insert(Room::of(&self.api.bodies, self.payer()));
        body::read(&self.request, &mut self.payload, limit, room).await
    }

    /// A path parameter.
    pub(super) fn path(&self, name: &str) -> &str {
        self.request.match_info().get(name).unwrap_or_default()
    }

    /// Makes one change durable and gives what became of it.
    pub(super) async fn commit(&self, command: Command) -> Result<Outcome, Problem> {
        let outcomes = self.api.intake.submit(vec![command])?.outcomes().await?;
        outcomes.into_iter().next().ok_or_else(|| Problem::internal(&"a command without outcome"))
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

/// A JSON answer that is written already.
pub(super) fn json_bytes(status: StatusCode, bytes: Vec<u8>) -> HttpResponse {
    HttpResponse::build(status).content_type("application/json").body(bytes)
}

/// An outcome that its command cannot have.
pub(super) fn unexpected(outcome: &Outcome) -> Problem {
    Problem::internal(&format_args!("unexpected outcome {outcome:?}"))
}
