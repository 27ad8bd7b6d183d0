//! Configuration: defaults, file and environment in, one validated [`Config`] out, or every fault at once.
//!
//! `config/triggerd.toml` is the defaults. Called once, by `app` and by the commands that need to know where the data
//! is. The only reader of the environment. Knows nothing of what the rooms do with the figures.
//!
//! The way of a value: `layers` (which keys, which shape, from where) → `raw` (what TOML can say) → `check` (what
//! is allowed) → `parts` (what the rooms are given).

mod check;
mod environment;
mod fault;
mod layers;
mod parts;
mod raw;
mod texts;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use environment::{
    Environment, api_key_from_environment, credentials_directory, journal_stream, sabotage_from_environment,
};
pub use fault::{ConfigError, Fault};
pub use parts::{
    AdminToken, Dedup, Delivery, Egress, Inbox, Intake, Keys, Log, LogFormat, Server, Storage, TierLimit, Tiers,
    Workers,
};

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

    /// Like [`Config::load`], with the places to look and the environment given.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_from(
        file: Option<&Path>,
        search: &[&Path],
        environment: &Environment,
    ) -> Result<(Self, Source), ConfigError> {
        let file = find(file, search)?;
        let text = file.as_deref().map(read).transpose()?;
        let given = layers::collect(file.as_deref().zip(text.as_deref()), environment)?;
        let variables = given.variables();
        Ok((check::validated(given)?, Source { file, variables }))
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
        Ok(())
    }
}

fn find(named: Option<&Path>, search: &[&Path]) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(path) = named {
        return if is_file(path)? {
            Ok(Some(path.to_owned()))
        } else {
            Err(ConfigError::Missing { path: path.to_owned() })
        };
    }
    for path in search {
        if is_file(path)? {
            return Ok(Some(path.to_path_buf()));
        }
    }
    Ok(None)
}

/// Whether there is such a file. One that must not be looked for is no file that is not there.
fn is_file(path: &Path) -> Result<bool, ConfigError> {
    match std::fs::metadata(path) {
        Ok(facts) => Ok(facts.is_file()),
        Err(cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(ConfigError::Unreadable { path: path.to_owned(), cause })
        }
        Err(_not_there) => Ok(false),
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })
}
