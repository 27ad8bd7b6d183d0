//! The snapshots of a stopped server, for `verify` and `rebuild`: each is read to its end, and
//! compared with the state that an older snapshot, or the beginning of the journal, and the journal
//! behind it give.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Failure;
use super::audit::{JournalAudit, Scratch, bring_up, journal_failure};
use super::output::counted;
use crate::commit::{RecoveryError, Space, restore};
use crate::journal::{
    Files, JournalError, OsFiles, Position, SnapshotFile, SnapshotReader, SnapshotSize,
    snapshots_in,
};
use crate::store::{FreshHandling, RowBytes, SnapshotRows, StateError, Store, Walked};

/// Every file with the name of a snapshot, the oldest position first.
pub(super) struct Snapshots(Vec<Found>);

struct Found {
    file: SnapshotFile,
    size: SnapshotSize,
    check: Check,
}

/// The result of the check of a snapshot.
enum Check {
    /// Whole. It was not compared, for this reason.
    NotCompared(&'static str),
    /// Whole, and its rows match the journal.
    Equal,
    /// Whole, but this number of rows differs from the journal.
    Different(u64),
    /// Whole, but the journal ends before its position.
    Ahead,
    /// Torn or damaged; the text says where.
    Damaged(String),
}

impl Snapshots {
    /// Reads every snapshot in the journal's directory to its end.
    pub(super) fn read(dir: &Path, end: Position) -> Result<Self, Failure> {
        let files = os_files();
        let listed = snapshots_in(dir, files.as_ref()).map_err(|error| journal_failure(&error))?;
        let found = listed.into_iter().map(|file| {
            let (size, check) = match file.check(&files) {
                Err(JournalError::Damage(damage)) => {
                    (SnapshotSize::default(), Check::Damaged(damage.to_string()))
                }
                Err(error) => return Err(journal_failure(&error)),
                Ok(size) if file.position > end => (size, Check::Ahead),
                Ok(size) => (size, Check::NotCompared("the journal is damaged")),
            };
            Ok(Found { file, size, check })
        });
        Ok(Self(found.collect::<Result<_, _>>()?))
    }

    /// Returns the newest whole snapshot that is not ahead of the journal.
    pub(super) fn newest(&self) -> Option<&SnapshotFile> {
        self.0.iter().rfind(|found| found.is_usable()).map(|found| &found.file)
    }

    /// Returns the position of the newest snapshot that is ahead of the journal.
    pub(super) fn ahead(&self) -> Option<Position> {
        let is_ahead = |found: &&Found| matches!(found.check, Check::Ahead);
        self.0.iter().rfind(is_ahead).map(|found| found.file.position)
    }

    /// Moves the snapshots that are ahead of the journal into the directory of damaged files.
    pub(super) fn set_aside(&self, aside: &Path, dir: &Path) -> Result<(), Failure> {
        let is_ahead = |found: &&Found| matches!(found.check, Check::Ahead);
        for path in self.0.iter().filter(is_ahead).map(|found| &found.file.path) {
            let moved = aside.join(path.file_name().unwrap_or_default());
            OsFiles.rename(path, &moved).map_err(failed_at(path))?;
        }
        OsFiles.sync_dir(dir).map_err(failed_at(dir))
    }

    /// Deletes the damaged snapshots; with `all`, every snapshot.
    pub(super) fn delete_unusable(&self, dir: &Path, all: bool) -> Result<(), Failure> {
        let goes = |found: &&Found| match found.check {
            Check::Damaged(_) => true,
            Check::Ahead => false,
            Check::NotCompared(_) | Check::Equal | Check::Different(_) => all,
        };
        for path in self.0.iter().filter(goes).map(|found| &found.file.path) {
            OsFiles.remove(path).map_err(failed_at(path))?;
        }
        OsFiles.sync_dir(dir).map_err(failed_at(dir))
    }

