//! `triggerd audit`: who changed what, when, and from where.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::Failure;
use super::admin::Admin;
use super::answer::{Answer, items, text};
use super::arguments::Span;
use super::client::{Client, Method};
use super::form::Form;
use super::list::{Limit, List, with_query};
use super::output::{eprint, print, print_json, remark};
use super::reach::{Settings, With};
use super::table::{Cell, Column, cell};
use crate::base::exit_code::ExitCode;

/// The path of the audit log in the API.
const PATH: &str = "/api/audit";
/// Time between two looks for new entries.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Maximum number of failed looks in a row.
const FAILURES_MAX: u32 = 30;

/// The columns of the list.
const COLUMNS: [Column; 7] = [
    ("WHEN", |entry| cell(entry, "at")),
    ("ACTION", |entry| cell(entry, "action")),
    ("SUBJECT", |entry| Cell::plain(party(entry, "subject"))),
    ("BY", |entry| Cell::plain(party(entry, "actor"))),
    ("FROM", |entry| cell(entry, "address")),
    ("REQUEST", |entry| cell(entry, "request_id")),
    ("CHANGES", |entry| Cell::plain(changes(entry))),
];

/// The first column of the list for the operator, whose entries belong to many organizations.
const OWNER: Column = ("ORGANIZATION", |entry| cell(entry, ORGANIZATION));
/// The member that has the organization of an entry.
const ORGANIZATION: &str = "organization_id";

/// Shows the audit log: the entries of the organization of the key, or those of the whole server
/// with the admin token.
#[derive(Args)]
#[command(after_help = "With --follow, each entry is a line of its own, in each form of output.")]
pub(super) struct AuditLog {
    #[command(flatten)]
    span: Span,
    /// Only changes of this kind, such as key.revoked
    #[arg(long)]
    action: Option<String>,
    /// Wait for new entries and show each one when it comes, until Ctrl-C; with --since, first the
    /// entries from then on
    #[arg(long, conflicts_with = "until")]
    follow: bool,
    /// Show the entries of all organizations and of the server, with the admin token
    #[arg(long)]
    as_admin: bool,
    /// Only entries of this organization (org_…), with the admin token
    #[arg(long, value_name = "ORG", requires = "as_admin")]
    org: Option<String>,
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    with: With,
}

impl AuditLog {
    pub(super) fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let server = &self.with.server;
        let client = if self.as_admin {
            self.admin.client(server, settings)?
        } else {
            self.with.client(settings)?
        };
        if self.follow {
            return self.follow(&client, server.form);
        }
        let path = with_query(&self.path(), [("until", self.span.until.as_deref())]);
        let owner = self.as_admin.then_some(OWNER);
        let columns: Vec<_> = owner.into_iter().chain(COLUMNS).collect();
        let list = List { path, columns: &columns, empty: "There are no entries." };
        list.print(&client, server.form, &self.limit)
    }

    /// Returns the path with the filters.
    fn path(&self) -> String {
        let parameters = [
            ("since", self.span.since.as_deref()),
            ("action", self.action.as_deref()),
            (ORGANIZATION, self.org.as_deref()),
        ];
        with_query(PATH, parameters)
    }

    /// Shows the entries from now on, or from `--since` on, the oldest first.
    fn follow(&self, client: &Client, form: Form) -> Result<ExitCode, Failure> {
        let mut interrupts = client.hear_interrupts()?;
        // Without `--since`, the log begins behind its newest entry.
        let mut cursor = if self.span.since.is_none() {
            let organization = (ORGANIZATION, self.org.as_deref());
            let newest = page(client, &with_query(PATH, [("limit", Some("1")), organization]))?;
            Some(text(&newest, "next_cursor").to_owned())
        } else {
            None
        };
        remark("Waiting for new entries; press Ctrl-C to stop.");
        let path = with_query(&self.path(), [("order", Some("oldest"))]);
        let mut failures = 0;
        loop {
            let page = match page(client, &with_query(&path, [("cursor", cursor.as_deref())])) {
                Ok(page) => page,
                Err(failure) if failures == FAILURES_MAX || cursor.is_none() => {
                    return Err(failure);
                }
                Err(failure) => {
                    if failures == 0 {
                        eprint(&format!("triggerd: {}; trying again", failure.message));
                    }
                    failures += 1;
                    if client.pause(&mut interrupts, LOOK_EVERY) {
                        continue;
                    }
                    return Ok(ExitCode::Clean);
                }
            };
            failures = 0;
            page.items("data").iter().try_for_each(|entry| self.print(entry, form))?;
            cursor = Some(text(&page, "next_cursor").to_owned());
            let has_more = page.get("has_more") == Some(&Value::Bool(true));
            if !has_more && !client.pause(&mut interrupts, LOOK_EVERY) {
                return Ok(ExitCode::Clean);
            }
        }
    }

    /// Prints an entry as a line.
    fn print(&self, entry: &Answer, form: Form) -> Result<(), Failure> {
        if form.is_json() {
            print_json(entry.as_text())
        } else {
            print(&line(entry, self.as_admin))
        }
    }
}

