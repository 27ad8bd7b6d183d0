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

use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};

use crate::http::error::{Faults, Problem, pointer};
use crate::http::input::cloud_attributes::{is_name, of_json, of_text};
use crate::http::input::fields::{Fields, is_printable, string, text_of, value};
use crate::http::input::kinds::bytes_of;
use crate::http::input::media_type::MediaType;
use crate::http::input::wire::{Draft, Rules, posted};
use crate::model::cloudevent::{ATTRIBUTES_MAX, AttributeValue, CloudEvent, DataKind};
use crate::model::event::{DEDUP_ID_CHARS_MAX, EventType, NewEvent};

/// The beginning of the headers with the attributes of a CloudEvent in binary mode.
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
            self.faults.add(
                at,
                "is not a valid attribute name; use 1 to 255 lower-case letters and digits",
            );
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
            let place = if self.prefix == HEADER_PREFIX { "ce-*" } else { "" };
            let detail = format!(
                "must have at most {ATTRIBUTES_MAX} attributes beside `specversion` and `type`"
            );
            self.faults.add(place, detail);
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
/// counts as absent (JSON format 2.2). `data` with the value `null` counts as present (3.1.1),
/// except beside `data_base64`.
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
    let data = data.filter(|data| encoded.is_none() || data.get() != "null");
    let (payload, kind) = match (data, encoded) {
        (Some(_), Some(_)) => {
            reading.faults.add("/data_base64", "repeats `data`; send only one of them");
            (None, DataKind::Base64)
        }
        (Some(data), None) => {
            let kept = bytes_of(data).map_err(|rule| reading.faults.add("/data", rule));
            (kept.ok(), DataKind::Json)
        }
        (None, Some(encoded)) => {
            let text = string(encoded).filter(|text| STANDARD.decode(text.as_bytes()).is_ok());
            if text.is_none() {
                reading.faults.add("/data_base64", "must be a string in base64 (RFC 4648, 4)");
            }
            (text.map(|text| wrapped(&text)), DataKind::Base64)
        }
        (None, None) => (Some(b"null".as_slice().into()), DataKind::None),
    };
    reading.finish(rules, payload, kind)
}

/// Returns the name of a header by which a request in `application/json`, or without one of the
/// content types of CloudEvents, is a CloudEvent in binary mode (HTTP binding 3.1). A request that
/// lacks a required attribute is an invalid CloudEvent, not an event in triggerd's own form.
pub(in crate::http) fn binary_header(headers: &HeaderMap) -> Option<&str> {
    headers.keys().map(HeaderName::as_str).find(|name| name.starts_with(HEADER_PREFIX))
}

/// Reads an event in binary mode.
pub(in crate::http) fn binary(
    rules: &Rules,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<NewEvent, Problem> {
    let mut reading = Reading::new(HEADER_PREFIX);
    read_headers(headers, &mut reading);
    let content_type = headers.get(CONTENT_TYPE).map(|value| str::from_utf8(value.as_bytes()));
    if let Some(text) = content_type {
        let text = text.map_err(|_not_text| Cow::Borrowed("must be UTF-8 text"));
        let value = text.and_then(|text| of_text("datacontenttype", text));
        let value = value.map(AttributeValue::Text);
        reading.attribute("datacontenttype", value, "Content-Type".to_owned());
    }
    let media = content_type.and_then(Result::ok).and_then(MediaType::read);
    let is_json = media.as_ref().is_some_and(MediaType::is_json);
    let is_text = media.as_ref().is_some_and(MediaType::is_text);
    let (payload, kind) = if body.is_empty() {
        (b"null".as_slice().into(), DataKind::None)
    } else if is_json {
        let kept = bytes_of(value(text_of(body)?)?).map_err(|rule| reading.faults.add("", rule));
        (kept.unwrap_or_default(), DataKind::Json)
    } else if let (true, Ok(text)) = (is_text, str::from_utf8(body)) {
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
    wrapped(&STANDARD.encode(bytes))
}

/// Wraps base64, whose characters need no escapes, in an object with the member `data_base64`.
fn wrapped(encoded: &str) -> Box<[u8]> {
    format!("{{\"data_base64\":\"{encoded}\"}}").into_bytes().into()
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
            reading.faults.add(at, "must not be sent; the header Content-Type has this attribute");
        } else if name == "data" {
            reading.faults.add(at, "must not be sent; the body has the data");
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
