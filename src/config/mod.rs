//! The configuration: reads defaults, file and environment, and returns one validated [`Config`] or
//! every fault at once.
//!
//! `config/triggerd.toml` holds the defaults. `app` calls this module once, and so do the commands
//! that need the data directory. No other module reads the environment. This module does not know
//! how the values are used.
//!
//! The path of a value: `layers` (keys, shapes and sources) → `raw` (the shape of the TOML) →
//! `check` (the ranges) → `parts` (the types for the modules).

mod changes;
mod check;
mod environment;
mod fault;
mod layers;
mod parts;
mod raw;
mod shape;
mod suggest;
mod texts;

#[cfg(test)]
mod misspelled_tests;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::ownership;

pub use changes::Change;
pub use check::{INBOX_WAIT_SECONDS_MAX, INTAKE_WAIT_MS_MAX};
pub use environment::{
    ClientVariable, Environment, client_variable, credentials_directory,
    failpoints_from_environment, journal_stream,
};
pub use fault::{ConfigError, Fault};
pub use parts::{
    AdminToken, Dedup, Delivery, Egress, Inbox, Intake, Keys, Log, LogFormat, Server, Storage,
    TierLimit, Tiers, Workers,
};
pub use texts::is_level;

/// The commented file with the defaults.
pub const DEFAULTS: &str = include_str!("../../config/triggerd.toml");

/// The default places of a configuration file; the first existing file counts.
const SEARCH: [&str; 2] = ["./config/triggerd.toml", "/etc/triggerd/triggerd.toml"];

/// A checked configuration: every value is in its range, and no value contradicts another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Settings of the HTTP server.
    pub server: Server,
    /// Settings of the data directory.
    pub storage: Storage,
    /// Settings of the intake of events.
    pub intake: Intake,
    /// Settings of the deduplication of events.
    pub dedup: Dedup,
    /// Settings of the inbox.
    pub inbox: Inbox,
    /// Settings of API keys and the admin token.
    pub keys: Keys,
    /// Rate limits of each tier.
    pub tiers: Tiers,
    /// Settings of the workers that route events to endpoints.
    pub workers: Workers,
    /// Settings of attempts, retries and circuit breakers.
    pub delivery: Delivery,
    /// Settings of the networks that webhooks may reach.
    pub egress: Egress,
    /// Settings of the logs.
    pub log: Log,
}

/// The sources of a configuration, for logs and errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The file, if there was one.
    pub file: Option<PathBuf>,
    /// The environment variables that set a key, sorted.
    pub variables: Vec<String>,
    /// The unreadable files in default places, each with the reason. They were skipped.
    pub skipped: Vec<String>,
}

/// The treatment of an unreadable file in a default place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unreadable {
    Refused,
    Skipped,
}

impl Config {
    /// Loads the configuration: the defaults, then `file` (if absent, the first existing file of
    /// `./config/triggerd.toml` and `/etc/triggerd/triggerd.toml`), then the process's environment.
    ///
    /// # Errors
    /// If a named file is missing, a file cannot be read or is not TOML, or a key or value in the
    /// file or the environment is unknown, wrong or contradictory. One error holds all faults.
    pub fn load(file: Option<&Path>) -> Result<(Self, Source), ConfigError> {
        Self::load_from(file, &SEARCH.map(Path::new), &Environment::of_process())
    }

    /// Loads the configuration like [`Config::load`], for a command that only talks to a server.
    /// Its user may not be allowed to read the server's file, so an unreadable file in a default
    /// place is skipped and added to [`Source::skipped`].
    ///
    /// # Errors
    /// As [`Config::load`], except for skipped files.
    pub fn load_for_client(file: Option<&Path>) -> Result<(Self, Source), ConfigError> {
        Self::load_with(
            file,
            &SEARCH.map(Path::new),
            &Environment::of_process(),
            Unreadable::Skipped,
        )
    }

    /// Loads the configuration like [`Config::load`], from these places and this environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_from(
        file: Option<&Path>,
        search: &[&Path],
        environment: &Environment,
    ) -> Result<(Self, Source), ConfigError> {
        Self::load_with(file, search, environment, Unreadable::Refused)
    }

    fn load_with(
        file: Option<&Path>,
        search: &[&Path],
        environment: &Environment,
        unreadable: Unreadable,
    ) -> Result<(Self, Source), ConfigError> {
        let mut skipped = Vec::new();
        let found = match file {
            Some(path) => Some((path.to_owned(), read(path)?)),
            None => find(search, unreadable, &mut skipped)?,
        };
        let given = layers::collect(
            found.as_ref().map(|(path, text)| (path.as_path(), text.as_str())),
            environment,
        )?;
        let variables = given.variables();
        let file = found.map(|(path, _)| path);
        Ok((check::validated(given)?, Source { file, variables, skipped }))
    }

    /// Loads the defaults with `text` (TOML) over them and no environment, for tests and tools.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        check::validated(layers::collect(
            Some((Path::new("(text)"), text)),
            &Environment::default(),
        )?)
    }

    /// The values in effect, as TOML with every key; the admin token is masked.
    pub fn effective(&self) -> String {
        // The tables hold only numbers, texts and lists, and TOML can express all of them.
        toml::to_string(self).unwrap_or_else(|error| format!("# {error}\n"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("built-in defaults")?;
        if let Some(file) = &self.file {
            write!(f, ", {}", file.display())?;
        }
        if !self.variables.is_empty() {
            write!(f, ", environment ({})", self.variables.join(", "))?;
        }
        if !self.skipped.is_empty() {
            write!(f, ", without {}", self.skipped.join(", "))?;
        }
        Ok(())
    }
}

/// Returns the first existing file of the default places, with its text.
fn find(
    search: &[&Path],
    unreadable: Unreadable,
    skipped: &mut Vec<String>,
) -> Result<Option<(PathBuf, String)>, ConfigError> {
    for path in search {
        match read(path) {
            Ok(text) => return Ok(Some((path.to_path_buf(), text))),
            Err(ConfigError::Missing { .. }) => {}
            Err(ConfigError::Unreadable { path, cause }) if unreadable == Unreadable::Skipped => {
                skipped.push(format!(
                    "{} ({cause}{})",
                    path.display(),
                    ownership::denied(&path, &cause)
                ));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|cause| match cause.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            ConfigError::Missing { path: path.to_owned() }
        }
        _ => ConfigError::Unreadable { path: path.to_owned(), cause },
    })
}
