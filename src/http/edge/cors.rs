//! The web pages that may call the API (Fetch standard, CORS protocol). Without configured origins,
//! no answer has CORS headers.

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderMap, HeaderValue, ORIGIN, VARY,
};

const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Content-Type, Content-Encoding, X-API-Key, Authorization, Idempotency-Key, X-Request-Id, \
     traceparent, ce-specversion, ce-id, ce-source, ce-type, ce-time, ce-subject",
);
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy, X-RateLimit-Limit, \
     X-RateLimit-Remaining, X-RateLimit-Reset",
);
/// How long a browser may remember the answer to a preflight, in seconds.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("600");

/// The web pages that may call the API.
#[derive(Debug)]
pub(in crate::http) enum Cors {
    /// Pages of every origin may call.
    Any,
    /// Pages of these origins may call.
    Origins(Vec<String>),
}

impl Cors {
    pub(in crate::http) fn new(origins: &[String]) -> Option<Self> {
        match origins {
            [] => None,
            [any] if any == "*" => Some(Self::Any),
            origins => Some(Self::Origins(origins.to_vec())),
        }
    }

    /// Returns the answer to a preflight request, or `None` for any other request and for other
    /// origins.
    pub(in crate::http) fn preflight(
        &self,
        method: &Method,
        headers: &HeaderMap,
        allow: &str,
    ) -> Option<HttpResponse> {
        let asks =
            *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !asks || !self.allows(headers.get(ORIGIN)?) {
            return None;
        }
        let mut answer = HttpResponse::NoContent();
        answer.insert_header((ACCESS_CONTROL_ALLOW_METHODS, allow));
        answer.insert_header((ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS));
        answer.insert_header((ACCESS_CONTROL_MAX_AGE, MAX_AGE_S));
        Some(answer.finish())
    }

    /// Marks an answer as readable for the calling page, if its origin is allowed.
    pub(in crate::http) fn mark(&self, asked: &HeaderMap, answer: &mut HeaderMap) {
        let allowed = match self {
            Self::Any => HeaderValue::from_static("*"),
            Self::Origins(_) => {
                answer.append(VARY, HeaderValue::from_static("Origin"));
                match asked.get(ORIGIN).filter(|origin| self.allows(origin)) {
                    Some(origin) => origin.clone(),
                    None => return,
                }
            }
        };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::Origins(origins) => {
                origins.iter().any(|known| known.as_bytes() == origin.as_bytes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static(origin));
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        headers
    }

    #[test]
    fn only_pages_of_configured_origins_may_call() {
        assert!(Cors::new(&[]).is_none());
        let cors = Cors::new(&["https://a.example".to_owned()]).unwrap();
        let (ours, other) = (asked("https://a.example"), asked("https://b.example"));
        let answer = cors.preflight(&Method::OPTIONS, &ours, "POST").unwrap();
        assert_eq!(answer.headers().get(ACCESS_CONTROL_ALLOW_METHODS).unwrap(), "POST");
        assert!(cors.preflight(&Method::OPTIONS, &other, "POST").is_none());
        assert!(cors.preflight(&Method::POST, &ours, "POST").is_none());
        let mut marked = HeaderMap::new();
        cors.mark(&other, &mut marked);
        assert!(!marked.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) && marked.contains_key(VARY));
        cors.mark(&ours, &mut marked);
        assert_eq!(marked.get(ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), "https://a.example");
        let any = Cors::new(&["*".to_owned()]).unwrap();
        let mut marked = HeaderMap::new();
        any.mark(&other, &mut marked);
        assert_eq!(marked.get(ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), "*");
    }
}
