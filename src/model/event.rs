//! An event: an immutable fact that a producer posted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::cloudevent::{CloudEvent, DataKind};
use super::id::EventId;
use super::time::Timestamp;
use crate::base::names::{UnknownName, named};

/// Maximum length of an event type, in characters.
pub const TYPE_CHARS_MAX: usize = 255;
/// Maximum length of a deduplication id, in characters.
pub const DEDUP_ID_CHARS_MAX: usize = 255;
/// Maximum number of labels on an event.
pub const LABELS_MAX: usize = 32;
/// Maximum length of a label's name or value, in characters.
pub const LABEL_CHARS_MAX: usize = 255;

/// The separators between the words of a type: `order.created`, `orders/create`, `repo:push`.
pub const SEPARATORS: [char; 3] = ['.', '/', ':'];
/// The first word of the server's own types. Producers cannot post such types, so consumers can
/// trust them.
const OWN_WORD: &str = "triggerd";
/// The characters with a meaning in type patterns and in lists of patterns.
pub const OF_PATTERNS: [char; 4] = ['*', '!', ',', ' '];

/// An event type such as `order.created`: 1 to 255 visible characters. Only the type of a
/// CloudEvent may contain the characters of type patterns.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventType(Box<str>);

impl EventType {
    /// Returns the text of the type.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if only the server can give this type.
    pub fn is_own(&self) -> bool {
        self.0.strip_prefix(OWN_WORD).is_some_and(|rest| rest.starts_with(SEPARATORS))
    }

    /// Returns true if the type begins with these words and continues after a separator.
    pub fn is_below(&self, words: &str) -> bool {
        let behind = self.0.strip_prefix(words).and_then(|rest| rest.strip_prefix(SEPARATORS));
        behind.is_some_and(|behind| !behind.is_empty())
    }

    /// Reads the type of a CloudEvent.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn of_cloud_event(text: &str) -> Result<Self, &'static str> {
        if is_visible(text) {
            Ok(Self(text.into()))
        } else {
            Err("must be 1 to 255 visible characters")
        }
    }

    /// Returns an operational event's type.
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
        if is_visible(text) && !text.contains(OF_PATTERNS) {
            Ok(Self(text.into()))
        } else {
            Err("must be 1 to 255 visible characters without `*`, `!`, `,` and spaces, such as \
                 `order.created`")
        }
    }
}

/// Returns true if a text can be an event type: a reader sees every character, and where the text
/// begins and ends.
pub fn is_visible(text: &str) -> bool {
    let is_right = |c: char| match c {
        ' ' => true,
        _ if c.is_ascii() => c.is_ascii_graphic(),
        _ => !is_control(c) && !is_invisible(c) && !c.is_whitespace(),
    };
    (1..=TYPE_CHARS_MAX).contains(&text.chars().count())
        && text.chars().all(is_right)
        && !text.starts_with(' ')
        && !text.ends_with(' ')
}

/// Returns true for control characters and for code points that are not characters (CloudEvents
/// 1.0.2 core, Type System: String).
pub fn is_control(c: char) -> bool {
    let low = u32::from(c) & 0xffff;
    c.is_control() || matches!(c, '\u{fdd0}'..='\u{fdef}') || low >= 0xfffe
}

/// Returns true for characters without a shape that hide or change their neighbors (Unicode: Cf, Zl
/// and Zp).
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' |
        '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The data by which a repeated event is recognized. HTTP computes the digests when it reads the
/// request; the decision is made when the event is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedup {
    /// The id from the producer.
    pub id: String,
    /// A digest of the organization and the id.
    pub digest: [u8; 14],
    /// XXH3 of the type, the payload and the other CloudEvent attributes. The same id with another
    /// fingerprint is a mistake of the producer. The fingerprint compares only events of one
    /// organization, so nobody gains from two payloads with the same fingerprint.
    pub fingerprint: [u8; 8],
    /// The start of the deduplication window, a steady time. Only events received at or after this
    /// time count.
    pub window_start: Timestamp,
}

