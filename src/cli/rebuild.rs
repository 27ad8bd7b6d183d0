//! `triggerd rebuild`: computes the state of a stopped server again. With
//! `--skip-damaged` a damaged journal is salvaged first: whole records stay in their place, the
//! damaged files are set aside, and the losses are reported.

mod consequences;
mod notes;
mod payloads;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use self::consequences::{Began, Consequences, consequences};
use self::notes::notes;
use self::payloads::with_lost_payloads;
use super::Failure;
use super::audit::{
    JournalAudit, Scratch, as_json, bring_up, dir_failure, journal_failure, require_journal,
    require_records, told,
};
use super::losses::Losses;
use super::output::{counted, eprint, print, seconds};
use super::snapshots::{Snapshots, load, no_base};
use crate::base::clock::Clock;
use crate::base::exit_code::ExitCode;
use crate::config::Config;
use crate::data_dir::{DAMAGED_PREFIX, DataDir};
use crate::journal::{Lost, OsFiles, Position, Salvage, SnapshotFile};
use crate::model::time::Timestamp;
use crate::store::{Counts, Differences, StateError, StateValidity, Store, invalidate_last};

/// The file with all losses, beside the damaged files.
const LIST: &str = "lost.txt";

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(super) struct Rebuild {
    /// Keep every whole record of a damaged journal, set the damaged files aside and list the
    /// losses
    #[arg(long)]
    skip_damaged: bool,
    /// Delete the snapshots, and compute the state from the first record of the journal. Refused if
    /// compaction has removed records
    #[arg(long)]
    from_start: bool,
    /// Existing directory with space for a temporary copy of the former state, which is removed at
    /// the end [default: the directory that holds the data directory, else the system's directory
    /// for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
    /// Also print rows as they are stored
    #[arg(long)]
    verbose: bool,
}

/// The lost parts of a journal and its damaged files.
struct Salvaged {
    lost: Vec<Lost>,
    /// The end of the journal and the higher position that the state had reached, if the end is
    /// missing.
    end_missing: Option<(Position, Position)>,
    aside: PathBuf,
    files: Vec<PathBuf>,
}

impl Rebuild {
    pub(super) fn run(&self, config: &Config) -> Result<ExitCode, Failure> {
        let path = &config.storage.data_dir;
        // Unlike `open_to_repair`, `look` creates no directory, so a wrong path is refused.
        DataDir::look(path).map_err(|error| dir_failure(&error))?;
        let mut dir = DataDir::open_to_repair(path).map_err(|error| dir_failure(&error))?;
        let rebuilt = self.rebuild(config, &mut dir);
        if let Err(error) = dir.give_to_owner() {
            eprint(&format!(
                "triggerd: files that root created could not be given to the owner of the data \
                 directory: {error}"
            ));
        }
        rebuilt.map(|()| ExitCode::Clean)
    }

    fn rebuild(&self, config: &Config, dir: &mut DataDir) -> Result<(), Failure> {
        let began = Instant::now();
        require_journal(dir.path())?;
        let mut audit = JournalAudit::read(&dir.journal(), journal_begins(dir))?;
        require_records(&audit, dir.path())?;
        let snapshots = Snapshots::read(&dir.journal(), audit.end())?;
        let newest = snapshots.newest().filter(|newest| newest.position >= audit.first());
        let base = newest.filter(|_| !self.from_start);
        require_base(&audit, base)?;
        let cache_bytes = config.storage.state_cache_bytes;
        let scratch = Scratch::make(self.scratch.as_deref(), dir.path())?;
        let (before, is_valid) = state_before(dir, &scratch, cache_bytes);
        if before.is_none() && scratch.is_short() {
            return Err(scratch.too_small("the previous state cannot be read"));
        }
        let applied = before.as_ref().filter(|_| is_valid).map(Store::applied);
        let end_missing = end_missing(&audit, &snapshots, (dir.is_copy(), applied));
        let salvaged = if audit.is_damaged() || end_missing.is_some() {
            if let Some(base) = base.filter(|_| self.skip_damaged) {
                prepare(&mut audit, base, (&scratch, cache_bytes))?;
            }
            let begins = base.map_or(Position::FIRST, |base| base.position);
            let salvaged = self.salvaged(&mut audit, (end_missing, begins), dir)?;
            snapshots.set_aside(&salvaged.aside, &dir.journal())?;
            Some(salvaged)
        } else {
            None
        };
        let remade = remake(dir, &audit, (base, cache_bytes), (salvaged.as_ref(), before.as_ref()));
        let (consequences, counts) = remade.map_err(|failure| match &salvaged {
            None => failure,
            Some(salvaged) => unfinished(failure, &salvaged.lost, end_missing),
        })?;
        snapshots.delete_unusable(&dir.journal(), self.from_start)?;
        let found = salvaged.as_ref().zip(consequences.as_ref());
        self.print(&audit, &counts, found, began.elapsed().as_millis())
    }

