use proptest::prelude::*;

use super::*;

#[test]
fn times_are_written_in_utc_with_milliseconds() {
    assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
    assert_eq!(Timestamp(1_769_853_600_000).to_string(), "2026-01-31T10:00:00.000Z");
    assert_eq!(Timestamp(951_782_400_007).to_string(), "2000-02-29T00:00:00.007Z");
    assert_eq!(Timestamp(LAST_MS).to_string(), "9999-12-31T23:59:59.999Z");
    assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
}

#[test]
fn every_form_of_rfc_3339_is_read() {
    for (text, ms) in [
        ("2026-01-31T10:00:00Z", 1_769_853_600_000),
        ("2026-01-31T11:00:00.5+01:00", 1_769_853_600_500),
        ("2026-01-31t10:00:00.123456789z", 1_769_853_600_123),
        ("2026-01-31T09:59:59.9999999999999999999999Z", 1_769_853_599_999),
        ("2026-01-31T10:00:00-00:00", 1_769_853_600_000),
        ("2026-02-01T09:59:00+23:59", 1_769_853_600_000),
        ("2026-01-30T10:01:00-23:59", 1_769_853_600_000),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:00:00-01:00", 0),
        ("9999-12-31T23:59:59.999999Z", LAST_MS),
        ("9999-12-31T23:59:60Z", LAST_MS),
        ("1990-12-31T23:59:60Z", 662_687_999_999),
        ("1990-12-31T15:59:60-08:00", 662_687_999_999),
        ("2016-12-31T23:59:60.25Z", 1_483_228_799_999),
        ("2024-02-29T23:59:60Z", 1_709_251_199_999),
    ] {
        assert_eq!(text.parse(), Ok(Timestamp(ms)), "{text}");
    }
}

const NOT_RFC_3339: [&str; 38] = [
    "",
    "yesterday",
    "2026-01-31",
    "2026-01-31T10:00:00",
    "2026-01-31 10:00:00Z",
    "2026-01-31_10:00:00Z",
    "2026-01-31T10:00Z",
    "2026-01-31T10:00:00.Z",
    "2026-01-31T10:00:00,5Z",
    "2026-01-31T10:00:00+25:00",
    "2026-01-31T10:00:00+24:00",
    "2026-01-31T10:00:00+01:60",
    "2026-01-31T10:00:00+05",
    "2026-01-31T10:00:00+0530",
    "2026-01-31T10:00:00 01:00",
    "2026-01-31T10:00:00+01:00:00",
    "2026-01-31T10:00:00Z[UTC]",
    "2026-01-31T10:00:00ZZ",
    " 2026-01-31T10:00:00Z",
    "2026-01-31T10:00:00Z\n",
    "20260131T100000Z",
    "2026-13-01T00:00:00Z",
    "2026-00-01T00:00:00Z",
    "2026-02-29T00:00:00Z",
    "2100-02-29T00:00:00Z",
    "2026-04-31T00:00:00Z",
    "2026-01-31T24:00:00Z",
    "2026-01-31T10:60:00Z",
    "2026-01-31T10:00:60Z",
    "2026-01-30T23:59:60Z",
    "2016-12-31T23:59:60+01:00",
    "2016-12-31T23:59:61Z",
    "-2026-01-31T10:00:00Z",
    "+02026-01-31T10:00:00Z",
    "12026-01-31T10:00:00Z",
    "2026-1-31T10:00:00Z",
    "2026-01-31T10:00:00\u{2212}01:00",
    "\u{0662}026-01-31T10:00:00Z",
];

#[test]
fn nothing_else_is_read() {
    for bad in NOT_RFC_3339 {
        assert_eq!(bad.parse::<Timestamp>(), Err(BadTimestamp::NotRfc3339), "{bad}");
    }
    for far in [
        "1969-12-31T23:59:59.999Z",
        "0000-01-01T00:00:00Z",
        "1970-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    ] {
        assert_eq!(far.parse::<Timestamp>(), Err(BadTimestamp::OutOfRange), "{far}");
    }
}

