//! `triggerd send`, `inbox` and `ack`: the commands of a producer and of a consumer.

use std::io::Read as _;

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Failure;
use super::client::Method;
use super::output::{one_line, print, print_done, print_json};
use super::reach::{Settings, With};
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::{io_words, json_fault};

/// Posts an event.
#[derive(Args)]
pub(super) struct Send {
    /// Event type, such as order.created
    event_type: String,
    /// Payload, any JSON; `-` reads the payload from standard input
    #[arg(allow_hyphen_values = true)]
    payload: String,
    /// Deduplication id: the same id again is the same event
    #[arg(long, value_name = "ID")]
    dedup_id: Option<String>,
    #[command(flatten)]
    with: With,
}

/// Shows the inbox.
#[derive(Args)]
pub(super) struct Inbox {
    /// Maximum number of events (1 to 500)
    #[arg(long, default_value_t = 50, value_parser = whole_number)]
    limit: u32,
    /// Maximum seconds to wait for an event while the inbox is empty (0 to 30)
    #[arg(long, default_value_t = 0, value_name = "SECONDS", value_parser = whole_number)]
    wait: u32,
    /// Only events of these types, separated by commas: order.created, order.*, *.created, or
    /// !order.test for every type but order.test
    #[arg(long = "type", value_name = "TYPES")]
    types: Option<String>,
    #[command(flatten)]
    with: With,
}

/// A page of the inbox. Payloads stay in their JSON spelling, because a Rust string cannot hold
/// every JSON string.
#[derive(serde::Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<Event<'a>>,
    has_more: bool,
}

#[derive(serde::Deserialize)]
struct Event<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    received_at: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// Acknowledges events.
#[derive(Args)]
pub(super) struct Ack {
    /// Ids of the events (evt_…)
    #[arg(required = true, value_name = "EVENT")]
    ids: Vec<String>,
    #[command(flatten)]
    with: With,
}

/// The name of an event id in errors.
pub(super) const EVENT_ID: &str = "an event id (evt_…)";

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list member; empty if the member is missing.
pub(super) fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

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

fn of_input(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::InvalidData => "a payload is JSON, and JSON is UTF-8 text".to_owned(),
        _ => io_words(error),
    }
}

impl Send {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        let mut payload = self.payload;
        if payload == "-" {
            payload.clear();
            let read = std::io::stdin().lock().read_to_string(&mut payload);
            read.map_err(|error| {
                Failure::new(
                    ExitCode::Usage,
                    format!("standard input cannot be read: {}", of_input(&error)),
                )
            })?;
        }
        let payload: Box<RawValue> = serde_json::from_str(payload.trim()).map_err(|error| {
            Failure::new(
                ExitCode::Usage,
                format!(
                    "the payload is not JSON: {} (a string needs quotes: '\"text\"')",
                    json_fault(&error)
                ),
            )
        })?;
        let dedup_id =
            self.dedup_id.map(|id| format!(",\"dedup_id\":{}", json!(id))).unwrap_or_default();
        let body =
            format!("{{\"type\":{},\"payload\":{payload}{dedup_id}}}", json!(self.event_type));
        let client = self.with.client(settings)?;
        let sent = client.call(Method::POST, "/api/events", Some(body), &["id", "received_at"])?;
        let duplicate = sent.get("duplicate") == Some(&Value::Bool(true));
        let word = if duplicate { "was already accepted at" } else { "accepted" };
        let told = format!("{} {word} {}", text(&sent, "id"), text(&sent, "received_at"));
        let line = if self.with.server.json { one_line(sent.as_text()) } else { told.clone() };
        print_done(&line, &format!("{told}."))?;
        Ok(ExitCode::Clean)
    }
}

impl Inbox {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        let client = self.with.client(settings)?;
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("limit", &self.limit.to_string())
            .append_pair("wait", &self.wait.to_string());
        if let Some(types) = &self.types {
            query.append_pair("type", types);
        }
        let path = format!("/api/inbox?{}", query.finish());
        let answer = client.call(Method::GET, &path, None, &["data", "has_more"])?;
        if self.with.server.json {
            print_json(answer.as_text())?;
            return Ok(ExitCode::Clean);
        }
        let page: Page<'_> = serde_json::from_str(answer.as_text()).map_err(|error| {
            Failure::new(
                ExitCode::Failed,
                format!("the answer is not valid: {}", json_fault(&error)),
            )
        })?;
        let events = &page.data;
        for event in events {
            let Event { received_at, id, kind, payload } = event;
            print(&format!("{received_at}  {id}  {kind}  {}", one_line(payload.get())))?;
        }
        match (events.is_empty(), page.has_more) {
            (true, _) if self.types.is_none() => print("The inbox is empty.")?,
            (true, false) => print("The inbox has no event of these types.")?,
            (true, true) => print("The oldest events of the inbox have none of these types.")?,
            (false, true) => {
                print("The inbox has more events; acknowledge these events, or raise --limit.")?;
            }
            (false, false) => {}
        }
        Ok(ExitCode::Clean)
    }
}

impl Ack {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        for id in &self.ids {
            checked_id(id, EVENT_ID)?;
        }
        let client = self.with.client(settings)?;
        // Every event is acknowledged, even if the output cannot be written.
        let mut unwritten = Ok(());
        for (place, id) in self.ids.iter().enumerate() {
            let answer =
                client.call(Method::POST, &format!("/api/ack/{id}"), None, &["acknowledged_at"]);
            let answer = answer.map_err(|failure| left_out(&self.ids, place, &failure))?;
            let told = format!("{id} acknowledged {}", text(&answer, "acknowledged_at"));
            let line = if self.with.server.json { one_line(answer.as_text()) } else { told };
            unwritten =
                unwritten.and_then(|()| print_done(&line, "All these events are acknowledged."));
        }
        unwritten.map(|()| ExitCode::Clean)
    }
}

/// The failure that names the event not acknowledged, and counts the events not tried.
fn left_out(ids: &[String], place: usize, failure: &Failure) -> Failure {
    let id = ids.get(place).map(String::as_str).unwrap_or_default();
    let behind = match ids.len().saturating_sub(place + 1) {
        0 => String::new(),
        1 => "\nThe event after it was not tried.".to_owned(),
        more => format!("\nThe {more} events after it were not tried."),
    };
    Failure::new(failure.code, format!("{id} was not acknowledged: {}{behind}", failure.message))
}
