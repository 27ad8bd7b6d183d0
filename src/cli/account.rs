//! `triggerd key …`: organizations' API keys.

use clap::Subcommand;
use serde_json::{Value, json};

use super::Failure;
use super::admin::Admin;
use super::client::{Client, Method};
use super::events::text;
use super::output::{print_secret, require_a_reader};
use super::reach::{Server, Settings};
use crate::base::exit_code::ExitCode;
use crate::model::org::Tier;

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Make an organization and its first key, which is shown this once; needs the admin token
    Create {
        /// The new organization's name, which no other has; or the id (org_…) of one that exists, for another key of it
        #[arg(long)]
        org: String,
        /// What it may use: free, pro or enterprise [default: free]
        #[arg(long)]
        tier: Option<Tier>,
        #[command(flatten)]
        admin: Admin,
        #[command(flatten)]
        server: Server,
    },
}

pub(super) fn run(command: KeyCommand, settings: &Settings) -> Result<ExitCode, Failure> {
    let KeyCommand::Create { org, tier, admin, server } = command;
    require_a_reader()?;
    let client = admin.client(&server, settings)?;
    let mut body = json!({ "organization": org });
    if let (Some(tier), Some(members)) = (tier, body.as_object_mut()) {
        members.insert("tier".into(), json!(tier.name()));
    }
    let made = client.call(
        Method::POST,
        "/api/keys/generate",
        Some(body.to_string()),
        &["organization_id", "key_id", "key"],
    )?;
    let (organization_id, key_id, key) = (text(&made, "organization_id"), text(&made, "key_id"), text(&made, "key"));
    let lines = if server.json {
        vec![json!({ "organization_id": organization_id, "key_id": key_id, "key": key }).to_string()]
    } else {
        vec![
            format!("organization  {organization_id}"),
            format!("key id        {key_id}"),
            format!("key           {key}"),
            String::new(),
            "The key is shown this once. Keep it where your other secrets are.".to_owned(),
        ]
    };
    match print_secret(&lines) {
        Ok(()) => Ok(ExitCode::Clean),
        Err(unwritten) => Err(Failure::new(ExitCode::Failed, format!("{unwritten}. {}", taken_back(&client, &made)))),
    }
}

/// Ends the key that nobody saw, by itself, and says what is left.
fn taken_back(client: &Client, made: &Value) -> String {
    let (organization_id, key_id, key) = (text(made, "organization_id"), text(made, "key_id"), text(made, "key"));
    let end = |own: Client| own.delete(&format!("/api/keys/{key_id}"));
    match client.with_key(key, "the new key").and_then(end) {
        Ok(()) => format!(
            "So the new key {key_id} was ended again. The organization {organization_id} is there; `triggerd key create \
             --org {organization_id}` makes a key for it."
        ),
        Err(failure) => format!(
            "The new key {key_id} of {organization_id} was shown to nobody and could not be ended: {}",
            failure.message
        ),
    }
}
