//! `triggerd verify`: checks the data directory of a stopped server, and changes nothing in it.
//!
//! Reads every record of the journal and every snapshot, computes the state in a scratch directory,
//! and compares the result row by row with the snapshots and with a copy of the stored state. Also
//! checks the small files beside them: the format, the admin token and the key of the endpoints'
//! secrets.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use super::audit::{
    JournalAudit, Scratch, as_json, bring_up, dir_failure, require_journal, require_records, told,
};
use super::losses::Losses;
use super::output::{counted, print, print_text, seconds};
use super::snapshots::{Snapshots, no_base};
use crate::app::{StartError, check_secrets};
use crate::base::exit_code::ExitCode;
use crate::base::random;
use crate::config::{Config, credentials_directory};
use crate::data_dir::{DataDir, DataDirError, LookedAt, read_admin_token};
use crate::journal::Position;
use crate::store::{Counts, Difference, Differences, Named, StateError, StateValidity, Store};

/// Maximum number of differences and contradictions that are named.
const NAMED_MAX: usize = 20;

#[derive(Args)]
pub(super) struct Verify {
    /// Backup to verify instead: a backup, a directory of backups, an archive, or - for standard
    /// input
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
    /// Also print rows as they are stored
    #[arg(long)]
    verbose: bool,
}

/// The result of the check of the state.
enum Judgement {
    /// The state was not compared, and this is no damage.
    NotCompared(String),
    /// The state matches the journal. Before the comparison, the state was behind by this number of
    /// bytes.
    Equal {
        behind: u64,
    },
    /// The state has applied a position after the end of the journal.
    Ahead {
        applied: Position,
    },
    /// The journal was compacted, and the snapshot that holds the state behind it is missing.
    NotComputable(String),
    /// The state cannot be opened or brought up to the journal.
    Unreadable(String),
    Different(Differences, Losses),
}

struct Report {
    list: PathBuf,
    verbose: bool,
    /// The faults of other files than the journal and the state, each with advice.
    files: Vec<String>,
    audit: JournalAudit,
    /// Set if a start takes the directory for a copy: the journal or `FORMAT` was copied.
    is_copy: bool,
    snapshots: Snapshots,
    state: Judgement,
    contradictions: Vec<String>,
    counts: Counts,
    orgs: usize,
    took_ms: u128,
}

