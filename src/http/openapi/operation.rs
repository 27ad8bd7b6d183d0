//! An operation: what a route takes and answers. Each resource declares its operations beside its
//! handlers; the table of routes gives each route its operation.

use serde_json::Value;

use crate::http::error::Code;
use crate::http::input::declare::{Body, Described, Parameters, body_schema};
use crate::http::openapi::schemas::{MakeSchema, Schemas};

/// The chapter of the document with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
pub(in crate::http) enum Tag {
    Events,
    Inbox,
    Endpoints,
    Deliveries,
    Replays,
    #[strum(serialize = "REST hooks")]
    RestHooks,
    Keys,
    Organizations,
    Audit,
    Administration,
    Operations,
}

impl Tag {
    pub(in crate::http) const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    pub(in crate::http) fn name(self) -> &'static str {
        self.into()
    }

    pub(in crate::http) const fn words(self) -> &'static str {
        match self {
            Self::Events => "Post, list, watch and erase events.",
            Self::Inbox => "Pull events, and acknowledge them.",
            Self::Endpoints => "The URLs that events are pushed to.",
            Self::Deliveries => "Events on their way to endpoints, and dead letters.",
            Self::Replays => "Past events, delivered again in the background.",
            Self::RestHooks => "Subscriptions as Zapier makes them.",
            Self::Keys => "API keys, and the caller of a request.",
            Self::Organizations => "The owners of keys, events and endpoints, for the operator.",
            Self::Audit => "Who changed what, when, and from where.",
            Self::Administration => "Backups, drills and archives, for the operator.",
            Self::Operations => "Health, metrics and documents; no key is needed.",
        }
    }
}

/// A form in which a route takes its body.
pub(in crate::http) struct Content {
    pub(in crate::http) media_type: &'static str,
    pub(in crate::http) schema: MakeSchema,
    /// An example in JSON.
    pub(in crate::http) example: &'static str,
}

impl Content {
    /// A declared body in JSON.
    pub(in crate::http) const fn json<B: Body<'static>>(example: &'static str) -> Self {
        Self::of("application/json", body_schema::<B>, example)
    }

    pub(in crate::http) const fn of(
        media_type: &'static str,
        schema: MakeSchema,
        example: &'static str,
    ) -> Self {
        Self { media_type, schema, example }
    }
}

/// A header of a request.
pub(in crate::http) struct RequestHeader {
    pub(in crate::http) name: &'static str,
    pub(in crate::http) words: &'static str,
}

/// An answer that is no problem.
pub(in crate::http) struct Reply {
    pub(in crate::http) status: u16,
    pub(in crate::http) words: &'static str,
    /// The media type and the schema of the body; none without a body.
    pub(in crate::http) body: Option<(&'static str, MakeSchema)>,
    /// Further media types of the body, with their schemas.
    pub(in crate::http) more: &'static [(&'static str, MakeSchema)],
    /// An example in JSON, or an empty text.
    pub(in crate::http) example: &'static str,
}

impl Reply {
    pub(in crate::http) const fn json(
        status: u16,
        words: &'static str,
        schema: MakeSchema,
    ) -> Self {
        Self::of(status, words, ("application/json", schema))
    }

    pub(in crate::http) const fn of(
        status: u16,
        words: &'static str,
        body: (&'static str, MakeSchema),
    ) -> Self {
        Self { status, words, body: Some(body), more: &[], example: "" }
    }

    pub(in crate::http) const fn empty(status: u16, words: &'static str) -> Self {
        Self { status, words, body: None, more: &[], example: "" }
    }

    pub(in crate::http) const fn also(
        mut self,
        more: &'static [(&'static str, MakeSchema)],
    ) -> Self {
        self.more = more;
        self
    }

    pub(in crate::http) const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }
}

/// Describes a body that is text.
pub(in crate::http) fn any_text(_: &mut Schemas) -> Value {
    serde_json::json!({"type": "string"})
}

/// What a route takes and answers.
pub(in crate::http) struct Operation {
    /// The name of the operation in programs, such as `postEvent`.
    pub(in crate::http) id: &'static str,
    pub(in crate::http) tag: Tag,
    pub(in crate::http) summary: &'static str,
    pub(in crate::http) words: &'static str,
    /// Describes the parameters of the query. Without this, a route below `/api` refuses every
    /// parameter.
    pub(in crate::http) query: Option<fn(&mut Schemas) -> Vec<Described>>,
    pub(in crate::http) headers: &'static [RequestHeader],
    /// The forms of the body; empty if the route reads none.
    pub(in crate::http) bodies: &'static [Content],
    pub(in crate::http) is_body_optional: bool,
    pub(in crate::http) replies: &'static [Reply],
    /// The codes that the route answers beside those that follow from its row in the table.
    pub(in crate::http) codes: &'static [Code],
}

impl Operation {
    pub(in crate::http) const fn new(
        id: &'static str,
        tag: Tag,
        summary: &'static str,
        replies: &'static [Reply],
    ) -> Self {
        Self {
            id,
            tag,
            summary,
            words: "",
            query: None,
            headers: &[],
            bodies: &[],
            is_body_optional: false,
            replies,
            codes: &[],
        }
    }

    pub(in crate::http) const fn about(mut self, words: &'static str) -> Self {
        self.words = words;
        self
    }

    pub(in crate::http) const fn query<Q: Parameters<'static>>(mut self) -> Self {
        self.query = Some(<Q as Parameters<'static>>::describe);
        self
    }

    pub(in crate::http) const fn headers(mut self, headers: &'static [RequestHeader]) -> Self {
        self.headers = headers;
        self
    }

    pub(in crate::http) const fn body(mut self, bodies: &'static [Content]) -> Self {
        self.bodies = bodies;
        self
    }

    pub(in crate::http) const fn optional_body(mut self, bodies: &'static [Content]) -> Self {
        self.is_body_optional = true;
        self.body(bodies)
    }

    pub(in crate::http) const fn refuses(mut self, codes: &'static [Code]) -> Self {
        self.codes = codes;
        self
    }
}
