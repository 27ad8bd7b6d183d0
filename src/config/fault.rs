//! What can be wrong with a configuration, in words that say how to mend it.

use std::fmt;
use std::path::PathBuf;

use crate::base::exit_code::ExitCode;
use crate::base::ownership;

/// Why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// The file named on the command line is not there.
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is there but can't be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is not TOML.
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected there.
        detail: String,
    },
    /// Keys that are unknown or values that are wrong: all of them.
    Faults(Vec<Fault>),
}

impl ConfigError {
    /// The exit code that tells it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unreadable { cause, .. } => ExitCode::of_io(cause, ExitCode::Usage),
            Self::Missing { .. } | Self::Syntax { .. } | Self::Faults(_) => ExitCode::Usage,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, such as `server.listen`.
    pub key: String,
    /// Where it was set: a file, an environment variable, or empty for the defaults.
    pub origin: String,
    /// What was given, and what is allowed.
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
            Self::Missing { path } => write!(f, "configuration file {} does not exist", path.display()),
            Self::Unreadable { path, cause } => {
                write!(f, "configuration file {}: {cause}{}", path.display(), ownership::denied(path, cause))
            }
            Self::Syntax { path, detail } => {
                write!(f, "configuration file {} is not TOML: {}", path.display(), detail.trim_end())
            }
            Self::Faults(faults) => {
                write!(f, "the configuration has {} fault{}:", faults.len(), if faults.len() == 1 { "" } else { "s" })?;
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
