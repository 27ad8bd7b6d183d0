//! The body that is pushed, in the form that the endpoint wants. Called when an attempt is prepared; knows nothing of where
//! the parts come from.

use serde_json::{Map, Value};

use crate::model::endpoint::BodyForm;
use crate::model::event::NewEvent;
use crate::model::id::EventId;
use crate::model::time::Timestamp;

/// What labels of events that came as CloudEvents begin with: their attributes.
const ATTRIBUTE: &str = "ce-";
/// CloudEvents 1.0.2 core, 3.1: where an event comes from that did not say so itself.
const SOURCE: &str = "urn:triggerd";

/// A body and its content type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// What `Content-Type` says.
    pub content_type: &'static str,
    /// The bytes; the payload in it is as the producer sent it.
    pub bytes: Vec<u8>,
}

impl Body {
    /// The event in this form. The same at every attempt.
    pub fn of(form: BodyForm, id: EventId, received_at: Timestamp, event: NewEvent) -> Self {
        let json = "application/json";
        match form {
            BodyForm::Payload => Self { content_type: json, bytes: event.payload.into() },
            BodyForm::Envelope => {
                // Neither ids, types nor times hold a character that JSON would want escaped.
                let event_type = &event.event_type;
                let head = format!(r#"{{"id":"{id}","type":"{event_type}","timestamp":"{received_at}","data":"#);
                Self { content_type: json, bytes: wrap(&head, &event.payload) }
            }
            BodyForm::CloudEvents => {
                let mut head = Value::Object(attributes(id, received_at, &event)).to_string();
                head.pop();
                head.push_str(",\"data\":");
                Self { content_type: "application/cloudevents+json", bytes: wrap(&head, &event.payload) }
            }
        }
    }
}

/// The payload as the last member of an object.
fn wrap(head: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(head.len() + payload.len() + 1);
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(payload);
    body.push(b'}');
    body
}

/// The context attributes (CloudEvents 1.0.2 core, 3). An event that came as a CloudEvent keeps its own, also its id.
fn attributes(id: EventId, received_at: Timestamp, event: &NewEvent) -> Map<String, Value> {
    let mut attributes = Map::new();
    let mut set = |name: &str, value: &str| attributes.insert(name.to_owned(), Value::from(value));
    set("id", &id.to_string());
    set("source", SOURCE);
    let own = event.labels.iter().filter_map(|(name, value)| Some((name.strip_prefix(ATTRIBUTE)?, value)));
    let named = |name: &str| event.labels.iter().any(|(label, _)| label.strip_prefix(ATTRIBUTE) == Some(name));
    // One of the two alone would make another event's pair.
    let keeps_pair = named("id") && named("source");
    for (name, value) in own.filter(|(name, _)| keeps_pair || !matches!(*name, "id" | "source")) {
        set(name, value);
    }
    set("specversion", "1.0");
    set("type", event.event_type.as_str());
    set("time", &event.occurred_at.unwrap_or(received_at).to_string());
    set("datacontenttype", "application/json");
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: EventId = EventId(0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881);
    const AT: Timestamp = Timestamp(1_769_853_600_007);

    fn event(payload: &[u8], labels: &[(&str, &str)]) -> NewEvent {
        NewEvent {
            event_type: "order.created".parse().unwrap(),
            dedup: None,
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            occurred_at: None,
            deliver_after: None,
            payload: payload.into(),
        }
    }

    #[test]
    fn the_payload_is_inside_byte_for_byte() {
        let payload = br#"{ "n": 1.10e2, "z":"\u00e4", "a":12345678901234567890123 }"#;
        let body = Body::of(BodyForm::Envelope, ID, AT, event(payload, &[]));
        let expected = [
            br#"{"id":"evt_01h2xcejqtf2nbrexx3vqjhp41","type":"order.created","timestamp":"2026-01-31T10:00:00.007Z","data":"#
                .as_slice(),
            payload,
            b"}",
        ]
        .concat();
        assert_eq!(String::from_utf8(body.bytes.clone()), String::from_utf8(expected));
        let parsed: Value = serde_json::from_slice(&body.bytes).unwrap();
        assert_eq!((&parsed["data"]["z"], body.content_type), (&Value::from("ä"), "application/json"));
        assert_eq!(Body::of(BodyForm::Payload, ID, AT, event(payload, &[])).bytes, payload);
    }

    #[test]
    fn any_json_value_can_be_the_payload() {
        for payload in ["null", "[]", "\"text\"", "-0.0", "true", " {} "] {
            for form in BodyForm::ALL {
                let body = Body::of(form, ID, AT, event(payload.as_bytes(), &[]));
                assert!(serde_json::from_slice::<Value>(&body.bytes).is_ok(), "{payload} {form:?}");
            }
        }
    }

    #[test]
    fn a_cloud_event_keeps_its_own_attributes_and_others_get_ours() {
        let read = |labels: &[(&str, &str)]| {
            let body = Body::of(BodyForm::CloudEvents, ID, AT, event(b"{\"a\":1}", labels));
            assert_eq!(body.content_type, "application/cloudevents+json");
            serde_json::from_slice::<Value>(&body.bytes).unwrap()
        };
        let ours = serde_json::json!({
            "specversion": "1.0", "id": ID.to_string(), "source": "urn:triggerd", "type": "order.created",
            "time": "2026-01-31T10:00:00.007Z", "datacontenttype": "application/json", "data": {"a": 1},
        });
        assert_eq!(read(&[("region", "eu")]), ours, "labels are not attributes");
        assert_eq!(read(&[("ce-id", "7")]), ours, "half of a pair is no pair");
        let own = read(&[("ce-id", "7"), ("ce-source", "/shop"), ("ce-subject", "s \" s"), ("ce-type", "x")]);
        assert_eq!((&own["id"], &own["source"], &own["subject"]), (&"7".into(), &"/shop".into(), &"s \" s".into()));
        assert_eq!(own["type"], "order.created");
    }
}
