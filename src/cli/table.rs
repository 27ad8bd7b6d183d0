//! Answers for people: a list as a table with headings, and one thing with a line for each
//! member.

use std::borrow::Cow;
use std::iter::once;

use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

use super::Failure;
use super::answer::{Answer, lenient_text};
use super::form::Form;
use super::output::{Tone, one_line, print, print_json, print_parts, visible};
use crate::base::exit_code::ExitCode;
use crate::model::key::Scope;

/// Shown in the place of a value that is absent.
const NOTHING: &str = "-";
/// The spaces between two columns.
const GAP: usize = 2;
/// The member that is shown in its JSON spelling, because its spelling is the producer's.
const PAYLOAD: &str = "payload";
/// The member that has the scopes of a key.
const SCOPES: &str = "scopes";

/// The heading of a column, and the cell of an item in it.
pub(super) type Column = (&'static str, fn(&Answer) -> Cell);

/// A text with its tone.
#[derive(Debug)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Makes a cell of any text.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }

    /// Makes a cell of a state, whose tone says whether it is a good one.
    pub(super) fn state(word: &str) -> Self {
        let tone = match word {
            "delivered" | "acknowledged" | "enabled" | "finished" => Tone::Good,
            "dead" | "failed" => Tone::Bad,
            "pending" | "retrying" | "running" => Tone::Waiting,
            word if word.starts_with("disabled") => Tone::Bad,
            _ => Tone::Plain,
        };
        Self { text: readable(&Value::from(word)), tone }
    }
}

/// Makes the cell of a member.
pub(super) fn cell(item: &Answer, name: &str) -> Cell {
    Cell::plain(item.get(name).map_or_else(|| NOTHING.to_owned(), readable))
}

/// A list for people.
pub(super) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Makes a table with these headings.
    pub(super) fn new<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        let cell = |text: &str| Cell { text: text.to_owned(), tone: Tone::Heading };
        Self { rows: vec![headings.into_iter().map(cell).collect()] }
    }

    /// Makes a table of items with these columns.
    pub(super) fn of(items: &[Answer], columns: &[Column]) -> Self {
        let mut table = Self::new(columns.iter().map(|(heading, _)| *heading));
        for item in items {
            table.add_item(item, columns);
        }
        table
    }

    /// Adds the row of an item.
    pub(super) fn add_item(&mut self, item: &Answer, columns: &[Column]) {
        self.add(columns.iter().map(|(_, cell)| cell(item)).collect());
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// True if there is no row below the headings.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// Prints the table. The last column is not padded.
    pub(super) fn print(&self) -> Result<(), Failure> {
        let widths = self.widths();
        self.rows.iter().try_for_each(|row| {
            let parts = row.iter().zip(&widths).flat_map(|(cell, width)| {
                let padding = " ".repeat(width.saturating_sub(columns_of(&cell.text)) + GAP);
                [(Cow::from(&cell.text), cell.tone), (Cow::from(padding), Tone::Plain)]
            });
            print_parts(parts)
        })
    }

    /// The columns of the terminal that the widest cell of each column needs.
    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = columns_of(&cell.text).max(*width);
            }
        }
        widths
    }
}

/// The columns of the terminal that a text needs as it is printed. Chinese and Japanese characters
/// and most emoji need two (Unicode Standard Annex 11).
fn columns_of(text: &str) -> usize {
    visible(text).width()
}

/// Prints one thing with all its members: for people without some of them, and with the items of a
/// list in it as a table.
pub(super) fn print_details(
    form: Form,
    thing: &Answer,
    (without, list): (&[&str], Option<(&str, &[Column])>),
) -> Result<ExitCode, Failure> {
    if form.is_json() {
        return print_json(thing.as_text()).map(|()| ExitCode::Clean);
    }
    details(thing, without).iter().try_for_each(|line| print(line))?;
    let items = list.map(|(name, columns)| Table::of(&thing.items(name), columns));
    if let Some(items) = items.filter(|items| !items.is_empty()) {
        print("")?;
        items.print()?;
    }
    Ok(ExitCode::Clean)
}

