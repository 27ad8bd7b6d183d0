//! `triggerd key …`: organizations' API keys.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, Method};
use super::{Failure, Server, print};
use crate::base::exit_code::ExitCode;
use crate::config::Config;
use crate::model::org::Tier;

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Make an organization and its first key
    Create {
        /// The new organization's name; or the id (org_…) of one that exists, for another key of it
        #[arg(long)]
        org: String,
        /// What it may use: free, pro or enterprise [default: free]
        #[arg(long)]
        tier: Option<Tier>,
        #[command(flatten)]
        server: Server,
    },
}

pub(super) fn run(command: KeyCommand, config: &Config) -> Result<ExitCode, Failure> {
    let KeyCommand::Create { org, tier, server } = command;
    let client = Client::admin(&server, config)?;
    let mut body = json!({ "organization": org });
    if let (Some(tier), Some(members)) = (tier, body.as_object_mut()) {
        members.insert("tier".into(), json!(tier.name()));
    }
    let made = client.call(Method::POST, "/api/keys/generate", Some(body.to_string()))?;
    let text = |name: &str| made.get(name).and_then(Value::as_str).unwrap_or_default();
    let (organization_id, key_id, key) = (text("organization_id"), text("key_id"), text("key"));
    if server.json {
        print(&json!({ "organization_id": organization_id, "key_id": key_id, "key": key }).to_string());
    } else {
        print(&format!("organization  {organization_id}\nkey id        {key_id}\nkey           {key}\n"));
        print("The key is shown this once. Keep it where your other secrets are.");
    }
    Ok(ExitCode::Clean)
}
