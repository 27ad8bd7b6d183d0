//! The reason why the state cannot be used.

use std::fmt;

use crate::base::codec::CodecError;

/// The state cannot be read, written or changed. The journal is unharmed: a restart rebuilds the
/// state from it.
#[derive(Debug)]
pub enum StateError {
    /// Rows cannot be read or written.
    Rows(String),
    /// An assumption of the code does not hold. This bug must not become a wrong answer or a wrong
    /// row.
    Invariant(&'static str),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(reason) => write!(f, "the state is broken: {reason}"),
            Self::Invariant(rule) => write!(f, "a mistake in triggerd, please report it: {rule}"),
        }
    }
}

impl std::error::Error for StateError {}

impl From<sled::Error> for StateError {
    fn from(error: sled::Error) -> Self {
        Self::Rows(error.to_string())
    }
}

impl From<CodecError> for StateError {
    fn from(error: CodecError) -> Self {
        Self::Rows(error.to_string())
    }
}
