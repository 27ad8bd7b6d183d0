//! What every request and answer has in common: an id, rate-limit headers, problem documents, figures, a line in the log.

use std::collections::HashMap;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, HttpResponse, web};

use super::Api;
use super::error::{Code, Problem};
use super::limit::RateState;
use super::routes::{ROUTES, RouteRow};
use crate::base::metrics::{HttpRoute, Metrics, MetricsError, Rejection, UNMATCHED_ROUTE};
use crate::base::random;
use crate::model::id::encode_base32;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_CHARS_MAX: usize = 128;

/// The routes with their series.
pub(super) struct RouteFigures {
    by_path: HashMap<&'static str, Vec<(&'static RouteRow, HttpRoute)>>,
    unmatched: HttpRoute,
}

impl RouteFigures {
    pub(super) fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        let mut by_path: HashMap<_, Vec<_>> = HashMap::new();
        for route in ROUTES {
            by_path.entry(route.path).or_default().push((route, metrics.http_route(route.method, route.path)?));
        }
        Ok(Self { by_path, unmatched: metrics.http_route("", UNMATCHED_ROUTE)? })
    }

    fn find(&self, request: &ServiceRequest) -> Option<&(&'static RouteRow, HttpRoute)> {
        let methods = self.by_path.get(request.match_pattern()?.as_str())?;
        methods.iter().find(|(row, _)| row.method == request.method().as_str())
    }
}

pub(super) async fn edge(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let began = Instant::now();
    let id = request_id(&request);
    let Some(api) = request.app_data::<web::Data<Api>>().cloned() else {
        return Err(Problem::internal("the application has no state").into());
    };
    let matched = api.routes.find(&request);
    if let Some((row, _)) = matched {
        request.extensions_mut().insert(row.access);
    }
    let answer = next.call(request).await?.map_into_boxed_body();
    let mut answer = render_problem(&api, answer, &id);
    add_headers(&mut answer, &id);
    let (request, status) = (answer.request(), answer.status().as_u16());
    let figures = matched.map_or(&api.routes.unmatched, |(_, figures)| figures);
    figures.answered(status, began.elapsed());
    let took_us = began.elapsed().as_micros();
    if status >= 500 {
        tracing::warn!(request_id = id, method = %request.method(), path = request.path(), status, took_us, "request failed");
    } else {
        tracing::debug!(request_id = id, method = %request.method(), path = request.path(), status, took_us, "request");
    }
    Ok(answer)
}

/// The caller's id if it is sane, else a new one.
fn request_id(request: &ServiceRequest) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let sane = |text: &&str| {
        let known = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        (1..=REQUEST_ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(known)
    };
    if let Some(given) = given.filter(sane) {
        return given.to_owned();
    }
    // A trace that the request belongs to is the better id to search by (W3C Trace Context: version-trace-parent-flags).
    let trace = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let trace = trace.and_then(|text| text.split('-').nth(1)).filter(|id| id.len() == 32).filter(sane);
    trace.map_or_else(fresh_id, str::to_owned)
}

fn fresh_id() -> String {
    let characters = encode_base32(u128::from_be_bytes(random::bytes()));
    format!("req_{}", str::from_utf8(&characters).unwrap_or_default())
}

fn render_problem(api: &Api, answer: ServiceResponse, id: &str) -> ServiceResponse {
    let Some(problem) = answer.response().error().and_then(|error| error.as_error::<Problem>()).cloned() else {
        return answer;
    };
    if answer.request().path().starts_with("/api/events") {
        count_rejection(&api.parts.metrics, problem.code);
    }
    let mut response = HttpResponse::build(answer.status());
    response.content_type("application/problem+json");
    if let Some(seconds) = problem.retry_after_s {
        response.insert_header((header::RETRY_AFTER, seconds.to_string()));
    }
    if let Some(allow) = &problem.allow {
        response.insert_header((header::ALLOW, allow.as_ref()));
    }
    if problem.code == Code::Unauthorized {
        response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
    }
    if matches!(problem.code, Code::PayloadTooLarge | Code::RequestTimeout) {
        response.force_close(); // the rest of the body is not wanted
    }
    answer.into_response(response.body(problem.document(Some(id)).to_string()))
}

pub(super) fn count_rejection(metrics: &Metrics, code: Code) {
    let reason = match code {
        Code::MalformedJson => Rejection::Malformed,
        Code::ConflictingDedupId | Code::InvalidRequest | Code::ValidationFailed | Code::RequestTimeout => {
            Rejection::Validation
        }
        Code::Unauthorized | Code::Forbidden => Rejection::Unauthorized,
        Code::PayloadTooLarge => Rejection::TooLarge,
        Code::UnsupportedMediaType => Rejection::UnsupportedMediaType,
        Code::DedupMismatch => Rejection::Mismatch,
        Code::RateLimited => Rejection::RateLimited,
        Code::Overloaded => Rejection::Overloaded,
        Code::ShuttingDown => Rejection::ShuttingDown,
        Code::DiskFull => Rejection::DiskFull,
        Code::NotFound | Code::MethodNotAllowed | Code::EgressBlocked | Code::LimitReached | Code::Internal => return,
    };
    metrics.events_rejected.of(reason).inc();
}

fn add_headers(answer: &mut ServiceResponse, id: &str) {
    let rate = answer.request().extensions_mut().remove::<RateState>();
    let headers = answer.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(rate) = rate {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        rate.write(headers);
    }
}
