//! `triggerd check-config`: what is in effect, and where it came from.

use super::{Failure, print};
use crate::base::exit_code::ExitCode;
use crate::config::{Config, Source};

#[expect(clippy::unnecessary_wraps, reason = "all subcommands have one shape")]
pub(super) fn run((config, source): &(Config, Source)) -> Result<ExitCode, Failure> {
    print(&format!("# from: {source}\n{}", config.effective()));
    Ok(ExitCode::Clean)
}
