//! The operations of `/api/endpoints`, for the OpenAPI document.

use serde_json::Value;

use super::{EndpointsQuery, SecretRotation, Shown, Stats, Tested, changed_schema};
use crate::http::api::endpoint_settings::EndpointChange;
use crate::http::error::Code;
use crate::http::input::declare::schema_requiring;
use crate::http::openapi::operation::{Content, Operation, Reply, Tag};
use crate::http::openapi::schemas::{Schemas, page_of, schema_of};

const CHANGED: Reply = Reply::json(
    200,
    "The endpoint, or the changed members for a key without `endpoints:read`.",
    changed_schema,
);

/// The body of a new endpoint, which needs a URL.
fn new_endpoint(schemas: &mut Schemas) -> Value {
    let make = |schemas: &mut Schemas| schema_requiring::<EndpointChange>(schemas, &["url"]);
    schemas.component("NewEndpoint", make)
}

pub(in crate::http) static CREATE: Operation = Operation::new(
    "createEndpoint",
    Tag::Endpoints,
    "Create an endpoint",
    &[Reply::json(201, "The endpoint, and its secret this once.", schema_of::<Shown<'static>>)],
)
.body(&[Content::of(
    "application/json",
    new_endpoint,
    r#"{"url": "https://example.com/hook", "event_types": ["order.*"]}"#,
)])
.refuses(&[Code::EgressBlocked, Code::LimitReached, Code::NotFound]);

pub(in crate::http) static LIST: Operation = Operation::new(
    "listEndpoints",
    Tag::Endpoints,
    "List endpoints",
    &[Reply::json(
        200,
        "A page of endpoints, in the order of their creation.",
        page_of::<Shown<'static>>,
    )],
)
.query::<EndpointsQuery>();

pub(in crate::http) static SHOW: Operation = Operation::new(
    "showEndpoint",
    Tag::Endpoints,
    "Show an endpoint",
    &[Reply::json(200, "The endpoint.", schema_of::<Shown<'static>>)],
);

pub(in crate::http) static CHANGE: Operation =
    Operation::new("changeEndpoint", Tag::Endpoints, "Change an endpoint", &[CHANGED])
        .about(
            "Members that are left out stay. An answer to `GET` can be sent back: members that \
             cannot be set are accepted if they are unchanged.",
        )
        .body(&[Content::json::<EndpointChange>(r#"{"enabled": false}"#)])
        .refuses(&[Code::EgressBlocked]);

pub(in crate::http) static DELETE: Operation = Operation::new(
    "deleteEndpoint",
    Tag::Endpoints,
    "Delete an endpoint",
    &[Reply::empty(204, "The endpoint is deleted, and its waiting deliveries are canceled.")],
);

pub(in crate::http) static ENABLE: Operation =
    Operation::new("enableEndpoint", Tag::Endpoints, "Enable an endpoint", &[CHANGED]);

pub(in crate::http) static ROTATE_SECRET: Operation =
    Operation::new("rotateEndpointSecret", Tag::Endpoints, "Rotate a signing secret", &[CHANGED])
        .about("The answer has the new secret, which is shown this once.")
        .optional_body(&[Content::json::<SecretRotation>(r#"{"overlap_seconds": 86400}"#)]);

pub(in crate::http) static TEST: Operation = Operation::new(
    "testEndpoint",
    Tag::Endpoints,
    "Push a test event now",
    &[Reply::json(200, "The attempt. Nothing is stored.", schema_of::<Tested>)],
);

pub(in crate::http) static STATS: Operation = Operation::new(
    "showEndpointStats",
    Tag::Endpoints,
    "Show counters of an endpoint",
    &[Reply::json(200, "The counters.", schema_of::<Stats>)],
);
