//! Numbers, bytes and durations as people read them.

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const UNITS: [(u64, &str); 4] =
    [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

/// Returns a number with a comma before each group of three digits.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Returns bytes in the largest unit that they fill, with one decimal below ten.
pub(super) fn bytes(bytes: u64) -> String {
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| bytes >= *unit) else {
        return format!("{bytes} B");
    };
    let (whole, tenths) = (bytes / unit, bytes % unit * 10 / unit);
    if whole < 10 {
        format!("{whole}.{tenths} {name}")
    } else {
        format!("{} {name}", number(whole))
    }
}

/// Returns a duration in its largest unit, and in hours or minutes beside it.
pub(super) fn duration(seconds: u64) -> String {
    let days = |days: u64| if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
    let and = |large: String, small: u64, unit: &str| {
        if small == 0 { large } else { format!("{large} {small} {unit}") }
    };
    match seconds {
        DAY.. => and(days(seconds / DAY), seconds % DAY / HOUR, "h"),
        HOUR.. => and(format!("{} h", seconds / HOUR), seconds % HOUR / MINUTE, "min"),
        MINUTE.. => format!("{} min", seconds / MINUTE),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_have_their_unit() {
        let numbers = [0, 999, 1_000, 1_234_567].map(number);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
        let sizes = [0, 1_023, 1_536, 10 << 20, (20 << 30) + 1, 3 << 50].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.5 KiB", "10 MiB", "20 GiB", "3,072 TiB"]);
        let durations = [0, 59, 60, 3_599, 3_600, 5_400, 86_400, 180_000, 2_592_000].map(duration);
        let shown = [
            "0 s",
            "59 s",
            "1 min",
            "59 min",
            "1 h",
            "1 h 30 min",
            "1 day",
            "2 days 2 h",
            "30 days",
        ];
        assert_eq!(durations, shown);
    }
}
