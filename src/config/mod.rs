//! The configuration: reads defaults, file and environment, and returns one validated [`Config`] or
//! every fault at once.
//!
//! `app` calls this module once, and so do the commands that need the data directory. No other
//! module reads the environment. This module does not know how the values are used.
//!
//! `keys` declares every key once, with the help of `declare` (the macro) and `kinds` (types,
//! ranges and checks). The path of a value: `layers` (keys, shapes and sources) → `kinds` (the
//! checks) → the structs in `keys` (the types for the modules). `reference` makes the commented
//! file and the page of the documentation.

mod backup;
mod changes;
mod declare;
mod environment;
mod fault;
mod keys;
mod kinds;
mod layers;
mod log;
mod reference;
mod retention;
mod s3;
mod s3_url;
mod shape;
mod suggest;
mod texts;
mod tiers;
mod values;

#[cfg(test)]
mod misspelled_tests;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::base::library_errors::io_words;
use crate::base::ownership;

pub use backup::Backup;
pub use changes::Change;
pub use environment::{
    ClientVariable, Environment, allows_colours, client_variable, credentials_directory,
    failpoints_from_environment, journal_stream, user_config_directory,
};
pub use fault::{ConfigError, Fault};
pub use keys::{
    Config, Dedup, Delivery, Egress, INBOX_WAIT_SECONDS_MAX, INTAKE_WAIT_MS_MAX, Inbox, Intake,
    Keys, Server, Storage, Workers,
};
pub use log::Log;
pub use reference::{commented_file, reference_page};
pub use retention::Retention;
pub use s3::{S3Access, S3Keys, S3Settings};
pub use s3_url::S3Url;
pub use texts::is_level;
pub use tiers::{TierLimit, Tiers};
pub use values::{AdminToken, LogFormat};

/// The default places of a configuration file; the first existing file counts.
const SEARCH: [&str; 2] = ["./config/triggerd.toml", "/etc/triggerd/triggerd.toml"];

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
        let text = found.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
        let mut merged = layers::merged(Self::groups(), text, environment)?;
        let variables = std::mem::take(&mut merged.variables);
        let file = found.map(|(path, _)| path);
        Ok((checked(merged)?, Source { file, variables, skipped }))
    }

    /// Loads the defaults with `text` (TOML) over them and no environment, for tests and tools.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let text = (Path::new("(text)"), text);
        checked(layers::merged(Self::groups(), Some(text), &Environment::default())?)
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

/// Checks all values and all rules between them.
fn checked(merged: layers::Merged) -> Result<Config, ConfigError> {
    let layers::Merged { mut values, origins, .. } = merged;
    let config = Config::read(&mut values);
    let mut faults = values.faults;
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => {
            for fault in &mut faults {
                if let (true, Some(origin)) = (fault.origin.is_empty(), origins.get(&fault.key)) {
                    fault.origin.clone_from(origin);
                }
            }
            Err(ConfigError::Faults(faults))
        }
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
                    "{} ({}{})",
                    path.display(),
                    io_words(&cause),
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
