//! The part of a CloudEvent beside its type and payload, kept so that the event leaves the server
//! unchanged.

use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};

/// Maximum number of attributes of an event beside `specversion` and `type`.
pub const ATTRIBUTES_MAX: usize = 64;
/// Maximum length of an attribute's value, in bytes.
pub const ATTRIBUTE_BYTES_MAX: usize = 4 << 10;
/// Maximum length of an attribute's name, in characters.
pub const ATTRIBUTE_NAME_CHARS_MAX: usize = 255;

/// The only version of the CloudEvents specification that the server accepts.
pub const SPECVERSION: &str = "1.0";

/// A CloudEvent without its data. Source: CloudEvents 1.0.2 core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudEvent {
    /// The attributes without `specversion` and `type`, in the order in which they came.
    pub attributes: Vec<(String, AttributeValue)>,
    /// The kind of the data. The data itself is the payload of the event.
    pub data: DataKind,
}

/// The value of an attribute by its type in JSON (JSON format 2.2). A time, a URI and bytes stay
/// text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttributeValue {
    /// A JSON string, kept unchanged.
    Text(String),
    /// A JSON number, a 32-bit integer.
    Integer(i32),
    /// A JSON `true` or `false`.
    Boolean(bool),
}

impl AttributeValue {
    /// Returns the string form of the value (core, Type System).
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

/// The kind of a CloudEvent's data. The API uses its name, so the name never changes.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum DataKind {
    /// A JSON value, which is the payload. Text becomes a JSON string.
    Json,
    /// Bytes: the payload is an object with the one member `data_base64`.
    Base64,
    /// No data: the payload is `null`.
    None,
}

impl DataKind {
    /// The name of the kind in the API.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl CloudEvent {
    /// Returns the value of the attribute with this name.
    pub fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        self.attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// Returns roughly how many bytes the attributes take.
    pub fn bytes_len(&self) -> usize {
        self.attributes
            .iter()
            .map(|(name, value)| name.len().saturating_add(value.bytes_len()))
            .sum()
    }
}

/// The members of a CloudEvent in the JSON format (section 3), without the data.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The type of the event.
    pub event_type: &'a str,
    /// The other attributes of the event.
    pub event: &'a CloudEvent,
}

impl Serialize for Context<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", SPECVERSION)?;
        map.serialize_entry("type", self.event_type)?;
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
