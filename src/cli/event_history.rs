//! `triggerd events` and `triggerd event`: all events of an organization, acknowledged or not.

use clap::{Args, Subcommand};

use super::Failure;
use super::answer::text;
use super::arguments::{EVENT_ID, Span, Types, checked_id};
use super::client::Method;
use super::confirm::Yes;
use super::deliveries::COLUMNS as DELIVERY_COLUMNS;
use super::list::{Limit, List, with_query};
use super::output::{print_change, require_a_reader};
use super::reach::{Settings, With};
use super::table::{Cell, Column, cell, print_details};
use crate::base::exit_code::ExitCode;
use crate::model::event::EventStatus;

/// The path of events in the API.
const PATH: &str = "/api/events";
/// The members of an event that are lists: the deliveries are a table, and `triggerd explain` has
/// the rest.
const LISTS: [&str; 3] = ["deliveries", "deliveries_complete", "endpoints"];

/// The columns of the list.
const COLUMNS: [Column; 4] = [
    ("RECEIVED", |event| cell(event, "received_at")),
    ("ID", |event| cell(event, "id")),
    ("TYPE", |event| cell(event, "type")),
    ("STATUS", |event| Cell::state(text(event, "status"))),
];

/// Lists events.
#[derive(Args)]
pub(super) struct Events {
    /// Only events with this status
    #[arg(long, value_name = "STATUS", value_parser = statuses())]
    status: Option<String>,
    #[command(flatten)]
    types: Types,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    with: With,
}

fn statuses() -> clap::builder::PossibleValuesParser {
    EventStatus::ALL.iter().map(|status| status.name()).into()
}

/// The subcommands of `triggerd event`.
#[derive(Subcommand)]
pub(super) enum EventCommand {
    /// List all events, the newest first; the same as `triggerd events`
    List(Events),
    /// Show an event, its payload and its deliveries; `triggerd explain` says why
    Show(Show),
    /// Erase the payload of an event for good; the event leaves the inbox and is not sent any more
    Erase(Erase),
}

#[derive(Args)]
pub(super) struct Show {
    /// Id of the event (evt_…)
    #[arg(value_name = "EVENT")]
    id: String,
    #[command(flatten)]
    with: With,
}

#[derive(Args)]
pub(super) struct Erase {
    /// Id of the event (evt_…)
    #[arg(value_name = "EVENT")]
    id: String,
    #[command(flatten)]
    yes: Yes,
    #[command(flatten)]
    with: With,
}

impl Events {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        let Self { status, types, span, limit, with } = self;
        let types = types.filter();
        let parameters = [
            ("type", types.as_deref()),
            ("status", status.as_deref()),
            ("since", span.since.as_deref()),
            ("until", span.until.as_deref()),
        ];
        let path = with_query(PATH, parameters);
        let list = List { path, columns: &COLUMNS, empty: "There are no such events." };
        list.print(&with.client(settings)?, with.server.form, &limit)
    }
}

impl EventCommand {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        match self {
            Self::List(events) => events.run(settings),
            Self::Show(show) => show.run(settings),
            Self::Erase(erase) => erase.run(settings),
        }
    }
}

fn path(id: &str) -> Result<String, Failure> {
    Ok(format!("{PATH}/{}", checked_id(id, EVENT_ID)?))
}

impl Show {
    fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        require_a_reader()?;
        let path = path(&self.id)?;
        let client = self.with.client(settings)?;
        let event = client.call(Method::GET, &path, None, &["id", "received_at"])?;
        let deliveries = ("deliveries", DELIVERY_COLUMNS.as_slice());
        print_details(self.with.server.form, &event, (&LISTS, Some(deliveries)))
    }
}

impl Erase {
    fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let path = path(&self.id)?;
        let client = self.with.client(settings)?;
        let question = format!("Erase the payload of {} for good?", self.id);
        self.yes.confirm(&question)?;
        let erased = client.call(Method::DELETE, &path, None, &["id", "erased_at", "gone_by"])?;
        let (at, gone_by) = (text(&erased, "erased_at"), text(&erased, "gone_by"));
        let told = format!("{} erased {at}; its bytes leave the files by {gone_by}", self.id);
        print_change(self.with.server.form, erased.as_text(), &told)
    }
}
