//! `triggerd key …`: the API keys of organizations.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Failure;
use super::admin::Admin;
use super::answer::{Answer, items, text};
use super::arguments::{checked_id, whole_number};
use super::client::{Client, Method};
use super::confirm::Yes;
use super::form::Form;
use super::list::{Limit, List, each};
use super::output::{print_change, print_secret, require_a_reader, require_a_reader_of_secrets};
use super::reach::{Key, Server, Settings, With};
use super::table::{Cell, Column, cell, print_details, scopes};
use crate::base::exit_code::ExitCode;
use crate::model::key::NamedScopes;
use crate::model::org::Tier;

/// The path of keys in the API.
const PATH: &str = "/api/keys";

/// The columns of the list.
const COLUMNS: [Column; 7] = [
    ("CURRENT", |key| Cell::plain(if is_current(key) { "*" } else { "" })),
    ("ID", |key| cell(key, "id")),
    ("NAME", |key| cell(key, "name")),
    ("CREATED", |key| cell(key, "created_at")),
    ("EXPIRES", |key| cell(key, "expires_at")),
    ("LAST USED", |key| cell(key, "last_used_at")),
    ("SCOPES", |key| Cell::plain(key.get("scopes").map(scopes).unwrap_or_default())),
];

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Create a key, which is shown only once: with --org for a new organization, which needs the
    /// admin token; else for the organization of the calling key
    Create(Create),
    /// List the valid keys of the organization
    List(All),
    /// Show a key of the organization
    Show(Show),
    /// Replace the calling key by a new one, which is shown only once; the calling key works for a
    /// while. A key of a context is replaced in the context
    Rotate(Rotate),
    /// End a key for good
    Revoke(Revoke),
}

#[derive(Args)]
pub(super) struct Create {
    /// Unique name of the new organization; or the id (org_…) of an existing organization, which
    /// gets another key
    #[arg(long)]
    org: Option<String>,
    /// Tier of the new organization: free, pro or enterprise [default: free]
    #[arg(long, requires = "org")]
    tier: Option<Tier>,
    /// Name of the key [default: default]
    #[arg(long)]
    name: Option<String>,
    /// Right of the key, such as events:write, or a set of rights, such as read_only; may be given
    /// more than once [default: all rights, or those of the calling key]
    #[arg(long = "scope", value_name = "SCOPE", value_parser = names_of_scopes(),
        value_delimiter = ',')]
    scopes: Vec<String>,
    /// End of the key (RFC 3339) [default: none, or that of the calling key]
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    server: Server,
}

fn names_of_scopes() -> clap::builder::PossibleValuesParser {
    NamedScopes::names().into()
}

#[derive(Args)]
pub(super) struct All {
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    with: With,
}

#[derive(Args)]
pub(super) struct Show {
    /// Id of the key (key_…) [default: the calling key]
    id: Option<String>,
    #[command(flatten)]
    with: With,
}

#[derive(Args)]
pub(super) struct Rotate {
    /// Seconds that the calling key keeps working (0 to 604800)
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = whole_number)]
    grace: u32,
    #[command(flatten)]
    with: With,
}

#[derive(Args)]
pub(super) struct Revoke {
    /// Id of the key (key_…)
    id: String,
    /// Revoke with the admin token, which may end any key
    #[arg(long)]
    as_admin: bool,
    #[command(flatten)]
    yes: Yes,
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    with: With,
}

pub(super) fn run(command: KeyCommand, settings: &Settings) -> Result<ExitCode, Failure> {
    match command {
        KeyCommand::Create(create) => create.run(settings),
        KeyCommand::List(all) => all.run(settings),
        KeyCommand::Show(show) => show.run(settings),
        KeyCommand::Rotate(rotate) => rotate.run(settings),
        KeyCommand::Revoke(revoke) => revoke.run(settings),
    }
}

impl Create {
    fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        require_a_reader_of_secrets()?;
        let client = match self.org {
            Some(_) => self.admin.client(&self.server, settings)?,
            None => self.server.client(&self.key, settings)?,
        };
        let mut body = Map::new();
        let given = [
            ("organization", self.org.as_deref()),
            ("tier", self.tier.map(Tier::name)),
            ("name", self.name.as_deref()),
            ("expires_at", self.expires_at.as_deref()),
        ];
        body.extend(
            given.iter().filter_map(|(name, value)| Some(((*name).into(), json!((*value)?)))),
        );
        let mut scopes = self.scopes;
        if self.org.is_none() {
            // The route asks a key for both.
            body.entry("name").or_insert_with(|| json!("default"));
            if scopes.is_empty() {
                scopes = scopes_of(&current(&client)?);
            }
        }
        if !scopes.is_empty() {
            body.insert("scopes".into(), json!(scopes));
        }
        let path = format!("{PATH}/generate");
        let made =
            client.call(Method::POST, &path, Some(Value::Object(body).to_string()), &MADE)?;
        reveal(self.server.form, &made).map_err(|unwritten| {
            Failure::new(ExitCode::Failed, format!("{unwritten}. {}", taken_back(&client, &made)))
        })?;
        Ok(ExitCode::Clean)
    }
}

