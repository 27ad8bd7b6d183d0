//! A point in time in a filter: an absolute time, or a duration before now.

use std::str::FromStr;

use super::time::{BadTimestamp, Timestamp};

/// The units of a duration with their milliseconds, the longest first.
const UNITS: [(u8, u64); 5] =
    [(b'w', 604_800_000), (b'd', 86_400_000), (b'h', 3_600_000), (b'm', 60_000), (b's', 1_000)];

/// An absolute time or a duration before now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A time in RFC 3339 form.
    At(Timestamp),
    /// A number of milliseconds before now.
    Ago(u64),
}

impl Moment {
    /// Returns the point in time when the clock says `now`; at the earliest 1970.
    pub fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(ms) => now.minus_ms(ms),
        }
    }
}

/// The error for a text that is neither a time nor a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; or a duration back from now in whole weeks, days, hours, minutes and seconds, such as \
     2w, 1d12h, 90m or 30s"
)]
pub struct BadMoment(BadTimestamp);

impl FromStr for Moment {
    type Err = BadMoment;

    fn from_str(text: &str) -> Result<Self, BadMoment> {
        match ago(text) {
            Some(ms) => Ok(Self::Ago(ms)),
            None => text.parse().map(Self::At).map_err(BadMoment),
        }
    }
}

/// Returns the milliseconds of a duration such as `1d12h`. Each unit appears at most once, longer
/// units before shorter ones.
fn ago(text: &str) -> Option<u64> {
    let mut units = UNITS.iter();
    let (mut ms, mut number) = (0u64, None);
    for byte in text.bytes() {
        if byte.is_ascii_digit() {
            let before = number.unwrap_or(0u64);
            number = Some(before.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?);
        } else {
            let (_, unit_ms) = units.find(|(unit, _)| *unit == byte)?;
            ms = ms.checked_add(number.take()?.checked_mul(*unit_ms)?)?;
        }
    }
    (number.is_none() && !text.is_empty()).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_time_before_now() {
        let now = Timestamp(1_769_853_600_000);
        for (text, ms) in [
            ("0s", 0),
            ("30s", 30_000),
            ("90m", 5_400_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1w2d3h4m5s", 788_645_000),
            ("007d", 604_800_000),
        ] {
            assert_eq!(
                text.parse::<Moment>().map(|moment| moment.from(now)),
                Ok(now.minus_ms(ms)),
                "{text}"
            );
        }
        assert_eq!("99999999w".parse::<Moment>().unwrap().from(now), Timestamp(0));
        assert_eq!("2026-01-31T10:00:00Z".parse::<Moment>().unwrap().from(Timestamp(1)), now);
    }

    #[test]
    fn nothing_else_is_a_time_before_now() {
        let number = u64::MAX;
        for bad in [
            "",
            "h",
            "1",
            "1h30",
            "1m1h",
            "1h1h",
            "-1h",
            "+1h",
            "1 h",
            " 1h",
            "1H",
            "1y",
            "1ms",
            "1.5h",
            "1h,2m",
            "yesterday",
            &format!("{number}0s"),
            &format!("{number}w"),
        ] {
            let refused = bad.parse::<Moment>().expect_err(bad).to_string();
            assert!(
                refused.contains("RFC 3339") && refused.contains("a duration back from now"),
                "{refused}"
            );
        }
    }
}
