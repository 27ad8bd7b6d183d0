//! The commented file and the reference of all keys, made from the declarations. Called by the
//! command `triggerd config`; `config/triggerd.toml` and `docs/configuration.md` are its output.

use super::Config;
use super::declare::{Group, Key, Part};
use super::shape::{self, Shape};

/// Maximum length of a line.
const COLUMNS: usize = 100;
/// The beginning of the commented file.
const HEAD: &str = "\
# triggerd: the configuration.
#
# This file holds the defaults. The server has them built in and starts without any file. A file of
# your own needs only the keys that it changes. A value comes from the strongest source that sets
# it:
#
#   1. the environment: TRIGGERD__SECTION__KEY, such as TRIGGERD__SERVER__LISTEN=0.0.0.0:8080 or
#      TRIGGERD__TIERS__FREE__BURST=200. Commas separate the items of a list;
#   2. one file: --config FILE, else ./config/triggerd.toml, else /etc/triggerd/triggerd.toml;
#   3. these defaults.
#
# An unknown key, a value out of range or a contradiction stops the start; the message names every
# fault at once. `triggerd check-config` prints the configuration in effect and its sources. Where a
# value has a unit, the unit is a word of its name. Bytes are bytes: 1048576 is 1 MiB.
";
/// The page of the documentation, without the reference of the keys.
const GUIDE: &str = include_str!("guide.md");
/// Stands in the guide for the list of the keys that a reload applies.
const RELOADED_KEYS: &str = "{reloaded keys}";

/// The configuration file with every key, its meaning and its default.
pub fn commented_file() -> String {
    let mut parts = vec![HEAD.to_owned()];
    for group in Config::groups() {
        for (index, section) in group.sections.iter().enumerate() {
            // Sections with the same keys are explained together, in the first.
            let comment =
                |words: &[String]| if index == 0 { comment(words) } else { String::new() };
            parts.push(format!("\n{}[{section}]\n", comment(&section_words(&group))));
            for key in &group.keys {
                let default = key.defaults.get(index).map(ToString::to_string).unwrap_or_default();
                let comment = comment(&key_words(&group, key));
                parts.push(format!("{comment}{} = {default}\n", key.name));
            }
        }
    }
    parts.concat()
}

/// The page of the documentation about the configuration, in Markdown.
pub fn reference_page() -> String {
    let groups = Config::groups();
    let mut parts = vec![GUIDE.replace(RELOADED_KEYS, &reloaded_keys(&groups))];
    for group in &groups {
        let sections: Vec<_> = group.sections.iter().map(|name| format!("[{name}]")).collect();
        parts.push(format!("\n## {}\n\n", sections.join(", ")));
        parts.push(wrapped("", &section_words(group)));
        if group.sections.len() > 1 {
            parts.push(table_of_defaults(group));
        }
        for key in &group.keys {
            let facts = [default_in_page(group, key), constraints(group, key)];
            let mut text = vec![facts.into_iter().flatten().collect::<Vec<_>>().join(" ")];
            text.extend(paragraphs(key.words));
            text.extend(reload_note(group, key).map(str::to_owned));
            parts.push(format!("\n### {}\n\n{}", key.name, wrapped("", &text)));
        }
    }
    parts.concat()
}

/// The defaults of sections with the same keys, side by side.
fn table_of_defaults(group: &Group) -> String {
    let last = |name: &String| name.rsplit('.').next().unwrap_or(name).to_owned();
    let names: Vec<_> = group.sections.iter().map(last).collect();
    let row = |key: &Key| {
        let defaults: Vec<_> = key.defaults.iter().map(ToString::to_string).collect();
        format!("| `{}` | {} |\n", key.name, defaults.join(" | "))
    };
    let line = "|---".repeat(names.len());
    let rows: String = group.keys.iter().map(row).collect();
    format!("\n| key | {} |\n|---{line}|\n{rows}", names.join(" | "))
}

