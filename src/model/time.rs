//! A moment: milliseconds since 1970 inside, RFC 3339 UTC with milliseconds at the edges.

use std::fmt;
use std::str::FromStr;

use jiff::fmt::temporal::DateTimePrinter;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// Characters of the text form.
const TEXT_LEN: usize = 24;
/// 9999-12-30T21:59:59.999Z, the last moment that jiff knows in every time zone.
const LAST_MS: u64 = 253_402_207_199_999;

impl Timestamp {
    /// This moment and so many milliseconds.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// So many milliseconds before this moment, but not before 1970.
    #[must_use]
    pub fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    fn text(self) -> String {
        const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        let ms = i64::try_from(self.0.min(LAST_MS)).unwrap_or(0);
        let moment = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
        let mut text = String::with_capacity(TEXT_LEN);
        // Writing to a String does not fail.
        drop(PRINTER.print_timestamp(&moment, &mut text));
        text
    }

    /// Whole seconds since 1970.
    pub fn unix_seconds(self) -> u64 {
        self.0 / 1_000
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A text that is no RFC 3339 time between 1970 and 9999.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTimestamp;

impl fmt::Display for BadTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be an RFC 3339 time between 1970 and 9999, such as 2026-01-31T10:00:00Z")
    }
}

impl std::error::Error for BadTimestamp {}

impl FromStr for Timestamp {
    type Err = BadTimestamp;

    fn from_str(text: &str) -> Result<Self, BadTimestamp> {
        // jiff reads more than RFC 3339 (such as `2026-01-31 10+01`); the `T`, the seconds and the offset must be there.
        let shaped = text.get(10..11).is_some_and(|t| t.eq_ignore_ascii_case("t"))
            && text.get(16..17) == Some(":")
            && !text.contains('[');
        let moment: jiff::Timestamp = text.parse().map_err(|_not_a_time| BadTimestamp)?;
        match u64::try_from(moment.as_millisecond()) {
            Ok(ms) if shaped && ms <= LAST_MS => Ok(Self(ms)),
            _ => Err(BadTimestamp),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.text())
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds_and_read_in_any_rfc_3339_form() {
        assert_eq!(Timestamp(1_769_853_600_000).to_string(), "2026-01-31T10:00:00.000Z");
        assert_eq!("2026-01-31T11:00:00.5+01:00".parse(), Ok(Timestamp(1_769_853_600_500)));
        for bad in [
            "",
            "yesterday",
            "2026-01-31",
            "2026-01-31T10:00:00",
            "2026-01-31 10:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-13-01T00:00:00Z",
        ] {
            assert_eq!(bad.parse::<Timestamp>(), Err(BadTimestamp), "{bad}");
        }
        assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-30T21:59:59.999Z");
    }
}
