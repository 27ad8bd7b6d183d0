//! The steps common to all requests and answers: request id, authentication, rate limit, security
//! and CORS headers, metrics, and a line in the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, MessageBody as _};
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{ConnectionType, Method, Version};
use actix_web::{HttpRequest, HttpResponse, dev, web};

use crate::http::edge::answers::sent_in_pieces;
use crate::http::edge::audit::{self, RefusedRequest};
use crate::http::edge::auth::{Who, permit, permit_change};
use crate::http::edge::call::{Answer, Call};
use crate::http::edge::handle::Handle;
use crate::http::edge::limit::Budget;
use crate::http::edge::request_id::{REQUEST_ID, sane};
use crate::http::edge::route::{Cost, Route};
use crate::http::error::{Code, Problem};
use crate::http::input::body;
use crate::http::input::query::Query;
use crate::http::shared::Api;

/// Maximum length of a `traceparent` in the log, in bytes. W3C Trace Context, version 00, has 55
/// characters; later versions may be longer.
const TRACEPARENT_BYTES_MAX: usize = 128;
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The result of matching a request against the table of routes.
#[derive(Clone)]
pub(in crate::http) enum Target {
    /// A known route, with its index in the table.
    Route(usize, &'static Route),
    /// A known path without this method; the text lists the allowed methods.
    WrongMethod(Arc<str>),
    /// A path that is not in the table.
    Unknown,
}

impl Target {
    /// Returns the permission that the target needs, and the budget that pays for the request.
    fn terms(&self) -> (Who, Budget) {
        match self {
            Self::Route(_, route) if route.takes_events() => (route.who, Budget::Events),
            Self::Route(_, route) => (route.who, Budget::Requests),
            Self::WrongMethod(_) | Self::Unknown => (Who::Public, Budget::Requests),
        }
    }
}

/// Handles a request and returns the complete answer.
pub(in crate::http) async fn serve(
    api: web::Data<Api>,
    target: Target,
    request: HttpRequest,
    payload: dev::Payload,
) -> HttpResponse {
    let began = Instant::now();
    let request_id = api.request_ids.of(request.headers());
    let now = api.now();
    let Some(connection) = request.conn_data::<Handle>().cloned() else {
        tracing::error!(request_id, "the request arrived on an unknown connection");
        return Problem::internal(&"an unknown connection").render(&request_id);
    };
    let in_hand = connection.begin(&request);
    let mut call =
        Call::new((api, now), (request, payload, request_id), connection, target.terms());
    let (mut response, problem) = match answer(&target, &mut call).await {
        Ok(response) => (response, None),
        Err(problem) => (problem.render(&call.request_id), Some(problem)),
    };
    debug_assert!(
        is_declared(&target, response.status().as_u16(), problem.as_ref()),
        "the operation of the route does not declare its answer"
    );
    decorate(&call, response.headers_mut());
    call.connection.leave_if_crowded();
    if call.connection.is_leaving() {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    let is_ended_by_close = ends_by_close(&call.request, &response);
    if is_ended_by_close {
        response.head_mut().no_chunking(true);
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    note(&call, &target, problem.as_ref());
    log(&call, &target, (response.status().as_u16(), began.elapsed()), problem.as_ref());
    sent_in_pieces(response, in_hand, is_ended_by_close)
}

/// True if only the end of the connection can end the answer: a client of HTTP/1.0 knows no chunks.
fn ends_by_close(request: &HttpRequest, response: &HttpResponse) -> bool {
    request.version() < Version::HTTP_11 && response.body().size() == BodySize::Stream
}

/// True if the route's operation declares the answer, so that the OpenAPI document has it.
fn is_declared(target: &Target, status: u16, problem: Option<&Problem>) -> bool {
    let Target::Route(_, route) = target else { return true };
    let is_declared = route.declares(status, problem.map(Problem::code));
    if !is_declared {
        let (method, code) = (route.verb.name(), problem.map(|problem| problem.code().word()));
        tracing::error!(method, path = route.path, status, code, "an answer is not declared");
    }
    is_declared
}

/// Makes the answer of the target, which has its share of the memory for answers.
async fn answer(target: &Target, call: &mut Call) -> Answer {
    let answer = match target {
        Target::Route(_, route) => match admit(route, call).await {
            Ok(()) => handle(route, call).await,
            Err(problem) => without_body(call, Err(problem)).await,
        },
        Target::WrongMethod(allow) => without_body(call, wrong_method(call, allow)).await,
        Target::Unknown => {
            let detail = "there is no route with this path; check the path of the request";
            without_body(call, Err(Problem::not_found(detail))).await
        }
    };
    if let Err(problem) = &answer
        && lacks_its_body(&call.request, problem)
    {
        call.connection.is_last();
    }
    call.api.bounds.answers.admit(call.principal(), answer?, call.has_committed.get())
}

/// Checks whether the route serves this caller now.
async fn admit(route: &Route, call: &mut Call) -> Result<(), Problem> {
    if route.takes_events() {
        // This check comes first: a refusal must cost little, or nothing is left for the others.
        call.api.engine.intake.welcomes_events()?;
    }
    if route.who == Who::Public {
        return Ok(());
    }
    call.caller = call
        .api
        .auth
        .caller(call.request.headers(), &call.api.engine.store, || call.api.engine.now())
        .await?;
    call.charge(match route.cost {
        Cost::One => 1,
        Cost::ByHandler => 0,
    })?;
    permit(route.who, &call.caller)?;
    permit_change(call.request.method(), &call.caller)?;
    if route.operation.query.is_some() {
        return Ok(());
    }
    Query::read(call.request.query_string()).finish()
}

/// Runs the handler of a route. A caller whose key has ended meanwhile gets no other answer than
/// that, whether the request succeeded or has faults.
async fn handle(route: &Route, call: &mut Call) -> Answer {
    let answer = (route.handler)(call).await;
    let answer = without_body(call, answer).await;
    // The request may have waited for a body, a lock, a thread or an event. A committed change was
    // judged by the committer, so its outcome is answered. An internal error is kept for the log.
    let is_kept = |code| matches!(code, Code::Unauthorized | Code::Internal);
    let is_judged =
        call.has_committed.get() || matches!(&answer, Err(problem) if is_kept(problem.code()));
    if !is_judged {
        call.judge_again()?;
    }
    answer
}

/// Reads the part of the body that no handler has read, and returns the answer.
async fn without_body(call: &mut Call, answer: Answer) -> Answer {
    // A body that was too slow is not awaited again.
    let is_over = matches!(call.payload, dev::Payload::None)
        || matches!(&answer, Err(problem) if problem.code() == Code::RequestTimeout);
    if !is_over {
        tokio::select! {
            biased;
            () = body::drain(&call.request, &mut call.payload) => {}
            () = call.connection.must_make_room() => {}
        }
    }
    answer
}

/// True if a request, refused for good, seems to have an unannounced body. The bytes behind its
/// head are then not a request.
fn lacks_its_body(request: &HttpRequest, problem: &Problem) -> bool {
    let (headers, status) = (request.headers(), problem.code().status());
    let is_refused = (400..500).contains(&status) && problem.code() != Code::RateLimited;
    let can_have_one = matches!(*request.method(), Method::POST | Method::PATCH | Method::PUT);
    let announces_one =
        headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING);
    let seems_to_have_one =
        headers.contains_key(CONTENT_TYPE) || problem.code() == Code::MalformedJson;
    is_refused && can_have_one && !announces_one && seems_to_have_one
}

fn wrong_method(call: &Call, allow: &str) -> Answer {
    let cors = call.api.cors.as_ref();
    let preflight =
        cors.and_then(|cors| cors.preflight(call.request.method(), call.request.headers(), allow));
    preflight.ok_or_else(|| Problem::method_not_allowed(allow))
}

/// Adds the headers common to all answers.
fn decorate(call: &Call, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_str(&call.request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(cors) = &call.api.cors {
        cors.mark(call.request.headers(), headers);
    }
    // Only a known caller was admitted.
    let Some(admission) = &call.admission else { return };
    let settings = call.api.settings.get();
    let plan = settings.limits.plan(call.tier(), call.budget);
    headers.insert(RATE_LIMIT_POLICY, plan.policy.clone());
    if let Some(situation) = plan.situation(admission) {
        headers.insert(RATE_LIMIT, situation);
    }
    headers.insert(X_LIMIT, admission.limit.into());
    headers.insert(X_REMAINING, admission.remaining.into());
    headers.insert(X_RESET, admission.reset_s.into());
}

/// Counts refused requests to the routes that take events.
fn note(call: &Call, target: &Target, problem: Option<&Problem>) {
    if let (Target::Route(_, route), Some(problem)) = (target, problem)
        && route.takes_events()
        && let Some(reason) = problem.code().rejection()
    {
        call.api.engine.metrics.events_rejected.of(reason).inc();
    }
}

/// Updates the metrics of the route, and logs the request: a refused one with its reason, and every
/// one at debug with its duration.
fn log(call: &Call, target: &Target, (status, took): (u16, Duration), problem: Option<&Problem>) {
    let request_id = call.request_id.as_str();
    let (series, route) = match target {
        Target::Route(number, route) => (call.api.series.matched.get(*number), route.path),
        Target::WrongMethod(_) | Target::Unknown => (None, "unmatched"),
    };
    series.unwrap_or(&call.api.series.unmatched).answered(status, took);
    let traceparent = || {
        let header = call.request.headers().get("traceparent");
        header.and_then(|value| sane(value, TRACEPARENT_BYTES_MAX))
    };
    if let Some(problem) = problem {
        let traceparent = traceparent();
        audit::refused(call, &RefusedRequest { request_id, traceparent, route, problem });
        audit::refused_admin(call, problem);
    }
    // The fields are computed only if the level is enabled.
    tracing::debug!(
        request_id,
        traceparent = traceparent(),
        address = call.client_address().map(tracing::field::display),
        method = call.request.method().as_str(),
        route,
        status,
        took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "request"
    );
}
