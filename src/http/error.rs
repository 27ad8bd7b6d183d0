//! Refusals as problem documents (RFC 9457), and the table of their codes.
//!
//! The client and the log get different texts: [`Problem::internal`] keeps its cause for the log.

use std::borrow::Cow;
use std::fmt;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::base::metrics::Rejection;
use crate::base::names::named;
use crate::base::shares::Exhausted;
use crate::commit::Refused;
use crate::model::id::{EventId, OrgId};

/// The media type of problem documents (RFC 9457).
pub(super) const PROBLEM_JSON: &str = "application/problem+json";
/// Maximum number of faults named in an answer. The answer gives only the number of all others.
const FAULTS_MAX: usize = 100;
/// Maximum length of a fault's pointer or detail in bytes: an answer must not grow with its
/// request.
const SHOWN_BYTES_MAX: usize = 512;

/// The beginning of a detail about the whole body.
const BODY: &str = "the body ";

/// The reasons for refusing a request. The word of each, which is its name in snake case, is part
/// of the API's contract.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[expect(missing_docs, reason = "the table in `row` says what each is")]
#[strum(serialize_all = "snake_case")]
pub enum Code {
    MalformedJson,
    ConflictingDedupId,
    InvalidRequest,
    Unauthorized,
    Forbidden,
    OrganizationSuspended,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    EventErased,
    OrganizationExists,
    PayloadTooLarge,
    UnsupportedMediaType,
    ValidationFailed,
    DedupMismatch,
    EgressBlocked,
    LimitReached,
    RateLimited,
    HeadTooLarge,
    Internal,
    Overloaded,
    ShuttingDown,
    DiskFull,
}

named!(Code);

impl Code {
    /// The table of codes: status and title. The word is the name of the variant.
    const fn row(self) -> (u16, &'static str) {
        match self {
            Self::MalformedJson => (400, "The body is not JSON"),
            Self::ConflictingDedupId => (400, "The request has two different deduplication ids"),
            Self::InvalidRequest => (400, "The request cannot be understood"),
            Self::Unauthorized => (401, "The API key is missing or not valid"),
            Self::Forbidden => (403, "The key does not allow this request"),
            Self::OrganizationSuspended => (403, "The organization is suspended"),
            Self::NotFound => (404, "Not found"),
            Self::MethodNotAllowed => (405, "The route does not have this method"),
            Self::RequestTimeout => (408, "The request arrived too slowly"),
            Self::EventErased => (409, "The event's payload was erased"),
            Self::OrganizationExists => (409, "An organization with this name exists"),
            Self::PayloadTooLarge => (413, "The payload or the body is too large"),
            Self::UnsupportedMediaType => (415, "Unsupported content type or encoding"),
            Self::ValidationFailed => (422, "The request has missing or wrong members"),
            Self::DedupMismatch => {
                (422, "The deduplication id was used for another type or payload")
            }
            Self::EgressBlocked => (422, "The URL is forbidden"),
            Self::LimitReached => (422, "A limit of the organization is reached"),
            Self::RateLimited => (429, "The rate limit is exceeded"),
            Self::HeadTooLarge => (431, "The head of the request is too large"),
            Self::Internal => (500, "Internal server error"),
            Self::Overloaded => (503, "The server is overloaded"),
            Self::ShuttingDown => (503, "The server is stopping"),
            Self::DiskFull => (507, "Not enough free disk space"),
        }
    }

