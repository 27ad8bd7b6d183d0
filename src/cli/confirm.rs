//! Asks before a change that cannot be undone.

use clap::Args;

use super::Failure;
use super::output::ask;
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::io_words;

/// The option that answers the question.
#[derive(Args)]
pub(super) struct Yes {
    /// Do not ask for confirmation. Without a terminal, the command never asks
    #[arg(long, short)]
    yes: bool,
}

impl Yes {
    /// Asks whether to make a change.
    ///
    /// # Errors
    /// The answer is not yes; nothing was changed then.
    pub(super) fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        let answer = ask(&format!("{question} [y/N] ")).map_err(|error| {
            Failure::new(ExitCode::Failed, format!("no answer: {}", io_words(&error)))
        })?;
        match answer.map(|answer| answer.trim().to_ascii_lowercase()).as_deref() {
            None | Some("y" | "yes") => Ok(()),
            Some(_) => Err(Failure::new(ExitCode::Failed, "not confirmed; nothing was changed")),
        }
    }
}
