//! `triggerd verify`: checks the data directory of a stopped server, and changes nothing in it.
//!
//! Reads every record of the journal and every snapshot, computes the state in a scratch directory,
//! and compares the result row by row with the snapshots and with a copy of the stored state. Also
//! checks the small files beside them: the format, the admin token and the key of the endpoints'
//! secrets.

mod report;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use rustix::process::Signal;

use self::report::{Judgement, Report, differing};
use super::Failure;
use super::audit::{
    JournalAudit, Scratch, bring_up, dir_failure, require_journal, require_records,
};
use super::losses::Losses;
use super::output::{print, print_text};
use super::reach::Settings;
use super::snapshots::{Snapshots, no_base};
use crate::app::{StartError, check_secrets};
use crate::base::exit_code::ExitCode;
use crate::base::random;
use crate::config::{Config, credentials_directory};
use crate::data_dir::{DataDir, DataDirError, LookedAt, read_admin_token};
use crate::journal::Position;
use crate::store::{Counts, StateError, StateValidity, Store};

/// The lowest priority (POSIX, `nice`).
const NICENESS: i32 = 19;
/// Maximum number of differences and contradictions that are named.
const NAMED_MAX: usize = 20;

#[derive(Args)]
pub(super) struct Verify {
    /// Backup to verify in place of the data directory: a backup, a directory of backups, an
    /// archive, each also in a bucket (s3://BUCKET/PREFIX), or - for standard input
    backup: Option<PathBuf>,
    /// File with the age identity that opens an encrypted archive
    #[arg(long, value_name = "FILE", requires = "backup")]
    identity: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
    /// Existing directory with space for a temporary copy of the state, which is removed at the end
    /// [default: the directory that holds the data directory, else the system's directory for
    /// temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// File for the list of differences [default: a new file in the directory for temporary files]
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Work beside the server with this process id, which started this process: with low priority,
    /// and only as long as the server lives
    #[arg(long, hide = true, value_name = "PID")]
    gently: Option<i32>,
    /// Also print rows as they are stored
    #[arg(long)]
    verbose: bool,
}

impl Verify {
    pub(super) fn run(&self, config: &Config, settings: &Settings) -> Result<ExitCode, Failure> {
        if let Some(server) = self.gently {
            work_beside(server)?;
        }
        if let Some(backup) = &self.backup {
            let identity = self.identity.as_deref();
            return super::backup::check::run(backup, (identity, settings), self.json);
        }
        let began = Instant::now();
        let dir = &config.storage.data_dir;
        let looked_at = DataDir::look(dir).map_err(|error| dir_failure(&error))?;
        require_journal(dir)?;
        let audit = JournalAudit::read(&looked_at.journal(), Position(looked_at.journal_first()))?;
        require_records(&audit, dir)?;
        let snapshots = Snapshots::read(&looked_at.journal(), audit.end())?;
        let is_copy = audit.scan.is_copy() || looked_at.is_copy();
        let mut report = self.report((audit, is_copy), snapshots);
        report.check_files(&looked_at, config)?;
        if let Some(why) = no_base(&report.audit, report.snapshots.newest()) {
            report.state = Judgement::NotComputable(why);
        } else if !report.audit.is_damaged() {
            self.check_state(&mut report, &looked_at, config)?;
        }
        report.took_ms = began.elapsed().as_millis();
        if self.json {
            print(&report.json().to_string())?;
        } else {
            print_text(&report.text())?;
        }
        Ok(if report.is_well() { ExitCode::Clean } else { ExitCode::Damaged })
    }

    /// Makes the report on a journal whose state is not checked yet.
    fn report(&self, (audit, is_copy): (JournalAudit, bool), snapshots: Snapshots) -> Report {
        let new_list = || {
            std::env::temp_dir()
                .join(format!("triggerd-verify-{:08x}.txt", u32::from_be_bytes(random::bytes())))
        };
        Report {
            list: self.list.clone().unwrap_or_else(new_list),
            verbose: self.verbose,
            files: Vec::new(),
            audit,
            is_copy,
            snapshots,
            state: Judgement::NotCompared("the journal is damaged".into()),
            contradictions: Vec::new(),
            counts: Counts::default(),
            orgs: 0,
            took_ms: 0,
        }
    }

    /// Computes the state from the journal in a scratch directory, and checks with it the stored
    /// state and the key of the endpoints' secrets.
    fn check_state(
        &self,
        report: &mut Report,
        looked_at: &LookedAt,
        config: &Config,
    ) -> Result<(), Failure> {
        let data_dir = &config.storage.data_dir;
        let cache_bytes = config.storage.state_cache_bytes;
        let scratch = Scratch::make(self.scratch.as_deref(), data_dir)?;
        let checked = report.check_state(&looked_at.state(), &scratch, cache_bytes);
        // sled cannot tell that only the scratch directory was full.
        let unreadable = match &report.state {
            Judgement::Unreadable(why) => Some(why).filter(|_| scratch.is_short()),
            _ => None,
        };
        match (checked, unreadable) {
            (Err(error), _) if scratch.is_short() => Err(scratch.too_small(&error)),
            (Err(error), _) => Err(Failure::new(ExitCode::Failed, error)),
            (Ok(_), Some(why)) => Err(scratch.too_small(why)),
            (Ok(replayed), None) => report.check_secrets(data_dir, &replayed),
        }
    }
}

