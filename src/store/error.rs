//! The reason why the state cannot be used.

use crate::base::codec::CodecError;

/// The state cannot be read, written or changed. The journal is unharmed: a restart rebuilds the
/// state from it.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Rows cannot be read or written.
    #[error("the state is broken: {0}")]
    Rows(String),
    /// An assumption of the code does not hold. This bug must not become a wrong answer or a wrong
    /// row.
    #[error("a mistake in triggerd, please report it: {0}")]
    Invariant(&'static str),
}

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
