//! `triggerd whoami`: the calling key as the server knows it.

use clap::Args;
use serde_json::Value;

use super::Failure;
use super::answer::text;
use super::client::Method;
use super::output::{one_line, print};
use super::reach::{Settings, With};
use super::table::{details, readable, scopes};
use crate::base::exit_code::ExitCode;

#[derive(Args)]
pub(super) struct Whoami {
    #[command(flatten)]
    with: With,
}

impl Whoami {
    pub(super) fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let client = self.with.client(settings)?;
        let caller = client.call(Method::GET, "/api/whoami", None, &[])?;
        if self.with.server.form.is_json() {
            print(&one_line(caller.as_text()))?;
            return Ok(ExitCode::Clean);
        }
        if let (Some(organization), Some(key)) = (caller.get("organization"), caller.get("key")) {
            lines(organization, key).iter().try_for_each(|line| print(line))?;
        } else {
            details(&caller, &[]).iter().try_for_each(|line| print(line))?;
        }
        Ok(ExitCode::Clean)
    }
}

/// Formats the organization and the key, a line for each property.
fn lines(organization: &Value, key: &Value) -> Vec<String> {
    let named = |value: &Value| format!("{} ({})", text(value, "name"), text(value, "id"));
    let is_suspended = organization.get("suspended") == Some(&Value::Bool(true));
    let suspended = if is_suspended { ", suspended" } else { "" };
    let of_key = |name, form: fn(&Value) -> String| key.get(name).map(form).unwrap_or_default();
    vec![
        format!("organization  {}", named(organization)),
        format!("tier          {}{suspended}", text(organization, "tier")),
        format!("key           {}", named(key)),
        format!("scopes        {}", of_key("scopes", scopes)),
        format!("expires_at    {}", of_key("expires_at", readable)),
    ]
}
