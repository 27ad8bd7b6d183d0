//! `triggerd endpoint`: the endpoints that an organization's events are pushed to.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Failure;
use super::answer::Answer;
use super::client::{Client, Method};
use super::events::{checked_id, items, text, whole_number};
use super::output::{one_line, print, print_done, print_json, print_secret, require_a_reader};
use super::reach::{Server, Settings, With};
use crate::base::exit_code::ExitCode;

/// Path below an endpoint for sending a test event.
const TEST: &str = "/test";

/// Formats an answer as lines of text.
type Words<'a> = &'a dyn Fn(&Value) -> Vec<String>;

/// The subcommands of `triggerd endpoint`.
#[derive(Subcommand)]
pub(super) enum EndpointCommand {
    /// Create an endpoint and print its secret, which is shown only once
    Create(Create),
    /// List the endpoints
    List(With),
    /// Show an endpoint
    Show(One),
    /// Enable an endpoint, whatever disabled it
    Enable(One),
    /// Disable an endpoint: nothing is pushed to it until it is enabled, and deliveries keep
    /// waiting
    Disable(One),
    /// Push a test event to an endpoint now and show the result
    Test(One),
    /// Show the delivery statistics of an endpoint
    Stats(One),
    /// Give an endpoint a new secret; the old secret keeps signing for a while
    RotateSecret(Rotate),
    /// Delete an endpoint; deliveries that wait for it are canceled
    Delete(One),
}

#[derive(Args)]
pub(super) struct Create {
    /// URL that events are posted to
    target: String,
    /// Event type, or all types below it (order.*); may be given more than once [default: every
    /// type]
    #[arg(long = "type", value_name = "TYPE")]
    event_types: Vec<String>,
    /// Form of the request bodies: envelope, payload or cloudevents
    #[arg(long, value_name = "FORM")]
    body: Option<String>,
    /// Description of the endpoint
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    with: With,
}

#[derive(Args)]
pub(super) struct One {
    /// Id of the endpoint (ep_…)
    id: String,
    #[command(flatten)]
    with: With,
}

#[derive(Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    one: One,
    /// Seconds that the old secret keeps signing (0 to 604800)
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = whole_number)]
    overlap: u32,
}

impl EndpointCommand {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        match self {
            Self::Create(create) => create.run(settings),
            Self::List(with) => list(&with, settings),
            Self::Show(one) => one.call(settings, (Method::GET, ""), None, &shown_alone),
            Self::Enable(one) => one.call(settings, (Method::POST, "/enable"), None, &shown_alone),
            Self::Disable(one) => one.call(
                settings,
                (Method::PATCH, ""),
                Some(json!({"enabled": false})),
                &shown_alone,
            ),
            Self::Test(one) => one.call(settings, (Method::POST, TEST), None, &tested),
            Self::Stats(one) => one.call(settings, (Method::GET, "/stats"), None, &members),
            Self::RotateSecret(rotate) => rotate.run(settings),
            Self::Delete(one) => one.delete(settings),
        }
    }
}

impl Create {
    fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        require_a_reader()?;
        let mut body = Map::from_iter([("url".to_owned(), json!(self.target))]);
        body.insert("event_types".to_owned(), json!(self.event_types));
        let given = [("body", self.body), ("description", self.description)];
        body.extend(
            given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))),
        );
        let client = self.with.client(settings)?;
        let made = client.call(
            Method::POST,
            "/api/endpoints",
            Some(Value::Object(body).to_string()),
            &["id", "secret"],
        )?;
        print_secret(&lines(&self.with.server, &made, &with_secret)).map_err(|unwritten| {
            let id = text(&made, "id");
            let taken_back = match client.delete(&format!("/api/endpoints/{id}")) {
                Ok(()) => format!(
                    "Therefore the new endpoint {id}, whose secret was not shown, \
                    was deleted again."
                ),
                Err(failure) => format!(
                    "The secret of the new endpoint {id} was not shown, and the endpoint could not \
                     be deleted again: {}",
                    failure.message
                ),
            };
            Failure::new(ExitCode::Failed, format!("{unwritten}. {taken_back}"))
        })?;
        Ok(ExitCode::Clean)
    }
}

impl Rotate {
    fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        require_a_reader()?;
        let Self { one, overlap } = self;
        let path = format!("{}/secret/rotate", one.path()?);
        let body = json!({ "overlap_seconds": overlap }).to_string();
        let answer =
            one.with.client(settings)?.call(Method::POST, &path, Some(body), &["id", "secret"])?;
        print_secret(&lines(&one.with.server, &answer, &with_secret)).map_err(|unwritten| {
            let id = &one.id;
            let message = format!(
                "{unwritten}. The new secret of {id} was not shown, and it is in use: the old \
                 secret also signs for {overlap} seconds. `triggerd endpoint rotate-secret {id}` \
                 makes another secret."
            );
            Failure::new(ExitCode::Failed, message)
        })?;
        Ok(ExitCode::Clean)
    }
}

