//! `triggerd check-config`: the configuration in effect, and its sources.

use clap::Args;

use super::Failure;
use super::output::print_text;
use crate::base::exit_code::ExitCode;
use crate::config::{Config, Source};

#[derive(Args)]
pub(super) struct CheckConfig {
    /// Print nothing when the configuration is valid, for scripts and `systemctl reload`
    #[arg(long)]
    quiet: bool,
}

impl CheckConfig {
    pub(super) fn run(&self, (config, source): &(Config, Source)) -> Result<ExitCode, Failure> {
        if !self.quiet {
            print_text(&format!("# from: {source}\n{}", config.effective().trim_end()))?;
        }
        Ok(ExitCode::Clean)
    }
}
