//! `triggerd send`, `inbox` and `ack`: the commands of a producer and of a consumer.

use std::io::Read as _;

use clap::Args;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Failure;
use super::answer::{Answer, text};
use super::arguments::{EVENT_ID, Types, checked_id, whole_number};
use super::client::Method;
use super::list::{Limit, List, with_query};
use super::output::{one_line, print_change, print_done};
use super::reach::{Settings, With};
use super::table::{Cell, Column, cell};
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
    /// Maximum seconds to wait for an event while the inbox is empty (0 to 30)
    #[arg(long, default_value_t = 0, value_name = "SECONDS", value_parser = whole_number)]
    wait: u32,
    #[command(flatten)]
    types: Types,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    with: With,
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

/// The columns of the inbox. The payload has its JSON spelling.
const INBOX: [Column; 4] = [
    ("RECEIVED", |event| cell(event, "received_at")),
    ("ID", |event| cell(event, "id")),
    ("TYPE", |event| cell(event, "type")),
    ("PAYLOAD", |event| Cell::plain(one_line(event.spelled("payload").unwrap_or_default()))),
];

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
        // As the server does (RFC 8259, 8.1).
        let payload = payload.strip_prefix('\u{feff}').unwrap_or(&payload);
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
        print_change(self.with.server.form, sent.as_text(), &told)
    }
}

impl Inbox {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        let (types, wait) = (self.types.filter(), self.wait.to_string());
        let parameters = [("wait", Some(wait.as_str())), ("type", types.as_deref())];
        let list = List {
            path: with_query("/api/inbox", parameters),
            columns: &INBOX,
            empty: match types {
                None => "The inbox is empty.",
                Some(_) => "The inbox has no event of these types.",
            },
        };
        list.print(&self.with.client(settings)?, self.with.server.form, &self.limit)
    }
}

impl Ack {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        for id in &self.ids {
            checked_id(id, EVENT_ID)?;
        }
        let client = self.with.client(settings)?;
        let (mut items, mut failed) = (Vec::new(), None);
        for (place, id) in self.ids.iter().enumerate() {
            let path = format!("/api/ack/{id}");
            match client.call(Method::POST, &path, None, &["acknowledged_at"]) {
                Ok(answer) => items.push(answer),
                Err(failure) => {
                    failed = Some(left_out(&self.ids, place, &failure));
                    break;
                }
            }
        }
        // What is acknowledged is said, also if a later event is not.
        let form = self.with.server.form;
        let lines = if form.is_json() {
            form.of_items(&items.iter().map(|item| one_line(item.as_text())).collect::<Vec<_>>())
        } else {
            let told = |item: &Answer| {
                format!("{} acknowledged {}", text(item, "id"), text(item, "acknowledged_at"))
            };
            items.iter().map(told).collect()
        };
        let done = "All these events are acknowledged.";
        let written = lines.iter().try_for_each(|line| print_done(line, done));
        failed.map_or(written, Err).map(|()| ExitCode::Clean)
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
