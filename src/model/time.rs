//! A moment: milliseconds since 1970 inside, RFC 3339 UTC with milliseconds in texts. Every time
//! that the server reads is parsed here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, datetime};
use jiff::fmt::temporal::DateTimePrinter;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// One moment by the wall clock and by the steady time. The end of a duration, such as a grace
/// period, is a steady time. A time that somebody chose, such as the expiry of a key, is a time of
/// the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// The wall clock.
    pub wall: Timestamp,
    /// The steady time, which never goes back and is never behind the wall clock.
    pub steady: Timestamp,
}

impl Now {
    /// Returns the moment with these times. The time in an id is a steady time.
    pub fn new(wall: Timestamp, steady: Timestamp) -> Self {
        Self { wall, steady: steady.max(wall) }
    }
}

/// For tests in which no clock was set back.
#[cfg(test)]
impl From<Timestamp> for Now {
    fn from(wall: Timestamp) -> Self {
        Self { wall, steady: wall }
    }
}

/// When to look for work: now, or from a time on. Now comes before every time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Look {
    /// At once, whatever the clock says.
    Now,
    /// From this time on.
    At(Timestamp),
}

impl Look {
    /// True if it is time to look.
    pub fn is_due(self, now: Timestamp) -> bool {
        self <= Self::At(now)
    }
}

/// The room that the printer asks for, which is more than the 24 characters of the text form.
const PRINTED_LEN_MAX: usize = 64;
/// 9999-12-31T23:59:59.999Z, the last moment that RFC 3339 can express.
const LAST_MS: u64 = 253_402_300_799_999;
const DAY_MS: u64 = 86_400_000;
const EPOCH: DateTime = datetime(1970, 1, 1, 0, 0, 0, 0);

impl Timestamp {
    /// Returns the moment `ms` milliseconds later.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Returns the moment `ms` milliseconds earlier, but not before 1970.
    #[must_use]
    pub fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Returns the time before which everything has this age. The age zero stands for never.
    #[must_use]
    pub fn before_age(self, age: Duration) -> Self {
        match u64::try_from(age.as_millis()) {
            Ok(0) | Err(_) => Self(0),
            Ok(age_ms) => self.minus_ms(age_ms),
        }
    }

    fn text(self) -> String {
        const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        let mut text = String::with_capacity(PRINTED_LEN_MAX);
        // Writing to a String does not fail.
        drop(PRINTER.print_datetime(&self.in_utc(), &mut text));
        text.push('Z');
        text
    }

    /// Returns the date and the time of day in UTC.
    fn in_utc(self) -> DateTime {
        let ms = i64::try_from(self.0.min(LAST_MS)).unwrap_or(0);
        EPOCH.checked_add(SignedDuration::from_millis(ms)).unwrap_or(EPOCH)
    }

    /// Returns the whole seconds since 1970.
    pub fn unix_seconds(self) -> u64 {
        self.0 / 1_000
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// The part of an error that only a caller of the API needs: in a query, `+` means a space.
pub const IN_A_URL: &str = " (in a URL, `+` is written %2B)";

/// The reason why a text is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTimestamp {
    /// The text is not a date-time of RFC 3339, section 5.6.
    #[error(
        "must be an RFC 3339 time with seconds and an offset, such as 2026-01-31T10:00:00Z or \
         2026-01-31T11:00:00.5+01:00{}",
        IN_A_URL
    )]
    NotRfc3339,
    /// The time is before 1970, or after 9999 in UTC.
    #[error("must be a time from 1970-01-01T00:00:00Z to 9999-12-31T23:59:59.999Z")]
    OutOfRange,
}

impl FromStr for Timestamp {
    type Err = BadTimestamp;

