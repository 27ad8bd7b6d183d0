//! A server's answer, with its text kept as received. JSON can hold values that no [`Value`] can
//! (`1e400`, long integers, lone surrogates, a payload of 128 levels inside an envelope), and a
//! command must not fail at a payload that the server accepted.

use std::fmt;
use std::ops::Deref;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// Number of levels of an answer that are parsed around such a value. Deeper levels stay text.
const DEPTH_MAX: usize = 8;

/// An answer: the parsed value for the command, and the text.
pub(super) struct Answer {
    text: String,
    value: Value,
}

impl Answer {
    /// Parses a JSON text.
    ///
    /// # Errors
    /// The text itself, if it is not JSON.
    pub(super) fn read(text: String) -> Result<Self, String> {
        match lenient_text(&text) {
            Some(value) => Ok(Self { text, value }),
            None => Err(text),
        }
    }

    /// The text as it was received.
    pub(super) fn as_text(&self) -> &str {
        &self.text
    }

    /// The members of an object in the order of the text, each in its JSON spelling.
    pub(super) fn members(&self) -> Vec<(String, &str)> {
        let members = serde_json::from_str(&self.text).map(|Members(members)| members);
        members.unwrap_or_default().into_iter().map(|(name, value)| (name, value.get())).collect()
    }

    /// A member in its JSON spelling.
    pub(super) fn spelled(&self, name: &str) -> Option<&str> {
        let found = self.members().into_iter().find(|(member, _)| member == name);
        found.map(|(_, spelled)| spelled)
    }

    /// The items of a list member; empty if the member is missing.
    pub(super) fn items(&self, name: &str) -> Vec<Self> {
        let list = self.spelled(name).and_then(|list| serde_json::from_str(list).ok());
        let items: Vec<&RawValue> = list.unwrap_or_default();
        items.into_iter().filter_map(|item| Self::read(item.get().to_owned()).ok()).collect()
    }
}

impl Deref for Answer {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

/// The text of a member; empty if the member is missing or no text.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list member; empty if the member is missing.
pub(super) fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Parses a JSON text. A part that no [`Value`] can hold becomes a string with the text of this
/// part.
pub(super) fn lenient_text(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().map(|raw| lenient(raw, 0))
}

fn lenient(raw: &RawValue, depth: usize) -> Value {
    let text = raw.get();
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    let whole = match text.as_bytes().first() {
        Some(b'{') if depth < DEPTH_MAX => {
            serde_json::from_str(text).ok().map(|Members(members)| {
                Value::Object(
                    members
                        .into_iter()
                        .map(|(name, value)| (name, lenient(value, depth + 1)))
                        .collect(),
                )
            })
        }
        Some(b'[') if depth < DEPTH_MAX => {
            serde_json::from_str::<Vec<&RawValue>>(text).ok().map(|items| {
                Value::Array(items.into_iter().map(|item| lenient(item, depth + 1)).collect())
            })
        }
        Some(b'"') => serde_json::from_str(text).ok().map(|LossyText(text)| Value::String(text)),
        _ => None,
    };
    whole.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// A string whose lone surrogates, impossible in a Rust string, are replaced by replacement
/// characters.
struct LossyText(String);

impl<'de> Deserialize<'de> for LossyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl Visitor<'_> for Reads {
            type Value = LossyText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<LossyText, E> {
                Ok(LossyText(String::from_utf8_lossy(bytes).into_owned()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<LossyText, E> {
                Ok(LossyText(text.to_owned()))
            }
        }
        deserializer.deserialize_bytes(Reads)
    }
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((LossyText(name), value)) =
                    map.next_entry::<LossyText, &RawValue>()?
                {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_nothing_holds_spoils_nothing_beside_it() {
        let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
        for payload in [
            "1e400",
            "-1E+999",
            "\"\\ud800\"",
            "{\"\\udfff\":[\"\\ud800\\ud800\"]}",
            "123456789012345678901234567890",
            &deep,
        ] {
            let text = format!(
                "{{\"data\":[{{\"id\":\"evt_1\",\"payload\":{payload},\"n\":7}}],\"has_more\":false}}"
            );
            let answer = Answer::read(text.clone()).unwrap();
            let event = &answer["data"][0];
            assert_eq!(
                (&event["id"], &event["n"]),
                (&Value::from("evt_1"), &Value::from(7)),
                "{payload}"
            );
            assert_eq!(
                (answer["has_more"].as_bool(), answer.as_text()),
                (Some(false), text.as_str())
            );
        }
        assert!(Answer::read("<html>".to_owned()).is_err() && Answer::read(String::new()).is_err());
        assert_eq!(
            lenient_text("\"a\\ud800b\"").unwrap(),
            Value::from("a\u{fffd}\u{fffd}\u{fffd}b")
        );
    }
}
