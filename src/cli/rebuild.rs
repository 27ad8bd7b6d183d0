//! `triggerd rebuild`: computes the state of a stopped server from its journal. With
//! `--skip-damaged` a damaged journal is salvaged first: whole records stay in their place, the
//! damaged files are set aside, and the losses are reported.

mod notes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use self::notes::notes;
use super::Failure;
use super::audit::{
    JournalAudit, Scratch, as_json, bring_up, dir_failure, journal_failure, require_journal, told,
};
use super::losses::Losses;
use super::output::{counted, print, seconds};
use crate::base::exit_code::ExitCode;
use crate::commands::{Record, Records};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::journal::{Lost, OsFiles, Position, Salvage};
use crate::model::id::{EventId, KeyId, OrgNo, ReplayId};
use crate::model::key::Key;
use crate::model::time::Timestamp;
use crate::store::{Counts, Differences, Named, StateError, StateValidity, Store, invalidate_last};

/// The file with all losses, beside the damaged files.
const LIST: &str = "lost.txt";
/// Maximum number of differing rows shown.
const NAMED_MAX: usize = 20;

#[derive(Args)]
pub(super) struct Rebuild {
    /// Keep every whole record of a damaged journal, set the damaged files aside and list the
    /// losses
    #[arg(long)]
    skip_damaged: bool,
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

/// The known consequences of a loss.
struct Consequences {
    /// The losses in the terms of the API.
    losses: Losses,
    /// Differences from the previous state, if readable.
    differences: Option<Differences>,
    /// Keys that had ended or been replaced and work again, each with a message for the operator.
    revived_keys: Vec<(KeyId, &'static str)>,
    /// Erased events shown again.
    shown_again: Vec<EventId>,
    /// Finished replays running again.
    running_again: Vec<ReplayId>,
    /// Number of commands referring to missing things, by organization number and kind.
    orphans: Orphans,
    /// Ids and names of these organizations, as far as known.
    called: BTreeMap<u32, String>,
}

impl Rebuild {
    pub(super) fn run(&self, config: &Config) -> Result<ExitCode, Failure> {
        let began = Instant::now();
        let path = &config.storage.data_dir;
        DataDir::look(path).map_err(|error| dir_failure(&error))?;
        let dir = DataDir::open(path).map_err(|error| dir_failure(&error))?;
        require_journal(path)?;
        let mut audit = JournalAudit::read(&dir.journal())?;
        if let Some(newer) = &audit.newer {
            return Err(Failure::new(ExitCode::Damaged, newer));
        }
        if audit.scan.is_empty() {
            let message = format!("{} has no journal to compute a state from", path.display());
            return Err(Failure::new(ExitCode::Damaged, message));
        }
        let scratch = Scratch::make(None, path)?;
        let (before, is_valid) = state_before(&dir, &scratch, config.storage.state_cache_bytes);
        if before.is_none() && scratch.is_short() {
            return Err(scratch.too_small("the previous state cannot be read"));
        }
        let applied = before.as_ref().filter(|_| is_valid).map(Store::applied);
        let end_missing =
            applied.filter(|applied| *applied > audit.end()).map(|applied| (audit.end(), applied));
        let mut salvaged = None;
        if audit.is_damaged() || end_missing.is_some() {
            if !self.skip_damaged {
                return Err(refusal(&audit, end_missing));
            }
            // Comes first: if the salvage is interrupted, no start may continue with a state that
            // holds lost data.
            invalidate_last(&dir.state()).map_err(failed)?;
            let done = Self::salvage(&audit, end_missing, &dir)?;
            audit = JournalAudit::read(&dir.journal())
                .map_err(|failure| unfinished(failure, &done.lost, end_missing))?;
            salvaged = Some(done);
        }
        let remade = || {
            let store = make_state(&dir.state(), &audit, config.storage.state_cache_bytes)?;
            let found = salvaged.as_ref().map(|salvaged| {
                let losses = Losses::new(salvaged.aside.join(LIST));
                consequences(&store, before.as_ref(), &audit.log(), losses)
            });
            let consequences = found.transpose().map_err(failed)?;
            let counts = store.counts().map_err(failed)?;
            store.close().map_err(failed)?;
            Ok((consequences, counts))
        };
        let (consequences, counts) = remade().map_err(|failure| match &salvaged {
            None => failure,
            Some(salvaged) => unfinished(failure, &salvaged.lost, end_missing),
        })?;
        let took_ms = began.elapsed().as_millis();
        let found = salvaged.as_ref().zip(consequences.as_ref());
        self.print(&audit, &counts, found, took_ms)?;
        Ok(ExitCode::Clean)
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
        end_missing: Option<(Position, Position)>,
        dir: &DataDir,
    ) -> Result<Salvaged, Failure> {
        let lost: Vec<Lost> = audit.damages().cloned().collect();
        let notes = notes(&lost, audit.next_org, &audit.unmade_keys, audit.end())?;
        let aside = free_name(dir.path());
        let salvage =
            Salvage { dir: &dir.journal(), files: Arc::new(OsFiles), aside: &aside, notes: &notes };
        let files = salvage.run(audit.missing_beginning.as_ref(), &audit.segments);
        let files =
            files.map_err(|error| unfinished(journal_failure(&error), &lost, end_missing))?;
        Ok(Salvaged { lost, end_missing, aside, files })
    }
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
         lists \
         only the remaining damage. Lost:\n{}",
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
    let names = (1u32..).map(|number| dir.join(format!("journal-damaged-{number}")));
    names.into_iter().find(|name| !name.exists()).unwrap_or_else(|| dir.join("journal-damaged"))
}

fn make_state(dir: &Path, audit: &JournalAudit, cache_bytes: u64) -> Result<Store, Failure> {
    invalidate_last(dir).map_err(failed)?;
    let store = Store::open(dir, cache_bytes, audit.end()).map_err(failed)?;
    bring_up(&store, &audit.log()).map_err(|error| Failure::new(ExitCode::Failed, error))?;
    Ok(store)
}

/// Finds the consequences of a loss, as far as possible.
fn consequences(
    store: &Store,
    before: Option<&Store>,
    log: &Records,
    losses: Losses,
) -> Result<Consequences, StateError> {
    let (orphans, speaking) = orphans(store, log)?;
    let mut found = Consequences {
        losses,
        differences: None,
        revived_keys: Vec::new(),
        shown_again: Vec::new(),
        running_again: Vec::new(),
        called: called(&orphans, store, before)?,
        orphans,
    };
    let Some(before) = before else {
        // Only the events referred to by later commands are known.
        for (org, event) in speaking {
            let of = found.org(org.0);
            let line = format!(
                "LOST      event {event} of {of}, received about {}",
                Timestamp(event.unix_ms())
            );
            let entry = || json!({"kind": "event", "id": event, "organization_number": org.0});
            found.losses.add("event", line, entry);
        }
        found.losses.finish();
        return Ok(found);
    };
    // Commands that the previous state had not applied yet are not lost.
    let is_up = before.applied() > log.end() || bring_up(before, log).is_ok();
    if is_up {
        found.differences = before.differences(store, NAMED_MAX).ok();
        found.losses.compare(before, store, change)?;
        found.losses.finish();
    }
    found.note_undone(before, store)?;
    Ok(found)
}

impl Consequences {
    /// Notes each change of the former state that the loss has undone: keys that ended, payloads
    /// that were erased, and replays that were over.
    fn note_undone(&mut self, before: &Store, store: &Store) -> Result<(), StateError> {
        for org in before.org_numbers().unwrap_or_default().into_values() {
            for key in before.keys_of(org)? {
                let now = store.key(key.key().id)?;
                let revived = now.and_then(|now| revived(key.key(), now.key()));
                self.revived_keys.extend(revived.map(|told| (key.key().id, told)));
            }
        }
        for (org, event) in before.erased_events()? {
            if store.event(org, event)?.is_some_and(|event| event.erased_at.is_none()) {
                self.shown_again.push(event);
            }
        }
        for (org, replay) in store.running_replays() {
            if before
                .replay(org, replay, Timestamp(0))?
                .is_some_and(|replay| replay.ended.is_some())
            {
                self.running_again.push(replay);
            }
        }
        Ok(())
    }
}

/// Returns a message about a key working longer than before the loss.
fn revived(before: &Key, now: &Key) -> Option<&'static str> {
    match (before.has_ended(), before.is_leaving()) {
        _ if now.has_ended() => None,
        (true, _) => Some("was no longer valid and works again: revoke it"),
        (false, true) if !now.is_leaving() => {
            Some("was rotated, and its grace period is lost, so that it works on: revoke it")
        }
        (false, _) => None,
    }
}

/// Describes the change of a thing, for people.
fn change(named: &Named) -> String {
    match (&named.here, &named.other) {
        (_, None) => format!("LOST      {named}"),
        (None, Some(now)) => format!("BACK      {named}: it was deleted and exists again ({now})"),
        (Some(was), Some(now)) => format!("CHANGED   {named}: was {was}; is {now}"),
    }
}

/// Finds the ids and names of the organizations to which the orphans belong.
fn called(
    orphans: &Orphans,
    store: &Store,
    before: Option<&Store>,
) -> Result<BTreeMap<u32, String>, StateError> {
    let mut called = BTreeMap::new();
    for (number, _) in orphans.keys() {
        let of = |state: &Store| state.org_called(OrgNo(*number));
        let found = before
            .map(of)
            .transpose()?
            .flatten()
            .map_or_else(|| of(store), |found| Ok(Some(found)))?;
        called.extend(found.map(|(id, name)| (*number, format!("{id} ({name})"))));
    }
    Ok(called)
}

/// Number of commands referring to missing things, by organization number and kind.
type Orphans = BTreeMap<(u32, String), u64>;

/// Finds commands whose organization or event is missing from the state, and these events.
fn orphans(
    store: &Store,
    log: &Records,
) -> Result<(Orphans, BTreeSet<(OrgNo, EventId)>), StateError> {
    let (mut found, mut events) = (BTreeMap::new(), BTreeSet::new());
    let Ok(records) = log.follow(log.first()) else { return Ok((found, events)) };
    for Record { command, .. } in records.flatten() {
        let (Some(org), event) = (command.org(), command.event()) else { continue };
        let is_there = match event {
            Some(event) => store.event(org, event)?.is_some(),
            None => store.org_summary(org)?.is_some(),
        };
        if !is_there {
            *found.entry((org.0, command.action().kind().name.to_owned())).or_default() += 1;
            events.extend(event.map(|event| (org, event)));
        }
    }
    Ok((found, events))
}

fn texts(ids: &[impl ToString]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

impl Consequences {
    fn org(&self, number: u32) -> String {
        self.called.get(&number).cloned().unwrap_or_else(|| format!("organization number {number}"))
    }
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
            "aside     as they were, in {1}: {0}",
            counted(self.files.len() as u64, "file"),
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
            "replays_that_go_on": texts(&consequences.running_again),
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
