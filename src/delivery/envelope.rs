//! The body that is pushed by default: `{"id", "type", "timestamp", "data"}`. Called when an attempt is prepared; knows
//! nothing of where the parts come from.

use crate::model::event::EventType;
use crate::model::id::EventId;
use crate::model::time::Timestamp;

/// The envelope around a payload. `payload` is the JSON value as the producer sent it; its bytes are not touched.
/// `received_at` becomes `timestamp`, the same at every attempt.
pub fn envelope(id: EventId, event_type: &EventType, received_at: Timestamp, payload: &[u8]) -> Vec<u8> {
    // Neither ids, types nor times hold a character that JSON would want escaped.
    let head = format!(r#"{{"id":"{id}","type":"{event_type}","timestamp":"{received_at}","data":"#);
    let mut body = Vec::with_capacity(head.len() + payload.len() + 1);
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(payload);
    body.push(b'}');
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_inside_byte_for_byte() {
        let payload = br#"{ "n": 1.10e2, "z":"\u00e4", "a":12345678901234567890123 }"#;
        let id = EventId(0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881);
        let body = envelope(id, &"order.created".parse().unwrap(), Timestamp(1_769_853_600_007), payload);
        let expected = [
            br#"{"id":"evt_01h2xcejqtf2nbrexx3vqjhp41","type":"order.created","timestamp":"2026-01-31T10:00:00.007Z","data":"#
                .as_slice(),
            payload,
            b"}",
        ]
        .concat();
        assert_eq!(String::from_utf8(body.clone()), String::from_utf8(expected));
        let parsed: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(parsed["data"]["z"], "ä");
    }

    #[test]
    fn any_json_value_can_be_the_payload() {
        for payload in ["null", "[]", "\"text\"", "-0.0", "true", " {} "] {
            let body = envelope(EventId(1), &"a".parse().unwrap(), Timestamp(0), payload.as_bytes());
            assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "{payload}");
        }
    }
}
