//! The result of `triggerd verify`, as text for people and as JSON for programs.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::audit::{JournalAudit, as_json, told};
use crate::cli::losses::Losses;
use crate::cli::output::{counted, seconds};
use crate::cli::snapshots::Snapshots;
use crate::journal::Position;
use crate::store::{Counts, Difference, Differences, Named};

/// The result of the check of the state.
pub(super) enum Judgement {
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

pub(super) struct Report {
    pub(super) list: PathBuf,
    pub(super) verbose: bool,
    /// The faults of other files than the journal and the state, each with advice.
    pub(super) files: Vec<String>,
    pub(super) audit: JournalAudit,
    /// Set if a start takes the directory for a copy: the journal or `FORMAT` was copied.
    pub(super) is_copy: bool,
    pub(super) snapshots: Snapshots,
    pub(super) state: Judgement,
    pub(super) contradictions: Vec<String>,
    pub(super) counts: Counts,
    pub(super) orgs: usize,
    pub(super) took_ms: u128,
}

impl Report {
    pub(super) fn is_well(&self) -> bool {
        let state = matches!(self.state, Judgement::NotCompared(_) | Judgement::Equal { .. });
        let snapshots = self.snapshots.is_well(self.is_copy);
        let others = snapshots && self.files.is_empty() && self.contradictions.is_empty();
        state && others && !self.audit.is_damaged()
    }

    pub(super) fn text(&self) -> String {
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

    pub(super) fn json(&self) -> Value {
        let Self { files, counts, orgs, took_ms, .. } = self;
        json!({
            "well": self.is_well(),
            "journal": self.journal_json(),
            "snapshots": self.snapshots.json(),
            "state": self.state_json(),
            "files": files,
            "contradictions": self.contradictions,
            "events": counts.events, "open": counts.open, "organizations": orgs, "took_ms": took_ms,
            "waiting": counts.waiting, "dead": counts.dead,
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
pub(super) fn differing(named: &Named) -> String {
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