/// Formats each member of an answer as a line, except for these members.
pub(super) fn details(answer: &Answer, without: &[&str]) -> Vec<String> {
    let members = answer.members();
    let shown: Vec<_> =
        members.iter().filter(|(name, _)| !without.contains(&name.as_str())).collect();
    let width = shown.iter().map(|(name, _)| columns_of(name)).max().unwrap_or_default();
    let line = |(name, spelled): &&(String, &str)| {
        let value = match lenient_text(spelled) {
            Some(value) if name == SCOPES => scopes(&value),
            Some(value) if name != PAYLOAD => spelled_or_readable(&value, spelled),
            _ => one_line(spelled),
        };
        let padding = " ".repeat(width.saturating_sub(columns_of(name)) + GAP);
        once(name.as_str()).chain([padding.as_str(), &value]).collect()
    };
    shown.iter().map(line).collect()
}

/// Returns a value for people. Objects and lists of other things than texts keep their spelling.
fn spelled_or_readable(value: &Value, spelled: &str) -> String {
    let is_deep = match value {
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => !items.iter().all(Value::is_string),
        _ => false,
    };
    if is_deep { one_line(spelled) } else { readable(value) }
}

/// Returns the scopes of a key for people, in one word if the key has all of them.
pub(super) fn scopes(value: &Value) -> String {
    let has_all = value.as_array().is_some_and(|scopes| scopes.len() == Scope::ALL.len());
    if has_all { "all".to_owned() } else { readable(value) }
}

/// Returns a value for people: a text without quotes, the items of a list with commas between them,
/// and a dash for nothing.
pub(super) fn readable(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(readable).collect::<Vec<_>>().join(", "),
        Value::Null => String::new(),
        Value::Object(members) if members.is_empty() => String::new(),
        other => other.to_string(),
    };
    if text.is_empty() { NOTHING.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Answer {
        Answer::read(text.to_owned()).unwrap()
    }

    #[test]
    fn a_width_is_that_of_the_terminal() {
        for (text, columns) in [
            ("abc", 3),
            ("é", 1),
            ("e\u{301}", 1),
            ("漢字", 4),
            ("😀", 2),
            ("\u{1b}", 6),
            ("\t", 2),
        ] {
            assert_eq!(columns_of(text), columns, "{text:?}");
        }
        let mut table = Table::new(["A", "B"]);
        table.add(vec![Cell::plain("漢字"), Cell::plain("x")]);
        table.add(vec![Cell::plain("a\u{202e}"), Cell::plain("")]);
        assert_eq!(table.widths(), [7, 1]);
    }

    #[test]
    fn one_thing_has_each_member_in_the_servers_order_and_a_payload_as_it_was_sent() {
        let shown = details(
            &answer(
                r#"{"type": "a.b", "payload": {"n": 1.0, "x": "\ud800"}, "labels": {}, "n": 1e400,
                "types": ["a", "b"], "none": null, "list": [1, {"a": 2}], "hidden": 1}"#,
            ),
            &["hidden"],
        );
        let lines = [
            "type     a.b",
            r#"payload  {"n": 1.0, "x": "\ud800"}"#,
            "labels   -",
            "n        1e400",
            "types    a, b",
            "none     -",
            r#"list     [1, {"a": 2}]"#,
        ];
        assert_eq!(shown, lines);
        assert_eq!(details(&answer(r#"{"payload": "text"}"#), &[]), [r#"payload  "text""#]);
    }

    #[test]
    fn a_state_has_its_tone() {
        let tones = ["delivered", "disabled: gone", "retrying", "canceled"]
            .map(|word| Cell::state(word).tone);
        assert_eq!(tones, [Tone::Good, Tone::Bad, Tone::Waiting, Tone::Plain]);
    }
}