/// The members of an answer with a new key.
const MADE: [&str; 3] = ["organization_id", "key_id", "key"];

/// Prints a new key.
fn reveal(form: Form, made: &Answer) -> Result<(), String> {
    let [organization_id, key_id, key] = MADE.map(|name| text(made, name));
    let lines = if form.is_json() {
        vec![
            json!({ "organization_id": organization_id, "key_id": key_id, "key": key }).to_string(),
        ]
    } else {
        vec![
            format!("organization  {organization_id}"),
            format!("key id        {key_id}"),
            format!("key           {key}"),
            String::new(),
            "The key is shown only once. Keep it with your other secrets.".to_owned(),
        ]
    };
    print_secret(&lines)
}

/// Revokes a key that could not be shown, by means of this key itself, and reports what remains.
fn taken_back(client: &Client, made: &Value) -> String {
    let [organization_id, key_id, key] = MADE.map(|name| text(made, name));
    let end = |own: Client| own.delete(&format!("{PATH}/{key_id}"));
    match client.with_key(key, "the new key").and_then(end) {
        Ok(()) => format!(
            "Therefore the new key {key_id} was revoked. The organization {organization_id} \
             exists; `triggerd key create --org {organization_id}` makes a key for it."
        ),
        Err(failure) => format!(
            "The new key {key_id} of {organization_id} was not shown and could not be revoked: {}",
            failure.message
        ),
    }
}

impl All {
    fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let list =
            List { path: PATH.to_owned(), columns: &COLUMNS, empty: "There are no valid keys." };
        list.print(&self.with.client(settings)?, self.with.server.form, &self.limit)
    }
}

impl Show {
    fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        require_a_reader()?;
        let client = self.with.client(settings)?;
        let key = match &self.id {
            Some(id) => found(&client, &|key| text(key, "id") == id)?.ok_or_else(|| {
                let message =
                    format!("the organization has no valid key {id}; `triggerd key list`");
                Failure::new(ExitCode::Failed, message)
            })?,
            None => current(&client)?,
        };
        print_details(self.with.server.form, &key, (&[], None))
    }
}

/// Returns the first key that is wanted. The API has no route for a single key.
fn found(client: &Client, is_wanted: &dyn Fn(&Answer) -> bool) -> Result<Option<Answer>, Failure> {
    let mut found = None;
    each(client, PATH, &mut |key| {
        if found.is_none() && is_wanted(&key) {
            found = Some(key);
        }
        Ok(())
    })?;
    Ok(found)
}

fn is_current(key: &Answer) -> bool {
    key.get("current") == Some(&Value::Bool(true))
}

/// Returns the calling key.
fn current(client: &Client) -> Result<Answer, Failure> {
    let absent = || Failure::new(ExitCode::Failed, "the server does not list the calling key");
    found(client, &is_current)?.ok_or_else(absent)
}

fn scopes_of(key: &Answer) -> Vec<String> {
    items(key, "scopes").iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Rotate {
    fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        require_a_reader_of_secrets()?;
        let Self { grace, with } = self;
        let (client, context) = with.client_and_context(settings)?;
        let body = json!({ "grace_seconds": grace }).to_string();
        let made = client.call(Method::POST, &format!("{PATH}/rotate"), Some(body), &MADE)?;
        // The key is saved before it is printed, so that one failure alone does not lose it.
        let saved = context.map(|context| context.set_key(text(&made, "key"))).transpose();
        let shown = reveal(with.server.form, &made).map_err(|unwritten| {
            let message = format!(
                "{unwritten}. The new key {} was not shown; the calling key ends in {grace} \
                 seconds",
                text(&made, "key_id")
            );
            Failure::new(ExitCode::Failed, message)
        });
        saved.and(shown).map(|()| ExitCode::Clean)
    }
}

impl Revoke {
    fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let id = checked_id(&self.id, "a key's id (key_…)")?;
        let server = &self.with.server;
        let client = if self.as_admin {
            self.admin.client(server, settings)?
        } else {
            self.with.client(settings)?
        };
        self.yes
            .confirm(&format!("Revoke the key {id}? Every program that uses it is refused."))?;
        client.delete(&format!("{PATH}/{id}"))?;
        let done = format!("{id} is revoked");
        print_change(server.form, &json!({ "id": id }).to_string(), &done)
    }
}
