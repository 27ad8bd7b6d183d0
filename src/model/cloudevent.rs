//! What an event that came as a CloudEvent has beside its type and payload: kept so that it goes out as it came.

use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};

use super::event::EventType;

/// Most attributes of an event beside `specversion` and `type`,
pub const ATTRIBUTES_MAX: usize = 64;
/// and the longest value of one, in bytes.
pub const ATTRIBUTE_BYTES_MAX: usize = 4 << 10;
/// Longest name of one, in characters.
pub const ATTRIBUTE_NAME_CHARS_MAX: usize = 255;

/// The version of the specification that is understood.
pub const SPECVERSION: &str = "1.0";

/// A CloudEvent without its data. Source: CloudEvents 1.0.2 core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudEvent {
    /// Its attributes but for `specversion` and `type`, in the order they came.
    pub attributes: Vec<(String, AttributeValue)>,
    /// What its data is; the event's payload has it.
    pub data: DataKind,
}

/// The value of an attribute by its type in JSON (JSON format 2.2). A time, a URI or bytes are the text they came as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttributeValue {
    /// A text.
    Text(String),
    /// A number.
    Integer(i32),
    /// `true` or `false`.
    Boolean(bool),
}

impl AttributeValue {
    /// Its string form (core, Type System).
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(flag) => flag.to_string(),
        }
    }

    fn bytes_len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Integer(_) | Self::Boolean(_) => size_of::<i32>(),
        }
    }
}

/// What the data of a CloudEvent is. The word for it is part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataKind {
    /// A JSON value, which is the payload; text is a string.
    Json,
    /// Bytes: the payload is an object with the one member `data_base64`.
    Base64,
    /// There is none: the payload is `null`.
    None,
}

impl DataKind {
    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Base64 => "base64",
            Self::None => "none",
        }
    }
}

impl CloudEvent {
    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        self.attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// How many bytes it takes, roughly.
    pub fn bytes_len(&self) -> usize {
        self.attributes.iter().map(|(name, value)| name.len().saturating_add(value.bytes_len())).sum()
    }
}

/// The members of a CloudEvent in the JSON format (3) but for its data.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Its type.
    pub event_type: &'a EventType,
    /// The rest.
    pub event: &'a CloudEvent,
}

impl Serialize for Context<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", SPECVERSION)?;
        map.serialize_entry("type", self.event_type.as_str())?;
        for (name, value) in &self.event.attributes {
            match value {
                AttributeValue::Text(text) => map.serialize_entry(name, text)?,
                AttributeValue::Integer(number) => map.serialize_entry(name, number)?,
                AttributeValue::Boolean(flag) => map.serialize_entry(name, flag)?,
            }
        }
        map.end()
    }
}
