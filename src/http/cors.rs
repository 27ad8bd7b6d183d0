//! Cross-origin requests (Fetch standard, section 3.3), for the origins that the configuration names; none by default.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};

use super::Api;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PATCH, DELETE");
const HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, idempotency-key, traceparent, x-api-key, x-request-id");
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "retry-after, ratelimit, ratelimit-policy, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, x-request-id",
);
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("600");

pub(super) async fn cors(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(origin) = allowed_origin(&request) else { return Ok(next.call(request).await?.map_into_boxed_body()) };
    let asks_first = request.method() == Method::OPTIONS && has(&request, header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut answer = if asks_first {
        let mut answer = request.into_response(HttpResponse::NoContent().finish());
        let headers = answer.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
        answer
    } else {
        next.call(request).await?.map_into_boxed_body()
    };
    allow(answer.headers_mut(), origin);
    Ok(answer)
}

fn has(request: &ServiceRequest, name: HeaderName) -> bool {
    request.headers().contains_key(name)
}

/// The request's origin, if the configuration names it (or all of them).
fn allowed_origin(request: &ServiceRequest) -> Option<HeaderValue> {
    let origin = request.headers().get(header::ORIGIN)?;
    let api = request.app_data::<web::Data<Api>>()?;
    let allowed = &api.parts.config.server.cors_origins;
    allowed.iter().any(|known| known == "*" || known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}