    /// Computes the state up to the end of the journal in the scratch directory, and compares each
    /// snapshot on the way.
    pub(super) fn compute(
        &mut self,
        audit: &JournalAudit,
        scratch: &Scratch,
        cache_bytes: u64,
    ) -> Result<Store, String> {
        let failed = |error: StateError| error.to_string();
        let open = |name: &str| Store::open(&scratch.path(name), cache_bytes, Position::MAX);
        let mut state = open("replayed").map_err(failed)?;
        let mut is_possible = true;
        for found in self.0.iter_mut().filter(|found| found.is_usable()) {
            let position = found.file.position;
            let is_given_up = audit.has_hole(state.applied()..position);
            is_possible &= !is_given_up && audit.can_go_on_from(state.applied());
            if is_possible {
                bring_up(&state, &audit.log_up_to(position))?;
                found.check = found.compare(&state)?;
                continue;
            }
            state = open(&format!("from-{}", position.0)).map_err(failed)?;
            load(&mut state, &found.file).map_err(|error| error.to_string())?;
            let why = if is_given_up {
                "parts of the journal before it were given up"
            } else {
                "the journal before it was compacted"
            };
            (found.check, is_possible) = (Check::NotCompared(why), true);
        }
        bring_up(&state, &audit.log())?;
        Ok(state)
    }

    /// Returns true if no snapshot is damaged, differs, or shows that the journal lost its end. In
    /// a copy, a snapshot ahead of the journal shows nothing.
    pub(super) fn is_well(&self, is_copy: bool) -> bool {
        self.0.iter().all(|found| match found.check {
            Check::NotCompared(_) | Check::Equal => true,
            Check::Ahead => is_copy,
            Check::Different(_) | Check::Damaged(_) => false,
        })
    }

    /// Returns advice about damaged snapshots, and about snapshots that differ from the journal.
    /// Without its removed records, a compacted journal gives no state from its beginning.
    pub(super) fn advice(&self, is_compacted: bool) -> impl Iterator<Item = &'static str> {
        let any = |is: fn(&Check) -> bool| self.0.iter().any(|found| is(&found.check));
        let damaged = any(|check| matches!(check, Check::Damaged(_))).then_some(
            "`triggerd rebuild` deletes damaged snapshots; nothing is lost if the journal is whole",
        );
        let different = if is_compacted {
            "move each snapshot that differs out of journal/ and run `triggerd rebuild`, which \
             computes the state from an older snapshot; keep the moved files until `triggerd \
             verify` finds no damage"
        } else {
            "`triggerd rebuild --from-start` deletes the snapshots and computes the state from the \
             journal alone; nothing is lost by that"
        };
        let different = any(|check| matches!(check, Check::Different(_))).then_some(different);
        damaged.into_iter().chain(different)
    }

    pub(super) fn text(&self, is_copy: bool) -> Vec<String> {
        self.0.iter().map(|found| found.text(is_copy)).collect()
    }

    pub(super) fn json(&self) -> Value {
        self.0.iter().map(Found::json).collect()
    }
}

impl Found {
    fn is_usable(&self) -> bool {
        match self.check {
            Check::NotCompared(_) | Check::Equal | Check::Different(_) => true,
            Check::Ahead | Check::Damaged(_) => false,
        }
    }

