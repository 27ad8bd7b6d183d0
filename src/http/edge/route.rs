//! A route: method, path, permission, cost, handler and operation.

use actix_web::http::Method;
use futures_util::future::LocalBoxFuture;

use crate::http::edge::auth::Who;
use crate::http::edge::call::{Answer, Call};
use crate::http::error::Code;
use crate::http::openapi::operation::Operation;
use crate::model::key::Scope;

/// A method of HTTP. `GET` answers `HEAD` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[expect(missing_docs, reason = "each is the method of the same name")]
#[strum(serialize_all = "UPPERCASE")]
pub enum Verb {
    Get,
    Post,
    Patch,
    Delete,
}

impl Verb {
    /// Returns the method's name in HTTP.
    pub fn name(self) -> &'static str {
        self.into()
    }

    pub(in crate::http) fn allows(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post | Self::Patch | Self::Delete => self.name(),
        }
    }

    pub(in crate::http) fn methods(self) -> &'static [Method] {
        match self {
            Self::Get => &[Method::GET, Method::HEAD],
            Self::Post => &[Method::POST],
            Self::Patch => &[Method::PATCH],
            Self::Delete => &[Method::DELETE],
        }
    }
}

/// The rate limit's charge for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Cost {
    /// One token for each request.
    One,
    /// Tokens that the handler charges when the number of events is known.
    ByHandler,
}

type Handler = for<'a> fn(&'a mut Call) -> LocalBoxFuture<'a, Answer>;

/// A route: method, path, permission, handler, and what it takes and answers.
pub struct Route {
    /// The HTTP method of the route.
    pub verb: Verb,
    /// The path, with parameters in braces.
    pub path: &'static str,
    /// The callers with access to the route.
    pub who: Who,
    pub(in crate::http) cost: Cost,
    pub(in crate::http) handler: Handler,
    pub(in crate::http) operation: &'static Operation,
}

impl Route {
    pub(in crate::http) const fn new(
        verb: Verb,
        path: &'static str,
        who: Who,
        handler: Handler,
        operation: &'static Operation,
    ) -> Self {
        Self { verb, path, who, cost: Cost::One, handler, operation }
    }

    pub(in crate::http) const fn charged_by_handler(mut self) -> Self {
        self.cost = Cost::ByHandler;
        self
    }

    /// True if producers post events to this route.
    pub(in crate::http) fn takes_events(&self) -> bool {
        self.verb == Verb::Post && self.who == Who::Scope(Scope::EventsWrite)
    }

    /// Returns the codes of the problems that the route answers: those that follow from its
    /// permission, its path and its body, and those of its operation.
    pub fn codes(&self) -> Vec<Code> {
        let mut codes = OF_ALL.to_vec();
        if self.who != Who::Public {
            codes.extend(OF_CALLERS);
        }
        if self.path.contains('{') {
            codes.push(Code::NotFound);
        }
        if !self.operation.bodies.is_empty() {
            codes.extend(OF_BODIES);
        }
        if self.verb != Verb::Get {
            codes.extend(OF_CHANGES);
            if !matches!(self.who, Who::Public | Who::Admin) {
                codes.push(Code::OrganizationSuspended);
            }
        }
        codes.extend(self.operation.codes);
        codes
    }

    /// True if the operation declares this answer. `code` is that of a problem.
    pub(in crate::http) fn declares(&self, status: u16, code: Option<Code>) -> bool {
        match code {
            Some(code) => self.codes().contains(&code),
            None => self.operation.replies.iter().any(|reply| reply.status == status),
        }
    }
}

/// Codes of every route. A head can be refused before its route is known.
const OF_ALL: [Code; 5] = [
    Code::InvalidRequest,
    Code::RequestTimeout,
    Code::HeadTooLarge,
    Code::Internal,
    Code::Overloaded,
];
/// Codes of every route that needs a caller.
const OF_CALLERS: [Code; 3] = [Code::Unauthorized, Code::Forbidden, Code::RateLimited];
/// Codes of every route that reads a body.
const OF_BODIES: [Code; 4] = [
    Code::MalformedJson,
    Code::PayloadTooLarge,
    Code::UnsupportedMediaType,
    Code::ValidationFailed,
];
/// Codes of every route that changes something.
const OF_CHANGES: [Code; 2] = [Code::ShuttingDown, Code::DiskFull];
