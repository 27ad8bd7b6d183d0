//! How the process ends, and what each number tells systemd and scripts.

/// Exit codes of the `triggerd` command; `docs/operations.md` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done, or stopped in good order.
    Clean = 0,
    /// A command that talks to a server was refused or got no answer.
    Failed = 1,
    /// Bad command line or bad configuration.
    Usage = 2,
    /// The data directory is damaged, or was written by a newer version.
    Damaged = 3,
    /// The data directory is in use by another process.
    InUse = 4,
    /// The operating system forbids it: files of another user, a port for root alone.
    NotPermitted = 5,
    /// Something broke that a restart mends (a failed sync, a dead thread), or that keeps the server from starting (no
    /// space, no address to listen on).
    Fatal = 70,
}

impl ExitCode {
    /// The code for a failed operation of the operating system: [`ExitCode::NotPermitted`], or else this one.
    pub fn of_io(error: &std::io::Error, otherwise: Self) -> Self {
        if error.kind() == std::io::ErrorKind::PermissionDenied { Self::NotPermitted } else { otherwise }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// Ends the process now with [`ExitCode::Fatal`]. What was acknowledged is in the journal; the next start goes on from there.
pub fn fatal(reason: &str) -> ! {
    tracing::error!(
        reason,
        "fatal error: the server exits with code 70. The next start continues with the journal, and says \
         so if a part of it is missing"
    );
    exit()
}

/// The same when the journal itself may be gone; `reason` says what is to be done.
pub fn fatal_loss(reason: &str) -> ! {
    tracing::error!(reason, "fatal error: the server exits with code 70");
    exit()
}

fn exit() -> ! {
    #[expect(clippy::exit, reason = "the one place that ends the process from a thread")]
    std::process::exit(i32::from(ExitCode::Fatal as u8))
}
