//! CloudEvents 1.0 as events: structured (one JSON object), binary (attributes in `ce-` headers, data in the body), and
//! the items of batches. Sources: CloudEvents 1.0.2 core, JSON format, HTTP protocol binding.
//!
//! `type` is the type, `time` is `occurred_at`, `data` is the payload (none: `null`). `source` and `id`, as the JSON array
//! of both, are the dedup id, or their SHA-256 if that is too long or not printable. All other attributes become labels
//! under their name with `ce-` before it, and so do `source` and `id` where they fit. Data that is not JSON becomes a
//! JSON string if it is text, else `{"data_base64": "…"}`.

use std::borrow::Cow;
use std::fmt::Write as _;

use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::error::{Faults, Problem, pointer};
use super::fields::{Fields, is_printable, string, text_of, value};
use super::wire::{Draft, Rules, add_label, payload, posted_type};
use crate::model::event::{DEDUP_ID_CHARS_MAX, LABEL_CHARS_MAX, LABELS_MAX, NewEvent};

/// The header that says a request is a CloudEvent in binary mode.
pub(super) const SPECVERSION_HEADER: &str = "ce-specversion";
const HEADER_PREFIX: &str = "ce-";
const SPECVERSION: &str = "1.0";

/// A context attribute, and where it stands.
struct Attribute<'a> {
    name: Cow<'a, str>,
    text: Cow<'a, str>,
    at: String,
}

/// Reads an event in structured mode, or an item of a batch.
pub(super) fn structured(rules: &Rules, text: &str) -> Result<NewEvent, Problem> {
    let mut fields = Fields::read(text)?;
    let mut faults = Faults::default();
    let data = fields.take("data", &mut faults);
    let encoded = fields.take("data_base64", &mut faults);
    let payload = match (data, encoded) {
        (Some(_), Some(encoded)) => {
            faults.add(encoded.pointer(), "means the same as data, which is there too");
            None
        }
        (Some(data), None) => payload(data.value).map_err(|rule| faults.add(data.pointer(), rule)).ok(),
        (None, Some(encoded)) => {
            let decodes = string(encoded.value).is_some_and(|text| STANDARD.decode(text.as_bytes()).is_ok());
            if !decodes {
                faults.add(encoded.pointer(), "must be a string in base64");
            }
            Some(wrapped(encoded.value.get()))
        }
        (None, None) => Some(b"null".as_slice().into()),
    };
    let attributes = attributes(fields, &mut faults);
    let draft = Draft { payload, ..draft(attributes, "/", &mut faults) };
    rules.finish(draft, faults)
}

/// Reads an event in binary mode.
pub(super) fn binary(rules: &Rules, headers: &HeaderMap, body: &[u8]) -> Result<NewEvent, Problem> {
    let mut faults = Faults::default();
    let mut attributes = header_attributes(headers, &mut faults);
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let payload = if body.is_empty() {
        b"null".as_slice().into()
    } else if is_json(content_type) {
        payload(value(text_of(body)?)?).unwrap_or_else(|rule| {
            faults.add("", rule);
            Box::default()
        })
    } else if is_text(content_type) {
        let text = text_of(body)?;
        serde_json::to_vec(text).map_err(|error| Problem::internal(&error))?.into()
    } else {
        wrapped(&format!("\"{}\"", STANDARD.encode(body)))
    };
    if !content_type.is_empty() {
        let (name, at) = ("datacontenttype".into(), "Content-Type".to_owned());
        attributes.push(Attribute { name, text: content_type.into(), at });
    }
    let draft = Draft { payload: Some(payload), ..draft(attributes, HEADER_PREFIX, &mut faults) };
    rules.finish(draft, faults)
}

/// Bytes that are no text, as JSON; `encoded` is a JSON string.
fn wrapped(encoded: &str) -> Box<[u8]> {
    format!("{{\"data_base64\":{encoded}}}").into_bytes().into()
}

/// The media type without its parameters.
fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// JSON format 3.1: the subtype is `json` or ends in `+json`.
fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.ends_with("/json") || essence.ends_with("+json")
}

fn is_text(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.starts_with("text/") || essence.ends_with("/xml") || essence.ends_with("+xml")
}