fn page(client: &Client, path: &str) -> Result<Answer, Failure> {
    client.call(Method::GET, path, None, &["data", "has_more", "next_cursor"])
}

/// Formats an entry as a line, which names the organization if the operator reads it.
fn line(entry: &Answer, is_for_operator: bool) -> String {
    let (at, action) = (text(entry, "at"), text(entry, "action"));
    let (subject, actor) = (party(entry, "subject"), party(entry, "actor"));
    let with = |word: &str, name: &str| match text(entry, name) {
        "" => String::new(),
        value => format!(" {word} {value}"),
    };
    let owner = if is_for_operator { with("of", ORGANIZATION) } else { String::new() };
    let (from, request) = (with("from", "address"), with("in request", "request_id"));
    format!("{at}  {action}  {subject}{owner}  by {actor}{from}{request}  {}", changes(entry))
}

/// Formats the subject or the actor: its id, or else its type.
fn party(entry: &Answer, name: &str) -> String {
    let Some(party) = entry.get(name) else { return String::new() };
    let id = text(party, "id");
    if id.is_empty() { text(party, "type").to_owned() } else { id.to_owned() }
}

/// Formats the changes: `name: before -> after`.
fn changes(entry: &Answer) -> String {
    let all = items(entry, "changes").iter().map(|changed| {
        let field = text(changed, "field");
        match (text(changed, "before"), text(changed, "after")) {
            ("", after) => format!("{field}: {after}"),
            (before, "") => format!("{field}: {before} removed"),
            (before, after) => format!("{field}: {before} -> {after}"),
        }
    });
    all.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_its_parties_and_its_changes() {
        let entry = r#"{"subject": {"type": "configuration", "id": null}, "actor": {"type": "key",
            "id": "key_1"}, "changes": [{"field": "a", "before": null, "after": "1"},
            {"field": "b", "before": "1", "after": null},
            {"field": "c", "before": "1", "after": "2"}]}"#;
        let entry = Answer::read(entry.to_owned()).unwrap();
        assert_eq!(
            (party(&entry, "subject"), party(&entry, "actor")),
            ("configuration".into(), "key_1".into())
        );
        assert_eq!(changes(&entry), "a: 1; b: 1 removed; c: 1 -> 2");
    }

    #[test]
    fn a_line_names_the_request_and_for_the_operator_the_organization() {
        let entry = r#"{"at": "T", "action": "key.revoked", "actor": {"type": "admin", "id": null},
            "organization_id": "org_1", "subject": {"type": "key", "id": "key_1"}, "changes": [],
            "address": "192.0.2.7", "request_id": "r-1"}"#;
        let entry = Answer::read(entry.to_owned()).unwrap();
        let whole = "T  key.revoked  key_1 of org_1  by admin from 192.0.2.7 in request r-1  ";
        assert_eq!(line(&entry, true), whole);
        assert_eq!(line(&entry, false), whole.replace(" of org_1", ""));
        let bare = Answer::read(r#"{"at": "T", "action": "a", "request_id": null}"#.to_owned());
        assert_eq!(line(&bare.unwrap(), true), "T  a    by   ");
    }
}