    /// Salvages a damaged journal if the options allow this, and reads it again. The state will be
    /// computed from the position `begins` on.
    fn salvaged(
        &self,
        audit: &mut JournalAudit,
        (end_missing, begins): (Option<(Position, Position)>, Position),
        dir: &DataDir,
    ) -> Result<Salvaged, Failure> {
        if !self.skip_damaged {
            return Err(refusal(audit, end_missing));
        }
        // Comes first: if the salvage is interrupted, no start may continue with a state that holds
        // lost data.
        invalidate_last(&dir.state()).map_err(failed)?;
        let done = Self::salvage(audit, (end_missing, begins), dir)?;
        *audit = JournalAudit::read(&dir.journal(), journal_begins(dir))
            .map_err(|failure| unfinished(failure, &done.lost, end_missing))?;
        Ok(done)
    }

    fn print(
        &self,
        audit: &JournalAudit,
        counts: &Counts,
        found: Option<(&Salvaged, &Consequences)>,
        took_ms: u128,
    ) -> Result<(), Failure> {
        if self.json {
            print(
                &json!({
                    "records": audit.records(), "end": audit.end(), "events": counts.events,
                    "open": counts.open,
                    "took_ms": took_ms,
                    "salvaged": found.map(|(salvaged, consequences)| salvaged.json(consequences,
                    self.verbose)),
                })
                .to_string(),
            )?;
        } else {
            let lines =
                found.map(|(salvaged, consequences)| salvaged.lines(consequences, self.verbose));
            lines.iter().flatten().try_for_each(|line| print(line))?;
            print(&format!(
                "the state is rebuilt from {}, up to position {}: {}, {} in inboxes ({})",
                counted(audit.records(), "record"),
                audit.end(),
                counted(counts.events, "event"),
                counts.open,
                seconds(took_ms)
            ))?;
        }
        Ok(())
    }

    fn salvage(
        audit: &JournalAudit,
        (end_missing, begins): (Option<(Position, Position)>, Position),
        dir: &DataDir,
    ) -> Result<Salvaged, Failure> {
        let lost: Vec<Lost> = audit.damages().cloned().collect();
        // The state never applies notes before this position.
        let behind: Vec<Lost> = lost.iter().filter(|lost| lost.from >= begins).cloned().collect();
        let notes = notes(&behind, audit.next_org, &audit.unmade_keys, audit.end())?;
        let aside = free_name(dir.path());
        let salvage =
            Salvage { dir: &dir.journal(), files: Arc::new(OsFiles), aside: &aside, notes: &notes };
        let files = salvage.run(audit.missing_beginning.as_ref(), &audit.segments);
        let files =
            files.map_err(|error| unfinished(journal_failure(&error), &lost, end_missing))?;
        Ok(Salvaged { lost, end_missing, aside, files })
    }
}

/// Returns the end of the journal and the position that a valid state or a snapshot has reached, if
/// that is later.
fn end_missing(
    audit: &JournalAudit,
    snapshots: &Snapshots,
    (is_copy, applied): (bool, Option<Position>),
) -> Option<(Position, Position)> {
    // In a copy, a snapshot may be younger than the journal.
    let is_copy = audit.scan.is_copy() || is_copy;
    let reached = applied.max(snapshots.ahead().filter(|_| !is_copy));
    reached.filter(|reached| *reached > audit.end()).map(|reached| (audit.end(), reached))
}

/// Refuses a journal that was compacted behind the snapshot from which the state would be computed.
fn require_base(audit: &JournalAudit, base: Option<&SnapshotFile>) -> Result<(), Failure> {
    no_base(audit, base).map_or(Ok(()), |why| {
        let message = format!("the state cannot be computed: {why}");
        Err(Failure::new(ExitCode::Damaged, message))
    })
}

