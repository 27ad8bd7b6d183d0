//! The settings of an endpoint as options of `endpoint create` and `endpoint update`.

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Map, Value, json};

use super::arguments::Patterns;
use crate::model::endpoint::{BodyForm, Ordering};

/// The value of an option that takes back a setting.
const DEFAULT: &str = "default";
/// The retry schedule without a retry.
const NONE: &str = "none";

/// The options for all settings but the URL.
#[derive(Args)]
pub(super) struct EndpointOptions {
    #[command(flatten)]
    patterns: Patterns,
    /// Form of the request bodies
    #[arg(long, value_name = "FORM", value_parser = forms())]
    body: Option<String>,
    /// Description of the endpoint
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Header of each request; may be given more than once. The headers given replace all headers
    /// of the endpoint; the value (set) keeps a value
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// Name and value for your own programs; may be given more than once. Those given replace all
    /// of the endpoint
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Seconds before each further attempt, separated by commas; none; or default
    #[arg(long, value_name = "SECONDS", value_parser = schedule)]
    retry_schedule: Option<Value>,
    /// Maximum duration of an attempt in milliseconds, or default
    #[arg(long, value_name = "MS", value_parser = limit)]
    timeout_ms: Option<Value>,
    /// Maximum number of attempts at one time, or default
    #[arg(long, value_name = "N", value_parser = limit)]
    max_in_flight: Option<Value>,
    /// Maximum number of attempts begun in a second, or default
    #[arg(long, value_name = "N", value_parser = limit)]
    rate_per_second: Option<Value>,
    /// strict: one delivery at a time, in the order in which events were accepted
    #[arg(long, value_name = "ORDERING", value_parser = orderings())]
    ordering: Option<String>,
}

fn forms() -> PossibleValuesParser {
    BodyForm::ALL.iter().map(|form| form.name()).into()
}

fn orderings() -> PossibleValuesParser {
    Ordering::ALL.iter().map(|ordering| ordering.name()).into()
}

impl EndpointOptions {
    /// Returns the members of the settings that are given, and of the URL.
    pub(super) fn body(self, url: Option<String>) -> Map<String, Value> {
        let types = self.patterns.each().map(|types| json!(types));
        let pairs = |pairs: Vec<(String, String)>| {
            let members = pairs.into_iter().map(|(name, value)| (name, Value::String(value)));
            Some(Value::Object(members.collect())).filter(|pairs| *pairs != json!({}))
        };
        let members = [
            ("url", url.map(Value::String)),
            ("event_types", types),
            ("body", self.body.map(Value::String)),
            ("description", self.description.map(Value::String)),
            ("headers", pairs(self.headers)),
            ("metadata", pairs(self.metadata)),
            ("retry_schedule", self.retry_schedule),
            ("timeout_ms", self.timeout_ms),
            ("max_in_flight", self.max_in_flight),
            ("rate_per_second", self.rate_per_second),
            ("ordering", self.ordering.map(Value::String)),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn limit(text: &str) -> Result<Value, &'static str> {
    if text == DEFAULT {
        return Ok(Value::Null);
    }
    let number = text.parse::<u64>();
    number.map(Value::from).map_err(|_no_number| "must be a whole number or `default`")
}

fn schedule(text: &str) -> Result<Value, &'static str> {
    if text == DEFAULT {
        return Ok(Value::Null);
    }
    let waits = text.split(',').filter(|_| text != NONE).map(|wait| wait.trim().parse::<u64>());
    let waits: Result<Vec<_>, _> = waits.collect();
    let fault = "must be whole seconds separated by commas, `none` or `default`";
    waits.map(|waits| json!(waits)).map_err(|_no_number| fault)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: EndpointOptions,
    }

    fn body(words: &[&str]) -> Value {
        let words = [&["triggerd"], words].concat();
        Value::Object(Command::try_parse_from(words).unwrap().options.body(None))
    }

    #[test]
    fn only_what_is_given_is_a_member() {
        assert_eq!(body(&[]), json!({}));
        let given =
            body(&["--type", "a,b.*", "--type", "c", "--header", "x=a=b", "--timeout-ms", "5"]);
        let expected =
            json!({"event_types": ["a", "b.*", "c"], "headers": {"x": "a=b"}, "timeout_ms": 5});
        assert_eq!(given, expected);
        let given =
            body(&["--type", "*", "--retry-schedule", "1, 20", "--max-in-flight", "default"]);
        let expected = json!({"event_types": [], "retry_schedule": [1, 20], "max_in_flight": null});
        assert_eq!(given, expected);
        assert_eq!(body(&["--retry-schedule", "none"]), json!({"retry_schedule": []}));
        for wrong in [["--header", "x"], ["--timeout-ms", "soon"], ["--retry-schedule", "1,x"]] {
            assert!(Command::try_parse_from(["triggerd"].into_iter().chain(wrong)).is_err());
        }
    }
}