    /// Returns the word for the code in the API.
    pub fn word(self) -> &'static str {
        self.name()
    }

    /// Returns the HTTP status of the code.
    pub const fn status(self) -> u16 {
        self.row().0
    }

    /// Returns a description in a few words.
    pub const fn title(self) -> &'static str {
        self.row().1
    }

    /// Returns the series that counts events refused with this code, or `None` if the code does not
    /// refuse an event.
    pub(super) fn rejection(self) -> Option<Rejection> {
        match self {
            Self::MalformedJson => Some(Rejection::Malformed),
            Self::ConflictingDedupId | Self::InvalidRequest | Self::ValidationFailed => {
                Some(Rejection::Validation)
            }
            Self::Unauthorized | Self::Forbidden | Self::OrganizationSuspended => {
                Some(Rejection::Unauthorized)
            }
            Self::PayloadTooLarge => Some(Rejection::TooLarge),
            Self::UnsupportedMediaType => Some(Rejection::UnsupportedMediaType),
            Self::DedupMismatch => Some(Rejection::Mismatch),
            Self::RateLimited => Some(Rejection::RateLimited),
            Self::Overloaded => Some(Rejection::Overloaded),
            Self::DiskFull => Some(Rejection::DiskFull),
            Self::ShuttingDown => Some(Rejection::ShuttingDown),
            Self::NotFound
            | Self::EventErased
            | Self::OrganizationExists
            | Self::MethodNotAllowed
            | Self::RequestTimeout
            | Self::HeadTooLarge
            | Self::EgressBlocked
            | Self::LimitReached
            | Self::Internal => None,
        }
    }
}

/// A fault of a request: its location, and the broken rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Fault {
    /// A JSON pointer into the body (RFC 6901), `?name` for a query parameter, or the name of a
    /// header.
    pub(super) pointer: String,
    #[schema(value_type = String)]
    pub(super) detail: Cow<'static, str>,
}

/// The faults found in a request. Beyond `FAULTS_MAX`, only their number is kept.
#[derive(Debug, Default)]
pub(super) struct Faults {
    named: Vec<Fault>,
    more: usize,
}

