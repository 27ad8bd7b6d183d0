//! Ends a restored journal at a moment: everything behind the last record that is not later leaves.

use std::fs;
use std::path::Path;

use super::copy::sync_dir;
use super::error::{BackupError, io_at};
use crate::commands::Command;
use crate::data_dir::JOURNAL;
use crate::journal::{
    JournalScan, OsFiles, Position, RawRecord, SegmentFound, end_at, snapshots_in,
};
use crate::model::time::Timestamp;

/// Ends the journal in a restored directory behind its last record that is not after `until`.
/// Returns the new end.
///
/// # Errors
/// There is no such record, or the records before it are not enough for the state.
pub(super) fn end_by(dir: &Path, until: Timestamp) -> Result<Position, BackupError> {
    let journal = dir.join(JOURNAL);
    let scan = JournalScan::open(&journal)?;
    let Some(end) = end_of(&scan, until)? else {
        return Err(BackupError::Refused(format!(
            "the backup holds nothing of {until} or before; give a later time to --until"
        )));
    };
    let mut last = None;
    for snapshot in snapshots_in(&journal, &OsFiles)? {
        if snapshot.position <= end {
            last = Some(snapshot.position);
        } else {
            fs::remove_file(&snapshot.path).map_err(io_at(&snapshot.path))?;
        }
    }
    require_state(&scan, last, end, until)?;
    end_at(&scan, end)?;
    sync_dir(&journal)?;
    Ok(end)
}

/// Returns the position behind the last record that is not after `until`. Reads the newest segment
/// first, and older ones only as far as needed.
fn end_of(scan: &JournalScan, until: Timestamp) -> Result<Option<Position>, BackupError> {
    for number in (0..scan.len()).rev() {
        let mut found = Found::default();
        let looked = scan.look(number, &mut |record| found.take(record, until))?;
        require_whole(&looked)?;
        if found.is_any {
            return Ok(Some(found.end.unwrap_or(looked.end)));
        }
    }
    Ok(None)
}

fn require_whole(looked: &SegmentFound) -> Result<(), BackupError> {
    let damage = looked.damages.first();
    damage.map_or(Ok(()), |lost| Err(BackupError::Damaged(lost.damage.to_string())))
}

/// What the records of a segment say about the moment.
#[derive(Default)]
struct Found {
    /// True if a record is not later.
    is_any: bool,
    /// The position of the first later record behind the last one that is not later.
    end: Option<Position>,
}

impl Found {
    fn take(&mut self, record: &RawRecord<'_>, until: Timestamp) -> Result<(), String> {
        let command = Command::of_raw(record).map_err(|unknown| unknown.to_string())?;
        match command.at() {
            Some(at) if at <= until => (self.is_any, self.end) = (true, None),
            Some(_) if self.is_any => self.end = self.end.or(Some(record.position)),
            // A record without a time belongs to the record before it.
            Some(_) | None => {}
        }
        Ok(())
    }
}

/// Requires that the journal up to `end` gives the state, from this snapshot or from its beginning.
fn require_state(
    scan: &JournalScan,
    snapshot: Option<Position>,
    end: Position,
    until: Timestamp,
) -> Result<(), BackupError> {
    if snapshot.is_some() {
        return Ok(());
    }
    let mut is_whole = scan.first() == Some(Position::FIRST);
    for number in 0..scan.len() {
        let looked = scan.look(number, &mut |_| Ok(()))?;
        is_whole &= looked.first >= end || looked.compacted.is_none_or(|(from, _)| from >= end);
    }
    if is_whole {
        return Ok(());
    }
    Err(BackupError::Refused(format!(
        "the snapshot in the backup is later than {until}, and records before it were removed by \
         compaction; restore an older backup with --until, or a later time"
    )))
}
