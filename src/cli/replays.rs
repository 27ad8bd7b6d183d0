//! `triggerd replay`: past events delivered again.

use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::Failure;
use super::answer::{Answer, text};
use super::arguments::{Patterns, Span, checked_id};
use super::client::{Client, Interrupts, Method};
use super::list::{Limit, List};
use super::output::{eprint, one_line, print_done, require_a_reader};
use super::reach::{Server, Settings, With};
use super::table::{Cell, Column, cell};
use crate::base::exit_code::ExitCode;

/// Time between two looks at the progress of a replay.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Number of failed looks in a row before giving up; enough for a restart of the server.
const FAILURES_MAX: u32 = 60;
/// Number of skipped endpoints that are named in a line; `--json` names all of them.
const SKIPPED_NAMED: usize = 3;
/// Length of the bar: the progress in thousandths.
const WHOLE: u32 = 1_000;

/// The subcommands of `triggerd replay`.
#[derive(Subcommand)]
pub(super) enum ReplayCommand {
    /// Start a replay and show its progress; Ctrl-C stops only the display
    Start(Start),
    /// List the latest replays
    List(All),
    /// Show a replay
    Show(One),
    /// Cancel a replay; deliveries that wait because of it keep waiting
    Cancel(One),
}

#[derive(Args)]
pub(super) struct Start {
    /// failed: dead letters; missing: events that an endpoint wants and never had a delivery of;
    /// all: every event that an endpoint wants
    #[arg(long, value_parser = ["failed", "missing", "all"])]
    only: String,
    /// Replay to this endpoint only (ep_…) [default: to every enabled endpoint]
    #[arg(long, value_name = "ID")]
    endpoint: Option<String>,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    patterns: Patterns,
    /// Start the replay and do not wait for its end
    #[arg(long)]
    no_wait: bool,
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

/// The columns of the list.
const COLUMNS: [Column; 7] = [
    ("STARTED", |replay| cell(replay, "created_at")),
    ("ID", |replay| cell(replay, "id")),
    ("ONLY", |replay| cell(replay, "only")),
    ("ENDPOINT", |replay| cell(replay, "endpoint_id")),
    ("STATE", |replay| Cell::state(text(replay, "state"))),
    ("EXAMINED", |replay| cell(replay, "examined")),
    ("QUEUED", |replay| cell(replay, "queued")),
];

#[derive(Args)]
pub(super) struct One {
    /// Id of the replay (rpl_…)
    id: String,
    #[command(flatten)]
    with: With,
}

impl ReplayCommand {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        match self {
            Self::Start(start) => start.run(settings),
            Self::List(all) => all.run(settings),
            Self::Show(one) => one.call(settings, Method::GET),
            Self::Cancel(one) => one.call(settings, Method::DELETE),
        }
    }
}

impl Start {
    fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        let mut body = Map::from_iter([("only".to_owned(), json!(self.only))]);
        body.insert("event_types".to_owned(), json!(self.patterns.each().unwrap_or_default()));
        let Span { since, until } = self.span;
        let given = [("endpoint_id", self.endpoint), ("since", since), ("until", until)];
        body.extend(
            given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))),
        );
        let client = self.with.client(settings)?;
        let mut interrupts = if self.no_wait { None } else { Some(client.hear_interrupts()?) };
        let mut replay = client.call(
            Method::POST,
            "/api/replays",
            Some(Value::Object(body).to_string()),
            &["id", "state"],
        )?;
        if let Some(interrupts) = &mut interrupts {
            replay = watch(&client, interrupts, replay)?;
        }
        show(&self.with.server, &replay)?;
        let ends_well = matches!(text(&replay, "state"), "finished" | "running");
        Ok(if ends_well { ExitCode::Clean } else { ExitCode::Failed })
    }
}