    /// Compares the rows with those of a state of the same position.
    fn compare(&self, state: &Store) -> Result<Check, String> {
        let failed = |error: StateError| error.to_string();
        let reader = self.file.open(&os_files()).map_err(|error| error.to_string())?;
        let walk = state.begin_snapshot(0, FreshHandling::WriteBack).map_err(failed)?;
        let mut ours = InState(walk, VecDeque::new());
        let mut theirs = InFile(reader, VecDeque::new());
        let (mut our, mut their) = (ours.next().map_err(failed)?, theirs.next()?);
        let mut differing = 0;
        loop {
            let order = match (&our, &their) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((our, _)), Some((their, _))) => our.cmp(their),
            };
            differing += u64::from(order.is_ne() || our != their);
            if order.is_le() {
                our = ours.next().map_err(failed)?;
            }
            if order.is_ge() {
                their = theirs.next()?;
            }
        }
        Ok(if differing == 0 { Check::Equal } else { Check::Different(differing) })
    }

    fn text(&self, is_copy: bool) -> String {
        let (position, path) = (self.file.position, self.file.path.display());
        let size = format!(
            "of position {position}, {}, {}",
            counted(self.size.rows, "row"),
            counted(self.size.bytes, "byte")
        );
        match &self.check {
            Check::Equal => format!("snapshot  {size}: whole, and it matches the journal"),
            Check::NotCompared(why) => {
                format!("snapshot  {size}: whole; it is not compared, because {why}")
            }
            Check::Different(rows) => format!(
                "DAMAGED   the snapshot {path} differs from the journal in {}",
                counted(*rows, "row")
            ),
            Check::Ahead if is_copy => {
                format!("snapshot  {size}: ahead of the copy's journal; the next start deletes it")
            }
            Check::Ahead => format!(
                "DAMAGED   the journal ends before position {position}, but the snapshot {path} \
                 goes to it: the end of the journal is missing"
            ),
            Check::Damaged(damage) => format!("DAMAGED   {damage}"),
        }
    }

    fn json(&self) -> Value {
        let (result, why) = match &self.check {
            Check::NotCompared(why) => ("not_compared", Some((*why).to_owned())),
            Check::Equal => ("equal", None),
            Check::Different(rows) => ("different", Some(counted(*rows, "row"))),
            Check::Ahead => ("ahead", None),
            Check::Damaged(damage) => ("damaged", Some(damage.clone())),
        };
        json!({
            "file": self.file.path.display().to_string(), "position": self.file.position,
            "rows": self.size.rows, "bytes": self.size.bytes, "result": result, "why": why,
        })
    }
}

/// The rows of a state, one by one.
struct InState<'a>(SnapshotRows<'a>, VecDeque<RowBytes>);

impl InState<'_> {
    fn next(&mut self) -> Result<Option<RowBytes>, StateError> {
        let Self(rows, waiting) = self;
        while waiting.is_empty()
            && let Walked::Rows(next) = rows.next_rows()?
        {
            waiting.extend(next);
        }
        Ok(waiting.pop_front())
    }
}

/// The rows of a snapshot, one by one.
struct InFile(SnapshotReader, VecDeque<RowBytes>);

impl InFile {
    fn next(&mut self) -> Result<Option<RowBytes>, String> {
        let Self(reader, waiting) = self;
        if waiting.is_empty()
            && let Some(rows) = reader.next_rows().map_err(|error| error.to_string())?
        {
            waiting.extend(rows.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        }
        Ok(waiting.pop_front())
    }
}

/// Loads a snapshot into a state that began empty.
pub(super) fn load(store: &mut Store, snapshot: &SnapshotFile) -> Result<(), RecoveryError> {
    let silent = |_done: u64, _all: u64| ();
    restore(store, snapshot, &os_files(), (&Space::default(), &silent)).map(drop)
}

/// Returns the reason why the state cannot be computed from this snapshot, or from the beginning of
/// the journal without one, and the journal behind it.
pub(super) fn no_base(audit: &JournalAudit, base: Option<&SnapshotFile>) -> Option<String> {
    let position = base.map_or(Position::FIRST, |base| base.position);
    let (from, to) = audit.compacted().filter(|_| !audit.can_go_on_from(position))?;
    let used = match base {
        Some(base) => format!("the newest whole snapshot is of position {}", base.position),
        None => "no whole snapshot is used".to_owned(),
    };
    Some(format!(
        "compaction removed records from position {from} to {}, and {used}",
        to.0.saturating_sub(1)
    ))
}

fn failed_at(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    move |source| journal_failure(&JournalError::Io { path: path.to_owned(), source })
}

fn os_files() -> Arc<dyn Files> {
    Arc::new(OsFiles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_differs_is_moved_away_if_the_journal_alone_gives_no_state() {
        let file = SnapshotFile { position: Position(9), path: "9.snap".into() };
        let size = SnapshotSize::default();
        let snapshots = Snapshots(vec![Found { file, size, check: Check::Different(1) }]);
        let advice = |is_compacted| snapshots.advice(is_compacted).collect::<Vec<_>>().concat();
        assert!(advice(false).contains("--from-start"));
        assert!(!advice(true).contains("--from-start") && advice(true).contains("out of journal/"));
    }
}
