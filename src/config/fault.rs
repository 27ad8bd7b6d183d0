//! Faults of a configuration, in words that say how to correct them.

use std::fmt;
use std::path::PathBuf;

use crate::base::exit_code::ExitCode;
use crate::base::ownership;

/// The reason why a configuration cannot be loaded.
#[derive(Debug)]
pub enum ConfigError {
    /// The file named on the command line does not exist.
    Missing {
        /// The path of this file.
        path: PathBuf,
    },
    /// The file exists but cannot be read.
    Unreadable {
        /// The path of this file.
        path: PathBuf,
        /// The error of the operating system.
        cause: std::io::Error,
    },
    /// The file is not TOML.
    Syntax {
        /// The path of this file.
        path: PathBuf,
        /// The line, the column, and the expected syntax.
        detail: String,
    },
    /// All unknown keys and wrong values.
    Faults(Vec<Fault>),
}

impl ConfigError {
    /// The exit code for this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unreadable { cause, .. } => ExitCode::of_io(cause, ExitCode::Usage),
            Self::Missing { .. } | Self::Syntax { .. } | Self::Faults(_) => ExitCode::Usage,
        }
    }
}

/// One fault of one key or section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, such as `server.listen`.
    pub key: String,
    /// The place where the key was set: a file, an environment variable, or empty for the defaults.
    pub origin: String,
    /// The given value and the allowed values.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.detail)?;
        if self.origin.is_empty() { Ok(()) } else { write!(f, " (set in {})", self.origin) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => {
                write!(f, "configuration file {} does not exist", path.display())
            }
            Self::Unreadable { path, cause } => {
                write!(
                    f,
                    "configuration file {}: {cause}{}",
                    path.display(),
                    ownership::denied(path, cause)
                )
            }
            Self::Syntax { path, detail } => {
                write!(
                    f,
                    "configuration file {} is not TOML: {}",
                    path.display(),
                    detail.trim_end()
                )
            }
            Self::Faults(faults) => {
                write!(
                    f,
                    "the configuration has {} fault{}:",
                    faults.len(),
                    if faults.len() == 1 { "" } else { "s" }
                )?;
                faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { cause, .. } => Some(cause),
            Self::Missing { .. } | Self::Syntax { .. } | Self::Faults(_) => None,
        }
    }
}