/// The keys that a reload applies, as a list in Markdown.
fn reloaded_keys(groups: &[Group]) -> String {
    let mut list = Vec::new();
    for group in groups {
        let sections: Vec<_> = group.sections.iter().map(|name| format!("`[{name}]`")).collect();
        let sections = sections.join(", ");
        if is_reloaded_whole(group) {
            list.push(format!("- {sections}: all keys"));
            continue;
        }
        let keys = group.keys.iter().filter(|key| key.is_reloaded);
        let keys: Vec<_> = keys.map(|key| format!("`{}`", key.name)).collect();
        if !keys.is_empty() {
            list.push(format!("- {sections}: {}", keys.join(", ")));
        }
    }
    list.join("\n")
}

fn is_reloaded_whole(group: &Group) -> bool {
    group.keys.iter().all(|key| key.is_reloaded)
}

/// The words about a section, one item for each paragraph.
fn section_words(group: &Group) -> Vec<String> {
    let mut words = paragraphs(group.words);
    if is_reloaded_whole(group) {
        let these = if group.sections.len() > 1 { "these sections" } else { "this section" };
        add_sentence(&mut words, &format!("A reload applies every key of {these}."));
    }
    words
}

/// The words about a key for the commented file, one item for each paragraph.
fn key_words(group: &Group, key: &Key) -> Vec<String> {
    let mut words = paragraphs(key.words);
    let default = default_in_words(key).map(|default| format!("The default is {default}."));
    let reload = reload_note(group, key).map(str::to_owned);
    for sentence in [constraints(group, key), default, reload].into_iter().flatten() {
        add_sentence(&mut words, &sentence);
    }
    words
}

fn reload_note(group: &Group, key: &Key) -> Option<&'static str> {
    (key.is_reloaded && !is_reloaded_whole(group)).then_some("A reload applies it.")
}

fn add_sentence(words: &mut [String], sentence: &str) {
    if let Some(last) = words.last_mut() {
        last.push(' ');
        last.push_str(sentence);
    }
}

/// The allowed values, including the rules between this key and others.
fn constraints(group: &Group, key: &Key) -> Option<String> {
    let mut rules = vec![key.allowed.clone()];
    for bound in &key.bounds {
        let unless = if bound.unless_zero { " unless that is 0" } else { "" };
        rules.push(match bound.part {
            Part::Whole => format!("at most `{}`{unless}", bound.key),
            Part::Eighth => format!("at most an eighth of `{}`", bound.key),
        });
    }
    if let Some(needs) = key.needs {
        rules.push(format!("only its default without `{needs}`"));
    }
    for other in &group.keys {
        let bounds = other.bounds.iter().filter(|bound| bound.key == key.name);
        rules.extend(bounds.map(|bound| {
            let or_zero = if bound.unless_zero { ", or 0" } else { "" };
            match bound.part {
                Part::Whole => format!("at least `{}`{or_zero}", other.name),
                Part::Eighth => format!("at least 8 times `{}`", other.name),
            }
        }));
    }
    rules.retain(|rule| !rule.is_empty());
    (!rules.is_empty()).then(|| format!("Allowed: {}.", rules.join(", ")))
}

fn default_in_page(group: &Group, key: &Key) -> Option<String> {
    if group.sections.len() > 1 {
        return None;
    }
    let default = key.defaults.first()?.to_string();
    let default = if matches!(key.shape, Shape::Whole | Shape::Fraction | Shape::Flag) {
        default
    } else {
        format!("`{default}`")
    };
    let words = default_in_words(key).map(|words| format!(" ({words})"));
    Some(format!("Default: {default}{}.", words.unwrap_or_default()))
}

