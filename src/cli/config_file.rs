//! `triggerd config`: the commented configuration file, and the reference of all keys.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::Failure;
use super::output::{print, print_document};
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::io_words;
use crate::base::ownership;
use crate::config::{commented_file, reference_page};

/// The mode of a new file, which may come to hold the admin token.
const MODE: u32 = 0o640;

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print a configuration file with every key, its meaning and its default, or write it to a new
    /// file
    Init {
        /// File to write, which must not exist yet [default: standard output]
        #[arg(value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Print the reference of all keys as Markdown
    Reference,
}

impl ConfigCommand {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        match self {
            Self::Init { to: None } => print_document(commented_file().as_bytes())?,
            Self::Init { to: Some(path) } => {
                write_new(path, &commented_file())?;
                print(&format!("wrote {}", path.display()))?;
            }
            Self::Reference => print_document(reference_page().as_bytes())?,
        }
        Ok(ExitCode::Clean)
    }
}

/// Writes a file that does not exist yet. After a failure there is no file.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(
            ExitCode::Usage,
            format!("{} exists already; name a file that does not exist", path.display()),
        ),
        _ => Failure::new(
            ExitCode::of_io(error, ExitCode::Failed),
            format!(
                "{} cannot be written: {}{}",
                path.display(),
                io_words(error),
                ownership::denied(path, error)
            ),
        ),
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)
        .map_err(|error| failed(&error))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
        drop(fs::remove_file(path));
        failed(&error)
    })
}