/// Prepares a salvage from whose journal the state is computed behind a snapshot: no hole reaches
/// over the position of the snapshot, and a key that the snapshot has is no lost key.
fn prepare(
    audit: &mut JournalAudit,
    base: &SnapshotFile,
    (scratch, cache_bytes): (&Scratch, u64),
) -> Result<(), Failure> {
    for found in &mut audit.segments {
        found.split_damages_at(base.position);
    }
    if audit.unmade_keys.is_empty() {
        return Ok(());
    }
    let mut state =
        Store::open(&scratch.path("base"), cache_bytes, Position::MAX).map_err(failed)?;
    load(&mut state, base).map_err(|error| Failure::new(ExitCode::Failed, error))?;
    let mut unknown = Vec::new();
    for (at, key) in audit.unmade_keys.drain(..) {
        if state.key(key).map_err(failed)?.is_none() {
            unknown.push((at, key));
        }
    }
    audit.unmade_keys = unknown;
    Ok(())
}

/// Returns the position at which the journal begins at the latest.
fn journal_begins(dir: &DataDir) -> Position {
    Position(dir.format_file().first())
}

/// Computes the state again, from the snapshot if there is one, with the consequences of a salvage,
/// and writes `FORMAT` if it is lost.
fn remake(
    dir: &mut DataDir,
    audit: &JournalAudit,
    base: (Option<&SnapshotFile>, u64),
    (salvaged, before): (Option<&Salvaged>, Option<&Store>),
) -> Result<(Option<Consequences>, Counts), Failure> {
    let (store, began) = make_state(&dir.state(), audit, base)?;
    let found = salvaged.map(|salvaged| {
        let losses = Losses::new(salvaged.aside.join(LIST));
        let losses = with_lost_payloads(losses, &store, &salvaged.lost)?;
        consequences(&store, before, (&audit.log(), began), losses)
    });
    let consequences = found.transpose().map_err(failed)?;
    let counts = store.counts().map_err(failed)?;
    store.close().map_err(failed)?;
    let now = Timestamp(Clock::system().now_ms());
    dir.repair_format(now, audit.first().0).map_err(|error| dir_failure(&error))?;
    Ok((consequences, counts))
}

/// Reports the losses with the failure, because the next run no longer lists parts that are whole
/// by then.
fn unfinished(
    Failure { code, message }: Failure,
    lost: &[Lost],
    end_missing: Option<(Position, Position)>,
) -> Failure {
    let lost: Vec<String> = lost.iter().map(told).chain(end_missing.map(end_told)).collect();
    let message = format!(
        "{message}\nThe rebuild is not finished; run it again, and keep this list: the next run \
         lists only the remaining damage. Lost:\n{}",
        lost.join("\n")
    );
    Failure::new(code, message)
}

fn failed(error: StateError) -> Failure {
    Failure::new(ExitCode::Failed, error)
}

fn refusal(audit: &JournalAudit, end_missing: Option<(Position, Position)>) -> Failure {
    let mut lines: Vec<String> = audit.damages().map(told).collect();
    lines.extend(end_missing.map(end_told));
    lines.push(
        "`triggerd rebuild --skip-damaged` saves every whole record and keeps the damaged files"
            .into(),
    );
    Failure::new(ExitCode::Damaged, format!("the journal is damaged:\n{}", lines.join("\n")))
}

fn end_told((end, applied): (Position, Position)) -> String {
    format!("the journal ends at position {end}, but the stored state goes to {applied}")
}

/// Copies the previous state, if it can be read. The flag is true if a start would have continued
/// with that state.
fn state_before(dir: &DataDir, scratch: &Scratch, cache_bytes: u64) -> (Option<Store>, bool) {
    let (generation, is_valid) = match StateValidity::of(&dir.state()) {
        Ok(StateValidity::Valid(generation)) => (generation, true),
        Ok(StateValidity::Invalid(_, generation)) => (generation, false),
        Ok(StateValidity::Absent) | Err(_) => return (None, false),
    };
    (Store::open_copy(&generation, &scratch.path("before"), cache_bytes).ok(), is_valid)
}

