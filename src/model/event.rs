//! An event: an immutable fact that a producer posted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// Longest event type, in characters.
pub const TYPE_CHARS_MAX: usize = 128;
/// Longest deduplication id, in characters.
pub const DEDUP_ID_CHARS_MAX: usize = 255;
/// Most labels on an event.
pub const LABELS_MAX: usize = 32;
/// Longest label name or value, in characters.
pub const LABEL_CHARS_MAX: usize = 255;

/// What the server's own types begin with. Producers cannot post such, so that consumers can trust them.
pub const OWN_PREFIX: &str = "triggerd.";

/// `order.created`: dotted words of `[A-Za-z0-9_-]`, at most 128 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventType(Box<str>);

impl EventType {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one that only the server gives.
    pub fn is_own(&self) -> bool {
        self.0.starts_with(OWN_PREFIX)
    }

    /// One of the server's own.
    pub(super) fn own(text: &'static str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EventType {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_dotted_words(text) {
            Ok(Self(text.into()))
        } else {
            Err("must be dotted words of letters, digits, `_` and `-`, such as `order.created`, at most 128 characters")
        }
    }
}

/// Whether the text has the shape of an event type.
pub fn is_dotted_words(text: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
    text.len() <= TYPE_CHARS_MAX && text.split('.').all(is_word)
}

/// How a producer says "this is the same event again": the id, what it is compared by, and since when the window runs.
/// The digests are made where the request is read; deciding is `store::apply`'s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedup {
    /// What the producer sent.
    pub id: String,
    /// Digest of organization and id.
    pub digest: [u8; 14],
    /// XXH3 of type and payload: the same id with another one is a mistake of the producer. It tells only an organization's
    /// own events apart, so nothing is gained by whoever makes two payloads with one.
    pub fingerprint: [u8; 8],
    /// An earlier event counts only if it was received at or after this.
    pub window_start: Timestamp,
}

/// What a producer posted, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Its type.
    pub event_type: EventType,
    /// Its dedup id, if it has one.
    pub dedup: Option<Dedup>,
    /// Names and values the producer attached, in the order they came.
    pub labels: Vec<(String, String)>,
    /// When it happened, as the producer says.
    pub occurred_at: Option<Timestamp>,
    /// Not pushed before this.
    pub deliver_after: Option<Timestamp>,
    /// The JSON value, byte for byte as it came.
    pub payload: Box<[u8]>,
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventStatus {
    /// Stored; waits to be pulled, or is on its way.
    Accepted,
    /// Every endpoint that matched it accepted it.
    Delivered,
    /// A consumer confirmed it.
    Acknowledged,
    /// Nothing is on its way any more and at least one endpoint never accepted it. Still in the inbox.
    Dead,
}

impl EventStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Delivered, Self::Acknowledged, Self::Dead];

    /// The word for it in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Delivered => "delivered",
            Self::Acknowledged => "acknowledged",
            Self::Dead => "dead",
        }
    }
}

impl FromStr for EventStatus {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|status| status.name() == text);
        known.ok_or("must be `accepted`, `delivered`, `acknowledged` or `dead`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_types_are_dotted_words() {
        for good in ["a", "order.created", "A-1.b_2.C", &"x".repeat(128)] {
            assert!(good.parse::<EventType>().is_ok(), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a/b", "ä", "a\n", &"x".repeat(129)] {
            assert!(bad.parse::<EventType>().is_err(), "{bad}");
        }
    }
}
