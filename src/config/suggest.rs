//! Proposes the known name that an unknown name may stand for. Only near names are proposed,
//! because a wrong proposal costs more than none.

use std::collections::BTreeSet;

use super::declare::join;

/// Maximum number of edits between a typo and its name; more edits turn any name into any other.
const EDITS_MAX: usize = 3;
/// Words of a key that are units: `window` and `window_minutes` mean `window_seconds`.
const UNITS: [&str; 20] = [
    "seconds",
    "second",
    "secs",
    "sec",
    "s",
    "ms",
    "millis",
    "milliseconds",
    "minutes",
    "min",
    "hours",
    "days",
    "bytes",
    "kb",
    "mb",
    "gb",
    "kib",
    "mib",
    "gib",
    "size",
];
/// The end of an error that has no proposal.
const ALL_KEYS: &str = "`triggerd config init` lists all of them";

/// Returns the nearest name within the allowed number of edits, or a name that differs only in a
/// missing or added ending.
pub(super) fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given = plain(given);
    let edits_max = (given.chars().count() / 3).clamp(1, EDITS_MAX);
    let distance = |name: &'a str| {
        let known = plain(name);
        let is_cut = known.len() >= 4 && given.starts_with(&known)
            || given.len() >= 4 && known.starts_with(&given);
        let edits = strsim::damerau_levenshtein(&known, &given);
        (edits <= edits_max).then_some((edits, name)).or(is_cut.then_some((EDITS_MAX, name)))
    };
    names.filter_map(distance).min_by_key(|(edits, _)| *edits).map(|(_, name)| name)
}

/// Reduces a name to its letters and digits, because separators between words make no difference.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
}

/// The fault of an unknown key, with a proposal if one is near.
pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    let (section, last) = split(key);
    let sections = sections(known);
    let meant = |name: &str| format!("unknown key; did you mean `{name}`?");
    let section_meant = if section.is_empty() || sections.contains(section) {
        Some(section)
    } else {
        near_section(section, &sections)
    };
    let of_section = |section: &str| {
        let own = known.iter().filter(|name| split(name).0 == section).map(|name| split(name).1);
        let own: Vec<&str> = own.collect();
        let found = own.iter().find(|name| **name == last).copied();
        let found = found.or_else(|| own.iter().find(|name| words(name) == words(last)).copied());
        found.or_else(|| nearest(last, own.into_iter())).map(|name| join(section, name))
    };
    if let Some(name) = section_meant.and_then(of_section) {
        return meant(&name);
    }
    // The key may be right and the section wrong.
    let elsewhere: Vec<String> =
        known.iter().filter(|name| split(name).1 == last).map(|name| format!("`{name}`")).collect();
    if !elsewhere.is_empty() {
        return format!("unknown key; did you mean {}?", elsewhere.join(" or "));
    }
    if section_meant.is_none() {
        return unknown_section(section, known);
    }
    let edits = |name: &&&str| strsim::damerau_levenshtein(&plain(split(name).1), &plain(last));
    match known.iter().min_by_key(edits).filter(|name| last.len() > 4 && edits(name) == 1) {
        Some(name) => meant(name),
        None => format!("unknown key; {ALL_KEYS}"),
    }
}

/// The fault of an unknown section, with a proposal if one is near.
pub(super) fn unknown_section(section: &str, known: &[&str]) -> String {
    let sections = sections(known);
    if let Some(meant) = near_section(section, &sections) {
        return format!("unknown section; did you mean [{meant}]?");
    }
    let (parent, last) = split(section);
    let beside: Vec<String> = sections
        .iter()
        .filter(|other| !parent.is_empty() && split(other).0 == parent)
        .map(|other| format!("[{other}]"))
        .collect();
    match beside.split_last() {
        Some((end, rest)) if !rest.is_empty() => {
            format!(
                "unknown section; the sections are {} and {end}, and others cannot be added",
                rest.join(", ")
            )
        }
        _ if sections.contains(parent) => {
            format!("unknown section; [{parent}] has keys and no sections")
        }
        _ => match known.iter().find(|name| split(name).1 == last) {
            Some(name) => format!("unknown section; {last} is a key: `{name}`"),
            None => format!("unknown section; {ALL_KEYS}"),
        },
    }
}

/// The nearest section with the same parent.
fn near_section<'a>(section: &str, sections: &BTreeSet<&'a str>) -> Option<&'a str> {
    let (parent, last) = split(section);
    let beside = || sections.iter().copied().filter(|other| split(other).0 == parent);
    let found = nearest(last, beside().map(|other| split(other).1))?;
    beside().find(|other| split(other).1 == found)
}

/// Every section, also those that hold only sections.
fn sections<'a>(known: &[&'a str]) -> BTreeSet<&'a str> {
    let ends = |name: &'a str| name.match_indices('.').filter_map(move |(end, _)| name.get(..end));
    known.iter().flat_map(|name| ends(name)).collect()
}

/// The words of a key in any order, without its unit.
fn words(name: &str) -> BTreeSet<String> {
    let lower = name.to_lowercase().replace('-', "_");
    lower.split('_').filter(|word| !UNITS.contains(word)).map(str::to_owned).collect()
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}
