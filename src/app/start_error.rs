//! Why the server does not start, and the exit code that tells it.

use std::fmt::{self, Display as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::base::exit_code::ExitCode;
use crate::base::metrics::MetricsError;
use crate::commit::RecoveryError;
use crate::data_dir::DataDirError;
use crate::delivery::sender::SenderError;
use crate::journal::{JournalError, ReadError, is_unreadable};
use crate::model::id::EndpointId;
use crate::store::StateError;

/// Why the server does not start.
#[derive(Debug)]
pub enum StartError {
    /// The data directory.
    DataDir(DataDirError),
    /// The journal.
    Journal(JournalError),
    /// A part of the journal that must be there is not.
    Missing(String),
    /// The state, even a new one.
    State(StateError),
    /// Bringing the state up to the journal.
    Recovery(RecoveryError),
    /// Endpoints' secrets were sealed with another key than there is.
    SecretsKey {
        /// One of those.
        endpoint: EndpointId,
        /// How many endpoints there are.
        of: usize,
    },
    /// The key that sealed endpoints' secrets is gone.
    SecretsKeyLost {
        /// How many endpoints there are.
        of: usize,
    },
    /// The address to listen on.
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// Very little of the disk is free, which is the likely cause.
    NoSpace {
        /// What is on the disk.
        dir: PathBuf,
        /// Free bytes.
        free: u64,
        /// What failed.
        cause: Box<StartError>,
    },
    /// The operating system lets this process open too few files.
    TooFewFiles {
        /// How many it may open.
        open_files_max: u64,
        /// How many it must be.
        least: u64,
        /// For so many threads that serve requests.
        workers: usize,
    },
    /// The HTTP client for webhooks.
    Sender(SenderError),
    /// The metrics.
    Metrics(MetricsError),
    /// Threads.
    Threads(std::io::Error),
    /// Going on without lost secrets, for this reason.
    ForgetSecrets(&'static str),
}

/// With this much free a start succeeds, mostly with less: a state that does not fit is made anew, as far as there is room.
const FREE_BYTES_MIN: u64 = 1 << 20;

impl StartError {
    /// The same, with what to do about it if so little of the data directory's disk is free.
    pub(super) fn on_disk(self, dir: &Path, free: Option<u64>) -> Self {
        match free.filter(|free| *free < FREE_BYTES_MIN && self.exit_code() == ExitCode::Fatal) {
            Some(free) => Self::NoSpace { dir: dir.to_owned(), free, cause: Box::new(self) },
            None => self,
        }
    }

    /// The exit code that tells it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::DataDir(error) => error.exit_code(ExitCode::Fatal),
            Self::Journal(JournalError::Damage(_))
            | Self::Missing(_)
            | Self::SecretsKey { .. }
            | Self::SecretsKeyLost { .. }
            | Self::Recovery(RecoveryError::Unknown { .. } | RecoveryError::Journal(ReadError::Damage(_))) => {
                ExitCode::Damaged
            }
            Self::Recovery(RecoveryError::Journal(ReadError::Io { source, .. })) if is_unreadable(source) => {
                ExitCode::Damaged
            }
            Self::TooFewFiles { .. } => ExitCode::Usage,
            Self::NoSpace { cause, .. } => cause.exit_code(),
            Self::Journal(JournalError::Io { source, .. })
            | Self::Recovery(RecoveryError::Journal(ReadError::Io { source, .. }))
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
            // Of another version: nothing is wrong with it.
            (
                Self::DataDir(_)
                | Self::SecretsKey { .. }
                | Self::SecretsKeyLost { .. }
                | Self::Recovery(RecoveryError::Unknown { .. }),
                _,
            ) => Ok(()),
            (_, ExitCode::Damaged) => f.write_str(
                ". `triggerd verify` lists all damage; `triggerd rebuild --skip-damaged` saves every whole frame, keeps \
                 the damaged files and lists the losses. If there is a backup, look there first",
            ),
            _ => Ok(()),
        }
    }
}

impl StartError {
    fn cause(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(error) => error.fmt(f),
            Self::Journal(error) => write!(f, "the journal cannot be opened: {error}"),
            Self::Missing(what) => write!(f, "the journal is damaged: {what}"),
            Self::SecretsKey { endpoint, of } => write!(
                f,
                "the secret of {endpoint} (there are {of} endpoints) was encrypted with another key: secrets.key in the data \
                 directory, or systemd's credential of that name, is not the key that encrypted it; take the right key from \
                 a backup. Without a backup, `triggerd serve --forget-secrets` starts without the secrets that cannot be \
                 decrypted, and logs each of them"
            ),
            Self::SecretsKeyLost { of } => write!(
                f,
                "secrets.key is not in the data directory, and there is no systemd credential of that name, but the secrets of {of} \
                 endpoints are encrypted with it; no new key was created. Take secrets.key from a backup. Without a backup, `triggerd \
                 serve --forget-secrets` starts without those secrets, and logs each of them"
            ),
            Self::State(error) => error.fmt(f),
            Self::Recovery(error) => write!(f, "the journal cannot be applied: {error}"),
            Self::Listen { address, cause } if cause.kind() == std::io::ErrorKind::PermissionDenied => write!(
                f,
                "cannot listen on {address}: {cause}; ports below 1024 need root; choose another port in \
                 [server] listen"
            ),
            Self::Listen { address, cause } if cause.kind() == std::io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {address}: {cause}. Another process listens on it (`ss -ltnp` shows which); stop that process, or \
                 choose another address in [server] listen"
            ),
            Self::Listen { address, cause } if cause.kind() == std::io::ErrorKind::AddrNotAvailable => write!(
                f,
                "cannot listen on {address}: {cause}. This machine does not have this address now; \
                 choose another address in [server] listen"
            ),
            Self::Listen { address, cause } => write!(f, "cannot listen on {address}: {cause}"),
            Self::NoSpace { dir, free, cause } => write!(
                f,
                "{cause}. The disk of {} has {free} bytes free; with {FREE_BYTES_MIN} a start succeeds. Free disk space and \
                 start again: nothing is lost",
                dir.display()
            ),
            Self::TooFewFiles { open_files_max, least, workers } => write!(
                f,
                "at most {open_files_max} files may be open, but {workers} threads that serve requests need {least}: raise the \
                 limit with LimitNOFILE= in the systemd unit, or `ulimit -n`, or lower [server] workers"
            ),
            Self::Sender(error) => error.fmt(f),
            Self::Metrics(error) => error.fmt(f),
            Self::Threads(error) => write!(f, "threads cannot be started: {error}"),
            Self::ForgetSecrets(why) => {
                write!(f, "endpoints whose secrets are lost could not get new secrets: {why}; start the server again")
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
        let error = StartError::ForgetSecrets("the journal accepts no changes; the log has the cause");
        assert_eq!(error.exit_code(), ExitCode::Fatal);
        let text = error.to_string();
        assert!(text.contains("secrets are lost") && !text.contains("--skip-damaged"), "{text}");
        assert_eq!(StartError::Missing(String::new()).exit_code(), ExitCode::Damaged);
    }
}
