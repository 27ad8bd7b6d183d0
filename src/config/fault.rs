//! Faults of a configuration, in words that say how to correct them.

use std::fmt;
use std::path::PathBuf;

use crate::base::exit_code::ExitCode;
use crate::base::ownership;

/// The reason why a configuration cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named on the command line does not exist.
    #[error("configuration file {path} does not exist")]
    Missing {
        /// The path of this file.
        path: PathBuf,
    },
    /// The file exists but cannot be read.
    #[error("configuration file {path}: {cause}{}", ownership::denied(path, cause))]
    Unreadable {
        /// The path of this file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        cause: std::io::Error,
    },
    /// The file is not TOML.
    #[error("configuration file {path} is not TOML: {}", detail.trim_end())]
    Syntax {
        /// The path of this file.
        path: PathBuf,
        /// The line, the column, and the expected syntax.
        detail: String,
    },
    /// All unknown keys and wrong values.
    #[error("the configuration has {}", listed(.0))]
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

/// The number of the faults, and each on a line of its own.
fn listed(faults: &[Fault]) -> String {
    let ending = if faults.len() == 1 { "" } else { "s" };
    let lines: Vec<_> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    format!("{} fault{ending}:{}", faults.len(), lines.concat())
}
