//! A state as `verify` and `rebuild` look at it, which run without a server: its directory is
//! judged without a change, and it is opened as a copy.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use crate::base::regular;
use crate::journal::Position;
use crate::model::id::{EventId, OrgId, OrgNo};
use crate::store::lifecycle::generation::{Reason, judge_mark, last_generation, make_dir};
use crate::store::rows::schema::EventEntry;
use crate::store::{StateError, Store};

/// The use that a start would make of the state's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateValidity {
    /// There is no state. A start would compute it.
    Absent,
    /// The directory is invalid for this reason. A start would compute the state anew.
    Invalid(Reason, PathBuf),
    /// A start would continue with this directory.
    Valid(PathBuf),
}

impl StateValidity {
    /// Judges the directories under `dir` without a change.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn of(dir: &Path) -> Result<Self, StateError> {
        let Some(last) = last_generation(dir)? else { return Ok(Self::Absent) };
        Ok(match judge_mark(&last) {
            Ok(()) => Self::Valid(last),
            Err(reason) => Self::Invalid(reason, last),
        })
    }
}

impl Store {
    /// Opens a copy of a generation's directory, made at `copy`. Ignores the marks.
    ///
    /// # Errors
    /// The copy fails, or sled or a row cannot be read.
    pub fn open_copy(generation: &Path, copy: &Path, cache_bytes: u64) -> Result<Self, StateError> {
        copy_dir(generation, copy)?;
        // sled 0.34.7 panics on some kinds of damage.
        let opened = catch_unwind(|| Self::open_generation(copy, cache_bytes, None));
        opened.map_err(|_panic| StateError::Rows("opening it panicked".into()))?
    }

    /// Returns the number of each organization. For verify and rebuild: it reads everything.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn org_numbers(&self) -> Result<BTreeMap<OrgId, OrgNo>, StateError> {
        self.read().orgs.all().map(|row| row.map(|(number, row)| (row.org.id, number))).collect()
    }

    /// Returns the erased events. For rebuild: it reads everything.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn erased_events(&self) -> Result<Vec<(OrgNo, EventId)>, StateError> {
        let state = self.read();
        let mut erased = Vec::new();
        for row in state.events.all() {
            let ((org, _), block) = row?;
            let of_block = block.existing().filter(|(_, entry)| entry.erased_at.is_some());
            erased.extend(of_block.map(|(_, entry)| (org, entry.id)));
        }
        Ok(erased)
    }
}

impl Store {
    /// Returns the existing events whose records lie in these ranges of the journal, except erased
    /// events.
    /// For rebuild: it reads everything.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn events_within(
        &self,
        ranges: &[Range<Position>],
    ) -> Result<Vec<(OrgNo, EventId)>, StateError> {
        let state = self.read();
        let mut found = Vec::new();
        for row in state.events.all() {
            let ((org, _), block) = row?;
            let within = |entry: &&EventEntry| {
                entry.erased_at.is_none()
                    && ranges.iter().any(|range| range.contains(&entry.position))
            };
            let existing = block.existing().map(|(_, entry)| entry);
            found.extend(existing.filter(within).map(|entry| (org, entry.id)));
        }
        Ok(found)
    }
}

fn copy_dir(from: &Path, to: &Path) -> Result<(), StateError> {
    make_dir(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_dir(&path, &target)?;
        } else {
            // Opened first, because the copy of a pipe would wait for its other end.
            regular::open(&path).and_then(|_| fs::copy(&path, &target))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