/// Lets the server and other programs go first, and ends with the server that started this.
fn work_beside(server: i32) -> Result<(), Failure> {
    let nicer = rustix::process::nice(NICENESS).map(drop);
    // proc(5): when memory runs out, this process ends before any other.
    let first = std::fs::write("/proc/self/oom_score_adj", "1000");
    let ended = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // The service manager may forbid it, and the work gets done all the same.
    let nicer = nicer.and(ended).map_err(std::io::Error::from);
    if let Err(error) = nicer.and(first) {
        tracing::debug!(%error, "the priority of the verification cannot be lowered");
    }
    // A server that was killed before the signal was set sends none.
    let parent = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
    if parent.is_none_or(|parent| parent.get() != server) {
        let message = format!("the server {server} that asked for this has ended");
        return Err(Failure::new(ExitCode::Failed, message));
    }
    Ok(())
}

impl Report {
    /// Checks the small files of the data directory that need no state.
    fn check_files(&mut self, looked_at: &LookedAt, config: &Config) -> Result<(), Failure> {
        let holds_records = self.audit.end() > Position::FIRST;
        self.files.extend(looked_at.format_fault(holds_records).map(|fault| fault.to_string()));
        // A start reads no file if the configuration has the token.
        if config.keys.admin_token.is_some() {
            return Ok(());
        }
        match read_admin_token(&config.storage.data_dir) {
            Ok(_) => Ok(()),
            Err(fault @ DataDirError::Secret { .. }) => {
                self.files.push(fault.to_string());
                Ok(())
            }
            Err(error) => Err(dir_failure(&error)),
        }
    }

    /// Checks that the key of the endpoints' secrets is there, and opens all of them.
    fn check_secrets(&mut self, data_dir: &Path, replayed: &Store) -> Result<(), Failure> {
        let Err(error) = check_secrets(data_dir, replayed) else { return Ok(()) };
        let hint = match error {
            StartError::SecretsKeyLost { .. } if credentials_directory().is_none() => {
                ". If the key is a systemd credential, name the directory of its file in the \
                 variable CREDENTIALS_DIRECTORY for this command"
            }
            StartError::SecretsKeyLost { .. }
            | StartError::SecretsKey { .. }
            | StartError::DataDir(DataDirError::Secret { .. }) => "",
            _ => return Err(Failure::new(error.exit_code(), error)),
        };
        self.files.push(format!("{error}{hint}"));
        Ok(())
    }

    /// Checks the stored state. Returns the state that the journal gives.
    fn check_state(
        &mut self,
        state: &Path,
        scratch: &Scratch,
        cache_bytes: u64,
    ) -> Result<Store, String> {
        let failed = |error: StateError| error.to_string();
        let replayed = self.snapshots.compute(&self.audit, scratch, cache_bytes)?;
        self.counts = replayed.counts().map_err(failed)?;
        self.orgs = replayed.org_numbers().map_err(failed)?.len();
        self.contradictions = replayed.contradictions(NAMED_MAX).map_err(failed)?;
        self.state = match StateValidity::of(state).map_err(failed)? {
            StateValidity::Absent => {
                Judgement::NotCompared("there is no state; the next start computes it".into())
            }
            StateValidity::Invalid(reason, _) => Judgement::NotCompared(format!(
                "the next start computes it from the journal, because {reason}"
            )),
            StateValidity::Valid(generation) => {
                match Store::open_copy(&generation, &scratch.path("copy"), cache_bytes) {
                    Err(error) => Judgement::Unreadable(error.to_string()),
                    Ok(copy) => self.compare(&copy, &replayed),
                }
            }
        };
        Ok(replayed)
    }

    fn compare(&self, copy: &Store, replayed: &Store) -> Judgement {
        let (applied, end) = (copy.applied(), self.audit.end());
        if applied > end {
            return Judgement::Ahead { applied };
        }
        if let Err(error) = bring_up(copy, &self.audit.log()) {
            return Judgement::Unreadable(error);
        }
        match copy.differences(replayed, NAMED_MAX) {
            Err(error) => Judgement::Unreadable(error.to_string()),
            Ok(found) if found.rows.is_empty() => Judgement::Equal { behind: end.since(applied) },
            Ok(found) => {
                let mut losses = Losses::new(self.list.clone());
                match losses.compare(copy, replayed, differing) {
                    Ok(()) => {
                        losses.finish();
                        Judgement::Different(found, losses)
                    }
                    Err(error) => Judgement::Unreadable(error.to_string()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contradiction_is_not_said_to_be_mended_by_a_rebuild() {
        let dir = tempfile::tempdir().unwrap();
        let (backup, identity, list) = (None, None, None);
        let verify = Verify {
            backup,
            identity,
            json: false,
            gently: None,
            scratch: None,
            list,
            verbose: false,
        };
        let snapshots = Snapshots::read(dir.path(), Position::FIRST).unwrap();
        let mut report = verify
            .report((JournalAudit::read(dir.path(), Position::FIRST).unwrap(), false), snapshots);
        report.contradictions.push("org_1 has two names".to_owned());
        let text = report.text();
        assert!(!report.is_well() && text.contains("CONTRADICTION"), "{text}");
        assert!(
            text.contains("a fault of triggerd") && !text.contains("nothing is lost"),
            "{text}"
        );
        report.contradictions.clear();
        report.state = Judgement::Unreadable("rotten".to_owned());
        let text = report.text();
        assert!(text.contains("nothing is lost") && !text.contains("fault of triggerd"), "{text}");
    }
}
