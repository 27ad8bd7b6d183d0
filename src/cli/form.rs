//! The forms of a command's output: text for people, one JSON document, or JSON Lines.

use clap::Args;

/// The options for the form of the output.
#[derive(Args, Clone, Copy)]
pub(super) struct Form {
    /// Print one JSON document on a line, for programs
    #[arg(long)]
    json: bool,
    /// Print JSON Lines, for programs: each item of a list on a line of its own
    #[arg(long, conflicts_with = "json")]
    jsonl: bool,
}

impl Form {
    /// True if programs read the output. A single answer is the same in both JSON forms.
    pub(super) fn is_json(self) -> bool {
        self.json || self.jsonl
    }

    /// True if each item of a list is a line of JSON.
    pub(super) fn is_lines(self) -> bool {
        self.jsonl
    }

    /// Returns the lines for a whole list, whose items are JSON texts.
    pub(super) fn of_items(self, items: &[String]) -> Vec<String> {
        if self.jsonl {
            items.to_vec()
        } else {
            vec![format!("{{\"data\":[{}]}}", items.join(","))]
        }
    }
}
