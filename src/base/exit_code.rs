//! The exit codes of the process, and their meaning for systemd and scripts.

/// Exit codes of the `triggerd` command; `docs/operations.md` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The command is done, or the server stopped in good order.
    Clean = 0,
    /// A command that talks to a server was refused or got no answer.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The data directory is damaged, or was written by another version.
    Damaged = 3,
    /// The data directory is in use by another process.
    InUse = 4,
    /// The operating system forbids an operation: the files are another user's, or the port is for
    /// root only.
    NotPermitted = 5,
    /// Either a failure that a restart repairs (a failed sync, a dead thread), or an obstacle to
    /// the start (no space, no address to listen on).
    Fatal = 70,
}

impl ExitCode {
    /// Returns the code for a failed operation of the operating system: [`ExitCode::NotPermitted`]
    /// if permission was denied, else `otherwise`.
    pub fn of_io(error: &std::io::Error, otherwise: Self) -> Self {
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            Self::NotPermitted
        } else {
            otherwise
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// Ends the process now with [`ExitCode::Fatal`]. Everything that was acknowledged is in the
/// journal, and the next start continues from there.
pub fn fatal(reason: &str) -> ! {
    tracing::error!(
        reason,
        "fatal error: the server exits with code 70. The next start continues with the journal, \
         and says so if a part of it is missing"
    );
    exit()
}

/// Ends the process like [`fatal`], when the journal itself may be gone. `reason` says what the
/// operator has to do.
pub fn fatal_loss(reason: &str) -> ! {
    tracing::error!(reason, "fatal error: the server exits with code 70");
    exit()
}

fn exit() -> ! {
    #[expect(clippy::exit, reason = "the one place that ends the process from a thread")]
    std::process::exit(i32::from(ExitCode::Fatal as u8))
}
