//! JSON from clients, read once: members borrowed from the body, values left as they came until somebody needs them, and
//! every fault noted before any is reported.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::error::{Code, Fault, Problem};
use crate::model::event::{DEDUP_ID_CHARS_MAX, Dedup, EventType, LABEL_CHARS_MAX, LABELS_MAX, NewEvent};
use crate::model::id::OrgNo;
use crate::model::time::Timestamp;

/// Brackets inside brackets; what serde_json allows where it builds values.
const DEPTH_MAX: usize = 128;

/// An object's members in the order they came, also those that came twice.
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A member's name, borrowed unless it has escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A body's members.
pub(super) fn members(body: &[u8]) -> Result<Members<'_>, Problem> {
    let malformed = |error: serde_json::Error| {
        let at = format!("line {}, column {}", error.line(), error.column());
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default();
        Problem::new(Code::MalformedJson, format!("not JSON at {at}: {what}"))
    };
    let starts_object = body.iter().find(|c| !c.is_ascii_whitespace()) == Some(&b'{');
    if !starts_object {
        let _json: &RawValue = serde_json::from_slice(body).map_err(malformed)?;
        return Err(Problem::validation(vec![fault("", "must be an object")]));
    }
    serde_json::from_slice(body).map_err(malformed)
}

pub(super) fn fault(pointer: impl Into<String>, detail: impl Into<String>) -> Fault {
    Fault { pointer: pointer.into(), detail: detail.into() }
}

/// A member name as a part of a JSON Pointer (RFC 6901, section 3).
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// A string's text, borrowed unless it has escapes; none if the value is no string.
pub(super) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(value.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Takes members out of an object by name, and notes what is wrong with them.
pub(super) struct Reader<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    pub(super) faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(members: Members<'a>) -> Self {
        Self { members: members.0, faults: Vec::new() }
    }

    /// The member's value; a second one of that name is a fault.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let place = self.members.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.members.swap_remove(place);
        if let Some(again) = self.members.iter().position(|(known, _)| known == name) {
            self.members.swap_remove(again);
            self.faults.push(fault(pointer(name), "is there more than once"));
        }
        Some(value)
    }

    /// Like [`Reader::take`], but `null` counts as absent.
    pub(super) fn take_some(&mut self, name: &str) -> Option<&'a RawValue> {
        self.take(name).filter(|value| value.get() != "null")
    }

    /// A text, turned into something by `parse`.
    pub(super) fn parse<T, E: fmt::Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.take_some(name)?;
        self.parse_value(name, value, parse)
    }

    /// The same for a value that was taken before.
    pub(super) fn parse_value<T, E: fmt::Display>(
        &mut self,
        name: &str,
        value: &RawValue,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let parsed = match text(value) {
            Some(text) => parse(&text).map_err(|error| error.to_string()),
            None => Err("must be a text".to_owned()),
        };
        parsed.map_err(|detail| self.faults.push(fault(pointer(name), detail))).ok()
    }

    /// A value of any other shape.
    pub(super) fn decode<T: serde::de::DeserializeOwned>(&mut self, name: &str, must: &str) -> Option<T> {
        let value = self.take_some(name)?;
        let decoded = serde_json::from_str(value.get());
        decoded.map_err(|_wrong| self.faults.push(fault(pointer(name), must))).ok()
    }

    pub(super) fn require<T>(&mut self, name: &str, value: Option<T>) -> Option<T> {
        let named = || pointer(name);
        if value.is_none() && !self.faults.iter().any(|known| known.pointer == named()) {
            self.faults.push(fault(named(), "is required"));
        }
        value
    }

    /// What is left, by name.
    pub(super) fn rest(&mut self) -> Vec<(Cow<'a, str>, &'a RawValue)> {
        std::mem::take(&mut self.members)
    }

    /// All faults, with what is left as unknown; or the value.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<T, Problem> {
        for (name, _) in self.rest() {
            self.faults.push(fault(pointer(&name), "is not a known member"));
        }
        match value {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => Err(Problem::validation(self.faults)),
        }
    }
}

/// What an event's dedup id is made with.
#[derive(Clone, Copy)]
pub(super) struct DedupScope {
    pub(super) org: OrgNo,
    pub(super) window_start: Timestamp,
}

