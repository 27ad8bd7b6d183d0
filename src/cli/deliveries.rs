//! `triggerd deliveries` and `triggerd delivery`: events on their way to endpoints.

use clap::{Args, Subcommand};

use super::Failure;
use super::answer::{Answer, text};
use super::arguments::{Span, checked_id};
use super::client::Method;
use super::list::{Limit, List, with_query};
use super::output::{print_change, require_a_reader};
use super::reach::{Settings, With};
use super::table::{Cell, Column, cell, print_details};
use crate::base::exit_code::ExitCode;
use crate::model::delivery::DeliveryStatus;

/// The path of deliveries in the API.
const PATH: &str = "/api/deliveries";
/// The member with the attempts of a delivery.
const ATTEMPTS: &str = "attempts";

/// The columns of a list of deliveries.
pub(super) const COLUMNS: [Column; 6] = [
    ("ID", |delivery| cell(delivery, "id")),
    ("EVENT", |delivery| cell(delivery, "event_id")),
    ("ENDPOINT", |delivery| cell(delivery, "endpoint_id")),
    ("STATE", |delivery| Cell::state(text(delivery, "state"))),
    ("ATTEMPTS", |delivery| cell(delivery, "attempt_count")),
    ("NEXT ATTEMPT", |delivery| cell(delivery, "next_attempt_at")),
];

/// The columns of the attempts of a delivery.
const ATTEMPT_COLUMNS: [Column; 6] = [
    ("ATTEMPT", |attempt| cell(attempt, "number")),
    ("STARTED", |attempt| cell(attempt, "started_at")),
    ("TRIGGER", |attempt| cell(attempt, "trigger")),
    ("STATUS", |attempt| cell(attempt, "status")),
    ("MS", |attempt| cell(attempt, "duration_ms")),
    ("ERROR", |attempt| match attempt.get("error") {
        Some(error) if !error.is_null() => Cell::plain(text(error, "detail")),
        _ => cell(attempt, "error"),
    }),
];

/// Lists deliveries.
#[derive(Args)]
pub(super) struct Deliveries {
    /// Only deliveries in this state
    #[arg(long, value_name = "STATE", value_parser = states())]
    state: Option<String>,
    /// Only deliveries to this endpoint (ep_…)
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Only deliveries of this event (evt_…)
    #[arg(long, value_name = "EVENT")]
    event: Option<String>,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    with: With,
}

fn states() -> clap::builder::PossibleValuesParser {
    DeliveryStatus::ALL.iter().map(|state| state.name()).into()
}

/// The subcommands of `triggerd delivery`.
#[derive(Subcommand)]
pub(super) enum DeliveryCommand {
    /// List deliveries by endpoint, the newest event first; the same as `triggerd deliveries`
    List(Deliveries),
    /// Show a delivery and its attempts
    Show(One),
    /// Attempt a delivery now. A delivery that ended starts its retry schedule from the beginning
    Retry(One),
}

#[derive(Args)]
pub(super) struct One {
    /// Id of the delivery (dlv_…)
    id: String,
    #[command(flatten)]
    with: With,
}

impl Deliveries {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        let Self { state, endpoint, event, span, limit, with } = self;
        let parameters = [
            ("state", state.as_deref()),
            ("endpoint_id", endpoint.as_deref()),
            ("event_id", event.as_deref()),
            ("since", span.since.as_deref()),
            ("until", span.until.as_deref()),
        ];
        let path = with_query(PATH, parameters);
        let list = List { path, columns: &COLUMNS, empty: "There are no such deliveries." };
        list.print(&with.client(settings)?, with.server.form, &limit)
    }
}

impl DeliveryCommand {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        match self {
            Self::List(deliveries) => deliveries.run(settings),
            Self::Show(one) => one.show(settings),
            Self::Retry(one) => one.retry(settings),
        }
    }
}

impl One {
    fn call(&self, settings: &Settings, method: Method, below: &str) -> Result<Answer, Failure> {
        let id = checked_id(&self.id, "a delivery's id (dlv_…)")?;
        let client = self.with.client(settings)?;
        client.call(method, &format!("{PATH}/{id}{below}"), None, &["id", "state"])
    }

    fn show(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        require_a_reader()?;
        let delivery = self.call(settings, Method::GET, "")?;
        let attempts = (ATTEMPTS, ATTEMPT_COLUMNS.as_slice());
        print_details(self.with.server.form, &delivery, (&[ATTEMPTS], Some(attempts)))
    }

    fn retry(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let delivery = self.call(settings, Method::POST, "/retry")?;
        let member = |name| text(&delivery, name);
        let (id, state, due) = (member("id"), member("state"), member("next_attempt_at"));
        let told = format!("{id} is {state}; the next attempt is due {due}");
        print_change(self.with.server.form, delivery.as_text(), &told)
    }
}
