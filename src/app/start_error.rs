//! The reasons why the server does not start, and their exit codes.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::base::exit_code::ExitCode;
use crate::base::library_errors::os_words;
use crate::base::metrics::MetricsError;
use crate::commands::RecordError;
use crate::commit::RecoveryError;
use crate::data_dir::DataDirError;
use crate::delivery::sender::SenderError;
use crate::journal::{JournalError, ReadError, is_unreadable};
use crate::model::id::EndpointId;
use crate::store::StateError;

/// The reason why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be opened or used.
    #[error(transparent)]
    DataDir(DataDirError),
    /// The journal cannot be opened.
    #[error("the journal cannot be opened: {0}{advice}", advice = self.advice())]
    Journal(JournalError),
    /// A part of the journal is missing; the text says which part.
    #[error("the journal is damaged: {0}{advice}", advice = self.advice())]
    Missing(String),
    /// The journal was compacted, and no snapshot holds the state behind it; the text says where.
    #[error(
        "the state cannot be computed: {0}. Restore a backup, or put the snapshot back if somebody \
         has moved it away: `triggerd rebuild` cannot help, because those records are not in the \
         journal any more"
    )]
    NoSnapshot(String),
    /// The data directory has no journal, although events were stored in it; the text says why.
    #[error("the journal is lost: {0}")]
    NoJournal(String),
    /// The state cannot be opened, or not even computed again.
    #[error(transparent)]
    State(StateError),
    /// The journal cannot be applied to the state.
    #[error("the journal cannot be applied: {0}{advice}", advice = self.advice())]
    Recovery(RecoveryError),
    /// The endpoints' secrets were sealed with another key than the key at hand.
    #[error(
        "the secret of {endpoint} (number of endpoints: {of}) was encrypted with another key: \
         secrets.key in the data directory, or systemd's credential of that name, is not the key \
         that encrypted it; take the right key from a backup. Without a backup, `triggerd serve \
         --forget-secrets` starts without the secrets that cannot be decrypted, and logs each of \
         them"
    )]
    SecretsKey {
        /// An endpoint whose secret does not open.
        endpoint: EndpointId,
        /// Number of all endpoints, whichever key sealed their secrets.
        of: usize,
    },
    /// The key that sealed the endpoints' secrets is gone.
    #[error(
        "secrets.key is not in the data directory, and there is no systemd credential of that \
         name, but the secrets of all endpoints (their number: {of}) are encrypted with it; no new \
         key was created. Take secrets.key from a backup. Without a backup, `triggerd serve \
         --forget-secrets` starts without those secrets, and logs each of them"
    )]
    SecretsKeyLost {
        /// Number of endpoints with a sealed secret.
        of: usize,
    },
    /// The server cannot listen on its address.
    #[error("cannot listen on {address}: {}{}", os_words(cause), listen_advice(cause))]
    Listen {
        /// The configured address, or the default.
        address: SocketAddr,
        /// The error of the operating system.
        cause: std::io::Error,
    },
    /// The start failed with very little free space on the disk, which is the likely cause.
    #[error(
        "{cause}. The disk of {dir} has {free} bytes free; with {FREE_BYTES_MIN} a start succeeds. \
         Free disk space and start again: nothing is lost"
    )]
    NoSpace {
        /// The data directory on this disk.
        dir: PathBuf,
        /// Free space in bytes.
        free: u64,
        /// The error with which the start failed.
        cause: Box<StartError>,
    },
    /// The operating system lets this process open too few files.
    #[error(
        "at most {open_files_max} files may be open, but {workers} threads that serve requests \
         need {least}: raise the limit with LimitNOFILE= in the systemd unit, or `ulimit -n`, or \
         lower [server] workers"
    )]
    TooFewFiles {
        /// Maximum number of files that the process may open.
        open_files_max: u64,
        /// Minimum number for this server.
        least: u64,
        /// Number of HTTP worker threads, for which the minimum was computed.
        workers: usize,
    },
    /// The HTTP client for webhooks cannot be made.
    #[error(transparent)]
    Sender(SenderError),
    /// The metrics cannot be registered.
    #[error(transparent)]
    Metrics(MetricsError),
    /// A directory of the configuration is in the data directory.
    #[error(
        "{key} is in the data directory, which holds nothing else: {path}; name a directory \
         outside, preferably on another disk"
    )]
    DirectoryInside {
        /// The key of the configuration.
        key: &'static str,
        /// The directory.
        path: PathBuf,
    },
    /// A thread cannot be started.
    #[error("threads cannot be started: {}", os_words(.0))]
    Threads(std::io::Error),
    /// The endpoints whose secrets are lost could not get new secrets; the text says why.
    #[error(
        "endpoints whose secrets are lost could not get new secrets: {0}; start the server again"
    )]
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
            | Self::NoSnapshot(_)
            | Self::NoJournal(_)
            | Self::SecretsKey { .. }
            | Self::SecretsKeyLost { .. }
            | Self::Recovery(RecoveryError::Records(
                RecordError::Unknown { .. }
                | RecordError::Log(ReadError::Damage(_) | ReadError::Removed(_)),
            )) => ExitCode::Damaged,
            Self::Recovery(RecoveryError::Records(RecordError::Log(ReadError::Io {
                source,
                ..
            }))) if is_unreadable(source) => ExitCode::Damaged,
            Self::TooFewFiles { .. } | Self::DirectoryInside { .. } => ExitCode::Usage,
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

impl StartError {
    /// Advice about a damaged journal, to be appended to the cause.
    fn advice(&self) -> &'static str {
        let is_newer =
            matches!(self, Self::Recovery(RecoveryError::Records(RecordError::Unknown { .. })));
        if self.exit_code() != ExitCode::Damaged || is_newer {
            return "";
        }
        ". `triggerd verify` lists all damage; `triggerd rebuild --skip-damaged` saves every whole \
         record, keeps the damaged files and lists the losses. If there is a backup, look there \
         first"
    }
}

/// Advice about an address that the server cannot listen on, to be appended to the cause.
fn listen_advice(cause: &std::io::Error) -> &'static str {
    match cause.kind() {
        ErrorKind::PermissionDenied => {
            "; ports below 1024 need root; choose another port in [server] listen"
        }
        ErrorKind::AddrInUse => {
            ". Another process listens on it (`ss -ltnp` shows which); stop that process, or \
             choose another address in [server] listen"
        }
        ErrorKind::AddrNotAvailable => {
            ". This machine does not have this address now; choose another address in [server] \
             listen"
        }
        _ => "",
    }
}

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

    #[test]
    fn a_lost_snapshot_is_damage_that_a_rebuild_does_not_mend() {
        let error = StartError::NoSnapshot("the journal begins at position 7".to_owned());
        assert_eq!(error.exit_code(), ExitCode::Damaged);
        let text = error.to_string();
        assert!(text.contains("Restore a backup") && !text.contains("--skip-damaged"), "{text}");
    }

    #[test]
    fn what_the_system_says_has_no_numbers() {
        let in_use = || std::io::Error::from_raw_os_error(98);
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        for error in
            [StartError::Threads(in_use()), StartError::Listen { address, cause: in_use() }]
        {
            let text = error.to_string();
            assert!(text.contains("in use") && !text.contains("os error"), "{text}");
        }
    }
}
