//! Configuration: defaults, file and environment in, one validated [`Config`] out, or every fault at once.
//!
//! `config/triggerd.toml` is the defaults. Called once, by `app` and by the commands that need to know where the data
//! is. The only reader of the environment. Knows nothing of what the rooms do with the figures.
//!
//! The way of a value: `layers` (which keys, which shape, from where) → `raw` (what TOML can say) → `check` (what
//! is allowed) → `parts` (what the rooms are given).

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
    ClientVariable, Environment, client_variable, credentials_directory, journal_stream, sabotage_from_environment,
};
pub use fault::{ConfigError, Fault};
pub use parts::{
    AdminToken, Dedup, Delivery, Egress, Inbox, Intake, Keys, Log, LogFormat, Server, Storage, TierLimit, Tiers,
    Workers,
};
pub use texts::{LIBRARIES, is_level};

/// The commented file that is the defaults.
pub const DEFAULTS: &str = include_str!("../../config/triggerd.toml");

/// Where a configuration file is looked for when none is named, first match wins.
const SEARCH: [&str; 2] = ["./config/triggerd.toml", "/etc/triggerd/triggerd.toml"];

/// A configuration that was checked: every value is in its range and none contradicts another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// The HTTP server.
    pub server: Server,
    /// The data directory.
    pub storage: Storage,
    /// Accepting events.
    pub intake: Intake,
    /// Deduplication.
    pub dedup: Dedup,
    /// The inbox.
    pub inbox: Inbox,
    /// API keys and the admin token.
    pub keys: Keys,
    /// Rate limits by tier.
    pub tiers: Tiers,
    /// The workers that route events to endpoints.
    pub workers: Workers,
    /// Attempts and their schedule.
    pub delivery: Delivery,
    /// Where webhooks may go.
    pub egress: Egress,
    /// Logs.
    pub log: Log,
}

/// Where a configuration came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The file, if there was one.
    pub file: Option<PathBuf>,
    /// The environment variables that set something, sorted.
    pub variables: Vec<String>,
    /// The files in the default places that may not be read, and why: they were passed over.
    pub skipped: Vec<String>,
}

/// Whether a file in a default place that cannot be read is passed over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unreadable {
    Refused,
    Skipped,
}

impl Config {
    /// Loads the configuration: defaults, then `file` (none named: the first of `./config/triggerd.toml` and
    /// `/etc/triggerd/triggerd.toml` that is there), then the process's environment.
    ///
    /// # Errors
    /// When a named file is missing, a file can't be read or is not TOML, or anything in it or in the environment is
    /// unknown, wrong or contradictory; all such faults are in the one error.
    pub fn load(file: Option<&Path>) -> Result<(Self, Source), ConfigError> {
        Self::load_from(file, &SEARCH.map(Path::new), &Environment::of_process())
    }

    /// Like [`Config::load`], for a command that only talks to a server: its user may not be allowed to read the server's
    /// file, so one in a default place that cannot be read is passed over, and [`Source::skipped`] says so.
    ///
    /// # Errors
    /// As [`Config::load`], but for that.
    pub fn load_for_client(file: Option<&Path>) -> Result<(Self, Source), ConfigError> {
        Self::load_with(file, &SEARCH.map(Path::new), &Environment::of_process(), Unreadable::Skipped)
    }

    /// Like [`Config::load`], with the places to look and the environment given.
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
        let given = layers::collect(found.as_ref().map(|(path, text)| (path.as_path(), text.as_str())), environment)?;
        let variables = given.variables();
        let file = found.map(|(path, _)| path);
        Ok((check::validated(given)?, Source { file, variables, skipped }))
    }

    /// The defaults with `text` (TOML) over them, and no environment: for tests and tools.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        check::validated(layers::collect(Some((Path::new("(text)"), text)), &Environment::default())?)
    }

    /// What is in effect, as TOML with every key; the admin token is masked.
    pub fn effective(&self) -> String {
        // Plain tables of numbers, texts and lists: TOML can say all of it.
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

/// The first file of the default places that there is, with its text.
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
                skipped.push(format!("{} ({cause}{})", path.display(), ownership::denied(&path, &cause)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|cause| match cause.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => ConfigError::Missing { path: path.to_owned() },
        _ => ConfigError::Unreadable { path: path.to_owned(), cause },
    })
}