impl Faults {
    pub(super) fn add(&mut self, pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) {
        if self.named.len() < FAULTS_MAX {
            let (mut pointer, mut detail) = (pointer.into(), detail.into());
            if pointer.len() > SHOWN_BYTES_MAX {
                shorten(&mut pointer);
            }
            if detail.len() > SHOWN_BYTES_MAX {
                shorten(detail.to_mut());
            }
            self.named.push(Fault { pointer, detail });
        } else {
            self.more += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Returns a problem if there is any fault.
    pub(super) fn into_result(self) -> Result<(), Problem> {
        if self.is_empty() { Ok(()) } else { Err(Problem::faults(Code::ValidationFailed, self)) }
    }
}

/// Cuts a text to `SHOWN_BYTES_MAX` bytes and adds an ellipsis.
fn shorten(text: &mut String) {
    text.truncate(text.floor_char_boundary(SHOWN_BYTES_MAX));
    text.push('\u{2026}');
}

/// Returns the JSON pointer to the member `name` of `parent` (RFC 6901, section 3).
pub(super) fn pointer(parent: &str, name: &str) -> String {
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// A refusal: the text for the client, and the cause for the log.
#[derive(Debug)]
pub(super) struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<Fault>,
    event_id: Option<EventId>,
    organization_id: Option<OrgId>,
    retry_after_s: Option<u64>,
    allow: Option<String>,
    /// Set if the answer names the supported content coding.
    names_coding: bool,
    cause: Option<String>,
}

impl Problem {
    /// Creates a problem. A code whose cause passes by itself gets `Retry-After: 1`;
    /// [`Problem::retry_after`] sets another time.
    pub(super) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let passes = matches!(
            code,
            Code::RateLimited | Code::Overloaded | Code::ShuttingDown | Code::DiskFull
        );
        Self(Box::new(Parts {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            event_id: None,
            organization_id: None,
            retry_after_s: passes.then_some(1),
            allow: None,
            names_coding: false,
            cause: None,
        }))
    }

    /// Creates the problem for an exhausted resource: `of_one` if the caller holds its whole share,
    /// `in_all` if everything is taken.
    pub(super) fn exhausted(why: Exhausted, of_one: &'static str, in_all: &'static str) -> Self {
        match why {
            Exhausted::OfOne => Self::new(Code::RateLimited, of_one),
            Exhausted::InAll => Self::new(Code::Overloaded, in_all),
        }
    }

    /// Creates the problem for a failure of the server. The cause goes to the log only.
    pub(super) fn internal(cause: &dyn fmt::Display) -> Self {
        let mut problem = Self::new(
            Code::Internal,
            "the request failed inside the server; its log has the cause with this request_id",
        );
        problem.0.cause = Some(cause.to_string());
        problem
    }

    /// Creates the problem for a payload that the journal cannot read. The detail says how a
    /// consumer can go on in the inbox.
    pub(super) fn unreadable(event: EventId, cause: &dyn fmt::Display) -> Self {
        let detail = format!(
            "the payload of {event} cannot be read; acknowledge the event to go on to the next"
        );
        let mut problem = Self::new(Code::Internal, detail);
        problem.0.cause = Some(cause.to_string());
        problem
    }

    pub(super) fn faults(code: Code, faults: Faults) -> Self {
        let Faults { named, more } = faults;
        let total = named.len() + more;
        let mut problem = match named.as_slice() {
            [only] if more == 0 && only.pointer.is_empty() => {
                Self::new(code, format!("{BODY}{}", only.detail))
            }
            [only] if more == 0 => Self::new(code, format!("{}: {}", only.pointer, only.detail)),
            _ if more > 0 => Self::new(
                code,
                format!("the request has {total} faults; `errors` lists the first {FAULTS_MAX}"),
            ),
            _ => Self::new(code, format!("the request has {total} faults; `errors` lists them")),
        };
        problem.0.errors = named;
        problem
    }

    /// Creates a problem with a single fault.
    pub(super) fn fault(
        code: Code,
        pointer: impl Into<String>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut faults = Faults::default();
        faults.add(pointer, detail);
        Self::faults(code, faults)
    }

    pub(super) fn not_found(what: &'static str) -> Self {
        Self::new(Code::NotFound, what)
    }

    /// Creates the problem for a wrong method. `allow` lists the methods of the route, as in the
    /// header `Allow`.
    pub(super) fn method_not_allowed(allow: &str) -> Self {
        let mut problem = Self::new(
            Code::MethodNotAllowed,
            format!("this path has no such method; it allows {allow}"),
        );
        problem.0.allow = Some(allow.to_owned());
        problem
    }

    /// Creates the problem for a body or payload over its limit. `bytes` is `None` if the rest was
    /// not read, so that the size is unknown.
    pub(super) fn too_large(what: &str, bytes: Option<usize>, bytes_max: usize) -> Self {
        let detail = match bytes {
            Some(bytes) => format!("{what} has {bytes} bytes; the limit is {bytes_max} bytes"),
            None => format!("{what} has more bytes than the limit of {bytes_max} bytes"),
        };
        Self::new(Code::PayloadTooLarge, detail)
    }

    /// Creates the problem for an unsupported content coding. The answer names the supported coding
    /// (RFC 9110, 15.5.16).
    pub(super) fn unsupported_coding(coding: &[u8]) -> Self {
        let coding: String = String::from_utf8_lossy(coding).chars().take(40).collect();
        let detail = format!(
            "the header Content-Encoding must be gzip, once, or absent; {coding:?} is not possible \
             here"
        );
        let mut problem = Self::new(Code::UnsupportedMediaType, detail);
        problem.0.names_coding = true;
        problem
    }

    pub(super) fn dedup_mismatch(first: EventId) -> Self {
        let detail = format!(
            "the dedup_id belongs to {first}, whose type, payload or CloudEvents attributes \
             differ; send a new dedup_id for a new event"
        );
        let mut problem = Self::new(Code::DedupMismatch, detail);
        problem.0.event_id = Some(first);
        problem
    }

    pub(super) fn organization_exists(existing: OrgId, advice: &'static str) -> Self {
        let detail = format!("{existing} has this name; {advice}");
        let mut problem = Self::new(Code::OrganizationExists, detail);
        problem.0.organization_id = Some(existing);
        problem
    }

    /// Makes the problem of an item in a batch, which is not the whole body.
    pub(super) fn of_item(mut self) -> Self {
        if let Some(rest) = self.0.detail.strip_prefix(BODY) {
            self.0.detail = format!("the item {rest}").into();
        }
        self
    }

    /// Sets the wait before the next try, in whole seconds, at least 1.
    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after_s = Some(seconds.max(1));
        self
    }

