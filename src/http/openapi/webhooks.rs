//! The requests that endpoints receive, as webhooks of the document: every event in the three forms
//! of bodies, and each operational event with its payload.

use serde_json::{Map, Value, json};

use crate::delivery::envelope::Envelope;
use crate::delivery::operational_events::EndpointReport;
use crate::http::openapi::schemas::{Schemas, inlined, merged, unwrapped};
use crate::model::operational_event::OperationalEventKind;
use crate::pipeline::{DiskReport, ExpiryReport, KeyReport};

/// The headers of each request, with their meanings.
const HEADERS: [(&str, &str); 5] = [
    ("webhook-id", "The id of the event, the same at every attempt (Standard Webhooks)."),
    ("webhook-timestamp", "The time of the attempt, in seconds since 1970."),
    (
        "webhook-signature",
        "A signature for each valid secret, with spaces between them: `v1,` and the base64 of an \
         HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`, keyed with the bytes behind \
         `whsec_`.",
    ),
    ("triggerd-attempt", "The number of the attempt, from 1."),
    ("user-agent", "`triggerd/` and the version."),
];

/// Returns a CloudEvent in structured mode.
pub(in crate::http) fn cloud_event(schemas: &mut Schemas) -> Value {
    schemas.component("CloudEvent", |_| {
        let text = json!({"type": "string", "minLength": 1});
        json!({
            "type": "object",
            "description": "A CloudEvent 1.0 in the JSON format. Further members are its other \
                            attributes: texts, whole numbers of 32 bits, `true` and `false`.",
            "properties": {
                "specversion": {"const": "1.0"},
                "id": text,
                "source": {"type": "string", "minLength": 1, "format": "uri-reference"},
                "type": {"type": "string", "minLength": 1, "maxLength": 255},
                "data": {"description": "Any JSON."},
                "data_base64": {
                    "type": ["string", "null"],
                    "contentEncoding": "base64",
                    "description": "Bytes, in place of `data`.",
                },
            },
            "required": ["specversion", "id", "source", "type"],
            "additionalProperties": true,
        })
    })
}

/// Returns the default form of a body.
pub(in crate::http) fn envelope(schemas: &mut Schemas) -> Value {
    schemas.component("Envelope", |schemas| {
        let data = json!({"description": "The payload of the event, byte for byte."});
        enveloped(&data, "An event as it is pushed by default.", schemas)
    })
}

fn enveloped(data: &Value, words: &str, schemas: &mut Schemas) -> Value {
    let data = json!({"properties": {"data": data}, "required": ["data"]});
    merged(words, [inlined::<Envelope<'static>>(schemas), data])
}

/// Returns all webhooks by their names.
pub(super) fn webhooks(schemas: &mut Schemas) -> Map<String, Value> {
    let envelope = envelope(schemas);
    let any = json!({"description": "The payload of the event, byte for byte."});
    let content = json!({
        "application/json": {"schema": {"anyOf": [envelope, any]}},
        "application/cloudevents+json": {"schema": cloud_event(schemas)},
    });
    let words = "The body has the form that the endpoint's `body` names: `envelope`, `payload` \
        (the payload alone) or `cloudevents`.";
    let event = webhook("receiveEvent", "An event", words, &content);
    let mut all = Map::from_iter([("event".to_owned(), event)]);
    for kind in OperationalEventKind::ALL {
        let event_type = kind.event_type();
        let content = operational(*kind, event_type.as_str(), schemas);
        let id = format!("receive{}", name_of(*kind));
        let (summary, words) = of_kind(*kind);
        all.insert(event_type.as_str().to_owned(), webhook(&id, summary, words, &content));
    }
    all
}

fn name_of(kind: OperationalEventKind) -> &'static str {
    match kind {
        OperationalEventKind::EndpointFailing => "EndpointFailing",
        OperationalEventKind::EndpointDisabled => "EndpointDisabled",
        OperationalEventKind::EndpointRecovered => "EndpointRecovered",
        OperationalEventKind::DeliveryDead => "DeliveryDead",
        OperationalEventKind::DiskLow => "DiskLow",
        OperationalEventKind::InboxExpired => "InboxExpired",
        OperationalEventKind::KeyExpiring => "KeyExpiring",
    }
}

/// Returns a summary of an operational event, and the details.
fn of_kind(kind: OperationalEventKind) -> (&'static str, &'static str) {
    match kind {
        OperationalEventKind::EndpointFailing => {
            ("An endpoint failed at every attempt for a while", "One streak causes one event.")
        }
        OperationalEventKind::EndpointDisabled => (
            "triggerd stopped pushing to an endpoint",
            "The `reason` is `gone` or `failing`. Somebody must enable the endpoint again.",
        ),
        OperationalEventKind::EndpointRecovered => {
            ("An endpoint that was failing accepted a delivery again", "There is no `error`.")
        }
        OperationalEventKind::DeliveryDead => {
            ("A delivery became a dead letter", "The `reason` is `attempts_exhausted` or `gone`.")
        }
        OperationalEventKind::DiskLow => {
            ("The disk of the server has little free space", "New events are refused soon.")
        }
        OperationalEventKind::InboxExpired => {
            ("Unfinished events have expired", "The payload says how many, and of which types.")
        }
        OperationalEventKind::KeyExpiring => {
            ("A key ends in a week", "A key that was made for a week or less is not announced.")
        }
    }
}

/// Returns the content of an operational event in the default form.
fn operational(kind: OperationalEventKind, event_type: &str, schemas: &mut Schemas) -> Value {
    let data = match kind {
        OperationalEventKind::EndpointFailing
        | OperationalEventKind::EndpointDisabled
        | OperationalEventKind::EndpointRecovered
        | OperationalEventKind::DeliveryDead => schemas.of::<EndpointReport<'static>>(),
        OperationalEventKind::DiskLow => schemas.of::<DiskReport>(),
        OperationalEventKind::InboxExpired => schemas.of::<ExpiryReport<'static>>(),
        OperationalEventKind::KeyExpiring => schemas.of::<KeyReport<'static>>(),
    };
    let name = format!("{}Event", name_of(kind));
    let schema = schemas.component(&name, |schemas| {
        let mut schema = enveloped(&data, of_kind(kind).0, schemas);
        if let Some(of_type) = schema.pointer_mut("/properties/type") {
            *of_type = json!({"const": event_type});
        }
        schema
    });
    json!({"application/json": {"schema": schema}})
}

fn webhook(id: &str, summary: &str, words: &str, content: &Value) -> Value {
    let header = |(name, words): (&str, &str)| {
        json!({"name": name, "in": "header", "required": true, "description": unwrapped(words),
            "schema": {"type": "string"}})
    };
    json!({"post": {
        "operationId": id,
        "summary": summary,
        "description": words,
        "security": [],
        "parameters": HEADERS.map(header),
        "requestBody": {"required": true, "content": content},
        "responses": {
            "2XX": {"description": "The receiver accepts the event."},
            "410": {"description": "The endpoint is disabled, and gets nothing more."},
            "429": {"description": "`Retry-After` can lengthen the wait to at most 24 hours."},
            "503": {"description": "`Retry-After` can lengthen the wait to at most 24 hours."},
            "default": {"description": "A failure; the retry schedule goes on."},
        },
    }})
}
