//! `triggerd openapi`: the OpenAPI document of the HTTP API.

use clap::Args;

use super::Failure;
use super::output::print_text;
use crate::base::exit_code::ExitCode;
use crate::http::{openapi_json, yaml};

#[derive(Args)]
pub(super) struct Openapi {
    /// Print YAML instead of JSON
    #[arg(long)]
    yaml: bool,
}

impl Openapi {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let document = openapi_json();
        if self.yaml {
            let value = serde_json::from_str(document)
                .map_err(|error| Failure::new(ExitCode::Fatal, error))?;
            print_text(yaml(&value).trim_end())?;
        } else {
            print_text(document.trim_end())?;
        }
        Ok(ExitCode::Clean)
    }
}
