//! CloudEvents 1.0 as events: structured mode (a JSON object), binary mode (attributes in `ce-`
//! headers, data in the body), and the items of batches. Sources: CloudEvents 1.0.2 core, JSON
//! format, HTTP protocol binding.
//!
//! `type` is the event type, `time` is `occurred_at` (if between 1970 and 9999), `data` is the
//! payload (`null` without data), and all attributes are kept as sent. The dedup id is the JSON
//! array of `source` and `id`, or its SHA-256 if the array is too long or not printable. Data other
//! than JSON becomes a JSON string if the data is text, otherwise `{"data_base64": "…"}`.

use std::borrow::Cow;
use std::fmt::Write as _;

use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::http::error::{Faults, Problem, pointer};
use crate::http::input::cloud_attributes::{is_name, of_json, of_text};
use crate::http::input::fields::{Fields, is_printable, string, text_of, value};
use crate::http::input::wire::{Draft, Rules, payload, posted};
use crate::model::cloudevent::{ATTRIBUTES_MAX, AttributeValue, CloudEvent, DataKind};
use crate::model::event::{DEDUP_ID_CHARS_MAX, EventType, NewEvent};

/// The header that marks a request as a CloudEvent in binary mode.
pub(in crate::http) const SPECVERSION_HEADER: &str = "ce-specversion";
const HEADER_PREFIX: &str = "ce-";
/// The attributes that every CloudEvent must have.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// A CloudEvent while it is read, with the faults found so far.
struct Reading {
    attributes: Vec<(String, AttributeValue)>,
    faults: Faults,
    /// The text before an attribute's name in the pointer of a fault: `/` for JSON, `ce-` for
    /// headers.
    prefix: &'static str,
    /// The names seen so far, including names of invalid attributes.
    named: Vec<String>,
    /// Length of the received data in bytes. `None` means the length of the payload.
    data_bytes: Option<usize>,
}

impl Reading {
    fn new(prefix: &'static str) -> Self {
        Self {
            attributes: Vec::new(),
            faults: Faults::default(),
            prefix,
            named: Vec::new(),
            data_bytes: None,
        }
    }

    /// Records a name. Returns true for its first appearance, and otherwise adds a fault.
    fn is_first(&mut self, name: &str, at: &str) -> bool {
        let is_first = !self.named.iter().any(|other| other == name);
        if is_first {
            self.named.push(name.to_owned());
        } else {
            self.faults.add(at, "appears more than once");
        }
        is_first
    }

    fn attribute(
        &mut self,
        name: &str,
        value: Result<AttributeValue, Cow<'static, str>>,
        at: String,
    ) {
        if !is_name(name) {
            self.faults
                .add(at, "is not a valid attribute name; use lower-case letters and digits only");
            return;
        }
        match value {
            Ok(value) => self.attributes.push((name.to_owned(), value)),
            Err(rule) => self.faults.add(at, rule),
        }
    }

    /// Builds the event, or returns a problem with all faults.
    fn finish(
        mut self,
        rules: &Rules,
        payload: Option<Box<[u8]>>,
        data: DataKind,
    ) -> Result<NewEvent, Problem> {
        for name in
            REQUIRED.into_iter().filter(|name| !self.named.iter().any(|other| other == name))
        {
            self.faults.add(format!("{}{name}", self.prefix), "is required");
        }
        let event_type = self.take("type").and_then(|text| {
            let at = format!("{}type", self.prefix);
            let parsed = EventType::of_cloud_event(&text).and_then(posted);
            parsed.map_err(|rule| self.faults.add(at, rule)).ok()
        });
        self.take("specversion");
        if self.attributes.len() > ATTRIBUTES_MAX {
            let most = ATTRIBUTES_MAX + 2;
            self.faults.add(
                self.prefix.trim_end_matches('/'),
                format!("must have at most {most} attributes"),
            );
        }
        let mut draft =
            Draft { event_type, payload, data_bytes: self.data_bytes, ..Draft::default() };
        if let (Some(source), Some(id)) = (self.text("source"), self.text("id")) {
            draft.dedup_id = Some(dedup_id(source, id));
        }
        draft.occurred_at = self.text("time").and_then(|time| time.parse().ok());
        draft.cloudevent = Some(CloudEvent { attributes: self.attributes, data });
        rules.finish(draft, self.faults)
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.attributes.iter().find(|(other, _)| other == name)? {
            (_, AttributeValue::Text(text)) => Some(text),
            (_, AttributeValue::Integer(_) | AttributeValue::Boolean(_)) => None,
        }
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let place = self.attributes.iter().position(|(other, _)| other == name)?;
        Some(self.attributes.remove(place).1.text())
    }
}

/// Reads an event in structured mode, or an item of a batch. An attribute with the value `null`
/// counts as absent (JSON format 2.2); `data` with the value `null` counts as present (3.1.1).
pub(in crate::http) fn structured(rules: &Rules, text: &str) -> Result<NewEvent, Problem> {
    let mut reading = Reading::new("/");
    let (mut data, mut encoded) = (None, None);
    for (name, value) in Fields::read(text)?.rest() {
        let at = pointer("", &name);
        let is_absent = value.get() == "null" && name != "data";
        if is_absent || !reading.is_first(&name, &at) {
            continue;
        }
        match &*name {
            "data" => data = Some(value),
            "data_base64" => encoded = Some(value),
            name => reading.attribute(name, of_json(name, value), at),
        }
    }
    let (payload, kind) = match (data, encoded) {
        (Some(_), Some(_)) => {
            reading.faults.add("/data_base64", "repeats `data`; send only one of them");
            (None, DataKind::Base64)
        }
        (Some(data), None) => {
            let kept = payload(data).map_err(|rule| reading.faults.add("/data", rule));
            (kept.ok(), DataKind::Json)
        }
        (None, Some(encoded)) => {
            if !is_base64(encoded) {
                reading.faults.add("/data_base64", "must be a base64 string");
            }
            (Some(wrapped(encoded.get())), DataKind::Base64)
        }
        (None, None) => (Some(b"null".as_slice().into()), DataKind::None),
    };
    reading.finish(rules, payload, kind)
}