/// An event as the product's own JSON says it. `header`: the `Idempotency-Key`.
pub(super) fn event(members: Members<'_>, header: Option<&str>, scope: DedupScope) -> Result<NewEvent, Problem> {
    let mut reader = Reader::new(members);
    let event_type = read_type(&mut reader);
    let payload = reader.take("payload");
    let payload = reader.require("payload", payload);
    if payload.is_some_and(|payload| is_too_deep(payload.get())) {
        reader.faults.push(fault("/payload", format!("is nested more than {DEPTH_MAX} deep")));
    }
    let body_id = reader.parse("dedup_id", |text| checked_dedup_id(text).map(str::to_owned));
    if let Some(Err(detail)) = header.map(checked_dedup_id) {
        reader.faults.push(fault("", format!("the header Idempotency-Key {detail}")));
    }
    let (body_id, header) = (body_id, header.map(str::to_owned));
    if let (Some(body), Some(header)) = (&body_id, &header)
        && body != header
    {
        return Err(Problem::new(
            Code::ConflictingDedupId,
            format!("dedup_id is {body:?}, Idempotency-Key is {header:?}"),
        ));
    }
    let labels = reader.take_some("labels").map(|value| read_labels(&mut reader, value)).unwrap_or_default();
    let occurred_at = reader.parse("occurred_at", str::parse);
    let deliver_after = reader.parse("deliver_after", str::parse);
    let new = event_type.zip(payload).map(|(event_type, payload)| {
        let payload = payload.get().as_bytes();
        let id = body_id.or(header);
        let dedup = id.map(|id| dedup(id, scope, &event_type, payload));
        NewEvent { dedup, event_type, labels, occurred_at, deliver_after, payload: payload.into() }
    });
    reader.finish(new)
}

/// `type`, or `event_type`, which means the same.
fn read_type(reader: &mut Reader<'_>) -> Option<EventType> {
    let (short, long) = (reader.take_some("type"), reader.take_some("event_type"));
    if short.is_some() && long.is_some() {
        reader.faults.push(fault("/event_type", "means the same as type; send one of them"));
    }
    match (short, long) {
        (Some(value), _) => reader.parse_value("type", value, str::parse),
        (None, Some(value)) => reader.parse_value("event_type", value, str::parse),
        (None, None) => reader.require("type", None),
    }
}

fn read_labels(reader: &mut Reader<'_>, value: &RawValue) -> Vec<(String, String)> {
    let Ok(Members(members)) = serde_json::from_str(value.get()) else {
        reader.faults.push(fault("/labels", "must be an object of texts"));
        return Vec::new();
    };
    if members.len() > LABELS_MAX {
        reader.faults.push(fault("/labels", format!("may have {LABELS_MAX} members at most")));
    }
    let mut labels: Vec<(String, String)> = Vec::with_capacity(members.len());
    for (name, value) in members {
        let at = format!("/labels{}", pointer(&name));
        let short = |text: &str| (1..=LABEL_CHARS_MAX).contains(&text.chars().count());
        match text(value) {
            None => reader.faults.push(fault(at, "must be a text")),
            Some(_) if labels.iter().any(|(known, _)| *known == name) => {
                reader.faults.push(fault(at, "is there more than once"));
            }
            Some(text) if short(&name) && (text.is_empty() || short(&text)) => {
                labels.push((name.into_owned(), text.into_owned()));
            }
            Some(_) => {
                reader.faults.push(fault(at, format!("name and value may have {LABEL_CHARS_MAX} characters at most")));
            }
        }
    }
    labels
}

pub(super) fn checked_dedup_id(text: &str) -> Result<&str, String> {
    let count = text.chars().count();
    if (1..=DEDUP_ID_CHARS_MAX).contains(&count) && !text.chars().any(char::is_control) {
        Ok(text)
    } else {
        Err(format!("must be 1 to {DEDUP_ID_CHARS_MAX} printable characters"))
    }
}

/// The digests of a dedup id; see [`Dedup`].
pub(super) fn dedup(id: String, scope: DedupScope, event_type: &EventType, payload: &[u8]) -> Dedup {
    let of_id = Sha256::new().chain_update(scope.org.0.to_be_bytes()).chain_update(id.as_bytes()).finalize();
    let of_event = Sha256::new().chain_update(event_type.as_str()).chain_update([0]).chain_update(payload).finalize();
    let (mut digest, mut fingerprint) = ([0; 14], [0; 8]);
    digest.iter_mut().zip(of_id).for_each(|(place, byte)| *place = byte);
    fingerprint.iter_mut().zip(of_event).for_each(|(place, byte)| *place = byte);
    Dedup { id, digest, fingerprint, window_start: scope.window_start }
}

/// Whether brackets are nested too deep for parsers that recurse. The text is valid JSON.
pub(super) fn is_too_deep(json: &str) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return true;
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
