//! `triggerd completions` and `triggerd man`: what a shell and `man` need to know of all commands.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use super::Failure;
use super::output::{print, print_document};
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::io_words;

/// The name of the program in a shell.
const NAME: &str = "triggerd";

/// Prints the script by which a shell completes commands and options.
#[derive(Args)]
#[command(after_help = "\
For bash: triggerd completions bash > ~/.local/share/bash-completion/completions/triggerd
For zsh:  triggerd completions zsh > DIR/_triggerd, where DIR is in $fpath
For fish: triggerd completions fish > ~/.config/fish/completions/triggerd.fish")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// Prints the manual page, or writes the pages of all commands.
#[derive(Args)]
pub(super) struct Man {
    /// Directory for a page for each command, which is created if it is missing [default: print the
    /// page of triggerd itself]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Completions {
    /// Prints the script for these commands.
    pub(super) fn run(&self, mut commands: Command) -> Result<ExitCode, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut commands, NAME, &mut script);
        print_document(&script).map(|()| ExitCode::Clean)
    }
}

impl Man {
    /// Prints or writes the pages of these commands.
    pub(super) fn run(&self, commands: Command) -> Result<ExitCode, Failure> {
        let Some(directory) = &self.directory else {
            let mut page = Vec::new();
            let made = clap_mangen::Man::new(commands).render(&mut page);
            made.map_err(|error| Failure::new(ExitCode::Failed, io_words(&error)))?;
            return print_document(&page).map(|()| ExitCode::Clean);
        };
        let shown = directory.display();
        let written = fs::create_dir_all(directory)
            .and_then(|()| clap_mangen::generate_to(commands, directory));
        written.map_err(|error| {
            let (code, why) = (ExitCode::of_io(&error, ExitCode::Failed), io_words(&error));
            Failure::new(code, format!("the pages cannot be written to {shown}: {why}"))
        })?;
        print(&format!("man       {shown}: the pages of all commands")).map(|()| ExitCode::Clean)
    }
}
