//! Errors as clients see them: `application/problem+json` (RFC 9457) with a stable `code`. [`Code`] is the one table; the
//! README lists it. What a client is told and what the log is told are two things.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Value, json};

use crate::commit::Refused;
use crate::model::id::EventId;
use crate::store::StateError;

macro_rules! codes {
    ($($name:ident $status:literal $code:literal $title:literal,)+) => {
        /// What went wrong, in one word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Code { $($name,)+ }

        impl Code {
            #[cfg(test)]
            pub(super) const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable word.
            pub(super) fn word(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The HTTP status that goes with it.
            pub(super) fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// A short sentence that is the same every time.
            pub(super) fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }
        }
    };
}

codes! {
    MalformedJson 400 "malformed_json" "The body is not JSON",
    ConflictingDedupId 400 "conflicting_dedup_id" "Header and body give different dedup ids",
    InvalidRequest 400 "invalid_request" "The request cannot be understood",
    Unauthorized 401 "unauthorized" "No valid API key",
    Forbidden 403 "forbidden" "The key may not do this",
    NotFound 404 "not_found" "There is no such thing",
    MethodNotAllowed 405 "method_not_allowed" "The route has no such method",
    RequestTimeout 408 "request_timeout" "The body did not come in time",
    PayloadTooLarge 413 "payload_too_large" "The body is too large",
    UnsupportedMediaType 415 "unsupported_media_type" "The content type is not understood",
    ValidationFailed 422 "validation_failed" "Some members are not as they must be",
    DedupMismatch 422 "dedup_mismatch" "The dedup id was used for another event",
    EgressBlocked 422 "egress_blocked" "Webhooks may not go there",
    LimitReached 422 "limit_reached" "There are as many as there may be",
    RateLimited 429 "rate_limited" "The rate of the organization's tier is used up",
    Internal 500 "internal" "Something broke on our side",
    Overloaded 503 "overloaded" "Too much is waiting already",
    ShuttingDown 503 "shutting_down" "The server is stopping",
    DiskFull 507 "disk_full" "The disk has no room for events",
}

/// A fault of the request: where (JSON Pointer, RFC 6901) and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) pointer: String,
    pub(super) detail: String,
}

/// An error on its way to the client.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) code: Code,
    pub(super) detail: String,
    pub(super) errors: Vec<Fault>,
    pub(super) retry_after_s: Option<u32>,
    /// Of a mismatch: the first event's id.
    pub(super) event_id: Option<EventId>,
    /// Of a wrong method: the right ones.
    pub(super) allow: Option<Box<str>>,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after_s = matches!(code, Code::Overloaded | Code::ShuttingDown | Code::DiskFull).then_some(1);
        Self { code, detail: detail.into(), errors: Vec::new(), retry_after_s, event_id: None, allow: None }
    }

    /// All faults of a request.
    pub(super) fn validation(errors: Vec<Fault>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("{} members are not as they must be", many.len()),
        };
        Self { errors, ..Self::new(Code::ValidationFailed, detail) }
    }

    /// A mistake of ours: the client learns that, the log learns which.
    pub(super) fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed");
        Self::new(Code::Internal, "the cause is in the server's log under this request id")
    }

    pub(super) fn not_found() -> Self {
        Self::new(Code::NotFound, "there is nothing under this path and id that this key could see")
    }

    /// The document.
    pub(super) fn document(&self, request_id: Option<&str>) -> Value {
        let code = self.code;
        let mut document = json!({
            "type": format!("/docs/problems#{}", code.word()),
            "title": code.title(),
            "status": code.status(),
            "detail": self.detail,
            "code": code.word(),
        });
        let Some(members) = document.as_object_mut() else { return document };
        if let Some(id) = request_id {
            members.insert("request_id".into(), json!(id));
        }
        if let Some(id) = self.event_id {
            members.insert("event_id".into(), json!(id.to_string()));
        }
        if !self.errors.is_empty() {
            let faults = self.errors.iter().map(|fault| json!({"pointer": fault.pointer, "detail": fault.detail}));
            members.insert("errors".into(), faults.collect());
        }
        document
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.word(), self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Only the status: `edge` writes the document, because it knows the request's id.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::Overloaded => Code::Overloaded,
            Refused::DiskFull => Code::DiskFull,
            Refused::ShuttingDown => Code::ShuttingDown,
        };
        Self::new(code, format!("{refused}; nothing was stored"))
    }
}

impl From<StateError> for Problem {
    fn from(error: StateError) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_lists_every_code_with_its_status() {
        let readme = include_str!("../../README.md");
        for code in Code::ALL {
            let row = format!("| `{}` | {} | {} |", code.word(), code.status(), code.title());
            assert!(readme.contains(&row), "README has no row\n{row}");
        }
    }

    #[test]
    fn a_problem_names_every_fault_and_the_request() {
        let faults = vec![Fault { pointer: "/type".into(), detail: "is required".into() }];
        let document = Problem::validation(faults).document(Some("r-1"));
        assert_eq!(document["status"], 422);
        assert_eq!(document["code"], "validation_failed");
        assert_eq!(document["request_id"], "r-1");
        assert_eq!(document["errors"][0]["pointer"], "/type");
    }
}