/// The attributes of structured mode: everything but the data. `null` is like not there (JSON format 2.2).
fn attributes<'a>(fields: Fields<'a>, faults: &mut Faults) -> Vec<Attribute<'a>> {
    let mut attributes: Vec<Attribute<'a>> = Vec::new();
    for (name, value) in fields.rest() {
        let at = pointer("", &name);
        if attributes.iter().any(|other| other.name == name) {
            faults.add(at, "stands there twice");
        } else if value.get() != "null" {
            match attribute_text(&name, value) {
                Some(text) => attributes.push(Attribute { name, text, at }),
                None => faults.add(at, "must be a string; extension attributes may be numbers or true and false too"),
            }
        }
    }
    attributes
}

/// The text of an attribute's value (core, 1.2: types have a string form).
fn attribute_text<'a>(name: &str, value: &'a RawValue) -> Option<Cow<'a, str>> {
    const OF_THE_CORE: [&str; 8] =
        ["specversion", "id", "source", "type", "time", "subject", "dataschema", "datacontenttype"];
    let text = value.get();
    match text.bytes().next()? {
        b'"' => string(value),
        b'[' | b'{' => None,
        _ if OF_THE_CORE.contains(&name) => None,
        _ => Some(Cow::Borrowed(text)),
    }
}

/// The attributes of binary mode (HTTP binding 3.1.3).
fn header_attributes<'a>(headers: &'a HeaderMap, faults: &mut Faults) -> Vec<Attribute<'a>> {
    let mut attributes: Vec<Attribute<'a>> = Vec::new();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix(HEADER_PREFIX) else { continue };
        let at = header.as_str().to_owned();
        if name == "datacontenttype" {
            faults.add(at, "is said by Content-Type");
        } else if attributes.iter().any(|other| other.name == name) {
            faults.add(at, "stands there twice");
        } else {
            match str::from_utf8(value.as_bytes()).ok().and_then(header_text) {
                Some(text) => attributes.push(Attribute { name: name.into(), text, at }),
                None => faults.add(at, "is not text in UTF-8, percent-encoded"),
            }
        }
    }
    attributes
}

/// A header's value decoded: quotes and their escapes first, then percent signs (HTTP binding 3.1.3.2).
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

/// What the attributes say; `prefix` stands before the name of one that is missing.
fn draft(mut attributes: Vec<Attribute<'_>>, prefix: &str, faults: &mut Faults) -> Draft {
    let mut take = |name: &str| {
        let place = attributes.iter().position(|attribute| attribute.name == name)?;
        Some(attributes.remove(place)).filter(|attribute| !attribute.text.is_empty())
    };
    let required = ["specversion", "id", "source", "type"].map(|name| (name, take(name)));
    let (time, content_type) = (take("time"), take("datacontenttype"));
    for (name, attribute) in &required {
        if attribute.is_none() {
            faults.add(format!("{prefix}{name}"), "is required and must not be empty");
        }
    }
    let [(_, specversion), (_, id), (_, source), (_, event_type)] = required;
    if let Some(attribute) = specversion.filter(|attribute| attribute.text != SPECVERSION) {
        faults.add(attribute.at, "must be 1.0");
    }
    let mut draft = Draft {
        event_type: event_type.and_then(|attribute| {
            let parsed = posted_type(&attribute.text);
            parsed.map_err(|rule| faults.add(attribute.at, rule)).ok()
        }),
        occurred_at: time.and_then(|attribute| {
            let parsed = attribute.text.parse::<crate::model::time::Timestamp>();
            parsed.map_err(|error| faults.add(attribute.at, error.to_string())).ok()
        }),
        ..Draft::default()
    };
    if let (Some(source), Some(id)) = (&source, &id) {
        draft.dedup_id = Some(dedup_id(&source.text, &id.text));
    }
    // What the dedup id was made of is shown too, where it fits.
    let shown = [source, id].into_iter().flatten();
    let shown = shown.filter(|attribute| attribute.text.chars().count() <= LABEL_CHARS_MAX);
    let content_type = content_type.filter(|attribute| !is_json(&attribute.text));
    let labels: Vec<_> = shown.chain(content_type).chain(attributes).collect();
    if labels.len() > LABELS_MAX {
        faults.add(prefix.trim_end_matches('/'), format!("has more than {LABELS_MAX} attributes to keep as labels"));
        return draft;
    }
    for Attribute { name, text, at } in labels {
        // Core, 1.1: lower-case letters and digits.
        if name.is_empty() || !name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) {
            faults.add(at, "is not an attribute's name: lower-case letters and digits only");
            continue;
        }
        add_label(&mut draft.labels, &format!("{HEADER_PREFIX}{name}"), &text, faults, at);
    }
    draft
}

/// A JSON array, because nothing can stand in either that would make two pairs one, and producers of other events hardly
/// choose such ids.
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