    pub(super) fn code(&self) -> Code {
        self.0.code
    }

    /// Returns the cause, which is for the log only.
    pub(super) fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// Returns the document. A whole answer has a `request_id`; an item of a batch has none.
    pub(super) fn document<'a>(&'a self, request_id: Option<&'a str>) -> Document<'a> {
        Document { parts: &self.0, request_id }
    }

    pub(super) fn render(&self, request_id: &str) -> HttpResponse {
        let status = StatusCode::from_u16(self.0.code.status());
        let mut response = HttpResponse::build(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
        response.insert_header((CONTENT_TYPE, PROBLEM_JSON));
        if let Some(seconds) = self.0.retry_after_s {
            response.insert_header((RETRY_AFTER, seconds));
        }
        if let Some(allow) = &self.0.allow {
            response.insert_header((ALLOW, allow.as_str()));
        }
        if self.0.names_coding {
            response.insert_header((ACCEPT_ENCODING, "gzip"));
        }
        if self.0.code == Code::Unauthorized {
            response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"triggerd\""));
        }
        // The document has only texts and ids, so writing cannot fail.
        response.body(serde_json::to_vec(&self.document(Some(request_id))).unwrap_or_default())
    }
}

// `Document` writes the members. The comment below is the description in the OpenAPI document.
/// A problem document (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct ProblemDocument {
    /// The place of the code's documentation.
    r#type: String,
    /// A description in a few words.
    title: String,
    status: u16,
    /// The meaning for this request.
    detail: String,
    code: Code,
    /// The id of the request, also in the header `X-Request-Id`. An item of a batch has none.
    request_id: Option<String>,
    /// The first event, with `dedup_mismatch`.
    event_id: Option<EventId>,
    /// The existing organization, with `organization_exists`.
    organization_id: Option<OrgId>,
    /// Every fault of the request, with `validation_failed` and `invalid_request`.
    errors: Option<Vec<Fault>>,
}

/// A problem in the form of its JSON document.
pub(super) struct Document<'a> {
    parts: &'a Parts,
    request_id: Option<&'a str>,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Parts { code, detail, errors, event_id, organization_id, .. } = self.parts;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &format_args!("/docs/problems#{}", code.word()))?;
        map.serialize_entry("title", code.title())?;
        map.serialize_entry("status", &code.status())?;
        map.serialize_entry("detail", detail)?;
        map.serialize_entry("code", code.word())?;
        if let Some(request_id) = self.request_id {
            map.serialize_entry("request_id", request_id)?;
        }
        if let Some(event_id) = event_id {
            map.serialize_entry("event_id", event_id)?;
        }
        if let Some(organization_id) = organization_id {
            map.serialize_entry("organization_id", organization_id)?;
        }
        if !errors.is_empty() {
            map.serialize_entry("errors", errors)?;
        }
        map.end()
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overloaded => Self::new(
                Code::Overloaded,
                "too many changes wait to be stored; this change was not stored; send it again",
            ),
            Refused::DiskFull(shortage) => {
                Self::new(Code::DiskFull, format!("nothing was stored: {}", shortage.explanation()))
            }
            Refused::RestKept => {
                Self::new(Code::DiskFull, format!("nothing was stored: {refused}"))
            }
            Refused::ShuttingDown => Self::new(
                Code::ShuttingDown,
                "the server is stopping; nothing was stored; send the request again in seconds",
            ),
        }
    }
}

impl From<crate::store::StateError> for Problem {
    fn from(error: crate::store::StateError) -> Self {
        Self::internal(&error)
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
