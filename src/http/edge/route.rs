//! A route: method, path, permission, cost and handler.

use actix_web::http::Method;
use futures_util::future::LocalBoxFuture;

use crate::http::edge::auth::Who;
use crate::http::edge::call::{Answer, Call};
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

/// A route: method, path, permission and handler.
#[derive(Debug)]
pub struct Route {
    /// The HTTP method of the route.
    pub verb: Verb,
    /// The path, with parameters in braces.
    pub path: &'static str,
    /// The callers with access to the route.
    pub who: Who,
    pub(in crate::http) cost: Cost,
    /// True if the handler reads the query string, and refuses unknown parameters. Any parameter is
    /// unknown to every other route below `/api`.
    pub(in crate::http) reads_query: bool,
    pub(in crate::http) handler: Handler,
}

impl Route {
    pub(in crate::http) const fn new(
        verb: Verb,
        path: &'static str,
        who: Who,
        handler: Handler,
    ) -> Self {
        Self { verb, path, who, cost: Cost::One, reads_query: false, handler }
    }

    pub(in crate::http) const fn with_query(mut self) -> Self {
        self.reads_query = true;
        self
    }

    pub(in crate::http) const fn charged_by_handler(mut self) -> Self {
        self.cost = Cost::ByHandler;
        self
    }

    /// True if producers post events to this route.
    pub(in crate::http) fn takes_events(&self) -> bool {
        self.verb == Verb::Post && self.who == Who::Scope(Scope::EventsWrite)
    }
}
