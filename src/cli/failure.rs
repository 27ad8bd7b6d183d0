//! The reason why a command failed.

use crate::base::exit_code::ExitCode;

/// The reason why a command failed, with its exit code. If the message is empty, nothing is
/// printed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: ExitCode,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(code: ExitCode, message: impl std::fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }
}
