//! The shape of a value: the type that was given, the expected type, and the correct spelling.
//! Also numbers in words, with the unit of their key.

use std::ops::RangeInclusive;

use config::{Value, ValueKind};

/// Units of time, in milliseconds.
const TIMES: [(&str, u64); 14] = [
    ("ms", 1),
    ("s", 1_000),
    ("sec", 1_000),
    ("second", 1_000),
    ("seconds", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("minutes", 60_000),
    ("h", 3_600_000),
    ("hour", 3_600_000),
    ("hours", 3_600_000),
    ("d", 86_400_000),
    ("day", 86_400_000),
    ("days", 86_400_000),
];
/// Units of size, in bytes.
const SIZES: [(&str, u64); 12] = [
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
];

/// Names of sizes, in bytes.
const SIZES_IN_WORDS: [(u64, &str); 4] =
    [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
/// Names of times, in milliseconds.
const TIMES_IN_WORDS: [(u64, &str); 4] =
    [(86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second")];

/// The type of a value in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A whole number, 0 or more.
    Whole,
    /// A number, which may have a fraction.
    Fraction,
    /// `true` or `false`.
    Flag,
    Text,
    /// A list of whole numbers, 0 or more.
    Numbers,
    /// A list of texts.
    Texts,
}

impl Shape {
    /// The shape in words, for an error.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Whole => "a whole number, 0 or more",
            Self::Fraction => "a number",
            Self::Flag => "true or false",
            Self::Text => "a string in quotes",
            Self::Numbers => "a list of whole numbers, 0 or more",
            Self::Texts => "a list of strings",
        }
    }

    /// Returns the given value as TOML, if it has this shape.
    pub(super) fn fitting(self, given: &ValueKind) -> Option<toml::Value> {
        match (self, given) {
            (Self::Whole | Self::Fraction, ValueKind::I64(number))
                if *number >= 0 || self == Self::Fraction =>
            {
                Some(toml::Value::Integer(*number))
            }
            (Self::Fraction, ValueKind::Float(number)) => Some(toml::Value::Float(*number)),
            (Self::Flag, ValueKind::Boolean(flag)) => Some(toml::Value::Boolean(*flag)),
            (Self::Text, ValueKind::String(text)) => Some(toml::Value::String(text.clone())),
            (Self::Numbers, ValueKind::Array(items)) => items_of(Self::Whole, items),
            (Self::Texts, ValueKind::Array(items)) => items_of(Self::Text, items),
            _ => None,
        }
    }

    /// Converts the text of an environment variable to this shape; returns the text unchanged if it
    /// does not fit.
    pub(super) fn of_variable(self, text: &str) -> ValueKind {
        let unchanged = || ValueKind::String(text.to_owned());
        let trimmed = text.trim();
        let item = |part: &str| match part.parse::<i64>() {
            Ok(number) if self == Self::Numbers => Value::from(number),
            _ => Value::from(part),
        };
        match self {
            Self::Whole => trimmed.parse().map_or_else(|_| unchanged(), ValueKind::I64),
            Self::Fraction => trimmed.parse().map_or_else(|_| unchanged(), ValueKind::Float),
            Self::Flag => trimmed.parse().map_or_else(|_| unchanged(), ValueKind::Boolean),
            Self::Text => unchanged(),
            Self::Numbers | Self::Texts => {
                let parts = trimmed.split(',').map(str::trim).filter(|part| !part.is_empty());
                ValueKind::Array(parts.map(item).collect())
            }
        }
    }
}

fn items_of(shape: Shape, items: &[Value]) -> Option<toml::Value> {
    let items: Option<Vec<_>> = items.iter().map(|item| shape.fitting(&item.kind)).collect();
    items.map(toml::Value::Array)
}

/// Returns the correct spelling of a value with a wrong shape, if it can be derived.
pub(super) fn respelled(key: &str, shape: Shape, given: &ValueKind) -> Option<String> {
    match (shape, given) {
        (Shape::Whole, given) => number(key, given),
        (Shape::Fraction, ValueKind::String(text)) => text
            .trim()
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
            .map(|number| number.to_string()),
        (Shape::Flag, given) => flag(given).map(|flag| flag.to_string()),
        (Shape::Numbers, ValueKind::Array(items)) => {
            let numbers: Option<Vec<String>> =
                items.iter().map(|item| number(key, &item.kind)).collect();
            Some(format!("[{}]", numbers?.join(", ")))
        }
        (Shape::Numbers, given) => Some(format!("[{}]", number(key, given)?)),
        (Shape::Texts, ValueKind::String(text)) => {
            let items = text.split(',').map(|item| format!("{:?}", item.trim()));
            Some(format!("[{}]", items.collect::<Vec<_>>().join(", ")))
        }
        (Shape::Fraction | Shape::Text | Shape::Texts, _) => None,
    }
}

/// Returns the flag that is meant.
fn flag(given: &ValueKind) -> Option<bool> {
    match given {
        ValueKind::I64(number) => [false, true].get(usize::try_from(*number).ok()?).copied(),
        ValueKind::String(text) => match text.trim().to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the whole number that is meant, in the unit of the key.
fn number(key: &str, given: &ValueKind) -> Option<String> {
    match given {
        ValueKind::I64(number) if *number >= 0 => Some(number.to_string()),
        // Above this bound, floats cannot represent every whole number.
        ValueKind::Float(number) if number.fract() == 0.0 && (0.0..9e15).contains(number) => {
            Some(format!("{number:.0}"))
        }
        ValueKind::String(text) => {
            let text = text.trim().replace('_', "");
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = text.split_at_checked(digits)?;
            let (number, unit) = (number.parse::<u64>().ok()?, unit.trim().to_lowercase());
            if unit.is_empty() { Some(number.to_string()) } else { in_unit_of(key, number, &unit) }
        }
        _ => None,
    }
}

fn in_unit_of(key: &str, number: u64, unit: &str) -> Option<String> {
    let (units, each): (&[(&str, u64)], u64) = match Unit::of(key)? {
        Unit::Milliseconds => (&TIMES, 1),
        Unit::Seconds => (&TIMES, 1_000),
        Unit::Bytes => (&SIZES, 1),
    };
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let all = number.checked_mul(*factor)?;
    all.is_multiple_of(each).then(|| (all / each).to_string())
}

/// The unit of a key.
enum Unit {
    Milliseconds,
    Seconds,
    Bytes,
}

impl Unit {
    /// The unit is a word in the name of the key.
    fn of(key: &str) -> Option<Self> {
        let name = key.rsplit('.').next().unwrap_or(key);
        name.split('_').find_map(|word| match word {
            "ms" => Some(Self::Milliseconds),
            "seconds" => Some(Self::Seconds),
            "bytes" => Some(Self::Bytes),
            _ => None,
        })
    }
}

/// The number in the largest unit that divides it, such as `7 days`; none if the key has no unit.
pub(super) fn in_words(key: &str, number: u64) -> Option<String> {
    let (units, each, ending) = match Unit::of(key)? {
        Unit::Milliseconds => (TIMES_IN_WORDS, 1, "s"),
        Unit::Seconds => (TIMES_IN_WORDS, 1_000, "s"),
        Unit::Bytes => (SIZES_IN_WORDS, 1, ""),
    };
    let all = number.checked_mul(each)?;
    let (unit, name) = units.iter().find(|(unit, _)| all >= *unit && all.is_multiple_of(*unit))?;
    let ending = if all == *unit { "" } else { ending };
    Some(format!("{} {name}{ending}", all / unit))
}

/// The number, and the same in words if they say more, such as `604800 (7 days)`.
pub(super) fn with_words(key: &str, number: u64) -> String {
    match in_words(key, number) {
        Some(words) if !words.starts_with(&format!("{number} ")) => format!("{number} ({words})"),
        _ => number.to_string(),
    }
}

/// The range, such as `1 to 604800 (7 days)`.
pub(super) fn range_in_words(key: &str, range: &RangeInclusive<u64>) -> String {
    format!("{} to {}", with_words(key, *range.start()), with_words(key, *range.end()))
}

/// The value as it was given, for an error.
pub(super) fn shown(kind: &ValueKind) -> String {
    match kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(items) => {
            format!(
                "[{}]",
                items.iter().map(|item| shown(&item.kind)).collect::<Vec<_>>().join(", ")
            )
        }
        ValueKind::Table(_) => "a section".to_owned(),
        other => other.to_string(),
    }
}
