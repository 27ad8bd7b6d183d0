//! `triggerd endpoint`: where an organization's events are pushed to.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{Client, Method};
use super::events::{With, checked_id, text};
use super::{Failure, Server, print, printable};
use crate::base::exit_code::ExitCode;
use crate::config::Config;

/// What is to be done.
#[derive(Subcommand)]
pub(super) enum EndpointCommand {
    /// Make an endpoint and print its secret, this once
    Create(Create),
    /// List them
    List(With),
    /// Show one
    Show(One),
    /// Push to it again, whatever disabled it
    Enable(One),
    /// Push nothing to it until it is enabled; what waits goes on waiting
    Disable(One),
    /// Push a test event to it now and say what came of it
    Test(One),
    /// Say how its deliveries go
    Stats(One),
    /// Give it a new secret, beside which the old one signs for a while
    RotateSecret(Rotate),
    /// End it; what waits for it is canceled
    Delete(One),
}

#[derive(Args)]
pub(super) struct Create {
    /// Where events are posted to
    target: String,
    /// An event type, or all below one (order.*); may be given more than once [default: everything]
    #[arg(long = "type", value_name = "TYPE")]
    event_types: Vec<String>,
    /// The body of the requests: envelope, payload or cloudevents
    #[arg(long, value_name = "FORM")]
    body: Option<String>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    with: With,
}

#[derive(Args)]
pub(super) struct One {
    /// Its id (ep_…)
    id: String,
    #[command(flatten)]
    with: With,
}

#[derive(Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    one: One,
    /// Seconds that the old secret goes on signing (0 to 604800)
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    overlap: u32,
}

impl EndpointCommand {
    pub(super) fn run(self, config: &Config) -> Result<ExitCode, Failure> {
        match self {
            Self::Create(create) => create.run(config),
            Self::List(with) => list(&with, config),
            Self::Show(one) => one.call(config, (Method::GET, ""), None, &shown),
            Self::Enable(one) => one.call(config, (Method::POST, "/enable"), None, &shown),
            Self::Disable(one) => one.call(config, (Method::PATCH, ""), Some(json!({"enabled": false})), &shown),
            Self::Test(one) => one.call(config, (Method::POST, "/test"), None, &tested),
            Self::Stats(one) => one.call(config, (Method::GET, "/stats"), None, &members),
            Self::RotateSecret(Rotate { one, overlap }) => {
                let body = json!({ "overlap_seconds": overlap });
                one.call(config, (Method::POST, "/secret/rotate"), Some(body), &with_secret)
            }
            Self::Delete(one) => one.delete(config),
        }
    }
}

impl Create {
    fn run(self, config: &Config) -> Result<ExitCode, Failure> {
        let mut body = Map::from_iter([("url".to_owned(), json!(self.target))]);
        body.insert("event_types".to_owned(), json!(self.event_types));
        let given = [("body", self.body), ("description", self.description)];
        body.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))));
        let client = self.with.client(config)?;
        let made = client.call(Method::POST, "/api/endpoints", Some(Value::Object(body).to_string()))?;
        show(&self.with.server, &made, &with_secret);
        Ok(ExitCode::Clean)
    }
}

impl One {
    fn path(&self) -> Result<String, Failure> {
        Ok(format!("/api/endpoints/{}", checked_id(&self.id, "an endpoint's id (ep_…)")?))
    }

    fn call(
        self,
        config: &Config,
        (method, below): (Method, &str),
        body: Option<Value>,
        words: &dyn Fn(&Value) -> String,
    ) -> Result<ExitCode, Failure> {
        let path = format!("{}{below}", self.path()?);
        let client: Client = self.with.client(config)?;
        let answer = client.call(method, &path, body.map(|body| body.to_string()))?;
        show(&self.with.server, &answer, words);
        // A test that was not delivered is a test that failed.
        let failed = answer.get("delivered") == Some(&Value::Bool(false));
        Ok(if failed { ExitCode::Failed } else { ExitCode::Clean })
    }

    fn delete(self, config: &Config) -> Result<ExitCode, Failure> {
        let path = self.path()?;
        self.with.client(config)?.call_text(Method::DELETE, &path, None)?;
        show(&self.with.server, &json!({"id": self.id}), &|it| format!("{} is ended", text(it, "id")));
        Ok(ExitCode::Clean)
    }
}

fn show(server: &Server, answer: &Value, words: &dyn Fn(&Value) -> String) {
    print(&if server.json { answer.to_string() } else { words(answer) });
}

fn list(with: &With, config: &Config) -> Result<ExitCode, Failure> {
    let client = with.client(config)?;
    let page = client.call(Method::GET, "/api/endpoints?limit=500", None)?;
    if with.server.json {
        print(&page.to_string());
        return Ok(ExitCode::Clean);
    }
    let endpoints = page.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for endpoint in endpoints {
        print(&shown(endpoint));
    }
    if endpoints.is_empty() {
        print("There are no endpoints.");
    } else if page.get("has_more") == Some(&Value::Bool(true)) {
        print("There are more than these 500; `--json` and the API have the cursor.");
    }
    Ok(ExitCode::Clean)
}

/// One line for an endpoint.
fn shown(endpoint: &Value) -> String {
    let types = endpoint.get("event_types").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let types: Vec<&str> = types.iter().filter_map(Value::as_str).collect();
    let types = if types.is_empty() { "everything".to_owned() } else { types.join(", ") };
    let standing = match endpoint.get("disabled_reason").and_then(Value::as_str) {
        None => "enabled".to_owned(),
        Some(reason) => format!("disabled: {reason}"),
    };
    format!("{}  {}  {types}  {standing}", text(endpoint, "id"), text(endpoint, "url"))
}

fn with_secret(endpoint: &Value) -> String {
    format!("{}\n{}", shown(endpoint), text(endpoint, "secret"))
}

fn tested(outcome: &Value) -> String {
    let took = outcome.get("duration_ms").and_then(Value::as_u64).unwrap_or_default();
    match outcome.get("error").filter(|error| !error.is_null()) {
        None => format!("{} was accepted in {took} ms", text(outcome, "event_id")),
        Some(error) => {
            let answer = text(outcome, "body");
            let answer = if answer.is_empty() { String::new() } else { format!("\n{}", printable(answer)) };
            let detail = printable(text(error, "detail"));
            format!("not accepted after {took} ms: {detail} ({}){answer}", text(error, "code"))
        }
    }
}

/// A line for each member.
fn members(stats: &Value) -> String {
    let members = stats.as_object().into_iter().flatten();
    let line = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name:18} {text}"),
        Value::Null => format!("{name:18} -"),
        other => format!("{name:18} {other}"),
    };
    members.map(line).collect::<Vec<_>>().join("\n")
}
