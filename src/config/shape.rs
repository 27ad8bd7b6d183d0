//! The shape of a value: the type that was given, the expected type, and the correct spelling.

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

/// Returns the expected shape, if the given shape differs from the default's.
pub(super) fn misfit(known: &ValueKind, given: &ValueKind) -> Option<&'static str> {
    match (known, given) {
        (ValueKind::I64(_), ValueKind::I64(number)) if *number >= 0 => None,
        (ValueKind::Float(_), ValueKind::Float(_) | ValueKind::I64(_))
        | (ValueKind::String(_), ValueKind::String(_)) => None,
        (ValueKind::I64(_), _) => Some("a whole number, 0 or more"),
        (ValueKind::Float(_), _) => Some("a number"),
        (ValueKind::String(_), _) => Some("a string in quotes"),
        (ValueKind::Array(known), ValueKind::Array(given)) => {
            let numbers = are_numbers(known);
            let fits = |item: &Value| match &item.kind {
                ValueKind::I64(number) => numbers && *number >= 0,
                ValueKind::String(_) => !numbers,
                _ => false,
            };
            (!given.iter().all(fits)).then_some(list_shape(numbers))
        }
        (ValueKind::Array(known), _) => Some(list_shape(are_numbers(known))),
        _ => Some("of another type"),
    }
}

fn are_numbers(items: &[Value]) -> bool {
    matches!(items.first().map(|item| &item.kind), Some(ValueKind::I64(_)))
}

fn list_shape(numbers: bool) -> &'static str {
    if numbers { "a list of whole numbers, 0 or more" } else { "a list of strings" }
}

/// Returns the correct spelling of a value with a wrong shape, if it can be derived.
pub(super) fn respelled(key: &str, known: &ValueKind, given: &ValueKind) -> Option<String> {
    match (known, given) {
        (ValueKind::I64(_), given) => number(key, given),
        (ValueKind::Float(_), ValueKind::String(text)) => text
            .trim()
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
            .map(|number| number.to_string()),
        (ValueKind::Array(known), ValueKind::Array(items)) if are_numbers(known) => {
            let numbers: Option<Vec<String>> =
                items.iter().map(|item| number(key, &item.kind)).collect();
            Some(format!("[{}]", numbers?.join(", ")))
        }
        (ValueKind::Array(known), given) if are_numbers(known) => {
            Some(format!("[{}]", number(key, given)?))
        }
        (ValueKind::Array(_), ValueKind::String(text)) => {
            let items = text.split(',').map(|item| format!("{:?}", item.trim()));
            Some(format!("[{}]", items.collect::<Vec<_>>().join(", ")))
        }
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
    let is_in =
        |word: &str| key.rsplit('.').next().unwrap_or(key).split('_').any(|part| part == word);
    let (units, each) = if is_in("ms") {
        (TIMES.as_slice(), 1)
    } else if is_in("seconds") {
        (TIMES.as_slice(), 1_000)
    } else if is_in("bytes") {
        (SIZES.as_slice(), 1)
    } else {
        return None;
    };
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let all = number.checked_mul(*factor)?;
    all.is_multiple_of(each).then(|| (all / each).to_string())
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