/// The default with its unit; none if the digits say the same.
fn default_in_words(key: &Key) -> Option<String> {
    let in_words =
        |value: &toml::Value| shape::in_words(key.name, u64::try_from(value.as_integer()?).ok()?);
    let default = key.defaults.first()?;
    if let Some(items) = default.as_array() {
        let items: Vec<_> = items.iter().filter_map(in_words).collect();
        return (!items.is_empty()).then(|| items.join(", "));
    }
    in_words(default).filter(|words| !words.starts_with(&format!("{default} ")))
}

// ---- text -------------------------------------------------------------------------------------

/// The paragraphs of the lines of a documentation comment.
fn paragraphs(lines: &[&str]) -> Vec<String> {
    let lines: Vec<_> = lines.iter().map(|line| line.trim()).collect();
    lines.split(|line| line.is_empty()).map(|lines| lines.join(" ")).collect()
}

/// The paragraphs as a comment of TOML. A comment has no links, so only their texts remain.
fn comment(paragraphs: &[String]) -> String {
    let plain: Vec<_> = paragraphs.iter().map(|paragraph| without_links(paragraph)).collect();
    wrapped("# ", &[plain.join(" ")])
}

/// Replaces each link `[text](target)` by its text.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, target)) = rest.split_once("](") {
        let (Some((behind_target, title)), Some((_, after))) =
            (before.rsplit_once('['), target.split_once(')'))
        else {
            break;
        };
        plain.push_str(behind_target);
        plain.push_str(title);
        rest = after;
    }
    plain + rest
}

/// Breaks paragraphs into lines that begin with `margin`. A code span stays on one line.
fn wrapped(margin: &str, paragraphs: &[String]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in paragraphs {
        if !lines.is_empty() {
            lines.push(margin.trim_end().to_owned());
        }
        let mut words = words(paragraph).into_iter();
        let mut line = format!("{margin}{}", words.next().unwrap_or_default());
        for word in words {
            if line.len() + 1 + word.len() > COLUMNS {
                lines.push(std::mem::replace(&mut line, format!("{margin}{word}")));
            } else {
                line.extend([" ", &word]);
            }
        }
        lines.push(line);
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// The words of a text; a code span is a part of one word.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_in_code = false;
    for part in text.split(' ') {
        match words.last_mut() {
            Some(last) if is_in_code => *last = format!("{last} {part}"),
            _ => words.push(part.to_owned()),
        }
        is_in_code ^= !part.matches('`').count().is_multiple_of(2);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commented_file_and_the_page_are_made_from_the_declarations() {
        let file = include_str!("../../config/triggerd.toml");
        assert!(
            commented_file() == file,
            "run: cargo build && target/debug/triggerd config init > config/triggerd.toml"
        );
        let page = include_str!("../../docs/configuration.md");
        assert!(
            reference_page() == page,
            "run: cargo build && target/debug/triggerd config reference > docs/configuration.md"
        );
    }

    #[test]
    fn the_commented_file_is_the_defaults() {
        let config = Config::from_toml(&commented_file()).unwrap();
        assert_eq!(config, Config::from_toml("").unwrap());
    }

    #[test]
    fn a_link_becomes_its_text_and_a_code_span_stays_in_one_line() {
        let text = "a [`b`](c.md#d), `[\"e\"]`, [f g](h) (i)";
        assert_eq!(without_links(text), "a `b`, `[\"e\"]`, f g (i)");
        assert_eq!(words("a `b c`, d"), ["a", "`b c`,", "d"]);
    }

    #[test]
    fn a_number_in_words_has_the_largest_unit_that_divides_it() {
        for (key, number, words) in [
            ("wait_ms_max", 60_000, "60000 (1 minute)"),
            ("wait_ms_max", 500, "500"),
            ("window_seconds", 604_800, "604800 (7 days)"),
            ("keep_alive_seconds", 75, "75"),
            ("group_bytes", 65_536, "65536 (64 KiB)"),
            ("group_bytes", 65_537, "65537"),
            ("queue", 65_536, "65536"),
        ] {
            assert_eq!(shape::with_words(key, number), words);
        }
    }
}