/// Reads a time by the grammar and the appendix of RFC 3339, without any library: the parts by
/// their fixed offsets, the days counted by years and months.
fn oracle(text: &str) -> Option<i64> {
    let text = text.to_uppercase();
    let (base, tail) = text.split_at_checked(19)?;
    if shape(base) != "0000-00-00T00:00:00" {
        return None;
    }
    let part = |from: usize, to: usize| base[from..to].parse::<i64>().unwrap();
    let (year, month, day) = (part(0, 4), part(5, 7), part(8, 10));
    let (hour, minute, second) = (part(11, 13), part(14, 16), part(17, 19));
    let (fraction, offset) = match tail.strip_prefix('.') {
        Some(tail) => tail.split_at(tail.chars().take_while(char::is_ascii_digit).count()),
        None => ("0", tail),
    };
    if fraction.is_empty() {
        return None;
    }
    let offset_minutes = minutes_of_offset(offset)?;
    let is_date = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_since_1970(year, month, day);
    let ms = format!("{fraction}00")[..3].parse::<i64>().unwrap();
    let minutes = days * 1_440 + hour * 60 + minute - offset_minutes;
    if second < 60 {
        return Some(minutes * 60_000 + second * 1_000 + ms);
    }
    begins_a_month(minutes + 1)?.then_some(minutes * 60_000 + 59_999)
}

/// Writes 0 for each digit.
fn shape(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

fn minutes_of_offset(offset: &str) -> Option<i64> {
    if offset == "Z" {
        return Some(0);
    }
    if !["+00:00", "-00:00"].contains(&shape(offset).as_str()) {
        return None;
    }
    let (hours, minutes) =
        (offset[1..3].parse::<i64>().unwrap(), offset[4..6].parse::<i64>().unwrap());
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    (hours <= 23 && minutes <= 59).then_some((hours * 60 + minutes) * sign)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap(year)),
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let mut days = 0;
    for earlier in 1970..year {
        days += 365 + i64::from(is_leap(earlier));
    }
    for later in year..1970 {
        days -= 365 + i64::from(is_leap(later));
    }
    days + (1..month).map(|month| days_of(year, month)).sum::<i64>() + day - 1
}

/// Returns true if this minute since 1970 is the first of a month of UTC, so that the minute before
/// it may have a leap second. Returns `None` if it is not the first of a day.
fn begins_a_month(minutes: i64) -> Option<bool> {
    let mut left = minutes.checked_div_euclid(1_440).filter(|_| minutes % 1_440 == 0)?;
    let (mut year, mut month) = (1970, 1);
    while left > 0 {
        left -= days_of(year, month);
        (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    }
    Some(left == 0)
}

/// Generates times. Most have the right form, with parts at and beyond their bounds.
fn nearly_a_time() -> impl Strategy<Value = String> {
    let year = prop_oneof![4 => 1960u32..2_110, 1 => Just(0), 1 => Just(9_999), 1 => 0u32..10_000];
    let date = (year, 0u32..14, prop_oneof![0u32..33, 28u32..32]);
    let of_day = (
        prop_oneof![0u32..26, Just(23)],
        prop_oneof![0u32..62, Just(59)],
        prop_oneof![0u32..63, Just(60)],
    );
    let marks = (
        "[Tt]|[ _T]",
        "(\\.[0-9]{1,12})?|[.,][0-9]{0,3}",
        "[Zz]|[+-][0-2][0-9]:[0-6][0-9]|[+-]00:0[01]|[+-][0-9]{0,4}",
    );
    let places = (prop_oneof![9 => Just(None), 1 => (0usize..30).prop_map(Some)], "[0-9TZ:+. -]");
    (date, of_day, marks, places).prop_map(
        |((year, month, day), (hour, minute, second), (t, fraction, offset), (place, c))| {
            let mut text =
                format!("{year:04}-{month:02}-{day:02}{t}{hour:02}:{minute:02}:{second:02}{fraction}{offset}");
            if let Some(place) = place {
                let place = place.min(text.len());
                text.insert_str(place, &c);
            }
            text
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn what_is_read_is_what_the_rfc_says(text in nearly_a_time()) {
        let last = i64::try_from(LAST_MS).unwrap();
        let expected = match oracle(&text) {
            None => Err(BadTimestamp::NotRfc3339),
            Some(ms) if (0..=last).contains(&ms) => Ok(Timestamp(u64::try_from(ms).unwrap())),
            Some(_) => Err(BadTimestamp::OutOfRange),
        };
        let read = text.parse::<Timestamp>();
        // A leap second out of range breaks both rules.
        if oracle(&text.replacen(":60", ":59", 3)).is_some_and(|ms| !(0..=last).contains(&ms)) {
            prop_assert!(read.is_err(), "{}", text);
        } else {
            prop_assert_eq!(read, expected, "{}", text);
        }
    }

    #[test]
    fn what_is_written_is_read_again_as_the_same(ms in 0..=LAST_MS) {
        let text = Timestamp(ms).to_string();
        prop_assert_eq!(text.len(), 24);
        prop_assert_eq!(oracle(&text), i64::try_from(ms).ok());
        prop_assert_eq!(text.parse(), Ok(Timestamp(ms)));
    }
}
