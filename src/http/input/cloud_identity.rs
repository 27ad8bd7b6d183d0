//! Decides if two CloudEvents are the same event. `source` and `id` identify an event (CloudEvents
//! 1.0.2 core, `id`). Type, attributes and data are compared too, so a producer learns of an id
//! used twice. The form does not count: the event's mode, the order of its attributes, and the
//! spaces, escapes and member order of its data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use twox_hash::XxHash3_64;

use crate::http::input::media_type::MediaType;
use crate::model::cloudevent::{AttributeValue, CloudEvent, DataKind};

/// Seed for an event without data. Each kind of value has its own seed, so values of different
/// kinds have different hashes.
const NO_DATA: u64 = 1;
const BYTES: u64 = 2;
const OBJECT: u64 = 3;
const ARRAY: u64 = 4;
const STRING: u64 = 5;
const OTHER: u64 = 6;
/// Values nested deeper are hashed as text. Only JSON inside base64 can be nested so deeply.
const DEPTH_MAX: usize = 256;

/// Hashes the parts that can differ between two events of the same `source`, `id` and type.
pub(in crate::http) fn fingerprint(event: &CloudEvent, payload: &[u8], seed: u64) -> u64 {
    let seed = XxHash3_64::oneshot_with_seed(seed, attributes(event).as_bytes());
    combine(seed, data(event, payload))
}

/// Returns the attributes to compare, sorted. `source` and `id` are left out, and so is the
/// distributed tracing extension, which describes the sending. The spelling of the content type
/// does not count, and `application/json` is left out as the default (JSON format 3.1.1).
fn attributes(event: &CloudEvent) -> String {
    const OF_THE_SENDING: [&str; 4] = ["id", "source", "traceparent", "tracestate"];
    let line = |(name, value): &(String, AttributeValue)| {
        let text = value.text();
        let is_content_type = name == "datacontenttype";
        let normal = || MediaType::read(&text).map(|media| media.normal());
        let text = if is_content_type { normal().unwrap_or(text) } else { text };
        let is_default = is_content_type && text == "application/json";
        let counts = !is_default && !OF_THE_SENDING.contains(&name.as_str());
        counts.then(|| format!("{name} {text}\n"))
    };
    let mut lines: Vec<String> = event.attributes.iter().filter_map(line).collect();
    lines.sort();
    lines.concat()
}

/// Hashes the data: as a JSON value if the content type is JSON, otherwise as bytes. A body, a
/// string and base64 with the same bytes have the same hash.
fn data(event: &CloudEvent, payload: &[u8]) -> u64 {
    let content_type = event.attribute("datacontenttype").map(AttributeValue::text);
    let is_json =
        content_type.is_none_or(|text| MediaType::read(&text).is_some_and(|media| media.is_json()));
    let bytes = |bytes: &[u8]| XxHash3_64::oneshot_with_seed(BYTES, bytes);
    match event.data {
        DataKind::None => NO_DATA,
        DataKind::Json if is_json => value(payload),
        DataKind::Json => match serde_json::from_slice::<String>(payload) {
            Ok(text) => bytes(text.as_bytes()),
            Err(_no_string) => value(payload),
        },
        DataKind::Base64 => {
            let Some(decoded) = decoded(payload) else { return value(payload) };
            let is_value =
                is_json && serde_json::from_slice::<&serde_json::value::RawValue>(&decoded).is_ok();
            if is_value { value(&decoded) } else { bytes(&decoded) }
        }
    }
}

fn decoded(payload: &[u8]) -> Option<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Wrapped {
        data_base64: String,
    }
    let wrapped: Wrapped = serde_json::from_slice(payload).ok()?;
    STANDARD.decode(wrapped.data_base64).ok()
}

fn combine(one: u64, other: u64) -> u64 {
    XxHash3_64::oneshot_with_seed(one, &other.to_be_bytes())
}

/// Hashes a JSON value. The text must be valid JSON.
fn value(json: &[u8]) -> u64 {
    Json { rest: json }.value(0)
}

