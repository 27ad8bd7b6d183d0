//! The reasons why the server does not start, and their exit codes.

use std::fmt::{self, Display as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::base::exit_code::ExitCode;
use crate::base::metrics::MetricsError;
use crate::commands::RecordError;
use crate::commit::RecoveryError;
use crate::data_dir::DataDirError;
use crate::delivery::sender::SenderError;
use crate::journal::{JournalError, ReadError, is_unreadable};
use crate::model::id::EndpointId;
use crate::store::StateError;

/// The reason why the server does not start.
#[derive(Debug)]
pub enum StartError {
    /// The data directory cannot be opened or used.
    DataDir(DataDirError),
    /// The journal cannot be opened.
    Journal(JournalError),
    /// A part of the journal is missing; the text says which part.
    Missing(String),
    /// The data directory has no journal, although events were stored in it; the text says why.
    NoJournal(String),
    /// The state cannot be opened, or not even computed again.
    State(StateError),
    /// The journal cannot be applied to the state.
    Recovery(RecoveryError),
    /// The endpoints' secrets were sealed with another key than the key at hand.
    SecretsKey {
        /// An endpoint whose secret does not open.
        endpoint: EndpointId,
        /// Number of all endpoints, whichever key sealed their secrets.
        of: usize,
    },
    /// The key that sealed the endpoints' secrets is gone.
    SecretsKeyLost {
        /// Number of endpoints with a sealed secret.
        of: usize,
    },
    /// The server cannot listen on its address.
    Listen {
        /// The configured address, or the default.
        address: SocketAddr,
        /// The error of the operating system.
        cause: std::io::Error,
    },
    /// The start failed with very little free space on the disk, which is the likely cause.
    NoSpace {
        /// The data directory on this disk.
        dir: PathBuf,
        /// Free space in bytes.
        free: u64,
        /// The error with which the start failed.
        cause: Box<StartError>,
    },
    /// The operating system lets this process open too few files.
    TooFewFiles {
        /// Maximum number of files that the process may open.
        open_files_max: u64,
        /// Minimum number for this server.
        least: u64,
        /// Number of HTTP worker threads, for which the minimum was computed.
        workers: usize,
    },
    /// The HTTP client for webhooks cannot be made.
    Sender(SenderError),
    /// The metrics cannot be registered.
    Metrics(MetricsError),
    /// A thread cannot be started.
    Threads(std::io::Error),
    /// The endpoints whose secrets are lost could not get new secrets; the text says why.
    ForgetSecrets(&'static str),
}

/// Free bytes with which a start succeeds. Most starts need less: a state that does not fit is
/// computed again in memory.
const FREE_BYTES_MIN: u64 = 1 << 20;

impl StartError {
    /// Turns a fatal error into [`StartError::NoSpace`] if the disk of the data directory has too
    /// little free space.
    pub(super) fn on_disk(self, dir: &Path, free: Option<u64>) -> Self {
        match free.filter(|free| *free < FREE_BYTES_MIN && self.exit_code() == ExitCode::Fatal) {
            Some(free) => Self::NoSpace { dir: dir.to_owned(), free, cause: Box::new(self) },
            None => self,
        }
    }

    /// The exit code for this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::DataDir(error) => error.exit_code(ExitCode::Fatal),
            Self::Journal(JournalError::Damage(_))
            | Self::Missing(_)
            | Self::NoJournal(_)
            | Self::SecretsKey { .. }
            | Self::SecretsKeyLost { .. }
            | Self::Recovery(RecoveryError::Records(
                RecordError::Unknown { .. } | RecordError::Log(ReadError::Damage(_)),
            )) => ExitCode::Damaged,
            Self::Recovery(RecoveryError::Records(RecordError::Log(ReadError::Io {
                source,
                ..
            }))) if is_unreadable(source) => ExitCode::Damaged,
            Self::TooFewFiles { .. } => ExitCode::Usage,
            Self::NoSpace { cause, .. } => cause.exit_code(),
            Self::Journal(JournalError::Io { source, .. })
            | Self::Recovery(RecoveryError::Records(RecordError::Log(ReadError::Io {
                source,
                ..
            })))
            | Self::Listen { cause: source, .. } => ExitCode::of_io(source, ExitCode::Fatal),
            Self::Recovery(_)
            | Self::State(_)
            | Self::Sender(_)
            | Self::Metrics(_)
            | Self::Threads(_)
            | Self::ForgetSecrets(_) => ExitCode::Fatal,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause(f)?;
        match (self, self.exit_code()) {
            // The messages of these errors have their own advice, and the journal may be undamaged.
            (
                Self::DataDir(_)
                | Self::NoJournal(_)
                | Self::SecretsKey { .. }
                | Self::SecretsKeyLost { .. }
                | Self::Recovery(RecoveryError::Records(RecordError::Unknown { .. })),
                _,
            ) => Ok(()),
            (_, ExitCode::Damaged) => f.write_str(
                ". `triggerd verify` lists all damage; `triggerd rebuild --skip-damaged` saves \
                 every whole record, keeps \
                 the damaged files and lists the losses. If there is a backup, look there first",
            ),
            _ => Ok(()),
        }
    }
}

impl StartError {
    #[expect(clippy::too_many_lines, reason = "a table: one row follows the other")]
    fn cause(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(error) => error.fmt(f),
            Self::Journal(error) => write!(f, "the journal cannot be opened: {error}"),
            Self::Missing(what) => write!(f, "the journal is damaged: {what}"),
            Self::NoJournal(what) => write!(f, "the journal is lost: {what}"),
            Self::SecretsKey { endpoint, of } => write!(
                f,
                "the secret of {endpoint} (number of endpoints: {of}) was encrypted with another \
                 key: secrets.key in the data directory, or systemd's credential of that name, is not the key that encrypted \
                 it; take the right key from \
                 a backup. Without a backup, `triggerd serve --forget-secrets` starts without the \
                 secrets that cannot be \
                 decrypted, and logs each of them"
            ),
            Self::SecretsKeyLost { of } => write!(
                f,
                "secrets.key is not in the data directory, and there is no systemd credential of \
                 that name, but the secrets of all endpoints (their number: {of}) are encrypted with \
                 it; no new key was created. Take secrets.key from a \
                 backup. Without a backup, `triggerd \
                 serve --forget-secrets` starts without those secrets, and logs each of them"
            ),
            Self::State(error) => error.fmt(f),
            Self::Recovery(error) => write!(f, "the journal cannot be applied: {error}"),
            Self::Listen { address, cause }
                if cause.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                write!(
                    f,
                    "cannot listen on {address}: {cause}; ports below 1024 need root; choose \
                     another port in \
                 [server] listen"
                )
            }
            Self::Listen { address, cause } if cause.kind() == std::io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cannot listen on {address}: {cause}. Another process listens on it (`ss \
                     -ltnp` shows which); stop that process, or \
                 choose another address in [server] listen"
                )
            }
            Self::Listen { address, cause }
                if cause.kind() == std::io::ErrorKind::AddrNotAvailable =>
            {
                write!(
                    f,
                    "cannot listen on {address}: {cause}. This machine does not have this address \
                     now; \
                 choose another address in [server] listen"
                )
            }
            Self::Listen { address, cause } => write!(f, "cannot listen on {address}: {cause}"),
            Self::NoSpace { dir, free, cause } => write!(
                f,
                "{cause}. The disk of {} has {free} bytes free; with {FREE_BYTES_MIN} a start \
                 succeeds. Free disk space and \
                 start again: nothing is lost",
                dir.display()
            ),
            Self::TooFewFiles { open_files_max, least, workers } => write!(
                f,
                "at most {open_files_max} files may be open, but {workers} threads that serve \
                 requests need {least}: raise the \
                 limit with LimitNOFILE= in the systemd unit, or `ulimit -n`, or lower [server] \
                 workers"
            ),
            Self::Sender(error) => error.fmt(f),
            Self::Metrics(error) => error.fmt(f),
            Self::Threads(error) => write!(f, "threads cannot be started: {error}"),
            Self::ForgetSecrets(why) => {
                write!(
                    f,
                    "endpoints whose secrets are lost could not get new secrets: {why}; start the \
                     server again"
                )
            }
        }
    }
}

impl std::error::Error for StartError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_lost_secrets_from_being_replaced_is_no_damage_of_the_journal() {
        let error =
            StartError::ForgetSecrets("the journal accepts no changes; the log has the cause");
        assert_eq!(error.exit_code(), ExitCode::Fatal);
        let text = error.to_string();
        assert!(text.contains("secrets are lost") && !text.contains("--skip-damaged"), "{text}");
        assert_eq!(StartError::Missing(String::new()).exit_code(), ExitCode::Damaged);
    }
}