fn is_base64(value: &RawValue) -> bool {
    string(value).is_some_and(|text| STANDARD.decode(text.as_bytes()).is_ok())
}

/// Reads an event in binary mode.
pub(in crate::http) fn binary(
    rules: &Rules,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<NewEvent, Problem> {
    let mut reading = Reading::new(HEADER_PREFIX);
    read_headers(headers, &mut reading);
    let content_type =
        headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if headers.contains_key(CONTENT_TYPE) {
        let value = of_text("datacontenttype", content_type).map(AttributeValue::Text);
        reading.attribute("datacontenttype", value, "Content-Type".to_owned());
    }
    let (payload, kind) = if body.is_empty() {
        (b"null".as_slice().into(), DataKind::None)
    } else if is_json(content_type) {
        let kept = payload(value(text_of(body)?)?).map_err(|rule| reading.faults.add("", rule));
        (kept.unwrap_or_default(), DataKind::Json)
    } else if let (true, Ok(text)) = (is_text(content_type), str::from_utf8(body)) {
        reading.data_bytes = Some(body.len());
        written(text, rules.payload_bytes_max)?
    } else {
        (encoded(body), DataKind::Base64)
    };
    reading.finish(rules, Some(payload), kind)
}

/// Encodes text as a JSON string, or as base64 if the string exceeds both the payload limit and the
/// length of base64. So quotes and escapes do not count against the producer, and the stored size
/// stays bounded.
fn written(text: &str, payload_bytes_max: usize) -> Result<(Box<[u8]>, DataKind), Problem> {
    let string = serde_json::to_vec(text).map_err(|error| Problem::internal(&error))?;
    let bytes_max = payload_bytes_max.max(text.len().div_ceil(3) * 4);
    Ok(if string.len() <= bytes_max {
        (string.into(), DataKind::Json)
    } else {
        (encoded(text.as_bytes()), DataKind::Base64)
    })
}

/// Encodes bytes in base64 and wraps the result.
fn encoded(bytes: &[u8]) -> Box<[u8]> {
    wrapped(&format!("\"{}\"", STANDARD.encode(bytes)))
}

/// Wraps base64 in an object with the member `data_base64`. `encoded` is a JSON string.
fn wrapped(encoded: &str) -> Box<[u8]> {
    format!("{{\"data_base64\":{encoded}}}").into_bytes().into()
}

/// Returns the media type in lower case, without parameters.
pub(in crate::http) fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// True for a media type of JSON: the subtype is `json` or ends in `+json` (JSON format 3.1).
pub(in crate::http) fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// True for a media type of text or XML, if its `charset` is absent, UTF-8 or US-ASCII.
fn is_text(content_type: &str) -> bool {
    let essence = essence(content_type);
    let mut parameters =
        content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let charset = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    let charset = charset.map(|(_, value)| value.trim().trim_matches('"').to_ascii_lowercase());
    let is_utf_8 =
        charset.is_none_or(|charset| matches!(charset.as_str(), "utf-8" | "utf8" | "us-ascii"));
    is_utf_8
        && (essence.starts_with("text/") || essence.ends_with("/xml") || essence.ends_with("+xml"))
}

/// Reads the attributes of binary mode (HTTP binding 3.1.3) in the order of their names, because
/// headers have no order.
fn read_headers(headers: &HeaderMap, reading: &mut Reading) {
    let mut found: Vec<_> = headers
        .iter()
        .filter_map(|(header, value)| Some((header.as_str().strip_prefix(HEADER_PREFIX)?, value)))
        .collect();
    found.sort_by_key(|(name, _)| *name);
    for (name, value) in found {
        let at = format!("{HEADER_PREFIX}{name}");
        if name == "datacontenttype" {
            reading.faults.add(at, "must not be sent; Content-Type carries this attribute");
        } else if reading.is_first(name, &at) {
            let text = str::from_utf8(value.as_bytes()).ok().and_then(header_text);
            let text = text.ok_or(Cow::Borrowed("must be UTF-8 text, percent-encoded"));
            reading.attribute(
                name,
                text.and_then(|text| of_text(name, &text)).map(AttributeValue::Text),
                at,
            );
        }
    }
}

/// Decodes a header's value: first quotes and their escapes, then percent signs (HTTP binding
/// 3.1.3.2).
fn header_text(value: &str) -> Option<Cow<'_, str>> {
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let Some(quoted) = quoted else { return percent_decode_str(value).decode_utf8().ok() };
    let mut plain = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        plain.push(if character == '\\' { characters.next()? } else { character });
    }
    percent_decode_str(&plain).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}

/// Returns the dedup id of an event. A JSON array keeps different pairs of `source` and `id`
/// distinct, and producers of other events hardly choose such an id.
fn dedup_id(source: &str, id: &str) -> String {
    let joined = serde_json::json!([source, id]).to_string();
    if is_printable(&joined, DEDUP_ID_CHARS_MAX) {
        return joined;
    }
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(&joined) {
        // Writing to a String cannot fail.
        let written = write!(text, "{byte:02x}");
        debug_assert!(written.is_ok());
    }
    text
}

#[cfg(test)]
#[path = "cloudevents_tests.rs"]
mod tests;