/// Returns the first free name for the directory of damaged files.
fn free_name(dir: &Path) -> PathBuf {
    let names = (1u32..).map(|number| dir.join(format!("{DAMAGED_PREFIX}-{number}")));
    names.into_iter().find(|name| !name.exists()).unwrap_or_else(|| dir.join(DAMAGED_PREFIX))
}

/// Computes the state from a snapshot, or from the beginning of the journal without one. Also
/// returns where it began.
fn make_state(
    dir: &Path,
    audit: &JournalAudit,
    (snapshot, cache_bytes): (Option<&SnapshotFile>, u64),
) -> Result<(Store, Began), Failure> {
    invalidate_last(dir).map_err(failed)?;
    let mut store = Store::open(dir, cache_bytes, audit.end()).map_err(failed)?;
    if let Some(snapshot) = snapshot {
        load(&mut store, snapshot).map_err(|error| Failure::new(ExitCode::Failed, error))?;
    }
    let last_id = store.counts().map_err(failed)?.last_id;
    let began = Began { position: store.applied(), last_id };
    bring_up(&store, &audit.log()).map_err(|error| Failure::new(ExitCode::Failed, error))?;
    Ok((store, began))
}

fn texts(ids: &[impl ToString]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

impl Salvaged {
    fn lines(&self, consequences: &Consequences, verbose: bool) -> Vec<String> {
        let mut lines: Vec<String> =
            self.lost.iter().map(|lost| format!("LOST      {}", told(lost))).collect();
        lines.extend(self.end_missing.map(|end| format!("LOST      {}", end_told(end))));
        for ((org, kind), count) in &consequences.orphans {
            let of = consequences.org(*org);
            lines
                .push(format!("orphans   {count} {kind} of {of} refer to something that was lost"));
        }
        match &consequences.differences {
            None => {
                lines.push(
                    "unknown   the previous state cannot be read, so nothing more is known \
                    of the loss"
                        .into(),
                );
            }
            Some(found) if verbose => lines.extend(raw_lines(found)),
            Some(_) => {}
        }
        lines.extend(consequences.losses.lines());
        for (key, told) in &consequences.revived_keys {
            lines.push(format!("KEY       {key} {told}"));
        }
        for event in &consequences.shown_again {
            lines.push(format!("ERASED    {event} is shown again: erase it again"));
        }
        for replay in &consequences.running_again {
            lines.push(format!("REPLAY    {replay} runs again: cancel it if it should not"));
        }
        lines.push(format!(
            "aside     {}, kept unchanged in {}",
            counted(self.files.len() as u64, "damaged file"),
            self.aside.display()
        ));
        lines
    }

    fn json(&self, consequences: &Consequences, verbose: bool) -> serde_json::Value {
        let named = consequences.losses.json();
        let raw = consequences.differences.as_ref().filter(|_| verbose).map(raw_lines);
        let orphans = consequences.orphans.iter();
        let differences = consequences.differences.as_ref();
        json!({
            "lost": self.lost.iter().map(as_json).collect::<Vec<_>>(),
            "end_missing": self.end_missing.map(|(end, applied)| json!({"from_position": end,
            "to_position": applied})),
            "aside": self.aside.display().to_string(),
            "files": self.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
            "orphans": orphans.map(|((org, kind), count)| json!({"organization_number": org,
            "kind": kind, "count": count})).collect::<Vec<_>>(),
            "differences": named,
            "raw": raw,
            "rows_that_differ": differences.map(|found| json!(found.rows)),
            "keys_that_work_again": consequences.revived_keys.iter().map(|(key, _)|
            key.to_string()).collect::<Vec<_>>(),
            "events_shown_again": texts(&consequences.shown_again),
            "replays_that_run_again": texts(&consequences.running_again),
        })
    }
}

/// Describes differing rows as they are stored.
fn raw_lines(found: &Differences) -> Vec<String> {
    let rows: Vec<_> =
        found.rows.iter().map(|(table, count)| format!("{count} of {table}")).collect();
    let mut lines = vec![format!("rows      {} differ from the previous state", rows.join(", "))];
    for difference in &found.first {
        let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "no such row".into());
        let (was, is) = (side(&difference.here), side(&difference.other));
        lines.push(format!("          {}: was {was}, is {is}", difference.row));
    }
    lines
}

#[cfg(test)]
#[path = "rebuild_tests.rs"]
mod tests;
