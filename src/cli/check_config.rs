//! `triggerd check-config`: the configuration in effect, and its sources.

use clap::Args;

use super::Failure;
use super::output::{eprint, print_text};
use crate::app::check_directories;
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
        let answers = check_directories(config);
        let answers = answers.map_err(|error| Failure::new(error.exit_code(), error))?;
        if !self.quiet {
            print_text(&format!("# from: {source}\n{}", config.effective().trim_end()))?;
        }
        if !answers {
            let note = "triggerd: [retention] archive_directory does not answer; a server starts, \
                and no event expires until the directory answers";
            eprint(note);
        }
        Ok(ExitCode::Clean)
    }
}
