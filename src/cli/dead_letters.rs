//! `triggerd dead-letters`: deliveries that were given up.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Failure;
use super::answer::text;
use super::arguments::{Span, checked_id};
use super::client::{Client, Method};
use super::confirm::Yes;
use super::list::{Limit, List, with_query};
use super::output::{counted, print_change};
use super::reach::{Settings, With};
use super::table::{Column, cell};
use crate::base::clock::Clock;
use crate::base::exit_code::ExitCode;
use crate::model::time::Timestamp;

/// The path of dead letters in the API.
const PATH: &str = "/api/dead-letters";
/// Maximum number of ids in a request.
const IDS_MAX: usize = 500;
/// The `since` that chooses every dead letter.
const BEGINNING: &str = "1970-01-01T00:00:00Z";

/// The columns of the list.
const COLUMNS: [Column; 6] = [
    ("GIVEN UP", |letter| cell(letter, "dead_at")),
    ("ID", |letter| cell(letter, "id")),
    ("EVENT", |letter| cell(letter, "event_id")),
    ("ENDPOINT", |letter| cell(letter, "endpoint_id")),
    ("ATTEMPTS", |letter| cell(letter, "attempt_count")),
    ("REASON", |letter| cell(letter, "reason")),
];

/// The subcommands of `triggerd dead-letters`.
#[derive(Subcommand)]
pub(super) enum DeadLetterCommand {
    /// List dead letters, the latest first
    List(All),
    /// Deliver dead letters again, each with its retry schedule from the beginning
    Replay(Chosen),
    /// Drop dead letters: they are canceled, and their events stay
    Drop(Discard),
}

#[derive(Args)]
pub(super) struct All {
    /// Only dead letters of this endpoint (ep_…)
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    with: With,
}

#[derive(Args)]
#[command(group(clap::ArgGroup::new("choice").required(true).multiple(true)
    .args(["ids", "all", "endpoint", "since", "until"])))]
pub(super) struct Chosen {
    /// Ids of the dead letters (dlv_…); or choose them by --all, or by --endpoint, --since and
    /// --until
    #[arg(value_name = "DELIVERY", conflicts_with_all = ["all", "endpoint", "since", "until"])]
    ids: Vec<String>,
    /// Every dead letter
    #[arg(long, conflicts_with_all = ["endpoint", "since", "until"])]
    all: bool,
    /// Only dead letters of this endpoint (ep_…)
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    with: With,
}

#[derive(Args)]
pub(super) struct Discard {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    yes: Yes,
}

/// A change of dead letters: the request, and the member with its count.
struct Change {
    method: Method,
    below: &'static str,
    count: &'static str,
}

impl DeadLetterCommand {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        match self {
            Self::List(all) => all.run(settings),
            Self::Replay(chosen) => chosen.change(
                settings,
                &Change { method: Method::POST, below: "/replay", count: "replayed" },
            ),
            Self::Drop(Discard { chosen, yes }) => {
                let question = "Drop these dead letters? They are not delivered any more.";
                yes.confirm(question)?;
                chosen.change(
                    settings,
                    &Change { method: Method::DELETE, below: "", count: "dropped" },
                )
            }
        }
    }
}

impl All {
    fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        let Self { endpoint, span, limit, with } = self;
        let parameters = [
            ("endpoint_id", endpoint.as_deref()),
            ("since", span.since.as_deref()),
            ("until", span.until.as_deref()),
        ];
        let path = with_query(PATH, parameters);
        let list = List { path, columns: &COLUMNS, empty: "There are no dead letters." };
        list.print(&with.client(settings)?, with.server.form, &limit)
    }
}

impl Chosen {
    /// Makes a change of all chosen dead letters, and says how many there were.
    fn change(self, settings: &Settings, change: &Change) -> Result<ExitCode, Failure> {
        let Self { ids, all, endpoint, span, with } = self;
        for id in &ids {
            checked_id(id, "a delivery's id (dlv_…)")?;
        }
        let client = with.client(settings)?;
        let count = if ids.is_empty() {
            let since = if all { Some(BEGINNING.to_owned()) } else { span.since };
            let given = [("endpoint_id", endpoint), ("since", since), ("until", span.until)];
            let given = given.into_iter();
            let filter = given.filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
            change.of_filter(&client, filter.collect())?
        } else {
            let requests = ids.chunks(IDS_MAX).map(|ids| change.of(&client, &json!({"ids": ids})));
            requests.map(|done| Ok(done?.0)).sum::<Result<u64, Failure>>()?
        };
        let told = format!("{} {}", counted(count, "dead letter"), change.count);
        print_change(with.server.form, &json!({ change.count: count }).to_string(), &told)
    }
}

impl Change {
    /// Makes the change of the dead letters that a body chooses. Returns their number, and the
    /// `since` of the next request if there are more.
    fn of(&self, client: &Client, body: &Value) -> Result<(u64, Option<String>), Failure> {
        let path = format!("{PATH}{}", self.below);
        let (method, body) = (self.method.clone(), Some(body.to_string()));
        let done = client.call(method, &path, body, &[self.count, "has_more"])?;
        let count = done.get(self.count).and_then(Value::as_u64).unwrap_or_default();
        let next = Some(text(&done, "next_since").to_owned()).filter(|next| !next.is_empty());
        Ok((count, next))
    }

    /// Makes the change of all dead letters that a filter chooses. A request takes the oldest ones.
    fn of_filter(&self, client: &Client, mut filter: Map<String, Value>) -> Result<u64, Failure> {
        // A letter that is given up again meanwhile is none of those that were chosen.
        let now = Timestamp(Clock::system().now_ms()).to_string();
        let mut sum = 0;
        loop {
            let (count, next) = self.of(client, &Value::Object(filter.clone()))?;
            sum += count;
            let Some(next) =
                next.filter(|next| count > 0 || filter.get("since") != Some(&json!(next)))
            else {
                return Ok(sum);
            };
            filter.insert("since".to_owned(), json!(next));
            filter.entry("until").or_insert_with(|| json!(now));
        }
    }
}
