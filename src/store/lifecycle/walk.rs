//! Every row as of one moment, for a snapshot, while the state goes on changing.
//!
//! sled has no read snapshots. But its tree changes only in a write-back, so right after one it
//! holds the state of one moment. The walk then reads the tree in key order, a chunk at a time, and
//! each later write-back first keeps the former values of the rows that the walk has not reached
//! yet. Nobody waits for the walk for longer than a chunk takes.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::kept::{ChangedRows, Kept, RowBytes};
use super::write_back::clear_away;
use crate::base::failpoint::{self, Switch};
use crate::journal::Position;
use crate::store::rows::schema::FORMAT;
use crate::store::rows::table::AnyTable;
use crate::store::{StateError, Store};

/// Maximum number of rows in a chunk, and the number of their bytes at which a chunk ends. A
/// write-back may wait while a chunk is read. In tests, a walk over few rows has many chunks.
const CHUNK_ROWS: usize = if cfg!(test) { 8 } else { 512 };
const CHUNK_BYTES: usize = 64 << 10;

/// How a walk gets the rows that sled does not have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreshHandling {
    /// They are written to sled.
    WriteBack,
    /// They are copied in memory, because the disk has no room for sled's write. The file of a
    /// snapshot needs far less: it is written once, from its beginning to its end.
    Copy,
}

/// A step of a walk.
#[derive(Debug)]
pub enum Walked {
    /// The next rows, in key order.
    Rows(Vec<RowBytes>),
    /// There are no further rows.
    End,
    /// More rows changed meanwhile than may be kept in memory. The walk is over.
    Outrun,
}

/// A walk over every row. Only one walk at a time is possible.
#[derive(Debug)]
pub struct SnapshotRows<'a> {
    store: &'a Store,
    position: Position,
    is_over: bool,
}

impl Store {
    /// Begins a walk over the rows of this moment. Meanwhile at most `kept_bytes_max` bytes of
    /// former values are kept in memory. The fresh rows are written back first, or copied in memory
    /// if sled has no room for them.
    ///
    /// # Errors
    /// sled fails, or a walk is under way.
    pub fn begin_snapshot(
        &self,
        kept_bytes_max: usize,
        fresh: FreshHandling,
    ) -> Result<SnapshotRows<'_>, StateError> {
        let mut writing = self.writing();
        if writing.is_some() {
            return Err(StateError::Invariant("snapshots are taken one at a time"));
        }
        let (position, lacking) = match fresh {
            FreshHandling::WriteBack => {
                (self.write_fresh(&mut writing)?.applied, ChangedRows::new())
            }
            FreshHandling::Copy => self.copy_fresh()?,
        };
        *writing = Some(Kept::new(kept_bytes_max, lacking));
        Ok(SnapshotRows { store: self, position, is_over: false })
    }

    /// Copies the fresh rows of one moment. Returns them with the position of the first command
    /// that they lack.
    fn copy_fresh(&self) -> Result<(Position, ChangedRows), StateError> {
        let (fresh, applied) = {
            let state = self.read();
            let applied = state.meta.get(())?.map(|meta| meta.applied).unwrap_or_default();
            (state.tables().map(AnyTable::peek_fresh), applied)
        };
        let mut rows = ChangedRows::new();
        for table in fresh {
            table.each(&mut |key, value, _in_tree| {
                rows.insert(key, value);
                Ok(())
            })?;
        }
        Ok((applied, rows))
    }

    /// Returns true while a snapshot is under way that further changes may outrun. Work that can
    /// wait should wait.
    pub fn may_outrun_snapshot(&self) -> bool {
        self.writing().as_ref().is_some_and(Kept::is_half_full)
    }

    /// Reads rows of sled behind a key. Returns them, and the last key that was looked at: `None`
    /// at the end.
    pub(super) fn rows_behind(
        &self,
        behind: &[u8],
    ) -> Result<(Vec<RowBytes>, Option<Vec<u8>>), StateError> {
        let read = || {
            let (mut rows, mut bytes) = (Vec::new(), 0);
            let range = (Bound::Excluded(behind), Bound::Unbounded);
            for pair in self.db().range::<&[u8], _>(range) {
                let (key, value) = pair?;
                bytes += key.len() + value.len();
                rows.push((key.to_vec(), value.to_vec()));
                if rows.len() >= CHUNK_ROWS || bytes >= CHUNK_BYTES {
                    let reached = rows.last().map(|(key, _)| key.clone());
                    return Ok((rows, reached));
                }
            }
            Ok((rows, None))
        };
        // sled 0.34.7 panics on some kinds of damage.
        let read = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_panic| {
            Err(StateError::Rows("reading rows for a snapshot panicked".to_owned()))
        });
        read.inspect_err(|_| {
            let broken = !failpoint::is_on(Switch::RotIgnored);
            self.broken.store(broken, Ordering::SeqCst);
        })
    }

    pub(super) fn writing(&self) -> MutexGuard<'_, Option<Kept>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotRows<'_> {
    /// Returns the position of the first command that the rows lack.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Returns the format of all rows together.
    pub fn format(&self) -> u32 {
        FORMAT
    }

    /// Reads the next chunk of rows.
    ///
    /// # Errors
    /// Rows cannot be read. The state must not be used any more then.
    pub fn next_rows(&mut self) -> Result<Walked, StateError> {
        while !self.is_over {
            let mut writing = self.store.writing();
            let Some(kept) = writing.as_mut().filter(|kept| !kept.is_over()) else {
                self.is_over = true;
                return Ok(Walked::Outrun);
            };
            let (rows, reached) = self.store.rows_behind(kept.reached())?;
            self.is_over = reached.is_none();
            let rows = kept.as_before(rows, reached);
            drop(writing);
            clear_away(rows.len());
            if !rows.is_empty() {
                return Ok(Walked::Rows(rows));
            }
        }
        Ok(Walked::End)
    }
}

impl Drop for SnapshotRows<'_> {
    fn drop(&mut self) {
        *self.store.writing() = None;
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
