//! `triggerd org`: the organizations of a server, for the operator.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Failure;
use super::admin::Admin;
use super::answer::{Answer, text};
use super::arguments::checked_id;
use super::client::{Client, Method};
use super::confirm::Yes;
use super::list::{Limit, List, with_query};
use super::output::{one_line, print, print_done};
use super::reach::{Server, Settings};
use super::table::{Cell, Column, cell, details};
use crate::base::exit_code::ExitCode;
use crate::model::org::{InboxMode, Tier};

/// The path of organizations in the API.
const PATH: &str = "/api/orgs";

/// The columns of the list.
const COLUMNS: [Column; 8] = [
    ("ID", |org| cell(org, "id")),
    ("NAME", |org| cell(org, "name")),
    ("TIER", |org| cell(org, "tier")),
    ("STATE", |org| Cell::plain(state(org))),
    ("EVENTS", |org| cell(org, "events")),
    ("INBOX", |org| cell(org, "open")),
    ("DEAD", |org| cell(org, "dead")),
    ("CREATED", |org| cell(org, "created_at")),
];

fn state(org: &Answer) -> &'static str {
    if org.get("deletion").is_some_and(Value::is_object) {
        "being deleted"
    } else if org.get("suspended") == Some(&Value::Bool(true)) {
        "suspended"
    } else {
        "active"
    }
}

/// The subcommands of `triggerd org`. All of them need the admin token.
#[derive(Subcommand)]
pub(super) enum OrgCommand {
    /// List the organizations in the order of their creation
    List(All),
    /// Show an organization with its counts
    Show(One),
    /// Create an organization without a key; `triggerd key create --org` makes one. The tier is
    /// free and the inbox mode is auto unless they are given
    Create(Create),
    /// Change settings of an organization; the others stay
    Update(Update),
    /// Suspend an organization: its keys read as before and change nothing, and its deliveries wait
    Suspend(One),
    /// End the suspension of an organization: its deliveries go on
    Resume(One),
    /// Delete an organization with everything in it, for good. Its keys are refused from then on;
    /// `triggerd org show` shows the progress
    Delete(Deletion),
}

#[derive(Args)]
pub(super) struct AsAdmin {
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    server: Server,
}

impl AsAdmin {
    fn client(&self, settings: &Settings) -> Result<Client, Failure> {
        self.admin.client(&self.server, settings)
    }

    /// Prints an organization, with the change that was made.
    fn print(&self, org: &Answer, change: Option<&str>) -> Result<ExitCode, Failure> {
        let form = self.server.form;
        match change {
            _ if form.is_json() => print(&one_line(org.as_text()))?,
            Some(change) => {
                let line = format!("{} is {change}", text(org, "id"));
                print_done(&line, &format!("{line}."))?;
            }
            None => details(org, &[]).iter().try_for_each(|line| print(line))?,
        }
        Ok(ExitCode::Clean)
    }
}

#[derive(Args)]
pub(super) struct All {
    /// Only the organization with this name
    #[arg(long, conflicts_with = "name_prefix")]
    name: Option<String>,
    /// Only organizations whose names begin so
    #[arg(long, value_name = "TEXT")]
    name_prefix: Option<String>,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    with: AsAdmin,
}

#[derive(Args)]
pub(super) struct One {
    /// Id of the organization (org_…)
    id: String,
    #[command(flatten)]
    with: AsAdmin,
}

#[derive(Args)]
pub(super) struct Deletion {
    #[command(flatten)]
    yes: Yes,
    #[command(flatten)]
    one: One,
}

#[derive(Args)]
struct Options {
    /// Tier: free, pro or enterprise
    #[arg(long)]
    tier: Option<Tier>,
    /// When events leave the inbox: auto (also when every endpoint has accepted them) or ack_only
    #[arg(long, value_name = "MODE")]
    inbox_mode: Option<InboxMode>,
}

#[derive(Args)]
pub(super) struct Create {
    /// Unique name of the organization
    name: String,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    with: AsAdmin,
}

#[derive(Args)]
#[command(group(clap::ArgGroup::new("setting").required(true).multiple(true)
    .args(["name", "tier", "inbox_mode"])))]
pub(super) struct Update {
    /// Id of the organization (org_…)
    id: String,
    /// New name, which no other organization has
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    with: AsAdmin,
}

/// Makes the body of a request from the given settings.
fn body(name: Option<&str>, Options { tier, inbox_mode }: &Options) -> String {
    let (tier, mode) = (tier.map(Tier::name), inbox_mode.map(InboxMode::name));
    let given = [("name", name), ("tier", tier), ("inbox_mode", mode)];
    let given = given.iter().filter_map(|(name, value)| Some(((*name).into(), json!((*value)?))));
    Value::Object(given.collect::<Map<_, _>>()).to_string()
}

/// Returns the path of an organization.
fn path_of(id: &str) -> Result<String, Failure> {
    Ok(format!("{PATH}/{}", checked_id(id, "the id of an organization (org_…)")?))
}

impl OrgCommand {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        match self {
            Self::List(all) => all.run(settings),
            Self::Show(one) => one.call(settings, None),
            Self::Create(create) => create.run(settings),
            Self::Update(update) => update.run(settings),
            Self::Suspend(one) => one.call(settings, Some(true)),
            Self::Resume(one) => one.call(settings, Some(false)),
            Self::Delete(deletion) => deletion.run(settings),
        }
    }
}

impl All {
    fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let parameters =
            [("name", self.name.as_deref()), ("name_prefix", self.name_prefix.as_deref())];
        let path = with_query(PATH, parameters);
        let list = List { path, columns: &COLUMNS, empty: "There are no organizations." };
        list.print(&self.with.client(settings)?, self.with.server.form, &self.limit)
    }
}

impl One {
    /// Shows the organization, or suspends it or ends its suspension first.
    fn call(&self, settings: &Settings, suspended: Option<bool>) -> Result<ExitCode, Failure> {
        let (path, client) = (path_of(&self.id)?, self.with.client(settings)?);
        let Some(suspended) = suspended else {
            return self.with.print(&client.call(Method::GET, &path, None, &["id"])?, None);
        };
        let body = json!({ "suspended": suspended }).to_string();
        let org = client.call(Method::PATCH, &path, Some(body), &["id", "suspended"])?;
        self.with.print(&org, Some(if suspended { "suspended" } else { "active" }))
    }
}

impl Deletion {
    fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        let Self { yes, one: One { id, with } } = self;
        let (path, client) = (path_of(&id)?, with.client(settings)?);
        yes.confirm(&format!("Delete {id} with its keys, endpoints, events and audit log?"))?;
        let org = client.call(Method::DELETE, &path, None, &["id", "deletion"])?;
        with.print(&org, Some("being deleted"))
    }
}

impl Create {
    fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let body = body(Some(&self.name), &self.options);
        let client = self.with.client(settings)?;
        let org = client.call(Method::POST, PATH, Some(body), &["id", "name"])?;
        self.with.print(&org, Some("created"))
    }
}

impl Update {
    fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let (path, client) = (path_of(&self.id)?, self.with.client(settings)?);
        let body = body(self.name.as_deref(), &self.options);
        let org = client.call(Method::PATCH, &path, Some(body), &["id", "name"])?;
        self.with.print(&org, Some("changed"))
    }
}