struct Json<'a> {
    rest: &'a [u8],
}

impl<'a> Json<'a> {
    fn value(&mut self, depth: usize) -> u64 {
        match self.next() {
            Some(b'{') if depth < DEPTH_MAX => self.object(depth),
            Some(b'[') if depth < DEPTH_MAX => self.array(depth),
            Some(b'"') => self.string(),
            _ => {
                let end = self.rest.iter().position(|byte| b",]} \t\r\n".contains(byte));
                XxHash3_64::oneshot_with_seed(OTHER, self.take(end.unwrap_or(self.rest.len())))
            }
        }
    }

    /// Hashes an object. The order of members does not count, so their hashes are added up.
    fn object(&mut self, depth: usize) -> u64 {
        let mut sum = 0_u64;
        loop {
            self.take(1);
            if self.next() != Some(b'"') {
                break;
            }
            let name = self.string();
            self.next();
            self.take(1);
            sum = sum.wrapping_add(combine(name, self.value(depth + 1)));
            if self.next() != Some(b',') {
                break;
            }
        }
        self.take(1);
        combine(OBJECT, sum)
    }

    fn array(&mut self, depth: usize) -> u64 {
        let mut hash = ARRAY;
        loop {
            self.take(1);
            if matches!(self.next(), None | Some(b']')) {
                break;
            }
            hash = combine(hash, self.value(depth + 1));
            if self.next() != Some(b',') {
                break;
            }
        }
        self.take(1);
        hash
    }

    fn string(&mut self) -> u64 {
        let mut is_escaped = false;
        let end = self.rest.iter().skip(1).position(|byte| {
            let ends = *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            ends
        });
        let quoted = self.take(end.map_or(self.rest.len(), |end| end + 2));
        let hash = |text: &[u8]| XxHash3_64::oneshot_with_seed(STRING, text);
        match quoted.contains(&b'\\').then(|| serde_json::from_slice::<String>(quoted)) {
            Some(Ok(plain)) => hash(plain.as_bytes()),
            // A lone surrogate is not text, so its escape is hashed.
            Some(Err(_)) => hash(quoted),
            None => hash(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default()),
        }
    }

    /// Skips spaces, and returns the next byte without taking the byte.
    fn next(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_same_whatever_its_spaces_escapes_and_order_of_members() {
        let groups: &[&[&str]] = &[
            &[
                r#"{"a":1,"b":[1,{"c":"x\ny"}]}"#,
                "{ \"b\" : [1 , {\"c\":\"x\\u000ay\"} ] ,\n\t\"a\": 1 } ",
            ],
            &[r#"{"a":1,"b":[{"c":"x\ny"},1]}"#],
            &[r#"{"a":[1],"b":1}"#],
            &["\"\u{e4}/\"", r#""\u00e4\/""#, " \"\\u00E4/\"\n"],
            &[r#""\\\"""#, r#""\u005c\u0022""#],
            &[r#""\ud800""#],
            &["1", " 1"],
            &["1.0"],
            &["1e400"],
            &["\"1\""],
            &["[]", "[ ]"],
            &["{}", "{\n}"],
            &["[[]]", "[ [ ] ]"],
            &["[{}]"],
            &["null"],
            &["[null]"],
            &["\"\""],
            &["{\"\":\"\"}"],
            &["true"],
            &["[1,2]"],
            &["[2,1]"],
            &["[12]"],
            &[r#"{"a":1,"a":2}"#],
        ];
        let of = |text: &&str| value(text.as_bytes());
        for (place, group) in groups.iter().enumerate() {
            let first = of(&group[0]);
            assert!(group.iter().all(|text| of(text) == first), "{group:?}");
            for other in groups.iter().skip(place + 1).flat_map(|group| group.iter()) {
                assert_ne!(of(other), first, "{group:?} and {other}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_hashing_panic(bytes: Vec<u8>, text in "[\\[\\]{}\",: \\\\a1]{0,40}") {
            value(&bytes);
            value(text.as_bytes());
        }
    }
}