impl One {
    fn path(&self) -> Result<String, Failure> {
        Ok(format!("/api/endpoints/{}", checked_id(&self.id, "an endpoint's id (ep_…)")?))
    }

    fn call(
        self,
        settings: &Settings,
        (method, below): (Method, &str),
        body: Option<Value>,
        words: Words<'_>,
    ) -> Result<ExitCode, Failure> {
        let path = format!("{}{below}", self.path()?);
        let client: Client = self.with.client(settings)?;
        let client = if below == TEST { client.patient() } else { client };
        let answer = client.call(method, &path, body.map(|body| body.to_string()), &["id"])?;
        lines(&self.with.server, &answer, words).iter().try_for_each(|line| print(line))?;
        // The exit code says that the test event was not delivered.
        let failed = answer.get("error").is_some_and(|error| below == TEST && !error.is_null());
        Ok(if failed { ExitCode::Failed } else { ExitCode::Clean })
    }

    fn delete(self, settings: &Settings) -> Result<ExitCode, Failure> {
        let path = self.path()?;
        self.with.client(settings)?.delete(&path)?;
        let Self { id, with } = self;
        let done = format!("{id} is deleted");
        let line = if with.server.json { json!({ "id": id }).to_string() } else { done.clone() };
        print_done(&line, &format!("{done}."))?;
        Ok(ExitCode::Clean)
    }
}

fn lines(server: &Server, answer: &Answer, words: Words<'_>) -> Vec<String> {
    if server.json { vec![one_line(answer.as_text())] } else { words(answer) }
}

fn list(with: &With, settings: &Settings) -> Result<ExitCode, Failure> {
    let client = with.client(settings)?;
    let page = client.call(Method::GET, "/api/endpoints?limit=500", None, &["data", "has_more"])?;
    if with.server.json {
        print_json(page.as_text())?;
        return Ok(ExitCode::Clean);
    }
    let endpoints = items(&page, "data");
    endpoints.iter().try_for_each(|endpoint| print(&shown(endpoint)))?;
    if endpoints.is_empty() {
        print("There are no endpoints.")?;
    } else if page.get("has_more") == Some(&Value::Bool(true)) {
        print(
            "There are more than these 500 endpoints; `--json` and the API give the cursor of the \
             next page.",
        )?;
    }
    Ok(ExitCode::Clean)
}

/// Formats an endpoint as one line.
fn shown(endpoint: &Value) -> String {
    let types = endpoint
        .get("event_types")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let types: Vec<&str> = types.iter().filter_map(Value::as_str).collect();
    let types = if types.is_empty() { "everything".to_owned() } else { types.join(", ") };
    let status = match endpoint.get("disabled_reason").and_then(Value::as_str) {
        None => "enabled".to_owned(),
        Some(reason) => format!("disabled: {reason}"),
    };
    let id = text(endpoint, "id");
    // The settings are absent if the key may change endpoints but not read them.
    match endpoint.get("url").and_then(Value::as_str) {
        Some(url) => format!("{id}  {url}  {types}  {status}"),
        None => format!("{id}  {status}"),
    }
}

fn shown_alone(endpoint: &Value) -> Vec<String> {
    vec![shown(endpoint)]
}

fn with_secret(endpoint: &Value) -> Vec<String> {
    vec![shown(endpoint), text(endpoint, "secret").to_owned()]
}

fn tested(outcome: &Value) -> Vec<String> {
    let took = outcome.get("duration_ms").and_then(Value::as_u64).unwrap_or_default();
    let Some(error) = outcome.get("error").filter(|error| !error.is_null()) else {
        return vec![format!(
            "the test event {} was accepted in {took} ms",
            text(outcome, "event_id")
        )];
    };
    let (detail, code) = (text(error, "detail"), text(error, "code"));
    let mut lines =
        vec![format!("the test event was not accepted after {took} ms: {detail} ({code})")];
    lines.extend(text(outcome, "response_body").lines().map(str::to_owned));
    lines
}

/// Formats each member as one line.
fn members(stats: &Value) -> Vec<String> {
    let members = stats.as_object().into_iter().flatten();
    let line = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name:18} {text}"),
        Value::Null => format!("{name:18} -"),
        other => format!("{name:18} {other}"),
    };
    members.map(line).collect()
}
