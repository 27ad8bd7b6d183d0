//! The body of a request, in the form set for the endpoint. Called when an attempt is prepared;
//! knows nothing of the source of its parts.

use serde::Serialize;
use utoipa::ToSchema;

use crate::base::pairs::as_map;
use crate::base::splice::Splice;
use crate::model::cloudevent::{Context, DataKind, SPECVERSION};
use crate::model::endpoint::BodyForm;
use crate::model::event::NewEvent;
use crate::model::id::EventId;
use crate::model::time::Timestamp;

/// The `source` of events that did not arrive as a CloudEvent (CloudEvents 1.0.2 core, 3.1).
const SOURCE: &str = "urn:triggerd";

/// The body of a request and its content type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The bytes of the body. The payload inside is as the producer sent it.
    pub bytes: Vec<u8>,
}

impl Body {
    /// Makes the body of an event in this form. The body is the same at every attempt.
    ///
    /// # Errors
    /// The payload does not have the form that the event's kind of data asks for.
    pub fn of(
        form: BodyForm,
        id: EventId,
        received_at: Timestamp,
        event: NewEvent,
    ) -> Result<Self, serde_json::Error> {
        let json = "application/json";
        match form {
            BodyForm::Payload => Ok(Self { content_type: json, bytes: event.payload.into() }),
            BodyForm::Envelope => {
                let head = Envelope {
                    id,
                    r#type: event.event_type.as_str(),
                    timestamp: event.occurred_at.unwrap_or(received_at),
                    labels: &event.labels,
                };
                Self::spliced(json, &head, DataKind::Json, &event.payload)
            }
            BodyForm::CloudEvents => cloud_event(id, received_at, &event),
        }
    }

    /// Makes an object of the head's members and the payload.
    fn spliced(
        content_type: &'static str,
        head: &impl Serialize,
        data: DataKind,
        payload: &[u8],
    ) -> Result<Self, serde_json::Error> {
        let mut bytes = Vec::with_capacity(256 + payload.len());
        let object = Splice::new(&mut bytes).members(head)?;
        match data {
            DataKind::Json => object.value("data", payload),
            // The payload is an object with the single member `data_base64`.
            DataKind::Base64 => object.members_of(payload)?,
            DataKind::None => object,
        }
        .end();
        Ok(Self { content_type, bytes })
    }
}

/// The members before `data` in the default form.
#[derive(Serialize, ToSchema)]
pub struct Envelope<'a> {
    /// The id of the event, the same at every attempt.
    id: EventId,
    /// The type of the event.
    r#type: &'a str,
    /// When the event occurred, or when it was received if the producer gave no time.
    timestamp: Timestamp,
    /// The labels of the event, if there are any.
    #[serde(serialize_with = "as_map", skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false, value_type = HashMap<String, String>)]
    labels: &'a [(String, String)],
}

/// The attributes of an event that did not arrive as a CloudEvent.
#[derive(Serialize)]
struct OwnContext<'a> {
    specversion: &'static str,
    id: EventId,
    source: &'static str,
    r#type: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
}

