//! The reason why the state cannot be used.

use std::io;

use crate::base::codec::CodecError;
use crate::base::library_errors::is_no_space;

/// The state cannot be read, written or changed. The journal is unharmed: a restart rebuilds the
/// state from it.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Rows cannot be read or written.
    #[error("the state is broken: {0}")]
    Rows(String),
    /// The disk or the quota has no room for the rows.
    #[error("the state cannot be written: {0}")]
    NoSpace(io::Error),
    /// An assumption of the code does not hold. This bug must not become a wrong answer or a wrong
    /// row.
    #[error("a mistake in triggerd, please report it: {0}")]
    Invariant(&'static str),
}

impl From<sled::Error> for StateError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => error.into(),
            other => Self::Rows(other.to_string()),
        }
    }
}

impl From<io::Error> for StateError {
    fn from(error: io::Error) -> Self {
        if is_no_space(&error) { Self::NoSpace(error) } else { Self::Rows(error.to_string()) }
    }
}

impl From<CodecError> for StateError {
    fn from(error: CodecError) -> Self {
        Self::Rows(error.to_string())
    }
}