impl Verify {
    pub(super) fn run(&self, config: &Config) -> Result<ExitCode, Failure> {
        if let Some(backup) = &self.backup {
            return super::backup::check::run(backup, self.identity.as_deref(), self.json);
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

    fn is_well(&self) -> bool {
        let state = matches!(self.state, Judgement::NotCompared(_) | Judgement::Equal { .. });
        let snapshots = self.snapshots.is_well(self.is_copy);
        let others = snapshots && self.files.is_empty() && self.contradictions.is_empty();
        state && others && !self.audit.is_damaged()
    }

    fn text(&self) -> String {
        let differing = match &self.state {
            Judgement::Different(found, losses) => {
                let raw = found.first.iter().filter(|_| self.verbose).map(difference_text);
                losses.lines().into_iter().chain(raw).collect()
            }
            _ => Vec::new(),
        };
        let Self { audit, counts, orgs, took_ms, .. } = self;
        let mut lines = self.journal_text();
        lines.extend(self.copy_text());
        lines.extend(self.files.iter().map(|fault| format!("DAMAGED   {fault}")));
        lines.extend(audit.damages().map(|lost| format!("DAMAGED   {}", told(lost))));
        lines.extend(self.snapshots.text(self.is_copy));
        lines.push(self.state_text());
        lines.extend(differing);
        lines.extend(
            self.contradictions
                .iter()
                .map(|found| format!("CONTRADICTION in the state that the journal gives: {found}")),
        );
        let is_computed = !matches!(self.state, Judgement::NotComputable(_));
        if !audit.is_damaged() && is_computed {
            lines.push(format!(
                "holds     {}, {} in inboxes, of {}",
                counted(counts.events, "event"),
                counts.open,
                counted(*orgs as u64, "organization")
            ));
        }
        let seconds = seconds(*took_ms);
        lines.push(if self.is_well() {
            format!("no damage was found ({seconds})")
        } else {
            self.advice(&seconds)
        });
        lines.join("\n")
    }

    /// The journal, its commands, and the parts that are missing on purpose.
    fn journal_text(&self) -> Vec<String> {
        let Self { audit, .. } = self;
        let mut lines = vec![format!(
            "journal   {}, {}, {}, up to position {}",
            counted(audit.scan.len() as u64, "segment"),
            counted(audit.scan.bytes(), "byte"),
            counted(audit.records(), "record"),
            audit.end()
        )];
        lines.extend(
            audit.commands.iter().map(|(kind, count)| format!("            {count:>10}  {kind}")),
        );
        for (from, to) in audit.segments.iter().flat_map(|found| &found.holes) {
            lines.push(format!(
                "salvaged  positions {from} to {} were lost in an earlier rebuild",
                to.0.saturating_sub(1)
            ));
        }
        if let Some((from, to)) = audit.compacted() {
            lines.push(format!(
                "compacted positions {from} to {}: records that nobody needs are gone, {} of them \
                 in segments that remain; this is no damage",
                to.0.saturating_sub(1),
                counted(audit.compacted_bytes(), "byte")
            ));
        }
        for tail in audit.segments.iter().filter_map(|found| found.tail.as_ref()) {
            let (file, offset, bytes) = (tail.file.display(), tail.offset, tail.bytes);
            let bytes = counted(bytes, "byte");
            let what = if audit.scan.is_copy() {
                "belong to records that the copy holds only in part"
            } else {
                "were never acknowledged"
            };
            lines.push(format!(
                "tail      {file} offset {offset}: {bytes} {what}; the next start removes them"
            ));
        }
        lines
    }

    /// Says what a copy can and cannot prove: its files show that none of them was cut off, but not
    /// how far the original went on.
    fn copy_text(&self) -> Option<String> {
        let end = self.audit.end();
        let text = format!(
            "copy      this is a copy, which ends at position {end}. An event that was \
             acknowledged after the copy began may not be in it. A copy cannot show if its last \
             files are missing: compare the position with the original's, or the number of events"
        );
        Some(text).filter(|_| self.audit.scan.is_copy())
    }

    fn state_text(&self) -> String {
        match &self.state {
            Judgement::NotCompared(why) => format!("state     not compared: {why}"),
            Judgement::Equal { behind: 0 } => "state     matches the journal, row by row".into(),
            Judgement::Equal { behind } => format!(
                "state     is {} behind the journal, as after a crash; brought up to its end, it \
                 matches the journal",
                counted(*behind, "byte")
            ),
            Judgement::Ahead { applied } => {
                format!(
                    "DAMAGED   the journal ends at {}, but the state goes to {applied}: the end of \
                     the journal is missing",
                    self.audit.end()
                )
            }
            Judgement::NotComputable(why) => {
                format!("DAMAGED   the state cannot be computed from the journal: {why}")
            }
            Judgement::Unreadable(why) => format!("DAMAGED   the state cannot be read: {why}"),
            Judgement::Different(found, _) => {
                let rows: u64 = found.rows.values().sum();
                format!("DAMAGED   the state differs from the journal in {}", counted(rows, "row"))
            }
        }
    }

    fn advice(&self, seconds: &str) -> String {
        let mut advice = Vec::new();
        let snapshot_ahead = self.snapshots.ahead().filter(|_| !self.is_copy);
        let lost_end = snapshot_ahead.is_some() || matches!(self.state, Judgement::Ahead { .. });
        if self.audit.is_damaged() || lost_end {
            advice.push(
                "`triggerd rebuild --skip-damaged` saves every whole record and lists the losses; \
                 a backup may have more",
            );
        }
        if matches!(self.state, Judgement::Unreadable(_) | Judgement::Different(..)) {
            advice.push(
                "`triggerd rebuild` computes the state from the journal; nothing is lost by that",
            );
        }
        if matches!(self.state, Judgement::NotComputable(_)) {
            advice.push(
                "start the server: if its state is valid, it takes a new snapshot; if the start \
                 refuses, restore a backup",
            );
        }
        advice.extend(self.snapshots.advice(self.audit.compacted().is_some()));
        if !self.contradictions.is_empty() {
            advice.push(
                "the contradictions are a fault of triggerd: the journal is whole, and `triggerd \
                 rebuild` would give the same state. Keep a copy of the data directory, and report \
                 the fault with this output",
            );
        }
        if !self.files.is_empty() {
            advice.push("each line about a file says how to repair the file");
        }
        format!("DAMAGE WAS FOUND ({seconds}): {}", advice.join("; "))
    }

    fn json(&self) -> Value {
        let Self { files, counts, orgs, took_ms, .. } = self;
        json!({
            "well": self.is_well(),
            "journal": self.journal_json(),
            "snapshots": self.snapshots.json(),
            "state": self.state_json(),
            "files": files,
            "contradictions": self.contradictions,
            "events": counts.events, "open": counts.open, "organizations": orgs, "took_ms": took_ms,
        })
    }

    fn journal_json(&self) -> Value {
        let Self { audit, .. } = self;
        let holes = audit.segments.iter().flat_map(|found| &found.holes);
        let holes = holes.map(|(from, to)| json!({"from_position": from, "to_position": to}));
        let mut tails = audit.segments.iter().filter_map(|found| found.tail.as_ref());
        let tail = tails.next().map(|tail| json!({"offset": tail.offset, "bytes": tail.bytes}));
        json!({
            "segments": audit.scan.len(), "bytes": audit.scan.bytes(), "records": audit.records(),
            "end": audit.end(), "is_copy": audit.scan.is_copy(), "commands": audit.commands,
            "damages": audit.damages().map(as_json).collect::<Vec<_>>(),
            "given_up_before": holes.collect::<Vec<_>>(),
            "compacted": audit.compacted().map(|(from, to)| json!({"from_position": from,
            "to_position": to, "bytes": audit.compacted_bytes()})),
            "tail": tail,
        })
    }

    fn state_json(&self) -> Value {
        let (result, why) = match &self.state {
            Judgement::NotCompared(why) => ("not_compared", Some(why.clone())),
            Judgement::Equal { .. } => ("equal", None),
            Judgement::Ahead { .. } => ("ahead", Some(self.state_text())),
            Judgement::NotComputable(why) => ("not_computable", Some(why.clone())),
            Judgement::Unreadable(why) => ("unreadable", Some(why.clone())),
            Judgement::Different(..) => ("different", None),
        };
        json!({"result": result, "why": why, "differences": self.differences_json()})
    }

    fn differences_json(&self) -> Value {
        let Judgement::Different(found, losses) = &self.state else { return Value::Null };
        let mut said = losses.json();
        if let Some(members) = said.as_object_mut() {
            members.insert("rows".into(), json!(found.rows));
            let raw: Vec<String> =
                found.first.iter().filter(|_| self.verbose).map(difference_text).collect();
            members.insert("raw".into(), json!(raw));
        }
        said
    }
}

/// A difference between the state and the journal, for people.
fn differing(named: &Named) -> String {
    match (&named.here, &named.other) {
        (None, Some(given)) => format!("MISSING   {named}: only the journal has it ({given})"),
        (Some(held), None) => format!("EXTRA     {named}: only the state has it ({held})"),
        (held, given) => {
            let (held, given) =
                (held.as_deref().unwrap_or_default(), given.as_deref().unwrap_or_default());
            format!("DIFFERENT {named}: the state has {held}; the journal has {given}")
        }
    }
}

fn difference_text(difference: &Difference) -> String {
    let Difference { row, here, other } = difference;
    let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "no such row".into());
    format!("          {row}: the state has {}, the journal has {}", side(here), side(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contradiction_is_not_said_to_be_mended_by_a_rebuild() {
        let dir = tempfile::tempdir().unwrap();
        let (backup, identity, list) = (None, None, None);
        let verify = Verify { backup, identity, json: false, scratch: None, list, verbose: false };
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
