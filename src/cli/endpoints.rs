//! `triggerd endpoint`: the endpoints that an organization's events are pushed to.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Failure;
use super::answer::{Answer, items, text};
use super::arguments::{checked_id, whole_number};
use super::client::{Client, Method};
use super::confirm::Yes;
use super::endpoint_settings::EndpointOptions;
use super::list::{Limit, List};
use super::output::{
    one_line, print, print_change, print_secret, require_a_reader, require_a_reader_of_secrets,
};
use super::reach::{Server, Settings, With};
use super::table::{Cell, Column, cell, details, readable};
use crate::base::exit_code::ExitCode;

/// The path of endpoints in the API.
const PATH: &str = "/api/endpoints";
/// Path below an endpoint for sending a test event.
const TEST: &str = "/test";

/// Formats an answer as lines of text.
type Words = fn(&Answer) -> Vec<String>;

/// The columns of the list.
const COLUMNS: [Column; 4] = [
    ("ID", |endpoint| cell(endpoint, "id")),
    ("URL", |endpoint| cell(endpoint, "url")),
    ("TYPES", |endpoint| Cell::plain(types(endpoint))),
    ("STATUS", |endpoint| Cell::state(&status(endpoint))),
];

/// The subcommands of `triggerd endpoint`.
#[derive(Subcommand)]
pub(super) enum EndpointCommand {
    /// Create an endpoint and print its secret, which is shown only once
    Create(Create),
    /// List the endpoints
    List(All),
    /// Show an endpoint
    Show(One),
    /// Change settings of an endpoint; the others stay
    Update(Update),
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
    Delete(Delete),
}

#[derive(Args)]
pub(super) struct Create {
    /// URL that events are posted to
    target: String,
    #[command(flatten)]
    options: Box<EndpointOptions>,
    #[command(flatten)]
    with: With,
}

#[derive(Args)]
pub(super) struct All {
    #[command(flatten)]
    limit: Limit,
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
pub(super) struct Update {
    #[command(flatten)]
    one: One,
    /// URL that events are posted to
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    #[command(flatten)]
    options: Box<EndpointOptions>,
}

#[derive(Args)]
pub(super) struct Delete {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    yes: Yes,
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
            Self::List(all) => all.run(settings),
            Self::Show(one) => one.call(settings, (Method::GET, ""), None, whole),
            Self::Enable(one) => one.call(settings, (Method::POST, "/enable"), None, shown_alone),
            Self::Disable(one) => one.call(
                settings,
                (Method::PATCH, ""),
                Some(json!({"enabled": false})),
                shown_alone,
            ),
            Self::Test(one) => one.call(settings, (Method::POST, TEST), None, tested),
            Self::Stats(one) => one.call(settings, (Method::GET, "/stats"), None, whole),
            Self::RotateSecret(rotate) => rotate.run(settings),
            Self::Update(update) => update.run(settings),
            Self::Delete(delete) => delete.run(settings),
        }
    }
}