    /// Reads a date-time of RFC 3339, section 5.6, and nothing else: `T` and `Z` in either case, no
    /// space in place of the `T`. Digits after the milliseconds are cut off. `-00:00` is UTC
    /// (section 4.3).
    ///
    /// A leap second (`:60`) is accepted wherever there can be a leap second, at the end of a month
    /// in UTC (section 5.7). It becomes the last millisecond of its day, because Unix time has no
    /// such second.
    fn from_str(text: &str) -> Result<Self, BadTimestamp> {
        let read = DateTimeText::read(text).ok_or(BadTimestamp::NotRfc3339)?;
        let local = read.local.duration_since(EPOCH).as_millis();
        let utc = local - i128::from(read.offset_minutes) * 60_000;
        let moment = u64::try_from(utc).map(Self).ok().filter(|moment| moment.0 <= LAST_MS);
        if !read.is_leap_second {
            return moment.ok_or(BadTimestamp::OutOfRange);
        }
        let last = Self(moment.ok_or(BadTimestamp::OutOfRange)?.0 / 1_000 * 1_000 + 999);
        let date = last.in_utc().date();
        let ends_month = (last.0 + 1).is_multiple_of(DAY_MS) && date.day() == date.days_in_month();
        if ends_month { Ok(last) } else { Err(BadTimestamp::NotRfc3339) }
    }
}

/// The parts of a `date-time` (RFC 3339, section 5.6).
struct DateTimeText {
    /// The local time. For a leap second, the second before.
    local: DateTime,
    is_leap_second: bool,
    /// Minutes by which the local time is ahead of UTC.
    offset_minutes: i16,
}

impl DateTimeText {
    fn read(text: &str) -> Option<Self> {
        let mut rest = Rest(text.as_bytes());
        let year = i16::from(rest.number(0..=99)?) * 100 + i16::from(rest.number(0..=99)?);
        rest.one_of(b"-")?;
        let month = rest.number(1..=12)?;
        rest.one_of(b"-")?;
        let date = Date::new(year, month, rest.number(1..=31)?).ok()?;
        rest.one_of(b"Tt")?;
        let hour = rest.number(0..=23)?;
        rest.one_of(b":")?;
        let minute = rest.number(0..=59)?;
        rest.one_of(b":")?;
        let second = rest.number(0..=60)?;
        let nanosecond = rest.fraction_ms()? * 1_000_000;
        let offset_minutes = rest.offset_minutes()?;
        let local = date.at(hour, minute, second.min(59), nanosecond);
        rest.0.is_empty().then_some(Self { local, is_leap_second: second == 60, offset_minutes })
    }
}

/// The unparsed rest of the bytes.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// Reads a byte, which must be in `bytes`.
    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        bytes.contains(first).then_some(*first)
    }

    fn digit(&mut self) -> Option<i8> {
        let digit = self.one_of(b"0123456789")?;
        i8::try_from(digit - b'0').ok()
    }

    /// Reads two digits if their number is in the range.
    fn number(&mut self, range: std::ops::RangeInclusive<i8>) -> Option<i8> {
        let number = self.digit()? * 10 + self.digit()?;
        range.contains(&number).then_some(number)
    }

    /// Reads a point and digits, if there are any. Digits after the milliseconds are cut off.
    fn fraction_ms(&mut self) -> Option<i32> {
        let Some(behind) = self.0.strip_prefix(b".") else { return Some(0) };
        let digits = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, rest) = behind.split_at_checked(digits).filter(|_| digits > 0)?;
        self.0 = rest;
        let ms = fraction
            .iter()
            .chain(b"00")
            .take(3)
            .fold(0, |ms, digit| ms * 10 + i32::from(digit - b'0'));
        Some(ms)
    }

    /// Reads `Z`, or sign, hours and minutes.
    fn offset_minutes(&mut self) -> Option<i16> {
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let hours = self.number(0..=23)?;
        self.one_of(b":")?;
        let minutes = self.number(0..=59)?;
        Some(sign * (i16::from(hours) * 60 + i16::from(minutes)))
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
#[path = "time_tests.rs"]
mod tests;
