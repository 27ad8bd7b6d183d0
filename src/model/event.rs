//! An event: an immutable fact that a producer posted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::cloudevent::{CloudEvent, DataKind};
use super::time::Timestamp;

/// Longest event type, in characters.
pub const TYPE_CHARS_MAX: usize = 255;
/// Longest deduplication id, in characters.
pub const DEDUP_ID_CHARS_MAX: usize = 255;
/// Most labels on an event.
pub const LABELS_MAX: usize = 32;
/// Longest label name or value, in characters.
pub const LABEL_CHARS_MAX: usize = 255;

/// What stands between the words of a type: `order.created`, `orders/create`, `repo:push`.
pub const SEPARATORS: [char; 3] = ['.', '/', ':'];
/// The first word of the server's own types. Producers cannot post such, so that consumers can trust them.
const OWN_WORD: &str = "triggerd";
/// What patterns and lists of them are made of.
pub const OF_PATTERNS: [char; 4] = ['*', '!', ',', ' '];

/// `order.created`: 1 to 255 visible characters. One that came with a CloudEvent may have any of them; else those that
/// patterns are made of are left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventType(Box<str>);

impl EventType {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one that only the server gives.
    pub fn is_own(&self) -> bool {
        self.0.strip_prefix(OWN_WORD).is_some_and(|rest| rest.starts_with(SEPARATORS))
    }

    /// Whether it begins with these words and goes on behind a separator.
    pub fn is_below(&self, words: &str) -> bool {
        let behind = self.0.strip_prefix(words).and_then(|rest| rest.strip_prefix(SEPARATORS));
        behind.is_some_and(|behind| !behind.is_empty())
    }

    /// The type of a CloudEvent.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn of_cloud_event(text: &str) -> Result<Self, &'static str> {
        if is_visible(text) { Ok(Self(text.into())) } else { Err("must be 1 to 255 visible characters") }
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
        if is_visible(text) && !text.contains(OF_PATTERNS) {
            Ok(Self(text.into()))
        } else {
            Err("must be 1 to 255 visible characters without `*`, `!`, `,` and spaces, such as `order.created`")
        }
    }
}

/// Whether a text can be an event type: it can be seen where it begins and ends, and what it is.
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

/// Control characters, and code points that are none (CloudEvents 1.0.2 core, Type System: String).
pub fn is_control(c: char) -> bool {
    let low = u32::from(c) & 0xffff;
    c.is_control() || matches!(c, '\u{fdd0}'..='\u{fdef}') || low >= 0xfffe
}

/// Characters without a shape of their own that change how others look, or hide (Unicode: Cf, Zl and Zp).
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// How a producer says "this is the same event again": the id, what it is compared by, and since when the window runs.
/// The digests are made where the request is read; it is decided when the event is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedup {
    /// What the producer sent.
    pub id: String,
    /// Digest of organization and id.
    pub digest: [u8; 14],
    /// XXH3 of type, payload and what a CloudEvent has beside them: the same id with another one is a mistake of the
    /// producer. It tells only an organization's own events apart, so nothing is gained by whoever makes two payloads with
    /// one.
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
    /// What it has beside that if it came as a CloudEvent.
    pub cloudevent: Option<Box<CloudEvent>>,
}

impl NewEvent {
    /// How many bytes it takes, roughly.
    pub fn bytes_len(&self) -> usize {
        let labels: usize = self.labels.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum();
        let attributes = self.cloudevent.as_ref().map_or(0, |event| event.bytes_len());
        self.payload.len().saturating_add(labels).saturating_add(attributes)
    }

    /// How many bytes of data the producer sent: bytes are a third longer as text.
    pub fn data_len(&self) -> usize {
        const AROUND: usize = r#"{"data_base64":""}"#.len();
        let is_base64 = self.cloudevent.as_ref().is_some_and(|event| event.data == DataKind::Base64);
        if !is_base64 {
            return self.payload.len();
        }
        let filled = self.payload.iter().rev().skip(2).take_while(|byte| **byte == b'=').count();
        (self.payload.len().saturating_sub(AROUND) / 4 * 3).saturating_sub(filled)
    }
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
    fn event_types_are_visible_characters_and_those_of_patterns_are_for_cloud_events() {
        let longest = "ä".repeat(TYPE_CHARS_MAX);
        for good in
            ["a", "order.created", "orders/create", "repo:push", "A-1.b_2.C", ".", "a..b", "a/", "ä", "{x}", &longest]
        {
            assert!(good.parse::<EventType>().is_ok(), "{good}");
        }
        for only_cloud in ["a b", "a*", "!a", "a,b", "*"] {
            assert!(only_cloud.parse::<EventType>().is_err(), "{only_cloud}");
            assert!(EventType::of_cloud_event(only_cloud).is_ok(), "{only_cloud}");
        }
        let too_long = "x".repeat(TYPE_CHARS_MAX + 1);
        let invisible =
            ["a\n", "a\u{7f}", "\u{9f}", "a\u{200b}", "\u{202e}a", "\u{a0}", "\u{2028}", "\u{fffe}", "\u{feff}a"];
        for bad in ["", " ", " a", "a ", too_long.as_str()].into_iter().chain(invisible) {
            assert!(bad.parse::<EventType>().is_err() && EventType::of_cloud_event(bad).is_err(), "{bad:?}");
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