/// A validated event of a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// The type of the event.
    pub event_type: EventType,
    /// The data for deduplication. Absent if the event has no dedup id.
    pub dedup: Option<Dedup>,
    /// Names and values from the producer, in the order in which they came.
    pub labels: Vec<(String, String)>,
    /// The time at which the fact happened, as the producer says.
    pub occurred_at: Option<Timestamp>,
    /// The time before which the event is not pushed.
    pub deliver_after: Option<Timestamp>,
    /// The JSON value, byte for byte as the producer sent it.
    pub payload: Box<[u8]>,
    /// The other attributes. Absent if the event did not come as a CloudEvent.
    pub cloudevent: Option<Box<CloudEvent>>,
}

impl NewEvent {
    /// Returns roughly how many bytes the event takes.
    pub fn bytes_len(&self) -> usize {
        let labels: usize =
            self.labels.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum();
        let attributes = self.cloudevent.as_ref().map_or(0, |event| event.bytes_len());
        self.payload.len().saturating_add(labels).saturating_add(attributes)
    }

    /// Returns the size of the producer's data, in bytes. Base64 text counts as the bytes behind
    /// the text, which are a quarter fewer.
    pub fn data_len(&self) -> usize {
        const AROUND: usize = r#"{"data_base64":""}"#.len();
        let is_base64 =
            self.cloudevent.as_ref().is_some_and(|event| event.data == DataKind::Base64);
        if !is_base64 {
            return self.payload.len();
        }
        let filled = self.payload.iter().rev().skip(2).take_while(|byte| **byte == b'=').count();
        (self.payload.len().saturating_sub(AROUND) / 4 * 3).saturating_sub(filled)
    }
}

/// An event as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// The id of the event.
    pub id: EventId,
    /// The time at which the event was accepted.
    pub received_at: Timestamp,
    /// The event as it was posted.
    pub event: NewEvent,
}

/// The status of an event.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(
    serialize_all = "snake_case",
    parse_err_ty = UnknownName,
    parse_err_fn = UnknownName::of::<EventStatus>
)]
pub enum EventStatus {
    /// The event is stored and waits in the inbox, or a delivery is on its way.
    Accepted,
    /// Every matching endpoint accepted the event.
    Delivered,
    /// A consumer acknowledged the event.
    Acknowledged,
    /// No delivery is on its way, and at least one endpoint never accepted the event. The event is
    /// still in the inbox.
    Dead,
}

named!(EventStatus);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_types_are_visible_characters_and_those_of_patterns_are_for_cloud_events() {
        let longest = "ä".repeat(TYPE_CHARS_MAX);
        for good in [
            "a",
            "order.created",
            "orders/create",
            "repo:push",
            "A-1.b_2.C",
            ".",
            "a..b",
            "a/",
            "ä",
            "{x}",
            &longest,
        ] {
            assert!(good.parse::<EventType>().is_ok(), "{good}");
        }
        for only_cloud in ["a b", "a*", "!a", "a,b", "*"] {
            assert!(only_cloud.parse::<EventType>().is_err(), "{only_cloud}");
            assert!(EventType::of_cloud_event(only_cloud).is_ok(), "{only_cloud}");
        }
        let too_long = "x".repeat(TYPE_CHARS_MAX + 1);
        let invisible = [
            "a\n",
            "a\u{7f}",
            "\u{9f}",
            "a\u{200b}",
            "\u{202e}a",
            "\u{a0}",
            "\u{2028}",
            "\u{fffe}",
            "\u{feff}a",
        ];
        for bad in ["", " ", " a", "a ", too_long.as_str()].into_iter().chain(invisible) {
            assert!(
                bad.parse::<EventType>().is_err() && EventType::of_cloud_event(bad).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn the_servers_own_types_begin_with_its_name_and_a_separator() {
        for own in ["triggerd.x", "triggerd/x", "triggerd:x", "triggerd."] {
            assert!(own.parse::<EventType>().unwrap().is_own(), "{own}");
        }
        for other in ["triggerd", "triggerdx.y", "triggerd-x.y", "Triggerd.x", "a.triggerd.x"] {
            assert!(!other.parse::<EventType>().unwrap().is_own(), "{other}");
        }
    }
}