/// Makes a CloudEvent. An event that arrived as a CloudEvent keeps its attributes, without changes
/// or additions.
fn cloud_event(
    id: EventId,
    received_at: Timestamp,
    event: &NewEvent,
) -> Result<Body, serde_json::Error> {
    let (json, event_type) = ("application/cloudevents+json", &event.event_type);
    if let Some(own) = &event.cloudevent {
        return Body::spliced(
            json,
            &Context { event_type: event_type.as_str(), event: own },
            own.data,
            &event.payload,
        );
    }
    let context = OwnContext {
        specversion: SPECVERSION,
        id,
        source: SOURCE,
        r#type: event_type.as_str(),
        time: event.occurred_at.unwrap_or(received_at),
        datacontenttype: "application/json",
    };
    Body::spliced(json, &context, DataKind::Json, &event.payload)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::model::cloudevent::{AttributeValue, CloudEvent};

    const ID: EventId = EventId(0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881);
    const AT: Timestamp = Timestamp(1_769_853_600_007);

    fn event(payload: &[u8], labels: &[(&str, &str)]) -> NewEvent {
        NewEvent {
            event_type: "order.created".parse().unwrap(),
            dedup: None,
            labels: labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            occurred_at: None,
            deliver_after: None,
            payload: payload.into(),
            cloudevent: None,
        }
    }

    #[test]
    fn the_payload_is_inside_byte_for_byte() {
        let payload = br#"{ "n": 1.10e2, "z":"\u00e4", "a":12345678901234567890123 }"#;
        let body = Body::of(BodyForm::Envelope, ID, AT, event(payload, &[])).unwrap();
        let expected = [
            br#"{"id":"evt_01h2xcejqtf2nbrexx3vqjhp41","type":"order.created","timestamp":"2026-01-31T10:00:00.007Z","data":"#
                .as_slice(),
            payload,
            b"}",
        ]
        .concat();
        assert_eq!(String::from_utf8(body.bytes.clone()), String::from_utf8(expected));
        let parsed: Value = serde_json::from_slice(&body.bytes).unwrap();
        assert_eq!(
            (&parsed["data"]["z"], body.content_type),
            (&Value::from("ä"), "application/json")
        );
        assert_eq!(
            Body::of(BodyForm::Payload, ID, AT, event(payload, &[])).unwrap().bytes,
            payload
        );
    }

    #[test]
    fn any_json_value_can_be_the_payload() {
        for payload in ["null", "[]", "\"text\"", "-0.0", "true", " {} "] {
            for form in BodyForm::ALL.iter().copied() {
                let body = Body::of(form, ID, AT, event(payload.as_bytes(), &[])).unwrap();
                assert!(serde_json::from_slice::<Value>(&body.bytes).is_ok(), "{payload} {form:?}");
            }
        }
    }

    #[test]
    fn the_envelope_has_the_time_it_happened_and_labels_if_there_are_any() {
        let mut event = event(b"1", &[("region", "e\"u"), ("a", "")]);
        event.occurred_at = Some(Timestamp(1_769_850_000_000));
        event.event_type = "orders/\"create\"".parse().unwrap();
        let body = Body::of(BodyForm::Envelope, ID, AT, event).unwrap();
        let expected = format!(
            r#"{{"id":"{ID}","type":"orders/\"create\"","timestamp":"2026-01-31T09:00:00.000Z","labels":{{"region":"e\"u","a":""}},"data":1}}"#
        );
        assert_eq!(String::from_utf8(body.bytes).unwrap(), expected);
    }

    fn read(event: NewEvent) -> Value {
        let body = Body::of(BodyForm::CloudEvents, ID, AT, event).unwrap();
        assert_eq!(body.content_type, "application/cloudevents+json");
        serde_json::from_slice::<Value>(&body.bytes).unwrap()
    }

    #[test]
    fn an_event_that_is_no_cloud_event_gets_our_attributes() {
        let ours = serde_json::json!({
            "specversion": "1.0", "id": ID.to_string(), "source": "urn:triggerd",
            "type": "order.created",
            "time": "2026-01-31T10:00:00.007Z", "datacontenttype": "application/json",
            "data": {"a": 1},
        });
        assert_eq!(
            read(event(b"{\"a\":1}", &[("region", "eu"), ("ce-id", "7")])),
            ours,
            "labels are no attributes"
        );
    }

    #[test]
    fn a_cloud_event_has_what_it_came_with_and_nothing_else() {
        let text = |text: &str| AttributeValue::Text(text.to_owned());
        let attributes = [
            ("id", text("7")),
            ("source", text("/shop")),
            ("time", text("1937-01-01T12:00:27.870+00:20")),
            ("subject", text("s \" s")),
            ("count", AttributeValue::Integer(-7)),
            ("urgent", AttributeValue::Boolean(true)),
        ];
        let of = |payload: &[u8], data: DataKind| {
            let attributes =
                attributes.clone().map(|(name, value)| (name.to_owned(), value)).into();
            NewEvent {
                cloudevent: Some(Box::new(CloudEvent { attributes, data })),
                ..event(payload, &[])
            }
        };
        let context = r#"{"specversion":"1.0","type":"order.created","id":"7","source":"/shop","time":"1937-01-01T12:00:27.870+00:20","subject":"s \" s","count":-7,"urgent":true"#;
        for (payload, data, behind) in [
            ("{ \"a\":1.0}", DataKind::Json, ",\"data\":{ \"a\":1.0}}"),
            ("null", DataKind::Json, ",\"data\":null}"),
            ("null", DataKind::None, "}"),
            (r#"{"data_base64":"/wA="}"#, DataKind::Base64, ",\"data_base64\":\"/wA=\"}"),
        ] {
            let body =
                Body::of(BodyForm::CloudEvents, ID, AT, of(payload.as_bytes(), data)).unwrap();
            assert_eq!(String::from_utf8(body.bytes).unwrap(), format!("{context}{behind}"));
        }
    }
}
