//! `triggerd key …`: the API keys of organizations.

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
    /// Create an organization and its first key, which is shown only once; needs the admin token
    Create {
        /// Unique name of the new organization; or the id (org_…) of an existing organization,
        /// which gets another key
        #[arg(long)]
        org: String,
        /// Tier of the new organization: free, pro or enterprise [default: free]
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
    let (organization_id, key_id, key) =
        (text(&made, "organization_id"), text(&made, "key_id"), text(&made, "key"));
    let lines = if server.json {
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
    match print_secret(&lines) {
        Ok(()) => Ok(ExitCode::Clean),
        Err(unwritten) => Err(Failure::new(
            ExitCode::Failed,
            format!("{unwritten}. {}", taken_back(&client, &made)),
        )),
    }
}

/// Revokes a key that could not be shown, by means of this key itself, and reports what remains.
fn taken_back(client: &Client, made: &Value) -> String {
    let (organization_id, key_id, key) =
        (text(made, "organization_id"), text(made, "key_id"), text(made, "key"));
    let end = |own: Client| own.delete(&format!("/api/keys/{key_id}"));
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
