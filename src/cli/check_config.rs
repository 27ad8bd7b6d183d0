//! `triggerd check-config`: what is in effect, and where it came from.

use super::Failure;
use super::output::print_text;
use crate::base::exit_code::ExitCode;
use crate::config::{Config, Source};

pub(super) fn run((config, source): &(Config, Source)) -> Result<ExitCode, Failure> {
    print_text(&format!("# from: {source}\n{}", config.effective().trim_end()))?;
    Ok(ExitCode::Clean)
}