impl Create {
    fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        require_a_reader_of_secrets()?;
        let body = self.options.body(Some(self.target));
        let client = self.with.client(settings)?;
        let made = client.call(
            Method::POST,
            PATH,
            Some(Value::Object(body).to_string()),
            &["id", "secret"],
        )?;
        print_secret(&lines(&self.with.server, &made, with_secret)).map_err(|unwritten| {
            let id = text(&made, "id");
            let taken_back = match client.delete(&format!("{PATH}/{id}")) {
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
        require_a_reader_of_secrets()?;
        let Self { one, overlap } = self;
        let path = format!("{}/secret/rotate", path(&one.id)?);
        let body = json!({ "overlap_seconds": overlap }).to_string();
        let answer =
            one.with.client(settings)?.call(Method::POST, &path, Some(body), &["id", "secret"])?;
        print_secret(&lines(&one.with.server, &answer, with_secret)).map_err(|unwritten| {
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

fn path(id: &str) -> Result<String, Failure> {
    Ok(format!("{PATH}/{}", checked_id(id, "an endpoint's id (ep_…)")?))
}

impl One {
    fn call(
        self,
        settings: &Settings,
        (method, below): (Method, &str),
        body: Option<Value>,
        words: Words,
    ) -> Result<ExitCode, Failure> {
        if method == Method::GET {
            require_a_reader()?;
        }
        let path = format!("{}{below}", path(&self.id)?);
        let client: Client = self.with.client(settings)?;
        let client = if below == TEST { client.patient() } else { client };
        let answer = client.call(method, &path, body.map(|body| body.to_string()), &["id"])?;
        lines(&self.with.server, &answer, words).iter().try_for_each(|line| print(line))?;
        // The exit code says that the test event was not delivered.
        let failed = answer.get("error").is_some_and(|error| below == TEST && !error.is_null());
        Ok(if failed { ExitCode::Failed } else { ExitCode::Clean })
    }
}

impl Update {
    fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        let Self { one, target, options } = self;
        let body = options.body(target);
        if body.is_empty() {
            let message = "no setting is given; `triggerd endpoint update --help` lists them";
            return Err(Failure::new(ExitCode::Usage, message));
        }
        one.call(settings, (Method::PATCH, ""), Some(Value::Object(body)), updated)
    }
}

impl Delete {
    fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        let Self { one: One { id, with }, yes } = self;
        let path = path(&id)?;
        let client = with.client(settings)?;
        yes.confirm(&format!("Delete {id}? Deliveries that wait for it are canceled."))?;
        client.delete(&path)?;
        let done = format!("{id} is deleted");
        print_change(with.server.form, &json!({ "id": id }).to_string(), &done)
    }
}

fn lines(server: &Server, answer: &Answer, words: Words) -> Vec<String> {
    if server.form.is_json() { vec![one_line(answer.as_text())] } else { words(answer) }
}

impl All {
    fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let path = PATH.to_owned();
        let list = List { path, columns: &COLUMNS, empty: "There are no endpoints." };
        list.print(&self.with.client(settings)?, self.with.server.form, &self.limit)
    }
}

/// Formats an endpoint as one line.
fn shown(endpoint: &Answer) -> String {
    let (id, status) = (text(endpoint, "id"), status(endpoint));
    // The settings are absent if the key may change endpoints but not read them.
    match endpoint.get("url").and_then(Value::as_str) {
        Some(url) => format!("{id}  {url}  {}  {status}", types(endpoint)),
        None => format!("{id}  {status}"),
    }
}

/// The types of the events that an endpoint receives.
fn types(endpoint: &Answer) -> String {
    let types: Vec<_> = items(endpoint, "event_types").iter().filter_map(Value::as_str).collect();
    if types.is_empty() { "everything".to_owned() } else { types.join(", ") }
}

fn status(endpoint: &Answer) -> String {
    match endpoint.get("disabled_reason").and_then(Value::as_str) {
        None => "enabled".to_owned(),
        Some(reason) => format!("disabled: {reason}"),
    }
}

fn whole(answer: &Answer) -> Vec<String> {
    details(answer, &[])
}

fn shown_alone(endpoint: &Answer) -> Vec<String> {
    vec![shown(endpoint)]
}

/// Says what an endpoint is now, and which headers it lost with its former URL.
fn updated(endpoint: &Answer) -> Vec<String> {
    let mut lines = shown_alone(endpoint);
    if !items(endpoint, "headers_dropped").is_empty() {
        let names = endpoint.get("headers_dropped").map(readable).unwrap_or_default();
        lines.push(format!("dropped headers, which were meant for the former origin: {names}"));
    }
    lines
}

fn with_secret(endpoint: &Answer) -> Vec<String> {
    vec![shown(endpoint), text(endpoint, "secret").to_owned()]
}

fn tested(outcome: &Answer) -> Vec<String> {
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
