//! The repeated request. Its bytes are made once, and only the event numbers change, so that the
//! load costs almost nothing compared with accepting it.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// Number of characters of an event's number.
const NUMBER: usize = 16;
/// Number of characters of a payload around its filling.
const EMPTY_PAYLOAD_BYTES: usize = "{\"note\":\"\"}".len();

/// A request with one event, or with a batch.
#[derive(Clone, Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
    /// Offsets of the event numbers in the bytes.
    places: Vec<usize>,
}

/// The common properties of a run's requests.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) address: SocketAddr,
    /// The value of the `Host` header.
    pub(super) host: String,
    pub(super) key: String,
    /// Size of each payload in bytes; at least that of an object with an empty text.
    pub(super) payload_bytes: usize,
    /// Number of events in a request; 1 stands for no batch.
    pub(super) batch: u32,
    /// Distinguishes the `dedup_id`s of this run from those of other runs.
    pub(super) run: u64,
}

impl Shape {
    /// Makes the request with all numbers at zero.
    pub(super) fn request(&self) -> Request {
        let payload = payload(self.payload_bytes);
        let (mut body, mut places) = (String::new(), Vec::new());
        if self.batch > 1 {
            body.push_str("{\"events\":[");
        }
        for item in 0..self.batch {
            let comma = if item > 0 { "," } else { "" };
            // Writing to a string cannot fail.
            _ = write!(body, "{comma}{{\"type\":\"bench.event\",\"dedup_id\":\"{:016x}-", self.run);
            places.push(body.len());
            _ = write!(body, "{:0NUMBER$x}\",\"payload\":{payload}}}", 0);
        }
        if self.batch > 1 {
            body.push_str("]}");
        }
        let path = if self.batch > 1 { "/api/events/batch" } else { "/api/events" };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nX-API-Key: {}\r\nContent-Type: \
             application/json\r\n\
             Content-Length: {}\r\n\r\n",
            self.host,
            self.key,
            body.len()
        );
        for place in &mut places {
            *place += head.len();
        }
        Request { bytes: (head + &body).into_bytes(), places }
    }
}

/// A JSON object of exactly this many bytes.
fn payload(bytes: usize) -> String {
    const WORDS: &str = "lorem ipsum dolor sit amet ";
    let filling = bytes.saturating_sub(EMPTY_PAYLOAD_BYTES);
    let note: String = WORDS.chars().cycle().take(filling).collect();
    format!("{{\"note\":\"{note}\"}}")
}

impl Request {
    /// Writes the next numbers into the request, and returns its bytes.
    pub(super) fn numbered(&mut self, next: &mut u64) -> &[u8] {
        for place in &self.places {
            let digits = format!("{next:0NUMBER$x}");
            if let Some(there) = self.bytes.get_mut(*place..*place + NUMBER) {
                there.copy_from_slice(digits.as_bytes());
            }
            *next += 1;
        }
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(batch: u32) -> Shape {
        let address = "127.0.0.1:1".parse().unwrap();
        Shape { address, host: "h".into(), key: "k".into(), payload_bytes: 64, batch, run: 7 }
    }

    fn body(bytes: &[u8]) -> serde_json::Value {
        let text = std::str::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn every_event_has_a_number_of_its_own_and_the_payload_its_size() {
        let (mut single, mut next) = (shape(1).request(), 41);
        for number in [41, 42] {
            let event = body(single.numbered(&mut next));
            assert_eq!(event["dedup_id"], format!("{:016x}-{number:016x}", 7));
            assert_eq!(event["payload"].to_string().len(), 64);
        }
        let batch = body(shape(3).request().numbered(&mut next));
        let ids: Vec<_> = batch["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["dedup_id"].clone())
            .collect();
        assert_eq!(ids, [43, 44, 45].map(|number| format!("{:016x}-{number:016x}", 7)));
        assert_eq!(next, 46);
    }
}
