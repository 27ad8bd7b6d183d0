//! Options that mean the same in every command, and checks of arguments.

use clap::Args;

use super::Failure;
use crate::base::exit_code::ExitCode;

/// The options for a span of time.
#[derive(Args)]
pub(super) struct Span {
    /// From this time on: RFC 3339, or a duration back from now, such as 90m, 12h or 1d12h (s, m,
    /// h, d, w)
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Before this time, in the same form as --since
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
}

/// The option for event types.
#[derive(Args)]
pub(super) struct Types {
    /// Only events of these types, separated by commas: order.created, order.*, *.created, or
    /// !order.test for every type but order.test; may be given more than once
    #[arg(long = "type", value_name = "TYPES")]
    types: Vec<String>,
}

impl Types {
    /// The types as the parameter of a list; none if every type is wanted.
    pub(super) fn filter(&self) -> Option<String> {
        Some(self.types.join(",")).filter(|types| !types.is_empty())
    }
}

/// The option for the event types that a body names.
#[derive(Args)]
pub(super) struct Patterns {
    /// Event type, or all types below it (order.*); separated by commas, or given more than once; *
    /// is every type [default: every type]
    #[arg(long = "type", value_name = "TYPES")]
    types: Vec<String>,
}

impl Patterns {
    /// Each type. The list is empty if every type is wanted, and absent without the option.
    pub(super) fn each(&self) -> Option<Vec<&str>> {
        let types = self.types.iter().flat_map(|types| types.split(',')).map(str::trim);
        let types: Vec<_> = types.collect();
        let is_given = !types.is_empty();
        is_given.then(|| if types.contains(&"*") { Vec::new() } else { types })
    }
}

/// The name of an event id in errors.
pub(super) const EVENT_ID: &str = "an event id (evt_…)";

/// Checks that an id has only letters, digits and `_`, because any other character would change the
/// path.
pub(super) fn checked_id<'a>(id: &'a str, what: &str) -> Result<&'a str, Failure> {
    if id.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_') {
        return Ok(id);
    }
    Err(Failure::new(ExitCode::Usage, format!("{id:?} is not {what}")))
}

/// Parses the number of an option. The standard library's error is for programmers.
pub(super) fn whole_number(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_no_number| "a whole number is needed")
}

/// Parses the number of an option that has no meaning for zero.
pub(super) fn at_least_one(text: &str) -> Result<u32, &'static str> {
    match whole_number(text)? {
        0 => Err("must be at least 1"),
        number => Ok(number),
    }
}
