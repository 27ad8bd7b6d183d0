//! `triggerd tail`: prints events and attempts as they happen, one a line.

use std::ops::ControlFlow;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use super::answer::{lenient_text, text};
use super::arguments::Types;
use super::client::{Broken, Client};
use super::explain::why_given_up;
use super::list::with_query;
use super::output::{eprint, print, print_json, require_a_reader};
use super::reach::{Settings, With};
use crate::base::exit_code::ExitCode;

/// Time between two tries to connect.
const AGAIN: Duration = Duration::from_secs(1);

/// Shows events and attempts as they happen, until Ctrl-C.
#[derive(Args)]
#[command(after_help = "With --json, each item is a line too, because the stream has no end.")]
pub(super) struct Tail {
    #[command(flatten)]
    types: Types,
    /// Only attempts to this endpoint (ep_…)
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    #[command(flatten)]
    with: With,
}

impl Tail {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        require_a_reader()?;
        let types = self.types.filter();
        let parameters = [("type", types.as_deref()), ("endpoint_id", self.endpoint.as_deref())];
        let path = with_query("/api/tail", parameters);
        let mut screen = Screen { json: self.with.server.form.is_json(), ..Screen::default() };
        let client = self.with.client(settings)?;
        client.until_interrupted(follow(&client, &path, &mut screen)).unwrap_or(Ok(()))?;
        Ok(ExitCode::Clean)
    }
}

/// Prints the stream, and connects again after an interruption, until nobody reads the output.
async fn follow(client: &Client, path: &str, screen: &mut Screen) -> Result<(), Failure> {
    loop {
        let broken = match client.stream(path, &mut |line| screen.line(line)).await {
            ControlFlow::Break(()) => return screen.unwritten.take().map_or(Ok(()), Err),
            ControlFlow::Continue(broken) => broken,
        };
        match broken {
            Broken::Refused(failure) | Broken::Lost(failure) if !screen.was_connected => {
                return Err(failure);
            }
            Broken::Refused(failure) => return Err(failure),
            Broken::Lost(failure) if screen.is_connected => {
                screen.is_connected = false;
                eprint(&format!("triggerd: {}; connecting again", failure.message));
            }
            Broken::Lost(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Turns the lines of the stream into output.
#[derive(Default)]
struct Screen {
    json: bool,
    was_connected: bool,
    is_connected: bool,
    /// The error that ended the output.
    unwritten: Option<Failure>,
    /// Name and data of the item that is being read.
    name: String,
    data: String,
}

impl Screen {
    /// Handles the stream's next line. Breaks when the output cannot be written.
    fn line(&mut self, line: &str) -> ControlFlow<()> {
        if let Some(name) = line.strip_prefix("event: ") {
            name.clone_into(&mut self.name);
        } else if let Some(data) = line.strip_prefix("data: ") {
            data.clone_into(&mut self.data);
        } else if line.is_empty() && !self.data.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            return self.item(&name, &data);
        }
        ControlFlow::Continue(())
    }

    fn item(&mut self, name: &str, text_of_data: &str) -> ControlFlow<()> {
        let data = &lenient_text(text_of_data).unwrap_or_default();
        match name {
            "start" => self.started(data),
            "end" => {
                eprint(&format!("triggerd: the server ended the stream: {}", text(data, "reason")));
            }
            _ => {}
        }
        let written = match sentence(name, data) {
            _ if self.json => {
                print_json(&format!("{{\"item\":{},\"data\":{text_of_data}}}", json!(name)))
            }
            Some(line) => print(&line),
            None => Ok(()),
        };
        self.unwritten = written.err();
        if self.unwritten.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn started(&mut self, data: &Value) {
        let what = if data.get("attempts") == Some(&Value::Bool(true)) {
            "events and attempts"
        } else {
            "events"
        };
        eprint(&if self.was_connected {
            format!("triggerd: watching {what} again; {what} during the interruption are not shown")
        } else {
            format!("triggerd: watching {what}; press Ctrl-C to stop")
        });
        (self.was_connected, self.is_connected) = (true, true);
    }
}

/// Formats an item as one line with its time, subject, place and reason.
fn sentence(name: &str, data: &Value) -> Option<String> {
    match name {
        "event" => {
            let (at, kind, id) = (text(data, "received_at"), text(data, "type"), text(data, "id"));
            Some(format!("{at}  accepted   {kind}  {id}"))
        }
        "attempt" => Some(attempt(data)),
        "missed" => Some(format!(
            "({} items were missed, because the stream is faster than this connection)",
            number(data, "count")
        )),
        _ => None,
    }
}

fn number(data: &Value, name: &str) -> u64 {
    data.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn attempt(data: &Value) -> String {
    let word = match text(data, "state") {
        "delivered" => "delivered",
        "dead" => "given up ",
        "canceled" => "canceled ",
        _ => "failed   ",
    };
    let (at, kind) = (text(data, "started_at"), text(data, "event_type"));
    let (event, endpoint) = (text(data, "event_id"), text(data, "endpoint_id"));
    let took = format!("attempt {}, {} ms", number(data, "number"), number(data, "duration_ms"));
    let told = match data.get("error").filter(|error| !error.is_null()) {
        None => format!("{} ({took})", number(data, "status")),
        Some(error) => format!("{} ({}; {took})", text(error, "detail"), text(error, "code")),
    };
    let then = match text(data, "state") {
        "retrying" => format!("; next at {}", text(data, "next_attempt_at")),
        "dead" => format!("; {}", why_given_up(text(data, "reason"))),
        "canceled" => "; the delivery is not retried".to_owned(),
        _ => String::new(),
    };
    let disabled = match text(data, "endpoint_disabled_reason") {
        "" => String::new(),
        reason => format!("; the endpoint is disabled now ({reason})"),
    };
    format!("{at}  {word}  {kind}  {event} -> {endpoint}: {told}{then}{disabled}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_what_where_and_why() {
        let event = json!({"id": "evt_1", "type": "a.b", "received_at": "T"});
        assert_eq!(sentence("event", &event).unwrap(), "T  accepted   a.b  evt_1");
        let mut data = json!({"delivery_id": "dlv_1", "event_id": "evt_1", "event_type": "a.b",
        "endpoint_id": "ep_1",
            "number": 2, "started_at": "T", "duration_ms": 5, "status": 200, "error": null,
            "state": "delivered",
            "next_attempt_at": null, "reason": null, "endpoint_disabled_reason": null});
        let line = |data: &Value| sentence("attempt", data).unwrap();
        assert_eq!(line(&data), "T  delivered  a.b  evt_1 -> ep_1: 200 (attempt 2, 5 ms)");
        data["error"] = json!({"code": "timeout", "detail": "no answer"});
        (data["state"], data["next_attempt_at"]) = (json!("retrying"), json!("N"));
        let failed = "  a.b  evt_1 -> ep_1: no answer (timeout; attempt 2, 5 ms); ";
        assert_eq!(line(&data), format!("T  failed   {failed}next at N"));
        (data["state"], data["reason"]) = (json!("dead"), json!("attempts_exhausted"));
        data["endpoint_disabled_reason"] = json!("failing");
        let why = "the retry schedule has no attempt left; the endpoint is disabled now (failing)";
        assert_eq!(line(&data), format!("T  given up {failed}{why}"));
        (data["state"], data["endpoint_disabled_reason"]) = (json!("canceled"), Value::Null);
        assert_eq!(line(&data), format!("T  canceled {failed}the delivery is not retried"));
        assert!(sentence("missed", &json!({"count": 7})).unwrap().contains('7'));
        assert_eq!(sentence("start", &json!({"attempts": true})), None);
    }
}