/// Shows the progress of a replay until its end or Ctrl-C, and returns the last answer.
fn watch(
    client: &Client,
    interrupts: &mut Interrupts,
    mut replay: Answer,
) -> Result<Answer, Failure> {
    // The bar hides itself without a terminal.
    let bar = ProgressBar::new(WHOLE.into());
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}");
    bar.set_style(style.map_err(|error| Failure::new(ExitCode::Failed, error))?);
    let path = format!("/api/replays/{}", text(&replay, "id"));
    let mut failures = 0;
    while text(&replay, "state") == "running" {
        let share = replay.get("progress").and_then(Value::as_f64).unwrap_or_default();
        let thousandths =
            (0..WHOLE).take_while(|done| f64::from(*done) < share * f64::from(WHOLE)).count();
        bar.set_position(thousandths as u64);
        bar.set_message(counts(&replay));
        if !client.pause(interrupts, LOOK_EVERY) {
            bar.finish_and_clear();
            eprint(&goes_on(&replay));
            return Ok(replay);
        }
        match client.call(Method::GET, &path, None, &["id", "state"]) {
            Ok(answer) => (replay, failures) = (answer, 0),
            Err(Failure { code, message }) if failures == FAILURES_MAX => {
                bar.finish_and_clear();
                return Err(Failure::new(code, format!("{message}\n{}", goes_on(&replay))));
            }
            Err(_refused) => failures += 1,
        }
    }
    bar.finish_and_clear();
    Ok(replay)
}

fn goes_on(replay: &Value) -> String {
    format!("The replay goes on. `triggerd replay show {}` shows its progress.", text(replay, "id"))
}

impl One {
    fn call(self, settings: &Settings, method: Method) -> Result<ExitCode, Failure> {
        if method == Method::GET {
            require_a_reader()?;
        }
        let path = format!("/api/replays/{}", checked_id(&self.id, "a replay's id (rpl_…)")?);
        show(
            &self.with.server,
            &self.with.client(settings)?.call(method, &path, None, &["id", "state"])?,
        )?;
        Ok(ExitCode::Clean)
    }
}

impl All {
    fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let path = "/api/replays".to_owned();
        let list = List { path, columns: &COLUMNS, empty: "There are no replays." };
        list.print(&self.with.client(settings)?, self.with.server.form, &self.limit)
    }
}

fn show(server: &Server, replay: &Answer) -> Result<(), Failure> {
    let line = if server.form.is_json() { one_line(replay.as_text()) } else { shown(replay) };
    print_done(&line, &format!("The replay is {} ({}).", text(replay, "id"), text(replay, "state")))
}

/// Formats a replay as one line.
fn shown(replay: &Value) -> String {
    let to = match text(replay, "endpoint_id") {
        "" => "all endpoints",
        endpoint => endpoint,
    };
    let (id, only, state) = (text(replay, "id"), text(replay, "only"), text(replay, "state"));
    let why = match text(replay, "reason") {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    format!("{id}  {only} to {to}  {state}{why}  {}{}", counts(replay), skipped(replay))
}

/// Names the endpoints that the replay passes over.
fn skipped(replay: &Value) -> String {
    let ids =
        replay.get("skipped_endpoint_ids").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let named: Vec<_> = ids.iter().take(SKIPPED_NAMED).filter_map(Value::as_str).collect();
    match ids.len().saturating_sub(named.len()) {
        _ if named.is_empty() => String::new(),
        0 => format!(", skipped because disabled: {}", named.join(", ")),
        more => format!(", skipped because disabled: {} and {more} more", named.join(", ")),
    }
}

fn counts(replay: &Value) -> String {
    let number = |name: &str| replay.get(name).and_then(Value::as_u64).unwrap_or_default();
    let waits = match text(replay, "waits_for") {
        "endpoint_disabled" => &format!(", waits until {} is enabled", text(replay, "endpoint_id")),
        "endpoint_busy" => ", waits for deliveries under way",
        "routing" => ", waits for an event that was not routed yet",
        "disk_full" => ", waits for free space on the server's disk",
        _ => "",
    };
    format!("{} examined, {} queued{waits}", number("examined"), number("queued"))
}
